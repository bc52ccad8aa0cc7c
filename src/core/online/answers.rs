//! What the operator is told about links, and what he orders.

use std::time::Duration;

use super::{Link, Online};
use crate::core::admin::{
    BudgetStatus, Date, LinkCommand, LinkHistory, LinkPlan, LinkStatus, Links, OUTINGS_SHOWN_MAX,
    Reason, Response, shortened,
};
use crate::link::budget::{Left, Per};
use crate::link::controller::{Order, Phase, Status};
use crate::link::outing::time_for;
use crate::time::{Now, WallTime};

impl Online {
    /// Answers a question, or follows an order.
    pub fn ask(&mut self, now: Now, command: &LinkCommand) -> Response {
        if self.links.is_empty() {
            let text = "there is no [[link]] in the configuration: this host is always on line";
            return Response::refused(Reason::NotFound, text);
        }
        match command {
            LinkCommand::Status => Response::Links(self.status(now)),
            LinkCommand::Plan => Response::LinkPlan {
                plans: self.links.iter().map(|link| self.plan(now, link)).collect(),
            },
            LinkCommand::History { limit } => Response::LinkHistory {
                histories: self
                    .links
                    .iter()
                    .map(|link| history(link, *limit))
                    .collect(),
            },
            LinkCommand::Up { name } => {
                let first = self.links[0].name.clone();
                self.order(now, Some(name.as_ref().unwrap_or(&first)), Order::Up)
            }
            LinkCommand::Down { name } => self.order(now, name.as_ref(), Order::Down),
        }
    }

    /// How all links stand, and their times on line. `None`: this host is always on line.
    pub(in crate::core) fn overview(&self, now: Now) -> Option<(Links, Vec<LinkHistory>)> {
        if self.links.is_empty() {
            return None;
        }
        let histories = self.links.iter();
        let histories = histories.map(|link| history(link, OUTINGS_SHOWN_MAX));
        Some((self.status(now), histories.collect()))
    }

    fn order(&mut self, now: Now, name: Option<&String>, order: Order) -> Response {
        let mut found = false;
        let mut refused = None;
        for link in &mut self.links {
            if name.is_none_or(|name| *name == link.name) {
                found = true;
                if let Err(why) = link.controller.order(now, order) {
                    refused = Some(format!("link {}: {why}", link.name));
                }
            }
        }
        self.follow(now);
        match (found, refused) {
            (false, _) => {
                let names: Vec<_> = self.links.iter().map(|link| link.name.as_str()).collect();
                let text = format!("there is no such link; there is {}", names.join(", "));
                Response::refused(Reason::NotFound, text)
            }
            (true, Some(why)) => Response::refused(Reason::Failed, why),
            (true, None) => Response::Done,
        }
    }

    fn status(&self, now: Now) -> Links {
        let work = self.work();
        let next = self.calendar.next(now.wall, |row| self.rows[row].may_dial);
        Links {
            links: self
                .links
                .iter()
                .map(|link| link_status(now, link))
                .collect(),
            ready_messages: work.ready,
            ready_octets: work.ready_octets,
            waiting_messages: work.waiting,
            waiting_octets: work.waiting_octets,
            next_window: next.map(|next| Date(next.at)),
        }
    }

    fn plan(&self, now: Now, link: &Link) -> LinkPlan {
        let status = link.controller.status(now);
        let work = self.work();
        let (at, why) = self.next_time(now, link, &status);
        let octets = work.waiting_octets;
        let rate = link.controller.octets_per_second(now);
        let idle = link.controller.settings().idle;
        let time = rate.map(|rate| time_for(octets, rate) + idle);
        let (cost, left) = link.controller.estimate(now, time.unwrap_or(idle));
        let priced = link.controller.settings().budget;
        let priced = priced.is_some_and(|budget| budget.minute_price.is_some());
        LinkPlan {
            name: link.name.clone(),
            at: at.map(Date),
            why,
            messages: work.waiting,
            octets,
            seconds: time.map(|time| time.as_secs()),
            cost: time.filter(|_| priced).map(|_| cost.to_string()),
            octets_left_over: left_over(octets, rate, &left),
            budget: budget_status(now.wall, link, &status),
        }
    }

