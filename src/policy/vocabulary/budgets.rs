//! Budgets: what is spent, and what is left.

use rhai::{Dynamic, NativeCallContext};

use super::{Kind, Row, Sheet, kind, row};
use crate::facts::market::{Purse, Who};
use crate::policy::request::{Outcome, fault, request_of};

pub(super) const SHEET: Sheet = Sheet { kinds: KINDS, rows: ROWS };

const KINDS: &[Kind] =
    &[kind("Budget", "budget", "a budget", "What a budget knows (`budget(\"team\")`)", |engine| {
        engine.register_type_with_name::<Purse>("Budget");
    })];

macro_rules! getter {
    ($signature:literal, $getter:expr, $doc:literal) => {
        row($signature, $doc, |engine, name, _| {
            engine.register_get(name, $getter);
        })
    };
}

const ROWS: &[Row] = &[
    row(
        "budget(name: text) → Budget",
        "How a budget of `budgets:` stands at this moment; of one that is split by `each`, the part that counts this request. An error where there is no budget of this name.",
        |engine, name, _| {
            engine.register_fn(name, |context: NativeCallContext<'_>, name: &str| -> Outcome<Purse> {
                let request = request_of("budget", &context)?;
                let facts = request.facts();
                let who = Who { caller: &facts.caller, tags: &facts.tags, model: &facts.model };
                facts
                    .market
                    .purse(name, who)
                    .ok_or_else(|| fault(format!("budget: the configuration has no budget `{name}`")))
            });
        },
    ),
    getter!(
        "budget.limit → decimal",
        |purse: &mut Purse| purse.limit,
        "Dollars or tokens that may be spent."
    ),
    getter!("budget.used → decimal", |purse: &mut Purse| purse.used, "What is spent."),
    getter!(
        "budget.held → decimal",
        |purse: &mut Purse| purse.held,
        "What is held for requests under way: the most that they may cost."
    ),
    getter!(
        "budget.remaining → decimal",
        |purse: &mut Purse| purse.remaining(),
        "What is neither spent nor held."
    ),
    getter!(
        "budget.used_ratio → decimal",
        |purse: &mut Purse| purse.used_ratio(),
        "The share of the limit that is spent: 0.8 for 80 %."
    ),
    getter!(
        "budget.resets_at → text or ()",
        |purse: &mut Purse| {
            let at = purse.resets_ms.and_then(|ms| i64::try_from(ms).ok());
            let at = at.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            at.map_or(Dynamic::UNIT, |at| Dynamic::from(at.to_string()))
        },
        "When something of it is free again (`\"2026-12-01T00:00:00Z\"`); `()` for a budget that does not reset."
    ),
];
