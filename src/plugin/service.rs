//! What the host lets others do for plugins: embeddings and requests outward are handed in, time and dice as well.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::ask::{Ask, Pair};
use crate::caller::Caller;
use crate::clock::{Clock, Dice, SystemClock};

/// A future in a box, for traits that are handed in.
pub type Awaited<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes vectors of texts.
pub trait Embedder: Send + Sync {
    /// One vector for each text, in order; an error in words.
    fn embed(&self, behalf: Behalf, texts: Vec<String>) -> Awaited<'_, Result<Vec<Vec<f32>>, String>>;
}

/// On whose behalf something is done.
#[derive(Debug, Clone)]
pub struct Behalf {
    /// The plugin that wants it.
    pub plugin: Arc<str>,
    /// The request that the plugin is asked about; empty where it is asked about none.
    pub request: Arc<str>,
    /// Who made that request.
    pub caller: Caller,
    /// The tags that it has by now.
    pub tags: Vec<Pair>,
}

impl Behalf {
    /// A plugin's, while it is asked about this.
    pub fn of(plugin: &Arc<str>, about: Option<&Ask>) -> Self {
        let plugin = Arc::clone(plugin);
        match about.map(|ask| &ask.context) {
            Some(context) => Self {
                plugin,
                request: context.request_id.clone(),
                caller: context.caller.clone(),
                tags: context.tags.clone(),
            },
            None => Self { plugin, request: "".into(), caller: Caller::default(), tags: Vec::new() },
        }
    }
}

/// Carries a plugin's requests to hosts that the host's allow-list has let pass. It follows no redirects.
pub trait Courier: Send + Sync {
    /// Sends one request and reads its answer up to `errand.most` bytes.
    fn send(&self, errand: Errand) -> Awaited<'_, Result<Delivery, CourierFault>>;
}

/// A plugin's request outward.
#[derive(Debug, Clone)]
pub struct Errand {
    /// On whose behalf.
    pub plugin: Arc<str>,
    /// What is asked; host, scheme and port were checked.
    pub request: http::Request<Vec<u8>>,
    /// When to give up.
    pub timeout: Duration,
    /// Most bytes of the answer's body.
    pub most: usize,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Status.
    pub status: u16,
    /// Headers whose values are text.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CourierFault {
    /// Its time was up.
    Timeout,
    /// Nobody answers there.
    Unreachable(String),
    /// The answer is larger than it may be.
    TooLarge,
}

/// All that is handed in.
#[derive(Clone)]
pub struct Services {
    /// Embeddings; without it, `ai.embed` answers `unavailable`.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// Requests outward; without it, `http.send` answers `unreachable`.
    pub courier: Option<Arc<dyn Courier>>,
    /// What plugins see of the time.
    pub clock: Arc<dyn Clock>,
    /// What plugins see of chance.
    pub dice: Arc<Dice>,
}

impl Default for Services {
    fn default() -> Self {
        Self { embedder: None, courier: None, clock: Arc::new(SystemClock), dice: Arc::new(Dice::fair()) }
    }
}
