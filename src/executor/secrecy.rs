//! What an attempt's request bore that nobody may read, kept out of what its provider says when something fails.

use std::borrow::Cow;

use bytes::Bytes;
use http::HeaderValue;
use memchr::memmem;

use super::Answered;
use crate::fault::Fault;
use crate::providers::{Credential, Hold, Target};
use crate::upstream::Outbound;

/// What stands in the place of a secret.
const REDACTED: &str = "[redacted]";

/// Shorter ones may be a part of other words, so only words of their own are taken for them; and those of nothing but
/// letters may be any word of an ordinary text (`none`, `EMPTY`, `ollama`).
const SHORTEST: usize = 8;

/// Still shorter ones stand in every other text.
const LEAST: usize = 4;

/// The words that stand before a secret in a header.
const SCHEMES: [&[u8]; 4] = [b"bearer ", b"basic ", b"token ", b"key "];

/// The credentials of one attempt, wherever they lie. Nothing is copied: they are looked at only where something failed.
pub(super) struct Secrets<'a> {
    target: &'a Target,
    hold: Option<&'a Hold>,
    /// What came into the request last of all.
    more: &'a [HeaderValue],
}

/// The sensitive headers of a request that are known to nobody else: tokens that were fetched for it, signatures.
pub(super) fn fetched(target: &Target, request: &Outbound) -> Vec<HeaderValue> {
    match target.vendor.credential {
        Credential::Headers => Vec::new(),
        _ => borne(request),
    }
}

/// All sensitive headers of a request.
pub(super) fn borne(request: &Outbound) -> Vec<HeaderValue> {
    request.headers.values().filter(|value| value.is_sensitive()).cloned().collect()
}

/// Whether a secret can be told from the words of a text, so that it is kept out of it.
pub fn can_be_hidden(secret: &[u8]) -> bool {
    secret.len() >= SHORTEST || secret.len() >= LEAST && !secret.iter().all(u8::is_ascii_alphabetic)
}

/// A text in which some secrets stood; `None` where none does.
pub(super) fn erased<'s>(text: &[u8], secrets: impl Iterator<Item = &'s [u8]>) -> Option<Vec<u8>> {
    let spelt = secrets.filter(|secret| can_be_hidden(secret)).flat_map(spellings);
    spelt.fold(None, |clean: Option<Vec<u8>>, secret| {
        let now = clean.as_deref().unwrap_or(text);
        let found = places(now, &secret).next().is_some();
        if found { Some(replaced(now, &secret)) } else { clean }
    })
}

/// The secret of a header's value, without its scheme.
pub(super) fn bare(value: &HeaderValue) -> &[u8] {
    let value = value.as_bytes();
    let begins =
        |scheme: &&&[u8]| value.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    let scheme = SCHEMES.iter().find(begins).map_or(0, |scheme| scheme.len());
    value.get(scheme..).unwrap_or(value).trim_ascii()
}

impl<'a> Secrets<'a> {
    /// Those of the provider and of the key in use, and `more`.
    pub(super) fn new(target: &'a Target, hold: Option<&'a Hold>, more: &'a [HeaderValue]) -> Self {
        Self { target, hold, more }
    }

    /// A fault that may repeat them, without them: in its text they are replaced, a code or a field that holds one is none.
    pub(super) fn kept_out_of(&self, mut fault: Fault) -> Fault {
        for secret in self.each().filter_map(|secret| std::str::from_utf8(secret).ok()) {
            if let Some(clean) = without(&fault.message, secret) {
                fault.message = clean.into();
            }
            let repeats =
                |said: &mut Cow<'static, str>| places(said.as_bytes(), secret.as_bytes()).next().is_some();
            fault.code.take_if(repeats);
            fault.param.take_if(repeats);
        }
        fault
    }

    /// The text of an error, without them.
    pub(super) fn kept_out_of_text(&self, text: Bytes) -> Bytes {
        erased(&text, self.each()).map_or(text, Bytes::from)
    }

    fn each(&self) -> impl Iterator<Item = &'a [u8]> {
        let of_key = self.hold.map(Hold::headers).into_iter().flat_map(|headers| headers.values());
        let all = self.target.vendor.headers.values().chain(of_key).chain(self.more);
        all.filter(|value| value.is_sensitive()).map(bare).filter(|secret| can_be_hidden(secret))
    }
}

impl Answered {
    /// What its request bore; only a stream can still fail.
    pub(super) fn bore(&mut self, secrets: Vec<HeaderValue>) {
        if let Self::Stream(live) = self {
            live.secrets = secrets;
        }
    }
}

/// A secret as it stands in a text, and as it stands in one of JSON.
fn spellings(secret: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let escaped = |with_slash: bool| {
        let mut text = Vec::with_capacity(secret.len() + 8);
        for byte in secret {
            if matches!(byte, b'"' | b'\\') || with_slash && *byte == b'/' {
                text.push(b'\\');
            }
            text.push(*byte);
        }
        (text != secret).then_some(Cow::Owned(text))
    };
    [Some(Cow::Borrowed(secret)), escaped(false), escaped(true)].into_iter().flatten()
}

/// Where a secret stands in a text.
fn places<'t>(text: &'t [u8], secret: &'t [u8]) -> impl Iterator<Item = usize> + 't {
    let is_end = |byte: Option<&u8>| byte.is_none_or(|byte| !byte.is_ascii_alphanumeric());
    memmem::find_iter(text, secret).filter(move |at| {
        let before = at.checked_sub(1).and_then(|before| text.get(before));
        secret.len() >= SHORTEST || is_end(before) && is_end(text.get(at + secret.len()))
    })
}

