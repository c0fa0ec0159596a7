//! What a provider says of a batch: whether it is done, and what it used. Only OpenAI's and those like it tell that.
//! <https://platform.openai.com/docs/api-reference/batch/object>

use std::time::Duration;

use crate::json;

/// How long a batch is waited for after the last look at it: no provider takes longer than a day.
pub(super) const KEEP: Duration = Duration::from_secs(26 * 3_600);

/// A batch, as it is told whenever somebody asks for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch<'a> {
    pub(super) id: Box<str>,
    /// Whether nothing more will come of it.
    pub(super) is_over: bool,
    /// The model that all of it is for, where that is told.
    pub(super) model: Option<Box<str>>,
    /// The usage object.
    pub(super) usage: Option<&'a str>,
}

impl<'a> Batch<'a> {
    /// Reads an answer; `None` where it is of something else.
    pub(super) fn read(answer: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(answer).ok()?;
        let (mut id, mut model, mut usage, mut status, mut is_batch) = (None, None, None, None, false);
        for (key, raw) in json::entries(text) {
            match &*key {
                "object" => is_batch = raw == "\"batch\"",
                "id" => id = json::text(raw).map(Box::from),
                "model" => model = json::text(raw).map(Box::from),
                "status" => status = json::text(raw),
                "usage" => usage = raw.starts_with('{').then_some(raw),
                _ => {}
            }
        }
        let is_over = matches!(&*status?, "completed" | "failed" | "expired" | "cancelled");
        Some(Self { id: id.filter(|_| is_batch)?, is_over, model, usage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_known_by_its_object() {
        let usage = r#"{"input_tokens":7,"output_tokens":1,"total_tokens":8}"#;
        let batch = |is_over, model: Option<&str>, usage| {
            Some(Batch { id: "batch_1".into(), is_over, model: model.map(Into::into), usage })
        };
        for (told, expected) in [
            (
                format!(
                    r#"{{"id":"batch_1","object":"batch","status":"completed","model":"m","usage":{usage}}}"#
                ),
                batch(true, Some("m"), Some(usage)),
            ),
            (
                r#"{"id":"batch_1","object":"batch","status":"in_progress","usage":null}"#.into(),
                batch(false, None, None),
            ),
            (r#"{"id":"batch_1","object":"batch"}"#.into(), None),
            (r#"{"id":"resp_1","object":"response","status":"completed"}"#.into(), None),
            (
                r#"{"object":"list","data":[{"id":"batch_1","object":"batch","status":"completed"}]}"#.into(),
                None,
            ),
            ("no JSON".into(), None),
        ] {
            assert_eq!(Batch::read(told.as_bytes()), expected, "{told}");
        }
    }
}
