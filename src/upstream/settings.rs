//! Settings of the transport towards providers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::egress::EgressSettings;
use crate::settings::{Period, Size};

/// Connections towards providers.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamSettings {
    /// Idle connections kept per provider and worker thread.
    pub idle_connections: usize,
    /// How long an idle connection is kept.
    pub idle_timeout: Period,
    /// Connections opened to each provider at start, before the first request, per worker thread.
    pub prewarm: usize,
    /// Largest whole answer; a stream has no such limit, but each of its lines has (1 MiB).
    pub max_body: Size,
    /// PEM file with further root certificates, besides the platform's; relative to the configuration.
    pub extra_roots: Option<std::path::PathBuf>,
    /// Where connections may lead.
    pub egress: EgressSettings,
    /// HTTP proxy through which public providers are called (`http://proxy:3128`); by default `HTTPS_PROXY` of the
    /// environment, whose `NO_PROXY` names exceptions. Empty text means none. Credentials belong into the environment.
    pub proxy: Option<String>,
}

impl Default for UpstreamSettings {
    fn default() -> Self {
        Self {
            idle_connections: 64,
            idle_timeout: Period::secs(50),
            prewarm: 1,
            max_body: Size(64 << 20),
            extra_roots: None,
            egress: EgressSettings::default(),
            proxy: None,
        }
    }
}
