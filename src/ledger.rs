//! Money that adds up: what every model costs, what every attempt did, and what may be spent.

mod book;
mod bound;
mod budget;
mod central;
mod compact;
mod desk;
mod document;
mod hours;
mod intents;
mod kept;
mod litellm;
mod model;
mod names;
mod openrouter;
mod outbox;
mod owed;
mod own;
mod price;
mod prices;
mod rate;
mod reserved;
mod retention;
mod row;
mod settings;
mod shipping;
mod shown;
mod tab;
mod tables;
pub mod usage;

pub use book::{Book, Known};
pub use bound::{Bound, Size, Work};
pub use budget::{
    Alert, AlertKind, Aliases, Budget, BudgetSettings, Budgets, Measure, Payer, PayerKey, Refusal, Standing,
    shown as shown_amount,
};
pub use central::Central;
pub use compact::List;
pub use desk::Desk;
pub use document::Document;
pub use kept::{kept, pushed};
pub use model::{Abilities, Kind, Model};
pub use outbox::{Outbox, OutboxStanding};
pub use owed::{First, Owed, book, booked_elsewhere, wait};
pub use own::{Own, Owns};
pub use price::{OffPeak, Price, When};
pub use prices::{Change, Difference, Prices, told_price};
pub use rate::{Rate, Tier, Unit};
pub use reserved::Reserved;
pub use row::State;
pub use settings::{
    AbovePrice, Day, ModelPrice, OffPeakPrice, PriceSettings, Rates, ReservedSettings, SourceSettings,
};
pub use shipping::ship;
pub use shown::{facts, pricing};
pub use tab::{AnyTier, Closing, Entry, Opening, Tab, is_free};
pub use tables::TABLES;

#[cfg(test)]
mod tests;
