//! YAML as a tree in which every key and value knows its place.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde_yaml::Value;

use super::diagnostic::Place;

/// Nodes of one file, copies through aliases included: an alias bomb ends here.
const MAX_NODES: usize = 100_000;
/// Nesting of one file.
const MAX_DEPTH: usize = 64;

/// One value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Where it stands; of a list or map, where it begins.
    pub place: Place,
    /// What it is.
    pub kind: Kind,
    /// Something is wrong with it, so that it is left out of the typed configuration.
    pub faulty: bool,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Text, number, truth or nothing.
    Scalar {
        /// As written, without quotes.
        text: String,
        /// As YAML 1.2 understands it.
        value: Scalar,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the order written, without duplicates.
    Map(Vec<Entry>),
}

/// A scalar's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number that fits.
    Int(i128),
    /// Another number.
    Float(f64),
    /// Text.
    Text,
}

/// One key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    /// The key's text.
    pub key: String,
    /// Where the key stands.
    pub place: Place,
    /// Its value.
    pub value: Node,
}

/// Something that the file may not contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
    /// What to do now.
    pub help: Option<String>,
}

impl Node {
    /// The value of `key`, if this is a map that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The keys, if this is a map.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        let entries = match &self.kind {
            Kind::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        entries.iter().map(|entry| entry.key.as_str())
    }

    /// What a reader of an error message calls it.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a map".into(),
            Kind::Scalar { value: Scalar::Null, .. } => "nothing".into(),
            Kind::Scalar { text, value } => {
                let shown: String = text.chars().take(40).collect();
                let dots = if shown.len() < text.len() { "…" } else { "" };
                let kind = match value {
                    Scalar::Bool(_) => "the truth value",
                    Scalar::Int(_) | Scalar::Float(_) => "the number",
                    _ => "the text",
                };
                format!("{kind} `{shown}{dots}`")
            }
        }
    }

    /// The tree without its faulty branches, for serde.
    pub(super) fn to_value(&self) -> Value {
        match &self.kind {
            Kind::Scalar { text, value } => match value {
                Scalar::Null => Value::Null,
                Scalar::Bool(truth) => Value::Bool(*truth),
                Scalar::Int(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                    (Ok(number), _) => number.into(),
                    (_, Ok(number)) => number.into(),
                    _ => (*number as f64).into(),
                },
                Scalar::Float(number) => (*number).into(),
                Scalar::Text => Value::String(text.clone()),
            },
            Kind::List(items) => items.iter().filter(|item| !item.faulty).map(Self::to_value).collect(),
            Kind::Map(entries) => Value::Mapping(
                entries
                    .iter()
                    .filter(|entry| !entry.value.faulty)
                    .map(|entry| (Value::String(entry.key.clone()), entry.value.to_value()))
                    .collect(),
            ),
        }
    }
}

/// What was read of a file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parsed {
    /// The tree; `None` for a file without content, or one that cannot be read to its end.
    pub root: Option<Node>,
    /// What is wrong with it as YAML.
    pub problems: Vec<Problem>,
    /// The file could not be read to its end.
    pub broken: bool,
}

/// Parses one YAML document. Tags and further documents are refused; merge keys (`<<`) are carried out.
pub(super) fn parse(text: &str) -> Parsed {
    let mut builder = Builder::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let stop = match event {
            Ok((event, span)) => builder.take(event, span).err(),
            Err(error) => Some(syntax(&error, text)),
        };
        if let Some(problem) = stop {
            builder.problems.push(problem);
            return Parsed { root: None, problems: builder.problems, broken: true };
        }
    }
    Parsed { root: builder.root, problems: builder.problems, broken: false }
}

/// Builds the tree from the parser's events, without recursion.
#[derive(Default)]
struct Builder {
    root: Option<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, Extent)>,
    documents: usize,
    nodes: usize,
    problems: Vec<Problem>,
}

/// How large a node is with all that it holds.
#[derive(Clone, Copy)]
struct Extent {
    nodes: usize,
    /// Lists and maps in each other; 0 for a scalar.
    depth: usize,
}

