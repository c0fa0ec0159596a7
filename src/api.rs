//! The doors for clients: one file per dialect; only `reply.rs` turns a fault into a response.

pub mod openai_chat;
pub mod openai_embeddings;
