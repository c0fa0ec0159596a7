//! From text to a typed configuration: everything that is wrong with its form is found at once.

use super::config::Config;
use super::diagnostic::{Diagnostic, Diagnostics, Place};
use super::findings::Findings;
use super::node::{Kind, Node, parse};
use super::schema::schema;
use super::validate::{place_at, validate};

/// A configuration that was read, with the places of everything in it.
///
/// What is wrong in its form was left out of `config`, so that the meaning of the rest can be checked too and all
/// errors are shown together. [`super::check::check`] makes a [`super::Checked`] of it.
#[derive(Debug)]
pub struct Reading {
    /// The configuration as far as its form is right.
    pub config: Config,
    /// The text as a tree; `None` for a file without content, or one that is not YAML.
    pub(super) tree: Option<Node>,
    /// What was found so far.
    pub(super) findings: Findings,
}

/// Reads YAML. An empty file means all defaults.
pub fn read(file: &str, text: &str) -> Reading {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut findings = Findings::new(file, text);
    let mut parsed = parse(text);
    for problem in parsed.problems {
        findings.error(problem.place, problem.message, problem.help);
    }
    let Some(tree) = parsed.root.as_mut() else {
        return Reading { config: Config::default(), tree: None, findings };
    };
    validate(tree, schema(), &mut findings);
    let config = typed(tree, &mut findings);
    Reading { config, tree: parsed.root, findings }
}

/// Reads YAML from the bytes of a file.
///
/// # Errors
/// The place of the first byte that is not UTF-8.
pub fn utf8(file: &str, bytes: Vec<u8>) -> Result<String, Diagnostics> {
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let text = String::from_utf8_lossy(error.as_bytes());
        let before = String::from_utf8_lossy(error.as_bytes().get(..good).unwrap_or_default());
        let (line, last) = before.split('\n').enumerate().last().unwrap_or_default();
        let place = Place { line: line + 1, column: last.chars().count() + 1, length: 1 };
        Diagnostic::error(file, "not valid UTF-8").at(place, &text).help("save the file as UTF-8").into()
    })
}

impl Reading {
    /// The configuration, if nothing is wrong with its form. Its meaning is not checked.
    ///
    /// # Errors
    /// Everything that is wrong, in order.
    pub fn into_config(self) -> Result<Config, Diagnostics> {
        if self.findings.is_clean() { Ok(self.config) } else { Err(self.findings.finish()) }
    }

    /// An error at the place of a path of keys, with its line.
    pub(super) fn fault_at(&self, file: &str, path: &[&str], message: impl Into<String>) -> Diagnostic {
        let place = self.tree.is_some().then(|| self.place(path));
        self.findings.shown(Diagnostic { place, ..Diagnostic::error(file, message) })
    }

    /// Where a path of keys leads, or the last place that exists on the way.
    pub(super) fn place(&self, path: &[&str]) -> Place {
        self.tree.as_ref().map_or(Place { line: 1, column: 1, length: 1 }, |tree| place_at(tree, path))
    }

    /// Whether everything at and below a path of keys is right in its form.
    pub(super) fn is_sound(&self, path: &[&str]) -> bool {
        self.node(path).is_none_or(|node| !has_fault(node))
    }

    /// Whether something stands at a path of keys.
    pub(super) fn is_written(&self, path: &[&str]) -> bool {
        self.node(path).is_some()
    }

    fn node(&self, path: &[&str]) -> Option<&Node> {
        let mut node = self.tree.as_ref()?;
        for step in path {
            node = match &node.kind {
                Kind::List(items) => items.get(step.parse::<usize>().ok()?)?,
                _ => &node.get(step)?.value,
            };
        }
        Some(node)
    }

    /// The keys written in a section, also of entries that were left out.
    pub(super) fn names(&self, section: &str) -> Vec<String> {
        self.keys(&[section])
    }

    /// The keys written at a path, also of entries that were left out.
    pub(super) fn keys(&self, path: &[&str]) -> Vec<String> {
        self.node(path).map(|node| node.keys().map(str::to_owned).collect()).unwrap_or_default()
    }
}

