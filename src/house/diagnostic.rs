//! What is wrong in a file and where: printed with the line in question and a caret below it.

use std::fmt;
use std::io::{IsTerminal, Write};
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A piece of one line. Lines and columns count from 1, columns and lengths in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column of the first character, from 1.
    pub column: usize,
    /// Characters; at least 1 is shown.
    pub length: usize,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken, but probably does not say what was meant.
    Warning,
}

/// One finding in one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file as the user named it.
    pub file: String,
    /// Where in the file; `None` where the file as a whole is meant.
    pub place: Option<Place>,
    /// Lowercase, without a full stop, without a secret.
    pub message: String,
    /// What to do now.
    pub help: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// The line in question, with pasted secrets masked.
    pub excerpt: Option<String>,
}

/// Findings in the order of their places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diagnostics(pub Vec<Diagnostic>);

impl Diagnostic {
    /// An error about a file as a whole.
    pub fn error(file: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            place: None,
            message: message.into(),
            help: None,
            severity: Severity::Error,
            excerpt: None,
        }
    }

    /// Puts the finding at a place in `text`, the whole content of the file.
    pub fn at(mut self, place: Place, text: &str) -> Self {
        self.excerpt = text.lines().nth(place.line.saturating_sub(1)).map(mask_secrets);
        self.place = Some(place);
        self
    }

    /// Adds what to do now.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Makes it a warning.
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// `file:line:column: error: message`, on one line.
    pub fn headline(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        match self.place {
            Some(at) => format!("{}:{}:{}: {severity}: {}", self.file, at.line, at.column, self.message),
            None => format!("{}: {severity}: {}", self.file, self.message),
        }
    }

    fn render(&self, color: bool) -> String {
        let headline = self.headline();
        let mut text = match (color, self.severity) {
            (false, _) => headline,
            (true, Severity::Error) => format!("\x1b[1;31m{headline}\x1b[0m"),
            (true, Severity::Warning) => format!("\x1b[1;33m{headline}\x1b[0m"),
        };
        let (Some(place), Some(excerpt)) = (self.place, &self.excerpt) else {
            if let Some(help) = &self.help {
                text.push_str("\n  = help: ");
                text.push_str(help);
            }
            return text;
        };
        let level = if self.severity == Severity::Error { Level::ERROR } else { Level::WARNING };
        let annotation = AnnotationKind::Primary.span(bytes_of(excerpt, place));
        let mut group = Group::with_level(level)
            .element(Snippet::source(excerpt.as_str()).line_start(place.line).annotation(annotation));
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        text.push('\n');
        text.push_str(&renderer.render(&[group]));
        text
    }
}

impl Diagnostics {
    /// Whether one of the findings is an error.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// All findings as text, each beginning with `file:line:column: `, for a terminal with colours or without.
    pub fn render(&self, color: bool) -> String {
        self.0.iter().map(|finding| finding.render(color) + "\n").collect()
    }

    /// Prints to standard error; in colours when that is a terminal and `NO_COLOR` is not set.
    pub fn print(&self) {
        let color =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        // Nobody is left to tell when standard error is closed.
        let _ = std::io::stderr().write_all(self.render(color).as_bytes());
    }

    /// These, ordered by file and place.
    pub fn in_order(findings: Vec<Diagnostic>) -> Self {
        let mut all = Self(findings);
        all.sort();
        all
    }

