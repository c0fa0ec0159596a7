//! What a model's name tells of its abilities: one API in front of many models that take different things.
//!
//! Names come as ids (`anthropic.claude-…`), with the region of an inference profile before them (`eu.anthropic.…`), or
//! as ARNs. An ARN of an application's own profile tells nothing: then everything is sent, and AWS has the say.

use serde_json::Value;

use crate::providers::anthropic::model::{Claude, Freedom, freedom};

/// A model as its name describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model<'a> {
    name: &'a str,
    family: Family,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Claude(Claude),
    /// With its generation.
    Nova(u32),
    Titan,
    Llama,
    Mistral,
    Cohere,
    Ai21,
    DeepSeek,
    GptOss,
    /// OpenAI's own models since GPT-5.
    Gpt,
    Qwen,
    /// A vendor that we know nothing of.
    Other,
    /// An ARN that names no model.
    Hidden,
}

/// How a model is told to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    /// Claude: in the words of its version.
    Claude,
    /// Nova 2: `reasoningConfig`.
    Nova,
    /// gpt-oss: `reasoning_effort`.
    Effort,
    /// OpenAI's own: `reasoning`, as in its Responses.
    Reasoning,
    /// Qwen: `reasoning_config`.
    Config,
    /// Not at all, or not to be told.
    None,
}

impl<'a> Model<'a> {
    /// Reads the name.
    pub(super) fn of(name: &'a str) -> Self {
        let own = name.rsplit('/').next().unwrap_or(name);
        let after = |vendor: &str| own.split_once(vendor).map(|(_, rest)| rest);
        let claude = own.contains("anthropic.claude").then(|| Claude::of(own)).flatten();
        let family = if let Some(claude) = claude {
            Family::Claude(claude)
        } else if let Some(rest) = after("amazon.nova") {
            Family::Nova(if rest.starts_with("-2") { 2 } else { 1 })
        } else if let Some((_, family)) = FAMILIES.iter().find(|(vendor, _)| after(vendor).is_some()) {
            *family
        } else if own.contains('.') || !name.starts_with("arn:") {
            Family::Other
        } else {
            Family::Hidden
        };
        Self { name: own, family }
    }

    /// One of Anthropic's models.
    pub(super) fn claude(self) -> Option<Claude> {
        match self.family {
            Family::Claude(claude) => Some(claude),
            _ => None,
        }
    }

    /// Whether it is one of Anthropic's models.
    pub(super) fn is_claude(self) -> bool {
        self.claude().is_some()
    }

    /// One of Amazon's Nova models.
    pub(super) fn is_nova(self) -> bool {
        matches!(self.family, Family::Nova(_))
    }

    /// How it is told to think.
    pub(super) fn thinking(self) -> Thinking {
        match self.family {
            // An ARN is most probably of one of Anthropic's, and others refuse what they do not know.
            Family::Claude(_) | Family::Hidden => Thinking::Claude,
            Family::Nova(2) => Thinking::Nova,
            Family::GptOss => Thinking::Effort,
            Family::Gpt => Thinking::Reasoning,
            Family::Qwen => Thinking::Config,
            _ => Thinking::None,
        }
    }

    /// Whether thinking may be sent back: only Claude's is signed; others refuse any.
    pub(super) fn takes_thoughts(self) -> bool {
        matches!(self.family, Family::Claude(..) | Family::Hidden)
    }

    /// <https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html>
    ///
    /// Of Claude since 4.7, AWS refuses schemas and strict tools ("output_config.format: Extra inputs are not permitted"),
    /// seen until September 2026.
    pub(super) fn knows_schemas(self) -> bool {
        match self.family {
            Family::Claude(claude) => claude.is_since(4, 5) && !claude.is_since(4, 7),
            Family::Nova(_) | Family::Titan | Family::Llama | Family::Cohere | Family::Ai21 => false,
            Family::DeepSeek => !self.name.contains(".r1"),
            Family::Mistral => !OLD_MISTRALS.iter().any(|old| self.name.contains(old)),
            Family::GptOss | Family::Gpt | Family::Qwen | Family::Other | Family::Hidden => true,
        }
    }

    /// <https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html#prompt-caching-models>
    pub(super) fn caches(self) -> bool {
        match self.family {
            Family::Claude(claude) => claude.is_since(3, 5),
            Family::Nova(_) | Family::Hidden => true,
            _ => false,
        }
    }

    /// Nova caches instructions and messages, but no tools.
    pub(super) fn caches_tools(self) -> bool {
        self.caches() && !self.is_nova()
    }

    /// Whether a cache may be kept for an hour.
    pub(super) fn caches_long(self) -> bool {
        match self.family {
            Family::Claude(claude) => claude.is_since(4, 5),
            Family::Hidden => true,
            _ => false,
        }
    }

    /// Whether a block may stand beside a tool's result. Claude takes neither documents nor films there, others nothing.
    pub(super) fn shares(self, block: &Value) -> bool {
        match self.family {
            Family::Claude(..) => block.get("document").is_none() && block.get("video").is_none(),
            Family::Llama | Family::Mistral => false,
            _ => !self.name.contains("writer."),
        }
    }

