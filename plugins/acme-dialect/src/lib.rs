//! A provider's language, of a vendor that does not exist: Acme's generation API. What it cannot say is named, never
//! dropped in silence; streams may be cut anywhere; its troubles become the gateway's kinds of fault.

mod answer;
mod ask;
mod stream;
mod trouble;

use serde::Deserialize;
use tollgate_plugin::prelude::*;

use stream::Lines;

/// The dialect: where its requests go.
#[derive(Debug)]
pub struct AcmeDialect(Config);

/// The plugin's `config:` block.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The path below the provider's `base_url`.
    pub path: String,
    /// The version of Acme's API, sent as `acme-version`.
    pub version: String,
}

impl Default for Config {
    fn default() -> Self {
        Config { path: "/v2/generate".to_owned(), version: "2026-05-01".to_owned() }
    }
}

impl Plugin for AcmeDialect {
    type Config = Config;
    const NEEDS: Needs = Needs::empty();

    fn new(config: Config) -> Result<Self, String> {
        if config.path.starts_with('/') && !config.path.starts_with("//") {
            Ok(AcmeDialect(config))
        } else {
            Err(format!("path: {:?} must begin with one slash", config.path))
        }
    }
}

impl Dialect for AcmeDialect {
    type Decoder = Lines;

    fn encode(&self, request: &str) -> Result<Outgoing, Failure> {
        let (body, lost) = ask::acme(request)?;
        let headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("acme-version".to_owned(), self.0.version.clone()),
        ];
        Ok(Outgoing {
            method: "POST".to_owned(),
            path: self.0.path.clone(),
            headers,
            body: body.into_bytes(),
            lost,
        })
    }

    fn decode(&self, _: u16, body: &[u8]) -> Result<String, Failure> {
        answer::openai(body)
    }

    fn fault(&self, status: u16, headers: &[(String, String)], body: &[u8]) -> ProviderFault {
        trouble::fault(status, headers, body)
    }

    fn decoder(&self) -> Lines {
        Lines::default()
    }
}

impl SelfTest for AcmeDialect {
    /// A question goes out and an answer comes back.
    fn self_test(&self) -> Result<(), String> {
        let asked = r#"{ "model": "m", "messages": [{ "role": "user", "content": "hello" }] }"#;
        let failed = |failure: Failure| format!("{failure:?}");
        let outgoing = self.encode(asked).map_err(failed)?;
        let answer = br#"{ "reply": { "say": "hello" }, "ended": "complete" }"#;
        let read = self.decode(200, answer).map_err(failed)?;
        let right = outgoing.lost.is_empty() && read.contains(r#""content":"hello""#);
        if right { Ok(()) } else { Err(format!("a greeting comes back as {read}")) }
    }
}

tollgate_plugin::export!(AcmeDialect: dialect, self_test);

#[cfg(test)]
mod tests;
