//! The sections of LiteLLM's configuration beside `model_list`: routing, defaults, the proxy itself.

use serde_json::{Map, Value, json};

use super::notes::{Notes, period};
use super::vendors::{Here, table};
use super::{called, entries, items, number, text, truth};
use crate::house::diagnostic::Place;
use crate::house::node::{Entry, Node};
use crate::settings::Period;

/// A budget of one target: its name, US dollars, the period, and where it was written.
pub(super) type Budget = (String, f64, Option<String>, Place);

/// What the other sections say.
#[derive(Debug, Default)]
pub(super) struct Proxy {
    /// What follows when all entries of a name failed.
    fallbacks: Vec<(String, Vec<String>, Place)>,
    /// What follows when a prompt is too long.
    larger: Vec<(String, Vec<String>, Place)>,
    /// What follows for every name.
    usual: (Vec<String>, Place),
    /// Other names.
    aliases: Vec<(String, String, Place)>,
    retries: Option<u64>,
    total: Option<f64>,
    strategy: Option<(String, Place)>,
    cached: bool,
    cache_ttl: Option<f64>,
    /// No answer is kept unless somebody asks for that, or none of a chat.
    cache_off: bool,
    fails: Option<f64>,
    cool_down: Option<f64>,
    in_flight: Option<u64>,
    master: Option<Value>,
    /// There is a `master_key`, so only those with a key may ask.
    closed: bool,
    budget: Option<(f64, Place)>,
    budget_period: Option<String>,
    of_providers: Vec<Budget>,
}

/// The shortest key, in bytes.
const SHORTEST_KEY: usize = 16;

/// What there is instead of LiteLLM's Redis.
const REDIS: &str =
    "`state.redis` shares answers, limits and budgets among gateways: see docs/several-gateways.md";

/// How long LiteLLM keeps an answer in memory, in seconds, where nothing is said.
const USUAL_TTL: f64 = 600.0;

/// Sections and fields that have no meaning for another program, or are what happens here anyway.
const SILENT: &[&str] = &[
    "drop_params",
    "set_verbose",
    "telemetry",
    "json_logs",
    "store_model_in_db",
    "database_connection_pool_limit",
    "database_connection_timeout",
    "proxy_batch_write_at",
    "proxy_budget_rescheduler_min_time",
    "proxy_budget_rescheduler_max_time",
    "disable_spend_logs",
    "disable_error_logs",
    "enable_pre_call_checks",
    "disable_cooldowns",
    "turn_off_message_logging",
    "redact_user_api_key_info",
    "background_health_checks",
    "health_check_interval",
    "modify_params",
    "use_client_credentials_pass_through_routes",
    "forward_client_headers_to_llm_api",
    "infer_model_from_keys",
];

impl Proxy {
    /// Reads one section.
    pub(super) fn read(&mut self, section: &Entry, notes: &mut Notes) {
        let name = section.key.as_str();
        match name {
            "router_settings" | "litellm_settings" | "general_settings" => {
                for field in entries(&section.value) {
                    self.field(name, field, notes);
                }
            }
            "environment_variables" => {
                for field in entries(&section.value) {
                    notes.secret(&field.value, &field.key);
                }
                let help = "set them where the gateway runs";
                notes.left(section.place, "`environment_variables`", Some(help));
            }
            _ => notes.left(section.place, format!("`{name}`"), hint(name)),
        }
    }

    fn field(&mut self, section: &str, field: &Entry, notes: &mut Notes) {
        let value = &field.value;
        match field.key.as_str() {
            "fallbacks" => self.fallbacks.extend(pairs(value, notes)),
            "context_window_fallbacks" => self.larger.extend(pairs(value, notes)),
            "default_fallbacks" => {
                let names = items(value).iter().filter_map(text).map(|name| called(&name));
                self.usual = (names.collect(), field.place);
            }
            "num_retries" | "max_retries" => {
                self.retries = number(value).map(|number| number.max(0.0) as u64)
            }
            "timeout" | "request_timeout" => self.total = number(value).filter(|seconds| *seconds > 0.0),
            "routing_strategy" => self.strategy = text(value).map(|text| (text, field.place)),
            "model_group_alias" => self.aliases(value, notes),
            "cache" => self.cached = truth(value),
            "cache_params" => self.cache_params(value, notes),
            "allowed_fails" => self.fails = number(value).filter(|fails| *fails >= 0.0),
            "cooldown_time" => self.cool_down = number(value).filter(|seconds| *seconds > 0.0),
            "max_parallel_requests" | "global_max_parallel_requests" => {
                self.in_flight = number(value).filter(|number| *number >= 1.0).map(|number| number as u64);
            }
            "master_key" => self.master_key(field, notes),
            "max_budget" => self.budget = number(value).map(|dollars| (dollars, field.place)),
            "budget_duration" => self.budget_period = text(value),
            "provider_budget_config" => self.provider_budgets(value),
            key if SILENT.contains(&key) => {}
            key => {
                notes.left(field.place, format!("`{section}.{key}`"), hint(key));
            }
        }
    }

