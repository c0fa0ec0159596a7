//! Targets as scripts see them: a handle on an offer of the market, and lists of such handles.

use std::sync::Arc;

use rhai::{Array, Dynamic, FnPtr, ImmutableString, NativeCallContext};

use super::Names;
use super::request::{Outcome, Request, fault, kind, label};
use crate::facts::fit::{self, Need, Unfit};
use crate::facts::market::{Offer, Quantiles};
use crate::facts::measure::Rated;
use crate::plan::Scored;

/// One target, with its numbers of the moment when it was looked up.
#[derive(Clone)]
pub(super) struct Candidate {
    offer: Arc<Offer>,
    request: Request,
}

/// Targets to choose from, and those that were left out on the way with the reason.
#[derive(Clone)]
pub(super) struct Candidates {
    pub(super) kept: Vec<Candidate>,
    pub(super) left_out: Vec<Scored>,
}

/// `target.price`, for this kind of token.
#[derive(Clone)]
pub(super) struct Cost(Arc<Offer>);

/// `target.latency`, `target.first_token`.
#[derive(Clone)]
pub(super) struct Delay(pub(super) Quantiles);

/// `target.quota`.
#[derive(Clone)]
pub(super) struct Left(Arc<Offer>);

/// `target.labels["region"]`.
#[derive(Clone)]
pub(super) struct Labels(Arc<Offer>);

impl Candidate {
    pub(super) fn new(request: &Request, offer: Offer) -> Self {
        Self { offer: Arc::new(offer), request: request.clone() }
    }

    pub(super) fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Its numbers for this request.
    pub(super) fn rated(&self) -> Rated<'_> {
        let facts = self.request.facts();
        Rated { offer: &self.offer, body: &*facts.body, market: &*facts.market }
    }

    /// Dollars that the request would cost here.
    pub(super) fn price_of_request(&self) -> Option<f64> {
        self.rated().cost()
    }

    /// Whether it is not known to fail.
    pub(super) fn is_well(&self) -> bool {
        self.offer.live.healthy != Some(false)
    }

    /// 0 (broken) to 1 (nothing fails, or nothing is known).
    pub(super) fn health(&self) -> f64 {
        if self.is_well() { 1.0 - self.offer.live.error_rate.unwrap_or(0.0) } else { 0.0 }
    }

    /// Why it cannot serve the request, if that is known.
    pub(super) fn unfit(&self) -> Option<&'static str> {
        self.too_small().or_else(|| self.unable())
    }

    fn too_small(&self) -> Option<&'static str> {
        fit::too_small(&*self.request.facts().body, &self.offer.listing).map(Unfit::reason)
    }

    fn unable(&self) -> Option<&'static str> {
        fit::unable(&*self.request.facts().body, &self.offer.listing).map(Unfit::reason)
    }
}

/// Getters.
impl Candidate {
    pub(super) fn name(&mut self) -> ImmutableString {
        (&*self.offer.listing.name).into()
    }

    pub(super) fn provider(&mut self) -> ImmutableString {
        self.offer.listing.provider().into()
    }

    pub(super) fn model(&mut self) -> ImmutableString {
        self.offer.listing.model().into()
    }

    pub(super) fn price(&mut self) -> Cost {
        Cost(self.offer.clone())
    }

    pub(super) fn latency(&mut self) -> Delay {
        Delay(self.offer.live.latency)
    }

    pub(super) fn first_token(&mut self) -> Delay {
        Delay(self.offer.live.first_token)
    }

    pub(super) fn quota(&mut self) -> Left {
        Left(self.offer.clone())
    }

    pub(super) fn labels(&mut self) -> Labels {
        Labels(self.offer.clone())
    }

    pub(super) fn region(&mut self) -> Dynamic {
        self.labels().entry("region")
    }

    pub(super) fn tags(&mut self) -> Array {
        self.offer.listing.tags.iter().map(|tag| ImmutableString::from(&**tag).into()).collect()
    }

    /// Whether it is known to be able to do this.
    pub(super) fn can(&mut self, ability: &str) -> Outcome<bool> {
        let need = Need::named(ability).ok_or_else(|| fault(not_an_ability(ability)))?;
        let known = need.known(&self.offer.listing.can);
        Ok(known == Some(true))
    }
}

impl Cost {
    pub(super) fn input(&mut self) -> Dynamic {
        decimal(self.0.listing.price.map(|price| price.input))
    }

    pub(super) fn output(&mut self) -> Dynamic {
        decimal(self.0.listing.price.map(|price| price.output))
    }
}

impl Left {
    pub(super) fn requests(&mut self) -> Dynamic {
        whole(self.0.live.quota.requests)
    }

    pub(super) fn tokens(&mut self) -> Dynamic {
        whole(self.0.live.quota.tokens)
    }
}

impl Labels {
    pub(super) fn entry(&mut self, key: &str) -> Dynamic {
        let value = self.0.listing.labels.get(key);
        value.map_or(Dynamic::UNIT, |value| ImmutableString::from(&**value).into())
    }

    pub(super) fn has(&mut self, key: &str) -> bool {
        self.0.listing.labels.contains_key(key)
    }
}

