//! The host's plugins as policies ask them: facts become what plugins see, answers what scripts see.

use std::future::Future;
use std::sync::Arc;

use super::plugins::{Ability, About, Asking, Finding, Plan, Plugins, Question, Reply};
use super::suggest::hint;
use crate::facts::Facts;
use crate::facts::market::{Offer, Size};
use crate::plugin::{
    Ask, Called, Candidate, Capability, Classification, Consequence, Interface, Phase, Plugin, PluginSet,
    RouteDecision, RoutePlan, Segment, Verdict,
};

/// The plugins of a snapshot, for policies.
#[derive(Debug, Clone, Default)]
pub struct Hosted {
    set: PluginSet,
    ahead: Arc<[Arc<str>]>,
}

impl Hosted {
    /// These plugins.
    pub fn new(set: PluginSet) -> Self {
        let ahead = set.iter().filter(|plugin| plugin.settings().prefetch).map(|plugin| plugin.name().into());
        Self { ahead: ahead.collect(), set }
    }
}

impl Plugins for Hosted {
    fn names(&self) -> Vec<String> {
        self.set.names().map(str::to_owned).collect()
    }

    fn lacks(&self, plugin: &str, ability: Ability) -> Option<String> {
        let interface = interface(ability);
        let exports = self.set.get(plugin)?.exports(interface)?;
        (!exports).then(|| format!("plugin `{plugin}` does not export `{}`", interface.as_str()))
    }

    fn lacks_function(&self, plugin: &str, function: &str) -> Option<String> {
        let known = &self.set.get(plugin)?.loaded()?.functions;
        if known.is_empty() || known.iter().any(|known| known == function) {
            return None;
        }
        let hint = hint(function, known.iter().map(String::as_str));
        Some(format!("plugin `{plugin}` has no function `{function}`{hint}; it has {}", known.join(", ")))
    }

    fn ahead(&self) -> &[Arc<str>] {
        &self.ahead
    }

    fn ask(&self, plugin: &str, question: &Question, about: &About) -> Asking {
        let Some(plugin) = self.set.get(plugin).cloned() else {
            let text = format!("there is no plugin `{plugin}`");
            return Box::pin(std::future::ready(Err(text)));
        };
        let said = || Segment::of_conversation(&about.facts);
        let ask = || Arc::new(asked(&plugin, about, said));
        match question {
            Question::Classify => replying(&plugin, Interface::Classify, plugin.classify(ask()), classes),
            Question::Inspect => {
                let ask = Arc::new(asked(&plugin, about, || Segment::all_of(&about.facts)));
                let call = plugin.inspect(Phase::Request, ask.clone());
                replying(&plugin, Interface::Guard, call, move |said| findings(said, &ask.segments))
            }
            Question::Route => {
                let candidates = candidates(&about.facts);
                replying(&plugin, Interface::Route, plugin.route(ask(), candidates), way)
            }
            Question::Call { function, arguments } => {
                // What a function does for a request matters only where others do it for the plugin.
                let about = plugin.settings().grants(Capability::Ai).then(ask);
                let call = plugin.call_about(about, function.clone(), arguments.clone());
                replying(&plugin, Interface::Functions, call, Reply::Json)
            }
        }
    }
}

/// Plugins of which only the names are known: for checks of policies where nobody is asked.
#[derive(Debug, Clone, Default)]
pub struct NamedPlugins(pub Vec<String>);

impl Plugins for NamedPlugins {
    fn names(&self) -> Vec<String> {
        self.0.clone()
    }

    fn ask(&self, plugin: &str, _: &Question, _: &About) -> Asking {
        let text = format!("plugin `{plugin}` cannot be asked here");
        Box::pin(std::future::ready(Err(text)))
    }
}

fn interface(ability: Ability) -> Interface {
    match ability {
        Ability::Classify => Interface::Classify,
        Ability::Inspect => Interface::Guard,
        Ability::Route => Interface::Route,
        Ability::Call => Interface::Functions,
    }
}

/// Awaits a call, and does what the plugin's settings say where it gives no answer.
fn replying<T: Send + 'static>(
    plugin: &Arc<Plugin>,
    interface: Interface,
    call: impl Future<Output = Called<T>> + Send + 'static,
    reply: impl FnOnce(T) -> Reply + Send + 'static,
) -> Asking {
    let plugin = plugin.clone();
    Box::pin(async move {
        let fault = match call.await.answer {
            Ok(answer) => return Ok(reply(answer)),
            Err(fault) => fault,
        };
        let consequence = if fault.unsupported { Consequence::Skip } else { plugin.on_error(interface) };
        let silent = |interface| match interface {
            Interface::Classify => Some(classes(Classification::default())),
            Interface::Guard => Some(findings(Verdict::default(), &[])),
            Interface::Route => Some(Reply::Pass),
            Interface::Functions => Some(Reply::Json("null".into())),
            _ => None,
        };
        let stands_in = match consequence {
            Consequence::Default(classification) => Some(classes(classification)),
            Consequence::Skip => silent(interface),
            Consequence::Deny | Consequence::RedactAll => Some(Reply::Closed(fault.to_string())),
        };
        stands_in.ok_or_else(|| format!("plugin `{}`: {fault}", plugin.name()))
    })
}

fn classes(said: Classification) -> Reply {
    let labels = said.labels.into_iter().map(|label| (label.name, f64::from(label.score)));
    Reply::Classes { labels: labels.collect(), attributes: said.attributes }
}

