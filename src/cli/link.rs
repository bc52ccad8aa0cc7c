//! `turnspool link`: how this site is on line, and steering it.

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;

use super::connection::{Connection, unexpected};
use super::text::{age, escaped, now, size};
use super::{Exit, Failure, Global, print_json};
use crate::core::admin::{
    BudgetStatus, Command, LinkCommand, LinkHistory, LinkPlan, LinkStatus, Links, Response,
};
use crate::time::WallTime;

/// Looks at the links of the running server, and steers them.
#[derive(Debug, Subcommand)]
pub(super) enum Link {
    /// What each link is doing, what waits for it, and what is left of its budget
    Status,
    /// Goes on line now; without a name, by the first link
    Up {
        /// The link, by its name in the configuration
        name: Option<String>,
    },
    /// Goes off line, and stays so until `link up` or the schedule; without a name, by all
    Down {
        /// The link, by its name in the configuration
        name: Option<String>,
    },
    /// When each link comes up next, what would be sent, and what that would cost
    Plan,
    /// When the links were up, latest first
    History {
        /// Of each link so many at most
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: u32,
    },
}

impl Link {
    /// Asks the server.
    pub(super) fn run(&self, global: &Global, out: &mut dyn Write) -> Result<Exit, Failure> {
        let command = match self {
            Self::Status => LinkCommand::Status,
            Self::Up { name } => LinkCommand::Up { name: name.clone() },
            Self::Down { name } => LinkCommand::Down { name: name.clone() },
            Self::Plan => LinkCommand::Plan,
            Self::History { limit } => LinkCommand::History { limit: *limit },
        };
        match Connection::open(global)?.ask(Command::Link(command))? {
            Response::Done if global.json => {
                print_json(out, &serde_json::json!({ "done": true }))?;
            }
            Response::Done => self.show_outcome(global, out)?,
            Response::Links(links) if global.json => print_json(out, &links)?,
            Response::Links(links) => status(out, &links)?,
            Response::LinkPlan { plans } if global.json => print_json(out, &plans)?,
            Response::LinkPlan { plans } => plan(out, &plans)?,
            Response::LinkHistory { histories } if global.json => print_json(out, &histories)?,
            Response::LinkHistory { histories } => history(out, &histories)?,
            other => return Err(unexpected(&other)),
        }
        Ok(Exit::Done)
    }

    /// What has come of an order so far: dialling takes a while.
    fn show_outcome(&self, global: &Global, out: &mut dyn Write) -> Result<(), Failure> {
        let command = Command::Link(LinkCommand::Status);
        let Response::Links(Links { links, .. }) = Connection::open(global)?.ask(command)? else {
            return Ok(());
        };
        let concerned: &[LinkStatus] = match self {
            // Without a name it is the first.
            Self::Up { name: None } => &links[..links.len().min(1)],
            _ => &links,
        };
        let (Self::Up { name } | Self::Down { name }) = self else {
            return Ok(());
        };
        for link in concerned {
            if name.as_ref().is_none_or(|name| *name == link.name) {
                one(out, link)?;
            }
        }
        Ok(())
    }
}

fn status(out: &mut dyn Write, links: &Links) -> Result<(), Failure> {
    for link in &links.links {
        one(out, link)?;
    }
    writeln!(
        out,
        "waiting: {} messages, {}; {} of them, {}, could go at once",
        links.waiting_messages,
        size(links.waiting_octets),
        links.ready_messages,
        size(links.ready_octets)
    )?;
    match links.next_window {
        Some(next) => writeln!(out, "the schedule next dials at {}", next.0)?,
        None => writeln!(out, "the schedule does not dial")?,
    }
    Ok(())
}

