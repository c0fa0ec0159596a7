//! Every function of the contract that a plugin may export, in one table.

use super::settings::Interface;

/// The package of the contract and the version that this gateway speaks.
pub(super) const PACKAGE: &str = "tollgate:plugin";
/// See [`PACKAGE`].
pub(super) const VERSION: &str = "0.1.0";

macro_rules! table {
    ($($function:ident $interface:ident $in:literal $name:literal $label:literal;)*) => {
        /// A function of the contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, reason = "they are the names in the contract")]
        pub enum Function { $($function),* }

        impl Function {
            /// All of them, in the order of the declaration.
            pub const ALL: [Self; [$($label),*].len()] = [$(Self::$function),*];

            /// The name in metrics and logs.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$function => $label),* }
            }

            /// The interface that the gateway asks through; `None` for the lifecycle.
            pub fn interface(self) -> Option<Interface> {
                match self { $(Self::$function => table!(@ $interface)),* }
            }

            /// Interface and function as the contract writes them.
            #[cfg(feature = "wasm")]
            pub(super) fn path(self) -> (&'static str, &'static str) {
                match self { $(Self::$function => ($in, $name)),* }
            }
        }
    };
    (@ Lifecycle) => { None };
    (@ $interface:ident) => { Some(Interface::$interface) };
}

table! {
    Describe      Lifecycle "lifecycle" "describe"               "describe";
    Init          Lifecycle "lifecycle" "init"                   "init";
    SelfTest      Lifecycle "self-test" "run"                    "self_test";
    Classify      Classify  "classify"  "classify"               "classify";
    Inspect       Guard     "guard"     "inspect"                "inspect";
    InspectWindow Guard     "guard"     "inspect-window"         "inspect_window";
    Route         Route     "route"     "route"                  "route";
    Complete      Observe   "observe"   "complete"               "complete";
    Signatures    Functions "functions" "signatures"             "signatures";
    Call          Functions "functions" "call"                   "call";
    Encode        Dialect   "dialect"   "encode"                 "encode";
    Decode        Dialect   "dialect"   "decode"                 "decode";
    Fault         Dialect   "dialect"   "fault"                  "fault";
    Decoder       Dialect   "dialect"   "[constructor]decoder"   "decoder";
    Feed          Dialect   "dialect"   "[method]decoder.feed"   "feed";
    End           Dialect   "dialect"   "[method]decoder.end"    "end";
}

/// The full name of an interface of the contract: `tollgate:plugin/guard@0.1.0`.
#[cfg(feature = "wasm")]
pub(super) fn full_name(interface: &str) -> String {
    format!("{PACKAGE}/{interface}@{VERSION}")
}
