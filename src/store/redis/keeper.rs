//! Keeps the connection and this gateway's lease: on a thread of its own, so that neither waits for requests.

use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Away, Member, Redis, Script, Term, Value, fresh_id, list, lock, number, text};

/// How often it is said that this gateway lives.
pub(super) const BEAT: Duration = Duration::from_millis(500);

/// How often Redis is tried while it is away.
pub(super) const PROBE: Duration = Duration::from_millis(250);

/// So many tries on one connection, and another one is made.
const TRIES: u32 = 4;

/// How long a memory of unknown past waits for gateways that nobody knows, in milliseconds: three beats.
const STRANGERS: u64 = 1_500;

/// Many may wake the keeper at once; it does not run for each.
const GATHER: Duration = Duration::from_millis(5);

static HELLO: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("hello.lua")));
static TRIAL: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("trial.lua")));

/// Never ends.
pub(super) async fn keep(redis: Arc<Redis>) {
    let (mut failed, mut pace) = (0, Pace::default());
    loop {
        let mut round = redis.round().await;
        if round.is_err() && (redis.is_up() && !redis.link.is_connected() || redis.link.is_sent_on()) {
            // Somebody closed the connection, which says nothing of Redis: it may be there for another one. Or a server of
            // a cluster said who has our keys.
            redis.bulk.drop_connection();
            round = redis.round().await;
        }
        let pause = match round {
            Ok(()) => {
                failed = 0;
                redis.comes_up();
                redis.beat().await;
                // A memory that is not ready is asked again sooner.
                if redis.term().ready { BEAT } else { PROBE }
            }
            Err(away) => {
                redis.goes_down();
                redis.tell_trouble(&away.0);
                failed += 1;
                if failed % TRIES == 0 {
                    redis.link.turn_away();
                }
                if !redis.link.is_connected() {
                    redis.bulk.drop_connection();
                }
                PROBE
            }
        };
        pace.rest(pause, &redis.wake).await;
    }
}

/// How often the keeper runs, whoever wakes it.
#[derive(Default)]
struct Pace {
    /// When it was last woken before its time.
    woken: Option<Instant>,
}

impl Pace {
    async fn rest(&mut self, pause: Duration, wake: &Notify) {
        if tokio::time::timeout(pause, wake.notified()).await.is_ok() {
            // Whoever is in trouble may wake it again and again: it does not run more often for that.
            let gathered = Instant::now() + GATHER;
            let due = self.woken.map_or(gathered, |before| gathered.max(before + PROBE));
            tokio::time::sleep_until(due).await;
            self.woken = Some(due);
        }
    }
}

/// What Redis says to a hello.
struct Heard {
    epoch: String,
    ready: bool,
    lapsed: bool,
    gateways: Vec<String>,
}

impl Redis {
    /// Says hello; where Redis knows nothing of us, everybody tells what he holds first. So it is on each new connection:
    /// who answers there may have taken another's place, and not have heard the last of it.
    async fn round(&self) -> Result<(), Away> {
        let is_fresh = self.link.connect().await.map_err(|trouble| Away(trouble.text))?;
        if is_fresh {
            self.tried.store(false, Ordering::Relaxed);
            self.retold.store(false, Ordering::Relaxed);
        }
        if !self.tried.load(Ordering::Relaxed) {
            self.call_in_turn(&TRIAL, &[self.key("trial")], &[]).await.map_err(|away| self.hinted(away))?;
            self.tried.store(true, Ordering::Relaxed);
        }
        let known = self.term();
        let (heard, until) = self.hello(&known.epoch, known.is_known()).await?;
        let is_new = heard.epoch != known.epoch;
        if !is_new && !heard.lapsed {
            if !self.retold.load(Ordering::Relaxed) {
                self.tell_everything(false).await?;
            }
            self.agree(heard, until);
            return Ok(());
        }
        if is_new && known.is_known() {
            tracing::warn!("Redis has lost what it kept: everything that is known here is told again");
            metrics::counter!("tollgate_redis_losses_total").increment(1);
        }
        // What was given out before a lease ran out may be somebody else's by now.
        let lapsed = heard.lapsed || !self.holds_lease();
        let epoch = heard.epoch.clone();
        self.agree(Heard { ready: false, ..heard }, until);
        if let Err(away) = self.tell_everything(lapsed).await {
            // The next round begins anew.
            self.term.store(Arc::new(known.as_ref().clone()));
            return Err(away);
        }
        let (heard, until) = self.hello(&epoch, true).await?;
        self.agree(heard, until);
        Ok(())
    }

