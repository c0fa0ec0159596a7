//! Token counts in Anthropic's words. <https://platform.claude.com/docs/en/api/messages#response-usage>

use serde::Deserialize;
use serde_json::Value;

use crate::chat::{Manner, Usage};

/// A `usage` object. Fields that are not there say nothing: those of an earlier event of the stream still count.
#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(super) struct WireUsage {
    /// Prompt tokens that were neither read from nor written to the cache.
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_creation: Option<Creation>,
    output_tokens_details: Option<Details>,
    /// With compaction and the like, every step of the answer; the counts above leave all but the last out.
    iterations: Option<Vec<WireUsage>>,
    /// What a step is, and the model that did it, where it is not the one that answers.
    #[serde(rename = "type")]
    kind: Option<String>,
    model: Option<String>,
    /// `standard`, `priority` or `batch`: <https://platform.claude.com/docs/en/api/service-tiers>
    service_tier: Option<Value>,
    /// `standard` or `fast`: <https://platform.claude.com/docs/en/build-with-claude/fast-mode>
    speed: Option<Value>,
    /// Where it was done: <https://platform.claude.com/docs/en/manage-claude/data-residency>
    inference_geo: Option<Value>,
    /// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/web-search-tool#usage-and-pricing>
    server_tool_use: Option<ServerTools>,
    /// Whether code was run, which is paid for by the hour and stands in no count, but in the message's `container`:
    /// <https://platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool#usage-and-pricing>
    #[serde(skip)]
    pub(super) ran_code: bool,
}

