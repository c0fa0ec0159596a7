//! A person's refresh token, as `gcloud auth application-default login` leaves it behind.

use std::sync::Arc;

use http::uri::PathAndQuery;
use zeroize::Zeroizing;

use super::{Fields, TOKEN_URL, billed, optional, required};
use crate::fault::Fault;
use crate::providers::grant::{Grant, GrantAnswer, GrantAsk, GrantStep, Granted, bearer, identity};
use crate::providers::locate::locate;
use crate::target::Origin;

pub(super) struct User {
    id: String,
    secret: Zeroizing<String>,
    refresh_token: Zeroizing<String>,
    quota_project: Option<String>,
    place: (Origin, PathAndQuery),
    identity: [u8; 32],
}

impl User {
    pub(super) fn read(fields: &Fields) -> Result<Self, String> {
        let (id, secret) = (required(fields, "client_id")?, required(fields, "client_secret")?);
        let token = required(fields, "refresh_token")?;
        let url = optional(fields, "token_uri").unwrap_or(TOKEN_URL);
        let quota = optional(fields, "quota_project_id");
        let quota_bytes = quota.unwrap_or_default().as_bytes();
        let parts = [id.as_bytes(), secret.as_bytes(), token.as_bytes(), url.as_bytes(), quota_bytes];
        Ok(Self {
            id: id.to_owned(),
            secret: Zeroizing::new(secret.to_owned()),
            refresh_token: Zeroizing::new(token.to_owned()),
            quota_project: quota.map(str::to_owned),
            place: locate(url).map_err(|what| format!("`token_uri` {what}"))?,
            identity: identity(&parts),
        })
    }
}

impl Grant for User {
    fn step(&self, answers: &[GrantAnswer], unix_ms: u64) -> Result<GrantStep, Fault> {
        if let Some(answer) = answers.first() {
            let (signer, expires_ms) = bearer(answer, unix_ms)?;
            let signer = Arc::new(billed(signer, self.quota_project.as_deref()));
            return Ok(GrantStep::Done(Granted { signer, expires_ms }));
        }
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &*self.id),
            ("client_secret", &**self.secret),
            ("refresh_token", &**self.refresh_token),
        ];
        let (origin, path) = self.place.clone();
        Ok(GrantAsk::form(origin, path, &fields).into())
    }

    fn identity(&self) -> [u8; 32] {
        self.identity
    }
}
