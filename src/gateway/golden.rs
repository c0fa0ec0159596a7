//! What every recorded answer of every vendor costs, to the nano-dollar: recorded bytes through the decoders, usage
//! through the built-in prices, against `tests/golden/costs.tsv`.
//!
//! The recordings are not part of this repository: `TOLLGATE_FIXTURES` names their folder. `TOLLGATE_REWRITE=1` writes
//! the file anew; look at the difference line by line.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::chat::{Event, Usage};
use crate::ledger::{Book, When};
use crate::providers::{dialect, presets};
use crate::target::TargetName;
use serde_json::Value;

/// Recording's folder, preset.
const VENDORS: [(&str, &str); 22] = [
    ("anthropic", "anthropic"),
    ("azure", "azure"),
    ("cerebras", "cerebras"),
    ("cohere", "cohere"),
    ("deepseek", "deepseek"),
    ("gemini", "gemini"),
    ("groq", "groq"),
    ("huggingface", "huggingface"),
    ("llamacpp", "llamacpp"),
    ("mistral", "mistral"),
    ("moonshot", "moonshot"),
    ("ollama", "ollama-native"),
    ("ollama-openai", "ollama"),
    ("openai", "openai"),
    ("openrouter", "openrouter"),
    ("perplexity", "perplexity"),
    ("qwen", "qwen"),
    ("together", "together"),
    ("vertex", "vertex"),
    ("vllm", "vllm"),
    ("xai", "xai"),
    ("zai", "zai"),
];

/// Noon of a Wednesday in UTC: no off-peak hours.
const NOON: u64 = 1_795_003_200_000 - 9 * 3_600_000;

#[test]
fn every_recorded_answer_costs_what_it_did() {
    let folder = std::env::var_os("TOLLGATE_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    if !folder.is_dir() {
        eprintln!("SKIPPED: no recorded traffic in {} (set TOLLGATE_FIXTURES)", folder.display());
        return;
    }
    let (book, mut lines, mut vendors) = (Book::default(), BTreeSet::new(), BTreeSet::new());
    for (name, preset) in VENDORS {
        let Ok(files) = std::fs::read_dir(folder.join(name)) else { continue };
        for file in files {
            let case: Value = serde_json::from_slice(&std::fs::read(file.unwrap().path()).unwrap()).unwrap();
            let Some((model, usage)) = used(&case, preset) else { continue };
            let target = TargetName { provider: preset.into(), model: model.as_str().into() };
            let known = book.of(&target, Some(preset));
            let price = known.as_ref().and_then(|known| known.price());
            let cost =
                price.and_then(|price| price.settle(&usage, When { unix_ms: NOON, ..When::default() }));
            let cost = cost.map_or_else(|| "unknown".to_owned(), |cost| cost.0.to_string());
            if cost != "unknown" {
                vendors.insert(preset);
            }
            let id = case["id"].as_str().unwrap();
            let listed = known.as_ref().and_then(|known| known.listed_as.as_deref()).unwrap_or("-");
            let usage = serde_json::to_string(&usage).unwrap();
            lines.insert(format!("{id}\t{target}\t{listed}\t{usage}\t{cost}"));
        }
    }
    let mut found = String::from("# recording\ttarget\tlisted as\tusage\tnano-dollars\n");
    for line in &lines {
        let _ = writeln!(found, "{line}");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/costs.tsv");
    if std::env::var_os("TOLLGATE_REWRITE").is_some() {
        std::fs::write(path, &found).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    for (found, golden) in found.lines().zip(golden.lines()) {
        assert_eq!(found, golden);
    }
    assert_eq!(found.lines().count(), golden.lines().count());
    assert!(vendors.len() >= 12, "vendors with prices: {vendors:?}");
}

/// The model and the usage of a recorded answer that is one.
fn used(case: &Value, preset: &str) -> Option<(String, Usage)> {
    let (request, response) = (&case["request"], &case["response"]);
    if response["status"] != 200 {
        return None;
    }
    let text = response["text"].as_str()?;
    let spoken = match case["op"].as_str()? {
        "chat" => "openai",
        "responses" => "openai-responses",
        "messages" => "anthropic",
        "generateContent" => "gemini",
        "native-chat" => "cohere",
        "ollama-chat" => "ollama",
        _ => return None,
    };
    let quirks = &presets::find(preset)?.quirks;
    let provider = dialect(spoken, quirks)?;
    let (mut model, usage) = if case["stream"] == true {
        let mut events = Vec::new();
        let mut decoder = provider.stream_decoder();
        // A stream that breaks off has used what it said it did.
        let _ = decoder.feed(text.as_bytes(), &mut events).and_then(|()| decoder.finish(&mut events));
        let started = events.iter().find_map(|event| match event {
            Event::Start { model, .. } => Some(model.clone()),
            _ => None,
        });
        let usage = events.iter().rev().find_map(|event| match event {
            Event::Usage(usage) => Some(*usage),
            _ => None,
        });
        (started.unwrap_or_default(), usage?)
    } else {
        let answer = provider.decode(text.as_bytes()).ok()?;
        (answer.model, answer.usage?)
    };
    let path = request["path"].as_str().or(case["request_path"].as_str()).unwrap_or_default();
    if let Some(asked) = request["body"]["model"].as_str() {
        model = asked.to_owned();
    } else if let Some((_, rest)) = path.rsplit_once("/models/") {
        model = rest.split(':').next().unwrap_or(rest).to_owned();
    }
    (!model.is_empty()).then_some((model, usage))
}
