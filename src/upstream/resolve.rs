//! Host names to addresses: bounded in time, and with the last good answer when the resolver fails.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::reason;
use crate::fault::{Fault, FaultKind, Phase};

/// How long the resolver may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// How old an answer may be that is used because the resolver fails.
const STALE: Duration = Duration::from_secs(300);

type Answer = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;
type Ask = dyn Fn(Arc<str>) -> Answer + Send + Sync;

/// An answer and its time.
type Good = (Instant, Vec<IpAddr>);

/// Resolves host names.
pub(super) struct Resolver {
    ask: Box<Ask>,
    good: Mutex<HashMap<Arc<str>, Good>>,
}

impl Resolver {
    /// The operating system's resolver.
    pub(super) fn system() -> Self {
        Self::with(|host| {
            Box::pin(async move {
                let found = tokio::net::lookup_host((&*host, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            })
        })
    }

    /// Another source of addresses.
    pub(super) fn with(ask: impl Fn(Arc<str>) -> Answer + Send + Sync + 'static) -> Self {
        Self { ask: Box::new(ask), good: Mutex::default() }
    }

    /// All addresses of `host`, at least one, in the order in which they should be tried.
    pub(super) async fn resolve(&self, host: &Arc<str>, port: u16) -> Result<Vec<SocketAddr>, Fault> {
        if let Ok(literal) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(literal, port)]);
        }
        let found = match tokio::time::timeout(DEADLINE, (self.ask)(Arc::clone(host))).await {
            Ok(Ok(found)) if !found.is_empty() => {
                self.remember(host, &found);
                found
            }
            Ok(Ok(_)) => self
                .last_good(host)
                .ok_or_else(|| Fault::new(FaultKind::Unreachable, "dns: the host has no address"))?,
            Ok(Err(error)) => self.last_good(host).ok_or_else(|| reason::resolving(&error))?,
            Err(_) => self
                .last_good(host)
                .ok_or_else(|| Fault::new(FaultKind::Timeout(Phase::Connect), "dns: no answer within 2 s"))?,
        };
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    fn remember(&self, host: &Arc<str>, found: &[IpAddr]) {
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.insert(Arc::clone(host), (Instant::now(), found.to_vec()));
    }

    fn last_good(&self, host: &Arc<str>) -> Option<Vec<IpAddr>> {
        let good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, found) = good.get(host)?;
        (since.elapsed() <= STALE).then(|| found.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn failing_after(good: usize) -> Resolver {
        let asked = AtomicUsize::new(0);
        Resolver::with(move |_| {
            let known = asked.fetch_add(1, Ordering::Relaxed) < good;
            Box::pin(async move {
                if known { Ok(vec![IpAddr::from([192, 0, 2, 1])]) } else { std::future::pending().await }
            })
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_resolver_that_hangs_is_given_up_after_two_seconds() {
        let since = Instant::now();
        let fault = failing_after(0).resolve(&"upstream.test".into(), 1).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Timeout(Phase::Connect));
        assert_eq!(since.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_good_answer_serves_for_five_minutes() {
        let (resolver, host) = (failing_after(1), Arc::<str>::from("upstream.test"));
        let first = resolver.resolve(&host, 443).await.unwrap();
        tokio::time::advance(Duration::from_secs(200)).await;
        assert_eq!(resolver.resolve(&host, 443).await.unwrap(), first);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(resolver.resolve(&host, 443).await.is_err());
    }

    #[tokio::test]
    async fn literals_are_not_looked_up() {
        for (host, expected) in [("127.0.0.1", "127.0.0.1:7"), ("::1", "[::1]:7")] {
            let found = failing_after(0).resolve(&host.into(), 7).await.unwrap();
            assert_eq!(found, [expected.parse().unwrap()]);
        }
    }
}
