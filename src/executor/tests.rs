//! Stories on paused time: what the client gets when targets misbehave.

use http::{HeaderMap, Method};

use super::*;
use crate::chat::Usage;
use crate::fault::FaultKind;
use crate::plan::{By, Hedge, Late, Together};
use crate::providers::{Balance, Dialect, Frame, Key, KeyLimits, Local, LocalAnswer, Provider, Ring, Vendor};
use crate::target::TargetName;

/// Answers by the model's name: `ok`, `500`, `429-2s`, `slow-40s`, `cut-0`, `cut-2`, `quiet-40s` …
struct Actor;

/// Each chunk is one frame; `c` is content, `E` an error event, `F` the finish with the usage, `D` the terminal event.
#[derive(Default)]
struct Plain {
    done: bool,
    said: bool,
    first_said: bool,
}

impl Provider for Actor {
    fn dialect(&self) -> Dialect {
        Dialect::OpenAi
    }
    fn encode(&self, _: &crate::chat::Request, _: &TargetName) -> Result<Outgoing, Fault> {
        Err(Fault::new(FaultKind::Internal, "not in these stories"))
    }
    fn decode(&self, _: &[u8]) -> Result<crate::chat::Answer, Fault> {
        Err(Fault::new(FaultKind::Internal, "not in these stories"))
    }
    fn stream_decoder(&self) -> Box<dyn crate::chat::StreamDecoder> {
        panic!("not in these stories")
    }
    fn fault(&self, status: u16, headers: &HeaderMap, _: &[u8]) -> Fault {
        let kind = match status {
            429 => FaultKind::RateLimited,
            400 => FaultKind::BadRequest,
            401 => FaultKind::Credentials,
            _ => FaultKind::ServerError,
        };
        let after = headers.get("retry-after").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        Fault::new(kind, "the actor says no").status(status).after(after.map(Duration::from_secs))
    }
    fn local(&self) -> Option<&dyn Local> {
        Some(self)
    }
}

impl Local for Actor {
    fn answer(&self, request: Outgoing) -> LocalAnswer {
        let (word, number) = request.path.split_once('-').unwrap_or((&request.path, "0"));
        let number: u64 = number.trim_end_matches('s').parse().unwrap_or(0);
        let mut headers = HeaderMap::new();
        let piece = |after: u64, text: &'static str| {
            (Duration::from_secs(after), Bytes::from_static(text.as_bytes()))
        };
        let status = if word == "hung" { 500 } else { word.parse().unwrap_or(200) };
        if status == 429 && number > 0 {
            headers.insert("retry-after", number.into());
        }
        let pieces = match word {
            "ok" => vec![piece(0, "r"), piece(0, "c"), piece(0, "D")],
            "slow" => vec![piece(0, "r"), piece(number, "c"), piece(0, "D")],
            "head" => vec![piece(number, "r"), piece(0, "c"), piece(0, "D")],
            "quiet" => vec![piece(0, "c"), piece(number, "D")],
            "cut" if number == 0 => vec![piece(0, "r")],
            "cut" => vec![piece(0, "c"), piece(0, "c")],
            "broken" => vec![piece(0, "r"), piece(0, "E")],
            "kept" => vec![piece(0, "c"), piece(2, "c"), piece(1, "D"), piece(number, "x")],
            "coda" => vec![piece(0, "c"), piece(1, "F"), piece(number, "D")],
            "second" => vec![piece(0, "c"), piece(1, "1"), piece(number, "c"), piece(0, "F"), piece(0, "D")],
            "hung" => vec![piece(0, "{"), piece(number, "}")],
            "signs" => {
                let mut pieces = vec![piece(0, "c")];
                pieces.extend((0..number).map(|_| piece(25, "r")));
                pieces.push(piece(1, "D"));
                pieces
            }
            "late" => vec![piece(0, "c"), piece(0, "E")],
            _ => vec![piece(0, "{}")],
        };
        LocalAnswer { status, headers, pieces }
    }
}

