//! Files below `policies/lib/`, which policies import: `import "teams" as teams;`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rhai::{Engine, EvalAltResult, Module, ModuleResolver, OptimizationLevel, Position, Scope, Shared};

use super::Source;
use super::call_word;
use super::compile::{self, World};
use super::engine;
use super::error::{PolicyError, failure};
use super::lint::{self, Import};
use super::suggest::hint;

/// What the names of library files begin with.
pub(super) const PREFIX: &str = "lib/";

/// The compiled library files by their path below `lib/`, without `.rhai`.
#[derive(Default)]
pub(super) struct Library {
    files: BTreeMap<String, File>,
}

/// A compiled library file.
#[derive(Clone)]
pub(super) struct File {
    pub(super) module: Shared<Module>,
    /// Its public functions by name, with the names of their parameters.
    pub(super) functions: BTreeMap<String, Vec<Vec<String>>>,
}

impl Library {
    /// Compiles the library files among `sources`, each after those that it imports.
    pub(super) fn load(sources: &[&Source], world: &World<'_>, errors: &mut Vec<PolicyError>) -> Arc<Self> {
        let mut waiting: BTreeMap<&str, &Source> =
            sources.iter().filter_map(|source| Some((source.name.strip_prefix(PREFIX)?, *source))).collect();
        let all: BTreeSet<String> = waiting.keys().map(|name| (*name).to_owned()).collect();
        let mut library = Arc::new(Self::default());
        let mut failed = BTreeSet::new();
        while !waiting.is_empty() {
            let ready: Vec<&str> = waiting
                .iter()
                .filter(|(_, s)| !wanted(s).any(|w| waiting.contains_key(w.as_str())))
                .map(|(n, _)| *n)
                .collect();
            if ready.is_empty() {
                errors.extend(waiting.values().map(|source| circle(source, &all)));
                break;
            }
            for name in ready {
                let Some(source) = waiting.remove(name) else { continue };
                if wanted(source).any(|wanted| failed.contains(&wanted)) {
                    failed.insert(name.to_owned());
                    continue;
                }
                match file(source, world, &library, errors) {
                    Some(file) => {
                        let mut files = library.files.clone();
                        files.insert(name.to_owned(), file);
                        library = Arc::new(Self { files });
                    }
                    None => {
                        failed.insert(name.to_owned());
                    }
                }
            }
        }
        library
    }

    /// The file that an import names, or why there is none.
    pub(super) fn find(&self, import: &Import) -> Result<&File, String> {
        let Ok(path) = &import.path else {
            return Err("import needs a literal path: `import \"teams\" as teams;`".into());
        };
        if path.starts_with(['/', '\\']) || path.contains("..") || path.contains(':') {
            return Err(format!("`{path}`: imports are paths below `lib/` and cannot leave it"));
        }
        let bare = bare(path);
        self.files.get(bare).ok_or_else(|| {
            let hint = hint(bare, self.files.keys().map(String::as_str));
            format!("there is no usable library file `{PREFIX}{bare}.rhai`{hint}")
        })
    }

    /// What engines look imports up in.
    pub(super) fn shelf(self: &Arc<Self>) -> Shelf {
        Shelf(Arc::clone(self))
    }
}

/// The library as the engine asks for it, while `import` statements run.
pub(super) struct Shelf(Arc<Library>);

impl ModuleResolver for Shelf {
    fn resolve(
        &self,
        _: &Engine,
        _: Option<&str>,
        path: &str,
        at: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        match self.0.files.get(bare(path)) {
            Some(file) => Ok(Arc::clone(&file.module)),
            None => Err(EvalAltResult::ErrorModuleNotFound(path.to_owned(), at).into()),
        }
    }
}

fn bare(path: &str) -> &str {
    path.strip_suffix(".rhai").unwrap_or(path)
}

/// Compiles one library file.
fn file(
    source: &Source,
    world: &World<'_>,
    library: &Arc<Library>,
    errors: &mut Vec<PolicyError>,
) -> Option<File> {
    let before = errors.len();
    let host = world.host(source);
    let mut engine = engine::build(world.settings, &host);
    let parsed = compile::prepare(&mut engine, source, world, library, errors)?;
    if world.lines.is_none() {
        compile::check(&mut engine, source, world, &parsed, true, errors);
    }
    let shadows = lint::shadows(&parsed.ast, &source.text, &parsed.constants);
    errors.extend(shadows.into_iter().map(|(at, message)| PolicyError::new(&source.path, at, message)));
    if errors.len() > before {
        return None;
    }
    // Functions of a module see no constants of their file, so the optimiser puts the values in place of the names.
    let mut constants = Scope::new();
    constants.push_constant_dynamic("data", rhai::Dynamic::from(world.data.clone()));
    for (name, value) in &parsed.constants {
        constants.push_constant_dynamic(name.as_str(), value.clone());
    }
    engine.set_optimization_level(OptimizationLevel::Simple);
    let mut ast = match call_word::to_run(|| engine.compile_with_scope(&constants, &source.text)) {
        Ok(ast) => ast,
        Err(error) => {
            errors.push(PolicyError::syntax(&source.path, &source.text, &error, &[]));
            return None;
        }
    };
    ast.set_source(compile::path_text(&source.path));
    engine::start_clock();
    match Module::eval_ast_as_new(constants, &ast, &engine) {
        Ok(module) => {
            let public = ast.iter_functions().filter(|f| f.access == rhai::FnAccess::Public);
            let mut functions: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
            for function in public {
                let parameters = function.params.iter().map(ToString::to_string).collect();
                functions.entry(function.name.to_owned()).or_default().push(parameters);
            }
            Some(File { module: module.into(), functions })
        }
        Err(error) => {
            let found = failure(&error);
            let (line, column) = (found.line.max(1), found.column.max(1));
            errors.push(PolicyError { file: source.path.clone(), line, column, message: found.message });
            None
        }
    }
}

/// Files that a source imports, as far as it can be parsed.
fn wanted(source: &Source) -> impl Iterator<Item = String> {
    let ast = Engine::new_raw().compile(&source.text).unwrap_or_default();
    lint::imports(&ast).into_iter().filter_map(|import| import.path.ok()).map(|path| bare(&path).to_owned())
}

fn circle(source: &Source, all: &BTreeSet<String>) -> PolicyError {
    let ast = Engine::new_raw().compile(&source.text).unwrap_or_default();
    let import =
        lint::imports(&ast).into_iter().find(|i| i.path.as_ref().is_ok_and(|p| all.contains(bare(p))));
    let at = import.map_or(Position::NONE, |import| import.at);
    PolicyError::new(&source.path, at, "library files import each other in a circle")
}