    /// Whether a tool may be forced upon it. Llama takes the default alone.
    pub(super) fn can_be_forced(self) -> bool {
        self.family != Family::Llama && self.claude().is_none_or(Claude::can_be_forced)
    }

    /// Whether a tool's result may say that the tool failed.
    pub(super) fn takes_status(self) -> bool {
        matches!(self.family, Family::Claude(..) | Family::Nova(_) | Family::Hidden)
    }

    /// The name of `top_k` among the model's own fields, if it has one.
    pub(super) fn top_k(self) -> Option<&'static str> {
        match self.family {
            Family::Claude(..) | Family::Mistral | Family::Hidden => Some("top_k"),
            Family::Cohere => Some("k"),
            _ => None,
        }
    }

    /// Which sampling it takes while it does not think. OpenAI's models refuse any: "This model doesn't support the
    /// temperature field", seen in October 2026.
    pub(super) fn freedom(self) -> Freedom {
        match self.family {
            Family::Gpt => Freedom::Fixed("dropped: this model takes no sampling"),
            _ => freedom(self.claude(), false),
        }
    }

    /// Whether it stops where it is told to: "This model doesn't support the stopSequences field".
    pub(super) fn takes_stops(self) -> bool {
        self.family != Family::Gpt
    }

    /// The name that OpenAI has for it, where it is one of OpenAI's.
    pub(super) fn openais_name(self) -> &'a str {
        self.name.split_once("openai.").map_or(self.name, |(_, rest)| rest)
    }

    /// Cohere's models take penalties and a seed under OpenAI's names.
    pub(super) fn takes_penalties(self) -> bool {
        self.family == Family::Cohere
    }
}

const FAMILIES: &[(&str, Family)] = &[
    ("amazon.titan", Family::Titan),
    ("meta.llama", Family::Llama),
    ("mistral.", Family::Mistral),
    ("cohere.", Family::Cohere),
    ("ai21.", Family::Ai21),
    ("deepseek.", Family::DeepSeek),
    ("openai.gpt-oss", Family::GptOss),
    ("openai.gpt-", Family::Gpt),
    ("qwen.", Family::Qwen),
];

/// Those from before structured output.
const OLD_MISTRALS: &[&str] = &["mistral-7b", "mixtral", "mistral-large-24", "mistral-small-24", "pixtral"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_family_and_its_version() {
        let claude = |name: &str| Family::Claude(Claude::of(name).unwrap());
        for (name, family) in [
            ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", claude("claude-3-7-sonnet")),
            ("anthropic.claude-sonnet-5", claude("claude-sonnet-5")),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                claude("claude-sonnet-4-5"),
            ),
            ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123", Family::Hidden),
            ("amazon.nova-pro-v1:0", Family::Nova(1)),
            ("us.amazon.nova-2-lite-v1:0", Family::Nova(2)),
            ("amazon.titan-text-express-v1", Family::Titan),
            ("us.meta.llama3-3-70b-instruct-v1:0", Family::Llama),
            ("openai.gpt-oss-120b-1:0", Family::GptOss),
            ("us.openai.gpt-5.4", Family::Gpt),
            ("qwen.qwen3-32b-v1:0", Family::Qwen),
            ("zai.glm-4.7", Family::Other),
        ] {
            assert_eq!(Model::of(name).family, family, "{name}");
        }
    }

    #[test]
    fn abilities_follow_from_the_family() {
        for (name, thinking, schemas, caches, long) in [
            ("anthropic.claude-3-haiku-20240307-v1:0", Thinking::Claude, false, false, false),
            ("anthropic.claude-3-7-sonnet-20250219-v1:0", Thinking::Claude, false, true, false),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", Thinking::Claude, true, true, true),
            ("anthropic.claude-opus-4-6-v1", Thinking::Claude, true, true, true),
            ("anthropic.claude-opus-4-7", Thinking::Claude, false, true, true),
            ("us.anthropic.claude-sonnet-5", Thinking::Claude, false, true, true),
            ("amazon.nova-lite-v1:0", Thinking::None, false, true, false),
            ("amazon.nova-2-lite-v1:0", Thinking::Nova, false, true, false),
            ("deepseek.r1-v1:0", Thinking::None, false, false, false),
            ("deepseek.v3-v1:0", Thinking::None, true, false, false),
            ("mistral.mistral-large-2402-v1:0", Thinking::None, false, false, false),
            ("mistral.ministral-3-8b-instruct", Thinking::None, true, false, false),
            ("openai.gpt-oss-20b-1:0", Thinking::Effort, true, false, false),
            ("us.openai.gpt-5.6-luna", Thinking::Reasoning, true, false, false),
        ] {
            let model = Model::of(name);
            let seen = (model.thinking(), model.knows_schemas(), model.caches(), model.caches_long());
            assert_eq!(seen, (thinking, schemas, caches, long), "{name}");
        }
    }
}