    /// Orders by file and place.
    pub(super) fn sort(&mut self) {
        self.0.sort_by(|a, b| (&a.file, a.place, a.severity).cmp(&(&b.file, b.place, b.severity)));
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl From<Diagnostic> for Diagnostics {
    fn from(finding: Diagnostic) -> Self {
        Self(vec![finding])
    }
}

/// The bytes of a line that a place covers; at least one character, or the line's end.
fn bytes_of(line: &str, place: Place) -> Range<usize> {
    let byte = |column: usize| line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
    let start = place.column.saturating_sub(1);
    byte(start)..byte(start.saturating_add(place.length.max(1)))
}

/// Replaces the characters of `place` by asterisks, so that columns stay where they are.
pub(super) fn mask(line: &str, place: Place) -> String {
    let range = bytes_of(line, place);
    let (Some(before), Some(inside), Some(after)) =
        (line.get(..range.start), line.get(range.clone()), line.get(range.end..))
    else {
        return line.to_owned();
    };
    format!("{before}{}{after}", "*".repeat(inside.chars().count()))
}

/// Masks what looks like a secret that was pasted in: keys with the known beginnings of providers, and passwords in
/// addresses.
pub(super) fn mask_secrets(line: &str) -> String {
    let mut line = mask_keys(line);
    mask_logins(&mut line);
    mask_passwords(&mut line);
    line
}

/// `://user:password@`.
fn mask_logins(line: &mut String) {
    let mut from = 0;
    while let Some(found) = line.get(from..).and_then(|rest| rest.find("://")) {
        let start = from + found + 3;
        let length = line[start..].find(|c: char| c.is_whitespace() || "\"'`".contains(c));
        let end = length.map_or(line.len(), |length| start + length);
        let address = &line[start..end];
        // A password that was not escaped may have anything in it, so the last `@` ends it.
        if let (Some(colon), Some(at)) = (address.find(':'), address.rfind('@'))
            && colon < at
        {
            blot(line, start + colon + 1..start + at);
        }
        from = start;
    }
}

/// `password=…`, in an address or a list of settings.
fn mask_passwords(line: &mut String) {
    const WORD: &str = "password=";
    let mut from = 0;
    while let Some(found) = line.get(from..).and_then(|rest| rest.to_ascii_lowercase().find(WORD)) {
        let start = from + found + WORD.len();
        let end = line[start..].find(|c: char| c.is_whitespace() || "&\"'`".contains(c));
        let end = end.map_or(line.len(), |length| start + length);
        blot(line, start..end);
        from = start;
    }
}

fn blot(line: &mut String, range: Range<usize>) {
    let stars = "*".repeat(line.get(range.clone()).map_or(0, |inside| inside.chars().count()));
    line.replace_range(range, &stars);
}

fn mask_keys(line: &str) -> String {
    const BEGINNINGS: [&str; 11] =
        ["sk-", "sk_", "gsk_", "xai-", "AIza", "hf_", "nvapi-", "pplx-", "ghp_", "github_pat_", "Bearer "];
    let mut line = line.to_owned();
    for beginning in BEGINNINGS {
        let mut from = 0;
        while let Some(found) = line.get(from..).and_then(|rest| rest.find(beginning)) {
            let start = from + found + beginning.len();
            let part_of_word = line[..from + found].ends_with(|c: char| c.is_alphanumeric());
            let rest = &line[start..];
            let end =
                rest.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(rest.len());
            if !part_of_word && end >= 8 {
                line.replace_range(start..start + end, &"*".repeat(end));
            }
            from = start;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_greppable_and_shows_its_line() {
        let text = "a: 1\nlimits: { bödy: 12 parsecs }\n";
        let place = Place { line: 2, column: 17, length: 10 };
        let finding = Diagnostic::error("tollgate.yaml", "`12 parsecs` is not a size")
            .at(place, text)
            .help("try 20MiB");
        assert_eq!(
            Diagnostics(vec![finding]).to_string(),
            "tollgate.yaml:2:17: error: `12 parsecs` is not a size\n  |\n2 | limits: { bödy: 12 parsecs }\n  |                 ^^^^^^^^^^\n  |\n  = help: try 20MiB\n"
        );
    }

    #[test]
    fn pasted_keys_are_masked_and_columns_stay() {
        for (line, masked) in [
            ("keys: [sk-abcdef123456, x]", "keys: [sk-************, x]"),
            ("risk-assessment-team: desk-organiser-1", "risk-assessment-team: desk-organiser-1"),
            ("auth: Bearer abcdefgh.ijkl", "auth: Bearer *************"),
            ("model: sk-1", "model: sk-1"),
            ("ledger: \"postgres://a:hunter2@h/d\"", "ledger: \"postgres://a:*******@h/d\""),
            ("ledger: postgres://a:hü/n@t#2@h1:5432,h2/d", "ledger: postgres://a:********@h1:5432,h2/d"),
            ("{ url: 'redis://:hunter2@h:1' }", "{ url: 'redis://:*******@h:1' }"),
            ("postgres://a@h/d?password=hunter2&x=y", "postgres://a@h/d?password=*******&x=y"),
            ("url: \"redis://h:1?Password=hunter2\"", "url: \"redis://h:1?Password=*******\""),
            ("url: redis://h:6379/1, to: a@b", "url: redis://h:6379/1, to: a@b"),
            ("base_url: https://api.example.com:8443/v1", "base_url: https://api.example.com:8443/v1"),
        ] {
            assert_eq!(mask_secrets(line), masked);
        }
    }

    #[test]
    fn places_beyond_the_line_do_no_harm() {
        for (column, length) in [(0, 0), (1, 99), (99, 1), (4, usize::MAX)] {
            let place = Place { line: 1, column, length };
            let finding = Diagnostic::error("f", "m").at(place, "äöü");
            assert!(finding.render(true).contains("äöü"));
            let _ = mask("äöü", place);
        }
    }
}
