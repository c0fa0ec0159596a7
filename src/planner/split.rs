//! An alias with versions: which of them a caller gets, the same one every time.
//!
//! Weighted rendezvous hashing: each version scores by a hash of the caller and by its share, and the highest score
//! wins. When shares change, only as many callers move as must, and a version whose share grows while no other's does
//! keeps all of its callers. <https://www.ietf.org/archive/id/draft-ietf-bess-weighted-hrw-00.html>

use std::sync::Arc;

use super::catalogue::Alias;
use crate::caller::Caller;
use crate::clock::Dice;

/// The versions of one alias.
#[derive(Clone)]
pub struct Split {
    /// Mixed into the draw: with another text, every caller is drawn anew.
    pub seed: Arc<str>,
    /// In the order written; never empty.
    pub versions: Vec<SplitVersion>,
}

/// One version of an alias.
#[derive(Clone)]
pub struct SplitVersion {
    /// Percent of the callers.
    pub share: f64,
    /// Where it leads; its `version` is `alias@version`.
    pub alias: Alias,
}

impl Split {
    /// The caller's version. Who cannot be told apart from others is drawn by the dice.
    pub fn version_for(&self, caller: &Caller, dice: &Dice) -> Option<&Alias> {
        let anchor = caller.anchor();
        let score = |version: &SplitVersion| {
            let point = match &anchor {
                Some(anchor) => self.point(anchor, version),
                None => dice.unit().max(f64::MIN_POSITIVE),
            };
            version.share / -point.ln()
        };
        let scored = self.versions.iter().filter(|version| version.share > 0.0).map(|v| (score(v), v));
        scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, version)| &version.alias)
    }

    /// The version of this name: `alias@version`.
    pub fn pinned(&self, name: &str) -> Option<&Alias> {
        let mut aliases = self.versions.iter().map(|version| &version.alias);
        aliases.find(|alias| alias.version.as_deref() == Some(name))
    }

    /// A number between 0 and 1, the same for the same caller and version.
    fn point(&self, anchor: &str, version: &SplitVersion) -> f64 {
        let mut hash = blake3::Hasher::new();
        for part in [&*self.seed, version.alias.version.as_deref().unwrap_or_default(), anchor] {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let mut bits = [0; 8];
        hash.finalize_xof().fill(&mut bits);
        // The 53 bits that a double holds, never 0 and never 1.
        ((u64::from_le_bytes(bits) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(seed: &str, shares: &[(&str, f64)]) -> Split {
        let version = |(name, share): &(&str, f64)| SplitVersion {
            share: *share,
            alias: Alias {
                targets: Vec::new(),
                fallback: Vec::new(),
                version: Some(format!("smart@{name}").into()),
                strategy: None,
                manner: None,
            },
        };
        Split { seed: seed.into(), versions: shares.iter().map(version).collect() }
    }

    fn versions(split: &Split) -> Vec<Arc<str>> {
        let dice = Dice::loaded(1);
        (0..10_000)
            .map(|n| {
                let caller = Caller { user: Some(format!("user-{n}").into()), ..Caller::default() };
                split.version_for(&caller, &dice).and_then(|alias| alias.version.clone()).unwrap()
            })
            .collect()
    }

    fn count(versions: &[Arc<str>], name: &str) -> usize {
        versions.iter().filter(|version| ***version == *name).count()
    }

    #[test]
    fn shares_are_kept_and_callers_stay() {
        let tenth = split("s", &[("a", 90.0), ("b", 10.0)]);
        let third = split("s", &[("a", 70.0), ("b", 30.0)]);
        let (before, after) = (versions(&tenth), versions(&third));
        assert_eq!(before, versions(&tenth), "the same every time");
        assert!((900..1_100).contains(&count(&before, "smart@b")), "{}", count(&before, "smart@b"));
        assert!((2_850..3_150).contains(&count(&after, "smart@b")), "{}", count(&after, "smart@b"));
        let left = before.iter().zip(&after).filter(|(b, a)| ***b == *"smart@b" && b != a).count();
        assert_eq!(left, 0, "nobody falls back to the old version while the new one grows");
        let anew = versions(&split("other", &[("a", 90.0), ("b", 10.0)]));
        assert_ne!(before, anew, "another seed draws anew");
    }

    #[test]
    fn a_version_without_a_share_is_for_pins_alone() {
        let split = split("s", &[("a", 100.0), ("b", 0.0)]);
        assert_eq!(count(&versions(&split), "smart@a"), 10_000);
        assert!(split.pinned("smart@b").is_some());
        assert!(split.pinned("smart@c").is_none());
    }

    #[test]
    fn who_cannot_be_told_apart_is_drawn() {
        let (split, dice) = (split("s", &[("a", 50.0), ("b", 50.0)]), Dice::loaded(7));
        let drawn: Vec<_> = (0..1_000)
            .filter_map(|_| split.version_for(&Caller::default(), &dice)?.version.clone())
            .collect();
        assert!((420..580).contains(&count(&drawn, "smart@b")), "{}", count(&drawn, "smart@b"));
    }
}
