//! What wit-bindgen makes of `wit/tollgate.wit`: the values and the host's functions once, and one small world for each
//! interface that a plugin may export, so that a plugin exports exactly what it names.

#![allow(missing_docs, reason = "generated: `wit/tollgate.wit` is the documentation")]
#![allow(clippy::all, clippy::allow_attributes_without_reason, unreachable_pub, reason = "generated")]

/// The shared values, and what the host offers.
pub mod imports {
    wit_bindgen::generate!({
        path: "wit",
        world: "tollgate:plugin/imports",
        generate_all,
        generate_unused_types: true,
        additional_derives: [PartialEq],
        runtime_path: "tollgate_plugin::wit_bindgen::rt",
        bitflags_path: "tollgate_plugin::wit_bindgen::rt::bitflags",
    });
}

macro_rules! world {
    ($(#[$doc:meta])* $module:ident, $world:literal, $export:literal, $bindings:literal) => {
        $(#[$doc])*
        pub mod $module {
            wit_bindgen::generate!({
                path: "wit",
                inline: $world,
                with: { "tollgate:plugin/types@0.1.0": tollgate_plugin::bindings::imports::tollgate::plugin::types },
                generate_unused_types: true,
                additional_derives: [PartialEq],
                runtime_path: "tollgate_plugin::wit_bindgen::rt",
                bitflags_path: "tollgate_plugin::wit_bindgen::rt::bitflags",
                pub_export_macro: true,
                export_macro_name: $export,
                default_bindings_module: $bindings,
            });
        }
    };
}

world!(
    /// What every plugin exports.
    lifecycle,
    "package tollgate:sdk-lifecycle; world lifecycle { import tollgate:plugin/types@0.1.0; export tollgate:plugin/lifecycle@0.1.0; }",
    "export_lifecycle",
    "tollgate_plugin::bindings::lifecycle"
);

world!(
    /// What a classifier exports.
    classify,
    "package tollgate:sdk-classify; world classify { export tollgate:plugin/classify@0.1.0; }",
    "export_classify",
    "tollgate_plugin::bindings::classify"
);

world!(
    /// What a guard exports.
    guard,
    "package tollgate:sdk-guard; world guard { export tollgate:plugin/guard@0.1.0; }",
    "export_guard",
    "tollgate_plugin::bindings::guard"
);

world!(
    /// What a router exports.
    route,
    "package tollgate:sdk-route; world route { export tollgate:plugin/route@0.1.0; }",
    "export_route",
    "tollgate_plugin::bindings::route"
);

world!(
    /// What an observer exports.
    observe,
    "package tollgate:sdk-observe; world observe { export tollgate:plugin/observe@0.1.0; }",
    "export_observe",
    "tollgate_plugin::bindings::observe"
);

world!(
    /// What functions for policies are exported by.
    functions,
    "package tollgate:sdk-functions; world functions { export tollgate:plugin/functions@0.1.0; }",
    "export_functions",
    "tollgate_plugin::bindings::functions"
);

world!(
    /// What a plugin that tests itself exports.
    self_test,
    "package tollgate:sdk-self-test; world self-test { import tollgate:plugin/types@0.1.0; export tollgate:plugin/self-test@0.1.0; }",
    "export_self_test",
    "tollgate_plugin::bindings::self_test"
);

world!(
    /// What a provider's language exports.
    dialect,
    "package tollgate:sdk-dialect; world dialect { export tollgate:plugin/dialect@0.1.0; }",
    "export_dialect",
    "tollgate_plugin::bindings::dialect"
);
