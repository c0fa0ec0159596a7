//! Prompts without what must not leave: every place of a request in which text stands.

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Number, Value, json};

use crate::chat::{Media, Message, Object, OutputFormat, Part, Request, Tool, ToolKind};
use crate::fault::{Fault, FaultKind};
use crate::json::rename;
use crate::plan::OutputRules;

/// What stands in the place of a text where all text is taken out.
const ALL_GONE: &str = "[REDACTED]";

/// Fields beside the canonical form that hold texts.
const TEXTS: [&str; 3] = ["documents", "prediction", "safety_identifier"];

/// The request without what must not leave.
///
/// # Errors
/// More to take out than can be looked for.
pub(super) fn redact(request: &mut Request, rules: &OutputRules) -> Result<(), Fault> {
    if !rules.changes_prompt() {
        return Ok(());
    }
    let eraser = Eraser::of(rules)?;
    request.messages.iter_mut().for_each(|message| eraser.message(message));
    request.tools.iter_mut().for_each(|tool| eraser.tool(tool));
    eraser.output(&mut request.output);
    if let Some(user) = &mut request.user {
        eraser.text(user);
    }
    // It only helps the provider to be quick, and it may repeat the prompt.
    if request.rest.get("prediction").is_some_and(|prediction| eraser.finds(prediction)) {
        request.rest.shift_remove("prediction");
    }
    if rules.redact_all {
        request.sampling.stop.clear();
        request.metadata.clear();
        request.rest.retain(|field, _| !TEXTS.contains(&&**field));
    } else {
        // The model says a placeholder where it would have said the text.
        request.sampling.stop.iter_mut().for_each(|stop| eraser.text(stop));
        eraser.fields(&mut request.metadata, Numbers::Inside);
        eraser.fields(&mut request.rest, Numbers::Whole);
    }
    Ok(())
}

/// Where a text is looked for in numbers.
#[derive(Clone, Copy)]
enum Numbers {
    /// In their digits: of what was said.
    Inside,
    /// In all of their digits: of parameters, which a stray digit would break.
    Whole,
}

/// Takes texts out of a request. All of them are looked for at once: a prompt may have thousands.
struct Eraser<'r> {
    rules: &'r OutputRules,
    values: AhoCorasick,
}

impl<'r> Eraser<'r> {
    fn of(rules: &'r OutputRules) -> Result<Self, Fault> {
        let values = rules.redact.iter().map(|it| it.value.as_bytes());
        let built = AhoCorasickBuilder::new().match_kind(MatchKind::LeftmostLongest).build(values);
        let values = built.map_err(|error| {
            let text = format!("the texts to be taken out of the prompt cannot be looked for: {error}");
            Fault::new(FaultKind::Internal, text)
        })?;
        Ok(Self { rules, values })
    }

    fn erased(&self, text: &str) -> Option<String> {
        if self.rules.redact_all {
            return (!text.is_empty()).then(|| ALL_GONE.to_owned());
        }
        let (mut out, mut rest) = (String::new(), 0);
        for found in self.values.find_iter(text) {
            out.push_str(text.get(rest..found.start()).unwrap_or_default());
            out.push_str(self.rules.redact.get(found.pattern().as_usize()).map_or("", |it| &it.placeholder));
            rest = found.end();
        }
        (rest > 0).then(|| out + text.get(rest..).unwrap_or_default())
    }

    fn erased_number(&self, number: &Number, numbers: Numbers) -> Option<String> {
        let digits = number.to_string();
        let is_whole = || self.values.find(&digits).is_some_and(|found| found.len() == digits.len());
        match numbers {
            Numbers::Whole if !is_whole() => None,
            _ => self.erased(&digits),
        }
    }

    fn text(&self, text: &mut String) {
        if let Some(erased) = self.erased(text) {
            *text = erased;
        }
    }

    fn message(&self, message: &mut Message) {
        message.content.iter_mut().for_each(|part| self.part(part));
        if self.rules.redact_all {
            message.name = None;
            message.rest.clear();
            return;
        }
        if let Some(name) = &mut message.name {
            self.text(name);
        }
        self.fields(&mut message.rest, Numbers::Whole);
    }

