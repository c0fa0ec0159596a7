//! Budgets: settings that mean something.

use super::Desk;
use crate::ledger::Budget;

impl Desk<'_> {
    /// Checks budgets.
    pub(super) fn budgets(&mut self) -> Vec<Budget> {
        let settings = self.reading.config.budgets.clone();
        let mut budgets = Vec::new();
        for (at, budget) in settings.iter().enumerate() {
            let place = at.to_string();
            if settings.iter().take(at).any(|earlier| earlier.name == budget.name) {
                let message = format!("two budgets are called `{}`", budget.name);
                self.error(&["budgets", &place, "name"], message, None);
            }
            let providers = budget.of.provider.iter().flat_map(|words| words.all());
            for provider in providers.filter(|word| !word.contains('*')) {
                if !self.reading.config.providers.contains_key(provider) {
                    let message = format!("budget `{}`: there is no provider `{provider}`", budget.name);
                    self.warning(&["budgets", &place, "for", "provider"], message, None);
                }
            }
            match budget.checked() {
                Ok(budget) => budgets.push(budget),
                Err(errors) => {
                    for (key, error) in errors {
                        // Of a limit that cannot be read, enough was said.
                        let is_said = |field: &str| !self.reading.is_sound(&["budgets", &place, field]);
                        if key == "dollars"
                            && budget.dollars.is_none()
                            && (is_said("dollars") || is_said("tokens"))
                        {
                            continue;
                        }
                        let message = format!("`{key}` of budget `{}`: {error}", budget.name);
                        self.error(&["budgets", &place, key], message, None);
                    }
                }
            }
        }
        for (at, hook) in self.reading.config.alerts.webhooks.clone().iter().enumerate() {
            if hook.reference().is_none()
                && let Err(error) = crate::house::alerts::address(&hook.url)
            {
                let message = format!("`alerts.webhooks`: the address {error}");
                self.error(&["alerts", "webhooks", &at.to_string(), "url"], message, None);
            }
        }
        if !settings.is_empty() && self.reading.config.state.ledger.is_none() {
            let help = "set `state: { ledger: sqlite:./data/tollgate.db }`";
            let message = "budgets without a ledger forget what was spent when the gateway ends";
            self.warning(&["budgets"], message, Some(help.into()));
        }
        budgets
    }
}
