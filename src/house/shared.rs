//! Opens what several gateways share, and hands it to everybody who shares something.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::House;
use super::secrets::Secrets;
use super::sources::directory;
use super::state::{beside, write_new};
use crate::clock::SystemClock;
use crate::store::redis::{Password, Redis, fresh_id};
use crate::store::sqlite::Sqlite;

impl House {
    /// The Redis that the configuration names, not yet asked; `None` where none is configured. Reads files.
    ///
    /// # Errors
    /// A secret or a file that cannot be read; what cannot be an address.
    pub fn redis(&self, database: Option<&Sqlite>) -> Result<Option<Arc<Redis>>, String> {
        let Some(settings) = &self.checked.config.state.redis else { return Ok(None) };
        let dir = directory(self.file.as_deref());
        let (below_dir, keystore) = (dir.to_owned(), self.checked.config.keystore.clone());
        let password = settings.password.clone().map(|reference| -> Password {
            Arc::new(move || {
                let secrets = Secrets::new(&below_dir).with_keystore(&keystore);
                secrets.resolve(&reference.0).map_err(|error| format!("state.redis.password: {error}"))
            })
        });
        password.as_ref().map(|password| password()).transpose()?;
        let read = |path: &Path| {
            fs::read(path).map_err(|error| format!("state.redis.ca: `{}`: {error}", path.display()))
        };
        let ca = settings.ca.as_deref().map(read).transpose()?;
        // What it spent is known after a restart where there is a ledger; then it must have the name that it had.
        let node = database.map_or_else(|| Ok(fresh_id()), own_name)?;
        Redis::new(settings, password, ca, node).map(Some)
    }

    /// Whatever is counted here is counted together with the other gateways from now on.
    pub fn share(&self, redis: &Arc<Redis>) {
        let (settings, figures) = (redis.settings(), &self.figures);
        if settings.limits {
            figures.limits.share(redis);
        }
        if settings.budgets {
            figures.desk().budgets.share(redis, Arc::new(SystemClock));
        }
        if settings.hints {
            figures.gates.share(redis);
        }
        figures.share(redis);
    }
}

/// The gateway's name, in a file beside its database.
fn own_name(database: &Sqlite) -> Result<String, String> {
    let path = beside(database.path(), ".gateway");
    let complain = |what: String| format!("`{}`: {what}", path.display());
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().len() == 32 && text.trim().chars().all(|c| c.is_ascii_hexdigit()) => {
            return Ok(text.trim().to_owned());
        }
        Ok(_) => {
            return Err(complain(
                "is no gateway's name; remove it, and what was spent counts once more".into(),
            ));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(complain(error.to_string())),
    }
    let name = fresh_id();
    write_new(&path, &name).map_err(|error| complain(error.to_string()))?;
    Ok(name)
}
