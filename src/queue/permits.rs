//! Permits for outgoing connections, shared by the data cores (FEATURES D5).
//!
//! A permit is taken before a connection is opened: one of the total, and one of the
//! destination. All state is in single 64-bit words that change by compare-and-swap;
//! there is no lock, and nobody waits inside a call.
//!
//! # No lost wake-up
//! A word holds the number of permits that are out *and* the cores that were refused:
//!
//! ```text
//!  63      40 39           12 11       0
//! +----------+---------------+----------+
//! |   tag    |    waiting    |   count  |
//! +----------+---------------+----------+
//! ```
//!
//! Refusing and registering are one compare-and-swap that saw the count at its limit,
//! so that the release which frees a place comes later in the order of that word, and
//! finds the registration. A release takes the waiting set in the same step and hands
//! it to its caller, who sends each of them a notice.
//!
//! # Destinations
//! A destination is known by a hash of 64 bits. Its low bits choose a window of
//! sixteen words, the upper 24 are the tag. The word of a destination is
//! claimed when its first connection opens and is zero again when the last is gone
//! and nobody waits. Two cores can claim different words of the window for the same
//! destination at the same time (if a third word becomes free between their looks),
//! so a grant counts only after the *sum* over the window was looked at: each core
//! adds before it sums, so the later of the two sees both. Who finds the sum too large
//! takes his part back, registers, and sums again; a release that came before the
//! second sum shows in it, a release that comes after it finds the registration.
//!
//! Two destinations share a limit if tag and window agree. With c connections in a
//! table of n words that happens to a new destination with a probability of about
//! `c / n * 16 / 2^24`, one in four million at a quarter full: such a pair
//! gets fewer connections than allowed, never more.
//!
//! What this module does not do: it sends no notices, and it does not decide who of
//! those that wait is served first (`schedule` takes turns).

use std::hash::{BuildHasher, Hash};

use crate::shared::{AtomicU16, AtomicU64, Ordering};

/// Bits of the count: most permits that one word can give out.
const COUNT_BITS: u32 = 12;
/// Bits of the waiting set. With more data cores, cores share a bit and are sometimes
/// woken in vain.
const WAITING_BITS: u32 = 28;
const TAG_SHIFT: u32 = COUNT_BITS + WAITING_BITS;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
const WAITING_MASK: u64 = ((1 << WAITING_BITS) - 1) << COUNT_BITS;
const TAG_MASK: u64 = !(WAITING_MASK | COUNT_MASK);

/// Highest limit, of the total and of a destination. RFC 5321 has no figure; more
/// connections than this to the outside are a misconfiguration.
pub const CONNECTIONS_MAX: u16 = COUNT_MASK as u16;

/// Words that are looked at for one destination. At a quarter full a window of
/// sixteen is full once in 2^32.
const WINDOW_SLOTS: usize = 16;
/// Words for each connection that may be open: the table stays a quarter full.
const SLOTS_PER_CONNECTION: usize = 4;
/// Smallest table, so that a window never meets itself.
const SLOTS_MIN: usize = 64;

/// The number of a data core, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CoreNumber(pub u8);

impl CoreNumber {
    const fn bit(self) -> u64 {
        1 << (self.0 as u32 % WAITING_BITS)
    }
}

/// Some data cores: who is to get a notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use = "a core that is not told waits for ever"]
pub struct CoreSet(u64);

impl CoreSet {
    /// Nobody.
    pub const EMPTY: Self = Self(0);
    /// Everybody.
    pub const ALL: Self = Self((1 << WAITING_BITS) - 1);

    /// Whether `core` is to be told. Cores that share a bit are told together.
    #[must_use]
    pub const fn contains(self, core: CoreNumber) -> bool {
        self.0 & core.bit() != 0
    }

    /// Whether nobody is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn others(self, core: CoreNumber) -> Self {
        Self(self.0 & !core.bit())
    }

    const fn of_word(word: u64) -> Self {
        Self((word & WAITING_MASK) >> COUNT_BITS)
    }
}

/// A destination, as the permits know it: the same on every core.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DestinationKey(u64);

