//! One kept answer, and the form in which other gateways find it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::Key;
use crate::money::Nano;

/// What an entry costs beside its body, in bytes, about.
const OVERHEAD: usize = 512;

/// The first bytes of a packed answer: what it is, and of which form. Another form begins otherwise.
const MARK: &[u8; 8] = b"tgans\x00\x002";

/// Bytes of the sum at the end of a packed answer.
const SUM: usize = 16;

/// In which form an answer was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One document.
    Whole,
    /// The frames of a stream, one behind the other.
    Stream,
}

/// An answer in the client's dialect.
#[derive(Debug)]
pub struct Entry {
    /// The hash of what was asked.
    pub asks: Key,
    /// Its form.
    pub form: Form,
    /// What the client was given.
    pub body: Bytes,
    /// Who gave it.
    pub target: Arc<str>,
    /// What was lost on the way to them and back, in words; empty where nothing was.
    pub warnings: Box<str>,
    /// What it cost, where that is known.
    pub cost: Option<Nano>,
    /// When it was given.
    pub at: Instant,
    /// How long it may be given again.
    pub life: Duration,
}

impl Entry {
    /// How old it is.
    pub fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at)
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.age(now) < self.life
    }

    pub(super) fn weight(&self) -> usize {
        self.body.len() + self.target.len() + self.warnings.len() + OVERHEAD
    }
}

/// An answer as it is kept outside of this process: whatever is not exactly that, is none.
pub(super) struct Parcel;

impl Parcel {
    /// Packs an answer at this moment.
    pub(super) fn pack(entry: &Entry, now: Instant, unix_ms: u64) -> Vec<u8> {
        let Entry { asks, form, body, target, warnings, cost, life, .. } = entry;
        let mut out = Vec::with_capacity(body.len() + target.len() + 128);
        out.extend_from_slice(MARK);
        out.extend_from_slice(asks);
        out.push(u8::from(*form == Form::Stream));
        out.push(u8::from(cost.is_some()));
        let at = unix_ms.saturating_sub(millis(entry.age(now)));
        let numbers = [cost.map_or(0, |cost| cost.0), at, millis(*life)];
        let lengths = [target.len() as u64, warnings.len() as u64, body.len() as u64];
        numbers.iter().chain(&lengths).for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        out.extend_from_slice(target.as_bytes());
        out.extend_from_slice(warnings.as_bytes());
        out.extend_from_slice(body);
        let sum = blake3::hash(&out);
        out.extend(sum.as_bytes().iter().take(SUM));
        out
    }

    /// Unpacks one that is still good.
    pub(super) fn unpack(packed: Bytes, now: Instant, unix_ms: u64) -> Option<Entry> {
        let (told, sum) = packed.split_at_checked(packed.len().checked_sub(SUM)?)?;
        if blake3::hash(told).as_bytes().get(..SUM)? != sum {
            return None;
        }
        let rest = told.strip_prefix(MARK)?;
        let (asks, rest) = rest.split_first_chunk::<32>()?;
        let ([form, priced], rest) = rest.split_first_chunk::<2>()?;
        let (numbers, rest) = rest.split_first_chunk::<48>()?;
        let mut numbers = numbers
            .chunks_exact(8)
            .map(|eight| eight.first_chunk::<8>().map_or(0, |eight| u64::from_le_bytes(*eight)));
        let mut next = || numbers.next();
        let (cost, at, life) = (next()?, next()?, next()?);
        let (of_target, of_warnings, of_body) = (next()?, next()?, next()?);
        let (target, rest) = rest.split_at_checked(usize::try_from(of_target).ok()?)?;
        let (warnings, body) = rest.split_at_checked(usize::try_from(of_warnings).ok()?)?;
        if body.len() as u64 != of_body {
            return None;
        }
        let age = Duration::from_millis(unix_ms.saturating_sub(at));
        let entry = Entry {
            asks: *asks,
            form: if *form == 0 { Form::Whole } else { Form::Stream },
            body: packed.slice_ref(body),
            target: std::str::from_utf8(target).ok()?.into(),
            warnings: std::str::from_utf8(warnings).ok()?.into(),
            cost: (*priced == 1).then_some(Nano(cost)),
            at: now.checked_sub(age)?,
            life: Duration::from_millis(life),
        };
        entry.is_fresh(now).then_some(entry)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_packed_is_unpacked_and_nothing_else_is() {
        tokio::time::advance(Duration::from_secs(100)).await;
        let now = Instant::now();
        let entry = Entry {
            asks: [9; 32],
            form: Form::Stream,
            body: Bytes::from_static(b"data: 1\n\n"),
            target: "up/m".into(),
            warnings: "seed (dropped)".into(),
            cost: Some(Nano(77)),
            at: now - Duration::from_secs(3),
            life: Duration::from_secs(10),
        };
        let packed = Parcel::pack(&entry, now, 1_000_000);
        let seen = Parcel::unpack(packed.clone().into(), now, 1_002_000).unwrap();
        assert_eq!(
            (seen.asks, seen.form, &seen.body, &*seen.target, &*seen.warnings),
            ([9; 32], Form::Stream, &entry.body, "up/m", "seed (dropped)")
        );
        assert_eq!((seen.cost, seen.age(now), seen.life), (entry.cost, Duration::from_secs(5), entry.life));
        assert!(Parcel::unpack(packed.clone().into(), now, 1_007_000).is_none(), "too old");
        for at in 0..packed.len() {
            let mut bent = packed.clone();
            bent[at] ^= 1;
            assert!(Parcel::unpack(bent.into(), now, 1_002_000).is_none(), "byte {at}");
            let short = packed[..at].to_vec();
            assert!(Parcel::unpack(short.into(), now, 1_002_000).is_none(), "cut at {at}");
        }
    }
}
