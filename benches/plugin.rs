//! What a call of a plugin costs: `cargo bench --bench plugin`, with the sample plugins built by `plugins/build`.
//!
//! A fresh instance is compared with one that is used again, which does the plugin's own work and no more. Plugins are
//! looked for in `target/plugins`, or where `TOLLGATE_PLUGINS` says.

use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tollgate::facts::Endpoint;
use tollgate::plugin::{
    Ask, Context, Phase, Plugin, PluginHost, PluginSet, PluginSource, Segment, Services, Window,
};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

const SIZES: [(&str, usize); 2] = [("2 KB", 2 << 10), ("32 KB", 32 << 10)];

/// Microseconds over the plugin's own work that a call on a fresh instance may cost, by prompt.
const BARS: [f64; 2] = [20.0, 25.0];
/// Microseconds that a guard with regular expressions may take for 2 KB, all told.
const GUARD_BAR: f64 = 90.0;

const CLASSIFIER: &str =
    "labels: { code: { words: { function: 1, rust: 2 } }, billing: { words: { invoice: 1, refund: 1 } } }";

fn main() -> Result<()> {
    let dir =
        std::env::var_os("TOLLGATE_PLUGINS").map_or_else(|| PathBuf::from("target/plugins"), PathBuf::from);
    if !dir.is_dir() {
        println!("!!! SKIPPED: no plugins in {}; `plugins/build` makes them", dir.display());
        return Ok(());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = PluginHost::new(Services::default(), None);
    let load = |file: &str, isolation: &str, config: &str| {
        load(&host, &dir, file, isolation, config)
            .map_err(|error| println!("!!! SKIPPED {file}: {error}"))
            .ok()
    };
    let classifier = ["request", "pooled"].map(|isolation| load("keyword-classifier", isolation, CLASSIFIER));
    if let [Some(fresh), Some(reused)] = &classifier {
        classify(&runtime, fresh, reused);
    }
    let guard = ["request", "pooled"].map(|isolation| load("pii-guard", isolation, ""));
    if let [Some(fresh), Some(reused)] = &guard {
        inspect(&runtime, fresh, reused);
    }
    Ok(())
}

fn classify(runtime: &Runtime, fresh: &Arc<Plugin>, reused: &Arc<Plugin>) {
    for ((size, bytes), bar) in SIZES.into_iter().zip(BARS) {
        let ask = ask(bytes);
        let of = |plugin: &Arc<Plugin>| {
            median(runtime, || {
                let call = plugin.classify(Arc::clone(&ask));
                async { assert!(black_box(call.await).answer.is_ok()) }
            })
        };
        let (fresh, reused) = (of(fresh), of(reused));
        let over = fresh.saturating_sub(reused);
        show(&format!("classify {size}, fresh"), fresh, None);
        show(&format!("classify {size}, reused"), reused, None);
        show(&format!("classify {size}, over the plugin's own work"), over, Some(bar));
    }
}

fn inspect(runtime: &Runtime, fresh: &Arc<Plugin>, reused: &Arc<Plugin>) {
    for (place, (size, bytes)) in SIZES.into_iter().enumerate() {
        let ask = ask(bytes);
        for (kind, plugin, bar) in
            [("fresh", fresh, (place == 0).then_some(GUARD_BAR)), ("reused", reused, None)]
        {
            let took = median(runtime, || {
                let call = plugin.inspect(Phase::Request, Arc::clone(&ask));
                async { assert!(black_box(call.await).answer.is_ok()) }
            });
            show(&format!("inspect {size}, {kind}"), took, bar);
        }
    }
    let ask = ask(0);
    let window = Window {
        choice: 0,
        channel: "content".into(),
        before: "Write to ".into(),
        text: "ada@example.com or ring 020 7946".into(),
        last: false,
    };
    let took = median(runtime, || {
        let call = reused.inspect_window(Arc::clone(&ask), window.clone());
        async { assert!(black_box(call.await).answer.is_ok()) }
    });
    show("inspect window of 32 B, reused", took, None);
}

fn load(host: &PluginHost, dir: &Path, file: &str, isolation: &str, config: &str) -> Result<Arc<Plugin>> {
    let yaml = format!(
        "{{ name: {file}, isolation: {isolation}, grants: [log, metrics, clock, random, state, ai, prompt], config: {{ {config} }} }}"
    );
    let source = PluginSource::read(serde_yaml::from_str(&yaml)?, dir);
    let begin = Instant::now();
    let set = PluginSet::load(host, vec![source], None);
    let plugin = set.get(file).ok_or("not in the set")?;
    if let Some(reason) = plugin.absent() {
        return Err(reason.into());
    }
    let (bytes, snapshot) = plugin.loaded().map_or((0, false), |loaded| (loaded.bytes, loaded.snapshot));
    println!("{file}, {isolation}: {bytes} bytes, snapshot {snapshot}, loaded in {:.0?}", begin.elapsed());
    Ok(Arc::clone(plugin))
}

fn ask(bytes: usize) -> Arc<Ask> {
    let sentence = "Please write a function in Rust that adds up the lines of an invoice and mails it to ada@example.com. ";
    let text: String = sentence.chars().cycle().take(bytes).collect();
    let mut context = Context::new("0193", Endpoint::Chat, "auto");
    context.tags = vec![("team".into(), "search".into()), ("feature".into(), "ask".into())];
    Arc::new(Ask { context, segments: vec![Segment::user(0, "messages[0].content", text)] })
}

/// The median processor time of one call, in batches of about 20 ms: others on the machine do not count.
fn median<F: Future<Output = ()>>(runtime: &Runtime, call: impl Fn() -> F) -> Duration {
    let timed = |times: u32| {
        runtime.block_on(async {
            let begin = on_processor();
            for _ in 0..times {
                call().await;
            }
            on_processor().saturating_sub(begin)
        })
    };
    let mut batch = 1_u32;
    while timed(batch) < Duration::from_millis(20) {
        batch *= 2;
    }
    let mut all: Vec<Duration> = (0..25).map(|_| timed(batch) / batch).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// How long this thread has run, as Linux books it; elsewhere, the time that has passed. Linux books at ticks, some
/// milliseconds apart, and whenever a thread yields.
fn on_processor() -> Duration {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let booked = || {
        std::thread::yield_now();
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split_whitespace().next()?.parse().map(Duration::from_nanos).ok()
    };
    booked().unwrap_or_else(|| BEGIN.get_or_init(Instant::now).elapsed())
}

fn show(name: &str, time: Duration, bar: Option<f64>) {
    let micros = time.as_secs_f64() * 1e6;
    let verdict = match bar {
        Some(bar) if micros <= bar => format!("  (bar {bar} µs)"),
        Some(bar) => format!("  OVER ITS BAR of {bar} µs"),
        None => String::new(),
    };
    println!("{name:<48} {micros:>9.1} µs{verdict}");
}
