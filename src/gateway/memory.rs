//! Memory as a limit: before it runs out, fewer requests are let in.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use metrics::gauge;
use tokio::time::MissedTickBehavior;

use crate::caller::Priority;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Above so many hundredths of the limit, fewer requests are let in; below the second number, all of them again.
const HIGH: u64 = 85;
const LOW: u64 = 80;

/// So many requests are let in however little memory there is: with none at all, nothing would tell that it has come back.
const LEAST: usize = 8;

/// A body that is read takes so many times its length: itself, and what is made of it for a provider.
const COPIES: u64 = 2;
/// Bodies of which more is not resident yet than fits below so many hundredths of the limit are not begun.
const fn full(priority: Priority) -> u64 {
    match priority {
        Priority::Low => 90,
        Priority::Normal => 95,
        Priority::High => 97,
    }
}

/// Memory that has grown by this part since the last look at it is still growing.
const GROWTH: u64 = 100;

/// How much memory the process has, and what follows from that.
#[derive(Debug)]
pub struct Memory {
    /// Requests in flight that it has room for.
    most: AtomicUsize,
    /// Bytes that are resident, as they were seen last.
    resident: AtomicU64,
    /// Bytes when `most` fell last.
    fell_at: AtomicU64,
    /// Bytes that there are; 0 where nobody knows.
    limit: AtomicU64,
    /// Bytes of bodies that are being read.
    arriving: AtomicU64,
    /// Bytes of bodies that were read since memory was looked at.
    arrived: AtomicU64,
}

/// Room for a body while it is read.
pub(super) struct Room<'m> {
    memory: &'m Memory,
    bytes: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            most: AtomicUsize::new(usize::MAX),
            resident: AtomicU64::new(0),
            fell_at: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            arriving: AtomicU64::new(0),
            arrived: AtomicU64::new(0),
        }
    }
}

impl Memory {
    /// Requests in flight that there is room for.
    pub(super) fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    /// Bytes that are resident, and the limit that is kept, if there is one.
    pub fn look(&self) -> (u64, Option<u64>) {
        (self.resident.load(Relaxed), Some(self.limit.load(Relaxed)).filter(|limit| *limit > 0))
    }

    /// Room for a body of so many bytes, of one of so many requests in flight; `None` where there is none.
    pub(super) fn room_for(&self, bytes: u64, in_flight: usize, priority: Priority) -> Option<Room<'_>> {
        let limit = self.limit.load(Relaxed);
        let before = self.arriving.fetch_add(bytes, Relaxed).saturating_add(self.arrived.load(Relaxed));
        let needed = before.saturating_add(bytes).saturating_mul(COPIES);
        let full = self.resident.load(Relaxed).saturating_add(needed) > limit / 100 * full(priority);
        if limit == 0 || !full || in_flight <= LEAST {
            return Some(Room { memory: self, bytes });
        }
        self.arriving.fetch_sub(bytes, Relaxed);
        None
    }

    /// Whether fewer requests than usual are let in.
    pub fn is_short(&self) -> bool {
        self.most() != usize::MAX
    }

    /// So many bytes are resident, of so many, with so many requests in flight.
    pub(super) fn seen(&self, resident: u64, limit: Option<u64>, in_flight: usize) {
        self.resident.store(resident, Relaxed);
        self.arrived.store(0, Relaxed);
        self.limit.store(limit.unwrap_or(0), Relaxed);
        let Some(limit) = limit else { return self.most.store(usize::MAX, Relaxed) };
        let part = |hundredths: u64| limit / 100 * hundredths;
        if resident < part(LOW) || limit == 0 {
            if self.most.swap(usize::MAX, Relaxed) != usize::MAX {
                tracing::info!(resident, limit, "memory is no longer short");
            }
            return;
        }
        let (most, fell_at) = (self.most(), self.fell_at.load(Relaxed));
        let grows = resident > fell_at + fell_at / GROWTH;
        if resident >= part(HIGH) && (most == usize::MAX || grows) {
            if most == usize::MAX {
                tracing::warn!(resident, limit, in_flight, "memory is short: fewer requests are let in");
            }
            self.most.store((most.min(in_flight) / 2).max(LEAST), Relaxed);
            self.fell_at.store(resident, Relaxed);
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.memory.arriving.fetch_sub(self.bytes, Relaxed);
        self.memory.arrived.fetch_add(self.bytes, Relaxed);
    }
}

