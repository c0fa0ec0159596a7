//! Providers on Azure: a resource becomes an address, a version becomes paths.

use std::collections::BTreeMap;

use super::{Base, Desk};
use crate::providers::presets::Preset;
use crate::providers::{AzureSettings, ProviderSettings, QuirkSettings};

/// What is known of a provider on Azure before the environment is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedAzure {
    /// As written.
    pub settings: AzureSettings,
    /// Path below a host that names none: `/openai/v1`.
    pub path: String,
}

/// Where the `v1` API is.
const V1: &str = "/openai/v1";

impl Desk<'_> {
    /// The settings of a provider on Azure; `None` for others.
    pub(super) fn azure(
        &mut self,
        name: &str,
        own: &ProviderSettings,
        preset: Option<&Preset>,
    ) -> Option<CheckedAzure> {
        let on_azure = preset.is_some_and(|preset| preset.resource_url.is_some());
        if !on_azure && own.azure.is_none() {
            return None;
        }
        let settings = own.azure.clone().unwrap_or_default();
        if let Some(resource) = &settings.resource {
            let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if resource.is_empty() || !resource.chars().all(good) {
                let message = format!("{resource:?} is no name of a resource");
                self.error(&["providers", name, "azure", "resource"], message, None);
            }
            if own.base_url.is_some() {
                let message = format!("`{name}` has a `base_url`, so `azure.resource` has no effect");
                self.warning(&["providers", name, "azure", "resource"], message, None);
            }
        }
        if let Some(version) = &settings.api_version {
            let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
            if version.is_empty() || !version.chars().all(good) {
                let message = format!("{version:?} is no version: try \"2024-10-21\" or \"preview\"");
                self.error(&["providers", name, "azure", "api_version"], message, None);
            }
        }
        if settings.client_secret.is_some() && settings.managed_identity {
            let message = "`client_secret` and `managed_identity` exclude each other";
            self.error(&["providers", name, "azure", "managed_identity"], message, None);
        }
        let plain =
            preset.is_none_or(|preset| preset.dialect == "openai" && preset.quirks.chat_path.is_none());
        let path = if plain && !is_dated(&settings) { V1.to_owned() } else { String::new() };
        Some(CheckedAzure { settings, path })
    }
}

impl CheckedAzure {
    /// The address of the resource, where one is named.
    pub(super) fn url(&self, preset: Option<&Preset>) -> Option<String> {
        let template = preset?.resource_url.as_ref()?;
        Some(template.replace("{resource}", self.settings.resource.as_deref()?))
    }

    /// A base whose path is not said has the one of the version.
    pub fn below(&self, mut base: Base) -> Base {
        if base.path.is_empty() {
            base.path.clone_from(&self.path);
        }
        base
    }

    /// The version in the paths, and the names of deployments.
    pub(super) fn quirks(&self, quirks: &mut QuirkSettings) {
        quirks.deployments.extend(self.settings.deployments.clone());
        let Some(version) = self.settings.api_version.as_deref().filter(|_| is_dated(&self.settings)) else {
            return;
        };
        let slots = [
            (&mut quirks.chat_path, "chat/completions"),
            (&mut quirks.completions_path, "completions"),
            (&mut quirks.embeddings_path, "embeddings"),
            (&mut quirks.media_path, "{operation}"),
        ];
        for (slot, operation) in slots {
            let path = slot.take().unwrap_or_else(|| format!("/openai/deployments/{{model}}/{operation}"));
            let path = path.split("?api-version=").next().unwrap_or_default();
            *slot = Some(format!("{path}?api-version={version}"));
        }
        // These are not below the deployments.
        quirks.responses_path.get_or_insert_with(|| format!("{V1}/responses"));
        quirks.kept_path.get_or_insert_with(|| format!("{V1}/{{operation}}"));
        if let Some(path) = quirks.realtime_path.as_mut().filter(|path| path.starts_with("/realtime")) {
            path.insert_str(0, V1);
        }
    }

    /// Parameters of every request.
    pub(super) fn query(&self, query: &mut BTreeMap<String, String>) {
        if let Some(version) = self.settings.api_version.as_ref().filter(|version| *version == "preview") {
            query.entry("api-version".into()).or_insert_with(|| version.clone());
        }
    }

    /// Whether the settings say how Entra ID is asked, so that no key is.
    pub fn wants_entra(&self) -> bool {
        self.settings.client_secret.is_some() || self.settings.managed_identity
    }
}

/// A version of the older API, whose paths name the deployment.
fn is_dated(settings: &AzureSettings) -> bool {
    settings.api_version.as_ref().is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
}
