//! Words of other languages that people write in policies, and what this one has instead.

use rhai::{LexError, ParseError, ParseErrorType};

use super::error::place;

/// What is written elsewhere, and here.
const WORDS: [(&str, &str); 15] = [
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
];

/// What to write instead of what the error is about.
pub(super) fn advice(error: &ParseError, text: &str) -> Option<String> {
    match error.err_type() {
        ParseErrorType::BadInput(LexError::MalformedChar(quoted)) => {
            Some(format!("a text stands in double quotes: write \"{quoted}\""))
        }
        ParseErrorType::Reserved(word) | ParseErrorType::VariableUndefined(word) => instead(word),
        // Where a word is none of the language, the error is found at it or at the word behind it.
        ParseErrorType::MissingToken(..) => {
            let (line, column) = place(error.position());
            let line = text.lines().nth(usize::try_from(line.checked_sub(1)?).ok()?)?;
            let before: usize =
                line.chars().take(usize::try_from(column.checked_sub(1)?).ok()?).map(char::len_utf8).sum();
            let (before, behind) = line.split_at(before);
            let is_other = |c: char| !c.is_alphanumeric() && c != '_';
            let at = behind.split(is_other).next().unwrap_or_default();
            let last = before.trim_end().rsplit(is_other).next().unwrap_or_default();
            instead(at).or_else(|| instead(last))
        }
        _ => None,
    }
}

fn instead(word: &str) -> Option<String> {
    let (_, here) = WORDS.iter().find(|(there, _)| *there == word)?;
    Some(format!("there is no `{word}` in this language: write `{here}`"))
}
