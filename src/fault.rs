//! What went wrong, whose fault it is, and whether trying again can help: the one error type of the house.

mod table;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

pub use table::{Counts, FaultRule, FaultRules, Row, TABLE, Then, faults_markdown};

/// One failure of a request or of an attempt.
///
/// A fault never carries a secret or a piece of a prompt: `message` is written by us, or taken from an
/// upstream error body after `scrub`.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What happened.
    pub kind: FaultKind,
    /// Who has to change something.
    pub whose: Whose,
    /// Whether another try may succeed, and where.
    pub retry: Retry,
    /// How long to wait before the next try, as the upstream asked (`Retry-After`), already clamped.
    pub after: Option<Duration>,
    /// Lowercase, without a full stop; shown to the client.
    pub message: Cow<'static, str>,
    /// Stable machine-readable code for the client's error body; `None` means the kind's own code.
    pub code: Option<Cow<'static, str>>,
    /// The request field that is at fault, as a JSON path (`messages[0].content`).
    pub param: Option<Cow<'static, str>>,
    /// The HTTP status that the upstream answered or the policy chose; `None` means the kind's own status.
    pub status: Option<u16>,
    /// What the client is shown in its place; `None` means the same one.
    pub shown: Option<u16>,
    /// Whether the whole request had gone out to an upstream that gave no answer, so that it may be paid for.
    pub sent: bool,
}

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// The client sent something that cannot be served.
    Caller,
    /// The provider failed.
    Upstream,
    /// The gateway, its configuration, or its policies.
    House,
}

/// Where another try may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Nowhere: the request itself is at fault.
    Never,
    /// At the same target, after a pause, or elsewhere.
    Here,
    /// Only at another target.
    Elsewhere,
}

/// The phase of an attempt in which its deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// TCP and TLS set-up.
    Connect,
    /// From the request's last byte to the answer's head.
    FirstByte,
    /// From the answer's head to the first content.
    FirstToken,
    /// Between two pieces of an answer.
    Idle,
    /// The whole request.
    Total,
}

/// What happened; kinds that matter to routing are distinct.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The request is malformed or asks for something impossible.
    BadRequest,
    /// No such path, model or object.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// Content type or content encoding that we do not read.
    UnsupportedMedia,
    /// Body over the limit.
    TooLarge,
    /// The client did not send its request in time.
    SlowRequest,
    /// The target cannot carry all of the request, and the client wants all or nothing.
    Lossy,
    /// The client's credentials are missing or wrong.
    Unauthorized,
    /// The client's credentials do not allow this.
    Forbidden,
    /// A policy rejected the request.
    Rejected,
    /// No target satisfies the constraints that policies put on the request.
    NoTarget,
    /// A budget cannot bear what the request may cost.
    Budget,
    /// The provider (or we) limit the rate: 429.
    RateLimited,
    /// The provider is overloaded: 503, 529.
    Overloaded,
    /// Another 5xx of the provider.
    ServerError,
    /// A deadline passed.
    Timeout(Phase),
    /// No connection: refused, reset before the answer, DNS, TLS.
    Unreachable,
    /// The provider refused our credentials (401, 403, unpaid account): the key is out, not the provider.
    Credentials,
    /// The prompt does not fit the model's context window.
    ContextTooLong,
    /// The provider's content filter refused.
    ContentFiltered,
    /// The answer is not what the protocol promises: garbage, HTML, broken JSON, a redirect; or says nothing.
    Malformed,
    /// The answer or stream broke off before its end.
    Truncated,
    /// A policy failed while running.
    Policy,
    /// We are at capacity or shutting down.
    Unavailable,
    /// The client went away.
    Cancelled,
    /// A defect of ours.
    Internal,
}

impl FaultKind {
    /// The stable name used in error codes, metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMedia => "unsupported_media_type",
            Self::TooLarge => "request_too_large",
            Self::SlowRequest => "request_timeout",
            Self::Lossy => "lossy_translation",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Rejected => "rejected",
            Self::NoTarget => "no_target",
            Self::Budget => "budget_exceeded",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::Timeout(Phase::Connect) => "timeout_connect",
            Self::Timeout(Phase::FirstByte) => "timeout_first_byte",
            Self::Timeout(Phase::FirstToken) => "timeout_first_token",
            Self::Timeout(Phase::Idle) => "timeout_idle",
            Self::Timeout(Phase::Total) => "timeout_total",
            Self::Unreachable => "upstream_unreachable",
            Self::Credentials => "upstream_credentials",
            Self::ContextTooLong => "context_length_exceeded",
            Self::ContentFiltered => "content_filter",
            Self::Malformed => "upstream_malformed",
            Self::Truncated => "upstream_truncated",
            Self::Policy => "policy_error",
            Self::Unavailable => "unavailable",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal_error",
        }
    }

    /// The HTTP status that a client sees for this kind when the upstream's own does not fit.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::Lossy | Self::ContextTooLong | Self::ContentFiltered => 400,
            Self::Unauthorized => 401,
            Self::Budget => 402,
            Self::Forbidden | Self::Rejected => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::SlowRequest => 408,
            Self::TooLarge => 413,
            Self::UnsupportedMedia => 415,
            Self::RateLimited => 429,
            Self::Cancelled => 499,
            Self::Policy | Self::Internal => 500,
            Self::Timeout(_) => 504,
            Self::Overloaded | Self::Unavailable | Self::NoTarget => 503,
            Self::ServerError | Self::Unreachable | Self::Credentials | Self::Malformed | Self::Truncated => {
                502
            }
        }
    }
}

