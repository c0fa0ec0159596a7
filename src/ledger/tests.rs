//! The built-in list: it can be read and made anew, names lead to the right prices, and what nobody knows stays unknown.

use super::*;
use crate::chat::Usage;
use crate::money::Nano;
use crate::target::TargetName;

const LIST: &str = include_str!("models.tsv");

/// What stands above the list.
const HEADER: &str = "\
# Public facts of models: prices in pico-dollars, context windows, abilities, days of deprecation.
# Taken over from the price file that LiteLLM publishes (package litellm 1.109.1), which names each vendor's own pages.
# Copyright 2023 Berri AI, MIT License: https://github.com/BerriAI/litellm/blob/main/LICENSE
# Made by a test: TOLLGATE_REWRITE=1 TOLLGATE_PRICES=model_prices.json cargo nextest run --lib ledger::tests::the_list
# The form of a line stands in ledger/compact.rs.
";

#[test]
fn the_list_is_what_its_source_says() {
    let Ok(source) = std::env::var("TOLLGATE_PRICES") else {
        println!("SKIPPED: TOLLGATE_PRICES does not name LiteLLM's price file");
        return;
    };
    let text = std::fs::read(source).unwrap();
    let Document::Models(models, _) = Document::read(&text, "").unwrap() else { panic!() };
    let list = List::of(models);
    let lines = list.lines().map(|(name, rest)| format!("{name}\t{rest}\n"));
    let fresh: String = std::iter::once(HEADER.to_owned()).chain(lines).collect();
    if std::env::var_os("TOLLGATE_REWRITE").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/ledger/models.tsv"), &fresh).unwrap();
    }
    assert!(fresh == LIST, "src/ledger/models.tsv differs from its source");
}

#[test]
fn every_line_of_the_list_can_be_read_and_stands_in_its_place() {
    let mut before = "";
    for line in LIST.lines().filter(|line| !line.starts_with('#')) {
        let (name, _) = line.split_once('\t').unwrap();
        assert!(before < name, "{before} before {name}");
        assert!(compact::read(line).is_some(), "{line}");
        before = name;
    }
}

#[test]
fn names_lead_to_prices() {
    let book = Book::default();
    for (target, preset, expected) in [
        ("openai/gpt-4o", Some("openai"), Some(("openai/gpt-4o", 2_500_000))),
        ("openai/gpt-4o-2031-01-01", Some("openai"), Some(("openai/gpt-4o", 2_500_000))),
        ("mine/gpt-4o", Some("openai"), Some(("openai/gpt-4o", 2_500_000))),
        ("strange/gpt-4o", None, None),
        ("openai/nobody-9", Some("openai"), None),
        ("anthropic/claude-sonnet-4-5", Some("anthropic"), Some(("anthropic/claude-sonnet-4-5", 3_000_000))),
        (
            "bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
            Some("bedrock"),
            Some(("bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0", 3_300_000)),
        ),
        (
            "bedrock/ca.anthropic.claude-sonnet-4-5-20250929-v1:0",
            Some("bedrock"),
            Some(("bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0", 3_000_000)),
        ),
        (
            "vertex/claude-sonnet-4-5@20250929",
            Some("vertex"),
            Some(("vertex/claude-sonnet-4-5@20250929", 3_000_000)),
        ),
        ("gemini/models/gemini-2.5-pro", Some("gemini"), Some(("gemini/gemini-2.5-pro", 1_250_000))),
        ("ollama/llama3", Some("ollama"), None),
    ] {
        let known = book.of(&TargetName::parse(target).unwrap(), preset);
        let found = known.as_ref().and_then(|known| {
            Some((known.listed_as.as_deref()?, known.price()?.rate(Unit::Input, 0, When::default())?.0))
        });
        assert_eq!(found, expected, "{target}");
        assert_eq!(book.of(&TargetName::parse(target).unwrap(), preset), known, "{target}: remembered");
    }
}

