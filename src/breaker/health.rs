//! The health of every target, learnt from the traffic: recorded by all workers as it happens, added up once a second,
//! and read by everybody without a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::Serialize;
use tokio::time::Instant;

use super::alert::Alarms;
use super::load::Loads;
use super::settings::HealthSettings;
use super::window::{SLOTS, Total, Verdict, Window};
use crate::target::TargetName;

/// Clients may ask for any model by name; so many targets are watched, the rest of a provider's share one window.
const MOST_TARGETS: usize = 512;

/// How often figures are added up.
pub const TICK: Duration = Duration::from_secs(1);

/// What everybody records to and reads from.
pub struct Health {
    began: Instant,
    windows: ArcSwap<Windows>,
    readings: ArcSwap<Readings>,
    /// Held while windows are added and figures made; never by who records or reads.
    keeper: Mutex<Alarms>,
    /// How busy targets are.
    pub loads: Loads,
}

#[derive(Default)]
struct Windows {
    settings: HealthSettings,
    /// Length of one slot, in milliseconds.
    slot_ms: u64,
    targets: HashMap<TargetName, Arc<Window>>,
}

/// The figures of one moment.
#[derive(Debug, Default)]
pub struct Readings {
    /// By `provider/model`.
    targets: HashMap<Box<str>, Reading>,
    providers: BTreeMap<Arc<str>, ProviderReading>,
}

/// The figures of one target within the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Reading {
    /// Attempts whose end says something of the provider.
    pub attempts: u64,
    /// Those that failed, rate limits among them.
    pub failed: u64,
    /// Those that met a rate limit (429).
    pub throttled: u64,
    /// `failed / attempts`, 0 to 1; 0 without attempts.
    pub error_rate: f64,
    /// Milliseconds to the end of an answer: the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// The same, for 95 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// The same, for 99 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Milliseconds to the first content of a stream: the median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_p50_ms: Option<f64>,
    /// The same, for 95 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_p95_ms: Option<f64>,
    /// The same, for 99 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_p99_ms: Option<f64>,
    /// Generated tokens in a second: the median over answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
}

/// The figures of all targets of one provider together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct ProviderReading {
    /// The figures.
    #[serde(flatten)]
    pub reading: Reading,
    /// Whether the error rate is above its bound.
    pub alert: bool,
}

/// What one attempt's end looks like to the registry.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    /// From the start of the attempt to the end of the answer.
    pub took: Duration,
    /// From the start of the attempt to the first content, for streams.
    pub first_token: Option<Duration>,
    /// Generated tokens, where they are known.
    pub tokens: Option<u64>,
}

impl Health {
    /// A registry that has seen nothing.
    pub fn new(settings: HealthSettings, now: Instant) -> Self {
        Self {
            began: now,
            windows: ArcSwap::from_pointee(Windows::new(settings)),
            readings: ArcSwap::default(),
            keeper: Mutex::default(),
            loads: Loads::new(now),
        }
    }

    /// Takes other settings. Another window begins with no figures.
    pub fn configure(&self, settings: HealthSettings) {
        let _keeper = self.keep();
        let older = self.windows.load();
        if older.settings == settings {
            return;
        }
        let mut fresh = Windows::new(settings);
        if older.slot_ms == fresh.slot_ms {
            fresh.targets.clone_from(&older.targets);
        }
        self.windows.store(Arc::new(fresh));
    }

    /// An attempt has come to its verdict; for streams, with the time that its first content took.
    pub fn attempted(
        &self,
        target: &TargetName,
        verdict: Verdict,
        first_token: Option<Duration>,
        now: Instant,
    ) {
        if verdict != Verdict::Void {
            self.with(target, now, |window, slot| {
                window.verdict(slot, verdict);
                if let Some(first) = first_token {
                    window.first_token(slot, millis(first));
                }
            });
        }
    }

    /// A stream whose attempt had been good broke off.
    pub fn broke(&self, target: &TargetName, now: Instant) {
        self.with(target, now, |window, slot| window.broke(slot));
    }

