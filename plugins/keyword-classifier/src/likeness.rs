//! How much a text is like the examples of each label, by the gateway's embedding model.

use tollgate_plugin::{ai, log};

use crate::config::Config;

/// The middle of each label's examples.
#[derive(Debug)]
pub struct Likeness {
    /// A direction for each label; none where it has no examples.
    middles: Vec<Option<Vec<f32>>>,
    weight: f32,
}

impl Likeness {
    /// Embeds the examples, once, while the plugin is loaded. Without examples or a model there is no likeness, and
    /// words alone decide.
    pub fn new(config: &Config) -> Option<Self> {
        if config.labels.values().all(|label| label.examples.is_empty()) {
            return None;
        }
        let mut middles = Vec::with_capacity(config.labels.len());
        for (name, label) in &config.labels {
            if label.examples.is_empty() {
                middles.push(None);
                continue;
            }
            match ai::embed(&label.examples) {
                Ok(vectors) => middles.push(middle(&vectors)),
                Err(failure) => {
                    log::warn(format_args!(
                        "examples of {name} are not used, words alone decide: {failure:?}"
                    ));
                    return None;
                }
            }
        }
        Some(Likeness { middles, weight: config.likeness.clamp(0.0, 1.0) })
    }

    /// Mixes the likeness of these texts into the scores; not where the model is away just now.
    pub fn blend(&self, texts: &[&str], scores: &mut [f32]) -> bool {
        let text = texts.join("\n");
        if text.trim().is_empty() {
            return false;
        }
        let Ok(vectors) = ai::embed(&[text]) else { return false };
        let Some(direction) = middle(&vectors) else { return false };
        for (score, like) in scores.iter_mut().zip(&self.middles) {
            if let Some(like) = like {
                let cosine: f32 = like.iter().zip(&direction).map(|(a, b)| a * b).sum();
                *score = *score * (1.0 - self.weight) + cosine.clamp(0.0, 1.0) * self.weight;
            }
        }
        true
    }
}

/// The mean direction of these vectors, of length 1.
fn middle(vectors: &[Vec<f32>]) -> Option<Vec<f32>> {
    let mut sum = vec![0.0_f32; vectors.first()?.len()];
    for vector in vectors {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if length > 0.0 {
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x / length);
        }
    }
    let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
    (length > 0.0).then(|| sum.iter().map(|x| x / length).collect())
}
