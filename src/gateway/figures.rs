//! The numbers of this moment: what models cost, how targets fare, what limits have counted; and who may ask. Shared by all workers and all snapshots.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::breaker::{BreakerSettings, Gates, Health, HealthSettings, ProbeSettings, Reading, Standing};
use crate::chat::{Tier, Usage};
use crate::clock::{Clock, Dice};
use crate::executor::{Chaos, ChaosSettings, TargetState};
use crate::facts::market::{
    Abilities, Listing, Live, Numbers, Price, Purse, Quantiles, Scale as _, Size, Who,
};
use crate::keys::{Keys, Promised, Written};
use crate::ledger::{
    Abilities as Known, Aliases, AnyTier, Budget, BudgetSettings, Desk, Model, Owns, Payer, Prices,
    SourceSettings, Unit, When,
};
use crate::limits::Limits;
use crate::providers::{Target, presets};
use crate::queue::{LaneTerms, Lanes};
use crate::store::redis::Redis;
use crate::target::TargetName;
use crate::tokens::Counter;

/// Prices and health.
pub struct Figures {
    /// What models cost.
    pub prices: Arc<Prices>,
    /// How targets fare.
    pub health: Arc<Health>,
    /// How many tokens texts have.
    pub tokens: Arc<Counter>,
    /// The ledger and the budgets, once they are opened.
    desk: OnceLock<Arc<Desk>>,
    /// Who may go to which target.
    pub gates: Arc<Gates>,
    /// How many may be there at once, and who waits.
    pub lanes: Arc<Lanes>,
    /// How often providers are asked whether they answer.
    pub probe: ArcSwap<ProbeSettings>,
    /// Where prices come from besides the configuration, the least first.
    pub sources: ArcSwap<Vec<SourceSettings>>,
    /// Presets of the providers, by their names.
    presets: ArcSwap<HashMap<Arc<str>, Arc<str>>>,
    /// Aliases of the configuration.
    aliases: ArcSwap<Aliases>,
    /// Providers that gave a service which nobody had asked for.
    choosers: ArcSwap<HashSet<Arc<str>>>,
    /// How often a configuration was taken.
    configured: AtomicU64,
    /// What requests have taken of the limits towards clients.
    pub limits: Arc<Limits>,
    /// Budgets of the configuration, what keys may name of it, and budgets that operators set.
    allotted: Mutex<Allotted>,
    /// Who may ask.
    pub keys: Arc<Keys>,
    /// Faults that are injected on purpose.
    pub chaos: Arc<Chaos>,
    /// What is shared with other gateways.
    redis: OnceLock<Arc<Redis>>,
    clock: Arc<dyn Clock>,
}

impl Figures {
    /// What executors ask of targets, and tell.
    pub fn of_targets(&self) -> TargetState {
        let (health, gates) = (self.health.clone(), self.gates.clone());
        TargetState { health, gates, lanes: self.lanes.clone(), counter: self.tokens.clone() }
    }

