//! What providers keep belongs to the tenant who made it: others cannot name it, and do not find it in lists.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::batch::Batch;
use super::door::{Asked, Later};
use super::line::Opened;
use super::snapshot::{RawRules, Snapshot};
use crate::executor::{Answered, Executor, Job, Raw};
use crate::fault::{Fault, FaultKind};
use crate::heap;
use crate::json::{self, Body, Splice};
use crate::keys::Auth;
use crate::ledger;
use crate::providers::Relayed;
use crate::store::{Known, Made, Sharing};

/// What a request has to do with things that providers keep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items {
    /// The provider, where the request is for one alone.
    pub provider: Option<Arc<str>>,
    /// What it names.
    pub named: Vec<Named>,
    /// What its answer tells of them.
    pub told: Told,
}

/// A thing that a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its id at the provider.
    pub id: Box<str>,
    /// The field of the body where it stands; `None` for the path.
    pub field: Option<&'static str>,
}

/// What an answer tells of things that a provider keeps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Told {
    /// Nothing that has to be known.
    #[default]
    Nothing,
    /// What was made; whether these are answers of models.
    Made {
        /// Which providers keep for a month.
        answers: bool,
    },
    /// One of them, which may name others that were made of it.
    One,
    /// All that the provider's account has, by pages of so many.
    List {
        /// How many the client wants.
        limit: Option<usize>,
    },
}

/// Fields of bodies that name such things, in the words of all dialects.
const FIELDS: [&str; 8] = [
    "previous_response_id",
    "conversation",
    "cachedContent",
    "cached_content",
    "input_file_id",
    "training_file",
    "validation_file",
    "file_id",
];

/// Fields below which bodies name files, and what they call them there.
const PLACES: [&str; 6] = ["messages", "input", "system", "tools", "tool_resources", "requests"];
const FILES: [&str; 3] = ["file_id", "file_ids", "vector_store_ids"];

/// Fields of answers that name what was made: itself, and what its provider made of it.
const MADE: [&str; 6] = ["id", "name", "output_file_id", "error_file_id", "thread_id", "file"];

/// Fields that hold the elements of a list.
const LISTS: [&str; 6] = ["data", "files", "cachedContents", "batches", "operations", "fileSearchStores"];

/// The longest answer that is read for what it tells, in bytes.
const MOST: usize = 16 << 20;

/// Pages that are looked through for one of the client's.
const PAGES: usize = 20;

impl Items {
    /// What a body names; `None` where that is nothing.
    pub fn named_in(body: &Body) -> Option<Self> {
        let mut named = Vec::new();
        for field in FIELDS {
            let Some(raw) = body.raw(field) else { continue };
            let id = match raw.starts_with('{') {
                true => json::entries(raw).find(|(key, _)| key == "id").and_then(|(_, id)| json::text(id)),
                false => json::text(raw),
            };
            named.extend(id.map(|id| Named { id: own_name(&id).into(), field: Some(field) }));
        }
        let names = |text: &[u8], field: &str| memchr::memmem::find(text, field.as_bytes()).is_some();
        let stores = body.raw("tools").is_some_and(|tools| names(tools.as_bytes(), "\"vector_store_ids\""));
        if stores || names(body.bytes(), "\"file_id") {
            for place in PLACES {
                let Some(raw) = body.raw(place) else { continue };
                let value = serde_json::from_str(raw).unwrap_or_default();
                files_in(&value, &mut named);
            }
        }
        (!named.is_empty()).then(|| Self { named, ..Self::default() })
    }
}

/// Files that are named somewhere below.
fn files_in(value: &Value, named: &mut Vec<Named>) {
    match value {
        Value::Array(all) => all.iter().for_each(|value| files_in(value, named)),
        Value::Object(fields) => {
            for (key, value) in fields {
                let Some(field) = FILES.iter().find(|known| **known == key) else {
                    files_in(value, named);
                    continue;
                };
                let ids = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
                let ids = ids.iter().filter_map(Value::as_str);
                named.extend(ids.map(|id| Named { id: id.into(), field: Some(*field) }));
            }
        }
        _ => {}
    }
}

