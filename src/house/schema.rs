//! The JSON Schema of the configuration and the reference that is made from it.

use std::fmt::Write;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::config::Config;

/// The JSON Schema of `tollgate.yaml` (draft 2020-12), pretty-printed, with a final line feed.
pub fn schema_json() -> String {
    format!("{:#}\n", schema())
}

/// The reference of all settings as Markdown: one table for each section, made from the schema.
pub fn reference_markdown() -> String {
    let schema = schema();
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Made from the schema by a test in src/house/schema.rs; TOLLGATE_REWRITE=1 cargo test --lib house::schema rewrites it. -->\n\n",
    );
    page.push_str(&describe(schema));
    page.push_str(
        "\n\nEditors that know `yaml-language-server` check and complete the file by [the schema](tollgate.schema.json):\n\n\
         ```yaml\n# yaml-language-server: $schema=docs/tollgate.schema.json\n```\n\n\
         `tollgate check` shows everything that is wrong at once, with file, line and column.\n\
         A complete example: [examples/tollgate.yaml](../examples/tollgate.yaml).\n\n\
         The file is YAML 1.2: `yes`, `on` and `0123` are texts. Anchors, aliases (`*name`) and merge keys (`<<: *name`) work.\n\n\
         | written as | means |\n|---|---|\n\
         | period | a duration: `20s`, `800ms`, `5m`, `1h 30m` |\n\
         | size | a number of bytes: `65536`, `64KiB`, `20MiB`, `1GB` |\n\
         | percent | a share: `5%`, `0.5%`; a plain `5` is 5 % too |\n\
         | secret | a reference to a secret, never the secret itself: `env:NAME`, `file:PATH` (relative to the configuration, watched), or [a store](secrets.md) |\n\
         | date | a day or a moment: `2026-11-01` (its beginning, UTC), `2026-11-01T12:00:00Z` |\n\
         | rate | so many in a period: `60/min`, `1000/day`, `100 per hour`, `10/s`; `60/min burst 10` lets only 10 come at once |\n\
         | address | an IP address and a port: `127.0.0.1:8080`, `[::]:8080` |\n\n",
    );
    section(&mut page, schema, schema, "Top level", 2);
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

/// The schema as a value: the one truth by which a configuration's form is judged.
pub(super) fn schema() -> &'static Value {
    &SCHEMA
}

static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    let mut schema = schema.to_value();
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("title".into(), "Tollgate configuration".into());
    }
    schema
});

/// One table, then the tables of the sections that it names, depth first.
fn section(page: &mut String, root: &Value, schema: &Value, title: &str, level: usize) {
    let Some(fields) = schema.get("properties").and_then(Value::as_object) else { return };
    let _ = write!(page, "{} {title}\n\n", "#".repeat(level.min(4)));
    if level > 2 {
        let _ = write!(page, "{}\n\n", describe(schema));
    }
    page.push_str("| field | type | default | description |\n|---|---|---|---|\n");
    for (name, field) in fields {
        let default = default_of(schema, name, field);
        let _ = writeln!(page, "| `{name}` | {} | {default} | {} |", kind(root, field), describe(field));
    }
    page.push('\n');
    for (name, field) in fields {
        let path = if level == 2 { name.clone() } else { format!("{}.{name}", title.trim_matches('`')) };
        for (suffix, inner) in sections(root, field) {
            section(page, root, inner, &format!("`{path}{suffix}`"), level + 1);
        }
    }
}

fn default_of(schema: &Value, name: &str, field: &Value) -> String {
    let required = schema.get("required").and_then(Value::as_array);
    if required.is_some_and(|names| names.iter().any(|required| required == name)) {
        return "*required*".into();
    }
    match field.get("default") {
        None | Some(Value::Null) => String::new(),
        Some(Value::Object(fields)) if !fields.is_empty() => "see below".into(),
        Some(Value::String(text)) => format!("`{text}`"),
        Some(value) => format!("`{value}`"),
    }
}

