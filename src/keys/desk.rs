//! Where keys are made and changed: every change is kept and noted before it counts, and counts at once then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::Keys;
use super::holder::{Key, Shown};
use super::secret::mint;
use super::settings::KeyTerms;
use crate::clock::Clock;
use crate::store::registry::{Entry, KeyRow, Noted, Registry, Verdict};
use crate::store::sqlite::Trouble;

/// Kinds of settings that operators make while a gateway runs: pushed prices by model, budgets by name; and the changes of
/// prices that there were.
pub const PRICES: &str = "price";
/// See [`PRICES`].
pub const BUDGETS: &str = "budget";
/// See [`PRICES`].
pub const PRICE_CHANGES: &str = "price_change";

/// Kinds that all gateways share, where they share keys.
pub const SHARED_KINDS: &[&str] = &[PRICES, BUDGETS];

/// The longest name of a key.
const LONGEST: usize = 128;

/// How often a change is tried again when another one came first.
const TRIES: usize = 5;

/// What is said when all tries were in vain.
const CONTESTED: &str = "others change this at the same time; try again";

/// Makes and changes keys.
#[derive(Clone)]
pub struct KeyDesk {
    keys: Arc<Keys>,
    registry: Option<Arc<dyn Registry>>,
    clock: Arc<dyn Clock>,
    /// Changes at this gateway take turns; only those of other gateways come in between.
    turn: Arc<Mutex<()>>,
    /// Whether something that others have changed is not in service yet.
    behind: Arc<AtomicBool>,
}

/// What is done to a key.
#[derive(Debug, Clone)]
pub enum Change {
    /// Other terms: these fields replace those of before, null takes one away.
    Terms(Map<String, Value>),
    /// Refused until it is enabled.
    Disable,
    /// In service again.
    Enable,
    /// Refused for good.
    Revoke,
    /// A new secret; the old ones end after so many milliseconds.
    Rotate(u64),
}

/// Why nothing was done.
#[derive(Debug, Clone)]
pub enum Refused {
    /// There is no such key.
    Unknown,
    /// It cannot be: what is wrong.
    Invalid(String),
    /// It stands in the configuration, or there is no database.
    Fixed(&'static str),
    /// The registry cannot keep it.
    Trouble(Trouble),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such key"),
            Self::Invalid(what) => f.write_str(what),
            Self::Fixed(why) => f.write_str(why),
            Self::Trouble(trouble) => trouble.fmt(f),
        }
    }
}

impl From<Trouble> for Refused {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl Change {
    fn action(&self) -> &'static str {
        match self {
            Self::Terms(_) => "key.update",
            Self::Disable => "key.disable",
            Self::Enable => "key.enable",
            Self::Revoke => "key.revoke",
            Self::Rotate(_) => "key.rotate",
        }
    }
}

impl KeyDesk {
    /// A desk for these keys; without a registry, it can only show.
    pub fn new(keys: Arc<Keys>, registry: Option<Arc<dyn Registry>>, clock: Arc<dyn Clock>) -> Self {
        Self { keys, registry, clock, turn: Arc::default(), behind: Arc::default() }
    }

    /// The registry, where there is one.
    pub fn registry(&self) -> Option<&Arc<dyn Registry>> {
        self.registry.as_ref()
    }

