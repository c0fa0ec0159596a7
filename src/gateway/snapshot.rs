//! The immutable whole that requests are served with: swapped at once, never changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use serde::Serialize;

use super::beside::Beside;
use super::settings::{CorsSettings, RealtimeSettings};
use super::version::ApiVersion;
use crate::cache;
use crate::caller::cidr::Cidr;
use crate::executor::Limits;
use crate::facts::market::Market;
use crate::guard::Guards;
use crate::keys::Auth;
use crate::ledger::Aliases;
use crate::limits::Rules;
use crate::planner::{Catalogue, Entry};
use crate::plugin::PluginSet;
use crate::policy::PolicySet;
use crate::store::{Bounds, Sharing};

/// Configuration, policies and providers of one generation.
pub struct Snapshot {
    /// Content hash of everything that it was built from: 16 hexadecimal digits.
    pub hash: Arc<str>,
    /// Counts up with each snapshot of this process, from 1.
    pub generation: u64,
    /// When it was built, in Unix milliseconds.
    pub built_ms: u64,
    /// What can be named.
    pub catalogue: Catalogue,
    /// What policies see of the targets in `catalogue`.
    pub market: Arc<dyn Market>,
    /// Versions of the API; paths below none of their prefixes are served from `catalogue`.
    pub versions: Vec<ApiVersion>,
    /// Whether targets that cannot carry all of a request are passed over, unless a version says otherwise.
    pub strict: bool,
    /// The chain of policies.
    pub policies: PolicySet,
    /// Sets of policies beside that one.
    pub beside: Beside,
    /// An operator put older policies in the place of those on disk.
    pub pinned: Option<Pinned>,
    /// What policies, guards and observers may ask.
    pub plugins: PluginSet,
    /// The model that makes embeddings for plugins, where one is configured.
    pub embeddings: Option<Arc<str>>,
    /// Those of the plugins that are guards.
    pub guards: Guards,
    /// Repeats and sizes of attempts.
    pub limits: Limits,
    /// Deadline of a whole request.
    pub total: Duration,
    /// Interval of comments towards the client while the upstream thinks; zero sends none.
    pub keepalive: Duration,
    /// How many answers are kept, and for how long.
    pub kept: Bounds,
    /// Requests in flight in this process.
    pub in_flight: usize,
    /// What clients must show.
    pub auth: Auth,
    /// Limits towards clients.
    pub rate_limits: Rules,
    /// Which answers are given again.
    pub caching: Caching,
    /// How raw requests and uploads are treated.
    pub raw: RawRules,
    /// Whose `x-forwarded-for` is believed.
    pub proxies: Vec<Cidr>,
    /// Pages in browsers that may ask.
    pub cors: CorsSettings,
    /// How long conversations may last, and how large their frames may be.
    pub realtime: RealtimeSettings,
}

/// Older policies that serve in the place of those on disk, until these change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pinned {
    /// Hash of the policies that serve.
    pub hash: Arc<str>,
    /// Hash of those on disk.
    pub on_disk: Arc<str>,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
}

/// Which answers are given again.
#[derive(Debug, Clone)]
pub struct Caching {
    /// For models that say nothing of their own.
    pub usual: cache::Rules,
    /// For aliases that do.
    pub aliases: HashMap<Arc<str>, cache::Rules>,
    /// The largest answer that is kept, in bytes.
    pub max_answer: u64,
    /// How long answers are kept for an `Idempotency-Key`; zero keeps none.
    pub idempotency: Duration,
}

impl Caching {
    /// The rules for the model that a client asks for, or a version of it.
    pub fn rules(&self, model: &str) -> cache::Rules {
        if self.aliases.is_empty() {
            return self.usual;
        }
        let alias = model.rsplit_once('@').map_or(model, |(alias, _)| alias);
        let own = self.aliases.get(model).or_else(|| self.aliases.get(alias));
        own.copied().unwrap_or(self.usual)
    }
}

/// How raw requests and uploads are treated.
#[derive(Debug, Clone, Default)]
pub struct RawRules {
    /// Bodies up to this many bytes are held, so that they can be sent more than once.
    pub hold: u64,
    /// How far a form is held until its model is known, in bytes.
    pub hold_forms: u64,
    /// Providers that take raw requests of clients, sorted.
    pub open: Vec<Arc<str>>,
    /// Request headers that go on to providers besides the usual ones.
    pub headers: Vec<HeaderName>,
    /// Whose files `/v1/files` means when the client does not say.
    pub files: Option<Arc<str>>,
    /// Who finds what each provider keeps.
    pub sharing: Vec<(Arc<str>, Sharing)>,
}

impl Snapshot {
    /// The version at this place.
    pub fn version(&self, version: Option<usize>) -> Option<&ApiVersion> {
        self.versions.get(version?)
    }

    /// What can be named by clients of this version.
    pub fn catalogue_of(&self, version: Option<usize>) -> &Catalogue {
        self.version(version).map_or(&self.catalogue, |version| &version.catalogue)
    }

    /// The aliases of all versions.
    pub fn aliases(&self) -> Aliases {
        let mut aliases = Aliases::default();
        let all = self.versions.iter().map(|version| &version.catalogue).chain([&self.catalogue]);
        for (name, entry) in all.flat_map(Catalogue::entries) {
            aliases.add(name, matches!(entry, Entry::Split(_)));
        }
        aliases
    }

    /// What policies see of the targets of this version.
    pub fn market_of(&self, version: Option<usize>) -> &Arc<dyn Market> {
        self.version(version).map_or(&self.market, |version| &version.market)
    }
}
