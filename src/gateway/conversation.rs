//! A conversation over a WebSocket: from the provider's handshake to the last goodbye, settled once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::admission::{Permit, over, shutting_down};
use super::awaited::Awaited;
use super::relay::{Ended, Heard, Way};
use super::settings::RealtimeSettings;
use super::settle::{Conversed, Settlement};
use crate::executor::{Grip, Switched};
use crate::fault::{Fault, FaultKind, Phase};
use crate::frames::websocket::{Sender, close_frame};
use crate::plan::Outcome;
use crate::providers::{EventMeter, Target};
use crate::upstream::Duplex;

/// Conversations that run now.
const RUNNING: &str = "tollgate_conversations";
/// How long the other side may take to say goodbye too.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long it may take when the gateway itself ends the conversation: the drain leaves a second.
const LAST_WORD: Duration = Duration::from_millis(500);

/// A conversation whose provider has agreed and whose client has not heard of it yet.
pub struct Conversation {
    provider: Box<dyn Duplex>,
    begun: Bytes,
    book: Book,
    closing: watch::Receiver<bool>,
    rules: RealtimeSettings,
    _permit: Permit,
    _grip: Grip,
}

/// What a connection is for from now on.
pub enum Talk {
    /// A conversation.
    Begun(Box<Conversation>),
    /// One whose client has still to say with whom.
    Awaited(Box<Awaited>),
}

impl Talk {
    /// Has the connection until it is over. `begun` is what the client has sent already.
    pub async fn converse(self, client: impl AsyncRead + AsyncWrite + Send + Unpin, begun: Bytes) {
        match self {
            Self::Begun(conversation) => conversation.converse(client, begun).await,
            // Boxed, as all that few conversations need.
            Self::Awaited(awaited) => Box::pin(awaited.converse(client, begun)).await,
        }
    }
}

/// Hands a conversation to the connection over which its request came.
#[derive(Clone)]
pub struct Takeover(Arc<Mutex<Option<Talk>>>);

impl Takeover {
    /// Takes a conversation in.
    pub fn new(talk: Talk) -> Self {
        Self(Arc::new(Mutex::new(Some(talk))))
    }

    /// Gives it out, once.
    pub fn take(&self) -> Option<Talk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is known of a conversation; settled when it is dropped.
struct Book {
    settlement: Option<Box<Settlement>>,
    meter: EventMeter,
    conversed: Conversed,
}

impl Book {
    fn note(&mut self) {
        let Some(settlement) = &mut self.settlement else { return };
        self.conversed.errors = self.meter.errors();
        settlement.conversation = Some(self.conversed);
        settlement.usage = self.meter.usage();
        settlement.target = Some(self.meter.target().clone());
    }

    fn close(mut self, end: &End) {
        self.conversed.close = end.code();
        self.note();
        let Some(settlement) = self.settlement.take() else { return };
        match end.fault() {
            Some(fault) => settlement.settle(101, Outcome::Broken, Some(&fault)),
            None => settlement.settle(101, Outcome::Ok, None),
        }
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        // What was used is noted before the settlement, dropped next, books the conversation as cancelled.
        self.note();
    }
}

/// Who ended a conversation, and how.
enum End {
    /// A goodbye of the client.
    Client(Ended),
    /// A goodbye of the provider, or its silence.
    Provider(Ended),
    /// The gateway's, for this reason.
    Ours(&'static str, Phase),
    /// The gateway's, because it shuts down.
    Drained,
}

impl End {
    /// The code that was said last.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Client(ended) | Self::Provider(ended) => ended.code(),
            Self::Ours(..) | Self::Drained => Some(1001),
        }
    }

    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Client(Ended::Broken(broken)) => Some(Fault::new(FaultKind::BadRequest, broken.text())),
            Self::Client(_) | Self::Provider(Ended::Close(Some(1000 | 1001) | None)) => None,
            Self::Provider(Ended::Close(Some(code))) => {
                Some(Fault::new(FaultKind::Malformed, format!("the provider closed with code {code}")))
            }
            Self::Provider(Ended::Broken(broken)) => Some(Fault::new(FaultKind::Malformed, broken.text())),
            Self::Provider(Ended::Gone | Ended::Deaf) => {
                Some(Fault::new(FaultKind::Truncated, "the provider left without a goodbye"))
            }
            Self::Ours(text, phase) => Some(Fault::new(FaultKind::Timeout(*phase), *text)),
            Self::Drained => Some(shutting_down()),
        }
    }

    /// What the client has still to be told.
    fn to_client(&self) -> Option<(u16, &'static str)> {
        match self {
            Self::Client(Ended::Close(_) | Ended::Gone | Ended::Deaf) | Self::Provider(Ended::Close(_)) => {
                None
            }
            Self::Client(Ended::Broken(broken)) => Some((broken.code(), broken.text())),
            Self::Provider(Ended::Gone | Ended::Deaf) => Some((1011, "the provider left")),
            Self::Provider(Ended::Broken(_)) => Some((1011, "the provider breaks the protocol")),
            Self::Ours(text, _) => Some((1001, text)),
            Self::Drained => Some((1001, "the gateway is shutting down")),
        }
    }

    /// What the provider has still to be told.
    fn to_provider(&self) -> Option<(u16, &'static str)> {
        match self {
            Self::Client(Ended::Close(_)) | Self::Provider(Ended::Close(_) | Ended::Gone | Ended::Deaf) => {
                None
            }
            Self::Provider(Ended::Broken(broken)) => Some((broken.code(), broken.text())),
            Self::Client(_) | Self::Ours(..) | Self::Drained => Some((1001, "the client left")),
        }
    }
}

