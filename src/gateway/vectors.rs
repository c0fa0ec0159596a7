//! Vectors that plugins ask for, from the model that the configuration names: guards look at the texts first, and whoever
//! made the request pays.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Uri};
use tokio::time::Instant;

use super::door::{Asked, Door, Head};
use super::gather::facts_of;
use super::reserve::size;
use super::{Gateway, Snapshot};
use crate::caller::Caller;
use crate::executor::{Answered, Bond, Job, Journal};
use crate::facts::Facts;
use crate::fault::{Fault, FaultKind, Phase};
use crate::ledger::{Closing, Opening, Payer, When};
use crate::plan::{Decision, OutputRules};
use crate::planner::{self, Plan};
use crate::plugin::Behalf;
use crate::providers::Relayed;
use crate::store::Shelf;

/// How long vectors are waited for at most; the plugin's own limit mostly is shorter.
const VECTORS: Duration = Duration::from_secs(30);

/// One vector for each text, or why there is none.
pub(super) async fn embed(
    gateway: &Gateway,
    door: &'static dyn Door,
    behalf: Behalf,
    texts: Vec<String>,
) -> Result<Vec<Vec<f32>>, String> {
    let snapshot = gateway.snapshot();
    let Some(model) = snapshot.embeddings.clone() else {
        return Err(
            "no model for embeddings is configured: name one as `plugins: { embeddings: … }`".to_owned()
        );
    };
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let wanted = texts.len();
    let errand = Vectors { gateway, snapshot, door, model: &model, behalf };
    let answer = errand.made(texts).await.map_err(|fault| format!("embeddings by `{model}`: {fault}"))?;
    vectors(&answer.body, wanted).ok_or_else(|| format!("embeddings by `{model}`: the answer lacks vectors"))
}

/// Vectors that a plugin wants.
struct Vectors<'g> {
    gateway: &'g Gateway,
    snapshot: Arc<Snapshot>,
    door: &'static dyn Door,
    model: &'g str,
    behalf: Behalf,
}

impl Vectors<'_> {
    async fn made(&self, texts: Vec<String>) -> Result<Relayed, Fault> {
        let (mut asked, mut facts) = self.ask(&texts)?;
        let guards = self.snapshot.guards.of_errands();
        if guards.look_at(facts.endpoint, &facts.model) {
            let examined = guards.examine(&facts).await.map_err(|refused| refused.fault)?;
            if examined.output.changes_prompt() {
                (asked, facts) = self.ask(&without(texts, &examined.output)?)?;
            }
        }
        // Policies are not asked: they may be the ones who want the vectors.
        let catalogue = self.snapshot.catalogue_of(None);
        let planned = planner::plan(catalogue, &facts, &Decision::default(), &self.gateway.dice);
        self.carried(asked, facts, planned.map_err(|unplanned| unplanned.fault)?).await
    }

    /// The request for the vectors of these texts, as anybody could make it.
    fn ask(&self, texts: &[String]) -> Result<(Arc<dyn Asked>, Facts), Fault> {
        let body = serde_json::json!({ "model": self.model, "input": texts, "encoding_format": "float" });
        let (uri, headers) = (Uri::from_static("/v1/embeddings"), HeaderMap::new());
        let head = Head { uri: &uri, headers: &headers, shelf: &Shelf::empty() };
        let asked = self.door.read(body.to_string().into(), head)?;
        let Behalf { request, caller, .. } = &self.behalf;
        let request = if request.is_empty() { "plugin".into() } else { request.clone() };
        // The model is the operator's choice, whatever the caller's key is for.
        let caller = Caller { grant: None, session: None, ..caller.clone() };
        let (at_ms, market) = (self.gateway.shared.clock.unix_ms(), self.snapshot.market_of(None).clone());
        let facts = facts_of(request, self.door.endpoint(), caller, headers, &asked, at_ms, market)?;
        Ok((asked, facts))
    }

    async fn carried(&self, asked: Arc<dyn Asked>, facts: Facts, plan: Plan) -> Result<Relayed, Fault> {
        let Self { gateway, snapshot, behalf, .. } = self;
        let figures = &gateway.shared.figures;
        let when = When { unix_ms: facts.at_ms, ..When::default() };
        let (book, mut tags) = (gateway.prices(), behalf.tags.clone());
        tags.push(("plugin".into(), behalf.plugin.clone()));
        let tab = figures.desk().tab(|| Opening {
            request: facts.request_id.clone(),
            payer: Payer {
                endpoint: facts.endpoint,
                key: behalf.caller.key_id.clone(),
                key_name: behalf.caller.grant.as_ref().map(|grant| grant.name.clone()),
                user: facts.caller.user.clone(),
                team: behalf.caller.team.clone(),
                app: behalf.caller.grant.as_ref().and_then(|grant| grant.app.clone()),
                tags,
                model: asked.model().clone(),
                alias: snapshot.catalogue_of(None).alias_of(asked.model()).cloned(),
                named: behalf.caller.grant.as_ref().map(|grant| grant.budgets.clone()).unwrap_or_default(),
            },
            size: size(facts.endpoint, &*asked, None),
            when,
            any_tier: figures.any_tier(None, plan.targets.iter()),
            book: book.clone(),
            snapshot: snapshot.hash.clone(),
            scale: figures.tokens.clone(),
        });
        let tiered = plan.targets.iter().any(|target| target.vendor.names_tier);
        let job = Job {
            tiered,
            tokens: asked.tokens(),
            tenant: facts.caller.tenant().ranked(plan.priority),
            bond: Bond::gather(&plan.targets, None, &*asked),
            market: Some(facts.market.clone()),
            targets: plan.targets,
            retries: plan.retries,
            first_token: plan.first_token,
            exposed: figures.chaos.exposes(&facts.caller, asked.model(), &behalf.tags),
            carry: asked,
            journal: Arc::new(Journal::default()),
            tab,
            advice: None,
            strict: false,
            limits: snapshot.limits,
            manner: plan.manner,
            judge: None,
            deadline: Instant::now() + VECTORS.min(snapshot.total),
        };
        let carried = tokio::time::timeout(VECTORS, gateway.executor.carry_out(&job)).await;
        let (relayed, target) = match carried {
            Ok(Ok(Answered::Whole(relayed, target))) => (relayed, target),
            Ok(Ok(_)) => return Err(Fault::new(FaultKind::Malformed, "no whole answer came")),
            Ok(Err(fault)) => return Err(fault),
            Err(_) => return Err(Fault::new(FaultKind::Timeout(Phase::Total), "no vectors came in time")),
        };
        let within = |usage| job.tab.as_ref().map_or(usage, |tab| tab.within(usage));
        let usage = relayed.usage.map(within);
        let preset = target.vendor.preset.as_deref();
        let cost = usage.and_then(|usage| book.cost(&target.name, preset, &usage, when));
        if let Some(tab) = &job.tab {
            tab.close(Closing { usage, cost, outcome: "ok", status: Some(200) });
        }
        if let Some(usage) = &usage {
            if !tiered {
                figures.gave(&target.name.provider, usage.tier);
            }
            let meters = gateway.meters.target(&target.name.provider, &target.metric_label());
            meters.tokens(usage);
            meters.cost(cost);
        }
        Ok(relayed)
    }
}

