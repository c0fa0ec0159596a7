//! `tollgate serve`: builds the house, opens the listeners, swaps snapshots, drains at the end.

use std::net::SocketAddr;
use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{BAD_CONFIG, check};
use crate::admin::{self, Admin, ReloadState};
use crate::api::Api;
use crate::api::openai_embeddings::OpenAiEmbeddings;
use crate::api::reply::{self, ReplyBody};
use crate::cache::Store;
use crate::clock::{Clock, Dice, SystemClock};
use crate::fault::Fault;
use crate::gateway::{
    Admission, Errands, Figures, Gateway, Memory, Runner, Shadows, Shared, Terms, Unread, memory, probe,
    recall,
};
use crate::house::{
    Built, Desk, Diagnostics, House, Upkeep, Watch, anchor, announce, carry_alerts, feed, follow, restore,
    share_keys,
};
use crate::keys::{KeyDesk, Refused};
use crate::ledger::{self, Central};
use crate::listener::{Drain, Handler, Listener, Peer, RequestBody};
use crate::plugin::Services;
use crate::store::sqlite::{Sqlite, Trouble};
use crate::store::{Decisions, Versions};
use crate::telemetry::{self, AccessLog};
use crate::upstream::{Upload, Upstream};

/// How long the end of the process waits for the database.
const LAST_WRITES: Duration = Duration::from_secs(5);

/// How long the end of the process waits for stores of secrets to take back what opened them.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long the start of the process waits for the other gateways.
const MEETING: Duration = Duration::from_secs(3);

/// Runs the gateway until it is told to stop.
pub(super) fn serve(config: Option<PathBuf>) -> ExitCode {
    let house = match House::open(config) {
        Ok(house) => house,
        Err(problems) => {
            problems.print();
            return ExitCode::from(BAD_CONFIG);
        }
    };
    match run(house) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failed::Found(problems)) => {
            problems.print();
            ExitCode::from(BAD_CONFIG)
        }
        Err(Failed::Told(error)) => {
            eprintln!("tollgate: {error}");
            ExitCode::from(BAD_CONFIG)
        }
    }
}

/// Why there is no gateway.
enum Failed {
    /// By what stands in the configuration, with its places.
    Found(Diagnostics),
    /// By what the machine says.
    Told(String),
}

impl From<String> for Failed {
    fn from(error: String) -> Self {
        Self::Told(error)
    }
}

fn run(mut house: House) -> Result<(), Failed> {
    telemetry::install_log(&house.checked().config.log.level)?;
    let metrics = telemetry::install_metrics()?;
    let (errands, runner) = Errands::new();
    house.serve_plugins(services(&errands));
    let built = check::built(&house).map_err(Failed::Found)?;
    for warning in check::warnings(&house, &built).0 {
        tracing::warn!(warning = warning.headline(), help = warning.help, "probably not meant");
    }
    let database = house.database()?;
    let (central, state) = (house.central()?, &house.checked().config.state);
    let keys = house.key_desk(database.clone(), central.as_ref())?;
    let accounts = ledger::Desk::open(database.clone(), central, state, Arc::new(SystemClock));
    let accounts = accounts.map_err(|trouble| format!("state.ledger: {trouble}"))?;
    house.figures().open_desk(Arc::new(accounts));
    let redis = house.redis(database.as_ref())?;
    redis.iter().for_each(|redis| house.share(redis));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("runtime: {error}"))?;
    Ok(runtime.block_on(open(house, built, (database, keys), metrics, (errands, runner)))?)
}

