//! What the configuration says of stores of secrets: where they are, as whom they are asked, for how long.

use std::time::Duration;

use super::Desk;
use super::aws::is_region;
use super::base_url::base;

/// The shortest and longest time of each period.
const PERIODS: [(&str, Duration, Duration); 4] = [
    ("refresh", Duration::from_secs(1), Duration::from_secs(86_400)),
    ("grace", Duration::ZERO, Duration::from_secs(7 * 86_400)),
    ("timeout", Duration::from_millis(100), Duration::from_secs(60)),
    ("overlap", Duration::ZERO, Duration::from_secs(86_400)),
];

impl Desk<'_> {
    /// Checks the section `secrets`.
    pub(super) fn vaults(&mut self) {
        let settings = self.reading.config.secrets.clone();
        for ((name, least, most), period) in
            PERIODS.into_iter().zip([settings.refresh, settings.grace, settings.timeout, settings.overlap])
        {
            if !(least..=most).contains(&period.0) {
                let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
                let message = format!("`secrets.{name}` is not between {least} and {most}");
                self.error(&["secrets", name], message, None);
            }
        }
        for (place, reference) in settings.own().filter(|(_, reference)| reference.is_remote()) {
            let path = [&["secrets"], place].concat();
            let message = format!("`{reference}` would open a store with what stands in a store");
            self.error(&path, message, Some("use `env:NAME`, `file:PATH` or `keystore:NAME`".into()));
        }
        let addresses = [
            (
                ["secrets", "vault", "address"],
                settings.vault.as_ref().and_then(|vault| vault.address.as_deref()),
            ),
            (["secrets", "aws", "endpoint"], settings.aws.endpoint.as_deref()),
        ];
        for (path, url) in addresses.into_iter().filter_map(|(path, url)| Some((path, url?))) {
            if let Err(what) = base(url) {
                self.error(
                    &path,
                    format!("the address {what}"),
                    Some("try \"https://vault.example:8200\"".into()),
                );
            }
        }
        if let Some(vault) = &settings.vault {
            if vault.token.is_some() && vault.app_role.is_some() {
                let message = "Vault is asked with a token or by AppRole, not both";
                self.error(
                    &["secrets", "vault", "token"],
                    message,
                    Some("take `token` or `app_role` out".into()),
                );
            }
            let mounts = [
                (&["secrets", "vault", "mount"][..], vault.mount.as_deref()),
                (
                    &["secrets", "vault", "app_role", "mount"][..],
                    vault.app_role.as_ref().and_then(|role| role.mount.as_deref()),
                ),
            ];
            for (path, _) in
                mounts.into_iter().filter(|(_, mount)| mount.is_some_and(|mount| !is_mount(mount)))
            {
                self.error(
                    path,
                    "this is not the path of a mount",
                    Some("try \"secret\" or \"team/kv\"".into()),
                );
            }
            if vault.namespace.as_deref().is_some_and(|name| !name.bytes().all(|b| b.is_ascii_graphic())) {
                self.error(&["secrets", "vault", "namespace"], "this is not the name of a namespace", None);
            }
        }
        let aws = &settings.aws;
        if aws.region.as_deref().is_some_and(|region| !is_region(region)) {
            let help = Some("try \"eu-central-1\"".to_owned());
            self.error(&["secrets", "aws", "region"], "this is not the name of a region", help);
        }
        let halves = [
            ("access_key_id", aws.access_key_id.is_some()),
            ("secret_access_key", aws.secret_access_key.is_some()),
        ];
        if let [(_, true), (missing, false)] | [(missing, false), (_, true)] = halves {
            self.error(&["secrets", "aws", missing], format!("`secrets.aws` lacks `{missing}`"), None);
        }
    }
}

fn is_mount(text: &str) -> bool {
    let is_segment = |segment: &str| {
        let plain = segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        !segment.is_empty() && !matches!(segment, "." | "..") && plain
    };
    text.split('/').all(is_segment)
}

#[cfg(test)]
mod tests {
    use crate::house::{Diagnostic, Shipped, check, read};

    fn findings(secrets: &str) -> Vec<String> {
        let text = format!("secrets: {secrets}");
        let all = check(read("t.yaml", &text), &Shipped).map_or_else(|all| all, |(_, warnings)| warnings);
        all.0.iter().map(Diagnostic::headline).collect()
    }

    #[test]
    fn what_cannot_be_is_said_with_its_place() {
        for (secrets, part) in [
            ("{ refresh: 10ms }", "`secrets.refresh` is not between 1s and 1day"),
            ("{ grace: 30days }", "`secrets.grace` is not between 0s and 7days"),
            ("{ timeout: 10m }", "`secrets.timeout`"),
            ("{ vault: { address: 'vault:8200' } }", "t.yaml:1:30: error: the address does not begin with"),
            ("{ vault: { address: 'http://vault.example.com' } }", "over the open network"),
            ("{ vault: { token: env:A, app_role: { role_id: env:B, secret_id: env:C } } }", "not both"),
            ("{ vault: { token: 'vault:a#b' } }", "`vault:a#b` would open a store"),
            ("{ vault: { app_role: { role_id: env:A } } }", "secret_id"),
            ("{ vault: { mount: /secret/ } }", "not the path of a mount"),
            ("{ vault: { adress: x } }", "unknown field `secrets.vault.adress`"),
            ("{ aws: { region: Europe } }", "not the name of a region"),
            ("{ aws: { access_key_id: env:A } }", "lacks `secret_access_key`"),
            ("{ aws: { endpoint: 'ftp://x' } }", "the address does not begin"),
            ("{ vault: { token: hvs.abcdef } }", "not a reference to a secret"),
        ] {
            let found = findings(secrets);
            assert!(found.len() == 1 && found[0].contains(part), "{secrets}: {found:?}");
            assert!(!found[0].contains("abcdef"), "{found:?}");
        }
        for secrets in [
            "",
            "{ refresh: 1m, grace: 0s, vault: { address: 'https://vault.example.com:8200', token: file:token } }",
            "{ vault: { address: 'http://127.0.0.1:8200', mount: team/kv, app_role: { role_id: env:A, secret_id: file:b } } }",
            "{ aws: { region: eu-west-1, access_key_id: env:A, secret_access_key: env:B } }",
        ] {
            assert!(findings(secrets).is_empty(), "{secrets}: {:?}", findings(secrets));
        }
    }
}
