//! A PostgreSQL of a story's own: a private folder, a port that was free, a password that must not come out anywhere.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::client;
use crate::gateway::{DATABASE_CANARY, Setup};

/// PostgreSQL refuses to run as root; this user owns nothing.
const NOBODY: u32 = 65_534;

/// The server; killed on drop.
pub struct Postgres {
    dir: TempDir,
    port: u16,
    arguments: Vec<String>,
    child: Mutex<Option<Child>>,
}

impl Postgres {
    /// A running server with an empty database; nothing, told loudly, where PostgreSQL is not installed.
    pub fn start() -> Option<Arc<Self>> {
        Self::with(&[], |_| {})
    }

    /// The same with further settings, after `prepare` has put files into the folder of its data.
    pub fn with(settings: &[&str], prepare: impl FnOnce(&Path)) -> Option<Arc<Self>> {
        let Some(programs) = programs() else {
            missing("PostgreSQL", "postgresql");
            return None;
        };
        let dir = tempfile::tempdir().expect("a folder");
        let password = dir.path().join("password");
        std::fs::write(&password, DATABASE_CANARY).expect("a written file");
        give_away(dir.path());
        give_away(&password);
        let data = dir.path().join("data");
        let mut init = Command::new(programs.join("initdb"));
        init.args(["--no-sync", "-U", "tollgate", "--auth=scram-sha-256", "-E", "UTF8", "--locale=C"]);
        init.arg("--pwfile").arg(&password).arg("-D").arg(&data);
        let done = as_nobody(&mut init).current_dir(dir.path()).output().expect("initdb runs");
        assert!(done.status.success(), "initdb: {}", String::from_utf8_lossy(&done.stderr));
        prepare(&data);
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = free.expect("a free port").port();
        let mut arguments =
            vec!["-D".to_owned(), data.display().to_string(), "-p".to_owned(), port.to_string()];
        let sockets = format!("unix_socket_directories={}", dir.path().display());
        let usual = ["listen_addresses=127.0.0.1", &sockets, "fsync=off", "max_connections=50"];
        for setting in usual.iter().chain(settings) {
            arguments.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        let server = Self { dir, port, arguments, child: Mutex::default() };
        server.again();
        Some(Arc::new(server))
    }

    /// Starts it again after it was killed.
    pub fn again(&self) {
        let programs = programs().expect("PostgreSQL");
        let mut command = Command::new(programs.join("postgres"));
        command.args(&self.arguments).current_dir(self.dir.path());
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("log"));
        let log = log.expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = as_nobody(&mut command).spawn().expect("postgres starts");
        *self.child.lock().expect("a child") = Some(child);
    }

    /// Waits until it answers.
    pub async fn ready(&self) -> Client {
        client::eventually_async("PostgreSQL to answer", async || self.connect().await).await
    }

    async fn connect(&self) -> Option<Client> {
        let place = format!(
            "host=127.0.0.1 port={} user=tollgate password={DATABASE_CANARY} dbname=postgres connect_timeout=2",
            self.port
        );
        let (client, connection) = tokio_postgres::connect(&place, NoTls).await.ok()?;
        tokio::spawn(connection);
        Some(client)
    }

    /// How many rows the statement counts.
    pub async fn count(&self, sql: &str) -> i64 {
        let rows = self.ready().await.simple_query(sql).await;
        let rows = rows.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let number = rows.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(|text| text.parse().expect("a number")),
            _ => None,
        });
        number.unwrap_or(0)
    }

    /// Carries out statements.
    pub async fn run(&self, sql: &str) {
        self.ready().await.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Kills it with all its children, as a crash of the machine would.
    pub fn kill(&self) {
        let Some(mut child) = self.child.lock().expect("a child").take() else { return };
        // In immediate mode it takes its children with it, and cleans up nothing.
        let _ = Command::new("kill").args(["-QUIT", &child.id().to_string()]).status();
        let _ = child.wait();
    }

    /// Stops it, or has it go on, with all its children: it holds its connections and says nothing.
    pub fn freeze(&self, frozen: bool) {
        let id = self.child.lock().expect("a child").as_ref().map(Child::id).expect("a running server");
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let all = std::iter::once(id.to_string()).chain(children.split_whitespace().map(Into::into));
        let _ = Command::new("kill").arg(signal).args(all).status();
    }

    /// The lines of `state` for it, as gateways write them.
    pub fn state(&self, more: &str) -> String {
        format!(
            "state: {{ ledger: \"postgres://tollgate@127.0.0.1:{}/postgres\", postgres: {{ password: env:PG_WORD, \
             outbox: ./data/tollgate.db{more} }} }}\n",
            self.port
        )
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.child.lock().is_ok_and(|child| child.is_some()) {
            self.freeze(false);
        }
        self.kill();
    }
}

/// With what the password stands for.
pub fn with_password(setup: Setup) -> Setup {
    setup.env("PG_WORD", DATABASE_CANARY)
}

/// Says loudly that something is missing; a failure where everything has to be there.
fn missing(what: &str, package: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|value| value != "true"),
        "{what} is missing: install `{package}`"
    );
    eprintln!("SKIPPED: {what} is missing (install `{package}`); with CI=true this is a failure");
}

/// Whether this process may become another user.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

fn as_nobody(command: &mut Command) -> &mut Command {
    if is_root() { command.uid(NOBODY).gid(NOBODY) } else { command }
}

/// Makes what lies there belong to whom the server runs as.
pub fn give_away(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("another owner");
    }
}

/// The folder of PostgreSQL's programs: Debian keeps them out of the search path.
fn programs() -> Option<PathBuf> {
    let search = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|entry| entry.path().join("bin")).collect();
    versions.sort();
    let all = std::env::split_paths(&search).chain(versions.into_iter().rev());
    all.into_iter().find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
}
