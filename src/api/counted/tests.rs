//! What is counted, beside what providers reported of the same prompts: the figures of `docs/tokens.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use crate::api::gemini_generate::Form;
use crate::api::{anthropic_messages, gemini_generate, openai_chat};
use crate::chat::{Request, Usage};
use crate::facts::Body as _;
use crate::facts::market::Scale as _;
use crate::gateway::Head;
use crate::json::Body;
use crate::providers::{QuirkSettings, dialect};
use crate::store::Shelf;
use crate::target::TargetName;
use crate::tokens::{Counter, Family, Report};

/// One recorded request with what was reported of it.
struct Told {
    family: &'static Family,
    model: String,
    request: Request,
    rough: u64,
    usage: Usage,
    heard: u64,
}

/// What a family's counts come to.
#[derive(Default)]
struct Sums {
    prompts: u64,
    reported: u64,
    counted: u64,
    rough: u64,
    /// Each prompt's own error, in percent.
    errors: Vec<f64>,
    bytes: u64,
    output: u64,
    heard: u64,
}

/// Folders of recordings, and the dialect in which they were made.
const VENDORS: [(&str, &str); 25] = [
    ("anthropic", "anthropic"),
    ("avian", "openai"),
    ("azure", "openai"),
    ("cerebras", "openai"),
    ("crusoe", "openai"),
    ("deepseek", "openai"),
    ("gemini", "gemini"),
    ("gpustack", "openai"),
    ("groq", "openai"),
    ("huggingface", "openai"),
    ("llamacpp", "openai"),
    ("mistral", "openai"),
    ("moonshot", "openai"),
    ("ollama-openai", "openai"),
    ("openai", "openai"),
    ("openrouter", "openai"),
    ("perplexity", "openai"),
    ("qwen", "openai"),
    ("together", "openai"),
    ("vercel-gateway", "openai"),
    ("vertex", "gemini"),
    ("vllm", "openai"),
    ("xai", "openai"),
    ("zai", "openai"),
    ("cohere", "cohere"),
];

/// The largest error of the prompt in the middle (the median of all prompts of a family), in percent; of families with too
/// few recordings, none is stated.
const STATED: [(&str, f64); 8] = [
    ("gpt-4o", 12.0),
    ("gpt-4", 5.0),
    ("claude", 25.0),
    ("claude before 4.5", 10.0),
    ("gemini", 35.0),
    ("mistral", 15.0),
    ("deepseek", 12.0),
    ("qwen", 8.0),
];

#[test]
fn counts_are_as_near_to_what_providers_report_as_is_stated() {
    let told: Vec<Told> = VENDORS.iter().flat_map(|(folder, spoken)| recorded(folder, spoken)).collect();
    if told.is_empty() {
        eprintln!("SKIPPED: no recorded traffic (set TOLLGATE_FIXTURES)");
        return;
    }
    let counter = Counter::default();
    let mut families: BTreeMap<&str, Sums> = BTreeMap::new();
    for one in &told {
        let sums = families.entry(one.family.name).or_default();
        let counted = counter.prompt(&one.request, &[&one.model]).tokens;
        let reported = one.usage.prompt();
        sums.prompts += 1;
        sums.reported += reported;
        sums.counted += counted;
        sums.rough += one.rough;
        sums.errors.push(percent(counted, reported).abs());
        let output = one.usage.output.saturating_sub(one.usage.reasoning);
        if one.heard > 40 && output > 0 {
            sums.bytes += one.heard;
            sums.output += output;
            sums.heard += counter.heard(&target(&one.model), one.heard);
        }
    }
    println!(
        "family              prompts  reported  counted  error  median   bytes/4   answers: bytes  tokens  error"
    );
    for (name, sums) in &mut families {
        sums.errors.sort_by(f64::total_cmp);
        let median = sums.errors[sums.errors.len() / 2];
        println!(
            "{name:20}{:7}{:10}{:9}{:+6.1} %{median:6.1} %{:+8.1} %{:15}{:8}{:+6.1} %",
            sums.prompts,
            sums.reported,
            sums.counted,
            percent(sums.counted, sums.reported),
            percent(sums.rough, sums.reported),
            sums.bytes,
            sums.output,
            percent(sums.heard, sums.output),
        );
    }
    for (name, most) in STATED {
        let sums = families.get(name).unwrap_or_else(|| panic!("nothing was recorded of {name}"));
        let error = sums.errors[sums.errors.len() / 2];
        assert!(error <= most, "{name}: {error:.1} % in the middle of {} prompts", sums.prompts);
    }
}

