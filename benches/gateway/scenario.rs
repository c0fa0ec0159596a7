//! The scenarios, the processes that they need, and the order in which floor and gateway take turns.

use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use tempfile::TempDir;

use crate::child::Running;
use crate::load::{self, Faults, Window};
use crate::options::{AccessLog, Options};
use crate::report::{Bar, Figure, Report};
use crate::wire::{Answer, Ask, exchange};
use crate::{Result, asks};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A request of 1 KB, answered whole with 1 KB, at saturation.
    Small,
    /// A prompt of 32 KB, answered whole, at saturation.
    #[value(name = "32k")]
    Prompt32,
    /// A prompt of 256 KB, answered whole, at saturation.
    #[value(name = "256k")]
    Prompt256,
    /// Streams of 200 events, each written by itself, at saturation.
    Stream,
    /// Streams of 200 events that the upstream writes at once, at saturation.
    StreamPacked,
    /// Streams of 200 events, one each 5 ms, on twice the connections.
    StreamPaced,
    /// A prompt of 32 KB in Anthropic's dialect onto an upstream of OpenAI's, answered whole, at saturation. The floor
    /// forwards the same conversation in OpenAI's dialect.
    #[value(name = "translate-32k")]
    Translate32,
    /// Streams of 200 events, each written by itself, translated from OpenAI's dialect into Anthropic's.
    TranslateStream,
    /// Embeddings, at saturation. Has no bar, runs only when named.
    Embeddings,
    /// Requests of 1 KB at saturation: all of reliability switched on, compared with the same gateway without. Runs only
    /// when named.
    Reliability,
    /// The same with keys, limits, budgets, prices and the ledger. Runs only when named.
    Money,
    /// Requests of 1 KB at saturation: the sample policies of the project and its classifier in Rust, compared with the
    /// same gateway without any. Runs only when named, with the plugins that `plugins/build` makes.
    Plugins,
    /// Requests of 1 KB at a fixed rate.
    Open,
    /// 500 slow streams at once.
    Slow,
    /// From the start of the process to its first answer, and what it holds then.
    Start,
}

const SLOW_STREAMS: usize = 500;

/// The models of which the sample policies speak; the list follows that of the plain configuration.
const SAMPLES: &str = "  auto: { targets: [ mock/chat ] }
  cheap: { targets: [ mock/chat ] }
  strong: { targets: [ mock/chat ] }
  canary-next: { targets: [ mock/chat ] }
  canary-stable: { targets: [ mock/chat ] }
";

/// Both sides of the comparison and what stands behind them.
struct Bench<'a> {
    options: &'a Options,
    folder: TempDir,
    mock: Running,
    report: Report,
}

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Floor,
    Gateway,
}

/// How the gateway is configured.
#[derive(Debug, Clone, Copy)]
enum Setting {
    /// As it is measured against the floor.
    Plain,
    Reliability,
    Money,
    /// Without a policy.
    Bare,
    /// With the sample policies, and a classifier that is asked first.
    Plugins,
}

impl Setting {
    const ALL: [Self; 5] = [Self::Plain, Self::Reliability, Self::Money, Self::Bare, Self::Plugins];

    fn folder(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Reliability => "reliability",
            Self::Money => "money",
            Self::Bare => "bare",
            Self::Plugins => "plugins",
        }
    }

    fn config(self) -> String {
        let plain = include_str!("tollgate.yaml");
        match self {
            Self::Plain => plain.to_owned(),
            Self::Reliability => include_str!("reliability.yaml").to_owned(),
            Self::Money => format!("{plain}{}", include_str!("money.yaml")),
            Self::Bare => format!("{plain}{SAMPLES}"),
            Self::Plugins => format!("{plain}{SAMPLES}{}", include_str!("plugins.yaml")),
        }
    }

    /// Policies by their names; `plain` is the bench's own.
    fn policies(self, plain: &str) -> Vec<(&'static str, String)> {
        match self {
            Self::Plain | Self::Money => vec![("10-bench", plain.to_owned())],
            // By the alias, so that its strategy and its hedge are at work.
            Self::Reliability => {
                let by_alias =
                    plain.replace("\"bench-chat\": \"mock/chat\"", "\"bench-chat\": \"bench-chat\"");
                vec![("10-bench", by_alias)]
            }
            Self::Bare => Vec::new(),
            Self::Plugins => [
                ("05-classify", include_str!("classify.rhai")),
                ("10-cheap-by-default", include_str!("../../policies/10-cheap-by-default.rhai")),
                ("20-split", include_str!("../../policies/20-split.rhai")),
                ("30-canary", include_str!("../../policies/30-canary.rhai")),
            ]
            .map(|(name, text)| (name, text.to_owned()))
            .to_vec(),
        }
    }
}

