//! What LiteLLM calls providers, and what they are here.

/// How a provider of LiteLLM is written here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    /// A preset, and the variable in which LiteLLM looks for its key.
    Preset(&'static str, &'static str),
    /// A vendor without a preset that speaks OpenAI's dialect: its base URL and the variable of its key.
    Compatible(&'static str, &'static str),
    /// A server of one's own that speaks OpenAI's dialect, at `api_base`.
    Own,
}

/// Providers by the first part of `litellm_params.model`. Addresses and variables are those that LiteLLM uses
/// (<https://docs.litellm.ai/docs/providers>).
const TABLE: &[(&str, Here)] = &[
    ("openai", Here::Preset("openai", "OPENAI_API_KEY")),
    ("text-completion-openai", Here::Preset("openai", "OPENAI_API_KEY")),
    ("azure", Here::Preset("azure", "AZURE_API_KEY")),
    ("azure_text", Here::Preset("azure", "AZURE_API_KEY")),
    ("azure_ai", Here::Preset("azure-foundry", "AZURE_AI_API_KEY")),
    ("anthropic", Here::Preset("anthropic", "ANTHROPIC_API_KEY")),
    ("anthropic_text", Here::Preset("anthropic", "ANTHROPIC_API_KEY")),
    ("gemini", Here::Preset("gemini", "GEMINI_API_KEY")),
    ("vertex_ai", Here::Preset("vertex", "")),
    ("vertex_ai_beta", Here::Preset("vertex", "")),
    ("bedrock", Here::Preset("bedrock", "AWS_BEARER_TOKEN_BEDROCK")),
    ("bedrock_converse", Here::Preset("bedrock", "AWS_BEARER_TOKEN_BEDROCK")),
    ("cohere", Here::Preset("cohere", "COHERE_API_KEY")),
    ("cohere_chat", Here::Preset("cohere", "COHERE_API_KEY")),
    ("mistral", Here::Preset("mistral", "MISTRAL_API_KEY")),
    ("codestral", Here::Compatible("https://codestral.mistral.ai/v1", "CODESTRAL_API_KEY")),
    ("deepseek", Here::Preset("deepseek", "DEEPSEEK_API_KEY")),
    ("dashscope", Here::Preset("qwen", "DASHSCOPE_API_KEY")),
    ("groq", Here::Preset("groq", "GROQ_API_KEY")),
    ("xai", Here::Preset("xai", "XAI_API_KEY")),
    ("openrouter", Here::Preset("openrouter", "OPENROUTER_API_KEY")),
    ("together_ai", Here::Preset("together", "TOGETHERAI_API_KEY")),
    ("fireworks_ai", Here::Preset("fireworks", "FIREWORKS_API_KEY")),
    ("cerebras", Here::Preset("cerebras", "CEREBRAS_API_KEY")),
    ("perplexity", Here::Preset("perplexity", "PERPLEXITYAI_API_KEY")),
    ("moonshot", Here::Preset("moonshot", "MOONSHOT_API_KEY")),
    ("zai", Here::Preset("zai", "ZAI_API_KEY")),
    ("deepinfra", Here::Preset("deepinfra", "DEEPINFRA_API_KEY")),
    ("nebius", Here::Preset("nebius", "NEBIUS_API_KEY")),
    ("nvidia_nim", Here::Preset("nvidia", "NVIDIA_NIM_API_KEY")),
    ("huggingface", Here::Preset("huggingface", "HUGGINGFACE_API_KEY")),
    ("github", Here::Preset("github", "GITHUB_API_KEY")),
    ("jina_ai", Here::Preset("jina", "JINA_AI_API_KEY")),
    ("voyage", Here::Preset("voyage", "VOYAGE_API_KEY")),
    ("ollama", Here::Preset("ollama-native", "")),
    ("ollama_chat", Here::Preset("ollama-native", "")),
    ("lm_studio", Here::Preset("lmstudio", "")),
    ("llamafile", Here::Preset("llamacpp", "")),
    ("hosted_vllm", Here::Preset("vllm", "")),
    ("vllm", Here::Preset("vllm", "")),
    ("sambanova", Here::Compatible("https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY")),
    ("hyperbolic", Here::Compatible("https://api.hyperbolic.xyz/v1", "HYPERBOLIC_API_KEY")),
    ("novita", Here::Compatible("https://api.novita.ai/v3/openai", "NOVITA_API_KEY")),
    ("lambda_ai", Here::Compatible("https://api.lambda.ai/v1", "LAMBDA_API_KEY")),
    ("featherless_ai", Here::Compatible("https://api.featherless.ai/v1", "FEATHERLESS_AI_API_KEY")),
    ("friendliai", Here::Compatible("https://api.friendli.ai/serverless/v1", "FRIENDLI_TOKEN")),
    ("meta_llama", Here::Compatible("https://api.llama.com/compat/v1", "LLAMA_API_KEY")),
    ("ai21_chat", Here::Compatible("https://api.ai21.com/studio/v1", "AI21_API_KEY")),
    ("volcengine", Here::Compatible("https://ark.cn-beijing.volces.com/api/v3", "VOLCENGINE_API_KEY")),
    ("minimax", Here::Compatible("https://api.minimax.io/v1", "MINIMAX_API_KEY")),
    ("vercel_ai_gateway", Here::Compatible("https://ai-gateway.vercel.sh/v1", "VERCEL_AI_GATEWAY_API_KEY")),
    ("openai_like", Here::Own),
    ("custom_openai", Here::Own),
    ("litellm_proxy", Here::Own),
    ("xinference", Here::Own),
    ("infinity", Here::Own),
    ("databricks", Here::Own),
];

