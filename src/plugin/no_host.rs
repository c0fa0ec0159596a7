//! In the place of the host, where this build has none: every plugin is absent, and says why.

use std::future::{Future, ready};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::answer::{
    Classification, DialectFault, Outgoing, RouteDecision, Signature, Verdict, WindowVerdict,
};
use super::ask::{Ask, Candidate, Completion, Pair, Phase, Window};
use super::function::Function;
use super::outcome::{CallFault, Called, Outcome};
use super::service::Services;
use super::set::Belongings;
use super::settings::PluginSettings;
use super::{Examined, Loaded, Plugin};

const REASON: &str = "this build cannot run plugins: it was made without the cargo feature `wasm`";

/// A prepared plugin, which does not exist.
pub(super) enum Guest {}

impl Guest {
    pub(super) fn loaded(&self) -> &Loaded {
        match *self {}
    }
}

/// Looks at a file, if there were a host.
///
/// # Errors
/// Always: this build has none.
pub fn examine(_: &[u8]) -> Result<Examined, String> {
    Err(REASON.into())
}

/// The engine, which does not exist either.
pub(super) struct Sandbox;

impl Sandbox {
    pub(super) fn start(_: Option<&Path>, _: u32) -> Result<Self, String> {
        Err(REASON.into())
    }
}

/// What would be needed to prepare a plugin.
pub(super) struct Preparation {
    pub(super) sandbox: Arc<Sandbox>,
    pub(super) services: Services,
    pub(super) belongings: Belongings,
    pub(super) cache: Option<PathBuf>,
    pub(super) settings: PluginSettings,
    pub(super) bytes: Vec<u8>,
}

impl Preparation {
    pub(super) fn start(self) -> Result<Receiver<Result<Guest, String>>, String> {
        Err(REASON.into())
    }
}

/// Reads the bytes of one stream.
pub struct Decoder(());

#[allow(missing_docs, reason = "as in the host")]
impl Decoder {
    pub async fn feed(&mut self, _: bytes::Bytes) -> Called<Vec<String>> {
        absent()
    }

    pub async fn end(self) -> Called<Vec<String>> {
        absent()
    }
}

fn absent<T>() -> Called<T> {
    Called { answer: Err(CallFault::new(Outcome::Absent, REASON)), took: Duration::ZERO }
}

macro_rules! calls {
    ($($name:ident $function:ident ($($param:ty),*) -> $answer:ty;)*) => {
        #[allow(missing_docs, reason = "as in the host")]
        impl Plugin {
            $(pub fn $name(self: &Arc<Self>, $(_: $param),*) -> impl Future<Output = Called<$answer>> + Send + use<> {
                self.meters.called(Function::$function, Outcome::Absent, Duration::ZERO);
                let _ = self.quarantine.enter();
                ready(absent())
            })*
        }
    };
}

calls! {
    classify Classify (Arc<Ask>) -> Classification;
    inspect Inspect (Phase, Arc<Ask>) -> Verdict;
    inspect_window InspectWindow (Arc<Ask>, Window) -> WindowVerdict;
    route Route (Arc<Ask>, Arc<[Candidate]>) -> RouteDecision;
    observe Complete (Arc<Ask>, Arc<Completion>) -> ();
    call Call (String, String) -> String;
    call_about Call (Option<Arc<Ask>>, String, String) -> String;
    signatures Signatures () -> Vec<Signature>;
    encode Encode (String) -> Outgoing;
    decode Decode (u16, bytes::Bytes) -> String;
    fault Fault (u16, Vec<Pair>, bytes::Bytes) -> DialectFault;
    decoder Decoder () -> Decoder;
}