    /// Tools keep their names, by which they are called.
    fn tool(&self, tool: &mut Tool) {
        if let Some(description) = &mut tool.description {
            self.text(description);
        }
        if let Some(parameters) = &mut tool.parameters {
            self.schema(parameters);
        }
        if !self.rules.redact_all {
            let own = tool.kind == ToolKind::Server;
            rename(&mut tool.rest, |key, field| {
                // By these, the provider knows its own tool.
                if own && matches!(key, "type" | "name") {
                    return None;
                }
                self.value(field, Numbers::Whole);
                self.erased(key).filter(|_| !own)
            });
        } else if tool.kind != ToolKind::Server {
            // Of a provider's own tool, it is all that there is.
            tool.rest.clear();
        }
    }

    fn output(&self, output: &mut OutputFormat) {
        match output {
            OutputFormat::Text | OutputFormat::JsonObject => {}
            OutputFormat::JsonSchema { name, description, schema, .. } => {
                if !self.rules.redact_all
                    && let Some(erased) = self.erased(name)
                {
                    *name = as_name(&erased);
                }
                if let Some(description) = description {
                    self.text(description);
                }
                self.schema(schema);
            }
            OutputFormat::Other(_) if self.rules.redact_all => *output = OutputFormat::Text,
            OutputFormat::Other(value) => self.keywords(value),
        }
    }

    /// A schema stays one.
    fn schema(&self, schema: &mut Value) {
        if self.rules.redact_all {
            *schema = json!({ "type": "object" });
        } else {
            self.keywords(schema);
        }
    }

    /// A schema keeps its own words. A bound that would tell what is to be taken out is no bound any more.
    fn keywords(&self, schema: &mut Value) {
        match schema {
            Value::Array(schemas) => schemas.iter_mut().for_each(|schema| self.keywords(schema)),
            Value::Object(keywords) => {
                keywords.retain(|key, value| match value {
                    Value::Number(number) if !DATA.contains(&&**key) => {
                        self.erased_number(number, Numbers::Whole).is_none()
                    }
                    _ => true,
                });
                rename(keywords, |key, value| {
                    match (key, &mut *value) {
                        ("type" | "format" | "$schema", value) if is_words(value) => {}
                        (key, Value::Object(named)) if NAMED.contains(&key) => {
                            rename(named, |name, schema| {
                                self.keywords(schema);
                                self.erased(name)
                            });
                        }
                        (key, value) if DATA.contains(&key) => self.value(value, Numbers::Whole),
                        (_, value) => self.keywords(value),
                    }
                    self.erased(key).filter(|_| !WORDS.contains(&key))
                });
            }
            value => self.value(value, Numbers::Whole),
        }
    }

    fn part(&self, part: &mut Part) {
        match part {
            Part::Text { text, citations, .. } => {
                if let Some(erased) = self.erased(text) {
                    *text = erased.into();
                }
                citations.iter_mut().for_each(|value| self.value(value, Numbers::Inside));
            }
            Part::Refusal(text) => self.text(text),
            Part::Thinking { text, signature, .. } => {
                if let Some(erased) = self.erased(text) {
                    // It proved another text.
                    (*text, *signature) = (erased, None);
                }
            }
            Part::ToolCall { arguments, .. } => self.arguments(arguments),
            Part::ToolResult { content, .. } => content.iter_mut().for_each(|part| self.part(part)),
            Part::Other(value) => self.value(value, Numbers::Inside),
            Part::File { media, filename, .. } => {
                if let Some(filename) = filename {
                    self.text(filename);
                }
                let erased = media.as_text().and_then(|text| self.erased(&text));
                if let (Media::Inline { base64, .. }, Some(erased)) = (media, erased) {
                    *base64 = BASE64_STANDARD.encode(erased);
                }
            }
            Part::Image { .. } | Part::Audio { .. } => {}
        }
    }

    /// Whether something is to be taken out of a value.
    fn finds(&self, value: &Value) -> bool {
        let mut without = value.clone();
        self.value(&mut without, Numbers::Inside);
        without != *value
    }

