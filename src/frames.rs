//! Framing of streamed answers: server-sent events, whatever the chunk boundaries.
