//! Cases in YAML: what a plugin is asked, and what is expected of the answer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::facts::Endpoint;
use crate::plugin::{
    Ask, Candidate, Completion, Context, Features, Origin, Pair, Phase, PluginSettings, Principal, Segment,
};

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cases {
    /// The file of the plugin, beside this one; by default the only `*.wasm` there is.
    pub(super) plugin: Option<PathBuf>,
    /// The plugin's settings, as an entry of the configuration's `plugins:`.
    #[serde(default)]
    pub(super) settings: PluginSettings,
    pub(super) cases: Vec<Case>,
}

/// One question, and what is expected of the answer.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    name: Option<String>,
    #[serde(default)]
    pub(super) context: Known,
    pub(super) classify: Option<Text>,
    pub(super) inspect: Option<Text>,
    #[serde(default)]
    pub(super) phase: Asked,
    pub(super) stream: Option<Vec<String>>,
    pub(super) route: Option<Vec<Offer>>,
    pub(super) observe: Option<Ended>,
    pub(super) call: Option<Call>,
    pub(super) encode: Option<Value>,
    pub(super) decode: Option<Received>,
    pub(super) fault: Option<Received>,
    pub(super) decode_stream: Option<Vec<String>>,
    /// The texts of the request that is routed.
    #[serde(default)]
    pub(super) text: Option<Text>,
    #[serde(default)]
    pub(super) expect: Value,
}

/// Texts: one of the user, or several of whomever.
#[derive(Debug, Deserialize, Clone)]
#[serde(untagged)]
pub(super) enum Text {
    One(String),
    Several(Vec<Said>),
}

/// One text and who said it.
#[derive(Debug, Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct Said {
    #[serde(default = "user")]
    origin: Origin,
    text: String,
}

/// Whether a request or an answer is inspected.
#[derive(Debug, Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(super) enum Asked {
    #[default]
    Request,
    Response,
}

/// What is known of the request.
#[derive(Debug, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Known {
    model: Option<String>,
    key_id: String,
    user: Option<String>,
    team: Option<String>,
    headers: BTreeMap<String, String>,
    metadata: BTreeMap<String, Value>,
    tags: BTreeMap<String, String>,
    features: Features,
    prompt_tokens: Option<u32>,
    max_output_tokens: Option<u32>,
}

/// A target that a router may choose.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Offer {
    target: String,
    #[serde(default = "yes")]
    healthy: bool,
    #[serde(default)]
    error_rate: f32,
    #[serde(default = "half_a_second")]
    latency_p50_ms: u32,
    latency_p95_ms: Option<u32>,
    #[serde(default = "a_tenth_of_a_cent")]
    cost_micros: u64,
    #[serde(default = "large")]
    context_window: u32,
    #[serde(default)]
    region: String,
    #[serde(default)]
    tags: Vec<String>,
}

/// How a request ended.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ended {
    target: String,
    #[serde(default = "ok")]
    status: u16,
    finish_reason: Option<String>,
    #[serde(default)]
    cost_micros: u64,
    first_token_ms: Option<u32>,
    #[serde(default)]
    duration_ms: u32,
    #[serde(default)]
    cache_hit: bool,
}

/// A function of a plugin and its arguments.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Call {
    pub(super) name: String,
    #[serde(default)]
    pub(super) args: Value,
}

/// What a provider answers: a body as text, or as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Received {
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Value,
}

impl Cases {
    /// Reads a file of cases.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        let text = std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
        let cases: Self = serde_yaml::from_str(&text).map_err(|error| format!("{shown}: {error}"))?;
        for (number, case) in cases.cases.iter().enumerate() {
            if case.asks() != 1 {
                return Err(format!(
                    "{shown}: case {} asks for {} things, it must be one: classify, inspect, stream, route, observe, \
                     call, encode, decode, fault or decode_stream",
                    number + 1,
                    case.asks()
                ));
            }
        }
        Ok(cases)
    }
}

