//! Where connections may lead: an allow-list of hosts and networks, and no private address that nobody declared.
//!
//! Addresses are judged after the name was resolved, and the connection goes to exactly the address that was judged: a
//! name that leads elsewhere the next time gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::caller::cidr::Cidr;
use crate::fault::{Fault, FaultKind, Retry};
use crate::target::{Origin, Reach};

/// Where upstream connections may lead.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct EgressSettings {
    /// Hosts that may be called: `api.openai.com`, `*.openai.azure.com`. With none here and no networks, all that the
    /// configuration names.
    pub hosts: Vec<String>,
    /// Networks that may be called, whatever host leads there: `203.0.113.0/24`. Private, link-local and metadata
    /// addresses are only ever called where a provider declares them (`private: true`, or a private address in its
    /// `base_url`) or where they stand here.
    pub networks: Vec<String>,
}

/// The rules, read.
#[derive(Debug, Clone, Default)]
pub struct Egress {
    hosts: Vec<String>,
    networks: Vec<Cidr>,
}

impl EgressSettings {
    /// The rules of these settings.
    ///
    /// # Errors
    /// The place of the network that is none, and what is wrong with it.
    pub fn rules(&self) -> Result<Egress, (usize, String)> {
        let networks = self.networks.iter().enumerate();
        let networks = networks.map(|(place, text)| text.parse().map_err(|error| (place, error)));
        let hosts = self.hosts.iter().map(|host| host.trim_end_matches('.').to_ascii_lowercase());
        Ok(Egress { hosts: hosts.collect(), networks: networks.collect::<Result<_, _>>()? })
    }
}

impl Egress {
    /// Whether a host may be called by its name, whatever address it has.
    pub fn allows_host(&self, host: &str) -> bool {
        if self.hosts.is_empty() && self.networks.is_empty() {
            return true;
        }
        let literal = host.parse().is_ok_and(|address| self.has(address));
        literal
            || self.hosts.iter().any(|allowed| match allowed.strip_prefix('*') {
                Some(domain) => {
                    host.len() > domain.len() && host.ends_with(domain) && domain.starts_with('.')
                }
                None => host == allowed,
            })
    }

    /// Whether no list is written but of hosts: then a host that is not on it need not be resolved.
    pub fn is_hosts_only(&self) -> bool {
        self.networks.is_empty()
    }

    /// The addresses of an origin that may be called, in their order.
    ///
    /// # Errors
    /// `Unreachable` when none is left; the text says why, and names no address.
    pub(super) fn admit(&self, origin: &Origin, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Fault> {
        let by_name = self.allows_host(&origin.host);
        let mut refused = "is not on the list of allowed hosts and networks";
        let admitted: Vec<_> = found
            .into_iter()
            .filter(|address| {
                let ip = address.ip();
                if self.has(ip) {
                    return true;
                }
                let (class, enough) = class(ip);
                if class.is_some() && origin.reach < enough {
                    refused = class.unwrap_or_default();
                    return false;
                }
                // What fetches credentials from the machine itself is no upstream.
                by_name || origin.reach == Reach::Machine
            })
            .collect();
        if admitted.is_empty() {
            let text = format!("egress: the host {refused}");
            return Err(Fault::new(FaultKind::Unreachable, text)
                .code("egress_refused")
                .retry(Retry::Elsewhere));
        }
        Ok(admitted)
    }

    fn has(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.has(address))
    }
}

/// What is special about an address, and what must be declared to call it.
fn class(address: IpAddr) -> (Option<&'static str>, Reach) {
    match inner(address) {
        IpAddr::V4(ip) => class_v4(ip),
        IpAddr::V6(ip) => class_v6(ip),
    }
}

const PRIVATE: &str = "leads to a private address, which nobody declared (`private: true`)";
const MACHINE: &str = "leads to a link-local or metadata address";
const NOWHERE: &str = "leads to an address that no server can have";

fn class_v4(ip: Ipv4Addr) -> (Option<&'static str>, Reach) {
    let [a, b, c, d] = ip.octets();
    // Alibaba's and Oracle's metadata services lie outside the link-local block.
    let metadata = matches!([a, b, c, d], [100, 100, 100, 200] | [192, 0, 0, 192]);
    if ip.is_link_local() || metadata {
        return (Some(MACHINE), Reach::Machine);
    }
    let shared = a == 100 && b & 0xc0 == 64; // RFC 6598
    let benchmark = a == 198 && b & 0xfe == 18; // RFC 2544
    if ip.is_loopback() || ip.is_private() || shared || benchmark {
        return (Some(PRIVATE), Reach::Private);
    }
    let protocol = a == 192 && b == 0 && c == 0; // RFC 6890
    if a == 0 || ip.is_broadcast() || ip.is_multicast() || ip.is_documentation() || protocol || a >= 240 {
        return (Some(NOWHERE), Reach::Machine);
    }
    (None, Reach::Public)
}

