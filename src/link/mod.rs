//! How a site gets on line: when, for how long, at what cost.
//!
//! In reading order:
//! - [`calendar`]: the rows of the schedule on a real calendar, time zone and all;
//! - [`budget`]: what a link may cost, and what it has cost;
//! - [`work`]: what waits for a link, and when that is a reason to go up;
//! - [`controller`]: the machine of one link: down, dialling, up, draining, idle,
//!   hanging up;
//! - [`collecting`]: how the site asks for its mail meanwhile;
//! - [`outing`]: what is remembered of the times on line.
//!
//! A link is not a session and not a connection: it is what makes connections to the
//! world possible. These machines know no mail, no interface and no program: a driver
//! in the shell dials and hangs up, and tells what became of it.

pub mod budget;
pub mod calendar;
pub mod collecting;
pub mod controller;
pub mod outing;
#[cfg(test)]
mod simulation;
pub mod work;

/// A link, by its place in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u8);

/// Links at most. Each is a line that somebody pays for; eight would be a large site.
pub const LINKS_MAX: usize = 8;
