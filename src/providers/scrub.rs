//! What of an upstream's error text may be shown to a client: no markup, no keys, no addresses, not too much.

use std::borrow::Cow;

use super::addresses::hidden;

/// Longest text shown to a client, in characters.
pub(super) const LONGEST: usize = 512;

/// The text with everything taken out that could be a secret or an address, on one line, at most `LONGEST`
/// characters. `None` when nothing presentable is left: empty, or markup.
pub fn scrub(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || is_markup(text) {
        return None;
    }
    let mut clean = String::with_capacity(text.len().min(LONGEST));
    let mut next = Next::Ordinary;
    // Only so much is looked at as can be shown: an error text may be as long as the whole prompt.
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if clean.len() > LONGEST * 4 {
            break;
        }
        if !clean.is_empty() {
            clean.push(' ');
        }
        let scheme = scheme(word);
        next = match (next, scheme) {
            // `Authorization: Bearer …`: the secret comes after that.
            (Next::Secret, Some(_)) => {
                clean.push_str(word);
                Next::Secret
            }
            (Next::Secret, None) => {
                clean.push_str(REDACTED);
                Next::Ordinary
            }
            (Next::Encoded, _) if is_encoded(word) => {
                clean.push_str(REDACTED);
                Next::Ordinary
            }
            (Next::Ordinary | Next::Encoded, _) => match credential_in(word) {
                Some((head, next)) => {
                    clean.push_str(head);
                    clean.push_str(if next == Next::Ordinary { REDACTED } else { "" });
                    next
                }
                None => {
                    clean.push_str(&word_without_secrets(word));
                    scheme.unwrap_or(Next::Ordinary)
                }
            },
        };
    }
    let clean = cut(&clean);
    (!clean.is_empty()).then(|| clean.into_owned())
}

/// Whether nothing has to be taken out of a text.
pub(super) fn is_clean(text: &str) -> bool {
    scrub(text).as_deref() == Some(text)
}

/// What stands in the place of a secret.
const REDACTED: &str = "[redacted]";

/// What the words before say of the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Ordinary,
    /// It is a secret.
    Secret,
    /// It is one if it looks encoded: people speak of basic plans, too.
    Encoded,
}

/// What follows the name of a scheme of authorisation.
fn scheme(word: &str) -> Option<Next> {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    match () {
        () if word.eq_ignore_ascii_case("bearer") => Some(Next::Secret),
        () if word.eq_ignore_ascii_case("basic") => Some(Next::Encoded),
        () => None,
    }
}

/// Headers whose values are credentials.
const CREDENTIALS: &[&str] =
    &["authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "x-auth-token"];

/// Where a word holds the name of such a header and what parts it from its value: the word up to there, or all of it
/// where the value is still to come.
fn credential_in(word: &str) -> Option<(&str, Next)> {
    word.match_indices([':', '=']).find_map(|(at, _)| {
        let name = word.get(..at)?.trim_end_matches(['"', '\'', '`', '\\']);
        let name = name.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '-').next()?;
        if !CREDENTIALS.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return None;
        }
        let (head, value) = word.split_at_checked(at + 1)?;
        match value.trim_matches(|c: char| !c.is_ascii_alphanumeric()) {
            "" => Some((word, Next::Secret)),
            value if scheme(value).is_some() => Some((word, Next::Secret)),
            _ => Some((head, Next::Ordinary)),
        }
    })
}

/// What base64 makes of a name and a password.
fn is_encoded(word: &str) -> bool {
    let word = word.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '=');
    let mixed =
        word.chars().any(|c| c.is_ascii_lowercase()) && word.chars().skip(1).any(|c| c.is_ascii_uppercase());
    let has = |wanted: fn(char) -> bool| word.chars().any(wanted);
    word.len() >= 8
        && word.chars().all(|c| c.is_ascii_alphanumeric() || "+/=-_".contains(c))
        && (mixed || has(|c| c.is_ascii_digit()) || has(|c| c == '='))
}

fn is_markup(text: &str) -> bool {
    let head: String = text.chars().take(256).collect::<String>().to_ascii_lowercase();
    head.starts_with("<!doctype")
        || head.starts_with("<html")
        || head.starts_with("<?xml")
        || (head.starts_with('<') && text.contains("</"))
        || head.contains("<html")
        || head.contains("<body")
}

fn word_without_secrets(word: &str) -> String {
    if word.contains("://") || word.starts_with("www.") || word.contains("mailto:") {
        let head: String = word.chars().take_while(|c| !c.is_ascii_alphanumeric()).collect();
        let tail = word.chars().next_back().filter(|c| matches!(c, '.' | ',' | ')' | ';' | '!' | '?'));
        return format!("{head}[url]{}", tail.map(String::from).unwrap_or_default());
    }
    let word = hidden(word);
    // Quotes, brackets and the like part a word, so that `key=sk-…,` is seen as a key with something around it.
    let mut out = String::with_capacity(word.len());
    let mut piece = String::new();
    for c in word.chars() {
        if c.is_alphanumeric() || "-_*+/.%~".contains(c) {
            piece.push(c);
            continue;
        }
        close(&mut piece, &mut out);
        if !is_invisible(c) {
            out.push(c);
        }
    }
    close(&mut piece, &mut out);
    out
}

