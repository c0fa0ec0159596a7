//! Addresses of machines in the words of an error text: where a provider runs inside is nobody's business.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What stands in the place of an address.
const HIDDEN: &str = "[address]";

/// Ends of names that mean something inside a house only.
const INSIDE: &[&str] =
    &["local", "internal", "corp", "lan", "svc", "intranet", "localdomain", "consul", "home"];

/// A word with the addresses in it hidden: of IP with or without a port, names with a port, and names that are known
/// inside a house only. What has a scheme is not looked for.
pub(super) fn hidden(word: &str) -> Cow<'_, str> {
    // All that is an address has one of these.
    if !word.contains(['.', ':']) {
        return Cow::Borrowed(word);
    }
    let mut out = String::new();
    let mut rest = word;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        run_into(run, &mut out);
        let next = after.find(is_part).unwrap_or(after.len());
        let (between, after) = after.split_at(next);
        out.push_str(between);
        rest = after;
    }
    Cow::Owned(out)
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_')
}

fn run_into(run: &str, out: &mut String) {
    let bare = if is_address(run) { run } else { run.trim_end_matches(['.', ':']) };
    let end = run.get(bare.len()..).unwrap_or_default();
    if is_address(bare) {
        out.push_str(HIDDEN);
    } else {
        for (at, part) in bare.split(':').enumerate() {
            out.push_str(if at > 0 { ":" } else { "" });
            let hides = part.parse::<Ipv4Addr>().is_ok() || is_inside(part);
            out.push_str(if hides { HIDDEN } else { part });
        }
    }
    out.push_str(end);
}

fn is_address(run: &str) -> bool {
    match run.parse::<IpAddr>() {
        // `a::b` is a path in many a language.
        Ok(IpAddr::V6(_)) => run.bytes().any(|b| b.is_ascii_digit()),
        Ok(IpAddr::V4(_)) => true,
        Err(_) => run.parse::<SocketAddr>().is_ok() || is_inside(run) || has_port(run),
    }
}

/// Whether it is a name with a port. Much else has a colon: `gpt-4o:free`, `12:30`, `max_tokens:4096`, `v1:0`.
fn has_port(run: &str) -> bool {
    let Some((host, port)) = run.split_once(':') else { return false };
    let is_port = port.len() >= 2
        && !port.starts_with('0')
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok();
    if !is_port || !is_host(host) {
        return false;
    }
    let end = host.rsplit('.').next().unwrap_or_default();
    let is_name = host.contains('.') && end.len() >= 2 && end.bytes().all(|b| b.is_ascii_alphabetic());
    // A name without a domain looks like any word; of a machine, it usually has a number.
    let is_machine = port.len() >= 4 && host.bytes().any(|b| b.is_ascii_digit() || b == b'-');
    is_name || is_machine || host.eq_ignore_ascii_case("localhost")
}

fn is_inside(name: &str) -> bool {
    let mut labels = name.rsplit('.');
    let end = labels.next().unwrap_or_default().to_ascii_lowercase();
    let below = name.len() > end.len();
    below
        && is_host(name)
        && (INSIDE.contains(&&*end) || labels.any(|label| label.eq_ignore_ascii_case("svc")))
}

fn is_host(name: &str) -> bool {
    name.bytes().any(|b| b.is_ascii_alphabetic())
        && name
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hidden_and_nothing_else() {
        for (word, expected) in [
            ("10.1.2.3:8000:", "[address]:"),
            ("10.1.2.3", "[address]"),
            ("(10.1.2.3).", "([address])."),
            ("tcp:10.1.2.3:80", "tcp:[address]:80"),
            ("fe80::1", "[address]"),
            ("[::1]:8000", "[[address]]:8000"),
            ("vllm-7.internal.corp:8000", "[address]"),
            ("host='vllm.prod.svc.cluster.local',", "host='[address]',"),
            ("vllm.prod.svc", "[address]"),
            ("vllm.prod.svc.cluster:80", "[address]"),
            ("api.example.com:8443/v1", "[address]/v1"),
            ("localhost:11434", "[address]"),
            ("vllm-7:8000", "[address]"),
            ("host:vllm.corp:8000", "host:[address]:8000"),
        ] {
            assert_eq!(hidden(word), expected, "{word}");
        }
        for word in [
            "3.5.1",
            "12:30",
            "12:30:45",
            "2024-01-01T12:30:45Z",
            "gpt-4o:free",
            "llama3.1:70b",
            "e.g.",
            "i.e.:",
            "anthropic.claude-3-5-sonnet-20241022-v2:0",
            "amazon.titan-text-v1:0:8k",
            "messages.0.content",
            "max_tokens:4096",
            "limit:10000",
            "api.openai.com",
            "claude-3.5",
            "std::fmt",
            "a::b",
            "local.",
            "$.x",
            "internal",
            "0.95",
            "role:user",
            "gpt-3.5-turbo-16k:",
            "...",
            "::",
            "örtlich.de:x",
            "1:2",
            "n:128",
        ] {
            assert_eq!(hidden(word), word);
        }
    }
}
