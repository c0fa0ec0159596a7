//! Checks of a compiled policy that the language leaves to run time: unknown functions, properties and targets.

mod arguments;
mod kinds;

use std::collections::{BTreeMap, BTreeSet};

use rhai::{
    AST, ASTFlags, ASTNode, Dynamic, Expr, FnCallExpr, Ident, Map, Position, ScriptFuncDef, Stmt, StmtBlock,
};

use super::hook::{self, HOOKS, NO_HOOKS};
use super::language::FUNCTIONS;
use super::library::File;
use super::patterns::Patterns;
use super::plugins::{Ability, Plugins};
use super::slips;
use super::suggest::hint;
use super::tables::Table;
use super::{Names, candidate, moment, narrow, ranking, series, verdict, vocabulary};
use crate::caller::Priority;
use crate::facts::fit::Need;
use crate::facts::measure::{TIERS, measure};
use crate::plan::{Late, STRATEGIES};
use crate::telemetry;

/// A finding and its place.
pub(super) type Finding = (Position, String);

/// What the checks know beside the file itself.
pub(super) struct Surroundings<'a> {
    /// The file as written.
    pub(super) text: &'a str,
    pub(super) names: &'a Names,
    pub(super) patterns: &'a Patterns,
    /// Constants of the file, by name.
    pub(super) constants: &'a BTreeMap<String, Dynamic>,
    /// Imported files, by the name under which they are imported.
    pub(super) imports: &'a BTreeMap<String, File>,
    /// The configuration's `data:`.
    pub(super) tables: &'a Table,
    pub(super) plugins: &'a dyn Plugins,
}

/// An `import` statement with a literal path: the path, its place, and the name it gets.
pub(super) struct Import {
    pub(super) path: Result<String, ()>,
    pub(super) at: Position,
    pub(super) alias: String,
}

/// All imports of a file.
pub(super) fn imports(ast: &AST) -> Vec<Import> {
    let mut found = Vec::new();
    walk(ast, |node| {
        let ASTNode::Stmt(Stmt::Import(import, _)) = node else { return };
        let (path, alias) = &**import;
        let literal = match path {
            Expr::StringConstant(text, _) => Ok(text.to_string()),
            _ => Err(()),
        };
        found.push(Import { path: literal, at: path.position(), alias: alias.name.to_string() });
    });
    found
}

/// Everything that is suspicious in a file. Library files have no hooks.
pub(super) fn findings(ast: &AST, around: &Surroundings<'_>, is_library: bool) -> Vec<Finding> {
    let mut lint = Lint { around, ast, callable: callable(ast), metrics: BTreeMap::new(), found: Vec::new() };
    if !is_library {
        lint.hooks();
    }
    lint.hidden_words();
    walk(ast, |node| match node {
        ASTNode::Stmt(Stmt::FnCall(call, at)) => lint.call(call, *at, false),
        ASTNode::Expr(Expr::FnCall(call, at)) => lint.call(call, *at, false),
        ASTNode::Expr(Expr::MethodCall(call, at)) => lint.call(call, *at, true),
        ASTNode::Expr(expression @ Expr::Dot(..)) => lint.ability(expression),
        ASTNode::Expr(Expr::Variable(variable, _, at)) if !variable.2.is_empty() => {
            lint.imported_constant(variable.2.root(), variable.1.as_str(), *at);
        }
        _ => {}
    });
    lint.found.extend(kinds::findings(ast, around.tables, is_library));
    lint.found.sort_by_key(|(at, _)| (at.line(), at.position()));
    // What is wrong in one place is said once.
    lint.found.dedup_by_key(|(at, _)| (at.line(), at.position()));
    lint.found
}

/// Names that hide a constant in a library file, where constants are put in place of their names.
pub(super) fn shadows(ast: &AST, text: &str, constants: &BTreeMap<String, Dynamic>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut check = |name: &str, at: Position| {
        if constants.contains_key(name) {
            found.push((at, format!("`{name}` is already the name of a constant of this file")));
        }
    };
    for function in functions(ast) {
        let at = place(text, function);
        function.params.iter().for_each(|parameter| check(parameter, at));
    }
    walk(ast, |node| {
        if let ASTNode::Stmt(Stmt::For(parts, _)) = node {
            check(&parts.0.name, parts.0.pos);
            if let Some(counter) = &parts.1 {
                check(&counter.name, counter.pos);
            }
        }
    });
    found
}

