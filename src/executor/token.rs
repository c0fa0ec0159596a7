//! Fetches what authorises requests for a while: once for all who wait, ahead of its end while the old one is used.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{ACCEPT, ACCEPT_ENCODING, USER_AGENT};
use zeroize::Zeroizing;

use super::Executor;
use super::attempt::{AGENT, IDENTITY};
use super::secrecy::{bare, erased};
use crate::clock::{Clock, Dice};
use crate::fault::{Fault, FaultKind, Phase, Retry};
use crate::providers::{Due, Grant, GrantAnswer, GrantAsk, GrantStep, Granted, Held, Lease};
use crate::telemetry::Meters;
use crate::upstream::{Outbound, Upstream};

/// For all steps of one fetch.
const DEADLINE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
/// No grant takes more steps than this.
const MOST_STEPS: usize = 8;
/// Tokens are small; the largest known, with all its claims, is 16 KiB.
const MOST_ANSWER: u64 = 256 << 10;

/// One who can be sent for a token and outlives the request that sent it.
struct Errand {
    lease: Arc<Lease>,
    provider: Arc<str>,
    upstream: Arc<Upstream>,
    meters: Arc<Meters>,
    dice: Arc<Dice>,
    clock: Arc<dyn Clock>,
}

impl Executor {
    /// What authorises a request now. Waits only where nothing usable is held.
    ///
    /// # Errors
    /// Why nothing could be fetched, to all who waited for it.
    pub(super) async fn token(&self, provider: &Arc<str>, lease: &Arc<Lease>) -> Result<Arc<Held>, Fault> {
        loop {
            let now = self.clock.unix_ms();
            match lease.due(now) {
                Due::Nothing(held) => return Ok(held),
                Due::Soon(held) => {
                    // Somebody else is at it when the lock is taken.
                    if let Ok(turn) = lease.turn().try_lock_owned()
                        && turn.fault(now).is_none()
                    {
                        tokio::spawn(self.errand(provider, lease).run(turn));
                    }
                    return Ok(held);
                }
                Due::Now => {}
            }
            let turn = lease.turn().lock_owned().await;
            let now = self.clock.unix_ms();
            if let Due::Nothing(held) | Due::Soon(held) = lease.due(now) {
                return Ok(held);
            }
            if let Some(fault) = turn.fault(now) {
                return Err(fault.clone());
            }
            // A task of its own, so that a client who leaves does not end it for the others; it gives the turn on.
            tokio::spawn(self.errand(provider, lease).run(turn));
        }
    }

    fn errand(&self, provider: &Arc<str>, lease: &Arc<Lease>) -> Errand {
        Errand {
            lease: lease.clone(),
            provider: provider.clone(),
            upstream: self.upstream.clone(),
            meters: self.meters.clone(),
            dice: self.dice.clone(),
            clock: self.clock.clone(),
        }
    }
}

impl Errand {
    async fn run(self, mut turn: tokio::sync::OwnedMutexGuard<crate::providers::Trouble>) {
        let mut place = Place::default();
        let fetched = tokio::time::timeout(DEADLINE, self.fetch(&mut place)).await.unwrap_or_else(|_| {
            Err(Fault::new(FaultKind::Timeout(Phase::FirstByte), "did not answer in time"))
        });
        let now = self.clock.unix_ms();
        let kept = fetched.and_then(|granted| self.lease.keep(granted, now, self.dice.unit()));
        match kept {
            Ok(()) => {
                turn.over();
                self.meters.token_refresh(&self.provider, "ok");
                tracing::debug!(provider = %self.provider, "token fetched");
            }
            Err(mut fault) => {
                let text = format!("token endpoint{place} of `{}`: {}", self.provider, fault.message);
                fault.message = text.into();
                fault.retry = Retry::Elsewhere;
                self.meters.token_refresh(&self.provider, fault.kind.as_str());
                tracing::warn!(provider = %self.provider, %fault, "no token");
                turn.failed(fault, now, self.dice.unit());
            }
        }
    }

    async fn fetch(&self, place: &mut Place) -> Result<Granted, Fault> {
        fetch(self.lease.grant(), &self.upstream, &*self.clock, place).await
    }
}

/// Fetches what authorises requests for a while; `place` says in the end where it got to.
///
/// # Errors
/// What keeps it from being granted.
pub async fn fetch(
    grant: &dyn Grant,
    upstream: &Upstream,
    clock: &dyn Clock,
    place: &mut Place,
) -> Result<Granted, Fault> {
    let mut answers = Vec::new();
    for _ in 0..MOST_STEPS {
        match grant.step(&answers, clock.unix_ms())? {
            GrantStep::Done(granted) => return Ok(granted),
            GrantStep::Ask(ask) => {
                place.0 = Some(ask.origin.authority());
                answers.push(exchange(upstream, *ask).await?);
            }
            GrantStep::Read(path) => {
                // Files may lie on a volume that has to be waited for.
                let content = tokio::task::spawn_blocking(move || std::fs::read(path).ok()).await;
                answers.push(GrantAnswer::file(content.ok().flatten()));
            }
        }
    }
    Err(Fault::new(FaultKind::Internal, "too many steps"))
}

/// Sends one request whose answer may hold secrets: its body is wiped. A refusal does not repeat those of the request.
///
/// # Errors
/// When nobody answers, or at too great a length.
pub async fn exchange(upstream: &Upstream, ask: GrantAsk) -> Result<GrantAnswer, Fault> {
    let GrantAsk { method, origin, path_and_query, mut headers, body, mut secrets } = ask;
    let sensitive = headers.values().filter(|value| value.is_sensitive());
    secrets.extend(sensitive.map(|value| Zeroizing::new(bare(value).to_vec())));
    headers.insert(USER_AGENT, AGENT);
    headers.insert(ACCEPT_ENCODING, IDENTITY);
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("application/json"));
    let body = if body.is_empty() { Vec::new() } else { vec![Bytes::from_owner(body)] };
    let request = Outbound::new(method, path_and_query, headers, body);
    let (head, body) = upstream.send(&origin, request, CONNECT).await?.into_parts();
    let mut body = body.collect(MOST_ANSWER).await?;
    if !head.status.is_success()
        && let Some(clean) = erased(&body, secrets.iter().map(|secret| &***secret))
    {
        body = clean.into();
    }
    Ok(GrantAnswer::wiping(head.status.as_u16(), head.headers, body))
}

/// Where a fetch got to, for its fault.
#[derive(Default)]
pub struct Place(Option<String>);

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_ref().map_or(Ok(()), |authority| write!(f, " {authority}"))
    }
}
