//! Wire transcripts of server sessions.
//!
//! Each `*.txt` beside this file is a dialogue. It is played in three cuttings
//! (what the client says before a reply is due comes whole, line by line, octet by
//! octet), and each must come to exactly the replies and events that are written.
//!
//! | line | means |
//! |---|---|
//! | `# …` | a remark |
//! | `C: text` | the client sends a line; CRLF is added |
//! | `c: text` | the same without CRLF |
//! | `S: text` | we reply this line |
//! | `E: text` | the core is told this: `begin`, `trace`, `end`, `abort`, `login`, `login-failed`, `starttls`, `close` |
//! | `sends: n` | the replies since the last check left in so many sends, uncut |
//! | `! directive` | see [`script::Directive`] |
//!
//! In a client's text `\r \n \0 \\ \xHH` are octets, `\{n}c` is `n` times `c`.

mod login;
mod script;
mod soup;
mod world;

use std::fs;
use std::panic;
use std::path::Path;

use script::{Step, parse};
use world::{Scripted, World};

/// How what a client says reaches the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cutting {
    Whole,
    Lines,
    Octets,
}

fn play(name: &str, text: &str, cutting: Cutting) {
    let script = parse(text).unwrap_or_else(|(line, error)| panic!("{name}:{line}: {error}"));
    let mut world = World::new(script.settings.clone(), script.tls, Scripted::default());
    for (line, step) in script.steps {
        let place = format!("{name}:{line}, {cutting:?}");
        match step {
            Step::Client(lines) => match cutting {
                Cutting::Whole => world.offer(&lines.concat()),
                Cutting::Lines => lines.iter().for_each(|line| world.offer(line)),
                Cutting::Octets => lines
                    .concat()
                    .iter()
                    .for_each(|&octet| world.offer(&[octet])),
            },
            Step::Expect { replies, events } => {
                let said = String::from_utf8(std::mem::take(&mut world.said));
                assert_eq!(
                    said.expect("replies are ASCII"),
                    replies,
                    "{place}: replies"
                );
                let told = std::mem::take(&mut world.told);
                assert_eq!(told, events, "{place}: events");
            }
            Step::Sends(expected) => {
                if cutting == Cutting::Whole {
                    assert_eq!(world.sends, expected, "{place}: sends");
                }
                world.sends = 0;
            }
            Step::Do(directive) => world.perform(directive),
        }
    }
    world.finish();
}

#[test]
fn dialogues() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut played = 0;
    let mut failed = Vec::new();
    for entry in fs::read_dir(&directory).expect("the directory of this file") {
        let path = entry.expect("a directory entry").path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            let text = fs::read_to_string(&path).expect("a dialogue in UTF-8");
            let name = path.file_name().expect("a file").to_string_lossy();
            for cutting in [Cutting::Whole, Cutting::Lines, Cutting::Octets] {
                // All that fail are shown, not only the first.
                if panic::catch_unwind(|| play(&name, &text, cutting)).is_err() {
                    failed.push(format!("{name}, {cutting:?}"));
                }
            }
            played += 1;
        }
    }
    assert!(played > 0, "no dialogue in {}", directory.display());
    assert!(
        failed.is_empty(),
        "of {played} dialogues failed: {failed:#?}"
    );
}
