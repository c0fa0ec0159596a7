//! The role of a machine: EC2's metadata service, second version.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html>

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};

use super::container::text;
use super::{AwsScope, malformed};
use crate::fault::Fault;
use crate::providers::grant::{Grant, GrantAnswer, GrantAsk, GrantStep, identity};
use crate::providers::locate::locate;
use crate::target::Origin;

const HOST: &str = "http://169.254.169.254";
const SESSION: &str = "/latest/api/token";
const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
/// How long a session with the service lives, in seconds; six hours are the most.
const LIFE: HeaderValue = HeaderValue::from_static("300");

/// Keys of a machine's role.
pub struct Machine {
    scope: AwsScope,
    origin: Origin,
}

impl Machine {
    /// By the usual address, or the one that `AWS_EC2_METADATA_SERVICE_ENDPOINT` names.
    ///
    /// # Errors
    /// When that is none.
    pub fn new(scope: AwsScope, endpoint: Option<&str>) -> Result<Self, String> {
        let (origin, _) = locate(endpoint.unwrap_or(HOST))?;
        Ok(Self { scope, origin })
    }

    fn ask(&self, path: &str, session: &str) -> Result<GrantStep, Fault> {
        let path = PathAndQuery::try_from(path).map_err(|_| malformed("the role's name is none"))?;
        let mut session = HeaderValue::from_str(session)
            .map_err(|_| malformed("the session's token cannot stand in a header"))?;
        session.set_sensitive(true);
        let name = HeaderName::from_static("x-aws-ec2-metadata-token");
        Ok(GrantAsk::get(self.origin.clone(), path).with(name, session).into())
    }
}

impl Grant for Machine {
    fn step(&self, answers: &[GrantAnswer], unix_ms: u64) -> Result<GrantStep, Fault> {
        match answers {
            [] => {
                let name = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
                let mut ask = GrantAsk::get(self.origin.clone(), PathAndQuery::from_static(SESSION));
                ask.method = Method::PUT;
                Ok(ask.with(name, LIFE).into())
            }
            [session] => self.ask(ROLES, text(session, unix_ms)?),
            [session, roles] => {
                // One role in a line; a machine has one.
                let role = text(roles, unix_ms)?.lines().next().unwrap_or_default().trim();
                self.ask(&format!("{ROLES}{role}"), text(session, unix_ms)?)
            }
            [.., keys] => Ok(GrantStep::Done(self.scope.granted(&keys.object(unix_ms)?, unix_ms)?)),
        }
    }

    fn identity(&self) -> [u8; 32] {
        let parts = ["machine", &self.origin.authority(), &self.scope.region, self.scope.service];
        identity(&parts.map(str::as_bytes))
    }
}
