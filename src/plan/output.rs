//! What holds of an answer whoever gives it, and what of a prompt does not leave.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Narrowing;

/// What holds of an answer, whoever gives it. Only ever narrows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutputRules {
    /// The most tokens that may be asked for; `None` leaves it to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
    /// Texts before which the answer ends.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop_on: Vec<Arc<str>>,
    /// Guards whose findings are taken out of the answer.
    #[serde(rename = "redact_output", skip_serializing_if = "Vec::is_empty")]
    pub censors: Vec<Censor>,
    /// Texts of the prompt that do not leave, the longest first; never written down.
    #[serde(skip)]
    pub redact: Vec<Redaction>,
    /// No text of the prompt leaves.
    #[serde(skip)]
    pub redact_all: bool,
    /// Somebody looks at the answer before the client does, so it has to be read.
    #[serde(skip)]
    pub inspected: bool,
}

/// A guard whose findings are taken out of answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Censor {
    /// The plugin; `None` means every guard of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin: Option<Arc<str>>,
    /// Kinds of findings; all where none is named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<Arc<str>>,
}

/// A text of the prompt that does not leave, and what stands in its place.
#[derive(Clone, PartialEq, Eq)]
pub struct Redaction {
    /// What must not leave.
    pub value: Arc<str>,
    /// What stands in its place.
    pub placeholder: Arc<str>,
    /// Whether the value comes back where the answer has the placeholder.
    pub restore: bool,
}

/// Something that is to be taken out of a prompt.
#[derive(Debug, Clone, Copy)]
pub struct TakenOut<'a> {
    /// The text.
    pub text: &'a str,
    /// Its kind, by which its placeholder is called.
    pub kind: &'a str,
    /// What is to stand there; by default a placeholder of the kind.
    pub replacement: Option<&'a str>,
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.placeholder)
    }
}

impl OutputRules {
    /// Whether nothing holds.
    pub fn is_empty(&self) -> bool {
        self.most.is_none() && self.stop_on.is_empty() && !self.changes_prompt() && !self.inspects()
    }

    /// Whether the prompt does not leave as it came.
    pub fn changes_prompt(&self) -> bool {
        self.redact_all || !self.redact.is_empty()
    }

    /// Whether somebody looks at the answer.
    pub fn inspects(&self) -> bool {
        self.inspected || !self.censors.is_empty()
    }

    /// As it would stand in a policy, one rule after the other; of what is taken out only how much.
    pub fn shown(&self) -> Vec<String> {
        let mut all: Vec<String> = self.most.iter().map(|most| Narrowing::CapOutput(*most).shown()).collect();
        if !self.stop_on.is_empty() {
            all.push(Narrowing::StopOn(self.stop_on.clone()).shown());
        }
        if self.redact_all {
            all.push("redact(all texts)".into());
        } else if !self.redact.is_empty() {
            all.push(Narrowing::Redact(self.redact.len()).shown());
        }
        all.extend(self.censors.iter().map(|censor| Narrowing::RedactOutput(censor.clone()).shown()));
        all
    }

    /// At most so many tokens, or fewer if fewer were allowed before.
    pub fn cap(&mut self, most: u64) {
        self.most = Some(self.most.map_or(most, |before| before.min(most)));
    }

    /// These rules hold too.
    pub fn join(&mut self, others: Self) {
        let Self { most, stop_on, censors, redact, redact_all, inspected } = others;
        most.into_iter().for_each(|most| self.cap(most));
        self.stop_on.extend(stop_on);
        self.censors.extend(censors);
        self.redact_all |= redact_all;
        self.inspected |= inspected;
        if self.redact.is_empty() {
            self.redact = redact;
            return;
        }
        let mut taken: HashSet<Arc<str>> =
            self.redact.iter().map(|known| known.placeholder.clone()).collect();
        for Redaction { value, mut placeholder, restore } in redact {
            if let Some(known) = self.redact.iter_mut().find(|known| known.value == value) {
                known.restore &= restore;
                continue;
            }
            if restore && taken.contains(&placeholder) {
                // Two texts behind one placeholder could not both come back.
                let stem = placeholder.trim_matches(['[', ']']).to_owned();
                placeholder = next(&stem, &mut 0, &taken);
            }
            taken.insert(placeholder.clone());
            self.redact.push(Redaction { value, placeholder, restore });
        }
        self.redact.sort_by_key(|redaction| usize::MAX - redaction.value.len());
    }

