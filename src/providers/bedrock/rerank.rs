//! Reranking by `InvokeModel`: Cohere's models, and Amazon's, which speak as Cohere's do.
//! <https://docs.aws.amazon.com/bedrock/latest/userguide/rerank-supported.html>

use bytes::Bytes;
use serde_json::Value;

use super::{Bedrock, request};
use crate::chat::Object;
use crate::fault::Fault;
use crate::providers::{Outgoing, Relayed, Rerank, RerankAsk, RerankQuirks, rerank};
use crate::target::TargetName;

impl Rerank for Bedrock {
    /// Cohere's request without the model, which the path names, and with the version that it is of.
    fn splice(&self, ask: &RerankAsk, target: &TargetName) -> Result<Outgoing, Fault> {
        let is_coheres = target.model.contains("cohere.");
        let mut drop = vec!["max_chunks_per_doc".to_owned()];
        if !is_coheres {
            drop.push("max_tokens_per_doc".to_owned());
        }
        let quirks = RerankQuirks { texts_only: true, drop, ..RerankQuirks::default() };
        let said = rerank::request(ask, target, &quirks)?;
        let mut body: Object = serde_json::from_slice(&said.body.concat()).unwrap_or_default();
        body.shift_remove("model");
        if is_coheres {
            body.insert("api_version".into(), 2.into());
        }
        let bytes = Value::Object(body).to_string().into();
        Ok(Outgoing { lost: said.lost, ..request::outgoing(&target.model, "invoke", false, bytes) })
    }

    fn whole(&self, ask: &RerankAsk, body: Bytes) -> Result<Relayed, Fault> {
        rerank::answer(ask, body, self.clock.unix_ms())
    }
}