/// An id without the kind of resource before it, as Google writes it: `files/abc`.
pub fn own_name(name: &str) -> &str {
    name.rsplit_once('/').map_or(name, |(_, own)| own)
}

/// What an answer says was made.
fn made_in(answer: &[u8]) -> Vec<Box<str>> {
    let Ok(text) = std::str::from_utf8(answer) else { return Vec::new() };
    let mut ids: Vec<Box<str>> = Vec::new();
    for (key, raw) in json::entries(text) {
        if !MADE.contains(&&*key) {
            continue;
        }
        if raw.starts_with('{') {
            let own = json::entries(raw).filter(|(key, _)| matches!(&**key, "id" | "name"));
            ids.extend(own.filter_map(|(_, raw)| json::text(raw)).map(|id| own_name(&id).into()));
        } else if let Some(id) = json::text(raw) {
            ids.push(own_name(&id).into());
        }
    }
    ids
}

/// The id of an element of a list.
fn id_in(element: &str) -> Option<Cow<'_, str>> {
    let of = |wanted: &str| json::entries(element).find(|(key, _)| key == wanted);
    json::text(of("id").or_else(|| of("name"))?.1)
}

/// A page of a list.
struct Page {
    /// The object around it, and the field where it stands there; some lists stand alone.
    around: Option<(Body, String)>,
    elements: Vec<String>,
    /// Where the next one begins, if there is one.
    next: Option<String>,
}

impl Page {
    /// `None` where it is none.
    fn read(body: &Bytes) -> Option<Self> {
        let split = |raw: &str| json::elements(raw).map(str::to_owned).collect::<Vec<_>>();
        if body.trim_ascii_start().starts_with(b"[") {
            let elements = split(std::str::from_utf8(body).ok()?.trim());
            return Some(Self { around: None, elements, next: None });
        }
        let body = Body::read(body.clone()).ok()?;
        let text = std::str::from_utf8(body.bytes()).ok()?;
        let is_list = |raw: &str| raw.starts_with('[') && json::elements(raw).any(|one| id_in(one).is_some());
        let known =
            LISTS.iter().copied().find(|field| body.raw(field).is_some_and(|raw| raw.starts_with('[')));
        let other = || json::entries(text).find(|(_, raw)| is_list(raw)).map(|(field, _)| field.into_owned());
        let field = known.map(str::to_owned).or_else(other)?;
        let elements = split(body.raw(&field)?);
        let last = elements.last().and_then(|last| id_in(last)).map(Cow::into_owned);
        let next = match body.bool("has_more") {
            Some(true) => last,
            Some(false) => None,
            None => body.str("nextPageToken").map(Cow::into_owned).filter(|token| !token.is_empty()),
        };
        Some(Self { around: Some((body, field)), elements, next })
    }

    /// Ids of its elements.
    fn ids(&self) -> Vec<Box<str>> {
        let ids = self.elements.iter().filter_map(|element| id_in(element));
        ids.map(|id| own_name(&id).into()).collect()
    }

    /// The page with these elements instead.
    fn with(&self, elements: &[String], more: bool) -> Bytes {
        let list = format!("[{}]", elements.join(","));
        let Some((body, field)) = &self.around else { return list.into() };
        let mut splice = Splice::new(body);
        splice.set(field, list);
        for (field, element) in [("first_id", elements.first()), ("last_id", elements.last())] {
            if body.has(field) {
                match element.and_then(|element| id_in(element)) {
                    Some(id) => splice.set_text(field, &id),
                    None => splice.set(field, "null"),
                };
            }
        }
        if body.has("has_more") {
            splice.set("has_more", if more { "true" } else { "false" });
        }
        if body.has("total") {
            splice.set("total", elements.len().to_string());
        }
        splice.finish().concat().into()
    }
}

