//! What plugins answer, and the proof that an answer can be used: spans within the text, lists and texts within bounds.

use serde::{Deserialize, Serialize};
#[cfg(feature = "wasm")]
use wasmtime::component::{ComponentType, Lift};

use super::ask::{Segment, Window};

/// Findings of one call.
const MOST_FINDINGS: usize = 10_000;
/// Bytes of one text that a plugin returns.
const LONGEST_TEXT: usize = 1 << 20;
/// Labels, steps, tags, signatures of one answer.
const LONGEST_LIST: usize = 1_000;

/// What kind of request it is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct Classification {
    /// Best first.
    pub labels: Vec<Label>,
    /// Anything else that the classifier says.
    pub attributes: Vec<(String, String)>,
}

/// A class and how sure the classifier is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct Label {
    /// Name of the class.
    pub name: String,
    /// 0 to 1.
    pub score: f32,
}

/// A place in the text that a guard found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct Finding {
    /// The segment's id.
    pub segment: u32,
    /// First byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
    /// `email`, `credit-card`, `prompt-injection` …
    pub kind: String,
    /// 0 to 1.
    pub score: f32,
    /// What to put there; by default the gateway's placeholder for this kind.
    pub replacement: Option<String>,
}

/// A guard's refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct Refusal {
    /// Machine-readable.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What a guard says of a text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct Verdict {
    /// What it found, in any order.
    pub findings: Vec<Finding>,
    /// The request is refused, or the answer withheld.
    pub reject: Option<Refusal>,
}

/// What a guard says of a piece of a stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct WindowVerdict {
    /// `segment` is 0, offsets refer to the window's `text`.
    pub findings: Vec<Finding>,
    /// `text[..safe_until]` may be sent, once the findings are applied.
    #[cfg_attr(feature = "wasm", component(name = "safe-until"))]
    pub safe_until: u32,
    /// The stream ends here.
    pub reject: Option<Refusal>,
}

/// One step of a router's plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct RouteStep {
    /// `provider/model`, or an alias.
    pub target: String,
    /// Steps of the same rank are chosen among by weight.
    pub rank: u32,
    /// Share among its rank.
    pub weight: f32,
    /// Deadline of each attempt in milliseconds, above 0; the first step that has one speaks for all.
    #[cfg_attr(feature = "wasm", component(name = "timeout-ms"))]
    pub timeout_ms: Option<u32>,
    /// Further tries at the same target; the first step that has them speaks for all.
    pub retries: Option<u32>,
    /// Ask the next one too after this many milliseconds.
    #[cfg_attr(feature = "wasm", component(name = "hedge-after-ms"))]
    pub hedge_after_ms: Option<u32>,
}

/// A router's plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct RoutePlan {
    /// Whom to ask.
    pub steps: Vec<RouteStep>,
    /// Parameters to set, values as JSON text.
    pub set: Vec<(String, String)>,
    /// Tags to put on the request.
    pub tags: Vec<(String, String)>,
    /// Why, for explanations.
    pub reason: String,
}

/// A router's refusal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct RouteRefusal {
    /// HTTP status, 400 to 599.
    pub status: u16,
    /// Machine-readable.
    pub code: String,
    /// For people.
    pub message: String,
}

/// What a router says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(variant))]
#[serde(rename_all = "snake_case")]
pub enum RouteDecision {
    /// No opinion.
    #[cfg_attr(feature = "wasm", component(name = "pass"))]
    Pass,
    /// Go this way.
    #[cfg_attr(feature = "wasm", component(name = "plan"))]
    Plan(RoutePlan),
    /// Refuse the request.
    #[cfg_attr(feature = "wasm", component(name = "reject"))]
    Reject(RouteRefusal),
}

/// A function that policies may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct Signature {
    /// Its name.
    pub name: String,
    /// What it does.
    pub doc: String,
}

/// A request in a provider's language.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct Outgoing {
    /// `POST`.
    pub method: String,
    /// Below the provider's `base_url`.
    pub path: String,
    /// Headers, without credentials.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What the language cannot say, as JSON paths in the request.
    pub lost: Vec<String>,
}

/// What kind of fault a provider's answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(enum))]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
#[allow(missing_docs, reason = "their names say it")]
pub enum DialectFaultKind {
    #[cfg_attr(feature = "wasm", component(name = "rate-limited"))]
    RateLimited,
    #[cfg_attr(feature = "wasm", component(name = "overloaded"))]
    Overloaded,
    #[cfg_attr(feature = "wasm", component(name = "server-error"))]
    ServerError,
    #[cfg_attr(feature = "wasm", component(name = "credentials"))]
    Credentials,
    #[cfg_attr(feature = "wasm", component(name = "no-credit"))]
    NoCredit,
    #[cfg_attr(feature = "wasm", component(name = "not-found"))]
    NotFound,
    #[cfg_attr(feature = "wasm", component(name = "context-too-long"))]
    ContextTooLong,
    #[cfg_attr(feature = "wasm", component(name = "content-filtered"))]
    ContentFiltered,
    #[cfg_attr(feature = "wasm", component(name = "bad-request"))]
    BadRequest,
    #[cfg_attr(feature = "wasm", component(name = "malformed"))]
    Malformed,
}