    /// Built-in prices, and nothing heard of anybody.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let limits = Arc::new(Limits::new(Instant::now()));
        Self {
            keys: Arc::new(Keys::new(limits.clone())),
            limits,
            chaos: Arc::new(Chaos::new(clock.clone())),
            prices: Arc::new(Prices::new(clock.clone())),
            health: Arc::new(Health::new(HealthSettings::default(), Instant::now())),
            tokens: Arc::default(),
            desk: OnceLock::new(),
            gates: Arc::new(Gates::new(Dice::fair())),
            lanes: Arc::default(),
            probe: ArcSwap::default(),
            sources: ArcSwap::default(),
            presets: ArcSwap::default(),
            aliases: ArcSwap::default(),
            choosers: ArcSwap::default(),
            configured: AtomicU64::new(0),
            redis: OnceLock::new(),
            allotted: Mutex::default(),
            clock,
        }
    }

    /// What a configuration alone says, as tests of policies go by it: its prices, budgets of which nothing is spent,
    /// targets of which nothing was heard. Nothing that happens outside makes such a test fail.
    pub fn untouched(terms: &Terms, clock: Arc<dyn Clock>) -> Self {
        let figures = Self::new(clock);
        let names: Vec<Arc<str>> = terms.sources.iter().map(|source| source.from.as_str().into()).collect();
        figures.presets.store(Arc::new(terms.presets.clone()));
        figures.prices.configure(terms.own.clone(), &names);
        figures.aliases.store(terms.aliases.clone());
        figures.desk().configure(terms.budgets.clone(), &terms.aliases, HashMap::new);
        figures
    }

    /// Takes what a configuration says, once it is in service.
    pub fn configure(&self, terms: Terms) {
        let names: Vec<Arc<str>> = terms.sources.iter().map(|source| source.from.as_str().into()).collect();
        self.sources.store(Arc::new(terms.sources));
        self.presets.store(Arc::new(terms.presets));
        self.aliases.store(terms.aliases);
        self.health.configure(terms.health);
        self.gates.configure(terms.breaker);
        self.lanes.configure(terms.lanes);
        self.probe.store(Arc::new(terms.health.probe));
        self.prices.configure(terms.own, &names);
        self.keys.configure(terms.keys);
        let mut allotted = self.allotted.lock().unwrap_or_else(PoisonError::into_inner);
        (allotted.written, allotted.promised) = (terms.budgets, terms.promised);
        self.allot(&allotted);
        drop(allotted);
        self.limits.tidy();
        self.chaos.configure(&terms.chaos);
        self.configured.fetch_add(1, Ordering::Release);
    }

    /// Budgets that operators set while an earlier process ran; before the first configuration is taken.
    pub fn expect_budgets(&self, set: Vec<BudgetSettings>) {
        self.allotted.lock().unwrap_or_else(PoisonError::into_inner).set = set;
    }

    /// Takes the budgets that operators set, all of them. Blocks where there is something to count; not for workers.
    pub fn set_budgets(&self, set: Vec<BudgetSettings>) {
        let mut allotted = self.allotted.lock().unwrap_or_else(PoisonError::into_inner);
        allotted.set = set;
        self.allot(&allotted);
    }

    /// Whether a budget of this name stands in the configuration.
    pub fn is_written(&self, budget: &str) -> bool {
        let allotted = self.allotted.lock().unwrap_or_else(PoisonError::into_inner);
        allotted.written.iter().any(|written| *written.name == *budget)
    }

    /// What the configuration says goes before what operators set under the same name.
    fn allot(&self, allotted: &Allotted) {
        let (mut all, mut promised) = (allotted.written.clone(), allotted.promised.clone());
        for settings in &allotted.set {
            if all.iter().any(|known| *known.name == *settings.name) {
                tracing::warn!(
                    budget = settings.name,
                    "a budget of the configuration hides one that was set"
                );
                continue;
            }
            match settings.checked() {
                Ok(budget) => {
                    promised.budgets.push((settings.name.clone(), budget.by_name));
                    all.push(budget);
                }
                Err(errors) => {
                    tracing::error!(budget = settings.name, ?errors, "a budget that was set does not count");
                }
            }
        }
        self.keys.promise(promised);
        if let Some(desk) = self.desk.get() {
            desk.configure(all, &self.aliases.load(), || self.keys.payers());
        }
    }

    /// Opens ledger and budgets; before the first configuration is taken.
    pub fn open_desk(&self, desk: Arc<Desk>) {
        // Whoever opens a second one keeps the first.
        let _ = self.desk.set(desk);
    }

    /// Ledger and budgets; where none were opened, nothing is written down or counted.
    pub fn desk(&self) -> Arc<Desk> {
        self.desk.get_or_init(|| Arc::new(Desk::closed(self.clock.clone()))).clone()
    }

    /// Other gateways are met there from now on.
    pub fn share(&self, redis: &Arc<Redis>) {
        self.redis.get_or_init(|| redis.clone());
    }

    /// Where other gateways are met, if anywhere.
    pub fn redis(&self) -> Option<&Arc<Redis>> {
        self.redis.get()
    }

    /// Whether an answer of this target may be of another service than its request asks for: the provider's quirks name
    /// one, or it chose one before.
    pub(super) fn may_choose(&self, target: &Target) -> bool {
        target.vendor.names_tier || self.choosers.load().contains(&target.name.provider)
    }

    /// Which of these targets' answers may be of any service, where the request asks for this one.
    pub(super) fn any_tier<'t>(
        &self,
        asked: Option<Tier>,
        targets: impl Iterator<Item = &'t Target>,
    ) -> AnyTier {
        if asked.is_some() {
            return AnyTier::Everywhere;
        }
        let choosers = targets.filter(|target| self.may_choose(target));
        AnyTier::At(choosers.map(|target| target.name.provider.clone()).collect())
    }

    /// An answer of this provider was of this service, and nobody had asked for any: projects at OpenAI have one of their
    /// own (`auto`). <https://platform.openai.com/docs/api-reference/chat/create>
    pub(super) fn gave(&self, provider: &Arc<str>, tier: Option<Tier>) {
        let Some(tier) = tier.filter(|tier| *tier != Tier::Standard) else { return };
        if self.choosers.load().contains(provider) {
            return;
        }
        tracing::warn!(%provider, ?tier, "a provider chose a service that nobody asked for: budgets hold its dearest price");
        self.choosers.rcu(|known| {
            let mut known = HashSet::clone(known);
            known.insert(provider.clone());
            known
        });
    }

    /// Whether a provider reads documents before its models do, of which no list of models knows.
    fn reads_documents(&self, provider: &str) -> bool {
        let presets = self.presets.load();
        let preset = presets.get(provider).and_then(|preset| presets::find(preset));
        preset.is_some_and(|preset| preset.quirks.document_url)
    }

    /// What is known of a target: its price and facts.
    pub(super) fn known(&self, name: &TargetName) -> Option<Arc<crate::ledger::Known>> {
        let presets = self.presets.load();
        self.prices.book().of(name, presets.get(&name.provider).map(|preset| &**preset))
    }
}

