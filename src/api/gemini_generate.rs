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
mod logprobs;
mod path;
mod picture;
mod proof;
mod schema;
mod sight;
mod stream;

#[cfg(test)]
mod tests;

#[cfg(test)]
pub(in crate::api) use answer::{TONGUE, encode_answer};
pub use ask::{Ask, Form, MAX_CONTENTS};
#[cfg(test)]
pub(in crate::api) use decode::decode;
pub use door::GeminiDoor;
pub use embed::{EmbedForm, GeminiEmbed};
pub use picture::{GeminiPictures, is_imagen};
#[cfg(test)]
pub(in crate::api) use stream::GeminiEncoder;
