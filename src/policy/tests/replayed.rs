//! What policies are told of a prompt that is gone.

use std::sync::Arc;

use super::{Fake, facts, load};
use crate::facts::{Endpoint, FactsRecord, Media, Noted, Seen};
use crate::policy::Decided;

/// Asks a policy of a request, then of what was noted of it; and what nobody knows any more.
fn again(body: &str) -> (Decided, Decided, Vec<String>) {
    let set = load(&[("10-test", &format!("fn on_request(req) {{ {body} }}"))]);
    let mut first =
        set.decide(&facts("auto", Fake { text: "please prove it".into(), tokens: 4, ..Fake::default() }));
    let record = FactsRecord {
        endpoint: Endpoint::Chat,
        model: "auto".into(),
        stream: true,
        tokens: 4,
        messages: 1,
        tools: 0,
        max_tokens: None,
        user: None,
        bytes: 99,
    };
    let seen = Seen { media: Some(Media::default()), ..Seen::default() };
    let (facts, notes) = Noted::facts("r-1".into(), 0, record, seen, std::mem::take(&mut first.reads));
    let second = set.decide(&Arc::new(facts));
    (first, second, notes.missed())
}

#[test]
fn an_unchanged_policy_decides_the_same_without_the_prompt() {
    for asked in [
        r#"req.starts_with_any(["hello", "Please"])"#,
        r#"req.count("[eo]") == 4 && req.count("x") == 0"#,
        "req.bytes == 15 && req.lines == 1",
        r#""text" in req.modalities && !("image" in req.modalities)"#,
        r#"req.turns.len() == 1 && req.turns[0].role == "user""#,
        r#"req.texts("tool").is_empty()"#,
        r#"req.contains_any(words(["prove"])) && !req.contains_any(words(["disprove"]))"#,
    ] {
        // More of them than a question may be long.
        let words =
            format!("}} fn words(all) {{ for n in 0..50 {{ all.push(`{}${{n}}`); }} all", "word".repeat(25));
        let (first, second, missed) = again(&format!("if {asked} {{ return route(\"cheap\"); }} {words}"));
        let first = first.decision.unwrap();
        assert!(first.verdict.is_some(), "{asked}");
        assert_eq!((first, missed), (second.decision.unwrap(), Vec::new()), "{asked}");
    }
}

#[test]
fn the_words_of_a_prompt_that_is_gone_are_missed() {
    for (asked, missing) in [
        ("req.turns[0].text == \"x\"", "turn.text"),
        ("req.texts(\"user\").is_empty()", "texts(\"user\")"),
        ("req.last_user == \"x\"", "last_user"),
    ] {
        let (_, _, missed) = again(&format!("if {asked} {{ return route(\"cheap\"); }}"));
        assert_eq!(missed, [missing], "{asked}");
    }
}
