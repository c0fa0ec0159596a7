//! The connection itself: made when it is needed, dropped when it is broken, with a clock on everything.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, ServerErrorKind, TlsCertificates, Value,
};
use arc_swap::ArcSwapOption;
use secrecy::{ExposeSecret, SecretString};

use super::{Arg, RedisSettings, Script};

/// How long a new connection may take, greeting included.
const CONNECT: Duration = Duration::from_secs(1);

/// The connection, while there is one.
pub(super) struct Link {
    client: Client,
    timeout: Duration,
    connection: ArcSwapOption<MultiplexedConnection>,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) text: Arc<str>,
    /// It took too long, which may pass.
    pub(super) slow: bool,
}

impl Link {
    pub(super) fn new(
        settings: &RedisSettings,
        password: Option<SecretString>,
        ca: Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let place = settings.place()?;
        let mut login = RedisConnectionInfo::default().set_db(place.database);
        if let Some(name) = &settings.username {
            login = login.set_username(name);
        }
        if let Some(password) = &password {
            login = login.set_password(password.expose_secret());
        }
        let complain = |error: RedisError| format!("state.redis: {}", told(&error));
        let address = if place.tls {
            ConnectionAddr::TcpTls { host: place.host, port: place.port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(place.host, place.port)
        };
        let tcp = TcpSettings::default().set_nodelay(true);
        let info = address.into_connection_info().map_err(complain)?;
        let info = info.set_redis_settings(login).set_tcp_settings(tcp);
        let client = match ca {
            Some(ca) => {
                Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(ca) })
            }
            None => Client::open(info),
        };
        let client = client.map_err(complain)?;
        Ok(Self { client, timeout: settings.timeout.0, connection: ArcSwapOption::empty() })
    }

    /// Makes a connection if there is none. On the keeper's thread: the connection lives there.
    pub(super) async fn connect(&self) -> Result<(), Trouble> {
        if self.connection.load().is_some() {
            return Ok(());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT));
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let connection = match tokio::time::timeout(CONNECT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(Trouble { text: told(&error).into(), slow: false }),
            Err(_) => return Err(Trouble { text: "no connection in time".into(), slow: false }),
        };
        metrics::counter!("tollgate_redis_connections_total").increment(1);
        self.connection.store(Some(Arc::new(connection)));
        Ok(())
    }

    /// The next call makes another connection.
    pub(super) fn drop_connection(&self) {
        self.connection.store(None);
    }

    /// Runs a script, by its hash if it is known there.
    pub(super) async fn run(&self, script: &Script, keys: &[String], args: &[Arg]) -> Result<Value, Trouble> {
        let begun = tokio::time::Instant::now();
        let both = async {
            match self.ask(&script.by_hash(keys, args)).await {
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    self.ask(&script.by_text(keys, args)).await
                }
                result => result,
            }
        };
        self.timed(both, begun).await
    }

    /// Sends one command.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, Trouble> {
        self.timed(self.ask(command), tokio::time::Instant::now()).await
    }

    async fn ask(&self, command: &Cmd) -> Result<Value, RedisError> {
        let connection = self.connection.load_full();
        let Some(connection) = connection else {
            return Err((ErrorKind::Io, "there is no connection").into());
        };
        // A refusal comes as a value.
        MultiplexedConnection::clone(&connection).send_packed_command(command).await?.extract_error()
    }

    async fn timed(
        &self,
        asked: impl Future<Output = Result<Value, RedisError>>,
        begun: tokio::time::Instant,
    ) -> Result<Value, Trouble> {
        let (result, outcome) = match tokio::time::timeout(self.timeout, asked).await {
            Ok(Ok(value)) => (Ok(value), "ok"),
            Ok(Err(error)) if error.is_timeout() => (Err(self.too_slow()), "timeout"),
            Ok(Err(error)) => {
                // A replica that refuses to write may have been the primary: its name may lead elsewhere by now.
                if error.is_io_error() || error.is_unrecoverable_error() || error.code() == Some("READONLY") {
                    self.drop_connection();
                }
                (Err(Trouble { text: told(&error).into(), slow: false }), "error")
            }
            Err(_) => (Err(self.too_slow()), "timeout"),
        };
        metrics::counter!("tollgate_redis_calls_total", "outcome" => outcome).increment(1);
        metrics::histogram!("tollgate_redis_call_seconds").record(begun.elapsed().as_secs_f64());
        result
    }

    fn too_slow(&self) -> Trouble {
        let text = format!("no answer within {}", humantime::format_duration(self.timeout));
        Trouble { text: text.into(), slow: true }
    }
}

/// What is wrong, in Redis's own words where it has some.
fn told(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}
