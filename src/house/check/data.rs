//! `data:`: tables that policies can work with.

use serde_json::Value;

use super::Desk;
use crate::policy::ELEMENTS;

impl Desk<'_> {
    /// Checks that every list of `data` may be a list of a policy.
    pub(super) fn data(&mut self) {
        let data = std::mem::take(&mut self.reading.config.data);
        let mut path = vec!["data".to_owned()];
        for (key, value) in &data {
            path.push(key.clone());
            self.lists(&mut path, value);
            path.pop();
        }
        self.reading.config.data = data;
    }

    fn lists(&mut self, path: &mut Vec<String>, value: &Value) {
        match value {
            Value::Array(items) if items.len() > ELEMENTS => {
                let message = format!(
                    "the list `{}` has {} elements; a list of a policy has at most {ELEMENTS}",
                    path.join("."),
                    items.len()
                );
                let help =
                    "write it as a map, `{ word: true, … }`: `word in data.name` finds keys, however many";
                let place: Vec<&str> = path.iter().map(String::as_str).collect();
                self.error(&place, message, Some(help.into()));
            }
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    path.push(at.to_string());
                    self.lists(path, item);
                    path.pop();
                }
            }
            Value::Object(fields) => {
                for (key, item) in fields {
                    path.push(key.clone());
                    self.lists(path, item);
                    path.pop();
                }
            }
            _ => {}
        }
    }
}
