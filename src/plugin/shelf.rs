//! Small values that plugins keep between calls: one shelf for each plugin, in memory, outliving reloads.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Bytes of keys and values on one shelf.
const MOST_BYTES: usize = 1 << 20;
/// Keys on one shelf.
const MOST_KEYS: usize = 10_000;
/// Bytes of one key.
const LONGEST_KEY: usize = 512;
/// Bytes of one value.
const LARGEST_VALUE: usize = 64 << 10;

/// The values of one plugin.
#[derive(Debug, Default)]
pub struct Shelf(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    values: HashMap<String, Value>,
    bytes: usize,
}

#[derive(Debug)]
struct Value {
    bytes: Vec<u8>,
    /// Unix milliseconds from which it is gone.
    until: Option<u64>,
}

/// Why a value cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The key or the value itself is too large.
    TooLarge,
    /// There is no room beside the others.
    Quota,
}

impl Shelf {
    /// The value of this key at this time.
    pub fn get(&self, key: &str, now: u64) -> Option<Vec<u8>> {
        self.with(|kept| kept.live(key, now).map(|value| value.bytes.clone()))
    }

    /// Keeps a value for this many milliseconds, or for good.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn set(&self, key: &str, bytes: Vec<u8>, ttl_ms: Option<u64>, now: u64) -> Result<(), Full> {
        self.with(|kept| kept.put(key, bytes, ttl_ms.map(|ttl| now.saturating_add(ttl)), now))
    }

    /// Forgets a value.
    pub fn delete(&self, key: &str) {
        self.with(|kept| kept.take(key));
    }

    /// Adds to a number, which begins at 0 and then lives this many milliseconds. What is no number counts as 0.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn increment(&self, key: &str, by: i64, ttl_ms: Option<u64>, now: u64) -> Result<i64, Full> {
        self.with(|kept| {
            let before = kept.live(key, now);
            let until = match before {
                Some(value) => value.until,
                None => ttl_ms.map(|ttl| now.saturating_add(ttl)),
            };
            let number = before
                .and_then(|value| std::str::from_utf8(&value.bytes).ok()?.parse::<i64>().ok())
                .unwrap_or_default();
            let sum = number.saturating_add(by);
            kept.put(key, sum.to_string().into_bytes(), until, now).map(|()| sum)
        })
    }

    fn with<T>(&self, f: impl FnOnce(&mut Kept) -> T) -> T {
        // Nothing panics between a change of the values and of their sum, so a poisoned shelf is still in order.
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Kept {
    fn live(&self, key: &str, now: u64) -> Option<&Value> {
        self.values.get(key).filter(|value| value.until.is_none_or(|until| until > now))
    }

    fn put(&mut self, key: &str, bytes: Vec<u8>, until: Option<u64>, now: u64) -> Result<(), Full> {
        if key.len() > LONGEST_KEY || bytes.len() > LARGEST_VALUE {
            return Err(Full::TooLarge);
        }
        let size = key.len() + bytes.len();
        let freed = self.values.get(key).map_or(0, |old| key.len() + old.bytes.len());
        let full = |kept: &Self| {
            let keys = kept.values.len() + usize::from(freed == 0 && !kept.values.contains_key(key));
            keys > MOST_KEYS || kept.bytes - freed + size > MOST_BYTES
        };
        if full(self) {
            // What has expired is swept out only when the room is needed.
            let gone = |value: &Value| value.until.is_some_and(|until| until <= now);
            let mut bytes = self.bytes;
            self.values.retain(|name, value| {
                let stays = !gone(value) || name == key;
                bytes -= if stays { 0 } else { name.len() + value.bytes.len() };
                stays
            });
            self.bytes = bytes;
            if full(self) {
                return Err(Full::Quota);
            }
        }
        self.bytes = self.bytes - freed + size;
        self.values.insert(key.to_owned(), Value { bytes, until });
        Ok(())
    }

    fn take(&mut self, key: &str) {
        if let Some(value) = self.values.remove(key) {
            self.bytes -= key.len() + value.bytes.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_live_as_long_as_they_were_told() {
        let shelf = Shelf::default();
        shelf.set("a", b"1".to_vec(), Some(10), 100).unwrap();
        assert_eq!(shelf.get("a", 109).as_deref(), Some(b"1".as_slice()));
        assert_eq!(shelf.get("a", 110), None);
        shelf.set("b", b"2".to_vec(), None, 0).unwrap();
        assert_eq!(shelf.get("b", u64::MAX).as_deref(), Some(b"2".as_slice()));
        shelf.delete("b");
        assert_eq!(shelf.get("b", 0), None);
    }

    #[test]
    fn counters_keep_the_time_to_live_of_their_first_step() {
        let shelf = Shelf::default();
        for (by, now, sum) in [(1, 0, 1), (5, 9, 6), (1, 10, 1), (-3, 11, -2)] {
            assert_eq!(shelf.increment("n", by, Some(10), now), Ok(sum), "at {now}");
        }
        assert_eq!(shelf.increment("m", i64::MAX, None, 0), Ok(i64::MAX));
        assert_eq!(shelf.increment("m", 1, None, 0), Ok(i64::MAX));
    }

    #[test]
    fn a_shelf_has_an_end() {
        let shelf = Shelf::default();
        assert_eq!(shelf.set("a", vec![0; LARGEST_VALUE + 1], None, 0), Err(Full::TooLarge));
        assert_eq!(shelf.set(&"k".repeat(LONGEST_KEY + 1), Vec::new(), None, 0), Err(Full::TooLarge));
        for n in 0..15 {
            shelf.set(&n.to_string(), vec![0; LARGEST_VALUE], Some(50), 0).unwrap();
        }
        assert_eq!(shelf.set("more", vec![0; LARGEST_VALUE], None, 0), Err(Full::Quota));
        assert_eq!(shelf.set("0", vec![1; LARGEST_VALUE], Some(50), 0), Ok(()), "in place of the old one");
        assert_eq!(
            shelf.set("more", vec![0; LARGEST_VALUE], None, 50),
            Ok(()),
            "once the others have expired"
        );
        let keys = Shelf::default();
        for n in 0..MOST_KEYS {
            keys.set(&n.to_string(), Vec::new(), None, 0).unwrap();
        }
        assert_eq!(keys.increment("more", 1, None, 0), Err(Full::Quota));
        keys.delete("0");
        assert_eq!(keys.increment("more", 1, None, 0), Ok(1));
    }
}
