//! Drawing one of several by weight.

use std::sync::Arc;

use crate::clock::Dice;

/// Draws one name by weight; without any positive weight, the first.
pub(super) fn draw<'a>(choices: &'a [(Arc<str>, f64)], dice: &Dice) -> Option<&'a Arc<str>> {
    let [_, _, ..] = choices else { return choices.first().map(|(name, _)| name) };
    let place = pick(choices.iter().map(|(_, weight)| *weight), dice).unwrap_or(0);
    choices.get(place).map(|(name, _)| name)
}

/// The place of one weight, drawn in proportion; `None` when no weight is positive and finite.
pub(super) fn pick(weights: impl Iterator<Item = f64> + Clone, dice: &Dice) -> Option<usize> {
    let usable = |weight: f64| if weight.is_finite() && weight > 0.0 { weight } else { 0.0 };
    let sum: f64 = weights.clone().map(usable).sum();
    if sum <= 0.0 || !sum.is_finite() {
        return None;
    }
    let mut left = dice.unit() * sum;
    let mut last = None;
    for (place, weight) in weights.map(usable).enumerate() {
        if weight == 0.0 {
            continue;
        }
        last = Some(place);
        if left < weight {
            break;
        }
        left -= weight;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept_over_many_draws() {
        let dice = Dice::loaded(1);
        let choices = [("a".into(), 70.0), ("b".into(), 30.0), ("never".into(), 0.0)];
        let mut counts = [0_u32; 3];
        for _ in 0..10_000 {
            let name = draw(&choices, &dice).unwrap();
            counts[choices.iter().position(|(n, _)| n == name).unwrap()] += 1;
        }
        assert!((6_800..7_200).contains(&counts[0]), "{counts:?}");
        assert_eq!(counts[2], 0);
    }

    #[test]
    fn nonsense_weights_draw_the_first() {
        let dice = Dice::loaded(1);
        for weight in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            let choices = [("a".into(), weight), ("b".into(), weight)];
            assert_eq!(draw(&choices, &dice).map(|n| &**n), Some("a"), "{weight}");
        }
    }
}
