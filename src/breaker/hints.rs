//! What gateways tell each other of targets that fail. A hint opens no breaker: it halves the target's weight, and the
//! target's next failure here opens its breaker at once. It lasts for seconds unless it is told again.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::gate::Gates;
use crate::store::redis::{Away, Member, Redis, Script, Turn, list, text};
use crate::target::TargetName;

/// A hint that is not told again is forgotten after this time.
const LIFE: Duration = Duration::from_secs(3);

/// Targets of which one gateway tells, and of which it listens in all.
const MOST_TOLD: usize = 128;
const MOST_HEARD: usize = 1_024;

/// The health of a target that others left alone, at most.
const HEALTH: f64 = 0.5;

static TELL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("hints/tell.lua")));

/// What others say: until when their breakers are open.
#[derive(Default)]
pub(super) struct Hints(ArcSwap<HashMap<TargetName, Instant>>);

/// Tells and hears.
struct Teller {
    redis: Arc<Redis>,
    gates: Weak<Gates>,
}

impl Hints {
    /// Whether another gateway leaves this target alone.
    pub(super) fn warn_of(&self, target: &TargetName, now: Instant) -> bool {
        let hints = self.0.load();
        !hints.is_empty() && hints.get(target).is_some_and(|until| now < *until)
    }

    /// A health with what others say.
    pub(super) fn temper(&self, health: f64, target: &TargetName, now: Instant) -> f64 {
        if self.warn_of(target, now) { health.min(HEALTH) } else { health }
    }

    /// Others say this: targets, and for how long their breakers stay open.
    pub(super) fn heard(&self, told: impl IntoIterator<Item = (TargetName, Duration)>, now: Instant) {
        let mut hints: HashMap<TargetName, Instant> = HashMap::new();
        for (target, left) in told.into_iter().take(MOST_HEARD) {
            let until = now + left.min(LIFE);
            let known = hints.entry(target).or_insert(until);
            *known = until.max(*known);
        }
        if !(hints.is_empty() && self.0.load().is_empty()) {
            self.0.store(Arc::new(hints));
        }
    }
}

impl Gates {
    /// Tells the gateways that share this Redis of targets that fail, and hears of theirs.
    pub fn share(self: &Arc<Self>, redis: &Arc<Redis>) {
        redis.join(Arc::new(Teller { redis: redis.clone(), gates: Arc::downgrade(self) }));
    }
}

impl Teller {
    async fn tell(&self) -> Result<(), Away> {
        let Some(gates) = self.gates.upgrade() else { return Ok(()) };
        let open: Vec<(String, u64)> = gates
            .open_ones(Instant::now())
            .into_iter()
            .take(MOST_TOLD)
            .map(|(target, left)| (target.to_string(), u64::try_from(left.as_millis()).unwrap_or(u64::MAX)))
            .collect();
        let told = serde_json::to_string(&open).unwrap_or_else(|_| "[]".to_owned());
        let keys = [self.redis.key("hints"), self.redis.key("gateways")];
        let args = [self.redis.node().into(), told.into()];
        let answer = list(self.redis.call_in_turn(&TELL, &keys, &args).await?);
        let heard = answer.iter().filter_map(text).filter_map(|told| {
            let told: Vec<(String, u64)> = serde_json::from_str(told).ok()?;
            Some(told)
        });
        let heard = heard
            .flatten()
            .filter_map(|(target, ms)| Some((TargetName::parse(&target)?, Duration::from_millis(ms))));
        gates.hints.heard(heard, Instant::now());
        Ok(())
    }
}

impl Member for Teller {
    fn rejoin(&self, _: bool) -> Turn<'_> {
        Box::pin(async { Ok(()) })
    }

    fn beat(&self) -> Turn<'_> {
        Box::pin(self.tell())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Admission, Allowance, BreakerSettings, Heard, Standing};
    use super::*;
    use crate::clock::Dice;

    #[tokio::test(start_paused = true)]
    async fn a_hint_halves_the_weight_and_the_next_failure_opens_but_a_hint_alone_does_not() {
        let gates = Arc::new(Gates::new(Dice::loaded(1)));
        gates.configure(BreakerSettings::default());
        let target = TargetName::parse("up/m").unwrap();
        let attempt = |heard: Heard| {
            let now = Instant::now();
            let Admission::Pass(pass) = gates.enter(&target, true, Allowance { share: 0.1, floor: 5 }, now)
            else {
                panic!("shut")
            };
            pass.heard(heard, now);
            let look = gates.look(&target, now).unwrap();
            (look.state, look.health)
        };
        let good = Heard::Good(Duration::from_millis(5));
        assert_eq!(attempt(good), (Standing::Closed, 1.0));
        gates.hints.heard([(target.clone(), Duration::from_secs(60))], Instant::now());
        assert_eq!(attempt(good), (Standing::Closed, 0.5), "whatever others say, it is asked");
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(attempt(good), (Standing::Closed, 1.0), "nobody said it again");
        gates.hints.heard([(target.clone(), Duration::from_secs(60))], Instant::now());
        assert_eq!(attempt(Heard::Bad).0, Standing::Open);
        assert_eq!(gates.open_ones(Instant::now()).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_hint_one_failure_opens_nothing() {
        let gates = Arc::new(Gates::new(Dice::loaded(1)));
        gates.configure(BreakerSettings::default());
        let (target, now) = (TargetName::parse("up/m").unwrap(), Instant::now());
        let Admission::Pass(pass) = gates.enter(&target, true, Allowance { share: 0.1, floor: 5 }, now)
        else {
            panic!("shut")
        };
        pass.heard(Heard::Bad, now);
        assert_eq!(gates.look(&target, now).unwrap().state, Standing::Closed);
        assert!(gates.open_ones(now).is_empty());
    }
}
