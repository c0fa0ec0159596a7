//! Settings of the admin listener.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::SecretRef;

/// The admin listener: health, metrics, status.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct AdminSettings {
    /// Address and port; port 0 picks one and prints it.
    #[schemars(extend("format" = "address"))]
    pub listen: std::net::SocketAddr,
    /// Bearer token of `/admin/v1/*`, at least 16 bytes. Without it, these paths answer programs on this
    /// machine only, and no web pages in its browsers.
    /// `/livez`, `/readyz` and `/metrics` are open.
    pub token: Option<SecretRef>,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { listen: ([127, 0, 0, 1], 9090).into(), token: None }
    }
}
