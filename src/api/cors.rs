//! Pages in browsers: which of them may ask from another origin, and what they may read of the answer.
//!
//! Keys travel in headers that pages set themselves, never as cookies, so credentials are not part of it.

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, UPGRADE, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, request::Parts};

use super::reply::{self, ReplyBody};
use crate::caller::glob;
use crate::fault::{Fault, FaultKind};
use crate::gateway::CorsSettings;

const ANY: HeaderValue = HeaderValue::from_static("*");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// What a request of a page may be told.
pub(super) struct Page {
    /// Its origin, where it is allowed; `*` where all are.
    allowed: Option<HeaderValue>,
    /// Whether another page would be told something else.
    varies: bool,
}

impl Page {
    /// The page that a request comes from; `None` where no page may ask.
    pub(super) fn of(headers: &HeaderMap, settings: &CorsSettings) -> Option<Self> {
        if settings.origins.is_empty() {
            return None;
        }
        let all = settings.origins.iter().any(|pattern| pattern == "*");
        let origin = headers.get(ORIGIN);
        let allowed = match all {
            true => origin.map(|_| ANY),
            false => {
                origin.filter(|origin| origin.to_str().is_ok_and(|text| allows(settings, text))).cloned()
            }
        };
        Some(Self { allowed, varies: !all })
    }

    /// Lets the page read a response.
    pub(super) fn tell(&self, headers: &mut HeaderMap) {
        if let Some(origin) = &self.allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANY);
        }
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
    }
}

/// Answers a browser that asks whether a page may send a request; `None` where this is no such question.
pub(super) fn preflight(
    head: &Parts,
    settings: &CorsSettings,
    request_id: &str,
) -> Option<Response<ReplyBody>> {
    let origin = head.headers.get(ORIGIN).filter(|_| head.method == Method::OPTIONS)?;
    head.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let Some(page) = Page::of(&head.headers, settings).filter(|page| page.allowed.is_some()) else {
        return Some(reply::fault(&not_named(origin), request_id));
    };
    let mut response = Response::new(ReplyBody::Whole(None));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    page.tell(headers);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    // `*` would leave out `authorization`.
    if let Some(wanted) = head.headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, settings.max_age.0.as_secs().into());
    reply::name(&mut response, request_id);
    Some(response)
}

/// Refuses what a page of others made a browser send without asking first, where no key is needed: it would be served at the
/// cost of whoever the gateway trusts for the place where the browser runs. Pages cannot change `sec-fetch-site`.
///
/// # Errors
/// The page is not allowed.
pub(super) fn refuse_strangers(head: &Parts, settings: &CorsSettings) -> Result<(), Fault> {
    let site = head.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let reads = matches!(head.method, Method::GET | Method::HEAD) && !head.headers.contains_key(UPGRADE);
    if reads || !matches!(site, Some(b"cross-site" | b"same-site")) {
        return Ok(());
    }
    let origin = head.headers.get(ORIGIN);
    match Page::of(&head.headers, settings) {
        Some(page) if page.allowed.is_some() => Ok(()),
        _ => Err(not_named(origin.unwrap_or(&HeaderValue::from_static("another site")))),
    }
}

fn not_named(origin: &HeaderValue) -> Fault {
    let origin = String::from_utf8_lossy(origin.as_bytes());
    let message = format!("pages of {origin} may not call this gateway: `cors.origins` names those that may");
    Fault::new(FaultKind::Forbidden, message)
}

fn allows(settings: &CorsSettings, origin: &str) -> bool {
    settings.origins.iter().any(|pattern| glob::fits(pattern, origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(origins: &[&str]) -> CorsSettings {
        CorsSettings {
            origins: origins.iter().map(|&origin| origin.to_owned()).collect(),
            ..Default::default()
        }
    }

    fn head(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri("/v1/chat/completions");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn told(origins: &[&str], origin: Option<&str>) -> Vec<String> {
        let pairs: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        let mut headers = HeaderMap::new();
        if let Some(page) = Page::of(&head("POST", &pairs).headers, &settings(origins)) {
            page.tell(&mut headers);
        }
        headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect()
    }

    #[test]
    fn a_page_reads_answers_when_its_origin_is_named() {
        const OWN: &str = "https://app.example.com";
        let open = |origin: &str, vary: bool| {
            let mut all = vec![
                format!("access-control-allow-origin={origin}"),
                "access-control-expose-headers=*".to_owned(),
            ];
            all.extend(vary.then(|| "vary=origin".to_owned()));
            all
        };
        let closed = vec!["vary=origin".to_owned()];
        for (origins, origin, expected) in [
            (&[][..], Some(OWN), Vec::new()),
            (&[OWN], Some(OWN), open(OWN, true)),
            (&[OWN], Some("https://evil.example"), closed.clone()),
            (&[OWN], Some("https://app.example.com.evil.example"), closed.clone()),
            (&[OWN], None, closed.clone()),
            (&["https://*.example.com"], Some(OWN), open(OWN, true)),
            (&["http://localhost:*"], Some("http://localhost:5173"), open("http://localhost:5173", true)),
            (&["*"], Some("null"), open("*", false)),
            (&["*"], None, Vec::new()),
        ] {
            assert_eq!(told(origins, origin), expected, "{origins:?} {origin:?}");
        }
    }

    #[test]
    fn a_browser_that_asks_first_is_told_what_a_page_may_send() {
        let asks = |origin| {
            let wanted = [
                ("origin", origin),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "authorization,x-stainless-os"),
            ];
            let response =
                preflight(&head("OPTIONS", &wanted), &settings(&["https://a.example"]), "r").unwrap();
            let headers = response.headers();
            let allowed = headers.get(ACCESS_CONTROL_ALLOW_HEADERS).map(|v| v.to_str().unwrap().to_owned());
            (response.status().as_u16(), headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), allowed)
        };
        assert_eq!(asks("https://a.example"), (204, true, Some("authorization,x-stainless-os".into())));
        assert_eq!(asks("https://b.example"), (403, false, None));
        assert_eq!(asks("https://a.example/"), (403, false, None));
        let plain = head("OPTIONS", &[("origin", "https://a.example")]);
        assert!(preflight(&plain, &settings(&["*"]), "r").is_none(), "no question of a browser's");
    }

    #[test]
    fn pages_of_others_cannot_spend_where_no_key_is_needed() {
        const OWN: &str = "https://app.example.com";
        for (served, method, more) in [
            (true, "POST", &[][..]),
            (true, "POST", &[("origin", "app://desktop")]),
            (true, "POST", &[("sec-fetch-site", "same-origin"), ("origin", "https://evil.example")]),
            (true, "POST", &[("sec-fetch-site", "none")]),
            (true, "POST", &[("sec-fetch-site", "cross-site"), ("origin", OWN)]),
            (true, "GET", &[("sec-fetch-site", "cross-site")]),
            (false, "POST", &[("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")]),
            (false, "POST", &[("sec-fetch-site", "same-site"), ("origin", "https://other.example.com")]),
            (false, "POST", &[("sec-fetch-site", "cross-site")]),
            (false, "GET", &[("sec-fetch-site", "cross-site"), ("upgrade", "websocket")]),
        ] {
            let judged = refuse_strangers(&head(method, more), &settings(&[OWN]));
            assert_eq!(judged.is_ok(), served, "{method} {more:?}");
        }
    }
}
