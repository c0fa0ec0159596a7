//! When a request is paid for: at its end, later, or not at all. Answers can be made in the background, and who only looks at
//! what was asked for before asks for nothing.

use std::sync::Arc;
use std::time::Duration;

use super::Settlement;
use crate::chat::{Tier, Usage};
use crate::facts::Endpoint;
use crate::gateway::batch::{self, Batch, Results};
use crate::gateway::door::{Asked, Later};
use crate::ledger::{Closing, Entry, First, Tab, book, booked_elsewhere};
use crate::money::Nano;
use crate::store::Claim;
use crate::target::TargetName;

/// When what a request asked for is paid for.
#[derive(Debug, Default)]
pub(super) struct Due {
    when: When,
    /// The answer may be a batch.
    batch: bool,
    /// The answer is the results of a batch.
    results: Option<Box<str>>,
    /// Who books what a batch used.
    claim: Booking,
}

/// Who books what a batch used, of all who look at it through any gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Booking {
    /// Whoever holds it, if anybody does.
    #[default]
    Holder,
    /// This look.
    Ours,
    /// Somebody has done it.
    Done,
    /// Nobody can say now.
    Unsaid,
}

#[derive(Debug, Default)]
enum When {
    /// When it ends.
    #[default]
    Now,
    /// When the answer of this id is read complete; without a look at it, after so long.
    Later(Box<str>, Duration),
    /// It asked for nothing.
    Never,
}

impl Settlement {
    /// Whether it only looks at what is there, or takes it away; whether that may be a batch, or what results of one.
    pub(in crate::gateway) fn expect(&mut self, asked: &dyn Asked) {
        self.due.batch = asked.is_batch() || self.endpoint == Endpoint::Batches;
        self.due.results = asked.results().map(Box::from);
        if asked.is_look() {
            self.due.when = When::Never;
        }
    }

    /// The batch whose results the answer is.
    pub(in crate::gateway) fn results(&mut self) -> Option<Results> {
        self.due.results.take().map(Results::new)
    }

    /// Who books what a batch used, as far as that is known.
    pub(in crate::gateway) fn claimed(&mut self, claim: Option<Claim>) {
        self.due.claim = match claim {
            Some(Claim::Mine) => Booking::Ours,
            Some(Claim::Done) => Booking::Done,
            Some(Claim::Unknown) => Booking::Holder,
            None => Booking::Unsaid,
        };
    }

    /// Who books an answer that was made in the background, as far as that is known.
    pub(in crate::gateway) fn booked(&mut self, first: First) {
        self.due.claim = match first {
            First::Mine => Booking::Ours,
            First::Done => Booking::Done,
            First::Unknown => Booking::Holder,
        };
    }

    /// Tells other gateways of an answer that its provider goes on with though its client has left.
    pub(in crate::gateway) fn announce(&self, id: &str) {
        if self.shared.answers.redis().is_none() {
            return;
        }
        let owner = self.caller.as_ref().map(|(key, _)| key.clone());
        let (shared, id, keep) = (self.shared.clone(), id.to_owned(), self.snapshot.kept.keep);
        tokio::spawn(async move { shared.answers.announce(owner, &id, keep).await });
    }

    /// What was claimed will not be booked now.
    pub(in crate::gateway) fn disclaim(&mut self, batch: &str) {
        if std::mem::take(&mut self.due.claim) != Booking::Ours {
            return;
        }
        let (Some(provider), shared, batch) = (self.provider(), self.shared.clone(), batch.to_owned()) else {
            return;
        };
        tokio::spawn(async move { shared.answers.owners().release(&provider, &batch).await });
    }

    /// Whether the answer may be a batch.
    pub(in crate::gateway) fn may_tell_of_batches(&self) -> bool {
        self.due.batch
    }

    /// What was used, as the provider says; whoever only looks has used nothing, whatever is told of what was made before.
    pub(in crate::gateway) fn told(&mut self, usage: Option<Usage>) {
        self.usage = usage.filter(|_| !matches!(self.due.when, When::Never));
    }

    /// What a whole answer says of when it is paid for.
    pub(in crate::gateway) fn learn_from(&mut self, asked: &dyn Asked, answer: &[u8]) {
        self.told(self.usage);
        self.learn_of(asked.later(answer, self.usage.as_ref()));
        if self.due.batch
            && let Some(batch) = Batch::read(answer)
        {
            self.learn_of_batch(batch);
        }
    }

    /// What an answer says of work in the background. What was asked for before is paid for once it is there.
    pub(in crate::gateway) fn learn_of(&mut self, later: Later) {
        match later {
            Later::No => {}
            Later::Begun(id) => self.due.when = When::Later(id, self.snapshot.kept.keep),
            Later::Awaited(id) => self.wait_on(&id),
            Later::Over(id) if self.due.claim == Booking::Done => {
                let owed = self.provider().and_then(|provider| self.figures.desk().owed.take(&provider, &id));
                owed.into_iter().for_each(Entry::settled_elsewhere);
                (self.due.when, self.usage) = (When::Never, Some(Usage::nothing()));
            }
            Later::Over(id) => {
                let usage = self.usage.filter(|usage| !usage.is_nothing());
                // Where nothing is held for it any more, this look pays for it.
                if self.pay_off(&id, usage) || usage.is_none() {
                    self.due.when = When::Never;
                }
            }
        }
    }

