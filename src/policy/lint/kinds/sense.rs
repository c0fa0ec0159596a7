//! What makes no sense, as far as types are known: conditions that are neither true nor false, comparisons of what is never
//! alike, methods that a value does not have, verdicts that nobody takes, tables that there are not.

use rhai::{Array, BinaryExpr, Expr, FnCallExpr, Position, Stmt};

use super::{Reading, functions};
use crate::policy::hook::OPINIONS;
use crate::policy::language::FUNCTIONS;
use crate::policy::suggest::hint;
use crate::policy::vocabulary::{self, Entry, Form, Type};

/// Words that make a route which draws no lots.
const UNDRAWN: [&str; 10] =
    ["route", "cheapest", "fastest", "least_busy", "rank_by", "tier", "race", "vote", "best_of", "merged"];

/// Words that ask several targets at once.
const TOGETHER: [&str; 4] = ["race", "vote", "best_of", "merged"];

/// Functions of the language that numbers do not have.
const OF_TEXTS_AND_LISTS: [&str; 30] = [
    "len",
    "is_empty",
    "contains",
    "starts_with",
    "ends_with",
    "split",
    "trim",
    "to_lower",
    "to_upper",
    "sub_string",
    "index_of",
    "replace",
    "crop",
    "truncate",
    "pad",
    "push",
    "pop",
    "append",
    "insert",
    "remove",
    "filter",
    "map",
    "keys",
    "values",
    "get",
    "reverse",
    "sort",
    "chars",
    "drain",
    "retain",
];

