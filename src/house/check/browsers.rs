//! `cors:`: origins as browsers write them, because another text would never fit one.

use http::Uri;

use super::Desk;

impl Desk<'_> {
    /// Checks the origins of pages.
    pub(super) fn browsers(&mut self) {
        let origins = self.reading.config.cors.origins.clone();
        for (at, origin) in origins.iter().enumerate().filter(|(_, origin)| !is_origin(origin)) {
            let message = format!("`{origin}` is not the origin of a page");
            let help =
                "write scheme, host and port as browsers do, without a path: `https://app.example.com`, `*`";
            self.error(&["cors", "origins", &at.to_string()], message, Some(help.into()));
        }
    }
}

/// Whether a browser could send this as `Origin`, some text standing for each `*`.
fn is_origin(pattern: &str) -> bool {
    let Some((scheme, place)) = pattern.split_once("://") else {
        return matches!(pattern, "*" | "null");
    };
    // A star may be a part of the host, or the port.
    let example = format!("{scheme}://{}", place.replace(":*", ":1").replace('*', "any"));
    let Ok(uri) = example.parse::<Uri>() else { return false };
    // A browser leaves out the usual port and writes in small letters.
    let usual =
        [("http", ":80"), ("https", ":443")].contains(&(scheme, &place[place.rfind(':').unwrap_or(0)..]));
    uri.authority().is_some_and(|own| example.ends_with(own.as_str()) && !own.as_str().contains('@'))
        && !usual
        && pattern == pattern.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::is_origin;

    #[test]
    fn origins_are_what_browsers_send() {
        for (text, expected) in [
            ("*", true),
            ("null", true),
            ("https://app.example.com", true),
            ("http://localhost:5173", true),
            ("http://localhost:*", true),
            ("https://*.example.com", true),
            ("chrome-extension://abcdefgh", true),
            ("app.example.com", false),
            ("https://app.example.com/", false),
            ("https://app.example.com/chat", false),
            ("https://App.example.com", false),
            ("https://app.example.com:443", false),
            ("https://me@app.example.com", false),
            ("https://", false),
            ("", false),
        ] {
            assert_eq!(is_origin(text), expected, "{text}");
        }
    }
}
