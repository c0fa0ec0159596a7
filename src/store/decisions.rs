//! Decision records that are kept: the last ones in memory, and all of them on disk where the configuration says so.

mod drafts;
mod files;
mod writer;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use drafts::Draft;
use drafts::Drafts;
pub use files::{files, find_in, lines};
use writer::Writer;

use super::DecisionSettings;
use crate::plan::Dossier;

/// The store; cheap to clone.
#[derive(Clone)]
pub struct Decisions(Arc<Inner>);

struct Inner {
    settings: DecisionSettings,
    /// The oldest first.
    recent: Mutex<VecDeque<Arc<Dossier>>>,
    writer: Option<Writer>,
    /// `None` where records are made at once.
    drafts: Option<Drafts>,
}

impl Decisions {
    /// A store of these settings. The thread that makes records is started, and that which writes them if there is a
    /// directory.
    ///
    /// # Errors
    /// When the directory cannot be made or written to, or a thread cannot be started.
    pub fn start(settings: &DecisionSettings) -> Result<Self, String> {
        let writer = match &settings.dir {
            Some(dir) => {
                let started = Writer::start(dir.clone(), settings.keep.0, settings.max_size.0);
                Some(started.map_err(|error| format!("decisions.dir: `{}`: {error}", dir.display()))?)
            }
            None => None,
        };
        let drafts = Drafts::start().map_err(|error| format!("the thread for records: {error}"))?;
        let settings = settings.clone();
        Ok(Self(Arc::new(Inner { settings, recent: Mutex::default(), writer, drafts: Some(drafts) })))
    }

    /// A store that keeps nothing.
    pub fn off() -> Self {
        Self::remembering(DecisionSettings { recent: 0, ..DecisionSettings::default() })
    }

    /// A store that writes nothing to disk, whatever the settings say.
    pub fn remembering(settings: DecisionSettings) -> Self {
        Self(Arc::new(Inner { settings, recent: Mutex::default(), writer: None, drafts: None }))
    }

    /// How it was set up.
    pub fn settings(&self) -> &DecisionSettings {
        &self.0.settings
    }

    /// Whether anything is kept.
    pub fn is_on(&self) -> bool {
        self.0.settings.recent > 0 || self.0.writer.is_some()
    }

    /// Whether records go to disk, so that what is missing in them is missing for good.
    pub fn is_durable(&self) -> bool {
        self.0.writer.is_some()
    }

    /// Leaves it to a thread to make a record, which then is to be kept, and what else is written of a request that has
    /// ended. Whoever reads records finds it among them.
    pub fn soon(&self, draft: Draft) {
        match &self.0.drafts {
            Some(drafts) => drafts.leave(draft),
            None => draft(),
        }
    }

    /// Makes the records that are still to be made.
    pub fn catch_up(&self) {
        self.0.drafts.iter().for_each(Drafts::catch_up);
    }

    /// Keeps one record. Never waits: what the writer cannot take any more is counted and dropped.
    pub fn keep(&self, dossier: Dossier) {
        let dossier = Arc::new(dossier);
        if let Some(writer) = &self.0.writer
            && chosen(&dossier.record.request_id, self.0.settings.sample)
        {
            writer.push(dossier.clone());
        }
        let most = self.0.settings.recent;
        if most == 0 {
            return;
        }
        let mut recent = self.0.recent();
        let oldest = if recent.len() >= most { recent.pop_front() } else { None };
        recent.push_back(dossier);
        drop(recent);
        // Freed outside of the lock.
        drop(oldest);
    }

    /// The newest records first, as far as they are in memory and `wanted`; at most `most` of them.
    pub fn recent(&self, most: usize, wanted: impl Fn(&Dossier) -> bool) -> Vec<Arc<Dossier>> {
        self.catch_up();
        // Copied out under the lock, looked at outside.
        let all: Vec<_> = self.0.recent().iter().rev().cloned().collect();
        all.into_iter().filter(|dossier| wanted(dossier)).take(most).collect()
    }

    /// The record of a request, as long as it is in memory.
    pub fn get(&self, id: &str) -> Option<Arc<Dossier>> {
        self.catch_up();
        self.0.recent().iter().rev().find(|dossier| *dossier.record.request_id == *id).cloned()
    }

    /// Where records are on disk.
    pub fn dir(&self) -> Option<PathBuf> {
        self.0.settings.dir.clone()
    }

    /// Makes and writes out what is pending, and ends the threads; waits at most two seconds for the disk.
    pub fn close(&self) {
        self.0.drafts.iter().for_each(Drafts::close);
        if let Some(writer) = &self.0.writer {
            writer.close(Duration::from_secs(2));
        }
    }
}