impl StreamRelay for Plain {
    fn feed(&mut self, chunk: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        match &chunk[..] {
            b"E" => return Err(Fault::new(FaultKind::ServerError, "an error inside the stream")),
            b"D" => self.done = true,
            b"1" => self.first_said = true,
            b"F" => self.said = true,
            content => out.push(Frame { content: content == b"c", bytes: chunk }),
        }
        Ok(())
    }
    fn whole(&mut self, body: Bytes, out: &mut Vec<Frame>) -> Result<(), Fault> {
        out.push(Frame { bytes: body, content: true });
        Ok(())
    }
    fn finish(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        if !self.done {
            return Err(Fault::new(FaultKind::Truncated, "the stream broke off"));
        }
        out.push(Frame { bytes: Bytes::from_static(b"[DONE]"), content: false });
        Ok(())
    }
    fn settle(&mut self, out: &mut Vec<Frame>) -> Result<(), Fault> {
        self.done |= self.said;
        self.finish(out)
    }
    fn is_complete(&self) -> bool {
        self.done
    }
    fn usage(&self) -> Option<Usage> {
        (self.said || self.first_said).then(Usage::default)
    }
    fn finish_reason(&self) -> Option<&'static str> {
        (self.said || self.first_said).then_some("stop")
    }
    fn has_said_all(&self) -> bool {
        self.said
    }
    fn text_bytes(&self) -> u64 {
        0
    }
}

struct Request {
    stream: bool,
}

impl Carry for Request {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        let path = target.name.model.to_string();
        Ok(Outgoing {
            method: Method::POST,
            path,
            is_absolute: false,
            headers: HeaderMap::new(),
            body: Vec::new(),
            lost: Vec::new(),
            tier: None,
        })
    }
    fn whole(&self, _: &Target, body: Bytes) -> Result<Relayed, Fault> {
        Ok(Relayed { body, usage: None, finish: None, lost: Vec::new() })
    }
    fn wants_stream(&self) -> bool {
        self.stream
    }
    fn stream(&self, _: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Ok(Box::<Plain>::default())
    }
}

pub(super) fn executor() -> Executor {
    let upstream = Upstream::new(&crate::upstream::UpstreamSettings::default()).unwrap();
    let health = crate::breaker::Health::new(crate::breaker::HealthSettings::default(), Instant::now());
    let gates = Arc::new(Gates::new(Dice::loaded(2)));
    let (dice, clock) = (Arc::new(Dice::loaded(1)), Arc::new(crate::clock::FixedClock(0)));
    let (lanes, counter) = (Arc::default(), Arc::default());
    let known = TargetState { health: Arc::new(health), gates, lanes, counter };
    Executor::new(Arc::new(upstream), Arc::default(), known, dice, clock)
}

pub(super) fn job_of(models: &[&str], stream: bool) -> Job {
    let vendor = Arc::new(Vendor::bare("actor", Arc::new(Actor)));
    let name = |model: &&str| TargetName { provider: "actor".into(), model: (*model).into() };
    Job {
        tiered: false,
        tab: None,
        targets: models.iter().map(|model| Target::new(vendor.clone(), name(model))).collect(),
        retries: None,
        first_token: None,
        manner: None,
        judge: None,
        carry: Arc::new(Request { stream }),
        journal: Arc::default(),
        advice: None,
        exposed: None,
        strict: false,
        limits: Limits {
            retries: 1,
            max_attempts: 6,
            backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            max_body: 1 << 20,
            allowance: Allowance { share: 0.1, floor: 10 },
        },
        deadline: Instant::now() + Duration::from_secs(600),
        tokens: 0,
        tenant: crate::caller::Tenant::default(),
        bond: Bond::default(),
        market: None,
    }
}

