//! The class of service that a request asks for as it goes out, whoever wrote it: client, policy, or a provider's quirks.

use std::borrow::Cow;

use http::HeaderMap;
use serde::Deserialize;
use serde_json::Value;

use super::{Outgoing, QuirkSettings};
use crate::chat::Tier;
use crate::json::Splice;

/// What the field is called.
const FIELDS: [&str; 2] = ["service_tier", "serviceTier"];

/// A request's body, as far as it names a service.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    service_tier: Value,
    #[serde(rename = "serviceTier")]
    camel: Value,
}

impl Outgoing {
    /// The service that its body asks for. This may read all of it: for requests of which somebody knows that they name one.
    pub fn tier(&self) -> Tier {
        if let Some(seen) = self.tier {
            return seen;
        }
        let body = match &*self.body {
            [whole] => Cow::Borrowed(&**whole),
            pieces => Cow::Owned(pieces.concat()),
        };
        serde_json::from_slice::<Named>(&body).unwrap_or_default().tier()
    }
}

impl Named {
    fn tier(&self) -> Tier {
        let word = [&self.service_tier, &self.camel].into_iter().find_map(word);
        word.map_or(Tier::Standard, Tier::asked)
    }
}

/// The service that a client's body asks for once it is edited: only the two fields are looked at.
pub(super) fn tier_in(splice: &Splice<'_>) -> Tier {
    let value =
        |field: &str| splice.get(field).and_then(|raw| serde_json::from_slice(raw).ok()).unwrap_or_default();
    let [service_tier, camel] = FIELDS.map(value);
    Named { service_tier, camel }.tier()
}

impl QuirkSettings {
    /// Whether a request can ask for a service although its client did not.
    pub fn names_tier(&self) -> bool {
        FIELDS.iter().any(|field| {
            self.defaults.contains_key(*field) || self.rename.iter().any(|(_, new)| new == field)
        })
    }
}

/// The service that an answer's head names, which counts before what was asked for: Gemini gives the usual one where there
/// is no room for another, <https://ai.google.dev/gemini-api/docs/priority-inference>.
pub fn given_tier(headers: &HeaderMap) -> Option<Tier> {
    headers.get("x-gemini-service-tier").and_then(|word| Tier::said(word.to_str().ok()?))
}

/// Bedrock writes `{"type": "flex"}`.
fn word(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("type")?.as_str())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::json::Body;

    #[test]
    fn the_service_is_what_the_body_asks_for() {
        for (pieces, expected) in [
            (&["{\"model\":\"m\"", ",\"service_tier\":\"flex\"}"][..], Tier::Flex),
            (&[r#"{"serviceTier":"PRIORITY"}"#], Tier::Priority),
            (&[r#"{"serviceTier":{"type":"flex"}}"#], Tier::Flex),
            (&[r#"{"service_tier":null}"#], Tier::Standard),
            (&[r#"{"service_tier":"batch"}"#], Tier::Standard),
            (&[r#"{"metadata":{"service_tier":"flex"}}"#], Tier::Standard),
            (&["--form\r\nservice_tier"], Tier::Standard),
            (&[], Tier::Standard),
        ] {
            let body = pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect();
            let outgoing = Outgoing::json(String::new(), "application/json", body);
            assert_eq!(outgoing.tier(), expected, "{pieces:?}");
            if let Ok(body) = Body::read(Bytes::from(pieces.concat())) {
                assert_eq!(tier_in(&Splice::new(&body)), expected, "{pieces:?}");
            }
        }
    }

    #[test]
    fn the_service_of_an_edited_body_is_known_without_reading_it_again() {
        for (body, quirks, expected) in [
            (r#"{"model":"m","messages":[]}"#, r#"{"defaults":{"service_tier":"priority"}}"#, Tier::Priority),
            (
                r#"{"model":"m","messages":[],"service_tier":"flex"}"#,
                r#"{"defaults":{"service_tier":"priority"}}"#,
                Tier::Flex,
            ),
            (
                r#"{"model":"m","messages":[],"tier":"flex"}"#,
                r#"{"rename":{"tier":"service_tier"}}"#,
                Tier::Flex,
            ),
            (
                r#"{"model":"m","messages":[],"service_tier":"flex"}"#,
                r#"{"drop":["service_tier"]}"#,
                Tier::Standard,
            ),
        ] {
            let quirks: QuirkSettings = serde_json::from_str(quirks).unwrap();
            for word in ["openai", "anthropic", "openai-responses"] {
                let wire = crate::providers::dialect(word, &quirks).unwrap();
                let target = crate::target::TargetName::parse("p/m").unwrap();
                let body = Body::read(Bytes::copy_from_slice(body.as_bytes())).unwrap();
                let relay = wire.relay().or(wire.responses()).unwrap();
                let said = relay.splice(&body, &target).unwrap();
                assert_eq!(said.tier, Some(expected), "{word}: what was seen on the way");
                let read = Outgoing { tier: None, ..said };
                assert_eq!(read.tier(), expected, "{word}: what stands in the body");
            }
        }
    }

    #[test]
    fn quirks_can_ask_for_a_service() {
        let quirks = |json: Value| serde_json::from_value::<QuirkSettings>(json).unwrap();
        for (json, expected) in [
            (serde_json::json!({"defaults": {"service_tier": "priority"}}), true),
            (serde_json::json!({"rename": {"tier": "service_tier"}}), true),
            (serde_json::json!({"drop": ["service_tier"]}), false),
        ] {
            assert_eq!(quirks(json.clone()).names_tier(), expected, "{json}");
        }
    }
}
