//! Presets of well-known providers: base URL, key variable, authentication and quirks, as data in `presets.yaml`.

use std::sync::LazyLock;

use serde::Deserialize;

use super::QuirkSettings;

/// What is known of a vendor, so that a configuration need only name it.
#[derive(Debug, Clone, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// The provider's name in a configuration.
    pub name: String,
    /// Other names for the same.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The dialect that it speaks, a word that [`super::dialect`] knows.
    pub dialect: String,
    /// Base URL up to, but without, `/chat/completions`; `{region}` stands for the region of AWS. `None` where every customer has one of his own (Azure).
    #[serde(default)]
    pub base_url: Option<String>,
    /// The same where a customer's address is made of one name, with `{resource}` for it (Azure).
    #[serde(default)]
    pub resource_url: Option<String>,
    /// The environment variable in which its key is usually kept; `None` for servers that ask for none.
    #[serde(default)]
    pub key_env: Option<String>,
    /// How the key is sent.
    #[serde(default)]
    pub auth: Auth,
    /// Whether it runs in the user's own house, so that plain HTTP is normal and no key is needed.
    #[serde(default)]
    pub local: bool,
    /// Deviations from the dialect.
    #[serde(default)]
    pub quirks: QuirkSettings,
}

/// How a provider wants its key.
#[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// `authorization: Bearer <key>`.
    #[default]
    Bearer,
    /// `api-key: <key>` (Azure).
    ApiKey,
    /// `x-api-key: <key>` (Anthropic).
    XApiKey,
    /// `x-goog-api-key: <key>` (Google).
    XGoogApiKey,
    /// Google's credentials: a file, the machine's own, a token or a key (Vertex AI).
    Google,
    /// `authorization: Bearer <key>` where there is a key, else a signature (AWS).
    Aws,
    /// No key is asked for; one that is configured is sent as a bearer token all the same.
    None,
}

/// The preset of this name or alias.
pub fn find(name: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.name == name || preset.aliases.iter().any(|alias| alias == name))
}

/// All presets, in the order of the table.
pub fn all() -> &'static [Preset] {
    &TABLE
}

static TABLE: LazyLock<Vec<Preset>> = LazyLock::new(|| {
    // The table is part of the program: a test proves that it can be read.
    serde_yaml::from_str(include_str!("presets.yaml")).unwrap_or_default()
});

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::providers::dialect;

    #[test]
    fn every_entry_of_the_table_holds_together() {
        let table: Vec<Preset> = serde_yaml::from_str(include_str!("presets.yaml")).unwrap();
        assert_eq!(table, all());
        let (mut names, mut variables) = (BTreeSet::new(), BTreeSet::new());
        for preset in &table {
            let name = &preset.name;
            for name in [name].into_iter().chain(&preset.aliases) {
                assert!(names.insert(name.clone()), "{name} stands twice");
            }
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{name}"
            );
            assert!(dialect(&preset.dialect, &preset.quirks).is_some(), "{name}: {}", preset.dialect);
            if let Some(base) = &preset.base_url {
                let uri: http::Uri = base
                    .replace("{region}", "eu-west-1")
                    .parse()
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                let scheme = if preset.local { "http" } else { "https" };
                assert_eq!(uri.scheme_str(), Some(scheme), "{name}");
                assert!(
                    uri.host().is_some() && !base.ends_with('/') && uri.query().is_none(),
                    "{name}: {base}"
                );
            }
            match &preset.key_env {
                Some(variable) => {
                    // Without a base URL nothing starts by itself, so Azure's two forms may share theirs.
                    assert!(
                        variables.insert(variable) || preset.base_url.is_none(),
                        "{variable} stands twice"
                    );
                    assert!(
                        variable.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
                    );
                }
                None => {
                    assert!(
                        preset.auth == Auth::Google || preset.local && preset.auth == Auth::None,
                        "{name}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_guide_names_every_preset_with_its_key() {
        let guide =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/providers.md")).unwrap();
        for preset in all() {
            let row = guide.lines().find(|line| line.starts_with(&format!("| `{}`", preset.name)));
            let row = row.unwrap_or_else(|| panic!("docs/providers.md lacks {}", preset.name));
            for said in [&preset.base_url, &preset.key_env].into_iter().flatten() {
                assert!(row.contains(said.as_str()), "{row}: lacks {said}");
            }
        }
    }

    #[test]
    fn every_vendor_that_we_promise_is_there() {
        for name in [
            "openai",
            "mistral",
            "deepseek",
            "qwen",
            "groq",
            "xai",
            "openrouter",
            "together",
            "fireworks",
            "cerebras",
            "perplexity",
            "moonshot",
            "zai",
            "deepinfra",
            "nebius",
            "nvidia",
            "huggingface",
            "github",
            "azure",
            "bedrock",
            "tokenmix",
            "ollama",
            "vllm",
            "llamacpp",
            "lmstudio",
        ] {
            assert!(find(name).is_some(), "{name}");
        }
        assert_eq!(find("nobody"), None);
    }
}