/// The maps with fields of their own that a field leads to, and what to write behind its name.
fn sections<'s>(root: &'s Value, field: &'s Value) -> Vec<(&'static str, &'s Value)> {
    let field = resolve(root, field);
    if field.get("properties").is_some() {
        return vec![("", field)];
    }
    let branches = ["anyOf", "oneOf"].iter().filter_map(|word| field.get(*word)?.as_array()).flatten();
    let mut found: Vec<_> = branches.flat_map(|branch| sections(root, branch)).collect();
    let entries = field.get("additionalProperties").filter(|schema| schema.is_object());
    found.extend(entries.iter().flat_map(|entry| sections(root, entry)).map(|(_, s)| (".<name>", s)));
    found.extend(field.get("items").iter().flat_map(|item| sections(root, item)).map(|(_, s)| ("[]", s)));
    found
}

/// What a field is, in words.
fn kind(root: &Value, field: &Value) -> String {
    let field = resolve(root, field);
    if field.get("format").and_then(Value::as_str) == Some("local-secret") {
        return "secret".into();
    }
    if let Some(format @ ("period" | "size" | "percent" | "secret" | "address" | "date" | "rate")) =
        field.get("format").and_then(Value::as_str)
    {
        return format.into();
    }
    if let Some(word) = field.get("const").and_then(Value::as_str) {
        return format!("`{word}`");
    }
    let branches = ["anyOf", "oneOf"].iter().find_map(|word| field.get(*word)?.as_array());
    if let Some(branches) = branches {
        let kinds = branches.iter().map(|branch| kind(root, branch)).filter(|kind| !kind.is_empty());
        return kinds.collect::<Vec<_>>().join(" or ");
    }
    let names: Vec<&str> = match field.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => vec!["anything"],
    };
    let words = names.into_iter().filter(|name| *name != "null").map(|name| match name {
        "string" => "text".to_owned(),
        "integer" => "whole number".into(),
        "boolean" => "true or false".into(),
        "array" => {
            format!("list of {}", field.get("items").map_or("anything".into(), |item| kind(root, item)))
        }
        "object" => match field.get("additionalProperties") {
            Some(Value::Object(_)) => format!("map of {}", kind(root, &field["additionalProperties"])),
            Some(Value::Bool(true)) => "map of anything".into(),
            _ => "map".into(),
        },
        other => other.to_owned(),
    });
    words.collect::<Vec<_>>().join(" or ")
}

fn describe(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    text.replace('\n', " ").replace('|', "\\|")
}

fn resolve<'s>(root: &'s Value, schema: &'s Value) -> &'s Value {
    let target = schema.as_object().and_then(|fields: &Map<String, Value>| fields.get("$ref"));
    let pointer = target.and_then(Value::as_str).and_then(|target| target.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// The file as shipped is what the code makes; `TOLLGATE_REWRITE=1` writes it anew.
    fn shipped(name: &str, made: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        if std::env::var_os("TOLLGATE_REWRITE").is_some() {
            std::fs::write(&path, made).unwrap();
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(found == made, "{name} is stale: run `TOLLGATE_REWRITE=1 cargo test --lib house::schema`");
    }

    #[test]
    fn the_shipped_schema_is_the_codes() {
        shipped("docs/tollgate.schema.json", &schema_json());
    }

    #[test]
    fn the_shipped_reference_is_the_codes() {
        shipped("docs/configuration.md", &reference_markdown());
    }

    #[test]
    fn every_field_is_described() {
        fn walk(path: &str, schema: &Value) {
            for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                assert!(!describe(field).is_empty(), "{path}.{name} lacks its doc comment");
                walk(&format!("{path}.{name}"), field);
            }
        }
        let schema = schema();
        walk("", schema);
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            walk(name, definition);
        }
    }

    #[test]
    fn the_schema_says_only_what_the_validator_understands() {
        const KNOWN: [&str; 19] = [
            "$schema",
            "$defs",
            "$ref",
            "title",
            "description",
            "default",
            "examples",
            "type",
            "properties",
            "additionalProperties",
            "required",
            "items",
            "enum",
            "const",
            "anyOf",
            "oneOf",
            "minimum",
            "maximum",
            "format",
        ];
        fn walk(schema: &Value) {
            for (word, value) in schema.as_object().into_iter().flatten() {
                assert!(
                    KNOWN.contains(&word.as_str()),
                    "`{word}` is not understood by house/validate.rs: {schema}"
                );
                match word.as_str() {
                    "properties" | "$defs" => value.as_object().unwrap().values().for_each(walk),
                    "anyOf" | "oneOf" => value.as_array().unwrap().iter().for_each(walk),
                    "items" | "additionalProperties" => walk(value),
                    _ => {}
                }
            }
        }
        walk(schema());
    }
}
