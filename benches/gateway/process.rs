//! What a process has cost so far, as Linux counts it in `/proc`.

use std::fs;
use std::time::Duration;

use crate::Result;

/// A running process.
#[derive(Debug, Clone, Copy)]
pub struct Process(pub u32);

/// Ticks per second of `/proc/PID/stat`; 100 on every Linux that user space sees.
const TICK: Duration = Duration::from_millis(10);

impl Process {
    /// CPU time of all threads, user and system, living and ended.
    ///
    /// The scheduler's own counters (nanoseconds) know living threads only, `stat` (10 ms) knows both: the larger of
    /// the two is the truth, short of one tick.
    pub fn cpu(self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
        // utime and stime are fields 14 and 15, counted from 1; the command's closing bracket ends field 2.
        let ticks: u32 = fields.skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
        Ok(self.scheduled().unwrap_or_default().max(TICK * ticks))
    }

    /// Resident memory in MiB.
    pub fn resident(self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// The most that was ever resident, in MiB.
    pub fn most_resident(self) -> Result<f64> {
        self.status("VmHWM:")
    }

    fn scheduled(self) -> Option<Duration> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).ok()?;
        let nanos = threads.filter_map(|thread| {
            // A thread that ends meanwhile has no file any more.
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<u64>().ok()
        });
        Some(Duration::from_nanos(nanos.sum()))
    }

    fn status(self, field: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kib =
            line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|kib| kib.trim().parse().ok());
        kib.map(|kib: f64| kib / 1024.0).ok_or_else(|| format!("no {field} of process {}", self.0).into())
    }
}
