//! Where an administrator's command is carried out: in the database, or by the gateway that has it open.

use std::path::PathBuf;

use http::Method;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::operator::Operator;
use crate::house::House;
use crate::keys::KeyDesk;

/// Where a command is carried out.
pub(super) enum Place {
    /// Here, in the database.
    Here(Runtime, Box<KeyDesk>),
    /// By a gateway.
    There(Operator, Option<PathBuf>),
}

impl Place {
    /// By the gateway that is named; else here, unless a gateway has the database open.
    ///
    /// # Errors
    /// A sentence for the user.
    pub(super) fn of(operator: &Operator, config: Option<PathBuf>) -> Result<Self, String> {
        if operator.is_named() {
            return Ok(Self::There(operator.clone(), config));
        }
        let house = House::open(config.clone()).map_err(|problems| problems.to_string())?;
        let database = match house.database() {
            Ok(database) => database,
            Err(error) if error.contains("is in use by another gateway") => {
                return Ok(Self::There(operator.clone(), config));
            }
            Err(error) => return Err(error),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("runtime: {error}"))?;
        let desk = house.key_desk(database, house.central()?.as_ref())?;
        let known = async {
            desk.pull().await?;
            desk.refresh().await
        };
        runtime.block_on(known).map_err(|refused| refused.to_string())?;
        Ok(Self::Here(runtime, Box::new(desk)))
    }
}

/// Who gives the command, for the audit log.
pub(super) fn actor() -> String {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let plain: String = name.chars().filter(char::is_ascii_graphic).take(48).collect();
    if plain.is_empty() { "cli".to_owned() } else { format!("cli {plain}") }
}

/// Asks the gateway.
pub(super) fn ask(
    (operator, config): (&Operator, &Option<PathBuf>),
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, String> {
    operator.ask(config.clone(), method, path, body)
}
