//! The database's promises: together or not at all, durable when it says so, nothing lost while the disk is away.

use super::*;

const ROOM: &[Migration] = &[
    Migration {
        room: "test",
        version: 1,
        sql: "CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT",
    },
    Migration { room: "test", version: 2, sql: "CREATE INDEX note_text ON note (text)" },
];

fn open(dir: &tempfile::TempDir, most: usize) -> Sqlite {
    Sqlite::open(&dir.path().join("below/test.db"), &[ROOM], most).unwrap()
}

fn note(id: i64) -> impl FnMut(&Connection) -> rusqlite::Result<i64> + Send + 'static {
    move |db| db.prepare_cached("INSERT INTO note VALUES (?1, 'x')")?.execute([id]).map(|_| id)
}

fn count(db: &Sqlite) -> i64 {
    db.read_now(|db| db.query_row("SELECT count(*) FROM note", [], |row| row.get(0))).unwrap()
}

#[test]
fn what_was_answered_is_there_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir, 10_000);
    let written: Vec<_> = (1..=2_000).map(|id| db.write(note(id))).collect();
    for (at, written) in written.into_iter().enumerate() {
        assert_eq!(written.wait(), Ok(at as i64 + 1));
    }
    db.close(Duration::from_secs(5));
    assert_eq!(db.write(note(1)).wait(), Err(Trouble::Closed));
    drop(db);
    let again = open(&dir, 10);
    assert_eq!((count(&again), again.run(), again.was_unclean()), (2_000, 2, false));
}

#[test]
fn a_change_that_cannot_be_made_harms_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir, 100);
    let ids = [1, 2, 1, 3];
    let written: Vec<_> = ids.into_iter().map(|id| db.write(note(id))).collect();
    let refused: Vec<bool> = written.into_iter().map(|written| written.wait().is_err()).collect();
    assert_eq!(refused, [false, false, true, false]);
    let panics = db.write(|_: &Connection| -> rusqlite::Result<()> { panic!("a defect") });
    assert!(matches!(panics.wait(), Err(Trouble::Refused(_))));
    assert_eq!((count(&db), db.trouble()), (3, None));
}

#[test]
fn a_second_gateway_is_told_who_holds_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open(&dir, 10);
    let path = dir.path().join("below/test.db");
    let error = Sqlite::open(&path, &[ROOM], 10).map(drop).unwrap_err();
    let holder = format!("is in use by another gateway (process {})", std::process::id());
    assert!(error.contains(&holder), "{error}");
}

#[test]
fn an_older_program_leaves_a_newer_database_alone() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir, 10);
    db.close(Duration::from_secs(5));
    drop(db);
    let error = Sqlite::open(&dir.path().join("below/test.db"), &[&ROOM[..1]], 10).map(drop).unwrap_err();
    assert!(error.contains("newer version of Tollgate"), "{error}");
}

#[test]
fn a_broken_database_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.db");
    std::fs::write(&path, "this was never a database, and it is longer than a header of one: ".repeat(20))
        .unwrap();
    let error = Sqlite::open(&path, &[ROOM], 10).map(drop).unwrap_err();
    assert!(error.contains("not a database"), "{error}");
}

#[test]
fn while_another_holds_the_database_kept_changes_wait_and_others_are_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir, 4);
    // The writer's patience is five seconds; this test shortens it.
    db.write(|db: &Connection| db.busy_timeout(Duration::from_millis(50))).wait().unwrap();
    let other = Connection::open(db.path()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let (asked, kept) = (db.write(note(1)), db.keep(note(2)));
    assert!(matches!(asked.wait(), Err(Trouble::Away(_))));
    assert!(matches!(kept.wait(), Err(Trouble::Away(_))));
    assert!(matches!(db.trouble(), Some(Trouble::Away(_))));
    for id in 3..=5 {
        drop(db.keep(note(id)));
    }
    while db.waiting() < 4 {
        thread_yield();
    }
    assert_eq!(db.keep(note(6)).wait(), Err(Trouble::Swamped), "the room in memory has an end");
    assert_eq!(db.lost(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    while db.trouble().is_some() || db.waiting() > 0 {
        thread_yield();
    }
    assert_eq!(db.write(note(7)).wait(), Ok(7));
    assert_eq!(count(&db), 5, "2, 3, 4, 5 and 7");
}

#[test]
fn a_full_disk_keeps_what_must_be_kept_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir, 1_000);
    // With the third try, somebody has made room.
    let large = |id: i64| {
        let mut tries = 0;
        move |db: &Connection| {
            tries += 1;
            if tries == 3 {
                db.pragma_update(None, "max_page_count", 1_000)?;
            }
            db.execute("INSERT INTO note VALUES (?1, ?2)", (id, "x".repeat(100_000))).map(|_| id)
        }
    };
    db.write(|db: &Connection| db.pragma_update(None, "max_page_count", 80)).wait().unwrap();
    let (first, second) = (db.keep(large(1)).wait(), db.keep(large(2)).wait());
    assert_eq!(first, Ok(1));
    assert!(matches!(&second, Err(Trouble::Away(text)) if text.contains("full")), "{second:?}");
    assert!(matches!(db.write(large(3)).wait(), Err(Trouble::Away(_))));
    assert_eq!(count(&db), 1, "what stands there can be read");
    while db.trouble().is_some() {
        thread_yield();
    }
    assert_eq!((count(&db), db.lost()), (2, 0));
}

