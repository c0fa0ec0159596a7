//! `tollgate plugin new`: a plugin that builds anywhere, with its tests, its cases and the contract.

mod sources;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use sources::{C, JS, PYTHON, RUST, SDK, Source, WIT};

/// What to make.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct New {
    /// The language to write it in.
    #[arg(long, value_enum, default_value = "rust")]
    lang: Lang,
    /// The plugin's name: lowercase letters, digits and `-`.
    name: String,
    /// The folder to make; by default one of that name.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Lang {
    Rust,
    C,
    Js,
    Python,
}

impl New {
    /// Writes the files, and says what to do next.
    pub(super) fn run(self) -> Result<ExitCode, String> {
        check(&self.name)?;
        let dir = self.dir.clone().unwrap_or_else(|| PathBuf::from(&self.name));
        if dir.exists() {
            return Err(format!("{}: it exists already, and nothing in it is overwritten", dir.display()));
        }
        let (own, sdk): (&[Source], &[Source]) = match self.lang {
            Lang::Rust => (&RUST, &SDK),
            Lang::C => (&C, &[]),
            Lang::Js => (&JS, &[]),
            Lang::Python => (&PYTHON, &[]),
        };
        let folders = [("", own), ("tollgate-plugin/", sdk)];
        for (folder, sources) in folders {
            for (path, text) in sources {
                self.write(
                    &dir.join(format!("{folder}{}", real(path))),
                    &text.replace("plugin-name", &self.name),
                )?;
            }
        }
        let wit = match self.lang {
            Lang::Rust => "tollgate-plugin/wit/tollgate.wit",
            Lang::C | Lang::Js | Lang::Python => "wit/deps/tollgate-plugin/tollgate.wit",
        };
        self.write(&dir.join(wit), WIT)?;
        let shown = dir.display();
        println!("made {shown}; next:\n  tollgate plugin build {shown}\n  tollgate plugin test {shown}");
        Ok(ExitCode::SUCCESS)
    }

    fn write(&self, file: &std::path::Path, text: &str) -> Result<(), String> {
        let folder = file.parent().map_or(Ok(()), fs::create_dir_all);
        folder.and_then(|()| fs::write(file, text)).map_err(|error| format!("{}: {error}", file.display()))
    }
}

/// A name that is one for Cargo, npm, Python and the gateway alike.
fn check(name: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && name.len() <= 64 && name.chars().all(plain) && !name.ends_with('-') {
        return Ok(());
    }
    Err(format!(
        "`{name}` is not a name for a plugin: lowercase letters, digits and `-`, a letter first, at most 64"
    ))
}

/// The name of a file in the new folder: here some wear another, so that no tool takes them for this repository's own.
fn real(path: &str) -> String {
    match path.strip_suffix(".txt") {
        Some(path) if path != "requirements" => path.to_owned(),
        _ => path.replace("gitignore", ".gitignore"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_tool_would_refuse_are_refused_first() {
        for good in ["intent", "pii-guard", "a2"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "Intent", "2a", "-a", "a-", "a/b", "../a", "a_b", "ä"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_language_makes_what_its_readme_speaks_of() {
        for lang in [Lang::Rust, Lang::C, Lang::Js, Lang::Python] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("intent");
            New { lang, name: "intent".to_owned(), dir: Some(dir.clone()) }.run().unwrap();
            assert!(dir.join("cases.yaml").exists() && dir.join(".gitignore").exists(), "{lang:?}");
            assert!(
                !std::fs::read_to_string(dir.join("README.md")).unwrap().contains("plugin-name"),
                "{lang:?}"
            );
            let again = New { lang, name: "intent".to_owned(), dir: Some(dir) }.run().unwrap_err();
            assert!(again.contains("exists already"), "{again}");
        }
    }
}
