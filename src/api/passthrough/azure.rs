//! Azure's deployments at a provider whose base URL is the `v1` API: they stand beside it, and name their own version.

use crate::api::raw::query_without;
use crate::api::routes::unescape;
use crate::fault::Fault;

/// The path of the `v1` API, at the end of a base URL.
const V1: &str = "/openai/v1";

const VERSION: &str = "api-version";

/// The whole path of a request for a deployment; `None` where the base URL, whose path is `base`, is another one, below
/// which it stands. `configured` is the query of every request.
/// <https://learn.microsoft.com/azure/ai-foundry/openai/reference>
///
/// # Errors
/// `BadRequest` where the client names no version: there is none that could be meant.
pub(super) fn beside_v1(
    path: &str,
    query: &str,
    base: &str,
    configured: &str,
) -> Result<Option<String>, Fault> {
    let Some(root) = base.strip_suffix(V1) else { return Ok(None) };
    let query = query.strip_prefix('?');
    if !names(query.unwrap_or_default(), VERSION) {
        let text =
            "Azure's paths of deployments need the query `api-version`: only its `v1` API does without";
        return Err(Fault::bad_request(text, VERSION));
    }
    // The configured version is that of the `v1` API.
    let ours: Vec<&str> =
        configured.split('&').filter(|pair| !pair.is_empty() && !is(pair, VERSION)).collect();
    let mut query = query_without(query, |name| ours.iter().any(|pair| is(pair, name)));
    for pair in ours {
        query.push('&');
        query.push_str(pair);
    }
    let short = unescape(path).to_ascii_lowercase().starts_with("/deployments/");
    Ok(Some(format!("{root}{}{path}{query}", if short { "/openai" } else { "" })))
}

fn names(query: &str, name: &str) -> bool {
    query.split('&').any(|pair| is(pair, name))
}

/// Whether a pair of a query is of this name, which Azure takes in letters of either case.
fn is(pair: &str, name: &str) -> bool {
    pair.split('=').next().is_some_and(|known| unescape(known).eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployments_stand_beside_the_v1_api_with_the_clients_own_version() {
        let (path, version) = ("/openai/deployments/d/chat/completions", "?api-version=2024-10-21");
        for (base, configured, asked, query, expected) in [
            ("/openai/v1", "", path, version, Ok(Some(format!("{path}{version}")))),
            ("/openai/v1", "api-version=preview", path, version, Ok(Some(format!("{path}{version}")))),
            ("/openai/v1", "a=1", path, "?a=2&Api-Version=3", Ok(Some(format!("{path}?Api-Version=3&a=1")))),
            ("/proxy/openai/v1", "", path, version, Ok(Some(format!("/proxy{path}{version}")))),
            (
                "/openai/v1",
                "",
                "/deployments/d/x",
                "?api-version=1",
                Ok(Some("/openai/deployments/d/x?api-version=1".into())),
            ),
            ("/openai/v1", "api-version=preview", path, "", Err(400)),
            ("/openai/v1", "", path, "?x-api-version=1", Err(400)),
            ("", "", path, "", Ok(None)),
            ("/openai", "", "/deployments/d/x", version, Ok(None)),
        ] {
            let found = beside_v1(asked, query, base, configured).map_err(|fault| fault.client_status());
            assert_eq!(found, expected, "{asked}{query} at {base}");
        }
    }
}
