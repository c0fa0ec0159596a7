//! `/v1/files`: the files that a provider keeps, as it keeps them. Which provider is meant, the client says, or the
//! configuration.
//!
//! <https://platform.openai.com/docs/api-reference/files>

use std::sync::Arc;

use bytes::Bytes;

use super::ask::{Below, RawAhead};
use super::{check_path, client_query};
use crate::api::openai_chat::{error_body, fault_event};
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind};
use crate::gateway::{Approach, Asked, Door, Head, Intake};

/// The door of everything below `/v1/files`.
pub(in crate::api) struct Files;

/// Paths below `/v1/files`, with the methods that they answer.
pub(in crate::api) const FILES: [(&str, &str); 3] =
    [("/v1/files", "GET, POST"), ("/v1/files/{id}", "GET, DELETE"), ("/v1/files/{id}/content", "GET")];

impl Files {
    /// The entry of [`FILES`] for a path.
    pub(in crate::api) fn find(path: &str) -> Option<&'static (&'static str, &'static str)> {
        let rest = path.strip_prefix("/v1/files")?;
        let place = match rest.strip_prefix('/').map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
            None if rest.is_empty() => 0,
            Some((id, "")) if !id.is_empty() && !rest.ends_with('/') => 1,
            Some((id, "content")) if !id.is_empty() => 2,
            _ => return None,
        };
        FILES.get(place)
    }
}

impl Door for Files {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Files
    }

    fn intake(&self, approach: Approach<'_>) -> Result<Intake, Fault> {
        let provider = provider(approach)?;
        let path = approach.uri.path();
        check_path(path)?;
        let name = path.strip_prefix("/v1/").unwrap_or_default().to_owned();
        let query = client_query(approach);
        let query = crate::api::raw::query_without(query.strip_prefix('?'), |name| name == "provider");
        let below = Below::Operation { name, query };
        Ok(Intake::Ahead(Box::new(RawAhead::new(approach, &provider, below)?)))
    }

    fn read(&self, _: Bytes, _: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Err(Fault::new(FaultKind::Internal, "files are read ahead"))
    }

    fn error_body(&self, fault: &Fault, _: &str) -> Vec<u8> {
        error_body(fault)
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        fault_event(fault)
    }
}

/// Whose files are meant: what the client says (`x-tollgate-provider`, `?provider=`), else the configuration's
/// `files.provider`, else the only provider that keeps files.
fn provider(approach: Approach<'_>) -> Result<Arc<str>, Fault> {
    let vendors = approach.snapshot.catalogue.vendors();
    let keeps: Vec<_> = vendors
        .iter()
        .filter(|vendor| vendor.wire.media_path("files", "").is_some())
        .map(|vendor| vendor.name.clone())
        .collect();
    let header = approach.headers.get(&crate::headers::PROVIDER).and_then(|value| value.to_str().ok());
    let query = approach.uri.query().unwrap_or_default().split('&');
    let said = header.or_else(|| query.filter_map(|pair| pair.strip_prefix("provider=")).next());
    if let Some(said) = said {
        let found = keeps.into_iter().find(|name| **name == *said);
        return found.ok_or_else(|| {
            Fault::new(FaultKind::NotFound, "no provider of this name keeps files here")
                .code("provider_not_found")
                .at("x-tollgate-provider")
        });
    }
    if let Some(configured) = &approach.snapshot.raw.files {
        return Ok(configured.clone());
    }
    match keeps.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(Fault::new(FaultKind::NotFound, "no provider that keeps files is configured here")),
        _ => Err(Fault::bad_request(
            "several providers keep files here: name one in the header `x-tollgate-provider`",
            "x-tollgate-provider",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_exact() {
        for (path, expected) in [
            ("/v1/files", Some("/v1/files")),
            ("/v1/files/file-1", Some("/v1/files/{id}")),
            ("/v1/files/file-1/content", Some("/v1/files/{id}/content")),
            ("/v1/files/", None),
            ("/v1/files/file-1/", None),
            ("/v1/files/file-1/other", None),
            ("/v1/filesx", None),
        ] {
            assert_eq!(Files::find(path).map(|(place, _)| *place), expected, "{path}");
        }
    }
}
