//! Stories of rerankers: what each is sent, and what becomes of its answer.

use serde_json::json;

use super::*;
use crate::fault::FaultKind;
use crate::providers::presets;

fn ask(body: Value) -> RerankAsk {
    let body = ClientBody::read(body.to_string().into()).unwrap();
    let documents = body.field("documents").unwrap().items;
    let plain = json::elements(body.raw("documents").unwrap()).all(|raw| raw.starts_with('"'));
    let is_voyages = body.has("top_k");
    let top_n = body.u64("top_n").or(body.u64("top_k")).map(|n| usize::try_from(n).unwrap());
    let return_documents = body.bool("return_documents") == Some(true);
    RerankAsk { body, documents, plain, top_n, return_documents, is_voyages }
}

fn sent(body: Value, quirks: &RerankQuirks) -> (String, Value, Vec<String>) {
    let outgoing = request(&ask(body), &TargetName::parse("p/rank-1").unwrap(), quirks).unwrap();
    let lost = outgoing.lost.iter().map(Loss::to_string).collect();
    (outgoing.path, serde_json::from_slice(&outgoing.body.concat()).unwrap(), lost)
}

fn quirks_of(preset: &str) -> RerankQuirks {
    presets::find(preset).unwrap().quirks.rerank.clone().unwrap()
}

#[test]
fn every_vendor_gets_its_own_words() {
    let body = json!({"model": "m", "query": "q", "documents": ["a", {"text": "b", "id": 7}], "top_n": 1,
        "return_documents": true, "max_chunks_per_doc": 3});
    for (preset, path, expected, lost) in [
        (
            "jina",
            "/rerank",
            json!({"model": "rank-1", "query": "q", "documents": ["a", {"text": "b", "id": 7}],
            "top_n": 1, "return_documents": false}),
            1,
        ),
        (
            "voyage",
            "/rerank",
            json!({"model": "rank-1", "query": "q", "documents": ["a", "b"], "top_k": 1}),
            1,
        ),
        (
            "mixedbread",
            "/reranking",
            json!({"model": "rank-1", "query": "q", "input": ["a", {"text": "b", "id": 7}],
            "top_k": 1}),
            1,
        ),
        ("tei", "/rerank", json!({"model": "rank-1", "query": "q", "texts": ["a", "b"]}), 1),
        ("vllm", "/rerank", json!({"model": "rank-1", "query": "q", "documents": ["a", "b"], "top_n": 1}), 1),
    ] {
        let (at, said, losses) = sent(body.clone(), &quirks_of(preset));
        assert_eq!((at.as_str(), &said, losses.len()), (path, &expected, lost), "{preset} {losses:?}");
    }
}

#[test]
fn objects_become_texts() {
    let quirks = RerankQuirks { texts_only: true, ..RerankQuirks::default() };
    for (document, fields, expected) in [
        (json!({"text": "t", "title": "T"}), json!(null), "t"),
        (json!({"text": "t", "title": "T", "n": 1}), json!(["title", "n"]), "title: T\nn: 1"),
        (json!({"title": "T", "tags": ["a"]}), json!(null), "title: T\ntags: [\"a\"]"),
    ] {
        let body = json!({"model": "m", "query": "q", "documents": [document], "rank_fields": fields});
        let (_, said, lost) = sent(body, &quirks);
        assert_eq!((&said["documents"], said.get("rank_fields"), lost.len()), (&json!([expected]), None, 0));
    }
    let picture = ask(json!({"model": "m", "query": "q", "documents": ["a", {"image": "https://x/y.png"}]}));
    let fault = request(&picture, &TargetName::parse("p/m").unwrap(), &quirks).unwrap_err();
    assert_eq!(fault.param.as_deref(), Some("documents[1]"));
}

