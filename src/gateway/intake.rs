//! How the body of a request comes into the line: whole, or read ahead only as far as somebody must know it.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri};

use super::{Asked, Snapshot};
use crate::fault::Fault;
use crate::upstream::Upload;

/// A request body that has not been read yet.
pub trait Unread: Send {
    /// Reads it to its end, within the listener's limits.
    fn collect(self) -> impl Future<Output = Result<Bytes, Fault>> + Send;
    /// Lets it be read piece by piece, within the listener's limits for uploads.
    fn upload(self) -> Upload;
}

/// A request at its door, before anything of its body is here.
#[derive(Clone, Copy)]
pub struct Approach<'a> {
    /// The method.
    pub method: &'a Method,
    /// Path and query.
    pub uri: &'a Uri,
    /// The client's headers, credentials included.
    pub headers: &'a HeaderMap,
    /// What the request is served with.
    pub snapshot: &'a Snapshot,
}

/// How a door takes a body.
pub enum Intake {
    /// All of it, through the door's gate.
    Whole,
    /// Its beginning; the rest is sent on while it arrives.
    Ahead(Box<dyn Ahead>),
}

/// Looks at the beginning of a body while it arrives.
pub trait Ahead: Send {
    /// Takes the next piece.
    ///
    /// # Errors
    /// What makes the request impossible to serve.
    fn feed(&mut self, piece: &Bytes) -> Result<(), Fault>;
    /// Whether the request can be read without seeing more of the body.
    fn is_enough(&self) -> bool;
    /// How many bytes are worth holding until that is so.
    fn patience(&self, hold: u64) -> u64 {
        hold
    }
    /// Reads the request: `held` is what was fed, `rest` what is still to come, `None` if that is nothing.
    ///
    /// # Errors
    /// What is missing or wrong.
    fn read(self: Box<Self>, held: Vec<Bytes>, rest: Option<Upload>) -> Result<Arc<dyn Asked>, Fault>;
}

/// Reads a body ahead. A small one is held whole, so that it can be sent more than once.
pub(super) async fn read_ahead(
    mut ahead: Box<dyn Ahead>,
    upload: Upload,
    hold: u64,
) -> Result<Arc<dyn Asked>, Fault> {
    let large = upload.left().is_some_and(|announced| announced > hold);
    let (mut held, mut size) = (Vec::new(), 0);
    loop {
        if upload.is_over() {
            return ahead.read(held, None);
        }
        let enough = ahead.is_enough();
        if (enough && (large || size >= hold)) || size >= ahead.patience(hold) {
            return ahead.read(held, Some(upload));
        }
        let Some(piece) = upload.read().await? else { return ahead.read(held, None) };
        size += piece.len() as u64;
        ahead.feed(&piece)?;
        held.push(piece);
    }
}
