//! `Idempotency-Key`: a client that sends the same request again gets the answer that it got, or the one that is under way.

use http::{HeaderValue, Method};

use super::cached::too_late;
use super::gather::{patience, tags};
use super::identify::with_forced;
use super::keeping::{Kind, hash};
use super::line::{Admitted, Carried, Opened, Progress};
use crate::cache::{Claim, Entry, Joined, Waited};
use crate::caller::Caller;
use crate::chat::Loss;
use crate::fault::{Fault, FaultKind};

const NAME: &str = "idempotency-key";
/// The longest key, in bytes.
const MOST: usize = 255;

/// Whether a request was made before.
pub(super) enum Repeated<'o, 'g> {
    /// It was: this is its answer.
    Again(Carried<'o, 'g>),
    /// It was not.
    First(Admitted<'o, 'g>),
}

impl<'o, 'g> Admitted<'o, 'g> {
    /// Looks whether this client made the same request before, under the same key.
    ///
    /// # Errors
    /// A key that was used for another request (409), or cannot be one; an answer under way that does not come in time.
    pub(super) async fn repeated(self) -> Result<Repeated<'o, 'g>, Fault> {
        if !self.opened.headers.contains_key(NAME) || self.opened.method == Method::GET {
            return Ok(Repeated::First(self));
        }
        // Boxed, as all that few requests need.
        Box::pin(self.looked_up()).await
    }

    async fn looked_up(self) -> Result<Repeated<'o, 'g>, Fault> {
        let Self { opened, asked, .. } = &self;
        let keep = opened.snapshot.caching.idempotency;
        if keep.is_zero() {
            return Ok(Repeated::First(self));
        }
        let key = key_of(opened)?;
        let Some(body) = asked.json() else {
            opened.journal.never_carried(vec![Loss::new("idempotency-key", "not kept for this operation")]);
            return Ok(Repeated::First(self));
        };
        let scope = opened.caller.anchor().unwrap_or_default();
        let key = hash(&[b"idempotency", scope.as_bytes(), &key]);
        let asks = hash(&[opened.uri.to_string().as_bytes(), body.bytes()]);
        let store = opened.gateway.shared.repeats.clone();
        let total = patience(&opened.headers)?.unwrap_or(opened.snapshot.total).min(opened.snapshot.total);
        let deadline = opened.at + total;
        loop {
            match store.join(&key, &asks, false) {
                Joined::Kept(entry) => return Ok(Repeated::Again(self.again(&entry))),
                Joined::Lead(mut lead) => {
                    if let Some(far) = store.far() {
                        match far.claim(&key, &asks, deadline).await.map_err(|()| too_late())? {
                            Claim::Kept(entry) if entry.asks != asks => return Err(conflict()),
                            Claim::Kept(entry) => return Ok(Repeated::Again(self.again(&lead.found(entry)))),
                            Claim::Ours(claimed) => lead.claimed(claimed),
                            Claim::Conflict => return Err(conflict()),
                            Claim::Away => {}
                        }
                    }
                    let most = self.opened.snapshot.limits.max_body;
                    self.opened.keeping.get_or_insert_default().push(Kind::Idempotency, lead, keep, most);
                    return Ok(Repeated::First(self));
                }
                Joined::Wait(waiter) => {
                    let waited = tokio::time::timeout_at(deadline, waiter.wait()).await;
                    match waited.map_err(|_| too_late())? {
                        Waited::Kept(entry) => return Ok(Repeated::Again(self.again(&entry))),
                        Waited::Nobody(_) => {}
                        Waited::Unfit => return Ok(Repeated::First(self)),
                    }
                }
                Joined::Conflict => return Err(conflict()),
                Joined::Busy => return Ok(Repeated::First(self)),
            }
        }
    }

    fn again(self, entry: &Entry) -> Carried<'o, 'g> {
        let Self { opened, asked, .. } = self;
        let user = opened.caller.user.clone().or_else(|| asked.user().map(Into::into));
        let caller = Caller { user, ..opened.caller.clone() };
        // What is wrong with them was told the first time.
        let tags = with_forced(tags(&opened.headers).unwrap_or_default(), &caller);
        opened.note(|s| s.tags = tags);
        opened.told.insert("idempotent-replayed", HeaderValue::from_static("true"));
        opened.given_again(entry, &*asked, &caller);
        let progress = Progress::again(entry);
        Carried { opened, progress }
    }
}

fn key_of(opened: &Opened<'_>) -> Result<Vec<u8>, Fault> {
    let key = opened.headers.get(NAME).map(HeaderValue::as_bytes).unwrap_or_default();
    if key.is_empty() || key.len() > MOST {
        return Err(Fault::bad_request(format!("an Idempotency-Key has 1 to {MOST} bytes"), NAME));
    }
    Ok(key.to_vec())
}

fn conflict() -> Fault {
    Fault::new(FaultKind::BadRequest, "this Idempotency-Key was used for another request: take a new key")
        .status(409)
        .code("idempotency_conflict")
        .at(NAME)
}
