//! The experiments that run: begun by the configuration or by an operator, each with its end.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::settings::{ChaosMatch, ChaosSettings};
use crate::caller::{Caller, glob};
use crate::clock::{Clock, Dice};
use crate::target::TargetName;

/// How many experiments operators may run at once.
const MOST: usize = 100;

/// All experiments of the process. Where none runs, a request asks one flag.
pub struct Chaos {
    on: AtomicBool,
    running: ArcSwap<Vec<Arc<Experiment>>>,
    desk: Mutex<Pages>,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Pages {
    running: Vec<Arc<Experiment>>,
    /// Those of the configuration that are over: they do not begin again as long as they stand there unchanged.
    over: Vec<Arc<Experiment>>,
}

/// One experiment.
#[derive(Debug)]
pub struct Experiment {
    /// What was asked for.
    pub settings: ChaosSettings,
    /// Its name, as records have it.
    pub name: Arc<str>,
    source: Source,
    began_ms: u64,
    ends_ms: u64,
    ends: Instant,
    injected: AtomicU64,
}

/// Who began it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    Configuration,
    Admin,
}

/// The experiments that may strike a request.
pub struct Exposed(Vec<Arc<Experiment>>);

impl Chaos {
    /// None run.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { on: AtomicBool::new(false), running: ArcSwap::default(), desk: Mutex::default(), clock }
    }

    /// Takes the experiments of a configuration. One that stands there unchanged goes on, or stays over.
    pub fn configure(&self, settings: &[ChaosSettings]) {
        let mut pages = self.pages();
        if settings.is_empty() && pages.running.is_empty() && pages.over.is_empty() {
            return;
        }
        let stays = |one: &Arc<Experiment>| settings.contains(&one.settings);
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut pages.running)
            .into_iter()
            .partition(|one| one.source == Source::Admin || stays(one));
        gone.iter().for_each(|one| one.tell_end("it was taken out of the configuration"));
        pages.running = kept;
        pages.over.retain(stays);
        for wanted in settings {
            let known =
                |one: &Arc<Experiment>| one.source == Source::Configuration && one.settings == *wanted;
            if pages.running.iter().chain(&pages.over).any(known) {
                continue;
            }
            let fresh = self.experiment(wanted.clone(), Source::Configuration);
            if fresh.is_over(Instant::now()) {
                tracing::warn!(chaos = &*fresh.name, "chaos: its end is past, it does not begin");
                pages.over.push(fresh);
            } else {
                fresh.tell_begin("configuration");
                pages.running.push(fresh);
            }
        }
        self.publish(&pages);
    }

    /// Begins an experiment for an operator.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn begin(&self, settings: ChaosSettings, actor: &str) -> Result<Value, String> {
        self.examine(&settings)?;
        let mut pages = self.pages();
        let fresh = self.experiment(settings, Source::Admin);
        fresh.tell_begin(actor);
        let shown = fresh.shown();
        pages.running.push(fresh);
        self.publish(&pages);
        Ok(shown)
    }

    /// Whether an operator's experiment can begin.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn examine(&self, settings: &ChaosSettings) -> Result<(), String> {
        if let Some((field, complaint)) = settings.complaints().first() {
            return Err(format!("`{field}`: {complaint}"));
        }
        if self.experiment(settings.clone(), Source::Admin).is_over(Instant::now()) {
            return Err("`until`: that moment is past".into());
        }
        let (pages, now) = (self.pages(), Instant::now());
        let mut running = pages.running.iter().filter(|one| !one.is_over(now));
        if running.any(|one| *one.name == *settings.name) {
            return Err(format!("an experiment called `{}` is running; end it first", settings.name));
        }
        if pages.running.len() >= MOST {
            return Err(format!("{MOST} experiments are running already"));
        }
        Ok(())
    }

    /// Whether an experiment of this name is running.
    pub fn has(&self, name: &str) -> bool {
        let now = Instant::now();
        self.pages().running.iter().any(|one| *one.name == *name && !one.is_over(now))
    }

    /// Ends the experiment of this name, or all of them. Their names come back.
    pub fn end(&self, name: Option<&str>, actor: &str) -> Vec<Arc<str>> {
        let mut pages = self.pages();
        let (ended, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut pages.running)
            .into_iter()
            .partition(|one| name.is_none_or(|name| *one.name == *name));
        ended.iter().for_each(|one| one.tell_end(actor));
        let names = ended.iter().map(|one| one.name.clone()).collect();
        pages.running = kept;
        pages.over.extend(ended.into_iter().filter(|one| one.source == Source::Configuration));
        self.publish(&pages);
        names
    }

    /// Takes those out whose end has come, and tells it.
    pub fn tick(&self, now: Instant) {
        if !self.on.load(Ordering::Relaxed) {
            return;
        }
        let mut pages = self.pages();
        let (ended, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut pages.running).into_iter().partition(|one| one.is_over(now));
        pages.running = kept;
        if !ended.is_empty() {
            ended.iter().for_each(|one| one.tell_end("its time is over"));
            pages.over.extend(ended.into_iter().filter(|one| one.source == Source::Configuration));
            self.publish(&pages);
        }
    }

    /// What may strike this request; `None` where nothing may.
    pub fn exposes(
        &self,
        caller: &Caller,
        model: &str,
        tags: &[(Arc<str>, Arc<str>)],
    ) -> Option<Arc<Exposed>> {
        if !self.on.load(Ordering::Relaxed) {
            return None;
        }
        let running = self.running.load();
        let held: Vec<_> =
            running.iter().filter(|one| one.settings.matches.holds(caller, model, tags)).cloned().collect();
        (!held.is_empty()).then(|| Arc::new(Exposed(held)))
    }

    /// All that run, for people.
    pub fn shown(&self) -> Vec<Value> {
        let now = Instant::now();
        self.pages().running.iter().filter(|one| !one.is_over(now)).map(|one| one.shown()).collect()
    }

    /// Names of all that run.
    pub fn names(&self) -> Vec<Arc<str>> {
        let now = Instant::now();
        self.running.load().iter().filter(|one| !one.is_over(now)).map(|one| one.name.clone()).collect()
    }

    fn experiment(&self, settings: ChaosSettings, source: Source) -> Arc<Experiment> {
        let began_ms = self.clock.unix_ms();
        let until = |date: crate::settings::Date| {
            let ms = u64::try_from(date.0.as_millisecond()).unwrap_or_default();
            std::time::Duration::from_millis(ms.saturating_sub(began_ms))
        };
        // The nearer one, and a year at most: a moment so far away cannot always be said.
        let lasts = settings.lasts.map(|lasts| lasts.0).into_iter().chain(settings.until.map(until)).min();
        let lasts = lasts.unwrap_or_default().min(std::time::Duration::from_secs(365 * 86_400));
        Arc::new(Experiment {
            name: settings.name.as_str().into(),
            settings,
            source,
            began_ms,
            ends_ms: began_ms.saturating_add(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)),
            ends: Instant::now() + lasts,
            injected: AtomicU64::new(0),
        })
    }

    fn publish(&self, pages: &Pages) {
        self.running.store(Arc::new(pages.running.clone()));
        self.on.store(!pages.running.is_empty(), Ordering::Release);
        metrics::gauge!("tollgate_chaos_active")
            .set(u32::try_from(pages.running.len()).map_or(f64::MAX, f64::from));
    }

    fn pages(&self) -> std::sync::MutexGuard<'_, Pages> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exposed {
    /// The experiment that strikes an attempt at this target, if the dice say so. The first that does, does.
    pub(in crate::executor) fn strikes(
        &self,
        target: &TargetName,
        dice: &Dice,
        now: Instant,
    ) -> Option<&Arc<Experiment>> {
        let struck = self.0.iter().find(|one| {
            !one.is_over(now)
                && one.settings.matches.is_about(target)
                && dice.unit() < one.settings.percent.part()
        })?;
        struck.injected.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("tollgate_chaos_injected_total", "kind" => struck.settings.kind.as_str(),
            "provider" => target.provider.to_string())
        .increment(1);
        Some(struck)
    }
}

