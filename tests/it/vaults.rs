//! Secrets in HashiCorp Vault and AWS Secrets Manager, both played by scripts: fetched, followed, missed, never shown.

mod stage;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::acts;
use crate::client::{self, ask, chat, eventually_async};
use crate::gateway::{self, CANARY, Gateway, Setup};
use crate::upstream::{Heard, Upstream};
use stage::{Manager, Vault};

/// The first value of the secret, and the one that follows. Both would be found anywhere they do not belong.
fn first() -> String {
    format!("{CANARY}-first")
}

fn second() -> String {
    format!("{CANARY}-second")
}

/// What a provider heard as its key.
fn bearer(heard: &Heard) -> String {
    heard.header("authorization").unwrap_or_default().replace("Bearer ", "")
}

fn provider(reference: &str, upstream: &Upstream) -> String {
    format!(
        "providers:\n  up: {{ dialect: openai, base_url: '{}', keys: [ '{reference}' ] }}\n",
        upstream.url()
    )
}

/// A gateway whose one key is `vault:llm/openai#key`.
fn with_vault(vault: &Vault, terms: &str, upstream: &Upstream) -> Setup {
    let secrets =
        format!("secrets: {{ {terms}, vault: {{ address: '{}', token: env:VAULT }} }}\n", vault.url());
    let setup = gateway::setup(&format!("{secrets}{}", provider("vault:llm/openai#key", upstream)));
    setup.env("VAULT", &vault.token())
}

async fn state(gateway: &Gateway) -> String {
    gateway.status().await["secrets"][0]["state"].as_str().unwrap_or_default().to_owned()
}

async fn until_state(gateway: &Gateway, wanted: &str) {
    eventually_async(wanted, async || (state(gateway).await == wanted).then_some(())).await;
}

async fn until_bears(gateway: &Gateway, upstream: &Upstream, key: &str) {
    eventually_async("the new key", async || {
        let before = upstream.heard().len();
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
        upstream.heard()[before..].iter().any(|heard| bearer(heard) == key).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_key_in_vault_is_fetched_with_a_token_and_leaves_no_trace() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first(), "other": 1 }));
    let upstream = Upstream::start(|_| acts::says("hello"));
    let more = format!(
        "log: {{ level: trace }}\nstate: {{ ledger: 'sqlite:./data/t.db' }}\nsecrets:\n  vault: {{ address: '{}', namespace: \
         team/a, mount: kv, token: file:token }}\n",
        vault.url()
    );
    let setup = gateway::setup(&format!("{more}{}", provider("vault:llm/openai#key", &upstream)));
    let setup = setup.file("token", &vault.token());
    let printed = setup.run(&["check"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    let mut gateway = setup.start();
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "hello");
    assert_eq!(bearer(&upstream.heard()[0]), first());
    let read = vault.heard().into_iter().rfind(|heard| heard.path.contains("/data/")).unwrap();
    assert_eq!(read.path, "/v1/kv/data/llm/openai");
    assert_eq!(read.header("x-vault-namespace"), Some("team/a"));
    assert_eq!(read.header("x-vault-request"), Some("true"));
    assert_eq!(state(&gateway).await, "fresh");

    let status = gateway.status().await;
    assert_eq!(status["secrets"][0]["reference"], "vault:llm/openai#key");
    let log = client::eventually_async("the access in the audit log", async || {
        let log = client::get(gateway.admin, "/admin/v1/audit").await.json();
        log.to_string().contains("secret.fetch").then_some(log)
    })
    .await;
    let entries = log["entries"].as_array().unwrap();
    let fetch = entries.iter().find(|entry| entry["action"] == "secret.fetch").unwrap();
    assert_eq!(fetch["target"], "vault:llm/openai#key");
    assert!(fetch["detail"].to_string().contains("read"), "{fetch}");
    let verdict = client::get(gateway.admin, "/admin/v1/audit/verify").await.json();
    assert_eq!(verdict["state"], "sound");

    let everything =
        format!("{:?}{:?}{}{status}{log}", gateway.log(), gateway.access(), gateway.metrics().await);
    assert!(!everything.contains(CANARY), "a secret was shown");
    gateway.terminate();
    assert!(gateway.ended(client::PATIENCE).is_some_and(|status| status.success()));
    let data = gateway.path("data");
    for file in std::fs::read_dir(data).unwrap().flatten().filter(|file| file.path().is_file()) {
        let bytes = std::fs::read(file.path()).unwrap();
        let found = bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
        assert!(!found, "a secret is in {:?}", file.path());
    }
}

