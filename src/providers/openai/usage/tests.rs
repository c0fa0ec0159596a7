//! Counts of tokens as vendors write them, and what they mean.

use serde_json::json;

use super::*;

fn check(name: &str, object: Value, (input, read, write, output, reasoning): (u64, u64, u64, u64, u64)) {
    let tally = read_value(object.as_object().unwrap(), false).unwrap_or_else(|| panic!("{name}"));
    let u = tally.usage;
    assert_eq!(
        (u.input, u.cached_read, u.cache_write, u.output, u.reasoning),
        (input, read, write, output, reasoning),
        "{name}: {object}"
    );
    let mut client = object.as_object().unwrap().clone();
    tally.rewrite(&mut client);
    let again = read_value(&client, false).unwrap();
    assert_eq!(again.usage, u, "{name}: rewriting changes nothing but the spelling");
    assert!(!again.deviates, "{name}: what was rewritten conforms: {client:?}");
    assert_eq!(client["prompt_tokens"], u.prompt(), "{name}");
    assert_eq!(client["completion_tokens"], u.output, "{name}");
    assert_eq!(client["total_tokens"], u.total(), "{name}");
}

#[test]
fn every_vendors_spelling_is_understood() {
    for (name, object, expected) in [
        (
            "openai",
            json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
                   "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": null},
                   "completion_tokens_details": {"reasoning_tokens": 3}}),
            (6, 4, 0, 5, 3),
        ),
        (
            "deepseek",
            json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
                   "prompt_cache_hit_tokens": 7, "prompt_cache_miss_tokens": 3}),
            (3, 7, 0, 5, 0),
        ),
        (
            "mistral",
            json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "num_cached_tokens": 9}),
            (1, 9, 0, 5, 0),
        ),
        (
            "mistral, other spelling",
            json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
                   "prompt_token_details": {"cached_tokens": 2}}),
            (8, 2, 0, 5, 0),
        ),
        (
            "moonshot",
            json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cached_tokens": 2}),
            (8, 2, 0, 5, 0),
        ),
        (
            "xai keeps reasoning outside",
            json!({"prompt_tokens": 526, "completion_tokens": 27, "total_tokens": 625,
                   "prompt_tokens_details": {"cached_tokens": 512},
                   "completion_tokens_details": {"reasoning_tokens": 72}}),
            (14, 512, 0, 99, 72),
        ),
        (
            "openrouter writes to the cache",
            json!({"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105, "cost": 0.1,
                   "prompt_tokens_details": {"cached_tokens": 10, "cache_write_tokens": 80}}),
            (10, 10, 80, 5, 0),
        ),
        (
            "cache kept outside of the prompt",
            json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115,
                   "cache_read_input_tokens": 60, "cache_creation_input_tokens": 40}),
            (10, 60, 40, 5, 0),
        ),
        (
            "perplexity's research reasons beside what it sums up",
            json!({"prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196,
                   "citation_tokens": 20016, "num_search_queries": 18, "reasoning_tokens": 5000}),
            (33, 0, 0, 12163, 5000),
        ),
        (
            "gemini behind openai's dialect keeps thinking in the total alone",
            json!({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40}),
            (10, 0, 0, 30, 0),
        ),
        (
            "openrouter counts thoughts with a tokenizer of its own",
            json!({"prompt_tokens": 43, "completion_tokens": 10, "total_tokens": 53, "cost": 0,
                   "completion_tokens_details": {"reasoning_tokens": 11}}),
            (43, 0, 0, 10, 10),
        ),
        (
            "vercel leaves thoughts out of the total",
            json!({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11, "market_cost": 0.1,
                   "completion_tokens_details": {"reasoning_tokens": 25}}),
            (9, 0, 0, 27, 25),
        ),
        ("voyage tells a total alone", json!({"total_tokens": 1000}), (1000, 0, 0, 0, 0)),
        (
            "no total",
            json!({"prompt_tokens": 10, "completion_tokens": 5,
                   "completion_tokens_details": {"reasoning_tokens": 50}}),
            (10, 0, 0, 55, 50),
        ),
        ("anthropic's words", json!({"input_tokens": 10, "output_tokens": 5}), (10, 0, 0, 5, 0)),
        (
            "more cached than there is",
            json!({"prompt_tokens": 228, "completion_tokens": 42, "total_tokens": 270,
                   "prompt_tokens_details": {"cached_tokens": 366}}),
            (0, 228, 0, 42, 0),
        ),
        (
            "floats, text, negative",
            json!({"prompt_tokens": 10.0, "completion_tokens": "5", "total_tokens": -1,
                   "prompt_tokens_details": [], "completion_tokens_details": "none"}),
            (10, 0, 0, 5, 0),
        ),
    ] {
        check(name, object, expected);
    }
}

