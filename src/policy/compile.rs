//! From a source text to a policy that can be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use rhai::{
    AST, ASTNode, Dynamic, Engine, EvalAltResult, ImmutableString, Module, OptimizationLevel, Position,
    Scope, Stmt,
};

use super::call::Call;
use super::call_word;
use super::engine::{self, Host};
use super::error::{PolicyError, RuntimeError, failure};
use super::hook::{Form, HOOKS, Opinion};
use super::journal::Journal;
use super::library::{File, Library};
use super::lint::{self, Surroundings};
use super::patterns::Patterns;
use super::plugins::Plugins;
use super::ranking::Tiers;
use super::request::Request;
use super::settings::{OnError, PolicySettings};
use super::state::State;
use super::tables::Table;
use super::trial::Lines;
use super::verdict::Place;
use super::{Names, Source};
use crate::plan::{Hook, Rule};

/// What all files of one generation are compiled against.
pub(super) struct World<'a> {
    pub(super) settings: &'a PolicySettings,
    pub(super) data: Table,
    pub(super) names: Arc<Names>,
    pub(super) patterns: Arc<Patterns>,
    pub(super) plugins: Arc<dyn Plugins>,
    /// Where statements say that they were reached: in tests. Such texts were checked before they were marked.
    pub(super) lines: Option<Arc<Lines>>,
    pub(super) tiers: Arc<Tiers>,
}

/// One file, ready to be asked.
pub(super) struct Policy {
    pub(super) host: Arc<Host>,
    /// What follows when it fails.
    pub(super) on_error: OnError,
    engine: Engine,
    ast: AST,
    /// By hook; `None` for those that it does not define.
    calls: [Option<Call>; HOOKS.len()],
    /// Where its hooks are defined: the place of failures that have none of their own.
    defined: [(u32, u32); HOOKS.len()],
}

impl World<'_> {
    pub(super) fn host(&self, source: &Source) -> Arc<Host> {
        self.host_with(Journal::new(&source.name, &source.path))
    }

    /// The host of a file of tests.
    pub(super) fn host_of_tests(&self, source: &Source) -> Arc<Host> {
        self.host_with(Journal::of_tests(&source.name, &source.path))
    }

    fn host_with(&self, journal: Journal) -> Arc<Host> {
        Arc::new(Host {
            journal,
            plugins: Arc::clone(&self.plugins),
            names: Arc::clone(&self.names),
            patterns: Arc::clone(&self.patterns),
            lines: self.lines.clone(),
            tiers: Arc::clone(&self.tiers),
        })
    }
}

/// Compiles and checks one policy file. All its errors are appended to `errors`.
pub(super) fn policy(
    source: &Source,
    world: &World<'_>,
    library: &Arc<Library>,
    errors: &mut Vec<PolicyError>,
) -> Option<Policy> {
    let before = errors.len();
    let host = world.host(source);
    let mut engine = engine::build(world.settings, &host);
    let parsed = prepare(&mut engine, source, world, library, errors)?;
    if world.lines.is_none() {
        check(&mut engine, source, world, &parsed, false, errors);
    }
    let on_error = on_error(&parsed, source, world.settings.on_error, errors);

    // Not optimised: that saves nothing that can be measured, and puts constants in place of their names even where a
    // parameter hides them. Constants are looked up while running.
    let mut ast = parsed.ast.clone_functions_only();
    ast.set_source(path_text(&source.path));
    let mut constants = Module::new();
    constants.set_var("data", Dynamic::from(world.data.clone()));
    constants.set_var("state", Dynamic::from(State));
    for (name, value) in &parsed.constants {
        constants.set_var(name.as_str(), value.clone());
    }
    engine.register_global_module(constants.into());
    let places = HOOKS.each_ref().map(|form| lint::hook_place(&parsed.ast, form.name, &source.text));
    let defined = places.map(|place| place.unwrap_or((1, 1)));
    let calls = HOOKS.each_ref().map(|form| Call::of(&ast, form));
    (errors.len() == before).then_some(Policy { host, on_error, engine, ast, calls, defined })
}

impl Policy {
    /// Whether the policy defines the hook.
    pub(super) fn has(&self, hook: Hook) -> bool {
        self.calls[hook as usize].is_some()
    }

