//! What lists of models say beside names: price, context window, modalities, the day on which a model goes.
//!
//! For an alias, that on which clients can rely whichever target answers: the smallest window, the earliest day, what all
//! of them can; a price only where all have the same. Its targets are named with their own.

use serde_json::{Map, Value};

use crate::ledger::{Book, facts};
use crate::planner::{self, Alias, Catalogue};
use crate::providers::Target;

/// Numbers of which the smallest counts.
const LEAST: [&str; 2] = ["context_window", "max_output_tokens"];

/// Lists of which that counts which stands in all of them.
const COMMON: [&str; 3] = ["input_modalities", "output_modalities", "capabilities"];

/// What is known of models.
pub(super) struct Sight<'a> {
    pub(super) catalogue: &'a Catalogue,
    pub(super) book: &'a Book,
}

impl Sight<'_> {
    /// The facts of the model of this name; none where nobody knows any.
    pub(super) fn of(&self, id: &str) -> Map<String, Value> {
        match self.catalogue.find(id) {
            None => Map::new(),
            Some(planner::Known::Target(target)) => self.target(&target),
            Some(planner::Known::Alias(alias)) => self.together(std::iter::once(alias)),
            Some(planner::Known::Split(split)) => {
                self.together(split.versions.iter().map(|version| &version.alias))
            }
        }
    }

    fn target(&self, target: &Target) -> Map<String, Value> {
        let known = self.book.of(&target.name, target.vendor.preset.as_deref());
        known.map(|known| facts(&known.model)).unwrap_or_default()
    }

    fn together<'b>(&self, aliases: impl Iterator<Item = &'b Alias>) -> Map<String, Value> {
        let mut targets: Vec<(String, Map<String, Value>)> = Vec::new();
        for target in aliases.flat_map(|alias| &alias.targets) {
            let name = target.target.name.to_string();
            if targets.iter().all(|(known, _)| *known != name) {
                targets.push((name, self.target(&target.target)));
            }
        }
        let mut all = targets.iter().map(|(_, facts)| facts);
        let mut common = all.next().cloned().unwrap_or_default();
        for facts in all {
            common = meet(common, facts);
        }
        let named = targets.into_iter().map(|(name, mut facts)| {
            facts.insert("id".to_owned(), name.into());
            Value::Object(facts)
        });
        common.insert("targets".to_owned(), named.collect());
        common
    }
}

/// What holds for both.
fn meet(one: Map<String, Value>, other: &Map<String, Value>) -> Map<String, Value> {
    let both = one.into_iter().filter_map(|(name, value)| {
        let theirs = other.get(&name);
        if name == "deprecation_date" {
            // Whichever goes first.
            return Some((name, earlier(value, theirs)));
        }
        let theirs = theirs?;
        let value = if LEAST.contains(&name.as_str()) {
            if theirs.as_u64() < value.as_u64() { theirs.clone() } else { value }
        } else if COMMON.contains(&name.as_str()) {
            let theirs = theirs.as_array()?;
            value.as_array()?.iter().filter(|word| theirs.contains(word)).cloned().collect()
        } else {
            (value == *theirs).then_some(value)?
        };
        Some((name, value))
    });
    let mut both: Map<String, Value> = both.collect();
    if let Some(date) = other.get("deprecation_date").filter(|_| !both.contains_key("deprecation_date")) {
        both.insert("deprecation_date".to_owned(), date.clone());
    }
    both
}

fn earlier(date: Value, other: Option<&Value>) -> Value {
    match other {
        Some(other) if other.as_str() < date.as_str() => other.clone(),
        _ => date,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn clients_can_rely_on_what_holds_for_all_targets() {
        let map = |value: Value| value.as_object().cloned().unwrap();
        let one = map(json!({"kind": "chat", "context_window": 200, "capabilities": ["tools", "vision"],
            "deprecation_date": "2027-01-01", "pricing": {"input": 1.0}}));
        for (other, expected) in [
            (
                json!({"kind": "chat", "context_window": 100, "capabilities": ["vision"],
                    "deprecation_date": "2026-12-31", "pricing": {"input": 2.0}}),
                json!({"kind": "chat", "context_window": 100, "capabilities": ["vision"],
                    "deprecation_date": "2026-12-31"}),
            ),
            (json!({}), json!({"deprecation_date": "2027-01-01"})),
        ] {
            assert_eq!(meet(one.clone(), &map(other)), map(expected));
        }
        let gone = meet(map(json!({})), &one);
        assert_eq!(gone, map(json!({"deprecation_date": "2027-01-01"})));
    }
}
