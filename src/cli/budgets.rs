//! `tollgate budgets`: budgets of a running gateway, shown, made, changed and taken away.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::operator::Operator;

/// What to do with budgets.
#[derive(Debug, Subcommand)]
pub(super) enum BudgetsCommand {
    /// List budgets with what is spent and held.
    List {
        #[command(flatten)]
        operator: Operator,
    },
    /// Show one budget.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        operator: Operator,
    },
    /// Make a budget; it counts what the ledger knows of its period.
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        terms: Terms,
        #[command(flatten)]
        operator: Operator,
    },
    /// Change a budget that was made so: what is given here.
    Update {
        /// Its name.
        name: String,
        #[command(flatten)]
        terms: Terms,
        #[command(flatten)]
        operator: Operator,
    },
    /// Take such a budget away.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        operator: Operator,
    },
}

/// What is agreed on.
#[derive(Debug, Args)]
pub(super) struct Terms {
    /// The limit in US dollars.
    #[arg(long, conflicts_with = "tokens", allow_negative_numbers = true)]
    dollars: Option<f64>,
    /// The limit in tokens, in and out.
    #[arg(long, allow_negative_numbers = true)]
    tokens: Option<u64>,
    /// `hour`, `day`, `week`, `month` or `total`.
    #[arg(long)]
    per: Option<String>,
    /// The time zone in which days, weeks and months begin.
    #[arg(long)]
    zone: Option<String>,
    /// Which requests count: `team=x`, `model=gpt-4*`, `tag:feature=search`; several must all hold, of one name any.
    #[arg(long = "for", value_name = "NAME=WORD")]
    of: Vec<String>,
    /// One budget for each `user`, `team`, `key`, `model`, `provider` or `tag:NAME`.
    #[arg(long)]
    each: Vec<String>,
    /// Refuse nobody, and only raise alerts.
    #[arg(long)]
    soft: bool,
    /// Make requests smaller rather than refuse them.
    #[arg(long)]
    shrink: bool,
    /// Percent of the limit at which an alert is raised.
    #[arg(long, value_delimiter = ',', allow_negative_numbers = true)]
    alerts: Vec<u32>,
    /// Any other field of a budget as JSON: `{"rolling": true, "overrun": 5}`.
    #[arg(long, value_name = "JSON")]
    more: Option<String>,
}

