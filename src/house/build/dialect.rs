//! Plugins that speak for a provider: `dialect: "plugin:acme-dialect"`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::Bench;
use crate::chat::Loss;
use crate::fault::{Fault, FaultKind, Retry};
use crate::house::check::CheckedProvider;
use crate::house::validate::did_you_mean;
use crate::plugin::{
    self, CallFault, Decoder, DialectFault, DialectFaultKind, Interface, Outcome, Plugin, PluginSet,
};
use crate::providers::{Awaited, Ford, Interpreter, Outgoing, presentable};

/// Begins the word of a dialect that a plugin speaks.
const PREFIX: &str = "plugin:";

/// The longest pause that a plugin may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3_600);

/// Headers that are the transport's, or would carry what the plugin must not say.
const RESERVED: [HeaderName; 10] = [
    ACCEPT_ENCODING,
    AUTHORIZATION,
    CONNECTION,
    CONTENT_LENGTH,
    COOKIE,
    HOST,
    PROXY_AUTHORIZATION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

impl Bench<'_> {
    /// The plugin that speaks for a provider, where one does. `None`: there is none that could, which was said.
    pub(super) fn interpreter(
        &mut self,
        provider: &CheckedProvider,
        plugins: &PluginSet,
    ) -> Option<Option<Arc<dyn Interpreter>>> {
        let Some(name) = provider.dialect.strip_prefix(PREFIX) else { return Some(None) };
        let complaint = match plugins.get(name) {
            None => {
                let near = did_you_mean(name, plugins.names());
                let help = near.map(|near| format!("; did you mean `{PREFIX}{near}`?")).unwrap_or_default();
                format!("there is no plugin `{name}`{help}")
            }
            Some(plugin) if plugin.exports(Interface::Dialect) == Some(false) => {
                format!("plugin `{name}` does not export `dialect`")
            }
            Some(plugin) => return Some(Some(Arc::new(Voice(plugin.clone())))),
        };
        let message = format!("provider `{}`: {complaint}", provider.name);
        self.problem(&["providers", &provider.name, "dialect"], message)
    }
}

/// A plugin that speaks for a provider.
struct Voice(Arc<Plugin>);

impl Interpreter for Voice {
    fn say(&self, request: Outgoing) -> Awaited<'_, Result<Outgoing, Fault>> {
        Box::pin(async move {
            let text = String::from_utf8(request.body.concat())
                .map_err(|_| Fault::new(FaultKind::Internal, "a request that is not text"))?;
            let said = self.0.encode(text).await.answer.map_err(|fault| unsaid(&self.0, &fault))?;
            outgoing(said, request.lost).map_err(|why| malformed(&self.0, &why))
        })
    }

    fn hear(&self, status: u16, body: Bytes) -> Awaited<'_, Result<Bytes, Fault>> {
        Box::pin(async move {
            let heard = self.0.decode(status, body).await.answer.map_err(|fault| unheard(&self.0, &fault))?;
            Ok(heard.into())
        })
    }

    fn blame(&self, status: u16, headers: &HeaderMap, body: Bytes) -> Awaited<'_, Fault> {
        let text = |value: &HeaderValue| value.to_str().ok().map(Into::into);
        let headers = headers.iter().filter(|(name, _)| *name != http::header::SET_COOKIE);
        let headers =
            headers.filter_map(|(name, value)| Some((name.as_str().into(), text(value)?))).collect();
        Box::pin(async move {
            match self.0.fault(status, headers, body).await.answer {
                Ok(said) => blamed(&said, status),
                // The status is all that is known then.
                Err(fault) => unheard(&self.0, &fault).retry(retry_of(status)),
            }
        })
    }

    fn listen(&self) -> Box<dyn Ford> {
        Box::new(Listening { plugin: self.0.clone(), decoder: None, over: false })
    }
}

/// A streamed answer, as the events of a streamed chat completion.
struct Listening {
    plugin: Arc<Plugin>,
    /// Made for the first bytes.
    decoder: Option<Decoder>,
    over: bool,
}

impl Listening {
    async fn decoder(&mut self) -> Result<&mut Decoder, Fault> {
        if self.decoder.is_none() {
            let made = self.plugin.decoder().await.answer.map_err(|fault| unheard(&self.plugin, &fault))?;
            self.decoder = Some(made);
        }
        self.decoder.as_mut().ok_or_else(|| Fault::new(FaultKind::Internal, "a decoder is gone"))
    }
}

impl Ford for Listening {
    fn feed(&mut self, chunk: Bytes) -> Awaited<'_, Result<Bytes, Fault>> {
        Box::pin(async move {
            let plugin = self.plugin.clone();
            let chunks =
                self.decoder().await?.feed(chunk).await.answer.map_err(|fault| unheard(&plugin, &fault))?;
            Ok(events(&chunks).into())
        })
    }

    fn end(&mut self) -> Awaited<'_, Result<Bytes, Fault>> {
        Box::pin(async move {
            if std::mem::replace(&mut self.over, true) {
                return Ok(Bytes::new());
            }
            self.decoder().await?;
            let Some(decoder) = self.decoder.take() else { return Ok(Bytes::new()) };
            let chunks = decoder.end().await.answer.map_err(|fault| unheard(&self.plugin, &fault))?;
            let mut text = events(&chunks);
            text.push_str("data: [DONE]\n\n");
            Ok(text.into())
        })
    }
}

