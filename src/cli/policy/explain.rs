//! `tollgate policy explain`: how a request is decided, before it is sent, or how one was.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use serde::Serialize;
use serde_json::json;

use crate::api;
use crate::caller::{Caller, Priority};
use crate::clock::{Clock, Dice, SystemClock, moment};
use crate::fault::Fault;
use crate::gateway::Rehearsal;
use crate::house::House;
use crate::house::replay::{records_of, source_of, text_of};
use crate::plan::Dossier;
use crate::store::find_in;

/// What is explained.
#[derive(Debug, Args)]
pub(in crate::cli) struct Explain {
    /// A file with the body of a request as a client would send it; `-` or nothing reads standard input.
    #[arg(value_name = "FILE")]
    request: Option<PathBuf>,
    /// Explain a decision that was recorded, by its `x-request-id`.
    #[arg(long, value_name = "ID", conflicts_with = "request")]
    id: Option<String>,
    /// Files or directories of records to look for the id in, instead of the configured store.
    #[arg(long, value_name = "PATH", requires = "id")]
    from: Vec<PathBuf>,
    /// What the body is: chat, responses, messages, gemini, embeddings, completions, moderations, rerank, or a path
    /// such as /v1/messages.
    #[arg(long, default_value = "chat", value_name = "NAME")]
    endpoint: String,
    /// The model, for bodies that do not name it (Gemini).
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// A header of the request, `name: value`; may be given several times.
    #[arg(long, short = 'H', value_name = "HEADER")]
    header: Vec<String>,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<IpAddr>,
    /// The user of the client's key.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The team of the client's key.
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// The priority of the client's key: low, normal or high.
    #[arg(long)]
    priority: Option<Priority>,
    /// The public id of the client's key.
    #[arg(long, value_name = "ID")]
    key_id: Option<String>,
    /// The time of the request: `2026-11-01T12:00:00Z`, or so long ago (`2h`). Else now.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Policies of another directory than the configuration's.
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Seed of the dice that draw among several targets.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// Decide it so many times, and tell how long the policies take.
    #[arg(long, value_name = "NUMBER", conflicts_with = "id")]
    repeat: Option<NonZeroU32>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// How long the policies took, in microseconds.
#[derive(Debug, Serialize)]
struct Took {
    times: usize,
    first: f64,
    median: f64,
    p99: f64,
}

/// Explains.
pub(super) fn explain(arguments: Explain, config: Option<PathBuf>) -> ExitCode {
    let house = match House::open(config) {
        Ok(house) => house,
        Err(problems) => {
            problems.print();
            return super::cannot();
        }
    };
    let found = match &arguments.id {
        Some(id) => recorded(&arguments, id, &house).map(|dossier| (dossier, None)),
        None => rehearsed(&arguments, &house),
    };
    match found {
        Ok((dossier, took)) if arguments.json => {
            let mut value = json!({ "decision": dossier, "explained": dossier.explained() });
            if let Some(took) = took {
                value["policy_us"] = json!(took);
            }
            println!("{value:#}");
            ExitCode::SUCCESS
        }
        Ok((dossier, took)) => {
            print!("{}", dossier.explained());
            if let Some(Took { times, first, median, p99 }) = took {
                println!(
                    "policies took {median:.1} µs (median of {times}; p99 {p99:.1} µs, the first {first:.1} µs)"
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            if !error.is_empty() {
                eprintln!("tollgate: {error}");
            }
            super::cannot()
        }
    }
}

impl Took {
    fn of(mut took: Vec<f64>) -> Self {
        let first = took.first().copied().unwrap_or_default();
        took.sort_by(f64::total_cmp);
        let at =
            |hundredths: usize| took.get((took.len() - 1) * hundredths / 100).copied().unwrap_or_default();
        Self { times: took.len(), first, median: at(50), p99: at(99) }
    }
}

fn recorded(arguments: &Explain, id: &str, house: &House) -> Result<Dossier, String> {
    let nobody = || format!("no record of the request `{id}`");
    let store = house.checked().config.decisions.dir.as_deref();
    if arguments.from.is_empty()
        && let Some(dir) = store
    {
        let found = find_in(dir, id).map_err(|error| format!("{}: {error}", dir.display()))?;
        return found.ok_or_else(nobody);
    }
    for file in source_of(&arguments.from, store, 0)?.files.iter().rev() {
        let bytes = text_of(file)?;
        let found = records_of(&bytes).flatten().filter(|dossier| *dossier.record.request_id == *id).last();
        if let Some(dossier) = found {
            return Ok(dossier);
        }
    }
    Err(nobody())
}

fn rehearsed(arguments: &Explain, house: &House) -> Result<(Dossier, Option<Took>), String> {
    let snapshot = house.sketch(arguments.policies.as_deref()).map_err(|problems| {
        problems.print();
        String::new()
    })?;
    let input = arguments.request.clone().unwrap_or_else(|| "-".into());
    let body = text_of(&input)?.into();
    let uri = uri(arguments)?;
    let (head, ()) = Request::post(uri.clone())
        .body(())
        .map_err(|error| format!("--endpoint `{}`: {error}", arguments.endpoint))?
        .into_parts();
    let door = api::door_of_head(&head).ok_or_else(|| {
        let known: Vec<_> = api::doors().map(|doorway| doorway.path).collect();
        format!("--endpoint: nobody answers POST {uri}; there are {}", known.join(", "))
    })?;
    let now = SystemClock.unix_ms();
    let at_ms = arguments
        .at
        .as_ref()
        .map_or(Ok(now), |at| moment(at, now).map_err(|error| format!("--at: {error}")))?;
    let shared = |text: &Option<String>| text.as_deref().map(Arc::from);
    let caller = Caller {
        address: arguments.ip,
        user: shared(&arguments.user),
        team: shared(&arguments.team),
        key_id: shared(&arguments.key_id),
        priority: arguments.priority.unwrap_or_default(),
        ..Caller::default()
    };
    let headers = headers(&arguments.header)?;
    let rehearsal = Rehearsal { door, uri, headers, body, caller, at_ms };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("runtime: {error}"))?;
    let played = runtime.block_on(async {
        let play = async || rehearsal.clone().play(&snapshot, &Dice::loaded(arguments.seed)).await;
        let dossier = play().await?;
        let Some(times) = arguments.repeat else { return Ok((dossier, None)) };
        let mut took = vec![dossier.policy_us];
        for _ in 1..times.get() {
            took.push(play().await?.policy_us);
        }
        Ok((dossier, Some(Took::of(took))))
    });
    played.map_err(|fault: Fault| {
        let name =
            if input.as_os_str() == "-" { "standard input".into() } else { input.display().to_string() };
        format!("{name}: {}", fault.message)
    })
}

fn uri(arguments: &Explain) -> Result<Uri, String> {
    let path = match arguments.endpoint.as_str() {
        "chat" | "openai" => "/v1/chat/completions",
        "responses" => "/v1/responses",
        "messages" | "anthropic" => "/v1/messages",
        "embeddings" => "/v1/embeddings",
        "completions" => "/v1/completions",
        "moderations" => "/v1/moderations",
        "rerank" => "/v1/rerank",
        "gemini" | "generate" => {
            let model = arguments.model.as_deref().ok_or("--endpoint gemini: name the model with --model")?;
            let model = crate::providers::percent::encoded(model, b"");
            return format!("/v1beta/models/{model}:generateContent")
                .parse()
                .map_err(|_| "--model: cannot stand in a path".into());
        }
        path if path.starts_with('/') => path,
        other => {
            return Err(format!(
                "--endpoint: `{other}` is none; write chat, responses, messages, gemini, embeddings, completions, moderations, rerank, or a path"
            ));
        }
    };
    path.parse().map_err(|_| format!("--endpoint: `{path}` is no path"))
}

fn headers(written: &[String]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for line in written {
        let bad = || format!("--header `{line}`: write it as `name: value`");
        let (name, value) = line.split_once(':').ok_or_else(bad)?;
        let name: HeaderName = name.trim().parse().map_err(|_| bad())?;
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| bad())?);
    }
    Ok(headers)
}
