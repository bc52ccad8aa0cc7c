//! How many server sessions there are, in all and for each client (FEATURES R2).
//!
//! Shared by the data cores, since SO_REUSEPORT spreads the connections of one client
//! over all of them. Atomics only; no call waits.
//!
//! # The table of clients
//! A client is an IPv4 address, or the first 64 bits of an IPv6 address: a site has
//! 2^64 of those to itself. Its sessions are counted in two cells, one in each row, at
//! places chosen by two seeded hashes (a count-min sketch). Its number is taken to be
//! the smaller of the two, which is never less than the true number: a limit can be
//! reached too early but never passed.
//!
//! A client is refused wrongly only if both its cells hold the limit's worth of other
//! clients' sessions. With S sessions in rows of N cells a cell holds S/N on average,
//! and `limit` or more with a probability of at most S/(N·limit) (Markov), so both
//! with at most (S/(N·limit))². Rows have at least four cells for each session that
//! may exist, hence at most (1/(4·limit))²: 1 in 160,000 at the limit of 100. For
//! small limits that bound is weak but the truth is not: at limit 5 and full load a
//! cell has five others with a probability of 7·10⁻⁶ (Poisson, mean ¼), two have with
//! 5·10⁻¹¹. Nobody can aim at a client, since the seed is secret.
//!
//! What this module does not do: rates and bans are `policy`'s.

use std::hash::BuildHasher;
use std::net::IpAddr;

use crate::shared::{AtomicU32, Ordering};

/// Cells of a row for each session that may exist, see above.
const CELLS_PER_SESSION: usize = 4;
/// Smallest row.
const CELLS_MIN: usize = 256;
/// Largest row: 4 MiB. Above 262,144 sessions the bound above grows instead.
const CELLS_MAX: usize = 1 << 20;

/// Why a connection gets `421 4.7.0` (RFC 5321 §3.8) at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Refused {
    /// There are as many sessions as there may be.
    Total,
    /// This client has as many as it may have.
    Client,
}

/// A counted session. To be given back with [`Sessions::leave`].
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a session that does not leave counts for ever"]
pub struct Admitted {
    cells: [u32; 2],
}

/// The counters.
#[derive(Debug)]
pub struct Sessions {
    limit_total: AtomicU32,
    limit_client: AtomicU32,
    total: AtomicU32,
    rows: [Box<[AtomicU32]>; 2],
    hashers: [foldhash::quality::FixedState; 2],
}

impl Sessions {
    /// Counters for at most `total` sessions, of which `client` from one client. Rows
    /// are sized for `total` as it is now; a later reload keeps their size.
    #[must_use]
    pub fn new(total: u32, client: u32, seed: u64) -> Self {
        let cells = (total as usize)
            .saturating_mul(CELLS_PER_SESSION)
            .clamp(CELLS_MIN, CELLS_MAX)
            .next_power_of_two();
        let row = || (0..cells).map(|_| AtomicU32::new(0)).collect();
        Self {
            limit_total: AtomicU32::new(total),
            limit_client: AtomicU32::new(client),
            total: AtomicU32::new(0),
            rows: [row(), row()],
            hashers: [
                foldhash::quality::FixedState::with_seed(seed),
                foldhash::quality::FixedState::with_seed(!seed),
            ],
        }
    }

    /// New limits, after a reload. Sessions above them go on.
    pub fn set_limits(&self, total: u32, client: u32) {
        self.limit_total.store(total, Ordering::Relaxed);
        self.limit_client.store(client, Ordering::Relaxed);
    }