/// The right to have one connection to a destination. It must be given back with
/// [`Permits::release`]; it is not copied and has no other end.
#[derive(PartialEq, Eq, Debug)]
#[must_use = "a permit that is not released is lost to all cores"]
pub struct Permit {
    key: DestinationKey,
    slot: u32,
    kind: Kind,
}

/// What a permit is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Mail.
    Usual,
    /// To find out whether a destination works again.
    Probe,
}

/// Which limit was reached.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Limit {
    /// All connections together.
    Total,
    /// Connections to this destination.
    Destination,
    /// Connections to destinations that failed last.
    Probes,
}

/// No permit. The core is registered and will get a notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Denied {
    /// What was full.
    pub limit: Limit,
    /// Who is to look again. This core itself can be among them: a place became free
    /// while it was being refused.
    pub notify: CoreSet,
}

/// The limits of all data cores together.
#[derive(Debug)]
pub struct Permits {
    limit_total: AtomicU16,
    total: AtomicU64,
    /// Connections that carry a large message; one of the total is kept from them.
    large: AtomicU64,
    /// Connections that find out whether a destination works again; a quarter of the total
    /// is kept from them.
    probes: AtomicU64,
    /// The last destination that was refused by the total.
    refused: AtomicU64,
    slots: Box<[AtomicU64]>,
    hasher: foldhash::quality::FixedState,
}

/// Applies `change` until no other core was in between. Gives what was there before.
fn update(word: &AtomicU64, mut change: impl FnMut(u64) -> u64) -> u64 {
    let mut before = word.load(Ordering::SeqCst);
    loop {
        let exchanged =
            word.compare_exchange_weak(before, change(before), Ordering::SeqCst, Ordering::SeqCst);
        match exchanged {
            Ok(before) => return before,
            Err(seen) => before = seen,
        }
    }
}

/// One more, or registered as waiting.
fn acquire_word(word: &AtomicU64, limit: u16, core: CoreNumber) -> bool {
    let free = |w: u64| w & COUNT_MASK < u64::from(limit);
    let before = update(word, |w| {
        if free(w) {
            w + 1
        } else {
            w | core.bit() << COUNT_BITS
        }
    });
    free(before)
}

/// One fewer; nobody waits any more, since they are told.
fn release_word(word: &AtomicU64) -> CoreSet {
    let before = update(word, |w| {
        assert!(w & COUNT_MASK > 0, "more permits released than taken");
        (w & !WAITING_MASK) - 1
    });
    CoreSet::of_word(before)
}

impl Permits {
    /// Permits for at most `connections` connections, 1 to [`CONNECTIONS_MAX`]. `seed`
    /// keeps outsiders from choosing domains that share a word.
    #[must_use]
    pub fn new(connections: u16, seed: u64) -> Self {
        let connections = connections.clamp(1, CONNECTIONS_MAX);
        let slots = (usize::from(connections) * SLOTS_PER_CONNECTION)
            .next_power_of_two()
            .max(SLOTS_MIN);
        Self {
            limit_total: AtomicU16::new(connections),
            total: AtomicU64::new(0),
            large: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            slots: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            hasher: foldhash::quality::FixedState::with_seed(seed),
        }
    }

    /// How many connections there may be in all.
    #[must_use]
    pub fn limit_total(&self) -> u16 {
        self.limit_total.load(Ordering::SeqCst)
    }

    /// A new total, after a reload. Connections above it end in their own time. Who
    /// waited is to look again.
    pub fn set_limit_total(&self, connections: u16) -> CoreSet {
        let connections = connections.clamp(1, CONNECTIONS_MAX);
        self.limit_total.store(connections, Ordering::SeqCst);
        let total = update(&self.total, |w| w & !WAITING_MASK);
        let large = update(&self.large, |w| w & !WAITING_MASK);
        let probes = update(&self.probes, |w| w & !WAITING_MASK);
        (CoreSet::of_word(total).union(CoreSet::of_word(large))).union(CoreSet::of_word(probes))
    }

    /// Connections that are open or being opened.
    #[must_use]
    pub fn in_use(&self) -> u16 {
        (self.total.load(Ordering::SeqCst) & COUNT_MASK) as u16
    }

