//! OpenAI's Responses in front of a provider that speaks them: untouched, kept there, and carried on anywhere.

use std::sync::Mutex;

use http::{Method, Request};
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, Reply, post};
use crate::gateway::{self, CANARY, Gateway};
use crate::upstream::{Act, Heard, Upstream};

/// A response as OpenAI gives it, with thinking that only OpenAI can read.
fn response(id: &str, store: bool) -> Value {
    json!({
        "id": id, "object": "response", "created_at": 1_700_000_000, "status": "completed", "error": null,
        "incomplete_details": null, "model": "gpt-5", "store": store, "unheard_of": 1.0,
        "output": [
            {"id": format!("rs_{id}"), "type": "reasoning", "summary": [], "encrypted_content": "gAAAA"},
            {"id": format!("msg_{id}"), "type": "message", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]}],
        "usage": {"input_tokens": 4, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 6},
    })
}

fn event(kind: &str, number: u64, fields: Value) -> String {
    let mut data = json!({"type": kind, "sequence_number": number});
    data.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    format!("event: {kind}\ndata: {data}\n\n")
}

fn stream(id: &str) -> String {
    let mut begun = response(id, true);
    (begun["status"], begun["output"]) = ("in_progress".into(), json!([]));
    let item = json!({"id": format!("msg_{id}"), "type": "message", "role": "assistant", "content": []});
    [
        event("response.created", 0, json!({"response": begun})),
        event("response.output_item.added", 1, json!({"output_index": 0, "item": item})),
        event(
            "response.output_text.delta",
            2,
            json!({"item_id": item["id"], "output_index": 0, "content_index": 0, "delta": "Hello", "logprobs": []}),
        ),
        event("response.completed", 3, json!({"response": response(id, true)})),
    ]
    .concat()
}

