//! The ledger on disks that are cut off, full, broken, damaged or read-only: what an answer promised stays true.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::client::{self, ask, chat};
use crate::gateway::{self, Gateway, Setup};
use crate::money::{Meter, admin, config_in, lines, play, provider, rows};
use crate::upstream::Upstream;

/// A file system of a story's own; taken off on drop.
struct Disk {
    dir: TempDir,
    mounts: Vec<PathBuf>,
}

/// Whether a program ended well.
fn ran(program: &str, arguments: &[&str]) -> bool {
    let done = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}

fn skip(what: &str) {
    eprintln!("SKIPPED: {what} (needs root and the right to mount)");
}

impl Disk {
    /// A disk in memory of this size; nothing, told loudly, where this process may not mount.
    fn small(size: &str) -> Option<Self> {
        let mut disk = Self::new();
        let at = disk.place("small");
        let mounted =
            ran("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none", text(&at)]);
        if !mounted {
            skip("a story about a small disk");
            return None;
        }
        disk.mounts.push(at);
        Some(disk)
    }

    /// An ext4 disk in a file, which holds what has reached the disk and nothing else.
    fn image() -> Option<Self> {
        let mut disk = Self::new();
        let (image, at) = (disk.dir.path().join("image"), disk.place("disk"));
        let file = std::fs::File::create(&image).expect("a file");
        file.set_len(96 << 20).expect("a sparse file");
        let made = ran("mkfs.ext4", &["-q", "-F", text(&image)])
            && ran("mount", &["-o", "loop,commit=300", text(&image), text(&at)]);
        if !made {
            skip("a story about a power cut");
            return None;
        }
        disk.mounts.push(at);
        Some(disk)
    }

    /// What would be there if the power had been cut now: a copy of what has reached the disk, as another disk.
    fn cut(&mut self) -> PathBuf {
        let (image, copy) = (self.dir.path().join("image"), self.dir.path().join("copy"));
        std::fs::copy(image, &copy).expect("a copy");
        let at = self.place("after");
        assert!(ran("mount", &["-o", "loop", text(&copy), text(&at)]), "the copy cannot be mounted");
        self.mounts.push(at.clone());
        at
    }

    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), mounts: Vec::new() }
    }

    fn place(&self, name: &str) -> PathBuf {
        let at = self.dir.path().join(name);
        std::fs::create_dir(&at).expect("a folder");
        at
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mounts[0].join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for at in self.mounts.iter().rev() {
            let _ = ran("umount", &["-l", text(at)]);
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

fn setup(database: &Path, up: &Upstream) -> Setup {
    let state = format!("state: {{ ledger: \"sqlite:{}\" }}\n", database.display());
    let more = "budgets: [ { name: anna, dollars: 100, per: day, for: { user: anna } } ]\n";
    gateway::setup(&config_in(&state, up, more))
}

fn signal(gateway: &Gateway, name: &str) {
    assert!(ran("kill", &[name, &gateway.pid().to_string()]), "{name} was not sent");
}

/// Rows of these requests that are not in the database exactly once.
fn missing(database: &Path, answered: &[String]) -> Vec<String> {
    let db = rusqlite::Connection::open(database).expect("a database");
    let sound: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("an answer");
    assert_eq!(sound, "ok");
    let mut rows = db.prepare("SELECT count(*) FROM booked WHERE request = ?1").expect("a table");
    let mut count = |text: &String| rows.query_row([text], |row| row.get::<_, i64>(0)).expect("a count");
    answered.iter().filter(|text| count(text) != 1).cloned().collect()
}

/// Clients without end; each answer goes to the channel as soon as it is whole.
fn crowd(gateway: &Gateway) -> std::sync::mpsc::Receiver<String> {
    let (tell, told) = std::sync::mpsc::channel();
    let to = gateway.clients;
    for client in 0..16 {
        let tell = tell.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let number = client * 100_000 + number;
                if play(to, "whole", number).await.0 != 200 || tell.send(format!("whole-{number}")).is_err() {
                    return;
                }
            }
        });
    }
    told
}

#[tokio::test]
async fn after_a_power_cut_every_answer_that_was_heard_is_in_the_ledger() {
    let Some(mut disk) = Disk::image() else { return };
    let up = provider(&Meter::default());
    let mut gateway = setup(&disk.path("ledger.db"), &up).start();
    let told = crowd(&gateway);
    tokio::time::sleep(Duration::from_millis(700)).await;
    signal(&gateway, "-STOP");
    // What was heard was promised before; what still lies in the sockets may be heard, too.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answered: Vec<String> = told.try_iter().collect();
    let after = disk.cut();
    assert!(answered.len() > 20, "{} answers are no proof", answered.len());
    assert_eq!(missing(&after.join("ledger.db"), &answered), Vec::<String>::new(), "of {}", answered.len());
    signal(&gateway, "-KILL");
    gateway.ended(Duration::from_secs(5));
    // The ledger is taken up where it was.
    let gateway = setup(&after.join("ledger.db"), &up).start();
    assert!(lines(&gateway, "").await.len() >= answered.len());
}

