//! The vocabulary for editors (`.d.rhai`, as the Rhai language server reads them) and for programs (JSON).

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::signature::{Form, Type};
use super::{Entry, KINDS, manual, vocabulary};

/// The definition file for editors: put it where the language server looks, beside the policies.
pub fn definitions() -> String {
    let mut out = String::from(
        "// Written by `tollgate policy definitions`: what Tollgate adds to the Rhai language.\n\
         module static;\n\n\
         /// The tables of the configuration's `data:`.\n\
         const data: Map;\n",
    );
    for entry in vocabulary().iter().filter(|entry| entry.row.later.is_none()) {
        out.push('\n');
        for line in manual::meaning(entry).lines() {
            let _ = writeln!(out, "/// {line}");
        }
        let _ = writeln!(out, "{}", declaration(entry));
    }
    out
}

/// The vocabulary as data.
pub fn described() -> Value {
    let kinds: Vec<Value> = KINDS
        .iter()
        .map(|kind| json!({ "name": kind.name, "receiver": kind.receiver, "title": kind.title }))
        .collect();
    let words: Vec<Value> = vocabulary().iter().map(word).collect();
    json!({ "kinds": kinds, "words": words })
}

fn word(entry: &Entry) -> Value {
    let form = match entry.form {
        Form::Property => "property",
        Form::Indexed => "indexed",
        Form::Method => "method",
        Form::Function => "function",
    };
    let parameters: Vec<Value> =
        entry.parameters.iter().map(|p| json!({ "name": p.name, "type": in_words(p.takes) })).collect();
    let mut word = json!({
        "name": entry.name, "form": form, "signature": entry.row.signature, "parameters": parameters,
        "gives": in_words(entry.gives), "doc": entry.row.doc, "hooks": entry.row.hooks.names(),
    });
    if let Some(kind) = entry.on {
        word["of"] = kind.name.into();
    }
    if let Some(later) = entry.row.later {
        word["later"] = later.into();
    }
    word
}

fn in_words(what: Type) -> String {
    let list = if what.list { "list of " } else { "" };
    let optional = if what.optional { " or ()" } else { "" };
    format!("{list}{}{optional}", what.word)
}

fn declaration(entry: &Entry) -> String {
    let receiver = entry
        .on
        .map(|kind| format!("{}: {}", kind.receiver.rsplit('.').next().unwrap_or_default(), kind.name));
    let parameters = entry.parameters.iter().map(|p| format!("{}: {}", plain(p.name), rhai_type(p.takes)));
    let all: Vec<String> = receiver.into_iter().chain(parameters).collect();
    let what = match entry.form {
        Form::Property | Form::Indexed => "get ",
        Form::Method | Form::Function => "",
    };
    let gives = if entry.form == Form::Indexed { "Map".into() } else { rhai_type(entry.gives) };
    format!("fn {what}{}({}) -> {gives};", entry.name, all.join(", "))
}

/// A parameter's name as the language allows it.
fn plain(name: &str) -> &str {
    if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') { name } else { "_" }
}

fn rhai_type(what: Type) -> String {
    if what.optional {
        return "?".into();
    }
    if what.list {
        return "Array".into();
    }
    match what.word {
        "text" => "String",
        "number" => "int",
        "decimal" => "float",
        "true/false" => "bool",
        "list" => "Array",
        "map" => "Map",
        "nothing" => "()",
        "anything" => "?",
        kind => kind,
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The language has no bodiless functions of its own: with types taken away and bodies put in, each declaration
    /// must be one that it takes.
    #[test]
    fn every_declaration_is_the_language_s_own() {
        let text = definitions();
        let mut functions = 0;
        for line in text.lines().filter(|line| line.starts_with("fn ")) {
            let (head, gives) = line.strip_suffix(';').unwrap().rsplit_once(" -> ").unwrap();
            assert!(gives.chars().all(|c| c.is_alphanumeric() || "?()".contains(c)), "{line}");
            let (name, parameters) = head.strip_suffix(')').unwrap().split_once('(').unwrap();
            // `call` is the language's own word, which the gateway's method overloads.
            let name = name.replace("fn get ", "fn get_").replace("fn call", "fn call_");
            let names: Vec<_> =
                parameters.split(", ").filter_map(|p| p.split_once(": ")).map(|(name, _)| name).collect();
            let script = format!("{name}({}) {{ }}", names.join(", "));
            rhai::Engine::new().compile(&script).unwrap_or_else(|error| panic!("{line}: {script}: {error}"));
            functions += 1;
        }
        assert!(functions > 80, "{functions}");
        assert!(text.contains("\nfn get model(req: Request) -> String;\n"), "{text}");
        assert!(text.contains("\nfn texts(req: Request, role: String) -> Array;\n"), "{text}");
    }

    #[test]
    fn programs_read_what_is_still_to_come() {
        let all = described();
        let words = all["words"].as_array().unwrap();
        let find = |name: &str| words.iter().find(|word| word["name"] == name).unwrap();
        assert!(find("similar_to")["later"].is_string());
        assert_eq!(find("model")["of"], "Request");
        assert_eq!(find("bucket")["parameters"].as_array().unwrap().len(), 3);
    }
}