impl Opened<'_> {
    /// Refuses a request that names what is another tenant's.
    pub(super) async fn may_name(&self, items: Items) -> Result<(), Fault> {
        let rules = &self.snapshot.raw;
        if items.named.is_empty() || rules.sharing(items.provider.as_deref()) == Sharing::All {
            return Ok(());
        }
        let ids: Vec<Box<str>> = items.named.iter().map(|named| named.id.clone()).collect();
        let found = self.owners(&ids).await?;
        let owner = self.caller.owner().map(|owner| owner.word());
        for named in &items.named {
            let known = found.get(&named.id).map_or(&[][..], Vec::as_slice);
            if !rules.is_shown(known, items.provider.as_deref(), owner.as_deref()) {
                return Err(unknown(named));
            }
        }
        Ok(())
    }

    async fn owners(&self, ids: &[Box<str>]) -> Result<HashMap<Box<str>, Vec<Known>>, Fault> {
        self.gateway.shared.answers.owners().find(ids).await.map_err(|trouble| {
            tracing::warn!(%trouble, "whose something is that a provider keeps is not known now");
            let text = "whose this is cannot be known now: the database of it is away";
            Fault::new(FaultKind::Unavailable, text).code("owners_unavailable")
        })
    }

    /// Carries a request out; of an answer that tells of what a provider keeps, learns whose it is, and leaves out what is
    /// another's.
    pub(super) async fn carried(
        &mut self,
        executor: &Executor,
        job: &mut Job,
        asked: &Arc<dyn Asked>,
    ) -> Result<Answered, Fault> {
        let answered = heap::pinned(|| executor.carry_out(job)).await?;
        // Few requests are such.
        if let Answered::Whole(relayed, target) = &answered
            && (relayed.usage.is_some_and(|usage| usage.is_nothing()) || asked.is_errand())
        {
            Box::pin(self.in_background(&**asked, relayed, &target.name.provider)).await;
        }
        if !asked.is_raw() {
            return Ok(answered);
        }
        if let (Some(batch), Answered::Raw(raw)) = (asked.results(), &answered)
            && raw.status() == 200
        {
            let provider = raw.target().name.provider.clone();
            Box::pin(self.claim(&provider, batch)).await;
        }
        let Some(items) = asked.items().filter(|items| items.told != Told::Nothing) else {
            return Ok(answered);
        };
        Box::pin(self.learn(executor, job, asked, items, answered)).await
    }

    /// Tells other gateways of an answer that is made in the background, and finds out who of all books it.
    async fn in_background(&mut self, asked: &dyn Asked, relayed: &Relayed, provider: &Arc<str>) {
        let shared = &self.gateway.shared;
        let Some(redis) = shared.answers.redis() else { return };
        let keep = self.snapshot.kept.keep;
        match asked.later(&relayed.body, relayed.usage.as_ref()) {
            Later::Begun(id) => shared.answers.announce(self.caller.key_id.clone(), &id, keep).await,
            Later::Awaited(id) => ledger::wait(redis, provider, &id).await,
            Later::Over(id) if relayed.usage.is_some_and(|usage| !usage.is_nothing()) => {
                let first = ledger::book(redis, provider, &id, keep).await;
                self.note(|settlement| settlement.booked(first));
            }
            Later::Over(_) | Later::No => {}
        }
    }

    /// Of all who see what a batch used, one books it.
    async fn claim(&mut self, provider: &Arc<str>, batch: &str) {
        let claim = self.gateway.shared.answers.owners().claim(provider, batch).await;
        if let Err(trouble) = &claim {
            tracing::warn!(%trouble, "what a batch used is booked when somebody asks for it again");
        }
        self.note(|settlement| settlement.claimed(claim.ok()));
    }

    async fn learn(
        &mut self,
        executor: &Executor,
        job: &mut Job,
        asked: &Arc<dyn Asked>,
        items: Items,
        answered: Answered,
    ) -> Result<Answered, Fault> {
        let (body, answered) = match answered {
            Answered::Whole(relayed, target) => (relayed.body.clone(), Answered::Whole(relayed, target)),
            Answered::Raw(mut raw) if (200..300).contains(&raw.status()) => {
                let Some(body) = read(&mut raw, items.told).await? else { return Ok(Answered::Raw(raw)) };
                (body, Answered::Raw(raw))
            }
            other => return Ok(other),
        };
        let provider = match &answered {
            Answered::Whole(_, target) => target.name.provider.clone(),
            Answered::Raw(raw) => raw.target().name.provider.clone(),
            _ => return Ok(answered),
        };
        let owner = self.caller.owner().map(|owner| owner.word());
        let owners = self.gateway.shared.answers.owners();
        let shown = match items.told {
            Told::List { limit } if owner.is_some() => {
                Some(self.listed(executor, job, asked, (&body, limit), &provider).await?)
            }
            Told::Made { answers } => {
                let ids = made_in(&body);
                if !ids.is_empty() && (owner.is_some() || asked.is_batch()) {
                    let owner = owner.unwrap_or_default();
                    owners.made(Made { provider: provider.clone(), ids, owner, answers }).await;
                }
                None
            }
            Told::One => {
                let ids = made_in(&body);
                if let Some(owner) = owner.filter(|_| ids.len() > 1) {
                    owners.made(Made { provider: provider.clone(), ids, owner, answers: false }).await;
                }
                None
            }
            _ => None,
        };
        if let Some(batch) = Batch::read(&body).filter(|batch| batch.is_over && asked.is_look()) {
            self.claim(&provider, &batch.id).await;
        }
        Ok(match (answered, shown) {
            (Answered::Whole(mut relayed, target), Some(shown)) => {
                relayed.body = shown;
                Answered::Whole(relayed, target)
            }
            (Answered::Raw(mut raw), Some(shown)) => {
                raw.begin_with(shown);
                Answered::Raw(raw)
            }
            (answered, _) => answered,
        })
    }

    /// A list without what is another's. Where that leaves less than the client wants, further pages are looked through.
    async fn listed(
        &self,
        executor: &Executor,
        job: &mut Job,
        asked: &Arc<dyn Asked>,
        (body, limit): (&Bytes, Option<usize>),
        provider: &Arc<str>,
    ) -> Result<Bytes, Fault> {
        let rules = &self.snapshot.raw;
        let is_told_apart = rules.sharing(Some(provider)) != Sharing::All;
        let Some(first) = Page::read(body).filter(|_| is_told_apart) else { return Ok(body.clone()) };
        let owner = self.caller.owner().map(|owner| owner.word());
        let wanted = limit.unwrap_or(first.elements.len()).max(1);
        let mut kept = Vec::new();
        let mut next = first.next.clone();
        let mut page = Some(first);
        let mut seen = 0;
        let mut of_all = None;
        while let Some(now) = page.take() {
            seen += 1;
            let found = self.owners(&now.ids()).await?;
            for element in &now.elements {
                let id = id_in(element).unwrap_or_default();
                let known = found.get(own_name(&id)).map_or(&[][..], Vec::as_slice);
                if rules.is_shown(known, Some(provider), owner.as_deref()) {
                    kept.push(element.clone());
                }
            }
            next.clone_from(&now.next);
            of_all.get_or_insert(now);
            let Some(after) = next.as_deref().filter(|_| kept.len() < wanted && seen < PAGES) else { break };
            let Some(carry) = asked.page(after) else { break };
            // What the client asked for stands in the ledger already.
            (job.carry, job.tab) = (carry, None);
            page = match Box::pin(executor.carry_out(job)).await? {
                Answered::Whole(relayed, _) => Page::read(&relayed.body),
                Answered::Raw(mut raw) => {
                    let read = read(&mut raw, Told::List { limit }).await?;
                    read.as_ref().and_then(Page::read)
                }
                _ => None,
            };
        }
        let more = kept.len() > wanted || next.is_some() && kept.len() >= wanted;
        kept.truncate(wanted);
        Ok(of_all.map_or_else(|| body.clone(), |page| page.with(&kept, more)))
    }
}

