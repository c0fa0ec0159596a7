//! `tollgate schema`: the JSON Schema of the configuration file, for editors.

use std::process::ExitCode;

use crate::house;

/// Prints the schema.
pub(super) fn schema() -> ExitCode {
    // It ends with its own line feed.
    print!("{}", house::schema_json());
    ExitCode::SUCCESS
}
