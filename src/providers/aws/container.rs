//! The role of a container: ECS, Fargate, and EKS with pod identities.
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>

use std::path::PathBuf;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use http::uri::PathAndQuery;
use zeroize::Zeroizing;

use super::{AwsScope, malformed};
use crate::fault::Fault;
use crate::providers::grant::{Grant, GrantAnswer, GrantAsk, GrantStep, identity};
use crate::providers::locate::locate;
use crate::target::Origin;

/// Where ECS answers.
const ECS: &str = "http://169.254.170.2";

/// Keys of a container's role.
pub struct Container {
    scope: AwsScope,
    place: (Origin, PathAndQuery),
    token: Option<ContainerToken>,
    identity: [u8; 32],
}

/// What the container shows for itself.
pub enum ContainerToken {
    /// A file, read anew every time: it changes.
    File(PathBuf),
    /// The value of a header.
    Text(Zeroizing<String>),
}

impl Container {
    /// By a path at ECS's usual address (`/v2/credentials/…`), or a whole URL.
    ///
    /// # Errors
    /// What is wrong with the URL.
    pub fn new(scope: AwsScope, uri: &str, token: Option<ContainerToken>) -> Result<Self, String> {
        let url = if uri.starts_with('/') { format!("{ECS}{uri}") } else { uri.to_owned() };
        let place = locate(&url)?;
        let shown = match &token {
            Some(ContainerToken::File(path)) => path.display().to_string(),
            Some(ContainerToken::Text(text)) => text.to_string(),
            None => String::new(),
        };
        let parts = ["container", &url, &scope.region, scope.service, &*Zeroizing::new(shown)];
        let identity = identity(&parts.map(str::as_bytes));
        Ok(Self { scope, place, token, identity })
    }

    fn ask(&self, token: Option<&str>) -> Result<GrantStep, Fault> {
        let (origin, path) = self.place.clone();
        let ask = GrantAsk::get(origin, path);
        let Some(token) = token else { return Ok(ask.into()) };
        let mut value = HeaderValue::from_str(token.trim())
            .map_err(|_| malformed("the container's token cannot stand in a header"))?;
        value.set_sensitive(true);
        Ok(ask.with(AUTHORIZATION, value).into())
    }
}

impl Grant for Container {
    fn step(&self, answers: &[GrantAnswer], unix_ms: u64) -> Result<GrantStep, Fault> {
        let keys = match (&self.token, answers) {
            (Some(ContainerToken::File(path)), []) => return Ok(GrantStep::Read(path.clone())),
            (Some(ContainerToken::File(_)), [file]) => return self.ask(Some(text(file, unix_ms)?)),
            (Some(ContainerToken::Text(text)), []) => return self.ask(Some(text)),
            (None, []) => return self.ask(None),
            (_, answers) => answers.last(),
        };
        let keys = keys.ok_or_else(|| malformed("there is no answer"))?.object(unix_ms)?;
        Ok(GrantStep::Done(self.scope.granted(&keys, unix_ms)?))
    }

    fn identity(&self) -> [u8; 32] {
        self.identity
    }
}

/// The text of a file or of an answer.
pub(super) fn text(answer: &GrantAnswer, unix_ms: u64) -> Result<&str, Fault> {
    if !(200..300).contains(&answer.status) {
        return Err(answer.fault(unix_ms));
    }
    let text = std::str::from_utf8(&answer.body).ok().map(str::trim).filter(|text| !text.is_empty());
    text.ok_or_else(|| malformed("the answer is no text"))
}
