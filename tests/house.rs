//! The rules of the house, read from its sources: who may import whom, how files open, how long they get.

#![allow(clippy::expect_used, reason = "a rule that cannot be checked is broken")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// The floors from the ground up. A room imports only from floors below its own, never from a sibling.
/// Floor 0 is the vocabulary: its nouns are made of each other, so they alone may import among themselves.
const FLOORS: [&[&str]; 10] = [
    &[
        "chat", "caller", "facts", "plan", "fault", "money", "clock", "target", "settings", "json",
        "headers", "heap", "threads", "cohort",
    ],
    &["frames", "store", "telemetry"],
    &["plugin", "providers", "upstream", "breaker", "queue", "limits", "cache", "ledger", "tokens"],
    &["keys", "guard", "policy", "planner", "executor"],
    &["gateway"],
    &["api"],
    &["listener", "admin"],
    &["house"],
    &["cli"],
    &["main", "lib"],
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 7] = ["utils", "util", "helpers", "manager", "common", "core", "types"];

/// What the log writes into every line by itself: a reader of JSON hears the last of two.
const OF_EVERY_LINE: [&str; 4] = ["timestamp", "level", "target", "message"];

const LONGEST_FILE: usize = 700;
const LONGEST_FUNCTION: usize = 100;

#[test]
fn a_room_imports_only_from_floors_below_its_own() {
    let mut faults = String::new();
    for source in sources("src") {
        let room = source.room();
        let Some(floor) = floor_of(&room) else {
            let _ = writeln!(faults, "{}: the room `{room}` stands on no floor", source.path.display());
            continue;
        };
        for (line, guest) in imports(&source) {
            let allowed = match floor_of(&guest) {
                None => Err("a room that stands on no floor"),
                Some(_) if guest == room => Ok(()),
                Some(0) if floor == 0 => Ok(()),
                Some(other) if other < floor => Ok(()),
                Some(other) if other == floor => Err("a sibling on its floor"),
                Some(_) => Err("a floor above"),
            };
            if let Err(why) = allowed {
                let path = source.path.display();
                let _ = writeln!(faults, "{path}:{line}: `{room}` imports `{guest}`, {why}");
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

/// Rows that others prove: limits of memory, overload, and what stores do.
const MATRIX: [(char, u32, &[u32]); 4] = [('U', 28, &[]), ('C', 17, &[]), ('P', 10, &[]), ('R', 8, &[5])];

#[test]
fn every_row_of_the_fault_matrix_names_tests_that_there_are() {
    let matrix = fs::read_to_string("docs/faults.md").expect("docs/faults.md");
    let code: String = ["src", "tests"]
        .into_iter()
        .flat_map(sources)
        .map(|source| source.text)
        .collect::<Vec<_>>()
        .join("\n");
    let (mut rows, mut faults) = (Vec::new(), String::new());
    for line in matrix.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| row")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, row, .., proofs, _] = cells[..] else { continue };
        rows.extend(row.split(", ").map(str::to_owned));
        let names: Vec<&str> = proofs.split(", ").map(|name| name.trim_matches('`')).collect();
        for name in names {
            if name.is_empty() || !code.contains(&format!("fn {name}(")) {
                let _ = writeln!(faults, "{row}: there is no test `{name}`");
            }
        }
    }
    for (kind, count, elsewhere) in MATRIX {
        for number in (1..=count).filter(|number| !elsewhere.contains(number)) {
            if !rows.contains(&format!("{kind}{number}")) {
                let _ = writeln!(faults, "{kind}{number} has no row");
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
}

#[test]
fn every_guide_is_on_the_map() {
    let map = fs::read_to_string("README.md").expect("README.md");
    let guides = fs::read_dir("docs").expect("docs").map(|entry| entry.expect("an entry").file_name());
    let guides: Vec<String> = guides.map(|name| name.to_string_lossy().into_owned()).collect();
    let missing: Vec<_> = guides
        .iter()
        .filter(|name| name.ends_with(".md") && !map.contains(&format!("](docs/{name})")))
        .collect();
    assert!(missing.is_empty(), "README.md leads to no {missing:?}");
}

#[test]
fn every_module_of_the_library_is_a_known_room_and_every_room_is_one() {
    let lib = Source::read("src/lib.rs".into());
    let unknown: Vec<_> = declared_modules(&lib.code).filter(|room| floor_of(room).is_none()).collect();
    assert!(unknown.is_empty(), "rooms without a floor: {unknown:?}");
    let built: Vec<_> = declared_modules(&lib.code).collect();
    let missing: Vec<_> = FLOORS[..FLOORS.len() - 1]
        .iter()
        .copied()
        .flatten()
        .filter(|room| !built.iter().any(|one| one == *room))
        .collect();
    assert!(missing.is_empty(), "rooms that were never built: {missing:?}");
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent: Vec<_> = everywhere().filter(|s| !s.text.starts_with("//! ")).map(|s| s.path).collect();
    assert!(silent.is_empty(), "files that do not open with `//! `: {silent:#?}");
}

#[test]
fn no_line_of_the_log_has_two_fields_of_one_name() {
    let mut faults = String::new();
    for source in sources("src") {
        for level in ["error", "warn", "info", "debug", "trace"] {
            let event = format!("tracing::{level}!(");
            for (at, found) in source.code.match_indices(&event) {
                let line = source.code[..at].lines().count();
                for name in fields(&source.code[at + found.len()..]).filter(|n| OF_EVERY_LINE.contains(n)) {
                    let path = source.path.display();
                    let _ = writeln!(faults, "{path}:{line}: `{name}` is written by the log itself");
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{faults}");
    let fields: Vec<_> =
        fields("%target, a = f(b, message), ?level, request.id, ,    ); target = 1").collect();
    assert_eq!(fields, ["target", "a", "level", "", "", ""]);
}

#[test]
fn no_file_grows_past_one_noun() {
    let long: Vec<_> = everywhere()
        .map(|source| (source.text.lines().count(), source.path))
        .filter(|(lines, _)| *lines > LONGEST_FILE)
        .collect();
    assert!(long.is_empty(), "files over {LONGEST_FILE} lines: {long:#?}");
}

#[test]
fn no_file_has_an_empty_name() {
    let empty: Vec<_> = everywhere()
        .filter(|source| source.modules().iter().any(|name| EMPTY_NAMES.contains(&name.as_str())))
        .map(|source| source.path)
        .collect();
    assert!(empty.is_empty(), "names that say nothing: {empty:#?}");
}

#[test]
fn no_module_hides_in_a_mod_rs() {
    let hidden: Vec<_> = sources("src").map(|s| s.path).filter(|path| path.ends_with("mod.rs")).collect();
    assert!(hidden.is_empty(), "write `room.rs` beside `room/`: {hidden:#?}");
}

#[test]
fn no_function_is_longer_than_a_screen_or_two() {
    let mut long = String::new();
    for source in everywhere() {
        for (name, line, length) in functions(&source.code) {
            if length > LONGEST_FUNCTION {
                let _ = writeln!(long, "{}:{line}: `{name}` has {length} lines", source.path.display());
            }
        }
    }
    assert!(long.is_empty(), "functions over {LONGEST_FUNCTION} lines:\n{long}");
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let check = |path: &str, text: &str, expected: &[&str]| {
        let source = Source { path: path.into(), text: text.into(), code: blank(text) };
        let found: Vec<_> = imports(&source).into_iter().map(|(_, room)| room).collect();
        assert_eq!(found, expected, "{path}: {text}");
    };
    check("src/api.rs", "use crate::gateway::serve;", &["gateway"]);
    check(
        "src/api.rs",
        "use crate::{fault::Fault, chat::{Usage, Answer}, plan};",
        &["fault", "chat", "plan"],
    );
    check("src/api.rs", "use crate::{\n    fault::Fault,\n    plan::{self, Plan},\n};", &["fault", "plan"]);
    check("src/api.rs", "fn f() -> crate::fault::Fault { x }", &["fault"]);
    check("src/api.rs", "pub(crate) fn f() {} // crate::house::build", &[]);
    check("src/api.rs", "let s = \"crate::house\"; let r = r#\"crate::cli \"#; let c = '\"';", &[]);
    check("src/api.rs", "use super::house;", &["house"]);
    check("src/api/reply.rs", "use super::super::house;", &["house"]);
    check("src/api/reply.rs", "use super::house;", &[]);
    check("src/api.rs", "mod tests { use super::house; }", &[]);
    check("src/main.rs", "use tollgate::cli;", &["cli"]);
    check("src/chat.rs", "macro_rules! m { () => { $crate::fault::Fault } }", &["fault"]);
}

#[test]
fn the_counter_of_lines_sees_where_functions_end() {
    let code = blank("fn a() {\n  \"}\";\n  '}';\n}\ntrait T { fn b(&self); }\nfn c<'a>(x: &'a str) {}\n");
    let found: Vec<_> = functions(&code).collect();
    assert_eq!(found, [("a".into(), 1, 4), ("c".into(), 6, 1)]);
}

/// One source file and its code without comments and texts.
struct Source {
    path: PathBuf,
    text: String,
    code: String,
}

impl Source {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).expect("a readable source");
        let code = blank(&text);
        Self { path, text, code }
    }

    /// The module path: `src/api/reply.rs` is `[api, reply]`.
    fn modules(&self) -> Vec<String> {
        let inside = self.path.components().skip(1).map(|part| part.as_os_str().to_string_lossy());
        inside.map(|part| part.trim_end_matches(".rs").to_owned()).collect()
    }

    fn room(&self) -> String {
        self.modules().into_iter().next().unwrap_or_default()
    }
}

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn everywhere() -> impl Iterator<Item = Source> {
    ["src", "tests", "benches", "examples"].into_iter().flat_map(sources)
}

fn sources(root: &str) -> impl Iterator<Item = Source> {
    let mut found = Vec::new();
    walk(Path::new(root), &mut found);
    found.sort();
    found.into_iter().map(Source::read)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn declared_modules(code: &str) -> impl Iterator<Item = String> + '_ {
    code.lines()
        .filter_map(|line| line.trim().trim_start_matches("pub ").strip_prefix("mod "))
        .map(|rest| rest.chars().take_while(|c| is_name(*c)).collect())
}

/// Rooms that a file names by a path from the crate's root, with the line of each.
fn imports(source: &Source) -> Vec<(usize, String)> {
    let code = &source.code;
    let mut found = Vec::new();
    for (at, _) in code.match_indices("::") {
        let head = &code[..at];
        let word = head.rfind(|c| !is_name(c)).map_or(head, |end| &head[end + 1..]);
        let from_root = match word {
            "crate" | "tollgate" => true,
            "super" => climbs_to_root(source, at),
            _ => false,
        };
        if from_root {
            let line = head.matches('\n').count() + 1;
            found.extend(first_names(&code[at + 2..]).into_iter().map(|room| (line, room)));
        }
    }
    found
}

/// Whether the chain of `super::` that ends at byte `at` leaves the file's own room.
fn climbs_to_root(source: &Source, at: usize) -> bool {
    if source.code[at..].starts_with("::super") {
        return false;
    }
    let mut start = at - "super".len();
    let mut chain = 1;
    while source.code[..start].ends_with("super::") {
        start -= "super::".len();
        chain += 1;
    }
    chain == source.modules().len() + inline_modules_around(&source.code, start)
}

fn inline_modules_around(code: &str, at: usize) -> usize {
    let mut open = Vec::new();
    for (place, brace) in code[..at].match_indices(['{', '}']) {
        if brace == "{" {
            let line = code[..place].rsplit(['\n', ';', '}']).next().unwrap_or_default();
            open.push(line.split_whitespace().any(|word| word == "mod"));
        } else {
            open.pop();
        }
    }
    open.into_iter().filter(|is_module| *is_module).count()
}

/// The first name of a path, or of each path in a group: `{a::b, c::{d, e}}` gives `a` and `c`.
fn first_names(rest: &str) -> Vec<String> {
    let name = |text: &str| text.trim_start().chars().take_while(|c| is_name(*c)).collect::<String>();
    let rest = rest.trim_start();
    let Some(group) = rest.strip_prefix('{') else { return keep(name(rest)).into_iter().collect() };
    let mut names: Vec<String> = keep(name(group)).into_iter().collect();
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.extend(keep(name(&group[at + 1..]))),
            _ => {}
        }
    }
    names
}

fn keep(name: String) -> Option<String> {
    // Types and macros at the crate's root are not rooms.
    name.chars().next().filter(|first| first.is_lowercase()).map(|_| name).filter(|name| name != "self")
}

/// Name, line and number of lines of every function with a body.
fn functions(code: &str) -> impl Iterator<Item = (String, usize, usize)> + '_ {
    code.match_indices("fn ").filter_map(|(at, _)| {
        if code[..at].ends_with(is_name) {
            return None;
        }
        // A test with its table of cases is data, and may be as long as the table.
        if code[..at].trim_end_matches("async ").trim_end().ends_with("#[test]") {
            return None;
        }
        let name: String = code[at + 3..].chars().take_while(|c| is_name(*c)).collect();
        let body = at + code[at..].find(['{', ';'])?;
        if name.is_empty() || code[body..].starts_with(';') {
            return None;
        }
        let end = body + closing(&code[body..])?;
        let line = code[..at].matches('\n').count() + 1;
        Some((name, line, code[at..end].matches('\n').count() + 1))
    })
}

/// Where the brace that opens `code` is closed.
fn closing(code: &str) -> Option<usize> {
    let mut depth = 0;
    code.match_indices(['{', '}']).find_map(|(at, brace)| {
        depth += if brace == "{" { 1 } else { -1 };
        (depth == 0).then_some(at)
    })
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Names of the fields of an event, of which `code` is what stands behind the opening bracket.
fn fields(code: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let ends = code.char_indices().find_map(|(at, c)| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return Some(at),
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        None
    });
    let mut depth = 0_usize;
    let parts = code[..ends.unwrap_or(code.len())].split(move |c| {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parts.map(|part| {
        let part = part.trim().trim_start_matches(['%', '?']);
        let (name, rest) = part.split_at(part.find(|c| !is_name(c)).unwrap_or(part.len()));
        let rest = rest.trim_start();
        if rest.is_empty() || rest.starts_with('=') { name } else { "" }
    })
}

/// The code with comments, texts and character literals blanked; line breaks stay where they are.
fn blank(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = literal(rest, code.chars().next_back());
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = &rest[length..];
        }
    }
    code
}

/// The length of the comment or literal that `text` begins with; 0 when it begins with code.
fn literal(text: &str, before: Option<char>) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |end| end + 2);
    }
    if !before.is_some_and(is_name) {
        let raw = text.trim_start_matches('b');
        let hashes = raw.strip_prefix('r').map(|r| &r[..r.len() - r.trim_start_matches('#').len()]);
        if let Some(hashes) = hashes
            && text.len() - raw.len() <= 1
            && raw[1 + hashes.len()..].starts_with('"')
        {
            let open = text.len() - raw.len() + 2 + hashes.len();
            let close = format!("\"{hashes}");
            return text[open..].find(&close).map_or(text.len(), |end| open + end + close.len());
        }
    }
    match text.as_bytes()[0] {
        b'"' => quoted(text, b'"'),
        b'\'' if text[1..].starts_with('\\') => quoted(text, b'\''),
        // A lifetime has no closing quote behind its first character.
        b'\'' => {
            let inside = text[1..].chars().next().map_or(1, char::len_utf8);
            if text[1 + inside..].starts_with('\'') { inside + 2 } else { 0 }
        }
        _ => 0,
    }
}

fn quoted(text: &str, quote: u8) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}
