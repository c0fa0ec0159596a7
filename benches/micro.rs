//! What single steps of the request line cost, without sockets: `cargo bench --bench micro -- [part of a name]`.

#[path = "micro/chain.rs"]
mod chain;
#[path = "micro/pairs.rs"]
mod pairs;
#[path = "gateway/prompts.rs"]
mod prompts;

use std::error::Error;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tollgate::api::anthropic_messages;
use tollgate::api::openai_chat::Ask;
use tollgate::caller::Caller;
use tollgate::facts::market::Told;
use tollgate::facts::{Endpoint, Facts};
use tollgate::json::Body;
use tollgate::policy::{Names, PolicySet, PolicySettings, Source};
use tollgate::providers::{Provider, QuirkSettings, dialect};
use tollgate::target::TargetName;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

// As in the gateway: half of what a step costs is memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SIZES: [(&str, usize); 3] = [("1 KB", 1 << 10), ("32 KB", 32 << 10), ("256 KB", 256 << 10)];

fn main() -> Result<()> {
    // cargo passes `--bench`.
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let mut time = |name: &str, work: &mut dyn FnMut()| {
        if name.contains(&part) {
            println!("{name:<40} {:>12}", shown(median(work)));
        }
    };

    for (size, bytes) in SIZES {
        let prompt = Bytes::from(prompts::chat("bench-chat", bytes, false));
        time(&format!("gate {size}"), &mut || drop(black_box(Body::read(prompt.clone()))));
        time(&format!("gate + envelope {size}"), &mut || {
            drop(black_box(Body::read(prompt.clone()).and_then(Ask::read)));
        });
    }

    let provider = dialect("openai", &QuirkSettings::default()).ok_or("no dialect `openai`")?;
    let relay = provider.relay().ok_or("openai relays nothing")?;
    let target = TargetName::parse("mock/chat").ok_or("not a target")?;
    for (size, bytes) in SIZES {
        let body = Body::read(prompts::chat("bench-chat", bytes, false).into())
            .map_err(|fault| fault.to_string())?;
        time(&format!("splice {size}"), &mut || drop(black_box(relay.splice(&body, &target))));
    }

    for (size, bytes) in SIZES {
        let prompt = Bytes::from(prompts::messages("bench-chat", bytes, false));
        let body = Body::read(prompt).map_err(|fault| fault.to_string())?;
        time(&format!("translate {size}"), &mut || {
            let decoded = anthropic_messages::decode(&body);
            drop(black_box(decoded.map(|decoded| provider.encode(&decoded.request, &target))));
        });
    }

    let policies = policies()?;
    for (size, bytes) in SIZES {
        let prompt = Bytes::from(prompts::chat("bench-chat", bytes, false));
        let body = Body::read(prompt).map_err(|fault| fault.to_string())?;
        // Facts are computed at most once for each request, so each decision gets fresh ones.
        time(&format!("facts + policy {size}"), &mut || {
            if let Ok(ask) = Ask::read(body.clone()) {
                drop(black_box(policies.decide(&Arc::new(facts(ask)))));
            }
        });
    }

    let prompt = Bytes::from(prompts::chat("bench-chat", 2 << 10, false));
    let body = Body::read(prompt).map_err(|fault| fault.to_string())?;
    let known = Arc::new(facts(Ask::read(body).map_err(|fault| fault.to_string())?));
    for (name, set) in chain::sets()? {
        time(name, &mut || drop(black_box(set.decide(&known))));
    }

    let chunks: Vec<Bytes> = (0..200).map(event).collect();
    let whole = Bytes::from(chunks.concat());
    time("relay 200 events, each", &mut || feed(provider.as_ref(), &chunks));
    time("relay 200 events, packed", &mut || feed(provider.as_ref(), std::slice::from_ref(&whole)));
    pairs::all(&mut time)
}

/// The median time of one call over half a second, in calls that come in batches of about a millisecond.
fn median(work: &mut dyn FnMut()) -> Duration {
    let mut batch = 1_u32;
    let one = loop {
        let taken = timed(batch, work);
        if taken > Duration::from_millis(1) {
            break taken / batch;
        }
        batch *= 2;
    };
    let rounds = (500_000_000 / (one.as_nanos() * u128::from(batch)).max(1)).clamp(5, 2_000);
    let mut all: Vec<Duration> = (0..rounds).map(|_| timed(batch, work) / batch).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or(one)
}

fn timed(times: u32, work: &mut dyn FnMut()) -> Duration {
    let begin = Instant::now();
    for _ in 0..times {
        work();
    }
    begin.elapsed()
}

fn shown(time: Duration) -> String {
    let nanos = time.as_nanos();
    if nanos < 10_000 { format!("{nanos} ns") } else { format!("{:.1} µs", time.as_secs_f64() * 1e6) }
}

fn policies() -> Result<PolicySet> {
    let source = Source {
        name: "10-bench".to_owned(),
        path: "benches/gateway/policy.rhai".into(),
        text: include_str!("gateway/policy.rhai").to_owned(),
    };
    let names = Names { providers: ["mock".to_owned()].into(), ..Names::default() };
    PolicySet::load(&[source], &PolicySettings::default(), &serde_json::Map::new(), &names)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n").into())
}

fn facts(ask: Ask) -> Facts {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("OpenAI/Python 1.109.1"));
    headers.insert("x-stainless-lang", HeaderValue::from_static("python"));
    Facts {
        rates: Default::default(),
        request_id: "0193".into(),
        endpoint: Endpoint::Chat,
        model: ask.model().clone(),
        caller: Caller { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), ..Caller::default() },
        headers,
        tags: vec![("team".into(), "search".into()), ("feature".into(), "ask".into())],
        at_ms: 1_762_000_000_000,
        body: Arc::new(ask),
        market: Arc::new(Told::default()),
    }
}

fn event(number: usize) -> Bytes {
    let finish = if number == 199 { "\"stop\"" } else { "null" };
    let end = if number == 199 { "data: [DONE]\n\n" } else { "" };
    format!(
        "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1762000000,\"model\":\"chat\",\
         \"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" refund\"}},\"logprobs\":null,\
         \"finish_reason\":{finish}}}]}}\n\n{end}"
    )
    .into()
}

fn feed(provider: &dyn Provider, chunks: &[Bytes]) {
    let Some(relay) = provider.relay() else { return };
    let mut stream = relay.stream(false);
    let mut frames = Vec::new();
    for chunk in chunks {
        let _ = black_box(stream.feed(chunk.clone(), &mut frames));
        frames.clear();
    }
    let _ = black_box(stream.finish(&mut frames));
}
