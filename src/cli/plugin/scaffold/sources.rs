//! The files that `tollgate plugin new` writes, as they stand in this repository.

/// A path in the new folder, and the text of the file.
pub(super) type Source = (&'static str, &'static str);

/// The contract.
pub(super) const WIT: &str = include_str!("../../../../wit/tollgate.wit");

macro_rules! sources {
    ($($name:ident in $folder:literal [$($path:literal)*];)*) => {
        $(
            #[doc = concat!("What stands in `", $folder, "`.")]
            pub(super) const $name: [Source; sources!(@count $($path)*)] =
                [$(($path, include_str!(concat!($folder, "/", $path)))),*];
        )*
    };
    (@count) => { 0 };
    (@count $first:literal $($rest:literal)*) => { 1 + sources!(@count $($rest)*) };
}

sources! {
    SDK in "../../../../plugins/sdk" [
        "Cargo.toml" "README.md"
        "src/abilities.rs" "src/bindings.rs" "src/export.rs" "src/host.rs" "src/lib.rs" "src/panics.rs" "src/slot.rs"
        "src/testing.rs" "src/testing/host.rs" "src/testing/stream.rs"
    ];
    RUST in "rust" ["Cargo.toml.txt" "README.md" "src/lib.rs.txt" "cases.yaml" "settings.yaml" "gitignore"];
    C in "c" ["classify.c" "words.c" "words.h" "test_words.c" "wit/world.wit" "README.md" "cases.yaml" "settings.yaml" "gitignore"];
    JS in "js" ["package.json" "plugin.js" "plugin.test.js" "wit/world.wit" "README.md" "cases.yaml" "settings.yaml" "gitignore"];
    PYTHON in "python" ["requirements.txt" "plugin.py" "words.py" "test_words.py" "wit/world.wit" "README.md" "cases.yaml" "settings.yaml" "gitignore"];
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_whole_sdk_goes_along() {
        let root = Path::new("plugins/sdk");
        let mut found = vec!["Cargo.toml".to_owned(), "README.md".to_owned()];
        for folder in ["src", "src/testing"] {
            let files = std::fs::read_dir(root.join(folder)).unwrap().flatten().map(|entry| entry.path());
            let files = files.filter(|path| path.is_file());
            found.extend(files.map(|path| path.strip_prefix(root).unwrap().to_string_lossy().into_owned()));
        }
        found.sort();
        let mut listed: Vec<_> = SDK.iter().map(|(path, _)| (*path).to_owned()).collect();
        listed.sort();
        assert_eq!(listed, found);
    }
}