/// A database that answers before it has synced loses what it answered: the story above would notice.
#[test]
fn a_power_cut_is_seen_by_a_database_that_does_not_sync() {
    for (synchronous, loses) in [("NORMAL", true), ("FULL", false)] {
        let Some(mut disk) = Disk::image() else { return };
        let db = rusqlite::Connection::open(disk.path("notes.db")).unwrap();
        let words = format!("PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};");
        db.execute_batch(&format!("{words} CREATE TABLE note (id INTEGER PRIMARY KEY, request TEXT)"))
            .unwrap();
        for id in 0..300 {
            db.execute("INSERT INTO note VALUES (?1, 'x')", [id]).unwrap();
        }
        let after = disk.cut();
        let there = rusqlite::Connection::open(after.join("notes.db")).unwrap();
        let count = there.query_row("SELECT count(*) FROM note", [], |row| row.get::<_, i64>(0));
        let count = count.unwrap_or(0);
        assert_eq!(count < 300, loses, "{synchronous}: {count} of 300");
    }
}

/// One request of somebody with a budget, and one of somebody without.
async fn both(gateway: &Gateway, number: usize) -> (u16, u16) {
    let one = async |user: &str| {
        let mut body = ask("fast");
        body["user"] = user.into();
        body["messages"][0]["content"] = format!("whole-{number}").into();
        let reply = chat(gateway.clients, &body).await;
        if reply.status != 200 {
            assert_eq!((reply.status, &reply.error()["code"]), (503, &json!("ledger_unavailable")));
        }
        reply.status
    };
    (one("anna").await, one("ben").await)
}

#[tokio::test]
async fn on_a_full_disk_nothing_is_lost_and_budgets_hold_until_there_is_room() {
    let Some(disk) = Disk::small("32m") else { return };
    let up = provider(&Meter::default());
    let gateway = setup(&disk.path("ledger.db"), &up).start();
    assert_eq!(both(&gateway, 1).await, (200, 200));
    let filler = disk.path("filler");
    assert!(std::fs::write(&filler, vec![1; 40 << 20]).is_err(), "the disk is full");
    let mut others = 1;
    client::eventually_async("the ledger to notice", async || {
        others += 1;
        let (anna, ben) = both(&gateway, others).await;
        assert_eq!(ben, 200, "whom no budget counts goes on");
        (anna == 503).then_some(())
    })
    .await;
    let trouble = admin(&gateway, "/admin/v1/usage").await["ledger"]["trouble"].to_string();
    assert!(trouble.contains("full"), "{trouble}");
    std::fs::remove_file(&filler).unwrap();
    client::eventually_async("the ledger to recover", async || {
        others += 1;
        (both(&gateway, others).await == (200, 200)).then_some(())
    })
    .await;
    let all = rows(&gateway).await;
    let bens = all.iter().filter(|row| row["user"] == "ben").count();
    assert_eq!(bens, others, "every one of them");
    assert_eq!(admin(&gateway, "/admin/v1/usage").await["ledger"]["lost"], 0);
}