/// A list or map whose end has not come.
struct Open {
    node: Node,
    anchor: usize,
    /// The key that waits for its value.
    key: Option<(String, Place)>,
    /// The keys so far and their lines.
    lines: HashMap<String, usize>,
    /// Entries of merge keys, the first of a name before the others: they hold where the map says nothing itself.
    merged: Vec<Entry>,
    /// Nodes before this one began, to know how many it holds.
    nodes_before: usize,
    /// The depth of the deepest node in it.
    below: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let place = place_of(&span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(problem(place, "a second document begins here")
                        .with("a configuration is one document; remove the `---`"));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                let value = if style == ScalarStyle::Plain { resolve(&text) } else { Scalar::Text };
                let node =
                    Node { place, kind: Kind::Scalar { text: text.into_owned(), value }, faulty: false };
                self.count(1, place)?;
                self.finish(node, anchor, Extent { nodes: 1, depth: 0 })?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                self.begin(Kind::List(Vec::new()), anchor, place)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.is_some(), place);
                self.begin(Kind::Map(Vec::new()), anchor, place)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(mut done) = self.open.pop() {
                    done.take_merged();
                    let extent = Extent { nodes: self.nodes - done.nodes_before, depth: done.below + 1 };
                    self.finish(done.node, done.anchor, extent)?;
                }
            }
            Event::Alias(anchor) => {
                let Some((node, extent)) = self.anchors.get(&anchor).cloned() else {
                    return Err(problem(place, "this alias refers to something that contains it"));
                };
                // Aliases of aliases nest without a bracket more; whoever walks the tree does it by recursion.
                if self.open.len() + extent.depth > MAX_DEPTH {
                    return Err(too_deep(place));
                }
                self.count(extent.nodes, place)?;
                self.finish(Node { place, ..node }, 0, extent)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn begin(&mut self, kind: Kind, anchor: usize, place: Place) -> Result<(), Problem> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(place));
        }
        let nodes_before = self.nodes;
        self.count(1, place)?;
        let node = Node { place, kind, faulty: false };
        self.open.push(Open {
            node,
            anchor,
            key: None,
            lines: HashMap::new(),
            merged: Vec::new(),
            nodes_before,
            below: 0,
        });
        Ok(())
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Problem> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(problem(place, format!("more than {MAX_NODES} values")));
        }
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn finish(&mut self, node: Node, anchor: usize, extent: Extent) -> Result<(), Problem> {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), extent));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = (!is_nothing(&node)).then_some(node);
            return Ok(());
        };
        parent.below = parent.below.max(extent.depth);
        match (&mut parent.node.kind, parent.key.take()) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(entries), Some((key, place))) => {
                if key == "<<" {
                    match mergeable(node) {
                        Some(merged) => parent.merged.extend(merged),
                        None => {
                            let found = problem(place, "a merge key (`<<`) takes a map, or a list of maps");
                            self.problems.push(found.with("name an anchor of a map: `<<: *name`"));
                        }
                    }
                } else if let Some(first) = parent.lines.get(&key) {
                    let message = format!("duplicate key `{key}` (first on line {first})");
                    self.problems.push(problem(place, message));
                } else {
                    parent.lines.insert(key.clone(), place.line);
                    entries.push(Entry { key, place, value: node });
                }
            }
            (Kind::Map(_), None) => {
                let Kind::Scalar { text, .. } = node.kind else {
                    return Err(problem(node.place, "a key must be text"));
                };
                parent.key = Some((text, node.place));
            }
            (Kind::Scalar { .. }, _) => {}
        }
        Ok(())
    }

    fn refuse_tag(&mut self, tagged: bool, place: Place) {
        if tagged {
            self.problems.push(problem(place, "tags (`!…`) are not supported"));
        }
    }
}

impl Open {
    fn take_merged(&mut self) {
        let Kind::Map(entries) = &mut self.node.kind else { return };
        for entry in self.merged.drain(..) {
            if self.lines.insert(entry.key.clone(), entry.place.line).is_none() {
                entries.push(entry);
            }
        }
    }
}

/// The entries that a merge key brings, of several maps those of the first one first.
fn mergeable(node: Node) -> Option<Vec<Entry>> {
    match node.kind {
        Kind::Map(entries) => Some(entries),
        Kind::List(maps) => {
            let maps = maps.into_iter().map(|map| match map.kind {
                Kind::Map(entries) => Some(entries),
                _ => None,
            });
            Some(maps.collect::<Option<Vec<_>>>()?.concat())
        }
        Kind::Scalar { .. } => None,
    }
}

