//! What a request takes of the limits towards clients.

use tokio::time::Instant;

use super::door::Asked;
use super::gather::tags;
use super::identify::with_forced;
use super::line::Opened;
use super::reserve::answers;
use crate::caller::Caller;
use crate::facts::Endpoint;
use crate::fault::Fault;
use crate::limits::{Need, Subject, USUAL_OUTPUT};

impl Opened<'_> {
    /// Refuses what names things of others; takes one request, and the tokens that it is reckoned to need, from every limit that holds for it. What it needed
    /// in the end is corrected when it is settled.
    pub(super) async fn take_limits(&mut self, asked: &dyn Asked) -> Result<(), Fault> {
        if self.caller.grant.is_some()
            && let Some(items) = asked.items()
        {
            // Boxed, as all that few requests need.
            Box::pin(self.may_name(items)).await?;
        }
        let rules = &self.snapshot.rate_limits;
        let of_key = self.holder.as_ref().and_then(|holder| holder.rules.as_ref());
        if rules.is_empty() && of_key.is_none() {
            return Ok(());
        }
        let tags = with_forced(tags(&self.headers)?, &self.caller);
        let user = self.caller.user.clone().or_else(|| asked.user().map(Into::into));
        let caller = Caller { user, ..self.caller.clone() };
        let alias = self.snapshot.catalogue_of(self.version).alias_of(asked.model());
        let alias = alias.map(|alias| &**alias);
        let subject = Subject { caller: &caller, model: asked.model(), alias, tags: &tags };
        let need = need(self.endpoint(), asked);
        let (limits, now) = (&self.gateway.shared.figures.limits, Instant::now());
        let admitted = if limits.is_shared() {
            // Boxed, as all that few requests need.
            Box::pin(limits.admit_among_all(rules, of_key, &subject, &need, now)).await
        } else {
            limits.admit(rules, of_key, &subject, &need, now)
        };
        match admitted {
            Ok(None) => Ok(()),
            Ok(Some(held)) => {
                held.notice().tell(&mut self.told);
                self.rates = held.rated(now);
                self.note(|settlement| settlement.held = Some(held));
                Ok(())
            }
            Err(denied) => {
                denied.notice.tell(&mut self.told);
                metrics::counter!("tollgate_rate_limited_total", "limit" => denied.limit.to_string())
                    .increment(1);
                Err(denied.fault())
            }
        }
    }
}

/// What a request is reckoned to need: as many tokens for each of its answers as the client allows, and none where
/// nothing is generated.
fn need(endpoint: Endpoint, asked: &dyn Asked) -> Need {
    if asked.is_errand() {
        return Need { input: 0, output: Some(0) };
    }
    let output = match endpoint {
        Endpoint::Embeddings
        | Endpoint::CountTokens
        | Endpoint::Moderations
        | Endpoint::Rerank
        | Endpoint::Files
        | Endpoint::Batches => 0,
        _ => asked.max_tokens().unwrap_or(USUAL_OUTPUT).saturating_mul(answers(endpoint, asked)),
    };
    Need { input: asked.tokens(), output: Some(output) }
}
