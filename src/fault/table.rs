//! What becomes of each kind of fault: one table, read by the executor, the breakers, the keys and the manual.

use std::fmt::Write as _;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Fault, FaultKind, Phase, Retry, Whose};

/// What happens after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Another try at the same target after a pause, with another key at once where there is one; then the next target.
    Retry,
    /// The next target. Where there is none, another try at the same one after a pause.
    RetryLast,
    /// Another try at the same target with another key, at once. Where there is none, the next target.
    OtherKey,
    /// The next target.
    NextTarget,
    /// The next target whose context window is larger, as far as windows are known.
    LargerContext,
    /// No further try: the client is told.
    Stop,
}

/// Against whom a fault counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counts {
    /// Against nobody.
    Nobody,
    /// Against the target: its breaker hears of it.
    Target,
    /// Against the key: it rests, or is taken out.
    Key,
    /// Against all keys of the same account.
    Account,
}

/// One kind of fault.
#[derive(Debug)]
pub struct Row {
    /// The name in metrics, records and `faults:`.
    pub word: &'static str,
    /// The kind.
    pub kind: FaultKind,
    /// Who has to change something.
    pub whose: Whose,
    /// What happens.
    pub then: Then,
    /// Against whom it counts.
    pub counts: Counts,
    /// What it means, for the manual.
    pub meaning: &'static str,
}

const fn row(
    word: &'static str,
    kind: FaultKind,
    whose: Whose,
    then: Then,
    counts: Counts,
    meaning: &'static str,
) -> Row {
    Row { word, kind, whose, then, counts, meaning }
}

/// An account without money: of the kind of refused credentials, and more than one key is concerned.
pub const ACCOUNT: &str = "upstream_account";

use Counts::{Account, Key, Nobody, Target};
use FaultKind as K;
use Then::{LargerContext, NextTarget, OtherKey, RetryLast, Stop};
use Whose::{Caller, House, Upstream};

/// All kinds. What providers may answer stands first.
#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    row("rate_limited", K::RateLimited, Upstream, Then::Retry, Key, "429: the key has used up its rate at this model"),
    row("overloaded", K::Overloaded, Upstream, Then::Retry, Target, "503, 529: the provider has no capacity; another key would not help"),
    row("server_error", K::ServerError, Upstream, Then::Retry, Target, "another 5xx"),
    row("upstream_unreachable", K::Unreachable, Upstream, RetryLast, Target, "no connection: refused, reset before the answer, DNS, TLS"),
    row("timeout_connect", K::Timeout(Phase::Connect), Upstream, NextTarget, Target, "no connection in time"),
    row("timeout_first_byte", K::Timeout(Phase::FirstByte), Upstream, NextTarget, Target, "no head of an answer in time"),
    row("timeout_first_token", K::Timeout(Phase::FirstToken), Upstream, NextTarget, Target, "no content in time"),
    row("timeout_idle", K::Timeout(Phase::Idle), Upstream, NextTarget, Target, "the answer stopped in the middle"),
    row("timeout_total", K::Timeout(Phase::Total), Upstream, Stop, Nobody, "the deadline of the whole request passed"),
    row("upstream_malformed", K::Malformed, Upstream, NextTarget, Target, "garbage, HTML, broken JSON, a redirect, an answer without a word"),
    row("upstream_truncated", K::Truncated, Upstream, NextTarget, Target, "the answer broke off"),
    row("upstream_credentials", K::Credentials, Upstream, OtherKey, Key, "401, 403: the provider refuses the key"),
    row(ACCOUNT, K::Credentials, Upstream, OtherKey, Account, "402, or a quota without money: the account pays for nothing more"),
    row("context_length_exceeded", K::ContextTooLong, Caller, LargerContext, Nobody, "the prompt does not fit the model's context window"),
    row("content_filter", K::ContentFiltered, Caller, Stop, Nobody, "the provider's content filter refused"),
    row("bad_request", K::BadRequest, Caller, Stop, Nobody, "400: the request is at fault"),
    row("not_found", K::NotFound, Caller, Stop, Nobody, "404; a model that the provider does not know leads to the next target"),
    row("request_too_large", K::TooLarge, Caller, Stop, Nobody, "413; from a provider, it leads to the next target"),
    row("lossy_translation", K::Lossy, Caller, NextTarget, Nobody, "the target cannot carry all of a strict request"),
    row("budget_exceeded", K::Budget, Caller, NextTarget, Nobody, "a budget has no room for the target's worst case; another may cost less"),
    row("method_not_allowed", K::MethodNotAllowed, Caller, Stop, Nobody, "405"),
    row("unsupported_media_type", K::UnsupportedMedia, Caller, Stop, Nobody, "415"),
    row("request_timeout", K::SlowRequest, Caller, Stop, Nobody, "the client did not send its request in time"),
    row("unauthorized", K::Unauthorized, Caller, Stop, Nobody, "the client's own credentials"),
    row("forbidden", K::Forbidden, Caller, Stop, Nobody, "the client's credentials do not allow this"),
    row("cancelled", K::Cancelled, Caller, Stop, Nobody, "the client went away"),
    row("rejected", K::Rejected, House, Stop, Nobody, "a policy refused"),
    row("no_target", K::NoTarget, House, Stop, Nobody, "no target satisfies the constraints"),
    row("policy_error", K::Policy, House, Stop, Nobody, "a policy failed"),
    row("unavailable", K::Unavailable, House, Stop, Nobody, "the gateway is at capacity or stops, or all targets rest"),
    row("internal_error", K::Internal, House, Stop, Nobody, "a defect of the gateway"),
];

