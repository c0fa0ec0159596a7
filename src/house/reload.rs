//! From a new reading of the files to a new snapshot in service, or not at all.

use std::sync::Arc;

use super::desk::{Desk, Ordered};
use super::diagnostic::{Diagnostic, Diagnostics, Severity};
use super::plugins::{PluginBench, configured};
use super::secrets::Secrets;
use super::sources::{PolicySource, Sources, directory};
use super::watch::{Taken, Watch};
use super::{Checked, House, built, checked, shown};
use crate::admin::ReloadState;
use crate::clock::{Clock, SystemClock};
use crate::gateway::{Shared, Snapshot};
use crate::keys::Refused;
use crate::listener::TlsReloader;
use crate::providers::Credential;
use crate::settings::Percent;
use crate::store::VersionFile;
use crate::upstream::Upstream;

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
        let (live, bench, first) = (shared.clone(), plugins.clone(), sources.clone());
        let take = move |sources: Sources, held: bool| {
            let Ordered { sources, pinned, read } = ordering.order(sources);
            let (fresh, warnings) = checked(&sources, true)?;
            let older = shared.snapshot.load_full();
            let plugins = plugins.after(&older.plugins);
            let plugins = if held { plugins.held() } else { plugins };
            let (name, dir) = (shown(file.as_deref()), directory(file.as_deref()));
            let vaults = stores.after(&fresh.config, dir);
            // Also where this is refused: what it lacks goes on being asked for.
            stores = vaults.clone();
            let secrets = Secrets::new(dir).with_keystore(&fresh.config.keystore).with_vaults(&vaults);
            let built = built(&name, &fresh, &sources, &secrets, (&figures, &plugins), &SystemClock);
            let mut built = built.inspect_err(|_| note_refused(&shared, &secrets))?;
            fit_to_start(&at_start, &fresh, &name, &sources)?;
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
        let compiled =
            move |sources: &Sources| are_compiled(&bench.after(&live.snapshot.load().plugins), sources);
        let accept = while_compiling(first, compiled, take);
        let report = move |problems: Diagnostics| {
            // Warnings come along, and are no reason.
            let errors = || problems.0.iter().filter(|problem| problem.severity == Severity::Error);
            for error in errors() {
                let (error, help) = (error.headline(), error.help.as_deref());
                tracing::error!(error, help, "reload refused; the last good snapshot goes on");
            }
            told.failed(SystemClock.unix_ms(), errors().map(Diagnostic::headline).collect());
        };
        let watch =
            Watch::start(&sources, accept, report).map_err(|error| format!("file watcher: {error}"))?;
        desk.listen(watch.again());
        vaults.listen(watch.again());
        Ok(watch.also(vaults.refresher()))
    }
}

/// Takes readings by `take`, and of one whose plugins are not `compiled` yet the policies alone, beside all else that served
/// before: whoever edits a policy need not wait for a compiler. `take` is told whether the plugins are to go on as they are.
fn while_compiling(
    mut last: Sources,
    compiled: impl Fn(&Sources) -> bool,
    mut take: impl FnMut(Sources, bool) -> Result<Option<Diagnostics>, Diagnostics>,
) -> impl FnMut(Sources, bool) -> Result<Taken, Diagnostics> {
    let mut served = last.hash.clone();
    move |sources, urgent| {
        // Most changes have nothing to do with plugins.
        let same = sources.plugins == last.plugins && sources.config == last.config;
        if same || compiled(&sources) {
            let faults = take(sources.clone(), false)?;
            (served, last) = (sources.hash.clone(), sources);
            return Ok(Taken::All(faults));
        }
        let Some(mixed) = last.with_policies_of(&sources) else { return Ok(Taken::Policies) };
        if urgent || mixed.hash != served {
            served.clone_from(&mixed.hash);
            if let Err(problems) = take(mixed, true) {
                // They may be written for what is coming: with that, they are judged.
                let why = problems.0.first().map(super::Diagnostic::headline).unwrap_or_default();
                tracing::warn!(why, "these policies are not taken before a plugin is compiled");
            }
        }
        Ok(Taken::Policies)
    }
}

/// Whether all plugins of a reading are compiled, or soon will be. One that is broken holds nothing up.
fn are_compiled(bench: &PluginBench, sources: &Sources) -> bool {
    if sources.plugins.is_empty() {
        return true;
    }
    let Ok((fresh, _)) = checked(sources, true) else { return true };
    let dir = &sources.paths.plugins.dir;
    bench.is_ready(configured(&fresh.config.plugins, &sources.plugins, dir), dir)
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

/// What is read at start only has to be good now: a gateway that is started again must come up.
fn fit_to_start(
    at_start: &Checked,
    fresh: &Checked,
    file: &str,
    sources: &Sources,
) -> Result<(), Diagnostics> {
    let (old, new) = (&at_start.config, &fresh.config);
    let fault = |path: [&str; 2], error: String| sources.fault_at(file, &path, error);
    let mut problems = Vec::new();
    if old.tls != new.tls {
        let faults = new.tls.iter().flat_map(TlsReloader::faults);
        problems.extend(faults.map(|error| fault(["tls", error.field()], error.to_string())));
    }
    if old.upstream != new.upstream
        && let Err(error) = Upstream::new(&new.upstream)
    {
        problems.push(fault(["upstream", error.field()], error.to_string()));
    }
    if problems.is_empty() { Ok(()) } else { Err(Diagnostics::in_order(problems)) }
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
        ("auth.pepper", old.auth.pepper != new.auth.pepper),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::super::Diagnostic;
    use super::*;

    #[test]
    fn policies_do_not_wait_for_a_compiler_and_all_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        fs::create_dir(dir.path().join("policies")).unwrap();
        let read = || Sources::read(Some(&dir.path().join("tollgate.yaml"))).unwrap();
        write("tollgate.yaml", "drain: 1s");
        write("policies/p.rhai", "one");
        let (is_compiled, served) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (compiled, serves) = (is_compiled.clone(), served.clone());
        let mut accept = while_compiling(
            read(),
            move |_| compiled.load(Ordering::Relaxed),
            move |sources, held| {
                let config = sources.config.map(|(_, text)| text).unwrap_or_default();
                let text = &sources.policies[0].text;
                if text == "broken" {
                    return Err(Diagnostic::error("p.rhai", "broken").into());
                }
                serves.lock().unwrap().push(format!("{config}, {text}, {held}"));
                Ok(None)
            },
        );
        let mut check = |urgent: bool, all: bool, expected: &[&str]| {
            let taken = accept(read(), urgent).map(|taken| matches!(taken, Taken::All(_)));
            assert_eq!(taken.unwrap_or(false), all);
            assert_eq!(std::mem::take(&mut *served.lock().unwrap()), expected);
        };
        write("tollgate.yaml", "drain: 2s");
        check(false, false, &[]);
        write("policies/p.rhai", "two");
        check(false, false, &["drain: 1s, two, true"]);
        check(false, false, &[]);
        // Something else has changed than files, and everything is to be taken once more.
        check(true, false, &["drain: 1s, two, true"]);
        write("policies/p.rhai", "broken");
        check(false, false, &[]);
        write("policies/p.rhai", "three");
        check(false, false, &["drain: 1s, three, true"]);
        is_compiled.store(true, Ordering::Relaxed);
        check(false, true, &["drain: 2s, three, false"]);
        is_compiled.store(false, Ordering::Relaxed);
        write("policies/p.rhai", "four");
        check(false, true, &["drain: 2s, four, false"]);
    }
}
