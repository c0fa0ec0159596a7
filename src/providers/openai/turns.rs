//! Turns of a conversation as a strict vendor wants them: what must stand in a message, and what between two.

use serde_json::{Value, json};

use crate::chat::{Loss, Media, Message, Object, Part};
use crate::fault::Fault;
use crate::json;
use crate::providers::responses::any_matches;
use crate::providers::{QuirkSettings, foreign};

/// What stands between the answer of a tool and the next words of the user, where a vendor wants something there.
const BRIDGE: &str = "OK";

/// Stands for the thinking of calls that another model has made: DeepSeek refuses calls whose thinking is missing, and
/// its fourth version an empty one too.
/// <https://api-docs.deepseek.com/guides/thinking_mode#tool-calls>
const NO_THOUGHT: &str = " ";

/// Whether these messages have to be written anew for this vendor. Only a shallow look, for bytes that are relayed.
pub(super) fn deviate(raw: &str, model: &str, quirks: &QuirkSettings) -> bool {
    let has = |needle: &str| memchr::memmem::find(raw.as_bytes(), needle.as_bytes()).is_some();
    if quirks.thinking_parts && has("\"reasoning") {
        return true;
    }
    if quirks.document_url && has("\"file_data\"") {
        return true;
    }
    if quirks.answer_after_tools && has("\"tool\"") {
        let mut after_tool = false;
        for role in roles(raw) {
            if after_tool && role == "user" {
                return true;
            }
            after_tool = role == "tool";
        }
    }
    if quirks.prefix_last && roles(raw).last().is_some_and(|role| role == "assistant") {
        return true;
    }
    thinks_with_calls(model, quirks)
        && has("\"tool_calls\"")
        && json::elements(raw).any(calls_without_thinking)
}

fn roles(raw: &str) -> impl Iterator<Item = String> {
    json::elements(raw).map(|message| {
        let role = json::entries(message).find(|(key, _)| key == "role");
        role.and_then(|(_, raw)| json::text(raw)).unwrap_or_default().into_owned()
    })
}

fn thinks_with_calls(model: &str, quirks: &QuirkSettings) -> bool {
    !quirks.thinking_with_calls.is_empty() && any_matches(&quirks.thinking_with_calls, model)
}

fn calls_without_thinking(message: &str) -> bool {
    let has = |wanted: &str, nothing: &[&str]| {
        json::entries(message).any(|(key, raw)| key == wanted && !nothing.contains(&raw))
    };
    has("tool_calls", &["null", "[]"]) && !has("reasoning_content", &["null"])
}

/// Whether a message of one text goes to this vendor as it is, wherever it stands.
pub(super) fn may_be_plain(quirks: &QuirkSettings) -> bool {
    let spared = |fields: &[String]| !fields.iter().any(|field| field == "role" || field == "content");
    !quirks.answer_after_tools
        && !quirks.prefix_last
        && spared(&quirks.lacks)
        && spared(&quirks.drop_in_messages)
}

/// Brings the messages to the vendor's form.
pub(super) fn fit(messages: &mut Vec<Value>, model: &str, quirks: &QuirkSettings, lost: &mut Vec<Loss>) {
    let thinks_with_calls = thinks_with_calls(model, quirks);
    for message in messages.iter_mut().filter_map(Value::as_object_mut) {
        if quirks.thinking_parts {
            thinking_parts(message);
        }
        if quirks.document_url {
            documents(message);
        }
        if thinks_with_calls
            && message.get("tool_calls").and_then(Value::as_array).is_some_and(|calls| !calls.is_empty())
            && !message.get("reasoning_content").is_some_and(Value::is_string)
        {
            message.insert("reasoning_content".into(), NO_THOUGHT.into());
        }
    }
    if quirks.answer_after_tools {
        bridge(messages, lost);
    }
    if quirks.prefix_last
        && let Some(Value::Object(last)) = messages.last_mut()
        && last.get("role").is_some_and(|role| role == "assistant")
    {
        last.entry("prefix").or_insert(true.into());
    }
}

