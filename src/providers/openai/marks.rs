//! Marks for the provider's cache, as Anthropic has them and vendors who offer its models:
//! <https://openrouter.ai/docs/features/prompt-caching>

use serde_json::{Value, json};

use super::encode;
use crate::chat::{CacheHint, Object, Part};

/// The mark behind a part of a message.
pub(super) fn of(part: &Part) -> Option<&CacheHint> {
    match part {
        Part::Text { cache, .. } | Part::Image { cache, .. } | Part::File { cache, .. } => cache.as_ref(),
        _ => None,
    }
}

/// Marks a written part, or a tool.
pub(super) fn put(written: &mut Value, hint: Option<&CacheHint>) {
    let (Some(hint), Value::Object(fields)) = (hint, written) else { return };
    let mut mark = Object::new();
    mark.insert("type".into(), "ephemeral".into());
    encode::put(&mut mark, "ttl", hint.ttl.clone());
    fields.insert("cache_control".into(), mark.into());
}

/// Marks the last part of a content; a text alone becomes a part.
pub(super) fn put_last(content: &mut Value, hint: Option<&CacheHint>) {
    if hint.is_none() {
        return;
    }
    if let Value::String(text) = content {
        *content = json!([{ "type": "text", "text": std::mem::take(text) }]);
    }
    if let Some(last) = content.as_array_mut().and_then(|parts| parts.last_mut()) {
        put(last, hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::{Message, Request, Role, Tool, ToolKind};
    use crate::providers::QuirkSettings;
    use crate::target::TargetName;

    #[test]
    fn marks_go_to_vendors_who_know_them_and_are_told_for_others() {
        let hint = |ttl: Option<&str>| Some(CacheHint { ttl: ttl.map(str::to_owned) });
        let text = |cache| Part::Text { text: "t".into(), cache, citations: Vec::new() };
        let result = Part::ToolResult {
            id: "c".into(),
            content: vec![text(None)],
            is_error: false,
            cache: hint(None),
        };
        let message = |role, part| Message { role, content: vec![part], name: None, rest: Object::new() };
        let tool = Tool {
            name: "f".into(),
            description: None,
            parameters: None,
            strict: None,
            kind: ToolKind::Function,
            cache: hint(Some("5m")),
            rest: Object::new(),
        };
        let asked = Request {
            messages: vec![message(Role::System, text(hint(Some("1h")))), message(Role::Tool, result)],
            tools: vec![tool],
            ..Request::default()
        };
        for (knows, losses) in [(true, 0), (false, 3)] {
            let quirks = QuirkSettings { cache_control: knows, ..QuirkSettings::default() };
            let outgoing = encode::chat(&asked, &TargetName::parse("p/m").unwrap(), &quirks).unwrap();
            assert_eq!(outgoing.lost.len(), losses, "{:?}", outgoing.lost);
            let body: Value = serde_json::from_slice(&outgoing.body.concat()).unwrap();
            let mark = |place: &str| body.pointer(place).cloned();
            let expected = [
                json!({"type": "ephemeral", "ttl": "1h"}),
                json!({"type": "ephemeral"}),
                json!({"type": "ephemeral", "ttl": "5m"}),
            ];
            let found = [
                mark("/messages/0/content/0/cache_control"),
                mark("/messages/1/content/0/cache_control"),
                mark("/tools/0/cache_control"),
            ];
            assert_eq!(found, expected.map(|mark| knows.then_some(mark)), "{body}");
        }
    }
}
