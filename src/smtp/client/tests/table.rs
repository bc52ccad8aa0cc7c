//! Every class of reply at every command: what becomes of each recipient is exactly
//! what the rule says, and the session goes on or ends as it says.

use super::server::{Fault, Server};
use super::{Core, job, settings};
use crate::mail::BodyForm;
use crate::smtp::client::fault::{Arrival, Cause, RecipientOutcome};
use crate::smtp::client::settings::Protocol;
use crate::smtp::client::stage::Stage;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    LockStep,
    Pipelined,
    /// BDAT in the first group.
    Blind,
    /// The second message too, before the first is answered.
    Flight,
    /// BDAT behind the replies to RCPT.
    Bdat,
    Lmtp,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Delivered,
    Deferred,
    /// Deferred, and it may have arrived.
    Unknown,
    Failed,
    /// Never handed in.
    Kept,
}

const MODES: [Mode; 6] = [
    Mode::LockStep,
    Mode::Pipelined,
    Mode::Blind,
    Mode::Flight,
    Mode::Bdat,
    Mode::Lmtp,
];
const FAULTS: [Fault; 9] = [
    Fault::Code(250),
    Fault::Code(354),
    Fault::Code(334),
    Fault::Code(450),
    Fault::Code(550),
    Fault::Code(421),
    Fault::Close,
    Fault::Garbage,
    Fault::Silence,
];

/// Runs two jobs of two recipients each. The `nth` reply of `stage` is replaced.
fn run(mode: Mode, stage: Stage, nth: u32, fault: Fault) -> (Vec<Fate>, bool) {
    let mut settings = settings();
    let (offers, form): (&[&str], _) = match mode {
        Mode::LockStep => (&[], BodyForm::Stuffed),
        Mode::Pipelined | Mode::Lmtp => (&["PIPELINING"], BodyForm::Stuffed),
        Mode::Blind | Mode::Bdat => (&["PIPELINING", "CHUNKING"], BodyForm::Plain),
        Mode::Flight => (
            &["PIPELINING", "CHUNKING", "X-FLIGHT 100000"],
            BodyForm::Plain,
        ),
    };
    if mode == Mode::Bdat {
        settings.blind_bytes_max = 0;
    }
    if mode == Mode::Lmtp {
        settings.protocol = Protocol::Lmtp;
    }
    let mut seen = 0;
    let mut server = Server::new(settings.protocol, offers, move |at, _| {
        if at != stage {
            return None;
        }
        seen += 1;
        (seen == nth).then_some(fault)
    });
    let jobs = [job(1, 2, form, 500), job(2, 2, form, 500)];
    let mut core = Core::new(settings, jobs);
    core.play(&mut server, |length| length);
    let fates = [(1, 0), (1, 1), (2, 0), (2, 1)].map(|who| match core.outcomes.get(&who) {
        None => Fate::Kept,
        Some(RecipientOutcome::Delivered(_)) => Fate::Delivered,
        Some(RecipientOutcome::Failed(_)) => Fate::Failed,
        Some(RecipientOutcome::Deferred(Cause::Session {
            arrival: Arrival::Unknown,
            ..
        })) => Fate::Unknown,
        Some(RecipientOutcome::Deferred(_)) => Fate::Deferred,
    });
    (fates.to_vec(), core.failed.is_some())
}

/// What a reply of that class means where it is right to be negative.
fn judge(fault: Fault) -> Option<Fate> {
    match fault {
        Fault::Code(450) => Some(Fate::Deferred),
        Fault::Code(550) => Some(Fate::Failed),
        _ => None,
    }
}

/// The rule. The fault is in the first job; `None` for the second job says that it
/// may have been handed in or not when the session ended.
fn expected(mode: Mode, stage: Stage, fault: Fault) -> ([Fate; 2], bool) {
    use Fate::{Deferred, Delivered, Unknown};
    let good = match stage {
        Stage::Data => Fault::Code(354),
        _ => Fault::Code(250),
    };
    if fault == good {
        return ([Delivered; 2], false);
    }
    let fate = judge(fault);
    // When the session ends: all was sent already, and it may have been taken.
    let sent = stage == Stage::End || matches!(mode, Mode::Blind | Mode::Flight);
    let open = match fault {
        Fault::Code(421) => Deferred,
        _ if sent => Unknown,
        _ => Deferred,
    };
    match (stage, fate) {
        (Stage::Mail | Stage::Data, Some(fate)) => ([fate; 2], false),
        (Stage::End, Some(fate)) if mode == Mode::Lmtp => ([fate, Delivered], false),
        (Stage::End, Some(fate)) => ([fate; 2], false),
        (Stage::Rcpt, Some(fate)) => ([fate, Delivered], false),
        (_, _) => ([open; 2], true),
    }
}