/// Makers by the beginning of a model's name, for models that are written without a provider.
const BARE: &[(&str, &str)] = &[
    ("gpt-", "openai"),
    ("chatgpt-", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("ft:", "openai"),
    ("text-embedding-", "openai"),
    ("text-moderation-", "openai"),
    ("omni-moderation-", "openai"),
    ("dall-e-", "openai"),
    ("whisper-", "openai"),
    ("tts-", "openai"),
    ("claude-", "anthropic"),
    ("gemini-", "vertex_ai"),
    ("command-", "cohere"),
    ("embed-", "cohere"),
    ("mistral-", "mistral"),
    ("codestral-", "mistral"),
    ("deepseek-", "deepseek"),
];

/// What goes before the model's name in some of LiteLLM's, and says nothing here.
const NOISE: &[(&str, &[&str])] = &[
    ("openai", &["responses/", "chat/completions/"]),
    ("azure", &["responses/", "o_series/", "gpt5_series/"]),
    ("bedrock", &["converse/", "converse_like/", "invoke/", "llama/", "deepseek_r1/"]),
    ("vertex_ai", &["openai/"]),
];

/// A model of LiteLLM, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named<'a> {
    /// Who serves it.
    pub(super) here: Here,
    /// How LiteLLM calls the provider.
    pub(super) vendor: &'a str,
    /// The model's name at the provider.
    pub(super) model: &'a str,
    /// The region, where the name has one.
    pub(super) region: Option<&'a str>,
}

/// Finds the provider of `litellm_params.model`; `custom` is `custom_llm_provider`, `at_home` whether there is an
/// `api_base`.
pub(super) fn named<'a>(model: &'a str, custom: Option<&'a str>, at_home: bool) -> Option<Named<'a>> {
    if let Some(vendor) = custom {
        let model = model.strip_prefix(vendor).and_then(|rest| rest.strip_prefix('/')).unwrap_or(model);
        return table(vendor).map(|here| clean(here, vendor, model));
    }
    if let Some((vendor, rest)) = model.split_once('/')
        && let Some(here) = table(vendor)
    {
        return Some(clean(here, vendor, rest));
    }
    if let Some((_, vendor)) = BARE.iter().find(|(start, _)| model.starts_with(start))
        && let Some(here) = table(vendor)
    {
        return Some(clean(here, vendor, model));
    }
    at_home.then(|| clean(Here::Own, "openai_like", model))
}

/// What a provider of LiteLLM is here.
pub(super) fn table(vendor: &str) -> Option<Here> {
    TABLE.iter().find(|(name, _)| *name == vendor).map(|(_, here)| *here)
}

fn clean<'a>(here: Here, vendor: &'a str, mut model: &'a str) -> Named<'a> {
    let noise = NOISE.iter().find(|(name, _)| *name == vendor).map_or(&[][..], |(_, noise)| noise);
    while let Some(rest) = noise.iter().find_map(|noise| model.strip_prefix(noise)) {
        model = rest;
    }
    let mut region = None;
    if matches!(here, Here::Preset("bedrock", _))
        && let Some((first, rest)) = model.split_once('/')
        && is_region(first)
    {
        (region, model) = (Some(first), rest);
    }
    Named { here, vendor, model, region }
}

/// `us-east-1`, `ap-southeast-2`, `us-gov-west-1`.
fn is_region(text: &str) -> bool {
    text.rsplit_once('-').is_some_and(|(front, number)| {
        front.contains('-') && number.len() == 1 && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::presets;

    #[test]
    fn every_preset_of_the_table_exists() {
        for (vendor, here) in TABLE {
            if let Here::Preset(preset, _) = here {
                assert!(presets::all().iter().any(|known| known.name == *preset), "{vendor}: {preset}");
            }
        }
        for (_, vendor) in BARE {
            assert!(table(vendor).is_some(), "{vendor}");
        }
    }

    #[test]
    fn names_are_taken_apart_as_litellm_does() {
        let cases = [
            ("gpt-4o", None, false, Some(("openai", "gpt-4o", None))),
            ("openai/responses/gpt-5", None, false, Some(("openai", "gpt-5", None))),
            ("azure/o_series/my-o3", None, true, Some(("azure", "my-o3", None))),
            ("bedrock/converse/us-east-1/anthropic.claude-v2", None, false, {
                Some(("bedrock", "anthropic.claude-v2", Some("us-east-1")))
            }),
            ("bedrock/anthropic.claude-v2", None, false, Some(("bedrock", "anthropic.claude-v2", None))),
            ("openrouter/meta-llama/llama-3", None, false, Some(("openrouter", "meta-llama/llama-3", None))),
            ("my-model", Some("openai"), true, Some(("openai", "my-model", None))),
            ("my-model", None, true, Some(("openai_like", "my-model", None))),
            ("my-model", None, false, None),
            ("sagemaker/jumpstart", None, false, None),
        ];
        for (model, custom, at_home, expected) in cases {
            let found = named(model, custom, at_home).map(|named| (named.vendor, named.model, named.region));
            assert_eq!(found, expected, "{model}");
        }
    }
}
