//! What is loaded, and what is refused with its reason.

use std::time::{Duration, Instant};

use super::forge::{Forge, Word, toolbox};
use super::{load, load_into, sound, source};
use crate::plugin::{Interface, Isolation, PluginHost, PluginSet, Services};

#[tokio::test]
async fn a_core_module_becomes_a_plugin() {
    let plugin = sound("{ name: tools, grants: [prompt], config: { a: 1 } }", toolbox().module());
    let loaded = plugin.loaded().unwrap();
    assert_eq!(loaded.manifest.name, "forged");
    assert_eq!(loaded.exports, [Interface::Functions]);
    assert!(loaded.snapshot);
    assert_eq!(plugin.call("echo".into(), r#"{"x":1}"#.into()).await.answer.unwrap(), r#"{"x":1}"#);
    assert_eq!(plugin.call("give".into(), String::new()).await.answer.unwrap(), r#"{"a":1}"#);
    assert_eq!(plugin.signatures().await.answer.unwrap()[0].name, "echo");
    assert_eq!((&*loaded.functions[0], loaded.functions.len()), ("echo", 11));
}

#[tokio::test]
async fn each_request_finds_the_plugin_as_init_left_it() {
    for (isolation, said) in [("request", ["1", "1", "1"]), ("pooled", ["1", "2", "3"])] {
        let plugin = sound(
            &format!("{{ name: tools, grants: [prompt], isolation: {isolation} }}"),
            toolbox().module(),
        );
        for expected in said {
            assert_eq!(
                plugin.call("count".into(), String::new()).await.answer.unwrap(),
                expected,
                "{isolation}"
            );
        }
    }
}

#[tokio::test]
async fn what_no_snapshot_can_be_made_of_is_pooled() {
    let mut forge = toolbox();
    // Snapshots do not know changes of tables.
    forge.code("(table 1 funcref) (func (export \"odd\") (table.set (i32.const 0) (ref.null func)))");
    let plugin = sound("{ name: tools, grants: [prompt], config: [1] }", forge.module());
    let loaded = plugin.loaded().unwrap();
    assert_eq!((loaded.snapshot, loaded.isolation), (false, Isolation::Pooled));
    assert_eq!(plugin.call("give".into(), String::new()).await.answer.unwrap(), "[1]");
    assert_eq!(plugin.call("count".into(), String::new()).await.answer.unwrap(), "1");
    // A trap spoils the instance; the next one is new, and initialised.
    assert!(plugin.call("trap".into(), String::new()).await.answer.is_err());
    assert_eq!(plugin.call("give".into(), String::new()).await.answer.unwrap(), "[1]");
}

#[test]
fn what_cannot_be_loaded_is_absent_with_its_reason() {
    let mut state = toolbox();
    state.imports("state", "delete", "(param i32 i32 i32)");
    let mut refusing = Forge::bare();
    let no = refusing.fixed(&[Word::Number(1), Word::Text("labels: missing")]);
    refusing.init(&format!("(i32.const {no})"));
    super::forge::add_toolbox(&mut refusing);
    let mut stalling = Forge::bare();
    stalling.init("(loop $again (br $again)) unreachable");
    super::forge::add_toolbox(&mut stalling);
    let mut failing = toolbox();
    let no = failing.fixed(&[Word::Number(1), Word::Text("two and two are five")]);
    failing.exports("self-test").function("self-test", "run", "(result i32)", &format!("(i32.const {no})"));
    let text = "(module (func))";
    for (yaml, bytes, part) in [
        ("{ name: x }", b"not wasm at all".to_vec(), "not a WebAssembly file"),
        ("{ name: x }", Vec::new(), "empty"),
        ("{ name: x }", wat::parse_str(text).unwrap(), "does not say which world"),
        ("{ name: x }", wat::parse_str("(component)").unwrap(), "does not export `lifecycle`"),
        ("{ name: x }", Forge::new().module(), "exports nothing that it could be asked"),
        ("{ name: x }", toolbox().version("0.2.0").module(), "built for tollgate:plugin@0.2.0"),
        ("{ name: x }", state.module(), "add `state` to the plugin's `grants`"),
        ("{ name: x }", refusing.module(), "init: labels: missing"),
        ("{ name: x, limits: { init: 100ms } }", stalling.module(), "init: timeout: not done within 100ms"),
        ("{ name: x }", failing.module(), "its self-test fails: two and two are five"),
        ("{ name: x }", toolbox().module(), "needs the text of requests"),
        ("{ name: x, grants: [prompt, http: ['https://a']] }", toolbox().module(), "is not a host"),
        (
            "{ name: x, sha256: 0000000000000000000000000000000000000000000000000000000000000000 }",
            toolbox().module(),
            "the configuration allows 0000",
        ),
    ] {
        let plugin = load(yaml, bytes);
        let reason = plugin.absent().unwrap_or_else(|| panic!("loaded, but should say {part}"));
        assert!(reason.contains(part), "{reason}");
        assert!(reason.starts_with("x.wasm: "), "{reason}");
    }
}

#[tokio::test]
async fn a_file_that_is_missing_leaves_a_plugin_that_answers_as_declared() {
    let host = PluginHost::new(Services::default(), None);
    let settings = serde_yaml::from_str("{ name: pii, on_error: { guard: redact_all } }").unwrap();
    let missing = crate::plugin::PluginSource::read(settings, std::path::Path::new("/nonexistent"));
    let set = PluginSet::load(&host, vec![missing], None);
    let (name, reason) = set.faults().next().unwrap();
    assert_eq!(name, "pii");
    assert!(reason.contains("/nonexistent/pii.wasm"), "{reason}");
    let plugin = set.get("pii").unwrap();
    let fault = plugin.call("x".into(), String::new()).await.answer.unwrap_err();
    assert_eq!(fault.outcome, crate::plugin::Outcome::Absent);
    assert_eq!(plugin.on_error(Interface::Guard), crate::plugin::Consequence::RedactAll);
}

#[tokio::test]
async fn a_plugin_that_is_not_ready_in_time_is_absent_and_says_so() {
    let host = PluginHost::new(Services::default(), None).with_patience(std::time::Duration::ZERO);
    let set = PluginSet::load(&host, vec![source("{ name: a }", toolbox().module())], None);
    let (_, reason) = set.faults().next().unwrap();
    assert!(reason.contains("not compiled within 0ns; that goes on behind"), "{reason}");
}

#[tokio::test]
async fn what_has_not_changed_is_taken_over_and_state_outlives_what_has() {
    let mut forge = toolbox();
    forge.imports("state", "delete", "(param i32 i32 i32)");
    let host = PluginHost::new(Services::default(), None);
    let yaml = "{ name: a, grants: [prompt, state] }";
    let first = PluginSet::load(&host, vec![source(yaml, forge.module())], None);
    let again = PluginSet::load(&host, vec![source(yaml, forge.module())], Some(&first));
    assert!(std::sync::Arc::ptr_eq(first.get("a").unwrap(), again.get("a").unwrap()));
    let other = "{ name: a, grants: [prompt, state], config: 1 }";
    let changed = PluginSet::load(&host, vec![source(other, forge.module())], Some(&first));
    let (before, after) = (first.get("a").unwrap(), changed.get("a").unwrap());
    assert!(!std::sync::Arc::ptr_eq(before, after));
    let shelf = |plugin: &crate::plugin::Plugin| {
        std::sync::Arc::as_ptr(&plugin.guest.as_ref().unwrap().grantee.shelf)
    };
    assert_eq!(shelf(before), shelf(after));
}

#[test]
fn what_cannot_be_loaded_is_not_tried_again_with_each_reload() {
    let host = PluginHost::new(Services::default(), None);
    let mut stalling = Forge::bare();
    stalling.init("(loop $again (br $again)) unreachable");
    super::forge::add_toolbox(&mut stalling);
    let yaml = "{ name: a, grants: [prompt], limits: { init: 100ms } }";
    let loaded = |previous| PluginSet::load(&host, vec![source(yaml, stalling.module())], previous);
    let first = loaded(None);
    let again = loaded(Some(&first));
    let (before, after) = (first.get("a").unwrap(), again.get("a").unwrap());
    assert!(before.absent().is_some_and(|reason| reason.contains("init: timeout")));
    assert!(std::sync::Arc::ptr_eq(before, after));
    let mended = vec![source("{ name: a, grants: [prompt] }", toolbox().module())];
    assert_eq!(PluginSet::load(&host, mended, Some(&again)).faults().next(), None);
    // A file that was not there may be there now.
    let missing = || crate::plugin::PluginSource { bytes: Err("gone".into()), ..source(yaml, Vec::new()) };
    let none = PluginSet::load(&host, vec![missing()], None);
    let none_again = PluginSet::load(&host, vec![missing()], Some(&none));
    assert!(!std::sync::Arc::ptr_eq(none.get("a").unwrap(), none_again.get("a").unwrap()));
}

#[tokio::test]
async fn a_second_start_finds_what_the_first_one_made() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("plugins");
    let module = toolbox().module();
    let yaml = "{ name: a, grants: [prompt], config: { n: 1 } }";
    let mut took = Vec::new();
    for _ in 0..2 {
        let host = PluginHost::new(Services::default(), Some(cache.clone()));
        let started = Instant::now();
        let plugin = load_into(&host, yaml, module.clone());
        took.push(started.elapsed());
        assert_eq!(plugin.absent(), None);
        assert_eq!(plugin.call("give".into(), String::new()).await.answer.unwrap(), r#"{"n":1}"#);
    }
    assert!(cache.join("snapshots").read_dir().unwrap().count() == 1);
    // Draft, snapshot and compilation are spared; what is left is a few milliseconds.
    assert!(took[1] < took[0].max(Duration::from_millis(50)), "{took:?}");
}

#[test]
fn of_two_plugins_with_one_name_neither_is_taken() {
    let host = PluginHost::new(Services::default(), None);
    let twins = vec![source("{ name: a, grants: [prompt] }", toolbox().module()); 2];
    let set = PluginSet::load(&host, twins, None);
    assert_eq!(set.faults().next(), Some(("a", "two plugins are called `a`")));
}
