//! Requests that no model is asked for: lists, estimates, and what leads nowhere or is refused at the door. They have a
//! line in the access log, too, and a count.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::Gateway;
use super::settle::{millis, timestamp};
use crate::caller::Caller;

/// The most bytes of a path that a line holds: it is the client's.
const MAX_PATH: usize = 256;

/// One such request.
pub struct Aside<'a> {
    /// Its method, as a client wrote it.
    pub method: &'a str,
    /// Its path, without the query, in which keys may stand.
    pub path: &'a str,
    /// Where it came from.
    pub address: Option<IpAddr>,
    /// Who asked, as far as that is known.
    pub caller: &'a Caller,
    /// Its `x-request-id`.
    pub request_id: &'a str,
    /// How long it took.
    pub took: Duration,
    /// The status of its answer.
    pub status: u16,
    /// The code of the error that it was answered with.
    pub error: Option<&'a str>,
}

/// Its line of the access log: as that of any other request, with its id in place of a record.
#[derive(Serialize)]
struct Line<'a> {
    ts: String,
    method: &'a str,
    path: &'a str,
    status: u16,
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    request_id: &'a str,
}

impl Gateway {
    /// Writes its line, and counts it.
    pub fn pass_aside(&self, aside: &Aside<'_>) {
        metrics::counter!("tollgate_other_requests_total", "status" => aside.status.to_string()).increment(1);
        self.shared.access_log.line(&Line {
            ts: timestamp(self.shared.clock.unix_ms()),
            method: cut(aside.method),
            path: cut(aside.path),
            status: aside.status,
            ms: millis(aside.took),
            address: aside.address,
            key: aside.caller.key_id.as_deref(),
            team: aside.caller.team.as_deref(),
            error: aside.error,
            request_id: aside.request_id,
        });
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_PATH)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn what_clients_write_is_cut_between_characters() {
        assert_eq!(cut("/v1/models"), "/v1/models");
        assert_eq!(cut(&"a".repeat(300)).len(), 256);
        assert_eq!(cut(&"ä€".repeat(100)).len(), 255);
    }
}