impl Candidates {
    /// The targets that a script names: an alias, a target, a list of them, or what `candidates(…)` gave.
    pub(super) fn named(word: &str, request: &Request, names: &Names, what: &Dynamic) -> Outcome<Self> {
        if let Some(all) = what.read_lock::<Self>() {
            return Ok(all.clone());
        }
        let mut all = Self { kept: Vec::new(), left_out: Vec::new() };
        all.add(word, request, names, what)?;
        Ok(all)
    }

    fn add(&mut self, word: &str, request: &Request, names: &Names, what: &Dynamic) -> Outcome<()> {
        if let Some(list) = what.read_lock::<Array>() {
            return list.iter().try_for_each(|one| self.add(word, request, names, one));
        }
        if let Some(one) = what.read_lock::<Candidate>() {
            self.push(one.clone());
            return Ok(());
        }
        let Ok(name) = what.as_immutable_string_ref() else {
            let given = kind(what);
            return Err(fault(format!("{word}: expected targets or aliases as texts, not {given}")));
        };
        let behind = request.facts().market.behind(&name);
        if behind.is_empty() && !names.knows(&name) {
            return Err(fault(format!("{word}: {}", names.unknown(&name))));
        }
        behind.into_iter().for_each(|offer| self.push(Candidate::new(request, offer)));
        Ok(())
    }

    fn push(&mut self, one: Candidate) {
        if !self.kept.iter().any(|seen| seen.offer.listing.name == one.offer.listing.name) {
            self.kept.push(one);
        }
    }

    /// Leaves out those for which there is a reason.
    pub(super) fn leave_out(&mut self, reason: impl Fn(&Candidate) -> Option<String>) {
        let left_out = &mut self.left_out;
        self.kept.retain(|candidate| match reason(candidate) {
            None => true,
            Some(reason) => {
                let target = candidate.offer.listing.name.clone();
                left_out.push(Scored { target, score: None, rejected: Some(reason.into()) });
                false
            }
        });
    }

    /// `.where(condition)`: a condition by name, a tag, labels, or a list of these, all of which must hold.
    pub(super) fn with(mut self, condition: &Dynamic) -> Outcome<Self> {
        if let Some(list) = condition.read_lock::<Array>() {
            return list.iter().try_fold(self, Self::with);
        }
        if let Some(labels) = condition.read_lock::<rhai::Map>() {
            for (key, wanted) in labels.iter() {
                let wanted = label("where", wanted)?;
                self.leave_out(|candidate| {
                    let has = candidate.offer.listing.labels.get(key.as_str());
                    (has != Some(&wanted)).then(|| format!("has not the label {key}: {wanted}"))
                });
            }
            return Ok(self);
        }
        let Ok(word) = condition.as_immutable_string_ref() else {
            let given = kind(condition);
            return Err(fault(format!(
                "where: expected \"healthy\", \"fits\", \"able\", a tag or #{{ label: value }}, not {given}"
            )));
        };
        self.leave_out(|candidate| match word.as_str() {
            "healthy" => (!candidate.is_well()).then(|| "unhealthy".to_owned()),
            "fits" => candidate.too_small().map(str::to_owned),
            "able" => candidate.unable().map(str::to_owned),
            tag => {
                let tags = &candidate.offer.listing.tags;
                (!tags.iter().any(|has| **has == *tag)).then(|| format!("has not the tag {tag}"))
            }
        });
        Ok(self)
    }

    /// `.filter(|target| …)`.
    pub(super) fn filter(mut self, context: &NativeCallContext<'_>, keeps: &FnPtr) -> Outcome<Self> {
        let mut kept = Vec::with_capacity(self.kept.len());
        for candidate in std::mem::take(&mut self.kept) {
            if keeps.call_within_context::<bool>(context, (candidate.clone(),))? {
                kept.push(candidate);
            } else {
                let target = candidate.offer.listing.name.clone();
                self.left_out.push(Scored { target, score: None, rejected: Some("filtered".into()) });
            }
        }
        self.kept = kept;
        Ok(self)
    }

    pub(super) fn names(&mut self) -> Array {
        self.kept.iter_mut().map(|candidate| candidate.name().into()).collect()
    }

    pub(super) fn len(&mut self) -> i64 {
        i64::try_from(self.kept.len()).unwrap_or(i64::MAX)
    }

    pub(super) fn first(&mut self) -> Dynamic {
        self.kept.first().cloned().map_or(Dynamic::UNIT, Dynamic::from)
    }
}

impl IntoIterator for Candidates {
    type Item = Candidate;
    type IntoIter = std::vec::IntoIter<Candidate>;

    fn into_iter(self) -> Self::IntoIter {
        self.kept.into_iter()
    }
}

/// A number, or `()` where it is unknown.
pub(super) fn decimal(number: Option<f64>) -> Dynamic {
    number.map_or(Dynamic::UNIT, Dynamic::from)
}

fn whole(number: Option<u64>) -> Dynamic {
    number.map_or(Dynamic::UNIT, |number| i64::try_from(number).unwrap_or(i64::MAX).into())
}

pub(super) fn not_an_ability(word: &str) -> String {
    let words = Need::ALL.map(|(word, _)| word);
    let hint = super::suggest::hint(word, words);
    format!("can: '{word}' is not an ability{hint}: {}", words.join(", "))
}
