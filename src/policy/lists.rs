//! Functions of the language that put lists in order: the same, but an error of the function that compares ends the
//! evaluation, and one that contradicts itself does no harm.

use std::cmp::Ordering;

use rhai::{Array, Dynamic, Engine, FnPtr, NativeCallContext};

use super::request::{Outcome, fault, kind};

/// Puts them in place of the language's own.
pub(super) fn register(engine: &mut Engine) {
    type Context<'a> = NativeCallContext<'a>;
    for name in ["sort", "sort_by"] {
        engine.register_fn(name, |context: Context<'_>, list: &mut Array, by: FnPtr| {
            sort_by(&context, list, &by)
        });
    }
    for name in ["order", "order_by"] {
        engine.register_fn(name, |context: Context<'_>, mut list: Array, by: FnPtr| -> Outcome<Array> {
            sort_by(&context, &mut list, &by)?;
            Ok(list)
        });
    }
    // The language still takes the name of a function in the place of one.
    engine
        .register_fn("sort", |context: Context<'_>, list: &mut Array, by: &str| {
            sort_by(&context, list, &FnPtr::new(by)?)
        })
        .register_fn("dedup", |context: Context<'_>, list: &mut Array, same: &str| {
            dedup(&context, list, &FnPtr::new(same)?)
        });
    engine
        .register_fn("sort", |list: &mut Array| sort("sort", list, false))
        .register_fn("sort_desc", |list: &mut Array| sort("sort_desc", list, true))
        .register_fn("order", |mut list: Array| sort("order", &mut list, false).map(|()| list))
        .register_fn("order_desc", |mut list: Array| sort("order_desc", &mut list, true).map(|()| list))
        .register_fn("dedup", |context: Context<'_>, list: &mut Array, same: FnPtr| {
            dedup(&context, list, &same)
        });
}

fn sort_by(context: &NativeCallContext<'_>, list: &mut Array, by: &FnPtr) -> Outcome<()> {
    merge_sort(list, &mut |a, b| {
        let said: Dynamic = by.call_within_context(context, (a.clone(), b.clone()))?;
        order(&said)
    })
}

/// What the function that compares says: a number below, at or above 0, or whether the first one comes first.
fn order(said: &Dynamic) -> Outcome<Ordering> {
    if let Ok(number) = said.as_int() {
        return Ok(number.cmp(&0));
    }
    if let Ok(number) = said.as_float() {
        return Ok(number.partial_cmp(&0.0).unwrap_or(Ordering::Equal));
    }
    let first = said.as_bool().map_err(|_| {
        fault(format!("sort: the function that compares gives a number or true/false, not {}", kind(said)))
    })?;
    Ok(if first { Ordering::Less } else { Ordering::Greater })
}

/// Texts by their letters, numbers by their size; what is no number comes last.
fn sort(function: &str, list: &mut Array, downwards: bool) -> Outcome<()> {
    merge_sort(list, &mut |a, b| {
        let order = plain(a, b).ok_or_else(|| match a.type_id() == b.type_id() {
            true => fault(format!("{function}: {} has no order of its own; give a function", kind(a))),
            false => fault(format!("{function}: {} and {} have no order; give a function", kind(a), kind(b))),
        })?;
        Ok(if downwards { order.reverse() } else { order })
    })
}

fn plain(a: &Dynamic, b: &Dynamic) -> Option<Ordering> {
    if a.is_unit() && b.is_unit() {
        return Some(Ordering::Equal);
    }
    if let (Ok(a), Ok(b)) = (a.as_int(), b.as_int()) {
        return Some(a.cmp(&b));
    }
    if let (Ok(a), Ok(b)) = (a.as_float(), b.as_float()) {
        let by_size = a.partial_cmp(&b);
        return Some(by_size.unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())));
    }
    if let (Ok(a), Ok(b)) = (a.as_immutable_string_ref(), b.as_immutable_string_ref()) {
        return Some(a.as_str().cmp(b.as_str()));
    }
    if let (Ok(a), Ok(b)) = (a.as_bool(), b.as_bool()) {
        return Some(a.cmp(&b));
    }
    a.as_char().ok().zip(b.as_char().ok()).map(|(a, b)| a.cmp(&b))
}

/// Neighbours of which the function says that they are the same become one.
fn dedup(context: &NativeCallContext<'_>, list: &mut Array, same: &FnPtr) -> Outcome<()> {
    let mut kept: Array = Vec::with_capacity(list.len());
    for item in list.iter() {
        let twice = match kept.last() {
            Some(before) => {
                let said: Dynamic = same.call_within_context(context, (before.clone(), item.clone()))?;
                said.as_bool().map_err(|_| {
                    fault(format!("dedup: the function that compares gives true/false, not {}", kind(&said)))
                })?
            }
            None => false,
        };
        if !twice {
            kept.push(item.clone());
        }
    }
    *list = kept;
    Ok(())
}