/// What a provider's answer with a status of 400 or more means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "wasm", derive(ComponentType, Lift), component(record))]
pub struct DialectFault {
    /// What kind of fault.
    pub kind: DialectFaultKind,
    /// The provider's own words.
    pub message: String,
    /// The provider's own code.
    pub code: Option<String>,
    /// How long the provider wants to be left alone.
    #[cfg_attr(feature = "wasm", component(name = "retry-after-ms"))]
    pub retry_after_ms: Option<u64>,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its own name, which need not be the one in the configuration.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it is for.
    pub description: String,
    /// What has to be copied in for it.
    pub needs: Needs,
}

/// What a plugin wants to see; the rest arrives empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "their names say it")]
pub struct Needs {
    pub segments: bool,
    pub headers: bool,
    pub metadata: bool,
    pub candidates: bool,
}

impl Classification {
    /// The best label.
    pub fn top(&self) -> Option<&Label> {
        self.labels.first()
    }

    /// # Errors
    /// Says which bound is crossed.
    pub fn check(&self) -> Result<(), String> {
        list("labels", self.labels.len())?;
        for label in &self.labels {
            text("label", &label.name)?;
            score(label.score)?;
        }
        pairs("attributes", &self.attributes)
    }
}

impl Verdict {
    /// Proves that each finding lies within its segment.
    ///
    /// # Errors
    /// Says which finding does not, or which bound is crossed.
    pub fn check(&self, segments: &[Segment]) -> Result<(), String> {
        refusal(self.reject.as_ref())?;
        // Ids mostly are the segments' places, so the search is seldom needed.
        let said = |id: u32| {
            let there = usize::try_from(id).ok().and_then(|place| segments.get(place));
            there.filter(|segment| segment.id == id).or_else(|| segments.iter().find(|s| s.id == id))
        };
        findings(&self.findings, |id| said(id).map(|segment| &*segment.text))
    }
}

impl WindowVerdict {
    /// Proves that each finding, and the safe part, lie within the window.
    ///
    /// # Errors
    /// Says what does not.
    pub fn check(&self, window: &Window) -> Result<(), String> {
        refusal(self.reject.as_ref())?;
        let safe = usize::try_from(self.safe_until).unwrap_or(usize::MAX);
        if !window.text.is_char_boundary(safe) {
            return Err(format!("safe-until {safe} is not within the window, or cuts a character"));
        }
        findings(&self.findings, |id| (id == 0).then_some(&*window.text))
    }
}

impl RouteDecision {
    /// # Errors
    /// Says which bound is crossed.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Pass => Ok(()),
            Self::Plan(plan) => {
                list("steps", plan.steps.len())?;
                pairs("set", &plan.set)?;
                pairs("tags", &plan.tags)?;
                text("reason", &plan.reason)?;
                for step in &plan.steps {
                    text("target", &step.target)?;
                    if !step.weight.is_finite() || step.weight < 0.0 {
                        return Err(format!("weight {} of a step is not a share", step.weight));
                    }
                }
                Ok(())
            }
            Self::Reject(refusal) if !(400..600).contains(&refusal.status) => {
                Err(format!("status {} of a refusal is not between 400 and 599", refusal.status))
            }
            Self::Reject(refusal) => {
                text("code", &refusal.code)?;
                text("message", &refusal.message)
            }
        }
    }
}

impl Manifest {
    pub(super) fn check(&self) -> Result<(), String> {
        let fields = [("name", &self.name), ("version", &self.version), ("description", &self.description)];
        fields.into_iter().try_for_each(|(field, value)| {
            let fits = value.len() <= 4096;
            fits.then_some(()).ok_or_else(|| format!("{field} has {} bytes, at most 4096", value.len()))
        })
    }
}

/// Proves that a text that a plugin returned is within bounds.
pub(super) fn text(what: &str, value: &str) -> Result<(), String> {
    if value.len() <= LONGEST_TEXT {
        return Ok(());
    }
    Err(format!("{what} has {} bytes, at most {LONGEST_TEXT}", value.len()))
}

/// Proves that a text that a plugin returned is within bounds, and JSON.
pub(super) fn json(what: &str, value: &str) -> Result<(), String> {
    text(what, value)?;
    let read = serde_json::from_str::<serde::de::IgnoredAny>(value);
    read.map(|_| ()).map_err(|error| format!("{what} is no JSON: {error}"))
}

/// Proves that a list that a plugin returned is within bounds.
pub(super) fn list(what: &str, len: usize) -> Result<(), String> {
    if len <= LONGEST_LIST { Ok(()) } else { Err(format!("{len} {what}, at most {LONGEST_LIST}")) }
}