    /// Takes what the registry keeps into service.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn refresh(&self) -> Result<(), Refused> {
        // What was read before a change at this gateway must not be taken into service after it.
        let _turn = self.turn.lock().await;
        self.reread().await
    }

    async fn reread(&self) -> Result<(), Refused> {
        let Some(registry) = &self.registry else { return Ok(()) };
        let rows = registry.keys().await?;
        self.keys.stored(rows.into_iter().filter_map(key_of).collect());
        Ok(())
    }

    /// Brings what other gateways have changed; says whether there is anything, until it is said to be in service.
    ///
    /// # Errors
    /// When it cannot be known: what was known goes on.
    pub async fn pull(&self) -> Result<bool, Refused> {
        let Some(registry) = &self.registry else { return Ok(false) };
        registry.pull().await?;
        if registry.news() {
            self.behind.store(true, Ordering::Relaxed);
        }
        Ok(self.behind.load(Ordering::Relaxed))
    }

    /// What was brought is in service.
    pub fn caught_up(&self) {
        self.behind.store(false, Ordering::Relaxed);
    }

    /// Notes who did something else than to a key; where there is no registry, nowhere.
    ///
    /// # Errors
    /// When it cannot be kept: then it must not be done.
    pub async fn note(&self, actor: &str, action: &str, target: &str, detail: Value) -> Result<(), Refused> {
        let Some(registry) = &self.registry else { return Ok(()) };
        Ok(registry.note(self.entry(actor, action, target, detail)).await?)
    }

    /// What operators set of a kind while a gateway ran, by its name; nothing where there is no registry.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn settings(&self, kind: &'static str) -> Result<Vec<(String, Value)>, Refused> {
        match &self.registry {
            Some(registry) => Ok(registry.settings(kind).await?),
            None => Ok(Vec::new()),
        }
    }

    /// Sets some of a kind, or takes them away; `who` did what, for the audit log: actor, action, target, detail. Says
    /// whether there is a registry that keeps them.
    ///
    /// # Errors
    /// When they cannot be kept: then they must not count.
    pub async fn set(
        &self,
        kind: &'static str,
        changes: Vec<(String, Option<Value>)>,
        who: Option<(&str, &str, &str, Value)>,
    ) -> Result<bool, Refused> {
        let Some(registry) = &self.registry else { return Ok(false) };
        let entry = who.map(|(actor, action, target, detail)| self.entry(actor, action, target, detail));
        registry.set(kind, changes, entry).await?;
        Ok(true)
    }

    /// Changes one of a kind by what it is at this moment, wherever it was made so: `change` says what it becomes, nothing
    /// where it is taken away. Actor and action are for the audit log. Says whether there is a registry that keeps it.
    ///
    /// # Errors
    /// What `change` has against it; when it cannot be kept: then it must not count.
    pub async fn amend(
        &self,
        kind: &'static str,
        name: &str,
        (actor, action): (&str, &str),
        change: impl Fn(Option<Value>) -> Result<Option<Value>, Refused> + Send + Sync,
    ) -> Result<bool, Refused> {
        let Some(registry) = &self.registry else { return change(None).map(|_| false) };
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            registry.pull().await?;
            let all = registry.settings(kind).await?;
            let was = all.into_iter().find(|(known, _)| known == name).map(|(_, value)| value);
            let becomes = change(was.clone())?;
            let detail = becomes.clone().unwrap_or_else(|| json!({}));
            let entry = self.entry(actor, action, name, detail);
            if registry.exchange(kind, name.to_owned(), (was, becomes), entry).await? {
                return Ok(true);
            }
        }
        Err(Refused::Fixed(CONTESTED))
    }

    /// Makes a key. Its secret is told here, and never again.
    ///
    /// # Errors
    /// What is wrong with it, or why it cannot be kept.
    pub async fn create(
        &self,
        name: &str,
        terms: KeyTerms,
        actor: &str,
    ) -> Result<(Value, SecretString), Refused> {
        let registry = self.writable()?;
        self.check(name, &terms)?;
        let _turn = self.turn.lock().await;
        registry.pull().await?;
        self.reread().await?;
        let promised = self.keys.promised.load();
        if let Some(provider) = promised.as_ref().and_then(|promised| promised.missing(&terms)) {
            let text = format!("`scope.providers`: there is no provider `{provider}` under `providers`");
            return Err(Refused::Invalid(text));
        }
        // Two of one name could be told apart by their ids alone. A revoked one is gone.
        if self.keys.all().iter().any(|key| *key.name == *name && key.revoked_ms.is_none()) {
            return Err(Refused::Fixed(
                "there is a key of this name: choose another, or rotate or revoke that one",
            ));
        }
        let minted = mint(None).map_err(Refused::Invalid)?;
        let row = KeyRow {
            id: minted.id,
            name: name.to_owned(),
            terms: value_of(&terms),
            secrets: vec![(self.digest(&minted.secret), None)],
            created_ms: self.clock.unix_ms(),
            revoked_ms: None,
            revision: 1,
        };
        let detail = json!({ "name": name, "terms": row.terms });
        let entry = self.entry(actor, "key.create", &row.id, detail);
        if !registry.put(row.clone(), entry).await? {
            return Err(Refused::Invalid("a key of this id exists".into()));
        }
        self.reread().await?;
        self.show(&row.id).map(|shown| (shown, minted.secret))
    }

    /// Changes a key, by its id or its name. A rotated one has a new secret, which is told here and never again.
    ///
    /// # Errors
    /// What is wrong with it, or why it cannot be kept.
    pub async fn change(
        &self,
        name: &str,
        change: &Change,
        actor: &str,
    ) -> Result<(Value, Option<SecretString>), Refused> {
        let registry = self.writable()?;
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            registry.pull().await?;
            self.reread().await?;
            let known = self.find(name)?;
            if known.written {
                return Err(Refused::Fixed("this key stands in the configuration: change it there"));
            }
            let rows = registry.keys().await?;
            let mut row = rows.into_iter().find(|row| *row.id == *known.id).ok_or(Refused::Unknown)?;
            let secret = self.apply(&mut row, change)?;
            let entry = self.entry(actor, change.action(), &row.id, detail(change, &row));
            let id = row.id.clone();
            if registry.put(row, entry).await? {
                self.reread().await?;
                return self.show(&id).map(|shown| (shown, secret));
            }
        }
        Err(Refused::Fixed(CONTESTED))
    }

    fn apply(&self, row: &mut KeyRow, change: &Change) -> Result<Option<SecretString>, Refused> {
        if row.revoked_ms.is_some() {
            return Err(Refused::Invalid("this key is revoked, for good; make a new one".into()));
        }
        row.revision += 1;
        let now = self.clock.unix_ms();
        // What a later version wrote is not changed into what this one can read of it.
        let mut terms: KeyTerms = serde_json::from_value(row.terms.clone()).map_err(|error| {
            Refused::Invalid(format!("the terms of this key cannot be read here: {error}"))
        })?;
        match change {
            Change::Terms(fields) => {
                let mut whole = value_of(&terms);
                patch::<KeyTerms>(&mut whole, fields)?;
                terms = serde_json::from_value(whole).map_err(|error| Refused::Invalid(error.to_string()))?;
                self.check(&row.name, &terms)?;
            }
            Change::Disable => terms.disabled = true,
            Change::Enable => terms.disabled = false,
            Change::Revoke => {
                row.revoked_ms = Some(now);
                row.secrets.clear();
            }
            Change::Rotate(overlap_ms) => {
                let minted = mint(Some(&row.id)).map_err(Refused::Invalid)?;
                let end = now.saturating_add(*overlap_ms);
                row.secrets.retain(|(_, until)| until.is_none_or(|until| until > now));
                for (_, until) in &mut row.secrets {
                    *until = Some(until.map_or(end, |until| until.min(end)));
                }
                row.secrets.push((self.digest(&minted.secret), None));
                return Ok(Some(minted.secret));
            }
        }
        row.terms = value_of(&terms);
        Ok(None)
    }

    /// All keys, without secrets.
    pub fn list(&self) -> Vec<Value> {
        let now = self.clock.unix_ms();
        self.keys.all().iter().map(|key| shown(key, now)).collect()
    }

    /// One key by its id or its name, without secrets.
    ///
    /// # Errors
    /// When there is none, or several have this name.
    pub fn show(&self, name: &str) -> Result<Value, Refused> {
        self.find(name).map(|key| shown(&key, self.clock.unix_ms()))
    }

    /// Entries of the audit log after this number, in order, at most so many.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn audit(&self, after: u64, most: usize) -> Result<Vec<Noted>, Refused> {
        Ok(self.writable()?.entries(after, most).await?)
    }

    /// Notes the end of the audit log outside of the database, and in the log.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn anchor(&self) -> Result<(), Refused> {
        let Some(registry) = &self.registry else { return Ok(()) };
        if let Some(anchor) = registry.anchor().await? {
            tracing::info!(entries = anchor.seq, head = anchor.head, "the audit log ends here");
        }
        Ok(())
    }

    /// Looks through the whole audit log.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub async fn verify(&self) -> Result<Verdict, Refused> {
        Ok(self.writable()?.verify().await?)
    }

    fn check(&self, name: &str, terms: &KeyTerms) -> Result<(), Refused> {
        check(name, terms)?;
        let promised = self.keys.promised.load();
        let named = promised.as_ref().map_or(Ok(()), |promised| promised.check(terms));
        named.map_err(|(field, what)| Refused::Invalid(format!("`{field}`: {what}")))
    }

    fn find(&self, name: &str) -> Result<Key, Refused> {
        let all = self.keys.all();
        if let Some(key) = all.iter().find(|key| *key.id == *name) {
            return Ok(key.clone());
        }
        let mut named = all.into_iter().filter(|key| *key.name == *name && key.revoked_ms.is_none());
        match (named.next(), named.next()) {
            (Some(key), None) => Ok(key),
            (Some(_), Some(_)) => {
                Err(Refused::Invalid(format!("several keys are called `{name}`; name one by its id")))
            }
            (None, _) => Err(Refused::Unknown),
        }
    }

    fn writable(&self) -> Result<&Arc<dyn Registry>, Refused> {
        let text = "there is no database for keys: set `state.ledger`, or write keys under `keys:` of the configuration";
        self.registry.as_ref().ok_or(Refused::Fixed(text))
    }

    fn digest(&self, secret: &SecretString) -> String {
        blake3::Hash::from_bytes(self.keys.hasher().digest(secret.expose_secret())).to_hex().to_string()
    }

    fn entry(&self, actor: &str, action: &str, target: &str, detail: Value) -> Entry {
        Entry {
            at_ms: self.clock.unix_ms(),
            actor: actor.to_owned(),
            action: action.to_owned(),
            target: target.to_owned(),
            detail,
        }
    }
}

