//! The table of all metrics: it describes them to Prometheus and makes the documentation.

use std::fmt::Write as _;

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name, beginning with `tollgate_`.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// Label names. Their values come from the configuration or from closed sets, never from clients.
    pub labels: &'static [&'static str],
    /// What it counts, with its unit.
    pub help: &'static str,
}

/// The kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

macro_rules! table {
    ($($kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// Every metric of the gateway.
        pub const METRICS: &[Metric] = &[$(Metric {
            name: $name, kind: MetricKind::$kind, labels: &[$($label),*], help: $help,
        }),*];
    };
}

table! {
    Counter   "tollgate_requests_total" ["endpoint", "model", "status", "outcome"] "requests answered; outcome is ok, error, broken (after the first content) or cancelled";
    Histogram "tollgate_request_duration_seconds" ["endpoint", "model"] "from a request's head to its answer's last byte";
    Histogram "tollgate_gateway_overhead_seconds" ["endpoint"] "time from a request's whole body to its answer's head, less the time spent waiting for upstreams";
    Histogram "tollgate_upstream_duration_seconds" ["provider"] "from the start of an attempt to its first content (stream) or its last byte";
    Histogram "tollgate_time_to_first_token_seconds" ["provider", "model"] "from a streaming request's head to its first content";
    Counter   "tollgate_tokens_total" ["provider", "model", "class"] "tokens by disjoint class: input, cached_read, cache_write, output (reasoning is also counted by itself)";
    Gauge     "tollgate_cost_usd_total" ["provider", "model"] "dollars that answers cost; only grows (a gauge, because counters are whole numbers)";
    Counter   "tollgate_unpriced_total" ["provider", "model"] "answers whose cost is unknown, because something was used that has no price";
    Counter   "tollgate_unpriced_tools_total" ["provider", "model"] "uses of providers' own tools that may cost beside the tokens, which is in no cost: code that was run, files that were searched, pictures that a tool made";
    Counter   "tollgate_price_refreshes_total" ["outcome"] "readings of price sources: changed, unchanged or failed";
    Counter   "tollgate_auth_failures_total" ["reason"] "requests that were not let in: missing, unknown, expired, revoked, address, token or scope";
    Counter   "tollgate_rate_limited_total" ["limit"] "requests that a limit refused; `key` are the limits in keys themselves";
    Gauge     "tollgate_price_revision" [] "revision of the price book in service";
    Gauge     "tollgate_provider_error_ratio" ["provider"] "share of failed attempts within the window of `health`, 0 to 1";
    Gauge     "tollgate_provider_alert" ["provider"] "1 while a provider's error ratio is above `health.alert.error_rate`";
    Gauge     "tollgate_provider_latency_seconds" ["provider", "quantile"] "from the start of an attempt to the answer's end, within the window; NaN without answers";
    Gauge     "tollgate_provider_first_token_seconds" ["provider", "quantile"] "from the start of an attempt to a stream's first content, within the window; NaN without streams";
    Gauge     "tollgate_provider_tokens_per_second" ["provider"] "generated tokens per second, the median over answers within the window; NaN without answers";
    Counter   "tollgate_attempts_total" ["provider", "outcome"] "attempts at upstreams; outcome is ok or the kind of fault";
    Counter   "tollgate_hedges_total" ["outcome"] "late whole answers that hedging was asked for: sent, or not because the share of traffic was spent or the target has become slow as a whole (shifted)";
    Counter   "tollgate_retries_denied_total" ["provider"] "tries at the same target that were not made because its budget of retries was used up";
    Counter   "tollgate_targets_skipped_total" ["provider", "reason"] "targets of plans that were passed over without an attempt; reason is breaker, refused, throttled, limited or tried";
    Counter   "tollgate_probes_total" ["provider", "outcome"] "requests of the gateway's own to see whether a provider answers: ok or failed";
    Counter   "tollgate_chaos_injected_total" ["kind", "provider"] "attempts that were struck by a fault injected on purpose; kind is latency, error, throttle, stall, cut or garbage";
    Gauge     "tollgate_chaos_active" [] "experiments that run now; anything above 0 means that faults are injected on purpose";
    Counter   "tollgate_guard_verdicts_total" ["guard", "on", "outcome"] "answers of guards about a request, an answer or a stream: what the guard wants done, or how it failed";
    Counter   "tollgate_plugin_requests_out_total" ["plugin", "host", "outcome"] "requests of plugins outward: answered, or why not";
    Gauge     "tollgate_breaker_state" ["provider", "model"] "breakers of configured models: 0 closed, 1 half open, 2 open";
    Counter   "tollgate_breaker_openings_total" ["provider"] "breakers that opened";
    Gauge     "tollgate_key_usable" ["provider", "key"] "0 while a key is out because the provider refused it, 1 once it is accepted again";
    Counter   "tollgate_key_refusals_total" ["provider", "key"] "alarms: keys that a provider refused, or whose account it wants paid";
    Counter   "tollgate_secret_fetches_total" ["store", "outcome"] "values that a store of secrets (vault, aws-secrets) was asked for: read (for the first time), unchanged, changed, failed or lapsed (not used any more)";
    Gauge     "tollgate_secrets_stale" ["store"] "values that a store of secrets did not give when it was asked the last time";
    Counter   "tollgate_secret_leases_total" ["outcome"] "leases of Vault's tokens that were due: renewed, login (a new token was needed) or failed";
    Counter   "tollgate_key_throttles_total" ["provider", "key"] "rate limits (429) that a key met";
    Counter   "tollgate_token_refreshes_total" ["provider", "outcome"] "fetches of short-lived credentials from token endpoints; outcome is ok or the kind of fault";
    Counter   "tollgate_translation_losses_total" ["from", "to", "field"] "fields that a translation from one dialect to another could not carry as they were said; field is the first name of the path where it is known, `answer` for what an answer said, else other";
    Histogram "tollgate_policy_duration_seconds" [] "evaluation of the whole chain of policies";
    Counter   "tollgate_policy_errors_total" ["policy"] "run-time errors of policies";
    Counter   "tollgate_policy_verdicts_total" ["policy", "verdict"] "verdicts by policy: route, respond or reject";
    Counter   "tollgate_cache_requests_total" ["outcome"] "requests where a cache is on: hit, miss or bypass";
    Gauge     "tollgate_cache_saved_usd" [] "dollars that answers given again did not cost; only grows";
    Counter   "tollgate_policy_shadow_requests_total" ["outcome"] "requests that the shadow policies were asked about: same, diverged, or dropped where they did not keep up";
    Counter   "tollgate_policy_divergences_total" ["kind"] "requests that the shadow policies would have treated otherwise; kind is route, denial, cost, other or failure";
    Counter   "tollgate_policy_arm_requests_total" ["arm", "outcome"] "requests while a candidate set of policies has a share; arm is live or candidate, outcome is ok or failed";
    Gauge     "tollgate_policy_candidate_share" [] "share of the callers for whom the candidate policies decide, 0 to 1";
    Gauge     "tollgate_policy_candidate_rolled_back" [] "1 while the candidate policies have lost their share";
    Counter   "tollgate_policy_rollbacks_total" ["reason"] "roll-backs of policies; reason is error_rate, cost, admin, or rollback where an operator put older ones into service";
    Gauge     "tollgate_policy_pinned" [] "1 while older policies serve in the place of those on disk";
    Gauge     "tollgate_policy_beside_broken" ["role"] "1 while the files of the shadow or candidate policies are broken";
    Counter   "tollgate_plugin_calls_total" ["plugin", "fn", "outcome"] "calls of plugins; outcome is ok, trap, timeout, oom, failure, busy, quarantined or absent";
    Histogram "tollgate_plugin_duration_seconds" ["plugin", "fn"] "calls of plugins, the wait for a place included";
    Gauge     "tollgate_plugin_memory_bytes" ["plugin"] "linear memory of the plugin's instance at the end of its last call";
    Counter   "tollgate_plugin_loads_total" ["plugin", "outcome"] "loads of plugins; outcome is ok, failed, or kept where neither file nor settings have changed";
    Counter   "tollgate_reloads_total" ["outcome"] "reloads of configuration and policies: ok or failed";
    Gauge     "tollgate_reload_failed" [] "1 while the files on disk are broken and the last good snapshot serves";
    Gauge     "tollgate_snapshot_info" ["sha"] "1 for the content hash of the snapshot in service";
    Gauge     "tollgate_build_info" ["version"] "1 for the version of this binary";
    Gauge     "tollgate_requests_in_flight" [] "requests being served";
    Counter   "tollgate_shed_total" ["reason", "priority"] "requests that were answered 503 before they were looked at; reason is in_flight or memory, priority that of the key";
    Counter   "tollgate_usage_doubtful_total" ["provider"] "reports of more tokens than an answer could have by its limit; they are booked, and logged";
    Gauge     "tollgate_memory_resident_bytes" [] "memory of the process";
    Gauge     "tollgate_memory_limit_bytes" [] "memory that it may have, as far as it knows; 0 without a limit";
    Gauge     "tollgate_queue_waiting" ["provider", "model"] "requests that wait for a configured model";
    Histogram "tollgate_queue_wait_seconds" ["provider", "priority"] "waits in line of requests that were served in the end, or whose time was over";
    Counter   "tollgate_queue_refused_total" ["provider", "reason", "priority"] "waits that were refused or broken off: full, late where it would have taken too long, timeout where the whole wait was in vain, pushed_out by another tenant or a higher priority";
    Gauge     "tollgate_concurrency_limit" ["provider", "model"] "requests that a configured model gets at once, written or learnt; 0 without a limit";
    Gauge     "tollgate_conversations" [] "conversations over a WebSocket that run now";
    Gauge     "tollgate_connections" [] "open client connections";
    Counter   "tollgate_connections_refused_total" ["reason"] "client connections closed before their first request; reason is total, address, tls_handshake or first_byte";
    Counter   "tollgate_requests_refused_total" ["reason"] "requests that the listener refused before they were read, by kind of fault; they stand in no other metric";
    Counter   "tollgate_other_requests_total" ["status"] "requests that no model was asked for: lists of models, estimates, stored responses, and what led nowhere or was refused at the door; they stand in no other metric";
    Counter   "tollgate_accept_errors_total" [] "failures to accept a connection, for example because file descriptors ran out";
    Counter   "tollgate_decisions_written_total" [] "decision records written to disk";
    Counter   "tollgate_decisions_dropped_total" [] "decision records dropped because the disk did not keep up or could not be written";
    Counter   "tollgate_budget_refusals_total" ["budget"] "attempts that a hard budget could not bear";
    Counter   "tollgate_budget_alerts_total" ["budget", "event"] "alerts of budgets: budget_threshold or budget_projection";
    Gauge     "tollgate_budget_used_ratio" ["budget"] "share of a budget's limit that is spent; of a split one, the largest";
    Gauge     "tollgate_budget_held" ["budget"] "dollars or tokens that are held for requests under way; of a split one, in the part that was spent most";
    Counter   "tollgate_alerts_dropped_total" [] "alerts that found no room";
    Counter   "tollgate_webhooks_total" ["outcome"] "deliveries of alerts to webhooks: ok or failed";
    Counter   "tollgate_store_commits_total" [] "transactions of the database, each of many changes";
    Counter   "tollgate_store_changes_total" [] "changes that the database took";
    Counter   "tollgate_store_lost_total" [] "changes that should be kept and were lost: more waited than `state.spool`, or the database is broken";
    Gauge     "tollgate_store_trouble" [] "1 while the database takes nothing";
    Gauge     "tollgate_outbox_waiting" [] "rows of the ledger that wait on this gateway's disk for PostgreSQL";
    Gauge     "tollgate_outbox_oldest_seconds" [] "how long the first of them has waited";
    Gauge     "tollgate_outbox_trouble" [] "1 while PostgreSQL takes no rows";
    Counter   "tollgate_outbox_shipped_total" [] "rows that PostgreSQL took";
    Counter   "tollgate_outbox_refused_total" [] "rows that PostgreSQL refused; they stay in this gateway's own ledger";
    Gauge     "tollgate_shared_keys_trouble" [] "1 while PostgreSQL does not say which keys, budgets and prices others have changed";
    Gauge     "tollgate_redis_up" [] "1 while Redis helps, 0 while this gateway goes by its share";
    Gauge     "tollgate_redis_answers_up" [] "0 while Redis gives no answer on its second connection, so that kept answers are this gateway's own";
    Gauge     "tollgate_redis_gateways" [] "gateways that share the Redis, this one among them";
    Counter   "tollgate_redis_calls_total" ["outcome"] "calls to Redis that were made: ok, timeout or error";
    Histogram "tollgate_redis_call_seconds" [] "calls to Redis, as long as somebody waited for them";
    Counter   "tollgate_redis_connections_total" [] "connections to Redis that were made";
    Counter   "tollgate_redis_losses_total" [] "times that Redis had lost what it kept, and was told again";
    Counter   "tollgate_redis_alone_total" ["what"] "decisions that were made without Redis; what is limits or budgets";
    Counter   "tollgate_access_log_dropped_total" [] "access log lines dropped because standard output did not keep up";
}

/// Tells the recorder what each metric means.
pub(super) fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

/// Whether a metric of this name is the gateway's own, or a part of a histogram of its own, which policies and plugins may
/// not count.
pub fn is_own(name: &str) -> bool {
    let whole = ["_bucket", "_sum", "_count"].into_iter().find_map(|part| name.strip_suffix(part));
    METRICS.iter().any(|metric| {
        metric.name == name || metric.kind == MetricKind::Histogram && whole == Some(metric.name)
    })
}

/// Whether policies and plugins may give a label this name. Of one that is none, or that histograms have themselves,
/// Prometheus would take no metric at all any more.
pub fn is_label(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !["le", "quantile"].contains(&name)
}

/// The reference table of `docs/operations.md`.
pub fn metrics_markdown() -> String {
    let mut out = String::from("| metric | kind | labels | meaning |\n|---|---|---|---|\n");
    for metric in METRICS {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        // Writing to a String cannot fail.
        let _ =
            writeln!(out, "| `{}` | {kind} | {} | {} |", metric.name, metric.labels.join(", "), metric.help);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_ours_and_named_once() {
        for (place, metric) in METRICS.iter().enumerate() {
            assert!(metric.name.starts_with("tollgate_"), "{}", metric.name);
            assert!(METRICS[..place].iter().all(|m| m.name != metric.name), "{} twice", metric.name);
            // Dollars have decimals, which the exporter's counters do not.
            assert_eq!(
                metric.kind == MetricKind::Counter || metric.name == "tollgate_cost_usd_total",
                metric.name.ends_with("_total"),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn alerts_speak_of_metrics_that_there_are() {
        let alerts = include_str!("../../deploy/prometheus-rules.yaml");
        let page = include_str!("../../docs/deploying.md");
        let is_other = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        let words = [alerts, page].into_iter().flat_map(|text| text.split(is_other));
        let names: Vec<_> = words.filter(|word| word.starts_with(concat!("tollgate", "_"))).collect();
        assert!(names.len() > 30, "{names:?}");
        for name in names {
            assert!(METRICS.iter().any(|metric| metric.name == name), "{name}");
        }
    }

    #[test]
    fn names_that_would_spoil_the_page_are_known() {
        for (name, own) in [("pinned", true), ("duration_seconds_count", true), ("pinned_count", false)] {
            assert_eq!(is_own(&format!("{}{name}", concat!("tollgate", "_policy_"))), own, "{name}");
        }
        for (name, fits) in [("model", true), ("m2_x", true), ("2m", false), ("", false), ("_m", false)] {
            assert_eq!(is_label(name), fits, "{name}");
        }
        assert!(!is_label("le") && !is_label("quantile") && !is_label("größe"));
    }

    #[test]
    fn every_name_in_the_code_stands_in_the_table_and_the_other_way_round() {
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        let mut text = String::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.ends_with("metrics_table.rs") {
                    text.push_str(&std::fs::read_to_string(path).unwrap());
                }
            }
        }
        let counted = |name: &str| text.contains(&format!("\"{name}\""));
        for metric in METRICS {
            assert!(counted(metric.name), "nobody counts {}", metric.name);
        }
        let names = text.split("\"tollgate_").skip(1).filter_map(|rest| rest.split('"').next());
        for name in names.filter(|name| !name.is_empty() && !name.contains([' ', '{', ':'])) {
            assert!(
                METRICS.iter().any(|m| m.name["tollgate_".len()..] == *name),
                "tollgate_{name} is missing"
            );
        }
    }

    /// `TOLLGATE_REWRITE=1` writes the table anew.
    #[test]
    fn the_operations_guide_has_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
        let text = std::fs::read_to_string(path).unwrap();
        let heading = metrics_markdown().lines().next().unwrap().to_owned();
        if let Some((before, rest)) = text.split_once(&heading)
            && std::env::var_os("TOLLGATE_REWRITE").is_some()
        {
            let after = rest.split_once("\n\n").map_or("", |(_, after)| after);
            return std::fs::write(path, format!("{before}{}\n{after}", metrics_markdown())).unwrap();
        }
        assert!(
            text.contains(&metrics_markdown()),
            "docs/operations.md lacks this table:\n{}",
            metrics_markdown()
        );
    }
}
