//! Who judges content for clients who name no model, unless an alias of the configuration says so.

use std::sync::Arc;

use super::catalogue::{Alias, AliasTarget};
use crate::providers::{Place, Target, Vendor};
use crate::target::TargetName;

/// The model of clients who name none to moderate.
pub const MODERATION: &str = "moderation";

/// Every provider that moderates, with its usual model: those that see pictures first, the one inside the process last.
pub(super) fn judges(vendors: &[Arc<Vendor>]) -> Option<Alias> {
    let mut judges: Vec<_> = vendors
        .iter()
        .filter_map(|vendor| Some((vendor.wire.moderations()?, vendor)))
        .filter(|(judge, _)| !judge.usual_model().is_empty())
        .map(|(judge, vendor)| {
            let local = matches!(vendor.place, Place::Local);
            ((local, !judge.sees_images(), vendor.name.clone()), judge.usual_model(), vendor)
        })
        .collect();
    judges.sort_by(|a, b| a.0.cmp(&b.0));
    let target = |vendor: &Arc<Vendor>, model: &str| {
        let name = TargetName { provider: vendor.name.clone(), model: model.into() };
        AliasTarget::new(Target::new(vendor.clone(), name), None)
    };
    let targets: Vec<_> = judges.into_iter().map(|(_, model, vendor)| target(vendor, model)).collect();
    (!targets.is_empty()).then(|| Alias {
        targets,
        fallback: Vec::new(),
        version: None,
        strategy: None,
        manner: None,
    })
}
