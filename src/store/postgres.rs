//! A PostgreSQL database that many gateways share: how it is reached, and how its tables come to be.
//!
//! Nothing on the path of a request asks it. Every call has a deadline of its own, after which its connection is
//! closed, because nobody knows then what it will still do.

mod place;
mod step;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ClientConfig;
use secrecy::{ExposeSecret, SecretString};
use tokio::task::AbortHandle;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

pub use place::Place;
pub use step::Step;

/// Reads the password anew for each connection, so that it can change while the gateway runs.
pub type Password = Arc<dyn Fn() -> Result<SecretString, String> + Send + Sync>;

/// A parameter of a statement, with its type: so nothing is prepared, and poolers between need not know of it.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// What a server says of how texts are written in its database.
const ENCODING: &str = "server_encoding";

/// How often what a closed connection may hold on to is looked for.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Why the database did not do something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// It cannot be reached, or did not answer in time: it may pass.
    Away(String),
    /// It refused what it was given: the same again would be refused, too.
    Refused(String),
    /// It is none that this program can use.
    Unfit(String),
}

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Away(text) | Self::Unfit(text) => write!(f, "PostgreSQL: {text}"),
            Self::Refused(text) => write!(f, "PostgreSQL refused: {text}"),
        }
    }
}

impl std::error::Error for Absent {}

impl Absent {
    /// The same, after what another host said.
    fn and_before(self, before: Option<Self>) -> Self {
        let Some(Self::Away(first) | Self::Unfit(first) | Self::Refused(first)) = before else { return self };
        match self {
            Self::Away(text) => Self::Away(format!("{first}; then {text}")),
            Self::Unfit(text) => Self::Unfit(format!("{first}; then {text}")),
            Self::Refused(text) => Self::Refused(format!("{first}; then {text}")),
        }
    }
}

/// The database; cheap to clone.
#[derive(Clone)]
pub struct Postgres(Arc<Inner>);

struct Inner {
    /// One for each of its hosts, in the order in which they are tried.
    hosts: Vec<Config>,
    /// How long connecting to one of them may take.
    patience: Duration,
    tls: Option<ClientConfig>,
    password: Option<Password>,
    timeout: Duration,
    /// A connection that nobody uses.
    idle: Mutex<Option<Session>>,
}

/// One connection. Dropping it closes the socket at once.
pub struct Session {
    client: Client,
    driver: AbortHandle,
    timeout: Duration,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Postgres {
    /// The database at this place. `timeout` is how long each call may take, and connecting to each of its hosts.
    pub fn new(
        place: &Place,
        tls: Option<ClientConfig>,
        password: Option<Password>,
        timeout: Duration,
    ) -> Self {
        let mut config = place.config.clone();
        config.application_name("tollgate").connect_timeout(timeout).keepalives_idle(KEEPALIVE);
        let (hosts, idle) = (place::each_host(&config), Mutex::default());
        Self(Arc::new(Inner { hosts, patience: timeout, tls, password, timeout, idle }))
    }

    /// The same database, for calls that may take so long, if that is longer. Connecting takes no longer.
    pub fn patient(&self, timeout: Duration) -> Self {
        let Inner { hosts, patience, tls, password, timeout: usual, .. } = &*self.0;
        let (hosts, tls, password) = (hosts.clone(), tls.clone(), password.clone());
        let (timeout, idle) = (timeout.max(*usual), Mutex::default());
        Self(Arc::new(Inner { hosts, patience: *patience, tls, password, timeout, idle }))
    }

    /// A connection: the one that was given back, or a new one.
    ///
    /// # Errors
    /// When the database cannot be reached, or lets nobody in.
    pub async fn session(&self) -> Result<Session, Absent> {
        let idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        match idle.filter(|session| !session.client.is_closed()) {
            Some(session) => Ok(session),
            None => self.connect().await,
        }
    }

    /// Keeps a connection for the next who needs one.
    pub fn give_back(&self, session: Session) {
        if !session.client.is_closed() {
            let before = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).replace(session);
            drop(before);
        }
    }

    /// Tries one host after the other: one that is silent takes no more than its own time.
    async fn connect(&self) -> Result<Session, Absent> {
        let password =
            self.0.password.as_ref().map(|password| password()).transpose().map_err(Absent::Away)?;
        let mut absent = None;
        for host in &self.0.hosts {
            let mut config = host.clone();
            if let Some(secret) = &password {
                config.password(secret.expose_secret());
            }
            match self.open(&config).await {
                Ok(session) => return Ok(session),
                Err(found) => absent = Some(found.and_before(absent)),
            }
        }
        Err(absent.unwrap_or_else(|| Absent::Away("its address names no host".to_owned())))
    }

