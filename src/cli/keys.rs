//! `tollgate keys`: virtual keys, made, shown, changed and revoked.

mod terms;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::operator::Operator;
use super::remote::{Place, actor, ask};
use crate::keys::{Change, KeyTerms, mint};
use crate::settings::Period;
use terms::TermsArgs;

#[allow(clippy::large_enum_variant, reason = "made once, at the start of a command")]
/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a key and print it. It is shown this once.
    Create(Box<CreateArgs>),
    /// List all keys, without their secrets.
    List(Operator),
    /// Show one key, by its id or its name.
    Show(OneArgs),
    /// Change what was agreed on about a key: what is given here. It counts at once.
    Update(Box<UpdateArgs>),
    /// Refuse a key for good, at once.
    Revoke(OneArgs),
    /// Refuse a key until it is enabled again.
    Disable(OneArgs),
    /// Let a disabled key in again.
    Enable(OneArgs),
    /// Give a key a new secret and print it; the old one goes on for a while.
    Rotate(RotateArgs),
    /// Print a new key and the lines of a configuration that accepts it. Nothing is stored.
    Generate(GenerateArgs),
}

/// A new key.
#[derive(Debug, clap::Args)]
pub(super) struct CreateArgs {
    /// Its name, for people.
    name: String,
    #[command(flatten)]
    terms: TermsArgs,
    #[command(flatten)]
    operator: Operator,
}

/// A key that changes. Scopes and limits change in the parts that are given; lists are replaced.
#[derive(Debug, clap::Args)]
pub(super) struct UpdateArgs {
    /// Its id or its name.
    key: String,
    #[command(flatten)]
    terms: TermsArgs,
    /// A field to take away: `team`, `expires`, `scope.models`, `limits.requests`, `tags`. Several times for several.
    #[arg(long, value_name = "FIELD")]
    clear: Vec<String>,
    #[command(flatten)]
    operator: Operator,
}

/// One key.
#[derive(Debug, clap::Args)]
pub(super) struct OneArgs {
    /// Its id or its name.
    key: String,
    #[command(flatten)]
    operator: Operator,
}

/// A key that gets a new secret.
#[derive(Debug, clap::Args)]
pub(super) struct RotateArgs {
    /// Its id or its name.
    key: String,
    /// How long the old secret goes on.
    #[arg(long, value_name = "PERIOD", default_value = "24h")]
    overlap: Period,
    #[command(flatten)]
    operator: Operator,
}

/// A key for a configuration.
#[derive(Debug, clap::Args)]
pub(super) struct GenerateArgs {
    /// Its name in the configuration.
    #[arg(default_value = "my-key")]
    name: String,
}

