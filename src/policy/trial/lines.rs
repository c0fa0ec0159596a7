//! Which lines of policies ran: a copy of each text in which every statement says that it was reached.
//!
//! The copy is used in tests only, so requests pay nothing. Insertions stay within their lines: lines are those of the
//! file, and columns are restored by taking the insertions off again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rhai::{AST, ASTNode, Engine, Expr, FnCallExpr, Position, Stmt, StmtBlock};

use crate::policy::Source;
use crate::policy::vocabulary::{self, Entry, Form};

/// The function by which a statement says that it was reached. Policies cannot call it: names with two underscores
/// are unknown to the checks at load.
pub(in crate::policy) const SEEN: &str = "__seen";

/// The statements and verdicts of a set of files, and how often each was reached.
#[derive(Debug, Default)]
pub(in crate::policy) struct Lines {
    files: Vec<File>,
    /// File and line of each statement.
    spots: Vec<(usize, u32)>,
    reached: Vec<AtomicU64>,
}

#[derive(Debug)]
struct File {
    name: String,
    path: PathBuf,
    /// What was inserted: line, column before which it stands, characters.
    inserted: Vec<(u32, u32, u32)>,
    /// Verdicts by their lines, and how often each decided.
    verdicts: Mutex<BTreeMap<u32, u64>>,
}

/// What ran of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileCoverage {
    /// The policy's name: `10-cheap`, `lib/teams`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Lines with a statement, and how often they ran.
    pub lines: BTreeMap<u32, u64>,
    /// Lines with a verdict, and how often that verdict decided.
    pub verdicts: BTreeMap<u32, u64>,
}

impl Lines {
    /// The texts with their insertions, and the book that they report to.
    pub(in crate::policy) fn of(sources: &[Source]) -> (Arc<Self>, Vec<Source>) {
        let mut lines = Self::default();
        let marked = sources.iter().map(|source| lines.add(source)).collect();
        (Arc::new(lines), marked)
    }