/// What may be spent, by whom it was said.
#[derive(Default)]
struct Allotted {
    written: Vec<Budget>,
    promised: Promised,
    set: Vec<BudgetSettings>,
}

/// What a configuration says of prices and health.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Prices of its own.
    pub own: Owns,
    /// Where other prices come from.
    pub sources: Vec<SourceSettings>,
    /// How health is watched.
    pub health: HealthSettings,
    /// When targets are left alone.
    pub breaker: BreakerSettings,
    /// How many may be at a target at once, and who waits.
    pub lanes: LaneTerms,
    /// Presets of the providers, by their names.
    pub presets: HashMap<Arc<str>, Arc<str>>,
    /// Its aliases.
    pub aliases: Arc<Aliases>,
    /// Keys that stand in it.
    pub keys: Vec<Written>,
    /// What keys may name.
    pub promised: Promised,
    /// What may be spent.
    pub budgets: Vec<Budget>,
    /// Faults that are injected on purpose.
    pub chaos: Vec<ChaosSettings>,
}

impl Numbers for Figures {
    fn revision(&self) -> u64 {
        // Both only grow, so that every change makes another sum.
        self.prices.revision() + self.configured.load(Ordering::Acquire)
    }

    fn fill(&self, listing: &mut Listing) {
        let Some(known) = TargetName::parse(&listing.name).and_then(|name| self.known(&name)) else { return };
        let model = &known.model;
        let when = When { unix_ms: self.clock.unix_ms(), ..When::default() };
        let rate = |unit| Some(model.price.as_ref()?.rate(unit, 0, when)?.million());
        if let Some(input) = rate(Unit::Input) {
            // Vectors and orders of documents have no tokens of their own.
            listing.price = Some(Price { input, output: rate(Unit::Output).unwrap_or(0.0) });
        }
        listing.context_window = model.context_window.map(u64::from);
        listing.max_output = model.max_output.map(u64::from);
        listing.can = abilities(model);
        listing.by_list = !known.states_abilities;
        if self.reads_documents(listing.provider()) {
            listing.can.files = Some(true);
        }
    }

