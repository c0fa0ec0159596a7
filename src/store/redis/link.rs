//! The connection itself: made when it is needed, dropped when it is broken, with a clock on everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::io::tcp::socket2::TcpKeepalive;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates, Value, cmd,
};
use arc_swap::ArcSwapOption;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Arg, RedisSettings, Script};

/// How long a new connection may take, greeting included.
const CONNECT: Duration = Duration::from_secs(1);

/// So many calls in a row without an answer, and the connection is taken for dead.
const MOST_UNANSWERED: u32 = 5;

/// How long the other machine may leave what was sent unconfirmed.
#[cfg(target_os = "linux")]
const UNCONFIRMED: Duration = Duration::from_secs(5);

/// When a connection on which nothing happens is asked whether it is still one.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Reads the password anew for each connection, so that it can change while the gateway runs.
pub type Password = Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

/// The connection, while there is one.
pub(super) struct Link {
    info: ConnectionInfo,
    login: RedisConnectionInfo,
    password: Option<Password>,
    ca: Option<Vec<u8>>,
    timeout: Duration,
    connection: ArcSwapOption<MultiplexedConnection>,
    /// Calls in a row that had no answer in time.
    unanswered: AtomicU32,
    /// Held by whoever makes the connection.
    dialling: Mutex<()>,
}

/// Why a call came to nothing.
#[derive(Debug, Clone)]
pub(super) struct Trouble {
    pub(super) text: Arc<str>,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It took too long, which may pass.
    Slow,
    /// There is no connection, or there is none any more.
    Broken,
    /// Redis heard it and would not.
    Refused,
}

impl Link {
    pub(super) fn new(
        settings: &RedisSettings,
        password: Option<Password>,
        ca: Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let place = settings.place()?;
        let mut login = RedisConnectionInfo::default().set_db(place.database);
        if let Some(name) = &settings.username {
            login = login.set_username(name);
        }
        let address = if place.tls {
            ConnectionAddr::TcpTls { host: place.host, port: place.port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(place.host, place.port)
        };
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 2);
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(UNCONFIRMED);
        let complain = |error: RedisError| format!("state.redis: {}", told(&error));
        let info = address.into_connection_info().map_err(complain)?.set_tcp_settings(tcp);
        let link = Self {
            info,
            login,
            password,
            ca,
            timeout: settings.timeout.0,
            connection: ArcSwapOption::empty(),
            unanswered: AtomicU32::new(0),
            dialling: Mutex::default(),
        };
        link.client(link.login.clone()).map_err(complain)?;
        Ok(link)
    }

    /// Makes a connection if there is none, and says whether. On the keeper's thread: the connection lives there.
    pub(super) async fn connect(&self) -> Result<bool, Trouble> {
        let _dialling = self.dialling.lock().await;
        if self.is_connected() {
            return Ok(false);
        }
        let connection = match tokio::time::timeout(CONNECT, self.dial()).await {
            Ok(connection) => connection?,
            Err(_) => return Err(Trouble { text: "no connection in time".into(), kind: Kind::Broken }),
        };
        metrics::counter!("tollgate_redis_connections_total").increment(1);
        self.unanswered.store(0, Ordering::Relaxed);
        self.connection.store(Some(Arc::new(connection)));
        Ok(true)
    }

