//! Tokens of a prompt that are counted because a budget asks.

use super::{Executor, Job};
use crate::fault::Fault;
use crate::ledger::{Entry, Size, Tab};
use crate::plan::Role;
use crate::providers::Target;
use crate::tokens::{Counter, Family};

impl Executor {
    /// A budget cannot bear the worst case, for which every byte of the prompt is a token: with the tokens counted, it may.
    pub(super) async fn counted(
        &self,
        job: &Job,
        tab: &Tab,
        target: &Target,
        (role, size): (Role, Size),
        refused: Fault,
    ) -> Result<Entry, Fault> {
        let preset = target.vendor.preset.as_deref();
        let names = [target.name.model.clone(), preset.unwrap_or_default().into()];
        if target.changes_prompt() || !Family::of(&names.each_ref().map(|name| &**name)).exact {
            return Err(refused);
        }
        let Some(request) = job.carry.counted() else { return Err(refused) };
        let count =
            move |counter: &Counter| counter.prompt_at_most(&request, &names.each_ref().map(|name| &**name));
        match self.counter.beside(count).await.flatten() {
            Some(most) => {
                let size = Size { prompt_most: size.prompt_most.min(most), ..size };
                tab.open_sized(&target.name, preset, role, size).await
            }
            None => Err(refused),
        }
    }
}