    fn live(&self, target: &str) -> Live {
        let mut live = self.health.readings().of(target).map(live).unwrap_or_default();
        if let Some(name) = TargetName::parse(target) {
            self.refresh(&name, &mut live);
        }
        live
    }

    fn refresh(&self, target: &TargetName, live: &mut Live) {
        if let Some(load) = self.health.loads.now(target) {
            (live.in_flight, live.ewma) = (Some(load.in_flight), load.ewma_ms);
        }
        if let Some(look) = self.gates.look(target, Instant::now()) {
            (live.healthy, live.health) = (Some(look.state != Standing::Open), Some(look.health));
        }
    }

    fn purse(&self, budget: &str, who: Who<'_>) -> Option<Purse> {
        let payer = Payer {
            key: who.caller.key_id.clone(),
            user: who.caller.user.clone(),
            team: who.caller.team.clone(),
            tags: who.tags.to_vec(),
            model: who.model.into(),
            alias: self.aliases.load().of(who.model),
            ..Payer::default()
        };
        let standing = self.desk.get()?.budgets.standing(budget, &payer, self.clock.unix_ms())?;
        let shown = |amount| standing.measure.shown(amount);
        Some(Purse {
            name: standing.name.clone(),
            limit: shown(standing.limit),
            used: shown(standing.used),
            held: shown(standing.held),
            resets_ms: standing.resets_ms,
        })
    }

    fn cost(&self, listing: &Listing, size: Size) -> Option<f64> {
        let name = TargetName::parse(&listing.name)?;
        let known = self.known(&name)?;
        let most = listing.max_output.unwrap_or(u64::MAX);
        let input = self.tokens.likely(&name, size.input);
        let usage = Usage { input, output: size.output.min(most), ..Usage::default() };
        let when = When { unix_ms: self.clock.unix_ms(), ..When::default() };
        Some(known.price()?.estimate(&usage, when)?.dollars())
    }
}

/// A list that names any ability of a model names most that matter; one that names none says nothing.
fn abilities(model: &Model) -> Abilities {
    let can = model.abilities;
    let has = |one: Known| (!can.is_empty()).then(|| can.has(one));
    Abilities {
        tools: has(Known::TOOLS),
        vision: has(Known::VISION),
        audio: has(Known::AUDIO_IN),
        files: has(Known::FILES),
        json: has(Known::JSON),
        reasoning: has(Known::REASONING),
    }
}

