//! Settings of the client listener.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{Period, Size};

/// TLS towards clients. Both files are watched; a renewed certificate is used by the next connection. Relative paths
/// begin at the configuration's directory.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// PEM file with the certificate chain, leaf first.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
    /// Lowest TLS version accepted: `1.2` or `1.3`.
    #[serde(default)]
    pub min: TlsVersion,
}

/// A TLS version.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Limits and deadlines of the client listener.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Time to send a request's head.
    pub header_timeout: Period,
    /// Time to send a request's body.
    pub body_timeout: Period,
    /// Lowest rate, in bytes per second, at which a body may arrive once five seconds have passed.
    pub body_min_rate: Size,
    /// How long a connection may stay open without a request. Longer than load balancers keep theirs (60 s is usual): who
    /// closes first must not be who answers.
    pub idle_timeout: Period,
    /// How long a client may refuse to read a response before the connection is closed.
    pub write_timeout: Period,
    /// Number of request headers.
    pub headers: usize,
    /// Size of a request's head.
    pub head: Size,
    /// Length of the request target.
    pub uri: Size,
    /// Size of a request body.
    pub body: Size,
    /// Size of a body that is sent on while it arrives: audio, pictures, files, raw requests. Of such a body,
    /// `body_timeout` is the longest silence, not the whole time.
    pub upload: Size,
    /// Open connections in total.
    pub connections: usize,
    /// Open connections of one address; behind a proxy, all clients come from its own.
    pub connections_per_address: usize,
    /// Requests in flight in this process; more are answered 503 with `Retry-After`. Tenants (team, else key, else user,
    /// else address) who have less than their share of them may come until it is a quarter more, those of a high priority
    /// until it is half more.
    pub in_flight: usize,
    /// Memory of this process; by default the limit of its control group, if it has one. Above 85 % of it, fewer
    /// requests are let in until it has come back, and a body for which no room is left is not read; the others are
    /// answered 503 with `Retry-After`. Changing it needs a restart.
    pub memory: Option<Size>,
    /// HTTP/2 streams of one connection.
    pub h2_streams: u32,
    /// Size of a request's head over HTTP/2, at most `head`. There a few bytes can stand for a long header, on each stream of a
    /// connection.
    pub h2_head: Size,
}

impl LimitSettings {
    /// The largest body that any request may have.
    pub(super) fn largest(&self) -> u64 {
        self.body.0.max(self.upload.0)
    }
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            header_timeout: Period::secs(10),
            body_timeout: Period::secs(30),
            body_min_rate: Size(1024),
            idle_timeout: Period::secs(75),
            write_timeout: Period::secs(60),
            headers: 64,
            head: Size(64 << 10),
            uri: Size(8 << 10),
            body: Size(20 << 20),
            upload: Size(512 << 20),
            connections: 10_000,
            connections_per_address: 2048,
            in_flight: 2_048,
            memory: None,
            h2_streams: 100,
            h2_head: Size(16 << 10),
        }
    }
}

/// Compressed request bodies (`Content-Encoding: gzip` or `deflate`). Refused with 415 unless enabled.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct CompressionSettings {
    /// Whether compressed bodies are accepted.
    pub accept: bool,
    /// Size of a body after decompression; the listener's `body` limit applies too.
    pub max_size: Size,
    /// Highest ratio of decompressed to compressed size.
    pub max_ratio: u32,
}

impl Default for CompressionSettings {
    fn default() -> Self {
        Self { accept: false, max_size: Size(20 << 20), max_ratio: 100 }
    }
}
