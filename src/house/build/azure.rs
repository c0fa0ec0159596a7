//! Credentials and address of a provider on Azure.

use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::super::check::{Base, CheckedAzure, CheckedProvider, base};
use super::Bench;
use crate::providers::azure::{Application, ManagedIdentity, Proof, SCOPE};
use crate::providers::{Credential, Grant, Lease};
use crate::settings::SecretRef;

impl Bench<'_> {
    /// The address in the environment, where the configuration names none.
    pub(super) fn azure_base(&mut self, provider: &CheckedProvider, azure: &CheckedAzure) -> Option<Base> {
        let name = &*provider.name;
        let Some(url) = self.secrets.plain("AZURE_OPENAI_ENDPOINT") else {
            let message =
                format!("provider `{name}`: no resource is known: set `azure.resource`, or `base_url`");
            return self.problem(&["providers", name], message);
        };
        match base(url.trim_end_matches('/')) {
            Ok(base) => Some(azure.below(base)),
            Err(what) => {
                self.problem(&["providers", name], format!("provider `{name}`: AZURE_OPENAI_ENDPOINT {what}"))
            }
        }
    }

    /// Entra ID's token, where the configuration asks for one, or the environment has what it takes and no key.
    pub(super) fn entra(&mut self, provider: &CheckedProvider, azure: &CheckedAzure) -> Option<Credential> {
        let has_key = provider.keys.first().is_some_and(|key| match key {
            SecretRef::Env(variable) => self.secrets.plain(variable).is_some(),
            _ => true,
        });
        if has_key && !azure.wants_entra() {
            return Some(Credential::Headers);
        }
        match self.grant(azure) {
            Ok(Some(grant)) => Some(Credential::Leased(Arc::new(Lease::new(grant)))),
            Ok(None) => Some(Credential::Headers),
            Err(complaint) => {
                let name = &*provider.name;
                self.problem(&["providers", name, "azure"], format!("provider `{name}`: {complaint}"))
            }
        }
    }

    /// `None` where nothing is said of Entra ID.
    fn grant(&self, azure: &CheckedAzure) -> Result<Option<Box<dyn Grant>>, String> {
        let (settings, plain) = (&azure.settings, |variable: &str| self.secrets.plain(variable));
        let scope = settings.scope.as_deref().unwrap_or(SCOPE);
        let client = settings.client_id.clone().or_else(|| plain("AZURE_CLIENT_ID"));
        if settings.managed_identity {
            let service = plain("IDENTITY_ENDPOINT").zip(plain("IDENTITY_HEADER"));
            let service = service.as_ref().map(|(url, secret)| (url.as_str(), secret.as_str()));
            return Ok(Some(Box::new(ManagedIdentity::new(service, client.as_deref(), scope)?)));
        }
        let proof = match &settings.client_secret {
            Some(reference) => Some(Proof::Secret(self.secrets.document(reference)?)),
            None => plain("AZURE_CLIENT_SECRET").map(|secret| Proof::Secret(Zeroizing::new(secret))),
        };
        let file = || plain("AZURE_FEDERATED_TOKEN_FILE").map(|path| Proof::File(PathBuf::from(path)));
        let Some(proof) = proof.or_else(file) else { return Ok(None) };
        let tenant = settings.tenant.clone().or_else(|| plain("AZURE_TENANT_ID"));
        let tenant = tenant.ok_or("`azure.tenant` is not set, nor is AZURE_TENANT_ID")?;
        let client = client.ok_or("`azure.client_id` is not set, nor is AZURE_CLIENT_ID")?;
        let authority = plain("AZURE_AUTHORITY_HOST");
        let application = Application::new(authority.as_deref(), &tenant, &client, scope, proof)?;
        Ok(Some(Box::new(application)))
    }
}
