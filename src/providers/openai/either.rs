//! A stream of a vendor that speaks chat completions and Responses: its first event says which of them it is.

use crate::chat::{Event, StreamDecoder};
use crate::fault::Fault;

/// Longest beginning without an event that is waited for.
const LONGEST: usize = 64 << 10;

/// The decoder for one of two dialects.
pub(super) enum Either {
    /// What has come so far, and who may be right.
    Unknown { begun: Vec<u8>, chat: Box<dyn StreamDecoder>, responses: Box<dyn StreamDecoder> },
    /// Who is.
    Known(Box<dyn StreamDecoder>),
}

impl Either {
    pub(super) fn new(chat: Box<dyn StreamDecoder>, responses: Box<dyn StreamDecoder>) -> Self {
        Self::Unknown { begun: Vec::new(), chat, responses }
    }

    /// Decides, and hands over what has come.
    fn decide(&mut self, responds: bool, events: &mut Vec<Event>) -> Result<(), Fault> {
        let nobody = Self::Known(Box::new(Nobody));
        match std::mem::replace(self, nobody) {
            Self::Unknown { begun, chat, responses } => {
                let mut right = if responds { responses } else { chat };
                let fed = right.feed(&begun, events);
                *self = Self::Known(right);
                fed
            }
            known @ Self::Known(_) => {
                *self = known;
                Ok(())
            }
        }
    }
}

/// Whether the first event is one of Responses; `None` while it has not come.
fn is_of_responses(begun: &[u8]) -> Option<bool> {
    let lines = begun.split_inclusive(|byte| matches!(byte, b'\n' | b'\r'));
    for line in lines.filter(|line| line.ends_with(b"\n") || line.ends_with(b"\r")) {
        if let Some(name) = line.strip_prefix(b"event:") {
            return Some(name.trim_ascii().starts_with(b"response."));
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            return Some(memchr::memmem::find(data, b"\"response.").is_some());
        }
    }
    None
}

impl StreamDecoder for Either {
    fn feed(&mut self, chunk: &[u8], events: &mut Vec<Event>) -> Result<(), Fault> {
        let begun = match self {
            Self::Known(decoder) => return decoder.feed(chunk, events),
            Self::Unknown { begun, .. } => begun,
        };
        begun.extend_from_slice(chunk);
        match is_of_responses(begun) {
            Some(responds) => self.decide(responds, events),
            None if begun.len() > LONGEST => self.decide(false, events),
            None => Ok(()),
        }
    }

    fn finish(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.decide(false, events)?;
        if let Self::Known(decoder) = self { decoder.finish(events) } else { Ok(()) }
    }

    fn settle(&mut self, events: &mut Vec<Event>) -> Result<(), Fault> {
        self.decide(false, events)?;
        if let Self::Known(decoder) = self { decoder.settle(events) } else { Ok(()) }
    }
}

/// Stands in for a moment.
struct Nobody;

impl StreamDecoder for Nobody {
    fn feed(&mut self, _: &[u8], _: &mut Vec<Event>) -> Result<(), Fault> {
        Ok(())
    }

    fn finish(&mut self, _: &mut Vec<Event>) -> Result<(), Fault> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::providers::{Provider, QuirkSettings, openai::OpenAi};

    #[test]
    fn the_first_event_tells_the_dialect_wherever_the_stream_is_cut() {
        let chat = "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
        let responses = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":0,\"content_index\":0,\"delta\":\"hi\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"object\":\"response\",\"status\":\"completed\",\"output\":[]}}\n\n";
        let bare = responses.replace("event: response.output_text.delta\n", ": hold on\n\n");
        let vendor = OpenAi::new(QuirkSettings { responses: true, ..QuirkSettings::default() });
        for stream in [chat, responses, &bare] {
            for size in 1..stream.len() + 1 {
                let (mut decoder, mut events) = (vendor.stream_decoder(), Vec::new());
                stream.as_bytes().chunks(size).for_each(|chunk| decoder.feed(chunk, &mut events).unwrap());
                decoder.finish(&mut events).unwrap();
                let said: String = events
                    .iter()
                    .filter_map(|event| match event {
                        Event::Text { text, .. } => Some(&**text),
                        _ => None,
                    })
                    .collect();
                assert_eq!((&*said, events.last()), ("hi", Some(&Event::End)), "{stream}");
            }
        }
        let (mut decoder, mut events) = (vendor.stream_decoder(), Vec::new());
        assert!(decoder.finish(&mut events).is_err(), "nothing is no answer");
    }
}
