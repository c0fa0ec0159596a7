//! Answers of dialects that only providers speak here, read by hand: OpenAI's Responses, Cohere's and Ollama's own.

use serde_json::Value;

use super::responses;
use super::said::{Call, Said, Stop, Tokens, each, events, input, number, text};

/// A stream of OpenAI's Responses. Reasoning is encrypted anew for the last event; what came with the item counts.
pub fn response_stream(body: &str) -> Said {
    let done = events(body).into_iter().filter_map(|(_, data)| serde_json::from_str::<Value>(&data).ok());
    let items = done.filter(|event| event["type"] == "response.output_item.done");
    let proofs = items.filter_map(|event| event["item"]["encrypted_content"].as_str().map(str::to_owned));
    let proofs = proofs.filter(|proof| !proof.is_empty()).collect();
    Said { proofs, ..responses::streamed(body) }
}

/// A chat answer of Cohere's.
pub fn cohere(body: &str) -> Said {
    let answer: Value = serde_json::from_str(body.trim()).unwrap_or_default();
    let mut said = Said::default();
    if answer["message"].is_string() {
        said.error = Some(answer);
        return said;
    }
    said.thought = text(&answer["message"]["tool_plan"]);
    for part in each(&answer["message"]["content"]) {
        said.text.push_str(part["text"].as_str().unwrap_or_default());
        said.thought.push_str(part["thinking"].as_str().unwrap_or_default());
    }
    said.calls = each(&answer["message"]["tool_calls"]).map(cohere_call).collect();
    cohere_end(&mut said, &answer["finish_reason"], &answer["usage"]);
    said
}

pub fn cohere_stream(body: &str) -> Said {
    let mut said = Said::default();
    let mut arguments: Vec<String> = Vec::new();
    for (_, data) in events(body) {
        let Ok(event) = serde_json::from_str::<Value>(&data) else { continue };
        let message = &event["delta"]["message"];
        match event["type"].as_str().unwrap_or_default() {
            "content-start" | "content-delta" => {
                said.text.push_str(message["content"]["text"].as_str().unwrap_or_default());
                said.thought.push_str(message["content"]["thinking"].as_str().unwrap_or_default());
            }
            "tool-plan-delta" => said.thought.push_str(&text(&message["tool_plan"])),
            "tool-call-start" => {
                said.calls.push(cohere_call(&message["tool_calls"]));
                arguments.push(text(&message["tool_calls"]["function"]["arguments"]));
            }
            "tool-call-delta" => {
                arguments
                    .last_mut()
                    .unwrap()
                    .push_str(&text(&message["tool_calls"]["function"]["arguments"]));
            }
            "message-end" => {
                cohere_end(&mut said, &event["delta"]["finish_reason"], &event["delta"]["usage"])
            }
            _ => {}
        }
    }
    for (call, arguments) in said.calls.iter_mut().zip(arguments) {
        call.input = input(&arguments);
    }
    said
}

fn cohere_call(call: &Value) -> Call {
    let function = &call["function"];
    let arguments = match text(&function["arguments"]) {
        // What Cohere says for no arguments.
        null if null == "null" => String::new(),
        arguments => arguments,
    };
    Call { id: text(&call["id"]), name: text(&function["name"]), input: input(&arguments) }
}

fn cohere_end(said: &mut Said, reason: &Value, usage: &Value) {
    said.stop = reason.as_str().map(|reason| match reason {
        "MAX_TOKENS" => Stop::Length,
        "TOOL_CALL" => Stop::Calls,
        _ => Stop::End,
    });
    said.ended = said.stop.is_some();
    said.usage = usage["tokens"]["output_tokens"].as_u64().map(|output| Tokens {
        prompt: number(&usage["tokens"]["input_tokens"]),
        completion: output,
        cached: number(&usage["cached_tokens"]),
        thinking: number(&usage["tokens"]["reasoning_tokens"]).max(number(&usage["reasoning_tokens"])),
    });
}

/// A chat answer of Ollama's own, whole or line by line.
pub fn ollama(body: &str) -> Said {
    let mut said = Said::default();
    for line in body.lines().filter(|line| !line.trim().is_empty()) {
        let answer: Value = serde_json::from_str(line).unwrap_or_default();
        if answer["error"].is_string() {
            said.error = Some(answer["error"].clone());
        }
        let message = &answer["message"];
        said.text.push_str(message["content"].as_str().unwrap_or_default());
        said.thought.push_str(message["thinking"].as_str().unwrap_or_default());
        said.calls.extend(each(&message["tool_calls"]).map(|call| Call {
            id: text(&call["id"]),
            name: text(&call["function"]["name"]),
            input: call["function"]["arguments"].clone(),
        }));
        if answer["done"] == true {
            said.stop = Some(match answer["done_reason"].as_str() {
                Some("length") => Stop::Length,
                _ if !said.calls.is_empty() => Stop::Calls,
                _ => Stop::End,
            });
            said.usage = answer["eval_count"].as_u64().map(|output| Tokens {
                prompt: number(&answer["prompt_eval_count"]),
                completion: output,
                ..Tokens::default()
            });
        }
    }
    said.ended = said.stop.is_some();
    said
}