#[tokio::test]
async fn a_changed_key_serves_without_a_restart_and_no_request_is_lost() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = Arc::new(with_vault(&vault, "refresh: 1s", &upstream).start());
    let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (to, over, sent) = (gateway.clients, over.clone(), sent.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let reply = chat(to, &ask("up/m")).await;
                    assert_eq!(reply.status, 200, "{reply:#?}");
                    sent.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    let seen = |key: String| {
        let upstream = &upstream;
        async move {
            client::eventually("a key", || {
                upstream.heard().iter().any(|heard| bearer(heard) == key).then_some(())
            })
            .await
        }
    };
    seen(first()).await;
    vault.set("llm/openai", json!({ "key": second() }));
    seen(second()).await;
    // What is asked from now on bears the new one.
    let before = sent.load(Ordering::SeqCst);
    client::eventually("more requests", || (sent.load(Ordering::SeqCst) > before + 8).then_some(())).await;
    let last: BTreeSet<String> = upstream.heard().iter().rev().take(4).map(bearer).collect();
    assert_eq!(last, BTreeSet::from([second()]));
    over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    assert!(gateway.metric("tollgate_secret_fetches_total", &["outcome=\"changed\""]).await >= 1.0);
}

#[tokio::test]
async fn a_refused_key_is_asked_for_at_once() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    let upstream = Upstream::start(|heard| match bearer(heard) == second() {
        true => acts::says("hello"),
        false => acts::error(401, "this key was revoked"),
    });
    let gateway = with_vault(&vault, "refresh: 1h", &upstream).start();
    vault.set("llm/openai", json!({ "key": second() }));
    assert_ne!(chat(gateway.clients, &ask("up/m")).await.status, 200, "it was revoked before anybody knew");
    eventually_async("the new key", async || {
        (chat(gateway.clients, &ask("up/m")).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_key_before_goes_on_while_the_provider_does_not_know_the_new_one() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    let upstream = Upstream::start(|heard| match bearer(heard) == first() {
        true => acts::says("hello"),
        false => acts::error(401, "nobody knows this key"),
    });
    let gateway = with_vault(&vault, "refresh: 1s, overlap: 8s", &upstream).start();
    vault.set("llm/openai", json!({ "key": second() }));
    eventually_async("a try with the new key", async || {
        assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200, "no request fails for it");
        upstream.heard().iter().any(|heard| bearer(heard) == second()).then_some(())
    })
    .await;
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
    let keys = || async { client::get(gateway.admin, "/admin/v1/providers").await.text() };
    assert!(keys().await.contains("(before)"));
    eventually_async("the end of the overlap", async || (!keys().await.contains("(before)")).then_some(()))
        .await;
    assert_ne!(chat(gateway.clients, &ask("up/m")).await.status, 200);
}

#[tokio::test]
async fn a_hangup_asks_for_all_secrets() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = with_vault(&vault, "refresh: 1h", &upstream).start();
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
    vault.set("llm/openai", json!({ "key": second() }));
    gateway.signal("HUP");
    until_bears(&gateway, &upstream, &second()).await;
}

#[tokio::test]
async fn an_approle_logs_in_renews_its_lease_and_logs_in_again() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    vault.lease(Duration::from_secs(2));
    let upstream = Upstream::start(|_| acts::says("hello"));
    let secrets = format!(
        "secrets: {{ refresh: 1s, vault: {{ address: '{}', app_role: {{ role_id: env:ROLE, secret_id: file:proof }} }} }}\n",
        vault.url()
    );
    let setup = gateway::setup(&format!("{secrets}{}", provider("vault:llm/openai#key", &upstream)));
    let (role, proof) = vault.role();
    let gateway = setup.env("ROLE", &role).file("proof", &proof).start();
    client::eventually("two renewals", || (vault.count("renew-self") >= 2).then_some(())).await;
    // From now on, leases end.
    vault.renews(false);
    let before = vault.count("login");
    client::eventually("two log-ins", || (vault.count("login") >= before + 2).then_some(())).await;
    vault.set("llm/openai", json!({ "key": second() }));
    until_bears(&gateway, &upstream, &second()).await;
    let leases = "tollgate_secret_leases_total";
    assert!(gateway.metric(leases, &["outcome=\"renewed\""]).await >= 1.0);
    assert!(gateway.metric(leases, &["outcome=\"login\""]).await >= 1.0);
}

