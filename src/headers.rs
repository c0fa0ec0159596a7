//! The names of headers that are Tollgate's own, or that it says for itself.
//!
//! They stand here read already: a map that is asked with a text reads it as a name each time.

use http::HeaderName;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub static $name: HeaderName = HeaderName::from_static($text);)*
    };
}

names! {
    /// How many attempts an answer took.
    ATTEMPTS = "x-tollgate-attempts";
    /// What a client says of the cache, and what the cache did.
    CACHE = "x-tollgate-cache";
    /// What an answer of the cache would have cost, in dollars.
    COST_SAVED = "x-tollgate-cost-saved-usd";
    /// What an answer cost, in dollars.
    COST = "x-tollgate-cost-usd";
    /// How sensitive a request's data is.
    DATA_CLASS = "x-tollgate-data-class";
    /// A wish to hear how it was decided, and the account.
    EXPLAIN = "x-tollgate-explain";
    /// The version of the model that answered.
    MODEL_VERSION = "x-tollgate-model-version";
    /// How important a request is, where it is less so than its key.
    PRIORITY = "x-tollgate-priority";
    /// Who is to get a request that names no model.
    PROVIDER = "x-tollgate-provider";
    /// A request's number, chosen by the client or by the gateway.
    REQUEST_ID = "x-request-id";
    /// The rule that decided.
    RULE = "x-tollgate-rule";
    /// How long each part took.
    SERVER_TIMING = "server-timing";
    /// What belongs to one conversation.
    SESSION = "x-tollgate-session";
    /// A wish to rather have an error than lose something.
    STRICT = "x-tollgate-strict";
    /// A request's tags.
    TAGS = "x-tollgate-tags";
    /// Who answered.
    TARGET = "x-tollgate-target";
    /// A request's category of cost.
    TIER = "x-tollgate-tier";
    /// How long the client will wait.
    TIMEOUT = "x-tollgate-timeout";
    /// What an upload in Google's manner is to do.
    UPLOAD_COMMAND = "x-goog-upload-command";
    /// Where an upload in Google's manner goes on: below the gateway.
    UPLOAD_URL = "x-goog-upload-url";
    /// What could not be carried.
    WARNINGS = "x-tollgate-warnings";
}
