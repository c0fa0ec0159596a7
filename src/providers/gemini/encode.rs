//! The canonical chat request as a generateContent request: <https://ai.google.dev/api/generate-content>

use serde_json::{Value, json};

use super::model::Model;
use super::{Surface, contents, request, schema, think, tools};
use crate::chat::{Loss, Object, OutputFormat, Request, ToolKind};
use crate::fault::Fault;
use crate::json;
use crate::providers::search::OPTIONS;
use crate::providers::{Outgoing, QuirkSettings, foreign};
use crate::target::TargetName;

/// Fields of this dialect's own requests, which come from its own door, in either spelling.
const OWN: &[(&str, &str)] = &[
    ("safetySettings", "safetySettings"),
    ("safety_settings", "safetySettings"),
    ("cachedContent", "cachedContent"),
    ("cached_content", "cachedContent"),
    ("labels", "labels"),
    ("modelArmorConfig", "modelArmorConfig"),
    ("serviceTier", "serviceTier"),
    ("store", "store"),
];

/// The upstream request.
///
/// # Errors
/// `BadRequest` that names the part which Gemini cannot carry.
pub(super) fn chat(
    asked: &Request,
    target: &TargetName,
    quirks: &QuirkSettings,
    surface: Surface,
) -> Result<Outgoing, Fault> {
    let model = Model::of(&target.model);
    let (mut body, mut lost) = (Object::new(), Vec::new());
    let plain = contents::put(&asked.messages, model, &mut body, &mut lost)?;
    if surface == Surface::Vertex && !model.is_third() {
        contents::without_ids(&mut body);
    }
    tools::put(asked, model, surface, &mut body, &mut lost);
    let mut config = Object::new();
    sampling(asked, &mut config, &mut lost);
    output(asked, model, &mut body, &mut config, &mut lost);
    if let Some(thinking) = asked.reasoning.as_ref().and_then(|r| think::config(r, model, &mut lost)) {
        config.insert("thinkingConfig".into(), Value::Object(thinking));
    }
    // The other name of it is reported by that name.
    let named = asked.rest.get("safety_identifier").and_then(Value::as_str);
    if asked.user.is_some() && asked.user.as_deref() != named {
        lost.push(Loss::dropped("user"));
    }
    if !asked.metadata.is_empty() {
        lost.push(Loss::dropped("metadata"));
    }
    rest(&asked.rest, &mut body, &mut config, &mut lost);
    if !config.is_empty() {
        body.insert("generationConfig".into(), Value::Object(config));
    }
    let method = if asked.stream { request::STREAM } else { request::WHOLE };
    let path = request::path(quirks, &target.model, method);
    let json = json::object_with(&body, "contents", &plain);
    let mut outgoing = request::outgoing(path, asked.stream, vec![json.into()]);
    outgoing.lost = lost;
    Ok(outgoing)
}

fn put<T: Into<Value>>(config: &mut Object, field: &str, value: Option<T>) {
    if let Some(value) = value {
        config.insert(field.into(), value.into());
    }
}

fn sampling(asked: &Request, config: &mut Object, lost: &mut Vec<Loss>) {
    let sampling = &asked.sampling;
    put(config, "temperature", sampling.temperature);
    put(config, "topP", sampling.top_p);
    put(config, "topK", sampling.top_k);
    put(config, "candidateCount", sampling.n.filter(|n| *n != 1));
    put(config, "maxOutputTokens", asked.max_output_tokens);
    if !sampling.stop.is_empty() {
        // No more than five are taken: https://ai.google.dev/api/generate-content#generationconfig
        let kept = sampling.stop.get(..5).unwrap_or(&sampling.stop);
        if kept.len() < sampling.stop.len() {
            lost.push(Loss::new("stop", "cut to five sequences"));
        }
        put(config, "stopSequences", Some(kept.to_vec()));
    }
    put(config, "presencePenalty", sampling.presence_penalty);
    put(config, "frequencyPenalty", sampling.frequency_penalty);
    if let Some(seed) = sampling.seed {
        // 32 bits are taken; the same seed is cut to the same number.
        #[allow(clippy::cast_possible_truncation, reason = "a seed only has to be the same every time")]
        let short = i32::try_from(seed).unwrap_or(seed as i32);
        if i64::from(short) != seed {
            lost.push(Loss::new("seed", "cut to 32 bits"));
        }
        config.insert("seed".into(), short.into());
    }
    if sampling.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty()) {
        lost.push(Loss::dropped("logit_bias"));
    }
    put(config, "responseLogprobs", sampling.logprobs.filter(|wanted| *wanted));
    if sampling.logprobs == Some(true) {
        put(config, "logprobs", sampling.top_logprobs.filter(|n| *n > 0));
    }
}