fn has_fault(node: &Node) -> bool {
    node.faulty
        || match &node.kind {
            Kind::List(items) => items.iter().any(has_fault),
            Kind::Map(entries) => entries.iter().any(|entry| has_fault(&entry.value)),
            Kind::Scalar { .. } => false,
        }
}

/// The typed configuration of what is sound in the tree.
///
/// Because one parser must see the file (two would disagree on the odd corner), serde_yaml reads the values of the
/// tree instead of the text; the schema has judged them before, so that it hardly ever finds anything.
fn typed(tree: &mut Node, findings: &mut Findings) -> Config {
    if tree.faulty {
        return Config::default();
    }
    for _ in 0..MAX_REPAIRS {
        let Err(error) = serde_yaml::from_value::<Config>(tree.to_value()) else { break };
        if let Some(place) = leave_out_culprit(tree) {
            findings.error(place, error.to_string(), None);
        }
    }
    serde_yaml::from_value(tree.to_value()).unwrap_or_default()
}

/// After this many problems that only serde noticed, the rest is left alone.
const MAX_REPAIRS: usize = 16;

/// Marks the smallest entry without which the rest can be read. Its place, unless something inside it was faulty
/// already: then that was told, and what is left of the entry makes no sense.
fn leave_out_culprit(tree: &mut Node) -> Option<Place> {
    let mut path: Vec<usize> = Vec::new();
    loop {
        let count = match at(tree, &path).map(|node| &node.kind) {
            Some(Kind::List(items)) => items.len(),
            Some(Kind::Map(entries)) => entries.len(),
            _ => 0,
        };
        let culprit = (0..count).find(|index| {
            path.push(*index);
            let was_faulty = mark(tree, &path, true);
            let helps = serde_yaml::from_value::<Config>(tree.to_value()).is_ok();
            mark(tree, &path, was_faulty);
            path.pop();
            helps && !was_faulty
        });
        match culprit {
            Some(index) => path.push(index),
            None => break,
        }
    }
    let told = at(tree, &path).is_some_and(|node| has_fault(node));
    mark(tree, &path, true);
    at(tree, &path).map(|node| node.place).filter(|_| !told)
}

/// Marks a node, and tells how it was marked before.
fn mark(tree: &mut Node, path: &[usize], faulty: bool) -> bool {
    at(tree, path).is_none_or(|node| std::mem::replace(&mut node.faulty, faulty))
}

