//! Region, key and signature of a provider at AWS.

use std::sync::Arc;

use super::super::account::{Account, Opened, REGIONS, names_keys};
use super::super::check::{Base, CheckedAws, CheckedProvider, REGION_OF_ENVIRONMENT};
use super::Bench;
use crate::providers::aws::AwsScope;
use crate::providers::{Credential, Lease, SigV4};
use crate::settings::SecretRef;
use crate::target::Origin;

/// The service that signatures are for, by what stands in the host; any other host is Bedrock's usual one.
const SERVICES: [(&str, &str); 2] = [("bedrock-mantle", "bedrock-mantle"), ("", "bedrock")];

/// An origin with the region in its place.
pub(super) fn origin(origin: &Origin, region: Option<&str>) -> Origin {
    match region {
        Some(region) => {
            let host = origin.host.replace(REGION_OF_ENVIRONMENT, region);
            Origin { host: host.into(), ..origin.clone() }
        }
        None => origin.clone(),
    }
}

impl Bench<'_> {
    /// The key that is sent as it is: a configured one, else AWS's API key of the environment.
    pub(super) fn key(&self, provider: &CheckedProvider) -> Option<SecretRef> {
        let of_environment = || {
            let variable = provider.aws.as_ref()?.key_env.as_ref()?;
            // Keys that are named in the configuration count more than what the environment happens to hold.
            let named = provider.aws.as_ref().is_some_and(|aws| names_keys(&aws.settings));
            (!named && self.secrets.is_set(variable)).then(|| SecretRef::Env(variable.clone()))
        };
        provider.keys.first().cloned().or_else(of_environment)
    }

    /// The region of a provider of AWS's; `None` inside where none is needed: for any other, and for requests that bear
    /// a key to a host that is known.
    pub(super) fn region(&mut self, provider: &CheckedProvider, bears_key: bool) -> Option<Option<String>> {
        let Some(aws) = &provider.aws else { return Some(None) };
        let region = aws.region.clone().or_else(|| REGIONS.iter().find_map(|name| self.secrets.plain(name)));
        let placed = |base: &Base| !base.origin.host.contains(REGION_OF_ENVIRONMENT);
        if region.is_some() || bears_key && provider.base.as_ref().is_some_and(placed) {
            return Some(region);
        }
        let message = format!(
            "provider `{}`: no region: set `aws.region`, or AWS_REGION in the environment",
            provider.name
        );
        self.problem(&["providers", &provider.name], message)
    }

    /// What signs the requests.
    pub(super) fn signature(
        &mut self,
        provider: &CheckedProvider,
        aws: &CheckedAws,
        region: String,
    ) -> Option<Credential> {
        let host = provider.base.as_ref().map_or("", |base| &*base.origin.host);
        let (_, service) = SERVICES.iter().find(|(part, _)| host.contains(part))?;
        let scope = AwsScope { region, service };
        let name = &*provider.name;
        match (Account { secrets: self.secrets, settings: &aws.settings }).open(&scope) {
            Ok(Opened::Keys(keys)) => {
                Some(Credential::Signed(Arc::new(SigV4::new(&keys, scope.region, service))))
            }
            Ok(Opened::Role(grant)) => Some(Credential::Leased(Arc::new(Lease::new(grant)))),
            Err((field, what)) => {
                let mut place = vec!["providers", name];
                place.extend(field.into_iter().flat_map(|field| ["aws", field]));
                self.problem(&place, format!("provider `{name}`: {what}"))
            }
        }
    }
}
