//! A response that another target goes on with: told from the events that the client has seen.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::{Given, Keeper, Open, Piece, ResponseEncoder};
use crate::api::sequel::documents;

impl ResponseEncoder {
    /// The encoder of a response whose beginning the client has seen; `None` where no text is under way, so that
    /// nothing can go on.
    pub(in crate::api::openai_responses) fn going_on(
        given: Arc<Given>,
        keeper: Option<Keeper>,
        seen: &[Bytes],
    ) -> Option<Self> {
        let mut encoder = Self::new(given, keeper);
        encoder.begun = true;
        for event in documents(seen) {
            encoder.recall(&event)?;
        }
        matches!(encoder.open, Open::Message { piece: Some(_), .. }).then_some(encoder)
    }

    /// Takes over what an event said.
    fn recall(&mut self, event: &Value) -> Option<()> {
        if let Some(number) = event.get("sequence_number").and_then(Value::as_u64) {
            self.voice.go_on_after(number);
        }
        match event.get("type")?.as_str()? {
            "response.created" | "response.in_progress" | "response.queued" => {
                let response = event.get("response")?;
                response.get("id")?.as_str()?.clone_into(&mut self.id);
                self.created = response.get("created_at").and_then(Value::as_u64).unwrap_or(self.created);
                if let Some(model) = response.get("model").and_then(Value::as_str) {
                    model.clone_into(&mut self.model);
                }
            }
            "response.output_item.added" => {
                let (at, item) = (place(event, "output_index")?, event.get("item")?);
                while self.output.len() <= at {
                    self.output.push(Vec::new());
                }
                if item.get("type")?.as_str()? == "message" {
                    let id = item.get("id")?.as_str()?.to_owned();
                    self.open = Open::Message { at, id, done: Vec::new(), piece: None, held: None };
                }
            }
            "response.output_item.done" => {
                let place = self.output.get_mut(place(event, "output_index")?)?;
                *place = event.get("item")?.to_string().into_bytes();
                self.open = Open::None;
            }
            "response.content_part.added" => {
                let Open::Message { piece, .. } = &mut self.open else { return None };
                *piece = (event.get("part")?.get("type")? == "output_text").then(Piece::default);
            }
            "response.content_part.done" => {
                let Open::Message { piece, done, .. } = &mut self.open else { return None };
                done.push(event.get("part")?.to_string().into_bytes());
                *piece = None;
            }
            "response.output_text.delta" => {
                let Open::Message { piece: Some(piece), .. } = &mut self.open else { return None };
                piece.text.push_str(event.get("delta")?.as_str()?);
                let logprobs = event.get("logprobs").and_then(Value::as_array);
                piece.logprobs.extend(logprobs.into_iter().flatten().cloned());
            }
            "response.output_text.annotation.added" => {
                let Open::Message { piece: Some(piece), .. } = &mut self.open else { return None };
                piece.annotations.push(event.get("annotation")?.clone());
            }
            _ => {}
        }
        Some(())
    }
}

fn place(event: &Value, name: &str) -> Option<usize> {
    // No response has so many items.
    const MOST: usize = 4_096;
    usize::try_from(event.get(name)?.as_u64()?).ok().filter(|at| *at < MOST)
}