    /// A statement was reached.
    pub(in crate::policy) fn seen(&self, spot: i64) {
        if let Some(count) = usize::try_from(spot).ok().and_then(|spot| self.reached.get(spot)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The verdict at this line of a policy decided, or at that of a file below `lib/`.
    pub(in crate::policy) fn decided(&self, path: Option<&str>, policy: &str, line: u32) {
        let is = |file: &&File| path.map_or(file.name == policy, |path| file.path == Path::new(path));
        if let Some(file) = self.files.iter().find(is) {
            let mut verdicts = file.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            *verdicts.entry(line).or_default() += 1;
        }
    }

    /// The column in the file as written.
    pub(in crate::policy) fn column(&self, path: &Path, line: u32, column: u32) -> u32 {
        let Some(file) = self.files.iter().find(|file| file.path == path) else { return column };
        let mut at = column;
        for (_, before, length) in file.inserted.iter().filter(|(of, ..)| *of == line) {
            // Insertions are sorted; each pushed everything behind its column further.
            if at >= before + length {
                at -= length;
            } else {
                break;
            }
        }
        at
    }

    /// What ran, file by file.
    pub(in crate::policy) fn coverage(&self) -> Vec<FileCoverage> {
        let of = |(index, file): (usize, &File)| {
            let mut lines = BTreeMap::new();
            for ((at, line), reached) in self.spots.iter().zip(&self.reached) {
                if *at == index {
                    *lines.entry(*line).or_default() += reached.load(Ordering::Relaxed);
                }
            }
            let verdicts = file.verdicts.lock().unwrap_or_else(PoisonError::into_inner).clone();
            FileCoverage { name: file.name.clone(), path: file.path.clone(), lines, verdicts }
        };
        self.files.iter().enumerate().map(of).collect()
    }

    fn add(&mut self, source: &Source) -> Source {
        let mut engine = Engine::new_raw();
        engine.set_max_expr_depths(0, 0);
        let Ok(ast) = engine.compile(&source.text) else { return source.clone() };
        let mut places = Places::of(&ast, &source.text);
        let mut marked = places.mark(&source.text, self.spots.len());
        if engine.compile(&marked).is_err() {
            places.0.retain(|place| {
                let alone = Places(vec![*place]).mark(&source.text, 0);
                engine.compile(alone).is_ok()
            });
            marked = places.mark(&source.text, self.spots.len());
            if engine.compile(&marked).is_err() {
                places.0.clear();
                marked.clone_from(&source.text);
            }
        }
        let inserted = places.inserted(self.spots.len());
        let verdicts = Mutex::new(verdicts(&ast));
        self.spots.extend(places.0.iter().map(|place| (self.files.len(), place.line)));
        self.reached.extend(places.0.iter().map(|_| AtomicU64::new(0)));
        self.files.push(File { name: source.name.clone(), path: source.path.clone(), inserted, verdicts });
        Source { text: marked, ..source.clone() }
    }
}

/// Where something can be inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    line: u32,
    column: u32,
    /// The arm of a `switch` that is an expression, not a statement of a block.
    is_arm: bool,
}

impl Place {
    /// `() ?? x` is `x`, whatever stands behind it.
    fn text(&self, spot: usize) -> String {
        if self.is_arm { format!("{SEEN}({spot}) ?? ") } else { format!(";{SEEN}({spot});") }
    }
}

/// All places of a file in order.
struct Places(Vec<Place>);

impl Places {
    fn of(ast: &AST, text: &str) -> Self {
        let mut found = Vec::new();
        let functions = ast.clone_functions_only();
        functions.walk(&mut |path: &[ASTNode<'_>]| {
            if let [ASTNode::Stmt(statement)] = path {
                found.push((begin(statement), false))
            }
            match path.last() {
                Some(ASTNode::Stmt(statement)) => inner(statement, &mut found),
                Some(ASTNode::Expr(Expr::Stmt(block))) => block_of(block, &mut found),
                _ => {}
            }
            true
        });
        let lines: Vec<&str> = text.lines().collect();
        let mut places: Vec<Place> = found
            .into_iter()
            .filter_map(|(at, is_arm)| {
                let (line, column) = crate::policy::error::place(at);
                (line > 0 && column > 0).then_some(Place { line, column, is_arm })
            })
            .filter_map(|place| place.settled(&lines))
            .collect();
        places.sort_unstable();
        places.dedup_by_key(|place| (place.line, place.column));
        Self(places)
    }

    fn mark(&self, text: &str, first: usize) -> String {
        let mut out = String::with_capacity(text.len() * 2);
        let mut places = self.0.iter().enumerate().peekable();
        for (number, line) in (1_u32..).zip(text.split_inclusive('\n')) {
            for (column, c) in (1_u32..).zip(line.chars()) {
                while let Some((spot, place)) =
                    places.next_if(|(_, place)| place.line == number && place.column <= column)
                {
                    out.push_str(&place.text(first + spot));
                }
                out.push(c);
            }
        }
        out
    }

