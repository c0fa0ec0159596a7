//! A version of the API: its own prefix and models, and how it says that it will go away.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::settings::AfterSunset;
use crate::facts::market::Market;
use crate::fault::{Fault, FaultKind};
use crate::planner::Catalogue;
use crate::settings::Date;

/// RFC 9745.
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
/// RFC 8594.
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// One version of the API, as a snapshot has it.
pub struct ApiVersion {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// What its paths begin with, without a trailing slash.
    pub prefix: String,
    /// What its clients may ask for.
    pub catalogue: Catalogue,
    /// What policies see of the targets in `catalogue`.
    pub market: Arc<dyn Market>,
    /// Whether its requests are strict; `None` leaves it to the configuration.
    pub strict: Option<bool>,
    /// `Deprecation`, `Sunset` and `Link`, on every response.
    pub headers: HeaderMap,
    sunset: Option<Date>,
    after_sunset: AfterSunset,
    successor: Option<String>,
}

/// When a version goes away, and what follows it.
#[derive(Debug, Clone, Default)]
pub struct Retirement {
    /// From when on it should no longer be used.
    pub deprecated: Option<Date>,
    /// From when on it may no longer answer.
    pub sunset: Option<Date>,
    /// What happens then.
    pub after_sunset: AfterSunset,
    /// A page that says more.
    pub link: Option<String>,
    /// The prefix of the version that takes its place.
    pub successor: Option<String>,
}

impl ApiVersion {
    /// A version whose responses tell `retirement`.
    pub fn new(
        name: Arc<str>,
        prefix: String,
        catalogue: Catalogue,
        market: Arc<dyn Market>,
        strict: Option<bool>,
        retirement: Retirement,
    ) -> Self {
        let headers = retirement.headers();
        let Retirement { sunset, after_sunset, successor, .. } = retirement;
        Self { name, prefix, catalogue, market, strict, headers, sunset, after_sunset, successor }
    }

    /// Whether it still answers at this time.
    ///
    /// # Errors
    /// A 410 after the sunset, where the configuration wants it.
    pub fn in_service(&self, unix_ms: u64) -> Result<(), Fault> {
        let Some(sunset) = self.sunset.filter(|_| self.after_sunset == AfterSunset::Refuse) else {
            return Ok(());
        };
        if unix_ms / 1_000 < sunset.unix() {
            return Ok(());
        }
        let mut message = format!("version `{}` of this API was retired on {sunset}", self.name);
        if let Some(successor) = &self.successor {
            message.push_str(&format!("; use {successor} instead"));
        }
        Err(Fault::new(FaultKind::NotFound, message).status(410).code("version_retired"))
    }
}

impl Retirement {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut say = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.append(name, value);
            }
        };
        if let Some(date) = self.deprecated {
            say(DEPRECATION, format!("@{}", date.unix()));
        }
        if let Some(date) = self.sunset {
            let moment = std::time::UNIX_EPOCH + std::time::Duration::from_secs(date.unix());
            say(SUNSET, httpdate::fmt_http_date(moment));
        }
        if let Some(link) = &self.link {
            for (told, rel) in [(self.deprecated.is_some(), "deprecation"), (self.sunset.is_some(), "sunset")]
            {
                if told {
                    say(http::header::LINK, format!("<{link}>; rel=\"{rel}\""));
                }
            }
        }
        if let Some(successor) = &self.successor {
            say(http::header::LINK, format!("<{successor}>; rel=\"successor-version\""));
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::market::Told;

    fn version(after_sunset: AfterSunset) -> ApiVersion {
        let retirement = Retirement {
            deprecated: Some("2026-11-01".parse().unwrap()),
            sunset: Some("2027-05-01T12:00:00Z".parse().unwrap()),
            after_sunset,
            link: Some("https://acme.example/v1".into()),
            successor: Some("/v2".into()),
        };
        ApiVersion::new(
            "v1".into(),
            "/v1".into(),
            Catalogue::default(),
            Arc::new(Told::default()),
            None,
            retirement,
        )
    }

    #[test]
    fn headers_are_those_of_the_rfcs() {
        let headers = version(AfterSunset::Serve).headers;
        assert_eq!(headers["deprecation"], "@1793491200");
        assert_eq!(headers["sunset"], "Sat, 01 May 2027 12:00:00 GMT");
        let links: Vec<_> = headers.get_all("link").iter().collect();
        assert_eq!(
            links,
            [
                r#"<https://acme.example/v1>; rel="deprecation""#,
                r#"<https://acme.example/v1>; rel="sunset""#,
                r#"</v2>; rel="successor-version""#,
            ]
        );
    }

    #[test]
    fn after_its_sunset_a_version_answers_or_is_gone() {
        let sunset = 1_809_172_800_000;
        assert!(version(AfterSunset::Serve).in_service(sunset).is_ok());
        let refusing = version(AfterSunset::Refuse);
        assert!(refusing.in_service(sunset - 1).is_ok());
        let fault = refusing.in_service(sunset).unwrap_err();
        assert_eq!((fault.client_status(), fault.code_str()), (410, "version_retired"));
        assert!(fault.message.contains("2027-05-01") && fault.message.contains("/v2"), "{fault}");
    }
}