#[tokio::test]
async fn a_secret_that_is_denied_costs_no_log_ins_and_tokens_are_given_back() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    vault.lease(Duration::from_secs(600));
    let upstream = Upstream::start(|_| acts::says("hello"));
    let secrets = format!(
        "secrets: {{ refresh: 1s, vault: {{ address: '{}', app_role: {{ role_id: env:ROLE, secret_id: file:proof }} }} }}\n",
        vault.url()
    );
    let setup = gateway::setup(&format!("{secrets}{}", provider("vault:llm/openai#key", &upstream)));
    let (role, proof) = vault.role();
    let gateway = setup.env("ROLE", &role).file("proof", &proof).start();
    vault.forbid("llm/openai");
    let denied = || vault.heard().iter().filter(|heard| heard.path.contains("/data/")).count();
    for _ in 0..3 {
        let before = denied();
        gateway.signal("HUP");
        client::eventually("a refusal", || (denied() > before).then_some(())).await;
    }
    assert_eq!((vault.count("login"), vault.count("revoke-self")), (1, 0));
    // A token that somebody revoked is another matter; but not as often as it is asked for.
    vault.revoke();
    gateway.signal("HUP");
    client::eventually("another log-in", || (vault.count("login") == 2).then_some(())).await;
    vault.revoke();
    for _ in 0..3 {
        let before = denied();
        gateway.signal("HUP");
        client::eventually("one more refusal", || (denied() > before).then_some(())).await;
    }
    assert_eq!(vault.count("login"), 2, "one a minute");
}

#[tokio::test]
async fn the_last_token_of_an_approle_is_given_back_at_the_end() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    vault.lease(Duration::from_secs(600));
    let upstream = Upstream::start(|_| acts::says("hello"));
    let secrets = format!(
        "secrets: {{ vault: {{ address: '{}', app_role: {{ role_id: env:ROLE, secret_id: file:proof }} }} }}\n",
        vault.url()
    );
    let setup = gateway::setup(&format!("{secrets}{}", provider("vault:llm/openai#key", &upstream)));
    let (role, proof) = vault.role();
    let mut gateway = setup.env("ROLE", &role).file("proof", &proof).start();
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
    assert_eq!((vault.count("login"), vault.count("revoke-self")), (1, 0));
    gateway.terminate();
    assert!(gateway.ended(client::PATIENCE).is_some_and(|status| status.success()));
    assert_eq!((vault.count("login"), vault.count("revoke-self")), (1, 1));
}

#[tokio::test]
async fn roots_of_vault_that_are_none_are_called_by_their_name() {
    let vault = Vault::start();
    let upstream = Upstream::start(|_| acts::says("hello"));
    let secrets = format!(
        "secrets: {{ vault: {{ address: '{}', token: env:VAULT, roots: absent.pem }} }}\n",
        vault.url()
    );
    let setup = gateway::setup(&format!("{secrets}{}", provider("vault:llm/openai#key", &upstream)));
    let printed = setup.env("VAULT", &vault.token()).run(&["check"]);
    let shown = format!("{}{}", printed.err, printed.out);
    assert!(shown.contains("secrets.vault.roots: `") && !shown.contains("extra_roots"), "{shown}");
}

#[tokio::test]
async fn a_token_that_was_replaced_is_read_anew() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    let upstream = Upstream::start(|_| acts::says("hello"));
    let secrets =
        format!("secrets: {{ refresh: 1s, vault: {{ address: '{}', token: file:token }} }}\n", vault.url());
    let setup = gateway::setup(&format!("{secrets}{}", provider("vault:llm/openai#key", &upstream)));
    let gateway = setup.file("token", &vault.token()).start();
    vault.revoke();
    until_state(&gateway, "stale").await;
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200, "the known key goes on");
    gateway.save("token", &vault.another_token());
    until_state(&gateway, "fresh").await;
}

