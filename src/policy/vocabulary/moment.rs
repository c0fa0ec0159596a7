//! The time of a request, as clocks on a wall show it somewhere.

use rhai::{ImmutableString, NativeCallContext};

use super::{Kind, Row, Sheet, row};
use crate::policy::moment::Moment;
use crate::policy::request::{Outcome, request_of};

pub(super) const SHEET: Sheet = Sheet { kinds: KINDS, rows: ROWS };

const KINDS: &[Kind] = &[Kind {
    name: "Time",
    receiver: "time",
    noun: "a time",
    title: "What a time knows (`let time = now(\"Europe/Paris\");`)",
    open: false,
    register: |engine| {
        engine.register_type_with_name::<Moment>("Time");
    },
}];

const ROWS: &[Row] = &[
    row("now() → Time", "When the request was asked, in UTC.", |engine, name, _| {
        engine.register_fn(name, |context: NativeCallContext<'_>| now(&context, "UTC"));
    }),
    row(
        "now(zone: text) → Time",
        "When the request was asked, as clocks show it in this time zone (`\"Europe/Paris\"`). It stands in the record, so that a replayed decision sees the same time.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, zone: &str| now(&context, zone));
        },
    ),
    row("time.hour → number", "0 to 23.", |engine, name, _| {
        engine.register_get(name, Moment::hour);
    }),
    row("time.minute → number", "0 to 59.", |engine, name, _| {
        engine.register_get(name, Moment::minute);
    }),
    row("time.weekday → text", "`\"monday\"` to `\"sunday\"`.", |engine, name, _| {
        engine.register_get(name, |time: &mut Moment| ImmutableString::from(time.weekday()));
    })
    .one_of(&["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]),
    row("time.is_weekend → true/false", "Saturday or Sunday.", |engine, name, _| {
        engine.register_get(name, Moment::is_weekend);
    }),
    row("time.day → number", "Of the month, 1 to 31.", |engine, name, _| {
        engine.register_get(name, Moment::day);
    }),
    row("time.month → number", "1 to 12.", |engine, name, _| {
        engine.register_get(name, Moment::month);
    }),
    row("time.year → number", "Such as 2026.", |engine, name, _| {
        engine.register_get(name, Moment::year);
    }),
    row(
        "time.date → text",
        "`\"2026-11-21\"`; dates compare as texts: `time.date >= \"2026-12-24\"`.",
        |engine, name, _| {
            engine.register_get(name, Moment::date);
        },
    ),
    row("time.unix → number", "Seconds since 1970.", |engine, name, _| {
        engine.register_get(name, Moment::unix);
    }),
    row(
        "time.between(from: text, to: text) → true/false",
        "Whether it is at least `from` and before `to`; `between(\"22:00\", \"06:00\")` goes past midnight.",
        |engine, name, _| {
            engine.register_fn(name, Moment::between);
        },
    ),
];

fn now(context: &NativeCallContext<'_>, zone: &str) -> Outcome<Moment> {
    Moment::of(request_of("now", context)?.facts().at_ms, zone)
}
