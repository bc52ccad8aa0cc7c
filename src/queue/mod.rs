//! The queue of one data core: what is to be done with the messages in its spool.
//!
//! In reading order:
//! - [`schedule`]: the machine that decides what goes where when;
//! - [`destination`]: a next hop, the mail that waits for it, its health;
//! - [`index`]: the messages, compactly, and their listing;
//! - [`rank`]: the order on the wire;
//! - [`hosts`]: which hosts are dead, whoever needs them, of all cores;
//! - [`ageing`]: how old mail is where the clock is set;
//! - [`retry`]: when to try again, when to give up;
//! - [`way`]: what needs the link of a site;
//! - [`permits`]: limits on connections, shared by the cores;
//! - [`sessions`]: limits on server sessions, shared by the cores;
//! - [`usage`]: how much is held for each customer, of all cores;
//! - [`notification`]: what the sender is told.
//!
//! The queue knows no addresses and no bodies: they are in the spool, at the location
//! that it keeps for each message. It knows no SMTP. It never resolves a name.

pub mod ageing;
pub mod destination;
mod handles;
pub mod hosts;
pub mod index;
pub mod notification;
mod pages;
pub mod permits;
pub mod rank;
pub mod retry;
pub mod schedule;
pub mod sessions;
pub mod usage;
pub mod way;

pub use destination::{Gate, Health, Policies, Policy};
pub use hosts::{HostMemory, Hosts};
pub use index::{
    DestinationId, Entry, HoldState, Index, MessageFacts, Recipients, ShareEntry, ShareState,
};
pub use permits::{CoreNumber, CoreSet, DestinationKey, Permits};
pub use retry::Retry;
pub use schedule::{
    ConnectionFailure, ConnectionId, FiledRecipient, Filing, Job, JobId, NewMessage, NewRecipient,
    Offer, Output, RecipientOutcome, Schedule, Selection, Settings, Take, VisitId,
};
pub use sessions::Sessions;
pub use spool_format::Told;
pub use usage::{Ledger, Usage};
