//! What belongs to one instance: its bounds, and what it may ask of the host.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::{Engine, ResourceLimiter, Store, UpdateDeadline};

use super::grantee::Grantee;
use super::road;
use crate::plugin::ask::Ask;

/// Core instances, tables and memories of one component: Python has more than 16.
const PARTS: usize = 64;
/// Elements of all tables of one instance.
const TABLE_ELEMENTS: usize = 100_000;

/// Ticks that a call may run before its time can be up: on a machine that is busy, time passes while nobody runs, and a
/// call that needs microseconds shall not end because its thread had to wait.
const FAIR_TICKS: u32 = 3;

/// The data of a store.
pub(super) struct Cell {
    pub(super) grantee: Arc<Grantee>,
    pub(super) ceiling: Ceiling,
    /// When the call that runs now must be over.
    pub(super) deadline: Instant,
    /// Ticks in which this call has run.
    pub(super) ticks: u32,
    /// The request that the call is about.
    pub(super) about: Option<Arc<Ask>>,
}

/// How large an instance may grow.
pub(super) struct Ceiling {
    most: usize,
    /// Bytes of all memories.
    pub(super) memory: usize,
    table: usize,
    /// What was refused, in words; a call that was refused memory does not go on.
    pub(super) refused: Option<String>,
}

/// The time of the call is up.
#[derive(Debug)]
pub(super) struct Overdue;

impl std::fmt::Display for Overdue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the time of the call is up")
    }
}

impl std::error::Error for Overdue {}

impl Cell {
    /// A store for one instance of up to `memory` bytes, from which the plugin can hand the host up to `fuel` bytes at
    /// once.
    pub(super) fn store(engine: &Engine, grantee: Arc<Grantee>, memory: usize, fuel: usize) -> Store<Self> {
        let ceiling = Ceiling::of(memory);
        let cell = Self { grantee, ceiling, deadline: Instant::now(), ticks: 0, about: None };
        let mut store = Store::new(engine, cell);
        store.limiter(|cell| &mut cell.ceiling);
        store.set_hostcall_fuel(fuel);
        store.epoch_deadline_callback(|mut store| {
            road::computed();
            let cell = store.data_mut();
            cell.ticks += 1;
            if cell.ticks >= FAIR_TICKS && Instant::now() >= cell.deadline {
                return Err(Overdue.into());
            }
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store
    }

    /// Gives the next call this much time. Two ticks, since the first may come at once, and a call that takes
    /// microseconds shall not be interrupted.
    pub(super) fn allow(store: &mut Store<Self>, time: Duration) -> Instant {
        let deadline = Instant::now() + time;
        let cell = store.data_mut();
        (cell.deadline, cell.ticks) = (deadline, 0);
        store.set_epoch_deadline(2);
        deadline
    }
}

impl Ceiling {
    /// Up to this many bytes of memory.
    pub(super) fn of(most: usize) -> Self {
        Self { most, memory: 0, table: 0, refused: None }
    }
}

impl ResourceLimiter for Ceiling {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.memory.saturating_add(desired.saturating_sub(current));
        if wanted > self.most {
            let text = format!("wanted {wanted} bytes of memory, may have {}", self.most);
            self.refused = Some(text.clone());
            return Err(wasmtime::Error::msg(text));
        }
        self.memory = wanted;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.refused = Some(format!("the memory could not grow: {error:#}"));
        Err(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.table.saturating_add(desired.saturating_sub(current));
        if wanted > TABLE_ELEMENTS {
            let text = format!("wanted tables of {wanted} elements, may have {TABLE_ELEMENTS}");
            self.refused = Some(text.clone());
            return Err(wasmtime::Error::msg(text));
        }
        self.table = wanted;
        Ok(true)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}
