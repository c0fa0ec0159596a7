//! What a client of this dialect sends back of other providers' answers: their proofs, which Google would refuse.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use serde_json::Value;

use super::contents::NO_PROOF;
use super::model::Model;
use crate::chat::{Object, proof};
use crate::providers::ClientBody;

/// The beginning of every proof that this house has wrapped: [`proof::MARK`] in base64.
const WRAPPED: &str = "dG9sbGdhdGU6";

/// The contents without other providers' proofs; `None` when there are none.
pub(super) fn without(body: &ClientBody, model: &str) -> Option<String> {
    if !body.may_hold_ours() {
        return None;
    }
    let mut contents: Vec<Value> = serde_json::from_str(body.raw("contents")?).ok()?;
    let model = Model::of(model);
    contents.retain_mut(|content| match content.get_mut("parts") {
        Some(Value::Array(parts)) => {
            parts.retain_mut(|part| part.as_object_mut().is_none_or(|part| keep(part, model)));
            !parts.is_empty()
        }
        _ => true,
    });
    Some(Value::Array(contents).to_string())
}

/// Takes a foreign proof out of a part; whether anything is left that says something.
fn keep(part: &mut Object, model: Model<'_>) -> bool {
    let found = ["thoughtSignature", "thought_signature"].into_iter().find(|field| {
        part.get(*field).and_then(Value::as_str).is_some_and(|proof| proof.starts_with(WRAPPED))
    });
    let Some(field) = found else { return true };
    let wrapped = part.shift_remove(field);
    let calls = part.contains_key("functionCall") || part.contains_key("function_call");
    if let Some(own) = wrapped.as_ref().and_then(Value::as_str).and_then(own) {
        part.insert("thoughtSignature".into(), own.into());
        return true;
    }
    if calls && model.is_third() {
        part.insert("thoughtSignature".into(), NO_PROOF.into());
    }
    part.get("text").is_none_or(|text| text != "")
}

/// Google's own proof, which came by way of a router.
fn own(wrapped: &str) -> Option<String> {
    let bytes = BASE64_STANDARD.decode(wrapped).or_else(|_| BASE64_URL_SAFE.decode(wrapped)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let signature = text.strip_prefix(proof::MARK)?.split_once(':').map(|(_, signature)| signature)?;
    proof::for_gemini(signature).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn wrapped(text: &str) -> String {
        BASE64_STANDARD.encode(format!("tollgate:{text}"))
    }

    #[test]
    fn google_sees_no_proof_of_others() {
        let call = json!({"name": "f", "args": {}});
        let table = [
            (
                json!({"text": "hm", "thought": true, "thoughtSignature": wrapped("signature:EqQB")}),
                Some(json!({"text": "hm", "thought": true})),
            ),
            (json!({"text": "", "thought": true, "thoughtSignature": wrapped("redacted:Emw")}), None),
            (
                json!({"functionCall": call, "thought_signature": wrapped("unsigned")}),
                Some(json!({"functionCall": call, "thoughtSignature": NO_PROOF})),
            ),
            (
                json!({"text": "", "thoughtSignature": wrapped("signature:tollgate:detail:google-gemini-v1:::CrIJ")}),
                None,
            ),
            (
                json!({"text": "", "thoughtSignature": wrapped("signature:tollgate:detail:google-gemini-v1::0:CrIJ")}),
                Some(json!({"text": "", "thoughtSignature": "CrIJ"})),
            ),
            (
                json!({"text": "a", "thoughtSignature": "CrIJ"}),
                Some(json!({"text": "a", "thoughtSignature": "CrIJ"})),
            ),
        ];
        let (sent, kept): (Vec<Value>, Vec<Option<Value>>) = table.into_iter().unzip();
        let kept: Vec<Value> = kept.into_iter().flatten().collect();
        let body = json!({"contents": [{"role": "model", "parts": sent}]});
        let body = ClientBody::read(Bytes::from(body.to_string())).unwrap();
        let contents: Value = serde_json::from_str(&without(&body, "gemini-3-pro").unwrap()).unwrap();
        assert_eq!(contents, json!([{"role": "model", "parts": kept}]));
        let older: Value = serde_json::from_str(&without(&body, "gemini-2.5-pro").unwrap()).unwrap();
        assert_eq!(older[0]["parts"][1], json!({"functionCall": call}));
    }
}