#[test]
fn the_sandbox_costs_nothing_and_a_server_of_ones_own_is_unknown() {
    let book = Book::default();
    let usage = Usage { input: 10, output: 10, ..Usage::default() };
    let cost = |target: &str, preset| {
        let known = book.of(&TargetName::parse(target).unwrap(), Some(preset))?;
        known.price()?.settle(&usage, When::default())
    };
    assert_eq!(cost("sandbox/echo", "sandbox"), Some(Nano(0)));
    assert_eq!(cost("vllm/llama", "vllm"), None);
}

#[test]
fn every_vendor_with_public_prices_is_in_the_list() {
    let book = Book::default();
    for preset in [
        "openai",
        "gemini",
        "vertex",
        "anthropic",
        "bedrock",
        "cohere",
        "mistral",
        "deepseek",
        "qwen",
        "groq",
        "xai",
        "together",
        "fireworks",
        "cerebras",
        "perplexity",
        "moonshot",
        "zai",
        "deepinfra",
        "nebius",
        "azure",
        "azure-foundry",
        "azure-anthropic",
        "voyage",
        "jina",
    ] {
        let models = book.models_of(preset);
        let priced = models.iter().filter(|(_, _, model)| model.price.is_some()).count();
        assert!(priced > 0, "{preset}: {} models, none with a price", models.len());
    }
}

#[test]
fn hours_of_deepseek_are_read_from_the_list() {
    let book = Book::default();
    let known = book.of(&TargetName::parse("deepseek/deepseek-v4-pro").unwrap(), Some("deepseek")).unwrap();
    let at = |text: &str| {
        let unix_ms = u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_millisecond()).unwrap();
        known.price().unwrap().rate(Unit::Output, 0, When { unix_ms, ..When::default() }).unwrap().0
    };
    assert_eq!((at("2026-11-20T02:00:00Z"), at("2026-11-20T05:00:00Z")), (3_960_000, 1_980_000));
    assert_eq!(at("2026-11-21T02:00:00Z"), 1_980_000, "a Saturday");
}

/// xAI says what an answer cost in all, its tools among it; the price knows only tokens and searches.
#[test]
fn where_tools_without_a_price_were_used_what_the_answer_says_that_it_cost_counts() {
    let book = Book::default();
    let target = TargetName::parse("xai/grok-4.3").unwrap();
    let cost = |usage: Usage| book.cost(&target, Some("xai"), &usage, When::default());
    let plain = Usage { input: 1_000, output: 1_000, ..Usage::default() };
    let listed = cost(plain).expect("a price");
    for (unpriced_tools, said_cost, expected) in
        [(0, None, listed), (0, Some(Nano(7)), listed), (2, None, listed), (2, Some(Nano(7)), Nano(7))]
    {
        assert_eq!(cost(Usage { unpriced_tools, said_cost, ..plain }), Some(expected), "{unpriced_tools}");
    }
}

#[test]
fn what_an_adviser_did_costs_what_the_adviser_costs() {
    let book = Book::default();
    let target = TargetName::parse("anthropic/claude-sonnet-5").unwrap();
    let cost = |usage: Usage| book.cost(&target, Some("anthropic"), &usage, When::default());
    let mut usage = Usage { input: 1_500, output: 300, ..Usage::default() };
    assert_eq!(cost(usage), Some(Nano(1_500 * 2_000 + 300 * 10_000)));
    usage.helped("claude-opus-4-8", &Usage { input: 500, output: 100, ..Usage::default() });
    let (own, helped) = (1_000 * 2_000 + 200 * 10_000, 500 * 5_000 + 100 * 25_000);
    assert_eq!(cost(usage), Some(Nano(own + helped)));
    usage.helper = None;
    usage.helped("claude-nobody-9", &Usage { input: 500, output: 100, ..Usage::default() });
    assert_eq!(cost(usage), Some(Nano(1_500 * 2_000 + 300 * 10_000)), "a price that nobody knows");
}