    /// A stream that looked at an answer which was asked for before. It is paid for where that was asked.
    pub(in crate::gateway) fn learn_of_look(&mut self, id: &str, complete: bool) {
        if !complete {
            self.usage = Some(Usage::nothing());
            return self.wait_on(id);
        }
        self.due.when = When::Never;
        if !self.pay_off(id, self.usage) {
            self.usage = Some(Usage::nothing());
            return;
        }
        // Other gateways that see it book it no more.
        let (Some(provider), shared, id) = (self.provider(), self.shared.clone(), id.to_owned()) else {
            return;
        };
        let keep = self.snapshot.kept.keep;
        tokio::spawn(async move {
            if let Some(redis) = shared.answers.redis() {
                book(redis, &provider, &id, keep).await;
            }
        });
    }

    /// What an answer says of a batch. Whoever asked for it pays, once somebody sees that it is done.
    pub(in crate::gateway) fn learn_of_batch(&mut self, batch: Batch<'_>) {
        let looks = matches!(self.due.when, When::Never);
        match (looks, batch.is_over) {
            (false, false) => self.due.when = When::Later(batch.id, batch::KEEP),
            (false, true) => {}
            (true, false) => self.wait_on(&batch.id),
            (true, true) => {
                let nothing = batch.is_empty.then(|| Usage { tier: Some(Tier::Batch), ..Usage::nothing() });
                let usage =
                    batch.usage.and_then(|usage| self.of_batch(usage, batch.model.as_deref())).or(nothing);
                self.book(&batch.id, usage);
            }
        }
    }

    /// What the results of a batch say of what it used, once they were read to their end.
    pub(in crate::gateway) fn learn_of_results(&mut self, results: Results) {
        let batch = results.id().to_owned();
        match results.done(|usage, model| self.of_batch(usage, Some(model))) {
            Some(usage) => self.book(&batch, Some(usage)),
            None => self.disclaim(&batch),
        }
    }

    /// Books what a batch used: in the row of who made it, if that is open here; else in that of this look, if it is the one
    /// that does.
    fn book(&mut self, id: &str, usage: Option<Usage>) {
        match self.due.claim {
            Booking::Unsaid => self.wait_on(id),
            Booking::Done => drop(self.pay_off(id, Some(booked_elsewhere()))),
            claim => {
                if self.pay_off(id, usage) {
                    self.usage = usage;
                } else if claim == Booking::Ours && usage.is_some() {
                    (self.due.when, self.usage) = (When::Now, usage);
                }
            }
        }
    }

    /// The usage of a batch, and what it cost, where the model is told.
    pub(in crate::gateway) fn of_batch(&self, usage: &str, model: Option<&str>) -> Option<Usage> {
        let target = self.target.as_ref()?;
        let usage = Usage { tier: Some(Tier::Batch), ..target.wire().usage(&[usage])? };
        let name =
            model.map(|model| TargetName { provider: target.name.provider.clone(), model: model.into() });
        let cost = name.and_then(|name| self.paid(&name, target.vendor.preset.as_deref(), &usage));
        Some(Usage { said_cost: cost.or(usage.said_cost), ..usage })
    }

    /// Somebody has looked, and waits on.
    fn wait_on(&mut self, id: &str) {
        if let Some(provider) = self.provider() {
            self.figures.desk().owed.put_off(&provider, id);
        }
        self.due.when = When::Never;
    }

    /// Settles the attempt that this answer is of, if it is still open: by what was used, or by an estimate.
    fn pay_off(&mut self, id: &str, usage: Option<Usage>) -> bool {
        let owed = self.provider().and_then(|provider| self.figures.desk().owed.take(&provider, id));
        let Some(entry) = owed else { return false };
        self.own = Some(match usage {
            Some(usage) => entry.used(Some(usage), 200),
            None => entry.unread(),
        });
        true
    }

    fn provider(&self) -> Option<Arc<str>> {
        self.target.as_ref().map(|target| target.name.provider.clone())
    }

    /// What the answer that goes to the client cost, where that is known without its price.
    pub(super) fn known_cost(&self) -> Option<Option<Nano>> {
        match self.due.when {
            When::Now => None,
            When::Later(..) => Some(None),
            When::Never => Some(Some(Nano(0))),
        }
    }

    /// Whether it is paid for after its end.
    pub(super) fn is_due_later(&self) -> bool {
        matches!(self.due.when, When::Later(..))
    }

    /// Settles the attempt whose answer the client got, or leaves it open until that is there.
    pub(super) fn close(&mut self, tab: &Tab, own: Option<Nano>, outcome: &'static str, status: u16) {
        let status = Some(status);
        match std::mem::take(&mut self.due.when) {
            When::Now => tab.close(Closing { usage: self.usage, cost: own, outcome, status }),
            When::Never => tab.close(Closing { usage: None, cost: Some(Nano(0)), outcome, status }),
            When::Later(id, keep) => {
                // What a batch used is booked by whoever looks at it, also when this process has ended.
                let lasting = keep == batch::KEEP && self.shared.answers.owners().outlives();
                tab.owe(id, keep, lasting);
            }
        }
    }
}