    /// When a link comes up next, and why.
    fn next_time(&self, now: Now, link: &Link, status: &Status) -> (Option<WallTime>, String) {
        if link.controller.is_up() {
            let why = status
                .reason
                .map_or_else(String::new, |why| why.to_string());
            return (Some(now.wall), format!("it is up: {why}"));
        }
        if status.held_down {
            return (None, "down by the operator".to_owned());
        }
        let (at, why) = self.next_reason(now, link, status);
        let renewed = link.controller.period_ends(now.wall);
        match at.zip(renewed) {
            Some((at, renewed)) if link.controller.is_spent(now.wall) && at < renewed => (
                Some(renewed),
                format!("{why}; until then the budget is used up"),
            ),
            _ => (at, why),
        }
    }

    /// The same, whatever the budget says.
    fn next_reason(&self, now: Now, link: &Link, status: &Status) -> (Option<WallTime>, String) {
        if let Some(reason) = status.reason {
            let soon = status.next_dial_in.unwrap_or(Duration::ZERO);
            return (Some(now.wall + soon), reason.to_string());
        }
        let row = self.calendar.next(now.wall, |row| self.rows[row].may_dial);
        let by_age = link.controller.settings().go_up.due(&self.work());
        match (row.map(|row| row.at), by_age) {
            (Some(row), Some(age)) if age < row => {
                (Some(age), "by the age of what waits".to_owned())
            }
            (Some(row), _) => (Some(row), "by schedule".to_owned()),
            (None, Some(age)) => (Some(age), "by the age of what waits".to_owned()),
            (None, None) => (None, "nothing makes it come up so far".to_owned()),
        }
    }
}

/// Octets that do not go before the budget ends.
fn left_over(octets: u64, rate: Option<u64>, left: &Left) -> u64 {
    let by_time = left
        .time
        .zip(rate)
        .map(|(time, rate)| rate.saturating_mul(time.as_secs()));
    let possible = [by_time, left.octets].into_iter().flatten().min();
    possible.map_or(0, |possible| octets.saturating_sub(possible))
}

fn history(link: &Link, limit: u32) -> LinkHistory {
    let memory = link.controller.memory();
    let latest = memory.outings.into_iter().rev();
    LinkHistory {
        name: link.name.clone(),
        outings: latest.take(limit as usize).collect(),
    }
}

fn link_status(now: Now, link: &Link) -> LinkStatus {
    let status = link.controller.status(now);
    let budget = budget_status(now.wall, link, &status);
    LinkStatus {
        name: link.name.clone(),
        state: status.phase.as_str().to_owned(),
        since: Date(status.since),
        why: status.reason.map(|reason| reason.to_string()),
        ours: status.ours,
        held_down: status.held_down,
        next_dial_seconds: status.next_dial_in.map(|time| time.as_secs()),
        last_failure: status.last_failure.map(|why| shortened(&why).to_owned()),
        octets: status.octets,
        empty_in_seconds: status
            .empty_in
            .filter(|_| status.phase != Phase::Idle)
            .map(|time| time.as_secs()),
        budget,
    }
}

fn budget_status(wall: WallTime, link: &Link, status: &Status) -> Option<BudgetStatus> {
    let limits = link.controller.settings().budget?;
    let per = match limits.per {
        Per::Window => "window",
        Per::Day => "day",
        Per::Month => "month",
    };
    Some(BudgetStatus {
        per: per.to_owned(),
        seconds_spent: status.spent.millis / 1000,
        octets_spent: status.spent.octets,
        money_spent: limits.minute_price.map(|_| status.spent_money.to_string()),
        seconds_left: status.left.time.map(|time| time.as_secs()),
        octets_left: status.left.octets,
        money_left: status.left.money.map(|money| money.to_string()),
        period_ends: link.controller.period_ends(wall).map(Date),
    })
}
