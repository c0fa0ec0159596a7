//! Settings of what several gateways share.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::course::Address;
use crate::settings::{LocalRef, Period};

/// What several gateways share over one Redis or Valkey: counts of limits, budgets, kept answers, what breakers know.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct RedisSettings {
    /// Where it is: `redis://HOST:PORT/DATABASE`, or `rediss://` for TLS. Without a password: that is named by
    /// `password`. Several hosts (`HOST:PORT,HOST:PORT`) are tried in turn until one helps: servers of a cluster, of
    /// which one is enough, or a primary and its replicas.
    pub url: String,
    /// How Sentinels call the primary, where `url` names Sentinels: `mymaster`.
    pub sentinel: Option<String>,
    /// The user, where it knows several.
    pub username: Option<String>,
    /// Its password, by reference: `env:NAME`, `file:PATH` or `keystore:NAME`.
    pub password: Option<LocalRef>,
    /// A file with the certificates that are trusted for `rediss://`, in PEM, instead of those of the system.
    pub ca: Option<PathBuf>,
    /// All keys begin with it, in braces. Gateways with the same prefix share; others do not meet.
    pub prefix: String,
    /// How long one call may take. What takes longer counts as a failure, and the request goes on without.
    pub timeout: Period,
    /// How long what a gateway holds stays held when nothing more is heard of it.
    pub lease: Period,
    /// What limits and hard budgets do while Redis is away: each gateway has its `share` of what was left, or they
    /// are `closed`: what they count is refused with 503.
    pub on_loss: OnRedisLoss,
    /// How long a share lasts; afterwards it is as with `closed`.
    pub max_outage: Period,
    /// Whether limits towards clients count over all gateways.
    pub limits: bool,
    /// Whether budgets count over all gateways.
    pub budgets: bool,
    /// Whether answers of the cache, those kept for an `Idempotency-Key`, and those that providers make in the background are
    /// found by all gateways.
    pub cache: bool,
    /// Whether gateways tell each other of targets that fail.
    pub hints: bool,
}

/// Where servers and Sentinels listen unless it is written.
const PORT: u16 = 6_379;
const SENTINEL_PORT: u16 = 26_379;

/// What happens while Redis is away.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OnRedisLoss {
    /// Each gateway has its part of what was left.
    #[default]
    Share,
    /// What is counted is refused.
    Closed,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            sentinel: None,
            username: None,
            password: None,
            ca: None,
            prefix: "tollgate".into(),
            timeout: Period::millis(50),
            lease: Period::secs(10),
            on_loss: OnRedisLoss::Share,
            max_outage: Period::secs(300),
            limits: true,
            budgets: true,
            cache: true,
            hints: true,
        }
    }
}

/// Where a Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// At least one.
    pub(super) addresses: Vec<Address>,
    pub(super) database: i64,
    pub(super) tls: bool,
}

impl RedisSettings {
    /// What is wrong with them: the key and the complaint.
    pub fn complaints(&self) -> Vec<(&'static str, String)> {
        let mut complaints = Vec::new();
        if let Err(what) = self.place() {
            complaints.push(("url", what));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if self.prefix.is_empty() || self.prefix.len() > 64 || !self.prefix.chars().all(plain) {
            complaints.push(("prefix", "a prefix has 1 to 64 letters, digits, or any of `-_.:`".to_owned()));
        }
        let within = |period: Period, least: u64, most: u64| {
            (Duration::from_millis(least)..=Duration::from_millis(most)).contains(&period.0)
        };
        if !within(self.timeout, 1, 5_000) {
            complaints.push(("timeout", "must be from 1ms to 5s".to_owned()));
        }
        if !within(self.lease, 2_000, 600_000) {
            complaints.push(("lease", "must be from 2s to 10m".to_owned()));
        }
        if self.sentinel.as_deref() == Some("") {
            let what = "the name of the primary, as in `sentinel monitor NAME …`";
            complaints.push(("sentinel", what.to_owned()));
        }
        if self.ca.is_some() && self.place().is_ok_and(|place| !place.tls) {
            complaints.push(("ca", "is for `rediss://` only".to_owned()));
        }
        if self.username.is_some() && self.password.is_none() {
            complaints.push(("username", "needs a `password` beside it".to_owned()));
        }
        complaints
    }

    /// Where it is.
    ///
    /// # Errors
    /// What to write instead.
    pub fn place(&self) -> Result<Place, String> {
        const FORM: &str =
            "write `redis://HOST:PORT/DATABASE`, for example `redis://127.0.0.1:6379`, or `rediss://…`";
        let (tls, rest) = match self.url.split_once("://") {
            Some(("redis", rest)) => (false, rest),
            Some(("rediss", rest)) => (true, rest),
            _ => return Err(FORM.to_owned()),
        };
        if rest.contains('@') {
            return Err(
                "user and password do not stand here: use `username`, and `password: env:NAME`".into()
            );
        }
        if rest.contains(['?', '#', ' ']) {
            return Err(FORM.to_owned());
        }
        let (authorities, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = if database.is_empty() { Ok(0) } else { database.parse() };
        let database = database.ok().filter(|n: &i64| (0..1 << 16).contains(n)).ok_or(FORM)?;
        let port = if self.sentinel.is_some() { SENTINEL_PORT } else { PORT };
        let addresses = authorities.split(',').map(|authority| address(authority, port).ok_or(FORM));
        Ok(Place { addresses: addresses.collect::<Result<_, _>>()?, database, tls })
    }
}

/// `HOST`, `HOST:PORT` or `[HOST]:PORT`.
fn address(authority: &str, usual: u16) -> Option<Address> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
            (host, port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = port.map_or(Some(usual), |port| port.parse().ok())?;
    let is_one = !host.is_empty() && (!host.contains(':') || authority.starts_with('['));
    is_one.then(|| Address { host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_passwords_are_not_to_stand_in_them() {
        let place = |url: &str| RedisSettings { url: url.into(), ..RedisSettings::default() }.place();
        let at = |host: &str, port: u16| Address { host: host.into(), port };
        for (url, addresses, database, tls) in [
            ("redis://cache", vec![at("cache", 6_379)], 0, false),
            ("redis://10.0.0.1:7000/3", vec![at("10.0.0.1", 7_000)], 3, false),
            ("rediss://[::1]:6380", vec![at("::1", 6_380)], 0, true),
            ("redis://[fd00::7]/1", vec![at("fd00::7", 6_379)], 1, false),
            (
                "redis://a:7000,b,[::1]:7002/1",
                vec![at("a", 7_000), at("b", 6_379), at("::1", 7_002)],
                1,
                false,
            ),
        ] {
            assert_eq!(place(url), Ok(Place { addresses, database, tls }), "{url}");
        }
        let sentinel = Some("mymaster".to_owned());
        let sentinels = RedisSettings { url: "redis://s1,s2:5".into(), sentinel, ..RedisSettings::default() };
        assert_eq!(sentinels.place().unwrap().addresses, [at("s1", 26_379), at("s2", 5)]);
        for url in [
            "",
            "cache:6379",
            "http://x",
            "redis://",
            "redis://h:x",
            "redis://h/-1",
            "redis://h/x",
            "redis://a:b:c",
            "redis://a,",
            "redis://[::1]x",
        ] {
            assert!(place(url).unwrap_err().starts_with("write `redis://HOST"), "{url}");
        }
        assert!(place("redis://user:pw@h").unwrap_err().contains("password: env:NAME"));
    }
}