async fn open(
    mut house: House,
    built: Built,
    (database, keys): (Option<Sqlite>, KeyDesk),
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    (errands, runner): (Errands, Runner),
) -> Result<(), String> {
    let config = house.checked().config.clone();
    let listener =
        Listener::bind(config.listen, house.checked().listener()).map_err(|error| error.to_string())?;
    let upstream = Upstream::new(&config.upstream).map_err(|error| error.to_string())?;
    let admin_listener = admin::bind(config.admin.listen).await?;
    let admin_address = admin_listener.local_addr().map_err(|error| format!("admin listener: {error}"))?;

    let drain = Drain::new();
    let (close, closing) = watch::channel(false);
    let access_log = access_log(config.log.access)?;
    let decisions = Decisions::start(&config.decisions)?;
    let versions = Arc::new(Versions::open(config.decisions.dir.as_deref()));
    let shadows = Arc::new(Shadows::start()?);
    let desk = Arc::new(Desk::new(versions.clone()));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let figures = house.figures();
    let met = remember(&keys, &figures, built.terms).await?;
    let shared_budgets = figures.redis().filter(|redis| redis.settings().budgets).cloned();
    tokio::spawn(carry_alerts(figures.desk(), house.courier(upstream.sibling())?, shared_budgets));
    let shared_answers = figures.redis().filter(|redis| redis.settings().cache).cloned();
    let upkeep = Upkeep::start(&figures.desk(), config.state.keep.0, shared_answers);
    note_secrets(&keys, &built.secrets).await?;
    let noting = house.notes().carry(&keys);
    tokio::spawn(anchor(keys.clone()));
    tokio::spawn(share_keys(keys.clone(), figures.clone(), !met));
    tokio::spawn(follow(figures.keys.clone(), Arc::new(upstream.sibling())));
    tokio::spawn(feed(figures.clone(), Arc::new(upstream.sibling())));
    let room = Arc::new(Memory::default());
    let shared = Arc::new(Shared {
        figures,
        snapshot: built.snapshot.into(),
        admission: Admission::new(closing, room.clone()),
        access_log: access_log.clone(),
        answers: Arc::default(),
        decisions: decisions.clone(),
        keys,
        cache: Store::new(config.cache.max_size.0),
        repeats: Store::new(config.idempotency.max_size.0),
        database: database.clone(),
        rollout: Arc::default(),
        versions,
        shadows: shadows.clone(),
        clock: clock.clone(),
    });
    share_answers(&shared);
    announce(&shared.snapshot.load(), true);
    let counted = shared.admission.clone();
    let most = config.limits.memory.map(|size| size.0);
    tokio::spawn(memory::watch(room, most, move || counted.in_flight()));
    tokio::spawn(probe(shared.clone(), Arc::new(upstream.sibling())));
    let for_plugins = Gateway::new(shared.clone(), Arc::new(upstream.sibling()), Dice::fair());
    tokio::spawn(runner.run(for_plugins, upstream.sibling(), &OpenAiEmbeddings));
    if config.plugins.embeddings.is_some() {
        house = with_vectors(house, &shared, &errands).await?;
    }

    let reloads = Arc::new(ReloadState::default());
    let watching = drain.clone();
    let admin = Admin {
        shared: shared.clone(),
        metrics,
        reloads: reloads.clone(),
        draining: Arc::new(move || watching.is_leaving()),
        desk: desk.clone(),
        secrets: Arc::new(house.standings()),
        token: built.admin_token,
    };
    tokio::spawn(admin::serve(admin_listener, admin));
    tokio::spawn(end_on_signal(drain.clone(), config.drain_delay.0, config.drain.0));
    end_streams(&drain, close);
    let close_stores = house.closer();
    let watch = house.watch(shared.clone(), reloads, desk, listener.tls())?;
    look_on_signal(watch);

    let address = listener.local_addr();
    tracing::info!(clients = %address, admin = %admin_address, version = env!("CARGO_PKG_VERSION"), "listening");
    greet(address);
    let workers =
        config.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get));
    listener.serve(workers, move |_| Worker::new(&shared, &upstream, &clock), drain).await;
    decisions.catch_up();
    access_log.close();
    shadows.flush(Duration::from_secs(2));
    decisions.close();
    upkeep.end(LAST_WRITES).await;
    close_stores(LAST_WORDS);
    noting.end(LAST_WRITES).await;
    database.into_iter().for_each(|database| database.close(LAST_WRITES));
    tracing::info!("stopped");
    Ok(())
}

/// Ends running streams once the drain's deadline has passed.
fn end_streams(drain: &Drain, close: watch::Sender<bool>) {
    let expired = drain.expired();
    tokio::spawn(async move {
        expired.await;
        // Fails only when no stream is left to be told.
        let _ = close.send(true);
    });
}

/// Writes into the audit log which secrets were read at the start.
async fn note_secrets(keys: &KeyDesk, references: &[String]) -> Result<(), String> {
    let read = serde_json::json!({ "references": references, "origin": "start" });
    keys.note("gateway", "secrets.read", "start", read).await.map_err(|refused| refused.to_string())
}

/// Answers are found by the other gateways, if there may be any; whose things are that providers keep outlives the process.
fn share_answers(shared: &Arc<Shared>) {
    if let Some(database) = &shared.database {
        let desk = shared.figures.desk();
        shared.answers.owners().keep_in(database.clone(), desk.central().map(Central::database));
        let answers = shared.answers.clone();
        tokio::spawn(async move { answers.owners().look_after().await });
    }
    if let Some(redis) = shared.figures.redis().filter(|redis| redis.settings().cache) {
        shared.cache.share(redis, shared.clock.clone(), "c");
        shared.repeats.share(redis, shared.clock.clone(), "i");
        shared.answers.share(redis);
    }
}

/// Meets the other gateways, if there may be any. One that cannot reach Redis starts nevertheless.
async fn meet(figures: &Figures) -> Result<(), String> {
    let Some(redis) = figures.redis() else { return Ok(()) };
    redis.begin()?;
    redis.settled(MEETING).await;
    Ok(())
}

/// Takes into service what is written, what is kept, and what other gateways know; says whether the keys that all share
/// could be brought.
async fn remember(keys: &KeyDesk, figures: &Arc<Figures>, terms: Terms) -> Result<bool, String> {
    let met = meet_keys(keys).await?;
    // Before budgets, which count what was spent by keys that name them.
    keys.refresh().await.map_err(|refused| format!("the stored keys cannot be read: {refused}"))?;
    restore(keys, figures).await.map_err(|refused| format!("what was set cannot be read: {refused}"))?;
    figures.configure(terms);
    meet(figures).await?;
    recall(figures, MEETING).await;
    Ok(met)
}

