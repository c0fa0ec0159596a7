//! Stories of the sandbox: what comes over the wire for what is asked.

use std::collections::BTreeMap;

use http::Method;

use super::*;

fn post(path: &str, body: &Value) -> LocalAnswer {
    answer(&Outgoing {
        method: Method::POST,
        path: path.to_owned(),
        is_absolute: false,
        headers: HeaderMap::new(),
        body: vec![Bytes::from(body.to_string())],
        lost: Vec::new(),
        tier: None,
    })
}

fn chat_with(text: &str, more: &Value) -> LocalAnswer {
    let mut body = json!({ "model": "echo", "messages": [{ "role": "user", "content": text }] });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    post("/chat/completions", &body)
}

fn bytes(answer: &LocalAnswer) -> String {
    answer.pieces.iter().map(|(_, piece)| std::str::from_utf8(piece).unwrap()).collect()
}

fn json_of(answer: &LocalAnswer) -> Value {
    serde_json::from_str(&bytes(answer)).unwrap()
}

/// The data of all events; `[DONE]` as text.
fn events(answer: &LocalAnswer) -> Vec<Value> {
    bytes(answer)
        .split_terminator("\n\n")
        .map(|event| event.strip_prefix("data: ").unwrap())
        .map(|data| if data == "[DONE]" { json!(data) } else { serde_json::from_str(data).unwrap() })
        .collect()
}

/// A string field of all deltas, joined, by choice.
fn joined(events: &[Value], field: &str) -> BTreeMap<u64, String> {
    let mut all = BTreeMap::<u64, String>::new();
    for choice in events.iter().filter_map(|event| event["choices"].as_array()).flatten() {
        if let Some(text) = choice["delta"].pointer(field).and_then(Value::as_str) {
            all.entry(choice["index"].as_u64().unwrap()).or_default().push_str(text);
        }
    }
    all
}

#[test]
fn models_answer_each_in_its_way() {
    for (model, expected) in [
        ("echo", "good  morning"),
        ("anything", "good  morning"),
        ("small", "Hello from sandbox/small."),
        ("large", "Hello from sandbox/large."),
    ] {
        let answer = json_of(&chat_with("good  morning", &json!({ "model": model })));
        let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
        assert!(text.starts_with(expected), "{model}: {text}");
        assert_eq!(answer["model"], model);
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
        assert_eq!(answer["usage"]["prompt_tokens"], 4);
    }
}

#[test]
fn the_same_request_gets_the_same_bytes() {
    let more = json!({ "stream": true, "logprobs": true, "top_logprobs": 2 });
    assert_eq!(bytes(&chat_with("a b", &more)), bytes(&chat_with("a b", &more)));
}

#[test]
fn a_stream_says_role_words_finish_usage_and_done() {
    let more = json!({ "stream": true, "stream_options": { "include_usage": true }, "n": 2 });
    let events = events(&chat_with("one two three", &more));
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let texts = joined(&events, "/content");
    assert_eq!(texts.values().collect::<Vec<_>>(), ["one two three", "one two three"]);
    let finishes: Vec<_> =
        events.iter().filter(|event| event["choices"][0]["finish_reason"].is_string()).collect();
    assert_eq!(finishes.len(), 2);
    let usage = &events[events.len() - 2];
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(8)));
    assert!(events[0]["usage"].is_null() && events[0].as_object().unwrap().contains_key("usage"));
    assert_eq!(events.last().unwrap(), "[DONE]");
    // Role and finish of two choices, three words in two choices, usage, [DONE].
    assert_eq!(events.len(), 4 + 6 + 2);
}

#[test]
fn limits_and_stop_texts_end_the_answer() {
    for (more, text, finish, spent) in [
        (json!({ "max_tokens": 2 }), "one two ", "length", 2),
        (json!({ "max_completion_tokens": 100 }), "one two three", "stop", 4),
        (json!({ "stop": " t" }), "one", "stop", 1),
        (json!({ "stop": ["three", "two"] }), "one ", "stop", 1),
    ] {
        let answer = json_of(&chat_with("one two three", &more));
        let choice = &answer["choices"][0];
        assert_eq!(
            (&choice["message"]["content"], &choice["finish_reason"]),
            (&json!(text), &json!(finish)),
            "{more}"
        );
        assert_eq!(answer["usage"]["completion_tokens"], spent, "{more}");
    }
}

fn tools() -> Value {
    let tool = |name: &str| {
        json!({ "type": "function", "function": { "name": name, "parameters": {
            "type": "object", "properties": { "city": { "type": "string" }, "days": { "type": "integer" } }
        } } })
    };
    json!([tool("weather"), tool("forecast"), { "type": "custom", "custom": { "name": "shell" } }])
}

