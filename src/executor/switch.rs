//! One attempt at a conversation: the handshake with one target, up to the moment when frames flow.

use bytes::Bytes;
use tokio::time::timeout_at;

use super::attempt::{MAX_ERROR_BODY, by_provider, outbound, refusal};
use super::due::Head;
use super::grip::Grip;
use super::secrecy::{Secrets, fetched};
use super::{Answered, Executor};
use crate::fault::{Fault, FaultKind, Retry};
use crate::providers::{Hold, Outgoing, Place, Target};
use crate::upstream::{Duplex, Switching};

/// A provider that speaks WebSocket from now on.
pub struct Switched {
    /// The connection.
    pub stream: Box<dyn Duplex>,
    /// What it has said already.
    pub begun: Bytes,
    /// Who answers.
    pub target: Target,
    /// Given back when the conversation is over.
    pub grip: Grip,
}

impl Executor {
    /// Asks a target to speak WebSocket.
    pub(super) async fn switch(
        &self,
        target: &Target,
        hold: Option<&Hold>,
        outgoing: Outgoing,
        head: Head,
    ) -> Result<(Answered, u16), Fault> {
        let Place::Http(place) = &target.vendor.place else {
            let text = "a provider inside the process has no realtime conversations";
            return Err(Fault::bad_request(text, "model").retry(Retry::Elsewhere));
        };
        let mut request = outbound(place, target, hold, outgoing)?;
        let connect = target.vendor.deadlines.connect;
        let exchange = async {
            let held = self.authorise(place, target, &mut request).await?;
            let more = fetched(target, &request);
            let switching = self.upstream.switch(&place.origin, request, connect, MAX_ERROR_BODY).await;
            let switching = switching.map_err(by_provider)?;
            Ok::<_, Fault>((switching, held, more))
        };
        let (switching, held, more) = timeout_at(head.at, exchange).await.map_err(|_| head.passed())??;
        match switching {
            Switching::Switched { stream, begun } => {
                let switched = Switched { stream, begun, target: target.clone(), grip: Grip::default() };
                Ok((Answered::Switched(Box::new(switched)), 101))
            }
            Switching::Refused(answer) if answer.status().is_success() => {
                let text = "the provider answered, but does not speak websocket here";
                Err(Fault::new(FaultKind::Malformed, text).retry(Retry::Elsewhere))
            }
            Switching::Refused(answer) => {
                let (head, text) = answer.into_parts();
                let status = head.status.as_u16();
                let secrets = Secrets::new(target, hold, &more);
                let text = secrets.kept_out_of_text(text);
                let fault = refusal(status, &head.headers, &text, target);
                Err(secrets.kept_out_of(self.reconsider(target, held.as_ref(), fault, status, &text)))
            }
        }
    }
}
