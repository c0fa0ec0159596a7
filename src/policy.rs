//! Rhai policies: compiled at load, run in file-name order, facts in, decision out.
mod settings;
pub use settings::{OnError, PolicySettings};
/// stub
pub struct PolicySet {}
/// stub
pub struct Decided {
    /// stub
    pub decision: Result<crate::plan::Decision, crate::fault::Fault>,
    /// stub
    pub errors: Vec<RuntimeError>,
}
/// stub
pub struct RuntimeError {
    /// stub
    pub policy: std::sync::Arc<str>,
}
impl PolicySet {
    /// stub
    pub fn decide(&self, _: &std::sync::Arc<crate::facts::Facts>) -> Decided {
        todo!()
    }
}