fn output(asked: &Request, model: Model<'_>, body: &mut Object, config: &mut Object, lost: &mut Vec<Loss>) {
    const JSON: &str = "application/json";
    let output = &asked.output;
    // Before Gemini 3, functions and JSON exclude each other.
    if model.excludes() && asked.tools.iter().any(|tool| tool.kind != ToolKind::Server) {
        let wanted = match output {
            OutputFormat::JsonObject => "When you do not call a function, answer with JSON alone.".to_owned(),
            OutputFormat::JsonSchema { .. } => format!(
                "When you do not call a function, answer with JSON alone that fits this JSON Schema:\n{}",
                output.described_schema()
            ),
            OutputFormat::Text | OutputFormat::Other(_) => String::new(),
        };
        if !wanted.is_empty() {
            let what = "asked for in the instructions: this model takes functions or JSON, not both";
            lost.push(Loss::new("response_format", what));
            let instructions = body.entry("systemInstruction").or_insert_with(|| json!({ "parts": [] }));
            if let Some(parts) = instructions.get_mut("parts").and_then(Value::as_array_mut) {
                parts.push(json!({ "text": wanted }));
            }
            return;
        }
    }
    match output {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => put(config, "responseMimeType", Some(JSON)),
        OutputFormat::JsonSchema { .. } => {
            put(config, "responseMimeType", Some(JSON));
            let mut schema = output.described_schema();
            if model.reads_json_schema() {
                if let Value::Object(object) = &mut schema {
                    object.shift_remove("$schema");
                }
                config.insert("responseJsonSchema".into(), schema);
            } else {
                let schema = schema::down(&schema, "response_format.json_schema.schema", lost);
                config.insert("responseSchema".into(), schema);
            }
        }
        OutputFormat::Other(value) => {
            let own = |camel: &str, snake: &str| value.get(camel).or_else(|| value.get(snake)).cloned();
            match own("responseMimeType", "response_mime_type") {
                Some(mime) => {
                    config.insert("responseMimeType".into(), mime);
                    put(config, "responseSchema", own("responseSchema", "response_schema"));
                    put(config, "responseJsonSchema", own("responseJsonSchema", "response_json_schema"));
                }
                None => lost.push(Loss::dropped("response_format")),
            }
        }
    }
}

/// Fields that the canonical form does not know: this dialect's own, Google's extensions of OpenAI's, and others'.
fn rest(rest: &Object, body: &mut Object, config: &mut Object, lost: &mut Vec<Loss>) {
    for (field, value) in rest.iter().filter(|(_, value)| !value.is_null()) {
        if let Some((_, own)) = OWN.iter().find(|(known, own)| known == field && *own != "store") {
            body.insert((*own).into(), value.clone());
            continue;
        }
        match (&**field, value) {
            ("generationConfig", Value::Object(more)) => {
                for (key, value) in more {
                    config.entry(key).or_insert_with(|| value.clone());
                }
            }
            // https://ai.google.dev/gemini-api/docs/openai#extra-body
            ("google", Value::Object(google)) => extensions(google, body, config, lost),
            ("extra_body", Value::Object(extra)) => match extra.get("google") {
                Some(Value::Object(google)) => extensions(google, body, config, lost),
                _ => lost.push(Loss::dropped("extra_body")),
            },
            ("modalities", Value::Array(words)) => {
                let words = words.iter().filter_map(Value::as_str).map(str::to_ascii_uppercase);
                let words: Vec<String> = words.collect();
                if words != ["TEXT"] {
                    put(config, "responseModalities", Some(words));
                }
            }
            (OPTIONS, Value::Object(_)) => {}
            // https://ai.google.dev/gemini-api/docs/flex-inference
            ("service_tier", Value::String(tier)) if matches!(&**tier, "flex" | "priority") => {
                body.insert("serviceTier".into(), tier.as_str().into());
            }
            (field, value) if foreign::is_usual(field, value) => {}
            _ => lost.push(Loss::dropped(field.clone())),
        }
    }
}