impl Fault {
    /// A fault with the owner and the retry rule that the table has for its kind.
    pub fn new(kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Self {
        let row = kind.row();
        Self {
            kind,
            whose: row.whose,
            retry: row.then.retry(),
            after: None,
            message: message.into(),
            code: None,
            param: None,
            status: None,
            shown: None,
            sent: false,
        }
    }

    /// A 400 for the request field at `param` (a JSON path).
    pub fn bad_request(message: impl Into<Cow<'static, str>>, param: impl Into<Cow<'static, str>>) -> Self {
        Self::new(FaultKind::BadRequest, message).at(param)
    }

    /// Names the request field at fault.
    pub fn at(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Replaces the kind's own error code.
    pub fn code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// Keeps the status that the upstream answered (or that a policy chose), also for the client.
    pub fn status(mut self, status: u16) -> Self {
        (self.status, self.shown) = (Some(status), None);
        self
    }

    /// Keeps the status that the upstream answered. The client is shown what it was shown before.
    pub fn answered(mut self, status: u16) -> Self {
        (self.shown, self.status) = (Some(self.client_status()), Some(status));
        self
    }

    /// Sets how long to wait before another try.
    pub fn after(mut self, after: Option<Duration>) -> Self {
        self.after = after;
        self
    }

    /// Overrides the kind's retry rule.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// The whole request had gone out.
    pub fn sent(mut self, sent: bool) -> Self {
        self.sent = sent;
        self
    }

    /// The code for the client's error body.
    pub fn code_str(&self) -> &str {
        self.code.as_deref().unwrap_or_else(|| self.kind.as_str())
    }

    /// The HTTP status for the client: the upstream's own where it tells the client something true.
    ///
    /// A provider's 401 or 403 concerns *our* key, so the client sees 502. What is said of our account's money (402, a
    /// 429 for an empty quota) is kept, because the client's own retries cannot help. 529 becomes 503.
    pub fn client_status(&self) -> u16 {
        match (self.kind, self.shown.or(self.status)) {
            (FaultKind::Credentials, Some(status @ (402 | 429))) => status,
            (FaultKind::Credentials, _) => 502,
            (_, Some(529)) => 503,
            (_, Some(status @ 400..=599)) => status,
            (kind, _) => kind.status(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.as_str(), self.message)
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_refusal_of_our_key_is_never_shown_as_the_clients_401() {
        let fault = Fault::new(FaultKind::Credentials, "the provider refused the gateway's key").status(401);
        assert_eq!(fault.client_status(), 502);
        assert_eq!(fault.retry, Retry::Elsewhere);
    }

    #[test]
    fn overload_529_leaves_the_house_as_503() {
        assert_eq!(Fault::new(FaultKind::Overloaded, "overloaded").status(529).client_status(), 503);
    }

    #[test]
    fn the_client_is_shown_another_status_than_was_answered() {
        use FaultKind as K;
        for (fault, answered, shown) in [
            (Fault::new(K::ServerError, "not here"), 405, 502),
            (Fault::new(K::Timeout(Phase::FirstByte), "late"), 408, 504),
            (Fault::new(K::RateLimited, "slow down").status(429), 400, 429),
            (Fault::new(K::Overloaded, "overloaded").status(529), 500, 503),
            (Fault::new(K::Credentials, "who are you").status(401), 498, 502),
            (Fault::new(K::Credentials, "pay").status(402), 400, 402),
        ] {
            let fault = fault.answered(answered);
            assert_eq!((fault.status, fault.client_status()), (Some(answered), shown), "{fault}");
            // Also where it is said once more.
            let fault = fault.answered(answered);
            assert_eq!((fault.status, fault.client_status()), (Some(answered), shown), "{fault}");
        }
    }
}
