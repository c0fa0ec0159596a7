//! What is found, what is not, and that a stream tells no more than its whole text.

use tollgate_plugin::testing::{context, plugin, redacted, stream, user};

use super::*;

fn guard() -> PiiGuard {
    plugin("{}").unwrap()
}

#[test]
fn finds_what_is_personal_and_leaves_the_rest() {
    let guard = guard();
    let check = |text: &str, expected: &str| assert_eq!(redacted(&guard, text), expected, "{text}");
    check("mail ada@example.org, or bob.b+x@mail.example.co.uk!", "mail [EMAIL], or [EMAIL]!");
    check("card 4111 1111 1111 1111 ok", "card [CREDIT_CARD] ok");
    check("card 378282246310005.", "card [CREDIT_CARD].");
    check("no card: 4111 1111 1111 1112", "no card: 4111 1111 1111 1112");
    check("iban DE89 3704 0044 0532 0130 00, GB82WEST12345698765432", "iban [IBAN], [IBAN]");
    check("no iban: DE88 3704 0044 0532 0130 00", "no iban: DE88 3704 0044 0532 0130 00");
    check("ssn 078-05-1120, not 000-05-1120", "ssn [US_SSN], not 000-05-1120");
    check("from 10.1.2.3 to 300.1.2.3", "from [IP_ADDRESS] to 300.1.2.3");
    check("ring +33 1 23 45 67 89 or (212) 555-0142", "ring [PHONE] or [US_PHONE]");
    check(
        "key sk-abcdefghijklmnopqrstuvwx and ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "key [API_KEY] and [API_KEY]",
    );
    check("-----BEGIN RSA PRIVATE KEY-----", "[PRIVATE_KEY]");
    check(
        "version 1.2.3 of 2026-01-02, at 10:30, costs 4111",
        "version 1.2.3 of 2026-01-02, at 10:30, costs 4111",
    );
    check("Grüße an zoë@example.org – danke", "Grüße an zoë@example.org – danke");
    check("", "");
}

#[test]
fn findings_point_at_bytes_of_their_segment() {
    let mut second = user("é ada@example.org");
    second.id = 7;
    let verdict = guard().inspect(Phase::Request, &context(), &[user("nothing"), second]).unwrap();
    let [finding] = verdict.findings.as_slice() else { panic!("{verdict:?}") };
    assert_eq!((finding.segment, finding.start, finding.end), (7, 3, 18));
    assert_eq!(finding.kind, "email");
    assert!(verdict.reject.is_none());
}

#[test]
fn rejects_where_it_is_told_to_without_repeating_the_text() {
    let guard: PiiGuard = plugin(r#"{ "action": "reject", "kinds": ["email"] }"#).unwrap();
    let verdict = guard.inspect(Phase::Request, &context(), &[user("ada@example.org 10.1.2.3")]).unwrap();
    let reject = verdict.reject.unwrap();
    assert_eq!(reject.message, "remove what looks like email from the text");
    let clean = guard.inspect(Phase::Request, &context(), &[user("10.1.2.3")]).unwrap();
    assert!(clean.reject.is_none() && clean.findings.is_empty());
}

#[test]
fn own_patterns_come_before_the_built_in() {
    let config = r#"{ "patterns": [{ "kind": "badge", "regex": "ACME-[0-9]{6}", "replacement": "<badge>", "example": "ACME-123456" }] }"#;
    let guard: PiiGuard = plugin(config).unwrap();
    assert_eq!(redacted(&guard, "I am ACME-000123"), "I am <badge>");
    guard.self_test().unwrap();
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let check = |config: &str, expected: &str| {
        let error = plugin::<PiiGuard>(config).unwrap_err();
        assert!(error.contains(expected), "{config}: {error}");
    };
    check(r#"{ "kinds": ["emial"] }"#, "there is no \"emial\"; there are private-key, api-key, email");
    check(r#"{ "kindz": [] }"#, "unknown field `kindz`");
    check(r#"{ "kinds": [] }"#, "nothing to look for");
    check(r#"{ "patterns": [{ "kind": "x", "regex": "a+" }] }"#, "kind x: a match has no longest");
    check(r#"{ "patterns": [{ "kind": "x", "regex": "a{600}" }] }"#, "600 bytes, 512 at most");
    check(r#"{ "patterns": [{ "kind": "x", "regex": "a?" }] }"#, "matches where there is nothing");
    check(r#"{ "patterns": [{ "kind": "x", "regex": "(" }] }"#, "kind x: ");
    check(r#"{ "patterns": [{ "kind": "X y", "regex": "a" }] }"#, "kind \"X y\" must be of a-z");
}

#[test]
fn the_self_test_finds_an_example_that_does_not_match() {
    guard().self_test().unwrap();
    let config = r#"{ "patterns": [{ "kind": "badge", "regex": "ACME-[0-9]{6}", "example": "ACME-12" }] }"#;
    assert_eq!(
        plugin::<PiiGuard>(config).unwrap().self_test().unwrap_err(),
        "kind badge: its example is not found"
    );
}

#[test]
fn a_stream_cut_anywhere_tells_what_the_whole_text_tells() {
    let guard = guard();
    let text = "Hi, ada@example.org! Card 4111 1111 1111 1111, tel +33 1 23 45 67 89, Grüße, 10.1.2.3 and 4111 1111 \
                1111 1112, GB82WEST12345698765432. sk-abcdefghijklmnopqrstuvwx, 078-05-1120: fine (212) 555-0142";
    let expected = redacted(&guard, text);
    let characters: Vec<(usize, usize)> =
        text.char_indices().map(|(at, c)| (at, at + c.len_utf8())).collect();
    for size in 1..=13 {
        let pieces: Vec<&str> =
            characters.chunks(size).map(|cs| &text[cs[0].0..cs[cs.len() - 1].1]).collect();
        assert_eq!(stream(&guard, &pieces).0, expected, "in pieces of {size}");
    }
    let mut seed = 7_u64;
    for round in 0..500 {
        let mut pieces = Vec::new();
        let mut rest = characters.as_slice();
        while !rest.is_empty() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (piece, after) = rest.split_at(rest.len().min(1 + (seed >> 61) as usize));
            pieces.push(&text[piece[0].0..piece[piece.len() - 1].1]);
            rest = after;
        }
        assert_eq!(stream(&guard, &pieces).0, expected, "round {round}: {pieces:?}");
    }
}

#[test]
fn prose_is_hardly_held_back() {
    let prose =
        "The quick brown fox jumps over the lazy dog, again and again; nobody knows why it does. ".repeat(5);
    let pieces: Vec<&str> =
        prose.as_bytes().chunks(5).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
    let (out, held) = stream(&guard(), &pieces);
    assert_eq!(out, prose);
    assert!(held <= 12, "{held} bytes");
}

#[test]
fn answers_pass_where_only_requests_are_inspected() {
    let guard: PiiGuard = plugin(r#"{ "responses": false }"#).unwrap();
    assert_eq!(stream(&guard, &["ada@exam", "ple.org"]), ("ada@example.org".to_owned(), 0));
    assert_eq!(redacted(&guard, "ada@example.org"), "[EMAIL]");
}
