//! What operators set while an earlier process ran, or at another gateway, goes on with this one: pushed prices, budgets, the
//! changes of prices.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::gateway::Figures;
use crate::keys::{BUDGETS, KeyDesk, PRICE_CHANGES, PRICES, Refused};
use crate::ledger::{BudgetSettings, Change, pushed};

/// Changes of prices that are kept.
const MOST_CHANGES: usize = 1_000;

/// How often the end of the audit log is noted.
const ANCHOR: Duration = Duration::from_secs(600);

/// How often what other gateways have changed is looked for.
const SHARE: Duration = Duration::from_secs(1);

/// Changes that wait to be kept.
const QUEUE: usize = 256;

/// Takes what is kept into service; before the first configuration is taken.
///
/// # Errors
/// When it cannot be read.
pub async fn restore(keys: &KeyDesk, figures: &Arc<Figures>) -> Result<(), Refused> {
    let changes = keys.settings(PRICE_CHANGES).await?;
    let names: VecDeque<String> = changes.iter().map(|(name, _)| name.clone()).collect();
    let changes: Vec<Change> =
        changes.into_iter().filter_map(|(_, value)| serde_json::from_value(value).ok()).collect();
    figures.prices.resume(pushed(keys.settings(PRICES).await?), changes);
    figures.expect_budgets(budgets(keys).await?);
    let (to, told) = mpsc::channel(QUEUE);
    figures.prices.tell(to);
    tokio::spawn(follow(keys.clone(), told, names));
    Ok(())
}

/// Notes the end of the audit log outside of the database now and then, as long as the process runs.
pub async fn anchor(keys: KeyDesk) {
    let mut tick = tokio::time::interval(ANCHOR);
    loop {
        tick.tick().await;
        if let Err(refused) = keys.anchor().await {
            tracing::warn!(%refused, "the end of the audit log is not noted");
        }
    }
}

/// Looks every second for what other gateways have changed, as long as the process runs. `told`: it was said already that
/// this cannot be known.
pub async fn share_keys(keys: KeyDesk, figures: Arc<Figures>, mut told: bool) {
    loop {
        tokio::time::sleep(SHARE).await;
        let taken = match keys.pull().await {
            Ok(true) => take(&keys, &figures).await.map(|()| keys.caught_up()),
            Ok(false) => Ok(()),
            Err(refused) => Err(refused),
        };
        match &taken {
            Err(refused) if !told => {
                tracing::warn!(%refused, "keys and what operators set are those that this gateway knew last");
            }
            Ok(()) if told => tracing::info!("keys and what operators set are up to date again"),
            _ => {}
        }
        told = taken.is_err();
        metrics::gauge!("tollgate_shared_keys_trouble").set(if told { 1.0 } else { 0.0 });
    }
}

/// Takes into service what others set.
async fn take(keys: &KeyDesk, figures: &Arc<Figures>) -> Result<(), Refused> {
    keys.refresh().await?;
    figures.prices.repush(pushed(keys.settings(PRICES).await?));
    let (set, figures) = (budgets(keys).await?, figures.clone());
    // Fails only when the process ends.
    let _ = tokio::task::spawn_blocking(move || figures.set_budgets(set)).await;
    Ok(())
}

/// Budgets that operators set.
async fn budgets(keys: &KeyDesk) -> Result<Vec<BudgetSettings>, Refused> {
    let kept = keys.settings(BUDGETS).await?;
    let read = kept.into_iter().filter_map(|(name, value)| match serde_json::from_value(value) {
        Ok(settings) => Some(settings),
        Err(error) => {
            tracing::error!(budget = name, %error, "a budget that was kept cannot be read; it does not count");
            None
        }
    });
    Ok(read.collect())
}

/// Keeps every change of prices, with its moment and origin; the oldest go.
async fn follow(keys: KeyDesk, mut told: mpsc::Receiver<Change>, mut names: VecDeque<String>) {
    while let Some(change) = told.recv().await {
        let Ok(value) = serde_json::to_value(&change) else { continue };
        let name = format!("{:015}-{:09}", change.at_ms, change.revision);
        let mut changes = vec![(name.clone(), Some(value))];
        names.push_back(name);
        while names.len() > MOST_CHANGES {
            changes.extend(names.pop_front().map(|oldest| (oldest, None)));
        }
        if let Err(refused) = keys.set(PRICE_CHANGES, changes, None).await {
            tracing::warn!(%refused, revision = change.revision, "a change of prices is not kept");
        }
    }
}
