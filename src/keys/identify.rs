//! From what a client shows to who it is, or to one refusal that says nothing of the reason.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Uri};
use tokio::time::Instant;

use super::jwt::Verifier;
use super::{Holder, Keys, credential};
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::settings::Rate;

/// So many tokens of one address may be forged before no more signatures are checked for it: they cost a hundredth of a core
/// then.
const FORGED: Rate = Rate { count: 100, period: Duration::from_secs(1), burst: None };

/// The code of the refusal of a token whose key may be known in a moment.
const RENEWING: &str = "jwks_renewing";

/// What clients of one snapshot must show.
#[derive(Default)]
pub enum Auth {
    /// Nothing.
    #[default]
    None,
    /// A key, or a token where there is somebody to verify it. Failing ones are slowed down at this rate.
    Required(Rate, Option<Arc<Verifier>>),
}

impl Auth {
    /// Whether this refusal is of a token whose key its provider may just have made.
    pub fn may_renew(&self, refusal: &Fault) -> bool {
        matches!(self, Self::Required(_, Some(_))) && refusal.code.as_deref() == Some(RENEWING)
    }

    /// Waits until the keys that tokens are signed with were read again, for a moment at most.
    pub async fn renewed(&self) {
        if let Self::Required(_, Some(verifier)) = self {
            verifier.renewed().await;
        }
    }
}

/// A client at the door.
pub struct Visit<'r> {
    /// Its headers.
    pub headers: &'r HeaderMap,
    /// Path and query.
    pub uri: &'r Uri,
    /// Its address.
    pub address: Option<IpAddr>,
    /// The operation that it asks for, where it is one.
    pub endpoint: Option<Endpoint>,
    /// Wall-clock time in Unix milliseconds.
    pub now_ms: u64,
    /// When it came.
    pub since: Instant,
    /// Monotonic time.
    pub now: Instant,
}

impl Keys {
    /// Who is at the door; `None` where nobody has to say.
    ///
    /// # Errors
    /// `Unauthorized` for whoever shows nothing good, in the same words for every reason; `RateLimited` when an address
    /// did so too often; `Forbidden` for an operation that the key is not for.
    pub fn identify(&self, auth: &Auth, visit: &Visit<'_>) -> Result<Option<Arc<Holder>>, Fault> {
        let Auth::Required(failures, verifier) = auth else { return Ok(None) };
        let holder = match self.recognise(verifier.as_deref(), visit) {
            Ok(holder) => holder,
            Err(Refusal::Unready) => {
                let text = "the keys that tokens are signed with have not been fetched yet";
                return Err(Fault::new(FaultKind::Unavailable, text).code("jwks_unavailable"));
            }
            Err(Refusal::Renewing) => {
                let text = "the keys that tokens are signed with are being fetched again";
                return Err(Fault::new(FaultKind::Unavailable, text).code(RENEWING));
            }
            Err(Refusal::For(reason)) => {
                metrics::counter!("tollgate_auth_failures_total", "reason" => reason).increment(1);
                return Err(self.refuse(*failures, visit));
            }
        };
        if let Some(endpoint) = visit.endpoint
            && !holder.grant.scope.allows_endpoint(endpoint)
        {
            metrics::counter!("tollgate_auth_failures_total", "reason" => "scope").increment(1);
            let text = format!("this key is not for {}", endpoint.as_str());
            return Err(Fault::new(FaultKind::Forbidden, text).code("key_scope"));
        }
        Ok(Some(holder))
    }

    fn recognise(&self, verifier: Option<&Verifier>, visit: &Visit<'_>) -> Result<Arc<Holder>, Refusal> {
        let shown = credential(visit.headers, visit.uri).ok_or(Refusal::For("missing"))?;
        let token = verifier.filter(|_| shown.bytes().filter(|byte| *byte == b'.').count() == 2);
        let holder = match token {
            Some(verifier) => {
                // A signature costs more than a look into a table, but a good token is not to suffer from the failures
                // of others behind its address: only from so many forged ones that their signatures cost much.
                let is_free = || !self.forged.is_spent(FORGED, visit.address, visit.now);
                let verified = verifier.verify(shown, visit.now_ms, visit.since, is_free);
                if let Err(Refusal::For(_)) = verified {
                    // Whoever has no more is told so by the count of all failures.
                    let _ = self.forged.count(FORGED, visit.address, visit.now);
                }
                verified?
            }
            None => {
                let table = self.table.load();
                table.find(shown, self.hasher(), visit.now_ms).ok_or(Refusal::For("unknown"))?
            }
        };
        if !holder.in_service {
            return Err(Refusal::For("revoked"));
        }
        if holder.expires_ms.is_some_and(|end| end <= visit.now_ms) {
            return Err(Refusal::For("expired"));
        }
        let inside = |address: IpAddr| {
            holder.grant.sources.as_ref().is_none_or(|all| all.iter().any(|block| block.has(address)))
        };
        let open = holder.grant.sources.is_none();
        if !visit.address.map_or(open, inside) {
            return Err(Refusal::For("address"));
        }
        Ok(holder)
    }

    fn refuse(&self, failures: Rate, visit: &Visit<'_>) -> Fault {
        match self.penalty.count(failures, visit.address, visit.now) {
            Ok(()) => {
                Fault::new(FaultKind::Unauthorized, "missing or invalid API key").code("invalid_api_key")
            }
            Err(wait) => {
                let text = "too many requests without a valid API key";
                let mut fault =
                    Fault::new(FaultKind::RateLimited, text).code("too_many_failures").after(Some(wait));
                (fault.whose, fault.retry) = (crate::fault::Whose::Caller, crate::fault::Retry::Never);
                fault
            }
        }
    }
}

/// Why somebody is not let in: for metrics, never for the client.
pub(super) enum Refusal {
    For(&'static str),
    Unready,
    /// It may be let in when the keys that tokens are signed with were read again, which is about to happen.
    Renewing,
}
