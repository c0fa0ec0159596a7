//! The reference section of `docs/policies.md`.

use super::{Entry, Hooks, KINDS, vocabulary};

/// The reference section of the manual.
pub fn reference() -> String {
    let mut out = String::new();
    let alone: Vec<&Entry> = vocabulary().iter().filter(|entry| entry.on.is_none()).collect();
    section(&mut out, "Functions", &alone);
    for kind in KINDS.iter() {
        let words: Vec<&Entry> = super::of(kind).collect();
        section(&mut out, kind.title, &words);
    }
    out
}

fn section(out: &mut String, title: &str, words: &[&Entry]) {
    if words.is_empty() {
        return;
    }
    out.push_str(&format!("### {title}\n\n| Written | Meaning |\n|---|---|\n"));
    for entry in words {
        out.push_str(&format!("| `{}` | {} |\n", escaped(entry.row.signature), escaped(&meaning(entry))));
    }
    out.push('\n');
}

/// What a word means, where it works, and what is still to come.
pub(super) fn meaning(entry: &Entry) -> String {
    let mut text = entry.row.doc.to_owned();
    if entry.row.hooks != Hooks::ALL {
        let hooks: Vec<_> = entry.row.hooks.names().iter().map(|hook| format!("`{hook}`")).collect();
        text.push_str(&format!(" Only in {}.", hooks.join(", ")));
    }
    if let Some(later) = entry.row.later {
        text.push_str(&format!(" *Not yet: {later}.*"));
    }
    text
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `TOLLGATE_REWRITE=1` writes the section anew.
    #[test]
    fn the_manual_has_every_word() {
        const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/policies.md");
        const BEGIN: &str =
            "<!-- reference: written by a test from the table in src/policy/vocabulary.rs -->\n\n";
        const END: &str = "<!-- end of reference -->";
        let manual = std::fs::read_to_string(PATH).unwrap();
        let (before, rest) = manual.split_once(BEGIN).expect("the reference's beginning is marked");
        let (section, after) = rest.split_once(END).expect("the reference's end is marked");
        if section == reference() {
            return;
        }
        assert!(
            std::env::var_os("TOLLGATE_REWRITE").is_some(),
            "docs/policies.md is behind the vocabulary: run this test with TOLLGATE_REWRITE=1"
        );
        std::fs::write(PATH, format!("{before}{BEGIN}{}{END}{after}", reference())).unwrap();
    }
}
