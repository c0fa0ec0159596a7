//! Asks a plugin what a case asks, and makes JSON of the answer, so that it can be compared.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::cases::Case;
use crate::plugin::{Called, Finding, Plugin, RouteDecision, Window};

/// How much of what was sent a guard sees again, in bytes.
const CONTEXT: usize = 256;

/// The answer to a case; a failure is an answer with the one field `fails`.
pub(super) async fn ask(plugin: &Arc<Plugin>, case: &Case) -> Value {
    let answer = answer(plugin, case).await;
    answer.unwrap_or_else(|fault| fault)
}

async fn answer(plugin: &Arc<Plugin>, case: &Case) -> Result<Value, Value> {
    if let Some(text) = &case.classify {
        let answer = told(plugin.classify(case.context.ask(Some(text))).await)?;
        let best = answer.labels.first();
        let scores: Map<_, _> =
            answer.labels.iter().map(|label| (label.name.clone(), label.score.into())).collect();
        return Ok(json!({
            "top": best.map(|label| &label.name),
            "score": best.map(|label| label.score),
            "labels": scores,
            "attributes": pairs(&answer.attributes),
        }));
    }
    if let Some(text) = &case.inspect {
        let asked = case.context.ask(Some(text));
        let verdict = told(plugin.inspect(case.phase.phase(), Arc::clone(&asked)).await)?;
        let texts = asked.segments.iter().map(|segment| (segment.id, segment.text.as_ref()));
        let redacted: Vec<String> = texts
            .clone()
            .map(|(id, text)| redact(text, verdict.findings.iter().filter(|finding| finding.segment == id)))
            .collect();
        let found = verdict.findings.iter().map(|finding| {
            let text = texts.clone().find(|(id, _)| *id == finding.segment).map_or("", |(_, text)| text);
            shown(finding, text)
        });
        let found: Vec<Value> = found.collect();
        return Ok(json!({ "findings": found, "redacted": redacted.join("\n"), "reject": verdict.reject }));
    }
    if let Some(pieces) = &case.stream {
        return stream(plugin, case, pieces).await;
    }
    if let Some(offers) = &case.route {
        let candidates = offers.iter().map(super::cases::Offer::candidate).collect();
        let decision = told(plugin.route(case.context.ask(case.text.as_ref()), candidates).await)?;
        return Ok(route(&decision));
    }
    if let Some(ended) = &case.observe {
        told(plugin.observe(case.context.ask(None), Arc::new(ended.completion())).await)?;
        return Ok(json!({ "seen": true }));
    }
    if let Some(call) = &case.call {
        let result = told(plugin.call(call.name.clone(), call.args.to_string()).await)?;
        let result = serde_json::from_str(&result).unwrap_or(Value::String(result));
        return Ok(json!({ "result": result }));
    }
    speak(plugin, case).await
}

/// What is asked of a provider's language.
async fn speak(plugin: &Arc<Plugin>, case: &Case) -> Result<Value, Value> {
    if let Some(request) = &case.encode {
        let outgoing = told(plugin.encode(request.to_string()).await)?;
        return Ok(json!({
            "method": outgoing.method,
            "path": outgoing.path,
            "headers": pairs(&outgoing.headers),
            "body": body(&outgoing.body),
            "lost": outgoing.lost,
        }));
    }
    if let Some(received) = &case.decode {
        let answer = told(plugin.decode(received.status, received.bytes()).await)?;
        return Ok(json!({ "answer": body(answer.as_bytes()) }));
    }
    if let Some(received) = &case.fault {
        let headers =
            received.headers.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into()));
        let fault = told(plugin.fault(received.status, headers.collect(), received.bytes()).await)?;
        return serde_json::to_value(fault).map_err(|error| json!({ "fails": error.to_string() }));
    }
    let mut decoder = told(plugin.decoder().await)?;
    let mut chunks = Vec::new();
    for piece in case.decode_stream.iter().flatten() {
        chunks.extend(told(decoder.feed(piece.clone().into()).await)?);
    }
    chunks.extend(told(decoder.end().await)?);
    let chunks: Vec<Value> = chunks.iter().map(|chunk| body(chunk.as_bytes())).collect();
    let of = |path: &'static str| {
        chunks.iter().filter_map(|chunk| chunk.pointer(path)).filter(|v| !v.is_null()).cloned()
    };
    let text: String =
        of("/choices/0/delta/content").filter_map(|piece| piece.as_str().map(str::to_owned)).collect();
    let (finish, usage) = (of("/choices/0/finish_reason").next_back(), of("/usage").next_back());
    Ok(json!({ "text": text, "finish_reason": finish, "usage": usage, "chunks": chunks }))
}

