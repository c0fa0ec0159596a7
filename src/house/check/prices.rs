//! Prices and health: settings that mean something.

use std::time::Duration;

use super::Desk;
use super::base_url::base;
use crate::ledger::{Book, Owns};

impl Desk<'_> {
    /// Checks sources of prices, and reads the prices of one's own.
    pub(super) fn prices(&mut self) -> Owns {
        let settings = self.reading.config.prices.clone();
        for (at, source) in settings.sources.iter().enumerate() {
            let place = at.to_string();
            if source.from.contains("://") {
                let complaint = match base(&source.from) {
                    Ok(_) => None,
                    Err(_) if source.from.starts_with("http://") => {
                        Some("plain HTTP is for this machine and private networks only")
                    }
                    Err(error) => Some(error),
                };
                if let Some(complaint) = complaint {
                    let message = format!("`prices.sources`: the address {complaint}");
                    self.error(
                        &["prices", "sources", &place, "from"],
                        message,
                        Some("write `https://…`".into()),
                    );
                }
            } else if source.from.is_empty() {
                self.error(&["prices", "sources", &place, "from"], "`from` is empty", None);
            }
            if source.every.0 < Duration::from_secs(60) {
                self.error(&["prices", "sources", &place, "every"], "`every` must be at least 1m", None);
            }
            if settings.sources.iter().take(at).any(|earlier| earlier.from == source.from) {
                self.error(&["prices", "sources", &place, "from"], "this source stands here twice", None);
            }
        }
        let mut owns = Owns::default();
        for (name, model) in &settings.models {
            let Some((provider, _)) = name.split_once('/') else {
                let message = format!("`prices.models`: `{name}` is not the name of a target");
                self.error(&["prices", "models", name], message, Some("write it as `provider/model`".into()));
                continue;
            };
            if name.trim_end_matches('*').contains('*') {
                let message =
                    format!("`prices.models`: `{name}` names no target: a `*` stands at the end alone");
                let help = "write `provider/*`, one for each provider";
                self.error(&["prices", "models", name], message, Some(help.into()));
                continue;
            }
            if !provider.ends_with('*') && !self.reading.config.providers.contains_key(provider) {
                let message = format!("`prices.models`: there is no provider `{provider}`");
                self.warning(&["prices", "models", name], message, None);
            }
            match model.checked() {
                Ok(own) => drop(owns.0.insert(name.clone(), own)),
                Err(errors) => {
                    for (key, error) in errors {
                        self.error(
                            &["prices", "models", name, key],
                            format!("`{key}` of `{name}`: {error}"),
                            None,
                        );
                    }
                }
            }
        }
        // A source may know what the list that is built in does not.
        if settings.sources.is_empty() {
            for (name, like) in Book::default().unlisted(&owns) {
                let message = format!("`like` of `{name}`: no price list knows `{like}`");
                self.warning(&["prices", "models", name, "like"], message, None);
            }
        }
        owns
    }

    /// Checks how health is watched.
    pub(super) fn health(&mut self) {
        let health = self.reading.config.health;
        let bounds = Duration::from_secs(30)..=Duration::from_secs(3_600);
        if !bounds.contains(&health.window.0) {
            self.error(&["health", "window"], "`health.window` must be between 30s and 1h", None);
        }
        if !(0.0..=1.0).contains(&health.alert.error_rate) {
            let help = "write 0.05 for 5 %";
            self.error(
                &["health", "alert", "error_rate"],
                "`error_rate` must be between 0 and 1",
                Some(help.into()),
            );
        }
    }
}
