//! How many requests are in flight, whose they are, and whether more may come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use metrics::counter;
use tokio::sync::watch;

use super::memory::{Memory, Room};
use crate::caller::{Priority, Tenant};
use crate::fault::{Fault, FaultKind};

/// Tenants of one priority are counted in so many places; those who share one share their part too.
const SLOTS: usize = 1_024;

/// Parts of the limit.
const PARTS: usize = 8;

/// The count of requests in flight and the switch that ends them.
#[derive(Clone)]
pub struct Admission {
    counts: Arc<Counts>,
    memory: Arc<Memory>,
    closing: watch::Receiver<bool>,
}

struct Counts {
    in_flight: AtomicUsize,
    /// The same by tenant, those of each priority by themselves.
    tenants: Box<[AtomicU32]>,
    /// How many of those are not zero, each as many times as its priority weighs.
    weight: AtomicUsize,
}

/// One request's place; given back on drop.
pub struct Permit {
    counts: Arc<Counts>,
    tenant: Tenant,
}

impl Admission {
    /// `closing` turns true when running streams must end: the drain's deadline has passed.
    pub fn new(closing: watch::Receiver<bool>, memory: Arc<Memory>) -> Self {
        let counts = Counts {
            in_flight: AtomicUsize::new(0),
            tenants: (0..SLOTS * Priority::ALL.len()).map(|_| AtomicU32::new(0)).collect(),
            weight: AtomicUsize::new(0),
        };
        Self { counts: Arc::new(counts), memory, closing }
    }

    /// Takes a place. Where many of the `limit` places are taken, those of a low priority find none any more, then those of
    /// the usual one; tenants who have less than their share still do.
    ///
    /// # Errors
    /// `Unavailable` when there is none.
    pub(super) fn enter(&self, tenant: Tenant, limit: usize) -> Result<Permit, Fault> {
        let counts = &self.counts;
        let (priority, weight) = (tenant.priority(), tenant.priority().weight() as usize);
        let own = counts.tenants.get(slot(tenant)).map_or(0, |own| own.fetch_add(1, Relaxed));
        if own == 0 {
            counts.weight.fetch_add(weight, Relaxed);
        }
        let before = counts.in_flight.fetch_add(1, Relaxed);
        let permit = Permit { counts: self.counts.clone(), tenant };
        let most = limit.min(self.memory.most());
        let (anybody, fewest) = ends(priority);
        let parts = |number: usize| most.saturating_mul(number) / PARTS;
        if before < parts(anybody) {
            return Ok(permit);
        }
        let share = most.saturating_mul(weight) / counts.weight.load(Relaxed).max(1);
        if before < parts(fewest) && (own as usize) < share {
            return Ok(permit);
        }
        drop(permit);
        Err(self.shed(most < limit, priority))
    }

    /// Room in memory for a body of so many bytes, while it is read; those of a low priority find none first.
    ///
    /// # Errors
    /// `Unavailable` when there is none.
    pub(super) fn room_for(&self, bytes: u64, priority: Priority) -> Result<Room<'_>, Fault> {
        self.memory.room_for(bytes, self.in_flight(), priority).ok_or_else(|| self.shed(true, priority))
    }

    /// Requests in flight now.
    pub fn in_flight(&self) -> usize {
        self.counts.in_flight.load(Relaxed)
    }

    /// Tenants that they are of.
    pub fn tenants(&self) -> usize {
        self.counts.tenants.iter().filter(|own| own.load(Relaxed) > 0).count()
    }

    /// What memory has to say.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The switch that ends running requests, for one worker: all that wait for it share a lock, which is to be no other
    /// worker's. Must be called on the worker's runtime.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        let (switch, closing) = watch::channel(false);
        let everywhere = self.closing.clone();
        tokio::spawn(async move {
            over(everywhere).await;
            switch.send_replace(true);
            // Of a switch that has gone, nobody would know that it was touched.
            std::future::pending::<()>().await;
        });
        closing
    }

    #[cold]
    fn shed(&self, for_memory: bool, priority: Priority) -> Fault {
        let (reason, text) = if for_memory {
            ("memory", "the gateway is short of memory")
        } else {
            ("in_flight", "the gateway is at its limit of requests in flight")
        };
        counter!("tollgate_shed_total", "reason" => reason, "priority" => priority.word()).increment(1);
        Fault::new(FaultKind::Unavailable, text).code("at_capacity").after(Some(Duration::from_secs(1)))
    }
}