    /// Sessions now.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// Counts a session of the client at this address.
    ///
    /// # Errors
    /// If a limit is reached. Two connections of a client that race for its last
    /// place may both be refused; it comes again.
    pub fn admit(&self, client: IpAddr) -> Result<Admitted, Refused> {
        let limit = self.limit_total.load(Ordering::Relaxed);
        let more = |n: u32| (n < limit).then_some(n + 1);
        self.total
            .try_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| Refused::Total)?;
        let admitted = Admitted {
            cells: [self.cell(0, client), self.cell(1, client)],
        };
        let cells = self.cells(&admitted);
        for cell in cells {
            cell.fetch_add(1, Ordering::AcqRel);
        }
        // Counted only when both cells have this session: of two that race, the one that
        // comes to a cell last sees all of the other. What the additions gave could come
        // from before the other in one row, and in the other row for the other one. It is
        // read by adding nothing, since a plain load may give what is past.
        let count = cells.map(|cell| cell.fetch_add(0, Ordering::AcqRel));
        if count[0].min(count[1]) <= self.limit_client.load(Ordering::Relaxed) {
            Ok(admitted)
        } else {
            self.leave(admitted);
            Err(Refused::Client)
        }
    }

    /// The session is over.
    pub fn leave(&self, admitted: Admitted) {
        for cell in self.cells(&admitted) {
            let before = cell.fetch_sub(1, Ordering::Relaxed);
            assert!(before > 0, "a session left twice");
        }
        let before = self.total.fetch_sub(1, Ordering::Relaxed);
        assert!(before > 0, "a session left twice");
    }

    fn cell(&self, row: usize, client: IpAddr) -> u32 {
        let key = match client.to_canonical() {
            IpAddr::V4(v4) => (4, u64::from(v4.to_bits())),
            IpAddr::V6(v6) => (6, (v6.to_bits() >> 64) as u64),
        };
        let mask = self.rows[row].len() - 1;
        (self.hashers[row].hash_one(key) as usize & mask) as u32
    }

    fn cells(&self, admitted: &Admitted) -> [&AtomicU32; 2] {
        [
            &self.rows[0][admitted.cells[0] as usize],
            &self.rows[1][admitted.cells[1] as usize],
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn both_limits_are_kept_exactly() {
        let sessions = Sessions::new(5, 2, 1);
        let first = sessions.admit(ip("192.0.2.1")).unwrap();
        let _second = sessions.admit(ip("::ffff:192.0.2.1")).unwrap();
        assert_eq!(sessions.admit(ip("192.0.2.1")), Err(Refused::Client));
        assert_eq!(sessions.in_use(), 2);
        sessions.leave(first);
        let _third = sessions.admit(ip("192.0.2.1")).unwrap();
        // The same /64 is one client, the next is another.
        let _v6 = sessions.admit(ip("2001:db8::1")).unwrap();
        let _v6 = sessions.admit(ip("2001:db8::2")).unwrap();
        assert_eq!(sessions.admit(ip("2001:db8::3")), Err(Refused::Client));
        let _next = sessions.admit(ip("2001:db8:0:1::1")).unwrap();
        assert_eq!(sessions.admit(ip("198.51.100.1")), Err(Refused::Total));
        sessions.set_limits(6, 2);
        assert!(sessions.admit(ip("198.51.100.1")).is_ok());
    }

    /// The bound of the module's head, tried out: a full house of clients at 1 session
    /// each does not take a place from a client that has none.
    #[test]
    fn a_full_house_of_others_refuses_nobody() {
        let sessions = Sessions::new(20_000, 5, 3);
        for i in 0..19_999u32 {
            let client = IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0A00_0000 + i));
            assert!(sessions.admit(client).is_ok(), "{client}");
        }
        assert!(sessions.admit(ip("192.0.2.1")).is_ok());
        assert_eq!(sessions.admit(ip("192.0.2.1")), Err(Refused::Total));
    }

    #[test]
    fn threads_leave_nothing_behind() {
        let sessions = Sessions::new(8, 3, 1);
        std::thread::scope(|scope| {
            for i in 0..4u8 {
                let sessions = &sessions;
                scope.spawn(move || {
                    for _ in 0..2000 {
                        if let Ok(admitted) = sessions.admit(IpAddr::from([192, 0, 2, i % 2])) {
                            assert!(sessions.in_use() <= 8);
                            sessions.leave(admitted);
                        }
                    }
                });
            }
        });
        assert_eq!(sessions.in_use(), 0);
        for row in &sessions.rows {
            assert!(row.iter().all(|cell| cell.load(Ordering::Relaxed) == 0));
        }
    }
}
