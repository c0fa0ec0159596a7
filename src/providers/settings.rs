//! Settings of one provider, and the form of the preset table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Balance, ModerationQuirks, RerankQuirks, Sticky};
use crate::fault::Then;
use crate::settings::{Period, SecretRef};
use crate::store::Sharing;
use crate::target::ConcurrencySettings;

/// One provider. Everything that is not given comes from the preset of the same name (or of `preset:`).
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderSettings {
    /// Preset to start from; by default the one with the provider's own name, if there is one.
    pub preset: Option<String>,
    /// `openai`, `openai-responses`, `anthropic`, `bedrock`, `bedrock-anthropic`, `cohere`, `gemini`, `ollama`, `vertex` or `sandbox`; or
    /// `plugin:NAME` for a language that a plugin speaks.
    pub dialect: Option<String>,
    /// Base URL up to, but without, `/chat/completions` or `/messages`. `http` is allowed to loopback and private addresses,
    /// and to names that `private: true` is said of.
    pub base_url: Option<String>,
    /// API keys. Several are a pool: each attempt bears one of them.
    pub keys: Vec<KeySettings>,
    /// How one of several keys is chosen: `weighted` (drawn by weight) or `least_loaded` (the fewest requests under way
    /// for its weight).
    pub balance: Balance,
    /// Requests that go out under the same key, so that the provider's prompt cache stays warm: those of one `session`
    /// (`x-tollgate-session`, or else the user), or those with the same `prefix` (system message and first kilobyte).
    pub sticky: Option<Sticky>,
    /// The most requests at once for each of its models: a number, or a map with what else is learnt of a target that says
    /// that it has too much. What is more waits (see `queue`).
    pub concurrency: Option<ConcurrencySettings>,
    /// What happens after faults, where it is not what the table of reliability.md says: by the fault's name or by the
    /// provider's status (`"529": next_target`).
    pub faults: BTreeMap<String, FaultSettings>,
    /// Where on Vertex AI, and with whose credentials.
    pub google: Option<GoogleSettings>,
    /// Which resource of Azure, and with whose credentials.
    pub azure: Option<AzureSettings>,
    /// Region and keys of an AWS account, for providers that want signed requests.
    pub aws: Option<AwsSettings>,
    /// Its host leads to private addresses, so that plain `http` may go there. Hosts that are never public (`localhost`,
    /// `vllm`, `*.internal`, `10.0.0.8`) need not say so.
    pub private: bool,
    /// Words that policies can require: `private`.
    pub tags: Vec<String>,
    /// Keys and values that policies can require: `region: eu`.
    pub labels: BTreeMap<String, LabelValue>,
    /// Headers added to every request, for example an organisation id. Values may be secrets by reference.
    pub headers: BTreeMap<String, HeaderSettings>,
    /// Query parameters added to every request (`api-version`).
    pub query: BTreeMap<String, String>,
    /// Refuse TLS below this version: `1.2` (default) or `1.3`.
    pub tls_min: Option<String>,
    /// Speak HTTP/2 with prior knowledge on plain connections.
    pub h2c: bool,
    /// Models that `GET /v1/models` lists for this provider, besides those that `models:` names.
    pub models: Vec<String>,
    /// Deadlines that differ from the general ones.
    pub deadlines: Option<DeadlineOverrides>,
    /// Whether clients may send raw requests to it (`/passthrough/NAME/…`, `X-Provider-Original`); by default as the
    /// general `passthrough` says.
    pub passthrough: Option<bool>,
    /// Who finds what it keeps (files, batches, conversations, responses) where clients show keys: whoever made it through
    /// this gateway (`own`, the default), besides that everybody what was made elsewhere (`outside`), or everybody
    /// everything (`all`).
    pub items: Option<Sharing>,
    /// Deviations from the dialect, added to the preset's.
    pub quirks: Option<QuirkSettings>,
}

/// Where on Vertex AI, and with whose credentials.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct GoogleSettings {
    /// The project; by default that of the credentials, or `GOOGLE_CLOUD_PROJECT`.
    pub project: Option<String>,
    /// `us-central1`, `global`, `us`, `eu` …; by default `GOOGLE_CLOUD_LOCATION`, or `global`.
    pub location: Option<String>,
    /// A file of credentials (`file:sa.json`) of any type that gcloud writes, an access token, or an API key. Without it,
    /// Google's default credentials: `GOOGLE_APPLICATION_CREDENTIALS`, gcloud's own, the metadata server.
    pub credentials: Option<SecretRef>,
}

