//! One file of tests, merged onto the policy that it is for.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rhai::{AST, CallFnOptions, Dynamic, Engine, EvalAltResult, Module, Scope};

use super::lines::Lines;
use super::stage::Stage;
use super::words;
use crate::policy::Source;
use crate::policy::compile::{self, World};
use crate::policy::engine::{self, Host};
use crate::policy::error::{PolicyError, failure};
use crate::policy::hook::HOOKS;
use crate::policy::library::Library;
use crate::policy::lint;
use crate::policy::state::State;

/// What the names of test functions begin with.
const PREFIX: &str = "test_";
/// The time is looked at each so many operations.
const LOOK_EVERY: u64 = 128;

/// A file of tests, ready to run.
pub(super) struct TestFile {
    pub(super) path: PathBuf,
    pub(super) functions: Vec<Function>,
    policy: PathBuf,
    /// Functions that are the policy's own.
    of_policy: Vec<String>,
    engine: Engine,
    host: Arc<Host>,
    ast: AST,
    stage: Arc<Stage>,
    until: Arc<Mutex<Option<Instant>>>,
    /// A test that takes longer is stopped, where nothing else is said: what all of them may take together.
    longest: Duration,
}

/// One test.
pub(super) struct Function {
    pub(super) name: String,
    line: u32,
    column: u32,
}

impl TestFile {
    /// Compiles a test file together with its policy. What is wrong is appended to `errors`.
    pub(super) fn compile(
        test: &Source,
        policy: &Source,
        stage: Stage,
        world: &World<'_>,
        library: &Arc<Library>,
        errors: &mut Vec<PolicyError>,
    ) -> Option<Self> {
        let before = errors.len();
        let host = world.host_of_tests(test);
        let mut engine = engine::build(world.settings, &host);
        let stage = Arc::new(stage);
        words::register(&mut engine, &stage);
        let until = limit(&mut engine);
        let of_policy = compile::prepare(&mut engine, policy, world, library, errors)?;
        let of_test = compile::prepare(&mut engine, test, world, library, errors)?;
        let is_hook = |name: &str| HOOKS.iter().any(|form| form.name == name);
        // `clone_functions_only_filtered` of this library takes all of them.
        let mut own = of_policy.ast.clone_functions_only();
        own.retain_functions(|_, _, name, _| !is_hook(name));
        let functions =
            |ast: &AST| -> Vec<String> { ast.iter_functions().map(|f| f.name.to_owned()).collect() };
        let own_names = functions(&own);

        let mut constants = Module::new();
        constants.set_var("data", Dynamic::from(world.data.clone()));
        constants.set_var("state", Dynamic::from(State));
        for (name, value) in of_policy.constants.iter().chain(&of_test.constants) {
            constants.set_var(name.as_str(), value.clone());
        }
        engine.register_global_module(constants.into());

        let mut found = Vec::new();
        for function in lint::functions(&of_test.ast) {
            let at = lint::place(&test.text, function);
            if own_names.contains(&function.name.to_string()) || is_hook(&function.name) {
                let message =
                    format!("`{}` is a function of the policy: give the test's another name", function.name);
                errors.push(PolicyError::new(&test.path, at, message));
            }
            if !function.name.starts_with(PREFIX) {
                continue;
            }
            if !function.params.is_empty() {
                let message = format!("`{}`: a test takes no parameters", function.name);
                errors.push(PolicyError::new(&test.path, at, message));
            }
            let (line, column) = crate::policy::error::place(at);
            found.push(Function { name: function.name.to_string(), line, column });
        }
        if found.is_empty() {
            let message = format!("there is no test in this file: write `fn {PREFIX}…() {{ … }}`");
            errors.push(PolicyError::new(&test.path, rhai::Position::NONE, message));
        }
        found.sort_by_key(|function| (function.line, function.column));
        let mut ast = own.merge(&of_test.ast.clone_functions_only());
        ast.set_source(compile::path_text(&test.path));
        (errors.len() == before).then(|| Self {
            path: test.path.clone(),
            functions: found,
            policy: policy.path.clone(),
            of_policy: own_names,
            engine,
            host,
            ast,
            stage,
            until,
            longest: world.settings.tests_deadline.0,
        })
    }

    /// Runs a test: what failed, and where.
    pub(super) fn run(&self, function: &Function, until: Option<Instant>) -> Result<(), PolicyError> {
        self.stage.clear();
        let longest = Instant::now() + self.longest;
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(until.map_or(longest, |until| until.min(longest)));
        let options = CallFnOptions::new().eval_ast(false);
        let said: Result<Dynamic, _> = self.engine.call_fn_with_options(
            options,
            &mut Scope::new(),
            &self.ast,
            function.name.as_str(),
            (),
        );
        self.stage.clear();
        said.map(drop).map_err(|error| self.failed(function, &error))
    }

    /// What tests said (`print`) since the last time.
    pub(super) fn said(&self) -> Vec<String> {
        self.host.journal.heard()
    }

    fn failed(&self, function: &Function, error: &EvalAltResult) -> PolicyError {
        let found = failure(error);
        let message = match error.unwrap_inner() {
            EvalAltResult::ErrorTerminated(..) => {
                let longest = self.longest;
                format!(
                    "stopped: it takes longer than `policies.tests_deadline` ({longest:?}); an endless loop?"
                )
            }
            _ => words::legible(found.message),
        };
        let file = match innermost(error) {
            Some(name) if self.of_policy.iter().any(|own| own == name) => self.policy.clone(),
            _ => found.source.map_or_else(|| self.path.clone(), PathBuf::from),
        };
        let (mut line, mut column) = (found.line, found.column);
        if line == 0 {
            (line, column) = (function.line, function.column);
        }
        let column = self.lines().map_or(column, |lines| lines.column(&file, line, column));
        let message = format!("{}: {message}", function.name);
        PolicyError { file, line: line.max(1), column: column.max(1), message }
    }

    fn lines(&self) -> Option<&Lines> {
        self.stage.lines.as_deref()
    }
}

/// The script function in which it happened.
fn innermost(error: &EvalAltResult) -> Option<&str> {
    let (mut error, mut name) = (error, None);
    while let EvalAltResult::ErrorInFunctionCall(function, _, inner, _) = error {
        name = Some(function.as_str());
        error = inner;
    }
    name
}

/// A test has one time limit for everything that it does; each hook has the policies' own besides.
fn limit(engine: &mut Engine) -> Arc<Mutex<Option<Instant>>> {
    let until = Arc::new(Mutex::new(None::<Instant>));
    let limit = Arc::clone(&until);
    engine.on_progress(move |operations| {
        let late = operations % LOOK_EVERY == 0
            && limit
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_some_and(|until| Instant::now() > until);
        late.then_some(Dynamic::UNIT)
    });
    until
}
