//! Fallbacks end: none leads back to where it came from.

use std::collections::BTreeMap;

use super::Desk;
use crate::planner::Models;

/// What each name leads to, and where that is written.
type Graph = BTreeMap<String, Vec<(String, Vec<String>)>>;

#[derive(Clone, Copy, PartialEq)]
enum State {
    OnTheWay,
    Done,
}

impl Desk<'_> {
    /// Reports each fallback that leads back to where it came from. Of two sections with the same name in them, the
    /// later one counts. `only`: circles without any of these names have been reported before.
    pub(super) fn cycles(&mut self, sections: &[(&[&str], &Models)], only: Option<&Models>) {
        let graph = graph(sections);
        let mut state: BTreeMap<&str, State> = BTreeMap::new();
        let names = sections.iter().flat_map(|(_, models)| models.0.iter().map(|(name, _)| name.as_str()));
        for name in names {
            // Depth first, with the way so far on a stack of our own: (alias, next fallback to look at).
            let mut way: Vec<(&str, usize)> = Vec::new();
            if !state.contains_key(name) {
                state.insert(name, State::OnTheWay);
                way.push((name, 0));
            }
            while let Some((alias, next)) = way.pop() {
                let Some((hop, place)) = graph.get(alias).and_then(|hops| hops.get(next)) else {
                    state.insert(alias, State::Done);
                    continue;
                };
                way.push((alias, next + 1));
                match state.get(hop.as_str()) {
                    None if graph.contains_key(hop) => {
                        state.insert(hop, State::OnTheWay);
                        way.push((hop, 0));
                    }
                    Some(State::OnTheWay) => {
                        let from = way.iter().position(|(on, _)| on == hop).unwrap_or_default();
                        let mut names: Vec<&str> = way.iter().skip(from).map(|(on, _)| *on).collect();
                        names.push(hop);
                        let is_own = |name: &&str| {
                            let alias = name.split('@').next().unwrap_or(name);
                            only.is_none_or(|only| only.0.iter().any(|(own, _)| own == alias))
                        };
                        if names.iter().any(is_own) {
                            let message = format!("the fallback goes in a circle: {}", names.join(" → "));
                            let place: Vec<&str> = place.iter().map(String::as_str).collect();
                            self.error(&place, message, None);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// An alias leads to its fallbacks; one with versions leads to those, and each of them to its own fallbacks and to the
/// alias's.
fn graph(sections: &[(&[&str], &Models)]) -> Graph {
    let mut graph = Graph::new();
    for (base, models) in sections {
        for (name, model) in &models.0 {
            let at = |steps: &[&str]| -> Vec<String> {
                base.iter().chain(&[name.as_str()]).chain(steps).map(|step| (*step).to_owned()).collect()
            };
            let hops = |steps: &[&str], names: &[String]| -> Vec<(String, Vec<String>)> {
                let place = |index: usize| at(&[steps, &[&index.to_string()]].concat());
                names.iter().enumerate().map(|(index, name)| (name.clone(), place(index))).collect()
            };
            let shared = hops(&["fallback"], &model.fallback);
            let mut leads = Vec::new();
            for (version, settings) in &model.versions.0 {
                let full = format!("{name}@{version}");
                let mut own = hops(&["versions", version, "fallback"], &settings.fallback);
                own.extend(shared.iter().cloned());
                leads.push((full.clone(), at(&["versions", version])));
                graph.insert(full, own);
            }
            if leads.is_empty() {
                leads = shared;
            }
            graph.insert(name.clone(), leads);
        }
    }
    graph
}