/// Whoever compares a score with a bar must not meet one that compares with nothing.
fn score(score: f32) -> Result<(), String> {
    if (0.0..=1.0).contains(&score) { Ok(()) } else { Err(format!("score {score} is not between 0 and 1")) }
}

fn pairs(what: &str, pairs: &[(String, String)]) -> Result<(), String> {
    list(what, pairs.len())?;
    pairs.iter().try_for_each(|(name, value)| text(what, name).and_then(|()| text(what, value)))
}

fn refusal(refusal: Option<&Refusal>) -> Result<(), String> {
    let Some(refusal) = refusal else { return Ok(()) };
    text("code", &refusal.code).and_then(|()| text("message", &refusal.message))
}

fn findings<'t>(findings: &[Finding], said: impl Fn(u32) -> Option<&'t str>) -> Result<(), String> {
    if findings.len() > MOST_FINDINGS {
        return Err(format!("{} findings, at most {MOST_FINDINGS}", findings.len()));
    }
    for (place, finding) in findings.iter().enumerate() {
        let Finding { segment, start, end, .. } = *finding;
        let Some(within) = said(segment) else {
            return Err(format!("finding {place} is in segment {segment}, which does not exist"));
        };
        let (from, to) = (usize::try_from(start), usize::try_from(end));
        let inside = start <= end
            && from.is_ok_and(|from| within.is_char_boundary(from))
            && to.is_ok_and(|to| within.is_char_boundary(to));
        if !inside {
            return Err(format!(
                "finding {place}, bytes {start} to {end} of segment {segment}, is not within its {} bytes, or cuts a \
                 character",
                within.len()
            ));
        }
        if finding.kind.is_empty() {
            return Err(format!("finding {place} has no kind"));
        }
        text("kind", &finding.kind)?;
        score(finding.score)?;
        text("replacement", finding.replacement.as_deref().unwrap_or_default())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(segment: u32, start: u32, end: u32) -> Finding {
        Finding { segment, start, end, kind: "email".into(), score: 1.0, replacement: None }
    }

    #[test]
    fn findings_must_lie_within_their_segment() {
        let segments = [Segment::user(7, "messages[0]", "zwölf"), Segment::user(9, "messages[1]", "")];
        for (found, allowed) in [
            ((7, 0, 6), true),
            ((7, 2, 4), true),
            ((7, 2, 3), false),
            ((7, 3, 4), false),
            ((7, 4, 2), false),
            ((7, 0, 7), false),
            ((7, 0, u32::MAX), false),
            ((8, 0, 0), false),
            ((9, 0, 0), true),
        ] {
            let verdict = Verdict { findings: vec![finding(found.0, found.1, found.2)], reject: None };
            assert_eq!(verdict.check(&segments).is_ok(), allowed, "{found:?}");
        }
    }

    #[test]
    fn scores_are_between_0_and_1_and_findings_have_a_kind() {
        let segments = [Segment::user(0, "", "text")];
        for (score, allowed) in [
            (0.0, true),
            (1.0, true),
            (-0.1, false),
            (1.000_1, false),
            (1e30, false),
            (f32::NAN, false),
            (f32::INFINITY, false),
        ] {
            let verdict = Verdict { findings: vec![Finding { score, ..finding(0, 0, 4) }], reject: None };
            assert_eq!(verdict.check(&segments).is_ok(), allowed, "{score}");
            let labels = vec![Label { name: "code".into(), score }];
            let classes = Classification { labels, ..Classification::default() };
            assert_eq!(classes.check().is_ok(), allowed, "{score}");
        }
        let nameless = Finding { kind: String::new(), ..finding(0, 0, 4) };
        let verdict = Verdict { findings: vec![nameless], reject: None };
        assert_eq!(verdict.check(&segments), Err("finding 0 has no kind".into()));
    }

    #[test]
    fn lists_and_texts_have_bounds() {
        let many = Verdict { findings: vec![finding(0, 0, 0); MOST_FINDINGS + 1], reject: None };
        assert!(many.check(&[Segment::user(0, "", "")]).unwrap_err().contains("10001 findings"));
        let long = Refusal { code: "x".into(), message: "y".repeat(LONGEST_TEXT + 1) };
        assert!(Verdict { findings: vec![], reject: Some(long) }.check(&[]).is_err());
        let status = RouteRefusal { status: 200, code: String::new(), message: String::new() };
        assert!(RouteDecision::Reject(status).check().is_err());
    }

    #[test]
    fn a_window_is_safe_up_to_a_whole_character() {
        let window = Window {
            choice: 0,
            channel: "content".into(),
            before: String::new(),
            text: "zwö".into(),
            last: false,
        };
        for (safe_until, allowed) in [(0, true), (2, true), (3, false), (4, true), (5, false)] {
            let verdict = WindowVerdict { safe_until, ..WindowVerdict::default() };
            assert_eq!(verdict.check(&window).is_ok(), allowed, "{safe_until}");
        }
    }
}