/// Fields replace those of an object that is read as a `T`, null takes one away.
///
/// # Errors
/// A field is taken away that no `T` has.
pub fn patch<T: DeserializeOwned>(object: &mut Value, fields: &Map<String, Value>) -> Result<(), Refused> {
    let Some(object) = object.as_object_mut() else { return Ok(()) };
    for (field, value) in fields {
        if !value.is_null() {
            object.insert(field.clone(), value.clone());
            continue;
        }
        // What is unknown is told as such before anything else of it.
        let alone = Value::Object(Map::from_iter([(field.clone(), Value::Null)]));
        let error = serde_json::from_value::<T>(alone).err().map(|error| error.to_string());
        if let Some(error) = error.filter(|error| error.starts_with("unknown field")) {
            return Err(Refused::Invalid(error));
        }
        object.shift_remove(field);
    }
    Ok(())
}

fn check(name: &str, terms: &KeyTerms) -> Result<(), Refused> {
    if name.trim().is_empty() || name.len() > LONGEST || name.chars().any(char::is_control) {
        return Err(Refused::Invalid(format!(
            "a key's name has 1 to {LONGEST} bytes without control characters"
        )));
    }
    if terms.secret.is_some() || terms.hash.is_some() {
        let text = "`secret` and `hash` are for keys of the configuration; this one gets a secret of its own";
        return Err(Refused::Invalid(text.into()));
    }
    terms.check().map_err(|(field, what)| Refused::Invalid(format!("`{field}`: {what}")))?;
    let complaints = terms.limits.complaints();
    let complaint = complaints.first().filter(|_| !terms.limits.is_empty());
    complaint.map_or(Ok(()), |(field, what)| Err(Refused::Invalid(format!("`limits.{field}`: {what}"))))
}

