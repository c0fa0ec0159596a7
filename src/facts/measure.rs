//! What targets are compared by: numbers of which less is better, one by one or weighed together.
//!
//! Policies (`rank_by`, `cheapest`, …) and strategies of the configuration reckon with the same ones.

use super::Body;
use super::fit::USUAL_ANSWER;
use super::market::{Listing, Live, Market, Offer, Size};

/// The classes of cost, the cheapest first.
pub const TIERS: [&str; 3] = ["cheap", "balanced", "premium"];
/// Dollars per million tokens, of which three in four are the prompt's, below which a target is cheap.
const CHEAP_BELOW: f64 = 1.0;
/// And from which on it is premium.
const PREMIUM_FROM: f64 = 5.0;

/// A target with what its numbers depend on.
#[derive(Clone, Copy)]
pub struct Rated<'a> {
    /// The target and its numbers.
    pub offer: &'a Offer,
    /// The request.
    pub body: &'a dyn Body,
    /// Who knows what it costs.
    pub market: &'a dyn Market,
}

/// One number of a target; `None` where it is unknown.
pub type Measure = fn(&Rated<'_>) -> Option<f64>;

/// Names of what targets can be ranked by. Less is better.
pub const MEASURES: [(&str, Measure); 13] = [
    ("cost", |rated| rated.cost()),
    ("latency", |rated| rated.offer.live.latency.p50),
    ("p50", |rated| rated.offer.live.latency.p50),
    ("p95", |rated| rated.offer.live.latency.p95),
    ("p99", |rated| rated.offer.live.latency.p99),
    ("first_token", |rated| rated.offer.live.first_token.p50),
    ("first_token_p95", |rated| rated.offer.live.first_token.p95),
    ("first_token_p99", |rated| rated.offer.live.first_token.p99),
    ("errors", |rated| rated.offer.live.error_rate),
    ("slowness", |rated| rated.offer.live.tokens_per_second.filter(|speed| *speed > 0.0).map(f64::recip)),
    ("busy", |rated| rated.offer.live.busy()),
    ("load", |rated| rated.offer.live.load()),
    ("quality", |rated| rated.offer.listing.quality().map(|quality| 1.0 - quality)),
];

/// The measure of this name.
pub fn measure(name: &str) -> Option<Measure> {
    MEASURES.iter().find(|(known, _)| *known == name).map(|(_, measure)| *measure)
}

impl Rated<'_> {
    /// Dollars that the request would cost here.
    pub fn cost(&self) -> Option<f64> {
        let output = self.body.max_tokens().unwrap_or(USUAL_ANSWER);
        self.market.cost(self.offer, Size { input: self.body.tokens(), output })
    }
}

impl Live {
    /// Requests under way.
    #[allow(clippy::cast_precision_loss, reason = "nobody has 2^53 requests under way")]
    pub fn busy(&self) -> Option<f64> {
        self.in_flight.map(|requests| requests as f64)
    }

    /// How long one more request would have to wait: the recent latency, once for each request under way.
    pub fn load(&self) -> Option<f64> {
        Some(self.ewma? * (self.busy().unwrap_or(0.0) + 1.0))
    }
}

impl Listing {
    /// How good its answers are, 0 to 1, where the configuration says.
    pub fn quality(&self) -> Option<f64> {
        self.labels.get("quality")?.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))
    }

    /// The class of its cost: its label `tier`, else by its price.
    pub fn tier(&self) -> Option<&str> {
        if let Some(label) = self.labels.get("tier") {
            return Some(label);
        }
        let price = self.price?;
        let blended = (3.0 * price.input + price.output) / 4.0;
        Some(match blended {
            low if low < CHEAP_BELOW => "cheap",
            high if high >= PREMIUM_FROM => "premium",
            _ => "balanced",
        })
    }
}

/// Each number is stretched to 0 (the best of these targets) up to 1 (the worst), then weighed: a score for each target.
/// What is known of none of them tells nothing: a score by cost and latency is one by cost while nothing was measured.
pub fn weighed(numbers: Vec<(Vec<Option<f64>>, f64)>, targets: usize) -> Vec<Option<f64>> {
    let is_known = |(values, _): &(Vec<Option<f64>>, f64)| values.iter().any(Option::is_some);
    let known: Vec<_> = numbers.into_iter().filter(is_known).collect();
    let total: f64 = known.iter().map(|(_, weight)| weight).sum();
    let mut scores = vec![(!known.is_empty()).then_some(0.0); targets];
    for (values, weight) in &known {
        let known = || values.iter().copied().flatten();
        let least = known().fold(f64::INFINITY, f64::min);
        let span = known().fold(f64::NEG_INFINITY, f64::max) - least;
        for (score, value) in scores.iter_mut().zip(values) {
            let share = value.map(|value| if span > 0.0 { (value - least) / span } else { 0.0 });
            *score =
                score.zip(share).map(|(score, share)| score + share * weight / total.max(f64::MIN_POSITIVE));
        }
    }
    scores
}
