//! Where in a plugin a call ended: the names of the functions that were running, as its file has them.

use wasmtime::WasmBacktrace;

/// Functions that are named at most, the innermost first.
const MOST: usize = 6;
/// Bytes of one name.
const LONGEST: usize = 100;
/// Rust's own crates: a panic goes through ten of their functions, which say nothing of the plugin.
const OF_RUST: [&str; 5] = ["core", "std", "alloc", "__rustc", "compiler_builtins"];

/// `in scan::inner, called by scan::outer`; nothing where the file has no names.
pub(super) fn place(error: &wasmtime::Error) -> Option<String> {
    let trace = error.downcast_ref::<WasmBacktrace>()?;
    told(trace.frames().iter().filter_map(|frame| frame.func_name()))
}

fn told<'a>(running: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<String> = running.map(readable).filter(|name| is_own(name)).collect();
    let mut told = String::new();
    for (at, name) in names.iter().take(MOST).enumerate() {
        told.push_str(match at {
            0 => "in ",
            1 => ", called by ",
            _ => ", ",
        });
        told.push_str(name.get(..name.floor_char_boundary(LONGEST)).unwrap_or_default());
    }
    if names.len() > MOST {
        told.push_str(", …");
    }
    (!told.is_empty()).then_some(told)
}

fn is_own(name: &str) -> bool {
    let root = name.split("::").next().unwrap_or_default().trim_start_matches(['<', '_', '&']);
    let of_rust = OF_RUST.iter().any(|known| root == known.trim_start_matches('_'));
    // What could not be read, and names a crate of Rust's.
    let unread =
        name.starts_with("_R") && ["4core", "3std", "5alloc"].iter().any(|known| name.contains(known));
    !of_rust && !unread && !name.starts_with("tollgate_plugin::panics") && !name.starts_with("rust_")
}

/// A name as its author wrote it, where it is one of Rust's; else as it stands in the file.
fn readable(name: &str) -> String {
    let path = match name.strip_prefix("_ZN") {
        Some(rest) => legacy(rest),
        None => name.strip_prefix("_R").and_then(|rest| Mangled(rest).path()),
    };
    path.map_or_else(|| name.to_owned(), |path| path.join("::"))
}

/// Names of Rust until it changed them: lengths and words, and a hash behind them.
fn legacy(mut rest: &str) -> Option<Vec<String>> {
    let mut path = Vec::new();
    while !rest.starts_with('E') {
        let (word, after) = counted(rest)?;
        path.push(plain(word));
        rest = after;
    }
    let hashed = |word: &String| word.len() == 17 && word.starts_with('h');
    if path.last().is_some_and(hashed) {
        path.pop();
    }
    (!path.is_empty()).then_some(path)
}

/// A word behind its length.
fn counted(text: &str) -> Option<(&str, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (length, rest) = text.split_at_checked(digits)?;
    rest.split_at_checked(length.parse().ok()?)
}

/// Signs are written as words there.
fn plain(word: &str) -> String {
    let word = if word.starts_with("_$") { word.get(1..).unwrap_or_default() } else { word };
    let signs = [
        ("..", "::"),
        ("$LT$", "<"),
        ("$GT$", ">"),
        ("$RF$", "&"),
        ("$BP$", "*"),
        ("$C$", ","),
        ("$u7b$", "{"),
        ("$u7d$", "}"),
        ("$u20$", " "),
        ("$u5b$", "["),
        ("$u5d$", "]"),
    ];
    signs.iter().fold(word.to_owned(), |word, (written, sign)| word.replace(written, sign))
}

/// Names of Rust as they are now, as far as they are plain paths (RFC 2603).
struct Mangled<'a>(&'a str);

impl Mangled<'_> {
    fn path(&mut self) -> Option<Vec<String>> {
        match self.take()? {
            'C' => {
                self.skip_number();
                Some(vec![self.word()?])
            }
            'N' => {
                let kind = self.take()?;
                let mut path = self.path()?;
                self.skip_number();
                let word = self.word()?;
                path.push(if kind == 'C' { "{closure}".to_owned() } else { word });
                Some(path)
            }
            // What it is generic over is left out.
            'I' => self.path(),
            _ => None,
        }
    }

    fn take(&mut self) -> Option<char> {
        let mut chars = self.0.chars();
        let first = chars.next();
        self.0 = chars.as_str();
        first
    }

    /// What tells things of one name apart.
    fn skip_number(&mut self) {
        if let Some((_, rest)) = self.0.strip_prefix('s').and_then(|rest| rest.split_once('_')) {
            self.0 = rest;
        }
    }

    fn word(&mut self) -> Option<String> {
        let text = self.0.strip_prefix('u').unwrap_or(self.0);
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (length, rest) = text.split_at_checked(digits)?;
        let rest = rest.strip_prefix('_').unwrap_or(rest);
        let (word, rest) = rest.split_at_checked(length.parse().ok()?)?;
        self.0 = rest;
        Some(word.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_they_were_written() {
        for (name, expected) in [
            ("_ZN9pii_guard4scan5inner17h93e804f23d8b49e3E", "pii_guard::scan::inner"),
            (
                "_ZN15tollgate_plugin6panics13report_panics28_$u7b$$u7b$closure$u7d$$u7d$17h93e804f23d8b49e3E",
                "tollgate_plugin::panics::report_panics::{{closure}}",
            ),
            ("_RNvNtCsgXGp5Oqx2Ny_4core9panicking5panic", "core::panicking::panic"),
            ("_RINvNtCsgXGp5Oqx2Ny_4core9panicking13assert_failedyyEB4_", "core::panicking::assert_failed"),
            (
                "_RNCNvNtCsebHcaeoSrxy_3std9panicking13panic_handler0B5_",
                "std::panicking::panic_handler::{closure}",
            ),
            ("tollgate:plugin/observe@0.1.0#complete", "tollgate:plugin/observe@0.1.0#complete"),
            ("_ZN99short", "_ZN99short"),
            ("_RNv", "_RNv"),
            ("über", "über"),
        ] {
            assert_eq!(readable(name), expected);
        }
    }

    #[test]
    fn what_is_rusts_own_is_left_out() {
        let running = [
            "rust_begin_unwind",
            "_RNvNtCsgXGp5Oqx2Ny_4core9panicking9panic_fmt",
            "_RNvXs_NvNtCsebHcaeoSrxy_3std9panicking13panic_handlerNtB5_3fmt",
            "_ZN4core6option13unwrap_failed17h93e804f23d8b49e3E",
            "_ZN6intent7deepest17h93e804f23d8b49e3E",
            "classify",
        ];
        assert_eq!(told(running.into_iter()).unwrap(), "in intent::deepest, called by classify");
        assert_eq!(told(running.into_iter().take(3)), None);
        let many = told(["a"; 9].into_iter()).unwrap();
        assert_eq!(many, "in a, called by a, a, a, a, a, …");
    }
}
