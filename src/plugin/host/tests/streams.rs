//! Classifiers, guards and dialects: values that are more than a text, and a decoder that lives as long as a stream.

use std::time::Duration;

use bytes::Bytes;

use super::forge::{Forge, Word};
use super::{asked, load, sound};
use crate::plugin::{Label, Outcome, Phase, Window};
use Word::{Float, Number, Text};

/// What a stream brings.
const DATA: Bytes = Bytes::from_static(b"data");

#[tokio::test]
async fn a_classifier_answers_with_labels() {
    let mut forge = Forge::new();
    let labels = forge.fixed(&[Text("code"), Float(0.75), Text("other"), Float(0.25)]);
    let answer = forge.fixed(&[Number(0), Number(labels), Number(2), Number(0), Number(0)]);
    forge.exports("classify").function(
        "classify",
        "classify",
        "(param i32) (result i32)",
        &format!("(i32.const {answer})"),
    );
    let plugin = sound("{ name: intent, grants: [prompt] }", forge.module());
    let called = plugin.classify(asked(&["fn main() {}"])).await;
    let top = called.answer.unwrap().top().cloned().unwrap();
    assert_eq!(top, Label { name: "code".into(), score: 0.75 });
    let fault = plugin.call("x".into(), String::new()).await.answer.unwrap_err();
    assert_eq!(fault.outcome, Outcome::Absent);
}

/// A guard that finds bytes 0 to 4 of segment 0 if that is there, and 0 to 2 of a window.
fn guard() -> Forge {
    let mut forge = Forge::new();
    let finding =
        |end| [Number(0), Number(0), Number(end), Text("name"), Float(1.0), Number(0), Number(0), Number(0)];
    let found = forge.fixed(&finding(4));
    let none = [Number(0), Number(0), Number(0), Number(0), Number(0)];
    let mut words = vec![Number(0), Number(found), Number(1)];
    words.extend(none);
    let verdict = forge.fixed(&words);
    let found = forge.fixed(&finding(2));
    let mut words = vec![Number(0), Number(found), Number(1), Number(3)];
    words.extend([0; 5].map(Number));
    let window = forge.fixed(&words);
    forge.exports("guard");
    forge.function("guard", "inspect", "(param i32) (result i32)", &format!("(i32.const {verdict})"));
    forge.function("guard", "inspect-window", "(param i32) (result i32)", &format!("(i32.const {window})"));
    forge
}

#[tokio::test]
async fn a_guards_findings_must_lie_within_the_text() {
    let plugin = sound("{ name: pii, grants: [prompt] }", guard().module());
    let inspected = plugin.inspect(Phase::Request, asked(&["Anna was here"])).await;
    let verdict = inspected.answer.unwrap();
    assert_eq!((verdict.findings.len(), verdict.findings[0].end), (1, 4));
    let fault = plugin.inspect(Phase::Request, asked(&["Ann"])).await.answer.unwrap_err();
    assert_eq!(fault.outcome, Outcome::Trap);
    assert!(fault.message.contains("bytes 0 to 4 of segment 0"), "{fault}");

    let window = |text: &str| Window {
        choice: 0,
        channel: "content".into(),
        before: String::new(),
        text: text.into(),
        last: false,
    };
    let seen = plugin.inspect_window(asked(&[]), window("Anna")).await.answer.unwrap();
    assert_eq!(seen.safe_until, 3);
    let fault = plugin.inspect_window(asked(&[]), window("zwö")).await.answer.unwrap_err();
    assert!(fault.message.contains("safe-until"), "{fault}");
}

#[test]
fn a_guard_must_be_granted_the_text() {
    let plugin = load("{ name: pii }", guard().module());
    assert!(plugin.absent().unwrap().contains("add `prompt`"));
}

/// A dialect whose decoder says how many calls it has had.
fn dialect() -> Forge {
    dialect_that("")
}

