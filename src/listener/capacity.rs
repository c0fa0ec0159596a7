//! How many connections are open: in total, per client address, per worker.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::caller::one_client;

/// Gauge of open connections.
const CONNECTIONS: &str = "tollgate_connections";
/// Counter of connections closed right after accept, by `reason`.
const REFUSED: &str = "tollgate_connections_refused_total";
/// How long the log is silent after it told of a connection that found no seat.
const SILENCE: Duration = Duration::from_secs(60);

/// The seats of the house.
pub(super) struct Capacity {
    total: usize,
    per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
    /// When the log last told of one that found none.
    told: Option<Instant>,
}

/// One open connection; gives its place back on drop.
pub(super) struct Seat {
    capacity: Arc<Capacity>,
    address: IpAddr,
    worker: Arc<AtomicUsize>,
}

impl Capacity {
    pub(super) fn new(total: usize, per_address: usize) -> Self {
        Self { total, per_address, taken: Mutex::default() }
    }

    /// A seat at `worker`, or `None` (counted) when the house or the address is full.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr, worker: &Arc<AtomicUsize>) -> Option<Seat> {
        let address = one_client(client);
        let mut taken = self.lock();
        let reason = if taken.total >= self.total {
            "total"
        } else if taken.by_address.get(&address).is_some_and(|open| *open >= self.per_address) {
            "address"
        } else {
            taken.total += 1;
            *taken.by_address.entry(address).or_default() += 1;
            worker.fetch_add(1, Relaxed);
            metrics::gauge!(CONNECTIONS).set(taken.total as f64);
            return Some(Seat { capacity: self.clone(), address, worker: worker.clone() });
        };
        let tell = taken.told.is_none_or(|at| at.elapsed() >= SILENCE);
        if tell {
            taken.told = Some(Instant::now());
        }
        drop(taken);
        refused(reason);
        if tell {
            self.complain(client, reason);
        }
        None
    }

    /// The client only sees a connection that closes; who runs the gateway learns why.
    fn complain(&self, client: IpAddr, reason: &str) {
        let (open, limit) = match reason {
            "address" => (self.per_address, "limits.connections_per_address"),
            _ => (self.total, "limits.connections"),
        };
        tracing::warn!(address = %client, open, limit, "connections are closed unheard: as many are open as the limit allows");
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // The counts are changed together and nothing in between can panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a connection that was closed before its first request.
pub(super) fn refused(reason: &'static str) {
    metrics::counter!(REFUSED, "reason" => reason).increment(1);
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.worker.fetch_sub(1, Relaxed);
        let mut taken = self.capacity.lock();
        taken.total = taken.total.saturating_sub(1);
        metrics::gauge!(CONNECTIONS).set(taken.total as f64);
        if let Some(open) = taken.by_address.get_mut(&self.address) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_and_given_back() {
        let capacity = Arc::new(Capacity::new(3, 2));
        let worker = Arc::new(AtomicUsize::new(0));
        let admit = |text: &str| capacity.admit(text.parse().expect("an address"), &worker);
        let (a, b) = (admit("10.0.0.1"), admit("::ffff:10.0.0.1"));
        assert!(a.is_some() && b.is_some());
        assert!(admit("10.0.0.1").is_none(), "the third of one address");
        let c = admit("2001:db8::1");
        assert!(c.is_some());
        assert!(admit("2001:db8:1::1").is_none(), "the fourth in total");
        assert_eq!(worker.load(Relaxed), 3);
        drop((a, b));
        assert!(admit("2001:db8::2").is_some(), "the second of one /64");
        let _d = admit("2001:db8::2");
        assert!(admit("2001:db8::3").is_none(), "the third of one /64");
        drop(c);
        drop(_d);
        assert_eq!(worker.load(Relaxed), 0);
        assert!(capacity.lock().by_address.is_empty());
    }
}
