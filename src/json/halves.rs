//! Halves of characters: a server that streams UTF-16 may cut between the two escapes of a surrogate pair, and leaves
//! JSON on both sides that no strict parser reads.

/// What stands for a half that stays alone.
const GONE: &str = "\\ufffd";

/// Joins halves that stand in two JSON texts, one after the other.
#[derive(Debug, Default)]
pub struct Halves {
    /// The escape of a first half, until the second one comes.
    held: Option<String>,
}

enum Half {
    First,
    Second,
}

impl Halves {
    /// The JSON text of bytes that no strict parser reads: with whole characters alone, and with U+FFFD for what is no UTF-8.
    pub fn mend(&mut self, json: &[u8]) -> String {
        let text = String::from_utf8_lossy(json);
        self.join(&text).unwrap_or_else(|| text.into_owned())
    }

    /// The JSON text with whole characters alone; `None` where there are no halves in it. A first half at the end of a
    /// string waits for the second one at the beginning of a string in a later text; others become U+FFFD.
    pub fn join(&mut self, json: &str) -> Option<String> {
        let (mut out, mut run, mut at) = (String::new(), 0, 0);
        while let Some(found) = memchr::memchr(b'\\', json.as_bytes().get(at..).unwrap_or_default()) {
            let escape = at + found;
            let Some(half) = half(json, escape) else {
                at = escape + 2;
                continue;
            };
            let end = escape + 6;
            let first = matches!(half, Half::First);
            if first && matches!(self::half(json, end), Some(Half::Second)) {
                at = end + 6;
                continue;
            }
            let quote = |at: Option<usize>| at.and_then(|at| json.as_bytes().get(at)) == Some(&b'"');
            out.push_str(json.get(run..escape).unwrap_or_default());
            if first && quote(Some(end)) {
                self.held = json.get(escape..end).map(str::to_owned);
            } else if first {
                out.push_str(GONE);
            } else {
                // A quote that is itself escaped begins no string.
                let begins = found > 0 && quote(escape.checked_sub(1));
                match self.held.take().filter(|_| begins) {
                    Some(held) => {
                        out.push_str(&held);
                        out.push_str(json.get(escape..end).unwrap_or_default());
                    }
                    None => out.push_str(GONE),
                }
            }
            (run, at) = (end, end);
        }
        if run == 0 {
            return None;
        }
        out.push_str(json.get(run..).unwrap_or_default());
        Some(out)
    }
}

/// The half that is escaped at this place, if any.
fn half(json: &str, at: usize) -> Option<Half> {
    let digits = json.get(at..at + 6)?.strip_prefix("\\u")?;
    let code = digits.bytes().try_fold(0, |code, digit| Some(code << 4 | char::from(digit).to_digit(16)?))?;
    match code {
        0xd800..=0xdbff => Some(Half::First),
        0xdc00..=0xdfff => Some(Half::Second),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::Halves;

    fn check(texts: &[&str], expected: &[Option<&str>]) {
        let mut halves = Halves::default();
        let joined: Vec<Option<String>> = texts.iter().map(|text| halves.join(text)).collect();
        assert_eq!(joined.iter().map(Option::as_deref).collect::<Vec<_>>(), expected, "{texts:?}");
    }

    #[test]
    fn halves_in_two_texts_become_one_character() {
        check(
            &[r#"{"a":"x\ud83d"}"#, r#"{"a":"\ude00y"}"#],
            &[Some(r#"{"a":"x"}"#), Some(r#"{"a":"\ud83d\ude00y"}"#)],
        );
        // Something may stand between them.
        check(
            &[r#"["\uD83D"]"#, r#"["z"]"#, r#"["\n\ud83d\ude01"]"#, r#"["\uDE00"]"#],
            &[Some(r#"[""]"#), None, None, Some(r#"["\uD83D\uDE00"]"#)],
        );
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced_too() {
        let mut halves = Halves::default();
        assert_eq!(halves.mend(b"\"a\xff\\ud83d\""), "\"a\u{fffd}\"");
        assert_eq!(halves.mend(b"\"\\ude00\xc3\""), "\"\\ud83d\\ude00\u{fffd}\"");
        assert_eq!(halves.mend(b"\"whole\""), "\"whole\"");
    }

    #[test]
    fn halves_that_stay_alone_are_replaced() {
        check(&[r#"["a\ud83d b"]"#], &[Some(r#"["a\ufffd b"]"#)]);
        check(&[r#"["\ude00"]"#], &[Some(r#"["\ufffd"]"#)]);
        check(&[r#"["\ud83d"]"#, r#"["a\ude00"]"#], &[Some(r#"[""]"#), Some(r#"["a\ufffd"]"#)]);
        check(&[r#"["\ud83d"]"#, r#"["\"\ude00"]"#], &[Some(r#"[""]"#), Some(r#"["\"\ufffd"]"#)]);
        check(&[r#"["\ud83d\ud83d\ude00"]"#], &[Some(r#"["\ufffd\ud83d\ude00"]"#)]);
    }

    #[test]
    fn what_is_whole_stays_as_it_is() {
        for text in [
            r#"{"a":"\ud83d\ude00"}"#,
            r#"["\\ud83d"]"#,
            r#"["\u00e9 \u20ac"]"#,
            "[]",
            "\\",
            r"\ud8",
            r#""\u+123""#,
        ] {
            check(&[text], &[None]);
        }
    }
}