#[test]
fn every_class_at_every_command() {
    let mut cells = 0;
    for mode in MODES {
        for stage in [Stage::Mail, Stage::Rcpt, Stage::Data, Stage::End] {
            if stage == Stage::Data && matches!(mode, Mode::Blind | Mode::Flight | Mode::Bdat) {
                continue;
            }
            for fault in FAULTS {
                let (fates, failed) = run(mode, stage, 1, fault);
                let (first, fails) = expected(mode, stage, fault);
                let cell = format!("{mode:?} {stage:?} {fault:?}");
                assert_eq!(fates[..2], first, "{cell}");
                assert_eq!(failed, fails, "{cell}");
                // The second job is delivered, or deferred, or was never handed in.
                let second = match (fails, fates[2]) {
                    (false, _) => Fate::Delivered,
                    (true, Fate::Kept) => Fate::Kept,
                    // It was in the air, too.
                    (true, _) if mode == Mode::Flight => first[0],
                    (true, _) => Fate::Deferred,
                };
                assert_eq!(fates[2..], [second; 2], "{cell}");
                cells += 1;
            }
        }
    }
    assert_eq!(cells, 9 * (6 * 4 - 3));
}

#[test]
fn the_second_recipient_alone() {
    for mode in MODES {
        for (fault, fate) in [
            (Fault::Code(450), Fate::Deferred),
            (Fault::Code(550), Fate::Failed),
        ] {
            let (fates, failed) = run(mode, Stage::Rcpt, 2, fault);
            let rest = [Fate::Delivered, fate, Fate::Delivered, Fate::Delivered];
            assert_eq!(
                (&fates[..], failed),
                (&rest[..], false),
                "{mode:?} {fault:?}"
            );
        }
    }
}

#[test]
fn before_mail_nothing_is_handed_in() {
    for mode in MODES {
        for stage in [Stage::Greeting, Stage::Hello] {
            for fault in FAULTS {
                let right = match (stage, fault) {
                    (Stage::Hello, Fault::Code(250)) => true,
                    // HELO works.
                    (Stage::Hello, Fault::Code(550)) => mode != Mode::Lmtp,
                    _ => false,
                };
                let (fates, failed) = run(mode, stage, 1, fault);
                let fate = if right { Fate::Delivered } else { Fate::Kept };
                assert_eq!(fates, [fate; 4], "{mode:?} {stage:?} {fault:?}");
                assert_eq!(failed, !right, "{mode:?} {stage:?} {fault:?}");
            }
        }
    }
}

#[test]
fn nothing_hangs_on_the_reply_to_quit() {
    for mode in MODES {
        for fault in FAULTS {
            let (fates, failed) = run(mode, Stage::Quit, 1, fault);
            assert_eq!(fates, [Fate::Delivered; 4], "{mode:?} {fault:?}");
            assert!(!failed, "{mode:?} {fault:?}");
        }
    }
}

#[test]
fn reset_must_succeed() {
    for fault in FAULTS {
        let mut resets = 0;
        let mut server = Server::new(Protocol::Smtp, &["PIPELINING"], move |at, number| {
            match (at, number) {
                // Both recipients of the first job.
                (Stage::Rcpt, ..=4) => Some(Fault::Code(550)),
                (Stage::Reset, _) => {
                    resets += 1;
                    (resets == 1).then_some(fault)
                }
                _ => None,
            }
        });
        let form = BodyForm::Stuffed;
        let mut core = Core::new(settings(), [job(1, 2, form, 500), job(2, 1, form, 500)]);
        core.play(&mut server, |length| length);
        assert!(core.wire.contains("RSET\r\n"), "{:?}", core.wire);
        let good = fault == Fault::Code(250);
        assert_eq!(core.failed.is_none(), good, "{fault:?}");
        let outcome = &core.outcomes[&(2, 0)];
        let delivered = matches!(outcome, RecipientOutcome::Delivered(_));
        assert_eq!(delivered, good, "{fault:?}: {outcome}");
        assert!(matches!(
            core.outcomes[&(1, 1)],
            RecipientOutcome::Failed(_)
        ));
    }
}

/// Ten messages in one breath: each but the first behind RSET, and the replies do not
/// matter for what goes out. With a limit on octets or contents it stops there.
#[test]
fn a_flight_takes_off_at_once() {
    let check = |offered: &'static [&'static str], octets: u64, contents: u32, expected: usize| {
        let mut settings = settings();
        settings.flight_contents_max = contents.try_into().unwrap();
        settings.ahead_bytes_max = u64::MAX;
        settings.flight_bytes_max = u64::MAX;
        let mut server = Server::new(Protocol::Smtp, offered, |_, _| None);
        let jobs = (1..=10).map(|id| job(id, 1, BodyForm::Plain, octets));
        let mut core = Core::new(settings, jobs);
        core.play(&mut server, |length| length);
        assert_eq!(core.failed, None);
        assert_eq!(core.outcomes.len(), 10);
        // The first send that has a content is the first of the flight.
        let flight = core.sends.iter().find(|send| send.contains("BDAT"));
        let flight = flight.expect("a content was sent");
        assert_eq!(flight.matches("BDAT").count(), expected, "{flight}");
        assert_eq!(flight.matches("RSET").count(), expected.min(9), "{flight}");
    };
    let offered: &[&str] = &["PIPELINING", "CHUNKING", "X-FLIGHT 100000"];
    check(offered, 2000, 60, 10);
    check(offered, 2000, 3, 3);
    check(offered, 30_000, 60, 3);
    // Too large to be sent before it is known whether anybody wants it.
    check(offered, 40_000, 60, 1);
    check(&["PIPELINING", "CHUNKING"], 2000, 60, 1);
}
