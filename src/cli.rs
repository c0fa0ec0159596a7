//! The command line: one `match` that is the map of the program.

mod audit;
mod budgets;
mod check;
mod estimate;
mod import;
mod keys;
mod models;
mod operator;
mod plugin;
mod policy;
mod remote;
mod schema;
mod secrets;
mod serve;
mod usage;

use std::panic;
use std::path::PathBuf;
use std::process::{self, ExitCode};

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Parser, Subcommand};

/// Exit status for a configuration that cannot be used (`EX_CONFIG` of sysexits.h).
const BAD_CONFIG: u8 = 78;

/// Exit status of a command whose reader went away: 128 and the number of `SIGPIPE`.
const CLOSED_PIPE: i32 = 141;

/// A self-hosted gateway for LLM traffic.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    config: ConfigArg,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The variable that names the configuration file.
const CONFIG: &str = "TOLLGATE_CONFIG";

#[derive(Debug, clap::Args, Clone)]
struct ConfigArg {
    /// Configuration file. Without one, ./tollgate.yaml is used if it exists, else the embedded default.
    #[arg(long, short, env = CONFIG, global = true, value_name = "FILE", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    config: Option<PathBuf>,
}

impl ConfigArg {
    /// The file, if one is named. A variable that is empty names none: deployments write one down that is not always set.
    fn file(self) -> Option<PathBuf> {
        let is_unset = std::env::var_os(CONFIG).is_some_and(|value| value.is_empty());
        self.config.filter(|file| !is_unset || !file.as_os_str().is_empty())
    }
}

#[allow(clippy::large_enum_variant, reason = "made once, at the start of a command")]
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default).
    Serve,
    /// Check configuration, policies and secrets, and print every error with file, line and column.
    Check(check::CheckArgs),
    /// List models with price, context window, capabilities and the day on which they go.
    Models(models::ModelsArgs),
    /// Say what a prompt, or so many of usual size, would cost at several models, and which is the cheapest.
    Estimate(estimate::EstimateArgs),
    /// Make, list, rotate and revoke virtual keys.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Set, list, rotate and remove secrets of the keystore.
    #[command(subcommand)]
    Secrets(secrets::SecretsCommand),
    /// Show and verify the audit log.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Test, explain, replay and describe policies.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Make, inspect and test plugins.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Show, make, change and take away budgets of a running gateway.
    #[command(subcommand)]
    Budgets(budgets::BudgetsCommand),
    /// Show what was used and spent, by any dimension and period; export the ledger.
    Usage(usage::UsageArgs),
    /// Make a configuration of that of another gateway.
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Print the JSON Schema of the configuration file.
    Schema,
}

/// Runs the program and says how it ended.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let config = cli.config.file();
    let command = cli.command.unwrap_or(Command::Serve);
    if !matches!(command, Command::Serve) {
        end_with_the_reader();
    }
    match command {
        Command::Serve => serve::serve(config),
        Command::Check(args) => check::check(&args, config),
        Command::Models(args) => models::models(&args, config),
        Command::Estimate(args) => estimate::estimate(&args, config),
        Command::Keys(command) => keys::run(command, config),
        Command::Secrets(command) => secrets::run(&command, config),
        Command::Audit(command) => audit::run(&command, config),
        Command::Policy(command) => policy::run(command, config),
        Command::Plugin(command) => plugin::run(command, config),
        Command::Budgets(command) => budgets::run(command, config),
        Command::Usage(args) => usage::usage(&args, config),
        Command::Import(command) => import::run(&command),
        Command::Schema => schema::schema(),
    }
}

/// Who reads the output through a pipe may have seen enough (`tollgate schema | head`): then a command ends, without a
/// word, with the status that shells give to one that a closed pipe ended.
fn end_with_the_reader() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let said = info.payload().downcast_ref::<String>().map_or("", String::as_str);
        if said.starts_with("failed printing to std") && said.contains("Broken pipe") {
            process::exit(CLOSED_PIPE);
        }
        usual(info);
    }));
}