/// Brings the keys that all gateways share; says whether it could. One that cannot reach them starts with those that it
/// knew last.
async fn meet_keys(keys: &KeyDesk) -> Result<bool, String> {
    let why = match tokio::time::timeout(MEETING, keys.pull()).await {
        Ok(Ok(_)) => return Ok(true),
        Ok(Err(Refused::Trouble(Trouble::Refused(text)))) => return Err(text.to_string()),
        Ok(Err(refused)) => refused.to_string(),
        Err(_) => "PostgreSQL takes long".to_owned(),
    };
    tracing::warn!(why, "keys and what operators set are those that this gateway knew last");
    Ok(false)
}

fn access_log(wanted: bool) -> Result<AccessLog, String> {
    match wanted {
        true => AccessLog::start(std::io::stdout()).map_err(|error| format!("access log: {error}")),
        false => Ok(AccessLog::off()),
    }
}

fn services(errands: &Errands) -> Services {
    let errands = Arc::new(errands.clone());
    Services { embedder: Some(errands.clone()), courier: Some(errands), ..Services::default() }
}

/// Plugins may want vectors while they are loaded, and it is the gateway that makes them: they are loaded once more, now
/// that it can.
async fn with_vectors(mut house: House, shared: &Arc<Shared>, errands: &Errands) -> Result<House, String> {
    let services = services(errands);
    let again = tokio::task::spawn_blocking(move || {
        house.serve_plugins(services);
        let built = house.build(&SystemClock).map_err(|problems| problems.to_string());
        built.map(|built| (house, built))
    });
    let (house, built) = again.await.map_err(|error| format!("plugins: {error}"))??;
    shared.snapshot.store(built.snapshot);
    Ok(house)
}

/// For a person who starts the gateway by hand in a terminal.
fn greet(address: SocketAddr) {
    use std::io::IsTerminal as _;
    if std::io::stderr().is_terminal() {
        eprintln!("tollgate is listening: point an OpenAI client at http://{address}/v1");
    }
}

/// The first signal drains after `delay`, the second ends at once.
async fn end_on_signal(drain: Drain, delay: Duration, deadline: Duration) {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be caught; the process can only be killed");
        return;
    };
    let mut next = async || tokio::select! { _ = terminate.recv() => (), _ = interrupt.recv() => () };
    next().await;
    if !delay.is_zero() {
        drain.leave_soon();
        tracing::info!(delay_s = delay.as_secs_f64(), in_flight = drain.in_flight(), "leaving soon");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = next() => return end_at_once(&drain),
        }
    }
    drain.begin(deadline);
    tracing::info!(deadline_s = deadline.as_secs_f64(), in_flight = drain.in_flight(), "draining");
    next().await;
    end_at_once(&drain);
}

fn end_at_once(drain: &Drain) {
    drain.begin(Duration::ZERO);
    tracing::warn!("second signal: stopping at once");
}

/// `SIGHUP` looks at the files at once. `SIGUSR1` asks others to open their logs anew; ours go to standard output, and
/// the signal is not to end the process.
fn look_on_signal(watch: Watch) {
    let (hangup, user) = (signal(SignalKind::hangup()), signal(SignalKind::user_defined1()));
    let (Ok(mut hangup), Ok(mut user)) = (hangup, user) else {
        tracing::error!("SIGHUP and SIGUSR1 cannot be caught, and would end the process");
        return drop(tokio::spawn(keep(watch)));
    };
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: looking at the configuration now");
                    watch.look();
                }
                _ = user.recv() => {}
            }
        }
    });
}

/// Dropped, it would no longer watch.
async fn keep(watch: Watch) {
    std::future::pending::<()>().await;
    drop(watch);
}

/// One worker thread's doors.
struct Worker(Api);

impl Worker {
    fn new(shared: &Arc<Shared>, upstream: &Upstream, clock: &Arc<dyn Clock>) -> Self {
        let upstream = Arc::new(upstream.sibling());
        for vendor in shared.snapshot.load().catalogue.vendors() {
            if let crate::providers::Place::Http(place) = &vendor.place {
                upstream.prewarm(&place.origin);
            }
        }
        let gateway = Gateway::new(shared.clone(), upstream, Dice::fair());
        Self(Api::new(gateway, clock.clone(), Dice::fair()))
    }
}

impl Handler for Worker {
    type Body = ReplyBody;

    async fn handle(&self, request: Request<RequestBody>, peer: Peer) -> Response<ReplyBody> {
        self.0.respond(request, Some(peer.address.ip()), peer.tls).await
    }

    fn refuse(&self, fault: &Fault) -> Response<ReplyBody> {
        reply::fault(fault, &self.0.request_id())
    }
}

impl Unread for RequestBody {
    async fn collect(self) -> Result<Bytes, Fault> {
        Self::collect(self).await
    }

    fn upload(self) -> Upload {
        Upload::new(Box::pin(Self::upload(self)))
    }
}
