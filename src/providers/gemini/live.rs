//! Where the Live API is, and what models are called there: <https://ai.google.dev/api/live>,
//! <https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/multimodal-live>

use super::{Surface, request};
use crate::providers::QuirkSettings;

/// Path from the host on, and the model's name. `version` is that of the API which the client speaks.
pub(super) fn place(
    quirks: &QuirkSettings,
    surface: Surface,
    model: &str,
    version: &str,
) -> (String, String) {
    let named = request::path(quirks, model, "");
    let named = named.trim_end_matches(':');
    match surface {
        Surface::Gemini => {
            // Versions of Vertex AI's API are others, and Google's SDKs say `v1` to every address but its own.
            let version = if matches!(version, "v1" | "v1beta1") { "v1beta" } else { version };
            let service = "GenerativeService.BidiGenerateContent";
            let model = named.trim_start_matches('/').to_owned();
            (format!("/ws/google.ai.generativelanguage.{version}.{service}"), model)
        }
        Surface::Vertex => {
            let version = if version.starts_with("v1beta") { "v1beta1" } else { "v1" };
            let service = "LlmBidiService/BidiGenerateContent";
            let at = named.find("projects/").or_else(|| named.find("publishers/")).unwrap_or(0);
            (format!("/ws/google.cloud.aiplatform.{version}.{service}"), named[at..].to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_called_as_each_service_wants() {
        let vertex = "/v1beta1/projects/p/locations/l/publishers/google/models/{model}";
        for (path, surface, version, expected) in [
            (
                None,
                Surface::Gemini,
                "v1alpha",
                (
                    "/ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContent",
                    "models/g",
                ),
            ),
            (
                None,
                Surface::Gemini,
                "v1",
                ("/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent", "models/g"),
            ),
            (
                Some(vertex),
                Surface::Vertex,
                "v1beta",
                (
                    "/ws/google.cloud.aiplatform.v1beta1.LlmBidiService/BidiGenerateContent",
                    "projects/p/locations/l/publishers/google/models/g",
                ),
            ),
        ] {
            let quirks = QuirkSettings { chat_path: path.map(str::to_owned), ..QuirkSettings::default() };
            let (path, model) = place(&quirks, surface, "g", version);
            assert_eq!((&*path, &*model), expected);
        }
    }
}
