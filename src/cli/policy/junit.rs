//! The results of tests as JUnit XML, which build servers read.

use std::fmt::Write as _;

use crate::house::{Report, Tested};

/// One suite for each file.
pub(super) fn document(report: &Report) -> String {
    let (passed, failed) = report.counts();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites name=\"tollgate policy test\" tests=\"{}\" failures=\"{failed}\" time=\"{:.6}\">",
        passed + failed,
        report.took.as_secs_f64()
    );
    for suite in report.tests.chunk_by(|a, b| a.file == b.file) {
        write_suite(&mut out, suite);
    }
    out.push_str("</testsuites>\n");
    out
}

fn write_suite(out: &mut String, suite: &[Tested]) {
    let Some(first) = suite.first() else { return };
    let file = escaped(&first.file.display().to_string());
    let failed = suite.iter().filter(|test| !test.failures.is_empty()).count();
    let took: f64 = suite.iter().map(|test| test.took.as_secs_f64()).sum();
    let _ = writeln!(
        out,
        "  <testsuite name=\"{file}\" tests=\"{}\" failures=\"{failed}\" time=\"{took:.6}\">",
        suite.len()
    );
    for test in suite {
        let _ = write!(
            out,
            "    <testcase classname=\"{file}\" name=\"{}\" file=\"{file}\" time=\"{:.6}\"",
            escaped(&test.name),
            test.took.as_secs_f64()
        );
        if test.failures.is_empty() {
            out.push_str("/>\n");
            continue;
        }
        out.push_str(">\n");
        for failure in &test.failures {
            let _ = writeln!(
                out,
                "      <failure message=\"{}\">{}</failure>",
                escaped(&failure.message),
                escaped(failure.to_string().trim_end())
            );
        }
        out.push_str("    </testcase>\n");
    }
    out.push_str("  </testsuite>\n");
}

/// Text as it may stand in XML: what the format does not know at all becomes a replacement character.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::house::Diagnostic;

    #[test]
    fn files_are_suites_and_failures_are_told_in_full() {
        let test = |file: &str, name: &str, failures| Tested {
            said: Vec::new(),
            file: file.into(),
            name: name.into(),
            took: Duration::from_millis(2),
            failures,
        };
        let report = Report {
            tests: vec![
                test("a_test.rhai", "test_x", Vec::new()),
                test("t.yaml", "a < b & \u{1}c", vec![Diagnostic::error("t.yaml", "expected \"x\"")]),
            ],
            coverage: Vec::new(),
            took: Duration::from_millis(5),
        };
        assert_eq!(
            document(&report),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <testsuites name=\"tollgate policy test\" tests=\"2\" failures=\"1\" time=\"0.005000\">\n\
             \x20 <testsuite name=\"a_test.rhai\" tests=\"1\" failures=\"0\" time=\"0.002000\">\n\
             \x20   <testcase classname=\"a_test.rhai\" name=\"test_x\" file=\"a_test.rhai\" time=\"0.002000\"/>\n\
             \x20 </testsuite>\n\
             \x20 <testsuite name=\"t.yaml\" tests=\"1\" failures=\"1\" time=\"0.002000\">\n\
             \x20   <testcase classname=\"t.yaml\" name=\"a &lt; b &amp; \u{fffd}c\" file=\"t.yaml\" time=\"0.002000\">\n\
             \x20     <failure message=\"expected &quot;x&quot;\">t.yaml: error: expected &quot;x&quot;</failure>\n\
             \x20   </testcase>\n  </testsuite>\n</testsuites>\n"
        );
    }
}