/// Which resource of Azure, and with whose credentials.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct AzureSettings {
    /// The resource's name, which its host begins with; `base_url` says the whole address instead. By default
    /// `AZURE_OPENAI_ENDPOINT`.
    pub resource: Option<String>,
    /// A dated version (`2024-10-21`) for the older paths with deployments, or `preview`. Without it, the `v1` API.
    pub api_version: Option<String>,
    /// Names of deployments by model; a model that is not here is deployed under its own name.
    pub deployments: BTreeMap<String, String>,
    /// Entra ID: the tenant; by default `AZURE_TENANT_ID`.
    pub tenant: Option<String>,
    /// Entra ID: the application, or the managed identity where there are several; by default `AZURE_CLIENT_ID`.
    pub client_id: Option<String>,
    /// Entra ID: the application's secret; by default `AZURE_CLIENT_SECRET`, where no key is set.
    pub client_secret: Option<SecretRef>,
    /// Take the token of the machine that the gateway runs on.
    pub managed_identity: bool,
    /// What Entra ID's token is for, by default `https://cognitiveservices.azure.com/.default`.
    pub scope: Option<String>,
}

/// One API key: a plain reference, or a reference with more to come.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged)]
pub enum KeySettings {
    /// `env:NAME` or `file:PATH`.
    Plain(SecretRef),
    /// With further settings.
    Full(PooledKey),
}

impl KeySettings {
    /// Where the secret is.
    pub fn secret(&self) -> &SecretRef {
        match self {
            Self::Plain(secret) => secret,
            Self::Full(key) => &key.secret,
        }
    }
}

/// One API key of a pool.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PooledKey {
    /// `env:NAME` or `file:PATH`.
    pub secret: SecretRef,
    /// Its name in logs, metrics and `/admin/v1/providers`; by default the reference.
    #[serde(default)]
    pub name: Option<String>,
    /// Whose account it is. Keys of one account are out together when the account is not paid; by default all are of
    /// the same.
    #[serde(default)]
    pub account: Option<String>,
    /// Its share of the requests, by default 1.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub weight: Option<f64>,
    /// The most requests a minute.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub rpm: Option<u32>,
    /// The most requests a day.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub rpd: Option<u32>,
    /// The most tokens a minute, of prompts and answers.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub tpm: Option<u64>,
    /// The most tokens of prompts a minute; those that the provider read from its cache do not count.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub input_tpm: Option<u64>,
    /// The most tokens of answers a minute.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub output_tpm: Option<u64>,
    /// The most requests at once.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub max_in_flight: Option<u32>,
    /// The same by model, with `*` for any text (`gpt-4o*`): models of one pattern share it, and for each model the
    /// longest pattern that fits counts.
    #[serde(default)]
    pub models: BTreeMap<String, QuotaSettings>,
    /// Whether what the provider says of its limits in the headers of its answers is believed: a key of which nothing is
    /// left is passed over, or waited for. By default it is.
    #[serde(default)]
    pub learn_limits: Option<bool>,
    /// Headers that go with it, for example the organisation of its account. Values may be secrets by reference.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderSettings>,
}

impl PooledKey {
    /// What all requests with it may use together.
    pub fn together(&self) -> QuotaSettings {
        QuotaSettings {
            rpm: self.rpm,
            rpd: self.rpd,
            tpm: self.tpm,
            input_tpm: self.input_tpm,
            output_tpm: self.output_tpm,
            max_in_flight: self.max_in_flight,
        }
    }
}

/// What may be used of a key, in the words of vendors.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaSettings {
    /// The most requests a minute.
    #[schemars(range(min = 1))]
    pub rpm: Option<u32>,
    /// The most requests a day.
    #[schemars(range(min = 1))]
    pub rpd: Option<u32>,
    /// The most tokens a minute, of prompts and answers.
    #[schemars(range(min = 1))]
    pub tpm: Option<u64>,
    /// The most tokens of prompts a minute; those that the provider read from its cache do not count.
    #[schemars(range(min = 1))]
    pub input_tpm: Option<u64>,
    /// The most tokens of answers a minute.
    #[schemars(range(min = 1))]
    pub output_tpm: Option<u64>,
    /// The most requests at once.
    #[schemars(range(min = 1))]
    pub max_in_flight: Option<u32>,
}

/// What happens after a fault: a word, or a word with the shortest pause.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum FaultSettings {
    /// What happens.
    Plain(Then),
    /// With further settings.
    Full(FaultDetails),
}