/// What is wrong with a name that has to stand in a section of the configuration.
fn unknown(noun: &str, section: &str, name: &str, known: &BTreeSet<String>) -> Option<String> {
    if known.contains(name) {
        return None;
    }
    let hint = super::suggest::hint(name, known.iter().map(String::as_str));
    let all: Vec<_> = known.iter().map(String::as_str).collect();
    Some(match all.is_empty() {
        true => format!("unknown {noun} `{name}`: there are none under `{section}:`"),
        false => format!("unknown {noun} `{name}`{hint}; under `{section}:` are {}", all.join(", ")),
    })
}

/// Line and column of a hook, if the file defines it.
pub(super) fn hook_place(ast: &AST, name: &str, text: &str) -> Option<(u32, u32)> {
    let hook = functions(ast).find(|function| function.name == name)?;
    Some(super::error::place(place(text, hook)))
}

struct Lint<'a> {
    around: &'a Surroundings<'a>,
    ast: &'a AST,
    /// Names that may hold closures: keys of map literals.
    callable: BTreeSet<String>,
    /// Whether a metric is counted or observed.
    metrics: BTreeMap<String, String>,
    found: Vec<Finding>,
}

impl Lint<'_> {
    fn report(&mut self, at: Position, message: impl Into<String>) {
        self.found.push((at, message.into()));
    }

    fn hooks(&mut self) {
        let ast = self.ast;
        let mut defined = false;
        for function in functions(ast) {
            let (name, parameters) = (function.name.as_str(), function.params.len());
            let at = place(self.around.text, function);
            match HOOKS.iter().find(|form| form.name == name) {
                Some(form) if form.parameters.len() == parameters => {
                    defined = true;
                    self.said(form, function);
                }
                Some(form) => {
                    defined = true;
                    self.report(at, format!("`{name}` is written `{}`", form.written()));
                }
                None if let Some((_, instead)) = NO_HOOKS.iter().find(|(hook, _)| *hook == name) => {
                    defined = true;
                    self.report(at, format!("there is no hook `{name}`: {instead}"));
                }
                None if name.starts_with("on_") => {
                    defined = true;
                    let hint = hint(name, HOOKS.iter().map(|form| form.name));
                    self.report(
                        at,
                        format!(
                            "unknown hook `{name}`{hint}; names that begin with `on_` are reserved for hooks"
                        ),
                    );
                }
                None => {}
            }
        }
        if !defined {
            self.report(Position::NONE, "the file defines no hook: write `fn on_request(req) { … }`");
        }
    }

    /// What a hook returns in so many words.
    fn said(&mut self, form: &hook::Form, hook: &ScriptFuncDef) {
        for said in ends(&alone(self.ast, hook)) {
            let problem = arguments::literal(&said).and_then(|value| form.opinion(value).err());
            if let Some(problem) = problem {
                self.report(said.start_position(), problem);
            }
        }
    }

    fn call(&mut self, call: &FnCallExpr, at: Position, method: bool) {
        let name = call.name.as_str();
        let word = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if call.op_token.is_some() || !word || name.starts_with("anon$") {
            return;
        }
        if !call.namespace.is_empty() {
            return self.imported(call, at);
        }
        if !self.exists(name) {
            let hint = slips::instead_of(name, method).unwrap_or_else(|| self.hint(name, method));
            return self.report(at, format!("unknown function `{name}`{hint}"));
        }
        let own = functions(self.ast).any(|function| function.name == name);
        if own {
            self.own_arguments(call, at, method);
        }
        if own
            || FUNCTIONS.contains(&name) && vocabulary::named(name).all(|entry| entry.is_method() != method)
        {
            return;
        }
        if let Some(later) = coming(name) {
            return self.report(at, format!("`{name}` is not part of this version: {later}"));
        }
        // Nobody asks the language's own function of this name to split a text that stands there in so many words.
        let ours = || call.args.first().is_none_or(|first| arguments::literal(first).is_some());
        if !FUNCTIONS.contains(&name) || !method && ours() {
            self.arguments(call, at, method);
        }
        self.literals(call, method);
    }

    fn imported(&mut self, call: &FnCallExpr, at: Position) {
        let root = call.namespace.root();
        let Some(file) = self.around.imports.get(root).filter(|_| call.namespace.path.len() == 1) else {
            return;
        };
        let Some(forms) = file.functions.get(call.name.as_str()) else {
            let hint = hint(&call.name, file.functions.keys().map(String::as_str));
            return self.report(at, format!("`{root}` has no function `{}`{hint}", call.name));
        };
        if forms.iter().all(|parameters| parameters.len() != call.args.len()) {
            self.report(at, other_arguments(&call.name, forms, call.args.len()));
        }
    }

    /// `teams::PAYING`: constants of other files are seen where they are exported.
    fn imported_constant(&mut self, root: &str, name: &str, at: Position) {
        let Some(file) = self.around.imports.get(root) else { return };
        if !file.module.contains_var(name) {
            self.report(
                at,
                format!("`{root}` shows no constant `{name}`: write `export const {name} = …` there"),
            );
        }
    }

    /// Calls of the file's own functions.
    fn own_arguments(&mut self, call: &FnCallExpr, at: Position, method: bool) {
        let name = call.name.as_str();
        if FUNCTIONS.contains(&name)
            || vocabulary::named(name).next().is_some()
            || self.callable.contains(name)
        {
            return;
        }
        let own = functions(self.ast).filter(|function| function.name == name);
        let forms: Vec<Vec<String>> =
            own.map(|function| function.params.iter().map(ToString::to_string).collect()).collect();
        let given = call.args.len();
        // Behind a dot, the value before it is `this`.
        if forms
            .iter()
            .all(|parameters| parameters.len() != given && !(method && parameters.len() == given + 1))
        {
            self.report(at, other_arguments(name, &forms, given));
        }
    }

    /// Functions of the file that take the place of a word without which there is no policy.
    fn hidden_words(&mut self) {
        for function in functions(self.ast) {
            let (name, parameters) = (function.name.as_str(), function.params.len());
            let word = vocabulary::named(name).find(|entry| entry.parameters.len() == parameters);
            if let Some(word) = word.filter(|_| ["route", "split", "reject", "respond"].contains(&name)) {
                let at = place(self.around.text, function);
                let written = word.row.signature;
                self.report(at, format!("this function would hide `{written}`: call it otherwise"));
            }
        }
    }

    fn exists(&self, name: &str) -> bool {
        FUNCTIONS.contains(&name)
            || vocabulary::named(name).next().is_some()
            || self.callable.contains(name)
            || functions(self.ast).any(|function| function.name == name)
    }

    fn hint(&self, name: &str, method: bool) -> String {
        let ast = self.ast;
        if vocabulary::vocabulary().iter().any(|entry| entry.is_property() && entry.name == name) {
            return format!(" (`{name}` is a property: write it without parentheses)");
        }
        // Behind a dot, a method of the gateway's own values is meant rather than a function of the language.
        let methods = vocabulary::methods().filter(|_| method);
        let meant = hint(name, methods);
        if !meant.is_empty() {
            return meant;
        }
        let language: &[&str] = FUNCTIONS;
        let own = functions(ast).map(|function| function.name.as_str());
        hint(name, own.chain(vocabulary::function_names()).chain(language.iter().copied()))
    }

    fn arguments(&mut self, call: &FnCallExpr, at: Position, method: bool) {
        let given = call.args.len();
        let is_function = |entry: &&vocabulary::Entry| entry.form == vocabulary::Form::Function;
        // `route(…)` is the function, not `plugin.route(…)` with the plugin in front.
        let plain = !method && vocabulary::named(&call.name).any(|entry| is_function(&entry));
        let meant = || vocabulary::named(&call.name).filter(move |entry| !plain || is_function(entry));
        let fits = |entry: &vocabulary::Entry| {
            entry.parameters.len() + usize::from(entry.is_method()) == given + usize::from(method)
        };
        if meant().any(fits) {
            return;
        }
        let written: Vec<_> = meant().map(|entry| format!("`{}`", entry.row.signature)).collect();
        if !written.is_empty() {
            let (name, written) = (&call.name, written.join(" or "));
            self.report(at, format!("`{name}` is written {written}, here it has {given} arguments"));
        }
    }

    /// Arguments that stand there in so many words can be checked now.
    fn literals(&mut self, call: &FnCallExpr, method: bool) {
        let name = call.name.as_str();
        let argument = if method || call.args.len() > 1 { call.args.first() } else { call.args.last() };
        let Some(argument) = argument else { return };
        match (name, method) {
            (
                "route" | "target" | "candidates" | "cheapest" | "fastest" | "least_busy" | "rank_by"
                | "health" | "race" | "vote",
                false,
            )
            | ("then", _) => self.target(argument),
            ("split", false) if call.args.len() == 1 => self.target(argument),
            ("best_of" | "merged", false) => call.args.iter().for_each(|targets| self.target(targets)),
            ("cost", false) => call.args.iter().skip(1).for_each(|target| self.target(target)),
            ("plugin", false) => self.plugin(argument),
            ("require" | "avoid", true) => self.constraint(name, argument),
            _ => {}
        }
        if let Some(Expr::Map(labels, _)) =
            call.args.iter().find(|argument| matches!(argument, Expr::Map(..)))
            && method
            && ["add", "observe"].contains(&name)
        {
            for (key, _) in labels.0.iter().filter(|(key, _)| !telemetry::is_label(&key.name)) {
                self.report(key.pos, series::not_a_label(&key.name));
            }
        }
        if let Some(Expr::Map(weights, _)) = call.args.last().filter(|_| name == "rank_by") {
            for (key, _) in weights.0.iter().filter(|(key, _)| measure(&key.name).is_none()) {
                self.report(key.pos, ranking::not_a_measure(&key.name));
            }
        }
        let all = call.args.iter().enumerate();
        let texts = all.filter_map(|(place, argument)| match argument {
            Expr::StringConstant(text, at) => Some((place, text.as_str(), *at)),
            _ => None,
        });
        for (place, text, at) in texts {
            if let Some(problem) = self.wrong(name, place + usize::from(!method), text) {
                self.report(at, problem);
            }
        }
    }

    /// What is wrong with a text as an argument of a word; `place` counts from 1 where there is no value before the dot.
    fn wrong(&self, name: &str, place: usize, text: &str) -> Option<String> {
        let unless = |fine: bool, problem: fn(&str) -> String| (!fine).then(|| problem(text));
        match (name, place) {
            ("timeout" | "first_token", _) => {
                verdict::duration(text).is_none().then(|| verdict::not_a_duration(name, text))
            }
            ("matches" | "count", _) => {
                self.around.patterns.regex(text).err().map(|problem| format!("{name}: {problem}"))
            }
            ("now", 1) => moment::zone(text).err(),
            ("between", _) => unless(moment::clock(text).is_some(), moment::not_a_time),
            ("hedge_after" | "standby_after", _) => {
                text.parse::<Late>().is_err().then(|| verdict::not_late(name, text))
            }
            ("priority", _) => unless(text.parse::<Priority>().is_ok(), verdict::not_a_priority),
            ("strategy", _) => unless(STRATEGIES.contains(&text), verdict::not_a_strategy),
            ("can", _) => unless(Need::named(text).is_some(), candidate::not_an_ability),
            ("tier", 1) => unless(TIERS.contains(&text), ranking::not_a_tier),
            ("rate", 1) if text != "key" => {
                unknown("limit", "rate_limits", text, &self.around.names.rate_limits)
            }
            ("budget", 1) => unknown("budget", "budgets", text, &self.around.names.budgets),
            ("fastest", 2) => unless(ranking::TIMES.contains(&text), ranking::not_a_time),
            _ => None,
        }
    }

    /// A plugin's name stands there in so many words.
    fn plugin(&mut self, argument: &Expr) {
        let Expr::StringConstant(name, at) = argument else {
            let problem =
                "plugin: write the name in so many words, so that it can be checked: `plugin(\"intent\")`";
            return self.report(argument.position(), problem);
        };
        let known = self.around.plugins.names();
        if !known.iter().any(|plugin| *plugin == name.as_str()) {
            self.report(*at, super::bridge::unknown(name, &known));
        }
    }

    /// `plugin("intent").classify(…)`: whether the plugin can do that.
    fn ability(&mut self, expression: &Expr) {
        let Expr::Dot(pair, ..) = expression else { return };
        let Expr::FnCall(named, _) = &pair.lhs else { return };
        let mut right = &pair.rhs;
        while let Expr::Dot(pair, ..) | Expr::Index(pair, ..) = right {
            right = &pair.lhs;
        }
        let Expr::MethodCall(call, at) = right else { return };
        if named.name == "metric"
            && let Some(Expr::StringConstant(metric, _)) = named.args.first()
        {
            let way = self.metrics.entry(metric.to_string()).or_insert_with(|| call.name.to_string());
            if *way != call.name.as_str() {
                self.report(*at, series::both_ways(metric));
            }
        }
        let wanted = [Ability::Classify, Ability::Inspect, Ability::Route, Ability::Call];
        if let Some(ability) = wanted.into_iter().find(|ability| call.name == ability.as_str())
            && named.name == "plugin"
            && let Some(Expr::StringConstant(plugin, _)) = named.args.first()
        {
            let plugins = self.around.plugins;
            let problem = plugins.lacks(plugin, ability).or_else(|| match call.args.first() {
                Some(Expr::StringConstant(function, _)) if ability == Ability::Call => {
                    plugins.lacks_function(plugin, function)
                }
                _ => None,
            });
            problem.into_iter().for_each(|problem| self.report(*at, problem));
        }
    }

    /// What targets must or must not be: something that any of them is.
    fn constraint(&mut self, function: &str, argument: &Expr) {
        let single = |key: &Ident, value| Dynamic::from(Map::from([(key.name.as_str().into(), value)]));
        match argument {
            Expr::Array(items, _) => items.iter().for_each(|item| self.constraint(function, item)),
            Expr::Map(entries, _) => {
                for (key, value) in &entries.0 {
                    let label = arguments::literal(value).map(|value| single(key, value));
                    self.narrowing(function, label, key.pos);
                }
            }
            Expr::Variable(variable, _, at) if variable.0.is_none() && variable.2.is_empty() => {
                let value = self.around.constants.get(variable.1.as_str()).cloned();
                self.narrowing(function, value, *at);
            }
            argument => self.narrowing(function, arguments::literal(argument), argument.start_position()),
        }
    }

    fn narrowing(&mut self, function: &str, what: Option<Dynamic>, at: Position) {
        let problem = what.and_then(|what| narrow::problem(function, &what, self.around.names));
        if let Some(problem) = problem {
            self.report(at, problem);
        }
    }

    fn target(&mut self, argument: &Expr) {
        match argument {
            Expr::StringConstant(text, at) => self.name(text, *at),
            Expr::Array(items, _) => items.iter().for_each(|item| self.target(item)),
            Expr::Map(entries, _) => {
                entries.0.iter().for_each(|(key, _)| self.name(&key.name, key.pos));
            }
            Expr::DynamicConstant(value, at) => self.value(value, *at),
            Expr::Variable(variable, _, at) if variable.0.is_none() && variable.2.is_empty() => {
                if let Some(value) = self.around.constants.get(variable.1.as_str()) {
                    self.value(value, *at);
                }
            }
            _ => {}
        }
    }

    fn value(&mut self, value: &Dynamic, at: Position) {
        if let Ok(text) = value.as_immutable_string_ref() {
            self.name(&text, at);
        } else if let Ok(items) = value.as_array_ref() {
            items.iter().for_each(|item| self.value(item, at));
        } else if let Ok(map) = value.as_map_ref() {
            map.keys().for_each(|key| self.name(key, at));
        }
    }

    fn name(&mut self, name: &str, at: Position) {
        if !self.around.names.knows(name) {
            self.report(at, self.around.names.unknown(name));
        }
    }
}

