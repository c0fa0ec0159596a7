//! A deterministic simulation: thousands of requests through planner and executor, against targets whose faults change
//! from moment to moment, on paused time. Whatever happens, the promises hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::breaker::{Admission, Allowance, BreakerSettings, Gates, Health, HealthSettings, Heard, Standing};
use crate::caller::{Priority, Tenant};
use crate::chat::{Answer, Request, StreamDecoder, Usage};
use crate::clock::{Dice, FixedClock};
use crate::executor::{Answered, Bond, Carry, Executor, Job, Journal, Limits, Piece, TargetState};
use crate::facts::Told;
use crate::facts::market::Market;
use crate::fault::{Fault, FaultKind};
use crate::plan::{By, Decision, Hedge, Late, Manner, Route, Step, Together, Verdict};
use crate::planner::{self, Alias, AliasTarget, Catalogue, Entry};
use crate::providers::{
    Balance, Dialect, Frame, Key, KeyLimits, Local, LocalAnswer, Outgoing, Provider, Quotas, Relayed, Ring,
    StreamRelay, Target, Vendor,
};
use crate::queue::{LaneTerms, Lanes, QueueSettings};
use crate::settings::Period;
use crate::target::{ConcurrencyRules, TargetName};
use crate::upstream::{Upstream, UpstreamSettings};

/// Seeds that are played; each is a world of its own.
const SEEDS: u64 = 250;

/// How long a target keeps to one behaviour, in milliseconds.
const PHASE: u64 = 3_000;

/// How a target behaves for a while.
const MOODS: [&str; 12] =
    ["ok", "ok", "ok", "slow", "500", "529", "429", "429-after", "401", "400", "hang", "truncated"];

/// When calls under way began, by target.
type Calls = Arc<Mutex<HashMap<TargetName, Vec<Instant>>>>;

/// The targets of one world.
struct Stage {
    seed: u64,
    began: Instant,
    gates: Arc<Gates>,
    /// Calls under way that began while the breaker was not closed, by target.
    probing: Calls,
}

/// Part of an answer; gone when the answer is over or was dropped.
struct UnderWay {
    text: &'static [u8],
    probe: Option<(TargetName, Instant, Calls)>,
}

impl AsRef<[u8]> for UnderWay {
    fn as_ref(&self) -> &[u8] {
        self.text
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if let Some((target, began, probing)) = &self.probe {
            let mut probing = probing.lock().unwrap();
            let calls = probing.get_mut(target).unwrap();
            calls.remove(calls.iter().position(|call| call == began).unwrap());
        }
    }
}

struct Actor(Arc<Stage>);

impl Provider for Actor {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }
    fn encode(&self, _: &Request, _: &TargetName) -> Result<Outgoing, Fault> {
        Err(Fault::new(FaultKind::Internal, "not in this simulation"))
    }
    fn decode(&self, _: &[u8]) -> Result<Answer, Fault> {
        Err(Fault::new(FaultKind::Internal, "not in this simulation"))
    }
    fn stream_decoder(&self) -> Box<dyn StreamDecoder> {
        panic!("not in this simulation")
    }
    fn fault(&self, status: u16, headers: &HeaderMap, _: &[u8]) -> Fault {
        let kind = match status {
            429 => FaultKind::RateLimited,
            400 => FaultKind::BadRequest,
            401 => FaultKind::Credentials,
            529 => FaultKind::Overloaded,
            _ => FaultKind::ServerError,
        };
        let after = headers.contains_key("retry-after").then_some(Duration::from_secs(2));
        Fault::new(kind, "no").status(status).after(after)
    }
    fn local(&self) -> Option<&dyn Local> {
        Some(self)
    }
}

impl Stage {
    /// The mood of a target at this moment: the same in every run of the seed.
    fn mood(&self, target: &TargetName) -> &'static str {
        let phase = u64::try_from(self.began.elapsed().as_millis()).unwrap() / PHASE;
        let name = target.to_string().bytes().fold(0, |sum: u64, byte| sum * 31 + u64::from(byte));
        let dice = Dice::loaded(self.seed.wrapping_mul(7_919) ^ name ^ phase.wrapping_mul(104_729));
        MOODS[(dice.unit() * MOODS.len() as f64) as usize]
    }

    /// The promise of breakers: one probe while it is open, a few while it is half open, not counting those that hang.
    fn called(&self, target: &TargetName) -> Option<(TargetName, Instant, Calls)> {
        let state = self.gates.look(target, Instant::now()).expect("a gate").state;
        let most = match state {
            Standing::Closed => return None,
            Standing::Open => 1,
            Standing::HalfOpen => 4,
        };
        let mut probing = self.probing.lock().unwrap();
        let (calls, now) = (probing.entry(target.clone()).or_default(), Instant::now());
        calls.push(now);
        let lively = |began: &&Instant| now - **began < BreakerSettings::default().cool_down.0;
        let lively = calls.iter().filter(lively).count();
        assert!(lively <= most, "seed {}: {lively} calls to {target}, whose breaker is {state:?}", self.seed);
        drop(probing);
        Some((target.clone(), now, self.probing.clone()))
    }
}

