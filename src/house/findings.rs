//! Gathers the findings of one file, and keeps pasted secrets out of the lines that are shown.

use super::diagnostic::{Diagnostic, Diagnostics, Place, Severity, mask, mask_secrets};

/// The findings of one file so far.
#[derive(Debug)]
pub(super) struct Findings {
    file: String,
    text: String,
    found: Vec<Diagnostic>,
    masked: Vec<Place>,
}

impl Findings {
    /// No findings yet in `file`, whose content is `text`.
    pub(super) fn new(file: &str, text: &str) -> Self {
        Self { file: file.into(), text: text.into(), found: Vec::new(), masked: Vec::new() }
    }

    /// Adds an error.
    pub(super) fn error(&mut self, place: Place, message: impl Into<String>, help: Option<String>) {
        let finding = Diagnostic { place: Some(place), help, ..Diagnostic::error(&*self.file, message) };
        self.found.push(finding);
    }

    /// What to do about the last of them.
    pub(super) fn advise(&mut self, help: &str) {
        if let Some(last) = self.found.last_mut() {
            last.help = Some(help.into());
        }
    }

    /// Adds a warning.
    pub(super) fn warning(&mut self, place: Place, message: impl Into<String>, help: Option<String>) {
        let finding = Diagnostic { place: Some(place), help, ..Diagnostic::error(&*self.file, message) };
        self.found.push(finding.warning());
    }

    /// Keeps what stands at `place` out of every excerpt: it may be a secret.
    pub(super) fn mask(&mut self, place: Place) {
        self.masked.push(place);
    }

    /// Whether nothing is wrong so far; warnings do not count.
    pub(super) fn is_clean(&self) -> bool {
        !self.found.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    /// A finding in this file with its line, without the secrets that were pasted there.
    pub(super) fn shown(&self, mut finding: Diagnostic) -> Diagnostic {
        finding.message = mask_secrets(&finding.message);
        if let Some(place) = finding.place {
            let line = self.text.lines().nth(place.line.saturating_sub(1)).unwrap_or_default();
            let hidden = self.masked.iter().filter(|secret| secret.line == place.line);
            let line = hidden.fold(line.to_owned(), |line, secret| mask(&line, *secret));
            finding.excerpt = Some(mask_secrets(&line));
        }
        finding
    }

    /// All findings in order, with their lines.
    pub(super) fn finish(mut self) -> Diagnostics {
        let found = std::mem::take(&mut self.found);
        let mut all = Diagnostics(found.into_iter().map(|finding| self.shown(finding)).collect());
        all.sort();
        all
    }
}
