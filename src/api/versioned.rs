//! Which version of the API a request is for: its prefix comes off, and the rest of the path is looked up as ever.

use http::Uri;
use http::uri::PathAndQuery;

use crate::gateway::ApiVersion;

/// What the paths in the table of routes begin with.
const ROOTS: [&str; 3] = ["/v1", "/v1beta", "/passthrough"];

/// What the paths of other vendors' SDKs begin with, below a prefix, too; they become known ones afterwards.
const ELSEWHERE: [&str; 3] = ["/openai", "/anthropic", "/v1beta1"];

/// The only place of a second version.
const RERANK: &str = "/v2/rerank";

/// The version whose prefix `uri` has, by its place, and the URI as the table of routes knows it.
pub(super) fn enter(uri: &Uri, versions: &[ApiVersion]) -> Option<(usize, Uri)> {
    let (at, rest) = versions.iter().enumerate().find_map(|(at, version)| {
        let rest = uri.path().strip_prefix(version.prefix.as_str())?;
        rest.starts_with('/').then_some((at, rest))
    })?;
    let below = |root: &&str| rest.strip_prefix(*root).is_some_and(|rest| rest.starts_with('/'));
    let is_root = versions.get(at).is_some_and(|version| ROOTS.contains(&version.prefix.as_str()));
    let path = if ROOTS.iter().chain(&ELSEWHERE).any(below) || rest == RERANK {
        rest.to_owned()
    } else if is_root {
        uri.path().to_owned()
    } else {
        format!("/v1{rest}")
    };
    let known = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    // What was a path with its prefix is one without it.
    let path = PathAndQuery::try_from(known).ok()?;
    Some((at, Uri::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::facts::market::Told;
    use crate::gateway::Retirement;
    use crate::planner::Catalogue;

    #[test]
    fn every_endpoint_is_found_below_a_prefix() {
        let version = |prefix: &str| {
            let retirement = Retirement::default();
            ApiVersion::new(
                prefix.into(),
                prefix.into(),
                Catalogue::default(),
                Arc::new(Told::default()),
                None,
                retirement,
            )
        };
        let versions = ["/v2", "/acme/v1", "/v1", "/v1beta"].map(version);
        for (path, expected) in [
            ("/v2/chat/completions", Some((0, "/v1/chat/completions"))),
            ("/v2/v1/messages?beta=true", Some((0, "/v1/messages?beta=true"))),
            ("/v2/v1beta/models/a:generateContent", Some((0, "/v1beta/models/a:generateContent"))),
            ("/v2/models", Some((0, "/v1/models"))),
            ("/v2", None),
            ("/v20/models", None),
            ("/acme/v1/models/x", Some((1, "/v1/models/x"))),
            ("/acme/v1/passthrough/p/x", Some((1, "/passthrough/p/x"))),
            ("/acme/chat/completions", None),
            ("/v1/chat/completions", Some((2, "/v1/chat/completions"))),
            ("/v1/v1/messages", Some((2, "/v1/messages"))),
            ("/v1beta/models/a:countTokens", Some((3, "/v1beta/models/a:countTokens"))),
            ("/v2/v1x/models", Some((0, "/v1/v1x/models"))),
            ("/v2/v2/rerank", Some((0, "/v2/rerank"))),
            ("/v2/rerank", Some((0, "/v1/rerank"))),
            ("/v2/openai/deployments/d/embeddings", Some((0, "/openai/deployments/d/embeddings"))),
            ("/acme/v1/anthropic/v1/messages", Some((1, "/anthropic/v1/messages"))),
            (
                "/v2/v1beta1/projects/p/locations/l/publishers/google/models/g:countTokens",
                Some((0, "/v1beta1/projects/p/locations/l/publishers/google/models/g:countTokens")),
            ),
        ] {
            let found = enter(&path.parse().unwrap(), &versions);
            let found = found.as_ref().map(|(at, uri)| (*at, uri.path_and_query().unwrap().as_str()));
            assert_eq!(found, expected, "{path}");
        }
    }
}