    /// A Sentinel knows no scripts.
    fn hinted(&self, away: Away) -> Away {
        if self.settings.sentinel.is_some() || !away.0.contains("unknown command 'EVAL") {
            return away;
        }
        let hint = "is this a Sentinel? Then name the primary by `state.redis.sentinel`";
        Away(format!("{}; {hint}", away.0.trim_end()).into())
    }

    async fn tell_everything(&self, lapsed: bool) -> Result<(), Away> {
        for member in self.everybody() {
            member.rejoin(lapsed).await?;
        }
        self.retold.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn hello(&self, epoch: &str, joined: bool) -> Result<(Heard, Instant), Away> {
        let keys = [self.key("epoch"), self.key("gateways")];
        let lease = self.settings.lease.0;
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let args = [
            self.node().into(),
            self.run().into(),
            lease_ms.into(),
            epoch.into(),
            self.term().gateways.join(",").into(),
            fresh_id().into(),
            u64::from(joined).into(),
            STRANGERS.min(lease_ms).into(),
        ];
        let sent = Instant::now();
        let answer = list(self.call_in_turn(&HELLO, &keys, &args).await?);
        match answer.first().and_then(text) {
            Some("ok") => {}
            Some("taken") => {
                let fresh = fresh_id();
                tracing::error!(
                    gateway = self.node(),
                    "another gateway has this gateway's name: was its data copied? This one takes another name"
                );
                *lock(&self.node) = fresh;
                self.term.store(Arc::default());
                return Err(Away("another gateway has this gateway's name".into()));
            }
            _ => return Err(strange()),
        }
        let [_, id, ready, lapsed, alive] = &answer[..] else { return Err(strange()) };
        let heard = Heard {
            epoch: text(id).ok_or_else(strange)?.to_owned(),
            ready: number(ready) == Some(1),
            lapsed: number(lapsed) == Some(1),
            gateways: match alive {
                Value::Array(all) => all.iter().filter_map(text).map(str::to_owned).collect(),
                _ => Vec::new(),
            },
        };
        // Redis counts from when it heard us, which is later; what clocks drift apart is less than the rest.
        Ok((heard, sent + lease - lease / 20))
    }

    fn agree(&self, heard: Heard, until: Instant) {
        let Heard { epoch, ready, mut gateways, .. } = heard;
        if !ready {
            // Those who have not told yet what they hold still hold it.
            let before = self.term();
            let silent = before.gateways.iter().filter(|known| !gateways.contains(known));
            let silent: Vec<String> = silent.cloned().collect();
            gateways.extend(silent);
        }
        metrics::gauge!("tollgate_redis_gateways").set(f64::from(u32::try_from(gateways.len()).unwrap_or(0)));
        self.term.store(Arc::new(Term { epoch, ready, gateways, until: Some(until) }));
        if ready {
            self.settle();
        }
    }

    /// It is known how Redis stands.
    fn settle(&self) {
        self.settled.send_replace(true);
    }

    fn comes_up(&self) {
        self.failures.store(0, Ordering::Relaxed);
        if self.up.swap(true, Ordering::AcqRel) {
            return;
        }
        metrics::gauge!("tollgate_redis_up").set(1.0);
        self.is_there.send_replace(true);
        self.bulk.look_now();
        let mut state = lock(&self.state);
        let away_ms = state.down_since.take();
        let away_ms = away_ms.map(|since| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX));
        if state.herald.ends() {
            tracing::info!(gateway = self.node(), gateways = self.gateways(), away_ms, "Redis is there");
        }
    }

    async fn beat(&self) {
        for member in self.everybody() {
            if let Err(away) = member.beat().await {
                tracing::debug!(error = &*away.0, "a beat came to nothing");
                return;
            }
        }
    }

    fn everybody(&self) -> Vec<Arc<dyn Member>> {
        lock(&self.members).clone()
    }
}

fn strange() -> Away {
    Away("Redis answered with something else than was asked for".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_woken_again_and_again_keeps_his_pace() {
        let (mut pace, wake, begun) = (Pace::default(), Notify::new(), Instant::now());
        wake.notify_one();
        pace.rest(BEAT, &wake).await;
        assert_eq!(begun.elapsed(), GATHER, "once, it is at once");
        for _ in 0..40 {
            wake.notify_one();
            pace.rest(BEAT, &wake).await;
        }
        assert_eq!(begun.elapsed(), GATHER + 40 * PROBE);
        let begun = Instant::now();
        pace.rest(BEAT, &wake).await;
        assert_eq!(begun.elapsed(), BEAT, "left alone");
    }
}