impl Local for Actor {
    fn answer(&self, request: Outgoing) -> LocalAnswer {
        let target = TargetName::parse(&request.path).unwrap();
        let mut probe = self.0.called(&target);
        let mut piece = |ms: u64, text: &'static [u8]| {
            let part = UnderWay { text, probe: probe.take() };
            (Duration::from_millis(ms), Bytes::from_owner(part))
        };
        let mut headers = HeaderMap::new();
        let (status, pieces) = match self.0.mood(&target) {
            "ok" => (200, vec![piece(20, b"c"), piece(30, b"D")]),
            "slow" => (200, vec![piece(2_500, b"c"), piece(1_500, b"D")]),
            "hang" => (200, vec![piece(3_600_000, b"c")]),
            "truncated" => (200, vec![piece(10, b"r")]),
            "429-after" => {
                headers.insert("retry-after", 2.into());
                (429, vec![piece(5, b"{}")])
            }
            status => (status.parse().unwrap(), vec![piece(5, b"{}")]),
        };
        LocalAnswer { status, headers, pieces }
    }
}

/// One request.
struct Asked {
    stream: bool,
}

impl Carry for Asked {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        let path = target.name.to_string();
        Ok(Outgoing {
            method: Method::POST,
            path,
            is_absolute: false,
            headers: HeaderMap::new(),
            body: vec![],
            lost: vec![],

            tier: None,
        })
    }
    fn whole(&self, _: &Target, body: Bytes) -> Result<Relayed, Fault> {
        if !body.ends_with(b"D") {
            return Err(Fault::new(FaultKind::Truncated, "half an answer"));
        }
        Ok(Relayed { body, usage: None, finish: None, lost: vec![] })
    }
    fn wants_stream(&self) -> bool {
        self.stream
    }
    fn stream(&self, _: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Ok(Box::<Plain>::default())
    }
}

#[derive(Default)]
struct Plain(bool);

impl StreamRelay for Plain {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.0 |= &chunk[..] == b"D";
        out.push(Frame { content: &chunk[..] == b"c", bytes: chunk });
        Ok(())
    }
    fn whole(&mut self, _: Bytes, _: &mut Vec<Frame>) -> Result<(), Fault> {
        Err(Fault::new(FaultKind::Malformed, "not a stream"))
    }
    fn finish(&mut self, _: &mut Vec<Frame>) -> Result<(), Fault> {
        if self.0 { Ok(()) } else { Err(Fault::new(FaultKind::Truncated, "the stream broke off")) }
    }
    fn is_complete(&self) -> bool {
        self.0
    }
    fn usage(&self) -> Option<Usage> {
        None
    }
    fn finish_reason(&self) -> Option<&'static str> {
        None
    }
    fn text_bytes(&self) -> u64 {
        0
    }
}

/// A world: providers with keys, an alias over some of their models, and an executor.
struct World {
    stage: Arc<Stage>,
    vendors: Vec<Arc<Vendor>>,
    catalogue: Catalogue,
    lanes: Arc<Lanes>,
    executor: Arc<Executor>,
}

