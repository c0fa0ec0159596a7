//! Notices that the configuration, a policy, a secret or a certificate changed, and hands over one complete reading.
//!
//! Directories are watched, never files: a watched file goes deaf with the first rename-save or symlink swap
//! (ConfigMaps, vim). Events only say *when* to look; *what* changed is decided by the hash of everything. A rescan
//! every five seconds is the net below.

mod ears;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::time::{Duration, Instant};

use ears::Ears;
use notify::event::EventKind;

use super::diagnostic::Diagnostics;
use super::plugins::PluginFile;
use super::sources::{Paths, Sources};

/// Without an event for so long, the files are read.
const QUIET: Duration = Duration::from_millis(100);
/// After so long the files are read even if the events go on.
const QUIET_CAP: Duration = Duration::from_millis(500);
/// A file that vanished or became empty is believed so long after the last event (vim's save has such a gap).
const GAP: Duration = Duration::from_millis(500);
/// What was refused is read once more before it is reported: it may have been half written.
const DOUBT: Duration = Duration::from_millis(200);
/// While a plugin is compiled, the files are read so often.
const COMPILING: Duration = Duration::from_millis(500);
/// The safety net.
const RESCAN: Duration = Duration::from_secs(5);
/// The safety net where the system gives no events.
const RESCAN_DEAF: Duration = Duration::from_secs(1);

/// A watch on all files of a configuration; ends when dropped.
#[derive(Debug)]
pub struct Watch {
    inbox: Sender<Message>,
    /// Who looks too when somebody asks to look now.
    also: Option<Also>,
}

/// Something else to be done.
struct Also(Box<dyn Fn() + Send + Sync>);

impl std::fmt::Debug for Also {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Also")
    }
}

/// What was taken of a reading.
pub enum Taken {
    /// All of it; what is wrong with policies of it in whose place others serve.
    All(Option<Diagnostics>),
    /// Its policies at most: a plugin of it is not compiled yet.
    Policies,
}

#[derive(Debug)]
enum Message {
    /// Something happened to its paths.
    Touched(notify::Event),
    /// Somebody asks to look now.
    Look,
    /// Somebody wants everything to be taken once more, changed or not, and waits for what comes of it.
    Again(SyncSender<Result<(), String>>),
    Stop,
}

impl Watch {
    /// Watches the files that `first` was read from, on an OS thread of its own.
    ///
    /// Every new content is handed to `accept`, which builds a snapshot and swaps it in, or says what is wrong. What
    /// is wrong still in the next reading goes to `report`, once for each content; so does what cannot be read. Where
    /// something else serves in the place of policies that were read, `accept` says what is wrong with those. It is told
    /// whether everything is to be taken, changed or not.
    ///
    /// # Errors
    /// The thread cannot be started. Without file events (inotify's limits) the files are read every second.
    pub fn start(
        first: &Sources,
        accept: impl FnMut(Sources, bool) -> Result<Taken, Diagnostics> + Send + 'static,
        report: impl FnMut(Diagnostics) + Send + 'static,
    ) -> io::Result<Self> {
        let (inbox, messages) = channel();
        let events = inbox.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let touched = match event {
                // Our own readings are Access events.
                Ok(event) if matches!(event.kind, EventKind::Access(_)) => return,
                Ok(event) if !event.need_rescan() => Message::Touched(event),
                _ => Message::Look,
            };
            // The receiver is gone when the watch has ended.
            let _ = events.send(touched);
        });
        let mut keeper = Keeper {
            ears: Ears::with(watcher.ok()),
            settled: Some(first.fingerprint),
            inventory: first.inventory(),
            paths: first.paths.clone(),
            plugins: first.plugins.clone(),
            served: first.clone(),
            taken: first.clone(),
            pending: None,
            refused: None,
            first_event: None,
            last_event: None,
            look_at: None,
            accept: Box::new(accept),
            report: Box::new(report),
        };
        // Listening begins before the caller goes on, so that no later change is missed.
        keeper.ears.listen(&keeper.paths);
        std::thread::Builder::new().name("watch".into()).spawn(move || keeper.run(&messages))?;
        Ok(Self { inbox, also: None })
    }

    /// With somebody who looks too when somebody asks to look now.
    pub(super) fn also(mut self, look: impl Fn() + Send + Sync + 'static) -> Self {
        self.also = Some(Also(Box::new(look)));
        self
    }

    /// Asks for everything to be taken once more.
    pub(super) fn again(&self) -> Again {
        Again(self.inbox.clone())
    }

    /// Looks at the files now (`SIGHUP`, a reload by the admin API).
    pub fn look(&self) {
        if let Some(Also(look)) = &self.also {
            look();
        }
        let _ = self.inbox.send(Message::Look);
    }
}

