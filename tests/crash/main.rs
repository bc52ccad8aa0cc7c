//! The program is killed, stopped, and run out of disk, under load: what was
//! acknowledged is delivered, byte for byte, and nothing else is.

// The harness is that of `tests/process`, which uses all of it.
#[allow(dead_code, unused_imports)]
#[path = "../process/harness/mod.rs"]
mod harness;

mod copies;
mod damage;
mod device;
mod disk;
mod full_disk;
mod hops;
mod host;
mod hostile;
mod kill;
mod ledger;
mod load;
mod orphan;
mod pause;
mod power;
mod secure_mailbox;
mod siege;
mod site;