/// Calls of custom tools, as a vendor has them who was offered functions with one text instead.
pub(super) fn calls_of_functions(messages: &mut [Value]) {
    let calls = messages.iter_mut().filter_map(|message| message.get_mut("tool_calls")?.as_array_mut());
    for call in calls.flatten() {
        let Some(custom) = call.get("custom") else { continue };
        let text = custom.get("input").and_then(Value::as_str).unwrap_or_default();
        let arguments = json!({ "input": text }).to_string();
        let function = json!({ "name": custom.get("name"), "arguments": arguments });
        *call = json!({ "id": call.get("id"), "type": "function", "function": function });
    }
}

/// Thinking as Mistral has it: <https://docs.mistral.ai/capabilities/reasoning/>
fn thinking_parts(message: &mut Object) {
    let mut thought = message.shift_remove("reasoning_content");
    let other = message.shift_remove("reasoning");
    if !thought.as_ref().is_some_and(Value::is_string) {
        thought = other;
    }
    let Some(Value::String(thought)) = thought.filter(|thought| *thought != "") else { return };
    let thinking = json!([{ "type": "text", "text": thought }]);
    let mut parts = vec![json!({ "type": "thinking", "thinking": thinking, "closed": true })];
    match message.get_mut("content").map(Value::take) {
        Some(Value::String(text)) if !text.is_empty() => parts.push(json!({ "type": "text", "text": text })),
        Some(Value::Array(list)) => {
            // A client that keeps the parts themselves has the thinking in them already.
            if list.iter().any(|part| part.get("type").is_some_and(|kind| kind == "thinking")) {
                parts.clear();
            }
            parts.extend(list);
        }
        _ => {}
    }
    message.insert("content".into(), Value::Array(parts));
}

/// Documents as Mistral has them: <https://docs.mistral.ai/capabilities/document_ai/document_qna/>
fn documents(message: &mut Object) {
    let Some(Value::Array(parts)) = message.get_mut("content") else { return };
    for part in parts {
        let Some(file) = part.get("file") else { continue };
        let place = file.get("file_url").or_else(|| file.get("file_data"));
        let Some(url) = place.and_then(Value::as_str).filter(|url| url.contains(':')) else { continue };
        let mut document = json!({ "type": "document_url", "document_url": url });
        if let (Some(name), Some(document)) = (file.get("filename"), document.as_object_mut()) {
            document.insert("document_name".into(), name.clone());
        }
        *part = document;
    }
}

/// "Unexpected role 'user' after role 'tool'".
fn bridge(messages: &mut Vec<Value>, lost: &mut Vec<Loss>) {
    let is = |message: &Value, role: &str| message.get("role").is_some_and(|known| known == role);
    let places: Vec<usize> = messages
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| matches!(pair, [first, second] if is(first, "tool") && is(second, "user")))
        .map(|(at, _)| at + 1)
        .collect();
    for at in places.into_iter().rev() {
        messages.insert(at, json!({ "role": "assistant", "content": BRIDGE }));
        let what = "an assistant's word put before it: this provider wants one after tools";
        lost.push(Loss::new(format!("messages[{at}]"), what));
    }
}

/// Refuses documents by URL for vendors that fetch none, and films for those whose models see none.
///
/// # Errors
/// `BadRequest` that names the part.
pub(super) fn refuse_media(message: &Message, place: usize, quirks: &QuirkSettings) -> Result<(), Fault> {
    let refused = |part: &Part| match part {
        Part::File { media: Media::Url(_), .. } if !quirks.document_url => Some("a file by URL"),
        Part::Other(value) if foreign::video_url(value).is_some() => {
            quirks.lacks.iter().any(|field| field == "video_url").then_some("a film")
        }
        _ => None,
    };
    for (at, part) in message.content.iter().enumerate() {
        let what = match part {
            Part::ToolResult { content, .. } => content.iter().find_map(refused),
            other => refused(other),
        };
        if let Some(what) = what {
            return foreign::cannot(what, &format!("messages[{place}].content[{at}]"));
        }
    }
    Ok(())
}

