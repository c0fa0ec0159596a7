//! Cohere's rerank as a client asks for it: the checked envelope of a request.
//!
//! <https://docs.cohere.com/reference/rerank>; clients of Jina's kind send the same, and Voyage's call `top_n` `top_k`.

mod door;

use std::sync::{Arc, OnceLock};

pub use door::CohereRerank;

use super::openai_chat::param::{Param, invalid_value, missing, wrong_type};
use super::sight::Asides;
use crate::facts;
use crate::fault::Fault;
use crate::json::{self, Body};
use crate::providers::RerankAsk;

/// Most documents of one request. <https://docs.cohere.com/docs/reranking-best-practices>
pub const MAX_DOCUMENTS: usize = 10_000;

/// A rerank request with a checked envelope.
pub struct Ask {
    rerank: RerankAsk,
    model: Arc<str>,
    query: Box<str>,
    user: Option<Box<str>>,
    text: OnceLock<String>,
}

impl Ask {
    /// Checks the envelope of a request.
    ///
    /// # Errors
    /// `BadRequest` with the parameter's name.
    pub fn read(body: Body) -> Result<Self, Fault> {
        let (mut model, mut query, mut documents, mut top_n) = (None, None, None, None);
        let (mut return_documents, mut user, mut top_k) = (None, None, None);
        for field in body.fields() {
            let param = |name| Param { name, raw: body.value(field), items: field.items };
            match &*field.key {
                "model" => model = Some(param("model").model()?),
                "query" => query = param("query").text()?,
                "documents" => documents = Some(documents_of(param("documents"))?),
                "top_n" => top_n = param("top_n").integer(1, u64::MAX)?,
                "top_k" => top_k = param("top_k").integer(1, u64::MAX)?,
                "return_documents" => return_documents = param("return_documents").boolean()?,
                "rank_fields" => fields(param("rank_fields"))?,
                "max_chunks_per_doc" => drop(param("max_chunks_per_doc").integer(1, u64::MAX)?),
                "max_tokens_per_doc" => drop(param("max_tokens_per_doc").integer(1, u64::MAX)?),
                "user" => user = param("user").user()?,
                _ => {}
            }
        }
        let query: Box<str> = query.ok_or_else(|| missing("query"))?.into();
        let (documents, plain) = documents.ok_or_else(|| missing("documents"))?;
        let rerank = RerankAsk {
            documents,
            plain,
            top_n: top_n.or(top_k).map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
            is_voyages: top_n.is_none() && (body.has("top_k") || body.has("truncation")),
            return_documents: return_documents.unwrap_or(false),
            body,
        };
        let model = model.ok_or_else(|| missing("model"))?;
        Ok(Self { rerank, model, query, user, text: OnceLock::new() })
    }
}

/// How many documents there are, and whether all of them are strings.
fn documents_of(documents: Param<'_>) -> Result<(usize, bool), Fault> {
    documents.filled_array(MAX_DOCUMENTS)?;
    let mut plain = true;
    for (at, raw) in json::elements(std::str::from_utf8(documents.raw).unwrap_or_default()).enumerate() {
        match raw.as_bytes().first() {
            Some(b'"') => {}
            Some(b'{') if raw != "{}" => plain = false,
            Some(b'{') => {
                return Err(invalid_value(format!("documents[{at}]"), "something to rank, but it is empty"));
            }
            _ => {
                let name = format!("documents[{at}]");
                return Err(wrong_type(name, "a string or an object with a text", "another type"));
            }
        }
    }
    Ok((documents.items, plain))
}

fn fields(fields: Param<'_>) -> Result<(), Fault> {
    if fields.array(MAX_DOCUMENTS)? {
        let raw = std::str::from_utf8(fields.raw).unwrap_or_default();
        if let Some(at) = json::elements(raw).position(|raw| !raw.starts_with('"')) {
            return Err(wrong_type(format!("rank_fields[{at}]"), "a string", "another type"));
        }
    }
    Ok(())
}

impl facts::Body for Ask {
    /// The query is read once with each document.
    fn tokens(&self) -> u64 {
        let documents = self.rerank.body.raw_bytes("documents").map_or(0, <[u8]>::len) as u64;
        let queries = (self.query.len() as u64).saturating_mul(self.rerank.documents as u64);
        documents.saturating_add(queries).div_ceil(4)
    }

    fn messages(&self) -> u64 {
        self.rerank.documents as u64
    }

    fn has_images(&self) -> bool {
        !self.rerank.plain
            && self.rerank.raw_documents().any(|raw| json::entries(raw).any(|(key, _)| key == "image"))
    }

    /// The documents, and the query behind them.
    fn text(&self) -> &str {
        self.text.get_or_init(|| {
            let mut text = String::new();
            for document in self.rerank.texts() {
                text.push_str(&document);
                text.push('\n');
            }
            text.push_str(&self.query);
            text
        })
    }

    /// Fields of documents that are not looked at to rank them, and that leave with them.
    fn asides(&self) -> Vec<facts::Aside> {
        let mut asides = Asides::default();
        for document in self.rerank.raw_documents().filter(|raw| raw.starts_with('{')) {
            for (key, value) in json::entries(document).filter(|(key, _)| key != "image") {
                asides.key(&key);
                asides.given(value);
            }
        }
        asides.into_vec()
    }

    fn last_user(&self) -> &str {
        &self.query
    }

    fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.rerank.body.raw(name)
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
    fn policies_see_the_query_and_the_documents() {
        let ask = ask(
            r#""model":"m","query":"who?","documents":["a",{"text":"b","title":"t"}],"top_n":1,"return_documents":true"#,
        )
        .unwrap();
        assert_eq!((ask.last_user(), ask.text(), ask.messages()), ("who?", "a\nb\nwho?", 2));
        assert_eq!((ask.rerank.top_n, ask.rerank.return_documents, ask.rerank.plain), (Some(1), true, false));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (fields, param) in [
            (r#""query":"q","documents":["a"]"#, "model"),
            (r#""model":"m","documents":["a"]"#, "query"),
            (r#""model":"m","query":"q""#, "documents"),
            (r#""model":"m","query":"q","documents":[]"#, "documents"),
            (r#""model":"m","query":"q","documents":"a""#, "documents"),
            (r#""model":"m","query":"q","documents":["a",1]"#, "documents[1]"),
            (r#""model":"m","query":"q","documents":[{}]"#, "documents[0]"),
            (r#""model":"m","query":7,"documents":["a"]"#, "query"),
            (r#""model":"m","query":"q","documents":["a"],"top_n":0"#, "top_n"),
            (r#""model":"m","query":"q","documents":["a"],"top_k":0"#, "top_k"),
            (r#""model":"m","query":"q","documents":["a"],"rank_fields":[1]"#, "rank_fields[0]"),
            (r#""model":"m","query":"q","documents":["a"],"return_documents":1"#, "return_documents"),
        ] {
            let fault = ask(fields).err().unwrap_or_else(|| panic!("{fields} passes"));
            assert_eq!(fault.param.as_deref(), Some(param), "{fields}: {fault}");
        }
    }
}
