//! `proxies:`: blocks of addresses.

use super::Desk;
use crate::caller::cidr::Cidr;

impl Desk<'_> {
    /// Checks the proxies that are believed.
    pub(super) fn proxies(&mut self) {
        let proxies = self.reading.config.proxies.clone();
        for (at, complaint) in
            proxies.iter().enumerate().filter_map(|(at, text)| Some((at, text.parse::<Cidr>().err()?)))
        {
            self.error(&["proxies", &at.to_string()], complaint, None);
        }
    }
}
