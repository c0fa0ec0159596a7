//! Commands that ask the admin API of a running gateway.

use std::path::PathBuf;

use clap::Args;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::house::House;

/// How long the gateway may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(40);

/// The admin token, for who has no configuration of the gateway at hand.
const TOKEN: &str = "TOLLGATE_ADMIN_TOKEN";

/// Where the gateway is.
#[derive(Debug, Clone, Args)]
pub(super) struct Operator {
    /// The gateway's admin listener, `127.0.0.1:9090`. Else `admin.listen` of the configuration. The token is its
    /// `admin.token`, else that in TOLLGATE_ADMIN_TOKEN.
    #[arg(long, value_name = "ADDRESS", env = "TOLLGATE_ADMIN")]
    admin: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Operator {
    /// Whether a gateway was named.
    pub(super) fn is_named(&self) -> bool {
        self.admin.is_some()
    }

    /// Asks the gateway, with the token of the configuration, else of the environment.
    ///
    /// # Errors
    /// Why it does not answer, or its refusal.
    pub(super) fn ask(
        &self,
        config: Option<PathBuf>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let (address, token) = self.gateway(config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("runtime: {error}"))?;
        runtime.block_on(async {
            let asked = exchange(&address, token.as_ref(), method, path, body);
            tokio::time::timeout(PATIENCE, asked).await.map_err(|_| format!("{address} does not answer"))?
        })
    }

    fn gateway(&self, config: Option<PathBuf>) -> Result<(String, Option<SecretString>), String> {
        let house = House::open(config).map_err(|problems| problems.to_string())?;
        let elsewhere =
            || std::env::var(TOKEN).ok().filter(|token| !token.is_empty()).map(SecretString::from);
        let token = house.admin_token()?.or_else(elsewhere);
        let address = match &self.admin {
            Some(named) => named.trim_start_matches("http://").trim_end_matches('/').to_owned(),
            None => house.checked().config.admin.listen.to_string(),
        };
        if address.ends_with(":0") {
            return Err(
                "`admin.listen` has the port 0: name the gateway's admin listener with --admin".into()
            );
        }
        Ok((address, token))
    }
}

async fn exchange(
    address: &str,
    token: Option<&SecretString>,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, String> {
    let nobody = |error: std::io::Error| {
        format!("no gateway at {address} ({error}): start it, or name its admin listener with --admin")
    };
    let stream = TcpStream::connect(address).await.map_err(nobody)?;
    let broken = |error: hyper::Error| format!("{address}: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    tokio::spawn(connection);
    let text = body.map(Value::to_string).unwrap_or_default();
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, address)
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-tollgate-actor", super::remote::actor());
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.expose_secret()));
    }
    let request = request.body(Full::new(bytes::Bytes::from(text))).map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(broken)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(broken)?.to_bytes();
    let value: Option<Value> = serde_json::from_slice(&body).ok();
    if status.is_success() {
        return value.ok_or_else(|| format!("{address}{path}: not JSON"));
    }
    let told = value.and_then(|value| Some(value.get("error")?.as_str()?.to_owned()));
    Err(told.unwrap_or_else(|| format!("{status}: {}", String::from_utf8_lossy(&body).trim())))
}