    /// How many more there may be.
    #[must_use]
    pub fn free(&self) -> u16 {
        self.limit_total().saturating_sub(self.in_use())
    }

    /// What the permits call a destination.
    #[must_use]
    pub fn key(&self, destination: impl Hash) -> DestinationKey {
        DestinationKey(self.hasher.hash_one(destination))
    }

    /// A permit for one more connection to `key`, of which there may be `limit` (1 to
    /// [`CONNECTIONS_MAX`]).
    ///
    /// # Errors
    /// If a limit is reached. The core is then registered.
    pub fn try_acquire(
        &self,
        core: CoreNumber,
        key: DestinationKey,
        limit: u16,
    ) -> Result<Permit, Denied> {
        let limit = limit.clamp(1, CONNECTIONS_MAX);
        let slot = self.acquire_slot(core, key, limit)?;
        if acquire_word(&self.total, self.limit_total(), core) {
            let kind = Kind::Usual;
            Ok(Permit { key, slot, kind })
        } else {
            self.refused.store(key.0, Ordering::SeqCst);
            let notify = self.release_slot(key, slot);
            Err(Denied {
                limit: Limit::Total,
                notify,
            })
        }
    }

    /// The same for a destination that failed last: of all connections a quarter is kept
    /// from those, that a great many of them leave some to the others. One always has a
    /// place, if it is the only one there is.
    ///
    /// # Errors
    /// If a limit is reached. The core is then registered.
    pub fn try_probe(
        &self,
        core: CoreNumber,
        key: DestinationKey,
        limit: u16,
    ) -> Result<Permit, Denied> {
        let total = self.limit_total();
        let most = (total - total.div_ceil(4)).max(1);
        if !acquire_word(&self.probes, most, core) {
            let (limit, notify) = (Limit::Probes, CoreSet::EMPTY);
            return Err(Denied { limit, notify });
        }
        match self.try_acquire(core, key, limit) {
            Ok(permit) => Ok(Permit {
                kind: Kind::Probe,
                ..permit
            }),
            Err(Denied { limit, notify }) => {
                let notify = notify.union(release_word(&self.probes));
                Err(Denied { limit, notify })
            }
        }
    }

    /// Whether another core waits for any connection, to another destination than this
    /// permit's as far as is known.
    #[must_use]
    pub fn is_wanted_elsewhere(&self, core: CoreNumber, permit: &Permit) -> bool {
        let waiting = CoreSet::of_word(self.total.load(Ordering::SeqCst)).others(core);
        !waiting.is_empty() && self.refused.load(Ordering::SeqCst) != permit.key.0
    }

    /// Gives a permit back. The cores in the answer are to get a notice, this one too
    /// if it is among them.
    pub fn release(&self, permit: Permit) -> CoreSet {
        let destination = self.release_slot(permit.key, permit.slot);
        let total = release_word(&self.total);
        let probes = match permit.kind {
            Kind::Usual => CoreSet::EMPTY,
            Kind::Probe => release_word(&self.probes),
        };
        destination.union(total).union(probes)
    }

    /// The right to send a large message, of which one fewer may be on the way than
    /// there are connections (but one always). False: registered, try again after a
    /// notice.
    #[must_use]
    pub fn try_large(&self, core: CoreNumber) -> bool {
        let limit = self.limit_total().saturating_sub(1).max(1);
        acquire_word(&self.large, limit, core)
    }

    /// The end of a right that [`Permits::try_large`] gave.
    pub fn release_large(&self) -> CoreSet {
        release_word(&self.large)
    }

    /// Whether another core waits for a connection that this one has: time to give way.
    #[must_use]
    pub fn is_contended(&self, core: CoreNumber, permit: &Permit) -> bool {
        let waiting = |word: u64| !CoreSet::of_word(word).others(core).is_empty();
        waiting(self.total.load(Ordering::SeqCst))
            || self
                .window(permit.key)
                .any(|(_, word)| waiting(word.load(Ordering::SeqCst)))
    }