/// Watches the memory of the process for as long as it runs. `written` is the limit of the configuration; without one, that
/// of the control group counts, if it has one.
pub async fn watch(memory: Arc<Memory>, written: Option<u64>, in_flight: impl Fn() -> usize) {
    let limit = written.or_else(|| of_group(Path::new("/")));
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // A few hundred bytes that the kernel makes up: nothing that could block.
        let Some(resident) = resident() else { return };
        memory.seen(resident, limit, in_flight());
        gauge!("tollgate_memory_resident_bytes").set(as_float(resident));
        gauge!("tollgate_memory_limit_bytes").set(limit.map_or(0.0, as_float));
    }
}

#[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn as_float(bytes: u64) -> f64 {
    bytes as f64
}

/// Bytes of this process that are resident; `None` where the system does not say.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The memory limit of the process's control group (v2, else v1), or of one around it.
fn of_group(root: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (kinds, path) = (parts.next()?, parts.next()?);
        let (dir, file) = match kinds {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if kinds.split(',').any(|kind| kind == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let group = Path::new(path.trim_start_matches('/'));
        // In a container, the group may be seen as the root.
        let around = group.ancestors().filter_map(|above| {
            let text = std::fs::read_to_string(root.join(dir).join(above).join(file)).ok()?;
            text.trim().parse::<u64>().ok()
        });
        around.min()
    });
    // Version 1 writes no limit as an absurdly large one.
    limits.min().filter(|limit| *limit < 1 << 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_are_let_in_while_memory_grows_and_all_when_it_has_come_back() {
        let memory = Memory::default();
        let seen = |resident, in_flight| {
            memory.seen(resident, Some(1_000), in_flight);
            memory.most()
        };
        assert_eq!(seen(840, 500), usize::MAX);
        assert_eq!(seen(860, 500), 250);
        assert_eq!(seen(860, 250), 250, "it has stopped growing");
        assert_eq!(seen(900, 240), 120);
        assert_eq!(seen(990, 100), 50);
        assert_eq!(seen(990, 3), 50);
        assert_eq!(seen(820, 0), 50, "not yet");
        assert_eq!(seen(790, 0), usize::MAX);
        assert_eq!(seen(990, 4), LEAST);
        memory.seen(990, None, 4);
        assert!(!memory.is_short());
        assert!(resident().is_none_or(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn bodies_find_room_for_what_is_not_resident_yet() {
        let memory = Memory::default();
        let usual = Priority::Normal;
        assert!(memory.room_for(u64::MAX / 4, 100, usual).is_some(), "nobody knows of a limit");
        memory.seen(500, Some(1_000), 100);
        let first = memory.room_for(200, 100, usual).expect("room");
        assert!(memory.room_for(50, 100, usual).is_none(), "500 and twice 250 are too much");
        assert!(memory.room_for(50, LEAST, usual).is_some(), "there is room for a few, whatever is seen");
        drop(first);
        assert!(memory.room_for(1, 100, usual).is_none(), "what was read is not seen yet");
        memory.seen(700, Some(1_000), 100);
        assert!(memory.room_for(100, 100, usual).is_some());
        assert!(memory.room_for(100, 100, usual).is_none());
        memory.seen(900, Some(1_000), 100);
        let finds = |bytes, priority| memory.room_for(bytes, 100, priority).is_some();
        assert!(!finds(1, Priority::Low) && finds(1, usual), "low ones are turned away first");
        assert!(!finds(30, usual) && finds(30, Priority::High));
    }

    #[test]
    fn the_limit_of_a_control_group_is_found() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = root.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, text).unwrap();
        };
        assert_eq!(of_group(root.path()), None);
        write("proc/self/cgroup", "0::/house/room\n");
        assert_eq!(of_group(root.path()), None);
        write("sys/fs/cgroup/house/room/memory.max", "max\n");
        write("sys/fs/cgroup/house/memory.max", "134217728\n");
        assert_eq!(of_group(root.path()), Some(128 << 20));
        write("proc/self/cgroup", "4:cpu,cpuacct:/x\n3:memory:/docker/1\n");
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(of_group(root.path()), None);
        write("sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes", "67108864\n");
        assert_eq!(of_group(root.path()), Some(64 << 20));
    }
}