    async fn open(&self, config: &Config) -> Result<Session, Absent> {
        let Inner { tls, timeout, patience, .. } = &*self.0;
        let connecting = async {
            // Whoever drives the connection ends with it.
            let (client, driver, encoding) = match tls {
                Some(tls) => {
                    let (client, connection) = config.connect(MakeRustlsConnect::new(tls.clone())).await?;
                    let encoding = connection.parameter(ENCODING).map(str::to_owned);
                    (client, tokio::spawn(connection).abort_handle(), encoding)
                }
                None => {
                    let (client, connection) = config.connect(NoTls).await?;
                    let encoding = connection.parameter(ENCODING).map(str::to_owned);
                    (client, tokio::spawn(connection).abort_handle(), encoding)
                }
            };
            Ok((Session { client, driver, timeout: *timeout }, encoding))
        };
        let (session, encoding) = in_time(*patience, connecting).await?;
        if let Some(encoding) = encoding.filter(|encoding| encoding != "UTF8") {
            return Err(Absent::Unfit(format!(
                "the database's encoding is {encoding}, in which not every text can be written; make one with \
                 `ENCODING 'UTF8'`"
            )));
        }
        // The server gives up what nobody waits for any more.
        let limit = format!("SET statement_timeout = {}", timeout.as_millis().max(1));
        session.batch(&limit).await?;
        Ok(session)
    }
}

impl Session {
    /// Carries out statements without parameters.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn batch(&self, sql: &str) -> Result<(), Absent> {
        in_time(self.timeout, self.client.batch_execute(sql)).await
    }

    /// Carries out one statement. Says how many rows it changed.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn execute(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64, Absent> {
        in_time(self.timeout, self.client.execute_typed(sql, parameters)).await
    }

    /// The rows that a statement finds.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, Absent> {
        in_time(self.timeout, self.client.query_typed(sql, parameters)).await
    }
}

async fn in_time<T>(
    timeout: Duration,
    call: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, Absent> {
    match tokio::time::timeout(timeout, call).await {
        Ok(done) => done.map_err(|error| absent(&error)),
        Err(_) => Err(Absent::Away(format!("no answer within {}", humantime::format_duration(timeout)))),
    }
}

/// What an error means for whoever wants to try again.
fn absent(error: &tokio_postgres::Error) -> Absent {
    let Some(told) = error.as_db_error() else {
        let mut text = error.to_string();
        // The interesting part is in the cause: refused, reset, no such host, a bad certificate.
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            text = format!("{text}: {inner}");
            cause = inner.source();
        }
        return Absent::Away(text);
    };
    // The detail of a refusal would show values.
    let code = told.code().code();
    let text = format!("{} ({code})", told.message());
    match code.get(..2) {
        // Data that cannot be stored, or contradicts what is there.
        Some("22" | "23") => Absent::Refused(text),
        _ => Absent::Away(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_that_says_nothing_is_given_up_in_time() {
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("postgres://anna@{}/x", deaf.local_addr().unwrap());
        let place: Place = url.parse().unwrap();
        let postgres = Postgres::new(&place, None, None, Duration::from_millis(50));
        let began = std::time::Instant::now();
        let absent = postgres.session().await.map(drop).unwrap_err();
        assert!(matches!(&absent, Absent::Away(text) if text.contains("no answer within 50ms")), "{absent}");
        assert!(began.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn the_second_host_is_reached_where_the_first_says_nothing() {
        let (deaf, second) = (listener(), tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap());
        let (first, second_at) = (deaf.local_addr().unwrap(), second.local_addr().unwrap());
        let place: Place = format!("postgres://anna@{first},{second_at}/x").parse().unwrap();
        let postgres = Postgres::new(&place, None, None, Duration::from_millis(200));
        let reached = async {
            let (mut socket, _) = second.accept().await.unwrap();
            let mut start = [0; 64];
            let read = tokio::io::AsyncReadExt::read(&mut socket, &mut start).await.unwrap();
            assert!(String::from_utf8_lossy(&start[..read]).contains("anna"), "a start-up message");
        };
        let (absent, reached) =
            tokio::join!(postgres.session(), tokio::time::timeout(Duration::from_secs(5), reached));
        assert!(reached.is_ok(), "the second host was not tried");
        let text = absent.map(drop).unwrap_err().to_string();
        assert!(text.contains("no answer within 200ms; then "), "{text}");
    }

    fn listener() -> std::net::TcpListener {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[tokio::test]
    async fn what_refuses_connections_is_away() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let place: Place = format!("postgres://anna@{port}/x").parse().unwrap();
        let postgres = Postgres::new(&place, None, None, Duration::from_secs(5));
        let absent = postgres.session().await.map(drop).unwrap_err();
        assert!(matches!(&absent, Absent::Away(text) if text.contains("refused")), "{absent}");
    }
}
