//! An answer in the making: one asks the provider, the others wait for what comes of it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Claimed, Entry, Key, Store};
use crate::fault::Fault;

/// What is known of an answer in the making.
#[derive(Debug, Clone, Default)]
enum State {
    /// It is being made.
    #[default]
    Pending,
    /// Here it is.
    Done(Arc<Entry>),
    /// Who made it left, or failed by this fault of the provider's: somebody else may try.
    Failed(Option<Arc<Fault>>),
    /// It cannot be given to others.
    Unfit,
}

/// An answer in the making.
pub(super) struct Flight {
    pub(super) asks: Key,
    state: watch::Sender<State>,
}

/// Who makes the answer. Dropped without an answer, it leaves the place to another.
pub struct Lead {
    key: Key,
    flight: Arc<Flight>,
    store: Arc<Store>,
    is_over: bool,
    /// The place among gateways.
    claimed: Option<Claimed>,
}

/// Who waits for it.
pub struct Waiter {
    state: watch::Receiver<State>,
    store: Arc<Store>,
}

/// What came of waiting.
pub enum Waited {
    /// The answer.
    Kept(Arc<Entry>),
    /// Nobody is at it any more; by this fault of the provider's, if it was one.
    Nobody(Option<Arc<Fault>>),
    /// There will be none for others.
    Unfit,
}

impl Flight {
    pub(super) fn new(asks: Key) -> Self {
        Self { asks, state: watch::Sender::default() }
    }
}

impl Lead {
    pub(super) fn new(key: Key, flight: Arc<Flight>, store: Arc<Store>) -> Self {
        Self { key, flight, store, is_over: false, claimed: None }
    }

    /// Hash of what is asked.
    pub fn asks(&self) -> Key {
        self.flight.asks
    }

    /// It is made for all gateways; they know.
    pub fn claimed(&mut self, claimed: Claimed) {
        self.claimed = Some(claimed);
    }

    /// Another gateway made the answer.
    pub fn found(self, entry: Entry) -> Arc<Entry> {
        let entry = Arc::new(entry);
        self.store.found(self.key, entry.clone());
        self.end(State::Done(entry.clone()));
        entry
    }

    /// Here is the answer, for everybody who waits and for later.
    pub fn keep(mut self, entry: Entry) {
        let entry = Arc::new(entry);
        if self.store.keep(self.key, entry.clone())
            && let Some(claimed) = self.claimed.take()
        {
            claimed.kept();
        }
        self.end(State::Done(entry));
    }

    /// The answer is not for others: each of those who wait makes his own.
    pub fn unfit(self) {
        self.end(State::Unfit);
    }

    /// There is no answer, by this fault of the provider's: one of those who wait may try.
    pub fn failed(self, fault: Arc<Fault>) {
        self.end(State::Failed(Some(fault)));
    }

    fn end(mut self, state: State) {
        self.is_over = true;
        self.store.land(&self.key);
        self.flight.state.send_replace(state);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if !self.is_over {
            self.store.land(&self.key);
            self.flight.state.send_replace(State::Failed(None));
        }
    }
}

impl Waiter {
    pub(super) fn new(flight: &Flight, store: Arc<Store>) -> Self {
        Self { state: flight.state.subscribe(), store }
    }

    /// Waits for what comes of it.
    pub async fn wait(mut self) -> Waited {
        let over = self.state.wait_for(|state| !matches!(state, State::Pending)).await;
        match over.map(|state| state.clone()) {
            Ok(State::Done(entry)) => Waited::Kept(entry),
            Ok(State::Unfit) => Waited::Unfit,
            Ok(State::Failed(fault)) => Waited::Nobody(fault),
            Ok(State::Pending) | Err(_) => Waited::Nobody(None),
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.store.left();
    }
}
