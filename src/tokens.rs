//! How many tokens texts have: exactly, where a vendor's tokenizer is public; else by OpenAI's, and what the vendor was
//! found to count beside it.
//!
//! Nothing of this is done on the way of a usual request: to count takes milliseconds, and goes on beside the workers. There,
//! four bytes are a token, times what the target's own reports of late say of that.

mod calibration;
mod counter;
mod encoding;
mod family;
mod prompt;
mod tools;

pub use calibration::{Learned, Report};
pub use counter::{Count, Counter, Method};
pub use encoding::Encoding;
pub use family::Family;