/// Sorts from below: what is the same keeps its order. `std`'s sort can neither end early nor bear a function that
/// contradicts itself. After an error the list is as it was.
fn merge_sort(
    list: &mut Array,
    compare: &mut dyn FnMut(&Dynamic, &Dynamic) -> Outcome<Ordering>,
) -> Outcome<()> {
    let mut sorted: Vec<&Dynamic> = list.iter().collect();
    let mut width = 1;
    while width < sorted.len() {
        let mut merged: Vec<&Dynamic> = Vec::with_capacity(sorted.len());
        for pair in sorted.chunks(width * 2) {
            let (left, right) = pair.split_at(width.min(pair.len()));
            let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
            while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
                let next = if compare(a, b)? == Ordering::Greater { right.next() } else { left.next() };
                merged.extend(next);
            }
            merged.extend(left);
            merged.extend(right);
        }
        sorted = merged;
        width *= 2;
    }
    *list = sorted.into_iter().cloned().collect();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a script gives, or why it ends.
    fn run(script: &str) -> Result<String, String> {
        let mut engine = Engine::new();
        engine.set_max_operations(20_000);
        register(&mut engine);
        engine.eval::<Dynamic>(script).map(|said| said.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn lists_are_put_in_order_as_the_language_says() {
        for (script, expected) in [
            ("let a = [3, 1, 2]; a.sort(); a", "[1, 2, 3]"),
            ("let a = [3, 1, 2]; a.sort_desc(); a", "[3, 2, 1]"),
            (r#"let a = ["b", "a"]; a.order()"#, r#"["a", "b"]"#),
            ("const A = [3, 1, 2]; A.order_desc()", "[3, 2, 1]"),
            ("let a = [3, 1, 2]; a.sort(|x, y| y - x); a", "[3, 2, 1]"),
            ("let a = [3, 1, 2]; a.sort_by(|x, y| x < y); a", "[1, 2, 3]"),
            ("let a = [0.3, 0.1, 0.2]; a.sort(|x, y| x - y); a", "[0.1, 0.2, 0.3]"),
            ("const A = [3, 1, 2]; A.order(|x, y| x - y)", "[1, 2, 3]"),
            (
                "let a = [[2, 0], [1, 0], [2, 1], [1, 1]]; a.sort(|x, y| x[0] - y[0]); a",
                "[[1, 0], [1, 1], [2, 0], [2, 1]]",
            ),
            ("let a = [3.0, 0.0 / 0.0, 1.0]; a.sort(); a[0]", "1.0"),
            ("let a = []; a.sort(|x, y| { throw 1 }); a", "[]"),
            ("let a = [1, 1, 2, 1]; a.dedup(|x, y| x == y); a", "[1, 2, 1]"),
            ("let a = [1, 2, 2, 2, 3, 1]; a.dedup(|a, b| a >= b); a", "[1, 2, 3]"),
            ("let a = [1, 1]; a.dedup(); a", "[1]"),
            ("fn down(x, y) { y - x } let a = [3, 1, 2]; a.sort(\"down\"); a", "[3, 2, 1]"),
            ("fn falls(x, y) { x >= y } let a = [2, 1, 3]; a.dedup(\"falls\"); a", "[2, 3]"),
        ] {
            assert_eq!(run(script).as_deref(), Ok(expected), "{script}");
        }
    }

    #[test]
    fn errors_of_the_function_that_compares_end_the_evaluation() {
        for (script, part) in [
            ("let a = [3, 1, 2]; a.sort(|x, y| { loop {} }); a", "Too many operations"),
            ("let a = [3, 1, 2]; a.dedup(|x, y| { loop {} }); a", "Too many operations"),
            ("let a = [3, 1, 2]; a.order(|x, y| { throw \"boo\" })", "boo"),
            ("let a = [3, 1, 2]; a.sort(|x, y| ())", "gives a number or true/false"),
            ("let a = [3, 1, 2]; a.dedup(|x, y| 1)", "gives true/false"),
            ("let a = [3, \"a\"]; a.sort()", "have no order"),
            ("let a = [#{}, #{}]; a.sort()", "has no order of its own"),
            ("fn by(x, y) { throw \"boo\" } let a = [3, 1, 2]; a.sort(\"by\")", "boo"),
            ("fn by(x, y) { loop {} } let a = [3, 1, 2]; a.sort(\"by\")", "Too many operations"),
            ("fn same(x, y) { throw \"boo\" } let a = [3, 1, 2]; a.dedup(\"same\")", "boo"),
            ("let a = [3, 1, 2]; a.sort(\"nobody\")", "nobody"),
        ] {
            let error = run(script).unwrap_err();
            assert!(error.contains(part), "{script}: {error}");
        }
    }

    #[test]
    fn a_function_that_contradicts_itself_does_no_harm() {
        for compare in
            ["((x * 7919 + y * 104729) % 3) - 1", "1", "-1", "if (x ^ y) % 7 < 3 { 1 } else { -1 }"]
        {
            let list = "let a = []; for i in 0..200 { a.push((i * 7919) % 401); }";
            let script = format!("{list} a.sort(|x, y| {compare}); a.len()");
            assert_eq!(run(&script).as_deref(), Ok("200"), "{compare}");
            let script = format!("fn by(x, y) {{ {compare} }} {list} a.sort(\"by\"); a.len()");
            assert_eq!(run(&script).as_deref(), Ok("200"), "{compare}, by name");
        }
    }
}