#[test]
fn answers_of_every_form_become_coheres() {
    let asked = json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}, "c"], "top_n": 2,
        "return_documents": true});
    let results = json!([{"index": 2, "relevance_score": 0.9, "document": {"text": "c"}},
        {"index": 1, "relevance_score": 0.5, "document": {"text": "b"}}]);
    for (name, body, tokens, searches) in [
        (
            "cohere",
            json!({"id": "x", "results": [{"index": 2, "relevance_score": 0.9}, {"index": 1, "relevance_score": 0.5}],
            "meta": {"billed_units": {"search_units": 3}}}),
            None,
            3,
        ),
        (
            "voyage",
            json!({"object": "list", "data": [{"relevance_score": 0.9, "index": 2}, {"relevance_score": 0.5, "index": 1}],
            "usage": {"total_tokens": 26}}),
            Some(26),
            0,
        ),
        (
            "tei",
            json!([{"index": 0, "score": 0.1}, {"index": 1, "score": 0.5}, {"index": 2, "score": 0.9}]),
            None,
            0,
        ),
        (
            "vllm",
            json!({"id": "score-1", "model": "m", "usage": {"total_tokens": 5, "prompt_tokens": 4}, "results": [
            {"index": 2, "document": {"text": "c"}, "relevance_score": 0.9},
            {"index": 1, "document": {"text": "b"}, "relevance_score": 0.5}]}),
            Some(5),
            0,
        ),
        (
            "mixedbread",
            json!({"data": [{"index": 2, "score": 0.9, "input": "c"}, {"index": 1, "score": 0.5}],
            "usage": {"prompt_tokens": 7, "total_tokens": 7}}),
            Some(7),
            0,
        ),
    ] {
        let relayed = answer(&ask(asked.clone()), body.to_string().into(), 0).unwrap();
        let said: Value = serde_json::from_slice(&relayed.body).unwrap();
        assert_eq!(said["results"], results, "{name}");
        assert!(said["id"].as_str().is_some_and(|id| !id.is_empty()), "{name}");
        let usage = relayed.usage.unwrap_or_default();
        assert_eq!((usage.total(), usage.searches), (tokens.unwrap_or(0), searches), "{name}");
        assert_eq!(said["usage"]["total_tokens"].as_u64(), tokens, "{name}");
        assert!(said["meta"].is_object(), "{name}");
    }
}

#[test]
fn clients_of_voyage_are_understood_and_answered_in_their_words() {
    let asked = json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_k": 1, "truncation": false,
        "return_documents": true});
    for (preset, expected, lost) in [
        ("voyage", json!({"documents": ["a", "b"], "top_k": 1, "truncation": false}), 0),
        ("cohere-like", json!({"documents": ["a", {"text": "b"}], "top_n": 1}), 1),
    ] {
        let quirks = if preset == "voyage" { quirks_of(preset) } else { RerankQuirks::default() };
        let (_, mut said, losses) = sent(asked.clone(), &quirks);
        let fields = said.as_object_mut().unwrap();
        fields.retain(|key, _| !matches!(key.as_str(), "model" | "query"));
        assert_eq!((&said, losses.len()), (&expected, lost), "{preset} {losses:?}");
    }
    for (body, tokens) in [
        (
            json!({"results": [{"index": 1, "relevance_score": 0.9}], "meta": {"billed_units": {"search_units": 1}}}),
            0,
        ),
        (json!({"data": [{"index": 1, "relevance_score": 0.9}], "usage": {"total_tokens": 26}}), 26),
    ] {
        let relayed = answer(&ask(asked.clone()), body.to_string().into(), 0).unwrap();
        let said: Value = serde_json::from_slice(&relayed.body).unwrap();
        assert_eq!(said["data"], json!([{"relevance_score": 0.9, "index": 1, "document": "b"}]));
        assert_eq!((&said["object"], &said["usage"]["total_tokens"]), (&json!("list"), &json!(tokens)));
        assert_eq!(said["results"][0]["document"]["text"], "b");
    }
}

#[test]
fn coheres_own_answer_is_not_touched() {
    let asked = json!({"model": "m", "query": "q", "documents": ["a", "b"], "top_n": 1});
    let body = r#"{ "results":[{"index":1,"relevance_score":0.90,"relevant_spans":[]}],"id":"x", "meta":{"billed_units":{"search_units":1}}}"#;
    assert_eq!(answer(&ask(asked), body.into(), 0).unwrap().body, body);
}

#[test]
fn answers_that_cannot_be_right_are_faults() {
    let asked = json!({"model": "m", "query": "q", "documents": ["a", "b"]});
    for (body, kind) in [
        (
            r#"{"results":[{"index":0,"relevance_score":1},{"index":2,"relevance_score":1}]}"#,
            FaultKind::Malformed,
        ),
        (
            r#"{"results":[{"index":0,"relevance_score":1},{"index":0,"relevance_score":1}]}"#,
            FaultKind::Malformed,
        ),
        (r#"{"results":[{"index":0,"relevance_score":1}]}"#, FaultKind::Malformed),
        (r#"{"results":[{"index":0},{"index":1}]}"#, FaultKind::Malformed),
        (r#"{"results":[{"index":-1,"relevance_score":1}]}"#, FaultKind::Malformed),
        (r#"{"error":{"message":"overloaded","code":503}}"#, FaultKind::Overloaded),
        (r#"{"message":"invalid request","id":"x"}"#, FaultKind::ServerError),
        ("<html>", FaultKind::Malformed),
        ("[]", FaultKind::Malformed),
        ("7", FaultKind::Malformed),
    ] {
        assert_eq!(answer(&ask(asked.clone()), body.into(), 0).unwrap_err().kind, kind, "{body}");
    }
}