    /// Asks one of the policy's hooks. `second` is what it gets besides the request.
    pub(super) fn ask(
        &self,
        hook: Hook,
        request: &Request,
        second: &Dynamic,
    ) -> Result<Opinion, RuntimeError> {
        let Some(call) = &self.calls[hook as usize] else { return Ok(Opinion::None) };
        engine::start_clock();
        let mut caches = call.caches();
        // A defect in a host function costs this policy's answer, not the worker.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            call.run(&self.engine, &self.ast, request, second, &mut caches)
        }));
        if outcome.is_ok() {
            call.keep(caches);
        }
        match outcome {
            Ok(Ok(said)) => call.form().opinion(said).map_err(|problem| self.complaint(hook, &problem)),
            Ok(Err(error)) => Err(self.failed(hook, &error)),
            Err(_panic) => {
                Err(self.complaint(hook, "a function of the gateway panicked: please report this defect"))
            }
        }
    }

    /// Does what a finished evaluation wanted to be seen outside of its request.
    pub(super) fn carry_out(&self, request: &Request) {
        // What happened long ago happens once.
        if request.wishes().is_mute() || request.facts().body.notes().is_some() {
            return;
        }
        let (effects, left_out) = request.wishes().take_effects();
        if !effects.is_empty() {
            self.host.journal.carry_out(&effects, left_out, &request.facts().request_id);
        }
    }

    /// The rule of a verdict that was said at `place`.
    pub(super) fn rule(&self, hook: Hook, place: Option<&Place>, name: Option<Arc<str>>) -> Rule {
        let line = place.map_or(self.defined[hook as usize].0, |place| place.line);
        let file = place.and_then(|place| place.file.as_ref()).map(ImmutableString::as_str);
        Rule { name, ..self.host.journal.rule(hook, line, file) }
    }

    /// The failure of a policy that waited for one plugin after the other.
    pub(super) fn too_many_rounds(&self, hook: Hook) -> RuntimeError {
        self.complaint(hook, "waited for plugins too often: ask fewer of them in one policy")
    }

    /// The failure of a policy that takes long, while too many others do.
    pub(super) fn too_slow(&self, hook: Hook) -> RuntimeError {
        self.complaint(hook, "takes long, and too many evaluations that do are waiting: make it do less")
    }

    fn failed(&self, hook: Hook, error: &EvalAltResult) -> RuntimeError {
        let found = failure(error);
        let file =
            found.source.map_or_else(|| Arc::clone(&self.host.journal.file), |file| Path::new(&file).into());
        let policy = Arc::clone(&self.host.journal.policy);
        let (line, column, message) = if found.line > 0 {
            (found.line, found.column, found.message)
        } else {
            // An operation of the language that has no place, such as the change of a list's element.
            let (line, column) = self.defined[hook as usize];
            (line, column, format!("{} (somewhere in `{}`)", found.message, Form::of(hook).name))
        };
        RuntimeError { policy, file, message, line, column }
    }

    fn complaint(&self, hook: Hook, message: &str) -> RuntimeError {
        let journal = &self.host.journal;
        let (policy, file) = (Arc::clone(&journal.policy), Arc::clone(&journal.file));
        let (line, column) = self.defined[hook as usize];
        RuntimeError { policy, file, message: message.to_owned(), line, column }
    }
}

/// A file that was parsed and whose top level was run.
pub(super) struct Parsed {
    pub(super) ast: AST,
    /// Its constants, as the top level left them.
    pub(super) constants: BTreeMap<String, Dynamic>,
    /// Variables of the top level, which functions cannot see.
    variables: BTreeSet<String>,
    /// Imported files by alias.
    imports: BTreeMap<String, File>,
}

