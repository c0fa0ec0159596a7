//! What a request over HTTP/2 leaves unread, kept until its response has ended and a moment longer.
//!
//! A stream whose body is dropped before the response's end is reset with CANCEL, and clients throw the response away.
//! Dropped after it, the reset says NO_ERROR: the response stands, the rest of the body is not wanted (RFC 9113,
//! section 8.1). Some clients (curl 7.88) lose the response even so when the reset comes in the same packet, but stop
//! by themselves when it does not. No more is kept than the flow-control window lets a client send.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;

/// Time for the client to read the response and to stop sending.
const MOMENT: Duration = Duration::from_millis(500);

/// A place for the rest of one body.
#[derive(Default)]
pub(super) struct Remains(Mutex<Option<Incoming>>);

impl Remains {
    /// Keeps a body that nobody reads any more.
    pub(super) fn keep(&self, body: Incoming) {
        *self.body() = Some(body);
    }

    fn body(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        let Some(body) = self.body().take() else { return };
        // Outside of a runtime, as at the process's end, nobody waits for a response.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(MOMENT).await;
            drop(body);
        });
    }
}
