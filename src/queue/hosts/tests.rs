use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::table::RECOVERED;
use super::*;

const PAUSE: Duration = Duration::from_secs(60);

type Memory = HostMemory<SocketAddr>;

/// Two cores of one process.
fn cores() -> (Memory, Memory) {
    let shared = Arc::new(Hosts::new(1));
    let core = |number| HostMemory::new(CoreNumber(number), Arc::clone(&shared), 1);
    (core(0), core(1))
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn dead(memory: &mut Memory, now: Instant) {
    memory.admit(now, &address(25)).expect("it may be tried");
    memory.failed(now, &address(25), PAUSE, "refused");
}

/// One core finds out, and the other knows; one probe for both.
#[test]
fn a_dead_host_rests_and_gets_one_probe() {
    let (mut memory, mut other) = cores();
    let start = Instant::START + PAUSE;
    dead(&mut memory, start);
    let due = start + PAUSE;
    assert_eq!(memory.admit(start, &address(25)), Err(due));
    assert_eq!(other.admit(start, &address(25)), Err(due));
    assert_eq!(memory.admit(start, &address(26)), Ok(()), "another host");
    assert_eq!(memory.dead().len(), 1);
    assert_eq!(memory.dead()[0].why, "refused");
    assert!(other.died_elsewhere(&address(25)) && !memory.died_elsewhere(&address(25)));
    assert_eq!(other.admit(due, &address(25)), Ok(()), "the probe");
    assert_eq!(memory.admit(due, &address(25)), Err(due + LOOK_AGAIN));
    assert_eq!(other.admit(due, &address(25)), Err(due + LOOK_AGAIN));
    assert_eq!(other.failures_with_next(&address(25)), 2);
    other.failed(due, &address(25), PAUSE * 2, "refused again");
    assert_eq!(memory.admit(due, &address(25)), Err(due + PAUSE * 2));
    assert_eq!(memory.failures_with_next(&address(25)), 3);
    assert_eq!(other.dead()[0].why, "refused again");
    assert!(memory.died_elsewhere(&address(25)) && !other.died_elsewhere(&address(25)));
}

#[test]
fn a_host_that_is_back_starts_slowly() {
    let (mut memory, mut other) = cores();
    let now = Instant::START + PAUSE;
    dead(&mut memory, now);
    let now = now + PAUSE;
    memory.admit(now, &address(25)).expect("the probe");
    memory.answered(&address(25));
    assert!(memory.dead().is_empty());
    assert_eq!(memory.failures_with_next(&address(25)), 1);
    for allowed in CONNECTIONS_AFTER_DEATH..RECOVERED {
        // The probe is one of them.
        let mut open = 1;
        while other.admit(now, &address(25)).is_ok() {
            open += 1;
        }
        assert_eq!(open, allowed, "of both cores");
        assert_eq!(memory.admit(now, &address(25)), Err(now + LOOK_AGAIN));
        for _ in 1..open {
            other.left(&address(25));
        }
        other.answered(&address(25));
    }
    for core in [&mut memory, &mut other] {
        for _ in 0..100 {
            assert_eq!(
                core.admit(now, &address(25)),
                Ok(()),
                "as good as any other"
            );
        }
    }
}

#[test]
fn a_failure_beside_open_connections_is_a_limit() {
    let (mut memory, mut other) = cores();
    let now = Instant::START;
    memory.admit(now, &address(25)).expect("unknown");
    for _ in 0..2 {
        other.admit(now, &address(25)).expect("unknown");
    }
    memory.failed(now, &address(25), PAUSE, "421 too many");
    assert_eq!(memory.admit(now, &address(25)), Err(now + LOOK_AGAIN));
    other.left(&address(25));
    assert_eq!(memory.admit(now, &address(25)), Ok(()));
}

#[test]
fn a_release_lets_each_dead_host_be_probed_once() {
    let (mut memory, mut other) = cores();
    let now = Instant::START + PAUSE;
    dead(&mut memory, now);
    other.release(now);
    assert_eq!(memory.admit(now, &address(25)), Ok(()));
    assert_eq!(other.admit(now, &address(25)), Err(now + LOOK_AGAIN));
    let later = now + Duration::from_secs(1);
    memory.failed(later, &address(25), PAUSE, "refused");
    assert_eq!(memory.admit(later, &address(25)), Err(later + PAUSE));
}

#[test]
fn a_probe_that_is_called_off_leaves_the_next_one_to_find_out() {
    let (mut memory, mut other) = cores();
    let now = Instant::START;
    dead(&mut memory, now);
    let due = now + PAUSE;
    memory.admit(due, &address(25)).expect("the probe");
    memory.left(&address(25));
    assert_eq!(other.admit(due, &address(25)), Ok(()));
}

#[test]
fn no_policy_lets_a_host_rest_for_days() {
    let (mut memory, _) = cores();
    let now = Instant::START;
    memory.admit(now, &address(25)).expect("unknown");
    memory.failed(now, &address(25), PAUSE * 10_000, &"é".repeat(500));
    assert_eq!(memory.admit(now, &address(25)), Err(now + REST_MAX));
    assert!(memory.dead()[0].why.len() <= WHY_BYTES_MAX);
}

#[test]
fn memory_is_bounded() {
    let (mut memory, _) = cores();
    let now = Instant::START;
    let kept = SocketAddr::from(([192, 0, 2, 2], 25));
    memory.admit(now, &kept).expect("unknown");
    for number in 0..100_000u32 {
        let address = SocketAddr::from((number.to_be_bytes(), 25));
        memory.admit(now, &address).expect("unknown");
        memory.failed(now, &address, PAUSE, "");
        assert!(memory.reasons.len() <= REASONS_MAX);
    }
    assert_eq!(memory.shared.open(kept), 1, "those in use are kept");
    // What never failed leaves nothing behind.
    let (mut memory, _) = cores();
    memory.admit(now, &kept).expect("unknown");
    memory.answered(&kept);
    memory.left(&kept);
    assert_eq!(memory.shared.known(), 0);
}

/// A bucket that is full of hosts in use: the next one is none the worse for it, and
/// what is counted of the others stays right.
#[test]
fn a_host_without_a_place_is_used_all_the_same() {
    let shared = Arc::new(Hosts::with_buckets(1, 1));
    let mut memory = HostMemory::new(CoreNumber(0), Arc::clone(&shared), 1);
    let now = Instant::START;
    for port in 0..20 {
        assert_eq!(memory.admit(now, &address(port)), Ok(()));
    }
    let places = shared.known();
    assert!(places < 20);
    for port in 0..20 {
        memory.failed(now, &address(port), PAUSE, "refused");
    }
    assert_eq!(memory.dead().len(), places);
    // The dead make room for the next one.
    assert_eq!(memory.admit(now, &address(99)), Ok(()));
    assert_eq!(shared.open(address(99)), 1);
    assert_eq!(memory.dead().len(), places - 1);
}

/// Real threads. Hosts that are dead and due are probed by one at a time, whoever comes;
/// the places of the others in their bucket are claimed and freed all the while. In the
/// end nothing is left.
#[test]
fn one_probe_at_a_time_under_threads() {
    const CORES: u8 = 4;
    const ROUNDS: usize = 20_000;
    /// The first of them are dead.
    const HOSTS: u16 = 8;
    const DEAD: u16 = 3;
    let shared = Arc::new(Hosts::with_buckets(1, 7));
    let now = Instant::START + PAUSE;
    let mut first = HostMemory::new(CoreNumber(0), Arc::clone(&shared), 1);
    for port in 0..DEAD {
        first.admit(now, &address(port)).expect("unknown");
        first.failed(now, &address(port), Duration::ZERO, "");
    }
    let probes: Vec<_> = (0..DEAD).map(|_| AtomicUsize::new(0)).collect();
    std::thread::scope(|scope| {
        for core in 0..CORES {
            let (shared, probes) = (&shared, &probes);
            scope.spawn(move || {
                let mut memory = HostMemory::new(CoreNumber(core), Arc::clone(shared), 1);
                for round in 0..ROUNDS {
                    let port = (round * 5 + usize::from(core)) as u16 % HOSTS;
                    let host = address(port);
                    if memory.admit(now, &host).is_err() {
                        continue;
                    }
                    if port < DEAD {
                        let before = probes[usize::from(port)].fetch_add(1, Ordering::SeqCst);
                        assert_eq!(before, 0, "two probes of one host");
                        probes[usize::from(port)].fetch_sub(1, Ordering::SeqCst);
                        memory.failed(now, &host, Duration::ZERO, "");
                        continue;
                    }
                    // While it has our connection its place is not free.
                    assert_eq!(shared.places_of(host), 1, "a host has one place");
                    memory.left(&host);
                }
            });
        }
    });
    assert_eq!(shared.known(), usize::from(DEAD), "only the dead are left");
    for port in 0..HOSTS {
        assert_eq!(shared.open(address(port)), 0);
    }
}
