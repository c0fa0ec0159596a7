//! `tollgate policy shadow|versions|promote|rollback`: what operators do with the policies of a running gateway.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::cli::operator::Operator;
use crate::settings::Percent;

/// `tollgate policy shadow` and `versions`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Look {
    #[command(flatten)]
    operator: Operator,
}

/// `tollgate policy promote`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PromoteArgs {
    /// Percent of the callers for whom the candidate decides; 0 takes its share away.
    #[arg(value_name = "SHARE")]
    share: Percent,
    /// What callers are told by: caller, user, team, session or request.
    #[arg(long, value_name = "WHAT")]
    sticky: Option<String>,
    #[command(flatten)]
    operator: Operator,
}

/// `tollgate policy rollback`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RollBackArgs {
    /// The version to serve, by the beginning of its hash; `disk` serves the files on disk again. Else the version before.
    #[arg(value_name = "HASH")]
    hash: Option<String>,
    #[command(flatten)]
    operator: Operator,
}

/// Shows what the shadow and the candidate do.
pub(super) fn shadow(look: &Look, config: Option<PathBuf>) -> ExitCode {
    let answer = look.operator.ask(config, Method::GET, "/admin/v1/policies", None);
    told(&look.operator, answer, standing)
}

/// Lists the sets that were in service.
pub(super) fn versions(look: &Look, config: Option<PathBuf>) -> ExitCode {
    let answer = look.operator.ask(config, Method::GET, "/admin/v1/policies/versions", None);
    told(&look.operator, answer, listed)
}

/// Gives the candidate a share.
pub(super) fn promote(args: &PromoteArgs, config: Option<PathBuf>) -> ExitCode {
    let mut body = json!({ "share": args.share });
    if let Some(sticky) = &args.sticky {
        body["sticky"] = sticky.as_str().into();
    }
    let answer = args.operator.ask(config, Method::POST, "/admin/v1/policies/promote", Some(&body));
    told(&args.operator, answer, standing)
}

/// Serves an older set.
pub(super) fn roll_back(args: &RollBackArgs, config: Option<PathBuf>) -> ExitCode {
    let body = args.hash.as_ref().map_or_else(|| json!({}), |hash| json!({ "hash": hash }));
    let answer = args.operator.ask(config, Method::POST, "/admin/v1/policies/rollback", Some(&body));
    told(&args.operator, answer, |done| format!("{}\n", text(&done["done"])))
}

fn told(operator: &Operator, answer: Result<Value, String>, shown: impl Fn(&Value) -> String) -> ExitCode {
    match answer {
        Ok(answer) if operator.json => println!("{answer:#}"),
        Ok(answer) => print!("{}", shown(&answer)),
        Err(error) => {
            eprintln!("tollgate: {error}");
            return super::cannot();
        }
    }
    ExitCode::SUCCESS
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// Everything that `/admin/v1/policies` says, for people. Writing to a String cannot fail.
fn standing(all: &Value) -> String {
    let mut out = String::new();
    let live = &all["live"];
    let _ = writeln!(out, "live       {} ({})", text(&live["hash"]), names(&live["policies"]));
    if let Some(pinned) = live["pinned"].as_object() {
        let _ = writeln!(out, "           rolled back; {} is on disk", text(&pinned["on_disk"]));
    }
    for role in ["shadow", "candidate"] {
        let side = &all[role];
        if side.is_null() {
            let _ = writeln!(out, "{role:<10} none");
            continue;
        }
        let _ = writeln!(
            out,
            "{role:<10} {} ({}) in {}",
            text(&side["hash"]),
            names(&side["policies"]),
            text(&side["dir"])
        );
        for problem in side["problems"].as_array().into_iter().flatten() {
            let _ = writeln!(out, "           broken: {}", text(problem));
        }
    }
    if all["shadow"].is_object() {
        findings(&mut out, &all["shadow"]["findings"]);
    }
    let rollout = &all["rollout"];
    if rollout.is_object() {
        arms(&mut out, rollout);
    }
    for alert in all["alerts"].as_array().into_iter().flatten() {
        let _ = writeln!(out, "ALERT      {}: {}", text(&alert["alert"]), text(&alert["reason"]));
    }
    out
}

fn findings(out: &mut String, found: &Value) {
    let _ = writeln!(
        out,
        "asked      {} requests: {} alike, {} otherwise (route {}, denial {}, cost {}, other {}, failure {}), {} not asked",
        found["asked"],
        found["same"],
        found["diverged"],
        found["route"],
        found["denial"],
        found["cost"],
        found["other"],
        found["failure"],
        found["dropped"]
    );
    let dollars = |name: &str| found[name].as_f64().unwrap_or_default();
    let _ = writeln!(
        out,
        "cost       ${:.6} live, ${:.6} shadow",
        dollars("cost_live_usd"),
        dollars("cost_shadow_usd")
    );
    for sample in found["samples"].as_array().into_iter().flatten().take(10) {
        let kinds = names(&sample["kinds"]);
        let _ = writeln!(
            out,
            "\n  {} `{}` differs in {kinds}",
            text(&sample["request_id"]),
            text(&sample["model"])
        );
        for side in ["live", "shadow"] {
            let view: Result<crate::plan::View, _> = serde_json::from_value(sample[side].clone());
            if let Ok(view) = view {
                let _ = writeln!(out, "    {side:<7} {}", view.shown());
            }
        }
        if let Some(failure) = sample["failure"].as_str() {
            let _ = writeln!(out, "    failed  {failure}");
        }
    }
}

fn arms(out: &mut String, rollout: &Value) {
    let share = rollout["share_percent"].as_f64().unwrap_or_default();
    let _ = writeln!(
        out,
        "share      {share}% of the callers for {} (set by the {}, sticky by {})",
        text(&rollout["hash"]),
        text(&rollout["set_by"]),
        text(&rollout["sticky"])
    );
    for arm in ["live", "candidate"] {
        let tally = &rollout[arm];
        let cost = tally["cost_usd"].as_f64().unwrap_or_default();
        let _ = writeln!(
            out,
            "  {arm:<9} {} requests, {} failed, ${cost:.6} for {} with known prices",
            tally["requests"], tally["failed"], tally["priced"]
        );
    }
}

fn listed(all: &Value) -> String {
    let mut out = String::new();
    for version in all["versions"].as_array().into_iter().flatten() {
        let serves = if version["serves"] == true { "  serves" } else { "" };
        let at = version["last_ms"].as_i64().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
        let at = at.map(|at| format!("{at:.0}")).unwrap_or_default();
        let _ = writeln!(out, "{}  {at}  {}{serves}", text(&version["hash"]), names(&version["files"]));
    }
    if all["pinned"].is_object() {
        let _ = writeln!(out, "rolled back; {} is on disk", text(&all["pinned"]["on_disk"]));
    }
    out
}

fn names(list: &Value) -> String {
    list.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ")
}