#[tokio::test]
async fn a_vault_that_is_away_is_loud_and_its_secrets_go_on_until_they_lapse() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = with_vault(&vault, "refresh: 1s, grace: 2s", &upstream).start();
    vault.seal(true);
    until_state(&gateway, "stale").await;
    assert_eq!(gateway.metric("tollgate_secrets_stale", &["store=\"vault\""]).await, 1.0);
    let told = "a secret cannot be read from its store";
    client::eventually("a warning", || gateway.log().into_iter().find(|line| line.contains(told))).await;
    until_state(&gateway, "lapsed").await;
    eventually_async("a refusal", async || {
        let heard = upstream.heard().len();
        let reply = chat(gateway.clients, &ask("up/m")).await;
        (reply.status != 200 && upstream.heard().len() == heard).then_some(())
    })
    .await;
    assert!(gateway.log().iter().any(|line| line.contains("alarm: a secret could not be read for too long")));
    assert_eq!(client::get(gateway.admin, "/readyz").await.status, 200, "other providers are not touched");
    vault.seal(false);
    eventually_async("an answer", async || {
        (chat(gateway.clients, &ask("up/m")).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(state(&gateway).await, "fresh");
    assert_eq!(gateway.metric("tollgate_secrets_stale", &["store=\"vault\""]).await, 0.0);
}

#[tokio::test]
async fn the_keys_of_a_pool_lapse_one_by_one() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    let upstream = Upstream::start(|_| acts::says("hello"));
    let config = format!(
        "secrets: {{ refresh: 1s, grace: 0s, vault: {{ address: '{}', token: env:VAULT }} }}\nproviders:\n  up: {{ dialect: \
         openai, base_url: '{}', keys: [ 'vault:llm/openai#key', env:OTHER ] }}\n",
        vault.url(),
        upstream.url()
    );
    let gateway = gateway::setup(&config).env("VAULT", &vault.token()).env("OTHER", &second()).start();
    vault.seal(true);
    until_state(&gateway, "lapsed").await;
    eventually_async("only the other key", async || {
        let before = upstream.heard().len();
        for _ in 0..12 {
            assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
        }
        upstream.heard()[before..].iter().all(|heard| bearer(heard) == second()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_fetched_is_said_with_its_place_and_why() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first(), "n": 1 }));
    vault.set("llm/empty", json!({ "key": "" }));
    vault.set("llm/lines", json!({ "key": format!("{CANARY}\nx") }));
    vault.forbid("llm/secret");
    vault.delete("llm/gone");
    let upstream = Upstream::start(|_| acts::says("hello"));
    for (reference, part) in [
        ("vault:llm/openai#kez", "`vault:llm/openai#kez`: the secret has no field `kez`; it has key, n"),
        ("vault:llm/openai#n", "the field `n` is no text"),
        ("vault:llm/other#key", "there is no secret `llm/other` in the KV store (version 2) at `secret`"),
        ("vault:secret/llm/openai#key", "the path begins below the mount, without `secret/`"),
        ("vault:llm/gone#key", "the newest version of `llm/gone` was deleted"),
        ("vault:llm/secret#key", "status 403: permission denied"),
        ("vault:llm/empty#key", "`vault:llm/empty#key`: is empty"),
        ("vault:llm/lines#key", "contains line breaks"),
    ] {
        let config = with_vault(&vault, "timeout: 3s", &upstream);
        let config = config.file(
            "tollgate.yaml",
            &format!(
                "{}secrets: {{ vault: {{ address: '{}', token: env:VAULT }} }}\n{}",
                gateway::FREE_PORTS,
                vault.url(),
                provider(reference, &upstream)
            ),
        );
        let printed = config.run(&["check"]);
        assert_eq!(printed.code, Some(1), "{reference}: {printed:#?}");
        assert!(printed.err.contains(part), "{reference}: {}", printed.err);
        assert!(printed.err.contains("tollgate.yaml:6:"), "{reference}: {}", printed.err);
    }
    vault.seal(true);
    let setup = with_vault(&vault, "timeout: 3s", &upstream);
    let printed = setup.run(&["serve"]);
    assert_ne!(printed.code, Some(0));
    assert!(
        printed.err.contains("status 503 (sealed, or in maintenance): Vault is sealed"),
        "{}",
        printed.err
    );
    // A log-in that is refused, by a Vault that repeats what it was shown.
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    let setup = with_vault(&vault, "timeout: 3s", &upstream).env("VAULT", &format!("{CANARY}-wrong"));
    let printed = setup.run(&["check"]);
    assert!(printed.err.contains("status 403"), "{}", printed.err);
}

#[tokio::test]
async fn a_store_that_is_not_there_is_said_soon_for_many_secrets() {
    let nobody = crate::upstream::Refusing::new();
    let keys = (0..20).map(|n| format!("'vault:llm/k{n}#key'")).collect::<Vec<_>>().join(", ");
    let config = format!(
        "secrets: {{ timeout: 2s, vault: {{ address: '{}', token: env:VAULT }} }}\nproviders:\n  up: {{ dialect: openai, base_url: \
         'http://127.0.0.1:9', keys: [ {keys} ] }}\n",
        nobody.url().replace("/v1", "")
    );
    let printed = gateway::setup(&config).env("VAULT", "x").run(&["check"]);
    assert_eq!(printed.code, Some(1));
    assert!(
        printed.err.contains("`vault:llm/k0#key`") && printed.err.contains("127.0.0.1"),
        "{}",
        printed.err
    );
    // A reference without a store to ask.
    let upstream = Upstream::start(|_| acts::says("hello"));
    for (reference, part) in [
        ("vault:a#b", "no Vault is configured: set `secrets.vault.address`, or VAULT_ADDR"),
        ("aws-secrets:a", "no region of AWS is known: set `secrets.aws.region`"),
    ] {
        let printed = gateway::setup(&provider(reference, &upstream)).run(&["check"]);
        assert!(printed.err.contains(part), "{}", printed.err);
    }
}

#[tokio::test]
async fn a_reload_that_cannot_fetch_is_refused_and_made_good_when_the_store_is_back() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = with_vault(&vault, "refresh: 1h", &upstream).start();
    vault.seal(true);
    let more = format!(
        "secrets: {{ refresh: 1h, vault: {{ address: '{}', token: env:VAULT }} }}\n{}  more: {{ dialect: openai, base_url: '{}', keys: \
         [ 'vault:llm/more#key' ] }}\n",
        vault.url(),
        provider("vault:llm/openai#key", &upstream),
        upstream.url()
    );
    gateway.save_config(&more);
    eventually_async("a refused reload", async || {
        let errors = gateway.status().await["reloads"]["errors"].to_string();
        errors.contains("vault:llm/more#key").then_some(())
    })
    .await;
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200, "the last good one goes on");
    vault.set("llm/more", json!({ "key": second() }));
    vault.seal(false);
    eventually_async("the new provider", async || {
        (chat(gateway.clients, &ask("more/m")).await.status == 200).then_some(())
    })
    .await;
    assert!(upstream.heard().iter().any(|heard| bearer(heard) == second()));
}

