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
mod errors;
mod every_door;
mod failover;
mod files;
mod fixtures;
mod front;
mod gateway;
mod images;
mod moderations;
mod ollama;
mod passthrough;
mod policies;
mod recording;
mod reload;
mod renewal;
mod rerank;
mod responses;
mod responses_both;
mod responses_native;
mod responses_recorded;
mod responses_wire;
mod sdk;
mod secrets;
mod seeing;
mod sink;
mod strict;
mod turns;
mod upstream;
mod versions;
mod vertex;
