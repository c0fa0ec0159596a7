//! What tests reach of the policies, as a table and in detail.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::policy::trial::FileCoverage;

/// Statements and rules of each file, and all together.
pub(super) fn table(files: &[FileCoverage]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let width = files.iter().map(|file| file.name.chars().count()).max().unwrap_or(0).max("all".len());
    let mut out = format!("{:width$}  {:>9}  {:>9}\n", "", "lines", "rules");
    let (mut lines, mut rules) = ((0, 0), (0, 0));
    for file in files {
        let (ran, decided) = (file.ran(), file.decided());
        let _ = writeln!(out, "{:width$}  {:>9}  {:>9}", file.name, share(ran), share(decided));
        lines = (lines.0 + ran.0, lines.1 + ran.1);
        rules = (rules.0 + decided.0, rules.1 + decided.1);
    }
    let _ = writeln!(out, "{:width$}  {:>9}  {:>9}\n", "all", share(lines), share(rules));
    out
}

/// The lines that never ran and the rules that never decided, file by file.
pub(super) fn missed(files: &[FileCoverage]) -> String {
    let mut out = String::new();
    for file in files {
        for (what, counts) in
            [("lines that never ran", &file.lines), ("rules that never decided", &file.verdicts)]
        {
            let places = ranges(counts);
            if !places.is_empty() {
                let _ = writeln!(out, "{}: {what}: {places}", file.path.display());
            }
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// The share of all statements that ran, in percent; all of nothing.
#[allow(clippy::cast_precision_loss, reason = "files do not have 2^53 lines")]
pub(super) fn percent(files: &[FileCoverage]) -> f64 {
    let (ran, all) = files.iter().map(FileCoverage::ran).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    if all == 0 { 100.0 } else { ran as f64 / all as f64 * 100.0 }
}

/// `12/14`, or a dash where there is nothing.
fn share((some, all): (usize, usize)) -> String {
    if all == 0 { "-".into() } else { format!("{some}/{all}") }
}

/// `4, 7-9` of the lines without a count. Lines between two of them that hold no statement do not part them.
fn ranges(counts: &BTreeMap<u32, u64>) -> String {
    let mut found: Vec<(u32, u32)> = Vec::new();
    let mut open = false;
    for (line, count) in counts {
        match found.last_mut() {
            Some(last) if open && *count == 0 => last.1 = *line,
            _ if *count == 0 => found.push((*line, *line)),
            _ => {}
        }
        open = *count == 0;
    }
    let shown = |(first, last): (u32, u32)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    found.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, lines: &[(u32, u64)], verdicts: &[(u32, u64)]) -> FileCoverage {
        FileCoverage {
            name: name.into(),
            path: format!("policies/{name}.rhai").into(),
            lines: lines.iter().copied().collect(),
            verdicts: verdicts.iter().copied().collect(),
        }
    }

    #[test]
    fn what_was_not_reached_is_shown_by_line() {
        let files = [
            file("10-a", &[(2, 1), (4, 0), (6, 0), (7, 3), (9, 0)], &[(4, 0), (9, 1)]),
            file("lib/b", &[(1, 1)], &[]),
        ];
        assert_eq!(
            table(&files),
            "           lines      rules\n10-a         2/5        1/2\nlib/b        1/1          -\nall          3/6        1/2\n\n"
        );
        assert_eq!(
            missed(&files),
            "policies/10-a.rhai: lines that never ran: 4-6, 9\npolicies/10-a.rhai: rules that never decided: 4\n\n"
        );
        assert!((percent(&files) - 50.0).abs() < 1e-9);
        assert_eq!((table(&[]), missed(&[])), (String::new(), String::new()));
    }
}
