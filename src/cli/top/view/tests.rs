//! The screen, drawn into memory.

use std::collections::BTreeMap;

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent};

use super::*;
use crate::cli::top::app::Step;
use crate::core::admin::{
    Amount, Change, Command, Date, Event, LinkCommand, Live, QueueClass, Readiness, Response,
};

fn queue(next_hop: &str, class: QueueClass, messages: u64) -> Queue {
    let (customer, domain) = match class {
        QueueClass::Held => (Some("branch".to_owned()), Some("branch.example".to_owned())),
        _ => (None, None),
    };
    Queue {
        next_hop: next_hop.to_owned(),
        class,
        customer,
        domain,
        amount: Amount {
            messages,
            octets: 1024 * messages,
        },
        deferred: 0,
        held: 0,
        connections: 0,
        gate: match class {
            QueueClass::Held => QueueGate::Held,
            _ => QueueGate::Open,
        },
        failures: 0,
        oldest: Some(Date(now())),
        retry: None,
        why: None,
    }
}

fn link(names: &[&str]) -> Links {
    let links = names.iter().map(|name| LinkStatus {
        name: (*name).to_owned(),
        state: "draining".to_owned(),
        since: Date(now()),
        why: Some("mail waits".to_owned()),
        ours: Some(true),
        held_down: false,
        next_dial_seconds: None,
        last_failure: None,
        octets: 5,
        empty_in_seconds: Some(42),
        budget: None,
    });
    Links {
        links: links.collect(),
        ready_messages: 2,
        ready_octets: 20,
        waiting_messages: 3,
        waiting_octets: 30,
        next_window: None,
    }
}

fn status(queues: Vec<Queue>) -> Status {
    Status {
        program_version: "1.2.3".to_owned(),
        started: Date(now()),
        counters: BTreeMap::from([("queue_messages".to_owned(), 12)]),
        states: BTreeMap::new(),
        live: Live {
            at: Some(Date(now())),
            queues_total: queues.len() as u64,
            queues,
            links: Some(link(&["isp"])),
            events: vec![Event {
                at: Date(now()),
                level: "warning".to_owned(),
                fact: "trouble".to_owned(),
                text: "a line\x1b[2J of a peer".to_owned(),
            }],
            ..Live::default()
        },
    }
}

fn screen(app: &App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
    terminal.draw(|frame| draw(frame, app)).expect("in memory");
    let buffer = terminal.backend().buffer();
    let row = |y: u16| -> String { (0..width).map(|x| buffer[(x, y)].symbol()).collect() };
    let rows: Vec<_> = (0..height).map(|y| row(y).trim_end().to_owned()).collect();
    rows.join("\n")
}

fn app_with(queues: Vec<Queue>) -> App {
    let mut app = App::default();
    app.heard(Ok(Response::Status(Box::new(status(queues)))));
    app
}

fn press(app: &mut App, keys: &str) -> Option<Step> {
    let mut last = None;
    for key in keys.chars() {
        last = app.key(KeyEvent::from(KeyCode::Char(key)));
    }
    last
}

fn two() -> Vec<Queue> {
    vec![
        queue("mx of far.example", QueueClass::Mx, 5),
        queue("held for branch (branch.example)", QueueClass::Held, 7),
    ]
}