    fn aliases(&mut self, value: &Node, notes: &mut Notes) {
        for field in entries(value) {
            let to =
                text(&field.value).or_else(|| field.value.get("model").and_then(|entry| text(&entry.value)));
            match to {
                Some(to) => self.aliases.push((called(&field.key), called(&to), field.place)),
                None => notes.unknown(field, "model_group_alias"),
            }
        }
    }

    fn cache_params(&mut self, value: &Node, notes: &mut Notes) {
        for field in entries(value) {
            match field.key.as_str() {
                "ttl" => self.cache_ttl = number(&field.value).filter(|seconds| *seconds > 0.0),
                "mode" if text(&field.value).as_deref() == Some("default_off") => {
                    self.cache_off = true;
                    let what = "`cache_params.mode: default_off`: the cache is off for everybody";
                    let help = "`cache` of a model, or `req.cache(…)` in a policy, switches it on";
                    notes.left(field.place, what, Some(help));
                }
                "mode" if text(&field.value).as_deref() == Some("default_on") => {}
                // LiteLLM's pages tell to write none where the store serves other ends alone.
                "supported_call_types" if !caches_chats(&field.value) => {
                    self.cache_off = true;
                    let what =
                        "`cache_params.supported_call_types`: the cache is off, as it is for chats there";
                    notes.left(field.place, what, Some("`cache` of a model switches it on"));
                }
                "type" if text(&field.value).as_deref() == Some("local") => {}
                "type" => {
                    let what = "`cache_params.type`: answers are kept in memory here";
                    notes.left(field.place, what, Some(REDIS));
                }
                _ => notes.unknown(field, "cache_params"),
            }
        }
    }

    fn master_key(&mut self, field: &Entry, notes: &mut Notes) {
        self.closed = true;
        let written = text(&field.value).unwrap_or_default();
        if !written.starts_with("os.environ/") && written.len() < SHORTEST_KEY {
            notes.hide(field);
            let what = format!(
                "`master_key`: a key has at least {SHORTEST_KEY} bytes here, so this one is left out, and everybody is refused until there is another"
            );
            let help = "`tollgate keys create NAME` makes one while the gateway runs: see docs/keys.md";
            return notes.left(field.place, what, Some(help));
        }
        self.master = notes.secret(&field.value, "LITELLM_MASTER_KEY");
    }

    fn provider_budgets(&mut self, value: &Node) {
        for field in entries(value) {
            let get = |names: [&str; 2]| names.iter().find_map(|name| field.value.get(name));
            let dollars = get(["budget_limit", "max_budget"]).and_then(|entry| number(&entry.value));
            let period = get(["time_period", "budget_duration"]).and_then(|entry| text(&entry.value));
            if let Some(dollars) = dollars {
                self.of_providers.push((field.key.clone(), dollars, period, field.place));
            }
        }
    }

    /// Writes what it found into the configuration and its models.
    pub(super) fn write(
        self,
        config: &mut Map<String, Value>,
        models: &mut Map<String, Value>,
        budgets: &[Budget],
        notes: &mut Notes,
    ) {
        for (name, to, place) in &self.aliases {
            match models.get(to).cloned() {
                Some(model) => {
                    models.insert(name.clone(), model);
                }
                None => notes.left(*place, format!("the alias `{name}`: there is no `{to}`"), None),
            }
        }
        for (name, to, place) in self.fallbacks.iter().filter(|(name, ..)| name != "*") {
            fall_back(models, name, to, notes, *place);
        }
        for (name, to, place) in &self.larger {
            let help =
                "it follows after every fault that another target may mend, not only after a prompt too long";
            notes.left(*place, format!("`context_window_fallbacks` of `{name}`, to the letter"), Some(help));
            fall_back(models, name, to, notes, *place);
        }
        let everywhere =
            self.fallbacks.iter().filter(|(name, ..)| name == "*").map(|(_, to, place)| (to, place));
        let all: Vec<String> = models.keys().cloned().collect();
        for (usual, place) in everywhere.chain([(&self.usual.0, &self.usual.1)]) {
            for name in &all {
                let others: Vec<String> = usual.iter().filter(|usual| *usual != name).cloned().collect();
                fall_back(models, name, &others, notes, *place);
            }
        }
        if let Some(retries) = self.retries {
            config.insert("retries".into(), json!({ "retries": retries }));
        }
        if let Some(total) = self.total {
            config.insert("deadlines".into(), json!({ "total": period(total) }));
        }
        if let Some(in_flight) = self.in_flight {
            config.insert("limits".into(), json!({ "in_flight": in_flight }));
        }
        self.route(models, notes);
        self.watch(config);
        self.guard(config, budgets, notes);
    }

