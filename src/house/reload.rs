//! From a new reading of the files to a new snapshot in service, or not at all.

use std::sync::Arc;

use super::diagnostic::{Diagnostic, Diagnostics};
use super::sources::Sources;
use super::watch::Watch;
use super::{Checked, House, built, checked};
use crate::admin::ReloadState;
use crate::clock::{Clock, SystemClock};
use crate::gateway::{Shared, Snapshot};
use crate::listener::TlsReloader;
use crate::providers::Credential;

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
        tls: Option<TlsReloader>,
    ) -> Result<Watch, String> {
        let Self { file, sources, checked: at_start, figures, plugins, .. } = self;
        let told = reloads.clone();
        let accept = move |sources: Sources| {
            let (fresh, warnings) = checked(&sources)?;
            let plugins = plugins.after(&shared.snapshot.load().plugins);
            let built = built(file.as_deref(), &fresh, &sources, &figures, &plugins, &SystemClock)?;
            renew(tls.as_ref())?;
            tell_warnings(&warnings);
            tell_fixed(&at_start, &fresh);
            swap(&shared, built.snapshot);
            figures.configure(built.terms);
            reloads.succeeded(SystemClock.unix_ms());
            Ok(())
        };
        let report = move |problems: Diagnostics| {
            let errors: Vec<_> = problems.0.iter().map(super::Diagnostic::headline).collect();
            for error in &errors {
                tracing::error!(error, "reload refused; the last good snapshot goes on");
            }
            told.failed(SystemClock.unix_ms(), errors);
        };
        Watch::start(&sources, accept, report).map_err(|error| format!("file watcher: {error}"))
    }
}

/// Shows in the metrics which snapshot serves.
pub fn announce(snapshot: &Snapshot, serves: bool) {
    metrics::gauge!("tollgate_snapshot_info", "sha" => snapshot.hash.to_string())
        .set(f64::from(u8::from(serves)));
}

fn swap(shared: &Shared, fresh: Arc<Snapshot>) {
    let older = shared.snapshot.load_full();
    announce(&older, false);
    announce(&fresh, true);
    inherit(&older, &fresh);
    tracing::info!(snapshot = %fresh.hash, generation = fresh.generation, "reloaded");
    shared.snapshot.store(fresh);
}

/// Tokens that were fetched on terms which have not changed need not be fetched again.
fn inherit(older: &Snapshot, fresh: &Snapshot) {
    let known = older.catalogue.vendors();
    for vendor in fresh.catalogue.vendors() {
        let older = known.iter().find(|older| older.name == vendor.name);
        if let Credential::Leased(lease) = &vendor.credential
            && let Some(Credential::Leased(older)) = older.map(|older| &older.credential)
        {
            lease.inherit(older);
        }
    }
}

/// Takes a renewed certificate into service; it may come in two halves, of which the first is refused.
fn renew(tls: Option<&TlsReloader>) -> Result<(), Diagnostics> {
    match tls.map_or(Ok(false), TlsReloader::reload) {
        Ok(false) => Ok(()),
        Ok(true) => {
            tracing::info!("the listener uses the renewed certificate");
            Ok(())
        }
        Err(error) => Err(Diagnostic::error("tls", error.to_string()).into()),
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
        ("decisions", old.decisions != new.decisions),
        ("state", old.state != new.state),
        ("plugins.cache", old.plugins.cache != new.plugins.cache),
        ("log", old.log != new.log),
        ("drain", old.drain != new.drain),
    ];
    for (setting, _) in changed.iter().filter(|(_, changed)| *changed) {
        tracing::warn!(setting, "this change takes effect at the next start");
    }
}