    /// A whole answer, or a stream to its end.
    pub fn answered(&self, target: &TargetName, answer: Answer, now: Instant) {
        let (took, first) = (millis(answer.took), answer.first_token.map(millis));
        // What came in one piece was generated in all of the time; a stream after its first content.
        let generating = took.saturating_sub(first.unwrap_or(0)).max(1);
        let speed = answer.tokens.filter(|tokens| *tokens > 1);
        let speed = speed.map(|tokens| tokens.saturating_mul(10_000) / generating);
        self.with(target, now, |window, slot| window.answered(slot, took, speed));
    }

    /// The latest figures.
    pub fn readings(&self) -> Arc<Readings> {
        self.readings.load_full()
    }

    /// Adds up and clears what is too old; called once a second.
    pub fn tick(&self, now: Instant) {
        self.loads.tick(now);
        let mut alarms = self.keep();
        let windows = self.windows.load();
        let slot = windows.slot(self.began, now);
        let mut targets = HashMap::with_capacity(windows.targets.len());
        let mut providers: BTreeMap<Arc<str>, Total> = BTreeMap::new();
        for (target, window) in &windows.targets {
            let total = window.total(slot);
            window.turn(slot);
            providers.entry(target.provider.clone()).or_default().join(&total);
            if !total.is_empty() {
                targets.insert(target.to_string().into(), Reading::of(&total));
            }
        }
        let providers: BTreeMap<_, _> = providers
            .into_iter()
            .map(|(name, total)| {
                let reading = Reading::of(&total);
                let alert = alarms.judge(&name, &reading, windows.settings.alert);
                (name, ProviderReading { reading, alert })
            })
            .collect();
        alarms.show(&providers);
        if targets.len() < windows.targets.len() {
            let mut kept = windows.targets.clone();
            // Windows are made and forgotten under the keeper's lock only.
            kept.retain(|target, window| targets.contains_key(&*target.to_string()) || !window.is_old(slot));
            let Windows { settings, slot_ms, .. } = **windows;
            self.windows.store(Arc::new(Windows { settings, slot_ms, targets: kept }));
        }
        self.readings.store(Arc::new(Readings { targets, providers }));
    }

    fn with(&self, target: &TargetName, now: Instant, write: impl FnOnce(&Window, u64)) {
        let windows = self.windows.load();
        let slot = windows.slot(self.began, now);
        match windows.targets.get(target) {
            Some(window) => write(window, slot),
            None => write(&self.open(target, slot), slot),
        }
    }

    /// The window of a target that was not seen before.
    #[cold]
    fn open(&self, target: &TargetName, slot: u64) -> Arc<Window> {
        let _keeper = self.keep();
        let windows = self.windows.load();
        let full = windows.targets.len() >= MOST_TARGETS;
        let target = if full { TargetName { model: "*".into(), ..target.clone() } } else { target.clone() };
        if let Some(window) = windows.targets.get(&target) {
            return window.clone();
        }
        let window = Arc::new(Window::new(slot));
        let mut targets = windows.targets.clone();
        targets.insert(target, window.clone());
        self.windows.store(Arc::new(Windows {
            settings: windows.settings,
            slot_ms: windows.slot_ms,
            targets,
        }));
        window
    }

    fn keep(&self) -> std::sync::MutexGuard<'_, Alarms> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Windows {
    fn new(settings: HealthSettings) -> Self {
        let slot_ms = (millis(settings.window.0) / SLOTS).max(1);
        Self { settings, slot_ms, targets: HashMap::new() }
    }

    fn slot(&self, began: Instant, now: Instant) -> u64 {
        // Slots begin beyond the length of the ring, so that there is a past from the start.
        millis(now.saturating_duration_since(began)) / self.slot_ms + 2 * SLOTS
    }
}

impl Readings {
    /// Providers that fail too often now.
    pub fn failing(&self) -> Vec<Arc<str>> {
        let failing = self.providers.iter().filter(|(_, reading)| reading.alert);
        failing.map(|(name, _)| name.clone()).collect()
    }