/// A conversation made shorter: what only OpenAI can read.
fn compacted() -> Value {
    json!({
        "id": "resp_short", "object": "response.compaction", "created_at": 1_700_000_000,
        "output": [{"type": "message", "id": "msg_1", "role": "user", "content": [{"type": "input_text", "text": "one"}]},
            {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAAA"}],
        "usage": {"input_tokens": 40, "output_tokens": 7, "total_tokens": 47},
    })
}

/// The scripted provider counts its responses: `resp_a1`, `resp_a2` …
fn openai(letter: &'static str) -> Upstream {
    let made = Mutex::new(0);
    Upstream::start(move |heard| {
        let mut made = made.lock().unwrap();
        if heard.method == "GET" {
            return acts::whole(200, &response("resp_bg", true));
        }
        if heard.method == "DELETE" {
            return acts::whole(200, &json!({"id": "gone", "deleted": true}));
        }
        if heard.path.ends_with("/cancel") {
            let mut cancelled = response("resp_bg", true);
            cancelled["status"] = "cancelled".into();
            return acts::whole(200, &cancelled);
        }
        if heard.path.ends_with("/compact") {
            return acts::whole(200, &compacted());
        }
        *made += 1;
        play(heard, &format!("resp_{letter}{made}"))
    })
}

fn play(heard: &Heard, id: &str) -> Vec<Act> {
    let body = heard.json();
    if body["background"] == true {
        let mut queued = response("resp_bg", true);
        (queued["status"], queued["output"], queued["usage"]) = ("queued".into(), json!([]), Value::Null);
        return acts::whole(200, &queued);
    }
    match heard.model().as_str() {
        "down" => acts::error(500, "no"),
        "cut" => {
            let text = stream(id);
            acts::stream(text.split_once("event: response.completed").unwrap().0, 50)
        }
        _ if heard.is_stream() => acts::stream(&stream(id), 23),
        model => acts::whole(200, &response(id, body["store"] != false && model != "keeps-nothing")),
    }
}

struct House {
    a: Upstream,
    b: Upstream,
    chat: Upstream,
    gateway: Gateway,
}

fn house() -> House {
    let (a, b) = (openai("a"), openai("b"));
    let chat = Upstream::start(|heard| {
        if heard.is_stream() { acts::says_stream(&["Hel", "lo"]) } else { acts::says("Hello") }
    });
    let native = |name: &str, upstream: &Upstream| {
        format!("  {name}: {{ preset: openai, base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n", upstream.url())
    };
    let gateway = gateway::start(&format!(
        "retries: {{ retries: 0 }}\nproviders:\n{}{}{}models:\n  both: {{ targets: [ {{ to: b/m, weight: 100 }}, {{ to: a/m, weight: 0 }} ] }}\n",
        native("a", &a),
        native("b", &b),
        gateway::provider("chat", &chat.url()),
    ));
    House { a, b, chat, gateway }
}

impl House {
    async fn ask(&self, body: &Value) -> Reply {
        let reply = post(self.gateway.clients, "/v1/responses", body).await;
        assert_eq!(reply.status, 200, "{reply:#?}");
        reply
    }

    async fn lookup(&self, method: Method, path: &str) -> Reply {
        let uri = format!("/v1/responses/{path}");
        let request = Request::builder().method(method).uri(uri).body(bytes::Bytes::new()).unwrap();
        client::open(self.gateway.clients, request).await.unwrap().rest().await
    }
}

fn last(upstream: &Upstream) -> Heard {
    upstream.heard().pop().expect("a request")
}

#[tokio::test]
async fn bytes_go_through_untouched_both_ways() {
    let house = house();
    let body = json!({"model": "a/gpt-5", "input": [{"role": "user", "content": "hi"}, {"type": "web_search_call", "id": "ws_1"}],
        "tools": [{"type": "web_search"}], "conversation": "conv_1", "unheard_of": {"a": 1.0}, "previous_response_id": "resp_of_old"});
    let reply = house.ask(&body).await;
    assert_eq!((reply.json(), reply.header("x-tollgate-warnings")), (response("resp_a1", true), ""));
    let heard = last(&house.a);
    assert_eq!(
        (heard.path.as_str(), heard.header("authorization")),
        ("/v1/responses", Some(&*format!("Bearer {CANARY}")))
    );
    assert_eq!(String::from_utf8(heard.body).unwrap(), body.to_string().replace("a/gpt-5", "gpt-5"));
    let streamed = house.ask(&json!({"model": "a/gpt-5", "input": "hi", "stream": true})).await;
    assert_eq!(streamed.text(), stream("resp_a2"));
}

#[tokio::test]
async fn the_provider_that_keeps_a_conversation_gets_its_next_turn() {
    let house = house();
    for ask in
        [json!({"model": "a/m", "input": "one"}), json!({"model": "a/m", "input": "one", "stream": true})]
    {
        let first = house.ask(&ask).await;
        let id = if ask["stream"] == true { "resp_a3" } else { "resp_a1" };
        assert!(first.text().contains(id), "{first:#?}");
        // The alias would draw the other one.
        let next = json!({"model": "both", "input": "two", "previous_response_id": id});
        let reply = house.ask(&next).await;
        assert_eq!(reply.header("x-tollgate-target"), "a/m");
        assert_eq!(last(&house.a).json()["previous_response_id"], id);
        assert_eq!(last(&house.a).json()["input"], "two");
    }
    assert!(house.b.heard().is_empty());
}

#[tokio::test]
async fn a_conversation_is_written_out_for_everybody_else() {
    let house = house();
    house.ask(&json!({"model": "a/m", "input": "one", "instructions": "of the first"})).await;
    // Another provider of the same dialect: the words, but neither its ids nor thoughts that it cannot read.
    let next = json!({"model": "b/m", "input": "two", "previous_response_id": "resp_a1"});
    let reply = house.ask(&next).await;
    assert_eq!(
        last(&house.b).json(),
        json!({"model": "m", "input": [
            {"role": "user", "content": "one"},
            {"type": "message", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}]},
            {"role": "user", "content": "two"}]})
    );
    assert_eq!(
        reply.header("x-tollgate-warnings"),
        "previous_response_id (thinking of another provider dropped)"
    );
    // A provider of another dialect, then back to one that has never heard of the last two turns.
    let third =
        house.ask(&json!({"model": "chat/m", "input": "three", "previous_response_id": "resp_b1"})).await;
    let said: Vec<_> = last(&house.chat).json()["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["content"].clone())
        .collect();
    assert_eq!(said, ["one", "Hello", "two", "Hello", "three"]);
    let id = third.json()["id"].clone();
    house.ask(&json!({"model": "a/m", "input": [{"role": "user", "content": "four"}], "previous_response_id": id})).await;
    let heard = last(&house.a).json();
    assert_eq!(heard["input"].as_array().unwrap().len(), 8, "{heard:#}");
    assert!(heard.get("previous_response_id").is_none() && !heard.to_string().contains("tollgate"));
    // References to what others have made are written out as well.
    let item = third.json()["output"][0]["id"].clone();
    let refer = |id: &Value| json!({"type": "item_reference", "id": id});
    house.ask(&json!({"model": "a/m", "input": [refer(&item), refer(&json!("msg_resp_a1")), {"role": "user", "content": "x"}]})).await;
    let input = last(&house.a).json()["input"].clone();
    assert_eq!(
        (&input[0]["content"][0]["text"], &input[1]),
        (&json!("Hello"), &refer(&json!("msg_resp_a1")))
    );
}

#[tokio::test]
async fn a_vendor_that_keeps_nothing_gets_everything() {
    let house = house();
    house.ask(&json!({"model": "a/keeps-nothing", "input": "one"})).await;
    house.ask(&json!({"model": "a/m", "input": "two", "previous_response_id": "resp_a1"})).await;
    let input = last(&house.a).json()["input"].clone();
    assert_eq!(
        input[1],
        json!({"id": "rs_resp_a1", "type": "reasoning", "summary": [], "encrypted_content": "gAAAA"})
    );
    assert_eq!((input.as_array().unwrap().len(), input[2].get("id")), (4, None));
}

#[tokio::test]
async fn proofs_of_others_never_reach_openai() {
    let house = house();
    let thought =
        |proof: &str| json!({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": proof});
    let input = json!([{"role": "user", "content": "one"}, thought("tollgate:signature:x"), thought("gAAAA"),
        {"type": "message", "id": "msg_tollgate00", "role": "assistant", "content": "ok"}, {"role": "user", "content": "two"}]);
    let reply = house.ask(&json!({"model": "a/m", "input": input, "store": false})).await;
    let heard = last(&house.a).json();
    assert_eq!(
        heard["input"],
        json!([input[0], input[2], {"type": "message", "role": "assistant", "content": "ok"}, input[4]])
    );
    assert_eq!(reply.header("x-tollgate-warnings"), "input[1] (thinking of another provider dropped)");
}

#[tokio::test]
async fn a_response_in_the_background_is_awaited_at_its_provider() {
    let house = house();
    let queued = house.ask(&json!({"model": "a/m", "input": "one", "background": true})).await.json();
    assert_eq!(queued["status"], "queued");
    // Nobody else can continue what is not there yet.
    let early = json!({"model": "chat/m", "input": "two", "previous_response_id": "resp_bg"});
    assert_eq!(post(house.gateway.clients, "/v1/responses", &early).await.status, 400);
    let polled = house.lookup(Method::GET, "resp_bg").await;
    assert_eq!((polled.status, polled.json()), (200, response("resp_bg", true)), "{polled:#?}");
    let heard = last(&house.a);
    assert_eq!(
        (heard.method.as_str(), heard.path.as_str(), heard.body.len()),
        ("GET", "/v1/responses/resp_bg", 0)
    );
    assert_eq!(post(house.gateway.clients, "/v1/responses", &early).await.status, 200);
    assert_eq!(house.lookup(Method::POST, "resp_bg/cancel").await.json()["status"], "cancelled");
    assert_eq!(last(&house.a).path, "/v1/responses/resp_bg/cancel");
    assert_eq!(house.lookup(Method::DELETE, "resp_bg").await.status, 200);
    assert_eq!(last(&house.a).method, "DELETE");
    assert_eq!(house.lookup(Method::GET, "resp_bg").await.status, 404);
}

#[tokio::test]
async fn a_stream_that_breaks_fails_under_its_own_id_and_a_dead_provider_is_left() {
    let house = house();
    let broken = house.ask(&json!({"model": "a/cut", "input": "one", "stream": true})).await.text();
    let failed = broken.split("event: response.failed\ndata: ").nth(1).expect("a failure");
    let failed: Value = serde_json::from_str(failed.trim()).unwrap();
    assert_eq!((&failed["sequence_number"], &failed["response"]["id"]), (&json!(4), &json!("resp_a1")));
    assert_eq!(failed["response"]["error"]["code"], "upstream_truncated");

    house.ask(&json!({"model": "a/m", "input": "one"})).await;
    let body = json!({"model": "a/down", "input": "two", "previous_response_id": "resp_a2"});
    assert_eq!(post(house.gateway.clients, "/v1/responses", &body).await.status, 500);
}

#[tokio::test]
async fn a_conversation_is_compacted_by_who_can_and_by_nobody_else() {
    let house = house();
    let compact = async |body: Value| post(house.gateway.clients, "/v1/responses/compact", &body).await;
    let reply = compact(json!({"model": "a/gpt-5", "input": "one", "instructions": "short"})).await;
    assert_eq!((reply.status, reply.json()), (200, compacted()), "{reply:#?}");
    let heard = last(&house.a);
    assert_eq!(heard.path, "/v1/responses/compact");
    assert_eq!(heard.json(), json!({"model": "gpt-5", "input": "one", "instructions": "short"}));
    let record = house.gateway.record(reply.header("x-request-id")).await;
    assert_eq!(
        (&record["usage"]["input"], &record["usage"]["output"]),
        (&json!(40), &json!(7)),
        "{record:#}"
    );

    // What was kept here is written out for it; what was kept there is named.
    let first = house.ask(&json!({"model": "chat/m", "input": "one"})).await.json();
    compact(json!({"model": "a/m", "previous_response_id": first["id"]})).await;
    let heard = last(&house.a).json();
    assert_eq!((heard["input"].as_array().map(Vec::len), heard.get("previous_response_id")), (Some(2), None));
    house.ask(&json!({"model": "a/m", "input": "one"})).await;
    compact(json!({"model": "a/m", "previous_response_id": "resp_a1"})).await;
    assert_eq!(last(&house.a).json(), json!({"model": "m", "previous_response_id": "resp_a1"}));

    let before = house.chat.heard().len();
    let refused = compact(json!({"model": "chat/m", "input": "one"})).await;
    assert_eq!((refused.status, &refused.error()["param"]), (400, &json!("model")), "{refused:#?}");
    assert!(refused.text().contains("OpenAI's Responses"), "{refused:#?}");
    let streamed = compact(json!({"model": "a/m", "input": "one", "stream": true})).await;
    assert_eq!((streamed.status, &streamed.error()["param"]), (400, &json!("stream")));
    assert_eq!(house.chat.heard().len(), before);
}

#[tokio::test]
async fn what_is_done_with_a_response_at_its_provider_is_never_answered_from_the_cache() {
    let a = openai("a");
    let gateway = gateway::start(&format!(
        "cache: {{ ttl: 10m, when: always }}\nproviders:\n  a: {{ preset: openai, base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n",
        a.url()
    ));
    let ask = json!({"model": "a/m", "input": "one"});
    for _ in 0..2 {
        assert_eq!(post(gateway.clients, "/v1/responses", &ask).await.json()["id"], "resp_a1");
    }
    assert_eq!(a.heard().len(), 1, "the second answer is the first again");
    let request = |method: Method, path: &str| {
        let uri = format!("/v1/responses/{path}");
        client::open(
            gateway.clients,
            Request::builder().method(method).uri(uri).body(bytes::Bytes::new()).unwrap(),
        )
    };
    let streamed = request(Method::GET, "resp_a1?stream=true").await.unwrap().rest().await;
    assert_eq!((streamed.status, &*last(&a).path), (200, "/v1/responses/resp_a1?stream=true"));
    let path = "resp_a1?include%5B%5D=reasoning.encrypted_content&key=sk";
    assert_eq!(request(Method::GET, path).await.unwrap().rest().await.status, 200);
    assert_eq!(last(&a).path, "/v1/responses/resp_a1?include%5B%5D=reasoning.encrypted_content");
    let deleted = request(Method::DELETE, "resp_a1").await.unwrap().rest().await;
    assert_eq!((deleted.status, &deleted.json()["deleted"]), (200, &json!(true)), "{deleted:#?}");
    assert_eq!(last(&a).method, "DELETE");
}

#[tokio::test]
async fn an_answer_in_the_background_is_paid_for_once_however_often_it_is_read() {
    let looks = Mutex::new(0);
    let up = Upstream::start(move |heard| {
        if heard.method != "GET" {
            let mut big = response("resp_big", true);
            big["usage"]["input_tokens"] = 1_000.into();
            return if heard.json()["background"] == true { play(heard, "") } else { acts::whole(200, &big) };
        }
        let mut looks = looks.lock().unwrap();
        *looks += 1;
        let mut told = response("resp_bg", true);
        if *looks <= 2 {
            (told["status"], told["output"], told["usage"]) = ("in_progress".into(), json!([]), Value::Null);
        }
        acts::whole(200, &told)
    });
    let gateway = gateway::start(&format!(
        "state: {{ ledger: sqlite:./data/tollgate.db }}\nproviders:\n  \
         a: {{ preset: openai, base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n\
         prices: {{ models: {{ a/m: {{ price: {{ input: 1000, output: 1000 }} }} }} }}\n\
         budgets:\n  - {{ name: all, dollars: 1, per: total }}\n",
        up.url()
    ));
    let ask = json!({ "model": "a/m", "input": "one", "background": true, "max_output_tokens": 16 });
    let queued = post(gateway.clients, "/v1/responses", &ask).await;
    assert_eq!((queued.status, queued.json()["status"].as_str()), (200, Some("queued")), "{queued:#?}");
    // It uses up the budget, which keeps nobody from what was asked for before.
    let big = json!({ "model": "a/m", "input": "two", "max_output_tokens": 16 });
    assert_eq!(post(gateway.clients, "/v1/responses", &big).await.status, 200);
    assert_eq!(post(gateway.clients, "/v1/responses", &big).await.status, 402);
    for (status, cost) in [
        ("in_progress", "0"),
        ("in_progress", "0"),
        ("completed", "0.006"),
        ("completed", "0"),
        ("completed", "0"),
    ] {
        let look = client::request(Method::GET, "/v1/responses/resp_bg", "");
        let reply = client::open(gateway.clients, look).await.unwrap().rest().await;
        assert_eq!(reply.status, 200, "{reply:#?}");
        assert_eq!(reply.json()["status"], status);
        assert_eq!(reply.header("x-tollgate-cost-usd"), cost, "{status}");
    }
    assert_eq!(crate::money::rows(&gateway).await.len(), 7);
    assert_eq!(crate::money::purse(&gateway).await, (1_002_000_000 + 6_000_000, 0));
}
