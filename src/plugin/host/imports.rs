//! What plugins may call: the imports of the contract. Whether a plugin was granted them was checked when it was loaded.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use wasmtime::Engine;
use wasmtime::component::{HasSelf, Linker};

use super::cell::Cell;
use crate::plugin::service::{Behalf, CourierFault, Errand};
use crate::plugin::shelf::Full;
use bindings::tollgate::plugin::{ai, clock, http, log, metrics, random, state, types};

/// Bytes of one line in the log.
pub(super) const LONGEST_LINE: usize = 4096;
/// Bytes of the body of an answer to a plugin's request.
const LARGEST_DELIVERY: usize = 4 << 20;
/// Texts of one `embed`.
const MOST_TEXTS: usize = 256;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "made from the contract")]
mod bindings {
    wasmtime::component::bindgen!({
        path: "wit",
        world: "imports",
        imports: {
            "tollgate:plugin/ai.embed": async | trappable,
            "tollgate:plugin/http.send": async | trappable,
            default: trappable,
        },
    });
}

/// Everything that a plugin may import.
pub(super) fn linker(engine: &Engine) -> Result<Linker<Cell>, String> {
    let mut linker = Linker::new(engine);
    bindings::Imports::add_to_linker::<_, HasSelf<Cell>>(&mut linker, |cell| cell)
        .map_err(|error| format!("imports of plugins: {error:#}"))?;
    Ok(linker)
}

impl Cell {
    fn now(&self) -> u64 {
        self.grantee.services.clock.unix_ms()
    }
}

impl types::Host for Cell {}

impl log::Host for Cell {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        if !log::Host::enabled(self, level)? {
            return Ok(());
        }
        let plugin = &*self.grantee.name;
        let (heard, left_out) = self.grantee.voice.raise(self.now());
        if left_out > 0 {
            tracing::warn!(target: "tollgate::plugin", plugin, left_out, "a plugin says more than 20 lines a second");
        }
        if !heard {
            return Ok(());
        }
        let message = message.get(..message.floor_char_boundary(LONGEST_LINE)).unwrap_or_default();
        match level {
            log::Level::Trace => tracing::trace!(target: "tollgate::plugin", plugin, "{message}"),
            log::Level::Debug => tracing::debug!(target: "tollgate::plugin", plugin, "{message}"),
            log::Level::Info => tracing::info!(target: "tollgate::plugin", plugin, "{message}"),
            log::Level::Warn => tracing::warn!(target: "tollgate::plugin", plugin, "{message}"),
            log::Level::Error => tracing::error!(target: "tollgate::plugin", plugin, "{message}"),
        }
        Ok(())
    }

    fn enabled(&mut self, level: log::Level) -> wasmtime::Result<bool> {
        Ok(match level {
            log::Level::Trace => tracing::enabled!(target: "tollgate::plugin", tracing::Level::TRACE),
            log::Level::Debug => tracing::enabled!(target: "tollgate::plugin", tracing::Level::DEBUG),
            log::Level::Info => tracing::enabled!(target: "tollgate::plugin", tracing::Level::INFO),
            log::Level::Warn => tracing::enabled!(target: "tollgate::plugin", tracing::Level::WARN),
            log::Level::Error => tracing::enabled!(target: "tollgate::plugin", tracing::Level::ERROR),
        })
    }
}

impl state::Host for Cell {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, state::StateError>> {
        Ok(Ok(self.grantee.shelf.get(&key, self.now())))
    }

    fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<(), state::StateError>> {
        Ok(self.grantee.shelf.set(&key, value, ttl_ms, self.now()).map_err(full))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), state::StateError>> {
        self.grantee.shelf.delete(&key);
        Ok(Ok(()))
    }

    fn increment(
        &mut self,
        key: String,
        by: i64,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<i64, state::StateError>> {
        Ok(self.grantee.shelf.increment(&key, by, ttl_ms, self.now()).map_err(full))
    }
}

fn full(full: Full) -> state::StateError {
    match full {
        Full::TooLarge => state::StateError::TooLarge,
        Full::Quota => state::StateError::Quota,
    }
}

impl clock::Host for Cell {
    fn unix_ms(&mut self) -> wasmtime::Result<u64> {
        Ok(self.now())
    }