fn findings(said: Verdict, segments: &[Segment]) -> Reply {
    let text = |segment: u32, start: u32, end: u32| {
        let segment = segments.iter().find(|known| known.id == segment)?;
        segment.text.get(start as usize..end as usize).map(str::to_owned)
    };
    let findings = said.findings.into_iter().map(|found| Finding {
        text: text(found.segment, found.start, found.end),
        kind: found.kind,
        score: f64::from(found.score),
        segment: found.segment,
        start: found.start,
        end: found.end,
        replacement: found.replacement,
    });
    Reply::Findings {
        findings: findings.collect(),
        reject: said.reject.map(|refusal| (refusal.code, refusal.message)),
    }
}

fn way(said: RouteDecision) -> Reply {
    match said {
        RouteDecision::Pass => Reply::Pass,
        RouteDecision::Plan(plan) => Reply::Plan(planned(plan)),
        RouteDecision::Reject(refusal) => Reply::Reject(refusal.status, refusal.code, refusal.message),
    }
}

fn planned(mut plan: RoutePlan) -> Plan {
    plan.steps.sort_by_key(|step| step.rank);
    let mut steps: Vec<Vec<(String, f64)>> = Vec::new();
    let mut rank = None;
    // Who is hedged is whoever is asked first.
    let first = plan.steps.first().map(|step| step.rank);
    let hedge_after_ms = plan.steps.iter().filter(|step| Some(step.rank) == first);
    let hedge_after_ms = hedge_after_ms.filter_map(|step| step.hedge_after_ms).min();
    // No time at all is no deadline that a router can mean.
    let timeout_ms = plan.steps.iter().find_map(|step| step.timeout_ms.filter(|ms| *ms > 0));
    let retries = plan.steps.iter().find_map(|step| step.retries);
    for step in std::mem::take(&mut plan.steps) {
        if rank != Some(step.rank) {
            steps.push(Vec::new());
            rank = Some(step.rank);
        }
        if let Some(choices) = steps.last_mut() {
            choices.push((step.target, f64::from(step.weight)));
        }
    }
    let RoutePlan { set, tags, reason, .. } = plan;
    Plan { steps, timeout_ms, retries, hedge_after_ms, set, tags, reason }
}

/// A request as this plugin sees it. What tools are good for says nothing of its kind, so only guards see that too.
fn asked(plugin: &Plugin, about: &About, text: impl FnOnce() -> Vec<Segment>) -> Ask {
    let text = if plugin.reads_text() { text() } else { Vec::new() };
    Ask::of(&about.facts, &about.tags, &plugin.settings().headers, text)
}

/// What a router can choose from: what stands behind the model, or everything there is.
fn candidates(facts: &Facts) -> Arc<[Candidate]> {
    let behind = facts.market.behind(&facts.model);
    let offers = if behind.is_empty() { facts.market.all() } else { behind };
    let size = Size { input: facts.body.tokens(), output: facts.body.max_tokens().unwrap_or(512) };
    offers.iter().map(|offer| candidate(offer, facts.market.cost(offer, size))).collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts of floats saturate")]
fn candidate(offer: &Offer, dollars: Option<f64>) -> Candidate {
    let (listing, live) = (&offer.listing, &offer.live);
    Candidate {
        target: listing.name.clone(),
        healthy: live.healthy.unwrap_or(true),
        error_rate: live.error_rate.unwrap_or_default() as f32,
        latency_p50_ms: live.latency.p50.unwrap_or_default() as u32,
        latency_p95_ms: live.latency.p95.unwrap_or_default() as u32,
        cost_micros: dollars.map_or(0, |dollars| (dollars * 1e6).ceil() as u64),
        context_window: listing.context_window.map_or(0, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
        region: listing.labels.get("region").cloned().unwrap_or_default(),
        tags: listing.tags.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{CallFault, Outcome, PluginHost, PluginSource, RouteStep, Services};

    #[tokio::test]
    async fn what_a_function_does_not_handle_is_no_opinion() {
        let settings = serde_yaml::from_str("{ name: p, on_error: closed }").unwrap();
        let missing = PluginSource::read(settings, std::path::Path::new("/nonexistent"));
        let set = PluginSet::load(&PluginHost::new(Services::default(), None), vec![missing], None);
        let plugin = set.get("p").unwrap();
        let asked = async |unsupported| {
            let fault = CallFault { outcome: Outcome::Failure, unsupported, message: "no".into() };
            let call = Called { answer: Err(fault), took: std::time::Duration::ZERO };
            replying(plugin, Interface::Functions, std::future::ready(call), Reply::Json).await
        };
        assert_eq!(asked(true).await, Ok(Reply::Json("null".into())));
        assert_eq!(asked(false).await, Ok(Reply::Closed("failure: no".into())));
    }

    #[test]
    fn a_routers_steps_are_grouped_by_rank_and_its_first_ones_speak_for_all() {
        let step = |target: &str, rank, timeout_ms, hedge_after_ms| RouteStep {
            target: target.into(),
            rank,
            weight: 1.0,
            timeout_ms,
            retries: None,
            hedge_after_ms,
        };
        let plan = planned(RoutePlan {
            steps: vec![
                step("c", 7, Some(900), Some(1)),
                step("a", 0, Some(0), Some(300)),
                step("b", 0, None, Some(200)),
            ],
            set: vec![("top_p".into(), "0.5".into())],
            ..RoutePlan::default()
        });
        let names: Vec<Vec<&str>> =
            plan.steps.iter().map(|step| step.iter().map(|(name, _)| name.as_str()).collect()).collect();
        assert_eq!(names, [vec!["a", "b"], vec!["c"]]);
        assert_eq!((plan.timeout_ms, plan.hedge_after_ms), (Some(900), Some(200)));
        assert_eq!(plan.set, [("top_p".to_owned(), "0.5".to_owned())]);
    }
}