impl Scenario {
    /// Whether it runs only when named.
    fn is_extra(self) -> bool {
        matches!(self, Self::Embeddings | Self::Reliability | Self::Money | Self::Plugins)
    }

    /// Whether it has processes of its own.
    fn is_fresh(self) -> bool {
        matches!(self, Self::Slow | Self::Start | Self::Reliability | Self::Money | Self::Plugins)
    }
}

/// The same figures, for one side, as often as there were rounds.
type Rounds = [Vec<Vec<f64>>; 2];

/// Measures what the options name and prints it.
pub fn run(options: &Options) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mock = Running::start(own("mock", None)?)?;
    let mut bench = Bench { options, folder, mock, report: Report::new(options) };
    bench.write_config()?;
    bench.measure()?;
    print!("{}", if options.json { bench.report.json()? } else { bench.report.table() });
    match bench.report.faults() {
        0 => Ok(()),
        faults => Err(format!("{faults} requests failed or were answered wrongly").into()),
    }
}

impl Bench<'_> {
    fn measure(&mut self) -> Result<()> {
        let chosen: Vec<Scenario> = match self.options.only.as_slice() {
            [] => Scenario::value_variants().iter().copied().filter(|s| !s.is_extra()).collect(),
            named => named.to_vec(),
        };
        let (fresh, lasting): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|s| s.is_fresh());
        for scenario in fresh {
            match scenario {
                Scenario::Slow => self.slow()?,
                Scenario::Reliability => self.with(scenario, Setting::Reliability, 1.08)?,
                Scenario::Money => self.with(scenario, Setting::Money, 1.10)?,
                Scenario::Plugins => self.plugins()?,
                _ => self.start()?,
            }
        }
        if lasting.is_empty() {
            return Ok(());
        }
        // One process each for all that follows, as in production: what a scenario leaves behind, the next one meets.
        let pair = [self.launch(Side::Floor)?, self.launch(Side::Gateway)?];
        for scenario in lasting {
            let connections = self.options.connections;
            match scenario {
                Scenario::Small => {
                    self.saturate(&pair, scenario, [&asks::whole(1 << 10); 2], connections, Some(1.7))?
                }
                Scenario::Prompt32 => {
                    self.saturate(&pair, scenario, [&asks::whole(32 << 10); 2], connections, Some(1.3))?
                }
                Scenario::Prompt256 => {
                    self.saturate(&pair, scenario, [&asks::whole(256 << 10); 2], connections, Some(1.2))?;
                }
                Scenario::Stream => {
                    let ask = asks::stream("bench-stream-200-each", 200);
                    self.saturate(&pair, scenario, [&ask; 2], connections, Some(1.3))?;
                }
                Scenario::StreamPacked => {
                    let ask = asks::stream("bench-stream-200", 200);
                    self.saturate(&pair, scenario, [&ask; 2], connections, Some(1.3))?;
                }
                Scenario::StreamPaced => {
                    let ask = asks::stream("bench-stream-200-5ms", 200);
                    self.saturate(&pair, scenario, [&ask; 2], 2 * connections, Some(1.3))?;
                }
                Scenario::Translate32 => {
                    let asks = [&asks::whole(32 << 10), &asks::translated(32 << 10)];
                    self.saturate(&pair, scenario, asks, connections, Some(2.5))?;
                }
                Scenario::TranslateStream => {
                    let script = "bench-stream-200-each";
                    let asks = [&asks::stream(script, 200), &asks::translated_stream(script, 200)];
                    self.saturate(&pair, scenario, asks, connections, Some(2.0))?;
                }
                Scenario::Embeddings => {
                    self.saturate(&pair, scenario, [&asks::embeddings(); 2], connections, None)?
                }
                Scenario::Open => self.open(&pair)?,
                Scenario::Slow
                | Scenario::Start
                | Scenario::Reliability
                | Scenario::Money
                | Scenario::Plugins => (),
            }
        }
        if self.report.faults() > 0 {
            eprintln!("the gateway said last:\n{}", pair[Side::Gateway as usize].said());
        }
        Ok(())
    }

    /// `asks`: what floor and gateway are asked.
    fn saturate(
        &mut self,
        pair: &[Running; 2],
        scenario: Scenario,
        asks: [&Ask; 2],
        connections: usize,
        most: Option<f64>,
    ) -> Result<()> {
        let cpu = most.map_or(Bar::None, Bar::Ratio);
        self.compare(pair, scenario, asks, connections, [cpu, Bar::None])
    }

    /// `bars`: of the CPU time and of the throughput.
    fn compare(
        &mut self,
        pair: &[Running; 2],
        scenario: Scenario,
        asks: [&Ask; 2],
        connections: usize,
        bars: [Bar; 2],
    ) -> Result<()> {
        let window = self.window();
        let [floor, gateway] = self.rounds(scenario, self.options.rounds(), |_, side| {
            let it = &pair[side as usize];
            let round = load::saturate(it.clients, asks[side as usize], connections, window, it.process())?;
            Ok((vec![round.cpu, round.rate], round.faults))
        })?;
        let name = label(scenario);
        let [bar, rate] = bars;
        self.report.add(Figure::new(
            &name,
            "CPU per request",
            "µs",
            bar,
            column(&floor, 0),
            column(&gateway, 0),
        ));
        self.report.add(Figure::new(&name, "throughput", "/s", rate, column(&floor, 1), column(&gateway, 1)));
        Ok(())
    }

    /// The same gateway twice, in the floor's place as it always is.
    fn with(&mut self, scenario: Scenario, with: Setting, most: f64) -> Result<()> {
        let bars = [Bar::Ratio(most), Bar::None];
        self.both(scenario, [Setting::Plain, with], &asks::whole(1 << 10), bars)
    }

    /// The same gateway in two settings. `bars`: see [`Bench::compare`].
    fn both(&mut self, scenario: Scenario, of: [Setting; 2], ask: &Ask, bars: [Bar; 2]) -> Result<()> {
        let pair = [self.gateway(of[0])?, self.gateway(of[1])?];
        for it in &pair {
            answer(it, ask)?;
        }
        self.compare(&pair, scenario, [ask; 2], self.options.connections, bars)
    }

    /// The shipped samples and nothing, the latter in the floor's place.
    fn plugins(&mut self) -> Result<()> {
        let folder = std::env::var_os("TOLLGATE_PLUGINS").unwrap_or_else(|| "target/plugins".into());
        let file = Path::new(&folder).join("keyword-classifier.wasm");
        if !file.is_file() {
            eprintln!("!!! SKIPPED plugins: there is no {}; `plugins/build` makes it", file.display());
            return Ok(());
        }
        let theirs = self.folder.path().join(Setting::Plugins.folder()).join("plugins");
        fs::create_dir_all(&theirs)?;
        fs::copy(&file, theirs.join("keyword-classifier.wasm"))?;

        let (settings, bars) = ([Setting::Bare, Setting::Plugins], [Bar::None, Bar::Least(0.75)]);
        self.both(Scenario::Plugins, settings, &asks::decided(1 << 10), bars)
    }

    fn open(&mut self, pair: &[Running; 2]) -> Result<()> {
        let (window, rate, ask) = (self.window(), self.options.rate, asks::whole(1 << 10));
        let [floor, gateway] = self.rounds(Scenario::Open, self.options.rounds(), |_, side| {
            let it = &pair[side as usize];
            let round = load::pace(it.clients, &ask, rate, window, it.process())?;
            Ok((vec![round.p50, round.p99, round.cpu], round.faults))
        })?;
        let name = format!("open {rate}/s");
        for (index, (what, bar)) in
            [("p50", Bar::Added(80.0)), ("p99", Bar::Added(300.0)), ("CPU per request", Bar::None)]
                .into_iter()
                .enumerate()
        {
            self.report.add(Figure::new(
                &name,
                what,
                "µs",
                bar,
                column(&floor, index),
                column(&gateway, index),
            ));
        }
        Ok(())
    }

    /// Fresh processes in each round: what was resident once is seldom given back.
    fn slow(&mut self) -> Result<()> {
        let ask = asks::stream("bench-stream-24-250ms", 24);
        let rounds = self.options.rounds().min(3);
        let [floor, gateway] = self.rounds(Scenario::Slow, rounds, |bench, side| {
            let it = bench.launch(side)?;
            first_answer(&it)?;
            std::thread::park_timeout(SETTLE);
            let held = load::hold(it.clients, &ask, SLOW_STREAMS, it.process())?;
            Ok((vec![held.memory], held.faults))
        })?;
        let name = format!("{SLOW_STREAMS} slow streams");
        let bar = Bar::Own(40.0);
        self.report.add(Figure::new(
            &name,
            "memory added",
            "MiB",
            bar,
            column(&floor, 0),
            column(&gateway, 0),
        ));
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let [floor, gateway] = self.rounds(Scenario::Start, self.options.rounds(), |bench, side| {
            let it = bench.launch(side)?;
            first_answer(&it)?;
            let cold = it.since.elapsed().as_secs_f64() * 1e3;
            std::thread::park_timeout(SETTLE);
            let process = it.process();
            Ok((vec![cold, process.resident()?, process.most_resident()?], Faults::default()))
        })?;
        for (index, (what, unit, bar)) in [
            ("cold start to answer", "ms", Bar::Own(150.0)),
            ("idle memory", "MiB", Bar::Own(30.0)),
            ("most so far", "MiB", Bar::None),
        ]
        .into_iter()
        .enumerate()
        {
            self.report.add(Figure::new(
                "start",
                what,
                unit,
                bar,
                column(&floor, index),
                column(&gateway, index),
            ));
        }
        Ok(())
    }

    /// Floor, gateway, floor, gateway: whatever else the machine does, it does to both.
    fn rounds(
        &mut self,
        scenario: Scenario,
        rounds: usize,
        mut round: impl FnMut(&Self, Side) -> Result<(Vec<f64>, Faults)>,
    ) -> Result<Rounds> {
        let mut all = Rounds::default();
        for number in 1..=rounds {
            for side in [Side::Floor, Side::Gateway] {
                eprint!("\r{:<16} round {number}/{rounds} {:<8}", label(scenario), format!("{side:?}"));
                let (figures, faults) = round(self, side)?;
                self.report.note(&label(scenario), &format!("{side:?}"), faults);
                all[side as usize].push(figures);
                self.empty_log()?;
            }
        }
        eprint!("\r{:40}\r", "");
        Ok(all)
    }

    fn window(&self) -> Window {
        Window { warmup: self.options.warmup(), length: self.options.length() }
    }

    fn launch(&self, side: Side) -> Result<Running> {
        let mock = self.mock.clients;
        match side {
            Side::Floor => Running::start(own("floor", Some(mock))?),
            Side::Gateway if self.options.gateway_is_floor_lean => {
                Running::start(own("floor-lean", Some(mock))?)
            }
            Side::Gateway => self.gateway(Setting::Plain),
        }
    }

    fn gateway(&self, setting: Setting) -> Result<Running> {
        let mut command = Command::new(self.options.binary());
        command
            .args(["serve", "--config", "tollgate.yaml"])
            .current_dir(self.folder.path().join(setting.folder()));
        command.env("BENCH_UPSTREAM_KEY", "sk-bench-upstream-0123456789").env("BENCH_CLIENT_KEY", asks::KEY);
        command.stdout(self.access_log()?);
        Running::start(command)
    }

    fn write_config(&self) -> Result<()> {
        let policy = match &self.options.policy {
            Some(path) => fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?,
            None => include_str!("policy.rhai").to_owned(),
        };
        for setting in Setting::ALL {
            let folder = self.folder.path().join(setting.folder());
            fs::create_dir_all(folder.join("policies"))?;
            for (name, text) in setting.policies(&policy) {
                fs::write(folder.join(format!("policies/{name}.rhai")), text)?;
            }
            let config = setting
                .config()
                .replace("MOCK", &self.mock.clients.to_string())
                .replace("ACCESS", if self.options.access_log == AccessLog::Off { "false" } else { "true" });
            fs::write(folder.join("tollgate.yaml"), config)?;
        }
        Ok(())
    }

    fn access_log(&self) -> Result<Stdio> {
        if self.options.access_log != AccessLog::File {
            return Ok(Stdio::null());
        }
        let file = OpenOptions::new().create(true).append(true).open(access_log(self.folder.path()))?;
        Ok(file.into())
    }

    /// The file is appended to, so that cutting it does not leave a hole.
    fn empty_log(&mut self) -> Result<()> {
        let path = access_log(self.folder.path());
        if let Ok(file) = File::options().write(true).open(path) {
            self.report.logged(file.metadata()?.len());
            file.set_len(0)?;
        }
        Ok(())
    }
}