fn at<'n>(node: &'n mut Node, path: &[usize]) -> Option<&'n mut Node> {
    let Some((index, rest)) = path.split_first() else { return Some(node) };
    let inner = match &mut node.kind {
        Kind::List(items) => items.get_mut(*index)?,
        Kind::Map(entries) => &mut entries.get_mut(*index)?.value,
        Kind::Scalar { .. } => return None,
    };
    at(inner, rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Period, Size};

    fn headlines(text: &str) -> Vec<String> {
        match read("t.yaml", text).into_config() {
            Ok(_) => Vec::new(),
            Err(all) => all.0.iter().map(Diagnostic::headline).collect(),
        }
    }

    #[test]
    fn a_file_without_content_means_all_defaults() {
        for text in ["", "# nothing\n", "\u{feff}\n", "limits:\nproviders:\nmodels:\npolicies:\ndata:\n"] {
            assert_eq!(read("t.yaml", text).into_config().as_ref(), Ok(&Config::default()), "{text:?}");
        }
    }

    #[test]
    fn values_are_read() {
        let config = read(
            "t.yaml",
            "drain: 5s\nlimits: { body: 1MiB, head: 4096 }\npolicies: rules\nworkers: 3\n\
             providers:\n  openai:\n  groq: {}\n  x: { tls_min: 1.3, labels: { region: eu, zdr: true, tier: 2 } }\n\
             models:\n  z: { targets: [ a/b ] }\n  a: { targets: [ { to: a/b, weight: 3 } ] }\n\
             data: { teams: [ { id: 1, rate: 0.5, on: true, none: null } ] }\n",
        )
        .into_config()
        .unwrap();
        assert_eq!(config.drain, Period::secs(5));
        assert_eq!((config.limits.body, config.limits.head), (Size(1 << 20), Size(4096)));
        assert_eq!(config.policies.dir.to_str(), Some("rules"));
        assert_eq!(config.providers.keys().collect::<Vec<_>>(), ["groq", "openai", "x"]);
        assert_eq!(config.providers["x"].tls_min.as_deref(), Some("1.3"));
        assert_eq!(config.models.0.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["z", "a"]);
        assert_eq!(
            config.data["teams"],
            serde_json::json!([{ "id": 1, "rate": 0.5, "on": true, "none": null }])
        );
    }

    #[test]
    fn all_problems_of_form_are_found_at_once_with_their_places() {
        let text = "lisen: 127.0.0.1:80\nlisten: localhost\nlimits:\n  body: 20 parsecs\n  headers: many\n  head: -1\n\
                    drain: 30\npolicies: { on_error: ignore }\ncompression: [ 1 ]\nworkers: 0\n\
                    models:\n  fast: {}\n  \"gpt 4.1\": { targets: [ { weight: x } ] }\n\
                    providers:\n  a: { keys: sk-123456789, h2c: yes }\n";
        assert_eq!(
            headlines(text),
            [
                "t.yaml:1:1: error: unknown field `lisen`",
                "t.yaml:2:9: error: `listen`: `localhost` is not an IP address with a port (try \"127.0.0.1:8080\" or \"[::]:8080\")",
                "t.yaml:4:9: error: `limits.body`: `20 parsecs` is not a size (try \"65536\", \"64KiB\" or \"20MiB\")",
                "t.yaml:5:12: error: `limits.headers`: expected a whole number, found the text `many`",
                "t.yaml:6:9: error: `limits.head`: `-1` is not a size (try \"65536\", \"64KiB\" or \"20MiB\")",
                "t.yaml:7:8: error: `drain`: `30` is not a duration (try \"20s\", \"800ms\" or \"5m\")",
                "t.yaml:8:23: error: `policies.on_error`: `ignore` is not one of `deny`, `skip`",
                "t.yaml:9:14: error: `compression`: expected a map, found a list",
                "t.yaml:10:10: error: `workers`: `0` is less than 1",
                "t.yaml:13:27: error: `models.\"gpt 4.1\".targets[0]` lacks the field `to`",
                "t.yaml:13:37: error: `models.\"gpt 4.1\".targets[0].weight`: expected a number, found the text `x`",
                "t.yaml:15:14: error: `providers.a.keys`: expected a list, found a text",
                "t.yaml:15:33: error: `providers.a.h2c`: expected true or false, found the text `yes`",
            ]
        );
    }

    #[test]
    fn what_is_left_of_a_faulty_entry_is_not_told_as_another_fault() {
        let found = headlines("providers:\n  a: { headers: { x-org: { secret: plain-text } } }\n");
        let [only] = found.as_slice() else { panic!("{found:#?}") };
        assert!(only.contains("`providers.a.headers.x-org.secret`: not a reference to a secret"), "{only}");
    }

    #[test]
    fn an_unknown_field_is_set_right() {
        let shown = |text: &str| read("t.yaml", text).into_config().unwrap_err().to_string();
        assert!(shown("limits: { Header-Timeout: 1s }").contains("did you mean `header_timeout`?"));
        assert!(shown("upstraem: {}").contains("did you mean `upstream`?"));
        assert!(shown("providers: { openai: { api_key: env:K } }").contains("did you mean `keys`?"));
        assert!(
            shown("providers: { a: { api_base: 'https://a.example' } }").contains("did you mean `base_url`?")
        );
        assert!(shown("models: { a: { targets: [ { model: a/b } ] } }").contains("did you mean `to`?"));
        assert!(shown("port: 8080").contains("did you mean `listen`?"));
        assert!(shown("tls: { port: 1 }").contains("known fields: cert, key, min"));
        assert!(shown("tls: { xyzzy: 1 }").contains("known fields: cert, key, min"));
        assert!(shown("model_list: []").contains("`tollgate import litellm FILE`"));
        for text in ["models: { a: openai/gpt-4o }", "models: { a: [ openai/gpt-4o ] }"] {
            assert!(shown(text).contains("help: write `{ targets: [ provider/model ] }`"), "{}", shown(text));
        }
        assert!(shown("providers: { openai: sk-1 }").contains("help: write `{ keys: [ env:NAME ] }`"));
    }

    #[test]
    fn one_thing_in_the_place_of_a_list_is_shown_as_a_list() {
        for (text, help) in [
            ("models: { a: { targets: openai/gpt-4o } }", "help: write `[ openai/gpt-4o ]`"),
            ("cors: { origins: '*' }", "help: write `[ \"*\" ]`"),
            ("cors: { origins: 'https://a.example:8443' }", "help: write `[ https://a.example:8443 ]`"),
            ("providers: { openai: { keys: env:OPENAI_API_KEY } }", "help: write `[ env:OPENAI_API_KEY ]`"),
            ("providers: { openai: { keys: sk-123456789 } }", "help: write `[ … ]`"),
        ] {
            let shown = read("t.yaml", text).into_config().unwrap_err().to_string();
            assert!(shown.contains(help), "{shown}");
            assert!(!shown.contains("sk-123456789"), "{shown}");
        }
        let shown = read("t.yaml", "models: { a: { targets: } }").into_config().unwrap_err().to_string();
        assert!(!shown.contains("help"), "{shown}");
    }

    #[test]
    fn what_is_no_configuration_at_all_is_named() {
        for (text, headline) in [
            ("- a\n- b\n", "t.yaml:1:1: error: expected a map, found a list"),
            ("just text\n", "t.yaml:1:1: error: expected a map, found the text `just text`"),
            ("a: 1\n---\nb: 2\n", "t.yaml:2:1: error: a second document begins here"),
            ("limits:\n\tbody: 1\n", "t.yaml:2:1: error: a tab in the indentation"),
        ] {
            assert_eq!(headlines(text), [headline], "{text:?}");
        }
        let error = utf8("t.yaml", b"a: 1\nb: \xff\n".to_vec()).unwrap_err();
        assert_eq!(error.0[0].headline(), "t.yaml:2:4: error: not valid UTF-8");
    }

    #[test]
    fn a_pasted_secret_is_never_shown() {
        for text in [
            "providers: { a: { keys: [ abcdefghij123 ] } }",
            "providers: { a: { keys: [ { secret: abcdefghij123 } ] } }",
            "providers: { a: { keys: abcdefghij123 } }",
            "providers: { a: { api_key: abcdefghij123 } }",
            "providers: { a: { key: [ abcdefghij123 ] } }",
            "admin: { token: abcdefghij123 }",
            "admin: { tokn: { secret: abcdefghij123 } }",
            "providers: { a: { base_url: 'x', key: sk-abcdefghij123 }",
        ] {
            let shown = read("t.yaml", text).into_config().unwrap_err().to_string();
            assert!(!shown.contains("abcdefghij123"), "{text}: {shown}");
        }
    }

    #[test]
    fn a_damaged_file_gives_a_configuration_or_errors_but_never_a_panic() {
        let text = include_str!("default.yaml");
        let attempt = |text: &str| {
            let _ = read("t.yaml", text).into_config().map_err(|all| all.to_string());
        };
        for at in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
            attempt(&text[..at]);
            for piece in [
                "[", "}", ":", "\"", "\t", "&a *a", "!!map ", "- ", "\n", "|\n", "? ", "ä", "\0", "<<: ",
                "---\n",
            ] {
                attempt(&format!("{}{piece}{}", &text[..at], &text[at..]));
            }
        }
    }
}
