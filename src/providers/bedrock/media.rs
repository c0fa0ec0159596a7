//! Pictures, sound, films and documents: bytes or a place in S3, with a format in Bedrock's words.
//! <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html>

use serde_json::{Value, json};

use crate::chat::Media;

/// Formats by kind, MIME type and ending of a file's name. The first of a format is its usual type.
const FORMATS: &[(&str, &str, &str, &str)] = &[
    ("image", "png", "image/png", "png"),
    ("image", "jpeg", "image/jpeg", "jpg"),
    ("image", "jpeg", "image/jpg", "jpeg"),
    ("image", "gif", "image/gif", "gif"),
    ("image", "webp", "image/webp", "webp"),
    ("document", "pdf", "application/pdf", "pdf"),
    ("document", "csv", "text/csv", "csv"),
    ("document", "doc", "application/msword", "doc"),
    ("document", "docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("document", "xls", "application/vnd.ms-excel", "xls"),
    ("document", "xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("document", "html", "text/html", "html"),
    ("document", "html", "application/xhtml+xml", "htm"),
    ("document", "md", "text/markdown", "md"),
    ("document", "txt", "text/plain", "txt"),
    ("document", "txt", "application/json", "json"),
    ("document", "txt", "application/xml", "xml"),
    ("document", "txt", "application/yaml", "yaml"),
    ("video", "mp4", "video/mp4", "mp4"),
    ("video", "mov", "video/quicktime", "mov"),
    ("video", "mov", "video/mov", "mov"),
    ("video", "mkv", "video/x-matroska", "mkv"),
    ("video", "webm", "video/webm", "webm"),
    ("video", "flv", "video/x-flv", "flv"),
    ("video", "mpeg", "video/mpeg", "mpeg"),
    ("video", "mpg", "video/mpg", "mpg"),
    ("video", "wmv", "video/x-ms-wmv", "wmv"),
    ("video", "three_gp", "video/3gpp", "3gp"),
    ("audio", "mp3", "audio/mpeg", "mp3"),
    ("audio", "mp3", "audio/mp3", "mp3"),
    ("audio", "wav", "audio/wav", "wav"),
    ("audio", "wav", "audio/x-wav", "wav"),
    ("audio", "opus", "audio/opus", "opus"),
    ("audio", "aac", "audio/aac", "aac"),
    ("audio", "flac", "audio/flac", "flac"),
    ("audio", "ogg", "audio/ogg", "ogg"),
    ("audio", "m4a", "audio/mp4", "m4a"),
    ("audio", "m4a", "audio/m4a", "m4a"),
    ("audio", "pcm", "audio/pcm", "pcm"),
    ("audio", "webm", "audio/webm", "weba"),
];

/// What a piece of media became.
pub(super) struct Block {
    /// `image`, `document`, `video` or `audio`.
    pub(super) kind: &'static str,
    /// `format` and `source`.
    pub(super) value: Value,
}

/// The block that carries `media`; `kind` is what it is where neither type nor name tells.
///
/// # Errors
/// What about it this provider cannot take, to be said after "this model's provider cannot take".
pub(super) fn block(media: &Media, name: Option<&str>, kind: &'static str) -> Result<Block, String> {
    let (mime, source) = match media {
        Media::Inline { mime, base64 } => (mime.as_str(), json!({ "bytes": base64 })),
        Media::Url(uri) | Media::FileId(uri) if uri.starts_with("s3://") => {
            ("", json!({ "s3Location": { "uri": uri } }))
        }
        Media::Url(_) => return Err("media by URL: it fetches from s3:// only, send the bytes".to_owned()),
        Media::FileId(_) => {
            return Err("files uploaded elsewhere: send the bytes, or an s3:// URL".to_owned());
        }
    };
    let uri = match media {
        Media::Url(uri) | Media::FileId(uri) => Some(uri.as_str()),
        Media::Inline { .. } => None,
    };
    let known = by_mime(mime).or_else(|| name.or(uri).and_then(by_ending)).or_else(|| by_kind(mime, kind));
    let Some((kind, format)) = known else {
        let what = if mime.is_empty() { "of an unknown format" } else { mime };
        return Err(format!("media of the type `{what}`"));
    };
    Ok(Block { kind, value: json!({ "format": format, "source": source }) })
}

fn by_mime(mime: &str) -> Option<(&'static str, &'static str)> {
    let mime = mime.split(';').next().unwrap_or(mime).trim().to_ascii_lowercase();
    FORMATS.iter().find(|(_, _, known, _)| *known == mime).map(|(kind, format, ..)| (*kind, *format))
}

fn by_ending(name: &str) -> Option<(&'static str, &'static str)> {
    let ending = name.rsplit_once('.')?.1.to_ascii_lowercase();
    FORMATS.iter().find(|(.., known)| *known == ending).map(|(kind, format, ..)| (*kind, *format))
}

/// Other texts are plain texts; what has no type at all is what it usually is.
fn by_kind(mime: &str, kind: &'static str) -> Option<(&'static str, &'static str)> {
    match (mime, kind) {
        (mime, "document") if mime.starts_with("text/") => Some(("document", "txt")),
        ("" | "application/octet-stream", "document") => Some(("document", "pdf")),
        ("" | "application/octet-stream", "image") => Some(("image", "jpeg")),
        _ => None,
    }
}

/// A document's name as AWS allows it: letters, digits, single spaces, hyphens, parentheses and square brackets.
pub(super) fn document_name(name: &str) -> String {
    // The format says what the ending would.
    let stem =
        name.rsplit_once('.').map_or(name, |(stem, ending)| if ending.len() <= 5 { stem } else { name });
    let mut out = String::with_capacity(stem.len());
    for c in stem.chars() {
        let c = if c.is_ascii_alphanumeric() || "-()[]".contains(c) { c } else { ' ' };
        if c != ' ' || !(out.is_empty() || out.ends_with(' ')) {
            out.push(c);
        }
    }
    // Two hundred characters are allowed; a number may follow.
    out.truncate(190);
    out.truncate(out.trim_end().len());
    out
}

/// The MIME type of a format of pictures.
pub(super) fn mime_of_image(format: &str) -> &'static str {
    FORMATS
        .iter()
        .find(|(kind, known, ..)| *kind == "image" && *known == format)
        .map_or("image/png", |(_, _, mime, _)| mime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inline(mime: &str) -> Media {
        Media::Inline { mime: mime.into(), base64: "AAAA".into() }
    }

    #[test]
    fn type_name_or_kind_tell_the_format() {
        for (media, name, usual, kind, format) in [
            (inline("image/png"), None, "image", "image", "png"),
            (inline("image/jpg"), None, "image", "image", "jpeg"),
            (inline("application/pdf"), Some("a.docx"), "document", "document", "pdf"),
            (inline("application/octet-stream"), Some("a.XLSX"), "document", "document", "xlsx"),
            (inline("application/octet-stream"), None, "document", "document", "pdf"),
            (inline("text/x-python"), Some("a.py"), "document", "document", "txt"),
            (inline("text/markdown; charset=utf-8"), None, "document", "document", "md"),
            (inline("video/mp4"), None, "document", "video", "mp4"),
            (inline("audio/wav"), None, "audio", "audio", "wav"),
            (Media::Url("s3://b/k/film.mov".into()), None, "document", "video", "mov"),
            (Media::FileId("s3://b/k/a.webp".into()), None, "image", "image", "webp"),
        ] {
            let block = block(&media, name, usual).unwrap();
            assert_eq!((block.kind, &block.value["format"]), (kind, &json!(format)), "{media:?} {name:?}");
        }
        for (media, part) in [
            (inline("image/tiff"), "image/tiff"),
            (inline("application/zip"), "application/zip"),
            (Media::Url("https://x/a.png".into()), "s3://"),
            (Media::FileId("file-1".into()), "uploaded"),
        ] {
            let complaint = block(&media, None, "image").map(|block| block.kind).unwrap_err();
            assert!(complaint.contains(part), "{complaint}");
        }
    }

    #[test]
    fn names_of_documents_are_made_harmless() {
        for (name, clean) in [
            ("report.pdf", "report"),
            ("Q3 / results  (final) [v2].xlsx", "Q3 results (final) [v2]"),
            ("ünïcode_name.txt", "n code name"),
            ("...", ""),
            ("no ending here", "no ending here"),
        ] {
            assert_eq!(document_name(name), clean, "{name}");
        }
        assert!(document_name(&"x".repeat(400)).len() <= 190);
    }
}