/// Carries out one command.
pub(super) fn run(command: KeysCommand, config: Option<PathBuf>) -> ExitCode {
    let done = match command {
        KeysCommand::Generate(args) => generate(&args.name),
        KeysCommand::Create(args) => args.terms.read().and_then(|terms| {
            let made = create(&Place::of(&args.operator, config)?, &args.name, terms)?;
            print(&made, args.operator.json)
        }),
        KeysCommand::List(args) => list(&args, config),
        KeysCommand::Show(args) => one(&args.key, &args.operator, config, None),
        KeysCommand::Update(args) => update(&args, config),
        KeysCommand::Revoke(args) => one(&args.key, &args.operator, config, Some(&Change::Revoke)),
        KeysCommand::Disable(args) => one(&args.key, &args.operator, config, Some(&Change::Disable)),
        KeysCommand::Enable(args) => one(&args.key, &args.operator, config, Some(&Change::Enable)),
        KeysCommand::Rotate(args) => {
            let overlap = u64::try_from(args.overlap.0.as_millis()).unwrap_or(u64::MAX);
            one(&args.key, &args.operator, config, Some(&Change::Rotate(overlap)))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tollgate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create(place: &Place, name: &str, terms: KeyTerms) -> Result<Value, String> {
    match place {
        Place::Here(runtime, desk) => {
            let made = runtime.block_on(desk.create(name, terms, &actor()));
            made.map(|(key, secret)| with_secret(key, Some(secret.expose_secret())))
                .map_err(|e| e.to_string())
        }
        Place::There(operator, config) => {
            let mut body = serde_json::to_value(&terms).unwrap_or_default();
            if let Some(body) = body.as_object_mut() {
                body.insert("name".into(), name.into());
            }
            ask((operator, config), Method::POST, "/admin/v1/keys", Some(&body))
        }
    }
}

fn one(
    key: &str,
    operator: &Operator,
    config: Option<PathBuf>,
    change: Option<&Change>,
) -> Result<(), String> {
    let place = Place::of(operator, config)?;
    let shown = match change {
        None => look(&place, key)?,
        Some(change) => changed(&place, key, change)?,
    };
    print(&shown, operator.json)
}

fn update(args: &UpdateArgs, config: Option<PathBuf>) -> Result<(), String> {
    let place = Place::of(&args.operator, config)?;
    let fields = args.terms.changes(&look(&place, &args.key)?, &args.clear)?;
    print(&changed(&place, &args.key, &Change::Terms(fields))?, args.operator.json)
}

fn look(place: &Place, key: &str) -> Result<Value, String> {
    match place {
        Place::Here(_, desk) => desk.show(key).map_err(|refused| refused.to_string()),
        Place::There(operator, config) => {
            let path = format!("/admin/v1/keys/{}", encoded(key));
            ask((operator, config), Method::GET, &path, None)
        }
    }
}

fn changed(place: &Place, key: &str, change: &Change) -> Result<Value, String> {
    match place {
        Place::Here(runtime, desk) => {
            let changed = runtime.block_on(desk.change(key, change, &actor()));
            let (key, secret) = changed.map_err(|refused| refused.to_string())?;
            Ok(with_secret(key, secret.as_ref().map(ExposeSecret::expose_secret)))
        }
        Place::There(operator, config) => {
            let path = format!("/admin/v1/keys/{}", encoded(key));
            let (method, action, body) = match change {
                Change::Terms(fields) => (Method::PATCH, "", Some(Value::Object(fields.clone()))),
                Change::Disable => (Method::POST, "/disable", None),
                Change::Enable => (Method::POST, "/enable", None),
                Change::Revoke => (Method::POST, "/revoke", None),
                Change::Rotate(ms) => {
                    (Method::POST, "/rotate", Some(json!({ "overlap": format!("{ms}ms") })))
                }
            };
            ask((operator, config), method, &format!("{path}{action}"), body.as_ref())
        }
    }
}

fn list(operator: &Operator, config: Option<PathBuf>) -> Result<(), String> {
    let keys = match &Place::of(operator, config)? {
        Place::Here(_, desk) => json!(desk.list()),
        Place::There(operator, config) => {
            let mut answer = ask((operator, config), Method::GET, "/admin/v1/keys", None)?;
            answer.get_mut("keys").map(Value::take).unwrap_or_default()
        }
    };
    if operator.json {
        return say(&format!("{keys:#}"));
    }
    let text = |key: &Value, field: &str| key.get(field).and_then(Value::as_str).unwrap_or("-").to_owned();
    let mut lines = vec![["ID", "NAME", "STATE", "TEAM", "USER", "EXPIRES", "SOURCE"].map(str::to_owned)];
    for key in keys.as_array().into_iter().flatten() {
        lines
            .push(["id", "name", "state", "team", "user", "expires", "source"].map(|field| text(key, field)));
    }
    let width =
        |at: usize| lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max();
    for line in &lines {
        let cells = line
            .iter()
            .enumerate()
            .map(|(at, cell)| format!("{cell:width$}", width = width(at).unwrap_or(0)));
        say(cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn generate(name: &str) -> Result<(), String> {
    let minted = mint(None)?;
    let secret = minted.secret.expose_secret();
    let hash: String = ring::digest::digest(&ring::digest::SHA256, secret.as_bytes())
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    say(&format!(
        "{secret}\n\n# The key is shown this once. These lines accept it:\nauth: keys\nkeys:\n  {name}: {{ hash: \"sha256:{hash}\" }}"
    ))
}

fn with_secret(mut key: Value, secret: Option<&str>) -> Value {
    if let (Some(key), Some(secret)) = (key.as_object_mut(), secret) {
        key.insert("secret".into(), secret.into());
    }
    key
}

/// A key as YAML-like lines, its new secret alone on the last one.
fn print(key: &Value, json: bool) -> Result<(), String> {
    if json {
        return say(&format!("{key:#}"));
    }
    for (field, value) in key.as_object().into_iter().flatten().filter(|(field, _)| *field != "secret") {
        match value {
            Value::String(text) => say(&format!("{field}: {text}"))?,
            other => say(&format!("{field}: {other}"))?,
        }
    }
    match key.get("secret").and_then(Value::as_str) {
        Some(secret) => say(&format!("\nThe key, which is shown this once:\n{secret}")),
        None => Ok(()),
    }
}

/// Whoever reads may have seen enough (`| head`).
fn say(line: &str) -> Result<(), String> {
    use std::io::Write as _;
    writeln!(std::io::stdout().lock(), "{line}").map_err(|error| error.to_string())
}

fn encoded(name: &str) -> String {
    crate::providers::percent::encoded(name, b"").into_owned()
}
