//! The promises of the design that a compiler does not keep, checked on the text of
//! the tree. Each test says what is wrong, where, and what to do.

mod manual;
mod source;

use source::{files_below, program, root, text};

/// What only the shells may do, with the reason in the words of the design.
const SHELL_ONLY: &[(&str, &str)] = &[
    ("std::time::Instant", "machines are handed `now`"),
    ("std::time::SystemTime", "machines are handed `now`"),
    ("Instant::now", "machines are handed `now`"),
    ("SystemTime", "machines are handed `now`"),
    ("Timestamp::now", "machines are handed `now`"),
    ("Zoned::now", "machines are handed `now`"),
    ("std::fs", "no I/O outside the shells"),
    ("std::thread", "no threads outside the shells"),
    ("std::process", "no processes outside the shells"),
    ("std::env", "no environment outside the shells"),
    ("TcpStream", "no I/O outside the shells"),
    ("TcpListener", "no I/O outside the shells"),
    ("UdpSocket", "no I/O outside the shells"),
    ("UnixStream", "no I/O outside the shells"),
    ("UnixListener", "no I/O outside the shells"),
    ("println!", "facts are values; only the shells write"),
    ("eprintln!", "facts are values; only the shells write"),
    ("RandomState", "randomness is a seed"),
    ("getrandom", "randomness is a seed"),
    ("thread_rng", "randomness is a seed"),
    ("rand::", "randomness is a seed"),
    ("rustix::", "no system calls outside the shells"),
    ("libc::", "no system calls outside the shells"),
    ("socket2::", "no system calls outside the shells"),
    ("tokio", "no runtime outside the shells"),
    ("monoio", "no runtime outside the shells"),
    ("hickory", "no DNS outside the shells"),
];

/// Vocabulary and machines: no clock, no randomness, no I/O.
const PURE: &[&str] = &[
    "src/time.rs",
    "src/shared.rs",
    "src/mail.rs",
    "src/user.rs",
    "src/mail/",
    "src/maildir.rs",
    "src/wire/",
    "src/report.rs",
    "src/roster.rs",
    "src/route.rs",
    "src/route/",
    "src/smtp/",
    "src/pop3/",
    "src/spool/",
    "src/queue/",
    "src/link/",
    "src/policy/",
    "src/tls.rs",
    "src/tls/",
    "src/core/",
    "spool-format/src/",
];

/// The one place outside the shells that makes system calls.
const SEGMENT: &[&str] = &["src/spool/segment.rs", "src/spool/segment/"];

