//! One entry of LiteLLM's `model_list`: a model at a provider, under the name that clients ask for.

use serde_json::{Map, Value, json};

use super::defaults::said;
use super::notes::Notes;
use super::vendors::{Here, named, table};
use crate::house::diagnostic::Place;
use crate::house::node::{Entry, Node};

/// An entry of `model_list`, taken apart.
#[derive(Debug, Default)]
pub(super) struct Deployment {
    /// What clients ask for.
    pub(super) alias: String,
    /// Where the entry stands.
    pub(super) place: Place,
    /// The preset's name, or a name for a provider of one's own.
    pub(super) provider: String,
    /// The host of `api_base`, to tell providers apart.
    pub(super) host: Option<String>,
    /// The provider's settings, as they are written here.
    pub(super) settings: Map<String, Value>,
    /// The model's name at the provider.
    pub(super) model: String,
    /// What the provider calls it, where that is another name (Azure).
    pub(super) deployment: String,
    /// Its share among the entries of the same name.
    pub(super) weight: Option<f64>,
    /// Requests and tokens per minute.
    pub(super) rpm: Option<f64>,
    /// Tokens per minute.
    pub(super) tpm: Option<f64>,
    /// Lower ones are tried first.
    pub(super) order: Option<f64>,
    /// What is known of the model: price, context window.
    pub(super) facts: Map<String, Value>,
    /// A budget of this entry alone: US dollars and the period.
    pub(super) budget: Option<(f64, Option<String>)>,
    /// Whether its credential stands elsewhere in the file.
    named: bool,
}

/// Fields of `litellm_params` that are request parameters: sent where the client did not set them.
const PARAMETERS: &[&str] = &[
    "temperature",
    "top_p",
    "top_k",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "stop",
    "seed",
    "user",
    "logprobs",
    "top_logprobs",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "response_format",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning_effort",
    "thinking",
    "extra_body",
    "service_tier",
    "dimensions",
    "voice",
    "keep_alive",
    "num_ctx",
];

/// Prices of LiteLLM, in dollars for one, and their names here, for how many.
const PRICES: &[(&str, &str, f64)] = &[
    ("input_cost_per_token", "input", 1e6),
    ("output_cost_per_token", "output", 1e6),
    ("cache_read_input_token_cost", "cached_read", 1e6),
    ("cache_creation_input_token_cost", "cache_write", 1e6),
    ("output_cost_per_reasoning_token", "reasoning", 1e6),
    ("input_cost_per_audio_token", "input_audio", 1e6),
    ("output_cost_per_audio_token", "output_audio", 1e6),
    ("input_cost_per_character", "character", 1e6),
    ("output_cost_per_image", "image", 1.0),
    ("input_cost_per_query", "request", 1.0),
    ("input_cost_per_request", "request", 1.0),
];

/// Fields that say nothing to a gateway, and are left out without a word.
const SILENT: &[&str] =
    &["id", "mode", "db_model", "description", "created_at", "updated_at", "health_check_model"];

/// What stands in the names of headers whose values are secrets.
const SECRET_HEADERS: &[&str] = &["authorization", "key", "token", "secret", "cookie"];

/// The entry of `credential_list` whose values count as if they stood in `litellm_params`.
const CREDENTIAL: &str = "litellm_credential_name";

/// What `litellm_params` say, as far as several fields must be known to understand one.
#[derive(Default)]
struct Params<'n> {
    model: Option<&'n Entry>,
    custom: Option<String>,
    base: Option<String>,
    key: Option<Value>,
    version: Option<String>,
    headers: Map<String, Value>,
    defaults: Map<String, Value>,
    deadlines: Map<String, Value>,
    aws: Map<String, Value>,
    google: Map<String, Value>,
    azure: Map<String, Value>,
}