#[test]
fn tools_are_called_when_they_are_named() {
    for (text, more, called) in [
        ("hello", json!({}), vec![]),
        ("please call weather now", json!({}), vec!["weather"]),
        ("call forecast and weather", json!({}), vec!["forecast", "weather"]),
        ("call forecast and weather", json!({ "parallel_tool_calls": false }), vec!["forecast"]),
        ("call weatherman", json!({}), vec![]),
        ("call weather", json!({ "tool_choice": "none" }), vec![]),
        ("hello", json!({ "tool_choice": "required" }), vec!["weather"]),
        (
            "hello",
            json!({ "tool_choice": { "type": "function", "function": { "name": "forecast" } } }),
            vec!["forecast"],
        ),
    ] {
        let mut more = more;
        more["tools"] = tools();
        let answer = json_of(&chat_with(text, &more));
        let choice = &answer["choices"][0];
        let calls: Vec<_> = choice["message"]["tool_calls"].as_array().into_iter().flatten().collect();
        let names: Vec<_> = calls.iter().map(|call| call["function"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, called, "{text} {more}");
        assert_eq!(choice["finish_reason"], if called.is_empty() { "stop" } else { "tool_calls" });
        for call in calls {
            assert_eq!(call["function"]["arguments"], r#"{"city":"city","days":1}"#);
        }
    }
    let custom = json_of(&chat_with("call shell", &json!({ "tools": tools() })));
    assert_eq!(custom["choices"][0]["message"]["tool_calls"][0]["custom"]["input"], "call shell");
}

#[test]
fn streamed_tool_calls_come_in_pieces_with_their_index() {
    let more = json!({ "stream": true, "tools": tools() });
    let events = events(&chat_with("call weather and forecast", &more));
    let mut arguments = [String::new(), String::new()];
    for delta in events.iter().map(|event| &event["choices"][0]["delta"]["tool_calls"][0]) {
        if let Some(index) = delta["index"].as_u64() {
            arguments[usize::try_from(index).unwrap()] += delta["function"]["arguments"].as_str().unwrap();
        }
    }
    assert_eq!(arguments, [r#"{"city":"city","days":1}"#, r#"{"city":"city","days":1}"#]);
    assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "tool_calls");
}

#[test]
fn an_agent_that_brings_the_tools_answer_comes_to_an_end() {
    let messages = json!([
        { "role": "user", "content": "call weather" },
        { "role": "assistant", "content": null, "tool_calls": [] },
        { "role": "tool", "tool_call_id": "x", "content": "12 degrees" },
    ]);
    let answer = json_of(&chat_with("", &json!({ "messages": messages, "tools": tools() })));
    assert_eq!(answer["choices"][0]["message"]["content"], "The tool said: 12 degrees");
}

#[test]
fn structured_output_follows_its_schema() {
    let schema =
        json!({ "type": "object", "properties": { "name": { "type": "string" } }, "required": ["name"] });
    let format = json!({ "type": "json_schema", "json_schema": { "name": "person", "schema": schema } });
    for (format, expected) in [
        (format, r#"{"name":"name"}"#),
        (json!({ "type": "json_object" }), r#"{"model":"echo","answer":"hi"}"#),
    ] {
        let answer = json_of(&chat_with("hi", &json!({ "response_format": format })));
        assert_eq!(answer["choices"][0]["message"]["content"], expected);
    }
}

#[test]
fn thoughts_are_told_and_counted_apart() {
    let more = json!({ "reasoning_effort": "low" });
    let answer = json_of(&chat_with("hi", &more));
    let thought = answer["choices"][0]["message"]["reasoning_content"].as_str().unwrap();
    assert_eq!(thought, "Step 1: I consider \"hi\".");
    let usage = &answer["usage"];
    assert_eq!(usage["completion_tokens_details"]["reasoning_tokens"], tokens(thought.len() as u64));
    assert_eq!(usage["completion_tokens"], tokens(thought.len() as u64) + 1);
    let streamed = events(&chat_with("hi", &json!({ "reasoning_effort": "low", "stream": true })));
    assert_eq!(joined(&streamed, "/reasoning_content")[&0], thought);
    assert_eq!(joined(&streamed, "/content")[&0], "hi");
    assert!(json_of(&chat_with("hi", &json!({})))["choices"][0]["message"]["reasoning_content"].is_null());
}

#[test]
fn log_probabilities_stand_beside_each_word() {
    let answer = json_of(&chat_with("a b", &json!({ "logprobs": true, "top_logprobs": 2 })));
    let words = answer["choices"][0]["logprobs"]["content"].as_array().unwrap();
    assert_eq!(words.len(), 2);
    assert_eq!(words[0]["token"], "a ");
    assert_eq!(words[0]["top_logprobs"].as_array().unwrap().len(), 2);
}

#[test]
fn errors_come_when_they_are_asked_for() {
    for (text, status, retry) in [
        ("[[error 429]]", 429, None),
        ("[[error 500]] [[retry-after 1500ms]]", 500, Some(("2", "1500"))),
        ("[[retry-after 2s]]", 429, Some(("2", "2000"))),
        ("[[error 401]]", 401, None),
    ] {
        let answer = chat_with(text, &json!({ "stream": true }));
        assert_eq!(answer.status, status, "{text}");
        let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("retry-after").zip(header("retry-after-ms")), retry, "{text}");
        assert!(json_of(&answer)["error"]["message"].is_string());
    }
    assert_eq!(chat_with("hi", &json!({ "model": "echo[[error 503]]" })).status, 503);
}

#[test]
fn streams_are_delayed_stretched_and_cut() {
    let times = |text: &str| {
        let answer = chat_with(text, &json!({ "stream": true }));
        answer.pieces.iter().map(|(delay, _)| delay.as_millis()).collect::<Vec<_>>()
    };
    assert_eq!(times("[[first-byte 2s]] a b"), [2000, 0, 0, 0, 0]);
    assert_eq!(times("[[delay 500ms]] [[chunk-delay 10ms]] a b"), [0, 510, 10, 10, 10]);
    assert_eq!(chat_with("[[delay 500ms]] a", &json!({})).pieces[0].0, Duration::from_millis(500));

    let many = events(&chat_with("[[chunks 200]] tick tock", &json!({ "stream": true })));
    assert_eq!(many.len(), 1 + 200 + 2);

    let cut = events(&chat_with("[[cut 3]] a b c d e", &json!({ "stream": true })));
    assert_eq!(joined(&cut, "/content")[&0], "a b c ");
    assert!(cut.iter().all(|event| event != "[DONE]" && event["choices"][0]["finish_reason"].is_null()));
    assert!(serde_json::from_str::<Value>(&bytes(&chat_with("[[cut 1]] a", &json!({})))).is_err());
}

#[test]
fn a_refusal_is_no_content() {
    let answer = json_of(&chat_with("[[refuse]] hi", &json!({})));
    let message = &answer["choices"][0]["message"];
    assert!(message["content"].is_null() && message["refusal"].as_str().unwrap().contains("sorry"));
    let streamed = events(&chat_with("[[refuse]] hi", &json!({ "stream": true })));
    assert_eq!(joined(&streamed, "/refusal")[&0], message["refusal"].as_str().unwrap());
}

#[test]
fn embeddings_are_unit_vectors_that_depend_on_the_text_alone() {
    let post = |more: Value| {
        let mut body = json!({ "model": "small", "input": ["a", "b", "a"], "dimensions": 8 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post("/embeddings", &body)
    };
    let answer = json_of(&post(json!({})));
    let vector =
        |n: usize| -> Vec<f32> { serde_json::from_value(answer["data"][n]["embedding"].clone()).unwrap() };
    assert_eq!(vector(0).len(), 8);
    assert_eq!(vector(0), vector(2));
    assert_ne!(vector(0), vector(1));
    let length: f32 = vector(0).iter().map(|number| number * number).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    assert_eq!(answer["usage"], json!({ "prompt_tokens": 3, "total_tokens": 3 }));

    let encoded = json_of(&post(json!({ "encoding_format": "base64" })));
    use base64::Engine as _;
    let text = encoded["data"][0]["embedding"].as_str().unwrap();
    let decoded = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    let numbers: Vec<_> =
        decoded.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(numbers, vector(0));

    for (more, status) in [
        (json!({ "input": [1, 2, 3] }), 200),
        (json!({ "input": [[1], [2]] }), 200),
        (json!({ "input": "x", "dimensions": null }), 200),
        (json!({ "input": [] }), 400),
        (json!({ "input": [1, "a"] }), 400),
        (json!({ "dimensions": 0 }), 400),
        (json!({ "input": "[[error 429]]" }), 429),
    ] {
        assert_eq!(post(more.clone()).status, status, "{more}");
    }
}

#[test]
fn what_cannot_be_served_is_refused_in_openais_words() {
    for (path, body, status, param) in [
        ("/chat/completions", json!({ "messages": [] }), 400, json!("model")),
        ("/chat/completions", json!({ "model": "echo" }), 400, json!("messages")),
        ("/chat/completions", json!([]), 400, json!("model")),
        ("/fine_tuning/jobs", json!({}), 404, Value::Null),
    ] {
        let answer = post(path, &body);
        assert_eq!((answer.status, &json_of(&answer)["error"]["param"]), (status, &param), "{path} {body}");
    }
    let bad = json!({ "tools": tools(), "tool_choice": { "type": "function", "function": { "name": "x" } } });
    assert_eq!(chat_with("hi", &bad).status, 400);
    let garbage = answer(&Outgoing {
        method: Method::POST,
        path: "/chat/completions".to_owned(),
        is_absolute: false,
        headers: HeaderMap::new(),
        body: vec![Bytes::from_static(b"{")],
        lost: Vec::new(),
        tier: None,
    });
    assert_eq!(garbage.status, 400);
}

#[test]
fn long_prompts_are_repeated_within_bounds() {
    let answer = chat_with(&"a ".repeat(2_000_000), &json!({ "stream": true }));
    assert!(answer.pieces.len() < 11_000, "{}", answer.pieces.len());
    assert_eq!(joined(&events(&answer), "/content")[&0].len(), 1 << 20);
}
