//! The content of messages and of tools' outputs.

use serde_json::Value;

use crate::api::openai_chat::decode::breakpoint;
use crate::api::openai_chat::decode::message::{document, media};
use crate::api::openai_chat::decode::record::{Place, Record, kind, object};
use crate::api::openai_chat::param::{missing, wrong_type};
use crate::chat::{Loss, Media, Part};
use crate::fault::Fault;

/// A content: a string, or a list of parts.
pub(super) fn all(
    content: Option<Value>,
    place: &Place<'_>,
    lost: &mut Vec<Loss>,
) -> Result<Vec<Part>, Fault> {
    match content {
        None => Err(missing(place.to_string())),
        Some(Value::String(text)) => Ok(vec![Part::text(text)]),
        Some(Value::Array(parts)) => {
            parts.into_iter().enumerate().map(|(at, value)| part(value, &place.index(at), lost)).collect()
        }
        Some(other) => Err(wrong_type(place.to_string(), "a string or an array", kind(&other))),
    }
}

fn part(value: Value, place: &Place<'_>, lost: &mut Vec<Loss>) -> Result<Part, Fault> {
    let whole = object(value, place)?;
    let Some(word) = whole.get("type").and_then(Value::as_str).map(str::to_owned) else {
        return Err(missing(place.key("type").to_string()));
    };
    let mut fields = Record::new(whole, place);
    let cache = breakpoint(&mut fields)?;
    let part = match &*word {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
            let citations = fields.list("annotations")?;
            fields.take("logprobs");
            Part::Text { text: fields.need_text("text")?.into(), cache, citations }
        }
        "refusal" => Part::Refusal(fields.need_text("refusal")?),
        "input_image" | "computer_screenshot" => {
            let detail = fields.text("detail")?;
            let media = match (fields.text("image_url")?, fields.text("file_id")?) {
                (Some(url), _) => media(url),
                (None, Some(id)) => Media::FileId(id),
                (None, None) => return Err(fields.missing("image_url")),
            };
            Part::Image { media, detail, cache }
        }
        "input_audio" => {
            let below = place.key("input_audio");
            let mut audio = Record::new(fields.need_object("input_audio")?, &below);
            let base64 = audio.need_text("data")?;
            let mime = format!("audio/{}", audio.need_text("format")?);
            Part::Audio { media: Media::Inline { mime, base64 } }
        }
        "input_file" => {
            let filename = fields.text("filename")?;
            let (id, data, url) =
                (fields.text("file_id")?, fields.text("file_data")?, fields.text("file_url")?);
            let media = match (id, data, url) {
                (Some(id), ..) => Media::FileId(id),
                (None, Some(data), _) => document(data, filename.as_deref()),
                (None, None, Some(url)) => Media::Url(url),
                (None, None, None) => return Err(fields.missing("file_data")),
            };
            Part::File { media, filename, cache }
        }
        // Whatever is not ours to understand is kept as it is.
        _ => {
            fields.put("type", word.into());
            return Ok(Part::Other(Value::Object(fields.rest())));
        }
    };
    fields.take("type");
    let unread = fields.rest().into_iter().filter(|(_, value)| !value.is_null());
    lost.extend(unread.map(|(key, _)| Loss::dropped(format!("{place}.{key}"))));
    Ok(part)
}