    /// How one entry of a name is chosen.
    fn route(&self, models: &mut Map<String, Value>, notes: &mut Notes) {
        let Some((name, place)) = &self.strategy else { return };
        let strategy = match name.as_str() {
            "simple-shuffle" | "weighted" => return,
            "least-busy" => json!("least_busy"),
            "latency-based-routing" => json!({ "fastest": { "by": "total" } }),
            "cost-based-routing" => json!("cheapest"),
            "usage-based-routing" | "usage-based-routing-v2" => {
                let what = format!("`routing_strategy: {name}`, to the letter: the least busy is chosen");
                notes.left(*place, what, None);
                json!("least_busy")
            }
            _ => {
                return notes.left(
                    *place,
                    format!("`routing_strategy: {name}`"),
                    Some("see docs/routing.md"),
                );
            }
        };
        for model in models.values_mut().filter_map(Value::as_object_mut) {
            let Some(targets) = model.get_mut("targets").and_then(Value::as_array_mut) else { continue };
            if targets.len() > 1 {
                targets.iter_mut().for_each(weigh_nothing);
                model.insert("strategy".into(), strategy.clone());
            }
        }
    }

    /// When a target is left alone, and which answers are given again.
    fn watch(&self, config: &mut Map<String, Value>) {
        let mut breaker = Map::new();
        if let Some(fails) = self.fails {
            breaker.insert("consecutive".into(), json!(fails as u64 + 1));
        }
        if let Some(seconds) = self.cool_down {
            breaker.insert("cool_down".into(), period(seconds).into());
            breaker.insert("max_cool_down".into(), period(seconds).into());
        }
        if !breaker.is_empty() {
            config.insert("breaker".into(), breaker.into());
        }
        if self.cached && !self.cache_off {
            let ttl = period(self.cache_ttl.unwrap_or(USUAL_TTL));
            config.insert("cache".into(), json!({ "ttl": ttl, "when": "always", "shared": true }));
        }
    }

    /// Who may ask, and what may be spent.
    fn guard(&self, config: &mut Map<String, Value>, of_targets: &[Budget], notes: &mut Notes) {
        if self.closed {
            config.insert("auth".into(), "keys".into());
        }
        if let Some(master) = &self.master {
            config.insert("keys".into(), json!({ "master": { "secret": master } }));
            config.insert("admin".into(), json!({ "token": master }));
        }
        let mut budgets = Vec::new();
        if let Some((dollars, place)) = self.budget {
            let per = per(self.budget_period.as_deref(), place, notes);
            budgets.push(json!({ "name": "everything", "dollars": dollars, "per": per, "unpriced": "free" }));
        }
        for (name, dollars, period, place) in &self.of_providers {
            let whose = match table(name) {
                Some(Here::Preset(preset, _)) => format!("{preset}*"),
                _ => format!("{name}*"),
            };
            let per = per(period.as_deref(), *place, notes);
            budgets
                .push(json!({ "name": name, "dollars": dollars, "per": per, "unpriced": "free", "for": { "provider": whose } }));
        }
        for (target, dollars, period, place) in of_targets {
            let per = per(period.as_deref(), *place, notes);
            let name: String =
                target.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            budgets.push(json!({ "name": name, "dollars": dollars, "per": per, "unpriced": "free", "for": { "model": target } }));
        }
        if !budgets.is_empty() || self.closed {
            config.insert("state".into(), json!({ "ledger": "sqlite:./data/tollgate.db" }));
        }
        if !budgets.is_empty() {
            config.insert("budgets".into(), budgets.into());
        }
    }
}

/// Whether the types of calls whose answers are kept have those of chats among them.
fn caches_chats(value: &Node) -> bool {
    items(value).iter().filter_map(text).any(|kind| matches!(&*kind, "completion" | "acompletion"))
}

/// Only LiteLLM's shuffle draws by weights and limits; what is tried last stays last.
fn weigh_nothing(target: &mut Value) {
    if target["weight"].as_f64().is_some_and(|weight| weight > 0.0) {
        *target = target["to"].take();
    }
}

