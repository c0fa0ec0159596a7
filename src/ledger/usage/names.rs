//! Names of keys: people ask by them, and rows have ids.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::Connection;

use super::{By, Question};

/// How keys are called, by their ids.
#[derive(Debug, Default)]
pub struct Names(HashMap<Arc<str>, Arc<str>>);

impl Names {
    /// Those of the keys that stand in a gateway's own database; nothing where it keeps none.
    pub fn read(db: &Connection) -> Self {
        let read = |db: &Connection| -> rusqlite::Result<Self> {
            let mut rows = db.prepare("SELECT id, name FROM vkey")?;
            let text = |row: &rusqlite::Row<'_>, at| row.get::<_, String>(at).map(Arc::from);
            rows.query_map([], |row| Ok((text(row, 0)?, text(row, 1)?)))?.collect()
        };
        read(db).unwrap_or_default()
    }

    /// The name of a key, where that is another word than its id.
    pub fn beside(&self, id: &str) -> Option<&str> {
        self.0.get(id).map(|name| &**name).filter(|name| *name != id)
    }

    /// The ids of all keys of this name: one that was revoked may have had it before.
    fn ids(&self, name: &str) -> impl Iterator<Item = String> {
        self.0
            .iter()
            .filter(move |(id, known)| ***known == *name && ***id != *name)
            .map(|(id, _)| id.to_string())
    }
}

impl FromIterator<(Arc<str>, Arc<str>)> for Names {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

impl Extend<(Arc<str>, Arc<str>)> for Names {
    fn extend<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(&mut self, all: I) {
        self.0.extend(all);
    }
}

impl Question {
    /// Whether names of keys make a difference to it.
    pub fn is_of_keys(&self) -> bool {
        self.by.iter().chain(self.only.iter().map(|(by, _)| by)).any(By::is_key)
    }

    /// Asks for keys that are called so, too, where a word stands for a key.
    pub fn resolve(&mut self, names: &Names) {
        for (_, words) in self.only.iter_mut().filter(|(by, _)| by.is_key()) {
            let ids: Vec<String> = words.iter().flat_map(|word| names.ids(word)).collect();
            words.extend(ids);
        }
    }
}

impl By {
    pub(super) fn is_key(&self) -> bool {
        *self == Self::Column("key")
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use serde_json::json;

    use super::*;
    use crate::ledger::TABLES;
    use crate::ledger::usage::{Sum, sums};
    use crate::store::registry::REGISTRY_TABLES;
    use crate::store::sqlite::Sqlite;

    #[test]
    fn keys_are_asked_for_by_their_names_and_shown_with_them() {
        let dir = tempfile::tempdir().unwrap();
        let database = Sqlite::open(&dir.path().join("t.db"), &[TABLES, REGISTRY_TABLES], 10).unwrap();
        let made = database.write(|db| {
            db.execute_batch(
                "INSERT INTO vkey VALUES ('k1', 'ci', '{}', '[]', 1, NULL, 1), ('k2', 'ci', '{}', '[]', 1, 9, 2),
                    ('k3', 'nightly', '{}', '[]', 1, NULL, 1);
                 INSERT INTO day (day, endpoint, key, user, team, tags, model, provider, target, requests, attempts,
                    failed, unpriced, cost, input, cached_read, cache_write, output, reasoning, audio_ms, characters, images)
                 SELECT 1, 'chat', value, '', '', '{}', 'm', 'up', 'up/m', 1, 1, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0
                 FROM json_each('[\"k1\", \"k2\", \"k3\", \"plain\"]')",
            )
        });
        made.wait().unwrap();
        let names = database.read_now(|db| Ok(Names::read(db))).unwrap();
        let shown = |only: &[&str]| {
            let by = By::list("key").unwrap();
            let mut question = Question { until_ms: u64::MAX, by: by.clone(), ..Question::default() };
            only.iter().for_each(|only| question.filter(only).unwrap());
            question.resolve(&names);
            let sums = database.read_now(|db| sums(db, &question)).unwrap();
            let key = |sum: &Sum| {
                let object = sum.object(&by, &names);
                json!([object["key"], object.get("key_name")])
            };
            sums.iter().map(key).collect::<Vec<_>>()
        };
        let (first, second, third) = (json!(["k1", "ci"]), json!(["k2", "ci"]), json!(["k3", "nightly"]));
        assert_eq!(shown(&["key=ci"]), [first.clone(), second.clone()]);
        assert_eq!(shown(&["key=ci", "key=k2"]), from_ref(&second), "all must hold");
        assert_eq!(shown(&["key=k3"]), from_ref(&third));
        assert!(shown(&["model=ci"]).is_empty(), "a model is no key");
        assert_eq!(shown(&[]), [first, second, third, json!(["plain", null])]);
        let without = Sqlite::open(&dir.path().join("u.db"), &[TABLES], 10).unwrap();
        assert!(without.read_now(|db| Ok(Names::read(db))).unwrap().beside("k1").is_none());
    }
}
