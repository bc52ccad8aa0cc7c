//! What does a notice from core to core cost?
//!
//! The control core is asked for a host, a segment, a release; data cores hand a turned
//! connection on. Questions that hang on it: may such a thing stand on the way of a
//! message (a busy reader: yes, tens of nanoseconds), and what does it add to the first
//! message after a release (a reader that sleeps: two wake-ups, a few microseconds on a
//! machine with a CPU for each, a scheduler's turn on one without)?
//!
//! The sleeper waits by a blocking read of its bell. Both runtimes wait for the same
//! eventfd through their ring, which costs one submission more.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use turnspool::runtime::mailbox::Mailbox;

/// As large as a usual notice: a name, a number, an answer.
type Notice = [u64; 8];

/// The notice that ends the other thread.
const END: u64 = u64::MAX;

fn wait(mailbox: &Mailbox<Notice>) -> Notice {
    loop {
        if let Some(notice) = mailbox.pop() {
            return notice;
        }
        if mailbox.may_sleep() {
            let mut octets = [0; 8];
            let read = rustix::io::read(mailbox.bell(), &mut octets).expect("it was rung");
            assert_eq!(read, 8, "an eventfd gives its counter");
        }
    }
}

fn busy_reader(c: &mut Criterion) {
    let mailbox = Mailbox::new().expect("an eventfd");
    c.bench_function("notice/to a busy reader", |b| {
        b.iter(|| {
            mailbox.push(black_box([1; 8])).expect("it was emptied");
            mailbox.pop()
        });
    });
}

fn sleeping_reader(c: &mut Criterion) {
    let questions = Arc::new(Mailbox::<Notice>::new().expect("an eventfd"));
    let answers = Arc::new(Mailbox::<Notice>::new().expect("an eventfd"));
    let other = {
        let (questions, answers) = (Arc::clone(&questions), Arc::clone(&answers));
        std::thread::spawn(move || {
            loop {
                let notice = wait(&questions);
                if notice[0] == END {
                    return;
                }
                answers.push(notice).expect("one at a time");
            }
        })
    };
    c.bench_function("notice/question and answer, both asleep", |b| {
        b.iter(|| {
            questions.push(black_box([1; 8])).expect("one at a time");
            wait(&answers)
        });
    });
    questions.push([END; 8]).expect("one at a time");
    other.join().expect("it ends by itself");
}

criterion_group!(benches, busy_reader, sleeping_reader);
criterion_main!(benches);
