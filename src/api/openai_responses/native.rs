//! The client's own bytes for a provider that speaks this dialect, and what has to be made of them where the
//! conversation began elsewhere.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::before::Before;
use super::item::shown;
use super::{ids, proof};
use crate::chat::Loss;
use crate::fault::{Fault, FaultKind};
use crate::json::{self, Body, Splice};
use crate::providers::{ClientBody, CountTokens, Outgoing, Relay, Target};
use crate::store::{Kept, Shelf};

/// Who puts into the client's bytes what a target needs.
pub(super) trait Splicer {
    fn splice(&self, body: &ClientBody, target: &Target) -> Result<Outgoing, Fault>;
}

impl Splicer for dyn Relay + '_ {
    fn splice(&self, body: &ClientBody, target: &Target) -> Result<Outgoing, Fault> {
        Relay::splice(self, body, &target.name)
    }
}

/// The same for a request whose tokens are to be counted.
pub(super) struct Counting<'a>(pub(super) &'a dyn CountTokens);

impl Splicer for Counting<'_> {
    fn splice(&self, body: &ClientBody, target: &Target) -> Result<Outgoing, Fault> {
        self.0.splice(body, &target.name)
    }
}

/// The request for `target`.
///
/// Normally the client's bytes. Rewritten is only an `input` that names or holds what this gateway has made: kept
/// conversations and items are written out, ids and proofs of ours taken away.
pub(super) fn outgoing(
    relay: &(impl Splicer + ?Sized),
    body: &ClientBody,
    before: &Before,
    shelf: &Shelf,
    target: &Target,
) -> Result<Outgoing, Fault> {
    let input = body.raw("input").unwrap_or_default();
    let known = before.is_known_to(target);
    if known && !ids::may_hold_ours(input) && !refers_elsewhere(input, shelf, target) {
        return relay.splice(body, target);
    }
    let mut writer = Writer { shelf, target, items: Vec::new(), lost: Vec::new() };
    if !known {
        for kept in before.conversation()? {
            writer.kept(kept);
        }
    }
    writer.input(input, None);
    let mut splice = Splice::new(body);
    splice.set("input", format!("[{}]", writer.items.join(",")));
    if !known {
        splice.remove("previous_response_id");
    }
    let written = Body::read(splice.finish().concat().into())
        .map_err(|_| Fault::new(FaultKind::Internal, "the kept conversation could not be written out"))?;
    let mut outgoing = relay.splice(&written, target)?;
    outgoing.lost.extend(writer.lost);
    Ok(outgoing)
}

/// Whether an item is referred to that this target has not made.
fn refers_elsewhere(input: &str, shelf: &Shelf, target: &Target) -> bool {
    if memchr::memmem::find(input.as_bytes(), b"item_reference").is_none() {
        return false;
    }
    json::elements(input).any(|item| {
        reference(item).and_then(|id| shelf.holder(&id)).is_some_and(|holder| !is_at(&holder, target))
    })
}

/// The id in an `item_reference`.
fn reference(item: &str) -> Option<Cow<'_, str>> {
    let (mut id, mut refers) = (None, false);
    for (key, value) in json::entries(item) {
        match &*key {
            "type" => refers = value == "\"item_reference\"",
            "id" => id = json::text(value),
            _ => {}
        }
    }
    id.filter(|_| refers)
}

/// Whether this target's provider keeps the answer itself.
fn is_at(kept: &Kept, target: &Target) -> bool {
    kept.native && kept.target.provider == target.name.provider
}

struct Writer<'a> {
    shelf: &'a Shelf,
    target: &'a Target,
    items: Vec<String>,
    lost: Vec<Loss>,
}

impl Writer<'_> {
    /// An earlier turn.
    fn kept(&mut self, kept: &Kept) {
        let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
        for (from, key) in [(text(&kept.request), "input"), (text(&kept.answer), "output")] {
            if let Some((_, raw)) = json::entries(from).find(|(name, _)| name == key) {
                self.input(raw, Some(kept));
            }
        }
    }

    fn input(&mut self, raw: &str, from: Option<&Kept>) {
        if raw.starts_with('"') {
            self.items.push(format!(r#"{{"role":"user","content":{raw}}}"#));
        }
        for (at, item) in json::elements(raw).enumerate() {
            self.item(item, at, from);
        }
    }

    fn item(&mut self, raw: &str, at: usize, from: Option<&Kept>) {
        if let Some(id) = reference(raw) {
            match self.shelf.holder(&id) {
                Some(holder) if !is_at(&holder, self.target) => self.referred(&id, &holder, at),
                _ => self.items.push(raw.to_owned()),
            }
            return;
        }
        if from.is_none() && !ids::may_hold_ours(raw) {
            self.items.push(raw.to_owned());
            return;
        }
        let Ok(Value::Object(mut item)) = serde_json::from_str(raw) else {
            self.items.push(raw.to_owned());
            return;
        };
        let elsewhere = from.is_some_and(|kept| !is_at(kept, self.target));
        let anothers = from.is_some_and(|kept| kept.target.provider != self.target.name.provider);
        let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default();
        if text("type") == "reasoning" {
            let foreign = proof::is_ours(text("encrypted_content")) || ids::is_ours(text("id"));
            // One that keeps nothing itself reads only what it has encrypted.
            let empty = elsewhere && text("encrypted_content").is_empty();
            if foreign || anothers || empty {
                self.lose(at, from, "thinking of another provider dropped");
                return;
            }
        }
        // OpenAI takes its own pictures by their ids alone; another provider's are shown to it.
        if text("type") == "image_generation_call"
            && (elsewhere || ids::is_ours(text("id")))
            && let Some(url) = shown(&item)
        {
            let picture = json!({ "type": "input_image", "image_url": url });
            self.items.push(json!({ "role": "user", "content": [picture] }).to_string());
            return;
        }
        // Ids name things at their maker; elsewhere they lead nowhere.
        let is_thought = text("type") == "reasoning";
        if (elsewhere && !is_thought) || ids::is_ours(text("id")) {
            item.shift_remove("id");
        }
        self.items.push(Value::Object(item).to_string());
    }

    fn referred(&mut self, id: &str, holder: &Kept, at: usize) {
        let answer = std::str::from_utf8(&holder.answer).unwrap_or_default();
        let output = json::entries(answer).find(|(key, _)| key == "output").map_or("", |(_, raw)| raw);
        let is_it = |item: &&str| {
            json::entries(item)
                .any(|(key, value)| key == "id" && json::text(value).is_some_and(|known| known == id))
        };
        if let Some(item) = json::elements(output).find(is_it).filter(|item| reference(item).is_none()) {
            self.item(item, at, Some(holder));
        }
    }

    fn lose(&mut self, at: usize, from: Option<&Kept>, what: &'static str) {
        let path = if from.is_some() { "previous_response_id".to_owned() } else { format!("input[{at}]") };
        let loss = Loss::new(path, what);
        if !self.lost.contains(&loss) {
            self.lost.push(loss);
        }
    }
}
