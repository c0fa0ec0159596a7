//! Stories told through the real binary: clients in front, a scripted provider behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a story that cannot go on fails")]

mod across;
mod acts;
mod anthropic;
mod bedrock;
mod chat;
mod cli;
mod client;
mod completions;
mod errors;
mod every_door;
mod failover;
mod fixtures;
mod front;
mod gateway;
mod policies;
mod recording;
mod reload;
mod renewal;
mod responses_wire;
mod sdk;
mod secrets;
mod seeing;
mod strict;
mod upstream;
mod versions;