/// The texts without what guards take out of them.
fn without(texts: Vec<String>, rules: &OutputRules) -> Result<Vec<String>, Fault> {
    if rules.redact_all {
        let text = "a guard that failed lets no text through, so there is nothing to make vectors of";
        return Err(Fault::new(FaultKind::Rejected, text).code("guard_blocked"));
    }
    // The longest stands first: it may contain others.
    let clean = |text: String| {
        rules
            .redact
            .iter()
            .fold(text, |text, redaction| text.replace(&*redaction.value, &redaction.placeholder))
    };
    Ok(texts.into_iter().map(clean).collect())
}

/// The vectors of an answer in OpenAI's dialect, in the order of the texts.
fn vectors(answer: &[u8], wanted: usize) -> Option<Vec<Vec<f32>>> {
    #[derive(serde::Deserialize)]
    struct Answer {
        data: Vec<Vector>,
    }
    #[derive(serde::Deserialize)]
    struct Vector {
        index: usize,
        embedding: Vec<f32>,
    }
    let mut data = serde_json::from_slice::<Answer>(answer).ok()?.data;
    data.sort_by_key(|vector| vector.index);
    let complete = data.len() == wanted && data.iter().enumerate().all(|(at, vector)| vector.index == at);
    complete.then(|| data.into_iter().map(|vector| vector.embedding).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_in_the_order_of_their_texts_or_not_at_all() {
        let answer = br#"{"data":[{"index":1,"embedding":[2.0]},{"index":0,"embedding":[1.0]}]}"#;
        assert_eq!(vectors(answer, 2), Some(vec![vec![1.0], vec![2.0]]));
        assert_eq!(vectors(answer, 3), None);
        assert_eq!(vectors(b"{}", 0), None);
    }

    #[test]
    fn what_guards_take_out_is_no_part_of_what_vectors_are_made_of() {
        use crate::plan::TakenOut;
        let mut rules = OutputRules::default();
        let found = ["ada", "ada@x.org"].map(|text| TakenOut { text, kind: "pii", replacement: None });
        rules.take_out(found.into_iter(), false);
        let texts = vec!["write to ada@x.org".to_owned(), "ada?".to_owned()];
        assert_eq!(without(texts.clone(), &rules).unwrap(), ["write to [PII_2]", "[PII_1]?"]);
        rules.redact_all = true;
        assert!(without(texts, &rules).is_err());
    }
}
