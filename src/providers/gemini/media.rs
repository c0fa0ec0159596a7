//! Pictures, sound and documents: <https://ai.google.dev/api/caching#Blob>

use serde_json::{Value, json};

use crate::chat::{Media, Part};
use crate::fault::Fault;
use crate::providers::foreign::{self, data_url};

/// A part with media.
///
/// # Errors
/// `BadRequest` for what is no media, and for a file that lies at another vendor's.
pub(super) fn part(part: &Part, path: &str) -> Result<Value, Fault> {
    let (media, usual) = match part {
        Part::Image { media, .. } => (media, "image/jpeg"),
        Part::Audio { media } => (media, "audio/mpeg"),
        Part::File { media, filename, .. } => {
            let named = filename.as_deref().and_then(mime_of);
            (media, named.unwrap_or("application/pdf"))
        }
        _ => {
            return Err(Fault::bad_request(
                "this model's provider cannot take this part here",
                path.to_owned(),
            ));
        }
    };
    Ok(match media {
        Media::Inline { mime, base64 } => inline(mime, base64, usual),
        Media::Url(url) => at(url, usual),
        // Google's names of files are paths or addresses; ids of other vendors would be refused.
        Media::FileId(id) if !id.contains('/') => return foreign::cannot("a file uploaded elsewhere", path),
        Media::FileId(id) => {
            json!({ "fileData": { "mimeType": mime_of(id).unwrap_or(usual), "fileUri": id } })
        }
    })
}

/// A film.
pub(super) fn video(url: &str) -> Value {
    at(url, "video/mp4")
}

/// What is at a URL, or in it.
fn at(url: &str, usual: &str) -> Value {
    match data_url(url) {
        Some((mime, base64)) => inline(mime, base64, usual),
        None => json!({ "fileData": { "mimeType": mime_of(url).unwrap_or(usual), "fileUri": url } }),
    }
}

fn inline(mime: &str, base64: &str, usual: &str) -> Value {
    // OpenAI's names of formats, where MIME has others.
    let mime = match mime {
        "" | "application/octet-stream" => usual,
        "image/jpg" => "image/jpeg",
        "audio/mp3" => "audio/mpeg",
        mime => mime,
    };
    json!({ "inlineData": { "mimeType": mime, "data": base64 } })
}

/// The MIME type that a name's ending means.
fn mime_of(name: &str) -> Option<&'static str> {
    let name = name.split(['?', '#']).next().unwrap_or(name);
    let ending = name.rsplit('/').next()?.rsplit_once('.')?.1.to_ascii_lowercase();
    Some(match &*ending {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        "md" => "text/markdown",
        "csv" => "text/csv",
        "html" | "htm" => "text/html",
        "json" => "application/json",
        "xml" => "text/xml",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "ogg" => "audio/ogg",
        "flac" => "audio/flac",
        "aac" => "audio/aac",
        "m4a" => "audio/mp4",
        "mp4" => "video/mp4",
        "mov" => "video/mov",
        "mpeg" | "mpg" => "video/mpeg",
        "webm" => "video/webm",
        _ => return None,
    })
}
