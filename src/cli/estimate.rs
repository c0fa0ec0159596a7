//! `tollgate estimate`: what a prompt, or so many of usual size, would cost at each of several models.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value, json};

use super::models::read_files;
use super::operator::Operator;
use crate::api::estimate::{Sight, draft};
use crate::caller::Caller;
use crate::clock::{Clock as _, SystemClock};
use crate::house::House;
use crate::tokens::Counter;

/// What is to be estimated. With `--admin`, a running gateway reckons, which knows how targets fare.
#[derive(Debug, clap::Args)]
pub(super) struct EstimateArgs {
    /// The models to compare: aliases or `provider/model`.
    #[arg(required = true)]
    models: Vec<String>,
    /// The prompt, as a text.
    #[arg(long, group = "said")]
    text: Option<String>,
    /// A file with the prompt: a text, or a request of OpenAI's chat as JSON (`-` for standard input).
    #[arg(long, group = "said", value_name = "FILE")]
    prompt: Option<PathBuf>,
    /// How many tokens a prompt usually has.
    #[arg(long, group = "said", value_name = "TOKENS")]
    input_tokens: Option<u64>,
    /// Of them, how many are read from the provider's prompt cache.
    #[arg(long, value_name = "TOKENS")]
    cached_tokens: Option<u64>,
    /// How many tokens an answer usually has.
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    output_tokens: u64,
    /// How many such requests there are.
    #[arg(long, default_value_t = 1)]
    requests: u64,
    /// `batch`, `flex`, `priority` or `ultrafast`.
    #[arg(long)]
    tier: Option<String>,
    /// The cheapest must answer within so many milliseconds.
    #[arg(long, value_name = "MS")]
    latency: Option<f64>,
    /// Its first content must come within so many.
    #[arg(long, value_name = "MS")]
    first_token: Option<f64>,
    /// Of so many answers: `p50`, `p95` or `p99`.
    #[arg(long, value_name = "P")]
    percentile: Option<String>,
    /// Its quality must be at least this, 0 to 1.
    #[arg(long)]
    quality: Option<f64>,
    #[command(flatten)]
    operator: Operator,
}

/// Reckons here, or asks a gateway, and prints the result.
pub(super) fn estimate(args: &EstimateArgs, config: Option<PathBuf>) -> ExitCode {
    let made = args.wanted().and_then(|wanted| match args.operator.is_named() {
        true => args.operator.ask(config, Method::POST, "/admin/v1/estimate", Some(&wanted)),
        false => here(&wanted, config),
    });
    match made {
        Ok(estimate) if args.operator.json => {
            println!("{}", serde_json::to_string_pretty(&estimate).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Ok(estimate) => {
            print!("{}", table(&estimate, args.requests));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tollgate: {error}");
            ExitCode::FAILURE
        }
    }
}

impl EstimateArgs {
    fn wanted(&self) -> Result<Value, String> {
        let mut wanted = json!({
            "models": self.models, "output_tokens": self.output_tokens, "requests": self.requests,
        });
        let within = json!({
            "latency_ms": self.latency, "first_token_ms": self.first_token, "percentile": self.percentile,
            "quality": self.quality,
        });
        let mut more = Map::new();
        match (&self.text, &self.prompt, self.input_tokens) {
            (Some(text), ..) => drop(more.insert("prompt".into(), text.as_str().into())),
            (_, Some(file), _) => more = said(&read(file)?),
            (.., Some(tokens)) => drop(more.insert("input_tokens".into(), tokens.into())),
            _ => return Err("give the prompt with --text, --prompt or --input-tokens".to_owned()),
        }
        let others = [
            ("cached_tokens", self.cached_tokens.into()),
            ("tier", self.tier.clone().into()),
            ("within", within),
        ];
        more.extend(others.map(|(name, value): (&str, Value)| (name.to_owned(), value)));
        more.retain(|_, value| !value.is_null());
        if let Some(fields) = wanted.as_object_mut() {
            fields.extend(more);
        }
        Ok(wanted)
    }
}

/// A request of OpenAI's chat; everything else is a text.
fn said(text: &str) -> Map<String, Value> {
    if let Ok(Value::Object(mut request)) = serde_json::from_str::<Value>(text)
        && request.contains_key("messages")
    {
        request.retain(|name, _| matches!(name.as_str(), "messages" | "tools" | "response_format"));
        return request;
    }
    Map::from_iter([("prompt".to_owned(), text.into())])
}

fn read(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        false => std::fs::read_to_string(file).map(|read| text = read),
    };
    read.map(|()| text).map_err(|error| format!("{}: {error}", file.display()))
}

/// Without a gateway: by the prices of the configuration, and without any measurement.
fn here(wanted: &Value, config: Option<PathBuf>) -> Result<Value, String> {
    let house = House::open(config).map_err(|problems| problems.to_string())?;
    let snapshot = house.sketch(None).map_err(|problems| problems.to_string())?;
    let figures = house.figures();
    read_files(&figures);
    let (book, caller) = (figures.prices.book(), Caller::default());
    let sight = Sight {
        catalogue: &snapshot.catalogue,
        market: &*snapshot.market,
        book: &book,
        caller: &caller,
        unix_ms: SystemClock.unix_ms(),
    };
    let drafted = draft(Bytes::from(wanted.to_string()), &sight);
    let drafted = drafted.map_err(|fault| match &fault.param {
        Some(param) => format!("{param}: {}", fault.message),
        None => fault.message.to_string(),
    })?;
    Ok(drafted.made(&Counter::default()))
}

fn table(estimate: &Value, requests: u64) -> String {
    let head = ["MODEL", "IN", "OUT", "$", "$ IN ALL", "P95 MS", ""].map(str::to_owned);
    let mut rows = vec![head];
    let dollars = |value: &Value| value.as_f64().map_or_else(|| "unknown".to_owned(), shown);
    for target in estimate["targets"].as_array().into_iter().flatten() {
        let exact = target["counted"]["exact"] == false;
        let p95 = target["latency_ms"]["p95"].as_f64();
        let why: Vec<&str> =
            target["why"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let best = !estimate["cheapest"].is_null() && target["id"] == estimate["cheapest"];
        rows.push([
            target["id"].as_str().unwrap_or_default().to_owned(),
            format!("{}{}", if exact { "~" } else { "" }, target["input_tokens"]),
            target["output_tokens"].to_string(),
            dollars(&target["cost_usd"]),
            dollars(&target["total_usd"]),
            p95.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}")),
            if best { "cheapest".to_owned() } else { why.join("; ") },
        ]);
    }
    let widths: Vec<usize> =
        (0..7).map(|at| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0)).collect();
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    if requests > 1 {
        out.push_str(&format!("for {requests} requests\n"));
    }
    out
}

/// Dollars with as many digits as say something.
fn shown(dollars: f64) -> String {
    match dollars {
        large if large >= 100.0 => format!("{large:.2}"),
        middle if middle >= 0.1 => format!("{middle:.4}"),
        small => format!("{small:.9}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}