/// A gateway whose one key is in Secrets Manager.
fn with_manager(manager: &Manager, reference: &str, terms: &str, upstream: &Upstream) -> Setup {
    let secrets =
        format!("secrets: {{ {terms}, aws: {{ region: eu-west-1, endpoint: '{}' }} }}\n", manager.url());
    let setup = gateway::setup(&format!("{secrets}{}", provider(reference, upstream)));
    setup.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").env("AWS_SECRET_ACCESS_KEY", &format!("{CANARY}-aws"))
}

#[tokio::test]
async fn a_key_in_aws_is_fetched_signed_and_followed() {
    let manager = Manager::start();
    manager.set("llm/openai", json!({ "key": first() }).to_string());
    let upstream = Upstream::start(|_| acts::says("hello"));
    let gateway = with_manager(&manager, "aws-secrets:llm/openai#key", "refresh: 1s", &upstream).start();
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.said(), "hello");
    assert_eq!(bearer(&upstream.heard()[0]), first());
    let asked = &manager.heard()[0];
    assert_eq!(asked.json(), json!({ "SecretId": "llm/openai" }));
    assert_eq!(asked.header("content-type"), Some("application/x-amz-json-1.1"));
    let signature = asked.header("authorization").unwrap_or_default();
    assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{signature}");
    assert!(signature.contains("/eu-west-1/secretsmanager/aws4_request"), "{signature}");
    assert!(signature.contains("SignedHeaders=content-type;host;x-amz-date;x-amz-target"), "{signature}");
    manager.set("llm/openai", json!({ "key": second() }).to_string());
    until_bears(&gateway, &upstream, &second()).await;
    manager.away(true);
    until_state(&gateway, "stale").await;
    assert_eq!(chat(gateway.clients, &ask("up/m")).await.status, 200);
    manager.away(false);
    until_state(&gateway, "fresh").await;
}