impl Deployment {
    /// Reads one entry. `None` where it cannot be carried; the reason is noted.
    pub(super) fn read(entry: &Node, credentials: &[(String, &Node)], notes: &mut Notes) -> Option<Self> {
        let Some(name) = entry.get("model_name").and_then(|entry| super::text(&entry.value)) else {
            notes.left(entry.place, "an entry of `model_list` without `model_name`", None);
            return None;
        };
        let alias = super::called(&name);
        if alias != name {
            let what =
                format!("the name `{name}`, which has white space: the model is called `{alias}` here");
            notes.left(entry.place, what, Some("tell the clients"));
        }
        let mut found = Self { alias, place: entry.place, ..Self::default() };
        let mut params = Params::default();
        let named = entry.get("litellm_params").and_then(|own| own.value.get(CREDENTIAL));
        let named = named.and_then(|named| super::text(&named.value));
        if let Some((_, values)) = named.and_then(|named| credentials.iter().find(|(name, _)| *name == named))
        {
            found.params(values, &mut params, notes);
            found.named = true;
        }
        for field in super::entries(entry) {
            match field.key.as_str() {
                "model_name" => {}
                "litellm_params" => found.params(&field.value, &mut params, notes),
                "model_info" => found.info(&field.value, notes),
                _ => notes.unknown(field, "model_list"),
            }
        }
        found.settle(params, notes)
    }

    /// Limits per minute belong to the key.
    pub(super) fn limits(&mut self) {
        if self.rpm.is_none() && self.tpm.is_none() {
            return;
        }
        if let Some(key) = self.settings.get_mut("keys").and_then(|keys| keys.get_mut(0)) {
            let mut full = json!({ "secret": key.take() });
            for (name, limit) in [("rpm", self.rpm), ("tpm", self.tpm)] {
                if let Some(limit) = limit.filter(|limit| *limit >= 1.0) {
                    full[name] = json!(limit as u64);
                }
            }
            *key = full;
        }
    }

    /// Its share among the entries of the same name, as LiteLLM draws them: by weight, else by requests, else by tokens.
    pub(super) fn share(&self) -> f64 {
        self.weight.or(self.rpm).or(self.tpm).filter(|share| *share >= 0.0).unwrap_or(1.0)
    }

    /// Whether it stands for several models, or for several names.
    pub(super) fn is_wild(&self) -> bool {
        self.model.contains('*') || self.alias.contains('*')
    }

    /// What stands before the slash in the name that clients ask for, unless it is the provider's own.
    pub(super) fn front(&self) -> Option<&str> {
        let (front, _) = self.alias.split_once('/')?;
        (!self.is_wild() || front != self.provider).then_some(front)
    }

    /// An entry for several models of a provider, or for several names: models can be asked for as `provider/model` anyway.
    pub(super) fn wildcard(&self, provider: &str, notes: &mut Notes) {
        let asked = self.alias.strip_suffix('*').unwrap_or(&self.alias);
        if asked != format!("{provider}/") && self.alias != format!("{provider}/{}", self.model) {
            let what = if self.model.contains('*') {
                format!("the name `{}`: its models are asked for as `{provider}/MODEL`", self.alias)
            } else {
                format!("the name `{}`: its model is asked for as `{provider}/{}`", self.alias, self.model)
            };
            notes.left(self.place, what, Some("a policy can route other names: see docs/policies.md"));
        }
    }

