//! What can be asked of which value: properties, methods and hooks, checked with the types that the vocabulary states.
//!
//! The types of the gateway's values are followed through variables, loops and closures as far as that is certain;
//! where it is not, nothing is said.

mod sense;

use std::collections::{BTreeMap, BTreeSet};

use rhai::{
    AST, ASTFlags, ASTNode, BinaryExpr, Dynamic, Expr, FnCallExpr, FnPtr, Position, ScriptFuncDef, Stmt,
};

use super::{Finding, alone, arguments, ends, functions, walk};
use crate::policy::hook::{HOOKS, OPINIONS};
use crate::policy::language::FUNCTIONS;
use crate::policy::suggest::hint;
use crate::policy::tables::Table;
use crate::policy::vocabulary::{self, ANYTHING, Entry, Form, Hooks, Kind, Type};
use sense::{noun, properties};

/// What the second parameter of a hook is called in the vocabulary; the first is always `req`.
const SECOND: [(&str, &str); 3] = [("on_error", "err"), ("on_response", "res"), ("on_complete", "out")];

/// Functions of the language that every value has.
const OF_ANYTHING: [&str; 5] = ["to_string", "to_debug", "type_of", "print", "debug"];

/// Types by the name of what has them.
type Types = BTreeMap<String, Type>;

/// All findings of a file. Functions of a library file mean a request by `req`, too.
pub(super) fn findings(ast: &AST, tables: &Table, is_library: bool) -> Vec<Finding> {
    let mut handed = handed(ast);
    if is_library {
        handed.extend(Kind::received("req").map(|kind| ("req".to_owned(), kind.of_one())));
    }
    let reach = reach(ast);
    let mut closures = Types::new();
    // A closure is typed by the call that it is handed to; closures within closures by another round.
    for _ in 0..3 {
        for function in functions(ast) {
            let mut reading = Reading::of(ast, tables, function, &handed, &closures, &reach);
            reading.check();
            let found = reading.closures;
            closures.extend(found);
        }
    }
    let mut all = Vec::new();
    for function in functions(ast) {
        let mut reading = Reading::of(ast, tables, function, &handed, &closures, &reach);
        reading.check();
        reading.said(function);
        reading.thrown_away(&reading.statements(), true);
        all.append(&mut reading.found);
    }
    all
}

/// The names that hooks give to what they are handed; helpers that use the same names mean the same.
fn handed(ast: &AST) -> Types {
    let mut handed = Types::new();
    for function in functions(ast).filter(|function| Hooks::named(&function.name).is_some()) {
        let second = SECOND.iter().find(|(hook, _)| *hook == function.name).map(|(_, receiver)| *receiver);
        for (name, receiver) in function.params.iter().zip([Some("req"), second]) {
            if let Some(kind) = receiver.and_then(Kind::received) {
                handed.insert(name.to_string(), kind.of_one());
            }
        }
    }
    handed
}

/// The hooks from which each function is called.
fn reach(ast: &AST) -> BTreeMap<String, Vec<Hooks>> {
    let mut calls: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for function in functions(ast) {
        let called = calls.entry(&function.name).or_default();
        walk(&alone(ast, function), |node| match node {
            ASTNode::Stmt(Stmt::FnCall(call, _)) => drop(called.insert(call.name.to_string())),
            ASTNode::Expr(Expr::FnCall(call, _) | Expr::MethodCall(call, _)) => {
                called.insert(call.name.to_string());
            }
            ASTNode::Expr(expression) => called.extend(closure(expression)),
            _ => {}
        });
    }
    let mut reach: BTreeMap<String, Vec<Hooks>> = BTreeMap::new();
    for (name, hook) in calls.keys().filter_map(|name| Some((*name, Hooks::named(name)?))) {
        let mut waiting = vec![name.to_owned()];
        let mut seen = BTreeSet::new();
        while let Some(name) = waiting.pop() {
            if seen.insert(name.clone()) {
                waiting.extend(calls.get(name.as_str()).into_iter().flatten().cloned());
                reach.entry(name).or_default().push(hook);
            }
        }
    }
    reach
}

