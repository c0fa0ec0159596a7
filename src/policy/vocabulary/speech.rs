//! Words that tell people something, and shares that stay.

use std::sync::Arc;

use rhai::{Dynamic, NativeCallContext};

use super::{Row, Sheet, row};
use crate::policy::journal::Level;
use crate::policy::request::{Outcome, request_of};

pub(super) const SHEET: Sheet = Sheet { kinds: &[], rows: ROWS };

macro_rules! log {
    ($signature:literal, $level:ident, $doc:literal) => {
        row($signature, $doc, |engine, name, host| {
            let host = Arc::clone(host);
            engine.register_fn(name, move |context: NativeCallContext<'_>, text: Dynamic| {
                host.journal.say(Level::$level, &context, &text.to_string());
            });
        })
    };
}

const ROWS: &[Row] = &[
    row(
        "bucket(salt: text, id, n: number) → number",
        "The share of `id` among `0..n`: the same id always gets the same number, in every process and version; another salt shuffles anew. `()` as id means the client's address, and `n - 1` where there is none.",
        |engine, name, _| {
            engine.register_fn(name, bucket);
        },
    ),
    log!("info(text)", Info, "Writes a line to the log, with file and line. `print` does the same."),
    log!("warn(text)", Warn, "A warning in the log."),
    log!("error(text)", Error, "An error in the log. It does not end the policy."),
];

fn bucket(context: NativeCallContext<'_>, salt: &str, id: Dynamic, n: Dynamic) -> Outcome<i64> {
    request_of("bucket", &context)?.bucket(salt, &id, &n)
}