    fn params<'n>(&mut self, node: &'n Node, params: &mut Params<'n>, notes: &mut Notes) {
        for field in super::entries(node) {
            let value = &field.value;
            let key = field.key.as_str();
            match key {
                "model" => params.model = Some(field),
                "custom_llm_provider" => params.custom = super::text(value),
                "api_base" | "base_url" => params.base = notes.plain(value, key),
                "api_key" => params.key = notes.secret(value, &format!("{}_KEY", self.alias)),
                "api_version" => params.version = notes.plain(value, key),
                "organization" => {
                    if let Some(text) = notes.plain(value, key) {
                        params.headers.insert("openai-organization".into(), text.into());
                    }
                }
                "extra_headers" | "headers" => self.headers(value, params, notes),
                "rpm" => self.rpm = super::number(value),
                "tpm" => self.tpm = super::number(value),
                "weight" => self.weight = super::number(value),
                "order" => self.order = super::number(value),
                "timeout" => notes.seconds(field, &mut params.deadlines, "first_byte"),
                "stream_timeout" => notes.seconds(field, &mut params.deadlines, "first_token"),
                "max_budget" => {
                    self.budget.get_or_insert((0.0, None)).0 = super::number(value).unwrap_or(0.0)
                }
                "budget_duration" => self.budget.get_or_insert((0.0, None)).1 = super::text(value),
                "region_name" | "aws_region_name" => {
                    insert(&mut params.aws, "region", notes.plain(value, key))
                }
                "aws_access_key_id" => {
                    keep(&mut params.aws, "access_key_id", notes.secret(value, "AWS_ACCESS_KEY_ID"))
                }
                "aws_secret_access_key" => {
                    keep(&mut params.aws, "secret_access_key", notes.secret(value, "AWS_SECRET_ACCESS_KEY"));
                }
                "aws_session_token" => {
                    keep(&mut params.aws, "session_token", notes.secret(value, "AWS_SESSION_TOKEN"));
                }
                "aws_profile_name" => insert(&mut params.aws, "profile", notes.plain(value, key)),
                "vertex_project" | "vertex_ai_project" => {
                    insert(&mut params.google, "project", notes.plain(value, key));
                }
                "vertex_location" | "vertex_ai_location" => {
                    insert(&mut params.google, "location", notes.plain(value, key));
                }
                "vertex_credentials" | "vertex_ai_credentials" => {
                    keep(&mut params.google, "credentials", notes.credentials(field, "VERTEX_CREDENTIALS"));
                }
                "tenant_id" => insert(&mut params.azure, "tenant", notes.plain(value, key)),
                "client_id" => insert(&mut params.azure, "client_id", notes.plain(value, key)),
                "client_secret" => {
                    keep(&mut params.azure, "client_secret", notes.secret(value, "AZURE_CLIENT_SECRET"));
                }
                "base_model" => insert(&mut self.facts, "like", super::text(value)),
                _ if PARAMETERS.contains(&key) => {
                    params.defaults.insert(key.to_owned(), super::plain_json(value));
                }
                CREDENTIAL if self.named => {}
                _ if SILENT.contains(&key) || self.price(field) => {}
                _ => notes.unknown(field, "litellm_params"),
            }
        }
    }

    fn info(&mut self, node: &Node, notes: &mut Notes) {
        for field in super::entries(node) {
            match field.key.as_str() {
                "base_model" => insert(&mut self.facts, "like", super::text(&field.value)),
                "max_input_tokens" => self.fact("context_window", field),
                "max_output_tokens" => self.fact("max_output", field),
                key if SILENT.contains(&key) || self.price(field) => {}
                _ => notes.unknown(field, "model_info"),
            }
        }
    }

    fn fact(&mut self, name: &str, field: &Entry) {
        if let Some(number) = super::number(&field.value).filter(|number| *number >= 1.0) {
            self.facts.insert(name.into(), json!(number as u64));
        }
    }

    fn price(&mut self, field: &Entry) -> bool {
        let Some((_, name, many)) = PRICES.iter().find(|(name, ..)| *name == field.key) else { return false };
        if let Some(price) = super::number(&field.value) {
            let prices = self.facts.entry("price").or_insert_with(|| json!({}));
            if let Some(prices) = prices.as_object_mut() {
                // What a token costs has a dozen digits at most; the product is rounded to as many.
                prices.insert((*name).into(), json!((price * many * 1e9).round() / 1e9));
            }
        }
        true
    }

    fn headers(&mut self, value: &Node, params: &mut Params, notes: &mut Notes) {
        for header in super::entries(value) {
            let text = super::text(&header.value).unwrap_or_default();
            let name = header.key.to_ascii_lowercase();
            let value =
                if text.starts_with("os.environ/") || SECRET_HEADERS.iter().any(|part| name.contains(part)) {
                    notes.secret(&header.value, &header.key).map(|secret| json!({ "secret": secret }))
                } else {
                    Some(text.into())
                };
            if let Some(value) = value {
                params.headers.insert(name, value);
            }
        }
    }

    /// What has a price for prompts alone costs nothing for answers, as LiteLLM reckons.
    fn round_price(&mut self) {
        if let Some(prices) = self.facts.get_mut("price").and_then(Value::as_object_mut)
            && prices.contains_key("input")
        {
            prices.entry("output").or_insert_with(|| json!(0.0));
        }
    }

    /// Puts together what the provider is.
    fn settle(mut self, params: Params, notes: &mut Notes) -> Option<Self> {
        let Some(model) = params.model.and_then(|entry| super::text(&entry.value)) else {
            notes.left(self.place, format!("`{}` has no `litellm_params.model`", self.alias), None);
            return None;
        };
        self.round_price();
        let place = params.model.map_or(self.place, |entry| entry.value.place);
        let Some(named) = named(&model, params.custom.as_deref(), params.base.is_some()) else {
            let help = match model.as_str() {
                "*" => "any model can be asked for as `provider/model`, and a policy can route other names",
                _ => "if it speaks OpenAI's API, give the entry an `api_base`",
            };
            notes.left(place, format!("no provider here is like that of `{model}`"), Some(help));
            return None;
        };
        if named.model.contains(char::is_whitespace) {
            notes.left(place, format!("the model `{model}`: its name has white space"), None);
            return None;
        }
        named.model.clone_into(&mut self.model);
        named.model.clone_into(&mut self.deployment);
        let (here, vendor) = (named.here, named.vendor.to_owned());
        let region = named.region.map(str::to_owned);
        self.host = params.base.as_deref().and_then(host);
        self.provider(here, &vendor, &params, notes, place)?;
        self.like(here, notes);
        let s = &mut self.settings;
        if let Some(key) = params.key {
            s.insert("keys".into(), json!([key]));
        } else if let Here::Preset(preset, variable) = here
            && !variable.is_empty()
            && !params.azure.contains_key("client_secret")
            && crate::providers::presets::all()
                .iter()
                .all(|known| known.name != preset || known.key_env.as_deref() != Some(variable))
        {
            s.insert("keys".into(), json!([format!("env:{variable}")]));
        } else if let Here::Compatible(_, variable) = here {
            s.insert("keys".into(), json!([format!("env:{variable}")]));
        }
        let mut aws = params.aws;
        if let Some(region) = region {
            aws.insert("region".into(), region.into());
        }
        if vendor.starts_with("bedrock") {
            some(s, "aws", aws);
        } else if let Some(region) = aws.remove("region") {
            s.insert("labels".into(), json!({ "region": region }));
        }
        some(s, "google", params.google);
        some(s, "headers", params.headers);
        some(s, "deadlines", params.deadlines);
        let preset = crate::providers::presets::all().iter().find(|preset| preset.name == self.provider);
        let (defaults, left) = said(preset.map_or("openai", |preset| &*preset.dialect), params.defaults);
        for name in left {
            let what = format!("`litellm_params.{name}` of `{}`: nothing is sent unasked", self.alias);
            let help = "a policy can set it: `route(…).set(…)`, see docs/policies.md";
            notes.left(self.place, what, Some(help));
        }
        if !defaults.is_empty() {
            s.insert("quirks".into(), json!({ "defaults": defaults }));
        }
        Some(self)
    }

    fn provider(
        &mut self,
        here: Here,
        vendor: &str,
        params: &Params,
        notes: &mut Notes,
        place: Place,
    ) -> Option<()> {
        // Where a server listens everywhere, people write that address for this machine.
        let here_it_is = |base| root(base).replacen("://0.0.0.0", "://127.0.0.1", 1);
        let base = params.base.as_deref().map(here_it_is);
        match here {
            Here::Preset("azure", _) => self.azure(base, params, notes, place)?,
            Here::Preset(preset, _) => {
                preset.clone_into(&mut self.provider);
                if let Some(mut base) = base {
                    // LiteLLM adds the version itself.
                    if preset == "anthropic" && !base.ends_with("/v1") {
                        base.push_str("/v1");
                    }
                    self.settings.insert("base_url".into(), base.into());
                }
            }
            Here::Compatible(usual, _) => {
                self.provider = vendor.replace('_', "-");
                self.settings.insert("dialect".into(), "openai".into());
                self.settings.insert("base_url".into(), base.unwrap_or_else(|| usual.to_owned()).into());
            }
            Here::Own => {
                let Some(base) = base else {
                    notes.left(place, format!("`{vendor}` needs an `api_base`"), None);
                    return None;
                };
                self.provider =
                    self.host.as_deref().and_then(|host| host.split('.').next()).unwrap_or("own").to_owned();
                self.settings.insert("dialect".into(), "openai".into());
                self.settings.insert("base_url".into(), base.into());
            }
        }
        Some(())
    }

    /// A model whose price and facts it has, as it is written here. LiteLLM looks for it among all models, and for those of
    /// the same provider then.
    fn like(&mut self, here: Here, notes: &mut Notes) {
        let Some(base) = self.facts.get("like").and_then(Value::as_str).map(str::to_owned) else { return };
        let vendor = base.split_once('/').is_none_or(|(vendor, _)| table(vendor).is_some());
        let found = named(&base, None, false).filter(|_| vendor);
        let found = found.map_or((here, &*base), |named| (named.here, named.model));
        if let (Here::Preset(preset, _), model) = found {
            self.facts.insert("like".into(), format!("{preset}/{model}").into());
        } else {
            self.facts.remove("like");
            notes.left(
                self.place,
                format!("`base_model` of `{}`: no provider here is known for `{base}`", self.alias),
                Some("set its price under `prices.models`, or `like: provider/model` there"),
            );
        }
    }

    fn azure(
        &mut self,
        base: Option<String>,
        params: &Params,
        notes: &mut Notes,
        place: Place,
    ) -> Option<()> {
        "azure".clone_into(&mut self.provider);
        let base = base.or_else(|| notes.variable("AZURE_API_BASE", place));
        let mut azure = params.azure.clone();
        let resource = self.host.as_deref().and_then(|host| host.strip_suffix(".openai.azure.com"));
        match (resource, base) {
            (Some(resource), _) => insert(&mut azure, "resource", Some(resource.to_owned())),
            (None, Some(base)) => {
                self.settings.insert("base_url".into(), base.into());
            }
            (None, None) => {
                notes.left(place, "an entry of Azure without `api_base`", None);
                return None;
            }
        }
        let dated = |version: &&String| version.starts_with(|c: char| c.is_ascii_digit());
        insert(&mut azure, "api_version", params.version.as_ref().filter(dated).cloned());
        // A deployment whose model is known is asked for by the model's name, so that its price is known.
        if let Some(like) = self.facts.get("like").and_then(Value::as_str) {
            let model = like.rsplit('/').next().unwrap_or(like).to_owned();
            if model != self.model {
                azure.insert("deployments".into(), json!({ model.as_str(): self.model }));
                self.model = model;
            }
            self.facts.remove("like");
        }
        some(&mut self.settings, "azure", azure);
        Some(())
    }
}

/// The address to which paths are added: people write that of the operation, too.
fn root(base: &str) -> &str {
    let base = base.trim_end_matches('/');
    let operation = ["/chat/completions", "/messages"].into_iter().find_map(|path| base.strip_suffix(path));
    operation.unwrap_or(base).trim_end_matches('/')
}

/// The host of an address.
fn host(base: &str) -> Option<String> {
    let rest = base.split_once("://")?.1;
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}

fn insert(map: &mut Map<String, Value>, name: &str, text: Option<String>) {
    keep(map, name, text.map(Value::from));
}

fn keep(map: &mut Map<String, Value>, name: &str, value: Option<Value>) {
    if let Some(value) = value {
        map.insert(name.to_owned(), value);
    }
}

fn some(map: &mut Map<String, Value>, name: &str, inner: Map<String, Value>) {
    if !inner.is_empty() {
        map.insert(name.to_owned(), Value::Object(inner));
    }
}