    /// Arguments are JSON, in which a text may be written in several ways.
    fn arguments(&self, arguments: &mut String) {
        match serde_json::from_str::<Value>(arguments) {
            Ok(mut value @ (Value::Object(_) | Value::Array(_))) => {
                let before = value.clone();
                self.value(&mut value, Numbers::Inside);
                if value != before {
                    *arguments = value.to_string();
                }
            }
            _ => self.text(arguments),
        }
    }

    fn value(&self, value: &mut Value, numbers: Numbers) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item, numbers)),
            Value::Object(fields) => self.fields(fields, numbers),
            Value::Number(number) => {
                if let Some(erased) = self.erased_number(number, numbers) {
                    *value = erased.into();
                }
            }
            _ => {}
        }
    }

    fn fields(&self, fields: &mut Object, numbers: Numbers) {
        rename(fields, |key, field| {
            self.value(field, numbers);
            self.erased(key)
        });
    }
}

/// Whether a value is a word or a list of them, and no schema.
fn is_words(value: &Value) -> bool {
    match value {
        Value::Array(words) => words.iter().all(Value::is_string),
        other => other.is_string(),
    }
}

/// A schema's name in the letters and the length that providers take.
fn as_name(text: &str) -> String {
    let kept: String =
        text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).take(64).collect();
    if kept.is_empty() { "answer".to_owned() } else { kept }
}

/// Keywords of a schema that hold values, or names of properties.
const DATA: [&str; 6] = ["default", "const", "enum", "examples", "example", "dependentRequired"];

