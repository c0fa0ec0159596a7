//! The connection itself: made when it is needed, dropped when it is broken, with a clock on everything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::io::tcp::socket2::TcpKeepalive;
use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, ServerErrorKind, TlsCertificates, Value, cmd,
};
use arc_swap::ArcSwapOption;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::course::{Address, Course};
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
    course: Arc<Course>,
    /// The name by which the servers that are written, Sentinels then, know the primary.
    primary: Option<String>,
    tls: bool,
    tcp: TcpSettings,
    login: RedisConnectionInfo,
    password: Option<Password>,
    ca: Option<Vec<u8>>,
    timeout: Duration,
    connection: ArcSwapOption<Connected>,
    /// Calls in a row that had no answer in time.
    unanswered: AtomicU32,
    /// Held by whoever makes the connection.
    dialling: Mutex<()>,
}

/// A connection, and to whom.
struct Connected {
    connection: MultiplexedConnection,
    to: Address,
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
        course: Arc<Course>,
        password: Option<Password>,
        ca: Option<Vec<u8>>,
    ) -> Result<Self, String> {
        let place = settings.place()?;
        // What is said of the library would be one more right, and stand in Redis' log of refusals without it.
        let mut login = RedisConnectionInfo::default().set_db(place.database).set_skip_set_lib_name();
        if let Some(name) = &settings.username {
            login = login.set_username(name);
        }
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 2);
        let tcp = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
        #[cfg(target_os = "linux")]
        let tcp = tcp.set_user_timeout(UNCONFIRMED);
        let link = Self {
            course,
            primary: settings.sentinel.clone(),
            tls: place.tls,
            tcp,
            login,
            password,
            ca,
            timeout: settings.timeout.0,
            connection: ArcSwapOption::empty(),
            unanswered: AtomicU32::new(0),
            dialling: Mutex::default(),
        };
        for address in &place.addresses {
            let built = link.client(address, link.login.clone());
            built.map_err(|error| format!("state.redis: {}", told(&error)))?;
        }
        Ok(link)
    }

    /// Makes a connection if there is none, and says whether. On the keeper's thread: the connection lives there.
    pub(super) async fn connect(&self) -> Result<bool, Trouble> {
        let _dialling = self.dialling.lock().await;
        if self.is_connected() {
            return Ok(false);
        }
        let Some(next) = self.course.next() else { return Err(Trouble::broken("no server is known")) };
        let dialled = tokio::time::timeout(CONNECT, self.dial(&next)).await;
        let connected = dialled.unwrap_or_else(|_| Err(Trouble::broken("no connection in time")));
        let connected = connected.inspect_err(|_| self.course.turn_from(&next))?;
        metrics::counter!("tollgate_redis_connections_total").increment(1);
        self.unanswered.store(0, Ordering::Relaxed);
        self.connection.store(Some(Arc::new(connected)));
        Ok(true)
    }

    async fn dial(&self, next: &Address) -> Result<Connected, Trouble> {
        let mut login = self.login.clone();
        if let Some(password) = &self.password {
            let password = password().map_err(|text| Trouble { text: text.into(), kind: Kind::Refused })?;
            login = login.set_password(password.expose_secret());
        }
        let to = match &self.primary {
            Some(name) => self.ask_sentinel(next, name, &login).await?,
            None => next.clone(),
        };
        let mut connection = self.reach(&to, login).await.map_err(|error| trouble(&error))?;
        // A Redis that wants a password hangs up on a long command without a word; a short one it answers.
        match connection.send_packed_command(&cmd("PING")).await.and_then(Value::extract_error) {
            Err(error) if error.code() == Some("NOAUTH") && self.password.is_none() => {
                let text = format!("{}; set `state.redis.password`", told(&error));
                Err(Trouble { text: text.into(), kind: Kind::Refused })
            }
            Err(error) if is_broken(&error) || error.code() == Some("NOAUTH") => Err(trouble(&error)),
            // Whoever may not send it has been heard, too.
            _ => Ok(Connected { connection, to }),
        }
    }

    /// Where the primary is, as this Sentinel knows. One that wants a password gets the primary's.
    async fn ask_sentinel(
        &self,
        sentinel: &Address,
        name: &str,
        login: &RedisConnectionInfo,
    ) -> Result<Address, Trouble> {
        let mut question = cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(name);
        let ask = async |login: RedisConnectionInfo| {
            let mut connection = self.reach(sentinel, login).await?;
            connection.send_packed_command(&question).await?.extract_error()
        };
        let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
        let answer = match ask(nobody).await {
            Err(error) if error.code() == Some("NOAUTH") => ask(login.clone().set_db(0)).await,
            answer => answer,
        };
        let told = |what: String| Trouble { text: what.into(), kind: Kind::Refused };
        let parts = match answer {
            Ok(Value::Array(parts)) => parts,
            Ok(_) => return Err(told(format!("the Sentinel {sentinel} knows no primary called `{name}`"))),
            Err(error) => return Err(told(format!("the Sentinel {sentinel}: {}", self::told(&error)))),
        };
        match &parts[..] {
            [host, port] => super::text(host).zip(super::number(port)).and_then(|(host, port)| {
                Some(Address { host: host.to_owned(), port: u16::try_from(port).ok()? })
            }),
            _ => None,
        }
        .ok_or_else(|| {
            told(format!("the Sentinel {sentinel} answered with something else than was asked for"))
        })
    }

    async fn reach(
        &self,
        address: &Address,
        login: RedisConnectionInfo,
    ) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT.max(self.timeout)));
        self.client(address, login)?.get_multiplexed_async_connection_with_config(&config).await
    }

    fn client(&self, address: &Address, login: RedisConnectionInfo) -> Result<Client, RedisError> {
        let Address { host, port } = address.clone();
        let address = if self.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let info = address.into_connection_info()?.set_tcp_settings(self.tcp.clone());
        let info = info.set_redis_settings(login);
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

    /// To whom, while there is one.
    pub(super) fn place(&self) -> Option<Address> {
        self.connection.load().as_ref().map(|connected| connected.to.clone())
    }

    /// The next call makes another connection.
    pub(super) fn drop_connection(&self) {
        self.connection.store(None);
    }

    /// The same, to another server if there are several: this one does not help.
    pub(super) fn turn_away(&self) {
        if let (Some(connected), Some(next)) = (self.connection.swap(None), self.course.next()) {
            // Whoever asks Sentinels goes on to the next of them.
            self.course.turn_from(if self.primary.is_some() { &next } else { &connected.to });
        }
    }

    /// Whether a cluster has said who has our keys, and the next connection leads there.
    pub(super) fn is_sent_on(&self) -> bool {
        !self.is_connected() && self.course.is_sent_on()
    }

    /// Goes by what a refusal says of who could help.
    fn heed(&self, trouble: &Trouble, connected: &Arc<Connected>) {
        if trouble.text.starts_with("READONLY ") && self.primary.is_none() {
            self.course.turn_from(&connected.to);
        } else {
            self.course.follow(&trouble.text, &connected.to);
        }
    }

    /// The next call makes another connection, unless there is one already.
    fn drop_this(&self, connection: &Arc<Connected>) {
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
        let Some(connected) = self.connection.load_full() else {
            return Err(Trouble::broken("there is no connection"));
        };
        let begun = Instant::now();
        let answer = tokio::time::timeout(self.timeout, asked(&connected.connection)).await;
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
        let ending = result.as_ref().err().filter(|trouble| trouble.ends_connection());
        if let Some(trouble) = ending {
            self.heed(trouble, &connected);
        }
        if unanswered >= MOST_UNANSWERED || ending.is_some() {
            self.drop_this(&connected);
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
    fn broken(text: &str) -> Self {
        Self { text: text.into(), kind: Kind::Broken }
    }

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
    // Whoever sends us elsewhere has nothing of ours: there is no connection to who has.
    let is_elsewhere = error.code() == Some("MOVED");
    let kind = if is_elsewhere || is_broken(error) { Kind::Broken } else { Kind::Refused };
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
