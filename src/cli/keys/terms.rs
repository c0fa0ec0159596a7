//! What can be said of a key on the command line.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::civil;
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
    #[arg(long, value_name = "DOLLARS", allow_negative_numbers = true)]
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
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
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
    /// What is given, over what is left of the key when what is to be cleared is gone: its scope and its limits keep the
    /// other parts.
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
        let is_there = |name: &str| match name.split_once('.') {
            Some((whole, part)) if WHOLES.contains(&whole) => {
                known.get(whole).is_some_and(|parts| parts.get(part).is_some())
            }
            _ => known.get(name).is_some(),
        };
        if let Some(absent) = clear.iter().find(|name| !is_there(name)) {
            return Err(format!("--clear: the key has no `{absent}`"));
        }
        for whole in WHOLES {
            let before = known.get(whole).and_then(Value::as_object).cloned().unwrap_or_default();
            let is_cleared = clear.iter().any(|name| name == whole);
            let mut parts = if is_cleared { Map::new() } else { before.clone() };
            for part in clear.iter().filter_map(|name| name.strip_prefix(whole)?.strip_prefix('.')) {
                parts.shift_remove(part);
            }
            if let Some(Value::Object(given)) = fields.shift_remove(whole) {
                parts.extend(given);
            }
            if is_cleared || parts != before {
                let parts = if parts.is_empty() { Value::Null } else { Value::Object(parts) };
                fields.insert(whole.into(), parts);
            }
        }
        for name in clear.iter().filter(|name| !name.contains('.')) {
            // What is given anew takes the place of what is cleared.
            fields.entry(name.as_str()).or_insert(Value::Null);
        }
        if fields.is_empty() && clear.is_empty() {
            return Err("nothing is given that is to change".into());
        }
        Ok(fields)
    }
}

/// What of a key changes in its parts.
const WHOLES: [&str; 2] = ["scope", "limits"];

/// The last day that begins within the time that can be told.
const LAST: civil::Date = civil::date(9999, 12, 30);

/// Periods that are longer are cut to this where they are read.
const LONGEST: Duration = Duration::from_secs(36_500 * 86_400);

/// A date, or so long from now.
fn moment(text: &str) -> Result<Date, String> {
    if let Ok(date) = text.parse::<Date>() {
        return Ok(date);
    }
    let far =
        || format!("--expires: `{text}` is too far away: write a date up to {LAST}, or less than 36500d");
    let day = text.split(['T', 't']).next().and_then(|day| day.parse::<civil::Date>().ok());
    if day.is_some_and(|day| day >= LAST) {
        return Err(far());
    }
    let period: Period = text.parse().map_err(|_| {
        format!("--expires: `{text}` is neither a date (2026-12-31) nor a time from now (90d)")
    })?;
    if period.0 >= LONGEST {
        return Err(far());
    }
    let now = crate::clock::Clock::unix_ms(&crate::clock::SystemClock) / 1_000;
    let end = now.saturating_add(period.0.as_secs());
    let end = i64::try_from(end).ok().and_then(|end| jiff::Timestamp::from_second(end).ok());
    end.map(Date).ok_or_else(far)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        terms: TermsArgs,
    }

    fn terms(words: &[&str]) -> TermsArgs {
        Line::try_parse_from(["key"].iter().chain(words)).unwrap().terms
    }

    #[test]
    fn what_is_cleared_is_gone_before_anything_is_set() {
        let known = json!({ "team": "x", "tags": { "a": "1" }, "limits": { "concurrent": 3 },
            "scope": { "models": ["slow"], "max_cost": 5.0 } });
        for (given, clear, expected) in [
            (&["--model", "fast"][..], "scope", json!({ "scope": { "models": ["fast"] } })),
            (&["--model", "slow", "--max-cost", "5"], "scope", json!({ "scope": known["scope"] })),
            (
                &["--max-cost", "1"],
                "scope.max_cost",
                json!({ "scope": { "models": ["slow"], "max_cost": 1.0 } }),
            ),
            (&["--tag", "b=2"], "tags", json!({ "tags": { "b": "2" } })),
            (&["--team", "y"], "tags", json!({ "team": "y", "tags": null })),
            (&[], "scope", json!({ "scope": null })),
            (&[], "scope.models", json!({ "scope": { "max_cost": 5.0 } })),
            (&[], "limits.concurrent", json!({ "limits": null })),
        ] {
            let changes = terms(given).changes(&known, &[clear.to_owned()]);
            assert_eq!(changes.map(Value::Object), Ok(expected), "{given:?}, without {clear}");
        }
        for absent in ["user", "scope.providers", "limits.tokens", "tags.a"] {
            let refused = terms(&["--team", "y"]).changes(&known, &[absent.to_owned()]);
            assert_eq!(refused, Err(format!("--clear: the key has no `{absent}`")));
        }
    }

    #[test]
    fn what_ends_too_late_is_not_taken_for_something_else() {
        for (text, says) in [
            ("9999-12-30", None),
            ("36499d", None),
            ("9999-12-31", Some("a date up to 9999-12-30")),
            ("9999-12-31T01:00:00Z", Some("a date up to 9999-12-30")),
            ("36500d", Some("less than 36500d")),
            ("99999999d", Some("less than 36500d")),
            ("9999-13-01", Some("neither a date")),
            ("soon", Some("neither a date")),
        ] {
            let error = moment(text).err();
            let is_so = match (&error, says) {
                (Some(error), Some(says)) => error.contains(says),
                (None, None) => true,
                _ => false,
            };
            assert!(is_so, "{text}: {error:?}");
        }
    }

    #[test]
    fn a_cost_below_nothing_is_read_and_refused_as_one() {
        let terms = terms(&["--max-cost", "-1"]).read().unwrap();
        assert_eq!(terms.check().unwrap_err().0, "scope");
    }
}