/// What the client saw, which attempts were made, and how long it took in virtual time.
async fn told(models: &[&str], stream: bool) -> (String, Vec<&'static str>, u64) {
    let (executor, job, began) = (executor(), job_of(models, stream), Instant::now());
    let seen = match executor.carry_out(&job).await {
        Err(fault) => fault.kind.as_str().to_owned(),
        Ok(Answered::Whole(relayed, _)) => String::from_utf8_lossy(&relayed.body).into_owned(),
        Ok(Answered::Switched(_)) => "switched".to_owned(),
        Ok(Answered::Raw(raw)) => format!("raw {}", raw.status()),
        Ok(Answered::Stream(mut live)) => {
            let mut seen = String::new();
            loop {
                match std::future::poll_fn(|cx| live.poll_piece(cx)).await {
                    Piece::Bytes(bytes) => seen.push_str(&String::from_utf8_lossy(&bytes)),
                    Piece::End => break seen,
                    Piece::Broken(fault) => break format!("{seen} {}", fault.kind.as_str()),
                }
            }
        }
    };
    (seen, job.journal.close().iter().map(word).collect(), began.elapsed().as_secs())
}

/// Outcomes of attempts that were made here are words of the program.
fn word(attempt: &crate::plan::AttemptRecord) -> &'static str {
    match attempt.outcome {
        std::borrow::Cow::Borrowed(word) => word,
        std::borrow::Cow::Owned(_) => "owned",
    }
}

#[tokio::test(start_paused = true)]
async fn faults_before_the_first_content_are_invisible() {
    for (first, outcomes) in [
        ("500", vec!["server_error", "server_error", "ok"]),
        ("429", vec!["rate_limited", "ok"]),
        ("429-2s", vec!["rate_limited", "ok"]),
        ("429-30s", vec!["rate_limited", "ok"]),
        ("401", vec!["upstream_credentials", "ok"]),
        ("slow-90s", vec!["timeout_first_token", "ok"]),
        ("head-40s", vec!["timeout_first_token", "ok"]),
        ("cut-0", vec!["upstream_truncated", "ok"]),
        ("broken", vec!["server_error", "server_error", "ok"]),
        ("302", vec!["upstream_malformed", "ok"]),
    ] {
        let (seen, attempts, _) = told(&[first, "ok"], true).await;
        assert_eq!((seen.as_str(), &attempts), ("rc[DONE]", &outcomes), "{first}");
    }
}

