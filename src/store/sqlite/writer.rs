//! The thread that writes: takes what has gathered, makes it in one transaction, and answers when it is on the disk.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};

use rusqlite::Connection;

use super::job::Job;
use super::trouble::Trouble;
use crate::clock::{Clock, SystemClock};

/// The most changes of one transaction.
const GROUP: usize = 512;
/// How long until a database in trouble is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// From so many changes a millisecond on, changes are worth waiting for: each sync of the disk costs about as much of a
/// processor as two requests do, whether one change waits for it or fifty.
const MANY: f64 = 6.0;
/// How long then lies between the beginnings of two commits. No model answers so fast that its client could notice.
const APART: Duration = Duration::from_millis(3);

/// A handle to the thread.
#[derive(Clone)]
pub(super) struct Writer(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    most: usize,
    /// Whether `trouble` says something: asked by every request.
    troubled: AtomicBool,
    trouble: Mutex<Option<Trouble>>,
    lost: AtomicU64,
    /// Changes on heaps.
    gathered: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    writing: bool,
    closed: bool,
    ended: bool,
}

impl Writer {
    /// Starts the thread. It ends with `close`.
    pub(super) fn start(db: Connection, run: i64, most: usize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            most: most.max(1),
            troubled: AtomicBool::new(false),
            trouble: Mutex::default(),
            lost: AtomicU64::new(0),
            gathered: AtomicUsize::new(0),
        });
        let theirs = shared.clone();
        thread::Builder::new().name("sqlite".into()).spawn(move || theirs.work(&db, run))?;
        Ok(Self(shared))
    }

    /// Hands a change over. Never waits for the disk.
    pub(super) fn push(&self, job: Job) {
        self.hand(job, self.0.most);
    }

    /// The same for a heap, whose changes are counted one by one.
    pub(super) fn sweep(&self, job: Job) {
        self.hand(job, usize::MAX);
    }

    fn hand(&self, mut job: Job, most: usize) {
        let mut queue = self.0.lock();
        let refused = match self.0.lasting(queue.closed) {
            None if queue.jobs.len() >= most => Some(Trouble::Swamped),
            other => other,
        };
        if let Some(trouble) = refused {
            drop(queue);
            return self.0.lose(job.give_up(&trouble));
        }
        let first = queue.jobs.is_empty();
        queue.jobs.push_back(job);
        drop(queue);
        if first {
            self.0.changed.notify_all();
        }
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        if !self.0.troubled.load(Ordering::Acquire) {
            return None;
        }
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn waiting(&self) -> usize {
        self.0.lock().jobs.len() + self.0.gathered.load(Ordering::Relaxed)
    }

    /// One more change lies on a heap, if there is room for it.
    pub(super) fn gathered(&self) -> Option<Trouble> {
        let before = self.0.gathered.fetch_add(1, Ordering::Relaxed);
        (before >= self.0.most).then(|| {
            self.swept(1);
            Trouble::Swamped
        })
    }

    /// So many do no more.
    pub(super) fn swept(&self, many: usize) {
        self.0.gathered.fetch_sub(many, Ordering::Relaxed);
    }

    /// So many changes are lost that should have been kept.
    pub(super) fn lose(&self, many: u64) {
        self.0.lose(many);
    }

    pub(super) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Writes out what waits and ends the thread.
    pub(super) fn close(&self, patience: Duration) {
        let mut queue = self.0.lock();
        queue.closed = true;
        self.0.changed.notify_all();
        // Whoever closes waits for the thread's end or for his patience's.
        drop(self.0.changed.wait_timeout_while(queue, patience, |queue| !queue.ended));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can be written any more, if that is so.
    fn lasting(&self, closed: bool) -> Option<Trouble> {
        if closed {
            return Some(Trouble::Closed);
        }
        if !self.troubled.load(Ordering::Acquire) {
            return None;
        }
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone().filter(|trouble| matches!(trouble, Trouble::Broken(_)))
    }

    fn lose(&self, many: u64) {
        if many > 0 {
            self.lost.fetch_add(many, Ordering::Relaxed);
            metrics::counter!("tollgate_store_lost_total").increment(many);
        }
    }

    fn work(&self, db: &Connection, run: i64) {
        let mut batch: VecDeque<Job> = VecDeque::with_capacity(GROUP);
        let mut pace = Pace::new(Instant::now());
        while self.gather(&mut batch, &pace) {
            let began = Instant::now();
            let outcome = group(db, &mut batch, run);
            pace.commit(began, batch.iter().map(Job::count).sum());
            self.account(outcome, &mut batch);
        }
        // A database in trouble stays open in its own eyes, and is checked at the next start.
        if self.lasting(false).is_none() {
            let now = i64::try_from(SystemClock.unix_ms()).unwrap_or(i64::MAX);
            let _ = db.execute("UPDATE run SET ended_ms = ?1, seen_ms = ?1 WHERE id = ?2", (now, run));
            let _ = db.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);");
        }
        let mut queue = self.lock();
        queue.ended = true;
        for mut job in queue.jobs.drain(..) {
            self.lose(job.give_up(&Trouble::Closed));
        }
        drop(queue);
        self.changed.notify_all();
    }

    /// Waits for something to write, and for more of it if much comes. While the database is in trouble, it is tried again every now and then, whether or
    /// not anything waits. False at the end.
    fn gather(&self, batch: &mut VecDeque<Job>, pace: &Pace) -> bool {
        let mut queue = self.lock();
        queue.writing = false;
        if self.lasting(false).is_some() {
            // A try that goes well would prove nothing: what was lost before stays lost.
            while !queue.closed {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            return false;
        }
        if self.troubled.load(Ordering::Acquire) {
            let due = Instant::now() + AGAIN;
            while !queue.closed && Instant::now() < due {
                let left = due.saturating_duration_since(Instant::now());
                queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
            }
            if queue.closed && (queue.jobs.is_empty() || self.lasting(false).is_some()) {
                return false;
            }
        } else {
            while queue.jobs.is_empty() {
                if queue.closed {
                    return false;
                }
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            let left = pace.due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                let more = self.changed.wait_timeout_while(queue, left, |queue| !queue.closed);
                queue = more.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        let many = queue.jobs.len().min(GROUP);
        batch.extend(queue.jobs.drain(..many));
        queue.writing = true;
        true
    }

    /// Answers those whose changes are on the disk, and keeps what must not be lost for the next try.
    fn account(&self, outcome: Result<Vec<Option<Trouble>>, Trouble>, batch: &mut VecDeque<Job>) {
        match outcome {
            Ok(refused) => {
                metrics::counter!("tollgate_store_commits_total").increment(1);
                let changes = batch.iter().map(Job::count).sum();
                metrics::counter!("tollgate_store_changes_total").increment(changes);
                for (mut job, refused) in batch.drain(..).zip(refused) {
                    if let Some(trouble) = refused {
                        if job.kept {
                            tracing::error!(%trouble, "a change that should be kept was refused");
                        }
                        self.lose(job.give_up(&trouble));
                    } else if job.tell(Ok(())) {
                        // Before whatever came meanwhile, which may look for it.
                        self.lock().jobs.push_front(job);
                    }
                }
                self.well();
            }
            Err(trouble) => {
                self.ill(&trouble);
                let lasting = matches!(trouble, Trouble::Broken(_));
                let mut queue = self.lock();
                let closed = queue.closed;
                while let Some(mut job) = batch.pop_back() {
                    if job.kept && !lasting && !closed {
                        job.tell(Err(trouble.clone()));
                        queue.jobs.push_front(job);
                    } else {
                        self.lose(job.give_up(&trouble));
                    }
                }
                // Nobody will try again what came meanwhile.
                let hopeless = if lasting { queue.jobs.len() } else { 0 };
                for mut job in queue.jobs.drain(..hopeless) {
                    self.lose(job.give_up(&trouble));
                }
            }
        }
    }

    fn ill(&self, trouble: &Trouble) {
        let before = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).replace(trouble.clone());
        if before.is_none() {
            tracing::error!(%trouble, "the database takes nothing; what must be kept waits in memory");
            metrics::gauge!("tollgate_store_trouble").set(1.0);
        }
        self.troubled.store(true, Ordering::Release);
    }

    fn well(&self) {
        if self.troubled.swap(false, Ordering::AcqRel) {
            self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
            tracing::info!(waiting = self.lock().jobs.len(), "the database takes changes again");
            metrics::gauge!("tollgate_store_trouble").set(0.0);
        }
    }
}

/// How commits follow each other.
struct Pace {
    /// When the last one began.
    began: Instant,
    /// When the next one may.
    due: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { began: now, due: now }
    }

    /// A commit of so many changes began.
    fn commit(&mut self, began: Instant, changes: u64) {
        let since = began.saturating_duration_since(self.began).as_secs_f64() * 1e3;
        let busy = changes as f64 >= MANY * since;
        *self = Self { began, due: if busy { began + APART } else { began } };
    }
}

/// Makes all changes in one transaction. A change that cannot be made is undone and told of; the others stand.
fn group(db: &Connection, batch: &mut VecDeque<Job>, run: i64) -> Result<Vec<Option<Trouble>>, Trouble> {
    let made = changes(db, batch, run).map_err(|error| Trouble::of(&error));
    if made.is_err() && !db.is_autocommit() {
        // If this fails too, the transaction was rolled back already.
        let _ = db.execute_batch("ROLLBACK");
    }
    // Whatever kept the transaction from being made is trouble of the database.
    made.map_err(|trouble| match trouble {
        Trouble::Refused(text) => Trouble::Away(text),
        other => other,
    })
}

fn changes(db: &Connection, batch: &mut VecDeque<Job>, run: i64) -> rusqlite::Result<Vec<Option<Trouble>>> {
    let say = |sql: &str| db.prepare_cached(sql)?.execute([]).map(drop);
    say("BEGIN IMMEDIATE")?;
    let mut refused = Vec::with_capacity(batch.len());
    for job in batch.iter_mut() {
        say("SAVEPOINT change")?;
        match job.make(db) {
            Ok(()) => {
                say("RELEASE change")?;
                refused.push(None);
            }
            Err(error) => {
                let trouble = Trouble::of(&error);
                if trouble.is_of_the_database() {
                    return Err(error);
                }
                say("ROLLBACK TO change")?;
                say("RELEASE change")?;
                refused.push(Some(trouble));
            }
        }
    }
    let now = i64::try_from(SystemClock.unix_ms()).unwrap_or(i64::MAX);
    db.prepare_cached("UPDATE run SET seen_ms = ?1 WHERE id = ?2")?.execute((now, run))?;
    say("COMMIT")?;
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_keep_apart_only_while_much_is_to_be_written() {
        let start = Instant::now();
        let at = |us: u64| start + Duration::from_micros(us);
        let mut pace = Pace::new(start);
        let mut due_after = |us: u64, changes| {
            pace.commit(at(us), changes);
            pace.due.saturating_duration_since(at(us))
        };
        assert_eq!(
            due_after(1_000_000, 500),
            Duration::ZERO,
            "much at once after a long time is written at once"
        );
        assert_eq!(due_after(1_000_500, 1), Duration::ZERO, "one client that asks again and again");
        assert_eq!(due_after(1_001_000, 3), APART);
        assert_eq!(due_after(1_004_000, 18), APART, "it goes on as long as enough comes");
        assert_eq!(due_after(1_007_000, 17), Duration::ZERO);
    }
}
