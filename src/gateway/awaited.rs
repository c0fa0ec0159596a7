//! A conversation whose client says in its first message who is to answer: until it is here, nobody is asked.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::timeout;

use super::admission::over;
use super::conversation::Conversation;
use super::renamed::{Rename, Renamed};
use crate::fault::Fault;
use crate::frames::websocket::{Broken, Opcode, Sender, WholeFrames, close_frame, frame};

/// How long the first message may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How large it may be.
const LARGEST: u64 = 4 << 20;
/// What is read at once.
const READ: usize = 16 << 10;
/// How long the client may take to hear the last word.
const LAST_WORD: Duration = Duration::from_millis(500);

/// A conversation that has begun, and the client's first message as its provider is to get it.
pub struct Begun {
    /// What goes to and fro from now on.
    pub conversation: Box<Conversation>,
    /// What is said first.
    pub opening: Vec<u8>,
    /// What the client's other messages become, and how large its frames may be.
    pub rename: Option<(Rename, u64)>,
}

/// Nobody answers.
pub struct Refused {
    /// Why.
    pub fault: Fault,
    /// What the client is told of it before the goodbye.
    pub told: Option<Vec<u8>>,
}

/// Finds somebody to answer the first message.
pub type Begin =
    Box<dyn FnOnce(Bytes) -> Pin<Box<dyn Future<Output = Result<Begun, Refused>> + Send>> + Send>;

/// A client that speaks WebSocket already and has not said yet with whom.
pub struct Awaited {
    begin: Begin,
    closing: watch::Receiver<bool>,
}

/// Why there is no first message.
enum Silence {
    /// The client has gone, or said goodbye.
    Left,
    /// It is told so, and that was it.
    Told(u16, &'static str),
}

impl Awaited {
    pub(super) fn new(begin: Begin, closing: watch::Receiver<bool>) -> Self {
        Self { begin, closing }
    }

    /// Waits for the first message and then lets the conversation go on. `begun` is what the client has sent already.
    pub async fn converse(self, mut client: impl AsyncRead + AsyncWrite + Send + Unpin, begun: Bytes) {
        let Self { begin, closing } = self;
        let heard = tokio::select! {
            biased;
            heard = timeout(PATIENCE, first_message(&mut client, begun.to_vec())) => {
                heard.unwrap_or(Err(Silence::Told(1008, "the first message did not come")))
            }
            () = over(closing) => Err(Silence::Told(1001, "the gateway is shutting down")),
        };
        let (message, rest) = match heard {
            Ok(heard) => heard,
            Err(Silence::Left) => return,
            Err(Silence::Told(code, why)) => return leave(&mut client, None, code, why).await,
        };
        match begin(message.into()).await {
            Ok(Begun { conversation, opening, rename }) => {
                let mask = std::array::from_fn(|_| fastrand::u8(..));
                let mut first = frame(Opcode::Text, opening, Some(mask));
                match rename {
                    Some((rename, limit)) => {
                        let client = Renamed::new(client, rename, limit, &rest);
                        conversation.converse(client, first.into()).await;
                    }
                    None => {
                        first.extend_from_slice(&rest);
                        conversation.converse(client, first.into()).await;
                    }
                }
            }
            Err(Refused { fault, told }) => {
                let code = if fault.client_status() < 500 { 1008 } else { 1011 };
                leave(&mut client, told, code, &fault.message).await;
            }
        }
    }
}

/// The client's first message, and what it has sent behind it.
async fn first_message(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mut bytes: Vec<u8>,
) -> Result<(Vec<u8>, Vec<u8>), Silence> {
    let (mut frames, mut message) = (WholeFrames::new(Sender::Client, LARGEST), Vec::new());
    loop {
        let mut rest = &bytes[..];
        while let Some((head, payload)) = frames.next(&mut rest).map_err(told)? {
            match head.opcode {
                Opcode::Close => return Err(Silence::Told(1000, "")),
                Opcode::Ping => {
                    let pong = frame(Opcode::Pong, payload, None);
                    client.write_all(&pong).await.map_err(|_| Silence::Left)?;
                }
                Opcode::Pong => {}
                _ if (message.len() + payload.len()) as u64 > LARGEST => {
                    return Err(told(Broken::TooLarge));
                }
                _ => {
                    message.extend_from_slice(&payload);
                    if head.last {
                        return Ok((message, rest.to_vec()));
                    }
                }
            }
        }
        bytes.clear();
        bytes.reserve(READ);
        if !matches!(client.read_buf(&mut bytes).await, Ok(1..)) {
            return Err(Silence::Left);
        }
    }
}

fn told(broken: Broken) -> Silence {
    Silence::Told(broken.code(), broken.text())
}

/// Says the last word and waits shortly for the client's, so that what it still sends does not destroy it.
async fn leave(
    client: &mut (impl AsyncRead + AsyncWrite + Unpin),
    told: Option<Vec<u8>>,
    code: u16,
    why: &str,
) {
    let _ = timeout(LAST_WORD, async {
        if let Some(told) = told {
            client.write_all(&frame(Opcode::Text, told, None)).await?;
        }
        client.write_all(&close_frame(code, why, None)).await?;
        client.flush().await?;
        let mut waste = [0; 4_096];
        while client.read(&mut waste).await? > 0 {}
        client.shutdown().await
    })
    .await;
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A frame as clients send it.
    pub(in crate::gateway) fn sent(opcode: Opcode, last: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = frame(opcode, payload.to_vec(), Some([1, 2, 3, 4]));
        if !last {
            bytes[0] &= 0x7f;
        }
        bytes
    }

    #[tokio::test]
    async fn the_first_message_is_whole_whatever_comes_between_its_parts() {
        let all = [
            sent(Opcode::Ping, true, b"there?"),
            sent(Opcode::Text, false, b"{\"set"),
            sent(Opcode::Ping, true, b""),
            sent(Opcode::Continuation, true, b"up\":1}"),
            sent(Opcode::Text, true, b"next"),
        ]
        .concat();
        for cut in [0, 1, 7, all.len()] {
            let (mut ours, mut theirs) = tokio::io::duplex(1 << 16);
            theirs.write_all(&all[cut..]).await.unwrap();
            let heard = first_message(&mut ours, all[..cut].to_vec()).await;
            let Ok((message, mut rest)) = heard else { panic!("no message, cut at {cut}") };
            assert_eq!(message, b"{\"setup\":1}");
            if rest.is_empty() {
                rest = sent(Opcode::Text, true, b"next");
            }
            assert_eq!(rest, sent(Opcode::Text, true, b"next"), "what stands behind it is kept");
            let mut pong = [0; 8];
            theirs.read_exact(&mut pong).await.unwrap();
            assert_eq!(&pong, b"\x8a\x06there?");
        }
    }

    #[tokio::test]
    async fn who_says_goodbye_or_nonsense_is_told_so() {
        for (bytes, expected) in [
            (sent(Opcode::Close, true, &[3, 232]), Some(1000)),
            (frame(Opcode::Text, b"not masked".to_vec(), None), Some(1002)),
            (vec![0x81], None),
        ] {
            let (mut ours, theirs) = tokio::io::duplex(64);
            drop(theirs);
            let code = match first_message(&mut ours, bytes).await {
                Err(Silence::Told(code, _)) => Some(code),
                Err(Silence::Left) => None,
                Ok(_) => panic!("a message"),
            };
            assert_eq!(code, expected);
        }
    }
}
