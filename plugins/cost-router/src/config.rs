//! What can be configured.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The plugin's `config:` block.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How much cost, latency and errors weigh.
    pub weights: Weights,
    /// Other weights for requests with the tag `tier` of that value.
    pub tiers: BTreeMap<String, Weights>,
    /// A candidate with a larger share of failures is left out.
    pub max_error_rate: f64,
    /// A candidate whose estimate for the request is dearer, in micro-dollars, is left out.
    pub max_cost_micros: Option<u64>,
    /// A candidate without all of these tags is left out.
    pub require_tags: Vec<String>,
    /// How many further candidates are asked where the best fails.
    pub fallbacks: usize,
    /// The time of each attempt.
    pub timeout_ms: Option<u32>,
    /// Whether a second candidate is asked when the first is slower than its 95th percentile.
    pub hedge: bool,
    /// Whether to refuse where no candidate fits, rather than to have no opinion.
    pub strict: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            weights: Weights { cost: 0.5, latency: 0.3, errors: 0.2 },
            tiers: BTreeMap::new(),
            max_error_rate: 0.5,
            max_cost_micros: None,
            require_tags: Vec::new(),
            fallbacks: 2,
            timeout_ms: None,
            hedge: false,
            strict: false,
        }
    }
}

/// How much each thing weighs; only their shares count.
#[derive(Debug, Deserialize, Clone, Copy)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    #[serde(default)]
    pub cost: f64,
    #[serde(default)]
    pub latency: f64,
    #[serde(default)]
    pub errors: f64,
}

impl Config {
    /// # Errors
    /// Weights that are no weights.
    pub fn check(&self) -> Result<(), String> {
        let tiers = self.tiers.iter().map(|(tier, weights)| (format!("tiers: {tier}"), weights));
        for (place, weights) in tiers.chain([("weights".to_owned(), &self.weights)]) {
            let all = [weights.cost, weights.latency, weights.errors];
            if all.iter().any(|weight| !weight.is_finite() || *weight < 0.0) || all.iter().sum::<f64>() <= 0.0
            {
                return Err(format!("{place}: weights must not be below 0, and one of them must be above"));
            }
        }
        Ok(())
    }
}