#[tokio::test(start_paused = true)]
async fn faults_after_content_end_the_stream_without_its_normal_end() {
    for (model, expected) in
        [("cut-2", "cc upstream_truncated"), ("late", "c server_error"), ("quiet-40s", "c timeout_idle")]
    {
        let (seen, attempts, _) = told(&[model, "ok"], true).await;
        assert_eq!((seen.as_str(), attempts), (expected, vec!["ok"]), "{model}");
    }
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_keep_a_stream_alive_for_a_while_only() {
    for (model, expected) in
        [("signs-4", "crrrr[DONE]"), ("signs-5", "crrrr timeout_idle"), ("signs-900", "crrrr timeout_idle")]
    {
        let (seen, attempts, took) = told(&[model, "ok"], true).await;
        assert_eq!((seen.as_str(), attempts), (expected, vec!["ok"]), "{model}");
        assert!((100..=120).contains(&took), "{model}: {took}");
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_honoured_before_the_same_target_is_tried_again() {
    let (seen, attempts, seconds) = told(&["429-2s"], false).await;
    assert_eq!((seen.as_str(), attempts.len(), seconds), ("rate_limited", 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_pause_is_waited_for_only_when_nobody_else_could_answer() {
    for (models, outcomes, seconds) in [
        (vec!["429-2s", "ok"], vec!["rate_limited", "ok"], 0),
        (vec!["429-2s", "cut-0"], vec!["rate_limited", "upstream_truncated", "rate_limited"], 2),
        (vec!["429-2s", "429-3s"], vec!["rate_limited"; 4], 3),
        (vec!["429-30s", "cut-0"], vec!["rate_limited", "upstream_truncated"], 0),
    ] {
        let (_, attempts, took) = told(&models, true).await;
        assert_eq!((attempts, took), (outcomes, seconds), "{models:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_target_has_less_time_while_another_one_is_left() {
    for (models, stream, outcomes, seconds) in [
        (vec!["head-40s", "ok"], false, vec!["timeout_first_byte", "ok"], 20),
        (vec!["head-40s"], false, vec!["ok"], 40),
        (vec!["ok"], false, vec!["ok"], 0),
        (vec!["slow-30s", "ok"], false, vec!["timeout_first_byte", "ok"], 20),
        (vec!["slow-40s", "ok"], true, vec!["timeout_first_token", "ok"], 20),
        (vec!["slow-40s"], true, vec!["ok"], 40),
        (
            vec!["head-50s", "head-51s", "ok"],
            true,
            vec!["timeout_first_token", "timeout_first_token", "ok"],
            40,
        ),
        // Who is late may answer all the same, and first.
        (vec!["head-40s", "slow-50s"], true, vec!["ok", "cancelled"], 40),
        (vec!["head-25s", "head-30s"], false, vec!["ok", "cancelled"], 25),
        // Whoever is asked beside it and fails is followed by the next, or tried once more.
        (vec!["slow-45s", "500", "ok"], true, vec!["server_error", "timeout_first_token", "ok"], 20),
        (
            vec!["head-40s", "401", "429-2s"],
            false,
            vec!["upstream_credentials", "rate_limited", "rate_limited", "ok"],
            40,
        ),
    ] {
        let (_, attempts, took) = told(&models, stream).await;
        assert_eq!((attempts, took), (outcomes, seconds), "{models:?}, stream {stream}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_is_told_the_fault_of_who_was_asked_first() {
    for (models, stream, expected) in [
        // It was late, and others said no meanwhile.
        (vec!["head-90s", "400-"], false, "timeout_first_byte"),
        (vec!["head-90s", "302-1"], false, "timeout_first_byte"),
        (vec!["slow-90s", "400-"], true, "timeout_first_token"),
        (vec!["500", "400-"], false, "server_error"),
        (vec!["400-", "500"], false, "bad_request"),
        // A fallback may still answer.
        (vec!["head-90s", "401", "ok"], false, "rcD"),
    ] {
        let (seen, attempts, _) = told(&models, stream).await;
        assert_eq!(seen, expected, "{models:?}: {attempts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_late_and_given_up_is_blamed_and_who_is_known_to_be_slow_is_waited_for() {
    let hangs = executor();
    for _ in 0..10 {
        assert!(hangs.carry_out(&job_of(&["head-50s", "ok"], false)).await.is_ok());
    }
    let targets = job_of(&["head-50s", "ok"], false).targets;
    assert!(!hangs.gates.is_closed(&targets[0].name), "nobody is asked in vain for ever");
    assert!(hangs.gates.is_closed(&targets[1].name));

    let slow = executor();
    for round in 0..40 {
        let job = job_of(&["head-25s", "slow-30s"], false);
        assert!(
            matches!(slow.carry_out(&job).await, Ok(Answered::Whole(_, target)) if &*target.name.model == "head-25s")
        );
        let answer =
            crate::breaker::Answer { took: Duration::from_secs(25), first_token: None, tokens: Some(1) };
        slow.health.answered(&job.targets[0].name, answer, Instant::now());
        slow.health.tick(Instant::now());
        let alone = job.journal.close().len() == 1;
        assert_eq!(alone, round > 0, "round {round}");
    }
    assert!(slow.gates.is_closed(&job_of(&["head-25s"], false).targets[0].name));
}

#[tokio::test(start_paused = true)]
async fn an_impatient_client_is_answered_within_its_patience_and_blames_nobody() {
    let executor = executor();
    for _ in 0..20 {
        let mut job = job_of(&["head-40s", "slow-9s", "ok"], true);
        job.deadline = Instant::now() + Duration::from_secs(8);
        let began = Instant::now();
        assert!(matches!(executor.carry_out(&job).await, Ok(Answered::Stream(_))));
        assert_eq!(began.elapsed().as_secs(), 6, "four seconds, two, and the rest");
    }
    for target in job_of(&["head-40s", "slow-9s"], true).targets {
        assert!(executor.gates.is_closed(&target.name), "{} is blamed", target.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_rests_gets_one_try_and_no_more() {
    let executor = executor();
    for _ in 0..7 {
        let _ = executor.carry_out(&job_of(&["500"], false)).await;
    }
    assert!(!executor.gates.is_closed(&job_of(&["500"], false).targets[0].name));
    let job = job_of(&["500"], false);
    assert!(executor.carry_out(&job).await.is_err());
    assert_eq!(job.journal.close().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_callers_own_fault_is_not_repeated() {
    let (seen, attempts, _) = told(&["400", "ok"], false).await;
    assert_eq!((seen.as_str(), attempts), ("bad_request", vec!["bad_request"]));
}

#[tokio::test(start_paused = true)]
async fn attempts_are_bounded_over_all_targets() {
    let (_, attempts, _) = told(&["500", "501", "502", "503", "504", "505"], false).await;
    assert_eq!(attempts.len(), 6);
    // Repeats leave enough for those who were not asked yet.
    let (seen, attempts, _) = told(&["500", "501", "502", "ok"], false).await;
    assert_eq!((seen.as_str(), attempts.len()), ("rcD", 6), "{attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_all_here_may_linger_only_shortly() {
    let (seen, _, _) = told(&["quiet-3s"], true).await;
    assert_eq!(seen, "c[DONE]");
    for (model, expected, seconds) in [("kept-40s", "cc[DONE]", 3), ("coda-40s", "c[DONE]", 6)] {
        let (seen, _, took) = told(&[model], true).await;
        assert_eq!((seen.as_str(), took), (expected, seconds), "{model}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_choice_may_pause_although_the_first_one_has_ended_and_usage_is_told_on_the_way() {
    let (seen, _, took) = told(&["second-8s"], true).await;
    assert_eq!((seen.as_str(), took), ("cc[DONE]", 9));
}

#[tokio::test(start_paused = true)]
async fn an_error_is_told_although_its_text_never_comes() {
    let (seen, attempts, took) = told(&["hung-90s", "ok"], false).await;
    assert_eq!((seen.as_str(), attempts, took), ("rcD", vec!["server_error", "server_error", "ok"], 2));
}

/// As `told`, with this manner and time to the first content.
async fn told_in(
    manner: Manner,
    models: &[&str],
    stream: bool,
    first_token: u64,
) -> (String, Vec<String>, u64) {
    let executor = executor();
    let mut job = job_of(models, stream);
    (job.manner, job.first_token) = (Some(Box::new(manner)), Some(Duration::from_secs(first_token)));
    let began = Instant::now();
    let seen = match executor.carry_out(&job).await {
        Err(fault) => fault.kind.as_str().to_owned(),
        Ok(Answered::Whole(_, target)) => target.name.model.to_string(),
        Ok(Answered::Stream(live)) => live.target().name.model.to_string(),
        Ok(_) => "something else".to_owned(),
    };
    let took = u64::try_from(began.elapsed().as_millis()).unwrap();
    let attempts = job.journal.close();
    let attempts =
        attempts.iter().map(|one| format!("{} {} {}", one.target.model, one.outcome, one.role.as_str()));
    (seen, attempts.collect(), took)
}

fn hedge(after_ms: u64, targets: u8) -> Manner {
    let after = Late::After(Duration::from_millis(after_ms));
    Manner { hedge: Some(Hedge { after, targets, share: 1.0 }), ..Manner::default() }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_the_time_that_its_route_gives_it() {
    let brief = || Manner { attempt: Some(Duration::from_millis(400)), ..Manner::default() };
    for (models, stream, expected, took) in [
        (["head-20s", "ok"], false, ["head-20s timeout_first_byte primary", "ok ok retry"], 400),
        (["slow-20s", "ok"], false, ["slow-20s timeout_idle primary", "ok ok retry"], 400),
        (["slow-20s", "ok"], true, ["slow-20s timeout_first_token primary", "ok ok retry"], 400),
        // The last one has no more.
        (
            ["401", "head-20s"],
            false,
            ["401 upstream_credentials primary", "head-20s timeout_first_byte retry"],
            400,
        ),
    ] {
        let executor = executor();
        let mut job = job_of(&models, stream);
        (job.manner, job.retries) = (Some(Box::new(brief())), Some(0));
        let began = Instant::now();
        // How it ends stands in the journal.
        drop(executor.carry_out(&job).await);
        let ms = began.elapsed().as_millis();
        let attempts = job.journal.close();
        let told = |one: &crate::plan::AttemptRecord| {
            format!("{} {} {}", one.target.model, one.outcome, one.role.as_str())
        };
        let attempts: Vec<_> = attempts.iter().map(told).collect();
        assert_eq!(
            (attempts, ms),
            (expected.map(str::to_owned).to_vec(), took),
            "{models:?}, stream {stream}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_is_asked_for_elsewhere() {
    for (models, after, targets, expected, took) in [
        (["head-20s", "ok", "spare"], 500, 2, vec!["ok ok hedge", "head-20s cancelled primary"], 500),
        (
            ["head-20s", "head-9s", "ok"],
            500,
            3,
            vec!["ok ok hedge", "head-20s cancelled primary", "head-9s cancelled hedge"],
            1_000,
        ),
        (["ok", "spare", "spare2"], 500, 2, vec!["ok ok primary"], 0),
        // A failure is not awaited.
        (["400-", "ok", "spare"], 500, 2, vec!["400- bad_request primary"], 0),
        (["401", "ok", "spare"], 500, 2, vec!["401 upstream_credentials primary", "ok ok retry"], 0),
        // At once.
        (["head-20s", "ok", "spare"], 0, 2, vec!["ok ok hedge", "head-20s cancelled primary"], 0),
    ] {
        let shown = format!("{models:?} after {after}");
        let (_, attempts, ms) = told_in(hedge(after, targets), &models, false, 60).await;
        assert_eq!((attempts, ms), (expected.iter().map(ToString::to_string).collect(), took), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_begins_before_the_time_to_the_first_content_is_over() {
    let standby = |after: Late| Manner { standby: Some(after), ..Manner::default() };
    let ms = |ms: u64| Late::After(Duration::from_millis(ms));
    for (late, took) in [(ms(700), 700), (Late::P95, 2_000), (ms(90_000), 2_000)] {
        let (seen, attempts, waited) = told_in(standby(late), &["slow-90s", "ok"], true, 4).await;
        assert_eq!((seen.as_str(), waited), ("ok", took), "{late}: {attempts:?}");
        assert_eq!(attempts, ["ok ok standby", "slow-90s cancelled primary"], "{late}");
    }
    let (seen, attempts, took) = told_in(standby(ms(700)), &["slow-90s", "slow-9s", "ok"], true, 4).await;
    assert_eq!((seen.as_str(), took), ("ok", 4_700), "both are late, then the next is asked: {attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn races_are_won_and_lost() {
    let race =
        |of| Manner { together: Some(Together { by: By::Race, of, judge: None }), ..Manner::default() };
    let (seen, attempts, took) = told_in(race(3), &["slow-9s", "slow-3s", "slow-5s"], true, 60).await;
    assert_eq!((seen.as_str(), took), ("slow-3s", 3_000), "{attempts:?}");
    let (seen, attempts, _) = told_in(race(2), &["401-1", "401-2", "ok"], true, 60).await;
    assert_eq!((seen.as_str(), attempts.len()), ("ok", 3), "{attempts:?}");
    let (seen, attempts, _) = told_in(race(2), &["401-1", "401-2"], false, 60).await;
    assert_eq!((seen.as_str(), attempts.len()), ("upstream_credentials", 2), "{attempts:?}");
}

fn together(by: By, of: usize) -> Manner {
    Manner { together: Some(Together { by, of, judge: None }), ..Manner::default() }
}

#[tokio::test(start_paused = true)]
async fn who_was_asked_beside_others_is_given_its_pause_and_one_more_try() {
    for (manner, models, tried, seconds) in [
        (
            together(By::Vote, 3),
            vec!["429-2s", "429-4s", "429-3s"],
            vec!["429-2s", "429-4s", "429-3s", "429-3s", "429-2s", "429-4s"],
            4,
        ),
        (together(By::Vote, 2), vec!["429-2s", "302-1"], vec!["429-2s", "302-1", "429-2s"], 2),
        (together(By::Vote, 2), vec!["429-2s", "302-1", "ok"], vec!["429-2s", "302-1", "ok"], 0),
        (together(By::Race, 2), vec!["429-2s", "302-1"], vec!["429-2s", "302-1", "429-2s"], 2),
        (together(By::Race, 2), vec!["429-2s", "slow-3s"], vec!["429-2s", "slow-3s"], 3),
        (hedge(0, 2), vec!["429-2s", "302-1"], vec!["429-2s", "302-1", "429-2s"], 2),
    ] {
        let (_, attempts, ms) = told_in(manner, &models, false, 60).await;
        let asked: Vec<_> = attempts.iter().filter_map(|attempt| attempt.split(' ').next()).collect();
        assert_eq!((asked, ms / 1_000), (tried, seconds), "{models:?}: {attempts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_of_several_whose_key_is_refused_is_tried_with_another() {
    let vendor = |name: &str| {
        let key = |key: &str| Key::new(key.into(), "default".into(), HeaderMap::new(), KeyLimits::default());
        let ring = Ring::new(name.into(), vec![key("a"), key("b")], Balance::Weighted, None);
        Arc::new(Vendor { ring, ..Vendor::bare(name, Arc::new(Actor)) })
    };
    let mut job = job_of(&["401-1", "401-2"], false);
    for (target, name) in job.targets.iter_mut().zip(["one", "two"]) {
        *target = Target::new(vendor(name), TargetName { provider: name.into(), ..target.name.clone() });
    }
    job.manner = Some(Box::new(together(By::Vote, 2)));
    assert!(executor().carry_out(&job).await.is_err());
    let asked: Vec<_> = job.journal.close().iter().map(|attempt| attempt.target.to_string()).collect();
    assert_eq!(asked, ["one/401-1", "two/401-2", "one/401-1", "two/401-2"]);
}

/// The provider `busy` takes one request at once.
fn with_a_busy_provider() -> Executor {
    use crate::queue::LaneTerms;
    use crate::target::ConcurrencyRules;
    let executor = executor();
    let rules = ConcurrencyRules { max: Some(1), ..ConcurrencyRules::default() };
    let providers = [("busy".into(), rules)].into();
    executor.lanes.configure(LaneTerms { providers, ..LaneTerms::default() });
    executor
}

#[tokio::test(start_paused = true)]
async fn who_waited_in_vain_is_told_how_long() {
    let executor = with_a_busy_provider();
    let mut job = job_of(&["ok", "spare"], false);
    let take = |target: &mut Target| {
        target.name.provider = "busy".into();
        executor.lanes.of(&target.name, || true).enter().expect("a place")
    };
    let _taken: Vec<_> = job.targets.iter_mut().map(take).collect();
    let began = Instant::now();
    let fault = executor.carry_out(&job).await.err().expect("nobody leaves");
    assert_eq!(fault.code_str(), "target_busy");
    assert_eq!(fault.message, "the target is busy, and 5.0 s in its line were in vain");
    assert_eq!(began.elapsed().as_secs(), 5, "in one line or in both");
}

#[tokio::test(start_paused = true)]
async fn who_waited_in_line_was_asked_when_its_turn_came_and_not_before_others() {
    let executor = with_a_busy_provider();
    let mut job = job_of(&["302", "400"], false);
    let vendor = Arc::new(Vendor::bare("busy", Arc::new(Actor)));
    let name = TargetName { provider: "busy".into(), model: "400".into() };
    let taken = executor.lanes.of(&name, || true).enter().expect("a place");
    job.targets[1] = Target::new(vendor, name);
    let leaves = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(taken);
    };
    let (ended, ()) = tokio::join!(executor.carry_out(&job), leaves);
    // The second one refuses what the first might have taken: that is told of which was asked first.
    assert_eq!(ended.err().map(|fault| fault.kind), Some(FaultKind::Malformed));
    let asked: Vec<_> = job.journal.close().iter().map(|attempt| attempt.target.to_string()).collect();
    assert_eq!(asked, ["actor/302", "busy/400"]);
}