fn value_of(terms: &KeyTerms) -> Value {
    // Texts, numbers and lists always serialise.
    serde_json::to_value(terms).unwrap_or_default()
}

fn detail(change: &Change, row: &KeyRow) -> Value {
    match change {
        Change::Terms(_) => json!({ "terms": row.terms }),
        Change::Rotate(overlap_ms) => json!({ "overlap_ms": overlap_ms }),
        Change::Disable | Change::Enable | Change::Revoke => json!({}),
    }
}

/// A row that cannot be read is a key that opens nothing; it is told, not guessed.
fn key_of(row: KeyRow) -> Option<Key> {
    let Ok(terms) = serde_json::from_value(row.terms) else {
        tracing::error!(key = row.id, "the terms of a stored key cannot be read; it is not in service");
        return None;
    };
    let secrets = row.secrets.iter().filter_map(|(hash, until_ms)| {
        let digest = *blake3::Hash::from_hex(hash).ok()?.as_bytes();
        Some(Shown { digest, sha256: false, until_ms: *until_ms })
    });
    Some(Key {
        id: row.id.as_str().into(),
        name: row.name.as_str().into(),
        terms,
        secrets: secrets.collect(),
        created_ms: row.created_ms,
        revoked_ms: row.revoked_ms,
        written: false,
    })
}

