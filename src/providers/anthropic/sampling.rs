//! Temperature, `top_p` and `top_k` as far as a model takes them.

use super::model::Freedom;
use crate::chat::{Loss, Sampling};

/// What can be sent.
#[derive(Debug, Default, PartialEq)]
pub(in crate::providers) struct Fitted {
    pub(in crate::providers) temperature: Option<f64>,
    pub(in crate::providers) top_p: Option<f64>,
    pub(in crate::providers) top_k: Option<u64>,
}

/// Lowest `top_p` that Claude takes while it thinks.
const LEAST_TOP_P: f64 = 0.95;

/// What of the wanted can be sent. Defaults that a model need not be told are left out without a loss.
pub(in crate::providers) fn fit(wanted: &Sampling, freedom: Freedom, lost: &mut Vec<Loss>) -> Fitted {
    let barred = match freedom {
        Freedom::Thinking => Some("not allowed while thinking"),
        Freedom::Fixed(why) => Some(why),
        Freedom::Full | Freedom::Either => None,
    };
    let is_default = |temperature: f64| (temperature - 1.0).abs() <= f64::EPSILON;
    // All of the probability is no restriction.
    let narrows = wanted.top_p.is_some_and(|top_p| top_p < 1.0);
    let temperature = match (wanted.temperature, barred) {
        (Some(one), Some(_)) if is_default(one) => None,
        (Some(_), Some(why)) => {
            lost.push(Loss::new("temperature", why));
            None
        }
        (Some(temperature), None) if temperature >= 1.0 => {
            if !is_default(temperature) {
                lost.push(Loss::new("temperature", "lowered to 1"));
            }
            // The default need not be said where it would stand in the way.
            (freedom != Freedom::Either || !narrows).then_some(1.0)
        }
        (wanted, _) => wanted,
    };
    let top_p = match (wanted.top_p, barred) {
        (Some(_), _) if !narrows && (temperature.is_some() || barred.is_some()) => None,
        (Some(top_p), Some(_)) if freedom == Freedom::Thinking && top_p >= LEAST_TOP_P => Some(top_p),
        (Some(_), Some(why)) => {
            lost.push(Loss::new("top_p", why));
            None
        }
        (Some(_), None) if freedom == Freedom::Either && temperature.is_some() => {
            lost.push(Loss::new("top_p", "dropped: this model takes it or a temperature, not both"));
            None
        }
        (wanted, _) => wanted,
    };
    let top_k = wanted.top_k.filter(|_| barred.is_none());
    if let (Some(_), Some(why)) = (wanted.top_k, barred) {
        lost.push(Loss::new("top_k", why));
    }
    Fitted { temperature, top_p, top_k }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_takes_is_sent_and_the_rest_is_lost() {
        let fixed = Freedom::Fixed("why");
        for (freedom, wanted, sent, losses) in [
            (Freedom::Full, (Some(0.2), Some(0.9), Some(4)), (Some(0.2), Some(0.9), Some(4)), 0),
            (Freedom::Full, (Some(1.7), Some(1.0), None), (Some(1.0), None, None), 1),
            (Freedom::Full, (None, Some(1.0), None), (None, Some(1.0), None), 0),
            (Freedom::Either, (Some(0.2), Some(0.9), Some(4)), (Some(0.2), None, Some(4)), 1),
            (Freedom::Either, (Some(1.0), Some(0.9), None), (None, Some(0.9), None), 0),
            (Freedom::Either, (Some(1.5), Some(0.9), None), (None, Some(0.9), None), 1),
            (Freedom::Either, (Some(0.2), Some(1.0), None), (Some(0.2), None, None), 0),
            (Freedom::Either, (None, Some(0.9), None), (None, Some(0.9), None), 0),
            (Freedom::Thinking, (Some(0.2), Some(0.9), Some(4)), (None, None, None), 3),
            (Freedom::Thinking, (Some(1.0), Some(0.97), None), (None, Some(0.97), None), 0),
            (fixed, (Some(0.2), Some(0.97), Some(4)), (None, None, None), 3),
            (fixed, (Some(1.0), Some(1.0), None), (None, None, None), 0),
        ] {
            let (temperature, top_p, top_k) = wanted;
            let mut lost = Vec::new();
            let asked = Sampling { temperature, top_p, top_k, ..Sampling::default() };
            let seen = fit(&asked, freedom, &mut lost);
            assert_eq!((seen.temperature, seen.top_p, seen.top_k), sent, "{freedom:?} {wanted:?}");
            assert_eq!(lost.len(), losses, "{freedom:?} {wanted:?}: {lost:?}");
        }
    }
}
