//! Versions of the API: prefixes that can be told apart, dates in order, names that lead somewhere.

use super::super::validate::did_you_mean;
use super::{CheckedApi, Desk, bad_word};
use crate::gateway::{AfterSunset, VersionSettings};

/// Where endpoints stand without any version. A version may take such a place over as a whole.
const PLACES: [&str; 2] = ["/v1", "/v1beta"];

/// Places that no version can have.
const TAKEN: [&str; 1] = ["/passthrough"];

impl Desk<'_> {
    /// Checks all versions and resolves what their aliases lead to.
    pub(super) fn versions(&mut self) -> Vec<CheckedApi> {
        let written = self.reading.config.versions.clone();
        let general = self.reading.config.models.clone();
        let mut checked: Vec<CheckedApi> = Vec::new();
        for (name, settings) in &written {
            let here = ["versions", name.as_str()];
            if let Some(complaint) = bad_word(name) {
                self.error(&here, format!("the version {name:?} {complaint}"), None);
            }
            self.prefix(name, &settings.prefix, &checked);
            self.retirement(name, settings);
            let base = ["versions", name.as_str(), "models"];
            let mut known = self.alias_names(&base, &settings.models);
            known.extend(
                self.alias_names(&["models"], &general)
                    .into_iter()
                    .filter(|name| !known.contains(name))
                    .collect::<Vec<_>>(),
            );
            let models = self.aliases(&base, &settings.models, &known);
            self.cycles(&[(&["models"], &general), (&base, &settings.models)], Some(&settings.models));
            if !settings.inherit && settings.models.0.is_empty() && self.reading.is_sound(&here) {
                let message = format!("the version `{name}` inherits no models and has none of its own");
                self.error(&[&here[..], &["inherit"]].concat(), message, None);
            }
            let settings = settings.clone();
            checked.push(CheckedApi { name: name.as_str().into(), settings, models });
        }
        checked
    }

    fn prefix(&mut self, name: &str, prefix: &str, earlier: &[CheckedApi]) {
        let path = ["versions", name, "prefix"];
        if let Some(complaint) = malformed(prefix) {
            let help = "write it as \"/v2\" or \"/acme/v1\"";
            self.error(&path, format!("the prefix `{prefix}` {complaint}"), Some(help.into()));
            return;
        }
        let below = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if let Some(place) = PLACES.iter().find(|place| prefix != **place && below(prefix, place)) {
            let message = format!("the prefix `{prefix}` lies among the endpoints of `{place}`");
            self.error(&path, message, Some(format!("take `{place}` itself, or another beginning")));
        }
        if let Some(place) = TAKEN.iter().find(|place| below(prefix, place)) {
            self.error(&path, format!("the prefix `{prefix}` lies below `{place}`, which is taken"), None);
        }
        let clash = earlier.iter().find(|other| {
            let other = &other.settings.prefix;
            below(prefix, other) || below(other, prefix)
        });
        if let Some(other) = clash {
            let (other, taken) = (&other.name, &other.settings.prefix);
            let message = format!("the prefix `{prefix}` overlaps with `{taken}` of the version `{other}`");
            self.error(&path, message, None);
        }
    }

    fn retirement(&mut self, name: &str, settings: &VersionSettings) {
        let at = |field: &'static str| ["versions", name, field];
        if let (Some(deprecated), Some(sunset)) = (settings.deprecated, settings.sunset)
            && sunset < deprecated
        {
            let message = format!("the sunset of `{name}` is before its deprecation");
            self.error(&at("sunset"), message, None);
        }
        if settings.after_sunset == AfterSunset::Refuse && settings.sunset.is_none() {
            let message = format!("`{name}` has no `sunset` after which it could be refused");
            self.error(&at("after_sunset"), message, None);
        }
        if let Some(link) = &settings.link {
            let fits = link.bytes().all(|b| b.is_ascii_graphic() && !b"<>\"\\".contains(&b));
            if !fits || !(link.starts_with("https://") || link.starts_with("http://")) {
                self.error(&at("link"), format!("`{link}` is not a URL that a header can carry"), None);
            } else if settings.deprecated.is_none() && settings.sunset.is_none() {
                let message = format!("the link of `{name}` is told with `deprecated` or `sunset` only");
                self.warning(&at("link"), message, None);
            }
        }
        if let Some(successor) = &settings.successor {
            let versions = self.reading.names("versions");
            if successor == name {
                self.error(&at("successor"), format!("`{name}` cannot succeed itself"), None);
            } else if !versions.contains(successor) {
                let help = did_you_mean(successor, versions.iter().map(String::as_str));
                let help = help.map(|known| format!("did you mean `{known}`?"));
                self.error(&at("successor"), format!("there is no version `{successor}`"), help);
            }
        }
    }
}

/// What is wrong with the form of a prefix.
fn malformed(prefix: &str) -> Option<&'static str> {
    let Some(path) = prefix.strip_prefix('/') else { return Some("does not begin with `/`") };
    if path.is_empty() {
        return Some("is every path");
    }
    if prefix.len() > 128 {
        return Some("is longer than 128 characters");
    }
    if path.split('/').any(|segment| segment.is_empty() || segment == "." || segment == "..") {
        return Some("has an empty segment or one of dots");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    (!path.bytes().all(plain)).then_some("holds other characters than letters, digits and `-._~`")
}
