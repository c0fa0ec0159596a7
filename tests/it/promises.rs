//! What the guides say is proven is proven by a story that is there.

use std::fs;
use std::path::Path;

/// Names of tests in the last column of the tables of a guide.
fn promised(guide: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(guide)).expect("a guide");
    let rows = text.lines().filter(|line| line.starts_with('|'));
    let last = rows.filter_map(|line| line.trim_end_matches('|').rsplit('|').next().map(ToOwned::to_owned));
    let names = last.flat_map(|cell| {
        let names = cell.split('`').skip(1).step_by(2).filter(|name| name.contains("::"));
        names.map(ToOwned::to_owned).collect::<Vec<_>>()
    });
    names.collect()
}

/// The file of a story: `money::x` is in `tests/it/money.rs`, `ledger::desk::tests::x` in `src/ledger/desk/tests.rs`.
fn is_told(name: &str) -> bool {
    let (room, story) = name.rsplit_once("::").expect("a room and a name");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = if room.contains("::") { "src" } else { "tests/it" };
    let file = root.join(folder).join(format!("{}.rs", room.replace("::", "/")));
    let text = fs::read_to_string(file).unwrap_or_default();
    let Some(at) = text.find(&format!("fn {story}(")) else { return false };
    let before = text[..at].trim_end_matches("async ").trim_end();
    before.ends_with("#[test]") || before.ends_with("#[tokio::test]")
}

#[test]
fn every_story_that_proves_money_is_told() {
    let promised = promised("docs/money.md");
    assert!(promised.len() > 20, "{promised:?}");
    let missing: Vec<_> = promised.iter().filter(|name| !is_told(name)).collect();
    assert!(missing.is_empty(), "docs/money.md names stories that are not there: {missing:#?}");
    assert!(!is_told("money::what_nobody_tells"), "the test would notice");
}
