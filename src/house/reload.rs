//! From a new reading of the files to a new snapshot in service, or not at all.

use std::sync::Arc;

use super::desk::{Desk, Ordered};
use super::diagnostic::Diagnostics;
use super::secrets::Secrets;
use super::sources::{PolicySource, Sources, directory};
use super::watch::Watch;
use super::{Checked, House, built, checked, shown};
use crate::admin::ReloadState;
use crate::clock::{Clock, SystemClock};
use crate::gateway::{Shared, Snapshot};
use crate::keys::Refused;
use crate::listener::TlsReloader;
use crate::providers::Credential;
use crate::settings::Percent;
use crate::store::VersionFile;

impl House {
    /// Watches the files; every good change becomes the snapshot in service, every bad one is told. With `tls`, a
    /// renewed certificate is used from then on.
    ///
    /// # Errors
    /// When the watching thread cannot be started.
    pub fn watch(
        self,
        shared: Arc<Shared>,
        reloads: Arc<ReloadState>,
        desk: Arc<Desk>,
        tls: Option<TlsReloader>,
    ) -> Result<Watch, String> {
        let Self { file, sources, checked: at_start, figures, plugins, vaults, .. } = self;
        let mut stores = vaults.clone();
        let (told, ordering) = (reloads.clone(), desk.clone());
        settle_in(&shared, &shared.snapshot.load(), &sources);
        let accept = move |sources: Sources| {
            let Ordered { sources, pinned, read } = ordering.order(sources);
            let (fresh, warnings) = checked(&sources, true)?;
            let older = shared.snapshot.load_full();
            let plugins = plugins.after(&older.plugins);
            let (name, dir) = (shown(file.as_deref()), directory(file.as_deref()));
            let vaults = stores.after(&fresh.config, dir);
            // Also where this is refused: what it lacks goes on being asked for.
            stores = vaults.clone();
            let secrets = Secrets::new(dir).with_keystore(&fresh.config.keystore).with_vaults(&vaults);
            let built = built(&name, &fresh, &sources, &secrets, (&figures, &plugins), &SystemClock);
            let mut built = built.inspect_err(|_| note_refused(&shared, &secrets))?;
            renew(tls.as_ref(), &name, &sources)?;
            tell_warnings(&warnings);
            tell_fixed(&at_start, &fresh);
            note(&shared, &built.snapshot, &built.secrets);
            if let Some(snapshot) = Arc::get_mut(&mut built.snapshot) {
                snapshot.beside.inherit(&older.beside);
                snapshot.pinned.clone_from(&pinned);
            }
            swap(&shared, built.snapshot.clone());
            settle_in(&shared, &built.snapshot, &sources);
            ordering.served(pinned.as_ref());
            figures.configure(built.terms);
            vaults.serve(&fresh.config);
            reloads.succeeded(SystemClock.unix_ms());
            // What an operator put in the place of the files must not hide what is wrong with these.
            let build =
                |read| super::built(&name, &fresh, &read, &secrets, (&figures, &plugins), &SystemClock);
            Ok(read.and_then(|read| build(read).err()))
        };
        let report = move |problems: Diagnostics| {
            let errors: Vec<_> = problems.0.iter().map(super::Diagnostic::headline).collect();
            for error in &errors {
                tracing::error!(error, "reload refused; the last good snapshot goes on");
            }
            told.failed(SystemClock.unix_ms(), errors);
        };
        let watch =
            Watch::start(&sources, accept, report).map_err(|error| format!("file watcher: {error}"))?;
        desk.listen(watch.again());
        vaults.listen(watch.again());
        Ok(watch.also(vaults.refresher()))
    }
}

/// Shows in the metrics which snapshot serves.
pub fn announce(snapshot: &Snapshot, serves: bool) {
    metrics::gauge!("tollgate_snapshot_info", "sha" => snapshot.hash.to_string())
        .set(f64::from(u8::from(serves)));
}

/// Writes into the audit log that files changed what is in service, and which secrets were read for that. A log that
/// cannot be written keeps no file from counting: it may be the file that mends it.
fn note(shared: &Shared, fresh: &Snapshot, secrets: &[String]) {
    write_down(async {
        shared.keys.note("gateway", "reload", &fresh.hash, serde_json::json!({})).await?;
        let detail = serde_json::json!({ "references": secrets, "origin": "reload" });
        shared.keys.note("gateway", "secrets.read", &fresh.hash, detail).await
    });
}

/// Writes into the audit log which secrets were read for what was refused then.
fn note_refused(shared: &Shared, secrets: &Secrets<'_>) {
    let (references, failed) = (secrets.read(), secrets.failed());
    let detail = serde_json::json!({ "references": references, "failed": failed, "origin": "reload" });
    write_down(shared.keys.note("gateway", "secrets.read", "refused", detail));
}