impl ChaosMatch {
    fn holds(&self, caller: &Caller, model: &str, tags: &[(Arc<str>, Arc<str>)]) -> bool {
        let tagged = |wanted: &String| {
            let (key, pattern) = wanted.split_once('=').unwrap_or((wanted, "*"));
            tags.iter().any(|(known, value)| **known == *key && glob::fits(pattern, value))
        };
        let name = caller.grant.as_ref().map(|grant| &*grant.name);
        fits(self.model.as_ref(), &[Some(model)])
            && fits(self.key.as_ref(), &[caller.key_id.as_deref(), name])
            && self.tag.as_ref().is_none_or(tagged)
    }

    fn is_about(&self, target: &TargetName) -> bool {
        fits(self.provider.as_ref(), &[Some(&target.provider)])
            && self.target.as_ref().is_none_or(|pattern| glob::fits(pattern, &target.to_string()))
    }
}

fn fits(pattern: Option<&String>, values: &[Option<&str>]) -> bool {
    pattern.is_none_or(|pattern| values.iter().flatten().any(|value| glob::fits(pattern, value)))
}

impl Experiment {
    fn is_over(&self, now: Instant) -> bool {
        now >= self.ends
    }

    fn shown(&self) -> Value {
        let time = |ms: u64| {
            let ms = i64::try_from(ms).unwrap_or(i64::MAX);
            jiff::Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default()
        };
        // Texts and numbers always serialise.
        let mut shown = serde_json::to_value(&self.settings).unwrap_or_default();
        if let Some(shown) = shown.as_object_mut() {
            shown.insert("source".into(), json!(self.source));
            shown.insert("began".into(), time(self.began_ms).into());
            shown.insert("ends".into(), time(self.ends_ms).into());
            shown.insert("injected".into(), self.injected.load(Ordering::Relaxed).into());
        }
        shown
    }

    fn tell_begin(&self, by: &str) {
        let what = self.shown();
        tracing::warn!(chaos = &*self.name, by, %what, "chaos begins: faults are injected on purpose");
    }

    fn tell_end(&self, why: &str) {
        let injected = self.injected.load(Ordering::Relaxed);
        tracing::warn!(chaos = &*self.name, why, injected, "chaos ends");
    }
}
