//! What a model's name tells of its abilities.

/// Models from before thinking. What is not named here thinks, as all newer ones do.
/// <https://docs.cohere.com/docs/models#command>
const OLDER: &[&str] = &[
    "command-r",
    "command-a-03-2025",
    "command-a-vision",
    "command-a-translate",
    "command-light",
    "command-nightly",
    "c4ai-aya",
    "aya-",
];

/// Whether a model thinks, so that it takes `thinking` and its own thoughts back.
pub(super) fn thinks(model: &str) -> bool {
    !OLDER.iter().any(|older| model.starts_with(older)) && model != "command"
}