/// What happens after a fault, with further settings.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct FaultDetails {
    /// What happens.
    pub then: Then,
    /// The shortest pause before another try at the same target.
    #[serde(default)]
    pub after: Option<Period>,
}

/// A secret by reference.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct KeyDetails {
    /// `env:NAME` or `file:PATH`.
    pub secret: SecretRef,
}

/// Region and keys of an AWS account. Requests are signed with the first of these that is there: `access_key_id`,
/// `profile` or `credentials_file`, the variables `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, a
/// web identity, the default profile, the role of the container or the EC2 machine. With an API key (`keys`, or `AWS_BEARER_TOKEN_BEDROCK`) nothing is signed.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct AwsSettings {
    /// For example `eu-central-1`; by default the one in `base_url`, else `AWS_REGION` or `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// The access key's name.
    pub access_key_id: Option<SecretRef>,
    /// The access key.
    pub secret_access_key: Option<SecretRef>,
    /// The session token that belongs to temporary keys.
    pub session_token: Option<SecretRef>,
    /// A profile of the shared credentials file; by default `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
    /// The shared credentials file; by default `AWS_SHARED_CREDENTIALS_FILE`, else `~/.aws/credentials`. Watched where
    /// it is named here.
    pub credentials_file: Option<PathBuf>,
}

/// The value of a label: text, number or truth; compared as text.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(untagged)]
pub enum LabelValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text.
    Text(String),
}

/// The value of an added header.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(untagged)]
pub enum HeaderSettings {
    /// The text itself.
    Text(String),
    /// A secret by reference.
    Secret(KeyDetails),
}

/// Deadlines that differ from the general ones.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct DeadlineOverrides {
    /// TCP and TLS set-up.
    pub connect: Option<Period>,
    /// From sending the request to the answer's head.
    pub first_byte: Option<Period>,
    /// From sending the request to the first content of a stream.
    pub first_token: Option<Period>,
    /// Between two pieces of an answer.
    pub idle: Option<Period>,
    /// How long it may take while another target is left that is well, until that one is asked beside it.
    pub handover: Option<Period>,
    /// The fewest tokens a second of a stream whose content has begun; `0` asks for none.
    pub tokens_per_second: Option<u32>,
}