fn is_below(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// Fails with every finding, not with the first.
#[track_caller]
fn none(what: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{what}\n  {}", findings.join("\n  "));
}

#[test]
fn machines_have_no_clock_no_randomness_and_no_system_calls() {
    let mut findings = Vec::new();
    for source in program("src")
        .into_iter()
        .chain(program("spool-format/src"))
    {
        if !is_below(&source.path, PURE) || is_below(&source.path, SEGMENT) {
            continue;
        }
        for (number, line) in source.code() {
            for (word, reason) in SHELL_ONLY {
                // A name of ours may end with the word: `MyTcpStream`.
                let hit = line.match_indices(word).any(|(at, _)| {
                    !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                });
                if hit {
                    findings.push(format!("{}:{number}: {word}: {reason}", source.path));
                }
            }
        }
    }
    none("machines do what only the shells may do:", &findings);
}

/// What each module of the library may import of the others. Vocabulary is free.
const VOCABULARY: &[&str] = &[
    "time", "mail", "user", "wire", "report", "roster", "sasl", "shared",
];
const IMPORTS: &[(&str, &[&str])] = &[
    ("time", &[]),
    ("mail", &[]),
    ("maildir", &[]),
    ("user", &[]),
    ("sasl", &[]),
    ("shared", &[]),
    ("wire", &[]),
    ("report", &[]),
    ("roster", &[]),
    // A next hop may be a Maildir.
    ("route", &["maildir"]),
    ("smtp", &[]),
    ("pop3", &[]),
    ("spool", &[]),
    // A destination is a next hop.
    ("queue", &["route"]),
    ("link", &[]),
    ("policy", &["route"]),
    ("tls", &[]),
    (
        "core",
        &[
            "maildir", "route", "smtp", "pop3", "spool", "queue", "link", "policy", "tls",
        ],
    ),
    // Builds the small structs that the modules define.
    (
        "config",
        &[
            "maildir", "route", "smtp", "pop3", "spool", "queue", "link", "policy", "tls",
        ],
    ),
    (
        "runtime",
        &[
            "maildir", "route", "smtp", "pop3", "spool", "queue", "link", "policy", "tls", "core",
            "config",
        ],
    ),
    (
        "cli",
        &[
            "maildir", "route", "smtp", "pop3", "spool", "queue", "link", "policy", "tls", "core",
            "config", "runtime",
        ],
    ),
];

/// `smtp` for `src/smtp/data.rs`.
fn module_of(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    inner
        .split('/')
        .next()
        .unwrap_or(inner)
        .trim_end_matches(".rs")
}

#[test]
fn imports_run_one_way() {
    let mut findings = Vec::new();
    for source in program("src") {
        let module = module_of(&source.path);
        if matches!(module, "lib" | "machines" | "main") {
            continue;
        }
        let Some((_, allowed)) = IMPORTS.iter().find(|(name, _)| *name == module) else {
            findings.push(format!(
                "{}: module {module} is not in IMPORTS",
                source.path
            ));
            continue;
        };
        for (number, line) in source.code() {
            for (at, _) in line.match_indices("crate::") {
                let name: String = line[at + "crate::".len()..]
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let free = name == module || VOCABULARY.contains(&name.as_str());
                // `crate::{…}` would hide from this test what is imported.
                if !free && !allowed.contains(&name.as_str()) {
                    let path = &source.path;
                    findings.push(format!("{path}:{number}: {module} imports {name}"));
                }
            }
        }
    }
    none("imports against the direction of the design:", &findings);
}

#[test]
fn the_load_generator_knows_nothing_of_the_package_under_test() {
    let manifest = text("loadtest/Cargo.toml");
    let own = ["turnspool", "spool-format"];
    for name in own {
        let depends = manifest.lines().any(|line| {
            line.split_once('=')
                .is_some_and(|(key, _)| key.trim() == name)
        });
        assert!(!depends, "loadtest depends on {name}");
    }
}

#[test]
fn unsafe_lives_in_two_places() {
    let allowed = ["src/spool/segment.rs", "src/runtime/"];
    let word = concat!("un", "safe");
    let mut findings = Vec::new();
    for source in program("src")
        .into_iter()
        .chain(program("spool-format/src"))
    {
        if is_below(&source.path, &allowed) {
            continue;
        }
        for (number, line) in source.code() {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            for found in words.filter(|found| *found == word || *found == "unsafe_code") {
                findings.push(format!("{}:{number}: {found}", source.path));
            }
        }
    }
    none(
        "only the mapped segment and the shells may use it:",
        &findings,
    );
}

/// Longest file in lines, test modules not counted. Above it there are two nouns
/// in the file: find the second.
const FILE_LINES_MAX: usize = 600;

#[test]
fn no_file_is_too_long() {
    let mut findings = Vec::new();
    for directory in ["src", "spool-format/src", "loadtest/src", "benches"] {
        for source in program(directory) {
            let lines = source.lines.len();
            if lines > FILE_LINES_MAX {
                findings.push(format!("{}: {lines} lines", source.path));
            }
        }
    }
    none("find the second noun in these files:", &findings);
}

#[test]
fn nothing_is_left_to_be_done() {
    let words = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("#[ig", "nore"),
        concat!("db", "g!("),
    ];
    let mut findings = Vec::new();
    for directory in ["src", "spool-format", "loadtest", "benches", "tests"] {
        for path in files_below(directory) {
            if !path.ends_with(".rs") || path.contains("/target/") {
                continue;
            }
            for (i, line) in text(&path).lines().enumerate() {
                for word in words.iter().filter(|word| line.contains(**word)) {
                    findings.push(format!("{path}:{}: {word}", i + 1));
                }
            }
        }
    }
    none("finish it or remove it:", &findings);
}

#[test]
fn every_file_of_the_dialogues_is_played() {
    // The players take each `*.txt` beside them; what is called otherwise would lie
    // there unplayed.
    let mut findings = Vec::new();
    let mut played = 0;
    for path in files_below("tests") {
        if !path.starts_with("tests/dialogues") {
            continue;
        }
        if path.ends_with(".txt") {
            played += 1;
        } else if !path.ends_with(".rs") {
            findings.push(path);
        }
    }
    none("no player takes these files:", &findings);
    let players = files_below("tests")
        .into_iter()
        .filter(|path| path.starts_with("tests/dialogues") && path.ends_with("/main.rs"));
    assert!(
        played > 0 || players.count() == 0,
        "players without dialogues"
    );
}

