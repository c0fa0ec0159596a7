//! Where an attempt goes: a provider as configured, and one model of it.

mod concurrency;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use concurrency::{Adaptive, ConcurrencyRules, ConcurrencySettings};

/// One model at one provider, named `provider/model`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetName {
    /// The provider's name in the configuration.
    pub provider: Arc<str>,
    /// The model's name as the provider knows it.
    pub model: Arc<str>,
}

impl TargetName {
    /// Splits `provider/model` at the first slash; the model may contain more of them.
    pub fn parse(text: &str) -> Option<Self> {
        let (provider, model) = text.split_once('/')?;
        (!provider.is_empty() && !model.is_empty())
            .then(|| Self { provider: provider.into(), model: model.into() })
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.provider)?;
        f.write_str("/")?;
        f.write_str(&self.model)
    }
}

/// Scheme, host and port of an upstream, and how TLS is spoken with it. The key of the connection pools.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or IP literal (IPv6 without brackets), lowercase.
    pub host: Arc<str>,
    /// TCP port.
    pub port: u16,
    /// Refuse TLS below 1.3.
    pub tls13_only: bool,
    /// Speak HTTP/2 without negotiation on a plain connection ("prior knowledge"). Over TLS, ALPN decides.
    pub h2c: bool,
    /// Which addresses its host may lead to.
    pub reach: Reach,
}

/// Which addresses a host may lead to. Each includes the ones before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Public addresses only.
    #[default]
    Public,
    /// Private ones too: loopback, the house's own networks. Somebody declared it.
    Private,
    /// Link-local and metadata addresses too: where a machine hands out its own credentials.
    Machine,
}

impl Origin {
    /// `host` or `host:port` for the `host` header, without the scheme's default port.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        if self.port == if self.tls { 443 } else { 80 } { host } else { format!("{host}:{}", self.port) }
    }
}

/// What is known of a target that constraints (`req.require`, `req.avoid`) can ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traits {
    /// Free words: `private`, `fast`.
    pub tags: Vec<Arc<str>>,
    /// Key and value: `region: eu`, `zero_retention: true`. Values are kept as text.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// Deadlines of one attempt and of the whole request; each can be set in the configuration and by policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// TCP and TLS set-up.
    pub connect: Duration,
    /// From sending the request to the answer's head.
    pub first_byte: Duration,
    /// From sending the request to the first content of a stream.
    pub first_token: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// From sending the request to the first content of a stream or the end of a whole answer, while another target is
    /// left that could be asked beside it.
    pub handover: Duration,
    /// Whether a target that is known to be slow is given more time before a handover: where nobody has said how long.
    pub learns: bool,
    /// The whole request with all its attempts.
    pub total: Duration,
    /// The fewest tokens a second of a stream after its first content; 0 asks for none.
    pub tokens_per_second: u32,
}

impl Default for Deadlines {
    /// Whole answers are long work, so a target that is alone may take a minute before its first byte. One that is not
    /// is left early enough for a client with half a minute of patience to be answered by the next.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(60),
            first_token: Duration::from_secs(60),
            idle: Duration::from_secs(30),
            handover: HANDOVER,
            learns: true,
            total: Duration::from_secs(600),
            tokens_per_second: 0,
        }
    }
}

/// How long a target may be silent while another one is left, unless something else is configured.
const HANDOVER: Duration = Duration::from_secs(20);

impl Deadlines {
    /// With this handover; where nothing is said of it, the usual one, but never less than what `first_byte` and
    /// `first_token` give explicitly.
    pub fn handing_over(mut self, after: Option<Duration>) -> Self {
        let usual = Self::default();
        let given = |set: Duration, usual: Duration| if set == usual { Duration::ZERO } else { set };
        let longest =
            given(self.first_byte, usual.first_byte).max(given(self.first_token, usual.first_token));
        self.handover = after.unwrap_or_else(|| longest.max(HANDOVER));
        self.learns = after.is_none();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_a_target_more_time_gives_it_also_before_a_handover() {
        let secs = Duration::from_secs;
        let usual = Deadlines::default();
        for (first_byte, first_token, said, expected) in [
            (usual.first_byte, usual.first_token, None, 20),
            (secs(5), usual.first_token, None, 20),
            (usual.first_byte, secs(90), None, 90),
            (secs(45), secs(30), None, 45),
            (secs(45), secs(30), Some(secs(7)), 7),
        ] {
            let deadlines = Deadlines { first_byte, first_token, ..usual }.handing_over(said);
            assert_eq!(deadlines.handover, secs(expected), "{first_byte:?} {first_token:?} {said:?}");
        }
    }
}
