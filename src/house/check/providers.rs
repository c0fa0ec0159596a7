//! Providers: the preset merged in, the URL taken apart, nothing secret written out.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::super::validate::did_you_mean;
use super::base_url::{base_url, is_private};
use super::{Base, CheckedProvider, Desk, HeaderText, bad_word};
use crate::providers::{
    DeadlineOverrides, HeaderSettings, KeyDetails, KeySettings, LabelValue, ProviderSettings, QuirkSettings,
};
use crate::target::{Deadlines, Origin, Traits};

impl Desk<'_> {
    /// Checks all providers and merges their presets in.
    pub(super) fn providers(&mut self) -> BTreeMap<Arc<str>, CheckedProvider> {
        let written = self.reading.config.providers.clone();
        let mut checked = BTreeMap::new();
        for (name, settings) in &written {
            if let Some(provider) = self.provider(name, settings) {
                checked.insert(provider.name.clone(), provider);
            }
        }
        checked
    }

    fn provider(&mut self, name: &str, own: &ProviderSettings) -> Option<CheckedProvider> {
        if let Some(complaint) = bad_word(name).or(name.contains('/').then_some("contains a slash")) {
            self.error(&["providers", name], format!("the provider's name {name:?} {complaint}"), None);
        }
        let preset_name = own.preset.as_deref().unwrap_or(name);
        let preset = self.vendors.preset(preset_name);
        let known = preset.is_some();
        if !known && own.preset.is_some() {
            let presets = self.vendors.presets();
            let help = did_you_mean(preset_name, presets.iter().map(String::as_str));
            let help = help.map(|near| format!("did you mean `{near}`?"));
            self.error(&["providers", name, "preset"], format!("there is no preset `{preset_name}`"), help);
            return None;
        }
        let settings = merge(own.clone(), preset.unwrap_or_default());
        let dialect = self.dialect(name, &settings);
        let local = dialect.as_ref().is_some_and(|(_, local)| *local);
        let base = if local { None } else { self.base(name, &settings) };
        if !local && dialect.is_some() && settings.base_url.is_none() && self.is_sound(name) {
            let message = format!("the provider `{name}` has no `base_url`");
            self.error(&["providers", name], message, Some("add `base_url: https://…/v1`".into()));
        }
        self.keys(name, &settings, base.as_ref());
        let headers = self.headers(name, &settings);
        self.words(name, &settings);
        let deadlines = self.provider_deadlines(name, settings.deadlines.as_ref());
        let (dialect, _) = dialect?;
        Some(CheckedProvider {
            name: name.into(),
            preset: known.then(|| preset_name.to_owned()),
            dialect,
            base,
            keys: settings.keys.iter().map(|key| secret(key).clone()).collect(),
            headers,
            query: settings.query,
            models: settings.models,
            traits: Traits {
                tags: settings.tags.iter().map(|tag| tag.as_str().into()).collect(),
                labels: settings
                    .labels
                    .iter()
                    .map(|(key, value)| (key.as_str().into(), text(value)))
                    .collect(),
            },
            deadlines,
            quirks: settings.quirks.unwrap_or_default(),
        })
    }

    fn is_sound(&self, name: &str) -> bool {
        self.reading.is_sound(&["providers", name])
    }

    fn dialect(&mut self, name: &str, settings: &ProviderSettings) -> Option<(String, bool)> {
        let dialects = self.vendors.dialects();
        let Some(word) = &settings.dialect else {
            if self.is_sound(name) {
                let presets = self.vendors.presets();
                let help = match did_you_mean(name, presets.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`? else give `dialect` and `base_url`"),
                    None => "give `dialect` and `base_url`, or a `preset`".into(),
                };
                let message =
                    format!("there is no preset of the name `{name}`, so it lacks `dialect` and `base_url`");
                self.error(&["providers", name], message, Some(help));
            }
            return None;
        };
        let found = dialects.iter().find(|(known, _)| known == word).cloned();
        if found.is_none() {
            let known = dialects.iter().map(|(known, _)| known.as_str());
            let help = match did_you_mean(word, known.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known dialects: {}", known.collect::<Vec<_>>().join(", ")),
            };
            self.error(&["providers", name, "dialect"], format!("unknown dialect `{word}`"), Some(help));
        }
        found
    }

    fn base(&mut self, name: &str, settings: &ProviderSettings) -> Option<Base> {
        let path = ["providers", name, "base_url"];
        let tls_min = ["providers", name, "tls_min"];
        let tls13_only = match settings.tls_min.as_deref() {
            None | Some("1.2") => false,
            Some("1.3") => true,
            Some(other) => {
                self.error(&tls_min, format!("`{other}` is not one of `1.2`, `1.3`"), None);
                false
            }
        };
        let url = match base_url(settings.base_url.as_deref()?) {
            Ok(url) => url,
            Err(complaint) => {
                // What is no clean URL may contain a key, so it is not shown.
                let place = self.reading.place(&path);
                self.reading.findings.mask(place);
                let help = match complaint {
                    "contains credentials" => "put the credentials into `keys` as `env:NAME` or `file:PATH`",
                    "contains a query" => "put parameters into `query`, and secrets into `keys`",
                    _ => "try \"https://api.example.com/v1\"",
                };
                self.error(&path, format!("the `base_url` of `{name}` {complaint}"), Some(help.into()));
                return None;
            }
        };
        if !url.tls && !is_private(&url.host) {
            let message =
                format!("plain http to `{}` would send prompts and keys over the open network", url.host);
            let help =
                "use https; http is for loopback, private addresses, and names without a public domain";
            self.error(&path, message, Some(help.into()));
        }
        if !url.tls && settings.tls_min.is_some() {
            self.warning(&tls_min, "`tls_min` has no effect on plain http", None);
        }
        if url.tls && settings.h2c {
            let message = "`h2c` has no effect over TLS, where HTTP/2 is negotiated";
            self.warning(&["providers", name, "h2c"], message, None);
        }
        let host = url.host.into();
        let origin = Origin { tls: url.tls, host, port: url.port, tls13_only, h2c: settings.h2c && !url.tls };
        Some(Base { origin, path: url.path })
    }

    fn keys(&mut self, name: &str, settings: &ProviderSettings, base: Option<&Base>) {
        if settings.keys.len() > 1 {
            let message = format!("`{name}` has several keys, of which only the first is used");
            self.warning(&["providers", name, "keys"], message, None);
        }
        let public = base.is_some_and(|base| base.origin.tls);
        if public && settings.keys.is_empty() && settings.headers.is_empty() && self.is_sound(name) {
            let message = format!("`{name}` has no keys: its requests go out without credentials");
            self.warning(&["providers", name], message, Some("add `keys: [ env:NAME ]`".into()));
        }
    }

    fn headers(&mut self, name: &str, settings: &ProviderSettings) -> Vec<(HeaderName, HeaderText)> {
        let mut headers = Vec::new();
        for (key, value) in &settings.headers {
            let path = ["providers", name, "headers", key];
            let Ok(header) = key.parse::<HeaderName>() else {
                self.error(&path, format!("{key:?} is not the name of a header"), None);
                continue;
            };
            if OURS.contains(&header.as_str()) {
                self.error(&path, format!("the header `{header}` is set by the gateway itself"), None);
                continue;
            }
            match value {
                HeaderSettings::Secret(details) => {
                    headers.push((header, HeaderText::Secret(details.secret.clone())))
                }
                HeaderSettings::Text(_) if CREDENTIALS.contains(&header.as_str()) => {
                    let place = self.reading.place(&path);
                    self.reading.findings.mask(place);
                    let message = format!("the header `{header}` carries credentials");
                    let help = "write them as a reference: `{ secret: env:NAME }`";
                    self.error(&path, message, Some(help.into()));
                }
                HeaderSettings::Text(text) => match HeaderValue::from_str(text) {
                    Ok(value) => headers.push((header, HeaderText::Plain(value))),
                    Err(_) => self.error(
                        &path,
                        format!("the value of the header `{header}` is not ASCII text"),
                        None,
                    ),
                },
            }
        }
        headers
    }

    fn words(&mut self, name: &str, settings: &ProviderSettings) {
        for (index, tag) in settings.tags.iter().enumerate() {
            if let Some(complaint) = bad_word(tag) {
                let path = ["providers", name, "tags", &index.to_string()];
                self.error(&path, format!("the tag {tag:?} {complaint}"), None);
            }
        }
        for key in settings.labels.keys() {
            if let Some(complaint) = bad_word(key) {
                self.error(
                    &["providers", name, "labels", key],
                    format!("the label {key:?} {complaint}"),
                    None,
                );
            }
        }
        for (index, model) in settings.models.iter().enumerate() {
            if let Some(complaint) = bad_word(model) {
                let path = ["providers", name, "models", &index.to_string()];
                self.error(&path, format!("the model {model:?} {complaint}"), None);
            }
        }
    }

    fn provider_deadlines(&mut self, name: &str, own: Option<&DeadlineOverrides>) -> Deadlines {
        let mut deadlines = Deadlines::from(&self.reading.config.deadlines);
        let Some(own) = own else { return deadlines };
        let slots = [
            ("connect", own.connect, &mut deadlines.connect),
            ("first_byte", own.first_byte, &mut deadlines.first_byte),
            ("first_token", own.first_token, &mut deadlines.first_token),
            ("idle", own.idle, &mut deadlines.idle),
        ];
        let mut zero = Vec::new();
        for (field, period, slot) in slots {
            let Some(period) = period else { continue };
            *slot = period.0;
            if period.0.is_zero() {
                zero.push(field);
            }
        }
        for field in zero {
            let message = format!("`providers.{name}.deadlines.{field}` must be more than 0s");
            self.error(&["providers", name, "deadlines", field], message, None);
        }
        deadlines
    }
}

/// Headers that the transport writes.
const OURS: [&str; 8] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "content-encoding",
];

/// Headers whose value is a secret.
const CREDENTIALS: [&str; 6] =
    ["authorization", "proxy-authorization", "api-key", "x-api-key", "x-goog-api-key", "cookie"];

fn secret(key: &KeySettings) -> &crate::settings::SecretRef {
    match key {
        KeySettings::Plain(secret) | KeySettings::Full(KeyDetails { secret }) => secret,
    }
}

fn text(value: &LabelValue) -> Arc<str> {
    match value {
        LabelValue::Bool(truth) => truth.to_string().into(),
        LabelValue::Int(number) => number.to_string().into(),
        LabelValue::Text(text) => text.as_str().into(),
    }
}

/// What is written wins; maps are merged by key, quirks are added up.
fn merge(own: ProviderSettings, preset: ProviderSettings) -> ProviderSettings {
    let quirks = match (own.quirks, preset.quirks) {
        (Some(own), Some(preset)) => Some(add(own, preset)),
        (own, preset) => own.or(preset),
    };
    let deadlines = match (own.deadlines, preset.deadlines) {
        (Some(own), Some(preset)) => Some(DeadlineOverrides {
            connect: own.connect.or(preset.connect),
            first_byte: own.first_byte.or(preset.first_byte),
            first_token: own.first_token.or(preset.first_token),
            idle: own.idle.or(preset.idle),
        }),
        (own, preset) => own.or(preset),
    };
    ProviderSettings {
        preset: own.preset,
        dialect: own.dialect.or(preset.dialect),
        base_url: own.base_url.or(preset.base_url),
        keys: if own.keys.is_empty() { preset.keys } else { own.keys },
        tags: union(own.tags, preset.tags),
        labels: over(own.labels, preset.labels),
        headers: over(own.headers, preset.headers),
        query: over(own.query, preset.query),
        tls_min: own.tls_min.or(preset.tls_min),
        h2c: own.h2c || preset.h2c,
        models: union(own.models, preset.models),
        deadlines,
        quirks,
    }
}

fn add(own: QuirkSettings, preset: QuirkSettings) -> QuirkSettings {
    QuirkSettings {
        drop: union(own.drop, preset.drop),
        rename: over(own.rename, preset.rename),
        defaults: over(own.defaults, preset.defaults),
        no_stream_options: own.no_stream_options || preset.no_stream_options,
        completion_excludes_reasoning: own.completion_excludes_reasoning
            || preset.completion_excludes_reasoning,
        tool_id_length: own.tool_id_length.or(preset.tool_id_length),
    }
}

fn over<V>(own: BTreeMap<String, V>, mut preset: BTreeMap<String, V>) -> BTreeMap<String, V> {
    preset.extend(own);
    preset
}

fn union(mut own: Vec<String>, preset: Vec<String>) -> Vec<String> {
    let new: Vec<String> = preset.into_iter().filter(|word| !own.contains(word)).collect();
    own.extend(new);
    own
}
