//! The doors for clients: one file per dialect; only `reply.rs` turns a fault into a response.
