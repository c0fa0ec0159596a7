//! Whole answers: all their texts at once, before any of it goes out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cut::{self, Cut};
use super::slots;
use super::together;
use super::watch::Watch;
use crate::chat::Answer;
use crate::fault::Fault;
use crate::plugin::{Ask, Origin, Phase, Segment};

/// Asks all watchers about the answer, and cuts out of it what they want to have cut out.
///
/// # Errors
/// The answer is withheld.
pub(super) async fn inspect(watch: &Watch, answer: &mut Answer) -> Result<(), Fault> {
    let segments = segments(answer);
    if segments.is_empty() {
        return Ok(());
    }
    let ask = Arc::new(Ask { context: watch.ask.context.clone(), segments });
    let asked = watch.watchers.iter().map(|watcher| watcher.plugin.inspect(Phase::Response, ask.clone()));
    let called = together(asked).await;
    let mut cuts: BTreeMap<u32, Vec<Cut>> = BTreeMap::new();
    for (watcher, called) in watch.watchers.iter().zip(called) {
        match watch.looked(watcher, called) {
            Err(fault) => {
                if watch.without(watcher, "response", &fault)? {
                    for segment in &ask.segments {
                        cuts.entry(segment.id).or_default().push(Cut::whole(segment.text.len()));
                    }
                }
            }
            Ok(verdict) => {
                let refusal = verdict.reject.as_ref();
                let found = watch.hear(watcher, "response", verdict.findings.iter(), refusal)?;
                for (segment, cut) in found {
                    cuts.entry(segment).or_default().push(cut);
                }
            }
        }
    }
    let cuts: BTreeMap<u32, Vec<Cut>> = cuts.into_iter().map(|(id, cuts)| (id, cut::sorted(cuts))).collect();
    if !cuts.is_empty() {
        apply(answer, &cuts);
    }
    Ok(())
}

fn segments(answer: &mut Answer) -> Vec<Segment> {
    let (mut segments, mut id) = (Vec::new(), 0);
    slots::each(answer, &mut |path, slot| {
        let text = slot.text();
        if !text.is_empty() {
            segments.push(Segment { id, origin: Origin::Assistant, path: path.into(), text: text.into() });
        }
        id += 1;
    });
    segments
}

fn apply(answer: &mut Answer, cuts: &BTreeMap<u32, Vec<Cut>>) {
    let mut id = 0;
    slots::each(answer, &mut |_, slot| {
        if let Some(cuts) = cuts.get(&id) {
            slot.cut(cuts);
        }
        id += 1;
    });
    // They would say letter by letter what was cut out.
    answer.choices.iter_mut().for_each(|choice| choice.logprobs = None);
}
