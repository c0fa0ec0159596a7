//! What scripts ask of whoever answers: constraints of targets and limits of the answer, which only ever narrow.

use std::sync::Arc;

use rhai::{Array, Dynamic, Map};

use super::Names;
use super::bridge::Findings;
use super::hook;
use super::request::{Outcome, Request, fault, kind, label};
use crate::plan::{CacheWish, Constraint, Hook, Redaction};
use crate::settings::Period;

impl Request {
    pub(super) fn require(&self, what: Dynamic, names: &Names) -> Outcome<()> {
        self.before("require", Hook::OnError)?;
        let constraints = constraints("require", what, names)?;
        self.wishes().require.extend(constraints);
        Ok(())
    }

    pub(super) fn avoid(&self, what: Dynamic, names: &Names) -> Outcome<()> {
        self.before("avoid", Hook::OnError)?;
        let constraints = constraints("avoid", what, names)?;
        self.wishes().avoid.extend(constraints);
        Ok(())
    }

    /// `req.cap_output(512)`: the lowest of all counts.
    pub(super) fn cap_output(&self, most: &Dynamic) -> Outcome<()> {
        self.before("cap_output", Hook::OnRequest)?;
        let number = most.as_int().ok().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let number = number
            .ok_or_else(|| fault(format!("cap_output: expected a number of tokens above 0, not '{most}'")))?;
        self.wishes().output.cap(number);
        Ok(())
    }

    /// `req.cache("1h")`: the shortest of all times.
    pub(super) fn cache(&self, life: &str) -> Outcome<()> {
        self.before("cache", Hook::OnRequest)?;
        let life: Period = life.parse().map_err(|problem| fault(format!("cache: {problem}")))?;
        let mut wishes = self.wishes();
        wishes.cache = Some(match wishes.cache {
            None => CacheWish::For(life.0),
            Some(CacheWish::For(before)) => CacheWish::For(before.min(life.0)),
            Some(CacheWish::Never) => CacheWish::Never,
        });
        Ok(())
    }

    /// `req.no_cache()`: whoever else says otherwise.
    pub(super) fn no_cache(&self) -> Outcome<()> {
        self.before("no_cache", Hook::OnRequest)?;
        self.wishes().cache = Some(CacheWish::Never);
        Ok(())
    }

    /// `req.stop_on(["END"])`: the answer ends before the first of these texts.
    pub(super) fn stop_on(&self, texts: &Array) -> Outcome<()> {
        self.before("stop_on", Hook::OnRequest)?;
        let mut wanted = Vec::with_capacity(texts.len());
        for text in texts {
            match text.as_immutable_string_ref() {
                Ok(text) if !text.is_empty() && text.len() <= MAX_STOP => {
                    wanted.push(Arc::from(text.as_str()))
                }
                Ok(text) => {
                    let length = text.len();
                    return Err(fault(format!("stop_on: a text has 1 to {MAX_STOP} bytes, not {length}")));
                }
                Err(given) => {
                    return Err(fault(format!("stop_on: expected a list of texts, found {given} in it")));
                }
            }
        }
        let output = &mut self.wishes().output;
        wanted.retain(|text| !output.stop_on.contains(text));
        if output.stop_on.len() + wanted.len() > MAX_STOPS {
            return Err(fault(format!("stop_on: at most {MAX_STOPS} texts for one request")));
        }
        output.stop_on.extend(wanted);
        Ok(())
    }

    /// `req.redact(findings)`: what a guard found does not leave; placeholders stand in its place.
    pub(super) fn redact(&self, findings: &Findings, restore: bool) -> Outcome<()> {
        self.before("redact", Hook::OnRequest)?;
        let output = &mut self.wishes().output;
        for finding in findings.found.iter() {
            let Some(value) = finding.text.as_deref().filter(|text| !text.is_empty()) else { continue };
            if let Some(known) = output.redact.iter_mut().find(|known| *known.value == *value) {
                // Whoever does not want it back has the last word.
                known.restore &= restore;
                continue;
            }
            let (placeholder, restore) = match &finding.replacement {
                Some(text) => (Arc::from(text.as_str()), false),
                None => (placeholder(&finding.kind, &output.redact), restore),
            };
            output.redact.push(Redaction { value: value.into(), placeholder, restore });
        }
        // The longest first: a name may be part of an address.
        output.redact.sort_by_key(|redaction| usize::MAX - redaction.value.len());
        Ok(())
    }

    /// Constraints that come after what they constrain would do nothing, so they are errors.
    fn before(&self, function: &str, last: Hook) -> Outcome<()> {
        let now = self.wishes().hook;
        if now <= last {
            return Ok(());
        }
        let so_late = hook::Form::of(now).name;
        Err(fault(format!("{function}: `{so_late}` is too late for it")))
    }
}

fn constraints(function: &str, what: Dynamic, names: &Names) -> Outcome<Vec<Constraint>> {
    if let Some(labels) = what.read_lock::<Map>() {
        let one = |(key, value): (&rhai::Identifier, &Dynamic)| {
            Ok(Constraint::Label(key.as_str().into(), label(function, value)?))
        };
        return labels.iter().map(one).collect();
    }
    if let Some(many) = what.read_lock::<Array>() {
        let mut all = Vec::with_capacity(many.len());
        for one in many.iter() {
            all.extend(constraints(function, one.clone(), names)?);
        }
        return Ok(all);
    }
    match what.as_immutable_string_ref() {
        Ok(word) if word.contains('/') || names.providers.contains(word.as_str()) => {
            Ok(vec![Constraint::Name(word.as_str().into())])
        }
        Ok(word) => Ok(vec![Constraint::Tag(word.as_str().into())]),
        Err(_) => Err(fault(format!(
            "{function}: expected a tag, a provider, a target or #{{ label: value }}, not {}",
            kind(&what)
        ))),
    }
}

/// `[EMAIL_1]`: the next of its kind.
fn placeholder(kind: &str, known: &[Redaction]) -> Arc<str> {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let kind: String = kind.chars().take(32).map(letter).collect();
    let of_kind = |n: usize| Arc::from(format!("[{kind}_{n}]"));
    let mut n = 1;
    loop {
        let next: Arc<str> = of_kind(n);
        if known.iter().all(|redaction| redaction.placeholder != next) {
            return next;
        }
        n += 1;
    }
}

/// Texts of `stop_on` for one request, and the bytes of each.
const MAX_STOPS: usize = 64;
const MAX_STOP: usize = 256;
