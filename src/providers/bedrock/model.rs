//! What a model's name tells of its abilities: one API in front of many models that take different things.
//!
//! Names come as ids (`anthropic.claude-…`), with the region of an inference profile before them (`eu.anthropic.…`), or
//! as ARNs. An ARN of an application's own profile tells nothing: then everything is sent, and AWS has the say.

/// A model as its name describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Model<'a> {
    name: &'a str,
    family: Family,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// With its version.
    Claude(u32, u32),
    /// With its generation.
    Nova(u32),
    Titan,
    Llama,
    Mistral,
    Cohere,
    Ai21,
    DeepSeek,
    GptOss,
    /// A vendor that we know nothing of.
    Other,
    /// An ARN that names no model.
    Hidden,
}

/// How a model is told to think.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking {
    /// Claude: a budget of tokens.
    Budget,
    /// Claude since 4.6: as much as it likes, within an effort; since 4.7 a budget is refused.
    Adaptive { takes_budget: bool },
    /// Nova 2: `reasoningConfig`.
    Nova,
    /// gpt-oss: `reasoning_effort`.
    Effort,
    /// Not at all, or not to be told.
    None,
}

impl<'a> Model<'a> {
    /// Reads the name.
    pub(super) fn of(name: &'a str) -> Self {
        let own = name.rsplit('/').next().unwrap_or(name);
        let after = |vendor: &str| own.split_once(vendor).map(|(_, rest)| rest);
        let family = if let Some(rest) = after("anthropic.claude") {
            let (major, minor) = version(rest);
            Family::Claude(major, minor)
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
    pub(super) fn is_claude(self) -> bool {
        matches!(self.family, Family::Claude(..))
    }

    /// One of Amazon's Nova models.
    pub(super) fn is_nova(self) -> bool {
        matches!(self.family, Family::Nova(_))
    }

    /// How it is told to think.
    pub(super) fn thinking(self) -> Thinking {
        match self.family {
            Family::Claude(major, minor) if (major, minor) >= (4, 6) => {
                Thinking::Adaptive { takes_budget: (major, minor) == (4, 6) }
            }
            Family::Claude(major, minor) if (major, minor) >= (3, 7) => Thinking::Budget,
            // It is most probably one of Anthropic's, and others refuse what they do not know.
            Family::Hidden => Thinking::Budget,
            Family::Nova(2) => Thinking::Nova,
            Family::GptOss => Thinking::Effort,
            _ => Thinking::None,
        }
    }

    /// Whether thinking may be sent back: only Claude's is signed; others refuse any.
    pub(super) fn takes_thoughts(self) -> bool {
        matches!(self.family, Family::Claude(..) | Family::Hidden)
    }

    /// <https://docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html>
    pub(super) fn knows_schemas(self) -> bool {
        match self.family {
            Family::Claude(major, minor) => (major, minor) >= (4, 5),
            Family::Nova(_) | Family::Titan | Family::Llama | Family::Cohere | Family::Ai21 => false,
            Family::DeepSeek => !self.name.contains(".r1"),
            Family::Mistral => !OLD_MISTRALS.iter().any(|old| self.name.contains(old)),
            Family::GptOss | Family::Other | Family::Hidden => true,
        }
    }

    /// <https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html#prompt-caching-models>
    pub(super) fn caches(self) -> bool {
        match self.family {
            Family::Claude(major, minor) => (major, minor) >= (3, 5),
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
            Family::Claude(major, minor) => (major, minor) >= (4, 5),
            Family::Hidden => true,
            _ => false,
        }
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
];

/// Those from before structured output.
const OLD_MISTRALS: &[&str] = &["mistral-7b", "mixtral", "mistral-large-24", "mistral-small-24", "pixtral"];

/// The version in what follows `claude`: `-3-5-sonnet-20241022-v2:0`, `-opus-4-1-20250805-v1:0`, `-sonnet-5`, `-v2:1`.
fn version(rest: &str) -> (u32, u32) {
    let mut numbers = rest.split('-').filter(|word| word.len() <= 2).filter_map(|word| word.parse().ok());
    match numbers.next() {
        Some(major) => (major, numbers.next().unwrap_or(0)),
        None => (2, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_family_and_its_version() {
        for (name, family) in [
            ("anthropic.claude-v2:1", Family::Claude(2, 0)),
            ("anthropic.claude-3-haiku-20240307-v1:0", Family::Claude(3, 0)),
            ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", Family::Claude(3, 7)),
            ("eu.anthropic.claude-sonnet-4-20250514-v1:0", Family::Claude(4, 0)),
            ("global.anthropic.claude-opus-4-6-v1", Family::Claude(4, 6)),
            ("anthropic.claude-sonnet-5", Family::Claude(5, 0)),
            (
                "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-5-20250929-v1:0",
                Family::Claude(4, 5),
            ),
            ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc123", Family::Hidden),
            ("amazon.nova-pro-v1:0", Family::Nova(1)),
            ("us.amazon.nova-2-lite-v1:0", Family::Nova(2)),
            ("amazon.titan-text-express-v1", Family::Titan),
            ("us.meta.llama3-3-70b-instruct-v1:0", Family::Llama),
            ("openai.gpt-oss-120b-1:0", Family::GptOss),
            ("qwen.qwen3-32b-v1:0", Family::Other),
        ] {
            assert_eq!(Model::of(name).family, family, "{name}");
        }
    }

    #[test]
    fn abilities_follow_from_the_family() {
        for (name, thinking, schemas, caches, long) in [
            ("anthropic.claude-3-haiku-20240307-v1:0", Thinking::None, false, false, false),
            ("anthropic.claude-3-7-sonnet-20250219-v1:0", Thinking::Budget, false, true, false),
            ("anthropic.claude-sonnet-4-5-20250929-v1:0", Thinking::Budget, true, true, true),
            ("anthropic.claude-opus-4-6-v1", Thinking::Adaptive { takes_budget: true }, true, true, true),
            ("anthropic.claude-opus-4-7", Thinking::Adaptive { takes_budget: false }, true, true, true),
            ("amazon.nova-lite-v1:0", Thinking::None, false, true, false),
            ("amazon.nova-2-lite-v1:0", Thinking::Nova, false, true, false),
            ("deepseek.r1-v1:0", Thinking::None, false, false, false),
            ("deepseek.v3-v1:0", Thinking::None, true, false, false),
            ("mistral.mistral-large-2402-v1:0", Thinking::None, false, false, false),
            ("mistral.ministral-3-8b-instruct", Thinking::None, true, false, false),
            ("openai.gpt-oss-20b-1:0", Thinking::Effort, true, false, false),
        ] {
            let model = Model::of(name);
            let seen = (model.thinking(), model.knows_schemas(), model.caches(), model.caches_long());
            assert_eq!(seen, (thinking, schemas, caches, long), "{name}");
        }
    }
}