/// The fault for what there is not, as far as this caller is concerned.
fn unknown(named: &Named) -> Fault {
    let id: String = named.id.chars().filter(|c| !c.is_control()).take(80).collect();
    match named.field {
        None => Fault::new(FaultKind::NotFound, format!("nothing with the id '{id}' is kept for this key")),
        Some("previous_response_id") => {
            let text = format!("previous response with id '{id}' not found: it was not made with this key");
            Fault::bad_request(text, "previous_response_id").code("previous_response_not_found")
        }
        Some(field) => {
            let text = format!("nothing with the id '{id}' is kept for this key");
            Fault::bad_request(text, field).code("not_found")
        }
    }
}

/// What of a raw answer tells of things: all of a JSON document, or the first event of a stream; `None` where it is
/// something else, or too long, and goes on as it comes.
async fn read(raw: &mut Raw, told: Told) -> Result<Option<Bytes>, Fault> {
    let kind = raw.headers().get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let events = kind.starts_with(b"text/event-stream");
    if events && !matches!(told, Told::Made { .. }) || !events && !kind.starts_with(b"application/json") {
        return Ok(None);
    }
    let is_enough = |held: &[u8]| events && memchr::memmem::find(held, b"\n\n").is_some();
    let (held, whole) = raw.hold(MOST, is_enough).await?;
    if !whole && matches!(told, Told::List { .. }) {
        let text = "the list is too long to be told apart by owners: ask for a shorter page";
        return Err(Fault::new(FaultKind::Malformed, text).code("list_too_long"));
    }
    raw.begin_with(held.clone());
    if !events {
        return Ok(Some(held).filter(|_| whole));
    }
    // Of a stream, the first event tells the answer; the client gets all as it came.
    let text = std::str::from_utf8(&held).unwrap_or_default();
    let data = text.lines().find_map(|line| line.strip_prefix("data:")).unwrap_or_default();
    let answer = json::entries(data.trim()).find(|(key, _)| key == "response");
    Ok(answer.map(|(_, raw)| Bytes::copy_from_slice(raw.as_bytes())))
}

