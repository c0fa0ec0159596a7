//! Token counts in Bedrock's words: <https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html>

use serde::Deserialize;

use crate::chat::Usage;

/// A `usage` object. Its input leaves out what was read from or written to the cache.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct WireUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_write_input_tokens: Option<u64>,
    cache_details: Option<Vec<Written>>,
}

/// What was written to the cache for one time to live.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Written {
    ttl: Option<String>,
    input_tokens: Option<u64>,
}

impl WireUsage {
    /// The classes; `None` when nothing was said.
    pub(super) fn classes(&self) -> Option<Usage> {
        if self.input_tokens.is_none() && self.output_tokens.is_none() {
            return None;
        }
        let cache_write = self.cache_write_input_tokens.unwrap_or(0);
        let details = self.cache_details.iter().flatten();
        let long = details.filter(|written| written.ttl.as_deref().is_some_and(|ttl| ttl != "5m"));
        let long = long.fold(0_u64, |sum, written| sum.saturating_add(written.input_tokens.unwrap_or(0)));
        Some(Usage {
            input: self.input_tokens.unwrap_or(0),
            cached_read: self.cache_read_input_tokens.unwrap_or(0),
            cache_write,
            cache_write_long: long.min(cache_write),
            output: self.output_tokens.unwrap_or(0),
            ..Usage::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_stands_beside_the_input() {
        let usage: WireUsage = serde_json::from_str(
            r#"{"inputTokens":10,"outputTokens":5,"totalTokens":1045,"cacheReadInputTokens":30,"cacheWriteInputTokens":1000,
                "cacheDetails":[{"ttl":"1h","inputTokens":600},{"ttl":"5m","inputTokens":400}]}"#,
        )
        .unwrap();
        let expected = Usage {
            input: 10,
            cached_read: 30,
            cache_write: 1000,
            cache_write_long: 600,
            output: 5,
            ..Usage::default()
        };
        assert_eq!(usage.classes(), Some(expected));
        assert_eq!(expected.prompt(), 1040);
        let empty: WireUsage = serde_json::from_str("{}").unwrap();
        assert_eq!(empty.classes(), None);
    }
}
