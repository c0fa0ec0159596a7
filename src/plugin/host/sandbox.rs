//! The engines that plugins run in, and the clock that interrupts them.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{
    Cache, CacheConfig, Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel,
    PoolingAllocationConfig,
};

use super::cell::Cell;
use super::imports;
use super::kept::private_dir;
use super::ticker::Ticker;

/// Stack of a plugin's own functions; an endless recursion ends here.
const WASM_STACK: usize = 512 << 10;
/// Stack of a call: the plugin's, and that of the host functions that it calls.
const CALL_STACK: usize = 2 << 20;
/// Pages of a memory that are wiped rather than given back between two instances.
const KEPT_RESIDENT: usize = 256 << 10;
/// The same of a table, which mostly is a few kilobytes of pointers to functions.
const KEPT_TABLES: usize = 64 << 10;

/// Where plugins run.
pub(in crate::plugin) struct Sandbox {
    /// Runs calls.
    pub(super) engine: Engine,
    pub(super) linker: Linker<Cell>,
    /// Compiles fast and runs slowly: for the one call of `init` of which a snapshot is made.
    pub(super) draft: Engine,
    pub(super) draft_linker: Linker<Cell>,
    pub(super) ticker: Ticker,
    /// Instances alive at once, of all plugins.
    pub(super) slots: Arc<Semaphore>,
}

impl Sandbox {
    /// Starts the engines. `cache` is the directory of compiled code; `instances` is how many may live at once.
    ///
    /// # Errors
    /// When the machine cannot run WebAssembly this way at all.
    pub(in crate::plugin) fn start(cache: Option<&Path>, instances: u32) -> Result<Self, String> {
        let mut config = config();
        if let Some(dir) = cache {
            match compiled_code(dir) {
                Ok(cache) => drop(config.cache(Some(cache))),
                Err(error) => tracing::warn!(
                    dir = %dir.display(), error,
                    "no cache of compiled plugins: each start compiles them again"
                ),
            }
        }
        let engine = pooled(&config, instances)?;
        let mut draft = self::config();
        draft.cranelift_opt_level(OptLevel::None);
        let draft = Engine::new(&draft).map_err(|error| format!("WebAssembly engine: {error:#}"))?;
        Ok(Self {
            linker: imports::linker(&engine)?,
            draft_linker: imports::linker(&draft)?,
            ticker: Ticker::start(&[&engine, &draft])?,
            engine,
            draft,
            slots: Arc::new(Semaphore::new(usize::try_from(instances).unwrap_or(usize::MAX >> 4))),
        })
    }
}

/// The cache of compiled code below the directory `dir`.
fn compiled_code(dir: &Path) -> Result<Cache, String> {
    let dir = dir.join("compiled");
    private_dir(&dir).map_err(|error| error.to_string())?;
    let dir = dir.canonicalize().map_err(|error| error.to_string())?;
    let mut settings = CacheConfig::new();
    settings.with_directory(dir);
    Cache::new(settings).map_err(|error| format!("{error:#}"))
}

/// With a pool where the machine has the address space for it, else without.
fn pooled(config: &Config, instances: u32) -> Result<Engine, String> {
    let mut with_pool = config.clone();
    with_pool.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)));
    let error = match Engine::new(&with_pool) {
        Ok(engine) => return Ok(engine),
        Err(error) => error,
    };
    tracing::warn!(
        error = format!("{error:#}"),
        "no pool for plugins: their instances are made on demand, which costs more"
    );
    Engine::new(config).map_err(|error| format!("WebAssembly engine: {error:#}"))
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(CALL_STACK);
    config
}

/// A component made by wit-bindgen consists of three core instances, one made by QuickJS or CPython of many more.
fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(5))
        .total_memories(instances.saturating_mul(2))
        .total_tables(instances.saturating_mul(4))
        .total_stacks(instances)
        .max_memories_per_module(8)
        .max_tables_per_module(8)
        .max_memory_size(crate::plugin::MEMORY_CAP_BYTES)
        .linear_memory_keep_resident(KEPT_RESIDENT)
        .table_keep_resident(KEPT_TABLES)
        .pagemap_scan(Enabled::Auto)
        .max_unused_warm_slots(64);
    pool
}

/// How long a tick is: the shortest time that a plugin runs without letting others run.
pub(super) const TICK: Duration = Duration::from_millis(1);