fn close(piece: &mut String, out: &mut String) {
    if is_secret(piece) {
        out.push_str(REDACTED);
        // The full stop that ends a sentence is no part of the key.
        if piece.ends_with('.') {
            out.push('.');
        }
    } else {
        out.push_str(piece);
    }
    piece.clear();
}

/// Prefixes of the keys and account ids that vendors give out.
const PREFIXES: &[&str] = &[
    "sk-",
    "sk_",
    "pk-",
    "rk-",
    "gsk_",
    "xai-",
    "hf_",
    "aiza",
    "ya29.",
    "nvapi-",
    "pplx-",
    "csk-",
    "fw_",
    "tgp_",
    "r8_",
    "ghp_",
    "gho_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "eyj",
    "org-",
    "org_",
    "proj_",
    "proj-",
    "acct_",
    "user_",
    "user-",
    "key-",
    "key_",
    "key=",
];

fn is_secret(piece: &str) -> bool {
    let lower = piece.to_ascii_lowercase();
    // `user-provided` is a word, `user-3fA9…` an account.
    let telling = piece.len() >= 10 && piece.bytes().any(|b| b.is_ascii_digit());
    if PREFIXES.iter().any(|prefix| lower.starts_with(prefix)) && (telling || lower.starts_with("sk-")) {
        return true;
    }
    if piece.contains("***") {
        return true;
    }
    // A long run of letters and digits mixed is a token; a model's name has its parts apart.
    piece.split(['-', '_', '.', '/', '~', '%', '+', '*']).any(|run| {
        let digits = run.bytes().filter(u8::is_ascii_digit).count();
        run.len() >= 20 && digits >= 2 && digits < run.len() || run.len() >= 32 && digits > 0
    })
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        None => Cow::Borrowed(text),
        Some(_) => {
            let end = text.char_indices().nth(LONGEST - 1).map_or(text.len(), |(at, _)| at);
            Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default().trim_end()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_not_leave_stays() {
        for (text, expected) in [
            ("max_tokens must be at least 1, got -186.", Some("max_tokens must be at least 1, got -186.")),
            ("Invalid key sk-abc123.", Some("Invalid key [redacted].")),
            ("key='gsk_0123456789abcdef' is bad", Some("key='[redacted]' is bad")),
            ("Authorization: Bearer abcdef", Some("Authorization: Bearer [redacted]")),
            ("see https://docs.example.com/x?key=1.", Some("see [url].")),
            (
                "limit for org-AbCdEf0123456789 on model meta-llama/Llama-3.3-70B-Instruct-Turbo",
                Some("limit for [redacted] on model meta-llama/Llama-3.3-70B-Instruct-Turbo"),
            ),
            ("key test_ope*******_key", Some("key [redacted]")),
            ("token d41d8cd98f00b204e9800998ecf8427e", Some("token [redacted]")),
            (
                "the model `gpt-4o-mini-2024-07-18` is gone",
                Some("the model `gpt-4o-mini-2024-07-18` is gone"),
            ),
            ("line one\nline\u{0} two\r\n", Some("line one line two")),
            ("right\u{202e}tfel", Some("righttfel")),
            ("<html><body>502</body></html>", None),
            ("  <!DOCTYPE html><p>", None),
            (
                "a user-provided key-value in asia-southeast1",
                Some("a user-provided key-value in asia-southeast1"),
            ),
            ("access AKIA0123456789ABCDEF", Some("access [redacted]")),
            (
                "x-api-key: hunter22 authorization: Basic dXNlcjpwYXNz",
                Some("x-api-key: [redacted] authorization: Basic [redacted]"),
            ),
            ("{'X-Api-Key': 'hunter22', 'n': 1}", Some("{'X-Api-Key': [redacted] 'n': 1}")),
            (r#"{"authorization":"secret","n":1}"#, Some(r#"{"authorization":[redacted]"#)),
            ("api-key=hunter22", Some("api-key=[redacted]")),
            ("Basic dXNlcjpwYXNz is wrong", Some("Basic [redacted] is wrong")),
            (
                "Basic plans have no Basic authentication and no header x-api-key",
                Some("Basic plans have no Basic authentication and no header x-api-key"),
            ),
            (
                "dial tcp 10.1.2.3:8000: connect: connection refused",
                Some("dial tcp [address]: connect: connection refused"),
            ),
            ("  ", None),
        ] {
            assert_eq!(scrub(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let text = scrub(&"ä b ".repeat(100_000)).unwrap();
        assert!(text.chars().count() <= LONGEST && text.ends_with('…'), "{text}");
    }
}
