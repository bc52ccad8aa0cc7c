use super::*;
use crate::mail::ReversePath;
use crate::time::WallTime;

fn id(n: u64) -> Text<QueueId> {
    Text(QueueId::from_u64(n))
}

/// The wire form is an interface: a change of it is seen here.
#[test]
fn requests_on_the_wire() {
    let check = |command: Command, expected: &str| {
        let line = Request::new(command.clone()).to_line();
        assert_eq!(String::from_utf8_lossy(&line), format!("{expected}\n"));
        let read = Request::from_line(&line).map(|request| request.command);
        assert_eq!(read, Ok(command));
    };
    check(Command::Status, r#"{"version":1,"command":"status"}"#);
    check(
        Command::DeadHosts,
        r#"{"version":1,"command":"dead-hosts"}"#,
    );
    check(Command::Stop, r#"{"version":1,"command":"stop"}"#);
    check(Command::Reload, r#"{"version":1,"command":"reload"}"#);
    check(
        Command::QueueList(Matching {
            filter: Filter::default(),
            after: None,
            limit: 100,
        }),
        r#"{"version":1,"command":"queue-list","filter":{},"limit":100}"#,
    );
    check(
        Command::QueueShow { id: id(33) },
        r#"{"version":1,"command":"queue-show","id":"0000000000011"}"#,
    );
    check(
        Command::QueueChange {
            change: Change::Hold,
            selection: Selection::Ids {
                ids: vec![id(1), id(2)],
            },
        },
        r#"{"version":1,"command":"queue-change","change":"hold","select":"ids","ids":["0000000000001","0000000000002"]}"#,
    );
    check(
        Command::QueueChange {
            change: Change::Delete,
            selection: Selection::Matching(Matching {
                filter: Filter {
                    domain: Some(Text("b.example".parse().unwrap())),
                    customer: None,
                    sender: Some(Text(SenderIs(ReversePath::Null))),
                    recipient: Some(Text("a@b.example".parse().unwrap())),
                    older_seconds: Some(60),
                    larger_octets: Some(5),
                    state: Some(State::Held),
                },
                after: Some(id(1)),
                limit: 10,
            }),
        },
        r#"{"version":1,"command":"queue-change","change":"delete","select":"matching","filter":{"domain":"b.example","sender":"<>","recipient":"a@b.example","older_seconds":60,"larger_octets":5,"state":"held"},"after":"0000000000001","limit":10}"#,
    );
    check(
        Command::QueueRequeue {
            to: Some(Text("smtp://192.0.2.1".parse().unwrap())),
            selection: Selection::Ids { ids: vec![id(1)] },
        },
        r#"{"version":1,"command":"queue-requeue","to":"smtp://192.0.2.1:25","select":"ids","ids":["0000000000001"]}"#,
    );
    check(
        Command::ReleaseDomain {
            domain: Text("b.example".parse().unwrap()),
        },
        r#"{"version":1,"command":"release-domain","domain":"b.example"}"#,
    );
    check(
        Command::Release {
            name: "branch".to_owned(),
        },
        r#"{"version":1,"command":"release","name":"branch"}"#,
    );
    check(
        Command::LogTranscript(LogTranscript {
            peer: "192.0.2.1".to_owned(),
            sessions: 1,
            seconds: 600,
        }),
        r#"{"version":1,"command":"log-transcript","peer":"192.0.2.1","sessions":1,"seconds":600}"#,
    );
    check(
        Command::LogDetail(LogDetailChange {
            smtp: Some(true),
            ..LogDetailChange::default()
        }),
        r#"{"version":1,"command":"log-detail","smtp":true}"#,
    );
}

#[test]
fn wrong_requests_are_refused_with_a_sentence() {
    let check = |line: &str, part: &str| {
        let refused = Request::from_line(line.as_bytes()).expect_err(line);
        assert_eq!(refused.reason, Reason::Request);
        assert!(refused.text.contains(part), "{line}: {}", refused.text);
    };
    check("", "no request");
    check("{}", "version");
    check(r#"{"version":2,"command":"dance"}"#, "version 2");
    check(r#"{"version":1,"command":"dance"}"#, "dance");
    check(
        r#"{"version":1,"command":"queue-show","id":"x"}"#,
        "13 letters",
    );
    check(
        r#"{"version":1,"command":"queue-list","limit":0}"#,
        "1 to 1000",
    );
    check(
        r#"{"version":1,"command":"queue-list","limit":1001}"#,
        "1 to 1000",
    );
    check(
        r#"{"version":1,"command":"queue-list","limit":1,"filter":{"colour":"red"}}"#,
        "colour",
    );
    check(
        r#"{"version":1,"command":"release-domain","domain":"a b"}"#,
        "not allowed",
    );
    check(
        r#"{"version":1,"command":"log-transcript","peer":"a","sessions":0,"seconds":600}"#,
        "1 to 100 sessions",
    );
    check(&" ".repeat(REQUEST_BYTES_MAX + 1), "longer");
    let ids = vec![id(1); IDS_MAX + 1];
    let many = serde_json::to_string(&Request::new(Command::QueueChange {
        change: Change::Hold,
        selection: Selection::Ids { ids },
    }));
    check(&many.unwrap(), "more than 1000 ids");
}

#[test]
fn the_most_ids_fit_into_a_request() {
    let request = Request::new(Command::QueueChange {
        change: Change::Release,
        selection: Selection::Ids {
            ids: vec![id(u64::MAX); IDS_MAX],
        },
    });
    let line = request.to_line();
    assert!(line.len() <= REQUEST_BYTES_MAX);
    assert_eq!(Request::from_line(&line), Ok(request));
}

fn entry(text: &str) -> Entry {
    Entry {
        id: id(7),
        state: State::Deferred,
        arrival: Date(WallTime::from_millis(1_795_351_597_000)),
        octets: 4096,
        sender: text.to_owned(),
        recipients: 2,
        next_hop: text.to_owned(),
        attempts: 3,
        next_attempt: Some(Date(WallTime::from_millis(1_795_351_600_000))),
    }
}

#[test]
fn responses_read_as_they_are_written() {
    let responses = [
        Response::Page(Page {
            entries: vec![entry("a@b.example"), entry("")],
            next: Some(id(7)),
        }),
        Response::Message(Box::new(Message {
            entry: entry("a@b.example"),
            expires: None,
            priority: -3,
            deliver_by: None,
            envid: Some("x".to_owned()),
            location: "log 0 segment 1 offset 0".to_owned(),
            shown: vec![RecipientState {
                recipient: "c@d.example".to_owned(),
                state: "waiting".to_owned(),
                next_hop: "d.example".to_owned(),
                last: Some("450 4.2.0\r\nlater".to_owned()),
            }],
            recipients_total: 1,
        })),
        Response::Changed(Changed {
            changed: 2,
            held: 1,
            waits: Waits {
                for_call: 1,
                ..Waits::default()
            },
            missing: vec![id(1)],
            next: None,
        }),
        Response::Located(Located {
            messages: vec![LocatedMessage {
                id: id(9),
                log: 1,
                segment: 2,
                offset: 4096,
                held: true,
                waiting: vec![0, 2],
            }],
        }),
        Response::Released(Released {
            messages: 5,
            octets: 6,
            queue: Some("mx of a.example".to_owned()),
        }),
        Response::Collected(Collected {
            collectors: vec![CollectOutcome {
                name: "isp".to_owned(),
                place: "branch@pop.isp.example".to_owned(),
                tally: Some(crate::report::collecting::Tally::default()),
                said: None,
                failure: Some("the mailbox cannot be had now".to_owned()),
            }],
        }),
        Response::Status(Box::new(Status {
            program_version: "0.1.0".to_owned(),
            started: Date(WallTime::EPOCH),
            counters: BTreeMap::from([("commits".to_owned(), 7)]),
            states: BTreeMap::new(),
            live: Live {
                disk_free_octets: Some(5),
                classes: BTreeMap::from([(QueueClass::Mx, Amount::default())]),
                ..Live::default()
            },
        })),
        Response::DeadHosts(DeadHosts {
            hosts: vec![DeadHost {
                address: "[192.0.2.1]:25".to_owned(),
                failures: 3,
                next_attempt: Date(WallTime::EPOCH),
                why: "connecting failed".to_owned(),
            }],
        }),
        Response::LogDetail(LogDetail::default()),
        Response::Done,
        Response::refused(Reason::Later, "stopping"),
    ];
    for response in responses {
        let line = response.to_line();
        assert_eq!(line.iter().filter(|&&b| b == b'\n').count(), 1);
        assert_eq!(Response::from_line(&line).ok(), Some(response));
    }
}

#[test]
fn the_largest_page_fits_into_a_response() {
    let path = "\"".repeat(TEXT_BYTES_MAX);
    let page = Response::Page(Page {
        entries: vec![entry(&path); PAGE_ENTRIES_MAX as usize],
        next: None,
    });
    assert!(page.to_line().len() <= RESPONSE_BYTES_MAX);
}

#[test]
fn texts_are_shortened_between_characters() {
    assert_eq!(shortened("short"), "short");
    let long = format!("{}ä", "a".repeat(TEXT_BYTES_MAX - 1));
    assert_eq!(shortened(&long).len(), TEXT_BYTES_MAX - 1);
}