fn write_down(noting: impl Future<Output = Result<(), Refused>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    match runtime.map(|runtime| runtime.block_on(noting)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the reload could not be noted in the audit log"),
        Err(error) => tracing::error!(%error, "the reload could not be noted in the audit log"),
    }
}

fn swap(shared: &Shared, fresh: Arc<Snapshot>) {
    let older = shared.snapshot.load_full();
    announce(&older, false);
    announce(&fresh, true);
    inherit(&older, &fresh);
    tracing::info!(snapshot = %fresh.hash, generation = fresh.generation, "reloaded");
    shared.snapshot.store(fresh);
}

/// A snapshot went into service: its policies are kept with their texts, and the trial of a candidate goes on or begins.
fn settle_in(shared: &Shared, snapshot: &Snapshot, sources: &Sources) {
    let hash = snapshot.policies.hash();
    shared.versions.took(hash, SystemClock.unix_ms(), || {
        let file = |file: &PolicySource| VersionFile {
            name: file.name.as_str().into(),
            path: file.path.clone(),
            text: file.text.as_str().into(),
        };
        sources.policies.iter().map(file).collect()
    });
    let beside = &snapshot.beside;
    let mut settings = beside.settings.clone();
    if beside.candidate.as_ref().is_none_or(|side| side.policies.is_none()) {
        // Nobody gives a share to a shadow but an operator.
        settings.share = Percent(0.0);
    }
    let contender = beside.contender().map(|policies| (policies.hash(), &settings));
    let remembered = shared.versions.remembered().and_then(|value| serde_json::from_value(value).ok());
    shared.rollout.configure(contender, remembered, tokio::time::Instant::now());
    for (role, side) in beside.sides() {
        metrics::gauge!("tollgate_policy_beside_broken", "role" => role.as_str())
            .set(f64::from(u8::from(!side.problems.is_empty())));
        for problem in &side.problems {
            let role = role.as_str();
            tracing::error!(role, problem, "these policies are not taken; those in service are not touched");
        }
    }
}

/// Tokens that were fetched on terms which have not changed need not be fetched again.
fn inherit(older: &Snapshot, fresh: &Snapshot) {
    let known = older.catalogue.vendors();
    for vendor in fresh.catalogue.vendors() {
        let older = known.iter().find(|older| older.name == vendor.name);
        if let Some(older) = older {
            vendor.ring.inherit(&older.ring);
        }
        if let Credential::Leased(lease) = &vendor.credential
            && let Some(Credential::Leased(older)) = older.map(|older| &older.credential)
        {
            lease.inherit(older);
        }
    }
}

/// Takes a renewed certificate into service; it may come in two halves, of which the first is refused.
fn renew(tls: Option<&TlsReloader>, file: &str, sources: &Sources) -> Result<(), Diagnostics> {
    match tls.map_or(Ok(false), TlsReloader::reload) {
        Ok(false) => Ok(()),
        Ok(true) => {
            tracing::info!("the listener uses the renewed certificate");
            Ok(())
        }
        Err(error) => Err(sources.fault_at(file, &["tls", error.field()], error.to_string()).into()),
    }
}

pub(super) fn tell_warnings(warnings: &Diagnostics) {
    for warning in &warnings.0 {
        tracing::warn!(warning = warning.headline(), "configuration");
    }
}

/// Settings that are read at start only: a change is told, not made.
fn tell_fixed(at_start: &Checked, fresh: &Checked) {
    let (old, new) = (&at_start.config, &fresh.config);
    let changed = [
        ("listen", old.listen != new.listen),
        ("tls", old.tls != new.tls),
        ("limits", old.limits != new.limits),
        ("compression", old.compression != new.compression),
        ("workers", old.workers != new.workers),
        ("admin", old.admin != new.admin),
        ("upstream", old.upstream != new.upstream),
        ("cache.max_size", old.cache.max_size != new.cache.max_size),
        ("idempotency.max_size", old.idempotency.max_size != new.idempotency.max_size),
        ("decisions", old.decisions != new.decisions),
        ("state", old.state != new.state),
        ("alerts", old.alerts != new.alerts),
        ("plugins.cache", old.plugins.cache != new.plugins.cache),
        ("log", old.log != new.log),
        ("reuse_port", old.reuse_port != new.reuse_port),
        ("drain_delay", old.drain_delay != new.drain_delay),
        ("drain", old.drain != new.drain),
    ];
    for (setting, _) in changed.iter().filter(|(_, changed)| *changed) {
        tracing::warn!(setting, "this change takes effect at the next start");
    }
}
