//! Objects whose fields get other keys.

use serde_json::{Map, Value};

/// Puts the fields of an object under the keys that `name` gives them, in their order; `None` leaves a key as it is.
/// `name` may change the values too. Of fields that would have one key, all but the first get a number, so that none
/// is lost.
pub fn rename(fields: &mut Map<String, Value>, mut name: impl FnMut(&str, &mut Value) -> Option<String>) {
    let mut renamed = Map::with_capacity(fields.len());
    for (key, mut value) in std::mem::take(fields) {
        let wanted = name(&key, &mut value).unwrap_or(key);
        let mut free = wanted.clone();
        // Numbers begin at the place, since thousands may want one key.
        let mut number = renamed.len() + 1;
        while renamed.contains_key(&free) {
            free = format!("{wanted} {number}");
            number += 1;
        }
        renamed.insert(free, value);
    }
    *fields = renamed;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_field_is_lost_where_two_would_have_one_key() {
        let Value::Object(mut fields) = json!({"ada@x.org": 1, "b": 2, "bob@x.org": 3, "[X]": 4}) else {
            unreachable!()
        };
        rename(&mut fields, |key, value| {
            *value = json!(value.as_u64().unwrap_or_default() * 10);
            key.contains('@').then(|| "[X]".to_owned())
        });
        assert_eq!(Value::Object(fields).to_string(), r#"{"[X]":10,"b":20,"[X] 3":30,"[X] 4":40}"#);
    }
}
