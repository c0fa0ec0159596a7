//! `/v1/files`: whose files are meant, and that they pass as they are.

use http::{Method, Request};
use serde_json::json;

use crate::acts;
use crate::audio::{form, post_form};
use crate::client::{self, Reply};
use crate::gateway::{self, Gateway, provider};
use crate::passthrough::noise;
use crate::upstream::{Heard, Upstream};

fn play(heard: &Heard) -> Vec<crate::upstream::Act> {
    if heard.path.ends_with("/content") {
        return acts::answer(200, &[("content-type", "application/octet-stream")], noise(30_000));
    }
    if heard.path.contains("missing") {
        return acts::error(404, "no such file");
    }
    acts::whole(
        200,
        &json!({"id": "file-1", "object": "file", "path": heard.path, "bytes": heard.body.len()}),
    )
}

async fn send(gateway: &Gateway, method: Method, path: &str, provider: Option<&str>) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(provider) = provider {
        request = request.header("x-tollgate-provider", provider);
    }
    client::open(gateway.clients, request.body(bytes::Bytes::new()).unwrap()).await.unwrap().rest().await
}

#[tokio::test]
async fn files_are_kept_by_the_provider_and_pass_as_they_are() {
    let upstream = Upstream::start(play);
    let gateway = gateway::start(&format!(
        "providers:\n{}  sandbox: {{ dialect: sandbox }}\n",
        provider("up", &upstream.url())
    ));
    let body = form(&[("purpose", "batch")], &noise(3 << 20), &[]);
    let length = body.len();
    let reply = post_form(&gateway, "/v1/files", body.clone()).await;
    assert_eq!((reply.status, &reply.json()["bytes"]), (200, &json!(length)));
    assert!(upstream.heard().pop().unwrap().body == body, "byte for byte");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!((&record["facts"]["endpoint"], &record["method"]), (&json!("files"), &json!("POST")));

    let reply = send(&gateway, Method::GET, "/v1/files?limit=3&provider=up&after=x", None).await;
    assert_eq!(reply.json()["path"], "/v1/files?limit=3&after=x");
    let reply = send(&gateway, Method::GET, "/v1/files/file-1/content", None).await;
    assert!(reply.body == noise(30_000) && reply.header("content-type") == "application/octet-stream");
    let record = gateway.record(reply.header("x-request-id")).await;
    assert_eq!(record["path"], "/v1/files/{id}/content");
    let reply = send(&gateway, Method::DELETE, "/v1/files/file-1", None).await;
    assert_eq!((reply.status, upstream.heard().pop().unwrap().method.as_str()), (200, "DELETE"));
    let reply = send(&gateway, Method::GET, "/v1/files/missing", None).await;
    assert_eq!((reply.status, &reply.error()["message"]), (404, &json!("no such file")));
    let reply = send(&gateway, Method::PUT, "/v1/files/file-1", None).await;
    assert_eq!((reply.status, reply.header("allow")), (405, "GET, DELETE"));
    let reply = post_form(&gateway, "/v1/uploads/upload_1/parts", body.clone()).await;
    assert_eq!((reply.status, &reply.json()["path"]), (200, &json!("/v1/uploads/upload_1/parts")));
}

#[tokio::test]
async fn anthropics_clients_find_their_files_where_openais_do() {
    let (openai, claude) = (Upstream::start(play), Upstream::start(play));
    let gateway = gateway::start(&format!(
        "providers:\n{}  claude: {{ dialect: anthropic, base_url: \"{}\", keys: [ env:TEST_KEY ] }}\n",
        provider("up", &openai.url()),
        claude.url(),
    ));
    let of = |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path);
        request.header("anthropic-version", "2023-06-01").header("anthropic-beta", "files-api-2025-04-14")
    };
    let reply = client::open(
        gateway.clients,
        of(Method::GET, "/v1/files?limit=3").body(bytes::Bytes::new()).unwrap(),
    );
    let reply = reply.await.unwrap().rest().await;
    assert_eq!((reply.status, openai.heard().len(), claude.heard().len()), (200, 0, 1), "{reply:#?}");
    let heard = claude.heard().pop().unwrap();
    assert!(heard.path.ends_with("/files?limit=3"), "{heard:?}");
    let beta = heard.headers.iter().find(|(name, _)| name == "anthropic-beta").map(|(_, value)| &**value);
    assert_eq!(beta, Some("files-api-2025-04-14"));
    let reply =
        client::open(gateway.clients, of(Method::PUT, "/v1/files").body(bytes::Bytes::new()).unwrap());
    let reply = reply.await.unwrap().rest().await;
    assert_eq!((reply.status, &reply.json()["type"]), (405, &json!("error")));
    assert_eq!(send(&gateway, Method::GET, "/v1/files", None).await.status, 200);
    assert_eq!((openai.heard().len(), claude.heard().len()), (1, 1));
}

#[tokio::test]
async fn with_several_providers_one_must_be_meant() {
    let (one, two) = (Upstream::start(play), Upstream::start(play));
    let providers = format!("providers:\n{}{}", provider("one", &one.url()), provider("two", &two.url()));
    let gateway = gateway::start(&providers);
    let reply = send(&gateway, Method::GET, "/v1/files", None).await;
    assert!(reply.status == 400 && reply.text().contains("x-tollgate-provider"), "{reply:#?}");
    let reply = send(&gateway, Method::GET, "/v1/files", Some("two")).await;
    assert_eq!((reply.status, two.heard().len(), one.heard().len()), (200, 1, 0));
    let reply = send(&gateway, Method::GET, "/v1/files?provider=one", None).await;
    assert_eq!((reply.status, one.heard().len()), (200, 1));
    let reply = send(&gateway, Method::GET, "/v1/files", Some("nobody")).await;
    assert_eq!(reply.status, 404);
    let gateway = gateway::start(&format!("files: {{ provider: two }}\n{providers}"));
    let reply = send(&gateway, Method::GET, "/v1/files", None).await;
    assert_eq!((reply.status, two.heard().len()), (200, 2));
    let gateway = gateway::start("providers:\n  sandbox: { dialect: sandbox }\n");
    assert_eq!(send(&gateway, Method::GET, "/v1/files", None).await.status, 404);
}
