//! `tollgate audit`: who did what, and whether the log is as it was written.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::operator::Operator;
use super::remote::{Place, ask};

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub(super) enum AuditCommand {
    /// Look through the whole chain: exit status 0 if every entry is as it was written.
    Verify {
        /// The hash of an entry that was noted elsewhere: it must be in the chain.
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
        #[command(flatten)]
        operator: Operator,
    },
    /// Print the entries, one JSON object in a line.
    List {
        /// Those after this number.
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// At most so many.
        #[arg(long, default_value_t = 1_000)]
        limit: usize,
        #[command(flatten)]
        operator: Operator,
    },
}

/// Carries out one command.
pub(super) fn run(command: &AuditCommand, config: Option<PathBuf>) -> ExitCode {
    let done = match command {
        AuditCommand::Verify { head, operator } => verify(head.as_deref(), operator, config),
        AuditCommand::List { after, limit, operator } => list(*after, *limit, operator, config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn verify(head: Option<&str>, operator: &Operator, config: Option<PathBuf>) -> Result<(), String> {
    let place = Place::of(operator, config)?;
    let verdict = match &place {
        Place::Here(runtime, desk) => {
            let verdict = runtime.block_on(desk.verify()).map_err(|refused| refused.to_string())?;
            serde_json::to_value(verdict).map_err(|error| error.to_string())?
        }
        Place::There(operator, config) => {
            ask((operator, config), Method::GET, "/admin/v1/audit/verify", None)?
        }
    };
    if verdict["state"] != "sound" {
        return Err(format!(
            "the audit log is broken at entry {}: {}",
            verdict["seq"],
            text(&verdict, "reason")
        ));
    }
    if let Some(head) = head.filter(|head| text(&verdict, "head") != *head) {
        let (mut after, mut found) = (0, false);
        while !found {
            let part = entries(&place, after, 1_000)?;
            let Some(last) = part.last() else { break };
            after = last["seq"].as_u64().unwrap_or(u64::MAX);
            found = part.iter().any(|entry| text(entry, "hash") == head);
        }
        if !found {
            return Err(format!("no entry has the hash {head}: the end of the audit log was cut off"));
        }
    }
    println!("ok: {} entries, head {}", verdict["entries"], text(&verdict, "head"));
    Ok(())
}

fn list(after: u64, limit: usize, operator: &Operator, config: Option<PathBuf>) -> Result<(), String> {
    use std::io::Write as _;
    let place = Place::of(operator, config)?;
    let (mut after, mut left) = (after, limit);
    let mut out = std::io::stdout().lock();
    while left > 0 {
        let part = entries(&place, after, left.min(1_000))?;
        let Some(last) = part.last() else { break };
        after = last["seq"].as_u64().unwrap_or(u64::MAX);
        left -= part.len().min(left);
        for entry in &part {
            if writeln!(out, "{entry}").is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn entries(place: &Place, after: u64, most: usize) -> Result<Vec<Value>, String> {
    let answer = match place {
        Place::Here(runtime, desk) => {
            let entries = runtime.block_on(desk.audit(after, most)).map_err(|refused| refused.to_string())?;
            serde_json::to_value(entries).map_err(|error| error.to_string())?
        }
        Place::There(operator, config) => {
            let path = format!("/admin/v1/audit?after={after}&limit={most}");
            let mut answer = ask((operator, config), Method::GET, &path, None)?;
            answer.get_mut("entries").map(Value::take).unwrap_or_default()
        }
    };
    match answer {
        Value::Array(entries) => Ok(entries),
        _ => Err("the gateway's answer is no list".into()),
    }
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}
