//! Who finds what each provider keeps.

use std::sync::Arc;

use crate::house::check::Checked;
use crate::store::Sharing;

/// By the provider's name.
pub(super) fn sharing(checked: &Checked) -> Vec<(Arc<str>, Sharing)> {
    let own = |name: &str| checked.config.providers.get(name).and_then(|provider| provider.items);
    checked.providers.keys().map(|name| (name.clone(), own(name).unwrap_or_default())).collect()
}