impl Case {
    /// Its name, or what it asks.
    pub(super) fn name(&self, number: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("case {number}"))
    }

    fn asks(&self) -> usize {
        let asked = [
            self.classify.is_some(),
            self.inspect.is_some(),
            self.stream.is_some(),
            self.route.is_some(),
            self.observe.is_some(),
            self.call.is_some(),
            self.encode.is_some(),
            self.decode.is_some(),
            self.fault.is_some(),
            self.decode_stream.is_some(),
        ];
        asked.into_iter().filter(|asked| *asked).count()
    }
}

impl Known {
    /// A request of which this is known, with these texts.
    pub(super) fn ask(&self, text: Option<&Text>) -> Arc<Ask> {
        let pair =
            |(name, value): (&String, &String)| -> Pair { (name.as_str().into(), value.as_str().into()) };
        let segments = text.map(Text::segments).unwrap_or_default();
        let letters: usize = segments.iter().map(|segment| segment.text.len()).sum();
        let estimate = u32::try_from(letters / 4).unwrap_or(u32::MAX);
        let context = Context {
            principal: Principal {
                key_id: self.key_id.as_str().into(),
                user: self.user.as_deref().map(Into::into),
                team: self.team.as_deref().map(Into::into),
                tags: Vec::new(),
            },
            headers: self.headers.iter().map(pair).collect(),
            metadata: self.metadata.iter().map(|(k, v)| (k.as_str().into(), v.to_string().into())).collect(),
            features: self.features,
            prompt_tokens: self.prompt_tokens.unwrap_or(estimate),
            max_output_tokens: self.max_output_tokens,
            tags: self.tags.iter().map(pair).collect(),
            ..Context::new("case", Endpoint::Chat, self.model.as_deref().unwrap_or("auto"))
        };
        Arc::new(Ask { context, segments })
    }
}

impl Text {
    fn segments(&self) -> Vec<Segment> {
        match self {
            Text::One(text) => vec![Segment::user(0, "messages[0].content", text.as_str())],
            Text::Several(texts) => (0_u32..)
                .zip(texts)
                .map(|(id, said)| Segment {
                    id,
                    origin: said.origin,
                    path: format!("messages[{id}].content").into(),
                    text: said.text.as_str().into(),
                })
                .collect(),
        }
    }
}

impl Asked {
    /// As the host says it.
    pub(super) fn phase(self) -> Phase {
        match self {
            Asked::Request => Phase::Request,
            Asked::Response => Phase::Response,
        }
    }
}

impl Offer {
    /// As the host says it.
    pub(super) fn candidate(&self) -> Candidate {
        Candidate {
            target: self.target.as_str().into(),
            healthy: self.healthy,
            error_rate: self.error_rate,
            latency_p50_ms: self.latency_p50_ms,
            latency_p95_ms: self.latency_p95_ms.unwrap_or(self.latency_p50_ms.saturating_mul(2)),
            cost_micros: self.cost_micros,
            context_window: self.context_window,
            region: self.region.as_str().into(),
            tags: self.tags.iter().map(|tag| tag.as_str().into()).collect(),
        }
    }
}

impl Ended {
    /// As the host says it.
    pub(super) fn completion(&self) -> Completion {
        Completion {
            target: self.target.as_str().into(),
            status: self.status,
            finish_reason: self.finish_reason.as_deref().map(Into::into),
            cost_micros: self.cost_micros,
            first_token_ms: self.first_token_ms,
            duration_ms: self.duration_ms,
            cache_hit: self.cache_hit,
            ..Completion::default()
        }
    }
}

impl Received {
    /// The body as it came.
    pub(super) fn bytes(&self) -> bytes::Bytes {
        match &self.body {
            Value::String(text) => text.clone().into(),
            other => other.to_string().into(),
        }
    }
}

fn user() -> Origin {
    Origin::User
}

fn yes() -> bool {
    true
}

fn ok() -> u16 {
    200
}

fn half_a_second() -> u32 {
    500
}

fn a_tenth_of_a_cent() -> u64 {
    1000
}

fn large() -> u32 {
    128_000
}