/// Deviations of an OpenAI-compatible vendor from OpenAI's dialect, as data.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct QuirkSettings {
    /// Top-level request fields that the vendor rejects; they are removed.
    pub drop: Vec<String>,
    /// Top-level request fields that the vendor knows by another name, old name to new name.
    pub rename: BTreeMap<String, String>,
    /// Top-level request fields to set where the client did not.
    pub defaults: BTreeMap<String, serde_json::Value>,
    /// The vendor rejects `stream_options`.
    pub no_stream_options: bool,
    /// `completion_tokens` leaves reasoning out (`total = prompt + completion + reasoning`); it is added.
    pub completion_excludes_reasoning: bool,
    /// Fields of requests, and of their messages, that the vendor does not know. A translation from another dialect
    /// leaves them out and says so; a client of this dialect who sends them gets the vendor's own answer, except for
    /// `reasoning_content`, `reasoning_details` and `extra_content` of messages: they are left out for both. With
    /// `json_schema`, a translation asks for answers of a schema in words, and for any JSON object; with `video_url`, it
    /// refuses films.
    pub lacks: Vec<String>,
    /// Tool-call ids must have exactly this many letters and digits.
    pub tool_id_length: Option<usize>,
    /// Fields of messages and of their tool calls that the vendor rejects; they are removed.
    pub drop_in_messages: Vec<String>,
    /// Fields of messages that the vendor knows by another name, old name to new name.
    pub rename_in_messages: BTreeMap<String, String>,
    /// What `lacks` says of requests, for some models alone: by the beginning of their names; the longest that fits
    /// counts.
    pub models_lack: BTreeMap<String, Vec<String>>,
    /// Thinking of earlier turns goes back as a part of the content (Mistral's `{type: thinking}`), not in a field.
    pub thinking_parts: bool,
    /// Models, with `*` for any text, whose tool calls of earlier turns must come with thinking (DeepSeek's
    /// `reasoning_content`).
    pub thinking_with_calls: Vec<String>,
    /// `reasoning_effort: none` becomes `thinking: {type: disabled}`.
    pub thinking_switch: bool,
    /// Efforts that models know, by the beginning of their names; the longest that fits counts. Another effort becomes
    /// the nearest of them; where there are none, it is dropped.
    pub efforts: BTreeMap<String, Vec<String>>,
    /// The vendor knows `tool_choice: {type: allowed_tools}`. A translation to others offers only those tools.
    pub allowed_tools: bool,
    /// The vendor knows Anthropic's `cache_control` in parts of messages and beside tools.
    pub cache_control: bool,
    /// The vendor knows custom tools, whose argument is free text. A translation offers others a function with one text
    /// instead.
    pub custom_tools: bool,
    /// A user's message may not follow a tool's; an assistant's is put between them.
    pub answer_after_tools: bool,
    /// An assistant's message at the end, which the answer is to go on from, must have `prefix: true`.
    pub prefix_last: bool,
    /// Documents go as `{type: document_url}`, by URL too.
    pub document_url: bool,
    /// The vendor does not know the role `developer`; it becomes `system`.
    pub no_developer_role: bool,
    /// Names that the vendor knows models by, where they are others than its own: model to name.
    pub deployments: BTreeMap<String, String>,
    /// Path of chat completions below the base URL, by default `/chat/completions`. `{model}` stands for the model.
    pub chat_path: Option<String>,
    /// Path of embeddings below the base URL, by default `/embeddings`. `{model}` stands for the model.
    pub embeddings_path: Option<String>,
    /// The vendor reranks, and how. `{}` is Cohere's form at `/rerank`.
    pub rerank: Option<RerankQuirks>,
    /// The vendor moderates, and how. `{}` is OpenAI's form at `/moderations`.
    pub moderations: Option<ModerationQuirks>,
    /// Path of media and files below the base URL, by default `/{operation}`, where `{operation}` stands for
    /// `audio/speech`, `images/edits`, `files` and the like, and `{model}` for the model.
    pub media_path: Option<String>,
    /// Path of files, batches and what else the vendor keeps, where that of media is another one.
    pub kept_path: Option<String>,
    /// Path and query of realtime conversations (WebSocket) below the base URL, `{model}` standing for the model:
    /// `/realtime?model={model}`. Without it, the provider has none.
    pub realtime_path: Option<String>,
    /// Models that the vendor completes texts with (`/v1/completions`), with `*` for any text. Others are asked by a chat.
    pub completions: Vec<String>,
    /// Path of text completions below the base URL, by default `/completions`. `{model}` stands for the model.
    pub completions_path: Option<String>,
    /// The vendor also speaks OpenAI's Responses; clients of `/v1/responses` get its own answers.
    pub responses: bool,
    /// The vendor takes Responses over a WebSocket, too.
    pub responses_websocket: bool,
    /// The vendor counts the tokens of requests for Responses, at `/input_tokens` below their path.
    pub input_tokens: bool,
    /// Path of Responses below the base URL, by default `/responses`. `{model}` stands for the model.
    pub responses_path: Option<String>,
    /// Models that the vendor offers only by Responses, with `*` for any text: `o1-pro*`. Clients of other dialects
    /// reach them all the same.
    pub responses_only: Vec<String>,
    /// Who can decrypt the encrypted reasoning of the vendor's answers, by default `openai`. It goes back only to a
    /// provider of the same name.
    pub encrypted_by: Option<String>,
}

impl QuirkSettings {
    /// The name that the vendor knows a model by.
    pub fn deployed<'a>(&'a self, model: &'a str) -> &'a str {
        self.deployments.get(model).map_or(model, String::as_str)
    }

    /// Where Responses are to be had over a WebSocket.
    pub(super) fn responses_socket(&self) -> Option<String> {
        let path = self.responses_path.as_deref().unwrap_or("/responses");
        self.responses_websocket.then(|| path.to_owned())
    }

    /// The efforts that a model knows; `None` where nothing is said about it.
    pub(super) fn efforts_of(&self, model: &str) -> Option<&[String]> {
        of_longest(&self.efforts, model)
    }

    /// The fields of requests that this model does not know, beyond what the vendor lacks.
    pub(super) fn lacked_by(&self, model: &str) -> &[String] {
        of_longest(&self.models_lack, model).unwrap_or_default()
    }

    /// What `field` is called once [`Self::apply`] has renamed everything.
    pub(super) fn renamed<'a>(&'a self, field: &'a str) -> &'a str {
        self.rename.iter().fold(field, |name, (old, new)| if old == name { new } else { name })
    }