impl Problem {
    fn with(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

fn too_deep(place: Place) -> Problem {
    problem(place, format!("nested more than {MAX_DEPTH} levels deep"))
}

fn problem(place: Place, message: impl Into<String>) -> Problem {
    Problem { place, message: message.into(), help: None }
}

fn is_nothing(node: &Node) -> bool {
    matches!(node.kind, Kind::Scalar { value: Scalar::Null, .. })
}

fn place_of(span: &Span) -> Place {
    let (start, end) = (&span.start, &span.end);
    // Something over several lines is shown by its first line: the renderer cuts at the line's end.
    let length = if end.line() == start.line() { end.col().saturating_sub(start.col()) } else { usize::MAX };
    Place { line: start.line(), column: start.col() + 1, length }
}

fn syntax(error: &ScanError, text: &str) -> Problem {
    let at = error.marker();
    let lines = text.lines().count();
    let line = at.line().clamp(1, lines.max(1));
    // The scanner often notices a tab only on the line after it.
    let tab = [line, line.saturating_sub(1)].into_iter().find(|number| {
        let written = number.checked_sub(1).and_then(|index| text.lines().nth(index)).unwrap_or_default();
        written.chars().take_while(|c| c.is_whitespace()).any(|c| c == '\t')
    });
    if let Some(line) = tab {
        let written = text.lines().nth(line - 1).unwrap_or_default();
        let column = written.chars().position(|c| c == '\t').unwrap_or_default() + 1;
        return problem(Place { line, column, length: 1 }, "a tab in the indentation")
            .with("YAML is indented by spaces");
    }
    let column = if line == at.line() { at.col() + 1 } else { 1 };
    problem(Place { line, column, length: 1 }, format!("not valid YAML: {}", error.info()))
}

/// A plain scalar's value by the core schema of YAML 1.2: `yes`, `on` and `0123` are text.
fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Scalar::Null,
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Scalar::Float(f64::NAN),
        _ => {}
    }
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) if text.starts_with('-') => (-1, rest),
        Some(rest) => (1, rest),
        None => (1, text),
    };
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Scalar::Float(f64::INFINITY * f64::from(sign));
    }
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Scalar::Text;
    }
    let whole = match (digits.get(..2), digits.get(2..)) {
        (Some("0x"), Some(rest)) if is_all(rest, |c| c.is_ascii_hexdigit()) => {
            u64::from_str_radix(rest, 16).ok()
        }
        (Some("0o"), Some(rest)) if is_all(rest, |c| ('0'..='7').contains(&c)) => {
            u64::from_str_radix(rest, 8).ok()
        }
        _ if is_all(digits, |c| c.is_ascii_digit()) => {
            if digits.len() > 1 && digits.starts_with('0') {
                return Scalar::Text;
            }
            digits.parse().ok()
        }
        _ => None,
    };
    if let Some(number) = whole {
        return Scalar::Int(i128::from(number) * i128::from(sign));
    }
    let like_a_number =
        digits.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-'));
    match text.parse() {
        Ok(number) if like_a_number => Scalar::Float(number),
        _ => Scalar::Text,
    }
}