/// Asks for everything to be taken once more.
#[derive(Debug)]
pub(super) struct Again(Sender<Message>);

impl Again {
    /// Asks; `done` is told what came of it.
    pub(super) fn ask(&self, done: SyncSender<Result<(), String>>) -> Result<(), String> {
        self.0.send(Message::Again(done)).map_err(|_| "the files are no longer watched".to_owned())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.inbox.send(Message::Stop);
    }
}

/// The thread's state.
struct Keeper {
    ears: Ears,
    /// What was last accepted, or reported as refused.
    settled: Option<blake3::Hash>,
    /// The files of the last accepted reading, and whether each is empty.
    inventory: BTreeMap<PathBuf, bool>,
    paths: Paths,
    /// The plugins of the last reading.
    plugins: Vec<PluginFile>,
    /// The last accepted reading; others may serve in the place of policies of it that are faulty.
    served: Sources,
    /// The last accepted reading of which nothing was wrong.
    taken: Sources,
    /// A reading that is too strange to be believed the first time.
    pending: Option<blake3::Hash>,
    /// A reading that was refused once.
    refused: Option<(blake3::Hash, Diagnostics)>,
    first_event: Option<Instant>,
    last_event: Option<Instant>,
    /// When to look next, before the rescan.
    look_at: Option<Instant>,
    accept: Box<dyn FnMut(Sources, bool) -> Result<Taken, Diagnostics> + Send>,
    report: Box<dyn FnMut(Diagnostics) + Send>,
}

impl Keeper {
    fn run(mut self, messages: &Receiver<Message>) {
        let mut rescan_at = Instant::now() + self.rescan();
        loop {
            let wake = self.look_at.map_or(rescan_at, |at| at.min(rescan_at));
            match messages.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(Message::Touched(event)) => {
                    if event.paths.iter().any(|path| self.ears.concerns(path, &self.paths)) {
                        self.touched(Instant::now());
                    }
                    // A directory that is made anew may have the inode of the one that is gone.
                    self.ears.heard.retain(|dir, _| !event.kind.is_remove() || !event.paths.contains(dir));
                }
                Ok(Message::Look) => self.look_at = Some(Instant::now()),
                // Who asked may have gone.
                Ok(Message::Again(done)) => drop(done.try_send(self.again())),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if now >= wake || self.look_at.is_some_and(|at| now >= at) {
                self.look_at = None;
                self.first_event = None;
                self.look(now);
                rescan_at = Instant::now() + self.rescan();
            }
        }
    }

    fn rescan(&self) -> Duration {
        if self.ears.deaf { RESCAN_DEAF } else { RESCAN }
    }

    fn touched(&mut self, now: Instant) {
        let first = *self.first_event.get_or_insert(now);
        self.last_event = Some(now);
        self.look_at = Some((now + QUIET).min(first + QUIET_CAP));
    }

