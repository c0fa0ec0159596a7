//! From a file to a plugin that can be asked: componentised, checked against its grants, initialised, compiled, tried.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

use tokio::sync::Semaphore;
use wasmtime::component::Component;

use super::contract::{self, Edge};
use super::grantee::{Grantee, Voice};
use super::guest::{Exports, Guest};
use super::kept::Kept;
use super::sandbox::Sandbox;
use super::snapshot::{NoSnapshot, snapshot};
use super::trial;
use crate::plugin::Loaded;
use crate::plugin::allow_list::AllowList;
use crate::plugin::answer::Manifest;
use crate::plugin::service::Services;
use crate::plugin::set::Belongings;
use crate::plugin::settings::{Capability, Isolation, PluginSettings};

/// Stack of the thread that compiles.
const STACK: usize = 16 << 20;

/// All that is needed to prepare a plugin.
pub(in crate::plugin) struct Preparation {
    pub(in crate::plugin) sandbox: Arc<Sandbox>,
    pub(in crate::plugin) services: Services,
    pub(in crate::plugin) belongings: Belongings,
    pub(in crate::plugin) cache: Option<PathBuf>,
    pub(in crate::plugin) settings: PluginSettings,
    pub(in crate::plugin) bytes: Vec<u8>,
}

impl Preparation {
    /// Prepares the plugin on a thread of its own, where a file that makes the compiler panic or stall harms nobody: the
    /// receiver hears what came of it, or that nothing will.
    pub(in crate::plugin) fn start(self) -> Result<Receiver<Result<Guest, String>>, String> {
        let (done, waiting) = mpsc::sync_channel(1);
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let guest = match runtime {
                Ok(runtime) => runtime.block_on(self.prepare()),
                Err(error) => Err(format!("runtime: {error}")),
            };
            // Nobody waits any more where the patience was over.
            let _ = done.send(guest);
        };
        let builder = thread::Builder::new().name("plugin-prepare".into()).stack_size(STACK);
        builder.spawn(work).map_err(|error| format!("thread: {error}"))?;
        Ok(waiting)
    }

    async fn prepare(self) -> Result<Guest, String> {
        let started = Instant::now();
        let component = contract::component(&self.bytes)?;
        let edge = contract::edge(&component)?;
        edge.check(&self.settings)?;
        let grantee = Arc::new(self.grantee()?);
        let config = self.settings.config_json();
        // What `init` learned from others may be otherwise the next time.
        let alone = !edge.imported().iter().any(|import| matches!(&**import, "ai" | "http"));
        let (component, is_snapshot) = match self.snapshot(&grantee, &component, &config, alone).await? {
            Some(snapshot) => (snapshot, true),
            None => (component.into_owned(), false),
        };
        let compiled = Component::new(&self.sandbox.engine, &component)
            .map_err(|error| format!("cannot be compiled: {error:#}"))?;
        let mut guest = self.guest(grantee, &compiled, &edge, is_snapshot)?;
        trial::run(&mut guest).await?;
        check_needs(&guest.loaded.manifest, &self.settings)?;
        guest.grantee.serve();
        guest.loaded.prepared_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Ok(guest)
    }

    fn grantee(&self) -> Result<Grantee, String> {
        Ok(Grantee {
            name: self.settings.name.as_str().into(),
            services: self.services.clone(),
            shelf: Arc::clone(&self.belongings.shelf),
            series: Arc::clone(&self.belongings.series),
            hosts: AllowList::read(&self.settings.hosts().unwrap_or_default())?,
            voice: Voice::default(),
            trial: AtomicBool::new(true),
        })
    }

    /// The component after `init`, made or found; `None` where it has to run in every instance.
    async fn snapshot(
        &self,
        grantee: &Arc<Grantee>,
        component: &[u8],
        config: &str,
        keep: bool,
    ) -> Result<Option<Vec<u8>>, String> {
        let kept = self.cache.as_deref().filter(|_| keep).map(|cache| Kept::place(cache, component, config));
        if let Some(found) = kept.as_ref().and_then(Kept::read) {
            return Ok(Some(found));
        }
        match snapshot(&self.sandbox, grantee, &self.settings.limits, component, config).await {
            Ok(made) => {
                if let Some(kept) = &kept {
                    kept.write(&made);
                }
                Ok(Some(made))
            }
            Err(NoSnapshot::Broken(error)) => Err(error),
            Err(NoSnapshot::Unsuited(why)) => {
                let plugin = &*self.settings.name;
                tracing::info!(
                    plugin,
                    why,
                    "no snapshot of a plugin can be made: it is started once and its instances are used again (`isolation: pooled`)"
                );
                Ok(None)
            }
        }
    }

    fn guest(
        &self,
        grantee: Arc<Grantee>,
        component: &Component,
        edge: &Edge,
        snapshot: bool,
    ) -> Result<Guest, String> {
        let pre = self
            .sandbox
            .linker
            .instantiate_pre(component)
            .map_err(|error| format!("its imports do not fit the contract: {error:#}"))?;
        let exports = Exports::of(component);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let concurrency = self.settings.limits.concurrency.and_then(|limit| usize::try_from(limit).ok());
        Ok(Guest {
            loaded: Loaded {
                manifest: Manifest::default(),
                exports: exports.interfaces(),
                functions: Vec::new(),
                imports: edge.imported(),
                bytes: self.bytes.len(),
                snapshot,
                isolation: if snapshot { self.settings.isolation } else { Isolation::Pooled },
                prepared_ms: 0,
            },
            sandbox: Arc::clone(&self.sandbox),
            grantee,
            pre,
            exports,
            limits: self.settings.limits.clone(),
            config: self.settings.config_json(),
            places: Semaphore::new(concurrency.unwrap_or(4 * cores).min(Semaphore::MAX_PERMITS)),
            idle: Mutex::default(),
        })
    }
}

fn check_needs(manifest: &Manifest, settings: &PluginSettings) -> Result<(), String> {
    manifest.check().map_err(|error| format!("describe: {error}"))?;
    if manifest.needs.segments && !settings.grants(Capability::Prompt) {
        return Err(
            "it needs the text of requests, which it was not granted: add `prompt` to the plugin's `grants`"
                .into(),
        );
    }
    Ok(())
}
