//! Where an administrator's command is carried out: in the database, or by the gateway that has it open.

use std::path::PathBuf;

use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::house::{House, base};
use crate::keys::KeyDesk;
use crate::target::Origin;
use crate::upstream::{Outbound, Upstream};

/// For one call.
const CONNECT: std::time::Duration = std::time::Duration::from_secs(3);
const MOST: u64 = 16 << 20;

/// Which gateway.
#[derive(Debug, clap::Args)]
pub(super) struct GatewayArg {
    /// Address of a running gateway's admin listener (http://127.0.0.1:9090). Without it, the database of the
    /// configuration is opened, or the gateway asked that has it open.
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
}

/// Where a command is carried out.
pub(super) enum Place {
    /// Here, in the database.
    Here(Box<KeyDesk>),
    /// By a gateway.
    There(Box<Gateway>),
}

/// A gateway's admin API.
pub(super) struct Gateway {
    upstream: Upstream,
    origin: Origin,
    token: Option<SecretString>,
}

/// Finds out where.
///
/// # Errors
/// A sentence for the user.
pub(super) fn place(argument: &GatewayArg, config: Option<PathBuf>) -> Result<(Runtime, Place), String> {
    let house = House::open(config).map_err(|problems| problems.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("runtime: {error}"))?;
    let address = match &argument.admin {
        Some(address) => address.clone(),
        None => match house.database() {
            Ok(database) => {
                let desk = house.key_desk(database)?;
                runtime.block_on(desk.refresh()).map_err(|refused| refused.to_string())?;
                return Ok((runtime, Place::Here(Box::new(desk))));
            }
            Err(error) if error.contains("is in use by another gateway") => {
                let listen = house.checked().config.admin.listen;
                if listen.port() == 0 {
                    return Err(format!("{error}; name its admin address with --admin"));
                }
                format!("http://{listen}")
            }
            Err(error) => return Err(error),
        },
    };
    let base = base(&address).map_err(|error| format!("--admin: the address {error}"))?;
    let upstream = Upstream::new(&house.checked().config.upstream).map_err(|error| error.to_string())?;
    let gateway = Gateway { upstream, origin: base.origin, token: house.admin_token()? };
    Ok((runtime, Place::There(Box::new(gateway))))
}

/// Who gives the command, for the audit log.
pub(super) fn actor() -> String {
    let name = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_default();
    let plain: String = name.chars().filter(char::is_ascii_graphic).take(48).collect();
    if plain.is_empty() { "cli".to_owned() } else { format!("cli {plain}") }
}

impl Gateway {
    /// Asks the admin API.
    ///
    /// # Errors
    /// What the gateway says, or why it cannot be asked.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let path_and_query = PathAndQuery::try_from(path).map_err(|error| error.to_string())?;
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tollgate/", env!("CARGO_PKG_VERSION"))));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Ok(actor) = HeaderValue::try_from(actor()) {
            headers.insert("x-tollgate-actor", actor);
        }
        if let Some(token) = &self.token {
            let text = zeroize::Zeroizing::new(format!("Bearer {}", token.expose_secret()));
            let mut value = HeaderValue::try_from(text.as_str()).map_err(|_| "admin.token cannot stand in a header")?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let body = body.map_or_else(Vec::new, |body| body.to_string().into_bytes());
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = vec![body.into()];
        let request = Outbound { method, path_and_query, headers, body, upload: None };
        let cannot = |fault: crate::fault::Fault| format!("the gateway cannot be asked: {}", fault.message);
        let answer = self.upstream.send(&self.origin, request, CONNECT).await.map_err(cannot)?;
        let (head, body) = answer.into_parts();
        let body = body.collect(MOST).await.map_err(cannot)?;
        if !head.status.is_success() {
            return Err(String::from_utf8_lossy(&body).trim().to_owned());
        }
        serde_json::from_slice(&body).map_err(|_| "the gateway's answer is no JSON; is this its admin address?".into())
    }
}
