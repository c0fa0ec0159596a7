//! Google's generateContent as a client speaks it: request in, answer, stream and errors out.
//!
//! <https://ai.google.dev/api/generate-content>

mod answer;
mod ask;
mod content;
mod decode;
mod door;
mod embed;
mod error;
mod path;
mod proof;
mod schema;
mod sight;
mod stream;

#[cfg(test)]
mod tests;

pub use ask::{Ask, Form, MAX_CONTENTS};
pub use door::GeminiDoor;
pub use embed::GeminiEmbed;