impl Options {
    /// The gateway's binary.
    pub fn binary(&self) -> PathBuf {
        let named =
            self.gateway.clone().or_else(|| std::env::var_os("TOLLGATE_BENCH_GATEWAY").map(PathBuf::from));
        let path = named.unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tollgate")));
        // It runs in another directory.
        std::path::absolute(&path).unwrap_or(path)
    }
}

/// How long a process may settle before its memory is read.
const SETTLE: Duration = Duration::from_millis(300);

/// This program in another part.
fn own(part: &str, upstream: Option<SocketAddr>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(part).args(upstream.map(|upstream| upstream.to_string()));
    Ok(command)
}

fn first_answer(it: &Running) -> Result<()> {
    answer(it, &asks::whole(1 << 10))
}

fn answer(it: &Running, ask: &Ask) -> Result<()> {
    let mut socket = TcpStream::connect(it.clients)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut buffer = vec![0; 64 << 10];
    exchange(&mut socket, ask, &mut Answer::default(), &mut buffer)
        .map_err(|fault| format!("the first answer: {fault}\nit said:\n{}", it.said()).into())
}

fn access_log(folder: &Path) -> PathBuf {
    folder.join("access.log")
}

fn label(scenario: Scenario) -> String {
    scenario.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// One figure out of each round.
fn column(rounds: &[Vec<f64>], index: usize) -> Vec<f64> {
    rounds.iter().filter_map(|figures| figures.get(index).copied()).collect()
}