impl Reading<'_> {
    /// A condition that is neither true nor false.
    pub(super) fn truth(&mut self, condition: &Expr) {
        // `loop` has none.
        if matches!(condition, Expr::Unit(_)) {
            return;
        }
        let what = self.type_of(condition);
        let Some(noun) = noun(what).filter(|_| what.list || what.word != "true/false") else { return };
        let instead = match what.word {
            _ if what.optional => ": ask `… != ()`",
            _ if what.list => ": ask `!….is_empty()`",
            "text" => ": ask `… != \"\"`",
            "number" | "decimal" => ": ask `… > 0`",
            _ => "",
        };
        let noun = if what.optional { format!("{noun} or `()`") } else { noun.to_owned() };
        self.found.push((condition.start_position(), format!("this is {noun}, not true or false{instead}")));
    }

    /// `!x` of what is no truth, and comparisons of what is never alike.
    pub(super) fn operator(&mut self, call: &FnCallExpr, at: Position) {
        let (a, b) = match &call.args[..] {
            [one] if call.name == "!" => return self.truth(one),
            [a, b] if ["==", "!=", "<", "<=", ">", ">="].contains(&call.name.as_str()) => (a, b),
            _ => return,
        };
        if ["==", "!="].contains(&call.name.as_str()) {
            self.never(a, b);
            self.never(b, a);
        }
        let (left, right) = (self.type_of(a), self.type_of(b));
        let (Some(one), Some(other)) = (noun(left), noun(right)) else { return };
        if class(left) == class(right) {
            return;
        }
        let always = if call.name == "!=" { "true" } else { "false" };
        let instead = match (left.word, right.word) {
            ("text", "number" | "decimal") => "; write `parse_int(…)` around the text",
            ("number" | "decimal", "text") => {
                "; write the number without quotes, or `parse_int(…)` around a text"
            }
            _ => "",
        };
        let name = &call.name;
        self.found.push((at, format!("`{name}` of {one} and {other} is always {always}{instead}")));
    }

    /// A word that what is asked never is: `now().weekday == "Monday"`.
    pub(super) fn never(&mut self, asked: &Expr, said: &Expr) {
        let words: Vec<(String, Position)> = match said {
            Expr::StringConstant(word, at) => vec![(word.to_string(), *at)],
            // `in [..]`
            Expr::Array(all, _) => all
                .iter()
                .filter_map(|one| match one {
                    Expr::StringConstant(word, at) => Some((word.to_string(), *at)),
                    _ => None,
                })
                .collect(),
            Expr::DynamicConstant(all, at) => {
                let Some(all) = all.read_lock::<Array>() else { return };
                all.iter().filter_map(|one| Some((one.clone().into_string().ok()?, *at))).collect()
            }
            _ => return,
        };
        let Some(entry) = self.entry(asked).filter(|entry| !entry.row.words.is_empty()) else { return };
        let known = entry.row.words;
        for (word, at) in words.iter().filter(|(word, _)| !known.contains(&word.as_str())) {
            let (name, hint) = (entry.name, hint(word, known.iter().copied()));
            let known = known.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ");
            self.found.push((*at, format!("`{name}` is never {word:?}{hint}; it is one of {known}")));
        }
    }

    /// The property with which a chain ends.
    fn entry(&mut self, chain: &Expr) -> Option<&'static Entry> {
        let Expr::Dot(pair, ..) = chain else { return None };
        let (mut what, mut rest) = (self.type_of(&pair.lhs), &pair.rhs);
        while let Expr::Dot(next, ..) = rest {
            what = self.step(what, &next.lhs);
            rest = &next.rhs;
        }
        let Expr::Property(parts, _) = rest else { return None };
        vocabulary::of(what.kind()?)
            .find(|entry| entry.form == Form::Property && entry.name == parts.2.as_str())
    }

    /// Something is asked of a table of `data`.
    pub(super) fn table(&mut self, table: &Expr) {
        if let Expr::Dot(pair, ..) = table {
            self.table_of(&pair.lhs, &pair.rhs);
        }
    }

    pub(super) fn table_of(&mut self, data: &Expr, table: &Expr) {
        let (Expr::Variable(data, ..), Expr::Property(parts, at)) = (data, table) else { return };
        let name = parts.2.as_str();
        if data.1 != "data"
            || self.known.contains_key("data")
            || self.tables.names().any(|known| known == name)
        {
            return;
        }
        let known: Vec<_> = self.tables.names().collect();
        let known = match known.is_empty() {
            true => "there are none".to_owned(),
            false => format!("there are {}", known.join(", ")),
        };
        let hint = hint(name, self.tables.names());
        self.found.push((*at, format!("there is no `{name}` under `data:`{hint}; {known}")));
    }

    /// `route("chat").sticky_by(…)`: only `split` draws.
    pub(super) fn nothing_to_draw(&mut self, chain: &BinaryExpr) {
        let Expr::FnCall(first, _) = &chain.lhs else { return };
        if !UNDRAWN.contains(&first.name.as_str()) {
            return;
        }
        let mut rest = &chain.rhs;
        loop {
            let (step, behind) = match rest {
                Expr::Dot(pair, ..) => (&pair.lhs, Some(&pair.rhs)),
                step => (step, None),
            };
            match step {
                Expr::MethodCall(call, at) if call.name == "sticky_by" => {
                    let message = format!(
                        "`sticky_by` belongs behind `split(…)`: `{}(…)` draws nothing; an alias keeps its callers by its own `strategy`",
                        first.name
                    );
                    return self.found.push((*at, message));
                }
                Expr::MethodCall(call, _) if call.name != "then" => {}
                _ => return,
            }
            let Some(behind) = behind else { return };
            rest = behind;
        }
    }

    /// Verdicts in places where nobody takes them.
    pub(super) fn thrown_away(&mut self, statements: &[Stmt], is_given: bool) {
        for (place, statement) in statements.iter().enumerate() {
            let is_given = is_given && place + 1 == statements.len();
            let (what, at, said) = match statement {
                Stmt::If(parts, _) => {
                    self.thrown_away(parts.body.statements(), is_given);
                    self.thrown_away(parts.branch.statements(), is_given);
                    continue;
                }
                Stmt::While(parts, _) | Stmt::Do(parts, ..) => {
                    self.thrown_away(parts.body.statements(), false);
                    continue;
                }
                Stmt::For(parts, _) => {
                    self.thrown_away(parts.2.body.statements(), false);
                    continue;
                }
                Stmt::Block(block) => {
                    self.thrown_away(block.statements(), is_given);
                    continue;
                }
                Stmt::FnCall(call, at) if !is_given => (self.call(call, *at), *at, call.name.as_str()),
                Stmt::Expr(said) if !is_given => {
                    (self.type_of(said), said.start_position(), first_call(said))
                }
                _ => continue,
            };
            if what.kind().is_some_and(|kind| OPINIONS.contains(&kind.name)) {
                self.found.push((at, format!("nobody takes this verdict: write `return {said}(…)`")));
            }
        }
    }

    /// A method of texts, numbers or lists that they do not have.
    pub(super) fn plain_method(&mut self, what: Type, call: &FnCallExpr, at: Position) {
        let name = call.name.as_str();
        let Some(noun) = noun(what).filter(|_| what.word != "map") else { return };
        if functions(self.ast).any(|function| function.name == name) {
            return;
        }
        let is_word = vocabulary::named(name).next().is_some();
        let is_ours = is_word && vocabulary::named(name).all(Entry::is_method);
        let is_theirs = FUNCTIONS.contains(&name);
        let is_scalar = !what.list && ["number", "decimal", "true/false"].contains(&what.word);
        if is_ours && !is_theirs || is_scalar && OF_TEXTS_AND_LISTS.contains(&name) {
            self.found.push((at, format!("`{name}` is not for {noun}")));
        }
    }

    /// `for m in req.messages`, which is their number.
    pub(super) fn looped(&mut self, over: &Expr) {
        let what = self.type_of(over);
        let is_scalar = !what.list && ["number", "decimal", "true/false"].contains(&what.word);
        if let Some(noun) = noun(what).filter(|_| is_scalar) {
            let message =
                format!("{noun} cannot be looped over: `0..n` counts, `req.turns` has the messages");
            self.found.push((over.start_position(), message));
        }
    }

    /// `.then(race([…]))`: who is asked together stands at the front of a route.
    pub(super) fn asked_together(&mut self, then: &FnCallExpr) {
        for next in &then.args {
            let name = first_call(next);
            if TOGETHER.contains(&name) {
                let message = format!(
                    "behind `then`, the targets of `{name}(…)` would be asked one after the other: it begins a route, or name an alias that has `together`"
                );
                self.found.push((next.start_position(), message));
            }
        }
    }
}

