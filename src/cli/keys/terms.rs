//! What can be said of a key on the command line.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::caller::{Priority, Scope};
use crate::facts::Endpoint;
use crate::keys::KeyTerms;
use crate::limits::Rates;
use crate::settings::{Date, Period, Rate};

/// What is agreed on.
#[derive(Debug, clap::Args)]
pub(super) struct TermsArgs {
    /// The user that its requests are for.
    #[arg(long)]
    user: Option<String>,
    /// The team.
    #[arg(long)]
    team: Option<String>,
    /// The application.
    #[arg(long)]
    app: Option<String>,
    /// When it ends: a date (2026-12-31), a time, or so long from now (90d).
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// A model that it may ask for: an alias, provider/model, or a pattern with `*`. Several times for several.
    #[arg(long = "model", value_name = "PATTERN")]
    models: Vec<String>,
    /// A provider that its requests may go to.
    #[arg(long = "provider", value_name = "NAME")]
    providers: Vec<String>,
    /// An operation: chat, embeddings, images, …
    #[arg(long = "endpoint", value_name = "NAME")]
    endpoints: Vec<String>,
    /// The most that one request may cost, in dollars.
    #[arg(long, value_name = "DOLLARS")]
    max_cost: Option<f64>,
    /// A data class that its requests may have.
    #[arg(long = "data-class", value_name = "NAME")]
    data_classes: Vec<String>,
    /// An address or a block of addresses that it may be used from: 10.0.0.0/8.
    #[arg(long = "source", value_name = "CIDR")]
    sources: Vec<String>,
    /// How important its requests are while there is too much to do: low, normal or high.
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<Priority>,
    /// Requests that are let through: 60/min.
    #[arg(long, value_name = "RATE")]
    requests: Vec<Rate>,
    /// Tokens that are let through: 100000/min.
    #[arg(long, value_name = "RATE")]
    tokens: Vec<Rate>,
    /// Requests at once.
    #[arg(long, value_name = "N")]
    concurrent: Option<u64>,
    /// A limit of `rate_limits:` that holds for it by name.
    #[arg(long = "rate-limit", value_name = "NAME")]
    rate_limits: Vec<String>,
    /// A budget that holds for it by name.
    #[arg(long = "budget", value_name = "NAME")]
    budgets: Vec<String>,
    /// A tag that all its requests get: feature=search.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
}

impl TermsArgs {
    /// Reads what was given.
    ///
    /// # Errors
    /// The argument, and what is wrong with it.
    pub(super) fn read(&self) -> Result<KeyTerms, String> {
        let some = |all: &Vec<String>| (!all.is_empty()).then(|| all.clone());
        let endpoint = |name: &String| {
            let read = serde_json::from_value::<Endpoint>(name.as_str().into());
            read.map_err(|_| format!("--endpoint: there is no operation `{name}`"))
        };
        let endpoints: Vec<Endpoint> = self.endpoints.iter().map(endpoint).collect::<Result<_, _>>()?;
        let tag = |tag: &String| {
            let (key, value) =
                tag.split_once('=').ok_or_else(|| format!("--tag: write `{tag}` as KEY=VALUE"))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let tags: BTreeMap<String, String> = self.tags.iter().map(tag).collect::<Result<_, String>>()?;
        Ok(KeyTerms {
            user: self.user.clone(),
            team: self.team.clone(),
            app: self.app.clone(),
            expires: self.expires.as_deref().map(moment).transpose()?,
            scope: Scope {
                endpoints: (!endpoints.is_empty()).then_some(endpoints),
                models: some(&self.models),
                providers: some(&self.providers),
                max_cost: self.max_cost,
                data_classes: some(&self.data_classes),
            },
            sources: some(&self.sources),
            priority: self.priority.unwrap_or_default(),
            limits: Rates {
                requests: self.requests.clone(),
                tokens: self.tokens.clone(),
                concurrent: self.concurrent,
                ..Rates::default()
            },
            rate_limits: self.rate_limits.clone(),
            budgets: self.budgets.clone(),
            tags,
            ..KeyTerms::default()
        })
    }
}

impl TermsArgs {
    /// What is given, over what the key has: its scope and its limits keep the parts that are not given.
    ///
    /// # Errors
    /// As above; where nothing is given, and for fields to take away that the key does not have.
    pub(super) fn changes(&self, known: &Value, clear: &[String]) -> Result<Map<String, Value>, String> {
        let Ok(Value::Object(mut fields)) = serde_json::to_value(self.read()?) else {
            return Err("what is given cannot be written down".into());
        };
        if let Some(priority) = self.priority {
            // The usual one is not written down otherwise.
            fields.insert("priority".into(), serde_json::to_value(priority).unwrap_or_default());
        }
        for whole in ["scope", "limits"] {
            let mut parts = known.get(whole).and_then(Value::as_object).cloned().unwrap_or_default();
            let before = parts.clone();
            if let Some(Value::Object(given)) = fields.shift_remove(whole) {
                parts.extend(given);
            }
            for part in clear.iter().filter_map(|name| name.strip_prefix(whole)?.strip_prefix('.')) {
                parts
                    .shift_remove(part)
                    .ok_or_else(|| format!("--clear: the key has no `{whole}.{part}`"))?;
            }
            if parts != before {
                let parts = if parts.is_empty() { Value::Null } else { Value::Object(parts) };
                fields.insert(whole.into(), parts);
            }
        }
        for name in clear.iter().filter(|name| !name.contains('.')) {
            if known.get(name).is_none() {
                return Err(format!("--clear: the key has no `{name}`"));
            }
            fields.insert(name.clone(), Value::Null);
        }
        if fields.is_empty() && clear.is_empty() {
            return Err("nothing is given that is to change".into());
        }
        Ok(fields)
    }
}

/// A date, or so long from now.
fn moment(text: &str) -> Result<Date, String> {
    if let Ok(date) = text.parse::<Date>() {
        return Ok(date);
    }
    let period: Period = text.parse().map_err(|_| {
        format!("--expires: `{text}` is neither a date (2026-12-31) nor a time from now (90d)")
    })?;
    let now = crate::clock::Clock::unix_ms(&crate::clock::SystemClock) / 1_000;
    let end = now.saturating_add(period.0.as_secs());
    let end = i64::try_from(end).ok().and_then(|end| jiff::Timestamp::from_second(end).ok());
    end.map(Date).ok_or_else(|| format!("--expires: `{text}` is too far away"))
}
