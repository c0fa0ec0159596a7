//! A translation run again and again, each time without one field.

use std::collections::BTreeMap;

use serde_json::Value;

use super::field::{self, Fate, Outcome, Step};

/// Fields without which nothing is different, and why that is right: name, value (`*` for any), reason.
pub(super) type Needless = &'static [(&'static str, &'static str, &'static str)];

/// What became of every field, by the field's name.
pub(super) type Findings = BTreeMap<String, Vec<Fate>>;

/// A translation of documents, and what need not be carried.
pub(super) struct Probe<'a> {
    /// `None` where the document is refused.
    pub(super) run: &'a dyn Fn(&Value) -> Option<Outcome>,
    pub(super) needless: Needless,
    /// Whether another value is tried before none: for documents that mean something else without a field.
    pub(super) other_first: bool,
}

/// Adds what was found in one document to what is known from others.
pub(super) fn add(found: Vec<(String, Vec<Fate>)>, to: &mut Findings) {
    for (name, fates) in found {
        let known = to.entry(name).or_default();
        known.extend(fates);
        known.sort();
        known.dedup();
    }
}

impl Probe<'_> {
    /// What became of each field of a document that is `with` all of them on the other side.
    pub(super) fn fields(&self, document: &Value, with: &Outcome) -> Vec<(String, Vec<Fate>)> {
        let paths = field::fields(document).into_iter();
        paths.map(|path| (field::name(document, &path), self.field(document, &path, with))).collect()
    }

    fn field(&self, document: &Value, path: &[Step], with: &Outcome) -> Vec<Fate> {
        let value = field::get(document, path);
        let mut tries = [None, Some(field::other(value))];
        if self.other_first {
            tries.reverse();
        }
        let without = tries.map(|to| (self.run)(&field::changed(document, path, to)));
        let mut runs = without.into_iter().flatten().peekable();
        if runs.peek().is_none() {
            return vec![field::needed(value, with)];
        }
        let fates = runs.map(|without| field::fates(value, &field::path(path), with, &without));
        let found = fates.into_iter().find(|fates| *fates != [Fate::Silent]);
        found.or_else(|| self.around(document, path, with)).unwrap_or_else(|| {
            vec![self.nothing_lost(&field::name(document, path), value).map_or(Fate::Silent, Fate::Needless)]
        })
    }

    /// What holds the field may have been left out, and reported, as a whole.
    fn around(&self, document: &Value, path: &[Step], with: &Outcome) -> Option<Vec<Fate>> {
        for end in (1..path.len()).rev() {
            let outer = path.get(..end)?;
            let Some(without) = (self.run)(&field::changed(document, outer, None)) else { continue };
            let fates = field::fates(field::get(document, outer), &field::path(outer), with, &without);
            match fates.as_slice() {
                [Fate::Silent] => {}
                [Fate::Reported(_)] => return Some(fates),
                _ => return fates.iter().any(is_cut_short).then_some(fates),
            }
        }
        None
    }

    fn nothing_lost(&self, name: &str, value: &Value) -> Option<&'static str> {
        let value = value.to_string();
        let is = |known: &str| match known.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => known == name,
        };
        let known =
            self.needless.iter().find(|(known, said, _)| is(known) && (*said == "*" || *said == value));
        known.map(|(_, _, why)| *why)
    }
}

/// A report of what is carried in part.
fn is_cut_short(fate: &Fate) -> bool {
    matches!(fate, Fate::Reported(what) if what.contains("cut short"))
}
