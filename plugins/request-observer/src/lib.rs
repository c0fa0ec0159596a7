//! An observer: counts requests, tokens and money by target and team, and writes a line for those that were slow, dear
//! or failed. It never sees a prompt.

mod config;

use tollgate_plugin::prelude::*;
use tollgate_plugin::{log, metrics};

use config::Config;

/// The observer: what it measures and when it speaks.
#[derive(Debug)]
pub struct RequestObserver(Config);

impl Plugin for RequestObserver {
    type Config = Config;
    const NEEDS: Needs = Needs::empty();

    fn new(config: Config) -> Result<Self, String> {
        Ok(RequestObserver(config))
    }
}

impl Observe for RequestObserver {
    fn complete(&self, ctx: &RequestContext, outcome: &Outcome) {
        let team = self.team(ctx);
        let labels = [("target", outcome.target.as_str()), ("team", team), ("status", class(outcome.status))];
        let (target_and_team, target) = (&labels[..2], &labels[..1]);
        metrics::add("requests", &labels, 1.0);
        metrics::add("cost_dollars", target_and_team, outcome.cost_micros as f64 / 1e6);
        metrics::add("prompt_tokens", target_and_team, f64::from(outcome.usage.prompt));
        metrics::add("completion_tokens", target_and_team, f64::from(outcome.usage.completion));
        if let Some(first) = outcome.first_token_ms {
            metrics::observe("first_token_seconds", target, f64::from(first) / 1e3);
        }
        if outcome.attempts.len() > 1 {
            metrics::add("fallbacks", target, (outcome.attempts.len() - 1) as f64);
        }
        if let Some(why) = self.worth_a_line(outcome) {
            let id = &ctx.request_id;
            let Outcome { target, status, duration_ms, cost_micros, .. } = outcome;
            log::warn(format_args!(
                "{why}: request {id}, team {team}, {target}, status {status}, {duration_ms} ms, {cost_micros} micro-dollars{}",
                attempts(outcome)
            ));
        }
    }
}

impl RequestObserver {
    /// The team, where it is one of the configured; others are one, so that no client makes series of numbers.
    fn team<'a>(&self, ctx: &'a RequestContext) -> &'a str {
        match ctx.principal.team.as_deref() {
            None => "none",
            Some(team) if self.0.teams.is_empty() || self.0.teams.iter().any(|known| known == team) => team,
            Some(_) => "other",
        }
    }

    fn worth_a_line(&self, outcome: &Outcome) -> Option<&'static str> {
        if outcome.status >= 500 {
            return Some("failed");
        }
        if self.0.slow_ms.is_some_and(|slow| outcome.duration_ms >= slow) {
            return Some("slow");
        }
        self.0.dear_micros.is_some_and(|dear| outcome.cost_micros >= dear).then_some("dear")
    }
}

/// What was tried before, and why it did not do.
fn attempts(outcome: &Outcome) -> String {
    let failed = outcome.attempts.iter().filter_map(|attempt| {
        let kind = attempt.error_kind.as_deref()?;
        Some(format!("{} {kind} after {} ms", attempt.target, attempt.duration_ms))
    });
    let failed: Vec<String> = failed.collect();
    if failed.is_empty() { String::new() } else { format!("; before: {}", failed.join(", ")) }
}

fn class(status: u16) -> &'static str {
    match status {
        0..400 => "ok",
        400..500 => "refused",
        _ => "failed",
    }
}

tollgate_plugin::export!(RequestObserver: observe);

#[cfg(test)]
mod tests {
    use tollgate_plugin::Attempt;
    use tollgate_plugin::testing::{Host, context, outcome, plugin};

    use super::*;

    fn observe(config: &str, team: Option<&str>, outcome: &Outcome) -> Host {
        let _ = Host::take();
        let mut ctx = context();
        ctx.principal.team = team.map(str::to_owned);
        plugin::<RequestObserver>(config).unwrap().complete(&ctx, outcome);
        Host::take()
    }

    fn told(host: &Host) -> Vec<String> {
        let labels = |labels: &[(String, String)]| {
            labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
        };
        host.measures.iter().map(|m| format!("{}{{{}}} {}", m.name, labels(&m.labels), m.value)).collect()
    }

    #[test]
    fn every_request_is_measured() {
        let host = observe("{}", Some("web"), &outcome("openai/gpt-5"));
        let expected = [
            "requests{target=openai/gpt-5,team=web,status=ok} 1",
            "cost_dollars{target=openai/gpt-5,team=web} 0.001",
            "prompt_tokens{target=openai/gpt-5,team=web} 100",
            "completion_tokens{target=openai/gpt-5,team=web} 20",
            "first_token_seconds{target=openai/gpt-5} 0.2",
        ];
        assert_eq!(told(&host), expected);
        assert!(host.lines.is_empty());
    }

    #[test]
    fn the_slow_the_dear_and_the_failed_get_a_line() {
        let config = r#"{ "slow_ms": 5000, "dear_micros": 2000 }"#;
        let check = |status: u16, duration_ms: u32, cost_micros: u64, expected: Option<&str>| {
            let host = observe(config, None, &Outcome { status, duration_ms, cost_micros, ..outcome("a/b") });
            let line = host.lines.first().map(|line| line.message.as_str());
            assert_eq!(line, expected, "{status} {duration_ms} {cost_micros}");
        };
        check(200, 800, 1000, None);
        check(400, 800, 1000, None);
        check(
            200,
            5000,
            1000,
            Some("slow: request req-1, team none, a/b, status 200, 5000 ms, 1000 micro-dollars"),
        );
        check(
            200,
            800,
            2000,
            Some("dear: request req-1, team none, a/b, status 200, 800 ms, 2000 micro-dollars"),
        );
        check(
            502,
            800,
            0,
            Some("failed: request req-1, team none, a/b, status 502, 800 ms, 0 micro-dollars"),
        );
    }

    #[test]
    fn what_was_tried_before_is_told() {
        let tried = |target: &str, kind: Option<&str>| Attempt {
            target: target.into(),
            status: 0,
            error_kind: kind.map(str::to_owned),
            duration_ms: 10,
        };
        let attempts = vec![tried("a/b", Some("overloaded")), tried("c/d", None)];
        let host = observe(r#"{ "slow_ms": 1 }"#, None, &Outcome { attempts, ..outcome("c/d") });
        assert!(host.lines[0].message.ends_with("; before: a/b overloaded after 10 ms"), "{:?}", host.lines);
        assert!(told(&host).contains(&"fallbacks{target=c/d} 1".to_owned()), "{:?}", told(&host));
    }

    #[test]
    fn teams_that_nobody_configured_are_one() {
        let host = observe(r#"{ "teams": ["web"] }"#, Some("hacker-4711"), &outcome("a/b"));
        assert!(told(&host)[0].contains("team=other"), "{:?}", told(&host));
    }
}