    /// The words of the window that are this destination's come out of here by tag.
    fn window(&self, key: DestinationKey) -> impl Iterator<Item = (u32, &AtomicU64)> {
        let tag = tag(key);
        self.places(key)
            .filter(move |(_, word)| word.load(Ordering::SeqCst) & TAG_MASK == tag)
    }

    fn places(&self, key: DestinationKey) -> impl Iterator<Item = (u32, &AtomicU64)> {
        let mask = self.slots.len() - 1;
        (0..WINDOW_SLOTS).map(move |i| {
            let slot = (key.0 as usize).wrapping_add(i) & mask;
            (slot as u32, &self.slots[slot])
        })
    }

    fn count(&self, key: DestinationKey) -> u64 {
        let tag = tag(key);
        self.places(key)
            .map(|(_, word)| word.load(Ordering::SeqCst))
            .filter(|word| word & TAG_MASK == tag)
            .map(|word| word & COUNT_MASK)
            .sum()
    }

    fn acquire_slot(
        &self,
        core: CoreNumber,
        key: DestinationKey,
        limit: u16,
    ) -> Result<u32, Denied> {
        let slot = self.add(core, key, limit)?;
        if self.count(key) <= u64::from(limit) {
            return Ok(slot);
        }
        // Another core claimed another word meanwhile. Take the part back and register
        // in one step; who was refused because of this part is told.
        let bit = core.bit() << COUNT_BITS;
        let before = update(&self.slots[slot as usize], |w| {
            assert!(w & COUNT_MASK > 0, "a permit was taken back twice");
            ((w & !WAITING_MASK) | bit) - 1
        });
        let mut notify = CoreSet::of_word(before).union(self.take_waiting(key, slot));
        if self.count(key) < u64::from(limit) {
            notify = notify.union(CoreSet(core.bit()));
        }
        Err(Denied {
            limit: Limit::Destination,
            notify,
        })
    }

    /// Adds one to a word of the destination, claiming one if there is none.
    fn add(&self, core: CoreNumber, key: DestinationKey, limit: u16) -> Result<u32, Denied> {
        let tag = tag(key);
        let refused = Err(Denied {
            limit: Limit::Destination,
            notify: CoreSet::EMPTY,
        });
        loop {
            let own = self.window(key).next();
            let free = || {
                self.places(key)
                    .find(|(_, word)| word.load(Ordering::SeqCst) == 0)
            };
            let Some((slot, word)) = own.or_else(free) else {
                // The window is full of others. Registered with the total, since each
                // of them gives back one of that.
                update(&self.total, |w| w | core.bit() << COUNT_BITS);
                return refused;
            };
            let before = word.load(Ordering::SeqCst);
            if before != 0 && before & TAG_MASK != tag {
                continue;
            }
            let full = before & COUNT_MASK >= u64::from(limit);
            let after = if full {
                before | core.bit() << COUNT_BITS
            } else {
                (before | tag) + 1
            };
            let exchanged =
                word.compare_exchange(before, after, Ordering::SeqCst, Ordering::SeqCst);
            match (exchanged, full) {
                (Ok(_), true) => return refused,
                (Ok(_), false) => return Ok(slot),
                (Err(_), _) => {}
            }
        }
    }

    fn release_slot(&self, key: DestinationKey, slot: u32) -> CoreSet {
        let tag = tag(key);
        let before = update(&self.slots[slot as usize], |w| {
            assert!(
                w & TAG_MASK == tag && w & COUNT_MASK > 0,
                "a permit was released twice"
            );
            freed_if_unused((w & !WAITING_MASK) - 1)
        });
        CoreSet::of_word(before).union(self.take_waiting(key, slot))
    }

    /// Who waits at the other words of this destination: there are any only after two
    /// cores claimed at the same time.
    fn take_waiting(&self, key: DestinationKey, except: u32) -> CoreSet {
        let tag = tag(key);
        let mut taken = CoreSet::EMPTY;
        for (slot, word) in self.window(key) {
            if slot == except || word.load(Ordering::SeqCst) & WAITING_MASK == 0 {
                continue;
            }
            let before = update(word, |w| {
                if w & TAG_MASK == tag {
                    freed_if_unused(w & !WAITING_MASK)
                } else {
                    w
                }
            });
            if before & TAG_MASK == tag {
                taken = taken.union(CoreSet::of_word(before));
            }
        }
        taken
    }
}