/// Parses a file, makes its imports known to the engine, and runs its top level for the constants.
pub(super) fn prepare(
    engine: &mut Engine,
    source: &Source,
    world: &World<'_>,
    library: &Arc<Library>,
    errors: &mut Vec<PolicyError>,
) -> Option<Parsed> {
    engine.set_optimization_level(OptimizationLevel::None);
    engine.set_module_resolver(library.shelf());
    let mut ast = match call_word::to_run(|| engine.compile(&source.text)) {
        Ok(ast) => ast,
        Err(error) => {
            errors.push(PolicyError::syntax(&source.path, &source.text, &error, &[]));
            return None;
        }
    };
    ast.set_source(path_text(&source.path));
    let before = errors.len();
    let mut imports = BTreeMap::new();
    for import in lint::imports(&ast) {
        match library.find(&import) {
            Ok(file) => {
                engine.register_static_module(&import.alias, Arc::clone(&file.module));
                imports.insert(import.alias, file.clone());
            }
            Err(message) => errors.push(PolicyError::new(&source.path, import.at, message)),
        }
    }
    if errors.len() > before {
        return None;
    }
    let mut scope = Scope::new();
    scope.push_constant_dynamic("data", Dynamic::from(world.data.clone()));
    engine::start_clock();
    if let Err(error) = engine.run_ast_with_scope(&mut scope, &ast) {
        let found = failure(&error);
        let (line, column) = (found.line.max(1), found.column.max(1));
        errors.push(PolicyError { file: source.path.clone(), line, column, message: found.message });
        return None;
    }
    let (mut constants, mut variables) = (BTreeMap::new(), BTreeSet::new());
    for (name, constant, value) in scope.iter().filter(|(name, ..)| *name != "data") {
        if constant {
            constants.insert(name.to_owned(), value);
        } else {
            variables.insert(name.to_owned());
        }
    }
    Some(Parsed { ast, constants, variables, imports })
}

/// Everything that can be found without a request: unknown variables, functions, properties, targets.
pub(super) fn check(
    engine: &mut Engine,
    source: &Source,
    world: &World<'_>,
    parsed: &Parsed,
    is_library: bool,
    errors: &mut Vec<PolicyError>,
) {
    let mut known = Scope::new();
    known.push_constant("data", ());
    known.push_constant("state", ());
    for name in parsed.constants.keys() {
        known.push_constant(name.as_str(), ());
    }
    engine.set_strict_variables(true);
    let strict = engine.compile_with_scope(&known, &source.text);
    engine.set_strict_variables(false);
    if let Err(error) = &strict {
        errors.push(undefined(source, error, parsed));
    }
    let around = Surroundings {
        text: &source.text,
        names: &world.names,
        patterns: &world.patterns,
        constants: &parsed.constants,
        imports: &parsed.imports,
        tables: &world.data,
        plugins: &*world.plugins,
    };
    let found = lint::findings(strict.as_ref().unwrap_or(&parsed.ast), &around, is_library);
    errors.extend(found.into_iter().map(|(at, message)| PolicyError::new(&source.path, at, message)));
}

fn undefined(source: &Source, error: &rhai::ParseError, parsed: &Parsed) -> PolicyError {
    if let rhai::ParseErrorType::VariableUndefined(name) = error.err_type()
        && parsed.variables.contains(name)
    {
        let message =
            format!("functions cannot see the variable `{name}` of the top level: write `const {name} = …`");
        return PolicyError::new(&source.path, error.position(), message);
    }
    let mut words: Vec<_> = parsed.constants.keys().map(String::as_str).collect();
    words.push("data");
    for function in lint::functions(&parsed.ast) {
        words.extend(function.params.iter().map(ImmutableString::as_str));
    }
    PolicyError::syntax(&source.path, &source.text, error, &words)
}

/// `const ON_ERROR = "skip";` of a file goes before the settings.
fn on_error(parsed: &Parsed, source: &Source, default: OnError, errors: &mut Vec<PolicyError>) -> OnError {
    if parsed.variables.contains("ON_ERROR") {
        let message = "`ON_ERROR` counts where it is a constant: write `const ON_ERROR = …`";
        errors.push(PolicyError::new(&source.path, declared(&parsed.ast, "ON_ERROR"), message));
    }
    let Some(word) = parsed.constants.get("ON_ERROR") else { return default };
    match word.as_immutable_string_ref().as_deref().map(ImmutableString::as_str) {
        Ok("deny") => OnError::Deny,
        Ok("skip") => OnError::Skip,
        _ => {
            let at = declared(&parsed.ast, "ON_ERROR");
            let message = format!("ON_ERROR is \"deny\" or \"skip\", not {word:?}");
            errors.push(PolicyError::new(&source.path, at, message));
            default
        }
    }
}

/// Where a name of the top level gets its value.
fn declared(ast: &AST, name: &str) -> Position {
    let mut at = Position::NONE;
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let [ASTNode::Stmt(Stmt::Var(parts, ..))] = path
            && parts.0.name == name
        {
            at = parts.1.position();
        }
        true
    });
    at
}

pub(super) fn path_text(path: &Path) -> ImmutableString {
    path.display().to_string().into()
}