/// The version of the package.
const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn the_changelog_has_the_current_version() {
    let changelog = text("CHANGELOG.md");
    let current = changelog.lines().find(|line| line.starts_with("## "));
    let current = current.expect("CHANGELOG.md has no version");
    assert!(
        current.starts_with(&format!("## {VERSION}")),
        "CHANGELOG.md begins with {current:?}; the version is {VERSION}"
    );
}

/// The code blocks of a language in a Markdown text.
fn blocks(markdown: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut current: Option<(bool, String)> = None;
    for line in markdown.lines() {
        match (&mut current, line.strip_prefix("```")) {
            (None, Some(begun)) => current = Some((begun == language, String::new())),
            (None, None) => {}
            (Some(_), Some(_)) => {
                if let Some((true, block)) = current.take() {
                    blocks.push(block);
                }
            }
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    blocks
}

#[test]
fn the_two_commands_of_the_readme_are_those_of_the_tests() {
    let readme = text("README.md");
    let commands = blocks(&readme, "sh");
    assert_eq!(commands[0], "cargo run --release -- serve\n");
    let test = commands[1].trim_end();
    let ci = text(".ci/run");
    assert!(
        ci.lines().any(|line| line == test),
        ".ci/run does not run {test:?}"
    );
    assert_eq!(ci.lines().last(), Some(test), "and runs it last");
}

/// Whatever is right but for files that are not on this machine: secrets, certificates,
/// lists.
#[test]
fn the_configurations_of_the_manual_pass_the_check() {
    let surroundings = turnspool::config::surroundings::Surroundings {
        host_name: "host.example".to_owned(),
        cpus: 1,
        credentials_directory: None,
        state_directory: None,
    };
    let pages = ["backup-spool", "site-atrn", "site-pppd", "smarthost"]
        .map(|page| format!("src/manual/{page}.md"));
    for page in pages.iter().map(String::as_str).chain(["README.md"]) {
        let blocks = blocks(&text(page), "toml");
        assert!(!blocks.is_empty(), "{page}");
        for block in blocks {
            let Err(report) =
                turnspool::config::parse(std::path::Path::new(page), &block, &surroundings)
            else {
                continue;
            };
            let missing = |what: &str| what.contains("No such file");
            let wrong: Vec<_> = (report.findings.iter())
                .filter(|finding| !missing(&finding.what))
                .collect();
            assert!(wrong.is_empty(), "{page}: {wrong:?}\n{block}");
        }
    }
}

#[test]
fn every_section_is_in_the_readme_and_every_option_is_documented() {
    let readme = text("README.md");
    let mut findings = Vec::new();
    for section in turnspool::config::options::sections() {
        let header = if section.repeated {
            format!("`[[{}]]`", section.path)
        } else {
            format!("`[{}]`", section.path)
        };
        let outer = !section.path.is_empty() && !section.path.contains('.');
        if outer && !readme.contains(&header) {
            findings.push(format!("README.md does not mention {header}"));
        }
        for option in section.options {
            if option.doc.concat().trim().is_empty() {
                findings.push(format!("{header} {} is not documented", option.name));
            }
        }
    }
    none("undocumented:", &findings);
}

#[test]
fn what_the_readme_links_to_is_there() {
    let readme = text("README.md");
    let mut links = 0;
    for (at, _) in readme.match_indices("](") {
        let target: String = readme[at + 2..].chars().take_while(|c| *c != ')').collect();
        links += 1;
        assert!(root().join(&target).exists(), "README.md links to {target}");
    }
    assert!(links > 0);
}

#[test]
fn the_tests_that_the_promises_name_are_there() {
    let page = text("src/manual/promises.md");
    let mut there = std::collections::HashSet::new();
    for directory in ["src", "spool-format", "tests"] {
        for path in files_below(directory) {
            if path.ends_with(".rs") && !path.contains("/target/") {
                for line in text(&path).lines() {
                    if let Some(rest) = line.trim_start().strip_prefix("fn ") {
                        let name: String = rest
                            .chars()
                            .take_while(|c| c.is_alphanumeric() || *c == '_')
                            .collect();
                        there.insert(name);
                    }
                }
            }
        }
    }
    let mut findings = Vec::new();
    let mut named = 0;
    for line in page.lines() {
        let Some(list) = line.strip_prefix("Tested by: ") else {
            continue;
        };
        for name in list.split_whitespace() {
            named += 1;
            if !there.contains(name.trim_matches('`')) {
                findings.push(format!("src/manual/promises.md: {name}"));
            }
        }
    }
    none("no test is called so:", &findings);
    assert!(named > 20, "{named} tests are named");
}
