//! Every recorded answer through every door, whoever gave it: what the client gets and what the provider is asked,
//! both read by hand and compared with a reading of the recording.
//!
//! To add a vendor's recordings: one line in [`tables::VENDORS`]. To add a door: one line in [`tables::DOORS`] and a module that reads
//! and writes its dialect.

pub mod asked;
pub mod chat;
pub mod generate;
pub mod messages;
pub mod responses;
pub mod said;
pub mod tables;
mod vendors;

use std::collections::{BTreeSet, HashMap};
use std::fmt::{Debug, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::acts;
use crate::client::{self, Reply};
use crate::gateway::{self, Gateway};
use crate::upstream::{Act, Heard, Upstream};
use asked::{Asked, Item};
use said::{Said, Stop};
pub use tables::{CHAT, GENERATE, MESSAGES, RESPONSES, Speech};
use tables::{COHERE, DOORS, SPEAK_RESPONSES, VENDORS, Vendor, vendors};

/// Pieces that a stream is cut into, in bytes.
const PIECES: [usize; 5] = [usize::MAX, 1, 7, 61, 1000];

/// Tries that run at the same time.
const AT_ONCE: usize = 16;

/// Streams above this are not also sent byte by byte.
const SMALL: usize = 6 << 10;

pub struct Case {
    pub id: String,
    pub vendor: String,
    pub speech: &'static Speech,
    pub model: String,
    pub stream: bool,
    /// The recorded request, where there is one.
    pub request: Option<Value>,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Case {
    pub fn said(&self) -> Said {
        if self.stream && self.status == 200 {
            (self.speech.streamed)(&self.text)
        } else {
            (self.speech.whole)(&self.text)
        }
    }

    /// The same, where the end is what makes an answer whole: some of OpenAI's kin never say `[DONE]`.
    fn meant(&self) -> Said {
        let mut said = self.said();
        said.ended = said.stop.is_some() && (said.ended || self.speech.name == CHAT.name);
        if let Some(tokens) = &mut said.usage {
            // No more can be read from a cache than was sent.
            tokens.cached = tokens.cached.min(tokens.prompt);
        }
        said.proofs.retain(|proof| !proof.is_empty());
        said
    }
}

#[tokio::test]
async fn every_recorded_answer_means_the_same_at_every_door() {
    let Some(cases) = recorded() else { return };
    run(cases).await;
}

#[tokio::test]
async fn every_quirk_means_the_same_at_every_door() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut cases = Vec::new();
    for vendor in vendors().iter().filter(|vendor| vendor.op != "responses") {
        quirks(&fixtures.join("every_door").join(vendor.folder), &vendor.name, vendor.speech, &mut cases);
    }
    assert!(!cases.is_empty());
    run(cases).await;
}

/// Cases of our own: the name begins with the number of a quirk, or with the status of an error; `.sse` is a stream.
fn quirks(folder: &Path, vendor: &str, speech: &'static Speech, cases: &mut Vec<Case>) {
    for path in files(folder) {
        let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        let stream = path.extension().is_some_and(|extension| extension == "sse");
        let status = name.split('_').next().filter(|word| word.len() == 3).and_then(|word| word.parse().ok());
        cases.push(Case {
            id: format!("{vendor}-{name}-{}", if stream { "s" } else { "n" }),
            vendor: vendor.to_owned(),
            speech,
            model: "m".into(),
            stream,
            request: None,
            status: status.unwrap_or(200),
            headers: vec![("content-type".into(), "application/json".into())],
            text: fs::read_to_string(&path).expect("a readable case"),
        });
    }
}

/// Sends every case through every door, and says everything that went wrong.
async fn run(cases: Vec<Case>) {
    let stage = Arc::new(Stage::start(cases));
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut tries = Vec::new();
    for case in &stage.cases {
        for door in DOORS {
            // OpenAI's own dialect in and out is what `fixtures.rs` is about.
            let own = door.name == CHAT.name && case.speech.name == CHAT.name;
            let own = own
                || door.name == RESPONSES.name
                    && (case.speech.name == door.name || SPEAK_RESPONSES.contains(&case.vendor.as_str()));
            if own || !format!("{} at {}", case.id, door.name).contains(&only) {
                continue;
            }
            let (stage, case) = (stage.clone(), case.clone());
            tries.push(async move { (stage.try_pieces(&case, door).await, case, door) });
        }
    }
    let (mut faults, mut passed) = (String::new(), 0);
    let mut tries = tries.into_iter();
    let mut running: JoinSet<_> = tries.by_ref().take(AT_ONCE).fold(JoinSet::new(), |mut set, next| {
        set.spawn(next);
        set
    });
    while let Some(done) = running.join_next().await {
        let (result, case, door) = done.expect("a try that ends");
        match result {
            Ok(replays) => passed += replays,
            Err(fault) => {
                let _ = writeln!(faults, "{} at {} {fault}", case.id, door.name);
            }
        }
        tries.next().map(|next| running.spawn(next));
    }
    eprintln!("{passed} replays passed");
    assert!(faults.is_empty(), "\n{faults}\n{passed} replays passed");
}

/// All recordings; `None`, aloud, where there are none.
pub fn recorded() -> Option<Vec<Case>> {
    let root =
        std::env::var_os("TOLLGATE_FIXTURES").map_or_else(|| "../shared/fixtures".into(), PathBuf::from);
    if !root.is_dir() {
        eprintln!("SKIPPED: no recordings at {} (set TOLLGATE_FIXTURES)", root.display());
        return None;
    }
    let mut cases = Vec::new();
    for vendor in vendors() {
        read_folder(&root.join(vendor.folder), &vendor, &mut cases);
    }
    assert!(!cases.is_empty(), "{} has no recordings", root.display());
    Some(cases)
}

fn read_folder(folder: &Path, vendor: &Vendor, cases: &mut Vec<Case>) {
    for path in files(folder) {
        let text = fs::read_to_string(&path).expect("a readable recording");
        let recorded: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if recorded["op"] == vendor.op {
            cases.push(case(&vendor.name, vendor.speech, &recorded));
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = files.map(|file| file.path()).collect();
    paths.sort();
    paths
}

fn case(vendor: &str, speech: &'static Speech, recorded: &Value) -> Case {
    let response = &recorded["response"];
    let request = Some(&recorded["request"]["body"]).filter(|body| body.is_object()).cloned();
    let model = request.as_ref().and_then(|request| request["model"].as_str().map(str::to_owned));
    let path = recorded["request"]["path"].as_str().unwrap_or_default();
    let in_path =
        path.rsplit_once("/models/").and_then(|(_, rest)| rest.split_once(':')).map(|(m, _)| m.to_owned());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let headers = response["headers"].as_object().into_iter().flatten();
    Case {
        id: text(&recorded["id"]),
        vendor: vendor.to_owned(),
        speech,
        model: in_path.or(model).unwrap_or_else(|| "recorded".into()).replace("models/", ""),
        stream: recorded["stream"] == true,
        request,
        status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
        headers: headers.map(|(name, value)| (name.clone(), text(value))).collect(),
        text: text(&response["text"]),
    }
}

/// The gateway between the doors and a scripted provider that has the recordings.
pub struct Stage {
    pub cases: Vec<Arc<Case>>,
    pub gateway: Gateway,
    _upstream: Upstream,
    heard: Arc<Mutex<HashMap<String, Vec<Heard>>>>,
}

impl Stage {
    pub fn start(cases: Vec<Case>) -> Self {
        let cases: Vec<Arc<Case>> = cases.into_iter().map(Arc::new).collect();
        let by_id: HashMap<String, Arc<Case>> = cases.iter().map(|c| (c.id.clone(), c.clone())).collect();
        let heard: Arc<Mutex<HashMap<String, Vec<Heard>>>> = Arc::default();
        let keep = heard.clone();
        let upstream = Upstream::start(move |heard| {
            let Some(key) = key_of(heard) else { return acts::error(418, "no case") };
            keep.lock().unwrap().entry(key.clone()).or_default().push(heard.clone());
            let mut parts = key.split("--");
            let (Some(id), Some(_), Some(pieces)) = (parts.next(), parts.next(), parts.next()) else {
                return acts::error(418, "no case");
            };
            replay(&by_id[id], pieces.parse().unwrap_or(usize::MAX))
        });
        let mut config = String::from("retries: { retries: 0 }\nproviders:\n");
        for Vendor { name, settings, path, .. } in vendors() {
            let url = format!("http://{}{path}", upstream.address);
            let _ =
                writeln!(config, "  {name}: {{ {settings}, base_url: \"{url}\", keys: [ env:TEST_KEY ] }}");
        }
        Self { cases, gateway: gateway::start(&config), _upstream: upstream, heard }
    }

    /// Asks at a door for the answer of a case.
    pub async fn ask(
        &self,
        case: &Case,
        door: &Speech,
        pieces: usize,
        mut body: Value,
    ) -> (Reply, Vec<Heard>) {
        let key = format!("{}--{}--{pieces}", case.id, door.name);
        let model = format!("{}/{}--{key}", case.vendor, case.model);
        if door.name != GENERATE.name {
            body["model"] = model.as_str().into();
            body.as_object_mut().unwrap().remove("stream");
            if case.stream {
                body["stream"] = true.into();
            }
        }
        if door.name == CHAT.name {
            body.as_object_mut().unwrap().remove("stream_options");
            if case.stream {
                body["stream_options"] = serde_json::json!({"include_usage": true});
            }
        }
        let reply = client::post(self.gateway.clients, &(door.path)(&model, case.stream), &body).await;
        (reply, self.heard.lock().unwrap().remove(&key).unwrap_or_default())
    }

    /// One case at one door, in all sizes of pieces; how many there were.
    async fn try_pieces(&self, case: &Case, door: &'static Speech) -> Result<usize, String> {
        let streams = case.stream && case.status == 200;
        let mut passed = 0;
        for pieces in PIECES {
            let split = pieces != usize::MAX;
            if split && !streams || pieces == 1 && case.text.len() > SMALL {
                continue;
            }
            let tried = self.try_case(case, door, pieces).await;
            tried.map_err(|fault| format!("in pieces of {pieces}:\n    {fault}"))?;
            passed += 1;
        }
        Ok(passed)
    }

    async fn try_case(&self, case: &Case, door: &'static Speech, pieces: usize) -> Result<(), String> {
        let same_speech = door.name == case.speech.name;
        let asked = case.request.as_ref().map_or_else(Asked::hello, case.speech.read);
        let body = match &case.request {
            Some(request) if same_speech => request.clone(),
            _ => (door.write)(&asked),
        };
        let (reply, heard) = self.ask(case, door, pieces, body.clone()).await;
        let brief =
            |fault: String| format!("{fault}\n    the client got {}: {}", reply.status, short(&reply.text()));
        if heard.is_empty() && case.status == 400 {
            // The gateway may see by itself what the provider refused.
            return failed(400, door, &reply).map_err(brief);
        }
        let [heard] = heard.as_slice() else {
            return Err(brief(format!("the provider was asked {} times", heard.len())));
        };
        let answers_only = VENDORS.iter().any(|(.., speech)| {
            speech.name == case.speech.name && !DOORS.iter().any(|door| door.name == speech.name)
        });
        if answers_only {
            // Its requests are tried where it is spoken.
        } else if same_speech {
            untouched(&body, &heard.json(), case)?;
        } else {
            let got = (case.speech.read)(&heard.json());
            understood(&asked, got, door)
                .map_err(|fault| format!("{fault}\n    sent {}", short(&heard.json().to_string())))?;
        }
        let record = match pieces {
            usize::MAX => Some(self.gateway.record(reply.header("x-request-id")).await),
            _ => None,
        };
        answered(case, door, &reply, record.as_ref()).map_err(brief)
    }
}

/// `case--door--pieces`, which travels in the model's name.
fn key_of(heard: &Heard) -> Option<String> {
    let model = heard.model();
    let path = heard.path.split('?').next().unwrap_or_default();
    let in_path =
        path.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(model, _)| model.to_owned());
    let name = in_path.unwrap_or(model);
    name.split_once("--").map(|(_, key)| key.to_owned())
}

fn replay(case: &Case, pieces: usize) -> Vec<Act> {
    if case.stream && case.status == 200 {
        return acts::stream(&case.text, pieces);
    }
    let headers: Vec<_> = case.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    acts::answer(case.status, &headers, &case.text)
}

/// Where door and provider speak one dialect, the request goes on as it is.
fn untouched(sent: &Value, heard: &Value, case: &Case) -> Result<(), String> {
    if case.speech.name == CHAT.name {
        // What vendors of OpenAI's kin refuse stands in `fixtures.rs`.
        return Ok(());
    }
    for (name, value) in sent.as_object().into_iter().flatten() {
        if !matches!(&**name, "model" | "stream") {
            same(&format!("request field {name}"), value, &heard[name])?;
        }
    }
    same(
        "number of fields",
        &sent.as_object().map(|o| o.keys().filter(|k| !matches!(&***k, "stream" | "model")).count()),
        &heard.as_object().map(|o| o.keys().filter(|k| !matches!(&***k, "stream" | "model")).count()),
    )
}

/// What the provider was asked means what the client asked.
fn understood(asked: &Asked, got: Asked, door: &Speech) -> Result<(), String> {
    // What the door's dialect cannot say, the test has not sent.
    let expected = (door.read)(&(door.write)(asked)).plain();
    let got = got.plain();
    same("turns", &expected.turns, &got.turns)?;
    same("system", &expected.system, &got.system)?;
    same("tools", &expected.tools, &got.tools)?;
    same("tool choice", &expected.choice, &got.choice)?;
    same("stops", &expected.stops, &got.stops)?;
    same("schema", &expected.schema, &got.schema)?;
    if expected.limit.is_some() {
        same("limit", &expected.limit, &got.limit)?;
    }
    same("temperature", &expected.temperature, &got.temperature)?;
    if expected.top_p != Some(1.0) {
        same("top_p", &expected.top_p, &got.top_p)?;
    }
    // Nothing that the client put into the conversation stays behind.
    let count = |asked: &Asked| {
        let items = asked.turns.iter().flat_map(|turn| &turn.items);
        items.filter(|item| !matches!(item, Item::Own(_) | Item::Thought { .. } | Item::Text(_))).count()
    };
    same("calls, results and media", &count(&expected), &count(&got))
}

fn answered(case: &Case, door: &Speech, reply: &Reply, record: Option<&Value>) -> Result<(), String> {
    if case.status != 200 {
        return failed(case.status, door, reply);
    }
    let mut expected = case.meant();
    let same_speech = case.speech.name == door.name;
    let broken = expected.error.is_some() || !expected.ended;
    if broken && !(case.stream && expected.has_content()) {
        same("is an error", &true, &(reply.status >= 400))?;
        return (door.error)(&reply.json()).map(|_| ()).ok_or_else(|| "not the dialect's error".into());
    }
    same("status", &200, &reply.status)?;
    let mut got = if case.stream { (door.streamed)(&reply.text()) } else { (door.whole)(&reply.text()) };
    let mut oddities = std::mem::take(&mut got.oddities);
    oddities.retain(|odd| !(broken && odd.starts_with("the input of a call")));
    if !same_speech {
        same("oddities", &Vec::<String>::new(), &oddities)?;
    }
    same("the end came", &!broken, &got.ended)?;
    same("an error came", &broken, &got.error.is_some())?;
    translate(&mut expected, case.speech, door);
    if broken && door.name == GENERATE.name && !same_speech {
        // Calls are told whole there, or not at all.
        expected.calls.truncate(got.calls.len());
    }
    same("text", &expected.text, &got.text)?;
    same("thinking", &expected.thought, &got.thought)?;
    same("refusal", &expected.refusal, &got.refusal)?;
    called(&expected, &got, same_speech)?;
    if let Some(lost) = expected.proofs.iter().find(|proof| !got.carries(proof)) {
        return Err(format!("the proof {} does not travel with {:?}", short(lost), got.proofs));
    }
    if case.speech.name == COHERE.name {
        // Its citations name documents of the client's, not addresses.
        got.sources.clear();
    }
    same("sources", &set(&expected.sources), &set(&got.sources))?;
    if broken {
        return Ok(());
    }
    // Some providers say that they just stop although they call.
    let calls = door.name != CHAT.name && !got.calls.is_empty() && expected.stop == Some(Stop::End);
    let calls = calls && got.stop == Some(Stop::Calls);
    same("stop", &if calls { Some(Stop::Calls) } else { expected.stop }, &got.stop)?;
    if let Some(tokens) = expected.usage {
        same("usage", &Some(tokens), &got.usage)?;
        let Some(record) = record else { return Ok(()) };
        let number = |name: &str| record["usage"][name].as_u64().unwrap_or(0);
        let prompt = number("input") + number("cached_read") + number("cache_write");
        same("booked", &(tokens.prompt, tokens.completion), &(prompt, number("output")))?;
    }
    Ok(())
}

/// What of an answer can be said at another door.
fn translate(expected: &mut Said, from: &Speech, to: &Speech) {
    if from.name == to.name {
        return;
    }
    if to.name != CHAT.name && to.name != RESPONSES.name {
        // Only OpenAI has a place of its own for refusals.
        let refuses = !expected.refusal.is_empty();
        expected.text.push_str(&std::mem::take(&mut expected.refusal));
        if refuses && to.name == MESSAGES.name && expected.stop == Some(Stop::End) {
            expected.stop = Some(Stop::Filter);
        }
    }
    if to.name == MESSAGES.name {
        // Anthropic's citations prove themselves; nobody else's can stand there.
        expected.sources.clear();
    }
}

fn called(expected: &Said, got: &Said, same_speech: bool) -> Result<(), String> {
    let names = |said: &Said| said.calls.iter().map(|call| call.name.clone()).collect::<Vec<_>>();
    same("calls", &names(expected), &names(got))?;
    for (call, other) in expected.calls.iter().zip(&got.calls) {
        let wrapped = ["input", "arguments"].into_iter().any(|key| other.input[key] == call.input);
        if !(call.input.is_string() && wrapped) {
            same("arguments", &call.input, &other.input)?;
        }
    }
    let ids: BTreeSet<&String> = got.calls.iter().map(|call| &call.id).collect();
    let good = ids.len() == got.calls.len() && ids.iter().all(|id| !id.is_empty());
    same("every call has an id of its own", &true, &(good || same_speech))
}

fn failed(status: u16, door: &Speech, reply: &Reply) -> Result<(), String> {
    // A provider's refusal of our key, or of our account, is not the client's fault; 529 is a word of Anthropic's.
    let expected: &[u16] = match status {
        400 => &[400, 502],
        401 | 403 => &[502],
        529 => &[503],
        status => &[status],
    };
    same("the status fits", &true, &expected.contains(&reply.status))?;
    let message = (door.error)(&reply.json()).ok_or("not an error in the dialect's shape")?;
    same("the error says something", &false, &message.is_empty())
}

fn set(list: &[String]) -> BTreeSet<&String> {
    list.iter().collect()
}

fn same<T: PartialEq + Debug>(what: &str, expected: &T, got: &T) -> Result<(), String> {
    if expected == got {
        return Ok(());
    }
    Err(format!("{what}:\n    expected {}\n    got      {}", short(expected), short(got)))
}

fn short(value: &(impl Debug + ?Sized)) -> String {
    let text = format!("{value:?}");
    if text.len() < 1200 { text } else { format!("{}…", text.chars().take(1200).collect::<String>()) }
}
