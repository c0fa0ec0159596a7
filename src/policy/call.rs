//! The call of a policy's hook, with what Rhai learns about its functions kept from request to request.
//!
//! `Engine::call_fn` looks every function of a script up anew in each call: with all the combinations of argument
//! types that an operator may have, that is a third of a policy's time. The functions of an engine and a script never
//! change, so what was found once stays true.
//!
//! The hook's statements run without the function around them: to what stops an evaluation (operations, time, nesting,
//! sizes) Rhai gives the place of the outermost call, which would be that of the hook itself, in no file.

use std::sync::{Mutex, PoisonError};

use rhai::{AST, ASTNode, Caches, Dynamic, Engine, EvalAltResult, ImmutableString, Scope, Stmt};

use super::hook::Form;
use super::lint;
use super::request::Request;

/// Caches kept for later calls: as many as calls may run at once.
const MAX_KEPT: usize = 64;

/// A prepared call of a hook, such as `on_error(req, err)`.
pub(super) struct Call {
    body: Vec<Stmt>,
    /// What the file calls the hook's parameters.
    parameters: Vec<ImmutableString>,
    form: &'static Form,
    source: Option<ImmutableString>,
    kept: Mutex<Vec<Caches>>,
}

impl Call {
    /// `None` when the policy does not define the hook.
    pub(super) fn of(policy: &AST, form: &'static Form) -> Option<Self> {
        let hook = policy.shared_lib().get_script_fn(form.name, form.parameters.len())?;
        let mut body = Vec::new();
        lint::alone(policy, hook).walk(&mut |path: &[ASTNode<'_>]| {
            if let [ASTNode::Stmt(statement)] = path {
                body.push((*statement).clone());
            }
            true
        });
        Some(Self {
            body,
            parameters: hook.params.to_vec(),
            form,
            source: policy.source().map(Into::into),
            kept: Mutex::default(),
        })
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
        // Constants of the hook are its own.
        global.scope_level = 1;
        let mut scope = Scope::new();
        for (name, value) in self.parameters.iter().zip([Dynamic::from(request.clone()), second.clone()]) {
            scope.push_dynamic(name.clone(), value);
        }
        #[allow(deprecated, reason = "the only public way to hand in caches that outlive a call")]
        engine.eval_statements_raw(&mut global, caches, &mut scope, &self.body)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Caches>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
