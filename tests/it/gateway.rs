//! The real binary in a folder of its own, with its logs caught and its keys watched.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::client::{self, PATIENCE};

/// The provider's key in every story. It must never come out anywhere.
pub const CANARY: &str = "sk-canary-5b1d9c0e7f2a4863";

/// The password of databases in stories. Neither must it.
pub const DATABASE_CANARY: &str = "pg-canary-93cbf01d24ae6e57";

/// Opens every configuration: free ports, both on loopback.
pub const FREE_PORTS: &str = "listen: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\npolicies: ./policies\n";

/// A gateway about to start.
pub struct Setup {
    dir: TempDir,
    env: Vec<(String, String)>,
    arguments: Vec<String>,
    /// What a shell does before it becomes the gateway.
    before: Option<String>,
}

/// A running gateway. Killed on drop, after a look whether a key has leaked into its logs.
pub struct Gateway {
    /// Where clients connect.
    pub clients: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    child: Child,
    dir: TempDir,
    out: Lines,
    err: Lines,
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Printed {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

type Lines = Arc<Mutex<Vec<String>>>;

/// A folder with a configuration (its listeners are added) and an empty policies' folder.
pub fn setup(config: &str) -> Setup {
    let dir = tempfile::tempdir().expect("a folder");
    fs::create_dir(dir.path().join("policies")).expect("a folder");
    let setup =
        Setup { dir, env: vec![("TEST_KEY".into(), CANARY.into())], arguments: Vec::new(), before: None };
    setup.file("tollgate.yaml", &format!("{FREE_PORTS}{config}"))
}

/// A running gateway with this configuration and nothing else.
pub fn start(config: &str) -> Gateway {
    setup(config).start()
}

/// The lines of one provider in a configuration.
pub fn provider(name: &str, url: &str) -> String {
    format!("  {name}: {{ dialect: openai, base_url: \"{url}\", keys: [ env:TEST_KEY ] }}\n")
}

impl Setup {
    /// Writes a file below the folder, whatever was there before.
    pub fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.dir.path().join(name), text).expect("a written file");
        self
    }