    fn inserted(&self, first: usize) -> Vec<(u32, u32, u32)> {
        let length = |spot: usize, place: &Place| u32::try_from(place.text(first + spot).len()).unwrap_or(0);
        self.0
            .iter()
            .enumerate()
            .map(|(spot, place)| (place.line, place.column, length(spot, place)))
            .collect()
    }
}

impl Place {
    /// The place in front of the parentheses around it, if a statement (or an arm) really begins there: what stands
    /// before it on its line says so. `else if` and bodies of closures do not.
    fn settled(mut self, lines: &[&str]) -> Option<Self> {
        let line = |number: u32| lines.get(usize::try_from(number).ok()?.checked_sub(1)?);
        let columns = usize::try_from(self.column.checked_sub(1)?).ok()?;
        let before: Vec<char> = line(self.line)?.chars().take(columns).collect();
        let mut previous = None;
        for (at, c) in before.iter().enumerate().rev() {
            match c {
                '(' => self.column = u32::try_from(at + 1).ok()?,
                c if c.is_whitespace() => {}
                c => {
                    previous = Some(*c);
                    break;
                }
            }
        }
        let fits = match previous {
            Some(c) if self.is_arm => c == '>',
            Some(c) => matches!(c, '{' | '}' | ';'),
            None if self.is_arm => false,
            None => {
                let above = line(self.line.saturating_sub(1)).and_then(|line| line.trim_end().chars().last());
                !matches!(above, Some('|' | '(' | '='))
            }
        };
        fits.then_some(self)
    }
}

/// The statements in the blocks of a statement, and the arms of a `switch`.
fn inner(statement: &Stmt, found: &mut Vec<(Position, bool)>) {
    match statement {
        Stmt::If(parts, _) | Stmt::TryCatch(parts, _) => {
            block_of(&parts.body, found);
            block_of(&parts.branch, found);
        }
        Stmt::While(parts, _) | Stmt::Do(parts, ..) => block_of(&parts.body, found),
        Stmt::For(parts, _) => block_of(&parts.2.body, found),
        Stmt::Block(block) => block_of(block, found),
        Stmt::Switch(parts, _) => {
            let arms = parts.1.expressions.iter().filter(|arm| !matches!(arm.rhs, Expr::Stmt(_)));
            found.extend(arms.map(|arm| (start(&arm.rhs), true)));
        }
        _ => {}
    }
}

fn block_of(block: &StmtBlock, found: &mut Vec<(Position, bool)>) {
    found.extend(block.iter().map(|statement| (begin(statement), false)));
}

/// Where a statement begins. What has no text of its own begins nowhere.
fn begin(statement: &Stmt) -> Position {
    match statement {
        Stmt::Assignment(parts) => start(&parts.1.lhs),
        Stmt::Expr(expression) => start(expression),
        Stmt::FnCall(call, at) => called(call, *at),
        Stmt::Noop(_) | Stmt::Share(_) => Position::NONE,
        other => other.position(),
    }
}

/// Where an expression begins: an operator's place is between its sides.
fn start(expression: &Expr) -> Position {
    match expression {
        Expr::FnCall(call, at) => called(call, *at),
        Expr::And(parts, _) | Expr::Or(parts, _) | Expr::Coalesce(parts, _) => {
            parts.first().map_or(Position::NONE, start)
        }
        Expr::Index(parts, ..) | Expr::Dot(parts, ..) => start(&parts.lhs),
        other => other.start_position(),
    }
}

/// Where a call begins: at its name, or where the first side of an operator does. Those of `in` are swapped, and it
/// is a call of `contains`.
fn called(call: &FnCallExpr, at: Position) -> Position {
    // An empty namespace has no place, and panics when it is asked for one.
    let at = if call.namespace.is_empty() { at } else { call.namespace.position().or_else(at) };
    let sides = call.args.iter().map(start).filter(|side| !side.is_none());
    let first = sides.min_by_key(|side| crate::policy::error::place(*side));
    match first {
        Some(side) if crate::policy::error::place(side) < crate::policy::error::place(at) => side,
        _ => at,
    }
}

/// Lines on which a verdict is made; what stands in `.then(…)` is part of one.
fn verdicts(ast: &AST) -> BTreeMap<u32, u64> {
    let is_verdict = |word: &&Entry| {
        word.form == Form::Function && matches!(word.gives.word, "Route" | "Rejection" | "Response")
    };
    let words: Vec<&str> = vocabulary::vocabulary().iter().filter(is_verdict).map(|word| word.name).collect();
    let mut found = BTreeMap::new();
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        let Some((node, above)) = path.split_last() else { return true };
        let (ASTNode::Stmt(Stmt::FnCall(call, at)) | ASTNode::Expr(Expr::FnCall(call, at))) = node else {
            return true;
        };
        let inside = above.iter().any(|node| matches!(node, ASTNode::Expr(Expr::MethodCall(..))));
        if words.contains(&call.name.as_str()) && !inside {
            found.insert(crate::policy::error::place(*at).0, 0);
        }
        true
    });
    found
}