fn class_v6(ip: Ipv6Addr) -> (Option<&'static str>, Reach) {
    // AWS's metadata service, inside the unique local block.
    let metadata = ip == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
    if ip.is_unicast_link_local() || metadata {
        return (Some(MACHINE), Reach::Machine);
    }
    let site = ip.segments()[0] & 0xffc0 == 0xfec0; // RFC 3879
    if ip.is_loopback() || ip.is_unique_local() || site {
        return (Some(PRIVATE), Reach::Private);
    }
    let documentation = ip.segments()[0] == 0x2001 && ip.segments()[1] == 0xdb8;
    if ip.is_unspecified() || ip.is_multicast() || documentation {
        return (Some(NOWHERE), Reach::Machine);
    }
    (None, Reach::Public)
}

/// The IPv4 address inside an IPv6 one: mapped, compatible, NAT64 (RFC 6052), 6to4 (RFC 3056).
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(ip) = address else { return address };
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return mapped.into();
    }
    let [s0, s1, s2, s3, s4, s5, s6, s7] = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::from([a, b, c, d])
    };
    match (s0, s1, [s2, s3, s4, s5]) {
        (0x64, 0xff9b, [0, 0, 0, 0]) => v4(s6, s7),
        (0x2002, ..) => v4(s1, s2),
        (0, 0, [0, 0, 0, 0]) if s6 != 0 => v4(s6, s7),
        _ => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &str, reach: Reach) -> Origin {
        Origin { tls: true, host: host.into(), port: 443, tls13_only: false, h2c: false, reach }
    }

    fn admitted(egress: &Egress, host: &str, reach: Reach, address: &str) -> bool {
        let address = SocketAddr::new(address.parse().unwrap(), 443);
        egress.admit(&origin(host, reach), vec![address]).is_ok()
    }

    #[test]
    fn addresses_are_called_only_where_they_were_declared() {
        let egress = Egress::default();
        for (address, least) in [
            ("8.8.8.8", Reach::Public),
            ("172.32.0.1", Reach::Public),
            ("2606:4700::1111", Reach::Public),
            ("127.0.0.1", Reach::Private),
            ("127.8.9.10", Reach::Private),
            ("10.0.0.1", Reach::Private),
            ("172.16.3.4", Reach::Private),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("198.18.0.1", Reach::Private),
            ("::1", Reach::Private),
            ("fd12:3456::1", Reach::Private),
            ("fec0::1", Reach::Private),
            ("::ffff:10.0.0.1", Reach::Private),
            ("::ffff:127.0.0.1", Reach::Private),
            ("::127.0.0.1", Reach::Private),
            ("64:ff9b::7f00:1", Reach::Private),
            ("64:ff9b::a00:1", Reach::Private),
            ("2002:7f00:1::", Reach::Private),
            ("2002:c0a8:101::1", Reach::Private),
            ("169.254.169.254", Reach::Machine),
            ("169.254.170.2", Reach::Machine),
            ("100.100.100.200", Reach::Machine),
            ("192.0.0.192", Reach::Machine),
            ("fe80::1", Reach::Machine),
            ("fd00:ec2::254", Reach::Machine),
            ("::ffff:169.254.169.254", Reach::Machine),
            ("64:ff9b::a9fe:a9fe", Reach::Machine),
            ("2002:a9fe:a9fe::", Reach::Machine),
            ("0.0.0.0", Reach::Machine),
            ("::", Reach::Machine),
            ("255.255.255.255", Reach::Machine),
            ("224.0.0.1", Reach::Machine),
            ("ff02::1", Reach::Machine),
            ("240.0.0.1", Reach::Machine),
            ("2001:db8::1", Reach::Machine),
        ] {
            for reach in [Reach::Public, Reach::Private, Reach::Machine] {
                let expected = reach >= least;
                assert_eq!(
                    admitted(&egress, "api.example.com", reach, address),
                    expected,
                    "{address}, {reach:?}"
                );
            }
        }
    }

    #[test]
    fn of_several_addresses_only_the_allowed_ones_are_called() {
        let found =
            ["10.0.0.1", "8.8.8.8", "169.254.169.254"].map(|a| SocketAddr::new(a.parse().unwrap(), 1));
        let admitted = Egress::default().admit(&origin("x.example", Reach::Public), found.into()).unwrap();
        assert_eq!(admitted, ["8.8.8.8:1".parse().unwrap()]);
    }

    #[test]
    fn lists_narrow_and_networks_open() {
        let settings = EgressSettings {
            hosts: vec!["api.openai.com".into(), "*.example.com".into()],
            networks: vec!["10.1.0.0/16".into(), "203.0.113.0/24".into()],
        };
        let egress = settings.rules().unwrap();
        for (host, address, expected) in [
            ("api.openai.com", "8.8.8.8", true),
            ("a.example.com", "8.8.8.8", true),
            ("a.b.example.com", "8.8.8.8", true),
            ("example.com", "8.8.8.8", false),
            ("evilexample.com", "8.8.8.8", false),
            ("elsewhere.org", "8.8.8.8", false),
            ("elsewhere.org", "203.0.113.7", true),
            ("elsewhere.org", "10.1.2.3", true),
            ("api.openai.com", "10.2.0.1", false),
            ("api.openai.com", "169.254.169.254", false),
        ] {
            assert_eq!(admitted(&egress, host, Reach::Public, address), expected, "{host} at {address}");
        }
        assert!(EgressSettings { networks: vec!["10.0.0.0/33".into()], ..settings }.rules().is_err());
    }
}