    /// Reads everything, and hands it over if it is new and credible.
    fn look(&mut self, now: Instant) {
        // Directories may have been replaced; listening again comes first, so that no event falls between.
        self.ears.listen(&self.paths);
        let reading = Sources::read_after(self.paths.config.as_deref(), Some(&self.paths), &self.plugins);
        if let Ok(sources) = &reading {
            self.plugins.clone_from(&sources.plugins);
        }
        let print = match &reading {
            Ok(sources) => sources.fingerprint,
            Err(faults) => blake3::hash(faults.to_string().as_bytes()),
        };
        if self.settled == Some(print) {
            (self.pending, self.refused) = (None, None);
            return;
        }
        let strange = reading.as_ref().map_or(true, |sources| self.lost_something(sources));
        let fresh = self.last_event.is_some_and(|event| now < event + GAP);
        if strange && (fresh || self.pending != Some(print)) {
            self.pending = Some(print);
            let credible = self.last_event.map_or(now + GAP, |event| event + GAP);
            self.look_at = Some(credible.max(now + QUIET));
            return;
        }
        self.pending = None;
        match reading {
            Ok(sources) => self.hand_over(sources, now),
            Err(faults) => self.conclude(print, faults),
        }
    }

    /// Takes what is on disk once more; where that is broken, what served last, and where nothing serves any more in the
    /// place of faulty policies of it, the last of which nothing was wrong.
    fn again(&mut self) -> Result<(), String> {
        let reading = Sources::read_after(self.paths.config.as_deref(), Some(&self.paths), &self.plugins);
        let mut faults = match reading {
            Ok(sources) => match (self.accept)(sources.clone(), true) {
                Ok(taken) => {
                    self.took(sources, taken);
                    return Ok(());
                }
                Err(faults) => faults,
            },
            Err(faults) => faults,
        };
        for known in [self.served.clone(), self.taken.clone()] {
            match (self.accept)(known, true) {
                Ok(_) => {
                    // What is on disk is as broken as it was.
                    (self.report)(faults);
                    return Ok(());
                }
                Err(more) => faults.0.extend(more.0),
            }
        }
        faults.0.dedup();
        Err(faults.to_string())
    }

    fn hand_over(&mut self, sources: Sources, now: Instant) {
        let print = sources.fingerprint;
        if let Some((refused, _)) = &self.refused
            && *refused == print
            && let Some((_, faults)) = self.refused.take()
        {
            return self.conclude(print, faults);
        }
        self.ears.listen(&sources.paths);
        match (self.accept)(sources.clone(), false) {
            Ok(taken) => {
                self.refused = None;
                self.took(sources, taken);
            }
            Err(faults) => {
                self.refused = Some((print, faults));
                self.look_at = Some(now + DOUBT);
            }
        }
    }

    /// A reading serves, but for policies of it that are faulty and in whose place others serve. What a plugin of it holds
    /// up is read again.
    fn took(&mut self, sources: Sources, taken: Taken) {
        let Taken::All(faults) = taken else {
            (self.settled, self.look_at) = (None, Some(Instant::now() + COMPILING));
            return;
        };
        self.settled = Some(sources.fingerprint);
        (self.inventory, self.paths) = (sources.inventory(), sources.paths.clone());
        match faults {
            Some(faults) => (self.report)(faults),
            None => self.taken = sources.clone(),
        }
        self.served = sources;
    }

    fn conclude(&mut self, print: blake3::Hash, faults: Diagnostics) {
        self.settled = Some(print);
        (self.report)(faults);
    }