/// What a value is called, where that is known.
pub(super) fn noun(what: Type) -> Option<&'static str> {
    match what.word {
        _ if what.list => Some("a list"),
        "text" => Some("a text"),
        "number" => Some("a number"),
        "decimal" => Some("a decimal number"),
        "true/false" => Some("true or false"),
        "list" => Some("a list"),
        "map" => Some("a map"),
        _ => what.kind().map(|kind| kind.noun),
    }
}

/// What can be alike.
fn class(what: Type) -> &'static str {
    match what.word {
        _ if what.list => "list",
        "decimal" => "number",
        word => word,
    }
}

/// The properties that the language itself gives to such values.
pub(super) fn properties(what: Type) -> Option<&'static [&'static str]> {
    Some(match what.word {
        _ if what.list => &["len", "is_empty"],
        "list" => &["len", "is_empty"],
        "text" => &["len", "is_empty", "bytes", "chars"],
        "number" | "decimal" => &[
            "is_zero",
            "is_odd",
            "is_even",
            "bits",
            "floor",
            "ceiling",
            "round",
            "int",
            "fraction",
            "is_nan",
            "is_finite",
            "is_infinite",
        ],
        "true/false" => &[],
        _ => return None,
    })
}

/// The name of the function with which a chain begins.
fn first_call(mut expression: &Expr) -> &str {
    loop {
        match expression {
            Expr::Dot(pair, ..) => expression = &pair.lhs,
            Expr::FnCall(call, _) => return &call.name,
            _ => return "",
        }
    }
}
