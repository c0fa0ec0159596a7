//! The door of `POST /v1/rerank`, `/v2/rerank` and `/rerank`: how a rerank request goes through the line.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;

use super::Ask;
use crate::executor::Carry;
use crate::facts::Endpoint;
use crate::fault::{Fault, FaultKind, Retry};
use crate::gateway::{Asked, Door, Head};
use crate::json;
use crate::providers::{Outgoing, Relayed, Rerank, StreamRelay, Target};

/// `POST /v1/rerank` and its other paths.
pub struct CohereRerank;

impl Door for CohereRerank {
    fn endpoint(&self) -> Endpoint {
        Endpoint::Rerank
    }

    fn read(&self, body: Bytes, _: Head<'_>) -> Result<Arc<dyn Asked>, Fault> {
        Ok(Arc::new(Ask::read(json::Body::read(body)?)?))
    }

    /// Cohere's flat errors, with a code and the place beside them.
    fn error_body(&self, fault: &Fault, request_id: &str) -> Vec<u8> {
        let body = json!({
            "id": request_id,
            "message": fault.message,
            "code": fault.code_str(),
            "param": fault.param,
        });
        serde_json::to_vec(&body).unwrap_or_default()
    }

    fn fault_event(&self, fault: &Fault, _: bool) -> Bytes {
        self.error_body(fault, "").into()
    }
}

impl Asked for Ask {
    fn json(&self) -> Option<&crate::json::Body> {
        Some(&self.rerank.body)
    }

    fn model(&self) -> &Arc<str> {
        &self.model
    }

    fn bytes(&self) -> usize {
        self.rerank.body.bytes().len()
    }
}

impl Carry for Ask {
    fn outgoing(&self, target: &Target) -> Result<Outgoing, Fault> {
        ability(target)?.splice(&self.rerank, &target.name)
    }

    fn whole(&self, target: &Target, body: Bytes) -> Result<Relayed, Fault> {
        ability(target)?.whole(&self.rerank, body)
    }

    fn wants_stream(&self) -> bool {
        false
    }

    fn stream(&self, _: &Target) -> Result<Box<dyn StreamRelay>, Fault> {
        Err(Fault::new(FaultKind::Internal, "rankings are never streamed"))
    }
}

fn ability(target: &Target) -> Result<&dyn Rerank, Fault> {
    target.wire().rerank().ok_or_else(|| {
        Fault::bad_request(
            "this provider reranks nothing; if it does, say so in its `quirks.rerank`",
            "model",
        )
        .retry(Retry::Elsewhere)
    })
}
