//! `turnspool top`: what the running server is doing, in this terminal.
//!
//! Two threads: one asks the server over the admin socket, the other draws and reads keys.
//! So a server that does not answer holds up no key. The terminal is given back as it was
//! at the end, after SIGTERM and SIGHUP too, and when this program panics.

mod app;
mod filter;
mod view;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use self::app::{App, Step};
use super::connection::Connection;
use super::{Exit, Failure, Global};
use crate::core::admin::{Command, Response};

/// How long a key waits for the screen, and the screen for an answer.
const TICK: Duration = Duration::from_millis(100);

/// How often the server is asked.
const REFRESH: Duration = Duration::from_secs(1);

/// Shows what the running server is doing, and steers it, in this terminal.
#[derive(Debug, Args)]
pub(super) struct Top {}

/// What the asking thread has heard.
type Heard = Result<Response, String>;

impl Top {
    /// Until `q`.
    pub(super) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            let text = "top needs a terminal; `turnspool status --json` prints the same facts";
            return Err(Failure::new(Exit::Failed, text));
        }
        // What is wrong with the command line or the socket is said before the screen is
        // taken.
        let first = Connection::open(global)?;
        let ended = ended_by_signal()?;
        let (to_server, questions) = channel();
        let (heard, answers) = channel();
        let global = global.clone();
        // Not joined: a server that does not answer must not hold up the end.
        std::thread::spawn(move || ask(&global, first, &questions, &heard));
        let mut terminal = ratatui::try_init()?;
        let result = watch(&mut terminal, &to_server, &answers, &ended);
        ratatui::restore();
        result?;
        Ok(Exit::Done)
    }
}

/// Set when somebody wants this program to end.
fn ended_by_signal() -> io::Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let ended = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&ended);
    let runtime = (tokio::runtime::Builder::new_current_thread().enable_all()).build()?;
    let (mut term, mut hangup, mut interrupt) = {
        let _entered = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
        )
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = term.recv() => {}
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
            }
        });
        set.store(true, Ordering::Relaxed);
    });
    Ok(ended)
}

/// Asks the server each [`REFRESH`], and what it is given to ask. Ends when nobody
/// listens.
fn ask(global: &Global, first: Connection, questions: &Receiver<Command>, heard: &Sender<Heard>) {
    let mut connection = Some(first);
    let mut question = Command::Status;
    loop {
        let asked = match connection.take() {
            Some(open) => Ok(open),
            None => Connection::open(global),
        };
        let answer = asked.and_then(|mut open| {
            let answer = open.ask(question)?;
            connection = Some(open);
            Ok(answer)
        });
        if heard.send(answer.map_err(|why| why.to_string())).is_err() {
            return;
        }
        question = match questions.recv_timeout(REFRESH) {
            Ok(question) => question,
            Err(RecvTimeoutError::Timeout) => Command::Status,
            Err(RecvTimeoutError::Disconnected) => return,
        };
    }
}

/// Draws and reads keys, until it is to end.
fn watch(
    terminal: &mut DefaultTerminal,
    to_server: &Sender<Command>,
    answers: &Receiver<Heard>,
    ended: &AtomicBool,
) -> io::Result<()> {
    let mut app = App::default();
    while !ended.load(Ordering::Relaxed) {
        while let Ok(heard) = answers.try_recv() {
            let is_overview = matches!(heard, Ok(Response::Status(_)));
            app.heard(heard);
            if is_overview && let Some(Step::Ask(command)) = app.look() {
                drop(to_server.send(*command));
            }
        }
        terminal.draw(|frame| view::draw(frame, &app))?;
        if !event::poll(TICK)? {
            continue;
        }
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
        {
            match app.key(key) {
                Some(Step::Quit) => return Ok(()),
                // The thread lives as long as this one.
                Some(Step::Ask(command)) => drop(to_server.send(*command)),
                None => {}
            }
        }
    }
    Ok(())
}
