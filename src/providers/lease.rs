//! What a provider granted for a while: kept, renewed ahead of its end, fetched once for all who wait for it.
//!
//! This is the state; `executor/token.rs` does the fetching. All worker threads share one lease per provider.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::credential::Sign;
use super::grant::{Grant, Granted};
use crate::fault::{Fault, FaultKind, Retry};

/// Something is renewed this long before its end, unless it lives shorter than four times as long.
const AHEAD: Duration = Duration::from_secs(300);
/// Nothing is used in its last moments: clocks differ and requests travel.
const LAST_MOMENTS: Duration = Duration::from_secs(10);
/// What is younger than this, or has lived less than a tenth of its life, is not at fault when a provider refuses it,
/// and fetching it again would not help.
const YOUNG: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The credential of one provider that has to be fetched and expires.
pub struct Lease {
    grant: Box<dyn Grant>,
    held: ArcSwapOption<Held>,
    turn: Arc<Mutex<Trouble>>,
}

/// What was fetched last.
pub struct Held {
    signer: Arc<dyn Sign>,
    grown_ms: u64,
    renew_ms: u64,
    end_ms: u64,
}

/// What is to be done before a request.
pub enum Due {
    /// Use it.
    Nothing(Arc<Held>),
    /// Use it, and have a new one fetched meanwhile.
    Soon(Arc<Held>),
    /// Wait until one has been fetched.
    Now,
}

/// Why the last fetch failed, and how long it is not tried again. Whoever holds it may fetch.
#[derive(Debug, Default)]
pub struct Trouble {
    fault: Option<Fault>,
    failures: u32,
    until_ms: u64,
}

impl Held {
    /// What puts it into requests.
    pub fn signer(&self) -> &dyn Sign {
        &*self.signer
    }
}

impl Lease {
    /// Nothing is held until somebody asks.
    pub fn new(grant: Box<dyn Grant>) -> Self {
        Self { grant, held: ArcSwapOption::empty(), turn: Arc::default() }
    }

    /// How it is fetched.
    pub fn grant(&self) -> &dyn Grant {
        &*self.grant
    }

    /// Whoever has this lock may fetch; all others wait for it and look again.
    pub fn turn(&self) -> Arc<Mutex<Trouble>> {
        Arc::clone(&self.turn)
    }

    /// What is to be done now. Without a lock: every request asks.
    pub fn due(&self, unix_ms: u64) -> Due {
        match self.held.load_full() {
            Some(held) if unix_ms < held.renew_ms => Due::Nothing(held),
            Some(held) if unix_ms < held.end_ms => Due::Soon(held),
            _ => Due::Now,
        }
    }

    /// Takes what was fetched. `dice` from `0.0..1.0` scatter the renewals of several gateways.
    ///
    /// # Errors
    /// When it has no time left.
    pub fn keep(&self, granted: Granted, unix_ms: u64, dice: f64) -> Result<(), Fault> {
        let left = Duration::from_millis(granted.expires_ms.saturating_sub(unix_ms));
        let Some(end) = left.checked_sub(LAST_MOMENTS.min(left / 10)).filter(|end| !end.is_zero()) else {
            let message = "what was granted has expired already";
            return Err(Fault::new(FaultKind::Malformed, message).retry(Retry::Elsewhere));
        };
        // A metadata server hands out the same token until shortly before its end. A quarter of what is left keeps us
        // from asking it again and again.
        let ahead = AHEAD.min(left / 4);
        let renew = left.saturating_sub(ahead + (ahead / 5).mul_f64(dice));
        self.held.store(Some(Arc::new(Held {
            signer: granted.signer,
            grown_ms: unix_ms.saturating_add(millis(YOUNG.min(left / 10))),
            renew_ms: unix_ms.saturating_add(millis(renew)),
            end_ms: unix_ms.saturating_add(millis(end)),
        })));
        Ok(())
    }

    /// The provider refused what a request bore. Drops it, unless somebody has fetched another one meanwhile or it is
    /// too young to be at fault; whether another try will bear another one.
    pub fn refused(&self, borne: &Arc<Held>, unix_ms: u64) -> bool {
        let current = self.held.load();
        let Some(now) = current.as_ref() else { return true };
        if !Arc::ptr_eq(now, borne) {
            return true;
        }
        if unix_ms < borne.grown_ms {
            return false;
        }
        self.held.compare_and_swap(&current, None);
        true
    }

    /// Takes over what an older configuration had fetched, if it was granted on the same terms.
    pub fn inherit(&self, older: &Self) {
        if self.grant.identity() == older.grant.identity() {
            self.held.store(older.held.load_full());
        }
    }
}

impl Trouble {
    /// Why nothing is fetched at this time.
    pub fn fault(&self, unix_ms: u64) -> Option<&Fault> {
        self.fault.as_ref().filter(|_| unix_ms < self.until_ms)
    }

