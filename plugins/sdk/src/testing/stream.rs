//! A streamed answer as the gateway shows it to a guard: piece by piece, with what is held back.

use crate::{Finding, Guard, testing};

/// How much of what was sent the host shows again, in bytes.
const CONTEXT: usize = 256;

/// Puts `[KIND]`, or the guard's own replacement, where something was found. Findings may overlap: the first wins.
#[must_use]
pub fn redact(text: &str, findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| (finding.start, std::cmp::Reverse(finding.end)));
    let mut out = String::new();
    let mut at = 0;
    for finding in sorted {
        let (start, end) = (finding.start as usize, finding.end as usize);
        if start < at {
            continue;
        }
        out.push_str(text.get(at..start).unwrap_or_default());
        let placeholder = || format!("[{}]", finding.kind.to_uppercase().replace('-', "_"));
        out.push_str(&finding.replacement.clone().unwrap_or_else(placeholder));
        at = end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

/// Streams a text in these pieces through a guard, and gives what a client would have received, with the most bytes
/// that were held back after any piece.
///
/// # Panics
/// Where the guard fails, or marks a place that is none.
pub fn stream<G: Guard>(guard: &G, pieces: &[&str]) -> (String, usize) {
    let mut sent_raw = String::new();
    let mut out = String::new();
    let mut held = String::new();
    let mut most = 0;
    for (number, piece) in pieces.iter().enumerate() {
        held.push_str(piece);
        let last = number + 1 == pieces.len();
        let window = testing::window(tail(&sent_raw), &held, last);
        let verdict = match guard.inspect_window(&testing::context(), &window) {
            Ok(verdict) => verdict,
            Err(failure) => panic!("the guard fails: {failure:?}"),
        };
        let mut safe = if last { held.len() } else { (verdict.safe_until as usize).min(held.len()) };
        for finding in &verdict.findings {
            let (start, end) = (finding.start as usize, finding.end as usize);
            assert!(held.get(start..end).is_some(), "a finding outside the window: {finding:?} of {held:?}");
            if start < safe && safe < end {
                safe = start;
            }
        }
        assert!(held.is_char_boundary(safe), "safe_until {safe} is within a character of {held:?}");
        let done: Vec<Finding> =
            verdict.findings.iter().filter(|finding| finding.end as usize <= safe).cloned().collect();
        out.push_str(&redact(&held[..safe], &done));
        sent_raw.push_str(&held[..safe]);
        held.drain(..safe);
        most = most.max(held.len());
    }
    (out, most)
}

/// The end of what was sent, at a character's boundary.
fn tail(sent: &str) -> &str {
    let mut start = sent.len().saturating_sub(CONTEXT);
    while !sent.is_char_boundary(start) {
        start += 1;
    }
    &sent[start..]
}
