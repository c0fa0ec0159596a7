//! What every registry promises.

use serde_json::json;

use super::*;
use crate::store::sqlite::Sqlite;

fn entry(target: &str) -> Entry {
    let (actor, action) = ("test".to_owned(), "key.create".to_owned());
    Entry { at_ms: 7, actor, action, target: target.to_owned(), detail: json!({ "name": "n" }) }
}

fn row(id: &str, revision: u64) -> KeyRow {
    KeyRow {
        id: id.into(),
        name: "n".into(),
        terms: json!({ "team": "t" }),
        secrets: vec![("00".repeat(32), Some(9))],
        created_ms: 1,
        revoked_ms: None,
        revision,
    }
}

fn open(dir: &tempfile::TempDir) -> (Sqlite, SqliteRegistry) {
    let db = Sqlite::open(&dir.path().join("t.db"), &[REGISTRY_TABLES], 100).unwrap();
    (db.clone(), SqliteRegistry::open(db, b"pepper").unwrap())
}

#[test]
fn another_pepper_is_noticed_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (db, _registry) = open(&dir);
    assert_eq!(SqliteRegistry::is_seasoned(&db), Ok(true));
    assert!(SqliteRegistry::open(db.clone(), b"pepper").is_ok());
    assert!(SqliteRegistry::open(db, b"salt").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_and_its_note_are_kept_together_and_in_turn() {
    let dir = tempfile::tempdir().unwrap();
    let (_db, registry) = tokio::task::block_in_place(|| open(&dir));
    assert!(registry.put(row("a", 1), entry("a")).await.unwrap());
    assert!(!registry.put(row("a", 1), entry("a")).await.unwrap(), "another change came first");
    assert!(registry.put(row("a", 2), entry("a")).await.unwrap());
    assert_eq!(registry.keys().await.unwrap(), [row("a", 2)]);
    assert_eq!(registry.entries(0, 10).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_tells_of_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let (db, registry) = tokio::task::block_in_place(|| open(&dir));
    for n in 0..5 {
        registry.note(entry(&format!("k{n}"))).await.unwrap();
    }
    let key = AuditKey::of(b"pepper");
    let all = registry.entries(0, 10).await.unwrap();
    assert_eq!(verify(&key, None, &all), Ok(()));
    assert_eq!(verify(&key, all.get(1), &all[2..]), Ok(()));
    assert!(verify(&AuditKey::of(b"other"), None, &all).is_err());
    let broken = |change: &dyn Fn(&mut Vec<Noted>)| {
        let mut all = all.clone();
        change(&mut all);
        match verify(&key, None, &all) {
            Err(Verdict::Broken { seq, .. }) => seq,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(broken(&|all| all[2].target = "x".into()), 3);
    assert_eq!(broken(&|all| all[1].at_ms += 1), 2);
    assert_eq!(broken(&|all| drop(all.remove(1))), 3);
    assert_eq!(broken(&|all| all.swap(0, 1)), 2);
    for sql in ["UPDATE audit SET actor = 'x'", "DELETE FROM audit"] {
        let refused = db.write(move |db: &rusqlite::Connection| db.execute(sql, [])).await;
        assert!(refused.is_err(), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_cut_off_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (db, registry) = tokio::task::block_in_place(|| open(&dir));
    assert_eq!(registry.anchor().await.unwrap(), None, "nothing to note");
    for target in ["a", "b", "c"] {
        registry.note(entry(target)).await.unwrap();
    }
    assert_eq!(registry.anchor().await.unwrap().map(|anchor| anchor.seq), Some(3));
    assert_eq!(registry.anchor().await.unwrap(), None, "noted already");
    registry.note(entry("d")).await.unwrap();
    assert!(matches!(registry.verify().await.unwrap(), Verdict::Sound { entries: 4, .. }));
    let cut = "DROP TRIGGER audit_is_not_cut; DELETE FROM audit WHERE seq > 2";
    db.write(move |db| db.execute_batch(cut)).await.unwrap();
    assert!(matches!(registry.verify().await.unwrap(), Verdict::Broken { seq: 3, .. }));
    // The same number again, by somebody who has the key.
    registry.note(entry("forged")).await.unwrap();
    assert!(matches!(registry.verify().await.unwrap(), Verdict::Broken { seq: 3, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_set_becomes_something_else_only_if_it_is_what_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (_db, registry) = tokio::task::block_in_place(|| open(&dir));
    let (one, two) = (|| Some(json!({ "dollars": 1 })), || Some(json!({ "dollars": 2 })));
    for (was, becomes, changed) in [
        (one(), two(), false),
        (None, one(), true),
        (None, two(), false),
        (two(), None, false),
        (one(), two(), true),
        (two(), None, true),
    ] {
        let said = format!("{was:?} {becomes:?}");
        let done = registry.exchange("budget", "a".into(), (was.clone(), becomes.clone()), entry("a")).await;
        assert_eq!(done.unwrap(), changed, "{said}");
        let kept = registry.settings("budget").await.unwrap().pop().map(|(_, value)| value);
        assert!(!changed || kept == becomes, "{said}: {kept:?}");
    }
    assert_eq!(registry.entries(0, 10).await.unwrap().len(), 3, "what was not done is not noted");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_operators_set_is_kept_with_its_note() {
    let dir = tempfile::tempdir().unwrap();
    let (_db, registry) = tokio::task::block_in_place(|| open(&dir));
    let set = |name: &str, value| vec![(name.to_owned(), value)];
    registry.set("budget", set("a", Some(json!({ "dollars": 1 }))), Some(entry("a"))).await.unwrap();
    registry.set("price", set("a", Some(json!(7))), None).await.unwrap();
    registry.set("budget", set("b", Some(json!(2))), None).await.unwrap();
    registry.set("budget", set("b", None), Some(entry("b"))).await.unwrap();
    assert_eq!(registry.settings("budget").await.unwrap(), [("a".to_owned(), json!({ "dollars": 1 }))]);
    assert_eq!(registry.settings("price").await.unwrap(), [("a".to_owned(), json!(7))]);
    assert_eq!(registry.entries(0, 10).await.unwrap().len(), 2);
}
