//! The trial of a plugin before it is put to work: it describes itself, tests itself, and is asked once through each
//! function with made-up values.

use std::time::Duration;

use wasmtime::component::{ComponentNamedList, Lift, Lower, ResourceAny};

use super::guest::Guest;
use super::wire;
use crate::facts::Endpoint;
use crate::plugin::answer::{
    self, Classification, DialectFault, Manifest, Outgoing, RouteDecision, Signature, Verdict, WindowVerdict,
};
use crate::plugin::ask::{Candidate, Completion, Context, Pair, Phase, Segment, Window};
use crate::plugin::function::Function;
use crate::plugin::outcome::CallFault;

/// The least time of a trial call: the first ones are slow.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a function that may fail returns.
type Fallible<T> = (Result<T, wire::Failure>,);

/// Tries all that the plugin exports. What it describes is its manifest from now on.
pub(super) async fn run(guest: &mut Guest) -> Result<(), String> {
    let (described,): (wire::WireManifest,) = tried(guest, Function::Describe, ()).await?;
    guest.loaded.manifest = Manifest::from(described);
    if guest.exports.find(Function::SelfTest).is_some() {
        let (passed,): (Result<(), String>,) = tried(guest, Function::SelfTest, ()).await?;
        passed.map_err(|said| format!("its self-test fails: {said}"))?;
    }
    ask(guest).await?;
    guest.loaded.functions = functions(guest).await?;
    speak(guest).await
}

/// Classifiers, guards, routers, observers.
async fn ask(guest: &Guest) -> Result<(), String> {
    let there = |function| guest.exports.find(function).is_some();
    let known = Context::new("trial", Endpoint::Chat, "trial/model");
    let context = wire::Context::of(&known, &[], answer::Needs::default(), 1_000);
    let text = "Hello, this is Ada Lovelace from London. What is the capital of France?";
    let segments = [Segment::user(0, "messages[0].content", text)];
    if there(Function::Classify) {
        let said: Fallible<Classification> =
            tried(guest, Function::Classify, (&context, &segments[..])).await?;
        sound(guest, Function::Classify, said, Classification::check)?;
    }
    if there(Function::Inspect) {
        let said: Fallible<Verdict> =
            tried(guest, Function::Inspect, (Phase::Request, &context, &segments[..])).await?;
        sound(guest, Function::Inspect, said, |verdict: &Verdict| verdict.check(&segments))?;
    }
    if there(Function::InspectWindow) {
        let window = Window {
            choice: 0,
            channel: "content".into(),
            before: "The capital of ".into(),
            text: "France is Paris.".into(),
            last: true,
        };
        let said: Fallible<WindowVerdict> =
            tried(guest, Function::InspectWindow, (&context, &window)).await?;
        sound(guest, Function::InspectWindow, said, |verdict: &WindowVerdict| verdict.check(&window))?;
    }
    if there(Function::Route) {
        let candidates = [candidate()];
        let params = (&context, &segments[..], &candidates[..]);
        let said: Fallible<RouteDecision> = tried(guest, Function::Route, params).await?;
        sound(guest, Function::Route, said, RouteDecision::check)?;
    }
    if there(Function::Complete) {
        let completion = Completion { target: "trial/model".into(), status: 200, ..Completion::default() };
        let () = tried(guest, Function::Complete, (&context, &completion)).await?;
    }
    Ok(())
}

/// The names of all that policies may call; none where it does not say.
async fn functions(guest: &Guest) -> Result<Vec<String>, String> {
    if guest.exports.find(Function::Signatures).is_none() {
        return Ok(Vec::new());
    }
    let (signatures,): (Vec<Signature>,) = tried(guest, Function::Signatures, ()).await?;
    let wrong = |error| format!("functions.signatures: {error}");
    answer::list("signatures", signatures.len()).map_err(wrong)?;
    signatures.iter().try_for_each(|known| answer::text("name", &known.name)).map_err(wrong)?;
    Ok(signatures.into_iter().map(|known| known.name).collect())
}

/// Dialects.
async fn speak(guest: &Guest) -> Result<(), String> {
    let there = |function| guest.exports.find(function).is_some();
    if there(Function::Encode) {
        let request = r#"{"model":"trial","messages":[{"role":"user","content":"Hello"}]}"#;
        let said: Fallible<Outgoing> = tried(guest, Function::Encode, (request,)).await?;
        sound(guest, Function::Encode, said, |_| Ok(()))?;
    }
    if there(Function::Fault) {
        let headers: &[Pair] = &[];
        let body: &[u8] = b"{}";
        let (_,): (DialectFault,) = tried(guest, Function::Fault, (500_u16, headers, body)).await?;
    }
    if there(Function::Decoder) {
        let (_,): (ResourceAny,) = tried(guest, Function::Decoder, ()).await?;
    }
    Ok(())
}

fn candidate() -> Candidate {
    Candidate {
        target: "trial/model".into(),
        healthy: true,
        error_rate: 0.0,
        latency_p50_ms: 300,
        latency_p95_ms: 900,
        cost_micros: 100,
        context_window: 128_000,
        region: "eu".into(),
        tags: Vec::new(),
    }
}

async fn tried<P, R>(guest: &Guest, function: Function, params: P) -> Result<R, String>
where
    P: ComponentNamedList + Lower + Send + Sync,
    R: ComponentNamedList + Lift + Send + Sync + 'static,
{
    let limit = guest.limit(function).max(PATIENCE);
    let (interface, name) = function.path();
    let returned = guest.enter(function, params, limit, None).await;
    returned.map(|(returned, _)| returned).map_err(|fault| format!("{interface}.{name}, when tried: {fault}"))
}

/// A failure that the plugin reports itself is no reason to refuse it: made-up values may be outside what it handles.
fn sound<T>(
    guest: &Guest,
    function: Function,
    (said,): Fallible<T>,
    check: impl FnOnce(&T) -> Result<(), String>,
) -> Result<(), String> {
    let (interface, name) = function.path();
    match said {
        Ok(value) => check(&value).map_err(|error| format!("{interface}.{name}, when tried: {error}")),
        Err(failure) => {
            let fault = CallFault::from(failure);
            let plugin = &*guest.grantee.name;
            tracing::info!(
                plugin,
                function = name,
                said = &*fault.message,
                "a plugin has no answer to a made-up request"
            );
            Ok(())
        }
    }
}
