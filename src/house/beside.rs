//! Policies that stand beside those in service: whatever is wrong with them, the live ones are not touched.

use std::sync::Arc;

use super::build::policy_problem;
use super::config::Config;
use super::diagnostic::Diagnostic;
use super::sources::{BesideSource, Sources};
use super::trial;
use crate::gateway::{Beside, Role, Side, Snapshot, Terms};
use crate::policy::{self, Hosted, PolicySet};

/// Compiles the sets that there are.
pub(super) fn load(
    config: &Config,
    sources: &Sources,
    names: &policy::Names,
    hosted: &Arc<Hosted>,
) -> Beside {
    let side = |role: Role| {
        let read = sources.beside.iter().find(|read| read.role == role)?;
        compiled(config, sources, read, names, hosted)
    };
    Beside {
        shadow: side(Role::Shadow),
        candidate: side(Role::Candidate),
        sample: config.policies.shadow.sample.part(),
        settings: config.policies.candidate.clone(),
    }
}

/// Runs the tests of these sets; one whose tests fail is not taken.
pub(super) fn try_out(config: &Config, sources: &Sources, snapshot: &mut Arc<Snapshot>, terms: &Terms) {
    for read in &sources.beside {
        let Ok(files) = &read.files else { continue };
        let Err(failures) = trial::before_service(config, &sources.with_beside(files), snapshot, terms)
        else {
            continue;
        };
        let problems = failures.0.iter().map(Diagnostic::headline).collect();
        // Nobody else has the snapshot yet.
        let Some(snapshot) = Arc::get_mut(snapshot) else { return };
        let side = match read.role {
            Role::Shadow => &mut snapshot.beside.shadow,
            Role::Candidate => &mut snapshot.beside.candidate,
        };
        if let Some(side) = side.as_mut().filter(|side| side.policies.is_some()) {
            (side.policies, side.problems) = (None, problems);
        }
    }
}

/// `None` where there is no policy in the directory.
fn compiled(
    config: &Config,
    sources: &Sources,
    read: &BesideSource,
    names: &policy::Names,
    hosted: &Arc<Hosted>,
) -> Option<Side> {
    let dir: Arc<str> = read.dir.display().to_string().into();
    let broken = |problems: Vec<String>| Side { policies: None, problems, dir: dir.clone() };
    let files = match &read.files {
        Ok(files) if files.is_empty() => return None,
        Ok(files) => files,
        Err(faults) => return Some(broken(faults.0.iter().map(Diagnostic::headline).collect())),
    };
    let swapped = sources.with_beside(files);
    let texts: Vec<policy::Source> = swapped.policies.iter().map(Into::into).collect();
    match PolicySet::load_with(&texts, &config.policies, &config.data, names, hosted.clone()) {
        Ok(set) => Some(Side { policies: Some(Arc::new(set)), problems: Vec::new(), dir }),
        Err(errors) => {
            let problems = errors.iter().map(|error| policy_problem(error, &texts).headline());
            Some(broken(problems.collect()))
        }
    }
}
