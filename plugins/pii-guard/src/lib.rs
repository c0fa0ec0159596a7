//! A guard that finds personal data and secrets: e-mail addresses, telephone numbers, payment cards, IBANs, US social
//! security numbers, IPv4 addresses, API keys, private keys, and what its configuration adds.
//!
//! All patterns are one automaton, so that a text is read once however many there are. A stream is held back only from
//! the first place where one of them could still grow, and what comes of a stream is what comes of its whole text.

mod checksum;
mod config;
mod kinds;
mod scan;

use tollgate_plugin::prelude::*;

use config::{Action, Config};
use scan::Scanner;

/// The guard: its patterns, compiled.
#[derive(Debug)]
pub struct PiiGuard {
    scanner: Scanner,
    action: Action,
    responses: bool,
}

impl Plugin for PiiGuard {
    type Config = Config;
    const NEEDS: Needs = Needs::SEGMENTS;

    fn new(config: Config) -> Result<Self, String> {
        let scanner = Scanner::new(&config)?;
        scanner.warm();
        Ok(PiiGuard { scanner, action: config.action, responses: config.responses })
    }
}

impl Guard for PiiGuard {
    fn inspect(&self, phase: Phase, _: &RequestContext, segments: &[Segment]) -> Result<Verdict, Failure> {
        let mut findings = Vec::new();
        if phase == Phase::Request || self.responses {
            for segment in segments {
                self.scanner.scan(&segment.text, |place| findings.push(place.finding(segment.id)));
            }
        }
        Ok(Verdict { reject: self.rejection(&findings), findings })
    }

    fn inspect_window(&self, _: &RequestContext, window: &Window) -> Result<WindowVerdict, Failure> {
        if !self.responses {
            return Ok(WindowVerdict {
                findings: Vec::new(),
                safe_until: length(&window.text),
                reject: None,
            });
        }
        let (places, safe) = self.scanner.scan_window(&window.before, &window.text, window.last);
        let findings: Vec<Finding> = places.iter().map(|place| place.finding(0)).collect();
        let safe_until = u32::try_from(safe).unwrap_or(u32::MAX);
        Ok(WindowVerdict { reject: self.rejection(&findings), findings, safe_until })
    }
}

impl SelfTest for PiiGuard {
    /// Everything that the configuration asks for is found in its own example.
    fn self_test(&self) -> Result<(), String> {
        for (kind, example) in self.scanner.examples() {
            let mut found = false;
            self.scanner.scan(example, |place| found |= place.kind == kind);
            if !found {
                return Err(format!("kind {kind}: its example is not found"));
            }
        }
        Ok(())
    }
}

impl PiiGuard {
    /// With `action: reject`, a refusal that names the kinds, never the text.
    fn rejection(&self, findings: &[Finding]) -> Option<Rejection> {
        let Action::Reject = self.action else { return None };
        let mut kinds: Vec<&str> = findings.iter().map(|finding| finding.kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let message = format!("remove what looks like {} from the text", kinds.join(", "));
        (!kinds.is_empty()).then(|| Rejection { code: "personal_data".to_owned(), message })
    }
}

fn length(text: &str) -> u32 {
    u32::try_from(text.len()).unwrap_or(u32::MAX)
}

tollgate_plugin::export!(PiiGuard: guard, self_test);

#[cfg(test)]
mod tests;
