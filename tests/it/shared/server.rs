//! A real Redis of a story's own: on a port of its own, with nothing on the disk, killed at the end.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub struct Server {
    child: Child,
    port: u16,
    dir: TempDir,
    arguments: Vec<String>,
}

/// A running Redis, or none where it is not installed; where everything must be tested, that is a failure.
pub fn server() -> Option<Server> {
    server_with(&[])
}

pub fn server_with(arguments: &[&str]) -> Option<Server> {
    if program().is_none() {
        let required = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!required, "neither redis-server nor valkey-server is installed: run tests/run");
        eprintln!(
            "SKIPPED: several gateways: neither redis-server nor valkey-server is installed (tests/run)"
        );
        return None;
    }
    // Somebody else may take the port in between.
    for _ in 0..20 {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        // A server of a cluster listens 10,000 higher, too.
        if port > u16::MAX - 10_000 {
            continue;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let child = spawn(port, &dir, &arguments);
        let mut server = Server { child, port, dir, arguments };
        if server.is_there() {
            return Some(server);
        }
    }
    panic!("no Redis could be started");
}

/// The server that is installed.
pub fn program() -> Option<&'static str> {
    ["redis-server", "valkey-server"].into_iter().find(|name| {
        let run = Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    })
}

fn spawn(port: u16, dir: &TempDir, arguments: &[String]) -> Child {
    let port = port.to_string();
    Command::new(program().expect("a Redis"))
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--enable-debug-command", "yes", "--maxmemory-policy", "noeviction"])
        .args(arguments)
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a Redis starts")
}

/// One that speaks nothing but TLS.
pub fn server_over_tls(cert: &str, key: &str) -> Option<Server> {
    program()?;
    for _ in 0..20 {
        // The plain port is one of those that are given twice: the last one counts.
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let dir = tempfile::tempdir().expect("a folder");
        let tls = port.to_string();
        let arguments = ["--port", "0", "--tls-port", &tls, "--tls-cert-file", cert, "--tls-key-file", key];
        let more = ["--tls-ca-cert-file", cert, "--tls-auth-clients", "no"];
        let arguments: Vec<String> = arguments.iter().chain(&more).map(|one| (*one).to_owned()).collect();
        let mut server = Server { child: spawn(port, &dir, &arguments), port, dir, arguments };
        if server.is_there() {
            return Some(server);
        }
    }
    panic!("no Redis with TLS could be started");
}

/// A Sentinel that looks after this primary, and puts another in its place within seconds.
pub fn sentinel(name: &str, primary: &Server) -> Option<Server> {
    for _ in 0..20 {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("sentinel.conf");
        let conf = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {name} 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds {name} 800\nsentinel failover-timeout {name} 3000\n",
            primary.port
        );
        std::fs::write(&file, conf).expect("a file");
        let mut command = Command::new(program()?);
        command.arg(&file).arg("--sentinel").current_dir(dir.path()).stdin(Stdio::null());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a Sentinel starts");
        let mut server = Server { child, port, dir, arguments: Vec::new() };
        if server.is_there() {
            return Some(server);
        }
    }
    panic!("no Sentinel could be started");
}

impl Server {
    pub fn url(&self) -> String {
        format!("redis://{}", self.at())
    }

    pub fn at(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal was not sent");
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where it was, without anything.
    pub fn start_again(&mut self) {
        self.child = spawn(self.port, &self.dir, &self.arguments);
        assert!(self.is_there(), "Redis did not come back");
    }

    /// What it answers to a command.
    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_ask(words).expect("an answer of Redis")
    }

    pub fn try_ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_connection()?;
        let (name, rest) = words.split_first().expect("a command");
        redis::cmd(name).arg(rest).query(&mut connection)
    }

    pub fn keys(&self, pattern: &str) -> Vec<String> {
        self.ask(&["KEYS", pattern])
    }

    fn is_there(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
