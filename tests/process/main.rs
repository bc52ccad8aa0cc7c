//! The real program, as a process, between real sockets.

// `tests/crash` stands on it too, and uses more of it.
#[allow(dead_code)]
mod harness;

mod auth;
mod bad_hosts;
mod callahead;
mod customers;
mod demo;
mod exchangers;
mod far_site;
mod fixture;
mod held;
mod identity;
mod idle;
mod job;
mod left_open;
mod limits;
mod link;
mod lmtp;
mod logs;
mod mailbox;
mod maildir;
mod network_manager;
mod next_hop;
mod notification;
mod one_by_one;
mod page;
mod pppd;
mod queue_tools;
mod reading;
mod real_clients;
mod recipients;
mod relaying;
mod release;
mod sendmail;
mod service;
mod silence;
mod site;
mod smtp_sink;
mod spool_in_use;
mod stop;
mod tls;
mod turn;
mod unfit;
mod urgency;
mod wakeup;
mod web;
mod windows;