    /// Whether a file vanished or became empty since the last accepted reading.
    fn lost_something(&self, sources: &Sources) -> bool {
        let now = sources.inventory();
        let gone = |path: &PathBuf, was_empty: bool| match now.get(path) {
            Some(empty) => *empty && !was_empty,
            // What lies in a directory that is no longer asked for did not vanish.
            None => {
                let dirs = [&sources.paths.policies, &sources.paths.plugins.dir];
                let beside = sources.paths.beside.iter().map(|(_, dir, _)| dir);
                dirs.into_iter().chain(beside).any(|dir| path.starts_with(dir))
            }
        };
        self.inventory.iter().any(|(path, was_empty)| gone(path, *was_empty))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::house::Diagnostic;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    const SOON: Duration = Duration::from_secs(3);

    /// A directory under watch; contents with the word `broken` are refused. Where a policy is `faulty`, others serve in its
    /// place, unless the rig has none.
    struct Rig {
        dir: tempfile::TempDir,
        accepted: Receiver<Sources>,
        reported: Receiver<Diagnostics>,
        /// Whether there are others.
        pinned: Arc<AtomicBool>,
        watch: Watch,
    }

    fn rig(prepare: impl FnOnce(&Path)) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        // Relative, as most configurations are named.
        let up = "../".repeat(std::env::current_dir().unwrap().components().count());
        let config = format!("{up}{}/tollgate.yaml", dir.path().display());
        let first = Sources::read(Some(Path::new(&config))).unwrap();
        let (accepts, accepted) = channel();
        let (reports, reported) = channel();
        let pinned = Arc::new(AtomicBool::new(true));
        let others = pinned.clone();
        let accept = move |sources: Sources, _| {
            let config = sources.config.iter().map(|(_, text)| text);
            let policies = || sources.policies.iter().map(|policy| &policy.text);
            let faulty = policies().any(|text| text.contains("faulty"));
            if config.chain(policies()).any(|text| text.contains("broken"))
                || faulty && !others.load(Ordering::Relaxed)
            {
                return Err(Diagnostic::error("p.rhai", "broken").into());
            }
            accepts.send(sources).unwrap();
            Ok(Taken::All(faulty.then(|| Diagnostic::error("p.rhai", "faulty").into())))
        };
        let watch = Watch::start(&first, accept, move |faults| reports.send(faults).unwrap()).unwrap();
        Rig { dir, accepted, reported, pinned, watch }
    }

    fn plain(dir: &Path) {
        fs::write(dir.join("tollgate.yaml"), "drain: 1s\n").unwrap();
        fs::create_dir(dir.join("policies")).unwrap();
        fs::write(dir.join("policies/p.rhai"), "one").unwrap();
    }