fn one(out: &mut dyn Write, link: &LinkStatus) -> Result<(), Failure> {
    let since = age(now().since(link.since.0));
    write!(
        out,
        "{}: {} for {since}",
        escaped(&link.name),
        escaped(&link.state)
    )?;
    match link.ours {
        Some(true) => write!(out, ", opened by us")?,
        Some(false) => write!(out, ", opened by somebody else")?,
        None => {}
    }
    if let Some(why) = &link.why {
        write!(out, " ({})", escaped(why))?;
    }
    writeln!(out)?;
    if link.held_down {
        writeln!(
            out,
            "    down by the operator, until `link up` or the schedule"
        )?;
    }
    if let Some(why) = &link.last_failure {
        writeln!(out, "    the last dial failed: {}", escaped(why))?;
    }
    if let Some(seconds) = link.next_dial_seconds.filter(|seconds| *seconds > 0) {
        writeln!(out, "    the next dial is in {}", time(seconds))?;
    }
    if link.octets > 0 {
        writeln!(out, "    {} over the interface", size(link.octets))?;
    }
    if let Some(seconds) = link.empty_in_seconds {
        writeln!(out, "    what waits takes about {}", time(seconds))?;
    }
    if let Some(budget) = &link.budget {
        writeln!(out, "    {}", in_words(budget))?;
    }
    Ok(())
}

fn plan(out: &mut dyn Write, plans: &[LinkPlan]) -> Result<(), Failure> {
    for plan in plans {
        let name = escaped(&plan.name);
        match plan.at {
            Some(at) if at.0 > now() => {
                writeln!(out, "{name}: at {}, {}", at.0, escaped(&plan.why))?
            }
            Some(_) => writeln!(out, "{name}: now, {}", escaped(&plan.why))?,
            None => writeln!(out, "{name}: {}", escaped(&plan.why))?,
        }
        write!(out, "    {} messages, {}", plan.messages, size(plan.octets))?;
        match plan.seconds {
            Some(seconds) => write!(out, ", about {} on line", time(seconds))?,
            None => write!(
                out,
                "; how long that takes is not known before the first time"
            )?,
        }
        if let Some(cost) = &plan.cost {
            write!(out, ", about {}", escaped(cost))?;
        }
        writeln!(out)?;
        if plan.octets_left_over > 0 {
            let left = size(plan.octets_left_over);
            writeln!(
                out,
                "    the budget ends before: about {left} are left over"
            )?;
        }
        if let Some(budget) = &plan.budget {
            writeln!(out, "    {}", in_words(budget))?;
        }
    }
    Ok(())
}

fn history(out: &mut dyn Write, histories: &[LinkHistory]) -> Result<(), Failure> {
    for history in histories {
        writeln!(out, "{}:", escaped(&history.name))?;
        if history.outings.is_empty() {
            writeln!(out, "    it was not up yet")?;
        }
        for outing in &history.outings {
            let began = WallTime::from_millis(outing.began_millis);
            let whose = if outing.ours { "" } else { " (not ours)" };
            write!(
                out,
                "    {began} {:>4}{whose}  messages: {} sent, {} received",
                age(Duration::from_millis(outing.millis)),
                carried(outing.messages, outing.message_octets),
                carried(outing.received, outing.received_octets),
            )?;
            if outing.octets > 0 {
                write!(out, ", {} on the wire", size(outing.octets))?;
            }
            writeln!(
                out,
                "  {} – {}",
                escaped(&outing.why),
                escaped(&outing.ended)
            )?;
        }
    }
    Ok(())
}

/// The messages that went one way.
fn carried(messages: u64, octets: u64) -> String {
    match messages {
        0 => "none".to_owned(),
        _ => format!("{messages} ({})", size(octets)),
    }
}

/// What is spent and left of a budget.
fn in_words(budget: &BudgetStatus) -> String {
    let mut spent = vec![format!("{} on line", time(budget.seconds_spent))];
    // A link without an interface of a known name has none counted.
    if budget.octets_spent > 0 || budget.octets_left.is_some() {
        spent.push(size(budget.octets_spent));
    }
    spent.extend((budget.money_spent.as_ref()).map(|money| format!("{money} spent")));
    let mut left = Vec::new();
    left.extend(budget.seconds_left.map(time));
    left.extend(budget.octets_left.map(size));
    left.extend(budget.money_left.clone());
    let mut text = format!(
        "this {}: {}; left: {}",
        escaped(&budget.per),
        escaped(&spent.join(", ")),
        escaped(&left.join(", "))
    );
    if let Some(end) = budget.period_ends {
        text.push_str(&format!("; until {}", end.0));
    }
    text
}

fn time(seconds: u64) -> String {
    age(Duration::from_secs(seconds))
}
