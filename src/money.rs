//! Money in integers: sums in nano-dollars, prices in pico-dollars for one unit. Nothing is ever a float but what a
//! person reads or writes.

use std::fmt;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

/// An amount in nano-dollars (10⁻⁹ US dollars). 2⁶⁴ of them are 18 billion dollars; sums stop there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nano(pub u64);

/// A price in pico-dollars (10⁻¹² US dollars) for one unit: a token, a picture, a second, a character, a request.
/// One dollar for a million tokens is 1,000,000.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pico(pub u64);

/// No unit costs more than this many dollars; what claims to is not a price.
const MOST_DOLLARS: f64 = 1_000_000.0;

impl Nano {
    /// The amount that is nearest to so many femto-dollars (10⁻¹⁵); halves go up.
    pub fn from_femto(femto: u128) -> Self {
        Self(u64::try_from((femto + 500_000) / 1_000_000).unwrap_or(u64::MAX))
    }

    /// Dollars, for displays and comparisons that may be inexact.
    #[allow(clippy::cast_precision_loss, reason = "for display only")]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

impl AddAssign for Nano {
    fn add_assign(&mut self, other: Self) {
        self.0 = self.0.saturating_add(other.0);
    }
}

impl fmt::Display for Nano {
    /// Dollars, exactly: `0.00012345`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal(f, self.0, 9)
    }
}

impl Pico {
    /// So many dollars for one unit, to the nearest pico-dollar; `None` for what is no price.
    pub fn per_unit(dollars: f64) -> Option<Self> {
        Self::scaled(dollars, 1e12)
    }

    /// So many dollars for a million units, to the nearest pico-dollar; `None` for what is no price.
    pub fn per_million(dollars: f64) -> Option<Self> {
        Self::scaled(dollars, 1e6)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just before")]
    fn scaled(dollars: f64, by: f64) -> Option<Self> {
        let sound = dollars.is_finite() && (0.0..=MOST_DOLLARS).contains(&dollars);
        sound.then(|| Self((dollars * by).round() as u64))
    }

    /// `percent` of this price, to the nearest pico-dollar.
    pub fn percent(self, percent: u32) -> Self {
        let scaled = (u128::from(self.0) * u128::from(percent) + 50) / 100;
        Self(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    /// This price, changed as a price went from `base` to `other`.
    pub fn in_proportion(self, base: Self, other: Self) -> Self {
        if base.0 == 0 {
            return self.max(other);
        }
        let scaled = u128::from(self.0) * u128::from(other.0) / u128::from(base.0);
        Self(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    /// Dollars for a million units, for displays and comparisons that may be inexact.
    #[allow(clippy::cast_precision_loss, reason = "for display only")]
    pub fn million(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// Dollars for one unit, for displays and comparisons that may be inexact.
    #[allow(clippy::cast_precision_loss, reason = "for display only")]
    pub fn one(self) -> f64 {
        self.0 as f64 / 1e12
    }
}

impl fmt::Display for Pico {
    /// Dollars for a million units, exactly: `2.5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal(f, self.0, 6)
    }
}

/// `number` / 10^`places`, without zeros at the end.
fn decimal(f: &mut fmt::Formatter<'_>, number: u64, places: u32) -> fmt::Result {
    let unit = 10_u64.pow(places);
    let (whole, part) = (number / unit, number % unit);
    if part == 0 {
        return f.pad(&whole.to_string());
    }
    let digits = format!("{part:0width$}", width = places as usize);
    f.pad(&format!("{whole}.{}", digits.trim_end_matches('0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_written_exactly() {
        for (nano, text) in [(0, "0"), (1, "0.000000001"), (123_450, "0.00012345"), (2_500_000_000, "2.5")] {
            assert_eq!(Nano(nano).to_string(), text);
        }
        assert_eq!((Pico(2_500_000).to_string(), Pico(28_000).to_string()), ("2.5".into(), "0.028".into()));
    }

    #[test]
    fn halves_go_up_and_nothing_overflows() {
        for (femto, nano) in
            [(499_999, 0), (500_000, 1), (1_499_999, 1), (u128::from(u64::MAX) << 32, u64::MAX)]
        {
            assert_eq!(Nano::from_femto(femto), Nano(nano), "{femto}");
        }
        let mut sum = Nano(u64::MAX - 1);
        sum += Nano(5);
        assert_eq!(sum, Nano(u64::MAX));
    }

    #[test]
    fn prices_are_read_to_the_pico_dollar() {
        for (dollars, pico) in
            [(2.5e-6, 2_500_000), (2.8e-8, 28_000), (1.88e-6, 1_880_000), (0.06, 60_000_000_000)]
        {
            assert_eq!(Pico::per_unit(dollars), Some(Pico(pico)), "{dollars}");
        }
        assert_eq!(Pico::per_million(0.075), Some(Pico(75_000)));
        for bad in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert_eq!(Pico::per_unit(bad), None, "{bad}");
        }
        assert_eq!(Pico(3).percent(50), Pico(2));
        assert_eq!(Pico(1_500_000).in_proportion(Pico(3_000_000), Pico(6_000_000)), Pico(3_000_000));
    }
}