    /// A fetch succeeded.
    pub fn over(&mut self) {
        *self = Self::default();
    }

    /// A fetch failed: the next one has to wait, longer each time. `dice` from `0.0..1.0`.
    pub fn failed(&mut self, fault: Fault, unix_ms: u64, dice: f64) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        let pause = (pause / 2 + (pause / 2).mul_f64(dice)).max(fault.after.unwrap_or_default());
        self.failures = self.failures.saturating_add(1);
        self.until_ms = unix_ms.saturating_add(millis(pause));
        self.fault = Some(fault);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::grant::{FixedHeaders, GrantAnswer, GrantStep};
    use super::*;

    struct Terms(u8);

    impl Grant for Terms {
        fn step(&self, _: &[GrantAnswer], _: u64) -> Result<GrantStep, Fault> {
            Err(Fault::new(FaultKind::Internal, "not in these stories"))
        }
        fn identity(&self) -> [u8; 32] {
            [self.0; 32]
        }
    }

    fn lease(expires_s: u64) -> Lease {
        let lease = Lease::new(Box::new(Terms(1)));
        lease.keep(granted(expires_s), 0, 0.0).unwrap();
        lease
    }

    fn granted(expires_s: u64) -> Granted {
        let signer = Arc::new(FixedHeaders::bearer("t").unwrap());
        Granted { signer, expires_ms: expires_s * 1000 }
    }

    fn word(due: &Due) -> &'static str {
        match due {
            Due::Nothing(_) => "nothing",
            Due::Soon(_) => "soon",
            Due::Now => "now",
        }
    }

    #[test]
    fn it_is_renewed_ahead_of_its_end_and_used_until_then() {
        for (lives, at, expected) in [
            (3600, 0, "nothing"),
            (3600, 3299, "nothing"),
            (3600, 3300, "soon"),
            (3600, 3589, "soon"),
            (3600, 3590, "now"),
            // The last five minutes of a metadata server's token: not asked for at once again.
            (300, 0, "nothing"),
            (300, 224, "nothing"),
            (300, 225, "soon"),
            (300, 290, "now"),
            (4, 2, "nothing"),
            (4, 3, "soon"),
            (4, 4, "now"),
        ] {
            assert_eq!(word(&lease(lives).due(at * 1000)), expected, "{lives} s, after {at} s");
        }
    }

    #[test]
    fn gateways_do_not_renew_all_at_once() {
        let lease = Lease::new(Box::new(Terms(1)));
        lease.keep(granted(3600), 0, 0.99).unwrap();
        assert_eq!(word(&lease.due(3_239_000)), "nothing");
        assert_eq!(word(&lease.due(3_241_000)), "soon");
    }

    #[test]
    fn what_has_expired_already_is_refused() {
        let lease = Lease::new(Box::new(Terms(1)));
        assert_eq!(lease.keep(granted(5), 5_000, 0.0).unwrap_err().kind, FaultKind::Malformed);
        assert_eq!(word(&lease.due(5_000)), "now");
    }

    #[test]
    fn a_refused_one_is_dropped_once_and_not_when_it_is_young() {
        let lease = lease(3600);
        let Due::Nothing(borne) = lease.due(0) else { panic!("fresh") };
        assert!(!lease.refused(&borne, 29_000), "too young to be at fault");
        assert_eq!(word(&lease.due(29_000)), "nothing");
        assert!(lease.refused(&borne, 31_000));
        assert_eq!(word(&lease.due(31_000)), "now");
        lease.keep(granted(7200), 31_000, 0.0).unwrap();
        assert!(lease.refused(&borne, 70_000), "another try bears another one");
        assert_eq!(word(&lease.due(70_000)), "nothing", "a newer one stays");
    }

    #[test]
    fn failures_wait_longer_each_time() {
        let mut trouble = Trouble::default();
        let fault = |after| Fault::new(FaultKind::Overloaded, "busy").after(after);
        let mut now = 0;
        for pause_s in [1, 2, 4, 8, 16, 32, 60, 60] {
            trouble.failed(fault(None), now, 1.0);
            assert!(trouble.fault(now + pause_s * 1000 - 1).is_some(), "{pause_s}");
            assert!(trouble.fault(now + pause_s * 1000).is_none(), "{pause_s}");
            now += pause_s * 1000;
        }
        trouble.over();
        trouble.failed(fault(Some(Duration::from_secs(20))), 0, 0.0);
        assert!(trouble.fault(19_999).is_some() && trouble.fault(20_000).is_none());
    }

    #[test]
    fn a_reload_keeps_what_was_granted_on_the_same_terms() {
        let older = lease(3600);
        for (terms, expected) in [(1, "nothing"), (2, "now")] {
            let fresh = Lease::new(Box::new(Terms(terms)));
            fresh.inherit(&older);
            assert_eq!(word(&fresh.due(0)), expected);
        }
    }
}