/// Carries out one command.
pub(super) fn run(command: BudgetsCommand, config: Option<PathBuf>) -> ExitCode {
    match done(command, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn done(command: BudgetsCommand, config: Option<PathBuf>) -> Result<(), String> {
    let place = |name: &str| format!("/admin/v1/budgets/{}", escaped(name));
    match command {
        BudgetsCommand::List { operator } => {
            let told = operator.ask(config, Method::GET, "/admin/v1/budgets", None)?;
            if operator.json {
                print(&told);
                return Ok(());
            }
            let budgets = told["budgets"].as_array().map_or(&[][..], Vec::as_slice);
            if budgets.is_empty() {
                println!(
                    "no budget; write some under `budgets:`, or make one with `tollgate budgets create`"
                );
            }
            budgets.iter().for_each(|budget| println!("{}", line(budget)));
        }
        BudgetsCommand::Show { name, operator } => {
            print(&operator.ask(config, Method::GET, &place(&name), None)?);
        }
        BudgetsCommand::Create { name, terms, operator } => {
            let mut settings = terms.fields()?;
            settings.insert("name".to_owned(), name.into());
            let settings = Value::Object(settings);
            print(&operator.ask(config, Method::POST, "/admin/v1/budgets", Some(&settings))?);
        }
        BudgetsCommand::Update { name, terms, operator } => {
            let settings = Value::Object(terms.fields()?);
            print(&operator.ask(config, Method::PATCH, &place(&name), Some(&settings))?);
        }
        BudgetsCommand::Delete { name, operator } => {
            print(&operator.ask(config, Method::DELETE, &place(&name), None)?);
        }
    }
    Ok(())
}

impl Terms {
    /// The fields that were given.
    fn fields(&self) -> Result<Map<String, Value>, String> {
        let mut fields = match &self.more {
            None => Map::new(),
            Some(text) => match serde_json::from_str(text) {
                Ok(Value::Object(fields)) => fields,
                _ => return Err(format!("--more: `{text}` is no JSON object")),
            },
        };
        let (mut of, mut tags) = (Map::new(), Map::new());
        for word in &self.of {
            let Some((name, value)) = word.split_once('=').filter(|(name, _)| *name != "tags") else {
                return Err(format!("--for: write `{word}` as NAME=WORD or tag:NAME=WORD"));
            };
            let words = match name.strip_prefix("tag:") {
                Some(tag) => tags.entry(tag).or_insert(Value::Null),
                None => of.entry(name).or_insert(Value::Null),
            };
            *words = match words.take() {
                Value::Null => value.into(),
                Value::Array(words) => words.into_iter().chain([value.into()]).collect(),
                one => json!([one, value]),
            };
        }
        if !tags.is_empty() {
            of.insert("tags".to_owned(), tags.into());
        }
        let given = [
            ("dollars", json!(self.dollars), self.dollars.is_some()),
            ("tokens", json!(self.tokens), self.tokens.is_some()),
            ("per", json!(self.per), self.per.is_some()),
            ("zone", json!(self.zone), self.zone.is_some()),
            ("for", Value::Object(of), !self.of.is_empty()),
            ("each", json!(self.each), !self.each.is_empty()),
            ("hard", json!(false), self.soft),
            ("shrink", json!(true), self.shrink),
            ("alerts", json!(self.alerts), !self.alerts.is_empty()),
        ];
        let given = given.into_iter().filter(|(.., is_given)| *is_given);
        fields.extend(given.map(|(name, value, _)| (name.to_owned(), value)));
        if self.dollars.is_some() {
            fields.entry("tokens").or_insert(Value::Null);
        } else if self.tokens.is_some() {
            fields.entry("dollars").or_insert(Value::Null);
        }
        Ok(fields)
    }
}

fn line(budget: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let part = text(&budget["part"]);
    let part = if part.is_empty() { each(&budget["each"]) } else { part };
    let part = if part.is_empty() { part } else { format!(" ({part})") };
    let shown = &budget["shown"];
    format!(
        "{}{part}  {} of {} a {}, {} held{}  [{}]",
        text(&budget["name"]),
        text(&shown["used"]),
        text(&shown["limit"]),
        text(&budget["per"]),
        text(&shown["held"]),
        whose(&budget["for"]),
        text(&budget["source"]),
    )
}

/// By what a budget is split of which nobody has spent anything.
fn each(dimensions: &Value) -> String {
    let all: Vec<&str> = dimensions.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if all.is_empty() { String::new() } else { format!("for each {}", all.join(", ")) }
}

/// Which requests a budget counts: `, for team=x`.
fn whose(of: &Value) -> String {
    let words = |all: &Value| {
        let words = all.as_array().into_iter().flatten().filter_map(Value::as_str);
        words.collect::<Vec<_>>().join("|")
    };
    let all: Vec<_> =
        of.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", words(v))).collect();
    if all.is_empty() { String::new() } else { format!(", for {}", all.join(" ")) }
}

fn print(value: &Value) {
    println!("{}", serde_json::to_string_pretty(value).unwrap_or_default());
}

/// A name as one part of a path.
fn escaped(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    name.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        terms: Terms,
    }

    fn fields(words: &[&str]) -> Result<Value, String> {
        Line::try_parse_from(["budget"].iter().chain(words)).unwrap().terms.fields().map(Value::Object)
    }

    #[test]
    fn what_is_said_several_times_of_one_name_is_a_list() {
        for (words, expected) in [
            (&["--for", "team=x"][..], json!({ "team": "x" })),
            (&["--for", "team=x", "--for", "team=y"], json!({ "team": ["x", "y"] })),
            (
                &["--for", "team=x", "--for", "user=a", "--for", "team=y", "--for", "team=z"],
                json!({ "team": ["x", "y", "z"], "user": "a" }),
            ),
            (
                &["--for", "tag:a=1", "--for", "tag:b=2", "--for", "tag:a=3"],
                json!({ "tags": { "a": ["1", "3"], "b": "2" } }),
            ),
        ] {
            assert_eq!(fields(words), Ok(json!({ "for": expected })), "{words:?}");
        }
        for word in ["team", "tags=x"] {
            let refused = fields(&["--for", word, "--for", "tag:a=1"]).unwrap_err();
            assert!(refused.contains("tag:NAME=WORD"), "{refused}");
        }
    }

    #[test]
    fn an_amount_below_nothing_is_read_so_that_the_gateway_refuses_it() {
        assert_eq!(fields(&["--dollars", "-5"]), Ok(json!({ "dollars": -5.0, "tokens": null })));
    }
}