fn is_all(text: &str, accept: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(accept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(usize, usize, String)> {
        parse(text).problems.into_iter().map(|p| (p.place.line, p.place.column, p.message)).collect()
    }

    #[test]
    fn every_key_and_value_knows_its_place() {
        let root = parse("a: 1\nb:\n  - { ä: xy }\n  - \"q\"\n").root.unwrap();
        let b = root.get("b").unwrap();
        assert_eq!(b.place, Place { line: 2, column: 1, length: 1 });
        let Kind::List(items) = &b.value.kind else { panic!("{b:?}") };
        let xy = items[0].get("ä").unwrap();
        assert_eq!(xy.place, Place { line: 3, column: 7, length: 1 });
        assert_eq!(xy.value.place, Place { line: 3, column: 10, length: 2 });
        assert_eq!(items[1].place, Place { line: 4, column: 5, length: 3 });
    }

    #[test]
    fn scalars_are_read_by_the_core_schema() {
        for (text, value) in [
            ("", Scalar::Null),
            ("~", Scalar::Null),
            ("true", Scalar::Bool(true)),
            ("yes", Scalar::Text),
            ("12", Scalar::Int(12)),
            ("-7", Scalar::Int(-7)),
            ("0x1F", Scalar::Int(31)),
            ("0o17", Scalar::Int(15)),
            ("0123", Scalar::Text),
            ("1.5", Scalar::Float(1.5)),
            ("1e3", Scalar::Float(1000.0)),
            ("-.inf", Scalar::Float(f64::NEG_INFINITY)),
            ("infinity", Scalar::Text),
            ("1.2.3", Scalar::Text),
            ("127.0.0.1:80", Scalar::Text),
            ("18446744073709551616", Scalar::Float(18446744073709551616.0)),
            ("-", Scalar::Text),
        ] {
            assert_eq!(resolve(text), value, "{text}");
        }
        assert!(matches!(resolve(".nan"), Scalar::Float(f) if f.is_nan()));
    }

    #[test]
    fn what_a_configuration_may_not_contain_is_named_with_its_place() {
        for (text, line, column, message) in [
            ("a: 1\nb: 2\na: 3\n", 3, 1, "duplicate key `a` (first on line 1)"),
            ("a: 1\n---\nb: 2\n", 2, 1, "a second document begins here"),
            ("a: !x 1\n", 1, 4, "tags (`!…`) are not supported"),
            (
                "a: &x [ { b: 1 }, 2 ]\nc:\n  <<: *x\n",
                3,
                3,
                "a merge key (`<<`) takes a map, or a list of maps",
            ),
            ("a:\n\tb: 1\n", 2, 1, "a tab in the indentation"),
            ("? [a, b]\n: 1\n", 1, 3, "a key must be text"),
            ("a: &x [ *x ]\n", 1, 9, "this alias refers to something that contains it"),
        ] {
            assert_eq!(problems(text), [(line, column, message.to_owned())], "{text:?}");
        }
        assert!(problems("a: [1, 2\nb: 3\n")[0].2.starts_with("not valid YAML"));
        assert!(problems("a: 'x\n")[0].2.starts_with("not valid YAML"));
        assert!(problems(&("[".repeat(100) + "]".repeat(100).as_str()))[0].2.starts_with("nested more than"));
        assert_eq!(problems(&"[".repeat(10_000)).len(), 1);
    }

    #[test]
    fn merge_keys_bring_what_a_map_does_not_say_itself() {
        for (text, expected) in [
            ("a: &x { b: 1, c: 2 }\nd: { c: 3, <<: *x }\n", "{b: 1, c: 3}"),
            ("a: &x { b: 1 }\nd:\n  <<: *x\n  b: 2\n", "{b: 2}"),
            ("a: &x { b: 1 }\ne: &y { b: 2, c: 2 }\nd:\n  <<: [ *x, *y ]\n", "{b: 1, c: 2}"),
            ("a: &x { b: 1 }\ne: &y { <<: *x, c: 2 }\nd: { <<: *y }\n", "{b: 1, c: 2}"),
        ] {
            let parsed = parse(text);
            assert_eq!(parsed.problems, [], "{text}");
            let found = &parsed.root.unwrap().get("d").unwrap().value.to_value();
            assert_eq!(found, &serde_yaml::from_str::<Value>(expected).unwrap(), "{text}");
        }
        // What it brings stands where it was written.
        let root = parse("a: &x { b: 1 }\nd:\n  <<: *x\n").root.unwrap();
        assert_eq!(root.get("d").unwrap().value.get("b").unwrap().place.line, 1);
    }

    #[test]
    fn a_file_without_content_is_nothing() {
        for text in ["", "\n\n", "# only a comment\n", "---\n", "~\n"] {
            assert_eq!(parse(text), Parsed::default(), "{text:?}");
        }
    }

    #[test]
    fn aliases_of_aliases_nest_no_deeper_than_brackets() {
        let mut text = String::from("a0: &a0 { x: 1 }\n");
        for n in 1..40 {
            let deep = format!("{}*a{}{}", "{ a: ".repeat(50), n - 1, " }".repeat(50));
            text.push_str(&format!("a{n}: &a{n} {deep}\n"));
        }
        let found = problems(&text);
        assert_eq!((found[0].0, found[0].2.as_str()), (3, "nested more than 64 levels deep"));
        assert_eq!(problems("a: &x [ [ 1 ] ]\nb: &y { c: *x }\nd: [ *y, *x ]\n"), []);
    }

    #[test]
    fn an_alias_bomb_ends_early() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..10 {
            let previous = format!("*a{}, ", n - 1).repeat(10);
            text.push_str(&format!("a{n}: &a{n} [{}]\n", previous.trim_end_matches(", ")));
        }
        assert!(problems(&text)[0].2.starts_with("more than 100000 values"));
    }
}
