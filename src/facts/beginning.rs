//! The beginning of a prompt: requests that share it find a provider's prompt cache warm where one of them went before.

use super::Body;

/// How much of the text is its beginning, in bytes.
const BEGINNING: usize = 1 << 10;

/// A hash of the system prompt and of the first kilobyte of the text, the same in every process; `None` without text.
pub fn beginning(body: &dyn Body) -> Option<u64> {
    let (system, text) = (body.system(), body.text());
    if text.is_empty() && system.is_empty() {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(system.len() as u64).to_le_bytes());
    hasher.update(system.as_bytes());
    hasher.update(text.as_bytes().get(..BEGINNING).unwrap_or(text.as_bytes()));
    let [a, b, c, d, e, f, g, h, ..] = *hasher.finalize().as_bytes();
    Some(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Said(&'static str, String);

    impl Body for Said {
        fn tokens(&self) -> u64 {
            0
        }
        fn messages(&self) -> u64 {
            1
        }
        fn text(&self) -> &str {
            &self.1
        }
        fn system(&self) -> &str {
            self.0
        }
        fn last_user(&self) -> &str {
            ""
        }
        fn user(&self) -> Option<&str> {
            None
        }
        fn field(&self, _: &str) -> Option<&str> {
            None
        }
    }

    #[test]
    fn what_begins_alike_is_alike_whatever_comes_later() {
        let of = |system, text: String| beginning(&Said(system, text));
        let long = |end: &str| "x".repeat(BEGINNING) + end;
        assert_eq!(of("s", long("a")), of("s", long("b")));
        assert_ne!(of("s", long("")), of("t", long("")));
        assert_ne!(of("s", "a".into()), of("s", "b".into()));
        assert_ne!(of("sa", "b".into()), of("s", "ab".into()));
        assert_eq!(of("", String::new()), None);
    }
}
