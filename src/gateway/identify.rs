//! Who asks: what a client shows becomes a caller, with what its key grants.

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderMap, Uri};
use tokio::time::Instant;

use super::gather::{Tags, text_of};
use super::line::Opened;
use super::{Gateway, Snapshot};
use crate::caller::{Caller, Grant, NotYours};
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::headers;
use crate::keys::{Auth, Holder, Visit};

/// How often a request waits for a reading of the keys that tokens are signed with: the one under way may have begun before
/// the token's key was published.
const RENEWALS: usize = 2;

impl Gateway {
    /// Who stands at a door that is not in the line.
    ///
    /// # Errors
    /// When it shows nothing good.
    pub async fn caller(
        &self,
        snapshot: &Snapshot,
        headers: &HeaderMap,
        uri: &Uri,
        address: Option<IpAddr>,
        endpoint: Option<Endpoint>,
    ) -> Result<Caller, Fault> {
        let since = Instant::now();
        let mut seen = self.holder(snapshot, (headers, uri), (address, since), endpoint);
        for _ in 0..RENEWALS {
            if !seen.as_ref().is_err_and(|refusal| snapshot.auth.may_renew(refusal)) {
                break;
            }
            drop(seen);
            // Boxed, as all that few requests need.
            Box::pin(snapshot.auth.renewed()).await;
            seen = self.holder(snapshot, (headers, uri), (address, since), endpoint);
        }
        let holder = seen?;
        let mut caller = Caller { address, ..Caller::default() };
        if let Some(holder) = holder {
            name(&mut caller, &holder);
        }
        lower(&mut caller, headers)?;
        Ok(caller)
    }

    fn holder(
        &self,
        snapshot: &Snapshot,
        (headers, uri): (&HeaderMap, &Uri),
        (address, since): (Option<IpAddr>, Instant),
        endpoint: Option<Endpoint>,
    ) -> Result<Option<Arc<Holder>>, Fault> {
        if matches!(snapshot.auth, Auth::None) {
            return Ok(None);
        }
        let now_ms = self.shared.clock.unix_ms();
        let visit = Visit { headers, uri, address, endpoint, now_ms, since, now: Instant::now() };
        self.shared.figures.keys.identify(&snapshot.auth, &visit)
    }
}

impl Opened<'_> {
    /// Finds out who asks.
    pub(super) async fn recognise(&mut self) -> Result<(), Fault> {
        let mut seen = self.look();
        for _ in 0..RENEWALS {
            if !seen.as_ref().is_err_and(|refusal| self.snapshot.auth.may_renew(refusal)) {
                break;
            }
            drop(seen);
            let snapshot = self.snapshot.clone();
            // Boxed, as all that few requests need.
            Box::pin(async move { snapshot.auth.renewed().await }).await;
            seen = self.look();
        }
        self.know(seen?)
    }

    fn look(&self) -> Result<Option<Arc<Holder>>, Fault> {
        let endpoint = Some(self.endpoint());
        let who = (self.caller.address, self.at);
        self.gateway.holder(&self.snapshot, (&self.headers, &self.uri), who, endpoint)
    }

    fn know(&mut self, holder: Option<Arc<Holder>>) -> Result<(), Fault> {
        if let Some(holder) = holder {
            name(&mut self.caller, &holder);
            let caller = (holder.key_id.clone(), holder.team.clone());
            self.note(|settlement| settlement.caller = Some(caller));
            self.holder = Some(holder);
        }
        lower(&mut self.caller, &self.headers)
    }
}

fn name(caller: &mut Caller, holder: &Holder) {
    caller.key_id = Some(holder.key_id.clone());
    caller.team = holder.team.clone();
    caller.user = holder.user.clone();
    caller.priority = holder.grant.priority;
    caller.grant = Some(holder.grant.clone());
}

/// `x-tollgate-priority: low`: a client can ask for less than its key has, never for more.
fn lower(caller: &mut Caller, headers: &HeaderMap) -> Result<(), Fault> {
    let name = &headers::PRIORITY;
    let asked = text_of(headers, name)?.map(str::parse).transpose();
    let asked = asked.map_err(|error: String| Fault::bad_request(error, name.as_str()))?;
    caller.priority = caller.priority.lowered_to(asked);
    Ok(())
}

/// The tags of a request: those that the client gives, but for those that its key forces.
pub(super) fn with_forced(mut tags: Tags, caller: &Caller) -> Tags {
    let forced = caller.grant.iter().flat_map(|grant| &grant.tags);
    for (key, value) in forced {
        tags.retain(|(known, _)| known != key);
        tags.push((key.clone(), value.clone()));
    }
    tags
}

/// Puts the data class that the key grants into the headers that policies see.
///
/// # Errors
/// `Forbidden` where the client names one that its key does not.
pub(super) fn classify(headers: &mut HeaderMap, grant: &Grant) -> Result<(), Fault> {
    if grant.scope.data_classes.is_none() {
        return Ok(());
    }
    let said = headers.get(&headers::DATA_CLASS).map(|value| value.to_str().unwrap_or("?"));
    match grant.scope.data_class(said) {
        Ok(None) => Err(beyond("this key is not for data of any class")),
        Ok(Some(class)) => {
            let value =
                class.parse().map_err(|_| beyond("this key's data class cannot stand in a header"))?;
            headers.insert(&headers::DATA_CLASS, value);
            Ok(())
        }
        Err(NotYours) => {
            Err(beyond("this key is not for data of this class").at(headers::DATA_CLASS.as_str()))
        }
    }
}

/// The refusal of what a key does not grant.
pub(super) fn beyond(text: &'static str) -> Fault {
    Fault::new(FaultKind::Forbidden, text).code("key_scope")
}