/// A call of a function that takes other arguments.
fn other_arguments(name: &str, forms: &[Vec<String>], given: usize) -> String {
    let written = forms.iter().map(|parameters| format!("`fn {name}({})`", parameters.join(", ")));
    format!("`{name}` is written {}, here it has {given} arguments", written.collect::<Vec<_>>().join(" or "))
}

/// What a word waits for that this version only knows by name.
fn coming(name: &str) -> Option<&'static str> {
    let mut all = vocabulary::named(name).map(|entry| entry.row.later);
    let first = all.next()??;
    all.all(|later| later.is_some()).then_some(first)
}

fn callable(ast: &AST) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    walk(ast, |node| {
        if let ASTNode::Expr(Expr::Map(entries, _)) = node {
            names.extend(entries.0.iter().map(|(key, _)| key.name.to_string()));
        }
    });
    names
}

fn walk(ast: &AST, mut visit: impl FnMut(&ASTNode<'_>)) {
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        if let Some(node) = path.last() {
            visit(node);
        }
        true
    });
}

/// Functions of the file in the order of their names, which is stable from load to load.
pub(super) fn functions(ast: &AST) -> impl Iterator<Item = &ScriptFuncDef> {
    let mut names: Vec<_> = ast.iter_functions().map(|f| (f.name.to_owned(), f.params.len())).collect();
    names.sort();
    names.into_iter().filter_map(|(name, n)| ast.shared_lib().get_script_fn(name, n).map(|f| &**f))
}

