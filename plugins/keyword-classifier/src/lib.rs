//! A classifier: labels from the configuration, each with weighted words and phrases, and examples where the gateway has
//! an embedding model. Words are found whole and in any case; all of them are one automaton.

mod config;
mod likeness;
mod words;

use tollgate_plugin::prelude::*;

use config::{Config, Look};
use likeness::Likeness;
use words::Words;

/// The classifier: its words, compiled, and its examples, embedded.
#[derive(Debug)]
pub struct KeywordClassifier {
    words: Words,
    likeness: Option<Likeness>,
    fallback: String,
    threshold: f32,
    look: Look,
}

impl Plugin for KeywordClassifier {
    type Config = Config;
    const NEEDS: Needs = Needs::SEGMENTS;

    fn new(config: Config) -> Result<Self, String> {
        if config.labels.is_empty() {
            return Err("labels: there are none".to_owned());
        }
        if config.labels.contains_key(&config.fallback) {
            return Err(format!("fallback: {:?} is also a label", config.fallback));
        }
        let words = Words::new(&config.labels, config.saturation)?;
        words.scores(&["warm up: not a word of it"]);
        let likeness = Likeness::new(&config);
        let Config { fallback, threshold, look, .. } = config;
        Ok(KeywordClassifier { words, likeness, fallback, threshold, look })
    }
}

impl Classify for KeywordClassifier {
    fn classify(&self, _: &RequestContext, segments: &[Segment]) -> Result<Classification, Failure> {
        let texts = self.look.texts(segments);
        let mut scores = self.words.scores(&texts);
        let by_likeness = self.likeness.as_ref().is_some_and(|likeness| likeness.blend(&texts, &mut scores));
        let best = scores.iter().copied().fold(0.0, f32::max);
        // What is left to the best label up to its threshold speaks for none of them.
        let none = if best < self.threshold { 1.0 - best } else { 0.0 };
        let labels = self.words.labels().zip(scores).filter(|(_, score)| *score > 0.0);
        let mut answer = classification(labels.chain([(self.fallback.as_str(), none)]));
        answer.labels.retain(|label| label.score > 0.0);
        let method = if by_likeness { "words and likeness" } else { "words" };
        answer.attributes.push(("method".to_owned(), method.to_owned()));
        Ok(answer)
    }
}

tollgate_plugin::export!(KeywordClassifier: classify);

#[cfg(test)]
mod tests;
