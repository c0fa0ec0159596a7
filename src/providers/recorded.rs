//! Recorded traffic of real providers, for the conformance tests of the dialects.
//!
//! The recordings are not part of this repository: `TOLLGATE_FIXTURES` names their folder.

use std::path::PathBuf;

use http::HeaderMap;
use serde_json::Value;

use crate::chat::{Event, StreamDecoder};
use crate::fault::Fault;

/// One recorded answer.
pub(super) struct Case {
    pub(super) id: String,
    pub(super) op: String,
    pub(super) stream: bool,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
    /// The body of the request; null where none was recorded.
    pub(super) request: Value,
}

/// All recordings of these vendors for these operations; every operation where none is named. Says loudly when there
/// are none.
pub(super) fn cases(vendors: &[&str], ops: &[&str]) -> Vec<Case> {
    let folder = std::env::var_os("TOLLGATE_FIXTURES")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures"), PathBuf::from);
    let mut cases = Vec::new();
    for vendor in vendors {
        let Ok(files) = std::fs::read_dir(folder.join(vendor)) else { continue };
        for file in files.map(|file| file.unwrap().path()) {
            let case = Case::of(&serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap());
            if ops.is_empty() || ops.contains(&case.op.as_str()) {
                cases.push(case);
            }
        }
    }
    if cases.is_empty() {
        eprintln!("SKIPPED: no recorded traffic in {} (set TOLLGATE_FIXTURES)", folder.display());
    }
    cases
}

impl Case {
    fn of(case: &Value) -> Self {
        let response = &case["response"];
        let headers = response["headers"].as_object().into_iter().flatten();
        Self {
            id: case["id"].as_str().unwrap().to_owned(),
            op: case["op"].as_str().unwrap().to_owned(),
            stream: case["stream"].as_bool().unwrap_or(false),
            status: u16::try_from(response["status"].as_u64().unwrap()).unwrap(),
            headers: headers
                .filter_map(|(n, v)| Some((n.parse().ok()?, v.as_str()?.parse().ok()?)))
                .collect::<Vec<(http::HeaderName, http::HeaderValue)>>()
                .into_iter()
                .collect(),
            text: response["text"].as_str().unwrap().to_owned(),
            request: case["request"]["body"].clone(),
        }
    }
}

/// The events of a stream that comes in these chunks.
pub(super) fn decoded(mut decoder: Box<dyn StreamDecoder>, chunks: &[&[u8]]) -> Result<Vec<Event>, Fault> {
    let mut events = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk, &mut events)?;
    }
    decoder.finish(&mut events)?;
    Ok(events)
}