fn replaced(text: &[u8], secret: &[u8]) -> Vec<u8> {
    let (mut clean, mut from) = (Vec::with_capacity(text.len()), 0);
    for at in places(text, secret) {
        clean.extend_from_slice(text.get(from..at).unwrap_or_default());
        clean.extend_from_slice(REDACTED.as_bytes());
        from = at + secret.len();
    }
    clean.extend_from_slice(text.get(from..).unwrap_or_default());
    clean
}

/// A message without the secret, nor its beginning where the message was cut in the midst of it; `None` where it has
/// nothing of either.
fn without(message: &str, secret: &str) -> Option<String> {
    let (text, secret_bytes) = (message.as_bytes(), secret.as_bytes());
    let found = places(text, secret_bytes).next().is_some();
    let clean = found.then(|| String::from_utf8_lossy(&replaced(text, secret_bytes)).into_owned());
    let text = clean.as_deref().unwrap_or(message);
    let Some(head) = text.strip_suffix('…').filter(|_| secret.len() >= SHORTEST) else { return clean };
    let beginnings = secret.char_indices().map(|(at, _)| at).rev().take_while(|at| *at >= SHORTEST / 2);
    let mut beginnings = beginnings.filter_map(|at| secret.get(..at));
    match beginnings.find_map(|beginning| head.strip_suffix(beginning)) {
        Some(head) => Some(format!("{head}{REDACTED}…")),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::fault::FaultKind;
    use crate::providers::{self, QuirkSettings, Vendor};
    use crate::target::TargetName;

    fn target(header: &'static str) -> Target {
        let wire = providers::dialect("openai", &QuirkSettings::default()).unwrap();
        let mut vendor = Vendor::bare("p", wire);
        let mut value = HeaderValue::from_static(header);
        value.set_sensitive(true);
        vendor.headers.insert("authorization", value);
        vendor.headers.insert("x-plain", HeaderValue::from_static("ordinary"));
        Target::new(Arc::new(vendor), TargetName::parse("p/m").unwrap())
    }

    #[test]
    fn a_key_that_looks_like_a_word_is_in_no_text_of_a_fault() {
        for (header, message, expected) in [
            ("Bearer token-abc123", "bad token-abc123, token-abc123!", "bad [redacted], [redacted]!"),
            ("Bearer Passw0rd Local", "no `Passw0rd Local` here", "no `[redacted]` here"),
            ("internalgatewaytoken", "internalgatewaytoken", "[redacted]"),
            ("Basic dXNlcjpwYXNz", "dXNlcjpwYXNz", "[redacted]"),
            ("redacted", "redacted is no key", "[redacted] is no key"),
            ("Bearer internalgatewaytoken", "key internalgatew…", "key [redacted]…"),
            ("Bearer internalgatewaytoken", "an interval…", "an interval…"),
            ("Bearer ollama", "ollama has no ordinary model", "ollama has no ordinary model"),
            ("Bearer s3cret", "no s3cret, s3crets, `s3cret`!", "no [redacted], s3crets, `[redacted]`!"),
            ("Bearer s3cret", "no s3cr…", "no s3cr…"),
            ("Bearer k-1", "k-1 is any word", "k-1 is any word"),
        ] {
            let target = target(header);
            let fault = Fault::new(FaultKind::RateLimited, message.to_owned());
            let fault = Secrets::new(&target, None, &[]).kept_out_of(fault);
            assert_eq!(fault.message, expected, "{header}");
        }
    }

    #[test]
    fn a_code_and_a_field_that_hold_a_key_are_none() {
        let target = target("Bearer token-abc123");
        let fault = |word: &'static str| Fault::new(FaultKind::RateLimited, "slow").code(word).at(word);
        for (text, kept) in
            [(&b"client_secret=h%26ster-1"[..], Some("client_secret=[redacted]")), (b"none", None)]
        {
            let secrets = [&b"h&ster-1"[..], b"h%26ster-1", b"none"];
            let clean = erased(text, secrets.into_iter()).map(|clean| String::from_utf8(clean).unwrap());
            assert_eq!(clean.as_deref(), kept);
        }
        for (word, kept) in [("x-token-abc123", None), ("token-abc12", Some("token-abc12"))] {
            let fault = Secrets::new(&target, None, &[]).kept_out_of(fault(word));
            assert_eq!((fault.code.as_deref(), fault.param.as_deref()), (kept, kept));
        }
    }

    #[test]
    fn bodies_are_cleaned_however_json_spells_a_key() {
        let more = [HeaderValue::from_static("Bearer a/b\"c/defgh")];
        let more = more.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        let target = target("Bearer token-abc123");
        let secrets = Secrets::new(&target, None, &more);
        for (text, expected) in [
            (r#"{"a":"token-abc123","b":"a/b\"c/defgh"}"#, r#"{"a":"[redacted]","b":"[redacted]"}"#),
            (r#"{"b":"a\/b\"c\/defgh"}"#, r#"{"b":"[redacted]"}"#),
            ("a/b\"c/defgh", "[redacted]"),
            ("nothing of it", "nothing of it"),
        ] {
            assert_eq!(secrets.kept_out_of_text(Bytes::from_static(text.as_bytes())), expected, "{text}");
        }
    }
}