#[tokio::test]
async fn a_disk_that_fails_to_sync_is_not_trusted_again_before_a_restart() {
    let up = provider(&Meter::default());
    let dir = tempfile::tempdir().unwrap();
    let database = dir.path().join("ledger.db");
    let mut gateway = setup(&database, &up).start();
    assert_eq!(both(&gateway, 1).await, (200, 200));
    let heard = both(&gateway, 2).await;
    assert_eq!(heard, (200, 200));
    let inject = ["-f", "-qq", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"];
    let id = gateway.pid().to_string();
    let tracer = Command::new("strace").args(inject).args(["-o", "/dev/null", "-p", &id]).spawn();
    let Ok(mut tracer) = tracer else {
        eprintln!("SKIPPED: a story about a disk that fails to sync (install `strace`)");
        return;
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    if tracer.try_wait().is_ok_and(|ended| ended.is_some()) {
        return skip("a story about a disk that fails to sync");
    }
    client::eventually_async("the ledger to notice", async || {
        (both(&gateway, 3).await.0 == 503).then_some(())
    })
    .await;
    let _ = Command::new("kill").arg(tracer.id().to_string()).status();
    let _ = tracer.wait();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(both(&gateway, 4).await, (503, 200), "a later sync proves nothing");
    }
    assert_eq!(gateway.metric("tollgate_store_trouble", &[]).await, 1.0);
    let told = admin(&gateway, "/admin/v1/usage").await["ledger"]["trouble"].to_string();
    assert!(told.contains("broken"), "{told}");
    signal(&gateway, "-KILL");
    gateway.ended(Duration::from_secs(5));
    let gateway = setup(&database, &up).start();
    assert_eq!(both(&gateway, 5).await, (200, 200));
    assert!(rows(&gateway).await.len() >= 6, "what was answered before is there");
}

/// A database with rows, left behind by a gateway that was killed.
async fn left_behind(dir: &Path, up: &Upstream) -> PathBuf {
    let database = dir.join("ledger.db");
    let mut gateway = setup(&database, up).start();
    for number in 0..60 {
        assert_eq!(play(gateway.clients, "whole", number).await.0, 200);
    }
    rows(&gateway).await;
    signal(&gateway, "-KILL");
    gateway.ended(Duration::from_secs(5));
    database
}

fn damage(path: &Path, at: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", database.display()))
}

/// The whole of it in its file, nothing in the log beside it.
fn fold(database: &Path) {
    let db = rusqlite::Connection::open(database).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

#[tokio::test]
async fn a_damaged_database_is_refused_with_its_name_and_what_to_do() {
    let up = provider(&Meter::default());
    let dir = tempfile::tempdir().unwrap();
    let database = left_behind(dir.path(), &up).await;
    fold(&database);
    let whole = std::fs::read(&database).unwrap();
    let refused = |what: &str, part: &str| {
        let printed = setup(&database, &up).run(&["serve", "--config", "tollgate.yaml"]);
        assert_eq!(printed.code, Some(78), "{what}: {printed:?}");
        for part in [part, "ledger.db", "state.ledger"] {
            assert!(printed.err.contains(part), "{what}: {}", printed.err);
        }
    };
    damage(&database, 0, b"not what it was before, by any means");
    refused("header", "not a database");
    std::fs::write(&database, &whole).unwrap();
    // Everything behind the first page.
    for page in 1..whole.len() as u64 / 4_096 {
        damage(&database, page * 4_096, &[0xA5; 512]);
    }
    refused("pages", "malformed");
    std::fs::write(&database, &whole[..whole.len() / 2]).unwrap();
    refused("cut in half", "malformed");
    std::fs::write(&database, &whole).unwrap();
    let gateway = setup(&database, &up).start();
    assert_eq!(lines(&gateway, "").await.len(), 60, "put back from a copy, it is taken");
}

#[tokio::test]
async fn a_torn_log_is_taken_up_to_where_it_is_whole() {
    let up = provider(&Meter::default());
    let dir = tempfile::tempdir().unwrap();
    let database = left_behind(dir.path(), &up).await;
    let log = beside(&database, "-wal");
    let length = std::fs::metadata(&log).unwrap().len();
    assert!(length > 100_000, "{length} bytes of log");
    std::fs::File::options().write(true).open(&log).unwrap().set_len(length / 2 + 17).unwrap();
    // It is made anew from the log.
    std::fs::remove_file(beside(&database, "-shm")).unwrap();
    let gateway = setup(&database, &up).start();
    let found = lines(&gateway, "").await.len();
    assert!((1..60).contains(&found), "{found} of 60");
    assert_eq!(both(&gateway, 100).await, (200, 200));
    let log = gateway.log().join("\n");
    assert!(log.contains("the database was not closed; it is sound"), "{log}");
}

#[tokio::test]
async fn a_disk_that_can_only_be_read_is_refused_at_the_start() {
    let Some(disk) = Disk::small("8m") else { return };
    let up = provider(&Meter::default());
    let database = disk.path("ledger.db");
    drop(setup(&database, &up).start());
    assert!(ran("mount", &["-o", "remount,ro", text(&disk.mounts[0])]));
    let printed = setup(&database, &up).run(&["serve", "--config", "tollgate.yaml"]);
    assert_eq!(printed.code, Some(78), "{printed:?}");
    assert!(printed.err.contains("ledger.db") && printed.err.contains("Read-only"), "{}", printed.err);
}

#[tokio::test]
async fn a_database_that_another_program_holds_is_told_and_taken_when_it_is_free() {
    let up = provider(&Meter::default());
    let dir = tempfile::tempdir().unwrap();
    let database = left_behind(dir.path(), &up).await;
    let other = rusqlite::Connection::open(&database).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let printed = setup(&database, &up).run(&["serve", "--config", "tollgate.yaml"]);
    assert!(printed.code == Some(78) && printed.err.contains("locked"), "{printed:?}");
    other.execute_batch("ROLLBACK").unwrap();
    let gateway = setup(&database, &up).start();
    assert_eq!(both(&gateway, 1).await, (200, 200));
}