/// The same, doing something else first with what it reads.
fn dialect_that(reads: &str) -> Forge {
    let mut forge = Forge::new();
    let empty = [Number(0), Number(0)];
    let mut words = vec![Number(0), Text("POST"), Text("/v1/generate"), Number(0), Number(0)];
    words.extend([Text("{}")]);
    words.extend(empty);
    let outgoing = forge.fixed(&words);
    let decoded = forge.fixed(&[Number(0), Text(r#"{"object":"chat.completion"}"#)]);
    // A list of one text: the number of calls.
    let digit = forge.fixed(&[Number(u32::from(b'0'))]);
    let list = forge.fixed(&[Number(digit), Number(1)]);
    let chunks = forge.fixed(&[Number(0), Number(list), Number(1), Number(0)]);
    // kind at 0, message at 4, code at 12, retry-after-ms at 24.
    let fault =
        forge.fixed(&[Number(1), Text("too busy"), Number(0), Number(0), Number(0), Number(0), Number(0)]);
    forge.exports("dialect");
    let answer = |place: u32| format!("(i32.const {place})");
    forge.function("dialect", "encode", "(param i32 i32) (result i32)", &answer(outgoing));
    forge.function("dialect", "decode", "(param i32 i32 i32) (result i32)", &answer(decoded));
    forge.function("dialect", "fault", "(param i32 i32 i32 i32 i32) (result i32)", &answer(fault));
    forge.import(
        r#"(import "[export]tollgate:plugin/dialect@0.1.0" "[resource-new]decoder" (func $new (param i32) (result i32)))"#,
    );
    forge.function("dialect", "[constructor]decoder", "(result i32)", "(call $new (i32.const 7))");
    let count = format!(
        "(i32.store8 (i32.const {digit}) (i32.add (i32.load8_u (i32.const {digit})) (i32.const 1))) (i32.const {chunks})"
    );
    let feed = format!("(if (i32.eqz (local.get 2)) (then unreachable)) {reads} {count}");
    forge.function("dialect", "[method]decoder.feed", "(param i32 i32 i32) (result i32)", &feed);
    forge.function("dialect", "[method]decoder.end", "(param i32) (result i32)", &count);
    forge
}

#[tokio::test]
async fn a_dialect_says_requests_and_reads_streams() {
    let plugin = sound("{ name: lingo, grants: [prompt] }", dialect().module());
    let outgoing = plugin.encode("{}".into()).await.answer.unwrap();
    assert_eq!((outgoing.method.as_str(), outgoing.path.as_str()), ("POST", "/v1/generate"));
    assert_eq!(outgoing.body, b"{}");
    assert!(plugin.decode(200, bytes::Bytes::new()).await.answer.unwrap().contains("chat.completion"));
    let fault = plugin.fault(529, vec![("retry-after".into(), "1".into())], bytes::Bytes::new()).await;
    assert_eq!(fault.answer.unwrap().message, "too busy");

    // Two streams at once, each with an instance of its own.
    let mut one = plugin.decoder().await.answer.unwrap();
    let mut other = plugin.decoder().await.answer.unwrap();
    for expected in ["1", "2", "3"] {
        assert_eq!(one.feed(DATA).await.answer.unwrap(), [expected]);
    }
    assert_eq!(other.feed(DATA).await.answer.unwrap(), ["1"]);
    assert_eq!(one.end().await.answer.unwrap(), ["4"]);
    // After a trap the stream is over, and says why.
    for _ in 0..2 {
        let fault = other.feed(Bytes::new()).await.answer.unwrap_err();
        assert!(fault.message.contains("it gave up"), "{fault}");
    }
}

/// How often somebody else has a turn on the thread on which a call is awaited.
async fn turns_beside<T>(call: impl Future<Output = T>) -> (T, u32) {
    let mut turns = 0;
    let others = async {
        loop {
            turns += 1;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        done = call => (done, turns),
        () = others => unreachable!("it goes on for ever"),
    }
}

#[tokio::test]
async fn a_decoder_that_computes_holds_no_worker_up() {
    let forge = dialect_that("(if (i32.eq (local.get 2) (i32.const 9)) (then (loop $again (br $again))))");
    let plugin = sound("{ name: lingo, grants: [prompt], limits: { time: 300ms } }", forge.module());
    let mut decoder = plugin.decoder().await.answer.unwrap();
    let (read, few) = turns_beside(decoder.feed(DATA)).await;
    assert_eq!(read.answer.unwrap(), ["1"]);
    let begun = std::time::Instant::now();
    let (stuck, turns) = turns_beside(decoder.feed(Bytes::from_static(b"ninebytes"))).await;
    assert_eq!(stuck.outcome(), Outcome::Timeout);
    assert!(begun.elapsed() > Duration::from_millis(250), "{:?}", begun.elapsed());
    // On the same thread, one turn a millisecond would be left for all others.
    assert!(turns > 3_000, "{turns} turns, {few} beside a short one");
    let fault = decoder.feed(DATA).await.answer.unwrap_err();
    assert_eq!(fault.outcome, Outcome::Timeout, "the stream is over, and says why");
}

#[tokio::test]
async fn an_import_reaches_the_plugins_own_shelf() {
    let mut forge = Forge::new();
    forge.imports("state", "delete", "(param i32 i32 i32)");
    let answer = forge.fixed(&[0; 4].map(Number));
    let none = forge.fixed(&[0; 2].map(Number));
    forge.exports("functions");
    forge.function("functions", "signatures", "(result i32)", &format!("(i32.const {none})"));
    let delete = format!("(call $delete (local.get 2) (local.get 3) (i32.const 64)) (i32.const {answer})");
    forge.function("functions", "call", "(param i32 i32 i32 i32) (result i32)", &delete);
    let plugin = sound("{ name: s, grants: [prompt, state] }", forge.module());
    let shelf = &plugin.guest.as_ref().unwrap().grantee.shelf;
    for key in ["a", "b"] {
        shelf.set(key, b"1".to_vec(), None, 0).unwrap();
    }
    // It answers with an empty text, which is no JSON.
    let fault = plugin.call("delete".into(), "a".into()).await.answer.unwrap_err();
    assert!(fault.message.contains("the result is no JSON"), "{fault}");
    assert_eq!(fault.outcome, Outcome::Trap);
    assert_eq!((shelf.get("a", 1), shelf.get("b", 1)), (None, Some(b"1".to_vec())));
    assert_eq!(plugin.loaded().unwrap().imports, ["state"]);
}