#[test]
fn a_database_that_was_not_closed_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("test.db");
    let db = Sqlite::open(&path, &[ROOM], 10).unwrap();
    db.write(note(1)).wait().unwrap();
    // A copy of the files is what a crash leaves behind.
    let copy = dir.path().join("copy.db");
    for suffix in ["", "-wal"] {
        let name = |path: &Path| format!("{}{suffix}", path.display());
        std::fs::copy(name(&path), name(&copy)).unwrap();
    }
    let again = Sqlite::open(&copy, &[ROOM], 10).unwrap();
    assert!(again.was_unclean());
    assert_eq!(count(&again), 1);
}

#[test]
fn a_database_that_nobody_needs_any_more_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir, 10);
    drop(db.keep(note(1)));
    drop(db);
    let again = open(&dir, 10);
    assert_eq!((count(&again), again.was_unclean()), (1, false));
}

fn thread_yield() {
    std::thread::park_timeout(Duration::from_millis(5));
}

/// Notes by the heap; those below zero are refused.
#[derive(Default)]
struct Notes {
    made: Arc<std::sync::Mutex<Vec<i64>>>,
}

impl Gathered for Notes {
    type Item = i64;

    fn make(&mut self, db: &Connection, items: &[&i64]) -> rusqlite::Result<()> {
        let mut insert = db.prepare_cached("INSERT INTO note SELECT ?1, 'x' WHERE ?1 > 0")?;
        for id in items {
            if insert.execute([id])? == 0 {
                return Err(rusqlite::Error::QueryReturnedNoRows);
            }
        }
        Ok(())
    }

    fn made(&mut self, items: &[&i64]) {
        self.made.lock().unwrap().extend(items.iter().copied());
    }
}

#[test]
fn what_lies_on_a_heap_is_made_together_and_one_bad_change_harms_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir, 10_000);
    let made = Arc::default();
    let notes = db.gathering(Notes { made: Arc::clone(&made) });
    let written: Vec<_> = (1..=3_000).map(|id| notes.keep(if id % 1_000 == 0 { -id } else { id })).collect();
    let refused: Vec<_> =
        written.into_iter().map(Written::wait).enumerate().filter(|(_, said)| said.is_err()).collect();
    assert_eq!(refused.iter().map(|(at, _)| at + 1).collect::<Vec<_>>(), [1_000, 2_000, 3_000]);
    assert!(matches!(refused[0].1, Err(Trouble::Refused(_))), "{refused:?}");
    assert_eq!((count(&db), db.lost(), db.trouble()), (2_997, 3, None));
    notes.tell(3_001);
    db.write(|_| Ok(())).wait().unwrap();
    assert_eq!((count(&db), db.waiting()), (2_998, 0), "who writes after it sees it");
    let mut made = made.lock().unwrap().clone();
    made.sort_unstable();
    assert_eq!(made, (1..=3_001).filter(|id| id % 1_000 != 0).collect::<Vec<i64>>());
    db.close(Duration::from_secs(5));
    assert_eq!(notes.keep(4_000).wait(), Err(Trouble::Closed));
    assert_eq!(notes.keep(4_001).wait(), Err(Trouble::Closed));
    assert_eq!(db.lost(), 5);
}

#[test]
fn a_heap_waits_in_memory_while_another_holds_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let db = open(&dir, 3);
    db.write(|db: &Connection| db.busy_timeout(Duration::from_millis(50))).wait().unwrap();
    let notes = db.gathering(Notes::default());
    let other = Connection::open(db.path()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(matches!(notes.keep(1).wait(), Err(Trouble::Away(_))));
    assert!(matches!(db.trouble(), Some(Trouble::Away(_))));
    notes.tell(2);
    notes.tell(3);
    assert_eq!(notes.keep(4).wait(), Err(Trouble::Swamped), "the room in memory has an end");
    assert_eq!(db.lost(), 1);
    other.execute_batch("ROLLBACK").unwrap();
    while db.trouble().is_some() || db.waiting() > 0 {
        thread_yield();
    }
    assert_eq!(notes.keep(7).wait(), Ok(()));
    assert_eq!((count(&db), db.waiting()), (4, 0), "1, 2, 3 and 7");
}
