//! What gateways share, and where secrets lie: whether that with which it is reached is there, before anybody tries to reach it.

use super::Bench;
use crate::house::alerts::Hook;
use crate::house::config::Config;
use crate::settings::SecretRef;
use crate::upstream::certificates;

impl Bench<'_> {
    /// The passwords and certificates of PostgreSQL, Redis and Vault, and what webhooks need.
    pub(super) fn shared(&mut self, config: &Config) {
        if self.secrets.are_imagined() {
            return;
        }
        let (postgres, redis) = (&config.state.postgres, config.state.redis.as_ref());
        self.password(&["state", "postgres", "password"], postgres.password.as_ref());
        let password = redis.and_then(|redis| redis.password.as_ref());
        self.password(&["state", "redis", "password"], password.map(|reference| &reference.0));
        let roots = postgres.roots.as_ref().map(|path| (["state", "postgres", "roots"], path));
        let ca = redis.and_then(|redis| redis.ca.as_ref()).map(|path| (["state", "redis", "ca"], path));
        let vault = config.secrets.vault.as_ref().and_then(|vault| vault.roots.as_ref());
        let vault = vault.map(|path| (["secrets", "vault", "roots"], path));
        for (path, file) in roots.into_iter().chain(ca).chain(vault) {
            if let Err(error) = certificates(file) {
                let _: Option<()> = self.problem(&path, format!("{}: {error}", path.join(".")));
            }
        }
        for (at, hook) in config.alerts.webhooks.iter().enumerate() {
            if let Err((field, error)) = Hook::of(hook, self.secrets) {
                let path = ["alerts", "webhooks", &at.to_string(), field];
                let _: Option<()> = self.problem(&path, format!("alerts.webhooks[{at}].{field}: {error}"));
            }
        }
    }

    fn password(&mut self, path: &[&str], reference: Option<&SecretRef>) {
        if let Some(reference) = reference
            && let Err(error) = self.secrets.resolve(reference)
        {
            let _: Option<()> = self.problem(path, format!("{}: {error}", path.join(".")));
        }
    }
}
