//! The hooks of a policy: when they are called, with what, and what they may return.

use rhai::Dynamic;

use super::request::kind;
use super::verdict::{Reaction, Rejection, Response, Route};
use crate::plan::{self, Hook};

/// What a hook said.
pub(super) enum Opinion {
    None,
    Route(Box<Route>),
    Respond(Box<Response>),
    Reject(Rejection),
    React(plan::Reaction),
}

/// A hook as policies define it.
pub(super) struct Form {
    pub(super) hook: Hook,
    /// The function's name.
    pub(super) name: &'static str,
    /// How its parameters are usually called; their number is what counts.
    pub(super) parameters: &'static [&'static str],
    /// What it may return.
    pub(super) returns: &'static str,
    /// The kinds of that.
    pub(super) takes: &'static [&'static str],
}

/// Kinds of what some hook may return.
pub(super) const OPINIONS: [&str; 4] = ["Route", "Response", "Rejection", "Reaction"];

/// All hooks, in the order of a request's life.
pub(super) const HOOKS: [Form; 4] = [
    Form {
        hook: Hook::OnRequest,
        name: "on_request",
        parameters: &["req"],
        returns: "route(…), split(…), respond(…), reject(…) or nothing",
        takes: &["Route", "Response", "Rejection"],
    },
    Form {
        hook: Hook::OnError,
        name: "on_error",
        parameters: &["req", "err"],
        returns: "next_target(), retry_after(ms), fail(), reject(…) or nothing",
        takes: &["Reaction", "Rejection"],
    },
    Form {
        hook: Hook::OnResponse,
        name: "on_response",
        parameters: &["req", "res"],
        returns: "reject(…) or nothing",
        takes: &["Rejection"],
    },
    Form {
        hook: Hook::OnComplete,
        name: "on_complete",
        parameters: &["req", "out"],
        returns: "nothing",
        takes: &[],
    },
];

/// Hooks of which people may have heard but which no version calls, and what to use instead.
pub(super) const NO_HOOKS: &[(&str, &str)] = &[
    ("on_attempt", "write `on_error(req, err)`, which is called between attempts"),
    ("on_chunk", "text is cut at random places there: write `req.stop_on([..])` or use a guard plugin"),
];

impl Form {
    /// The form of a hook.
    pub(super) fn of(hook: Hook) -> &'static Self {
        let [request, error, response, complete] = &HOOKS;
        match hook {
            Hook::OnRequest => request,
            Hook::OnError => error,
            Hook::OnResponse => response,
            Hook::OnComplete => complete,
        }
    }

    /// `fn on_error(req, err)`.
    pub(super) fn written(&self) -> String {
        format!("fn {}({})", self.name, self.parameters.join(", "))
    }

    /// What a returned value means for this hook.
    pub(super) fn opinion(&self, said: Dynamic) -> Result<Opinion, String> {
        if said.is_unit() || self.hook == Hook::OnComplete {
            return Ok(Opinion::None);
        }
        let opinion = if said.is::<Rejection>() {
            said.try_cast_result().map(Opinion::Reject)
        } else if self.hook == Hook::OnRequest && said.is::<Route>() {
            said.try_cast_result().map(|route| Opinion::Route(Box::new(route)))
        } else if self.hook == Hook::OnRequest && said.is::<Response>() {
            said.try_cast_result().map(|response| Opinion::Respond(Box::new(response)))
        } else if self.hook == Hook::OnError && said.is::<Reaction>() {
            said.try_cast_result::<Reaction>().map(|reaction| Opinion::React(reaction.0))
        } else {
            Err(said)
        };
        opinion.map_err(|other| format!("`{}` must return {}, not {}", self.name, self.returns, kind(&other)))
    }
}