#[test]
fn pictures_and_sound_are_told_apart_from_text_in_answers_and_caches() {
    // OpenAI's gpt-image-1.5 draws and writes; gpt-realtime reads sound from its cache.
    let drawn = r#"{"input_tokens":50,"output_tokens":4160,"total_tokens":4210,
        "output_tokens_details":{"image_tokens":4000,"text_tokens":160}}"#;
    let usage = read(drawn, false).unwrap().usage;
    assert_eq!((usage.input, usage.output, usage.output_image), (50, 4160, 4000));
    let heard = r#"{"total_tokens":230,"input_tokens":200,"output_tokens":30,"input_token_details":{
        "text_tokens":80,"audio_tokens":120,"cached_tokens":128,
        "cached_tokens_details":{"text_tokens":28,"audio_tokens":100,"image_tokens":null}}}"#;
    let usage = read(heard, false).unwrap().usage;
    assert_eq!((usage.input, usage.cached_read), (72, 128));
    assert_eq!((usage.input_audio, usage.cached_audio, usage.cached_image), (20, 100, 0));
    let odd = r#"{"prompt_tokens":9,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":4,"cached_tokens_details":[1]}}"#;
    assert_eq!(read(odd, false).unwrap().usage.cached_read, 4, "what nobody expects says nothing");
}

