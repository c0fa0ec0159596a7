//! Providers: the preset merged in, the URL taken apart, nothing secret written out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::super::validate::did_you_mean;
use super::base_url::{base_url, is_private, reach};
use super::{Base, CheckedProvider, Desk, HeaderText, bad_word};
use crate::providers::presets::{Auth, Preset};
use crate::providers::{DeadlineOverrides, HeaderSettings, LabelValue, ProviderSettings, QuirkSettings};
use crate::settings::SecretRef;
use crate::target::{Deadlines, Origin, Reach, Traits};

/// Paths of operations, which people copy from examples along with the address.
const OPERATIONS: [&str; 2] = ["/chat/completions", "/v1/messages"];

/// By dialect: where requests go, and the version of the API below which that usually is.
const VERSIONED: [(&str, &str, &str); 4] = [
    ("openai", "/chat/completions", "/v1"),
    ("openai-responses", "/responses", "/v1"),
    ("anthropic", "/messages", "/v1"),
    ("gemini", "/models/…", "/v1beta"),
];

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
        let preset = match &own.preset {
            None => self.vendors.preset(name),
            Some(wanted) => {
                let preset = self.vendors.preset(wanted);
                if preset.is_none() {
                    let help = did_you_mean(wanted, self.vendors.presets())
                        .map(|near| format!("did you mean `{near}`?"));
                    self.error(
                        &["providers", name, "preset"],
                        format!("there is no preset `{wanted}`"),
                        help,
                    );
                    return None;
                }
                preset
            }
        };
        let dialect = self.dialect(name, own, preset);
        let local = dialect.as_ref().is_some_and(|(_, local)| *local);
        let auth = self.auth(own, preset, dialect.as_ref().map(|(word, _)| word.as_str()));
        let aws = (auth == Auth::Aws).then(|| self.aws(name, own, preset));
        let google = (auth == Auth::Google || dialect.as_ref().is_some_and(|(word, _)| word == "vertex"))
            .then(|| self.google(name, own));
        let azure = self.azure(name, own, preset);
        let of_resource = azure.as_ref().and_then(|azure| azure.url(preset));
        let url = own.base_url.as_deref().or(preset.and_then(|preset| preset.base_url.as_deref()));
        let url = url.or(of_resource.as_deref());
        let url = url.map(|url| aws.as_ref().map_or_else(|| url.to_owned(), |aws| aws.place(url)));
        let base = if local { None } else { url.as_ref().and_then(|url| self.base(name, own, url)) };
        let base = base.map(|base| azure.as_ref().map_or(base.clone(), |azure| azure.below(base)));
        let told_elsewhere = google.is_some() || azure.is_some();
        if !local && dialect.is_some() && url.is_none() && !told_elsewhere && self.is_sound(name) {
            let message = format!("the provider `{name}` has no `base_url`");
            self.error(&["providers", name], message, Some("add `base_url: https://…/v1`".into()));
        }
        if let (Some(base), Some((dialect, _)), false) = (&base, &dialect, told_elsewhere) {
            self.version(name, own, preset, base, dialect);
        }
        let keys = self.keys(name, own, preset, base.as_ref().filter(|_| aws.is_none()), auth);
        let pool = self.pool(name, own, &keys);
        let faults = self.faults(name, own);
        let concurrency = self.concurrency(name, own);
        let headers = self.headers(&["providers", name, "headers"], &own.headers);
        self.words(name, own);
        let deadlines = self.provider_deadlines(name, own.deadlines.as_ref());
        let (mut quirks, mut query) = (self.quirks(name, own, preset), own.query.clone());
        if let Some(azure) = &azure {
            azure.quirks(&mut quirks);
            azure.query(&mut query);
        }
        let (dialect, _) = dialect?;
        Some(CheckedProvider {
            name: name.into(),
            preset: preset.map(|preset| preset.name.clone()),
            dialect,
            base,
            keys,
            pool,
            balance: own.balance,
            sticky: own.sticky,
            concurrency,
            faults,
            auth: if google.is_some() { Auth::Google } else { auth },
            google,
            azure,
            aws,
            headers,
            query,
            models: own.models.clone(),
            traits: Traits {
                tags: own.tags.iter().map(|tag| tag.as_str().into()).collect(),
                labels: own.labels.iter().map(|(key, value)| (key.as_str().into(), text(value))).collect(),
            },
            deadlines,
            quirks,
        })
    }

    /// How the key is sent. Settings of AWS, and dialects that only AWS speaks, ask for signatures.
    fn auth(&self, own: &ProviderSettings, preset: Option<&Preset>, dialect: Option<&str>) -> Auth {
        let mut presets = self.vendors.presets().into_iter().filter_map(|name| self.vendors.preset(name));
        let speaks = |preset: &Preset| dialect.is_some_and(|word| word.starts_with(&preset.dialect));
        let signed = |preset: &Preset| preset.auth == Auth::Aws && speaks(preset);
        match preset {
            _ if own.aws.is_some() => Auth::Aws,
            Some(preset) => preset.auth,
            None if presets.any(signed) => Auth::Aws,
            None => Auth::default(),
        }
    }

    fn is_sound(&self, name: &str) -> bool {
        self.reading.is_sound(&["providers", name])
    }

    fn dialect(
        &mut self,
        name: &str,
        own: &ProviderSettings,
        preset: Option<&Preset>,
    ) -> Option<(String, bool)> {
        let Some(word) = own.dialect.as_ref().or(preset.map(|preset| &preset.dialect)) else {
            if self.is_sound(name) {
                let help = match did_you_mean(name, self.vendors.presets()) {
                    Some(near) => format!("did you mean `{near}`? else give `dialect` and `base_url`"),
                    None => "give `dialect` and `base_url`, or a `preset`".into(),
                };
                let message =
                    format!("there is no preset of the name `{name}`, so it lacks `dialect` and `base_url`");
                self.error(&["providers", name], message, Some(help));
            }
            return None;
        };
        let local = self.vendors.is_local(word);
        if local.is_none() {
            let near = did_you_mean(word, crate::providers::DIALECTS.iter().copied());
            let help = near.map(|near| format!("did you mean `{near}`?"));
            self.error(&["providers", name, "dialect"], format!("unknown dialect `{word}`"), help);
        }
        Some((word.clone(), local?))
    }

    fn base(&mut self, name: &str, settings: &ProviderSettings, url: &str) -> Option<Base> {
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
        let url = match base_url(url) {
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
        let operation = OPERATIONS.iter().find(|operation| url.path.ends_with(*operation));
        if let Some(operation) = operation.filter(|_| settings.base_url.is_some()) {
            let message = format!(
                "the `base_url` of `{name}` ends in `{operation}`, which the gateway adds: requests would go to `{}{operation}`",
                url.path
            );
            let help = format!("leave `{operation}` out");
            self.error(&path, message, Some(help));
        }
        // A name may lead to private addresses whatever its domain; an address is what it is.
        let declared = settings.private && url.host.parse::<IpAddr>().is_err();
        if !url.tls && !is_private(&url.host) && !declared {
            let message =
                format!("plain http to `{}` would send prompts and keys over the open network", url.host);
            let help = "use https; http is for loopback, private addresses, names without a public domain, \
                        and names that `private: true` is said of";
            self.error(&path, message, Some(help.into()));
        }
        if !url.tls && settings.tls_min.is_some() {
            self.warning(&tls_min, "`tls_min` has no effect on plain http", None);
        }
        if url.tls && settings.h2c {
            let message = "`h2c` has no effect over TLS, where HTTP/2 is negotiated";
            self.warning(&["providers", name, "h2c"], message, None);
        }
        let reach = if settings.private { Reach::Private } else { reach(&url.host) };
        let egress = self.reading.config.upstream.egress.rules().unwrap_or_default();
        if egress.is_hosts_only() && !egress.allows_host(&url.host) {
            let message = format!("`upstream.egress.hosts` does not allow `{}`", url.host);
            self.error(&path, message, Some("add the host there, or its domain as `*.example.com`".into()));
        }
        let host = url.host.into();
        let h2c = settings.h2c && !url.tls;
        let origin = Origin { tls: url.tls, host, port: url.port, tls13_only, h2c, reach };
        Some(Base { origin, path: url.path })
    }

    /// Nearly all servers have their API below a version, which is easily left out: they answer 404 then.
    fn version(
        &mut self,
        name: &str,
        own: &ProviderSettings,
        preset: Option<&Preset>,
        base: &Base,
        dialect: &str,
    ) {
        let Some((_, operation, version)) = VERSIONED.iter().find(|(word, ..)| *word == dialect) else {
            return;
        };
        let usual = preset.and_then(|preset| preset.base_url.as_ref());
        let elsewhere = usual.is_some_and(|url| !url.ends_with(version));
        if own.base_url.is_none() || !base.path.is_empty() || elsewhere {
            return;
        }
        let message = format!("the `base_url` of `{name}` has no path: requests go to `{operation}`");
        let help = format!("most servers want `{version}` at its end");
        self.warning(&["providers", name, "base_url"], message, Some(help));
    }

    fn keys(
        &mut self,
        name: &str,
        own: &ProviderSettings,
        preset: Option<&Preset>,
        base: Option<&Base>,
        auth: Auth,
    ) -> Vec<SecretRef> {
        if own.keys.len() > 1 && preset.is_some_and(|preset| preset.auth == Auth::Google) {
            let message = format!("`{name}` has several keys, of which only the first is used");
            self.warning(&["providers", name, "keys"], message, None);
        }
        if !own.keys.is_empty() {
            return own.keys.iter().map(|key| key.secret().clone()).collect();
        }
        if auth == Auth::Aws {
            // An API key of the environment is one way among others.
            return Vec::new();
        }
        // A vendor's key is not sent to another host just because that one takes the vendor's name.
        let at_home = preset.filter(|preset| own.base_url.is_none() || preset.base_url.is_none());
        if let Some(variable) = at_home.and_then(|preset| preset.key_env.as_ref()) {
            return vec![SecretRef::Env(variable.clone())];
        }
        if preset.is_some_and(|preset| preset.auth == Auth::Google) || own.azure.is_some() {
            // There are other ways than a key.
            return Vec::new();
        }
        let public = base.is_some_and(|base| base.origin.tls);
        if public && own.headers.is_empty() && self.is_sound(name) {
            let message = format!("`{name}` has no keys: its requests go out without credentials");
            self.warning(&["providers", name], message, Some("add `keys: [ env:NAME ]`".into()));
        }
        Vec::new()
    }

    fn quirks(&mut self, name: &str, own: &ProviderSettings, preset: Option<&Preset>) -> QuirkSettings {
        let own = own.quirks.clone().unwrap_or_default();
        let paths = [
            ("chat_path", &own.chat_path),
            ("embeddings_path", &own.embeddings_path),
            ("media_path", &own.media_path),
            ("kept_path", &own.kept_path),
        ];
        for (field, path) in paths {
            if path.as_ref().is_some_and(|path| !path.starts_with('/') || path.contains(char::is_whitespace))
            {
                let message = format!("`{field}` must begin with a slash and contain no white space");
                self.error(&["providers", name, "quirks", field], message, None);
            }
        }
        preset.map_or(own.clone(), |preset| preset.quirks.with(&own))
    }

    pub(super) fn headers(
        &mut self,
        at: &[&str],
        written: &BTreeMap<String, HeaderSettings>,
    ) -> Vec<(HeaderName, HeaderText)> {
        let mut headers = Vec::new();
        for (key, value) in written {
            let path = [at, &[key.as_str()]].concat();
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
        deadlines.tokens_per_second = own.tokens_per_second.unwrap_or(deadlines.tokens_per_second);
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
        if own.handover.is_some_and(|period| period.0.is_zero()) {
            zero.push("handover");
        }
        let general = self.reading.config.deadlines.handover;
        deadlines = deadlines.handing_over(own.handover.or(general).map(|period| period.0));
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

fn text(value: &LabelValue) -> Arc<str> {
    match value {
        LabelValue::Bool(truth) => truth.to_string().into(),
        LabelValue::Int(number) => number.to_string().into(),
        LabelValue::Text(text) => text.as_str().into(),
    }
}
