//! The few values that look different to a plugin than to the gateway.

use wasmtime::component::{ComponentType, Lift, Lower, flags};

use crate::facts;
use crate::plugin::answer::{self, Manifest};
use crate::plugin::ask::{self, Pair};
use crate::plugin::outcome::{CallFault, Outcome};

flags! {
    Features {
        #[component(name = "streaming")]
        const STREAMING;
        #[component(name = "tools")]
        const TOOLS;
        #[component(name = "images")]
        const IMAGES;
        #[component(name = "audio")]
        const AUDIO;
        #[component(name = "files")]
        const FILES;
        #[component(name = "json-output")]
        const JSON_OUTPUT;
        #[component(name = "logprobs")]
        const LOGPROBS;
        #[component(name = "reasoning")]
        const REASONING;
    }
}

flags! {
    Needs {
        #[component(name = "segments")]
        const SEGMENTS;
        #[component(name = "headers")]
        const HEADERS;
        #[component(name = "metadata")]
        const METADATA;
        #[component(name = "candidates")]
        const CANDIDATES;
    }
}

/// `types.endpoint`.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "the contract knows more operations than the gateway tells apart")]
pub(super) enum Endpoint {
    #[component(name = "chat")]
    Chat,
    #[component(name = "completions")]
    Completions,
    #[component(name = "responses")]
    Responses,
    #[component(name = "embeddings")]
    Embeddings,
    #[component(name = "moderations")]
    Moderations,
    #[component(name = "images")]
    Images,
    #[component(name = "audio")]
    Audio,
    #[component(name = "other")]
    Other,
}

/// `types.principal`.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct Principal<'a> {
    #[component(name = "key-id")]
    key_id: &'a str,
    user: Option<&'a str>,
    team: Option<&'a str>,
    tags: &'a [Pair],
}

/// `types.request-context`.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct Context<'a> {
    #[component(name = "request-id")]
    request_id: &'a str,
    endpoint: Endpoint,
    model: &'a str,
    principal: Principal<'a>,
    headers: Vec<&'a Pair>,
    metadata: &'a [Pair],
    features: Features,
    #[component(name = "prompt-tokens")]
    prompt_tokens: u32,
    #[component(name = "max-output-tokens")]
    max_output_tokens: Option<u32>,
    tags: &'a [Pair],
    #[component(name = "deadline-ms")]
    deadline_ms: u32,
}

/// `lifecycle.manifest`.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct WireManifest {
    name: String,
    version: String,
    description: String,
    needs: Needs,
}

/// `types.failure`.
#[derive(ComponentType, Lift)]
#[component(variant)]
pub(super) enum Failure {
    #[component(name = "unsupported")]
    Unsupported(String),
    #[component(name = "unavailable")]
    Unavailable(String),
    #[component(name = "internal")]
    Internal(String),
}

impl From<facts::Endpoint> for Endpoint {
    fn from(endpoint: facts::Endpoint) -> Self {
        use facts::Endpoint as Asked;
        match endpoint {
            Asked::Chat => Self::Chat,
            Asked::Completions => Self::Completions,
            Asked::Embeddings => Self::Embeddings,
            Asked::Moderations => Self::Moderations,
            Asked::Images => Self::Images,
            Asked::Speech | Asked::Transcription => Self::Audio,
            _ => Self::Other,
        }
    }
}

impl From<ask::Features> for Features {
    fn from(features: ask::Features) -> Self {
        let mut all = Self::default();
        for (there, flag) in [
            (features.streaming, Self::STREAMING),
            (features.tools, Self::TOOLS),
            (features.images, Self::IMAGES),
            (features.audio, Self::AUDIO),
            (features.files, Self::FILES),
            (features.json_output, Self::JSON_OUTPUT),
            (features.logprobs, Self::LOGPROBS),
            (features.reasoning, Self::REASONING),
        ] {
            if there {
                all |= flag;
            }
        }
        all
    }
}

impl From<WireManifest> for Manifest {
    fn from(wire: WireManifest) -> Self {
        let needs = answer::Needs {
            segments: wire.needs.contains(Needs::SEGMENTS),
            headers: wire.needs.contains(Needs::HEADERS),
            metadata: wire.needs.contains(Needs::METADATA),
            candidates: wire.needs.contains(Needs::CANDIDATES),
        };
        Self { name: wire.name, version: wire.version, description: wire.description, needs }
    }
}

impl From<Failure> for CallFault {
    fn from(failure: Failure) -> Self {
        let (unsupported, message) = match failure {
            Failure::Unsupported(said) => (true, said),
            Failure::Unavailable(said) => (false, format!("unavailable: {said}")),
            Failure::Internal(said) => (false, said),
        };
        // Texts of plugins end up in logs and records.
        let message = message.chars().take(500).collect();
        Self { outcome: Outcome::Failure, unsupported, message }
    }
}

impl<'a> Context<'a> {
    /// What a plugin that may see these headers, and wants what it `needs`, sees of a request.
    pub(super) fn of(
        context: &'a ask::Context,
        headers: &[String],
        needs: answer::Needs,
        deadline_ms: u32,
    ) -> Self {
        let shown = |(name, _): &&Pair| headers.iter().any(|header| header.eq_ignore_ascii_case(name));
        let headers = if headers.is_empty() || !needs.headers {
            Vec::new()
        } else {
            context.headers.iter().filter(shown).collect()
        };
        let principal = &context.principal;
        Self {
            request_id: &context.request_id,
            endpoint: context.endpoint.into(),
            model: &context.model,
            principal: Principal {
                key_id: &principal.key_id,
                user: principal.user.as_deref(),
                team: principal.team.as_deref(),
                tags: &principal.tags,
            },
            headers,
            metadata: if needs.metadata { &context.metadata } else { &[] },
            features: context.features.into(),
            prompt_tokens: context.prompt_tokens,
            max_output_tokens: context.max_output_tokens,
            tags: &context.tags,
            deadline_ms,
        }
    }
}