#[test]
fn what_an_answer_says_it_cost_is_read_where_it_is_an_amount() {
    for (cost, expected) in [
        ("0.00012345", Some(Nano(123_450))),
        ("0", Some(Nano(0))),
        (r#"{"total_cost":0.1,"request_cost":0.006}"#, Some(Nano(100_000_000))),
        (r#"{"total":0.1}"#, None),
        ("-1", None),
        ("null", None),
        (r#""free""#, None),
    ] {
        let raw = format!(r#"{{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"cost":{cost}}}"#);
        assert_eq!(read(&raw, false).unwrap().usage.said_cost, expected, "{cost}");
    }
}

#[test]
fn with_a_key_of_ones_own_the_provider_behind_a_router_is_paid_beside_its_fee() {
    for (more, expected) in [
        (r#""is_byok":true,"cost_details":{"upstream_inference_cost":0.0002}"#, 210_000),
        (r#""is_byok":false,"cost_details":{"upstream_inference_cost":0.00001}"#, 10_000),
        (r#""is_byok":true,"cost_details":{"upstream_inference_cost":null}"#, 10_000),
        (r#""is_byok":"yes","cost_details":7"#, 10_000),
    ] {
        let raw = format!(r#"{{"prompt_tokens":1,"completion_tokens":1,"cost":0.00001,{more}}}"#);
        assert_eq!(read(&raw, false).unwrap().usage.said_cost, Some(Nano(expected)), "{more}");
    }
}

#[test]
fn what_perplexity_searched_for_and_read_is_counted_as_it_is_billed() {
    for (more, expected) in [
        (r#""citation_tokens":20,"num_search_queries":18,"reasoning_tokens":7"#, (20, 18, None)),
        (
            r#""search_context_size":"high","num_search_queries":3,"cost":{"request_cost":0.012,"total_cost":1}"#,
            (0, 0, Some(Breadth::High)),
        ),
        (r#""search_context_size":7,"citation_tokens":null,"cost":{"request_cost":null}"#, (0, 0, None)),
    ] {
        let raw = format!(r#"{{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,{more}}}"#);
        let usage = read(&raw, false).unwrap().usage;
        assert_eq!((usage.citations, usage.searches, usage.breadth), expected, "{more}");
    }
}

#[test]
fn xai_says_what_it_looked_up_and_what_it_cost() {
    let raw = r#"{"input_tokens":1,"output_tokens":1,"total_tokens":2,"cost_in_usd_ticks":161508500,
        "server_side_tool_usage_details":{"web_search_calls":2,"x_search_calls":1,"mcp_calls":4,"code_interpreter_calls":2,
        "file_search_calls":1,"document_search_calls":null,"image_generation_calls":0}}"#;
    let usage = read(raw, false).unwrap().usage;
    assert_eq!((usage.searches, usage.said_cost), (3, Some(Nano(16_150_850))));
    assert_eq!(usage.unpriced_tools, 3);
    let elsewhere = r#"{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2,"cost_in_usd_ticks":0}"#;
    assert_eq!(read(elsewhere, false).unwrap().usage.said_cost, None);
}

#[test]
fn openrouters_own_tools_cost_what_the_answer_says() {
    for (details, expected) in [
        (r#""server_tool_use_details":{"web_search_requests":2}"#, (2, 2)),
        (r#""server_tool_use_details":{"tool_calls_requested":3,"tool_calls_executed":1}"#, (0, 1)),
        (r#""server_tool_use_details":{"web_search_requests":1,"tool_calls_executed":1}"#, (1, 1)),
        (r#""server_tool_use":{"web_search_requests":1}"#, (1, 1)),
        (r#""server_tool_use_details":null,"server_tool_use":{"web_search_requests":2}"#, (2, 2)),
        (r#""server_tool_use_details":null"#, (0, 0)),
    ] {
        let raw = format!(
            r#"{{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10,"cost":0.0133176,{details}}}"#
        );
        let usage = read(&raw, false).unwrap().usage;
        assert_eq!((usage.searches, usage.unpriced_tools), expected, "{details}");
        assert_eq!(usage.said_cost, Some(Nano(13_317_600)));
    }
    let raw = r#"{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10,"server_tool_use":{"web_search_requests":2}}"#;
    let usage = read(raw, false).unwrap().usage;
    assert_eq!((usage.searches, usage.unpriced_tools), (2, 0), "priced like any other search");
}

#[test]
fn voxtrals_audio_stands_only_in_the_total() {
    let raw = r#"{"prompt_audio_seconds":30,"prompt_tokens":9,"completion_tokens":201,"total_tokens":585}"#;
    let usage = read(raw, false).unwrap().usage;
    assert_eq!((usage.input, usage.input_audio, usage.output), (384, 375, 201));
}

#[test]
fn absurd_numbers_neither_overflow_nor_crash() {
    for raw in [
        r#"{"prompt_tokens":18446744073709551615,"completion_tokens":18446744073709551615,"total_tokens":18446744073709551615}"#,
        r#"{"prompt_tokens":1e300,"completion_tokens":-5,"total_tokens":null}"#,
        r#"{"prompt_tokens":1,"prompt_tokens":2,"completion_tokens":3,"total_tokens":5}"#,
        r#"{"prompt_tokens":{},"completion_tokens":[1],"total_tokens":true}"#,
    ] {
        if let Some(tally) = read(raw, true) {
            assert!(tally.usage.total() <= 4 * MOST, "{raw}");
        }
    }
    assert_eq!(read("{}", false), None);
    assert_eq!(read("null", false), None);
}
