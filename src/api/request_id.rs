//! The name of a request: the client's own where it is decent, else a new one.

use std::sync::Arc;

use http::HeaderMap;

use crate::clock::Dice;
use crate::headers;

/// Longest id taken over from a client.
const MAX_LENGTH: usize = 128;

/// `x-request-id` of the client (visible ASCII, at most 128 characters), or a new UUIDv7.
pub(super) fn choose(headers: &HeaderMap, unix_ms: u64, dice: &Dice) -> Arc<str> {
    let own = headers.get(&headers::REQUEST_ID).and_then(|value| value.to_str().ok());
    match own {
        Some(id) if !id.is_empty() && id.len() <= MAX_LENGTH && id.bytes().all(|b| b.is_ascii_graphic()) => {
            id.into()
        }
        _ => fresh(unix_ms, dice),
    }
}

fn fresh(unix_ms: u64, dice: &Dice) -> Arc<str> {
    let bits = dice.bits().to_le_bytes();
    let [random @ .., _, _, _, _, _, _] = bits;
    let uuid = uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid();
    let mut buffer = uuid::Uuid::encode_buffer();
    Arc::from(&*uuid.hyphenated().encode_lower(&mut buffer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(own: &[u8]) -> Arc<str> {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", http::HeaderValue::from_bytes(own).unwrap());
        choose(&headers, 1_700_000_000_000, &Dice::loaded(1))
    }

    #[test]
    fn a_decent_id_of_the_client_is_kept() {
        assert_eq!(&*chosen(b"order-42"), "order-42");
    }

    #[test]
    fn others_are_replaced() {
        for own in [&b""[..], b"two words", &[b'a'; 129], b"\xff"] {
            let id = chosen(own);
            assert_eq!((id.len(), &id[14..15]), (36, "7"), "{id}");
        }
    }
}
