//! Who has a say between attempts: policies, without the executor's knowing of them.

use std::future::Future;
use std::pin::Pin;

use super::Job;
use crate::fault::Fault;
use crate::plan::Reaction;
use crate::providers::Target;

/// An opinion under way.
pub type Advising<'a> = Pin<Box<dyn Future<Output = Reaction> + Send + 'a>>;

/// Has a say between attempts.
pub trait Advice: Send + Sync {
    /// Whether a target of the plan may still be tried.
    fn allows(&self, target: &Target) -> bool;
    /// What to do after attempt number `attempt` (from 1) has failed; `None` when there is no opinion.
    fn failed<'a>(&'a self, target: &'a Target, attempt: u32, fault: &'a Fault) -> Option<Advising<'a>>;
}

impl Job {
    pub(super) fn allows(&self, target: &Target) -> bool {
        self.advice.as_ref().is_none_or(|advice| advice.allows(target))
    }

    pub(super) async fn reaction(&self, target: &Target, attempt: u32, fault: &Fault) -> Reaction {
        let advising = self.advice.as_ref().and_then(|advice| advice.failed(target, attempt, fault));
        match advising {
            Some(advising) => {
                // Who has a plugin asked about it waits no longer than the request may.
                tokio::time::timeout_at(self.deadline, advising).await.unwrap_or(Reaction::Usual)
            }
            None => Reaction::Usual,
        }
    }
}