/// What a kind means where nothing else is said.
const UNKNOWN: Row = row("internal_error", K::Internal, House, Stop, Nobody, "");

impl FaultKind {
    /// The kind's row in the table.
    pub fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.kind == self).unwrap_or(&UNKNOWN)
    }
}

impl Then {
    /// The same in the words of a fault.
    pub fn retry(self) -> Retry {
        match self {
            Self::Retry | Self::RetryLast => Retry::Here,
            Self::OtherKey | Self::NextTarget | Self::LargerContext => Retry::Elsewhere,
            Self::Stop => Retry::Never,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::RetryLast => "retry_last",
            Self::OtherKey => "other_key",
            Self::NextTarget => "next_target",
            Self::LargerContext => "larger_context",
            Self::Stop => "stop",
        }
    }
}

impl Fault {
    /// The row of the table: that of the account where the provider wants money.
    pub fn row(&self) -> &'static Row {
        let unpaid = self.kind == FaultKind::Credentials
            && (self.client_status() == 402 || self.code.as_deref() == Some("insufficient_quota"));
        if unpaid {
            return TABLE.iter().find(|row| row.word == ACCOUNT).unwrap_or(&UNKNOWN);
        }
        self.kind.row()
    }

    /// What an attempt ended with, in metrics, records and `faults:`.
    pub fn word(&self) -> &'static str {
        self.row().word
    }

    /// What happens after it: as the table says, unless its provider's dialect knows better.
    pub fn then(&self) -> Then {
        let usual = self.row().then;
        match self.retry {
            retry if retry == usual.retry() => usual,
            Retry::Never => Then::Stop,
            Retry::Here => Then::Retry,
            Retry::Elsewhere => Then::NextTarget,
        }
    }

    /// Against whom it counts. A rate limit that no pause helps against is the request's size, not the key's rate.
    pub fn counts(&self) -> Counts {
        let row = self.row();
        if row.kind == FaultKind::RateLimited && self.retry != row.then.retry() { Nobody } else { row.counts }
    }
}

/// What a provider's settings say of its faults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultRules(Vec<(Which, FaultRule)>);

/// Which faults a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    Word(&'static str),
    Status(u16),
}

/// What happens after a fault of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultRule {
    /// What happens.
    pub then: Then,
    /// The shortest pause before another try at the same target.
    pub after: Option<Duration>,
}

impl FaultRules {
    /// Adds a rule for a kind of fault (`overloaded`) or a status that the provider answers (`529`).
    ///
    /// # Errors
    /// When there is no such kind; the text says which there are.
    pub fn add(&mut self, which: &str, rule: FaultRule) -> Result<(), String> {
        let status = which.parse().ok().filter(|status| (400..600).contains(status)).map(Which::Status);
        let word = || from_providers().find(|row| row.word == which).map(|row| Which::Word(row.word));
        let Some(which) = status.or_else(word) else {
            let words: Vec<_> = from_providers().map(|row| row.word).collect();
            return Err(format!("is neither a status (400 to 599) nor one of {}", words.join(", ")));
        };
        self.0.push((which, rule));
        Ok(())
    }

    /// What happens after this fault. A rule for the status that was answered, whatever the client is shown, counts more
    /// than one for its kind.
    pub fn of(&self, fault: &Fault) -> FaultRule {
        let usual = || FaultRule { then: fault.then(), after: None };
        if self.0.is_empty() {
            return usual();
        }
        let word = fault.word();
        let by_status =
            self.0.iter().find(|(which, _)| matches!(which, Which::Status(s) if Some(*s) == fault.status));
        let by_word = || self.0.iter().find(|(which, _)| *which == Which::Word(word));
        by_status.or_else(by_word).map_or_else(usual, |(_, rule)| *rule)
    }
}

/// Kinds that an attempt at a provider can end with.
fn from_providers() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| row.whose == Upstream || row.then != Stop || PROVIDERS_TOO.contains(&row.kind))
}

/// Faults of the caller of which providers tell too.
const PROVIDERS_TOO: [FaultKind; 4] = [K::ContentFiltered, K::BadRequest, K::NotFound, K::TooLarge];

