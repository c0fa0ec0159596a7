//! Under which names a model may stand in a price list: its own first, then without what only says which build of it
//! is meant.

/// Regions of Bedrock's inference profiles. Where a list has no price for the region, that of the model counts.
/// <https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html>
const REGIONS: &[&str] = &["us.", "eu.", "apac.", "global.", "jp.", "au.", "ca.", "us-gov."];

/// What stands before names in the paths of Vertex AI and Fireworks.
const PATHS: &[&str] = &["models/", "publishers/google/models/", "publishers/anthropic/models/", "google/"];

/// The names to look for, the best first. `provider` is a preset's name.
pub fn candidates(provider: &str, model: &str) -> Vec<String> {
    let mut names = vec![model.to_owned()];
    let mut add = |name: String| {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    };
    let mut bare = model;
    match provider {
        "bedrock" => {
            // An ARN ends with the profile's or the model's id.
            if bare.starts_with("arn:") {
                bare = bare.rsplit('/').next().unwrap_or(bare);
                add(bare.to_owned());
            }
            if let Some(rest) = REGIONS.iter().find_map(|region| bare.strip_prefix(region)) {
                bare = rest;
                add(bare.to_owned());
            }
        }
        "vertex" | "gemini" => {
            if let Some(rest) = PATHS.iter().find_map(|path| bare.strip_prefix(path)) {
                bare = rest;
                add(bare.to_owned());
            }
        }
        "fireworks" if !bare.contains('/') => add(format!("accounts/fireworks/models/{bare}")),
        "openai" | "azure" => {
            // `ft:gpt-4o-2024-08-06:organisation::id`; fine-tuned models have prices of their own.
            if let Some(base) = bare.strip_prefix("ft:").and_then(|rest| rest.split(':').next()) {
                add(format!("ft:{base}"));
                if let Some(base) = undated(base) {
                    add(format!("ft:{base}"));
                }
                return names;
            }
            if provider == "azure" && bare.starts_with("gpt-35") {
                add(bare.replacen("gpt-35", "gpt-3.5", 1));
            }
        }
        _ => {}
    }
    if let Some((name, _)) = bare.rsplit_once('@') {
        bare = name;
        add(bare.to_owned());
    }
    if provider == "bedrock" {
        // `anthropic.claude-3-haiku-20240307-v1:0:48k`
        let parts: Vec<&str> = bare.splitn(3, ':').collect();
        if let [name, version, _] = parts[..] {
            add(format!("{name}:{version}"));
        }
    }
    let undated = undated(bare);
    if let Some(name) = undated {
        add(name.to_owned());
    }
    let plain = undated.unwrap_or(bare);
    match plain.strip_suffix("-latest") {
        Some(name) => add(name.to_owned()),
        None => add(format!("{plain}-latest")),
    }
    names
}

/// The name without the date or number of its build: `-2024-08-06`, `-20250929`, `-001`.
fn undated(name: &str) -> Option<&str> {
    let bytes = name.as_bytes();
    let digits = |from: usize, count: usize| {
        bytes.get(from..from + count).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let from = |count: usize| bytes.len().checked_sub(count).filter(|at| bytes[*at] == b'-');
    if let Some(at) = from(11)
        && digits(at + 1, 4)
        && bytes[at + 5] == b'-'
        && digits(at + 6, 2)
        && bytes[at + 8] == b'-'
        && digits(at + 9, 2)
    {
        return name.get(..at);
    }
    for count in [9, 4] {
        if let Some(at) = from(count)
            && digits(at + 1, count - 1)
            && (count == 9 || bytes[at + 1] == b'0')
        {
            return name.get(..at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_from_the_most_exact_to_the_plainest() {
        for (provider, model, expected) in [
            ("openai", "gpt-4o", vec!["gpt-4o", "gpt-4o-latest"]),
            ("openai", "gpt-4o-2024-08-06", vec!["gpt-4o-2024-08-06", "gpt-4o", "gpt-4o-latest"]),
            ("openai", "gpt-4-0613", vec!["gpt-4-0613", "gpt-4-0613-latest"]),
            (
                "openai",
                "ft:gpt-4o-2024-08-06:acme::x1",
                vec!["ft:gpt-4o-2024-08-06:acme::x1", "ft:gpt-4o-2024-08-06", "ft:gpt-4o"],
            ),
            (
                "anthropic",
                "claude-sonnet-4-5-20250929",
                vec!["claude-sonnet-4-5-20250929", "claude-sonnet-4-5", "claude-sonnet-4-5-latest"],
            ),
            ("mistral", "mistral-small-latest", vec!["mistral-small-latest", "mistral-small"]),
            ("mistral", "mistral-small-2503", vec!["mistral-small-2503", "mistral-small-2503-latest"]),
            (
                "gemini",
                "models/gemini-2.0-flash-001",
                vec![
                    "models/gemini-2.0-flash-001",
                    "gemini-2.0-flash-001",
                    "gemini-2.0-flash",
                    "gemini-2.0-flash-latest",
                ],
            ),
            (
                "vertex",
                "claude-sonnet-4-5@20250929",
                vec!["claude-sonnet-4-5@20250929", "claude-sonnet-4-5", "claude-sonnet-4-5-latest"],
            ),
            ("azure", "gpt-35-turbo", vec!["gpt-35-turbo", "gpt-3.5-turbo", "gpt-35-turbo-latest"]),
            (
                "fireworks",
                "llama-v3",
                vec!["llama-v3", "accounts/fireworks/models/llama-v3", "llama-v3-latest"],
            ),
            (
                "bedrock",
                "eu.anthropic.claude-3-haiku-20240307-v1:0",
                vec![
                    "eu.anthropic.claude-3-haiku-20240307-v1:0",
                    "anthropic.claude-3-haiku-20240307-v1:0",
                    "anthropic.claude-3-haiku-20240307-v1:0-latest",
                ],
            ),
            ("x", "", vec!["", "-latest"]),
            ("x", "-", vec!["-", "--latest"]),
        ] {
            assert_eq!(candidates(provider, model), expected, "{provider}/{model}");
        }
        let arn = "arn:aws:bedrock:us-east-1:1:inference-profile/us.amazon.nova-lite-v1:0";
        assert_eq!(candidates("bedrock", arn)[1..3], ["us.amazon.nova-lite-v1:0", "amazon.nova-lite-v1:0"]);
    }
}