/// Shows a guard a stream piece by piece, and gives what a client would have got.
async fn stream(plugin: &Arc<Plugin>, case: &Case, pieces: &[String]) -> Result<Value, Value> {
    let asked = case.context.ask(None);
    let (mut sent, mut out, mut held, mut most) = (String::new(), String::new(), String::new(), 0);
    let mut kinds = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        held.push_str(piece);
        let last = number + 1 == pieces.len();
        let before =
            sent.get(sent.ceil_char_boundary(sent.len().saturating_sub(CONTEXT))..).unwrap_or_default();
        let window = Window {
            choice: 0,
            channel: "content".into(),
            before: before.to_owned(),
            text: held.clone(),
            last,
        };
        let verdict = told(plugin.inspect_window(Arc::clone(&asked), window).await)?;
        if let Some(reject) = verdict.reject {
            return Ok(json!({ "text": out, "reject": reject, "kinds": kinds }));
        }
        let mut safe = if last { held.len() } else { held.floor_char_boundary(verdict.safe_until as usize) };
        for finding in &verdict.findings {
            if (finding.start as usize) < safe && safe < finding.end as usize {
                safe = finding.start as usize;
            }
        }
        let done: Vec<&Finding> =
            verdict.findings.iter().filter(|finding| finding.end as usize <= safe).collect();
        kinds.extend(done.iter().map(|finding| finding.kind.clone()));
        let rest = held.split_off(safe);
        out.push_str(&redact(&held, done.into_iter()));
        sent.push_str(&held);
        held = rest;
        most = most.max(held.len());
    }
    Ok(json!({ "text": out, "reject": null, "kinds": kinds, "held_bytes": most }))
}

fn route(decision: &RouteDecision) -> Value {
    match decision {
        RouteDecision::Pass => json!({ "decision": "pass", "steps": [] }),
        RouteDecision::Plan(plan) => {
            let targets: Vec<&str> = plan.steps.iter().map(|step| step.target.as_str()).collect();
            json!({ "decision": "plan", "steps": targets, "reason": plan.reason, "plan": plan })
        }
        RouteDecision::Reject(rejection) => json!({ "decision": "reject", "steps": [], "reject": rejection }),
    }
}

/// The answer, or the failure as a case can expect it.
fn told<T>(called: Called<T>) -> Result<T, Value> {
    called.answer.map_err(|fault| {
        let outcome = if fault.unsupported { "unsupported" } else { fault.outcome.as_str() };
        json!({ "fails": { "outcome": outcome, "message": fault.message } })
    })
}

fn shown(finding: &Finding, text: &str) -> Value {
    let found = text.get(finding.start as usize..finding.end as usize);
    json!({
        "kind": finding.kind, "text": found, "segment": finding.segment, "start": finding.start, "end": finding.end,
        "score": finding.score, "replacement": finding.replacement,
    })
}

/// The text with `[KIND]`, or the plugin's own replacement, where something was found.
fn redact<'a>(text: &str, findings: impl Iterator<Item = &'a Finding>) -> String {
    let mut findings: Vec<&Finding> = findings.collect();
    findings.sort_by_key(|finding| (finding.start, std::cmp::Reverse(finding.end)));
    let (mut out, mut at) = (String::new(), 0);
    for finding in findings.into_iter().filter(|finding| finding.start < finding.end) {
        let (start, end) = (finding.start as usize, finding.end as usize);
        let Some(before) = text.get(at..start) else { continue };
        out.push_str(before);
        let placeholder = || format!("[{}]", finding.kind.to_uppercase().replace('-', "_"));
        out.push_str(&finding.replacement.clone().unwrap_or_else(placeholder));
        at = end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

fn pairs(pairs: &[(String, String)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect()
}

/// JSON as such, anything else as text.
fn body(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned().into())
}
