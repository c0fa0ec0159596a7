//! The real tables of `providers/`, as the checks want to see them.

use super::check::Vendors;
use crate::providers::{ProviderSettings, presets};

/// Presets and dialects that are built in.
pub struct BuiltIn;

impl Vendors for BuiltIn {
    fn preset(&self, name: &str) -> Option<ProviderSettings> {
        presets::find(name).map(|preset| ProviderSettings {
            dialect: Some(preset.dialect.clone()),
            base_url: preset.base_url.clone(),
            quirks: Some(preset.quirks.clone()),
            ..ProviderSettings::default()
        })
    }

    fn presets(&self) -> Vec<String> {
        presets::all().iter().map(|preset| preset.name.clone()).collect()
    }

    fn dialects(&self) -> Vec<(String, bool)> {
        crate::providers::DIALECTS.iter().map(|(name, local)| ((*name).to_owned(), *local)).collect()
    }
}
