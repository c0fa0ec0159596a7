//! `.call(…)`, which the language keeps for closures: plugins have it too.
//!
//! Scripts that will run are compiled with another word in its place, which closures and plugins both know. The checks
//! at load read scripts as they are written.

use std::cell::Cell;

use rhai::{Dynamic, Engine, FnPtr, NativeCallContext, Token};

use super::request::Outcome;

/// What stands in its place. Policies cannot write it: names that begin with two underscores are unknown to the checks.
pub(super) const WORD: &str = "__call";

thread_local! {
    static REPLACED: Cell<bool> = const { Cell::new(false) };
}

/// Compiles something that will run.
pub(super) fn to_run<T>(compile: impl FnOnce() -> T) -> T {
    REPLACED.set(true);
    let compiled = compile();
    REPLACED.set(false);
    compiled
}

/// Lets closures be called by the word.
pub(super) fn register(engine: &mut Engine) {
    #[allow(deprecated, reason = "the library calls it volatile; our tests would see it change")]
    engine.on_parse_token(|token, _, _| match token {
        Token::Reserved(word) if word.as_str() == "call" && REPLACED.get() => {
            Token::Identifier(Box::new(WORD.into()))
        }
        token => token,
    });
    type Context<'a> = NativeCallContext<'a>;
    engine
        .register_fn(WORD, |context: Context<'_>, f: FnPtr| -> Outcome<Dynamic> {
            f.call_within_context(&context, ())
        })
        .register_fn(WORD, |context: Context<'_>, f: FnPtr, a: Dynamic| -> Outcome<Dynamic> {
            f.call_within_context(&context, (a,))
        })
        .register_fn(WORD, |context: Context<'_>, f: FnPtr, a: Dynamic, b: Dynamic| -> Outcome<Dynamic> {
            f.call_within_context(&context, (a, b))
        })
        .register_fn(
            WORD,
            |context: Context<'_>, f: FnPtr, a: Dynamic, b: Dynamic, c: Dynamic| -> Outcome<Dynamic> {
                f.call_within_context(&context, (a, b, c))
            },
        );
}