    async fn dial(&self) -> Result<MultiplexedConnection, Trouble> {
        let mut login = self.login.clone();
        if let Some(password) = &self.password {
            let password = password().map_err(|text| Trouble { text: text.into(), kind: Kind::Refused })?;
            login = login.set_password(password.expose_secret());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT.max(self.timeout)));
        let client = self.client(login).map_err(|error| trouble(&error))?;
        let dialled = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = dialled.map_err(|error| trouble(&error))?;
        // A Redis that wants a password hangs up on a long command without a word; a short one it answers.
        match connection.send_packed_command(&cmd("PING")).await.and_then(Value::extract_error) {
            Err(error) if error.code() == Some("NOAUTH") && self.password.is_none() => {
                let text = format!("{}; set `state.redis.password`", told(&error));
                Err(Trouble { text: text.into(), kind: Kind::Refused })
            }
            Err(error) if is_broken(&error) || error.code() == Some("NOAUTH") => Err(trouble(&error)),
            // Whoever may not send it has been heard, too.
            _ => Ok(connection),
        }
    }

    fn client(&self, login: RedisConnectionInfo) -> Result<Client, RedisError> {
        let info = self.info.clone().set_redis_settings(login);
        match &self.ca {
            Some(ca) => {
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(ca.clone()) };
                Client::build_with_tls(info, certificates)
            }
            None => Client::open(info),
        }
    }

    /// Whether the next call has a connection.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.load().is_some()
    }

    /// The next call makes another connection.
    pub(super) fn drop_connection(&self) {
        self.connection.store(None);
    }

    /// The same, unless there is another one already.
    fn drop_this(&self, connection: &Arc<MultiplexedConnection>) {
        self.connection.compare_and_swap(connection, None);
    }

    /// Runs a script, by its hash if it is known there.
    pub(super) async fn run(&self, script: &Script, keys: &[String], args: &[Arg]) -> Result<Value, Trouble> {
        self.timed(async |connection| match ask(connection, &script.by_hash(keys, args)).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                ask(connection, &script.by_text(keys, args)).await
            }
            result => result,
        })
        .await
    }

    /// Sends one command.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, Trouble> {
        self.timed(async |connection| ask(connection, command).await).await
    }

    /// Whether the connection is one: any answer says so.
    pub(super) async fn is_heard(&self) -> Result<(), Trouble> {
        match self.send(&cmd("PING")).await {
            Err(trouble) if trouble.kind != Kind::Refused => Err(trouble),
            _ => Ok(()),
        }
    }

    async fn timed(
        &self,
        asked: impl AsyncFnOnce(&MultiplexedConnection) -> Result<Value, RedisError>,
    ) -> Result<Value, Trouble> {
        let Some(connection) = self.connection.load_full() else {
            return Err(Trouble { text: "there is no connection".into(), kind: Kind::Broken });
        };
        let begun = Instant::now();
        let answer = tokio::time::timeout(self.timeout, asked(&connection)).await;
        let (result, outcome) = match answer {
            Ok(Ok(value)) => (Ok(value), "ok"),
            Ok(Err(error)) if !error.is_timeout() => (Err(trouble(&error)), "error"),
            Ok(Err(_)) | Err(_) => (Err(self.too_slow()), "timeout"),
        };
        let unanswered = match &result {
            Err(trouble) if trouble.kind == Kind::Slow => self.unanswered.fetch_add(1, Ordering::Relaxed) + 1,
            _ => {
                self.unanswered.store(0, Ordering::Relaxed);
                0
            }
        };
        if unanswered >= MOST_UNANSWERED || result.as_ref().is_err_and(Trouble::ends_connection) {
            self.drop_this(&connection);
        }
        metrics::counter!("tollgate_redis_calls_total", "outcome" => outcome).increment(1);
        metrics::histogram!("tollgate_redis_call_seconds").record(begun.elapsed().as_secs_f64());
        result
    }

    pub(super) fn too_slow(&self) -> Trouble {
        let text = format!("no answer within {}", humantime::format_duration(self.timeout));
        Trouble { text: text.into(), kind: Kind::Slow }
    }
}

impl Trouble {
    /// A replica that refuses to write may have been the primary: its name may lead elsewhere by now.
    fn ends_connection(&self) -> bool {
        self.kind == Kind::Broken || self.text.starts_with("READONLY ")
    }
}

async fn ask(connection: &MultiplexedConnection, command: &Cmd) -> Result<Value, RedisError> {
    // A refusal comes as a value.
    connection.clone().send_packed_command(command).await?.extract_error()
}

fn trouble(error: &RedisError) -> Trouble {
    let kind = if is_broken(error) { Kind::Broken } else { Kind::Refused };
    Trouble { text: told(error).into(), kind }
}

fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}

/// What is wrong, in Redis's own words where it has some.
fn told(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    }
}