impl FileCoverage {
    /// Lines that ran, and lines that there are.
    pub fn ran(&self) -> (usize, usize) {
        (self.lines.values().filter(|count| **count > 0).count(), self.lines.len())
    }

    /// Verdicts that decided, and verdicts that there are.
    pub fn decided(&self) -> (usize, usize) {
        (self.verdicts.values().filter(|count| **count > 0).count(), self.verdicts.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(text: &str) -> (Arc<Lines>, String) {
        let source = Source { name: "10-a".into(), path: "10-a.rhai".into(), text: text.into() };
        let (lines, mut marked) = Lines::of(&[source]);
        (lines, marked.remove(0).text)
    }

    /// Runs `f(x)` of the marked text, and says which lines ran.
    fn ran(text: &str, x: i64) -> (i64, Vec<u32>) {
        let (lines, text) = marked(text);
        let mut engine = Engine::new();
        let book = Arc::clone(&lines);
        engine.register_fn(SEEN, move |spot: i64| book.seen(spot));
        let ast = engine.compile(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let said = engine.call_fn(&mut rhai::Scope::new(), &ast, "f", (x,)).unwrap();
        let lines = lines.coverage().remove(0).lines;
        (said, lines.into_iter().filter(|(_, count)| *count > 0).map(|(line, _)| line).collect())
    }

    const BRANCHES: &str = "fn f(x) {\n  if x > 5 {\n    return 1;\n  } else if x > 3 {\n    2\n  } else {\n    \
                            let a = [1, 2].filter(|n| n > x);\n    -a.len\n  }\n}";
    const SWITCH: &str =
        "fn f(x) {\n  switch x {\n    1 => -7,\n    2 if x > 1 => { let y = 3; y }\n    _ => (x) + 1\n  }\n}";
    const LOOPS: &str = "fn f(x) {\n  let sum = 0;\n  for n in 0..x { sum += n; }\n  while sum > 3 {\n    sum -= 1; // ; {\n  }\n  sum\n}";

    #[test]
    fn exactly_what_ran_is_counted_and_nothing_means_something_else() {
        for (text, x, said, lines) in [
            (BRANCHES, 9, 1, vec![2, 3]),
            (BRANCHES, 4, 2, vec![2, 5]),
            (BRANCHES, 0, -2, vec![2, 7, 8]),
            (SWITCH, 1, -7, vec![2, 3]),
            (SWITCH, 2, 3, vec![2, 4]),
            (SWITCH, 5, 6, vec![2, 5]),
            (LOOPS, 0, 0, vec![2, 3, 4, 7]),
            (LOOPS, 4, 3, vec![2, 3, 4, 5, 7]),
        ] {
            assert_eq!(ran(text, x), (said, lines), "{x}: {text}");
        }
    }

    #[test]
    fn columns_are_those_of_the_file() {
        let text = "fn f(x) { let a = 1; a.b() }";
        let (lines, marked) = marked(text);
        let path = Path::new("10-a.rhai");
        for word in ["let", "a.b()", "b()", "}"] {
            let at = u32::try_from(marked.rfind(word).unwrap() + 1).unwrap();
            let wanted = u32::try_from(text.rfind(word).unwrap() + 1).unwrap();
            assert_eq!(lines.column(path, 1, at), wanted, "{word}: {marked}");
        }
        assert_eq!(lines.column(path, 1, 3), 3);
    }

    #[test]
    fn verdicts_are_found_where_they_are_made() {
        let text = "fn f(x) {\n  if x { return reject(429, \"a\", \"b\"); }\n  route(\"a\")\n    .then(split([\"b\"]))\n}";
        let (lines, _) = marked(text);
        lines.decided(None, "10-a", 3);
        assert_eq!(lines.coverage()[0].verdicts, BTreeMap::from([(2, 0), (3, 1)]));
    }
}
