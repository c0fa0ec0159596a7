//! From Acme's troubles to the gateway's kinds of fault.

use serde::Deserialize;
use tollgate_plugin::{FaultKind, ProviderFault};

#[derive(Deserialize)]
struct Body {
    trouble: Trouble,
}

#[derive(Deserialize, Default)]
struct Trouble {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    detail: String,
    wait_s: Option<f64>,
}

/// Acme's words, and what they mean.
const KINDS: [(&str, FaultKind); 9] = [
    ("too_fast", FaultKind::RateLimited),
    ("too_busy", FaultKind::Overloaded),
    ("broken", FaultKind::ServerError),
    ("who_are_you", FaultKind::Credentials),
    ("no_money", FaultKind::NoCredit),
    ("no_such_engine", FaultKind::NotFound),
    ("too_long", FaultKind::ContextTooLong),
    ("forbidden_text", FaultKind::ContentFiltered),
    ("cannot_read", FaultKind::BadRequest),
];

/// What an answer with a status of 400 or more means; also one of a proxy before Acme, that does not know its words.
pub fn fault(status: u16, headers: &[(String, String)], body: &[u8]) -> ProviderFault {
    let trouble = serde_json::from_slice::<Body>(body).map(|body| body.trouble).unwrap_or_default();
    let known = KINDS.iter().find(|(word, _)| *word == trouble.kind);
    let seconds = trouble.wait_s.or_else(|| retry_after(headers)).filter(|s| s.is_finite() && *s >= 0.0);
    ProviderFault {
        kind: known.map_or_else(|| by_status(status), |(_, kind)| *kind),
        message: if trouble.detail.is_empty() { format!("Acme answers {status}") } else { trouble.detail },
        code: Some(trouble.kind).filter(|kind| !kind.is_empty()),
        retry_after_ms: seconds.map(|seconds| (seconds * 1e3) as u64),
    }
}

fn by_status(status: u16) -> FaultKind {
    match status {
        401 | 403 => FaultKind::Credentials,
        402 => FaultKind::NoCredit,
        404 => FaultKind::NotFound,
        413 => FaultKind::ContextTooLong,
        429 => FaultKind::RateLimited,
        503 | 529 => FaultKind::Overloaded,
        400..500 => FaultKind::BadRequest,
        _ => FaultKind::ServerError,
    }
}

fn retry_after(headers: &[(String, String)]) -> Option<f64> {
    let (_, value) = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("retry-after"))?;
    value.trim().parse().ok()
}
