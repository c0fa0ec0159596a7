//! Tollgate: a self-hosted gateway for LLM traffic.

pub mod admin;
pub mod api;
pub mod caller;
pub mod chat;
pub mod cli;
pub mod clock;
pub mod executor;
pub mod facts;
pub mod fault;
pub mod frames;
pub mod gateway;
pub mod house;
pub mod json;
pub mod listener;
pub mod plan;
pub mod planner;
pub mod plugin;
pub mod policy;
pub mod providers;
pub mod settings;
pub mod store;
pub mod target;
pub mod telemetry;
pub mod upstream;
