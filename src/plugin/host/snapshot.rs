//! The memory that `init` leaves behind, written into the component: every later instance begins with it.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;
use wasmtime::component::{Component, Instance as Running, Lift, WasmList};
use wasmtime_wizer::{ComponentInstanceState, Wizer};

use super::cell::Cell;
use super::grantee::Grantee;
use super::guest::Exports;
use super::instance::Instance;
use super::sandbox::Sandbox;
use crate::plugin::function::Function;
use crate::plugin::settings::PluginLimits;

/// Time of one question about the memory of an instance.
const QUESTION: Duration = Duration::from_secs(5);

/// Why there is no snapshot.
pub(super) enum NoSnapshot {
    /// The component is built in a way that snapshots do not know: it can be used without.
    Unsuited(String),
    /// `init` failed: the plugin cannot be used.
    Broken(String),
}

/// Runs `init` in a draft of the component and returns the component as it is afterwards.
pub(super) async fn snapshot(
    sandbox: &Sandbox,
    grantee: &Arc<Grantee>,
    limits: &PluginLimits,
    component: &[u8],
    config: &str,
) -> Result<Vec<u8>, NoSnapshot> {
    let unsuited = |error: wasmtime::Error| NoSnapshot::Unsuited(format!("{error:#}"));
    let wizer = Wizer::new();
    let (context, instrumented) = wizer.instrument_component(component).map_err(unsuited)?;
    let draft = Component::new(&sandbox.draft, &instrumented).map_err(unsuited)?;
    let pre = sandbox
        .draft_linker
        .instantiate_pre(&draft)
        .map_err(|error| NoSnapshot::Broken(format!("its imports do not fit the contract: {error:#}")))?;
    let memory = usize::try_from(limits.memory.0).unwrap_or(usize::MAX);
    // The snapshot is read out of the instance in one piece.
    let store = Cell::store(&sandbox.draft, Arc::clone(grantee), memory, usize::MAX);
    let limit = limits.init.0;
    let _ticking = sandbox.ticker.tick();
    let broken = |error: &dyn std::fmt::Display| NoSnapshot::Broken(format!("init: {error}"));
    let mut instance = Instance::begin(store, &pre, None, limit).await.map_err(|fault| broken(&fault))?;
    let exports = Exports::of(&draft);
    let init = exports.find(Function::Init).ok_or_else(|| broken(&"it is not exported"))?;
    let (done,): (Result<(), String>,) =
        instance.call(init, (config,), limit, usize::MAX).await.map_err(|fault| broken(&fault))?;
    done.map_err(|said| broken(&said.chars().take(2_000).collect::<String>()))?;
    let (store, running) = instance.parts();
    let mut memory = Memory { store, running, fault: None };
    let snapshot = wizer.snapshot_component(&context, &mut memory).await.map_err(unsuited)?;
    match memory.fault {
        None => Ok(snapshot),
        Some(fault) => Err(NoSnapshot::Unsuited(fault)),
    }
}

/// Reads globals and memories of an instrumented instance through the functions that the instrumentation added.
struct Memory<'a> {
    store: &'a mut Store<Cell>,
    running: Running,
    /// The first question that could not be answered; the answers of this trait have no room for it.
    fault: Option<String>,
}

impl Memory<'_> {
    async fn read<R: Lift + Send + Sync + 'static>(&mut self, instance: &str, name: &str) -> Option<R> {
        let read = self.try_read(instance, name).await;
        read.map_err(|error| {
            self.fault.get_or_insert_with(|| format!("{instance} {name}: {error:#}"));
        })
        .ok()
    }

    async fn try_read<R: Lift + Send + Sync + 'static>(
        &mut self,
        instance: &str,
        name: &str,
    ) -> wasmtime::Result<R> {
        let missing = || wasmtime::Error::msg("not exported");
        let outer = self.running.get_export_index(&mut *self.store, None, instance).ok_or_else(missing)?;
        let inner =
            self.running.get_export_index(&mut *self.store, Some(&outer), name).ok_or_else(missing)?;
        let function = self.running.get_typed_func::<(), (R,)>(&mut *self.store, inner)?;
        Cell::allow(self.store, QUESTION);
        Ok(function.call_async(&mut *self.store, ()).await?.0)
    }
}

impl ComponentInstanceState for Memory<'_> {
    async fn call_func_ret_list_u8(
        &mut self,
        instance: &str,
        name: &str,
        contents: impl FnOnce(&[u8]) + Send,
    ) {
        match self.read::<WasmList<u8>>(instance, name).await {
            Some(list) => contents(list.as_le_slice(&*self.store)),
            None => contents(&[]),
        }
    }

    async fn call_func_ret_s32(&mut self, instance: &str, name: &str) -> i32 {
        self.read(instance, name).await.unwrap_or_default()
    }

    async fn call_func_ret_s64(&mut self, instance: &str, name: &str) -> i64 {
        self.read(instance, name).await.unwrap_or_default()
    }

    async fn call_func_ret_f32(&mut self, instance: &str, name: &str) -> u32 {
        self.read::<f32>(instance, name).await.unwrap_or_default().to_bits()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, name: &str) -> u64 {
        self.read::<f64>(instance, name).await.unwrap_or_default().to_bits()
    }
}