impl World {
    fn new(seed: u64) -> Self {
        let dice = Dice::loaded(seed);
        let gates = Arc::new(Gates::new(Dice::loaded(seed + 1)));
        gates.configure(BreakerSettings { consecutive: 3, min_attempts: 6, ..BreakerSettings::default() });
        let stage =
            Arc::new(Stage { seed, began: Instant::now(), gates: gates.clone(), probing: Arc::default() });
        let vendors: Vec<_> = (0..1 + pick(&dice, 3)).map(|place| vendor(place, &stage, &dice)).collect();
        let targets = vendors.iter().map(|vendor| {
            let name = TargetName { provider: vendor.name.clone(), model: "m".into() };
            AliasTarget::new(Target::new(vendor.clone(), name), Some(1.0))
        });
        let alias = Alias {
            targets: targets.collect(),
            fallback: Vec::new(),
            version: None,
            strategy: None,
            manner: None,
        };
        let catalogue = Catalogue::new(vendors.clone(), vec![("any".into(), Entry::One(alias))]);
        let lanes = Arc::new(Lanes::default());
        lanes.configure(lane_terms(&vendors, &dice));
        let health = Arc::new(Health::new(HealthSettings::default(), Instant::now()));
        let known = TargetState { health, gates, lanes: lanes.clone(), counter: Arc::default() };
        let upstream = Arc::new(Upstream::new(&UpstreamSettings::default()).unwrap());
        let (dice_of, clock) = (Arc::new(Dice::loaded(seed + 2)), Arc::new(FixedClock(0)));
        let executor = Executor::new(upstream, Arc::default(), known, dice_of, clock);
        Self { stage, vendors, catalogue, lanes, executor: Arc::new(executor) }
    }

    fn job(&self, dice: &Dice) -> Job {
        let retries = Some(u32::try_from(pick(dice, 3)).unwrap());
        let steps = vec![Step { choices: vec![("any".into(), 1.0)] }];
        let verdict =
            Some(Verdict::Route(Route { steps, retries, manner: manner(dice), ..Route::default() }));
        let decision = Decision { verdict, ..Decision::default() };
        let told: Told = serde_json::from_value(serde_json::json!({ "model": "any" })).unwrap();
        let nobody: Arc<dyn Market> = Arc::new(crate::facts::market::Told::default());
        let facts = told.facts(&nobody, 0).unwrap();
        let plan = planner::plan(&self.catalogue, &facts, &decision, dice).unwrap();
        Job {
            tiered: false,
            targets: plan.targets,
            retries: plan.retries,
            first_token: None,
            manner: plan.manner,
            judge: None,
            carry: Arc::new(Asked { stream: dice.unit() < 0.5 }),
            journal: Arc::new(Journal::default()),
            tab: None,
            advice: None,
            exposed: None,
            strict: false,
            limits: Limits {
                retries: 1,
                max_attempts: 1 + u32::try_from(pick(dice, 6)).unwrap(),
                backoff: Duration::from_millis(200),
                max_backoff: Duration::from_secs(3),
                max_body: 1 << 20,
                allowance: Allowance { share: 0.1, floor: 5 },
            },
            deadline: Instant::now() + Duration::from_millis(500 + pick(dice, 40_000)),
            tokens: 10,
            tenant: Tenant::numbered(pick(dice, 3)).with(Priority::ALL[pick(dice, 3) as usize]),
            bond: Bond::default(),
            market: None,
        }
    }
}

/// Some targets take only a few at once, and lines are short.
fn lane_terms(vendors: &[Arc<Vendor>], dice: &Dice) -> LaneTerms {
    let rules = vendors.iter().filter(|_| dice.unit() < 0.4).map(|vendor| {
        let max = Some(1 + u32::try_from(pick(dice, 3)).unwrap());
        (vendor.name.clone(), ConcurrencyRules { max, ..ConcurrencyRules::default() })
    });
    let max_wait = Period::millis(1 + pick(dice, 8_000));
    LaneTerms {
        providers: rules.collect(),
        queue: QueueSettings { size: 1 + pick(dice, 10) as usize, max_wait },
    }
}

/// One attempt after the other; or hedged, with a standby, or raced.
fn manner(dice: &Dice) -> Manner {
    let after = Late::After(Duration::from_millis(pick(dice, 3_000)));
    let together = Together { by: By::Race, of: 2, judge: None };
    match pick(dice, 6) {
        0 => Manner { hedge: Some(Hedge { after, targets: 3, share: 1.0 }), ..Manner::default() },
        1 => Manner { standby: Some(after), ..Manner::default() },
        2 => Manner { together: Some(together), ..Manner::default() },
        _ => Manner::default(),
    }
}

fn pick(dice: &Dice, most: u64) -> u64 {
    (dice.unit() * most as f64) as u64
}

fn vendor(place: u64, stage: &Arc<Stage>, dice: &Dice) -> Arc<Vendor> {
    let name: Arc<str> = format!("p{place}").into();
    let keys = (0..pick(dice, 4)).map(|key| {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", key.into());
        let most = (dice.unit() < 0.3).then_some(2);
        let all = Quotas { max_in_flight: most, ..Quotas::default() };
        let limits = KeyLimits { all, ..KeyLimits::default() };
        Key::new(format!("k{key}").into(), "default".into(), headers, limits)
    });
    let ring = Ring::new(name.clone(), keys.collect(), Balance::Weighted, None);
    Arc::new(Vendor { ring, ..Vendor::bare(&name, Arc::new(Actor(stage.clone()))) })
}

