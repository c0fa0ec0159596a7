//! A plugin that was prepared: its component ready to be instantiated, and the instances that wait for work.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use wasmtime::component::{Component, ComponentExportIndex, ComponentNamedList, InstancePre, Lift, Lower};

use super::cell::Cell;
use super::grantee::Grantee;
use super::instance::Instance;
use super::sandbox::Sandbox;
use crate::plugin::Loaded;
use crate::plugin::ask::Ask;
use crate::plugin::function::{Function, full_name};
use crate::plugin::outcome::{CallFault, Outcome};
use crate::plugin::settings::{Interface, Isolation, PluginLimits};

/// Bytes that a plugin may hand over at once: texts of 1 MiB and lists of findings.
const FUEL: usize = 4 << 20;
/// The same for dialects, whose answers are whole bodies.
const DIALECT_FUEL: usize = 64 << 20;
/// How long a call waits before it tries again to get an instance from an exhausted pool.
const RETRY: Duration = Duration::from_millis(1);

/// A prepared plugin.
pub(in crate::plugin) struct Guest {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) grantee: Arc<Grantee>,
    pub(super) pre: InstancePre<Cell>,
    pub(super) exports: Exports,
    pub(super) limits: PluginLimits,
    pub(super) loaded: Loaded,
    /// For `init`, where instances do not begin with its result.
    pub(super) config: String,
    /// Calls at once.
    pub(super) places: Semaphore,
    /// Instances between two calls, where they are used again.
    pub(super) idle: Mutex<Vec<Instance>>,
}

/// Where in the component each function of the contract is.
pub(super) struct Exports([Option<ComponentExportIndex>; Function::ALL.len()]);

impl Exports {
    pub(super) fn of(component: &Component) -> Self {
        Self(Function::ALL.map(|function| {
            let (interface, name) = function.path();
            let interface = component.get_export_index(None, full_name(interface).as_str())?;
            component.get_export_index(Some(&interface), name)
        }))
    }

    pub(super) fn find(&self, function: Function) -> Option<&ComponentExportIndex> {
        self.0.get(function as usize)?.as_ref()
    }

    pub(super) fn interfaces(&self) -> Vec<Interface> {
        let there = |interface: &Interface| {
            Function::ALL
                .iter()
                .any(|function| function.interface() == Some(*interface) && self.find(*function).is_some())
        };
        Interface::ALL.into_iter().filter(there).collect()
    }
}

impl Guest {
    pub(in crate::plugin) fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// The time that this function has.
    pub(super) fn limit(&self, function: Function) -> Duration {
        match function {
            Function::InspectWindow => self.limits.window,
            Function::Complete => self.limits.observe,
            Function::Init | Function::SelfTest => self.limits.init,
            _ => self.limits.time,
        }
        .0
    }

    /// Calls a function in an instance as the isolation wants it.
    pub(super) async fn enter<P, R>(
        &self,
        function: Function,
        params: P,
        limit: Duration,
        about: Option<Arc<Ask>>,
    ) -> Result<(R, usize), CallFault>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let export = self.export(function)?;
        let _place = self.place().await?;
        let _ticking = self.sandbox.ticker.tick();
        let mut instance = self.check_out(limit).await?;
        instance.store.data_mut().about = about;
        let returned = instance.call(export, params, limit, fuel(function)).await?;
        let memory = instance.memory();
        self.check_in(instance);
        Ok((returned, memory))
    }

    /// Where a function is, or that the plugin has none of this name.
    pub(super) fn export(&self, function: Function) -> Result<&ComponentExportIndex, CallFault> {
        self.exports.find(function).ok_or_else(|| {
            let (interface, name) = function.path();
            CallFault::new(Outcome::Absent, format!("the plugin does not export `{interface}.{name}`"))
        })
    }

    /// The right to run, of which the plugin has `limits.concurrency`.
    pub(super) async fn place(&self) -> Result<SemaphorePermit<'_>, CallFault> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        match tokio::time::timeout(self.limits.wait.0, self.places.acquire()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(self.busy("as many calls as it may have at once are running")),
        }
    }

    /// An instance: one that waits, or a new one.
    async fn check_out(&self, limit: Duration) -> Result<Instance, CallFault> {
        if self.loaded.isolation == Isolation::Pooled {
            let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            if let Some(instance) = idle {
                return Ok(instance);
            }
        }
        self.begin(limit).await
    }

    /// A new instance, `init` done.
    pub(super) async fn begin(&self, limit: Duration) -> Result<Instance, CallFault> {
        let patience = Instant::now() + self.limits.wait.0;
        let slot = self.slot().await?;
        let mut slot = Some(slot);
        let mut instance = loop {
            let made = Instance::begin(self.store(), &self.pre, slot.take(), limit).await;
            match made {
                Err(fault) if fault.outcome == Outcome::Busy && Instant::now() < patience => {
                    tokio::time::sleep(RETRY).await;
                    slot = Some(self.slot().await?);
                }
                made => break made?,
            }
        };
        if !self.loaded.snapshot {
            let init = self.export(Function::Init)?;
            let limit = self.limits.init.0;
            let (done,): (Result<(), String>,) =
                instance.call(init, (self.config.as_str(),), limit, FUEL).await?;
            done.map_err(|said| CallFault::new(Outcome::Failure, format!("init: {said}")))?;
            instance.settle();
        }
        Ok(instance)
    }

    fn check_in(&self, instance: Instance) {
        if self.loaded.isolation == Isolation::Pooled && !instance.worn() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
        }
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit, CallFault> {
        let slots = &self.sandbox.slots;
        if let Ok(slot) = Arc::clone(slots).try_acquire_owned() {
            return Ok(slot);
        }
        match tokio::time::timeout(self.limits.wait.0, Arc::clone(slots).acquire_owned()).await {
            Ok(Ok(slot)) => Ok(slot),
            _ => Err(self.busy("all instances that plugins may have at once are taken")),
        }
    }

    fn store(&self) -> wasmtime::Store<Cell> {
        let memory = usize::try_from(self.limits.memory.0).unwrap_or(usize::MAX);
        Cell::store(&self.sandbox.engine, Arc::clone(&self.grantee), memory, FUEL)
    }

    fn busy(&self, why: &str) -> CallFault {
        CallFault::new(Outcome::Busy, format!("{why}, and waited {}", self.limits.wait))
    }
}

/// Bytes that the plugin may hand over in a call of this function.
pub(super) fn fuel(function: Function) -> usize {
    if function.interface() == Some(Interface::Dialect) { DIALECT_FUEL } else { FUEL }
}
