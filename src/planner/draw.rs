//! Drawing one of several by weight.

use std::sync::Arc;

use crate::clock::Dice;

/// Draws one name by weight among those that are fit, as far as any is; without any positive weight, the first.
pub(super) fn draw<'a, F: Ord>(
    choices: &'a [(Arc<str>, f64)],
    fitness: impl FnMut(&'a Arc<str>) -> F,
    dice: &Dice,
) -> Option<&'a Arc<str>> {
    let [_, _, ..] = choices else { return choices.first().map(|(name, _)| name) };
    let fit: Vec<F> = choices.iter().map(|(name, _)| name).map(fitness).collect();
    let most = fit.iter().max();
    let shares =
        choices.iter().zip(&fit).map(|((_, weight), fit)| if Some(fit) == most { *weight } else { 0.0 });
    let place =
        pick(shares, dice).or_else(|| pick(choices.iter().map(|(_, weight)| *weight), dice)).unwrap_or(0);
    choices.get(place).map(|(name, _)| name)
}

/// The first name with a share among those that are fit, as far as any is.
pub(super) fn foremost<'a, F: Ord>(
    choices: &'a [(Arc<str>, f64)],
    fitness: impl FnMut(&'a Arc<str>) -> F,
) -> Option<&'a (Arc<str>, f64)> {
    let [_, _, ..] = choices else { return choices.first() };
    let fit: Vec<F> = choices.iter().map(|(name, _)| name).map(fitness).collect();
    let most = fit.iter().max();
    let mut fitting = choices.iter().zip(&fit).filter(|((_, weight), _)| *weight > 0.0);
    fitting.find(|(_, fit)| Some(*fit) == most).map(|(choice, _)| choice).or_else(|| choices.first())
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
            let name = draw(&choices, |_| (), &dice).unwrap();
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
            assert_eq!(draw(&choices, |_| (), &dice).map(|n| &**n), Some("a"), "{weight}");
        }
    }

    #[test]
    fn who_is_less_fit_takes_no_share() {
        let dice = Dice::loaded(1);
        let choices = [("a".into(), 98.0), ("b".into(), 1.0), ("c".into(), 1.0)];
        let drawn = |fitness: &dyn Fn(&Arc<str>) -> bool| -> Vec<String> {
            (0..20).filter_map(|_| draw(&choices, fitness, &dice)).map(ToString::to_string).collect()
        };
        assert!(drawn(&|name| **name == *"b").iter().all(|name| name == "b"));
        assert!(drawn(&|name| **name != *"a").iter().any(|name| name == "c"));
        assert!(drawn(&|_| false).iter().filter(|name| *name == "a").count() > 15);
    }
}
