//! Stories on paused time: what the client gets when targets misbehave.

use http::{HeaderMap, Method};

use super::*;
use crate::chat::Usage;
use crate::fault::FaultKind;
use crate::providers::{Dialect, Frame, Local, LocalAnswer, Provider, Vendor};
use crate::target::TargetName;

/// Answers by the model's name: `ok`, `500`, `429-2s`, `slow-40s`, `cut-0`, `cut-2`, `quiet-40s` …
struct Actor;

/// Each chunk is one frame; `c` is content, `E` an error event, `D` the terminal event.
#[derive(Default)]
struct Plain {
    done: bool,
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
        let status = word.parse().unwrap_or(200);
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
    fn is_complete(&self) -> bool {
        self.done
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

struct Request {
    stream: bool,
}

impl Carry for Request {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        let path = target.name.model.to_string();
        Ok(Outgoing {
            method: Method::POST,
            path,
            headers: HeaderMap::new(),
            body: Vec::new(),
            lost: Vec::new(),
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

/// What the client saw, which attempts were made, and how long it took in virtual time.
async fn told(models: &[&str], stream: bool) -> (String, Vec<&'static str>, u64) {
    let vendor = Arc::new(Vendor::bare("actor", Arc::new(Actor)));
    let targets = models
        .iter()
        .map(|m| {
            let name = TargetName { provider: "actor".into(), model: (*m).into() };
            Target::new(vendor.clone(), name)
        })
        .collect();
    let upstream = Upstream::new(&crate::upstream::UpstreamSettings::default()).unwrap();
    let executor = Executor::new(
        Arc::new(upstream),
        Arc::default(),
        Arc::new(crate::breaker::Health::new(crate::breaker::HealthSettings::default(), Instant::now())),
        Arc::new(Gates::new(Dice::loaded(2))),
        Arc::new(Dice::loaded(1)),
        Arc::new(crate::clock::FixedClock(0)),
    );
    let began = Instant::now();
    let job = Job {
        tab: None,
        targets,
        retries: None,
        first_token: None,
        carry: Arc::new(Request { stream }),
        journal: Arc::default(),
        advice: None,
        strict: false,
        limits: Limits {
            retries: 1,
            max_attempts: 6,
            backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            max_body: 1 << 20,
            allowance: Allowance { share: 0.1, floor: 10 },
        },
        deadline: began + Duration::from_secs(600),
        tokens: 0,
        common: Common::default(),
        market: None,
    };
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
        ("429", vec!["rate_limited", "rate_limited", "ok"]),
        ("429-30s", vec!["rate_limited", "ok"]),
        ("401", vec!["upstream_credentials", "ok"]),
        ("slow-90s", vec!["timeout_first_token", "ok"]),
        ("head-40s", vec!["timeout_first_byte", "ok"]),
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
async fn retry_after_is_honoured_before_the_same_target_is_tried_again() {
    let (seen, attempts, seconds) = told(&["429-2s"], false).await;
    assert_eq!((seen.as_str(), attempts.len(), seconds), ("rate_limited", 2, 2));
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
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_all_here_may_linger_only_shortly() {
    let (seen, _, _) = told(&["quiet-3s"], true).await;
    assert_eq!(seen, "c[DONE]");
}