impl Conversation {
    pub(super) fn new(
        switched: Switched,
        settlement: Option<Box<Settlement>>,
        permit: Permit,
        closing: watch::Receiver<bool>,
        rules: RealtimeSettings,
    ) -> Self {
        let Switched { stream, begun, target, grip } = switched;
        let meter = EventMeter::new(target);
        Self {
            provider: stream,
            begun,
            book: Book { settlement, meter, conversed: Conversed::default() },
            closing,
            rules,
            _permit: permit,
            _grip: grip,
        }
    }

    /// Who answers.
    pub fn target(&self) -> &Target {
        self.book.meter.target()
    }

    /// Relays frames both ways until one side leaves. `begun` is what the client has sent already.
    pub async fn converse(self, client: impl AsyncRead + AsyncWrite + Send + Unpin, begun: Bytes) {
        let running = metrics::gauge!(RUNNING);
        running.increment(1.0);
        let running = Lowered(running);
        let Self { provider, begun: said, mut book, closing, rules, _permit, _grip } = self;
        let (mut from_client, mut to_client) = tokio::io::split(client);
        let (mut from_provider, mut to_provider) = tokio::io::split(provider);
        let heard = Heard::new();
        let limit = rules.max_frame.0;
        let mut up = Way::new(Sender::Client, limit, begun);
        let mut down = Way::new(Sender::Server, limit, said);

        let Book { meter, conversed, .. } = &mut book;
        let end = {
            let up = up.pump(&mut from_client, &mut to_provider, &heard, &mut conversed.client_events, None);
            let down = down.pump(
                &mut from_provider,
                &mut to_client,
                &heard,
                &mut conversed.provider_events,
                Some(meter),
            );
            tokio::pin!(up, down);
            let end = tokio::select! {
                ended = &mut down => match ended {
                    Ended::Deaf => End::Client(Ended::Gone),
                    ended => End::Provider(ended),
                },
                ended = &mut up => match ended {
                    Ended::Deaf => End::Provider(Ended::Gone),
                    ended => End::Client(ended),
                },
                () = over(closing) => End::Drained,
                () = sleep_until(Instant::now() + rules.max_duration.0) => {
                    End::Ours("the conversation has lasted its longest", Phase::Total)
                }
                () = heard.silence(rules.idle.0) => End::Ours("nobody said anything", Phase::Idle),
            };
            match &end {
                End::Client(Ended::Close(_)) => drop(timeout(GOODBYE, &mut down).await),
                End::Provider(Ended::Close(_)) => drop(timeout(GOODBYE, &mut up).await),
                _ => {}
            }
            end
        };
        drop(running);
        book.close(&end);
        let upward = async {
            let mask = Some(std::array::from_fn(|_| fastrand::u8(..)));
            let word = end.to_provider().map(|(code, reason)| close_frame(code, reason, mask));
            leave(word, &up, &mut to_provider, &mut from_provider).await;
        };
        let downward = async {
            let word = end.to_client().map(|(code, reason)| close_frame(code, reason, None));
            leave(word, &down, &mut to_client, &mut from_client).await;
        };
        tokio::join!(upward, downward);
    }
}

/// Says the last word to one side, if frames that went there have ended, and waits shortly for its answer, so that
/// what it still sends does not make the kernel destroy the word.
async fn leave<S: AsyncRead + AsyncWrite>(
    word: Option<Vec<u8>>,
    toward: &Way,
    writer: &mut WriteHalf<S>,
    reader: &mut ReadHalf<S>,
) {
    let _ = timeout(LAST_WORD, async {
        if let Some(word) = word.filter(|_| toward.is_between_frames()) {
            writer.write_all(&word).await?;
            writer.flush().await?;
            writer.shutdown().await?;
            let mut waste = [0; 4_096];
            while reader.read(&mut waste).await? > 0 {}
            return Ok(());
        }
        writer.shutdown().await
    })
    .await;
}

struct Lowered(metrics::Gauge);

impl Drop for Lowered {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