impl Inner {
    fn recent(&self) -> MutexGuard<'_, VecDeque<Arc<Dossier>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a text is among this share (0 to 1) of all texts: the same in every process, and whoever is chosen stays so
/// while the share grows.
pub fn chosen(id: &str, share: f64) -> bool {
    if share >= 1.0 {
        return true;
    }
    let mut bits = [0; 8];
    blake3::Hasher::new().update(id.as_bytes()).finalize_xof().fill(&mut bits);
    ((u64::from_le_bytes(bits) >> 11) as f64) < share * (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Outcome, RECORD_VERSION, Record};
    use crate::settings::Size;

    fn dossier(id: &str) -> Dossier {
        let record = Record {
            v: RECORD_VERSION,
            request_id: id.into(),
            snapshot: "s".into(),
            version: None,
            model_version: None,
            facts: None,
            rule: None,
            arm: None,
            policies: None,
            cache: None,
            tags: Vec::new(),
            candidates: Vec::new(),
            attempts: Vec::new(),
            usage: None,
            cost: None,
            outcome: Outcome::Ok,
        };
        Dossier {
            at_ms: 1,
            record,
            status: 200,
            ms: 1.0,
            policy_us: 0.0,
            first_token_ms: None,
            error: None,
            seen: None,
            reads: Default::default(),
            decision: None,
            failures: Vec::new(),
            plugins: Vec::new(),
            limits: None,
            later: Vec::new(),
            finish: None,
            shadow: None,
        }
    }

    fn ids(store: &Decisions) -> Vec<String> {
        store.recent(2_000, |_| true).iter().map(|d| d.record.request_id.to_string()).collect()
    }

    #[test]
    fn the_last_ones_stay_in_memory() {
        let store = Decisions::start(&DecisionSettings { recent: 2, ..Default::default() }).unwrap();
        for id in ["a", "b", "c"] {
            store.keep(dossier(id));
        }
        assert_eq!(ids(&store), ["c", "b"]);
        assert!(store.get("a").is_none() && store.get("b").is_some());
        assert!(!Decisions::off().is_on());
    }

    #[test]
    fn those_of_many_threads_are_told_in_their_order() {
        let store = Decisions::start(&DecisionSettings { recent: 1_000, ..Default::default() }).unwrap();
        for id in ["a", "b", "c", "d"] {
            std::thread::scope(|scope| scope.spawn(|| store.keep(dossier(id))).join().unwrap());
        }
        store.keep(dossier("b"));
        assert_eq!(ids(&store), ["b", "d", "c", "b", "a"]);
        let newest = store.recent(1, |_| true).remove(0);
        assert!(Arc::ptr_eq(&store.get("b").unwrap(), &newest), "the newest of those with one id");
        for n in 0..5_000 {
            store.keep(dossier(&format!("id-{n}")));
        }
        let kept = ids(&store);
        assert_eq!(kept.len(), 1_000);
        assert!(kept.iter().enumerate().all(|(n, id)| *id == format!("id-{}", 4_999 - n)));
    }

    #[test]
    fn what_was_kept_is_read_again_and_torn_lines_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let settings = DecisionSettings { dir: Some(dir.path().into()), ..Default::default() };
        let store = Decisions::start(&settings).unwrap();
        for n in 0..1_000 {
            store.keep(dossier(&format!("id-{n}")));
        }
        store.close();
        let all = files(dir.path()).unwrap();
        assert_eq!(all.len(), 1);
        let bytes = std::fs::read(&all[0]).unwrap();
        assert_eq!(lines(&bytes).count(), 1_000);
        std::fs::write(&all[0], &bytes[..bytes.len() - 20]).unwrap();
        assert_eq!(lines(&std::fs::read(&all[0]).unwrap()).count(), 999, "the torn line is none");
        let found = find_in(dir.path(), "id-7").unwrap().expect("a record");
        assert_eq!(&*found.record.request_id, "id-7");
        assert!(find_in(dir.path(), "id-999").unwrap().is_none());
        assert!(find_in(dir.path(), "id-").unwrap().is_none());
    }

    #[test]
    fn old_files_go_when_there_is_no_room_for_them() {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            DecisionSettings { dir: Some(dir.path().into()), max_size: Size(1 << 20), ..Default::default() };
        let store = Decisions::start(&settings).unwrap();
        for n in 0..20_000 {
            store.keep(dossier(&format!("id-{n}")));
            if n % 1_000 == 0 {
                store.0.writer.as_ref().unwrap().flush(Duration::from_secs(5));
            }
        }
        store.close();
        let all = files(dir.path()).unwrap();
        let size: u64 = all.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
        assert!(size <= 1 << 20 && size > 1 << 19, "{size} in {} files", all.len());
        assert!(find_in(dir.path(), "id-19999").unwrap().is_some());
        assert!(find_in(dir.path(), "id-0").unwrap().is_none());
    }

    #[test]
    fn a_sample_is_a_share_of_all() {
        let chosen = (0..10_000).filter(|n| chosen(&format!("request-{n}"), 0.25)).count();
        assert!((2_300..2_700).contains(&chosen), "{chosen}");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_told_at_start() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let settings = DecisionSettings { dir: Some(file.join("below")), ..Default::default() };
        let error = Decisions::start(&settings).map(drop).unwrap_err();
        assert!(error.starts_with("decisions.dir: `"), "{error}");
    }
}
