//! Every key by the hash of its secret: never changed, only swapped.

use std::collections::HashMap;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::holder::{Holder, Key};
use super::secret::{Digest, Hasher, is_ours, is_well_formed, sha256};
use crate::limits::Limits;

/// The keys of one moment.
#[derive(Default)]
pub(super) struct Table {
    keyed: HashMap<Digest, Entry>,
    plain: HashMap<Digest, Entry>,
}

struct Entry {
    digest: Digest,
    until_ms: Option<u64>,
    holder: Arc<Holder>,
}

impl Table {
    /// Where two keys have the same secret, the first one counts.
    pub(super) fn of<'k>(keys: impl Iterator<Item = &'k Key>, limits: &Limits) -> Self {
        let mut table = Self::default();
        for key in keys {
            let holder = Arc::new(key.holder(limits));
            for shown in &key.secrets {
                let all = if shown.sha256 { &mut table.plain } else { &mut table.keyed };
                let (digest, until_ms) = (shown.digest, shown.until_ms);
                all.entry(digest).or_insert_with(|| Entry { digest, until_ms, holder: holder.clone() });
            }
        }
        table
    }

    /// Who holds this secret. Nothing of its text decides how long the answer takes: what is compared are hashes that
    /// nobody outside can foretell, and they are compared as a whole.
    pub(super) fn find(&self, secret: &str, hasher: &Hasher, now_ms: u64) -> Option<Arc<Holder>> {
        // What claims to be ours and is not spares us the rest.
        if is_ours(secret) && !is_well_formed(secret) {
            return None;
        }
        let look = |all: &HashMap<Digest, Entry>, digest: Digest| {
            let entry = all.get(&digest)?;
            let same = bool::from(entry.digest.ct_eq(&digest));
            let ended = entry.until_ms.is_some_and(|until| until <= now_ms);
            (same && !ended).then(|| entry.holder.clone())
        };
        look(&self.keyed, hasher.digest(secret))
            .or_else(|| if self.plain.is_empty() { None } else { look(&self.plain, sha256(secret)) })
    }
}