    /// The figures of `provider/model`; `None` when nothing has been heard of it.
    pub fn of(&self, target: &str) -> Option<&Reading> {
        self.targets.get(target)
    }

    /// All targets of a provider, sorted by model.
    pub fn targets_of(&self, provider: &str) -> Vec<(&str, &Reading)> {
        let own = self.targets.iter().filter_map(|(target, reading)| {
            let (name, model) = target.split_once('/')?;
            (name == provider).then_some((model, reading))
        });
        let mut own: Vec<_> = own.collect();
        own.sort_by_key(|(model, _)| *model);
        own
    }

    /// The figures of a provider as a whole.
    pub fn provider(&self, name: &str) -> Option<&ProviderReading> {
        self.providers.get(name)
    }
}

impl Reading {
    fn of(total: &Total) -> Self {
        let attempts = total.good + total.failed + total.throttled;
        // A stream that broke off was counted as good when it began, maybe before the window did.
        let failed = (total.failed + total.throttled + total.broken).min(attempts);
        Self {
            attempts,
            failed,
            throttled: total.throttled,
            error_rate: share(failed, attempts),
            p50_ms: total.latency.percentile(0.5),
            p95_ms: total.latency.percentile(0.95),
            p99_ms: total.latency.percentile(0.99),
            first_token_p50_ms: total.first_token.percentile(0.5),
            first_token_p95_ms: total.first_token.percentile(0.95),
            first_token_p99_ms: total.first_token.percentile(0.99),
            tokens_per_second: total.speed.percentile(0.5).map(|tenths| tenths / 10.0),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share for displays and bounds")]
fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Period;

    fn target(name: &str) -> TargetName {
        TargetName::parse(name).unwrap()
    }

    fn answer(ms: u64, tokens: u64) -> Answer {
        Answer { took: Duration::from_millis(ms), first_token: None, tokens: Some(tokens) }
    }

    async fn pass(health: &Health, seconds: u64) {
        for _ in 0..seconds {
            tokio::time::sleep(TICK).await;
            health.tick(Instant::now());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn figures_come_within_a_second_and_go_with_the_window() {
        let health = Health::new(HealthSettings::default(), Instant::now());
        let (a, b) = (target("openai/a"), target("openai/b"));
        assert_eq!(health.readings().of(&a.to_string()), None);
        for ms in 1..=100 {
            health.attempted(&a, Verdict::Good, None, Instant::now());
            health.answered(&a, answer(ms * 10, 100), Instant::now());
        }
        health.attempted(&b, Verdict::Failed, None, Instant::now());
        health.attempted(&b, Verdict::Throttled, None, Instant::now());
        health.attempted(&b, Verdict::Void, None, Instant::now());
        pass(&health, 1).await;
        let readings = health.readings();
        let reading = readings.of(&a.to_string()).unwrap();
        let near = |found: Option<f64>, truth: f64| (found.unwrap() - truth).abs() / truth < 0.1;
        assert!(
            near(reading.p50_ms, 500.0) && near(reading.p95_ms, 950.0) && near(reading.p99_ms, 990.0),
            "{reading:?}"
        );
        assert!(near(reading.tokens_per_second, 200.0), "{reading:?}");
        assert_eq!((reading.attempts, reading.error_rate, reading.first_token_p50_ms), (100, 0.0, None));
        let reading = readings.of(&b.to_string()).unwrap();
        assert_eq!((reading.attempts, reading.failed, reading.throttled, reading.error_rate), (2, 2, 1, 1.0));
        assert_eq!(readings.provider("openai").unwrap().reading.attempts, 102);

        pass(&health, 280).await;
        assert_eq!(
            health.readings().of(&a.to_string()).map(|reading| reading.attempts),
            Some(100),
            "inside the window"
        );
        pass(&health, 30).await;
        assert_eq!(health.readings().of(&a.to_string()), None, "outside of it");
        health.attempted(&a, Verdict::Good, None, Instant::now());
        pass(&health, 1).await;
        assert_eq!(
            health.readings().of(&a.to_string()).map(|reading| reading.attempts),
            Some(1),
            "nothing old comes back"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn streams_have_a_first_token_and_may_break() {
        let health = Health::new(HealthSettings::default(), Instant::now());
        let a = target("x/a");
        let (took, first) = (Duration::from_millis(2_100), Duration::from_millis(100));
        health.attempted(&a, Verdict::Good, Some(first), Instant::now());
        health.answered(&a, Answer { took, first_token: Some(first), tokens: Some(200) }, Instant::now());
        health.attempted(&a, Verdict::Good, None, Instant::now());
        health.broke(&a, Instant::now());
        pass(&health, 1).await;
        let readings = health.readings();
        let reading = readings.of(&a.to_string()).unwrap();
        assert_eq!((reading.attempts, reading.failed, reading.error_rate), (2, 1, 0.5));
        assert!((reading.tokens_per_second.unwrap() - 100.0).abs() < 12.0, "{reading:?}");
        assert!((reading.first_token_p95_ms.unwrap() - 100.0).abs() < 12.0, "{reading:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_fails_is_an_alert_until_it_recovers() {
        let settings = HealthSettings { window: Period::secs(60), ..HealthSettings::default() };
        let health = Health::new(settings, Instant::now());
        let a = target("x/a");
        let is_alert = || health.readings().provider("x").is_some_and(|provider| provider.alert);
        let attempt = |good: u64, failed: u64| {
            (0..good).for_each(|_| health.attempted(&a, Verdict::Good, None, Instant::now()));
            (0..failed).for_each(|_| health.attempted(&a, Verdict::Failed, None, Instant::now()));
        };
        attempt(0, 5);
        pass(&health, 1).await;
        assert!(!is_alert(), "too few attempts");
        attempt(95, 0);
        pass(&health, 1).await;
        assert!(!is_alert(), "5 % is not more than 5 %");
        attempt(0, 1);
        pass(&health, 1).await;
        assert!(is_alert());
        pass(&health, 70).await;
        assert!(!is_alert(), "forgotten with the window");
    }

    #[tokio::test(start_paused = true)]
    async fn another_window_begins_anew_and_another_bound_does_not() {
        let health = Health::new(HealthSettings::default(), Instant::now());
        let a = target("x/a");
        (0..30).for_each(|_| health.attempted(&a, Verdict::Failed, None, Instant::now()));
        let mut settings = HealthSettings::default();
        settings.alert.error_rate = 1.0;
        health.configure(settings);
        pass(&health, 1).await;
        let provider = *health.readings().provider("x").unwrap();
        assert_eq!((provider.reading.attempts, provider.alert), (30, false));
        health.configure(HealthSettings { window: Period::secs(30), ..settings });
        pass(&health, 1).await;
        assert_eq!(health.readings().of(&a.to_string()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn names_that_clients_invent_do_not_fill_the_memory() {
        let health = Health::new(HealthSettings::default(), Instant::now());
        for n in 0..2 * MOST_TARGETS {
            health.attempted(&target(&format!("x/{n}")), Verdict::Good, None, Instant::now());
        }
        pass(&health, 1).await;
        let readings = health.readings();
        assert_eq!(readings.targets_of("x").len(), MOST_TARGETS + 1);
        assert_eq!(readings.of("x/*").unwrap().attempts, MOST_TARGETS as u64);
        for _ in 0..35 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            health.tick(Instant::now());
        }
        assert_eq!(health.windows.load().targets.len(), 0, "idle targets are forgotten");
    }

    #[test]
    fn recording_is_cheap() {
        let began = Instant::now();
        let health = Health::new(HealthSettings::default(), began);
        let a = target("openai/gpt-4o-mini");
        health.attempted(&a, Verdict::Good, None, began);
        let rounds = 20_000_u32;
        let start = std::time::Instant::now();
        for _ in 0..rounds {
            health.attempted(&a, Verdict::Good, None, began);
            health.answered(&a, answer(250, 100), began);
        }
        // A bound that also an unoptimised build on a busy machine keeps.
        let each = start.elapsed() / rounds;
        println!("recording one request: {each:?}");
        assert!(each < Duration::from_micros(20), "{each:?}");
    }
}