/// Each chunk as an event of its own, on one line.
fn events(chunks: &[String]) -> String {
    let mut text = String::with_capacity(chunks.iter().map(|chunk| chunk.len() + 8).sum());
    for chunk in chunks {
        text.push_str("data: ");
        text.extend(chunk.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
        text.push_str("\n\n");
    }
    text
}

/// The request that the plugin made, if it may be sent.
fn outgoing(said: plugin::Outgoing, mut lost: Vec<Loss>) -> Result<Outgoing, String> {
    let method: Method = said.method.parse().map_err(|_| format!("`{}` is no method", said.method))?;
    let path = said.path;
    let plain = path.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#' && byte != b'\\');
    let climbs = path.split(['/', '?']).any(|step| matches!(step, "." | ".."));
    if !path.starts_with('/') || path.starts_with("//") || !plain || climbs {
        return Err("its path is not one below the provider's `base_url`".to_owned());
    }
    let mut headers = HeaderMap::with_capacity(said.headers.len() + 1);
    for (name, value) in said.headers {
        let parsed: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header"))?;
        if RESERVED.contains(&parsed) {
            return Err(format!("the header `{name}` is not a plugin's to set"));
        }
        let value =
            HeaderValue::from_str(&value).map_err(|_| format!("the value of header `{name}` is none"))?;
        headers.append(parsed, value);
    }
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    lost.extend(said.lost.into_iter().map(Loss::dropped));
    Ok(Outgoing { method, path, is_absolute: false, headers, body: vec![said.body.into()], lost, tier: None })
}

/// The request could not be said.
fn unsaid(plugin: &Plugin, fault: &CallFault) -> Fault {
    match fault.unsupported {
        true => {
            let text = format!(
                "the provider's dialect (plugin `{}`) cannot say this: {}",
                plugin.name(),
                words(fault)
            );
            Fault::new(FaultKind::BadRequest, text).retry(Retry::Elsewhere)
        }
        false => unheard(plugin, fault),
    }
}

/// The answer could not be read, or the plugin failed.
fn unheard(plugin: &Plugin, fault: &CallFault) -> Fault {
    let name = plugin.name();
    if fault.outcome == Outcome::Failure {
        let text = format!("the provider's dialect (plugin `{name}`) cannot go on: {}", words(fault));
        return Fault::new(FaultKind::Malformed, text);
    }
    let text = format!("the provider's dialect (plugin `{name}`) failed: {}", fault.outcome.as_str());
    Fault::new(FaultKind::ServerError, text).code("dialect_plugin_failed").retry(Retry::Elsewhere)
}

fn malformed(plugin: &Plugin, why: &str) -> Fault {
    let text = format!(
        "the provider's dialect (plugin `{}`) made a request that cannot be sent: {why}",
        plugin.name()
    );
    Fault::new(FaultKind::ServerError, text).code("dialect_plugin_failed").retry(Retry::Elsewhere)
}

/// The plugin's own words, as far as a client may see them.
fn words(fault: &CallFault) -> String {
    presentable(&fault.message).unwrap_or_else(|| "it does not say why".to_owned())
}

fn retry_of(status: u16) -> Retry {
    if status == 429 || status >= 500 { Retry::Here } else { Retry::Elsewhere }
}

/// What the plugin says of an answer that is an error.
fn blamed(said: &DialectFault, answered: u16) -> Fault {
    let kind = match said.kind {
        DialectFaultKind::RateLimited => FaultKind::RateLimited,
        DialectFaultKind::Overloaded => FaultKind::Overloaded,
        DialectFaultKind::ServerError => FaultKind::ServerError,
        DialectFaultKind::Credentials | DialectFaultKind::NoCredit => FaultKind::Credentials,
        DialectFaultKind::NotFound => FaultKind::NotFound,
        DialectFaultKind::ContextTooLong => FaultKind::ContextTooLong,
        DialectFaultKind::ContentFiltered => FaultKind::ContentFiltered,
        DialectFaultKind::BadRequest => FaultKind::BadRequest,
        DialectFaultKind::Malformed => FaultKind::Malformed,
    };
    let status = match said.kind {
        DialectFaultKind::NoCredit => 402,
        _ => answered,
    };
    let text = presentable(&said.message).unwrap_or_else(|| format!("the provider answered {answered}"));
    let after = said.retry_after_ms.map(|ms| Duration::from_millis(ms).min(LONGEST_PAUSE));
    let fault = Fault::new(kind, text).status(status).answered(answered).after(after);
    match said.code.as_deref().and_then(presentable) {
        Some(code) => fault.code(code),
        None => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, headers: &[(&str, &str)]) -> plugin::Outgoing {
        plugin::Outgoing {
            method: "POST".into(),
            path: path.into(),
            headers: headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            body: b"{}".to_vec(),
            lost: vec!["n".into()],
        }
    }

    #[test]
    fn a_plugin_sends_only_below_the_base_url_and_never_credentials() {
        let sent = outgoing(said("/v1/x?y=1", &[("content-type", "application/json")]), Vec::new()).unwrap();
        assert_eq!((sent.path.as_str(), &*sent.lost), ("/v1/x?y=1", &[Loss::dropped("n")][..]));
        for path in ["", "v1", "//evil.test/x", "/a/../b", "/a b", "/a#b", "http://evil.test/"] {
            assert!(outgoing(said(path, &[]), Vec::new()).is_err(), "{path}");
        }
        for (name, value) in [("authorization", "x"), ("Host", "x"), ("a b", "x"), ("x", "a\nb")] {
            assert!(outgoing(said("/", &[(name, value)]), Vec::new()).is_err(), "{name}");
        }
    }

    #[test]
    fn chunks_are_events_of_one_line() {
        assert_eq!(events(&["{\n\"a\": 1}".into(), "{}".into()]), "data: { \"a\": 1}\n\ndata: {}\n\n");
    }
}
