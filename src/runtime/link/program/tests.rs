//! Programs that do not end when they are told to.

use std::path::Path;
use std::time::Instant;

use super::*;

/// Longest time until a condition holds.
const LIMIT: Duration = Duration::from_secs(20);
/// What the programs here may take to end: they do not end, or at once.
const SHORT: Duration = Duration::from_millis(300);

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

fn run_here(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(test);
}

/// The number that a program has written.
async fn number_in(file: &Path) -> u32 {
    let begun = Instant::now();
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if let Ok(number) = text.trim().parse() {
            return number;
        }
        assert!(begun.elapsed() < LIMIT, "{} is not written", file.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_running(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn until_gone(process: u32) {
    let begun = Instant::now();
    while is_running(process) {
        assert!(begun.elapsed() < LIMIT, "process {process} does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A dial that is called off drops it.
#[test]
fn one_that_does_not_end_is_killed() {
    let stubborn = |file: &Path| {
        let file = file.display();
        shell(&format!(
            "trap '' TERM; echo $$ > {file}; while :; do sleep 1; done"
        ))
    };
    run_here(async {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, is_dropped) in [("dropped", true), ("told", false)] {
            let file = directory.path().join(name);
            let group = start(&stubborn(&file), &Input::Nothing, None, SHORT);
            let group = group.expect("it starts");
            let process = number_in(&file).await;
            if is_dropped {
                drop(group);
            } else {
                group.end().await.expect("it is killed");
                assert!(!is_running(process));
            }
            until_gone(process).await;
        }
    });
}

/// Its leader is told and ends; what that has started does not.
#[test]
fn what_a_program_has_started_ends_with_it() {
    run_here(async {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("child");
        let child = format!(
            "trap '' TERM; echo $$ > {}; while :; do sleep 1; done",
            file.display()
        );
        let words = shell(&format!(
            "(exec /bin/sh -c \"{}\") & wait",
            child.replace('$', "\\$")
        ));
        let group = start(&words, &Input::Nothing, None, SHORT).expect("it starts");
        let process = number_in(&file).await;
        group.end().await.expect("it is killed");
        assert!(!is_running(process));
    });
}

/// It has a time limit, and so has its end.
#[test]
fn one_that_takes_too_long_ends_with_what_it_has_started() {
    run_here(async {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("child");
        let words = shell(&format!(
            "sleep 1000 & echo $! > {}; sleep 1000",
            file.display()
        ));
        let limit = Duration::from_millis(500);
        let why = run(&words, Input::Nothing, limit).await.unwrap_err();
        assert_eq!(why, "/bin/sh took longer than 0 s");
        let process = number_in(&file).await;
        assert!(!is_running(process));
    });
}

/// What one has left running that ended of itself is the line.
#[test]
fn what_is_left_on_purpose_stays() {
    run_here(async {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("child");
        let script = "sleep 1000 > /dev/null 2>&1 & echo $! > ";
        let words = shell(&format!("{script}{}", file.display()));
        let ended = run(&words, Input::Nothing, LIMIT).await.expect("it ends");
        assert!(ended.status.success());
        let process = number_in(&file).await;
        assert!(is_running(process));
        let process = i32::try_from(process).ok().and_then(Pid::from_raw);
        let process = process.expect("a number");
        rustix::process::kill_process(process, Signal::KILL).expect("it is ours");
    });
}
