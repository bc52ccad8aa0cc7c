//! The shell: threads, sockets, files, clocks. It performs what the cores ask for.
//!
//! Reading order: [`serve`](mod@serve) (how everything starts), [`recall`](mod@recall) (what the logs
//! hold), [`data`] (a data core's thread),
//! [`net`] (its sockets, and the traps of its runtime), [`outgoing`] (sending from the
//! spool), `syncer` (its syncs), [`control`] (the control core's thread), [`storeroom`] (segment files), [`link`]
//! (what dials and hangs up), [`admin`] and [`web`] (the operator's two doors).
//!
//! `unsafe` in this directory lends monoio's descriptors to safe system calls, asks the
//! kernel how a connection stands, and the allocator for what it does not need; nothing
//! else.

pub mod admin;
pub mod bell;
pub mod certificates;
pub mod clock;
mod collecting;
pub mod control;
mod copies;
pub mod data;
pub mod dns;
mod doorway;
pub mod events;
pub mod hosts;
pub mod journal;
pub mod link;
pub mod log;
pub mod log_lines;
mod log_text;
pub mod mailbox;
pub mod mailboxes;
mod maildir;
pub mod net;
pub mod outgoing;
mod ports;
pub mod recall;
pub mod recipients;
pub mod reload;
pub mod remembered;
mod rights;
pub mod segments;
pub mod serve;
mod service_manager;
pub mod settings;
mod silence;
mod spool_directory;
pub mod spool_id;
pub mod storeroom;
mod syncer;
pub mod threads;
pub mod users;
pub mod wake;
pub mod web;

pub use control::Exit;
pub use serve::{ServeError, serve};
