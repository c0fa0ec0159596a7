//! Plugins for Tollgate, short: a plugin is a plain Rust value that is made from its configuration, with a trait for
//! each thing that it can do. [`export!`] makes the component of it.
//!
//! ```
//! use tollgate_plugin::prelude::*;
//!
//! #[derive(serde::Deserialize)]
//! struct Config {
//!     word: String,
//! }
//!
//! /// Says whether a request is about one word.
//! struct About(Config);
//!
//! impl Plugin for About {
//!     type Config = Config;
//!     const NEEDS: Needs = Needs::SEGMENTS;
//!
//!     fn new(config: Config) -> Result<Self, String> {
//!         if config.word.is_empty() { Err("word: is empty".into()) } else { Ok(About(config)) }
//!     }
//! }
//!
//! impl Classify for About {
//!     fn classify(&self, _: &RequestContext, segments: &[Segment]) -> Result<Classification, Failure> {
//!         let found = segments.iter().any(|segment| segment.text.contains(&self.0.word));
//!         Ok(classification([(self.0.word.as_str(), if found { 1.0 } else { 0.0 })]))
//!     }
//! }
//!
//! tollgate_plugin::export!(About: classify);
//!
//! // Natively a plugin is only a value: unit tests need no WebAssembly.
//! use tollgate_plugin::testing::{context, user};
//! let about = tollgate_plugin::testing::plugin::<About>(r#"{ "word": "rust" }"#).unwrap();
//! let answer = about.classify(&context(), &[user("I like rust")]).unwrap();
//! assert_eq!(answer.labels[0].score, 1.0);
//! ```
//!
//! The value is made once, when the file is loaded or its configuration changes. What [`Plugin::new`] leaves in memory
//! is the state in which every later instance starts, so compile patterns and parse tables there, and run them once.
//! What a call changes is gone with the call: keep what must last in [`state`].

extern crate self as tollgate_plugin;

mod abilities;
#[doc(hidden)]
pub mod bindings;
mod export;
mod host;
mod panics;
mod slot;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use abilities::{
    Classify, Decoder, Dialect, Functions, Guard, Observe, Plugin, Route, SelfTest, classification,
};
pub use bindings::classify::exports::tollgate::plugin::classify::{Classification, Label};
pub use bindings::dialect::exports::tollgate::plugin::dialect::{FaultKind, Outgoing, ProviderFault};
pub use bindings::functions::exports::tollgate::plugin::functions::Signature;
pub use bindings::guard::exports::tollgate::plugin::guard::{
    Finding, Phase, Rejection, Verdict, Window, WindowVerdict,
};
pub use bindings::imports::tollgate::plugin::types::{
    Endpoint, Failure, Features, Origin, Principal, RequestContext, Segment,
};
pub use bindings::lifecycle::exports::tollgate::plugin::lifecycle::{Manifest, Needs};
pub use bindings::observe::exports::tollgate::plugin::observe::{Attempt, Outcome, Usage};
pub use bindings::route::exports::tollgate::plugin::route::{
    Candidate, Decision, Plan, Rejection as RouteRejection, Step,
};
pub use host::{ai, clock, http, log, metrics, random, state};

#[doc(hidden)]
pub use {export::__call, panics::report_panics, slot::Slot, wit_bindgen};

/// What most plugins want in scope.
pub mod prelude {
    pub use crate::{
        Candidate, Classification, Classify, Decision, Decoder, Dialect, Failure, FaultKind, Finding,
        Functions, Guard, Label, Needs, Observe, Outcome, Outgoing, Phase, Plan, Plugin, ProviderFault,
        Rejection, RequestContext, Route, RouteRejection, Segment, SelfTest, Signature, Step, Verdict,
        Window, WindowVerdict, classification, log,
    };
}