    fn monotonic_ns(&mut self) -> wasmtime::Result<u64> {
        // From the first question on, so that nothing is told of how long the machine has been up.
        static START: OnceLock<Instant> = OnceLock::new();
        let since = START.get_or_init(Instant::now).elapsed();
        Ok(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl random::Host for Cell {
    fn get_u64(&mut self) -> wasmtime::Result<u64> {
        #[allow(clippy::cast_possible_truncation, reason = "half of 128 random bits are 64 random bits")]
        Ok(self.grantee.services.dice.bits() as u64)
    }
}

impl metrics::Host for Cell {
    fn add(&mut self, name: String, labels: Vec<(String, String)>, by: f64) -> wasmtime::Result<()> {
        if !self.grantee.is_tried() {
            self.grantee.series.add(&name, &labels, by);
        }
        Ok(())
    }

    fn observe(&mut self, name: String, labels: Vec<(String, String)>, value: f64) -> wasmtime::Result<()> {
        if !self.grantee.is_tried() {
            self.grantee.series.observe(&name, &labels, value);
        }
        Ok(())
    }
}

impl ai::Host for Cell {
    fn count_tokens(
        &mut self,
        _model: String,
        text: String,
    ) -> wasmtime::Result<Result<u32, types::Failure>> {
        // The gateway's own estimate: four bytes to a token.
        Ok(Ok(u32::try_from(text.len().div_ceil(4)).unwrap_or(u32::MAX)))
    }

    async fn embed(&mut self, texts: Vec<String>) -> wasmtime::Result<Result<Vec<Vec<f32>>, types::Failure>> {
        let Some(embedder) = self.grantee.services.embedder.clone() else {
            return Ok(Err(types::Failure::Unavailable("the gateway has no model for embeddings".into())));
        };
        if texts.len() > MOST_TEXTS {
            let said = format!("{} texts at once, at most {MOST_TEXTS}", texts.len());
            return Ok(Err(types::Failure::Unsupported(said)));
        }
        let behalf = Behalf::of(&self.grantee.name, self.about.as_deref());
        Ok(embedder.embed(behalf, texts).await.map_err(types::Failure::Unavailable))
    }
}

impl http::Host for Cell {
    async fn send(
        &mut self,
        request: http::Request,
    ) -> wasmtime::Result<Result<http::Response, http::HttpError>> {
        let uri = match self.grantee.hosts.check(&request.url) {
            Ok(uri) => uri,
            Err(why) => return Ok(Err(http::HttpError::NotAllowed(why))),
        };
        let Some(courier) = self.grantee.services.courier.clone() else {
            return Ok(Err(http::HttpError::Unreachable("the gateway sends no requests for plugins".into())));
        };
        let mut outgoing = ::http::Request::builder().method(request.method.as_str()).uri(uri);
        for (name, value) in &request.headers {
            outgoing = outgoing.header(name, value);
        }
        let outgoing = match outgoing.body(request.body) {
            Ok(outgoing) => outgoing,
            Err(error) => return Ok(Err(http::HttpError::NotAllowed(format!("not a request: {error}")))),
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = Duration::from_millis(request.timeout_ms.into()).min(left);
        let errand =
            Errand { plugin: self.grantee.name.clone(), request: outgoing, timeout, most: LARGEST_DELIVERY };
        Ok(match courier.send(errand).await {
            Ok(back) => Ok(http::Response { status: back.status, headers: back.headers, body: back.body }),
            Err(CourierFault::Timeout) => Err(http::HttpError::Timeout),
            Err(CourierFault::Unreachable(why)) => Err(http::HttpError::Unreachable(why)),
            Err(CourierFault::TooLarge) => Err(http::HttpError::TooLarge),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::clock::FixedClock;
    use crate::plugin::allow_list::AllowList;
    use crate::plugin::host::cell::Ceiling;
    use crate::plugin::host::grantee::{Grantee, Voice};
    use crate::plugin::series::Series;
    use crate::plugin::service::{Awaited, Courier, Delivery, Embedder, Services};

    struct Echo;

    impl Embedder for Echo {
        fn embed(&self, _: Behalf, texts: Vec<String>) -> Awaited<'_, Result<Vec<Vec<f32>>, String>> {
            Box::pin(async move { Ok(vec![vec![1.0]; texts.len()]) })
        }
    }

    impl Courier for Echo {
        fn send(&self, errand: Errand) -> Awaited<'_, Result<Delivery, CourierFault>> {
            let said = format!("{} {} {:?}", errand.request.method(), errand.request.uri(), errand.timeout);
            Box::pin(
                async move { Ok(Delivery { status: 200, headers: Vec::new(), body: said.into_bytes() }) },
            )
        }
    }

    fn cell(services: Services, hosts: &[&str]) -> Cell {
        let grantee = Grantee {
            name: "x".into(),
            services: Services { clock: Arc::new(FixedClock(7_000)), ..services },
            shelf: Arc::default(),
            series: Arc::new(Series::new("x".into())),
            hosts: AllowList::read(hosts).unwrap(),
            voice: Voice::default(),
            trial: AtomicBool::default(),
        };
        Cell {
            grantee: Arc::new(grantee),
            ceiling: Ceiling::of(1),
            deadline: Instant::now() + Duration::from_secs(60),
            ticks: 0,
            about: None,
        }
    }

    fn request(url: &str) -> http::Request {
        http::Request {
            method: "POST".into(),
            url: url.into(),
            headers: vec![("content-type".into(), "text/plain".into())],
            body: Vec::new(),
            timeout_ms: 10,
        }
    }

    #[tokio::test]
    async fn requests_go_only_where_the_list_allows_and_only_in_time() {
        let services = Services { courier: Some(Arc::new(Echo)), ..Services::default() };
        let mut allowed = cell(services, &["a.test"]);
        let back = http::Host::send(&mut allowed, request("https://a.test/x")).await.unwrap().unwrap();
        assert_eq!(String::from_utf8(back.body).unwrap(), "POST https://a.test/x 10ms");
        let other = http::Host::send(&mut allowed, request("https://b.test/")).await.unwrap();
        assert!(matches!(other, Err(http::HttpError::NotAllowed(why)) if why.contains("`b.test:443`")));
        let odd = http::Request { method: "GET /".into(), ..request("https://a.test/") };
        assert!(matches!(
            http::Host::send(&mut allowed, odd).await.unwrap(),
            Err(http::HttpError::NotAllowed(_))
        ));
        let nobody =
            http::Host::send(&mut cell(Services::default(), &["a.test"]), request("https://a.test/")).await;
        assert!(matches!(nobody.unwrap(), Err(http::HttpError::Unreachable(_))));
    }

    #[tokio::test]
    async fn embeddings_are_unavailable_until_somebody_makes_them() {
        let none = ai::Host::embed(&mut cell(Services::default(), &[]), vec!["a".into()]).await.unwrap();
        assert!(matches!(none, Err(types::Failure::Unavailable(_))));
        let mut with = cell(Services { embedder: Some(Arc::new(Echo)), ..Services::default() }, &[]);
        assert_eq!(ai::Host::embed(&mut with, vec!["a".into(); 2]).await.unwrap().unwrap().len(), 2);
        let many = ai::Host::embed(&mut with, vec![String::new(); MOST_TEXTS + 1]).await.unwrap();
        assert!(matches!(many, Err(types::Failure::Unsupported(_))));
        assert_eq!(ai::Host::count_tokens(&mut with, "m".into(), "12345".into()).unwrap().unwrap(), 2);
    }

    #[test]
    fn the_clock_is_the_one_that_was_handed_in() {
        let mut cell = cell(Services::default(), &[]);
        assert_eq!(clock::Host::unix_ms(&mut cell).unwrap(), 7_000);
        assert!(
            clock::Host::monotonic_ns(&mut cell).unwrap() <= clock::Host::monotonic_ns(&mut cell).unwrap()
        );
        state::Host::set(&mut cell, "k".into(), b"v".to_vec(), Some(1)).unwrap().unwrap();
        assert_eq!(state::Host::get(&mut cell, "k".into()).unwrap().unwrap().as_deref(), Some(&b"v"[..]));
        let large = state::Host::set(&mut cell, "k".into(), vec![0; 1 << 17], None).unwrap();
        assert!(matches!(large, Err(state::StateError::TooLarge)));
        log::Host::log(&mut cell, log::Level::Error, "ä".repeat(LONGEST_LINE)).unwrap();
    }
}
