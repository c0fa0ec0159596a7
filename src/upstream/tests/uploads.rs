//! Bodies that are still arriving while they are sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::fault::{Fault, FaultKind};
use crate::target::Origin;
use crate::upstream::scripted::{CONNECT, Scripted, ask, ok, origin, read_request, request, upstream};
use crate::upstream::{Outbound, Upload};

/// A client's body that the test hands over piece by piece.
struct Given {
    pieces: mpsc::UnboundedReceiver<Result<Bytes, Fault>>,
    left: Option<u64>,
}

impl Body for Given {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let piece = std::task::ready!(self.pieces.poll_recv(cx));
        if let (Some(Ok(piece)), Some(left)) = (&piece, &mut self.left) {
            *left -= piece.len() as u64;
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or(SizeHint::default(), SizeHint::with_exact)
    }
}

type Hand = mpsc::UnboundedSender<Result<Bytes, Fault>>;

fn uploading(left: Option<u64>) -> (Hand, Upload, Outbound) {
    let (hand, pieces) = mpsc::unbounded_channel();
    let upload = Upload::new(Box::pin(Given { pieces, left }));
    (hand, upload.clone(), Outbound { upload: Some(upload), ..request() })
}

fn gone() -> Fault {
    Fault::new(FaultKind::Cancelled, "the client went away")
}

/// Reads from a connection until `text` has come.
async fn hear(stream: &mut tokio::net::TcpStream, text: &str) -> String {
    let mut heard = Vec::new();
    while !String::from_utf8_lossy(&heard).contains(text) {
        assert_ne!(stream.read_buf(&mut heard).await.unwrap(), 0, "the end came before {text}");
    }
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn pieces_go_out_as_they_come_under_the_length_that_was_said() {
    for (left, framing, end) in
        [(Some(10), "content-length: 23\r\n", "world"), (None, "transfer-encoding: chunked\r\n", "0\r\n\r\n")]
    {
        let (tell, mut told) = mpsc::unbounded_channel();
        let server = Scripted::start(move |_, mut stream| {
            let tell = tell.clone();
            async move {
                let first = hear(&mut stream, "hello").await;
                tell.send(first).unwrap();
                hear(&mut stream, end).await;
                stream.write_all(ok("fine").as_bytes()).await.unwrap();
            }
        })
        .await;
        let (hand, _, request) = uploading(left);
        let upstream = upstream();
        let origin = server.origin();
        let sent = upstream.send(&origin, request, CONNECT);
        let story = async {
            hand.send(Ok("hello".into())).unwrap();
            let heard = told.recv().await.unwrap();
            assert!(heard.contains(framing) && heard.contains("{\"model\":"), "{heard}");
            hand.send(Ok("world".into())).unwrap();
            drop(hand);
        };
        let (answer, ()) = tokio::join!(sent, story);
        assert_eq!(answer.unwrap().into_body().collect(100).await.unwrap(), "fine");
    }
}

#[tokio::test]
async fn what_has_begun_to_go_out_is_not_sent_again() {
    // The first request is answered; the connection closes under the second one, as an idle one does.
    let server = Scripted::start(|_, mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(ok("first").as_bytes()).await.unwrap();
        hear(&mut stream, "hello").await;
    })
    .await;
    let upstream = upstream();
    ask(&upstream, &server.origin()).await.unwrap();
    let (hand, upload, request) = uploading(None);
    hand.send(Ok("hello".into())).unwrap();
    let fault = upstream.send(&server.origin(), request, CONNECT).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unreachable);
    assert!(upload.is_spent());
    assert_eq!((server.accepted(), upstream.stats().resent), (1, 0));
}

#[tokio::test]
async fn the_clients_own_fault_is_told_and_the_connection_closed() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let server = Scripted::start(move |_, mut stream| {
        let tell = tell.clone();
        async move {
            let mut all = Vec::new();
            let _ = stream.read_to_end(&mut all).await;
            tell.send(all.len()).unwrap();
        }
    })
    .await;
    let (hand, _, request) = uploading(Some(1_000));
    hand.send(Ok("hello".into())).unwrap();
    hand.send(Err(gone())).unwrap();
    let fault = upstream().send(&server.origin(), request, CONNECT).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Cancelled);
    assert!(told.recv().await.is_some());
}

#[tokio::test]
async fn over_http2_an_upload_flows_and_an_abandoned_one_is_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = Origin { h2c: true, ..origin(listener.local_addr().unwrap()) };
    let (tell, mut told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let tell = tell.clone();
            tokio::spawn(async move {
                let (mut body, mut size) = (request.into_body(), 0);
                loop {
                    match body.data().await {
                        Some(Ok(piece)) => {
                            size += piece.len();
                            let _ = body.flow_control().release_capacity(piece.len());
                        }
                        Some(Err(error)) => return tell.send(Err(error.reason())).unwrap(),
                        None => break,
                    }
                }
                tell.send(Ok(size)).unwrap();
                let response = http::Response::new(());
                respond.send_response(response, false).unwrap().send_data("fine".into(), true).unwrap();
            });
        }
    });
    let upstream = upstream();
    let (hand, _, request) = uploading(None);
    for _ in 0..10 {
        hand.send(Ok(vec![0; 100_000].into())).unwrap();
    }
    drop(hand);
    let answer = upstream.send(&origin, request, CONNECT).await.unwrap();
    assert_eq!(answer.into_body().collect(100).await.unwrap(), "fine");
    assert_eq!(told.recv().await.unwrap(), Ok(1_000_013));

    let (hand, upload, request) = uploading(None);
    hand.send(Ok("hello".into())).unwrap();
    let sent = upstream.send(&origin, request, CONNECT);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(100), sent).await.is_err());
    upload.abandon();
    assert!(told.recv().await.unwrap().is_err());
    assert!(hand.send(Ok("more".into())).is_err(), "the client's body is let go");
}
