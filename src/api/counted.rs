//! Counts of tokens that the gateway makes itself, in the words of each dialect.

use crate::chat::{Loss, Request};
use crate::executor::Instead;
use crate::providers::{Relayed, Target};

/// Counts a prompt for a target that cannot; `rough` stands for a prompt that cannot be understood.
pub(super) fn instead(
    request: Option<Request>,
    rough: u64,
    target: &Target,
    field: &'static str,
    write: fn(u64) -> String,
) -> Instead {
    let (name, preset) = (target.name.clone(), target.vendor.preset.clone());
    Box::new(move |counter| {
        let names = [&*name.model, preset.as_deref().unwrap_or_default()];
        let count = request.as_ref().map(|request| counter.prompt(request, &names));
        let exact = count.is_some_and(|count| count.method.exact);
        let body = write(count.map_or(rough, |count| count.tokens));
        let lost = match exact {
            true => Vec::new(),
            false => vec![Loss::new(field, "estimated: this target does not count")],
        };
        Relayed { body: body.into(), usage: None, finish: None, lost }
    })
}

#[cfg(test)]
mod tests;
