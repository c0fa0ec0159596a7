//! Where a PostgreSQL database is, as its address says: never with a password in it.

use std::net::IpAddr;
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};

/// The address of a database, checked.
#[derive(Debug, Clone)]
pub struct Place {
    pub(super) config: Config,
    /// Whether the connection is encrypted, and the server's certificate checked.
    pub tls: bool,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let shape = "write `postgres://USER@HOST:PORT/DATABASE`";
        let (url, mode) = without_mode(url);
        let mut config: Config = url.parse().map_err(|error: tokio_postgres::Error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{shape}; {cause}")
        })?;
        if config.get_password().is_some() {
            return Err("take the password out of the address, and write \
                        `state: { postgres: { password: env:NAME } }`"
                .to_owned());
        }
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(format!("{shape}; it names no host"));
        }
        if config.get_user().is_none() || config.get_dbname().is_none() {
            return Err(format!("{shape}; it names no user or no database"));
        }
        let tls = match mode.as_deref() {
            None => !config.get_hosts().iter().all(is_here),
            Some("disable") => false,
            Some("require" | "verify-ca" | "verify-full") => true,
            Some(other) => {
                return Err(format!(
                    "`sslmode={other}` is not known here: `verify-full` encrypts and checks the certificate, \
                     `disable` does neither"
                ));
            }
        };
        config.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
        Ok(Self { config, tls })
    }
}

/// The same with one host each, in the order in which they are tried, so that each can have a time of its own.
pub(super) fn each_host(config: &Config) -> Vec<Config> {
    let (names, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let mut hosts: Vec<Config> = (0..names.len().max(addresses.len()))
        .map(|at| {
            let mut host = without_hosts(config);
            match names.get(at) {
                Some(Host::Tcp(name)) => drop(host.host(name)),
                Some(Host::Unix(path)) => drop(host.host_path(path)),
                None => {}
            }
            addresses.get(at).map(|address| host.hostaddr(*address));
            // One port is that of all hosts.
            ports.get(at).or(ports.first()).map(|port| host.port(*port));
            host
        })
        .collect();
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        fastrand::shuffle(&mut hosts);
    }
    hosts
}

/// All that an address can say beside its hosts. The password comes later.
fn without_hosts(config: &Config) -> Config {
    let mut bare = Config::new();
    config.get_user().map(|user| bare.user(user));
    config.get_dbname().map(|name| bare.dbname(name));
    config.get_options().map(|options| bare.options(options));
    config.get_application_name().map(|name| bare.application_name(name));
    config.get_connect_timeout().map(|timeout| bare.connect_timeout(*timeout));
    config.get_tcp_user_timeout().map(|timeout| bare.tcp_user_timeout(*timeout));
    config.get_keepalives_interval().map(|interval| bare.keepalives_interval(interval));
    config.get_keepalives_retries().map(|retries| bare.keepalives_retries(retries));
    bare.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding());
    bare
}

/// The address without its `sslmode`, whose words the client library does not all know.
fn without_mode(url: &str) -> (String, Option<String>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut mode = None;
    let rest: Vec<&str> = query
        .split('&')
        .filter(|pair| match pair.strip_prefix("sslmode=") {
            Some(word) => {
                mode = Some(word.to_owned());
                false
            }
            None => !pair.is_empty(),
        })
        .collect();
    let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
    (url, mode)
}

/// Whether nobody else can listen on the way there.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_checked_before_anybody_connects() {
        let check = |url: &str, expected: Result<bool, &str>| match (url.parse::<Place>(), expected) {
            (Ok(place), Ok(tls)) => assert_eq!(place.tls, tls, "{url}"),
            (Err(error), Err(part)) => assert!(error.contains(part), "{url}: {error}"),
            (Ok(_), Err(part)) => panic!("{url} was taken, without: {part}"),
            (Err(error), Ok(_)) => panic!("{url}: {error}"),
        };
        check("postgres://tollgate@db.example.com/ledger", Ok(true));
        check("postgresql://tollgate@db.example.com:6432/ledger?sslmode=verify-full", Ok(true));
        check("postgres://tollgate@db.example.com/ledger?sslmode=disable", Ok(false));
        check("postgres://tollgate@127.0.0.1:5432/ledger", Ok(false));
        check("postgres://tollgate@localhost/ledger?sslmode=require", Ok(true));
        check("postgres://tollgate@%2Fvar%2Frun%2Fpostgresql/ledger", Ok(false));
        check("postgres://a@db1,db2/ledger?target_session_attrs=read-write&sslmode=require", Ok(true));
        check("postgres://tollgate:hunter2@db/ledger", Err("take the password out"));
        check("postgres://tollgate@db/ledger?sslmode=prefer", Err("`sslmode=prefer` is not known"));
        check("postgres://db/ledger", Err("names no user"));
        check("postgres://tollgate@db", Err("no database"));
        check("postgres://tollgate@db:port/x", Err("write `postgres://"));
    }

    #[test]
    fn each_host_has_all_that_the_address_says() {
        let url = "postgres://a@db1:1,db2:2/d?target_session_attrs=read-write&options=-cx%3Dy&keepalives_interval=7";
        let place: Place = url.parse().unwrap();
        let hosts = each_host(&place.config);
        let seen: Vec<_> = hosts.iter().map(|host| (host.get_hosts().to_vec(), host.get_ports())).collect();
        let name = |name: &str| vec![Host::Tcp(name.to_owned())];
        assert_eq!(seen, [(name("db1"), &[1][..]), (name("db2"), &[2][..])]);
        for one in ["postgres://a@db1:1/d", "postgres://a@db2:2/d"].into_iter().zip(&hosts) {
            let alone: Place = one.0.parse().unwrap();
            let mut alone = alone.config;
            alone.options("-cx=y").keepalives_interval(std::time::Duration::from_secs(7));
            alone.target_session_attrs(tokio_postgres::config::TargetSessionAttrs::ReadWrite);
            assert_eq!(one.1, &alone);
        }
    }
}