#[test]
fn reports_bring_estimates_nearer() {
    let told = recorded("anthropic", "anthropic");
    let counter = Counter::default();
    let one = target("anthropic/claude");
    let error = |counter: &Counter| {
        let likely: u64 =
            told.iter().map(|t| crate::facts::market::Scale::likely(counter, &one, t.rough)).sum();
        percent(likely, told.iter().map(|t| t.usage.prompt()).sum()).abs()
    };
    if told.is_empty() {
        return;
    }
    let before = error(&counter);
    for told in told.iter().cycle().take(200) {
        counter.learn(&one, Report { rough: told.rough, prompt: told.usage.prompt(), bytes: 0, output: 0 });
    }
    let after = error(&counter);
    println!("a quarter of the bytes is off by {before:.1} %, after reports by {after:.1} %");
    assert!(after < 10.0 && after < before, "{before} {after}");
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
fn percent(found: u64, reported: u64) -> f64 {
    (found as f64 / reported.max(1) as f64 - 1.0) * 100.0
}

fn target(model: &str) -> TargetName {
    TargetName { provider: "p".into(), model: model.into() }
}

fn recorded(folder: &str, spoken: &str) -> Vec<Told> {
    let root = std::env::var_os("TOLLGATE_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let Ok(files) = std::fs::read_dir(root.join(folder)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap();
    paths.into_iter().filter_map(|path| told(&read(path), spoken)).collect()
}

/// `None` where the provider said nothing of its use, or the prompt holds what only the provider can count.
fn told(case: &Value, spoken: &str) -> Option<Told> {
    let (request, response) = (&case["request"]["body"], &case["response"]);
    if response["status"] != 200 || !request.is_object() || !is_plain(request) {
        return None;
    }
    let bytes = Bytes::from(request.to_string());
    let (canonical, rough, mut model) = match case["op"].as_str()? {
        "chat" => {
            let ask = openai_chat::Ask::read(Body::read(bytes).ok()?).ok()?;
            (ask.request().ok()?.clone(), ask.tokens(), request["model"].as_str()?.to_owned())
        }
        "messages" => {
            let ask = anthropic_messages::Ask::read(Body::read(bytes).ok()?, &HeaderMap::new(), true).ok()?;
            (ask.request().ok()?.request.clone(), ask.tokens(), request["model"].as_str()?.to_owned())
        }
        "generateContent" => {
            let path = case["request"]["path"].as_str()?;
            let model = path.rsplit('/').next()?.split(':').next()?.to_owned();
            let uri = format!("/v1beta/models/{model}:generateContent").parse().ok()?;
            let shelf = Shelf::empty();
            let head = Head { uri: &uri, headers: &HeaderMap::new(), shelf: &shelf };
            let ask = gemini_generate::Ask::read(Body::read(bytes).ok()?, head, Form::Whole).ok()?;
            (ask.canonical()?, ask.tokens(), model)
        }
        _ => return None,
    };
    let (usage, heard, named) = answer(response["text"].as_str()?, case["stream"] == true, spoken)?;
    if Family::of(&[&model]).name == "other" {
        model = named.unwrap_or(model);
    }
    (usage.prompt() > 0 && usage.input_image + usage.input_audio == 0).then(|| Told {
        family: Family::of(&[&model]),
        model,
        request: canonical,
        rough,
        usage,
        heard,
    })
}

/// What was used, bytes of text of a stream, and the model as the answer names it.
fn answer(text: &str, stream: bool, spoken: &str) -> Option<(Usage, u64, Option<String>)> {
    let wire = dialect(spoken, &QuirkSettings::default())?;
    let relay = wire.relay()?;
    let named = text.split("\"model\":\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
    if !stream {
        return Some((relay.whole(Bytes::from(text.to_owned())).ok()?.usage?, 0, named));
    }
    let mut relay = relay.stream(true);
    relay.feed(Bytes::from(text.to_owned()), &mut Vec::new()).ok()?;
    // Some recordings lack their end.
    let _ = relay.finish(&mut Vec::new());
    Some((relay.usage()?, relay.text_bytes(), named))
}

/// Whether it holds nothing but texts and tools of the client: what runs at the provider adds what nobody sees.
fn is_plain(request: &Value) -> bool {
    let text = request.to_string();
    let media = [
        "image",
        "input_audio",
        "inlineData",
        "inline_data",
        "fileData",
        "file_data",
        "document",
        "file_id",
        "file_uri",
    ];
    let runs = [
        "web_search",
        "web_fetch",
        "code_execution",
        "mcp",
        "googleSearch",
        "urlContext",
        "codeExecution",
        "skills",
    ];
    !media.iter().chain(&runs).any(|word| text.contains(&format!("\"{word}")))
        && request.get("cachedContent").is_none()
        && request.get("thinking").is_none_or(|thinking| thinking["type"] != "enabled")
}
