//! The conversation that `previous_response_id` names, as far as this gateway knows it.

use std::sync::Arc;

use super::errand::is_under_way;
use super::ids;
use crate::api::openai_chat::presentable;
use crate::fault::{Fault, Retry};
use crate::json::Inlined;
use crate::providers::Target;
use crate::store::{Kept, Shelf};
use crate::target::TargetName;

/// What came before a request.
#[derive(Debug, Default)]
pub(super) struct Before {
    id: Option<Box<str>>,
    found: Found,
}

#[derive(Debug, Default)]
enum Found {
    #[default]
    Nothing,
    /// A provider may know the id; we do not.
    Unknown,
    /// The last answer is kept, what it continues is not.
    Partly(Arc<Kept>),
    /// Everything, the oldest first.
    Whole(Vec<Arc<Kept>>),
}

impl Before {
    /// Looks for the conversation. Nothing is decoded yet.
    ///
    /// # Errors
    /// `BadRequest` where only this gateway could know the id, and knows it no more.
    pub(super) fn find(id: Option<&str>, shelf: &Shelf) -> Result<Self, Fault> {
        let Some(id) = id else { return Ok(Self::default()) };
        let found = match shelf.conversation(id) {
            Ok(whole) => Found::Whole(whole),
            Err(_) => match shelf.get(id) {
                Some(last) if last.native => Found::Partly(last),
                Some(_) => return Err(unknown(id)),
                None if ids::is_ours(id) => return Err(unknown(id)),
                None => Found::Unknown,
            },
        };
        Ok(Self { id: Some(id.into()), found })
    }

    /// Its earlier turns, the oldest first.
    ///
    /// # Errors
    /// `BadRequest` where they are not kept here; another target may know them.
    pub(super) fn conversation(&self) -> Result<impl Iterator<Item = &Kept>, Fault> {
        let id = self.id.as_deref().unwrap_or_default();
        let whole = match &self.found {
            Found::Nothing => &[],
            Found::Whole(whole) => whole.as_slice(),
            Found::Unknown | Found::Partly(_) => return Err(unknown(id).retry(Retry::Elsewhere)),
        };
        if whole.iter().any(|kept| is_under_way(kept)) {
            let text =
                "the previous response is still in the making at its provider, and only that can continue it";
            return Err(Fault::bad_request(text, "previous_response_id").retry(Retry::Elsewhere));
        }
        Ok(whole.iter().map(|kept| &**kept))
    }

    /// The provider that keeps the conversation itself.
    pub(super) fn keeper(&self) -> Option<&TargetName> {
        let last = match &self.found {
            Found::Nothing | Found::Unknown => return None,
            Found::Partly(last) => last,
            Found::Whole(whole) => whole.last()?,
        };
        last.native.then_some(&last.target)
    }

    /// Whether this target knows by itself what the id means: it made the answer, or nobody here has ever seen it.
    pub(super) fn is_known_to(&self, target: &Target) -> bool {
        match self.found {
            Found::Nothing | Found::Unknown => true,
            _ => self.keeper().is_some_and(|keeper| keeper.provider == target.name.provider),
        }
    }

    /// Whether some of it was never here.
    pub(super) fn is_unseen(&self) -> bool {
        matches!(self.found, Found::Unknown | Found::Partly(_))
    }

    /// What of that is media.
    pub(super) fn inlined(&self) -> Inlined {
        match &self.found {
            Found::Whole(whole) => whole.iter().fold(Inlined::default(), |all, kept| all.and(kept.inlined)),
            _ => Inlined::default(),
        }
    }

    /// Bytes of everything that came before.
    pub(super) fn bytes(&self) -> usize {
        match &self.found {
            Found::Whole(whole) => whole.iter().map(|kept| kept.request.len() + kept.answer.len()).sum(),
            _ => 0,
        }
    }
}

/// The fault for an id that nobody knows, in OpenAI's words.
fn unknown(id: &str) -> Fault {
    let id = presentable(id, 80);
    let text = format!(
        "previous response with id '{id}' not found: it was never kept here (`store: false`), or is kept no longer"
    );
    Fault::bad_request(text, "previous_response_id").code("previous_response_not_found")
}