/// Google's own fields inside of an OpenAI request.
fn extensions(google: &Object, body: &mut Object, config: &mut Object, lost: &mut Vec<Loss>) {
    for (field, value) in google {
        match &**field {
            "thinking_config" | "thinkingConfig" => {
                config.insert("thinkingConfig".into(), value.clone());
            }
            "cached_content" | "cachedContent" => {
                body.insert("cachedContent".into(), value.clone());
            }
            "safety_settings" | "safetySettings" => {
                body.insert("safetySettings".into(), value.clone());
            }
            _ => lost.push(Loss::dropped(format!("google.{field}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Part, Role, Tool, ToolChoice};

    fn encoded(asked: &Request, model: &str) -> (Value, Vec<String>) {
        let target = TargetName { provider: "gemini".into(), model: model.into() };
        let outgoing = chat(asked, &target, &QuirkSettings::default(), Surface::Gemini).unwrap();
        let lost = outgoing.lost.iter().map(|loss| loss.path.to_string()).collect();
        (serde_json::from_slice(&outgoing.body.concat()).unwrap(), lost)
    }

    fn said(role: Role, texts: &[&str]) -> Message {
        let content = texts.iter().map(|text| Part::text(*text)).collect();
        Message { role, content, name: None, rest: Object::new() }
    }

    fn tool(name: &str, kind: ToolKind) -> Tool {
        let rest = json!({ "type": "web_search_20250305", "name": name }).as_object().unwrap().clone();
        let rest = if kind == ToolKind::Server { rest } else { Object::new() };
        let parameters =
            (kind == ToolKind::Function).then(|| json!({"type": "object", "properties": {"a": {}}}));
        Tool { name: name.into(), description: None, parameters, strict: None, kind, cache: None, rest }
    }

    #[test]
    fn empty_texts_are_not_said() {
        for (messages, expected) in [
            (vec![said(Role::User, &[""])], json!([{"role": "user", "parts": [{"text": " "}]}])),
            (
                vec![said(Role::User, &["a"]), said(Role::Assistant, &[""]), said(Role::User, &["", "b"])],
                json!([{"role": "user", "parts": [{"text": "a"}]}, {"role": "user", "parts": [{"text": "b"}]}]),
            ),
        ] {
            let (sent, _) = encoded(&Request { messages, ..Request::default() }, "gemini-2.5-flash");
            assert_eq!(sent["contents"], expected);
        }
    }

    #[test]
    fn the_service_is_asked_for_by_googles_name() {
        let mut asked = Request { messages: vec![said(Role::User, &["q"])], ..Request::default() };
        for (tier, expected, told) in
            [("flex", json!("flex"), true), ("default", Value::Null, true), ("scale", Value::Null, false)]
        {
            asked.rest.insert("service_tier".into(), tier.into());
            let (sent, lost) = encoded(&asked, "gemini-2.5-flash");
            assert_eq!(sent.get("serviceTier").cloned().unwrap_or_default(), expected, "{tier}");
            assert_eq!(lost.is_empty(), told, "{tier}: {lost:?}");
        }
    }

    #[test]
    fn a_search_that_openais_chat_asks_for_is_googles_own() {
        let mut asked = Request { messages: vec![said(Role::User, &["q"])], ..Request::default() };
        for (options, expected) in [
            (json!({"search_context_size": "low"}), &[][..]),
            (json!({"user_location": {"type": "approximate"}}), &["web_search_options"]),
        ] {
            asked.rest.insert("web_search_options".into(), options);
            let (sent, lost) = encoded(&asked, "gemini-2.5-flash");
            assert_eq!(sent["tools"], json!([{"googleSearch": {}}]));
            assert_eq!(lost, expected);
        }
    }

    #[test]
    fn what_older_models_cannot_do_at_once_is_told() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let output = OutputFormat::JsonSchema { name: "n".into(), description: None, schema, strict: None };
        let tools = vec![tool("f", ToolKind::Function), tool("web_search", ToolKind::Server)];
        let tool_choice = Some(ToolChoice::Named("web_search".into()));
        let messages = vec![said(Role::User, &["q"])];
        let asked = Request { messages, tools, tool_choice, output, ..Request::default() };
        let (sent, lost) = encoded(&asked, "gemini-2.5-flash");
        assert_eq!(sent["tools"].as_array().map(Vec::len), Some(1), "{sent:#}");
        assert!(sent["generationConfig"].get("responseMimeType").is_none(), "{sent:#}");
        assert!(sent["systemInstruction"]["parts"][0]["text"].as_str().unwrap().contains("JSON Schema"));
        assert!(sent.get("toolConfig").is_none(), "a name that is not offered is refused");
        assert_eq!(lost, ["tools", "tool_choice", "response_format"]);
        let (sent, lost) = encoded(&asked, "gemini-3-flash-preview");
        assert_eq!(sent["tools"].as_array().map(Vec::len), Some(2), "{sent:#}");
        assert_eq!(sent["generationConfig"]["responseMimeType"], "application/json");
        assert_eq!(lost, ["tool_choice"]);
    }

    #[test]
    fn files_of_other_vendors_are_refused() {
        for (id, taken) in
            [("files/a1", true), ("gs://b/a.pdf", true), ("file-1", false), ("file_011C", false)]
        {
            let media = crate::chat::Media::FileId(id.into());
            let content = vec![Part::text("read"), Part::File { media, filename: None, cache: None }];
            let message = Message { role: Role::User, content, name: None, rest: Object::new() };
            let asked = Request { messages: vec![message], ..Request::default() };
            let target = TargetName { provider: "gemini".into(), model: "gemini-3.8-flash".into() };
            let sent = chat(&asked, &target, &QuirkSettings::default(), Surface::Gemini);
            let param = sent.err().and_then(|fault| fault.param);
            assert_eq!(param.as_deref(), (!taken).then_some("messages[0].content[1]"), "{id}");
        }
    }
}
