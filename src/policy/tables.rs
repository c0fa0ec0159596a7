//! The `data` constant: tables of the configuration that policies look things up in.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{Array, Dynamic, Engine, ImmutableString, Map, Variant};
use serde_json::Value;

/// An object of the configuration's data. A handle: looking something up never copies the table.
#[derive(Debug, Clone)]
pub(super) struct Table(Arc<BTreeMap<ImmutableString, Dynamic>>);

impl Table {
    /// The tables as scripts see them.
    pub(super) fn new(data: &serde_json::Map<String, Value>) -> Self {
        Self(Arc::new(data.iter().map(|(key, value)| (key.into(), dynamic(value))).collect()))
    }

    /// The keys.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(ImmutableString::as_str)
    }

    fn entry(&mut self, key: &str) -> Dynamic {
        self.0.get(key).cloned().unwrap_or(Dynamic::UNIT)
    }

    fn keys(&mut self) -> Array {
        self.0.keys().map(|key| Dynamic::from(key.clone())).collect()
    }

    fn values(&mut self) -> Array {
        self.0.values().cloned().collect()
    }

    fn has(&mut self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    fn len(&mut self) -> i64 {
        i64::try_from(self.0.len()).unwrap_or(i64::MAX)
    }
}

/// Makes tables known to scripts: `data.teams.web`, `data.teams["web"]`, `"web" in data.teams`.
pub(super) fn register(engine: &mut Engine) {
    engine
        .register_type_with_name::<Table>("Table")
        .register_indexer_get(Table::entry)
        .register_indexer_get(|table: &mut Table, key: i64| table.entry(&key.to_string()))
        .register_fn("contains", Table::has)
        .register_fn("keys", Table::keys)
        .register_fn("values", Table::values)
        .register_fn("len", Table::len);
    nothing_without_a_key::<Table>(engine);
    engine.register_fn("contains", |_: &mut Map, (): ()| false);
}

/// Under a missing key there is nothing: `data.teams[req.team]` of a caller without a team is `()`, and that caller is in
/// no table.
pub(super) fn nothing_without_a_key<T: Variant + Clone>(engine: &mut Engine) {
    engine
        .register_indexer_get(|_: &mut T, (): ()| Dynamic::UNIT)
        .register_fn("contains", |_: &mut T, (): ()| false);
}

fn dynamic(value: &Value) -> Dynamic {
    match value {
        Value::Null => Dynamic::UNIT,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => whole.into(),
            None => number.as_f64().map_or(Dynamic::UNIT, Dynamic::from),
        },
        Value::String(text) => text.into(),
        Value::Array(items) => Dynamic::from_array(items.iter().map(dynamic).collect()),
        Value::Object(fields) => Dynamic::from(Table::new(fields)),
    }
}
