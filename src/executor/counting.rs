//! Tokens that are counted here: of a prompt because a budget asks, of an answer because its provider does not say.

use super::said::written;
use super::{Answered, Executor, Job};
use crate::chat::Usage;
use crate::facts::market::Scale as _;
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

    /// A whole answer whose provider says nothing of its use: the prompt, and what was written, as streams are estimated
    /// that end without it. Who says that words cost nothing has not counted.
    pub(super) fn reckoned(&self, job: &Job, answered: Answered) -> Answered {
        let Answered::Whole(mut relayed, target) = answered else { return answered };
        if relayed.usage.is_none_or(|usage| usage.total() == 0 && usage.billed.is_none()) {
            let own = job.carry.size();
            // What we ask for ourselves is answered by its text alone.
            let bytes = written(&relayed.body).or(own.map(|_| relayed.body.len() as u64));
            if let Some(bytes) = bytes.filter(|bytes| *bytes > 0 || relayed.usage.is_none()) {
                let input = self.counter.likely(&target.name, own.map_or(job.tokens, |size| size.prompt));
                let output = self.counter.heard(&target.name, bytes);
                // What else it says holds: the service, and what it cost.
                let told = relayed.usage.unwrap_or_default();
                relayed.usage = Some(Usage { input, output, estimated: true, ..told });
            }
        }
        Answered::Whole(relayed, target)
    }
}