/// Where a function's name stands: the engine knows only its opening brace.
pub(super) fn place(text: &str, function: &ScriptFuncDef) -> Position {
    let brace = function.body.start_position();
    let Some(line) = brace.line() else { return brace };
    let found = text.lines().nth(line - 1).and_then(|line| {
        let before = &line[..line.find(function.name.as_str())?];
        u16::try_from(before.chars().count() + 1).ok()
    });
    match (found, u16::try_from(line)) {
        (Some(column), Ok(line)) => Position::new(line, column),
        _ => brace,
    }
}

/// The expressions that a function may give which stands alone here.
fn ends(function: &AST) -> Vec<Expr> {
    let (mut returned, mut given) = (Vec::new(), Vec::new());
    function.walk(&mut |path: &[ASTNode<'_>]| {
        match path {
            [ASTNode::Stmt(statement)] => given = last(statement),
            [.., ASTNode::Stmt(Stmt::Return(Some(said), how, _))] if !how.contains(ASTFlags::BREAK) => {
                returned.push((**said).clone());
            }
            _ => {}
        }
        true
    });
    returned.append(&mut given);
    returned
}

/// The expressions that a block may give whose last statement this is.
fn last(statement: &Stmt) -> Vec<Expr> {
    let ends = |block: &StmtBlock| block.statements().last().map(last).unwrap_or_default();
    match statement {
        Stmt::Expr(said) => match &**said {
            Expr::Stmt(block) => ends(block),
            said => vec![said.clone()],
        },
        Stmt::FnCall(call, at) => vec![Expr::FnCall(call.clone(), *at)],
        Stmt::Return(Some(said), how, _) if !how.contains(ASTFlags::BREAK) => vec![(**said).clone()],
        Stmt::If(parts, _) => [ends(&parts.body), ends(&parts.branch)].concat(),
        Stmt::Block(block) => ends(block),
        _ => Vec::new(),
    }
}

/// The file with this function alone. (`clone_functions_only_filtered` of rhai 1.27 keeps all of them.)
pub(super) fn alone(ast: &AST, function: &ScriptFuncDef) -> AST {
    let mut one = ast.clone_functions_only();
    one.retain_functions(|_, _, name, parameters| {
        name == function.name && parameters == function.params.len()
    });
    one
}