/// How hard the model shall think, in this vendor's words: an effort that the model does not know becomes the nearest,
/// and a vendor with a switch is told to be quiet by it.
pub(super) fn effort(body: &mut Object, model: &str, quirks: &QuirkSettings, lost: &mut Vec<Loss>) {
    let Some(asked) = body.get("reasoning_effort").and_then(Value::as_str).map(str::to_owned) else { return };
    let can_rest = quirks.efforts_of(model).is_none_or(|known| known.iter().any(|effort| effort == "none"));
    if quirks.thinking_switch && asked == "none" && can_rest {
        body.shift_remove("reasoning_effort");
        body.entry("thinking").or_insert(json!({ "type": "disabled" }));
        return;
    }
    let Some(known) = quirks.efforts_of(model) else { return };
    match nearest(&asked, known) {
        Some(effort) if effort == asked => {}
        Some(effort) => {
            lost.push(Loss::new("reasoning_effort", format!("became {effort}")));
            body.insert("reasoning_effort".into(), effort.into());
        }
        None => {
            if asked != "none" {
                lost.push(Loss::new("reasoning_effort", "dropped: this model does not know it"));
            }
            body.shift_remove("reasoning_effort");
        }
    }
}

/// The effort in place of an unknown one: the next one up, or the highest.
fn nearest<'a>(asked: &str, known: &'a [String]) -> Option<&'a str> {
    const SCALE: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    let rank = |effort: &str| SCALE.iter().position(|step| *step == effort);
    if let Some(same) = known.iter().find(|effort| *effort == asked) {
        return Some(same);
    }
    let wanted = rank(asked).unwrap_or(3);
    let mut ranked: Vec<_> = known.iter().filter_map(|effort| Some((rank(effort)?, effort))).collect();
    ranked.sort_unstable();
    // As good as nothing is nothing.
    if wanted <= 1 && ranked.first().is_some_and(|(rank, _)| *rank == 0) {
        return Some("none");
    }
    // Who wants to think gets no word for the contrary: a model that knows only that one thinks by itself.
    ranked.retain(|(rank, _)| *rank > 0);
    let up = ranked.iter().find(|(rank, _)| *rank >= wanted).or(ranked.last());
    up.map(|(_, effort)| effort.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::presets;

    fn quirks(preset: &str) -> QuirkSettings {
        presets::find(preset).unwrap().quirks.clone()
    }

    fn fitted(preset: &str, model: &str, messages: Value) -> (Value, bool, usize) {
        let raw = messages.to_string();
        let Value::Array(mut list) = messages else { panic!("{raw}") };
        let mut lost = Vec::new();
        fit(&mut list, model, &quirks(preset), &mut lost);
        (Value::Array(list), deviate(&raw, model, &quirks(preset)), lost.len())
    }

    #[test]
    fn mistral_gets_thinking_in_parts_and_its_order_of_turns() {
        let thinking =
            json!({"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": true});
        for (messages, expected, losses) in [
            (
                json!([{"role": "assistant", "content": "a", "reasoning_content": "hm"}, {"role": "user", "content": "b"}]),
                json!([{"role": "assistant", "content": [thinking, {"type": "text", "text": "a"}]},
                    {"role": "user", "content": "b"}]),
                0,
            ),
            (
                json!([{"role": "assistant", "content": null, "reasoning": "hm", "tool_calls": [{}]}, {"role": "tool"}]),
                json!([{"role": "assistant", "content": [thinking], "tool_calls": [{}]}, {"role": "tool"}]),
                0,
            ),
            (
                json!([{"role": "tool"}, {"role": "tool"}, {"role": "user", "content": "b"}]),
                json!([{"role": "tool"}, {"role": "tool"}, {"role": "assistant", "content": "OK"},
                    {"role": "user", "content": "b"}]),
                1,
            ),
            (
                json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "{"}]),
                json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "{", "prefix": true}]),
                0,
            ),
            (
                json!([{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==",
                    "filename": "a.pdf"}}]}]),
                json!([{"role": "user", "content": [{"type": "document_url",
                    "document_url": "data:application/pdf;base64,AA==", "document_name": "a.pdf"}]}]),
                0,
            ),
        ] {
            assert_eq!(fitted("mistral", "mistral-small-latest", messages), (expected, true, losses));
        }
        let plain = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
            {"role": "tool"}, {"role": "assistant", "content": "c"}, {"role": "user", "content": "d"}]);
        assert_eq!(fitted("mistral", "mistral-small-latest", plain.clone()), (plain, false, 0));
    }

    #[test]
    fn deepseek_gets_thinking_with_every_call() {
        let with = |thought: Value| json!([{"role": "assistant", "tool_calls": [{}], "reasoning_content": thought}, {"role": "tool"}]);
        for thought in ["hm", ""] {
            let said = with(json!(thought));
            assert_eq!(fitted("deepseek", "deepseek-v4-pro", said.clone()), (said, false, 0));
        }
        assert_eq!(fitted("deepseek", "deepseek-reasoner", with(json!(null))), (with(json!(" ")), true, 0));
        let silent = with(json!(null));
        assert_eq!(
            fitted("deepseek", "deepseek-chat", silent.clone()),
            (silent, false, 0),
            "it does not think"
        );
        let plain = json!([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}]);
        assert_eq!(fitted("deepseek", "deepseek-v4-pro", plain.clone()), (plain, false, 0));
    }

    #[test]
    fn kimi_gets_thinking_with_every_call() {
        let call = json!([{"role": "assistant", "tool_calls": [{}]}, {"role": "tool"}]);
        let filled =
            json!([{"role": "assistant", "tool_calls": [{}], "reasoning_content": " "}, {"role": "tool"}]);
        assert_eq!(fitted("moonshot", "kimi-k3", call.clone()), (filled, true, 0));
        assert_eq!(fitted("moonshot", "moonshot-v1-8k", call.clone()), (call, false, 0));
    }

    #[test]
    fn efforts_are_those_of_the_model() {
        for (preset, model, asked, expected) in [
            ("mistral", "mistral-small-latest", "low", json!({"reasoning_effort": "high"})),
            ("mistral", "mistral-small-latest", "minimal", json!({"reasoning_effort": "none"})),
            ("mistral", "mistral-medium-3-5", "xhigh", json!({"reasoning_effort": "high"})),
            ("mistral", "mistral-large-4-0", "medium", json!({"reasoning_effort": "medium"})),
            ("mistral", "codestral-latest", "low", json!({})),
            ("deepseek", "deepseek-v4-pro", "none", json!({"thinking": {"type": "disabled"}})),
            ("deepseek", "deepseek-v4-pro", "high", json!({"reasoning_effort": "high"})),
            ("openai", "gpt-5", "minimal", json!({"reasoning_effort": "minimal"})),
            ("moonshot", "kimi-k2.6", "none", json!({"thinking": {"type": "disabled"}})),
            ("moonshot", "kimi-k2.6", "high", json!({})),
            ("moonshot", "kimi-k2.7-code", "none", json!({})),
            ("moonshot", "kimi-k3.1-pro", "none", json!({"reasoning_effort": "low"})),
            ("moonshot", "kimi-k3", "medium", json!({"reasoning_effort": "high"})),
            ("zai", "glm-4.6", "none", json!({"thinking": {"type": "disabled"}})),
            ("zai", "glm-4.7-flash", "high", json!({"reasoning_effort": "high"})),
            ("zai", "glm-5.2", "none", json!({"reasoning_effort": "high"})),
            ("zai", "glm-5.3-flash", "xhigh", json!({"reasoning_effort": "max"})),
            ("xai", "grok-4.20-0309-reasoning", "high", json!({})),
            ("xai", "grok-4.20-multi-agent", "xhigh", json!({"reasoning_effort": "xhigh"})),
            ("xai", "grok-4.3", "none", json!({"reasoning_effort": "none"})),
            ("xai", "grok-4.7", "none", json!({"reasoning_effort": "low"})),
            ("xai", "grok-code-fast-1", "low", json!({})),
            ("cerebras", "gpt-oss-120b", "none", json!({"reasoning_effort": "low"})),
            ("cerebras", "zai-glm-4.7", "none", json!({"reasoning_effort": "none"})),
            ("groq", "qwen/qwen3-32b", "medium", json!({})),
            ("groq", "qwen/qwen3-32b", "none", json!({"reasoning_effort": "none"})),
            ("groq", "llama-3.3-70b-versatile", "low", json!({})),
        ] {
            let mut body = json!({"reasoning_effort": asked}).as_object().unwrap().clone();
            effort(&mut body, model, &quirks(preset), &mut Vec::new());
            assert_eq!(Value::Object(body), expected, "{model} {asked}");
        }
    }
}