/// Ready once, when this switch says that running answers must end.
pub(super) async fn over(mut closing: watch::Receiver<bool>) {
    // The sender lives as long as the process; if it is gone, nobody will ask anything to end.
    if closing.wait_for(|closing| *closing).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// What a client is told whose answer ends with the gateway.
pub(super) fn shutting_down() -> Fault {
    let fault = Fault::new(FaultKind::Unavailable, "the gateway is shutting down").code("shutting_down");
    // Others are there, or soon will be.
    fault.after(Some(Duration::from_secs(1)))
}

/// How many parts of the limit may be taken for anybody of this priority to come, and for a tenant who has less than its
/// share. A flood of any priority leaves room for those who have little, also for those of a lower one.
const fn ends(priority: Priority) -> (usize, usize) {
    match priority {
        Priority::Low => (6, 10),
        Priority::Normal => (8, 10),
        Priority::High => (9, 12),
    }
}

fn slot(tenant: Tenant) -> usize {
    tenant.priority().place() * SLOTS + tenant.slot(SLOTS)
}

impl Permit {
    /// Whose place it is.
    pub(super) fn tenant(&self) -> Tenant {
        self.tenant
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counts.in_flight.fetch_sub(1, Relaxed);
        let own = self.counts.tenants.get(slot(self.tenant));
        if own.is_some_and(|own| own.fetch_sub(1, Relaxed) == 1) {
            self.counts.weight.fetch_sub(self.tenant.priority().weight() as usize, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Tenant = Tenant::numbered(1);
    const B: Tenant = Tenant::numbered(2);
    const C: Tenant = Tenant::numbered(3);

    fn admission() -> Admission {
        let (_switch, closing) = watch::channel(false);
        Admission::new(closing, Arc::default())
    }

    #[test]
    fn places_are_given_back_also_by_those_who_were_refused() {
        let admission = admission();
        let first = admission.enter(A, 1).ok();
        assert!(first.is_some());
        assert!(admission.enter(A, 1).is_err() && admission.enter(B, 1).is_err());
        assert_eq!((admission.in_flight(), admission.tenants()), (1, 1));
        drop(first);
        assert!(admission.enter(A, 1).is_ok());
        assert_eq!((admission.in_flight(), admission.tenants()), (0, 0));
    }

    #[test]
    fn who_floods_the_house_keeps_nobody_else_out() {
        let admission = admission();
        let enter = |tenant| admission.enter(tenant, 100).ok();
        let flood: Vec<_> = std::iter::from_fn(|| enter(A)).collect();
        assert_eq!(flood.len(), 100, "alone, a tenant may have all");
        let others: Vec<_> =
            (0..12).filter_map(|_| enter(B)).chain((0..12).filter_map(|_| enter(C))).collect();
        assert_eq!(others.len(), 24, "others have a share all the same");
        assert!(enter(A).is_none());
        let last: Vec<_> = std::iter::from_fn(|| enter(B)).collect();
        assert_eq!(last.len(), 1, "and the house has an end");
        drop((flood, others, last));
        assert_eq!((admission.in_flight(), admission.tenants()), (0, 0));
    }

    #[test]
    fn those_of_a_low_priority_are_refused_first_and_those_of_a_high_one_last() {
        let admission = admission();
        let enter = |tenant: Tenant, priority| admission.enter(tenant.with(priority), 80).ok();
        let flood = |tenant, priority| std::iter::from_fn(|| enter(tenant, priority)).collect::<Vec<_>>();
        let alone = flood(A, Priority::Low);
        assert_eq!(alone.len(), 80, "alone, a low one may have all");
        drop(alone);
        let usual = flood(A, Priority::Normal);
        assert_eq!(usual.len(), 80);
        let low = flood(B, Priority::Low);
        assert_eq!(low.len(), 16, "a fifth of the places is its share");
        let high = flood(C, Priority::High);
        assert_eq!((admission.in_flight(), high.len()), (80 + 16 + 24, 24));
        drop((usual, low, high));
        let high = flood(C, Priority::High);
        assert_eq!(high.len(), 90);
        let low = flood(B, Priority::Low);
        assert_eq!(low.len(), 4, "a seventeenth is left to it whoever floods");
        assert!(enter(A, Priority::Normal).is_some());
        drop((high, low));
        let busy: Vec<_> = (0..60).map(|n| enter(Tenant::numbered(n), Priority::Normal)).collect();
        assert!(enter(B, Priority::Low).is_none(), "no share is left, and three quarters are taken");
        assert!(enter(B, Priority::Normal).is_some());
        drop(busy);
        assert_eq!((admission.in_flight(), admission.tenants()), (0, 0));
        assert_eq!(admission.counts.weight.load(Relaxed), 0);
    }

    #[tokio::test]
    async fn every_worker_has_a_switch_of_its_own_that_follows_the_one_of_all() {
        let (switch, closing) = watch::channel(false);
        let admission = Admission::new(closing, Arc::default());
        let (one, other) = (admission.closing(), admission.closing());
        assert!(!one.same_channel(&other) && !one.same_channel(&admission.closing));
        tokio::task::yield_now().await;
        assert!(!*one.borrow() && !*other.borrow());
        switch.send_replace(true);
        tokio::join!(over(one.clone()), over(other));
        assert!(one.has_changed().unwrap(), "who does not wait sees it, too");
    }

    #[test]
    fn short_of_memory_fewer_may_come() {
        let admission = admission();
        let held: Vec<_> = (0..60).map(|_| admission.enter(A, 100).ok()).collect();
        admission.memory.seen(95, Some(100), 60);
        assert!(admission.enter(A, 100).is_err());
        drop(held);
        assert!(admission.enter(A, 100).is_ok(), "never nobody");
        admission.memory.seen(50, Some(100), 0);
        assert_eq!((0..100).filter_map(|_| admission.enter(A, 100).ok()).collect::<Vec<_>>().len(), 100);
    }
}