    /// These texts do not leave. Of a text that is there already, whoever does not want it back has the last word.
    pub fn take_out<'a>(&mut self, found: impl Iterator<Item = TakenOut<'a>>, restore: bool) {
        let mut places: HashMap<Arc<str>, usize> =
            self.redact.iter().enumerate().map(|(at, known)| (known.value.clone(), at)).collect();
        let mut taken: HashSet<Arc<str>> =
            self.redact.iter().map(|known| known.placeholder.clone()).collect();
        let mut numbers: HashMap<&str, usize> = HashMap::new();
        for TakenOut { text, kind, replacement } in found.filter(|found| !found.text.is_empty()) {
            if let Some(known) = places.get(text).and_then(|at| self.redact.get_mut(*at)) {
                known.restore &= restore;
                continue;
            }
            let (placeholder, restore) = match replacement {
                Some(text) => (Arc::from(text), false),
                None => (next(kind, numbers.entry(kind).or_default(), &taken), restore),
            };
            let value: Arc<str> = text.into();
            taken.insert(placeholder.clone());
            places.insert(value.clone(), self.redact.len());
            self.redact.push(Redaction { value, placeholder, restore });
        }
        // The longest first: a name may be part of an address.
        self.redact.sort_by_key(|redaction| usize::MAX - redaction.value.len());
    }
}

/// `[EMAIL]`: what stands in the place of a finding whose value nobody gets back.
pub fn mark(kind: &str) -> String {
    format!("[{}]", label(kind))
}

fn label(kind: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    kind.chars().take(32).map(letter).collect()
}

/// `[EMAIL_1]`: the next of its kind that nothing has yet.
fn next(kind: &str, number: &mut usize, taken: &HashSet<Arc<str>>) -> Arc<str> {
    let label = label(kind);
    loop {
        *number += 1;
        let next: Arc<str> = format!("[{label}_{number}]").into();
        if !taken.contains(&next) {
            return next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out<'a>(kind: &'a str, text: &'a str) -> TakenOut<'a> {
        TakenOut { text, kind, replacement: None }
    }

    #[test]
    fn each_text_has_one_placeholder_however_often_and_by_whomever_it_is_found() {
        let mut rules = OutputRules::default();
        rules.take_out(
            [out("email", "a@b.c"), out("email", "bob@b.c"), out("email", "a@b.c")].into_iter(),
            true,
        );
        rules.take_out([out("email", "a@b.c"), out("e-mail", "carol@b.c")].into_iter(), false);
        let shown: Vec<_> =
            rules.redact.iter().map(|it| (&*it.value, &*it.placeholder, it.restore)).collect();
        let expected = [
            ("carol@b.c", "[E_MAIL_1]", false),
            ("bob@b.c", "[EMAIL_2]", true),
            ("a@b.c", "[EMAIL_1]", false),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn rules_are_shown_without_what_they_take_out() {
        let mut rules = OutputRules { most: Some(9), stop_on: vec!["END".into()], ..OutputRules::default() };
        rules.take_out([out("email", "a@b.c")].into_iter(), true);
        rules.censors.push(Censor { plugin: Some("pii".into()), kinds: vec!["email".into()] });
        let expected = [
            "cap_output(9)",
            r#"stop_on(["END"])"#,
            "redact(1 texts)",
            r#"redact_output(plugin("pii"), ["email"])"#,
        ];
        assert_eq!(rules.shown(), expected);
    }

    #[test]
    fn ten_thousand_findings_are_no_trouble() {
        let values: Vec<String> = (0..10_000).map(|n| format!("user{n}@example.org")).collect();
        let mut rules = OutputRules::default();
        rules.take_out(values.iter().map(|value| out("email", value)), true);
        assert_eq!(rules.redact.len(), 10_000);
        assert!(rules.redact.iter().any(|it| &*it.placeholder == "[EMAIL_10000]"));
    }
}
