//! The call of a policy's hook, with what Rhai learns about its functions kept from request to request.
//!
//! `Engine::call_fn` looks every function of a script up anew in each call: with all the combinations of argument
//! types that an operator may have, that is a third of a policy's time. The functions of an engine and a script never
//! change, so what was found once stays true.

use std::sync::{Mutex, PoisonError};

use rhai::{AST, Caches, Dynamic, Engine, EvalAltResult, ImmutableString, Scope};

use super::hook::Form;
use super::request::Request;

/// Caches kept for later calls: as many as calls may run at once.
const MAX_KEPT: usize = 64;

/// A prepared call of a hook, such as `on_error(req, err)`.
pub(super) struct Call {
    statement: AST,
    form: &'static Form,
    source: Option<ImmutableString>,
    kept: Mutex<Vec<Caches>>,
}

impl Call {
    /// `None` when the call itself does not compile, which is a defect.
    pub(super) fn of(engine: &Engine, policy: &AST, form: &'static Form) -> Option<Self> {
        let mut scope = Scope::new();
        for parameter in form.parameters {
            scope.push_constant(*parameter, ());
        }
        let call = format!("{}({})", form.name, form.parameters.join(", "));
        let statement = engine.compile_with_scope(&scope, call).ok()?;
        Some(Self { statement, form, source: policy.source().map(Into::into), kept: Mutex::default() })
    }

    /// The form of the hook that is called.
    pub(super) fn form(&self) -> &'static Form {
        self.form
    }

    /// What earlier calls learnt.
    pub(super) fn caches(&self) -> Caches {
        self.kept().pop().unwrap_or_default()
    }

    /// Keeps what this call learnt.
    pub(super) fn keep(&self, caches: Caches) {
        let mut kept = self.kept();
        if kept.len() < MAX_KEPT {
            kept.push(caches);
        }
    }

    /// Calls the hook.
    pub(super) fn run(
        &self,
        engine: &Engine,
        policy: &AST,
        request: &Request,
        second: &Dynamic,
        caches: &mut Caches,
    ) -> Result<Dynamic, Box<EvalAltResult>> {
        let mut global = engine.new_global_runtime_state();
        global.source.clone_from(&self.source);
        global.lib.push(policy.shared_lib().clone());
        global.tag = Dynamic::from(request.clone());
        let mut scope = Scope::new();
        scope.push_constant_dynamic("req", Dynamic::from(request.clone()));
        if let Some(name) = self.form.parameters.get(1) {
            scope.push_constant_dynamic(*name, second.clone());
        }
        #[allow(deprecated, reason = "the only public way to hand in caches that outlive a call")]
        engine.eval_statements_raw(&mut global, caches, &mut scope, self.statement.statements())
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Caches>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
