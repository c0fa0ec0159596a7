//! A provider as configured: its dialect, where it is, how it is paid for, and what constraints can ask of it.

use std::fmt;
use std::sync::Arc;

use http::HeaderMap;

use super::restrained::{Checkpoint, Gauge, Queue, Ready, Restrained, Tally};
use super::{Credential, Ford, Inspection, Interpreter, Provider, Ring};
use crate::fault::{Fault, FaultRules};
use crate::plan::OutputRules;
use crate::target::{Deadlines, Origin, TargetName, Traits};

/// One configured provider. Immutable; part of a snapshot.
pub struct Vendor {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The preset that it starts from, under which price lists know its models.
    pub preset: Option<Arc<str>>,
    /// What it speaks.
    pub wire: Arc<dyn Provider>,
    /// Who speaks with it in a language of its own; `wire` is then what the interpreter understands.
    pub interpreter: Option<Arc<dyn Interpreter>>,
    /// Where it is.
    pub place: Place,
    /// Configured headers, those that hold secrets marked sensitive; added to every request, so nothing overrides them.
    pub headers: HeaderMap,
    /// Its keys; the headers of the one that an attempt bears are added last.
    pub ring: Ring,
    /// What authorises a request beyond `headers`.
    pub credential: Credential,
    /// What constraints can ask for.
    pub traits: Traits,
    /// Deadlines of its attempts.
    pub deadlines: Deadlines,
    /// What happens after faults, where it is not the usual.
    pub faults: FaultRules,
    /// Whether its quirks can choose the class of service.
    pub names_tier: bool,
    /// Models that the configuration names, by `models:` of the provider or as targets of aliases.
    pub models: Vec<Arc<str>>,
}

impl Vendor {
    /// A vendor without an address, credentials, constraints and models: the least that speaks `wire`.
    pub fn bare(name: &str, wire: Arc<dyn Provider>) -> Self {
        Self {
            name: name.into(),
            preset: None,
            wire,
            interpreter: None,
            place: Place::Local,
            headers: HeaderMap::new(),
            ring: Ring::default(),
            credential: Credential::default(),
            traits: Traits::default(),
            deadlines: Deadlines::default(),
            faults: FaultRules::default(),
            names_tier: false,
            models: Vec::new(),
        }
    }
}

/// Where a provider is.
pub enum Place {
    /// Behind a socket.
    Http(Box<HttpPlace>),
    /// Inside the process.
    Local,
}

/// The address of a provider behind a socket.
pub struct HttpPlace {
    /// Scheme, host and port.
    pub origin: Origin,
    /// Path of the base URL without a trailing slash, possibly empty.
    pub base_path: String,
    /// Query parameters for every request, already encoded, without the question mark; possibly empty.
    pub query: String,
}

/// One model of one configured provider.
#[derive(Clone)]
pub struct Target {
    /// The provider.
    pub vendor: Arc<Vendor>,
    /// `provider/model`.
    pub name: TargetName,
    /// What speaks in place of the provider, where rules hold that it does not know of.
    through: Option<Arc<Restrained>>,
    /// Those rules.
    rules: Option<Arc<OutputRules>>,
    /// Who looks at its answers.
    inspection: Option<Arc<dyn Inspection>>,
}

/// An answer that the client does not get.
pub struct Withheld {
    /// Why.
    pub fault: Fault,
    /// What the provider made, where it is an answer.
    pub made: Option<Tally>,
}

impl Target {
    /// A model of a provider.
    pub fn new(vendor: Arc<Vendor>, name: TargetName) -> Self {
        Self { vendor, name, through: None, rules: None, inspection: None }
    }

    /// The same target under rules for its output, and with somebody who looks at its answers.
    pub fn under(
        &self,
        rules: &Arc<OutputRules>,
        inspection: Option<Arc<dyn Inspection>>,
        gauge: Option<&Gauge>,
    ) -> Self {
        let through = Arc::new(Restrained::new(self, rules, gauge));
        Self { through: Some(through), rules: Some(rules.clone()), inspection, ..self.clone() }
    }

    /// Whether its requests say more than the client wrote.
    pub fn changes_prompt(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| rules.changes_prompt())
    }

    /// The same target, with answers of at most so many tokens besides the rules that hold already.
    pub fn capped(&self, most: u64) -> Self {
        let mut rules = self.rules.as_deref().cloned().unwrap_or_default();
        rules.cap(most);
        let gauge = self.through.as_ref().and_then(|through| through.gauge());
        self.under(&Arc::new(rules), self.inspection.clone(), gauge.as_ref())
    }

    /// Whether its answers may end before their providers end them.
    pub fn ends_early(&self) -> bool {
        self.rules.as_ref().is_some_and(|rules| !rules.stop_on.is_empty())
    }

    /// Whether somebody looks at its answers.
    pub fn is_inspected(&self) -> bool {
        self.inspection.is_some()
    }

    /// Looks at a whole answer. The target that comes back gives it, whatever bytes it is to decode; `None` where
    /// nobody looks.
    ///
    /// # Errors
    /// The provider's fault when its body is no answer; the answer is withheld.
    pub async fn inspect(&self, body: &[u8]) -> Result<Option<Self>, Withheld> {
        let (Some(inspection), Some(through)) = (&self.inspection, &self.through) else { return Ok(None) };
        let mut answer = through.said(body).map_err(|fault| Withheld { fault, made: None })?;
        if let Err(fault) = inspection.whole(&mut answer).await {
            let tally = Tally::default();
            tally.take(&answer.into_events());
            return Err(Withheld { fault, made: Some(tally) });
        }
        Ok(Some(self.with(through.ready(Ready::whole(answer)))))
    }

    /// What a streamed answer has to pass, the target that gives what has passed, whatever bytes its decoder is fed
    /// with, and what the provider has sent; `None` where nobody looks.
    pub fn inspect_stream(&self) -> Option<(Self, Box<dyn Ford>, Tally)> {
        let (inspection, through) = (self.inspection.as_ref()?, self.through.as_ref()?);
        let (queue, tally) = (Queue::default(), Tally::default());
        let checkpoint =
            Checkpoint::new(through.listened(), inspection.stream(), queue.clone(), tally.clone());
        Some((self.with(through.ready(Ready::Stream(queue))), Box::new(checkpoint), tally))
    }

    fn with(&self, through: Restrained) -> Self {
        Self { through: Some(Arc::new(through)), ..self.clone() }
    }

    /// What speaks for this model: the provider itself, or that part of it which does.
    pub fn wire(&self) -> &dyn Provider {
        if let Some(through) = &self.through {
            return &**through;
        }
        let wire = &*self.vendor.wire;
        wire.speaker(&self.name.model).unwrap_or(wire)
    }

    /// The metric label of the model: its name where the configuration lists it, else `other`.
    pub fn metric_label(&self) -> Arc<str> {
        if self.vendor.models.contains(&self.name.model) { self.name.model.clone() } else { "other".into() }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}