    impl Rig {
        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }
        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).unwrap();
        }
        /// The next accepted reading: configuration and policies in one line, and how long it took.
        fn next(&self) -> (String, Duration) {
            let since = Instant::now();
            let sources = self.accepted.recv_timeout(SOON).expect("nothing came");
            let config = sources.config.map(|(_, text)| text.trim().to_owned()).unwrap_or_default();
            let policies = sources.policies.iter().map(|p| format!("{}={}", p.name, p.text));
            let line = std::iter::once(config).chain(policies).collect::<Vec<_>>().join(" ");
            (line, since.elapsed())
        }
        fn expect(&self, line: &str) {
            assert_eq!(self.next().0, line);
        }
        /// Everything is taken once more, as where a secret changed.
        fn again(&self) {
            let (done, told) = std::sync::mpsc::sync_channel(1);
            self.watch.again().ask(done).unwrap();
            told.recv_timeout(SOON).unwrap().unwrap();
        }
        fn expect_nothing_for(&self, time: Duration) {
            let found = self.accepted.recv_timeout(time).map(|sources| sources.policies);
            assert_eq!(found, Err(RecvTimeoutError::Timeout));
        }
    }

    #[test]
    fn a_plain_overwrite_takes_effect_within_300_ms_and_once() {
        let rig = rig(plain);
        let mut fastest = SOON;
        for text in ["a", "b", "c", "d", "two"] {
            rig.write("policies/p.rhai", text);
            let (line, took) = rig.next();
            assert_eq!(line, format!("drain: 1s p={text}"));
            fastest = fastest.min(took);
        }
        assert!(fastest < Duration::from_millis(200), "the fastest of five took {fastest:?}");
        rig.write("tollgate.yaml", "drain: 2s\n");
        rig.expect("drain: 2s p=two");
        rig.write("policies/p.rhai", "two");
        rig.expect_nothing_for(Duration::from_millis(300));
    }

    #[test]
    fn what_served_last_serves_again_while_a_file_is_broken() {
        let rig = rig(plain);
        // Older policies serve in the place of those on disk, and go on with a good edit of the configuration.
        rig.write("policies/p.rhai", "faulty");
        rig.expect("drain: 1s p=faulty");
        rig.write("tollgate.yaml", "drain: 2s\n");
        rig.expect("drain: 2s p=faulty");
        for _ in 0..2 {
            rig.reported.recv_timeout(SOON).unwrap();
        }
        rig.write("tollgate.yaml", "broken: 2s\n");
        rig.reported.recv_timeout(SOON).unwrap();
        rig.again();
        rig.expect("drain: 2s p=faulty");
        // When nothing is in their place any more, the last good ones are.
        rig.pinned.store(false, Ordering::Relaxed);
        rig.again();
        rig.expect("drain: 1s p=one");
    }

    #[test]
    fn a_rename_save_as_vim_does_it_is_one_change() {
        let rig = rig(plain);
        rig.write("policies/4913", "");
        fs::remove_file(rig.path("policies/4913")).unwrap();
        fs::rename(rig.path("policies/p.rhai"), rig.path("policies/p.rhai~")).unwrap();
        rig.write("policies/p.rhai", "two");
        fs::remove_file(rig.path("policies/p.rhai~")).unwrap();
        rig.expect("drain: 1s p=two");
        rig.write("policies/.p.rhai.tmp", "three");
        fs::rename(rig.path("policies/.p.rhai.tmp"), rig.path("policies/p.rhai")).unwrap();
        rig.expect("drain: 1s p=three");
        rig.expect_nothing_for(Duration::from_millis(200));
    }

    #[test]
    fn a_configmap_is_swapped_twice() {
        let publish = |dir: &Path, version: &str| {
            let real = dir.join(format!("..{version}"));
            fs::create_dir(&real).unwrap();
            fs::write(real.join("tollgate.yaml"), "policies: .\n").unwrap();
            fs::write(real.join("p.rhai"), version).unwrap();
            symlink(format!("..{version}"), dir.join("..data_tmp")).unwrap();
            fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
        };
        let rig = rig(|dir| {
            publish(dir, "v1");
            symlink("..data/tollgate.yaml", dir.join("tollgate.yaml")).unwrap();
            symlink("..data/p.rhai", dir.join("p.rhai")).unwrap();
        });
        for (version, before) in [("v2", "..v1"), ("v3", "..v2")] {
            publish(rig.dir.path(), version);
            fs::remove_dir_all(rig.path(before)).unwrap();
            rig.expect(&format!("policies: . p={version}"));
        }
    }

    #[test]
    fn a_half_written_file_is_not_reported_when_it_is_completed() {
        let rig = rig(plain);
        rig.write("policies/p.rhai", "bro");
        rig.expect("drain: 1s p=bro");
        rig.write("policies/p.rhai", "broken");
        rig.expect_nothing_for(Duration::from_millis(150));
        rig.write("policies/p.rhai", "brokered");
        rig.expect("drain: 1s p=brokered");
        assert!(rig.reported.try_recv().is_err());
    }

    #[test]
    fn what_stays_broken_is_reported_once_and_repaired() {
        let rig = rig(plain);
        rig.write("policies/p.rhai", "broken");
        let faults = rig.reported.recv_timeout(SOON).unwrap();
        assert_eq!(faults.to_string(), "p.rhai: error: broken\n");
        rig.expect_nothing_for(Duration::from_millis(300));
        assert!(rig.reported.try_recv().is_err());
        rig.write("policies/p.rhai", "one");
        rig.expect("drain: 1s p=one");
    }

    #[test]
    fn a_moment_of_absence_is_not_believed_but_a_deletion_is() {
        let rig = rig(plain);
        rig.write("policies/q.rhai", "new");
        rig.expect("drain: 1s p=one q=new");
        fs::remove_file(rig.path("policies/q.rhai")).unwrap();
        rig.expect_nothing_for(Duration::from_millis(200));
        rig.write("policies/q.rhai", "");
        rig.expect_nothing_for(Duration::from_millis(200));
        rig.write("policies/q.rhai", "back");
        rig.expect("drain: 1s p=one q=back");
        fs::remove_file(rig.path("policies/q.rhai")).unwrap();
        assert_eq!(rig.next().0, "drain: 1s p=one");
    }

    #[test]
    fn a_directory_that_is_gone_leaves_the_old_set_and_a_new_one_is_heard() {
        let rig = rig(plain);
        fs::rename(rig.path("policies"), rig.path("old")).unwrap();
        let faults = rig.reported.recv_timeout(SOON).unwrap();
        assert!(faults.to_string().contains("cannot read the directory of the policies"), "{faults}");
        fs::create_dir(rig.path("policies")).unwrap();
        rig.write("policies/p.rhai", "two");
        rig.expect("drain: 1s p=two");
        rig.write("policies/p.rhai", "three");
        rig.expect("drain: 1s p=three");
        fs::create_dir(rig.path("policies/lib")).unwrap();
        rig.write("policies/lib/w.rhai", "w");
        rig.expect("drain: 1s lib/w=w p=three");
    }

    #[test]
    fn a_directory_that_is_made_anew_at_once_is_heard() {
        let rig = rig(plain);
        fs::remove_dir_all(rig.path("policies")).unwrap();
        fs::create_dir(rig.path("policies")).unwrap();
        for text in ["two", "three", "four"] {
            rig.write("policies/p.rhai", text);
            rig.expect(&format!("drain: 1s p={text}"));
        }
    }

    #[test]
    fn folders_below_lib_are_read_and_heard() {
        let rig = rig(|dir| {
            plain(dir);
            fs::create_dir_all(dir.join("policies/lib/by/team")).unwrap();
            fs::write(dir.join("policies/lib/by/team/web.rhai"), "w").unwrap();
            // It leads back up, and is read once.
            symlink("..", dir.join("policies/lib/by/up")).unwrap();
        });
        rig.write("policies/lib/by/team/web.rhai", "v");
        rig.expect("drain: 1s lib/by/team/web=v p=one");
        fs::create_dir(rig.path("policies/lib/new")).unwrap();
        rig.write("policies/lib/new/x.rhai", "x");
        rig.expect("drain: 1s lib/by/team/web=v lib/new/x=x p=one");
    }

    #[test]
    fn a_missing_configuration_is_reported_and_the_next_one_taken() {
        let rig = rig(plain);
        fs::remove_file(rig.path("tollgate.yaml")).unwrap();
        let faults = rig.reported.recv_timeout(SOON).unwrap();
        assert!(faults.to_string().contains("tollgate.yaml: error: cannot be read"), "{faults}");
        rig.write("tollgate.yaml", "drain: 3s\n");
        rig.expect("drain: 3s p=one");
    }

    #[test]
    fn another_policies_directory_and_a_secret_are_followed() {
        let rig = rig(plain);
        fs::create_dir_all(rig.path("else/where")).unwrap();
        rig.write("else/where/r.rhai", "r");
        rig.write("key", "k1");
        let yaml = "{ policies: else/where, admin: { token: file:key } }";
        rig.write("tollgate.yaml", yaml);
        rig.expect(&format!("{yaml} r=r"));
        rig.write("else/where/r.rhai", "s");
        rig.expect(&format!("{yaml} r=s"));
        rig.write("key", "k2");
        rig.expect(&format!("{yaml} r=s"));
    }

    #[test]
    fn a_broken_configuration_does_not_lose_the_policies() {
        let rig = rig(|dir| {
            plain(dir);
            fs::rename(dir.join("policies"), dir.join("rules")).unwrap();
            fs::write(dir.join("tollgate.yaml"), "policies: rules\n").unwrap();
        });
        rig.write("tollgate.yaml", "policies: rules\ndrain: [\n");
        rig.expect("policies: rules\ndrain: [ p=one");
    }

    #[test]
    fn a_log_that_grows_beside_the_configuration_delays_nothing() {
        let rig = rig(plain);
        let log = rig.path("access.log");
        let writer = std::thread::spawn(move || {
            let until = Instant::now() + Duration::from_millis(600);
            while Instant::now() < until {
                fs::write(&log, "line").unwrap();
                std::thread::yield_now();
            }
        });
        rig.write("policies/p.rhai", "two");
        rig.expect("drain: 1s p=two");
        writer.join().unwrap();
    }
}