#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
struct ServerTools {
    web_search_requests: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Creation {
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Details {
    thinking_tokens: Option<u64>,
}

impl WireUsage {
    /// Takes over what a later event says. Its counts are cumulative: they replace, they are never added.
    pub(super) fn update(&mut self, later: Self) {
        fn newer<T>(old: &mut Option<T>, new: Option<T>) {
            if new.is_some() {
                *old = new;
            }
        }
        newer(&mut self.input_tokens, later.input_tokens);
        newer(&mut self.output_tokens, later.output_tokens);
        newer(&mut self.cache_read_input_tokens, later.cache_read_input_tokens);
        newer(&mut self.cache_creation_input_tokens, later.cache_creation_input_tokens);
        newer(&mut self.cache_creation, later.cache_creation);
        newer(&mut self.output_tokens_details, later.output_tokens_details);
        newer(&mut self.iterations, later.iterations);
        newer(&mut self.service_tier, later.service_tier);
        newer(&mut self.speed, later.speed);
        newer(&mut self.inference_geo, later.inference_geo);
        newer(&mut self.server_tool_use, later.server_tool_use);
        self.ran_code |= later.ran_code;
    }

    /// The classes; `None` when nothing was said.
    pub(super) fn classes(&self) -> Option<Usage> {
        if self.input_tokens.is_none() && self.output_tokens.is_none() {
            return None;
        }
        let own = self.own();
        let Some(steps) = &self.iterations else { return Some(own) };
        let mut all = Usage::default();
        for (model, step) in steps.iter().map(|step| (step.elsewhere(), step.own())) {
            all.input = all.input.saturating_add(step.input);
            all.cached_read = all.cached_read.saturating_add(step.cached_read);
            all.cache_write = all.cache_write.saturating_add(step.cache_write);
            all.cache_write_long = all.cache_write_long.saturating_add(step.cache_write_long);
            all.output = all.output.saturating_add(step.output);
            if let Some(model) = model {
                all.helped(model, &step);
            }
        }
        // What is billed is the sum of the steps: https://platform.claude.com/docs/en/build-with-claude/compaction
        Some(Usage {
            input: all.input.max(own.input),
            cached_read: all.cached_read.max(own.cached_read),
            cache_write: all.cache_write.max(own.cache_write),
            cache_write_long: all.cache_write_long.max(own.cache_write_long),
            output: all.output.max(own.output),
            helper: all.helper,
            ..own
        })
    }

    /// The model of a step that was not done by the one that answers: an adviser, or who took over after a refusal. It is
    /// paid at that model's price: <https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool>
    fn elsewhere(&self) -> Option<&str> {
        let helps = self.kind.as_ref().is_some_and(|kind| kind.ends_with("_message"));
        self.model.as_deref().filter(|_| helps)
    }

    fn own(&self) -> Usage {
        let cache_write = self.cache_creation_input_tokens.unwrap_or(0);
        let long = self.cache_creation.as_ref().and_then(|split| split.ephemeral_1h_input_tokens);
        let thinking = self.output_tokens_details.as_ref().and_then(|details| details.thinking_tokens);
        let output = self.output_tokens.unwrap_or(0);
        Usage {
            input: self.input_tokens.unwrap_or(0),
            cached_read: self.cache_read_input_tokens.unwrap_or(0),
            cache_write,
            cache_write_long: long.unwrap_or(0).min(cache_write),
            output,
            reasoning: thinking.unwrap_or(0).min(output),
            searches: self.server_tool_use.as_ref().and_then(|tools| tools.web_search_requests).unwrap_or(0),
            unpriced_tools: u64::from(self.ran_code),
            manner: Manner {
                fast: self.speed.as_ref().is_some_and(|speed| speed == "fast"),
                us_only: self.inference_geo.as_ref().is_some_and(|place| place == "us"),
            },
            ..Usage::default()
        }
        .in_tier(self.service_tier.as_ref().and_then(Value::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Tier;

    fn usage(json: &str) -> WireUsage {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn later_counts_replace_earlier_ones() {
        let mut seen = usage(
            r#"{"input_tokens":18,"cache_creation_input_tokens":1031,"cache_read_input_tokens":4,"output_tokens":88,
                "cache_creation":{"ephemeral_5m_input_tokens":1000,"ephemeral_1h_input_tokens":31}}"#,
        );
        seen.update(usage(
            r#"{"output_tokens":100,"input_tokens":null,"output_tokens_details":{"thinking_tokens":7}}"#,
        ));
        let expected = Usage {
            input: 18,
            cached_read: 4,
            cache_write: 1031,
            cache_write_long: 31,
            output: 100,
            reasoning: 7,
            ..Usage::default()
        };
        assert_eq!(seen.classes(), Some(expected));
        assert_eq!(usage("{}").classes(), None);
    }

    #[test]
    fn searches_of_the_web_are_counted() {
        let mut seen =
            usage(r#"{"input_tokens":1,"server_tool_use":{"web_search_requests":2,"web_fetch_requests":1}}"#);
        assert_eq!(seen.classes().unwrap().searches, 2);
        seen.update(usage(r#"{"output_tokens":9,"server_tool_use":{"web_search_requests":3}}"#));
        assert_eq!(seen.classes().unwrap().searches, 3);
        seen.update(usage(r#"{"output_tokens":10,"server_tool_use":null}"#));
        assert_eq!(seen.classes().unwrap().searches, 3);
    }

    #[test]
    fn the_manner_is_that_of_the_answer() {
        let mut seen = usage(r#"{"input_tokens":1,"speed":"fast","inference_geo":"us"}"#);
        seen.update(usage(r#"{"output_tokens":9,"speed":null}"#));
        assert_eq!(seen.classes().unwrap().manner, Manner { fast: true, us_only: true });
        let usual = usage(r#"{"input_tokens":1,"speed":"standard","inference_geo":"global"}"#);
        assert_eq!(usual.classes().unwrap().manner, Manner::default());
    }

    #[test]
    fn the_tier_is_that_of_the_answer() {
        let mut seen = usage(r#"{"input_tokens":1,"service_tier":"priority"}"#);
        seen.update(usage(r#"{"output_tokens":9,"service_tier":null}"#));
        assert_eq!(seen.classes().unwrap().tier, Some(Tier::Priority));
        assert_eq!(usage(r#"{"input_tokens":1,"service_tier":7}"#).classes().unwrap().tier, None);
    }

    #[test]
    fn all_steps_of_an_answer_are_paid_for() {
        let counted = usage(
            r#"{"input_tokens":2390,"output_tokens":50,"iterations":[
                {"type":"compaction","input_tokens":2518,"output_tokens":300,"cache_read_input_tokens":5},
                {"type":"message","input_tokens":2390,"output_tokens":50}]}"#,
        );
        let classes = counted.classes().unwrap();
        assert_eq!((classes.input, classes.output, classes.cached_read), (4908, 350, 5));
        assert_eq!(usage(r#"{"input_tokens":3,"iterations":[]}"#).classes().unwrap().input, 3);
    }

    #[test]
    fn what_an_adviser_did_is_known_apart() {
        let counted = usage(
            r#"{"input_tokens":412,"output_tokens":121,"iterations":[
                {"type":"message","input_tokens":300,"output_tokens":80},
                {"type":"advisor_message","model":"claude-opus-4-8","input_tokens":900,"output_tokens":22,
                 "cache_creation_input_tokens":10,"cache_creation":{"ephemeral_1h_input_tokens":4}},
                {"type":"advisor_message","model":"claude-opus-4-8","input_tokens":100,"output_tokens":3},
                {"type":"advisor_message","model":"claude-other","input_tokens":1,"output_tokens":1},
                {"type":"message","model":null,"input_tokens":112,"output_tokens":41}]}"#,
        );
        let classes = counted.classes().unwrap();
        assert_eq!((classes.input, classes.output, classes.cache_write), (1413, 147, 10));
        let (own, model, helped) = classes.apart().unwrap();
        assert_eq!((own.input, own.output, own.cache_write, own.helper), (413, 122, 0, None));
        assert_eq!(model, "claude-opus-4-8");
        assert_eq!((helped.input, helped.output), (1000, 25));
        assert_eq!((helped.cache_write, helped.cache_write_long), (10, 4));
    }
}