/// Carries one job out to the last byte, and checks what was promised of it.
async fn play(executor: Arc<Executor>, job: Job, seed: u64) {
    let whole = match executor.carry_out(&job).await {
        Err(fault) => {
            assert!(!fault.message.is_empty(), "seed {seed}");
            false
        }
        Ok(Answered::Whole(relayed, _)) => relayed.body.ends_with(b"D"),
        Ok(Answered::Stream(mut live)) => loop {
            match std::future::poll_fn(|cx| live.poll_piece(cx)).await {
                Piece::Bytes(_) => {}
                Piece::End => break true,
                Piece::Broken(_) => break false,
            }
        },
        Ok(_) => panic!("seed {seed}: an answer that nobody asked for"),
    };
    let late = Instant::now().saturating_duration_since(job.deadline);
    assert!(late <= Duration::from_millis(501), "seed {seed}: {late:?} behind the deadline");
    let attempts = job.journal.close();
    let good = attempts.iter().filter(|attempt| attempt.outcome == "ok").count();
    assert!(attempts.len() <= job.limits.max_attempts as usize, "seed {seed}: {attempts:#?}");
    assert!(good <= 1 && (!whole || good == 1), "seed {seed}: one answer: {attempts:#?}");
    // Losers of a race are noted after the winner.
    let last = attempts.iter().rev().find(|attempt| attempt.outcome != "cancelled");
    assert!(good == 0 || last.is_some_and(|last| last.outcome == "ok"), "seed {seed}: {attempts:#?}");
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_the_promises_hold() {
    let (mut requests, mut opened) = (0, 0);
    for seed in 0..SEEDS {
        let (world, dice) = (World::new(seed), Dice::loaded(seed + 3));
        let mut playing = JoinSet::new();
        for _ in 0..20 + pick(&dice, 40) {
            let playing_one = play(world.executor.clone(), world.job(&dice), seed);
            // Some clients leave.
            let patience = if dice.unit() < 0.1 { pick(&dice, 4_000) } else { u64::from(u32::MAX) };
            playing.spawn(async move {
                let _ = tokio::time::timeout(Duration::from_millis(patience), playing_one).await;
            });
            tokio::time::sleep(Duration::from_millis(pick(&dice, 600))).await;
            requests += 1;
            opened += world
                .stage
                .gates
                .watched(Duration::ZERO, Instant::now())
                .iter()
                .filter(|(_, state)| *state == Standing::Open)
                .count();
        }
        while let Some(ended) = playing.join_next().await {
            ended.unwrap();
        }
        assert!(world.stage.probing.lock().unwrap().values().all(Vec::is_empty), "seed {seed}");
        tokio::time::sleep(Duration::from_secs(60)).await;
        for vendor in &world.vendors {
            let busy = vendor.ring.looks(Instant::now()).iter().map(|look| look.in_flight).sum::<u32>();
            assert_eq!(busy, 0, "seed {seed}: every key was given back");
            for (_, lane) in world.lanes.of_provider(&vendor.name) {
                let left = (lane.in_flight, lane.waiting, lane.tenants);
                assert_eq!(left, (0, 0, 0), "seed {seed}: every place was given back");
            }
            let name = TargetName { provider: vendor.name.clone(), model: "m".into() };
            let allowance = Allowance { share: 0.1, floor: 5 };
            let entered = world.stage.gates.enter(&name, true, allowance, Instant::now());
            assert!(matches!(entered, Admission::Pass(_)), "seed {seed}: {name} is shut for ever");
        }
    }
    assert!(requests > 8_000 && opened > 500, "{requests} requests, {opened} looks at open breakers");
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "whose breaker is Open")]
async fn a_second_call_to_an_open_breaker_would_be_noticed() {
    let world = World::new(1);
    let name = TargetName { provider: world.vendors[0].name.clone(), model: "m".into() };
    for _ in 0..3 {
        let allowance = Allowance { share: 0.1, floor: 5 };
        match world.stage.gates.enter(&name, true, allowance, Instant::now()) {
            Admission::Pass(pass) => pass.heard(Heard::Bad, Instant::now()),
            Admission::Shut(_) => panic!("it opens after three failures"),
        }
    }
    let _first = world.stage.called(&name);
    world.stage.called(&name);
}