    pub fn policy(self, name: &str, text: &str) -> Self {
        self.file(&format!("policies/{name}"), text)
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Lets a shell do this first: `ulimit -n 64`.
    pub fn after(mut self, shell: &str) -> Self {
        self.before = Some(shell.into());
        self
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn start(self) -> Gateway {
        let begun = Instant::now();
        let config = self.dir.path().join("tollgate.yaml");
        // From a working directory of somebody else's: all paths begin at the configuration's.
        let mut command = self.command(&["serve", "--config", &config.display().to_string()]);
        let mut child = command.current_dir("/").spawn().expect("the binary starts");
        let (out, _) = collect(child.stdout.take());
        let (err, news) = collect(child.stderr.take());
        let listening = loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let Ok(line) = news.recv_timeout(left) else {
                let _ = child.kill();
                panic!("the gateway never listened: {:#?}", err.lock().expect("lines"));
            };
            match serde_json::from_str::<Value>(&line) {
                Ok(line) if message(&line) == "listening" => break line,
                _ => {}
            }
        };
        let address = |name: &str| {
            let text = field(&listening, name).and_then(Value::as_str).unwrap_or_default().to_owned();
            text.parse().unwrap_or_else(|_| panic!("no address `{name}` in {listening}"))
        };
        Gateway { clients: address("clients"), admin: address("admin"), child, dir: self.dir, out, err }
    }

    /// Runs the binary to its end; kills it when it does not end.
    pub fn run(&self, arguments: &[&str]) -> Printed {
        let mut child = self.command(arguments).spawn().expect("the binary starts");
        let (out, err) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let code = wait(&mut child, PATIENCE).and_then(|status| status.code());
        let end = Instant::now() + PATIENCE;
        let printed = Printed { code, out: to_the_end(out, end), err: to_the_end(err, end) };
        let leaks = |canary: &&str| format!("{printed:?}").contains(*canary);
        assert!(![CANARY, DATABASE_CANARY].iter().any(leaks), "a secret was printed: {printed:#?}");
        printed
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_tollgate");
        let mut command = match &self.before {
            None => Command::new(program),
            Some(before) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("{before}\nexec \"$0\" \"$@\""), program]);
                shell
            }
        };
        command.args(arguments).args(&self.arguments).current_dir(self.dir.path());
        command.env_clear().envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Gateway {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Replaces a file the way careful editors do: written beside it, then renamed over it.
    pub fn save(&self, name: &str, text: &str) {
        let path = self.path(name);
        let beside = path.with_extension("saving~");
        fs::write(&beside, text).expect("a written file");
        fs::rename(beside, path).expect("a renamed file");
    }

    /// Replaces the configuration, listeners kept.
    pub fn save_config(&self, config: &str) {
        self.save("tollgate.yaml", &format!("{FREE_PORTS}{config}"));
    }

    /// Lines of the operational log so far.
    pub fn log(&self) -> Vec<String> {
        self.err.lock().expect("lines").clone()
    }

    /// Lines of the access log so far, each with the fields of its decision record.
    pub fn access(&self) -> Vec<Value> {
        let lines = self.out.lock().expect("lines");
        lines.iter().map(|line| flat(line).expect("a JSON line")).collect()
    }

    /// The access line of one request, as soon as it is there.
    pub async fn record(&self, request_id: &str) -> Value {
        assert!(!request_id.is_empty(), "an answer without x-request-id");
        client::eventually("an access line", || {
            let lines = self.out.lock().expect("lines");
            let line = lines.iter().rev().find(|line| line.contains(request_id))?;
            flat(line)
        })
        .await
    }

    pub async fn status(&self) -> Value {
        client::get(self.admin, "/admin/v1/status").await.json()
    }

    pub async fn metrics(&self) -> String {
        client::get(self.admin, "/metrics").await.text()
    }

    /// The sum of a metric over all series that have every one of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum(&self.metrics().await, name, labels)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name: `HUP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "the signal was not sent");
    }

    /// Waits for the process to end by itself.
    pub fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        wait(&mut self.child, within)
    }

    /// Kills the process and starts another one in the same folder.
    pub fn start_again(mut self) -> Self {
        self.finish();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a folder"));
        let env = vec![("TEST_KEY".into(), CANARY.into())];
        Setup { dir, env, arguments: Vec::new(), before: None }.start()
    }

    /// Kills the process and looks for the key in everything it wrote.
    fn finish(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for lines in [&self.out, &self.err] {
            let lines = lines.lock().expect("lines");
            let leaks = |line: &&String| line.contains(CANARY) || line.contains(DATABASE_CANARY);
            if let Some(leak) = lines.iter().find(leaks) {
                panic!("a secret is in a log: {leak}");
            }
            if let Some(panic) = lines.iter().find(|line| line.contains("panicked at")) {
                panic!("the gateway panicked: {panic}");
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.child.kill();
            let _ = self.child.wait();
            let log = self.log();
            let tail = &log[log.len().saturating_sub(12)..];
            eprintln!("--- last lines of the gateway's log\n{}\n---", tail.join("\n"));
        } else {
            self.finish();
        }
    }
}

/// A line with the fields of its `record` beside its own.
fn flat(line: &str) -> Option<Value> {
    let mut line: Value = serde_json::from_str(line).ok()?;
    // Requests that no model is asked for have none.
    let record = line.as_object_mut()?.remove("record").unwrap_or_default();
    for (name, value) in record.as_object().into_iter().flatten() {
        line[name] = value.clone();
    }
    Some(line)
}

/// The sum over the series of `name` in a Prometheus text.
pub fn sum(text: &str, name: &str, labels: &[&str]) -> f64 {
    text.lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
        .filter(|line| labels.iter().all(|label| line.contains(label)))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// A field of a log line, at its top or under `fields`.
pub fn field<'a>(line: &'a Value, name: &str) -> Option<&'a Value> {
    line.get(name).or_else(|| line.get("fields")?.get(name))
}

fn message(line: &Value) -> &str {
    field(line, "message").and_then(Value::as_str).unwrap_or_default()
}

fn collect(from: Option<impl Read + Send + 'static>) -> (Lines, mpsc::Receiver<String>) {
    let lines = Lines::default();
    let (tell, news) = mpsc::channel();
    let kept = lines.clone();
    std::thread::spawn(move || {
        let Some(from) = from else { return };
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            kept.lock().expect("lines").push(line.clone());
            let _ = tell.send(line);
        }
    });
    (lines, news)
}

/// All lines, once the pipe is closed; whoever inherited it may keep it open until this time.
fn to_the_end((lines, news): (Lines, mpsc::Receiver<String>), end: Instant) -> String {
    while news.recv_timeout(end.saturating_duration_since(Instant::now())).is_ok() {}
    lines.lock().expect("lines").join("\n")
}

fn wait(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < within {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}
