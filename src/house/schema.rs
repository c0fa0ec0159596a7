//! The JSON Schema of the configuration and the reference that is made from it.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::config::Config;

/// The JSON Schema of `tollgate.yaml` (draft 2020-12), pretty-printed, with a final line feed.
pub fn schema_json() -> String {
    format!("{:#}\n", schema())
}

/// The schema as a value: the one truth by which a configuration's shape is judged.
pub(super) fn schema() -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Config>();
    schema.to_value()
}

#[cfg(test)]
mod tests {
    #[test]
    fn show() {
        println!("{}", super::schema_json());
    }
}