#[tokio::test]
async fn what_aws_does_not_give_is_said() {
    let manager = Manager::start();
    manager.set("plain", first());
    let upstream = Upstream::start(|_| acts::says("hello"));
    let printed = with_manager(&manager, "aws-secrets:plain", "refresh: 1s", &upstream).run(&["check"]);
    assert_eq!(printed.code, Some(0), "{printed:#?}");
    for (reference, part) in [
        ("aws-secrets:none#key", "ResourceNotFoundException: there is no secret `none` in this region"),
        ("aws-secrets:plain#key", "the secret is no JSON object, so it has no field `key`"),
        (
            "aws-secrets:denied",
            "AccessDeniedException: the keys of AWS do not allow `secretsmanager:GetSecretValue`",
        ),
    ] {
        let printed = with_manager(&manager, reference, "refresh: 1s", &upstream).run(&["check"]);
        assert_eq!(printed.code, Some(1), "{printed:#?}");
        assert!(printed.err.contains(part), "{}", printed.err);
    }
}

#[tokio::test]
async fn readings_of_secrets_are_in_the_audit_log_whatever_they_bring() {
    let vault = Vault::start();
    vault.set("llm/openai", json!({ "key": first() }));
    let upstream = Upstream::start(|_| acts::says("hello"));
    let config = format!(
        "state: {{ ledger: 'sqlite:./data/t.db' }}\nsecrets: {{ refresh: 1s, vault: {{ address: '{}', token: env:VAULT }} }}\n{}",
        vault.url(),
        provider("vault:llm/openai#key", &upstream)
    );
    let mut gateway = gateway::setup(&config).env("VAULT", &vault.token()).start();
    vault.set("llm/openai", json!({ "key": second() }));
    until_bears(&gateway, &upstream, &second()).await;
    vault.seal(true);
    until_state(&gateway, "stale").await;
    vault.seal(false);
    until_state(&gateway, "fresh").await;
    // A reload that fails has read secrets too.
    gateway.save_config(&format!(
        "{config}  more: {{ dialect: openai, base_url: 'http://127.0.0.1:9', keys: [ env:NONE ] }}\n"
    ));
    let find = |log: &Value, action: &str, parts: &[&str]| {
        log["entries"].as_array().unwrap().iter().any(|entry| {
            let text = entry.to_string();
            entry["action"] == action && parts.iter().all(|part| text.contains(part))
        })
    };
    let request = || client::request(Method::GET, "/admin/v1/audit?limit=1000", "");
    eventually_async("the refused reload", async || {
        let log = client::open(gateway.admin, request()).await.unwrap().rest().await.json();
        find(&log, "secrets.read", &["refused", "env:NONE", "failed"]).then_some(())
    })
    .await;
    gateway.terminate();
    assert!(gateway.ended(client::PATIENCE).is_some());
    let again = gateway::setup(&config).env("VAULT", &vault.token());
    std::fs::create_dir(again.path().join("data")).unwrap();
    for file in std::fs::read_dir(gateway.path("data")).unwrap().flatten() {
        if file.path().is_file() {
            std::fs::copy(file.path(), again.path().join("data").join(file.file_name())).unwrap();
        }
    }
    let verified = again.run(&["audit", "verify"]);
    assert!(verified.out.starts_with("ok: "), "{verified:#?}");
    let listed = again.run(&["audit", "list"]).out;
    let entries: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let log = json!({ "entries": entries });
    for (action, parts) in [
        ("secrets.read", &["start", "vault:llm/openai#key"][..]),
        ("secret.fetch", &["vault:llm/openai#key", "read"]),
        ("secret.fetch", &["refresh", "changed"]),
        ("secret.fetch", &["refresh", "failed", "Vault is sealed"]),
        ("secret.fetch", &["unchanged", "times"]),
    ] {
        assert!(find(&log, action, parts), "{action} {parts:?}: {listed}");
    }
}