fn live(reading: &Reading) -> Live {
    Live {
        latency: Quantiles { p50: reading.p50_ms, p95: reading.p95_ms, p99: reading.p99_ms },
        first_token: Quantiles {
            p50: reading.first_token_p50_ms,
            p95: reading.first_token_p95_ms,
            p99: reading.first_token_p99_ms,
        },
        tokens_per_second: reading.tokens_per_second,
        error_rate: (reading.attempts > 0).then_some(reading.error_rate),
        ..Live::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::breaker::{Answer, Verdict};
    use crate::clock::FixedClock;
    use crate::ledger::Bound;
    use crate::providers::{QuirkSettings, Vendor, dialect};
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_listing_shows_what_is_known_and_what_was_measured() {
        let figures = Figures::new(Arc::new(FixedClock(0)));
        let presets = [("mine".into(), "openai".into())].into();
        figures.configure(Terms { presets, ..Terms::default() });
        let mut listing = Listing { name: "mine/gpt-4o".into(), ..Listing::default() };
        figures.fill(&mut listing);
        assert_eq!(listing.price, Some(Price { input: 2.5, output: 10.0 }));
        assert_eq!((listing.context_window, listing.max_output), (Some(128_000), Some(16_384)));
        assert_eq!((listing.can.tools, listing.can.audio), (Some(true), Some(false)));
        let cost = figures.cost(&listing, Size { input: 1_000, output: 1_000_000 });
        assert_eq!(cost, Some(0.166_34), "an answer is never longer than the model can make it");

        let presets = [("mine".into(), "openai".into()), ("theirs".into(), "mistral".into())].into();
        figures.configure(Terms { presets, ..Terms::default() });
        let mut reads = Listing { name: "theirs/mistral-large-latest".into(), ..Listing::default() };
        figures.fill(&mut reads);
        assert_eq!(reads.can.files, Some(true), "documents are read before the model sees them");

        let mut unknown = Listing { name: "mine/nobody".into(), ..Listing::default() };
        figures.fill(&mut unknown);
        assert_eq!((unknown.price, unknown.can.tools), (None, None));
        assert_eq!(figures.cost(&unknown, Size::default()), None);
        assert_eq!(figures.live("mine/gpt-4o"), Live::default());

        let target = TargetName::parse("mine/gpt-4o").unwrap();
        figures.health.attempted(&target, Verdict::Good, None, Instant::now());
        let answer = Answer { took: Duration::from_secs(1), first_token: None, tokens: Some(50) };
        figures.health.answered(&target, answer, Instant::now());
        figures.health.tick(Instant::now());
        let live = figures.live("mine/gpt-4o");
        assert_eq!(live.error_rate, Some(0.0));
        assert!(live.latency.p50.is_some_and(|ms| (ms - 1_000.0).abs() < 130.0), "{live:?}");
    }

    #[test]
    fn policies_see_the_part_of_the_alias_that_was_asked_for_and_of_no_other() {
        let figures = Figures::new(Arc::new(FixedClock(0)));
        let desk = figures.desk();
        let budget: BudgetSettings =
            serde_yaml::from_str("{ name: each, tokens: 1000, per: day, each: [ model ] }").unwrap();
        let mut aliases = Aliases::default();
        for (name, versions) in [("gpt", false), ("gpt@eu", false), ("team/fast", true)] {
            aliases.add(&name.into(), versions);
        }
        let budgets = vec![budget.checked().unwrap()];
        figures.configure(Terms { budgets, aliases: Arc::new(aliases), ..Terms::default() });
        let target = TargetName::parse("mine/gpt-4o").unwrap();
        for (model, alias, tokens) in
            [("gpt", None, 7), ("gpt@eu", None, 20), ("team/fast@2", Some("team/fast"), 100)]
        {
            let payer = Payer { model: model.into(), alias: alias.map(Into::into), ..Payer::default() };
            let bound =
                Bound::of(&crate::ledger::Size::default(), None, When::default(), false, Some(1), None);
            let hold = desk.budgets.reserve(&payer, &target, &bound, 0).unwrap();
            desk.budgets.settle(hold, None, tokens, 0);
        }
        let caller = crate::caller::Caller::default();
        for (model, used) in [("gpt", 7.0), ("gpt@eu", 20.0), ("team/fast", 100.0), ("team/fast@1", 100.0)] {
            let purse = figures.purse("each", Who { caller: &caller, tags: &[], model }).unwrap();
            assert!((purse.used - used).abs() < 0.1, "{model}: {purse:?}");
        }
    }

    #[test]
    fn who_gave_a_service_that_nobody_asked_for_may_do_so_again() {
        let figures = Figures::new(Arc::new(FixedClock(0)));
        let target = |name| {
            let wire = dialect("openai", &QuirkSettings::default()).unwrap();
            let vendor = Vendor::bare(name, wire);
            Target::new(Arc::new(vendor), TargetName { provider: name.into(), model: "m".into() })
        };
        let (one, other) = (target("one"), target("other"));
        for (tier, expected) in
            [(None, false), (Some(Tier::Standard), false), (Some(Tier::Priority), true), (None, true)]
        {
            figures.gave(&one.name.provider, tier);
            assert_eq!((figures.may_choose(&one), figures.may_choose(&other)), (expected, false), "{tier:?}");
        }
        let any_tier = |asked| figures.any_tier(asked, [&one, &other].into_iter());
        for (asked, at_one, at_other) in [(None, true, false), (Some(Tier::Flex), true, true)] {
            let any_tier = any_tier(asked);
            assert_eq!((any_tier.at("one"), any_tier.at("other")), (at_one, at_other), "{asked:?}");
        }
    }
}
