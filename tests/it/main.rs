//! Stories told through the real binary: clients in front, a scripted provider behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a story that cannot go on fails")]

mod across;
mod acts;
mod agents;
mod anthropic;
mod audio;
mod azure;
mod bedrock;
mod chat;
mod cli;
mod client;
mod codex;
mod cohere;
mod completions;
mod decisions;
mod errors;
mod every_door;
mod failover;
mod files;
mod first_plugin;
mod fixtures;
mod front;
mod gateway;
mod guide;
mod hooks;
mod images;
mod moderations;
mod ollama;
mod passthrough;
mod plugins;
mod policies;
mod prices;
mod realtime;
mod recording;
mod reload;
mod renewal;
mod rerank;
mod responses;
mod responses_both;
mod responses_native;
mod responses_recorded;
mod responses_wire;
mod rollout;
mod sdk;
mod secrets;
mod seeing;
mod sink;
mod strict;
mod testing_policies;
mod turns;
#[cfg(feature = "wasm")]
mod under_load;
mod upstream;
mod versions;
mod vertex;