/// The upper bits, never zero: a word of zero is free.
fn tag(key: DestinationKey) -> u64 {
    match key.0 & TAG_MASK {
        0 => 1 << TAG_SHIFT,
        tag => tag,
    }
}

fn freed_if_unused(word: u64) -> u64 {
    if word & (COUNT_MASK | WAITING_MASK) == 0 {
        0
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const A: CoreNumber = CoreNumber(0);
    const B: CoreNumber = CoreNumber(1);

    #[test]
    fn limits_are_kept_and_the_refused_are_told() {
        let permits = Permits::new(3, 1);
        let (x, y) = (permits.key("x"), permits.key("y"));
        let first = permits.try_acquire(A, x, 2).unwrap();
        let second = permits.try_acquire(B, x, 2).unwrap();
        let denied = permits.try_acquire(B, x, 2).unwrap_err();
        assert_eq!(denied.limit, Limit::Destination);
        assert!(denied.notify.is_empty());
        assert!(permits.is_contended(A, &first));
        assert!(!permits.is_contended(B, &second));

        let third = permits.try_acquire(A, y, 2).unwrap();
        let denied = permits.try_acquire(A, y, 2).unwrap_err();
        assert_eq!(denied.limit, Limit::Total);
        assert_eq!(permits.in_use(), 3);

        let told = permits.release(first);
        assert!(told.contains(A) && told.contains(B));
        assert!(permits.release(second).is_empty());
        assert!(permits.release(third).is_empty());
        assert_eq!(permits.in_use(), 0);
        assert!(permits.slots.iter().all(|w| w.load(Ordering::SeqCst) == 0));
    }

    #[test]
    fn one_connection_is_kept_from_large_messages() {
        for (total, large) in [(1, 1), (2, 1), (5, 4)] {
            let permits = Permits::new(total, 1);
            for _ in 0..large {
                assert!(permits.try_large(A));
            }
            assert!(!permits.try_large(B));
            assert!(permits.release_large().contains(B));
            assert!(permits.try_large(B));
        }
    }

    #[test]
    fn a_quarter_is_kept_from_probes() {
        for (total, most) in [(1, 1), (2, 1), (4, 3), (5, 3), (20, 15)] {
            let permits = Permits::new(total, 1);
            let keys: Vec<_> = (0..=most).map(|n| permits.key(n)).collect();
            let mut probes: Vec<_> = (keys[..usize::from(most)].iter())
                .map(|key| permits.try_probe(A, *key, 5).unwrap())
                .collect();
            let denied = permits
                .try_probe(B, keys[usize::from(most)], 5)
                .unwrap_err();
            assert_eq!(denied.limit, Limit::Probes, "{total}");
            let rest: Vec<_> = (most..total)
                .map(|n| permits.try_acquire(A, permits.key(100 + n), 5).unwrap())
                .collect();
            assert!(permits.release(probes.pop().unwrap()).contains(B));
            for permit in rest.into_iter().chain(probes) {
                let _ = permits.release(permit);
            }
            assert_eq!(permits.in_use(), 0);
            assert_eq!(permits.probes.load(Ordering::SeqCst), 0);
        }
    }

    /// A probe that is refused by the total or its destination takes no place from others.
    #[test]
    fn a_probe_that_is_refused_leaves_nothing_behind() {
        let permits = Permits::new(2, 1);
        let (x, y) = (permits.key("x"), permits.key("y"));
        let first = permits.try_acquire(A, x, 1).unwrap();
        let denied = permits.try_probe(B, x, 1).unwrap_err();
        assert_eq!(denied.limit, Limit::Destination);
        let second = permits.try_acquire(A, y, 1).unwrap();
        let denied = permits.try_probe(B, permits.key("z"), 1).unwrap_err();
        assert_eq!(denied.limit, Limit::Total);
        assert!(permits.is_wanted_elsewhere(A, &first));
        assert!(!permits.is_wanted_elsewhere(B, &first));
        assert_eq!(permits.probes.load(Ordering::SeqCst) & COUNT_MASK, 0);
        assert!(permits.release(first).contains(B));
        assert!(permits.release(second).is_empty());
    }

    #[test]
    fn a_raised_total_is_told() {
        let permits = Permits::new(1, 1);
        let key = permits.key("x");
        let permit = permits.try_acquire(A, key, 5).unwrap();
        assert_eq!(
            permits.try_acquire(B, key, 5).unwrap_err().limit,
            Limit::Total
        );
        assert!(permits.set_limit_total(2).contains(B));
        let other = permits.try_acquire(B, key, 5).unwrap();
        assert!(permits.release(permit).is_empty());
        assert!(permits.release(other).is_empty());
    }

    /// Two words for one destination, as two claims at the same time leave them: the
    /// sum counts, and a release at either tells those who wait at both.
    #[test]
    fn a_destination_in_two_words_is_still_one() {
        let permits = Permits::new(8, 1);
        let key = permits.key("x");
        let first = permits.try_acquire(A, key, 2).unwrap();
        let (other, word) = permits.places(key).nth(3).unwrap();
        word.store(tag(key) | 1, Ordering::SeqCst);
        let second = Permit {
            key,
            slot: other,
            kind: Kind::Usual,
        };
        // The first word has room, the sum has not.
        let denied = permits.try_acquire(B, key, 2).unwrap_err();
        assert_eq!(denied.limit, Limit::Destination);
        assert!(!denied.notify.contains(B));
        // Its connection counts in the total that the forged one never took.
        assert!(acquire_word(&permits.total, 8, A));
        assert!(permits.release(second).contains(B));
        let again = permits.try_acquire(B, key, 2).unwrap();
        assert!(permits.release(first).is_empty());
        assert!(permits.release(again).is_empty());
        assert!(permits.slots.iter().all(|w| w.load(Ordering::SeqCst) == 0));
    }

    /// Real threads; each spins on a flag that notices set. A lost wake-up would leave
    /// a thread spinning for ever, a broken limit trips the assertion.
    #[test]
    fn no_wake_up_is_lost_and_no_limit_broken_under_threads() {
        const CORES: u8 = 4;
        const ROUNDS: usize = 3000;
        let permits = Permits::new(3, 7);
        let keys: Vec<_> = (0..3).map(|i| permits.key(i)).collect();
        let open: Vec<_> = (0..3).map(|_| AtomicUsize::new(0)).collect();
        let noticed: Vec<_> = (0..CORES).map(|_| AtomicUsize::new(0)).collect();
        let tell = |cores: CoreSet| {
            for core in (0..CORES).filter(|&c| cores.contains(CoreNumber(c))) {
                noticed[usize::from(core)].fetch_add(1, Ordering::SeqCst);
            }
        };
        std::thread::scope(|scope| {
            for core in 0..CORES {
                let (permits, keys, open, noticed, tell) =
                    (&permits, &keys, &open, &noticed, &tell);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let which = (round * 7 + usize::from(core)) % keys.len();
                        let limit = 1 + which as u16 % 2;
                        let permit = loop {
                            let seen = noticed[usize::from(core)].load(Ordering::SeqCst);
                            match permits.try_acquire(CoreNumber(core), keys[which], limit) {
                                Ok(permit) => break permit,
                                Err(denied) => {
                                    tell(denied.notify);
                                    while noticed[usize::from(core)].load(Ordering::SeqCst) == seen
                                    {
                                        std::thread::yield_now();
                                    }
                                }
                            }
                        };
                        let before = open[which].fetch_add(1, Ordering::SeqCst);
                        assert!(before < usize::from(limit), "limit of {limit} broken");
                        assert!(permits.in_use() <= 3);
                        open[which].fetch_sub(1, Ordering::SeqCst);
                        tell(permits.release(permit));
                    }
                });
            }
        });
        assert_eq!(permits.in_use(), 0);
        // Stale registrations of the last rounds may be left; permits are not.
        for word in &permits.slots {
            assert_eq!(word.load(Ordering::SeqCst) & COUNT_MASK, 0);
        }
    }
}
