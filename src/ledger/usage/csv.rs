//! Usage as values with commas between them (RFC 4180): the command and the admin API write the same.

use std::io::{self, Write};

use serde_json::Value;

use super::{By, KEY_NAME, NUMBERS, Names, Sum, fields};

/// Sums, one on each line below a line of names.
///
/// # Errors
/// When `out` takes nothing more.
pub fn sums(out: &mut impl Write, sums: &[Sum], by: &[By], names: &Names) -> io::Result<()> {
    let heads: Vec<String> = by.iter().map(By::shown).collect();
    let heads = heads.iter().map(String::as_str).chain(NUMBERS).chain(["cost_usd", "saved_usd"]);
    // Last, so that the other columns stay where they were.
    let with_names = by.iter().any(By::is_key);
    line(out, heads.chain(with_names.then_some(KEY_NAME)))?;
    for sum in sums {
        let numbers: Vec<String> = sum.numbers().iter().map(ToString::to_string).collect();
        let money = [sum.cost_nano, sum.saved_nano].map(|nano| nano.to_string());
        let of = sum.of.iter().map(String::as_str);
        let name = with_names.then(|| sum.key_name(by, names).unwrap_or_default());
        line(out, of.chain(numbers.iter().chain(&money).map(String::as_str)).chain(name))?;
    }
    Ok(())
}

/// The names of what is told of single attempts; of those `of_all` gateways, with the gateway's own.
///
/// # Errors
/// As above.
pub fn head(out: &mut impl Write, of_all: bool) -> io::Result<()> {
    line(out, fields().map(|(name, _)| name).chain(of_all.then_some("gateway")))
}

/// One attempt.
///
/// # Errors
/// As above.
pub fn attempt(out: &mut impl Write, cells: &[Value]) -> io::Result<()> {
    let texts: Vec<String> = cells.iter().map(plain).collect();
    line(out, texts.iter().map(String::as_str))
}

/// A cell that a spreadsheet would take for a formula is kept from being one.
fn line<'a>(out: &mut impl Write, cells: impl Iterator<Item = &'a str>) -> io::Result<()> {
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            write!(out, ",")?;
        }
        let formula = cell.starts_with(['=', '+', '-', '@', '\t']);
        if formula || cell.contains([',', '"', '\n', '\r']) {
            let guard = if formula { "'" } else { "" };
            write!(out, "\"{guard}{}\"", cell.replace('"', "\"\""))?;
        } else {
            write!(out, "{cell}")?;
        }
    }
    writeln!(out)
}

fn plain(cell: &Value) -> String {
    match cell {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
