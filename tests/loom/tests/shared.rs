//! Small programs over what the data cores share, in every order. Loom prints the order
//! that fails; `LOOM_MAX_PREEMPTIONS` bounds longer ones.

use loom::sync::Arc;
use loom::thread;
use turnspool_loom::mailbox::Mailbox;
use turnspool_loom::permits::{CoreNumber, CoreSet, DestinationKey, Permits};
use turnspool_loom::sessions::{Refused, Sessions};

/// How often a thread is interrupted where it need not be. More finds the same faults in
/// practice, and takes hours.
const PREEMPTIONS: usize = 3;

fn model(program: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.check(program);
}

/// Two senders and a reader that sleeps when it may. If a wake-up is lost the reader
/// waits for ever, which loom finds.
#[test]
fn no_wake_up_is_lost() {
    model(|| {
        let mailbox = Arc::new(Mailbox::new().expect("a bell"));
        let senders: Vec<_> = (0..2)
            .map(|number| {
                let mailbox = Arc::clone(&mailbox);
                thread::spawn(move || mailbox.push(number).expect("room"))
            })
            .collect();
        let mut got = 0;
        while got < 2 {
            while mailbox.pop().is_some() {
                got += 1;
            }
            if got < 2 && mailbox.may_sleep() {
                mailbox.bell().wait();
            }
        }
        for sender in senders {
            sender.join().expect("it ends");
        }
    });
}

const LIMIT: u16 = 1;

/// Takes a permit, or waits to be told; gives it back. Each core has its own bell here, so
/// that "a core that is not told waits for ever" is what loom looks for.
fn core(
    number: u8,
    permits: &Permits,
    key: DestinationKey,
    bells: &[turnspool_loom::runtime::bell::Bell],
    open: &loom::sync::atomic::AtomicUsize,
) {
    let own = CoreNumber(number);
    let tell = |set: CoreSet| {
        for (other, bell) in (0..).zip(bells) {
            if set.contains(CoreNumber(other)) {
                bell.ring();
            }
        }
    };
    let permit = loop {
        match permits.try_acquire(own, key, LIMIT) {
            Ok(permit) => break permit,
            Err(denied) => {
                tell(denied.notify);
                bells[usize::from(number)].wait();
            }
        }
    };
    use loom::sync::atomic::Ordering::SeqCst;
    assert_eq!(
        open.fetch_add(1, SeqCst),
        0,
        "more connections than allowed"
    );
    open.fetch_sub(1, SeqCst);
    tell(permits.release(permit));
}

/// Two cores and one connection to one destination: never two at a time, and none waits
/// for ever.
#[test]
fn a_destination_has_one_connection_and_nobody_is_forgotten() {
    cores(2, true);
}

/// The same where it is the total that is used up, by two destinations.
#[test]
fn the_total_is_kept_and_nobody_is_forgotten() {
    cores(1, false);
}

fn cores(total: u16, one_destination: bool) {
    model(move || {
        let permits = Arc::new(Permits::new(total, 7));
        let bells = || turnspool_loom::runtime::bell::Bell::new().expect("a bell");
        let bells = Arc::new([bells(), bells()]);
        let open = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let run = |number: u8| {
            let (permits, bells, open) =
                (Arc::clone(&permits), Arc::clone(&bells), Arc::clone(&open));
            move || {
                let name = if one_destination { 0 } else { number };
                core(number, &permits, permits.key(name), &bells[..], &open);
            }
        };
        let other = thread::spawn(run(1));
        run(0)();
        other.join().expect("it ends");
        assert_eq!(permits.in_use(), 0, "a permit is lost");
    });
}

/// Sessions of one client from two cores: never more than the limit, and all are given
/// back. Both may be refused at once, as is documented.
#[test]
fn sessions_are_never_more_than_the_limit() {
    model(|| {
        let sessions = Arc::new(Sessions::new(10, 1, 7));
        let open = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        let client = "192.0.2.1".parse().expect("an address");
        let run = || {
            let (sessions, open) = (Arc::clone(&sessions), Arc::clone(&open));
            move || match sessions.admit(client) {
                Ok(admitted) => {
                    use loom::sync::atomic::Ordering::SeqCst;
                    assert_eq!(open.fetch_add(1, SeqCst), 0, "over the limit");
                    open.fetch_sub(1, SeqCst);
                    sessions.leave(admitted);
                }
                Err(why) => assert_eq!(why, Refused::Client),
            }
        };
        let other = thread::spawn(run());
        run()();
        other.join().expect("it ends");
        assert_eq!(sessions.in_use(), 0);
        let again = sessions.admit(client).expect("all were given back");
        sessions.leave(again);
    });
}