    /// Changes the top-level fields of a request: renamed, dropped, set.
    pub(super) fn apply(&self, body: &mut crate::chat::Object) {
        for (old, new) in &self.rename {
            if let Some(value) = body.shift_remove(old) {
                body.insert(new.clone(), value);
            }
        }
        for field in &self.drop {
            body.shift_remove(field);
        }
        for (field, value) in &self.defaults {
            body.entry(field.clone()).or_insert_with(|| value.clone());
        }
    }

    /// These quirks (a preset's) with a provider's own added: lists and maps grow, the provider's word counts where
    /// both say something.
    #[must_use]
    pub fn with(&self, own: &Self) -> Self {
        let mut both = self.clone();
        both.drop.extend(own.drop.iter().filter(|field| !self.drop.contains(field)).cloned());
        let new = own.drop_in_messages.iter().filter(|field| !self.drop_in_messages.contains(field));
        both.drop_in_messages.extend(new.cloned());
        both.lacks.extend(own.lacks.iter().filter(|field| !self.lacks.contains(field)).cloned());
        let new = own.responses_only.iter().filter(|model| !self.responses_only.contains(model));
        both.responses_only.extend(new.cloned());
        let new = own.completions.iter().filter(|model| !self.completions.contains(model));
        both.completions.extend(new.cloned());
        both.completions_path = own.completions_path.clone().or_else(|| self.completions_path.clone());
        both.rename.extend(own.rename.clone());
        both.rename_in_messages.extend(own.rename_in_messages.clone());
        both.models_lack.extend(own.models_lack.clone());
        both.defaults.extend(own.defaults.clone());
        both.deployments.extend(own.deployments.clone());
        both.no_stream_options |= own.no_stream_options;
        both.completion_excludes_reasoning |= own.completion_excludes_reasoning;
        both.no_developer_role |= own.no_developer_role;
        both.thinking_parts |= own.thinking_parts;
        both.thinking_with_calls.extend(own.thinking_with_calls.iter().cloned());
        both.thinking_switch |= own.thinking_switch;
        both.allowed_tools |= own.allowed_tools;
        both.cache_control |= own.cache_control;
        both.custom_tools |= own.custom_tools;
        both.answer_after_tools |= own.answer_after_tools;
        both.prefix_last |= own.prefix_last;
        both.document_url |= own.document_url;
        both.efforts.extend(own.efforts.clone());
        both.rerank = own.rerank.clone().or_else(|| self.rerank.clone());
        both.moderations = own.moderations.clone().or_else(|| self.moderations.clone());
        both.tool_id_length = own.tool_id_length.or(self.tool_id_length);
        both.chat_path = own.chat_path.clone().or_else(|| self.chat_path.clone());
        both.realtime_path = own.realtime_path.clone().or_else(|| self.realtime_path.clone());
        both.media_path = own.media_path.clone().or_else(|| self.media_path.clone());
        both.kept_path = own.kept_path.clone().or_else(|| self.kept_path.clone());
        both.responses |= own.responses;
        both.responses_websocket |= own.responses_websocket;
        both.input_tokens |= own.input_tokens;
        both.responses_path = own.responses_path.clone().or_else(|| self.responses_path.clone());
        both.encrypted_by = own.encrypted_by.clone().or_else(|| self.encrypted_by.clone());
        both.embeddings_path = own.embeddings_path.clone().or_else(|| self.embeddings_path.clone());
        both
    }
}

/// What is said of the longest beginning of a model's name.
fn of_longest<'q>(said: &'q BTreeMap<String, Vec<String>>, model: &str) -> Option<&'q [String]> {
    let fits = said.iter().filter(|(prefix, _)| model.starts_with(prefix.as_str()));
    fits.max_by_key(|(prefix, _)| prefix.len()).map(|(_, words)| words.as_slice())
}

#[cfg(test)]
mod tests {
    use crate::providers::presets;

    #[test]
    fn what_a_model_lacks_is_told_by_the_longest_beginning_of_its_name() {
        for (preset, model, lacks) in [
            ("moonshot", "kimi-k3", "temperature top_p n presence_penalty frequency_penalty"),
            ("moonshot", "moonshot-v1-8k", ""),
            ("xai", "grok-4.7", "presence_penalty frequency_penalty stop"),
            ("xai", "grok-4.20-0309-non-reasoning", "presence_penalty frequency_penalty"),
            ("xai", "grok-3", ""),
        ] {
            let quirks = &presets::find(preset).unwrap().quirks;
            assert_eq!(quirks.lacked_by(model).join(" "), lacks, "{model}");
        }
    }
}
