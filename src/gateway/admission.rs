//! How many requests are in flight, and whether more may come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::fault::{Fault, FaultKind};

/// The count of requests in flight and the switch that ends them.
#[derive(Clone)]
pub struct Admission {
    in_flight: Arc<AtomicUsize>,
    closing: watch::Receiver<bool>,
}

/// One request's place; given back on drop.
pub struct Permit(Arc<AtomicUsize>);

impl Admission {
    /// `closing` turns true when running streams must end: the drain's deadline has passed.
    pub fn new(closing: watch::Receiver<bool>) -> Self {
        Self { in_flight: Arc::default(), closing }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// `Unavailable` when `limit` places are taken.
    pub(super) fn enter(&self, limit: usize) -> Result<Permit, Fault> {
        let permit = Permit(self.in_flight.clone());
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= limit {
            return Err(Fault::new(
                FaultKind::Unavailable,
                "the gateway is at its limit of requests in flight",
            )
            .code("at_capacity")
            .after(Some(Duration::from_secs(1))));
        }
        Ok(permit)
    }

    /// Requests in flight now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Watches the switch that ends running streams.
    pub(super) fn closing(&self) -> watch::Receiver<bool> {
        self.closing.clone()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_also_by_those_who_were_refused() {
        let (_switch, closing) = watch::channel(false);
        let admission = Admission::new(closing);
        let first = admission.enter(1).ok();
        assert!(first.is_some());
        assert!(admission.enter(1).is_err());
        assert_eq!(admission.in_flight(), 1);
        drop(first);
        assert!(admission.enter(1).is_ok());
        assert_eq!(admission.in_flight(), 0);
    }
}
