//! What a request leaves unread.
//!
//! Over HTTP/1, the next request comes behind it: a small rest that is under way is read, so that the connection serves
//! on; else the response says that the connection ends, and no client loses its next request on it.
//!
//! Over HTTP/2, it is kept until the response has ended and a moment longer. A stream whose body is dropped before the response's end is reset with CANCEL, and clients throw the response away.
//! Dropped after it, the reset says NO_ERROR: the response stands, the rest of the body is not wanted (RFC 9113,
//! section 8.1). Some clients (curl 7.88) lose the response even so when the reset comes in the same packet, but stop
//! by themselves when it does not. No more is kept than the flow-control window lets a client send.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Time for the client to read the response and to stop sending.
const MOMENT: Duration = Duration::from_millis(500);

/// The largest rest that is read over HTTP/1, in bytes, and for how long: a client that wrote the head has written such
/// a body, too, or will not before it has heard.
const SMALL: u64 = 64 << 10;
const SOON: Duration = Duration::from_millis(50);

/// A place for the rest of one body.
#[derive(Default)]
pub(super) struct Remains(Mutex<Rest>);

#[derive(Default)]
struct Rest {
    body: Option<Incoming>,
    /// Over HTTP/1, once there is a response: hyper must see at once that nobody reads on.
    is_over: bool,
}

impl Remains {
    /// Keeps a body that nobody reads any more.
    pub(super) fn keep(&self, body: Incoming) {
        let mut rest = self.rest();
        if !rest.is_over {
            rest.body = Some(body);
        }
    }

    /// Over HTTP/1, when there is a response: whether nothing is left that the next request would wait behind. It is
    /// read where that is wanted and soon done, and given up in any case.
    pub(super) async fn settle(&self, is_wanted: bool) -> bool {
        let body = {
            let mut rest = self.rest();
            rest.is_over = true;
            rest.body.take()
        };
        let Some(mut body) = body else { return true };
        if !is_wanted || body.size_hint().lower() > SMALL {
            return false;
        }
        let read = async {
            let mut came = 0;
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else { return false };
                came += frame.data_ref().map_or(0, |data| data.len() as u64);
                if came > SMALL {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(SOON, read).await.unwrap_or(false)
    }

    fn rest(&self) -> MutexGuard<'_, Rest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        let Some(body) = self.rest().body.take() else { return };
        // Outside of a runtime, as at the process's end, nobody waits for a response.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(MOMENT).await;
            drop(body);
        });
    }
}
