//! Checks of single request parameters, with the codes and nearly the words of OpenAI's own API.

use std::borrow::Cow;
use std::sync::Arc;

use crate::fault::Fault;
use crate::json;

/// Longest model name, in characters.
const MAX_MODEL: usize = 256;
/// Longest identifier of an end user, in characters.
const MAX_USER: usize = 1024;

/// A parameter as the client wrote it.
#[derive(Clone, Copy)]
pub(in crate::api) struct Param<'a> {
    /// Its path in the request.
    pub(in crate::api) name: &'static str,
    /// Its JSON text.
    pub(in crate::api) raw: &'a [u8],
    /// Number of its items, when it is an array or an object.
    pub(in crate::api) items: usize,
}

impl<'a> Param<'a> {
    /// A `true` or `false`; `None` for `null`.
    pub(in crate::api) fn boolean(self) -> Result<Option<bool>, Fault> {
        match self.raw {
            b"true" => Ok(Some(true)),
            b"false" => Ok(Some(false)),
            b"null" => Ok(None),
            _ => Err(self.wrong_type("a boolean")),
        }
    }

    /// A plain integer from `least` to `most`; `None` for `null`.
    pub(in crate::api) fn integer(self, least: u64, most: u64) -> Result<Option<u64>, Fault> {
        if self.raw == b"null" {
            return Ok(None);
        }
        let (negative, digits) = match self.raw {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(self.wrong_type("an integer"));
        }
        let digits = digits.iter().map(|digit| u64::from(digit - b'0'));
        let value = digits.fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(digit));
        let name = self.name;
        if (negative && value > 0) || value < least {
            let text = format!("invalid '{name}': integer below minimum value, expected a value >= {least}");
            return Err(fault(name, text, "integer_below_min_value"));
        }
        if value > most {
            let text = format!("invalid '{name}': integer above maximum value, expected a value <= {most}");
            return Err(fault(name, text, "integer_above_max_value"));
        }
        Ok(Some(value))
    }

    /// A string; `None` for `null`.
    pub(in crate::api) fn text(self) -> Result<Option<Cow<'a, str>>, Fault> {
        if self.raw == b"null" {
            return Ok(None);
        }
        let text = std::str::from_utf8(self.raw).ok().and_then(json::text);
        text.map(Some).ok_or_else(|| self.wrong_type("a string"))
    }

    /// The identifier of an end user; `None` for `null`.
    pub(in crate::api) fn user(self) -> Result<Option<Box<str>>, Fault> {
        let Some(user) = self.text()? else { return Ok(None) };
        if user.chars().count() > MAX_USER {
            return Err(self.too_long_text(MAX_USER));
        }
        Ok(Some(user.into()))
    }

    /// The model's name: not empty, and of visible characters, with plain spaces at most between them, so that it can
    /// stand in logs and headers.
    pub(in crate::api) fn model(self) -> Result<Arc<str>, Fault> {
        let Some(model) = self.text()? else { return Err(missing(self.name)) };
        model_name(&model)
    }

    /// Checks that it is an array of at most `most` items; false for `null`.
    pub(in crate::api) fn array(self, most: usize) -> Result<bool, Fault> {
        match self.raw.first() {
            Some(b'[') => {}
            Some(b'n') => return Ok(false),
            _ => return Err(self.wrong_type("an array")),
        }
        if self.items > most {
            let name = self.name;
            let text = format!(
                "invalid '{name}': array too long, expected at most {most} items, but got {}",
                self.items
            );
            return Err(fault(name, text, "array_above_max_length"));
        }
        Ok(true)
    }

    /// Checks that it is an array of 1 to `most` items.
    pub(in crate::api) fn filled_array(self, most: usize) -> Result<(), Fault> {
        if !self.array(most)? {
            return Err(self.wrong_type("an array"));
        }
        if self.items == 0 {
            let name = self.name;
            let text = format!("invalid '{name}': empty array, expected an array with minimum length 1");
            return Err(fault(name, text, "empty_array"));
        }
        Ok(())
    }

    /// An object as JSON text; `None` for `null`.
    pub(in crate::api) fn object(self) -> Result<Option<&'a str>, Fault> {
        match self.raw.first() {
            Some(b'{') => Ok(std::str::from_utf8(self.raw).ok()),
            Some(b'n') => Ok(None),
            _ => Err(self.wrong_type("an object")),
        }
    }

    /// The 400 for a value of another type than `expected`.
    pub(in crate::api) fn wrong_type(self, expected: &str) -> Fault {
        wrong_type(self.name, expected, kind(self.raw))
    }

    fn too_long_text(self, most: usize) -> Fault {
        let name = self.name;
        let text = format!("invalid '{name}': string too long, expected at most {most} characters");
        fault(name, text, "string_above_max_length")
    }
}

/// The 400 for a parameter that must be there.
pub(in crate::api) fn missing(name: impl Into<String>) -> Fault {
    let name = name.into();
    fault(name.clone(), format!("missing required parameter: '{name}'"), "missing_required_parameter")
}

/// The 400 for a value of type `got` where `expected` must stand.
pub(in crate::api) fn wrong_type(name: impl Into<String>, expected: &str, got: &str) -> Fault {
    let name = name.into();
    let text = format!("invalid type for '{name}': expected {expected}, but got {got} instead");
    fault(name, text, "invalid_type")
}

/// The 400 for a value that is none of those possible.
pub(in crate::api) fn invalid_value(name: impl Into<String>, expected: &str) -> Fault {
    let name = name.into();
    fault(name.clone(), format!("invalid value for '{name}': expected {expected}"), "invalid_value")
}

fn fault(
    param: impl Into<Cow<'static, str>>,
    text: impl Into<Cow<'static, str>>,
    code: &'static str,
) -> Fault {
    Fault::bad_request(text, param).code(code)
}

/// What a JSON text is, for a message.
fn kind(raw: &[u8]) -> &'static str {
    match raw.first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ if raw.iter().any(|b| matches!(b, b'.' | b'e' | b'E')) => "a decimal number",
        _ => "an integer",
    }
}

/// The name of a model, wherever a client wrote it.
pub(in crate::api) fn model_name(model: &str) -> Result<Arc<str>, Fault> {
    if model.is_empty() {
        let text = "invalid 'model': empty string, expected the name of a model";
        return Err(fault("model", text, "empty_string"));
    }
    if model.chars().nth(MAX_MODEL).is_some() {
        let text = format!("invalid 'model': string too long, expected at most {MAX_MODEL} characters");
        return Err(fault("model", text, "string_above_max_length"));
    }
    let bare = model.trim_matches(' ').len() == model.len();
    if !bare || model.chars().any(is_invisible) {
        let text = "invalid 'model': only visible characters may stand in the name of a model";
        return Err(fault("model", text, "invalid_value"));
    }
    Ok(Arc::from(model))
}

/// Characters that a reader of a log does not see, or that disturb what he sees.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
