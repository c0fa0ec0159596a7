//! Money that adds up: what every model costs, and what every request did. Reservations, budgets and the durable rows of
//! requests will live here too.

mod book;
mod compact;
mod document;
mod hours;
mod litellm;
mod model;
mod names;
mod openrouter;
mod own;
mod price;
mod prices;
mod rate;
mod reserved;
mod settings;
mod shown;
mod tables;

pub use book::{Book, Known};
pub use compact::List;
pub use document::Document;
pub use model::{Abilities, Kind, Model};
pub use own::{Own, Owns};
pub use price::{OffPeak, Price, When};
pub use prices::{Change, Difference, Prices, told_price};
pub use rate::{Rate, Tier, Unit};
pub use settings::{
    AbovePrice, Day, ModelPrice, OffPeakPrice, PriceSettings, Rates, ReservedSettings, SourceSettings,
};
pub use shown::{facts, pricing};
pub use tables::TABLES;

#[cfg(test)]
mod tests;