/// One function as it is read.
struct Reading<'a> {
    ast: &'a AST,
    /// The configuration's `data:`.
    tables: &'a Table,
    body: AST,
    /// Types of parameters and variables; of those that are given several, nothing is known.
    known: Types,
    hooks: &'a [Hooks],
    /// Types of what closures are handed, by their names.
    closures: Types,
    found: Vec<Finding>,
}

impl<'a> Reading<'a> {
    fn of(
        ast: &'a AST,
        tables: &'a Table,
        function: &ScriptFuncDef,
        handed: &Types,
        closures: &Types,
        reach: &'a BTreeMap<String, Vec<Hooks>>,
    ) -> Self {
        let mut known = Types::new();
        known.extend(Kind::received("state").map(|kind| ("state".to_owned(), kind.of_one())));
        for parameter in &function.params {
            known.insert(parameter.to_string(), handed.get(parameter.as_str()).copied().unwrap_or(ANYTHING));
        }
        if let (Some(item), Some(last)) = (closures.get(function.name.as_str()), function.params.last()) {
            known.insert(last.to_string(), *item);
        }
        let mut reading = Self {
            ast,
            tables,
            body: alone(ast, function),
            known,
            hooks: reach.get(function.name.as_str()).map_or(&[], Vec::as_slice),
            closures: Types::new(),
            found: Vec::new(),
        };
        reading.learn();
        reading
    }

    /// What the function's variables are.
    fn learn(&mut self) {
        let body = self.body.clone();
        walk(&body, |node| match node {
            ASTNode::Stmt(Stmt::Var(parts, ..)) => {
                let what = self.type_of(&parts.1);
                self.define(&parts.0.name, what);
            }
            ASTNode::Stmt(Stmt::For(parts, _)) => {
                let item = item(self.type_of(&parts.2.expr));
                self.define(&parts.0.name, item);
                if let Some(counter) = &parts.1 {
                    self.define(&counter.name, ANYTHING);
                }
            }
            ASTNode::Stmt(Stmt::Assignment(parts)) => {
                if let Expr::Variable(variable, ..) = &parts.1.lhs {
                    let what = self.type_of(&parts.1.rhs);
                    self.define(&variable.1, what);
                }
            }
            _ => {}
        });
        self.found.clear();
    }

    fn define(&mut self, name: &str, what: Type) {
        let known = self.known.entry(name.to_owned()).or_insert(what);
        if known.word != what.word || known.list != what.list {
            *known = ANYTHING;
        }
    }

    fn check(&mut self) {
        let body = self.body.clone();
        body.walk(&mut |path: &[ASTNode<'_>]| {
            match path {
                [.., ASTNode::Stmt(statement)] => self.statement(statement),
                // What stands behind a dot or a bracket was read with what stands before it.
                [.., ASTNode::Expr(Expr::Dot(pair, ..)), ASTNode::Expr(expression)]
                    if std::ptr::eq(&pair.rhs, *expression) => {}
                [.., ASTNode::Expr(Expr::Index(pair, flags, _)), ASTNode::Expr(expression)]
                    if !flags.contains(ASTFlags::BREAK) && std::ptr::eq(&pair.rhs, *expression) => {}
                [.., ASTNode::Expr(expression)] => self.expression(expression),
                _ => {}
            }
            true
        });
        let mut seen = BTreeSet::new();
        self.found.retain(|(at, message)| seen.insert((at.line(), at.position(), message.clone())));
    }