/// The table as `docs/reliability.md` shows it.
pub fn faults_markdown() -> String {
    let mut page =
        String::from("| fault | what it means | what happens | counts against |\n|---|---|---|---|\n");
    for row in from_providers() {
        let counts = match row.counts {
            Nobody => "nobody",
            Target => "the target's breaker",
            Key => "the key",
            Account => "all keys of the account",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `{}` | {} | `{}` | {counts} |", row.word, row.meaning, row.then.word());
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_the_kinds_own_and_stands_once() {
        for (place, row) in TABLE.iter().enumerate() {
            assert!(row.word == row.kind.as_str() || row.word == ACCOUNT, "{}", row.word);
            assert!(TABLE[..place].iter().all(|other| other.word != row.word), "{} twice", row.word);
        }
    }

    #[test]
    fn rate_limit_and_overload_differ_and_the_callers_faults_count_against_nobody() {
        let fault = |kind, status| Fault::new(kind, "no").status(status);
        for (fault, then, counts) in [
            (fault(K::RateLimited, 429), Then::Retry, Key),
            (fault(K::RateLimited, 413).retry(Retry::Elsewhere), NextTarget, Nobody),
            (fault(K::Overloaded, 529), Then::Retry, Target),
            (fault(K::Credentials, 401), OtherKey, Key),
            (fault(K::Credentials, 403), OtherKey, Key),
            (fault(K::Credentials, 402), OtherKey, Account),
            (fault(K::Credentials, 429).code("insufficient_quota"), OtherKey, Account),
            (fault(K::BadRequest, 400), Stop, Nobody),
            (fault(K::BadRequest, 400).retry(Retry::Here), Then::Retry, Nobody),
            (fault(K::ContextTooLong, 400), LargerContext, Nobody),
            (fault(K::ContentFiltered, 400), Stop, Nobody),
            (fault(K::NotFound, 404).retry(Retry::Elsewhere), NextTarget, Nobody),
            (Fault::new(K::Unreachable, "refused"), RetryLast, Target),
        ] {
            assert_eq!((fault.then(), fault.counts()), (then, counts), "{fault:?}");
        }
    }

    #[test]
    fn a_providers_own_rules_count_more() {
        let mut rules = FaultRules::default();
        let rule = |then| FaultRule { then, after: None };
        rules.add("overloaded", rule(NextTarget)).unwrap();
        rules.add("529", rule(Stop)).unwrap();
        rules.add("content_filter", rule(NextTarget)).unwrap();
        let then = |kind, status| rules.of(&Fault::new(kind, "no").status(status)).then;
        assert_eq!(then(K::Overloaded, 503), NextTarget);
        assert_eq!(then(K::Overloaded, 529), Stop);
        assert_eq!(then(K::ContentFiltered, 400), NextTarget);
        assert_eq!(then(K::ServerError, 500), Then::Retry);
        for unknown in ["overload", "200", "policy_error"] {
            let error = rules.add(unknown, rule(Stop)).unwrap_err();
            assert!(error.contains("overloaded"), "{error}");
        }
    }

    #[test]
    fn a_rule_for_a_status_is_for_the_one_that_was_answered() {
        let mut rules = FaultRules::default();
        for (which, then) in [("405", NextTarget), ("502", Stop), ("408", Stop), ("upstream_account", Stop)] {
            rules.add(which, FaultRule { then, after: None }).unwrap();
        }
        for (fault, answered, then) in [
            (Fault::new(K::ServerError, "no"), 405, NextTarget),
            (Fault::new(K::ServerError, "no"), 502, Stop),
            (Fault::new(K::ServerError, "no"), 418, Then::Retry),
            (Fault::new(K::Timeout(Phase::FirstByte), "late"), 408, Stop),
            (Fault::new(K::Timeout(Phase::FirstByte), "late"), 504, NextTarget),
            (Fault::new(K::Credentials, "pay").status(402), 400, Stop),
            (Fault::new(K::Credentials, "who are you"), 400, OtherKey),
        ] {
            let fault = fault.answered(answered);
            assert_eq!(rules.of(&fault).then, then, "{answered}: {fault:?}");
        }
    }

    #[test]
    fn an_account_that_is_not_paid_has_a_word_of_its_own() {
        let fault = |kind, status| Fault::new(kind, "no").status(status);
        for (fault, word) in [
            (fault(K::Credentials, 402), ACCOUNT),
            (fault(K::Credentials, 402).answered(400), ACCOUNT),
            (fault(K::Credentials, 429).code("insufficient_quota"), ACCOUNT),
            (fault(K::Credentials, 401), "upstream_credentials"),
            (fault(K::Budget, 402), "budget_exceeded"),
        ] {
            assert_eq!(fault.word(), word, "{fault:?}");
        }
    }

    /// `TOLLGATE_REWRITE=1` writes the table anew.
    #[test]
    fn the_guide_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md");
        let text = std::fs::read_to_string(path).unwrap();
        let heading = faults_markdown().lines().next().unwrap().to_owned();
        if let Some((before, rest)) = text.split_once(&heading)
            && std::env::var_os("TOLLGATE_REWRITE").is_some()
        {
            let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
            return std::fs::write(path, format!("{before}{}\n{after}", faults_markdown())).unwrap();
        }
        assert!(
            text.contains(&faults_markdown()),
            "docs/reliability.md lacks this table:\n{}",
            faults_markdown()
        );
    }
}
