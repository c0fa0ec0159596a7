//! A provider that decides itself how fast it reads a request's body, and clients that decide how fast they send one.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::client::PATIENCE;

/// A provider whose connections are played by a function. Lives as long as the test's runtime.
pub struct Sink {
    pub address: SocketAddr,
}

/// A request whose head is here.
pub struct Coming {
    pub stream: TcpStream,
    /// The head as text, lowercase.
    pub head: String,
    /// What was read of the body already.
    pub body: Vec<u8>,
}

impl Sink {
    pub async fn start<F>(play: impl Fn(Coming) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        // Small, so that what the gateway holds back is seen and not what the kernel holds.
        let _ = socket2::SockRef::from(&listener).set_recv_buffer_size(64 << 10);
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let play = std::sync::Arc::new(play);
            while let Ok((stream, _)) = listener.accept().await {
                let play = play.clone();
                tokio::spawn(async move {
                    if let Some(coming) = head(stream).await {
                        play(coming).await;
                    }
                });
            }
        });
        Self { address }
    }

    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }
}

async fn head(mut stream: TcpStream) -> Option<Coming> {
    let mut read = Vec::new();
    loop {
        if let Some(at) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let body = read.split_off(at + 4);
            let head = String::from_utf8_lossy(&read).to_ascii_lowercase();
            return Some(Coming { stream, head, body });
        }
        // A connection that was opened in advance and is never used ends here.
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            return None;
        }
    }
}

impl Coming {
    pub fn length(&self) -> Option<usize> {
        let (_, rest) = self.head.split_once("content-length: ")?;
        rest.split("\r\n").next()?.parse().ok()
    }

    /// Reads until the body has its announced length; false when the caller went away first.
    pub async fn all(&mut self) -> bool {
        let length = self.length().expect("a content length");
        while self.body.len() < length {
            if !matches!(self.stream.read_buf(&mut self.body).await, Ok(1..)) {
                return false;
            }
        }
        true
    }

    /// Reads until the caller goes away.
    pub async fn drained(&mut self) {
        while matches!(self.stream.read_buf(&mut self.body).await, Ok(1..)) {}
    }

    pub async fn say(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// A whole JSON answer.
    pub async fn answer(&mut self, status: u16, json: &str) {
        let length = json.len();
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        self.say(&format!("{head}{json}")).await;
    }
}

/// A client that sends a request in pieces of its own choice.
pub struct Sender {
    pub stream: TcpStream,
}

impl Sender {
    pub async fn open(to: SocketAddr, head: &str) -> Self {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let _ = socket2::SockRef::from(&stream).set_send_buffer_size(64 << 10);
        stream.write_all(format!("{}\r\n\r\n", head.replace('\n', "\r\n")).as_bytes()).await.unwrap();
        Self { stream }
    }

    /// Sends until nothing is taken for `silence`; how many bytes were taken.
    pub async fn stuff(&mut self, mut bytes: &[u8], silence: Duration) -> usize {
        let all = bytes.len();
        while !bytes.is_empty() {
            match tokio::time::timeout(silence, self.stream.write(bytes)).await {
                Ok(Ok(sent @ 1..)) => bytes = &bytes[sent..],
                _ => break,
            }
        }
        all - bytes.len()
    }

    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        tokio::time::timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("somebody reads")
    }

    /// Everything that is answered until the connection closes or stays silent for a while.
    pub async fn answer(&mut self) -> String {
        let mut read = Vec::new();
        let silence = Duration::from_millis(1_000);
        while let Ok(Ok(1..)) = tokio::time::timeout(silence, self.stream.read_buf(&mut read)).await {}
        String::from_utf8_lossy(&read).into_owned()
    }
}