#[test]
fn everything_is_on_a_small_screen() {
    let app = app_with(two());
    let text = screen(&app, 80, 24);
    for expected in [
        "turnspool 1.2.3",
        "takes mail",
        "queue  12 messages",
        "isp  draining",
        "empty in 42s",
        "2 queues by messages",
        "mx of far.example",
        "held for branch (branch.example)",
        "a line\\u{1b}[2J of a peer",
        "q quit",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    assert!(!text.contains('\x1b'), "a peer's octets reach the terminal");
    let held = text.find("held for branch").expect("it was found");
    assert!(
        held < text.find("mx of far").expect("it was found"),
        "{text}"
    );
}

/// A window that somebody makes tiny is no reason to panic.
#[test]
fn every_size_can_be_drawn() {
    for width in 1..40 {
        for height in 1..30 {
            screen(&app_with(two()), width, height);
            screen(&app_with(Vec::new()), width, height);
            screen(&App::default(), width, height);
        }
    }
}

#[test]
fn an_action_is_confirmed() {
    let check = |keys: &str, expected: Option<Command>| {
        let mut app = app_with(two());
        let step = press(&mut app, keys);
        assert_eq!(
            step,
            expected.map(|command| Step::Ask(Box::new(command))),
            "{keys:?}"
        );
    };
    // The fullest is selected: the customer's.
    let released = Command::Release {
        name: "branch.example".to_owned(),
    };
    check("r", None);
    check("ry", Some(released));
    check("rn", None);
    check("rny", None);
    check("hy", None);
    let steer = |change| Command::QueueSteer {
        next_hop: "mx of far.example".to_owned(),
        change,
    };
    check("jhy", Some(steer(Change::Hold)));
    check("jjry", Some(steer(Change::Release)));
    let name = || Some("isp".to_owned());
    check("dy", Some(Command::Link(LinkCommand::Up { name: name() })));
    check(
        "uy",
        Some(Command::Link(LinkCommand::Down { name: name() })),
    );
    let mut app = app_with(two());
    assert_eq!(press(&mut app, "q"), Some(Step::Quit));
    let mut empty = app_with(Vec::new());
    assert_eq!(press(&mut empty, "ry"), None);
}

#[test]
fn each_link_can_be_dialled() {
    let names = ["isp", "lte", "sat", "modem"];
    let check = |keys: &str, expected: &str, rows: &[&str]| {
        let mut with_links = status(two());
        with_links.live.links = Some(link(&names));
        let mut app = App::default();
        app.heard(Ok(Response::Status(Box::new(with_links))));
        let name = Some(expected.to_owned());
        press(&mut app, keys);
        let text = screen(&app, 80, 24);
        for row in rows {
            assert!(text.contains(row), "no {row:?} in\n{text}");
        }
        let step = press(&mut app, "dy");
        let command = Command::Link(LinkCommand::Up { name });
        assert_eq!(step, Some(Step::Ask(Box::new(command))), "{keys:?}");
    };
    check("", "isp", &["▸ isp", "  lte", "  sat", "and 1 more"]);
    check("l", "lte", &["  isp", "▸ lte"]);
    check(
        "lll",
        "modem",
        &["  lte", "  sat", "▸ modem", "l next link"],
    );
    check("llll", "isp", &["▸ isp"]);
}

#[test]
fn the_selection_follows_its_queue() {
    let mut app = app_with(two());
    assert_eq!(app.selected(), Some(0));
    press(&mut app, "j");
    assert_eq!(app.selected(), Some(1));
    let mut queues = two();
    queues[0].amount.messages = 100;
    app.heard(Ok(Response::Status(Box::new(status(queues)))));
    assert_eq!(app.selected(), Some(0), "its queue is the fullest now");
    press(&mut app, "sss");
    assert!(screen(&app, 80, 24).contains("queues by name"));
    assert_eq!(app.selected(), Some(0), "no customer is before any");
}

#[test]
fn trouble_is_on_the_first_line() {
    let mut app = app_with(two());
    app.heard(Err("cannot reach the server\n    is it running?".to_owned()));
    let text = screen(&app, 80, 24);
    let first = text.lines().next().expect("a line");
    assert!(first.contains("cannot reach the server"), "{text}");
    let mut full = status(two());
    full.live.readiness = Readiness {
        has_room: false,
        ..Readiness::default()
    };
    app.heard(Ok(Response::Status(Box::new(full))));
    let text = screen(&app, 80, 24);
    assert!(text.contains("no new mail: there is no room"), "{text}");
}

#[test]
fn rates_are_per_second() {
    let at = |millis: i64, accepted: u64| {
        let mut status = status(two());
        status.live.at = Some(Date(WallTime::from_millis(millis)));
        let counter = ("messages_accepted".to_owned(), accepted);
        status.counters.extend([counter]);
        Ok(Response::Status(Box::new(status)))
    };
    let mut app = App::default();
    app.heard(at(1000, 10));
    assert!(app.rates.is_empty());
    app.heard(at(3000, 30));
    assert_eq!(app.rates.back().map(|rates| rates.messages_in), Some(10.0));
    // The server was restarted.
    app.heard(at(4000, 3));
    assert_eq!(app.rates.back().map(|rates| rates.messages_in), Some(0.0));
    assert!(screen(&app, 80, 24).contains("in  0.0 msg/s"));
}
