//! OpenAI's moderations as a client asks for them: the checked envelope of a request.
//!
//! <https://platform.openai.com/docs/api-reference/moderations>

mod door;

use std::sync::{Arc, LazyLock, OnceLock};

pub use door::OpenAiModerations;

use super::openai_chat::param::{Param, invalid_value, missing, wrong_type};
use crate::facts;
use crate::fault::Fault;
use crate::json::{self, Body};
use crate::planner::MODERATION;
use crate::providers::moderation;

/// Most inputs of one request.
pub const MAX_INPUTS: usize = 2_048;

/// A moderation request with a checked envelope.
pub struct Ask {
    body: Body,
    model: Arc<str>,
    results: usize,
    images: bool,
    user: Option<Box<str>>,
    text: OnceLock<String>,
}

impl Ask {
    /// Checks the envelope of a request.
    ///
    /// # Errors
    /// `BadRequest` with the parameter's name.
    pub fn read(body: Body) -> Result<Self, Fault> {
        static UNNAMED: LazyLock<Arc<str>> = LazyLock::new(|| MODERATION.into());
        let (mut model, mut images, mut user) = (None, None, None);
        for field in body.fields() {
            let param = |name| Param { name, raw: body.value(field), items: field.items };
            match &*field.key {
                "model" if body.has("model") => model = Some(param("model").model()?),
                "input" => images = Some(input(param("input"))?),
                "user" => user = param("user").user()?,
                _ => {}
            }
        }
        Ok(Self {
            images: images.ok_or_else(|| missing("input"))?,
            model: model.unwrap_or_else(|| UNNAMED.clone()),
            results: moderation::results(&body),
            user,
            text: OnceLock::new(),
            body,
        })
    }
}

/// A string, an array of strings, or an array of typed parts; whether there are pictures among them.
fn input(input: Param<'_>) -> Result<bool, Fault> {
    const EXPECTED: &str = "a string, an array of strings, or an array of typed parts";
    let raw = std::str::from_utf8(input.raw).unwrap_or_default();
    match raw.as_bytes().first() {
        Some(b'"') => return Ok(false),
        Some(b'[') => input.filled_array(MAX_INPUTS)?,
        _ => return Err(input.wrong_type(EXPECTED)),
    }
    let typed = json::elements(raw).next().is_some_and(|first| first.starts_with('{'));
    let mut images = false;
    for (at, element) in json::elements(raw).enumerate() {
        let name = || format!("input[{at}]");
        if !typed {
            if !element.starts_with('"') {
                return Err(wrong_type(name(), "a string", "another type"));
            }
            continue;
        }
        let of = |wanted: &str| json::entries(element).find(|(key, _)| key == wanted).map(|(_, raw)| raw);
        match of("type").and_then(json::text).as_deref() {
            Some("text") if of("text").is_some_and(|raw| raw.starts_with('"')) => {}
            Some("text") => return Err(missing(format!("{}.text", name()))),
            Some("image_url") if of("image_url").is_some_and(|raw| raw.starts_with('{')) => images = true,
            Some("image_url") => return Err(missing(format!("{}.image_url", name()))),
            _ => return Err(invalid_value(format!("{}.type", name()), "'text' or 'image_url'")),
        }
    }
    Ok(images)
}

impl facts::Body for Ask {
    fn tokens(&self) -> u64 {
        (self.text().len() as u64).div_ceil(4)
    }

    fn messages(&self) -> u64 {
        self.results as u64
    }

    fn has_images(&self) -> bool {
        self.images
    }

    fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let raw = self.body.raw("input").unwrap_or_default();
            if let Some(text) = json::text(raw) {
                return text.into_owned();
            }
            let texts: Vec<_> = json::elements(raw)
                .filter_map(|element| {
                    json::text(element).or_else(|| {
                        let (_, raw) = json::entries(element).find(|(key, _)| key == "text")?;
                        json::text(raw)
                    })
                })
                .collect();
            texts.join("\n")
        })
    }

    fn last_user(&self) -> &str {
        self.text()
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.body.raw(name)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::Ask;
    use crate::facts::Body as _;
    use crate::fault::Fault;
    use crate::json::Body;

    fn ask(fields: &str) -> Result<Ask, Fault> {
        Ask::read(Body::read(Bytes::from(format!("{{{fields}}}")))?)
    }

    #[test]
    fn every_form_of_input_is_read() {
        for (fields, model, results, images, text) in [
            (r#""input":"a""#, "moderation", 1, false, "a"),
            (r#""model":null,"input":["a","b"]"#, "moderation", 2, false, "a\nb"),
            (
                r#""model":"m","input":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"u"}}]"#,
                "m",
                1,
                true,
                "a",
            ),
        ] {
            let ask = ask(fields).unwrap();
            assert_eq!(
                (&*ask.model, ask.messages(), ask.has_images(), ask.text()),
                (model, results, images, text)
            );
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (fields, param) in [
            ("", "input"),
            (r#""input":7"#, "input"),
            (r#""input":null"#, "input"),
            (r#""input":[]"#, "input"),
            (r#""input":["a",1]"#, "input[1]"),
            (r#""input":["a",{"type":"text","text":"a"}]"#, "input[1]"),
            (r#""input":[{"type":"text"}]"#, "input[0].text"),
            (r#""input":[{"type":"image_url"}]"#, "input[0].image_url"),
            (r#""input":[{"type":"sound"}]"#, "input[0].type"),
            (r#""model":7,"input":"a""#, "model"),
        ] {
            let fault = ask(fields).err().unwrap_or_else(|| panic!("{fields} passes"));
            assert_eq!(fault.param.as_deref(), Some(param), "{fields}: {fault}");
        }
    }
}
