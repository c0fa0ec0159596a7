//! `/admin/v1/status`: what is in service, and what went wrong with the files on disk.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::Admin;
use crate::gateway::Pinned;
use crate::store::redis::RedisStatus;

/// How reloads went. Written by the house, read by the status page.
#[derive(Debug, Default)]
pub struct ReloadState(Mutex<Reloads>);

#[derive(Debug, Default, Clone, Serialize)]
struct Reloads {
    ok: u64,
    failed: u64,
    /// Unix milliseconds of the last try.
    last_ms: Option<u64>,
    /// What is wrong with the files on disk; empty when they are in service.
    errors: Vec<String>,
}

/// The status document.
#[derive(Debug, Serialize)]
pub struct Status {
    version: &'static str,
    snapshot: SnapshotStatus,
    reloads: Reloads,
    requests_in_flight: usize,
    /// Tenants that these requests are of.
    tenants_in_flight: usize,
    memory: MemoryStatus,
    draining: bool,
    aliases: Vec<Arc<str>>,
    providers: Vec<ProviderStatus>,
    policies: Vec<Arc<str>>,
    /// Hash of the policies that serve.
    policies_hash: Arc<str>,
    /// An operator put older policies in the place of those on disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<Pinned>,
    /// Faults that are injected on purpose now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    chaos: Vec<serde_json::Value>,
    /// Secrets in stores elsewhere, without their values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<serde_json::Value>,
    /// What is shared with other gateways.
    #[serde(skip_serializing_if = "Option::is_none")]
    redis: Option<RedisStatus>,
    /// What operators should look at.
    alerts: Vec<serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct SnapshotStatus {
    hash: Arc<str>,
    generation: u64,
    built_ms: u64,
}

#[derive(Debug, Serialize)]
struct MemoryStatus {
    resident_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<u64>,
    /// Fewer requests than usual are let in.
    short: bool,
}

#[derive(Debug, Serialize)]
struct ProviderStatus {
    name: Arc<str>,
    local: bool,
    models: Vec<Arc<str>>,
}

impl ReloadState {
    /// A new snapshot is in service.
    pub fn succeeded(&self, at_ms: u64) {
        let mut reloads = self.lock();
        reloads.ok += 1;
        reloads.last_ms = Some(at_ms);
        reloads.errors.clear();
        metrics::counter!("tollgate_reloads_total", "outcome" => "ok").increment(1);
        metrics::gauge!("tollgate_reload_failed").set(0.0);
    }

    /// The files on disk are broken; the last good snapshot goes on.
    pub fn failed(&self, at_ms: u64, errors: Vec<String>) {
        let mut reloads = self.lock();
        reloads.failed += 1;
        reloads.last_ms = Some(at_ms);
        reloads.errors = errors;
        metrics::counter!("tollgate_reloads_total", "outcome" => "failed").increment(1);
        metrics::gauge!("tollgate_reload_failed").set(1.0);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Reloads> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status {
    pub(super) fn of(admin: &Admin) -> Self {
        let snapshot = admin.shared.snapshot.load();
        let admission = &admin.shared.admission;
        let (resident_bytes, limit_bytes) = admission.memory().look();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            snapshot: SnapshotStatus {
                hash: snapshot.hash.clone(),
                generation: snapshot.generation,
                built_ms: snapshot.built_ms,
            },
            reloads: admin.reloads.lock().clone(),
            requests_in_flight: admission.in_flight(),
            tenants_in_flight: admission.tenants(),
            memory: MemoryStatus { resident_bytes, limit_bytes, short: admission.memory().is_short() },
            draining: (admin.draining)(),
            aliases: snapshot.catalogue.aliases().cloned().collect(),
            providers: snapshot
                .catalogue
                .vendors()
                .into_iter()
                .map(|vendor| ProviderStatus {
                    name: vendor.name.clone(),
                    local: vendor.wire.local().is_some(),
                    models: vendor.models.clone(),
                })
                .collect(),
            policies: snapshot.policies.names().map(Arc::from).collect(),
            policies_hash: snapshot.policies.hash().clone(),
            pinned: snapshot.pinned.clone(),
            chaos: admin.shared.figures.chaos.shown(),
            secrets: (admin.secrets)(),
            redis: admin.shared.figures.redis().map(|redis| redis.status()),
            alerts: super::policies::alerts(admin),
        }
    }
}
