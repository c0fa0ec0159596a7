//! The words of all labels as one automaton.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::config::Label;

/// Words with what they say for which label.
#[derive(Debug)]
pub struct Words {
    labels: Vec<String>,
    automaton: AhoCorasick,
    /// For each word of the automaton: what it weighs for which labels.
    says: Vec<Vec<(usize, f32)>>,
    saturation: f32,
}

impl Words {
    /// Compiles the words of these labels.
    ///
    /// # Errors
    /// A word that is empty, or a weight that is no number.
    pub fn new(labels: &BTreeMap<String, Label>, saturation: f32) -> Result<Self, String> {
        if !(saturation.is_finite() && saturation > 0.0) {
            return Err("saturation: must be above 0".to_owned());
        }
        let mut says: BTreeMap<String, Vec<(usize, f32)>> = BTreeMap::new();
        for (number, (name, label)) in labels.iter().enumerate() {
            if label.words.is_empty() && label.examples.is_empty() {
                return Err(format!("labels: {name}: has neither words nor examples"));
            }
            for (word, weight) in &label.words {
                let word = word.trim().to_lowercase();
                if word.is_empty() {
                    return Err(format!("labels: {name}: a word is empty"));
                }
                says.entry(word).or_default().push((number, *weight));
            }
        }
        // Of words that begin alike the longest is found: "prove that" before "prove".
        let (words, says): (Vec<String>, Vec<_>) = says.into_iter().unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(&words)
            .map_err(|error| format!("labels: {error}"))?;
        Ok(Words { labels: labels.keys().cloned().collect(), automaton, says, saturation })
    }

    /// The labels' names.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.labels.iter().map(String::as_str)
    }

    /// A score from 0 to 1 for each label. A word counts each time, but less and less.
    pub fn scores(&self, texts: &[&str]) -> Vec<f32> {
        let mut times = vec![0_u16; self.says.len()];
        for text in texts {
            let text = text.to_lowercase();
            for hit in
                self.automaton.find_iter(&text).filter(|hit| stands_alone(&text, hit.start(), hit.end()))
            {
                if let Some(times) = times.get_mut(hit.pattern().as_usize()) {
                    *times = times.saturating_add(1);
                }
            }
        }
        let mut weights = vec![0.0_f32; self.labels.len()];
        for (says, times) in self.says.iter().zip(times).filter(|(_, times)| *times > 0) {
            for (label, weight) in says {
                if let Some(sum) = weights.get_mut(*label) {
                    *sum += weight * f32::from(times).sqrt();
                }
            }
        }
        weights
            .iter()
            .map(|weight| weight.max(0.0))
            .map(|weight| weight / (weight + self.saturation))
            .collect()
    }
}

/// Whether a word is not a part of another one; signs at its ends, as of "```" or "c++", are their own boundary.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let joined = |left: Option<char>, right: Option<char>| matches!((left, right), (Some(l), Some(r)) if l.is_alphanumeric() && r.is_alphanumeric());
    let (before, hit, after) = (&text[..start], &text[start..end], &text[end..]);
    !joined(before.chars().next_back(), hit.chars().next())
        && !joined(hit.chars().next_back(), after.chars().next())
}