fn shown(key: &Key, now_ms: u64) -> Value {
    let time = |ms: u64| {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default()
    };
    let mut terms = value_of(&key.terms);
    if let Some(terms) = terms.as_object_mut() {
        // A reference says where the secret is kept, which is nobody's business here.
        terms.shift_remove("secret");
        terms.shift_remove("hash");
        terms.shift_remove("disabled");
    }
    let mut shown = json!({
        "id": &*key.id,
        "name": &*key.name,
        "state": key.state(now_ms),
        "source": if key.written { "configuration" } else { "database" },
        "secrets": key.secrets.iter().filter(|shown| shown.until_ms.is_none_or(|until| until > now_ms)).count(),
    });
    if let (Some(shown), Value::Object(terms)) = (shown.as_object_mut(), terms) {
        if !key.written {
            shown.insert("created".into(), time(key.created_ms).into());
        }
        if let Some(revoked) = key.revoked_ms {
            shown.insert("revoked".into(), time(revoked).into());
        }
        shown.extend(terms);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FixedClock;
    use crate::limits::Limits;
    use crate::store::registry::{Answer, AuditKey};

    #[test]
    fn only_what_there_is_can_be_taken_away() {
        let fields = |value: Value| value.as_object().cloned().unwrap();
        let mut terms = json!({ "team": "x", "scope": { "models": ["fast"] } });
        patch::<KeyTerms>(&mut terms, &fields(json!({ "team": null, "tags": null, "user": "u" }))).unwrap();
        assert_eq!(terms, json!({ "scope": { "models": ["fast"] }, "user": "u" }));
        let refused = patch::<KeyTerms>(&mut terms, &fields(json!({ "scop": null }))).unwrap_err();
        assert!(refused.to_string().starts_with("unknown field `scop`"), "{refused}");
    }

    /// Keeps one key, may be slow to tell of it, and has news once.
    struct Slow {
        rows: std::sync::Mutex<Vec<KeyRow>>,
        slow: AtomicBool,
        goes_on: tokio::sync::Notify,
        news: AtomicBool,
        audit: AuditKey,
    }

    impl Registry for Slow {
        fn keys(&self) -> Answer<'_, Vec<KeyRow>> {
            Box::pin(async {
                let rows = self.rows.lock().unwrap().clone();
                if self.slow.swap(false, Ordering::Relaxed) {
                    self.goes_on.notified().await;
                }
                Ok(rows)
            })
        }

        fn put(&self, row: KeyRow, _: Entry) -> Answer<'_, bool> {
            *self.rows.lock().unwrap() = vec![row];
            Box::pin(async { Ok(true) })
        }

        fn note(&self, _: Entry) -> Answer<'_, ()> {
            Box::pin(async { Ok(()) })
        }

        fn entries(&self, _: u64, _: usize) -> Answer<'_, Vec<Noted>> {
            Box::pin(async { Ok(Vec::new()) })
        }

        fn audit_key(&self) -> &AuditKey {
            &self.audit
        }

        fn news(&self) -> bool {
            self.news.swap(false, Ordering::Relaxed)
        }
    }

    fn desk() -> (Arc<Slow>, KeyDesk) {
        let row = KeyRow {
            id: "k1".into(),
            name: "ci".into(),
            terms: json!({}),
            secrets: vec![("0".repeat(64), None)],
            created_ms: 0,
            revoked_ms: None,
            revision: 1,
        };
        let registry = Arc::new(Slow {
            rows: std::sync::Mutex::new(vec![row]),
            slow: AtomicBool::new(false),
            goes_on: tokio::sync::Notify::new(),
            news: AtomicBool::new(true),
            audit: AuditKey::of(b"pepper"),
        });
        let keys = Keys::new(Arc::new(Limits::new(tokio::time::Instant::now())));
        let kept: Arc<dyn Registry> = registry.clone();
        (registry, KeyDesk::new(Arc::new(keys), Some(kept), Arc::new(FixedClock(7))))
    }

    #[tokio::test]
    async fn what_was_read_before_a_key_was_revoked_does_not_bring_it_back() {
        let (registry, desk) = desk();
        registry.slow.store(true, Ordering::Relaxed);
        let later = async {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            registry.goes_on.notify_one();
        };
        let (read, revoked, ()) =
            tokio::join!(desk.refresh(), desk.change("ci", &Change::Revoke, "me"), later);
        assert!(read.is_ok() && revoked.is_ok());
        assert!(desk.keys.all().iter().all(|key| key.revoked_ms.is_some()));
    }

    #[tokio::test]
    async fn news_stay_news_until_they_are_in_service() {
        let (_, desk) = desk();
        assert!(desk.pull().await.unwrap());
        assert!(desk.pull().await.unwrap(), "they could not be taken");
        desk.caught_up();
        assert!(!desk.pull().await.unwrap());
    }
}