/// Puts names behind the targets of another. Two that follow each other would go round for ever: then it is the other's
/// targets that follow.
fn fall_back(models: &mut Map<String, Value>, name: &str, to: &[String], notes: &mut Notes, place: Place) {
    if !models.contains_key(name) {
        return notes.left(place, format!("fallbacks of `{name}`: there is no such model"), None);
    }
    for to in to {
        let follows: Vec<Value> = if leads(models, to, name, 0) {
            let targets =
                models.get(to).and_then(|model| model["targets"].as_array().cloned()).unwrap_or_default();
            targets.into_iter().map(|target| target.get("to").cloned().unwrap_or(target)).collect()
        } else if models.contains_key(to) || to.contains('/') {
            vec![to.as_str().into()]
        } else {
            notes.left(place, format!("the fallback `{to}` of `{name}`: there is no such model"), None);
            continue;
        };
        let Some(model) = models.get_mut(name).and_then(Value::as_object_mut) else { return };
        let list = model.entry("fallback").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.extend(follows.into_iter().filter(|follows| !list.contains(follows)).collect::<Vec<_>>());
        }
    }
}

/// Whether the fallbacks of `from` lead to `to`.
fn leads(models: &Map<String, Value>, from: &str, to: &str, depth: usize) -> bool {
    if from == to || depth > MAX_DEPTH {
        return true;
    }
    let fallback = models.get(from).and_then(|model| model.get("fallback")).and_then(Value::as_array);
    fallback.into_iter().flatten().filter_map(Value::as_str).any(|next| leads(models, next, to, depth + 1))
}

/// Longer chains of fallbacks are taken for circles.
const MAX_DEPTH: usize = 6;

/// `[{a: [b, c]}, {d: [e]}]`, or the same as one map.
fn pairs(value: &Node, notes: &mut Notes) -> Vec<(String, Vec<String>, Place)> {
    let maps = if entries(value).is_empty() { items(value) } else { std::slice::from_ref(value) };
    let mut found = Vec::new();
    for field in maps.iter().flat_map(entries) {
        let mut to = Vec::new();
        for item in items(&field.value) {
            match text(item).or_else(|| item.get("model").and_then(|entry| text(&entry.value))) {
                Some(name) => to.push(called(&name)),
                None => notes.left(item.place, format!("a fallback of `{}`", field.key), None),
            }
        }
        found.push((called(&field.key), to, field.place));
    }
    found
}

/// The period of a budget: `30d` becomes the month of the calendar, and what there is not becomes the next longer one.
fn per(duration: Option<&str>, place: Place, notes: &mut Notes) -> &'static str {
    let other = match duration {
        None => return "total",
        Some("1h" | "60m" | "3600s" | "hourly") => return "hour",
        Some("1d" | "24h" | "86400s" | "daily") => return "day",
        Some("7d" | "1w" | "weekly") => return "week",
        Some("30d" | "31d" | "28d" | "1mo" | "monthly") => return "month",
        Some(other) => other,
    };
    let seconds = other.parse::<Period>().map_or(u64::MAX, |period| period.0.as_secs());
    let longer = [(3_600, "hour"), (86_400, "day"), (604_800, "week")];
    let per = longer.into_iter().find(|(length, _)| seconds <= *length).map_or("month", |(_, name)| name);
    notes.left(place, format!("the period `{other}` of a budget: it holds for each {per}"), None);
    per
}

/// What stands in for something here.
fn hint(name: &str) -> Option<&'static str> {
    Some(match name {
        "guardrails" => "a guard plugin or a policy does this: see docs/plugins.md",
        "callbacks" | "success_callback" | "failure_callback" => {
            "the access log and /metrics say it; an observer plugin can send it elsewhere: see docs/plugins.md"
        }
        "pass_through_endpoints" => {
            "raw requests go through /passthrough/PROVIDER/…: see docs/passthrough.md"
        }
        "redis_host" | "redis_port" | "redis_password" | "redis_url" => REDIS,
        "enable_jwt_auth" | "litellm_jwtauth" => "`auth: jwt` does this: see docs/keys.md",
        "allowed_ips" => "`sources` of a key does this: see docs/keys.md",
        "alerting" | "alerting_threshold" | "alerting_args" => {
            "`alerts.webhooks` does this: see docs/money.md"
        }
        "key_management_system" | "key_management_settings" => {
            "keys of providers may stand in such stores: see docs/secrets.md"
        }
        "max_request_size_mb" => "`limits.body` does this",
        "maximum_spend_logs_retention_period" => "`state.keep` does this",
        "include" => "put the files together before",
        "database_url" => {
            "keys, teams and budgets that LiteLLM keeps in its database are not read: make them anew"
        }
        "content_policy_fallbacks" => "a policy's `on_error` can do this: see docs/policies.md",
        "vector_store_registry" | "mcp_servers" | "prompts" => "there is nothing like this here",
        _ => return None,
    })
}
