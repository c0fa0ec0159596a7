//! Words of other languages that people write in policies, and what this one has instead.

use rhai::{LexError, ParseError, ParseErrorType};

use super::error::place;

/// What is written elsewhere, and here.
const WORDS: [(&str, &str); 17] = [
    ("and", "&&"),
    ("or", "||"),
    ("not", "!"),
    ("elif", "else if"),
    ("elseif", "else if"),
    ("elsif", "else if"),
    ("null", "()"),
    ("nil", "()"),
    ("None", "()"),
    ("undefined", "()"),
    ("function", "fn"),
    ("def", "fn"),
    ("func", "fn"),
    ("var", "let"),
    ("local", "let"),
    ("match", "switch"),
    ("is", "=="),
];

/// Methods of other gateways and languages, and what is written here.
const METHODS: [(&str, &str); 12] = [
    ("fallback", ".then(…)"),
    ("fallbacks", ".then(…)"),
    ("or_else", ".then(…)"),
    ("sticky", ".sticky_by(…)"),
    ("header", ".headers[\"x-name\"]"),
    ("includes", ".contains(…)"),
    ("is_none", "== ()"),
    ("is_null", "== ()"),
    ("is_some", "!= ()"),
    ("unwrap_or", "?? …"),
    ("startsWith", ".starts_with(…)"),
    ("toLowerCase", ".to_lower()"),
];

/// What to write instead of a method that there is not.
pub(super) fn instead_of(name: &str, method: bool) -> Option<String> {
    let (_, here) = METHODS.iter().find(|(there, _)| method && *there == name)?;
    Some(format!(": write `{here}`"))
}

/// What to write instead of what the error is about.
pub(super) fn advice(error: &ParseError, text: &str) -> Option<String> {
    match error.err_type() {
        ParseErrorType::BadInput(LexError::MalformedChar(quoted)) => {
            Some(format!("a text stands in double quotes: write \"{quoted}\""))
        }
        ParseErrorType::BadInput(LexError::MalformedEscapeSequence(_)) => {
            Some("in a text, `\\` is written `\\\\`; or put the text in backquotes, as in req.matches(`\\d+`)".into())
        }
        ParseErrorType::BadInput(LexError::UnexpectedInput(text)) => strange(text.chars().next()?),
        ParseErrorType::UnknownOperator(operator) if operator == "?" => {
            Some("there is no `a ? b : c` in this language: write `if a { b } else { c }`".into())
        }
        ParseErrorType::ExprTooDeep => Some(
            "too much in one expression: each `else if`, `||` and `.` of a long chain is nested in the one before; write `x in [..]`, a `switch`, or several statements that `return`"
                .into(),
        ),
        ParseErrorType::ExprExpected(_) if behind(error, text)?.1.starts_with("default") => {
            Some("in a `switch`, all others are `_ => …`".into())
        }
        ParseErrorType::Reserved(word) | ParseErrorType::VariableUndefined(word) => instead(word),
        // Where a word is none of the language, the error is found at it or at the word behind it.
        ParseErrorType::MissingToken(..) => {
            let (before, behind) = behind(error, text)?;
            if behind.starts_with("=>") {
                return Some("a function without a name is written `|x| …`".into());
            }
            let is_other = |c: char| !c.is_alphanumeric() && c != '_';
            let at = behind.split(is_other).next().unwrap_or_default();
            let last = before.trim_end().rsplit(is_other).next().unwrap_or_default();
            instead(at).or_else(|| instead(last))
        }
        _ => None,
    }
}

/// The line of an error, before and behind its place.
fn behind<'t>(error: &ParseError, text: &'t str) -> Option<(&'t str, &'t str)> {
    let (line, column) = place(error.position());
    let line = text.lines().nth(usize::try_from(line.checked_sub(1)?).ok()?)?;
    let before: usize =
        line.chars().take(usize::try_from(column.checked_sub(1)?).ok()?).map(char::len_utf8).sum();
    Some(line.split_at(before))
}

/// What to write instead of a character that stands outside of texts.
fn strange(found: char) -> Option<String> {
    match found {
        '“' | '”' | '„' | '‘' | '’' | '‚' | '«' | '»' => {
            Some(format!("`{found}` is not the quotation mark of the language: write \"…\""))
        }
        _ if found.is_whitespace() => {
            Some(format!("this is not a plain space (U+{:04X}): write one in its place", u32::from(found)))
        }
        _ if found.is_alphabetic() => {
            Some(format!("`{found}` cannot stand in a name: letters from a to z, digits and `_` can"))
        }
        _ => None,
    }
}

fn instead(word: &str) -> Option<String> {
    let (_, here) = WORDS.iter().find(|(there, _)| *there == word)?;
    Some(format!("there is no `{word}` in this language: write `{here}`"))
}
