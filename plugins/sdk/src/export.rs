//! From a plain Rust value to a component.

/// Exports a plugin with what it can do: `export!(PiiGuard: guard, self_test)`. The words are `classify`, `guard`,
/// `route`, `observe`, `functions`, `self_test` and `dialect`, each for the trait of that name. Name and version in the
/// plugin's description are the crate's.
#[macro_export]
macro_rules! export {
    ($plugin:ty: $($ability:ident),+ $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the functions that a component exports are not safe to call by hand")]
        const _: () = {
            static PLUGIN: $crate::Slot<$plugin> = $crate::Slot::new();
            struct Exports;

            impl $crate::bindings::lifecycle::exports::tollgate::plugin::lifecycle::Guest for Exports {
                fn describe() -> $crate::Manifest {
                    $crate::Manifest {
                        name: env!("CARGO_PKG_NAME").to_owned(),
                        version: env!("CARGO_PKG_VERSION").to_owned(),
                        description: env!("CARGO_PKG_DESCRIPTION").to_owned(),
                        needs: <$plugin as $crate::Plugin>::NEEDS,
                    }
                }
                fn init(config: String) -> Result<(), String> {
                    $crate::report_panics();
                    PLUGIN.init(&config)
                }
            }
            $crate::bindings::lifecycle::export_lifecycle!(Exports with_types_in $crate::bindings::lifecycle);
            $($crate::__export_ability!($ability, Exports, PLUGIN, $plugin);)+
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = { $($crate::__export_ability!(@check $ability, $plugin);)+ };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_ability {
    (classify, $exports:ident, $slot:ident, $plugin:ty) => {
        impl $crate::bindings::classify::exports::tollgate::plugin::classify::Guest for $exports {
            fn classify(
                ctx: $crate::RequestContext,
                segments: Vec<$crate::Segment>,
            ) -> Result<$crate::Classification, $crate::Failure> {
                $crate::Classify::classify($slot.plugin()?, &ctx, &segments)
            }
        }
        $crate::bindings::classify::export_classify!($exports with_types_in $crate::bindings::classify);
    };
    (guard, $exports:ident, $slot:ident, $plugin:ty) => {
        impl $crate::bindings::guard::exports::tollgate::plugin::guard::Guest for $exports {
            fn inspect(
                phase: $crate::Phase,
                ctx: $crate::RequestContext,
                segments: Vec<$crate::Segment>,
            ) -> Result<$crate::Verdict, $crate::Failure> {
                $crate::Guard::inspect($slot.plugin()?, phase, &ctx, &segments)
            }
            fn inspect_window(
                ctx: $crate::RequestContext,
                window: $crate::Window,
            ) -> Result<$crate::WindowVerdict, $crate::Failure> {
                $crate::Guard::inspect_window($slot.plugin()?, &ctx, &window)
            }
        }
        $crate::bindings::guard::export_guard!($exports with_types_in $crate::bindings::guard);
    };
    (route, $exports:ident, $slot:ident, $plugin:ty) => {
        impl $crate::bindings::route::exports::tollgate::plugin::route::Guest for $exports {
            fn route(
                ctx: $crate::RequestContext,
                segments: Vec<$crate::Segment>,
                candidates: Vec<$crate::Candidate>,
            ) -> Result<$crate::Decision, $crate::Failure> {
                $crate::Route::route($slot.plugin()?, &ctx, &segments, &candidates)
            }
        }
        $crate::bindings::route::export_route!($exports with_types_in $crate::bindings::route);
    };
    (observe, $exports:ident, $slot:ident, $plugin:ty) => {
        impl $crate::bindings::observe::exports::tollgate::plugin::observe::Guest for $exports {
            fn complete(ctx: $crate::RequestContext, outcome: $crate::Outcome) {
                if let Ok(plugin) = $slot.plugin() {
                    $crate::Observe::complete(plugin, &ctx, &outcome);
                }
            }
        }
        $crate::bindings::observe::export_observe!($exports with_types_in $crate::bindings::observe);
    };
    (functions, $exports:ident, $slot:ident, $plugin:ty) => {
        impl $crate::bindings::functions::exports::tollgate::plugin::functions::Guest for $exports {
            fn signatures() -> Vec<$crate::Signature> {
                $slot.plugin().map($crate::Functions::signatures).unwrap_or_default()
            }
            fn call(name: String, args: String) -> Result<String, $crate::Failure> {
                $crate::__call($slot.plugin()?, &name, &args)
            }
        }
        $crate::bindings::functions::export_functions!($exports with_types_in $crate::bindings::functions);
    };
    (self_test, $exports:ident, $slot:ident, $plugin:ty) => {
        impl $crate::bindings::self_test::exports::tollgate::plugin::self_test::Guest for $exports {
            fn run() -> Result<(), String> {
                let plugin = $slot.plugin().map_err(|_| "called before init".to_owned())?;
                $crate::SelfTest::self_test(plugin)
            }
        }
        $crate::bindings::self_test::export_self_test!($exports with_types_in $crate::bindings::self_test);
    };
    (dialect, $exports:ident, $slot:ident, $plugin:ty) => {
        struct Reading(::std::cell::RefCell<Option<<$plugin as $crate::Dialect>::Decoder>>);

        impl $crate::bindings::dialect::exports::tollgate::plugin::dialect::GuestDecoder for Reading {
            fn new() -> Self {
                Reading(::std::cell::RefCell::new($slot.plugin().ok().map($crate::Dialect::decoder)))
            }
            fn feed(&self, bytes: Vec<u8>) -> Result<Vec<String>, $crate::Failure> {
                match &mut *self.0.borrow_mut() {
                    Some(decoder) => $crate::Decoder::feed(decoder, &bytes),
                    None => Err($slot.plugin().err().unwrap_or($crate::Failure::Internal(String::new()))),
                }
            }
            fn end(&self) -> Result<Vec<String>, $crate::Failure> {
                match &mut *self.0.borrow_mut() {
                    Some(decoder) => $crate::Decoder::end(decoder),
                    None => Err($slot.plugin().err().unwrap_or($crate::Failure::Internal(String::new()))),
                }
            }
        }
        impl $crate::bindings::dialect::exports::tollgate::plugin::dialect::Guest for $exports {
            type Decoder = Reading;

            fn encode(request: String) -> Result<$crate::Outgoing, $crate::Failure> {
                $crate::Dialect::encode($slot.plugin()?, &request)
            }
            fn decode(status: u16, body: Vec<u8>) -> Result<String, $crate::Failure> {
                $crate::Dialect::decode($slot.plugin()?, status, &body)
            }
            fn fault(status: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> $crate::ProviderFault {
                match $slot.plugin() {
                    Ok(plugin) => $crate::Dialect::fault(plugin, status, &headers, &body),
                    Err(_) => $crate::ProviderFault {
                        kind: $crate::FaultKind::Malformed,
                        message: "called before init".to_owned(),
                        code: None,
                        retry_after_ms: None,
                    },
                }
            }
        }
        $crate::bindings::dialect::export_dialect!($exports with_types_in $crate::bindings::dialect);
    };
    (@check classify, $plugin:ty) => { $crate::__check!(Classify, $plugin); };
    (@check guard, $plugin:ty) => { $crate::__check!(Guard, $plugin); };
    (@check route, $plugin:ty) => { $crate::__check!(Route, $plugin); };
    (@check observe, $plugin:ty) => { $crate::__check!(Observe, $plugin); };
    (@check functions, $plugin:ty) => { $crate::__check!(Functions, $plugin); };
    (@check self_test, $plugin:ty) => { $crate::__check!(SelfTest, $plugin); };
    (@check dialect, $plugin:ty) => { $crate::__check!(Dialect, $plugin); };
    (@check $other:ident, $plugin:ty) => {
        compile_error!(concat!(
            "`", stringify!($other), "` is nothing that a plugin can do: use classify, guard, route, observe, functions, self_test or dialect"
        ));
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __check {
    ($ability:ident, $plugin:ty) => {
        const _: () = {
            const fn can<P: $crate::$ability>() {}
            can::<$plugin>();
        };
    };
}

/// Calls a function with its arguments as JSON text.
#[doc(hidden)]
pub fn __call<P: crate::Functions>(plugin: &P, name: &str, args: &str) -> Result<String, crate::Failure> {
    let args = if args.trim().is_empty() { "null" } else { args };
    let args = serde_json::from_str(args)
        .map_err(|error| crate::Failure::Unsupported(format!("arguments of {name}: {error}")))?;
    plugin.call(name, args).map(|value| value.to_string())
}