    /// The statements of the function itself, in their order.
    fn statements(&self) -> Vec<Stmt> {
        let mut all = Vec::new();
        self.body.walk(&mut |path: &[ASTNode<'_>]| {
            if let [ASTNode::Stmt(statement)] = path {
                all.push((*statement).clone());
            }
            true
        });
        all
    }

    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Assignment(parts) => self.assigned(&parts.1.lhs),
            Stmt::FnCall(call, at) => drop(self.call(call, *at)),
            Stmt::If(parts, _) | Stmt::While(parts, _) | Stmt::Do(parts, ..) => self.truth(&parts.expr),
            Stmt::For(parts, _) => {
                self.table(&parts.2.expr);
                self.looped(&parts.2.expr);
            }
            _ => {}
        }
    }

    fn expression(&mut self, expression: &Expr) {
        self.type_of(expression);
        match expression {
            Expr::And(all, _) | Expr::Or(all, _) => all.iter().for_each(|one| self.truth(one)),
            // `x in list`.
            Expr::FnCall(call, _) if call.name == "contains" => {
                call.args.first().into_iter().for_each(|list| self.table(list));
                if let [list, asked] = &call.args[..] {
                    self.never(asked, list);
                }
            }
            Expr::FnCall(call, at) if call.op_token.is_some() => self.operator(call, *at),
            Expr::Dot(pair, ..) => {
                self.nothing_to_draw(pair);
                if let Expr::Dot(next, flags, _) | Expr::Index(next, flags, _) = &pair.rhs
                    && !flags.contains(ASTFlags::NEGATED)
                {
                    self.table_of(&pair.lhs, &next.lhs);
                }
            }
            _ => {}
        }
    }

    /// Verdicts that a hook returns but that are not for it.
    fn said(&mut self, function: &ScriptFuncDef) {
        let Some(form) = HOOKS.iter().find(|form| form.name == function.name) else { return };
        for said in ends(&self.body.clone()) {
            let what = self.type_of(&said);
            let verdict = what.kind().filter(|kind| !what.list && OPINIONS.contains(&kind.name));
            if let Some(kind) = verdict.filter(|kind| !form.takes.contains(&kind.name)) {
                let (hook, returns, noun) = (form.name, form.returns, kind.noun);
                let problem = format!("`{hook}` must return {returns}, not {noun}");
                self.found.push((said.start_position(), problem));
            }
        }
    }

    fn assigned(&mut self, to: &Expr) {
        let Expr::Dot(pair, ..) = to else { return };
        let property = match &pair.rhs {
            Expr::Index(entry, ..) => &entry.lhs,
            property => property,
        };
        let Expr::Property(parts, at) = property else { return };
        let Some(kind) = self.type_of(&pair.lhs).kind() else {
            let is_data = matches!(&pair.lhs, Expr::Variable(name, ..) if name.1 == "data");
            if is_data && !self.known.contains_key("data") {
                self.found
                    .push((*at, "`data` is the configuration's, and cannot be changed here".to_owned()));
            }
            return;
        };
        let instead = if parts.2 == "tags" { ": write `req.tag(\"key\", value)`" } else { "" };
        self.found.push((*at, format!("`{}` of {} cannot be changed{instead}", parts.2, kind.noun)));
    }

    fn type_of(&mut self, expression: &Expr) -> Type {
        match expression {
            Expr::Variable(variable, ..) if variable.2.is_empty() => {
                self.known.get(variable.1.as_str()).copied().unwrap_or(ANYTHING)
            }
            Expr::BoolConstant(..) | Expr::And(..) | Expr::Or(..) => plain("true/false"),
            Expr::IntegerConstant(..) => plain("number"),
            Expr::FloatConstant(..) => plain("decimal"),
            Expr::StringConstant(..) | Expr::InterpolatedString(..) => plain("text"),
            Expr::FnCall(call, at) => self.call(call, *at),
            Expr::Dot(pair, ..) => {
                let what = self.type_of(&pair.lhs);
                self.step(what, &pair.rhs)
            }
            Expr::Index(pair, flags, _) => {
                let each = item(self.type_of(&pair.lhs));
                self.behind(each, pair, *flags)
            }
            _ => ANYTHING,
        }
    }

    /// What is asked behind a bracket, of what the bracket gives.
    fn behind(&mut self, each: Type, pair: &BinaryExpr, flags: ASTFlags) -> Type {
        match &pair.rhs {
            Expr::Dot(next, ..) if !flags.contains(ASTFlags::BREAK) => self.step(each, &next.rhs),
            Expr::Index(next, flags_of_next, _) if !flags.contains(ASTFlags::BREAK) => {
                self.behind(item(each), next, *flags_of_next)
            }
            _ => each,
        }
    }

    fn call(&mut self, call: &FnCallExpr, at: Position) -> Type {
        let own = functions(self.ast).any(|function| function.name == call.name);
        if own || !call.namespace.is_empty() || call.op_token.is_some() {
            return ANYTHING;
        }
        let fits = |entry: &&Entry| {
            let receiver = usize::from(entry.form == Form::Method);
            entry.parameters.len() + receiver == call.args.len()
        };
        let Some(entry) = vocabulary::named(&call.name).find(fits) else { return ANYTHING };
        let gives = self.used(entry, at);
        // Which method it is that is called so, its name alone does not say.
        if entry.form != Form::Function {
            return ANYTHING;
        }
        self.found.extend(arguments::findings(entry, call));
        gives
    }

    /// What `what.rhs` is.
    fn step(&mut self, what: Type, rhs: &Expr) -> Type {
        match rhs {
            Expr::Property(parts, at) => self.property(what, &parts.2, *at),
            Expr::MethodCall(call, at) => self.method(what, call, *at),
            Expr::Dot(pair, ..) => {
                let next = self.step(what, &pair.lhs);
                self.listing(what, &pair.lhs, &pair.rhs);
                self.step(next, &pair.rhs)
            }
            Expr::Index(pair, flags, _) => {
                let named = self.step(what, &pair.lhs);
                let each = listed(what, &pair.lhs).map_or_else(|| item(named), |entry| entry.gives);
                self.behind(each, pair, *flags)
            }
            _ => ANYTHING,
        }
    }

    /// `req.headers.get("x-tier")`: what is read by brackets has no methods.
    fn listing(&mut self, what: Type, list: &Expr, next: &Expr) {
        let next = match next {
            Expr::Dot(pair, ..) => &pair.lhs,
            next => next,
        };
        if let Some(entry) = listed(what, list)
            && let Expr::MethodCall(call, at) = next
            && !["contains", "to_string", "to_debug", "type_of"].contains(&call.name.as_str())
        {
            let written = entry.row.signature.split(" → ").next().unwrap_or_default();
            self.found.push((*at, format!("`{}` has no `{}`: write `{written}`", entry.name, call.name)));
        }
        // Written like a property, it is the header of just this name.
        if let Some(entry) = listed(what, list).filter(|entry| entry.name == "headers")
            && let Expr::Property(parts, at) = next
            && parts.2.contains('_')
        {
            let meant = parts.2.replace('_', "-");
            let (list, name) = (entry.name, &parts.2);
            let problem =
                format!("write `{list}[\"{meant}\"]`, or `{list}[\"{name}\"]` if its name has a `_`");
            self.found.push((*at, problem));
        }
    }

    fn property(&mut self, what: Type, name: &str, at: Position) -> Type {
        let Some(kind) = what.kind() else {
            if let (Some(noun), Some(known)) = (noun(what), properties(what))
                && !known.contains(&name)
            {
                let hint = match name {
                    "length" | "size" if known.contains(&"len") => " (did you mean `len`?)".to_owned(),
                    _ => hint(name, known.iter().copied()),
                };
                self.found.push((at, format!("unknown property `{name}` of {noun}{hint}")));
            }
            return ANYTHING;
        };
        if let Some(entry) = vocabulary::of(kind).find(|entry| entry.is_property() && entry.name == name) {
            let gives = self.used(entry, at);
            return if entry.form == Form::Indexed { ANYTHING } else { gives };
        }
        if kind.is_open() {
            return ANYTHING;
        }
        let noun = kind.noun;
        let message = if vocabulary::of(kind).any(|entry| entry.name == name) {
            format!("`{name}` of {noun} is a method: write it with parentheses")
        } else {
            let all = vocabulary::of(kind).map(|entry| entry.name);
            format!("unknown property `{name}` of {noun}{}", hint(name, all))
        };
        self.found.push((at, message));
        ANYTHING
    }

    fn method(&mut self, what: Type, call: &FnCallExpr, at: Position) -> Type {
        let each = item(what);
        for argument in &call.args {
            if let Some(closure) = closure(argument).filter(|_| each != ANYTHING) {
                self.closures.insert(closure, each);
            }
        }
        let name = call.name.as_str();
        let Some(kind) = what.kind() else {
            self.plain_method(what, call, at);
            // `filter` and its like keep what a list is a list of.
            let keeps = ["filter", "sort", "drain", "retain"].contains(&name);
            return if keeps { what } else { ANYTHING };
        };
        let own = functions(self.ast).any(|function| function.name == name);
        let methods = || vocabulary::of(kind).filter(|entry| entry.name == name && entry.is_method());
        // Any function can be called with its first argument before the dot, where no method is called the same.
        let functions = vocabulary::named(name)
            .filter(|entry| entry.form == Form::Function && methods().next().is_none());
        let mut all = methods()
            .map(|entry| (entry, entry.parameters.len()))
            .chain(functions.map(|entry| (entry, entry.parameters.len().wrapping_sub(1))));
        if let Some((entry, _)) = all.find(|(_, parameters)| *parameters == call.args.len()) {
            if entry.is_method() {
                self.found.extend(arguments::findings(entry, call));
            }
            if entry.name == "then" {
                self.asked_together(call);
            }
            return self.used(entry, at);
        }
        let of_anything = OF_ANYTHING.contains(&name) || kind.is_open();
        if own || (FUNCTIONS.contains(&name) && methods().next().is_none() && of_anything) {
            return ANYTHING;
        }
        let noun = kind.noun;
        let written: Vec<_> = methods().map(|entry| format!("`{}`", entry.row.signature)).collect();
        let message = if !written.is_empty() {
            format!("`{name}` is written {}, here it has {} arguments", written.join(" or "), call.args.len())
        } else if vocabulary::of(kind).any(|entry| entry.name == name) {
            format!("`{name}` is a property of {noun}: write it without parentheses")
        } else if vocabulary::named(name).next().is_some() || FUNCTIONS.contains(&name) {
            let all = vocabulary::of(kind).filter(|entry| entry.is_method()).map(|entry| entry.name);
            format!("`{name}` is not for {noun}{}", hint(name, all))
        } else {
            return ANYTHING;
        };
        self.found.push((at, message));
        ANYTHING
    }

    /// A word that is used, in hooks where it may not work.
    fn used(&mut self, entry: &Entry, at: Position) -> Type {
        if let Some(wrong) = self.hooks.iter().find(|hook| !entry.row.hooks.has(**hook)) {
            let (name, wrong) = (entry.name, wrong.names().join(", "));
            let right = entry.row.hooks.names();
            let right: Vec<_> = right.iter().map(|hook| format!("`{hook}`")).collect();
            let message = format!("`{name}` works in {}, but this runs in `{wrong}`", right.join(" and "));
            self.found.push((at, message));
        }
        entry.gives
    }
}

/// A value of the language.
fn plain(word: &'static str) -> Type {
    Type { word, ..ANYTHING }
}

/// The word of something that is read by brackets, such as `headers` of a request.
fn listed(what: Type, property: &Expr) -> Option<&'static Entry> {
    let Expr::Property(parts, _) = property else { return None };
    vocabulary::of(what.kind()?).find(|entry| entry.form == Form::Indexed && entry.name == parts.2.as_str())
}

/// One of many.
fn item(what: Type) -> Type {
    if what.word == "Candidates" { Type { word: "Target", ..what } } else { what.item() }
}

/// The name of the closure that an argument is.
fn closure(expression: &Expr) -> Option<String> {
    let pointer = |value: &Dynamic| value.read_lock::<FnPtr>().map(|pointer| pointer.fn_name().to_owned());
    match expression {
        Expr::DynamicConstant(value, _) => pointer(value),
        _ => None,
    }
}