impl Snapshot {
    /// Whether lists of what a provider keeps are told apart by owners.
    pub fn tells_apart(&self, provider: &str) -> bool {
        !matches!(self.auth, Auth::None) && self.raw.sharing(Some(provider)) != Sharing::All
    }
}

impl RawRules {
    /// Who finds what a provider keeps. Where it is not known which one is meant: all of it only where all share all.
    fn sharing(&self, provider: Option<&str>) -> Sharing {
        let mut all = self.sharing.iter().filter(|(name, _)| provider.is_none_or(|wanted| **name == *wanted));
        let is = |wanted: Sharing| move |(_, sharing): &(Arc<str>, Sharing)| *sharing == wanted;
        match (all.clone().next(), all.clone().all(is(Sharing::All)), all.all(is(Sharing::Own))) {
            (None, ..) | (_, _, true) => Sharing::Own,
            (_, true, _) => Sharing::All,
            _ => Sharing::Outside,
        }
    }

    /// Whether a thing may be seen: its owner's, or of nobody here where that is shared.
    fn is_shown(&self, known: &[Known], provider: Option<&str>, owner: Option<&str>) -> bool {
        let mut of_somebody = false;
        for known in known.iter().filter(|known| provider.is_none_or(|wanted| *known.provider == *wanted)) {
            if owner == Some(&*known.owner) || self.sharing(Some(&known.provider)) == Sharing::All {
                return true;
            }
            // Nobody's is what was made while nobody had to say who he is.
            of_somebody |= !known.owner.is_empty();
        }
        self.sharing(provider) != Sharing::Own && !of_somebody
    }
}
