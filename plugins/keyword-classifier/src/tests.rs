//! What is said of which text.

use tollgate_plugin::Origin;
use tollgate_plugin::testing::{Host, context, plugin, segments, user};

use super::*;

const CONFIG: &str = r#"{ "labels": {
    "code": { "words": { "rust": 2, "function": 1, "```": 3, "c++": 2, "prove": -1 } },
    "maths": { "words": { "prove": 1, "prove that": 3, "integral": 2 } },
    "smalltalk": { "words": { "hello": 1, "how are you": 3 } }
} }"#;

fn top(classifier: &KeywordClassifier, text: &str) -> (String, f32) {
    let answer = classifier.classify(&context(), &[user(text)]).unwrap();
    let best = &answer.labels[0];
    (best.name.clone(), best.score)
}

#[test]
fn labels_are_told_by_their_words() {
    let classifier = plugin(CONFIG).unwrap();
    let check = |text: &str, expected: &str| assert_eq!(top(&classifier, text).0, expected, "{text}");
    check("Write a function in Rust", "code");
    check("```\nlet x = 1;\n```", "code");
    check("is C++ older than I am?", "code");
    check("Prove that the integral converges", "maths");
    check("Hello, how are you?", "smalltalk");
    check("trusty frustration, malfunctions", "other");
    check("", "other");
    check("HELLO, HOW ARE YOU", "smalltalk");
}

#[test]
fn scores_grow_with_weight_and_stay_below_one() {
    let classifier = plugin(CONFIG).unwrap();
    let once = top(&classifier, "rust").1;
    assert!((once - 0.5).abs() < 1e-6, "{once}");
    let often = top(&classifier, &"rust ".repeat(100)).1;
    assert!(often > 0.9 && often < 1.0, "{often}");
    let doubt = classifier.classify(&context(), &[user("hello")]).unwrap();
    assert_eq!(doubt.labels.iter().map(|label| label.name.as_str()).collect::<Vec<_>>(), ["smalltalk"]);
    let weak = plugin(&CONFIG.replace("\"labels\"", "\"threshold\": 0.4, \"labels\"")).unwrap();
    assert_eq!(top(&weak, "hello").0, "other");
}

#[test]
fn the_configuration_says_whose_words_count() {
    let talk = segments(&[
        (Origin::System, "integral"),
        (Origin::User, "rust function"),
        (Origin::Assistant, "integral"),
        (Origin::User, "how are you"),
    ]);
    let check = |look: &str, expected: &str| {
        let config = CONFIG.replace("\"labels\"", &format!("\"look\": \"{look}\", \"labels\""));
        let classifier: KeywordClassifier = plugin(&config).unwrap();
        let answer = classifier.classify(&context(), &talk).unwrap();
        let names: Vec<_> = answer.labels.iter().map(|label| label.name.as_str()).collect();
        assert_eq!(names.join(" "), expected, "{look}");
    };
    check("last_user", "smalltalk");
    check("user", "code smalltalk");
    check("all", "code smalltalk maths");
}

#[test]
fn examples_count_where_there_is_a_model_and_are_done_without() {
    let config = r#"{ "likeness": 0.8, "labels": {
        "travel": { "examples": ["a flight to Rome"] },
        "code": { "words": { "rust": 2 } }
    } }"#;
    let away: KeywordClassifier = plugin(config).unwrap();
    assert_eq!(top(&away, "a flight to Oslo").0, "other");
    assert!(Host::take().lines[0].message.starts_with("examples of travel are not used"));

    fn embed(text: &str) -> Vec<f32> {
        if text.contains("flight") { vec![3.0, 1.0] } else { vec![0.0, 1.0] }
    }
    Host::with(|host| host.embed = Some(embed));
    let near: KeywordClassifier = plugin(config).unwrap();
    assert_eq!(top(&near, "a flight to Oslo").0, "travel");
    assert_eq!(top(&near, "rust").0, "code");
    Host::with(|host| host.embed = None);
    assert_eq!(top(&near, "rust").0, "code");
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let check = |config: &str, expected: &str| {
        let error = plugin::<KeywordClassifier>(config).unwrap_err();
        assert!(error.contains(expected), "{config}: {error}");
    };
    check("{}", "missing field `labels`");
    check(r#"{ "labels": {} }"#, "labels: there are none");
    check(r#"{ "labels": { "a": {} } }"#, "labels: a: has neither words nor examples");
    check(r#"{ "labels": { "a": { "words": { " ": 1 } } } }"#, "labels: a: a word is empty");
    check(r#"{ "labels": { "other": { "words": { "x": 1 } } } }"#, "fallback: \"other\" is also a label");
    check(
        r#"{ "saturation": 0, "labels": { "a": { "words": { "x": 1 } } } }"#,
        "saturation: must be above 0",
    );
}
