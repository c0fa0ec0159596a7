//! The places of raw requests that do not stand below the base URL itself: those whose path names its own version of the API,
//! and Google's for uploads and downloads, which stand beside the versions.

use http::HeaderMap;

use crate::headers;
use crate::providers::Dialect;

/// Where Google takes files in bytes, and where it gives them. <https://ai.google.dev/api/files>
const UPLOAD: &str = "/upload/";
const BESIDE: [&str; 2] = [UPLOAD, "/download/"];

/// Whether the body is a part of a file, which Google's SDK for Python calls JSON whatever it is.
pub(super) fn is_upload(path: &str, sent: &HeaderMap, dialect: Dialect) -> bool {
    let command = sent.get(&headers::UPLOAD_COMMAND).map(http::HeaderValue::as_bytes);
    dialect == Dialect::Gemini && path.starts_with(UPLOAD) && command.is_some_and(|said| said != b"start")
}

/// The whole path at the host; `None` where it stands below the base URL, whose path is `base`.
pub(super) fn elsewhere(path: &str, base: &str, dialect: Dialect) -> Option<String> {
    let (root, _) = base.rsplit_once('/').filter(|(_, own)| is_version(own))?;
    let beside = dialect == Dialect::Gemini && BESIDE.iter().any(|place| path.starts_with(place));
    let (said, rest) = path.strip_prefix('/')?.split_once('/')?;
    let versioned = is_version(said) && !rest.is_empty();
    (beside || versioned).then(|| format!("{root}{path}"))
}

/// Whether a segment is a version, as `v2`, `v1beta` or `v1alpha1`.
fn is_version(segment: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let Some(rest) = segment.strip_prefix('v') else { return false };
    let (_, stage) = rest.split_at(digits(rest));
    let number = stage.strip_prefix("alpha").or_else(|| stage.strip_prefix("beta")).unwrap_or(stage);
    stage.len() < rest.len() && number.len() == digits(number) && (number.is_empty() || number != stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_takes_the_place_of_the_base_urls_own() {
        for (path, base, expected) in [
            ("/v1/models/a:generateContent", "/v1beta", Some("/v1/models/a:generateContent")),
            ("/v1alpha/auth_tokens", "/v1beta", Some("/v1alpha/auth_tokens")),
            ("/v1beta/files", "/v1beta", Some("/v1beta/files")),
            ("/v1/chat/completions", "/openai/v1", Some("/openai/v1/chat/completions")),
            ("/files", "/v1beta", None),
            ("/v1/embed", "/v2", Some("/v1/embed")),
            ("/v1/embed", "/cohere/v2", Some("/cohere/v1/embed")),
            ("/v1", "/v2", None),
            ("/v1/", "/v2", None),
            ("/vision/a", "/v1", None),
            ("/v2x/a", "/v1", None),
            ("/v1/messages", "", None),
            ("/v1/chat", "/api", None),
        ] {
            let found = elsewhere(path, base, Dialect::Cohere);
            assert_eq!(found.as_deref(), expected, "{path} at {base}");
        }
    }

    #[test]
    fn only_what_follows_the_beginning_of_an_upload_is_bytes() {
        let is =
            |path: &str, said: Option<&'static str>, dialect| {
                let mut headers = HeaderMap::new();
                headers.extend(said.map(|said| {
                    (http::HeaderName::from_static("x-goog-upload-command"), said.parse().unwrap())
                }));
                is_upload(path, &headers, dialect)
            };
        let (files, last) = ("/upload/v1beta/files", Some("upload, finalize"));
        assert!(is(files, last, Dialect::Gemini));
        assert!(!is(files, Some("start"), Dialect::Gemini) && !is(files, None, Dialect::Gemini));
        assert!(!is("/v1beta/models/a:generateContent", last, Dialect::Gemini));
        assert!(!is(files, last, Dialect::OpenAi));
    }

    #[test]
    fn google_takes_files_beside_its_versions() {
        for (dialect, base, expected) in [
            (Dialect::Gemini, "/v1beta", Some("/upload/v1beta/files")),
            (Dialect::Gemini, "/google/v1beta", Some("/google/upload/v1beta/files")),
            (Dialect::Gemini, "/google", None),
            (Dialect::OpenAi, "/v1", None),
        ] {
            let found = elsewhere("/upload/v1beta/files", base, dialect);
            assert_eq!(found.as_deref(), expected, "{dialect:?} {base}");
        }
    }
}