/// Keywords of a schema that hold a schema for each name.
const NAMED: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// Keywords of a schema, which stay as they are: <https://json-schema.org/draft/2020-12/schema>
const WORDS: [&str; 63] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$ref",
    "$schema",
    "$vocabulary",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "dependentRequired",
    "dependentSchemas",
    "deprecated",
    "description",
    "discriminator",
    "else",
    "enum",
    "example",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "nullable",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "propertyOrdering",
    "readOnly",
    "required",
    "then",
    "title",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "writeOnly",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Role;
    use crate::plan::Redaction;

    const MAIL: &str = "ada@x.org";

    /// A request that has the address in every place of a text.
    fn request() -> Request {
        let fields = |value: Value| value.as_object().cloned().unwrap();
        let call = Part::ToolCall {
            id: "c".into(),
            name: "f".into(),
            arguments: json!({MAIL: {"to": MAIL}}).to_string(),
            kind: ToolKind::Function,
            signature: None,
            cache: None,
        };
        let file = Part::File {
            media: Media::Inline { mime: "text/plain".into(), base64: BASE64_STANDARD.encode(MAIL) },
            filename: Some(format!("{MAIL}.txt")),
            cache: None,
        };
        let said =
            vec![Part::text(MAIL), Part::Refusal(MAIL.into()), Part::Other(json!({"t": MAIL})), call, file];
        let tool = Tool {
            name: "f".into(),
            description: Some(format!("mail {MAIL}")),
            parameters: Some(json!({"type": "object", "properties": {MAIL: {"description": MAIL}}})),
            strict: None,
            kind: ToolKind::Function,
            cache: None,
            rest: fields(json!({"input_examples": [{"to": MAIL}]})),
        };
        let (name, rest) = (Some(MAIL.into()), fields(json!({"note": MAIL})));
        let mut request = Request {
            messages: vec![Message { role: Role::User, content: said, name, rest }],
            tools: vec![tool],
            output: OutputFormat::JsonSchema {
                name: "answer".into(),
                description: Some(MAIL.into()),
                schema: json!({"description": MAIL}),
                strict: None,
            },
            user: Some(MAIL.into()),
            metadata: fields(json!({MAIL: MAIL})),
            rest: fields(json!({"documents": [MAIL], "seed_of": 7})),
            ..Request::default()
        };
        request.sampling.stop = vec![MAIL.into()];
        request
    }

    fn without(rules: &OutputRules) -> (Request, String) {
        let mut request = request();
        redact(&mut request, rules).unwrap();
        let said = format!("{request:?}");
        for hidden in [MAIL, &*BASE64_STANDARD.encode(MAIL)] {
            assert!(!said.contains(hidden), "{said}");
        }
        (request, said)
    }

    #[test]
    fn no_place_of_a_request_keeps_what_is_taken_out() {
        let redaction = Redaction { value: MAIL.into(), placeholder: "[EMAIL_1]".into(), restore: true };
        let (request, said) = without(&OutputRules { redact: vec![redaction], ..OutputRules::default() });
        assert_eq!(request.messages[0].content[0], Part::text("[EMAIL_1]"));
        let tool = &request.tools[0];
        assert_eq!((&*tool.name, tool.description.as_deref()), ("f", Some("mail [EMAIL_1]")));
        let parameters = json!({"type": "object", "properties": {"[EMAIL_1]": {"description": "[EMAIL_1]"}}});
        assert_eq!(tool.parameters, Some(parameters));
        assert!(said.contains(r#"{\"[EMAIL_1]\":{\"to\":\"[EMAIL_1]\"}}"#), "{said}");
        assert_eq!(Value::Object(request.rest), json!({"documents": ["[EMAIL_1]"], "seed_of": 7}));
    }

    #[test]
    fn where_all_text_is_taken_out_the_request_stays_one() {
        let (request, _) = without(&OutputRules { redact_all: true, ..OutputRules::default() });
        assert_eq!(request.tools[0].parameters, Some(json!({"type": "object"})));
        assert_eq!(Value::Object(request.rest), json!({"seed_of": 7}));
        assert!(request.sampling.stop.is_empty() && request.metadata.is_empty());
    }

    #[test]
    fn parameters_stay_in_the_words_and_numbers_of_their_provider() {
        let taken = |value: &str, placeholder: &str| Redaction {
            value: value.into(),
            placeholder: placeholder.into(),
            restore: true,
        };
        let found = [("2025", "[DATE_1]"), ("25", "[AGE_1]"), ("ada", "[PERSON_1]"), ("max", "[PERSON_2]")];
        let rules = OutputRules {
            redact: found.map(|(value, placeholder)| taken(value, placeholder)).into(),
            ..OutputRules::default()
        };
        let fields = |value: Value| value.as_object().cloned().unwrap();
        let tool = |kind, parameters: Option<Value>, rest: Value| Tool {
            name: "f".into(),
            description: None,
            parameters,
            strict: None,
            kind,
            cache: None,
            rest: fields(rest),
        };
        let schema = json!({"type": "object", "maxProperties": 25, "properties": {
            "max": {"type": "integer", "maximum": 250, "minimum": 25, "format": "int2025"},
            "type": {"enum": ["ada", 25, 250], "title": "of ada"}}, "required": ["max"]});
        let output = OutputFormat::JsonSchema {
            name: "ada_report".into(),
            description: None,
            schema: schema.clone(),
            strict: None,
        };
        let search = json!({"type": "web_search_20250305", "name": "max", "max_uses": 25, "allowed_domains": ["ada.org"]});
        let mut request = Request {
            tools: vec![
                tool(ToolKind::Server, None, search),
                tool(ToolKind::Function, Some(schema), json!({"limit": 1250})),
            ],
            output,
            rest: fields(json!({"top": 250, "age": 25})),
            ..Request::default()
        };
        redact(&mut request, &rules).unwrap();
        let expected = json!({"type": "object", "properties": {
            "[PERSON_2]": {"type": "integer", "maximum": 250, "format": "int2025"},
            "type": {"enum": ["[PERSON_1]", "[AGE_1]", 250], "title": "of [PERSON_1]"}},
            "required": ["[PERSON_2]"]});
        let kept = &request.tools[0].rest;
        assert_eq!((&kept["type"], &kept["name"]), (&json!("web_search_20250305"), &json!("max")));
        assert_eq!(kept["allowed_domains"], json!(["[PERSON_1].org"]));
        assert_eq!(request.tools[1].parameters.as_ref(), Some(&expected));
        assert_eq!(request.tools[1].rest["limit"], 1250);
        let OutputFormat::JsonSchema { name, schema, .. } = &request.output else { panic!() };
        assert_eq!((&**name, schema), ("PERSON_1_report", &expected));
        assert_eq!(Value::Object(request.rest), json!({"top": 250, "age": "[AGE_1]"}));
    }
}
