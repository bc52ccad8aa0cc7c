//! How the screen of `turnspool top` looks. What comes from a peer is escaped.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Sparkline, Table, TableState};

use super::app::{App, Rates, Sort, plural};
use crate::cli::text::{age, escaped, fitted, now, size};
use crate::core::admin::{LinkStatus, Links, Queue, QueueGate, Status};
use crate::time::WallTime;

/// Links that are shown, the selected one among them; the others are counted.
const LINKS_SHOWN_MAX: usize = 3;

/// Lines of events, where the screen is not too low.
const EVENT_LINES: u16 = 4;

/// Below this height there are no events and no plots.
const HIGH: u16 = 20;

const DIM: Style = Style::new().fg(Color::DarkGray);
const GOOD: Style = Style::new().fg(Color::Green);
const WARN: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App) {
    let area = frame.area();
    let Some(status) = &app.status else {
        let text = app.trouble.clone();
        let text = text.unwrap_or_else(|| "waiting for the server …".to_owned());
        frame.render_widget(Paragraph::new(escaped(&text)), area);
        return;
    };
    let high = area.height >= HIGH;
    let links = status.live.links.as_ref();
    let link_lines = links.map_or(0, |links| links.links.len().min(LINKS_SHOWN_MAX) as u16 + 1);
    let [head, plots, numbers, link_area, queues, events, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(if high { 3 } else { 0 }),
        Constraint::Length(2),
        Constraint::Length(link_lines),
        Constraint::Min(3),
        Constraint::Length(if high { EVENT_LINES + 1 } else { 0 }),
        Constraint::Length(1),
    ])
    .areas(area);
    draw_head(frame, head, app, status);
    if high {
        draw_plots(frame, plots, app);
        draw_events(frame, events, status);
    }
    draw_numbers(frame, numbers, app, status);
    if let Some(links) = links {
        draw_links(frame, link_area, links, app.link().unwrap_or(0));
    }
    draw_queues(frame, queues, app, status);
    draw_foot(frame, foot, app);
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, app: &App, status: &Status) {
    let up = age(now().since(status.started.0));
    let state = match (&app.trouble, status.live.readiness.trouble()) {
        (Some(trouble), _) => Span::styled(escaped(trouble), BAD),
        (None, Some(trouble)) => Span::styled(format!("no new mail: {trouble}"), BAD),
        (None, None) => Span::styled("takes mail", GOOD),
    };
    let version = escaped(&status.program_version);
    let line = Line::from(vec![
        Span::styled(" turnspool ", Style::new().bold()),
        Span::styled(format!("{version}  up {up}  "), DIM),
        state,
    ]);
    frame.render_widget(line, area);
    let clock = status.live.at.map_or_else(String::new, |at| clock(at.0));
    frame.render_widget(Line::styled(clock, DIM).right_aligned(), area);
}

fn draw_plots(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let [left, right] = Layout::horizontal([Constraint::Fill(1); 2])
        .spacing(2)
        .areas(area);
    let latest = app.rates.back().copied().unwrap_or_default();
    let mut plot = |area: Rect, word: &str, color: Color, of: fn(&Rates) -> (f64, f64)| {
        let (messages, octets) = of(&latest);
        let title = format!(
            " {word} {} msg/s  {}/s",
            rate(messages),
            size(octets as u64)
        );
        let [head, body] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        frame.render_widget(Line::styled(title, Style::new().fg(color)), head);
        let shown = app.rates.len().min(usize::from(body.width));
        // Tenths, so that one message in ten seconds is seen.
        let values: Vec<u64> = (app.rates.iter().skip(app.rates.len() - shown))
            .map(|rates| (of(rates).0 * 10.0) as u64)
            .collect();
        frame.render_widget(Sparkline::default().data(values).style(color), body);
    };
    plot(left, "in ", Color::Cyan, |r| (r.messages_in, r.octets_in));
    plot(right, "out", Color::Magenta, |r| {
        (r.messages_out, r.octets_out)
    });
}

fn draw_numbers(frame: &mut Frame<'_>, area: Rect, app: &App, status: &Status) {
    let live = &status.live;
    let counter = |name: &str| status.counters.get(name).copied().unwrap_or(0);
    let mut first = vec![Span::styled(" sessions", DIM)];
    for (role, open) in live.sessions.by_role() {
        if open > 0 {
            first.push(Span::raw(format!("  {role} {open}")));
        }
    }
    if first.len() == 1 {
        first.push(Span::raw("  none"));
    }
    let half = app.commit.percentile_micros(50);
    let most = app.commit.percentile_micros(99);
    if let (Some(half), Some(most)) = (half, most) {
        first.push(Span::styled("   commit", DIM));
        let text = format!("  half ≤ {}  99% ≤ {}", short(half), short(most));
        first.push(Span::raw(text));
    }
    let messages = counter("queue_messages");
    let oldest = live.oldest.map_or_else(String::new, |at| {
        format!(", oldest {}", age(now().since(at.0)))
    });
    let mut second = vec![
        Span::styled(" queue", DIM),
        Span::raw(format!(
            "  {messages} message{}, {}{oldest}",
            plural(messages),
            size(counter("queue_octets"))
        )),
        Span::styled("   spool", DIM),
        Span::raw(format!("  {}", size(counter("spool_bytes")))),
    ];
    if let Some(free) = live.disk_free_octets {
        second.push(Span::styled("   free", DIM));
        second.push(Span::raw(format!("  {}", size(free))));
    }
    frame.render_widget(Paragraph::new(vec![first.into(), second.into()]), area);
}

fn draw_links(frame: &mut Frame<'_>, area: Rect, links: &Links, selected: usize) {
    let next = links.next_window.map_or_else(
        || "none by schedule".to_owned(),
        |at| format!("in {}", age(at.0.since(now()))),
    );
    let more = links.links.len().saturating_sub(LINKS_SHOWN_MAX);
    let more = if more > 0 {
        format!("   and {more} more")
    } else {
        String::new()
    };
    let mut lines = vec![Line::from(vec![
        Span::styled(" links", DIM),
        Span::raw(format!(
            "  ready {}, waiting {} ({})",
            links.ready_messages,
            links.waiting_messages,
            size(links.waiting_octets)
        )),
        Span::styled("   next window", DIM),
        Span::raw(format!("  {next}{more}")),
    ])];
    let several = links.links.len() > 1;
    let first = (selected + 1).saturating_sub(LINKS_SHOWN_MAX);
    let shown = (links.links.iter().enumerate())
        .skip(first)
        .take(LINKS_SHOWN_MAX);
    lines.extend(shown.map(|(place, link)| link_line(link, several && place == selected)));
    frame.render_widget(Paragraph::new(lines), area);
}

fn link_line(link: &LinkStatus, marked: bool) -> Line<'static> {
    let mark = if marked { '▸' } else { ' ' };
    let style = match link.state.as_str() {
        "up" | "draining" | "idle" => GOOD,
        "dialling" | "hanging up" => WARN,
        _ => Style::new(),
    };
    let since = age(now().since(link.since.0));
    let mut spans = vec![
        Span::raw(format!(" {mark} {}  ", fitted(&link.name, 12))),
        Span::styled(format!("{} {since}", escaped(&link.state)), style),
    ];
    let mut add = |text: String| spans.push(Span::raw(text));
    if let Some(seconds) = link.empty_in_seconds {
        let time = age(std::time::Duration::from_secs(seconds));
        add(format!("  empty in {time}"));
    }
    if let Some(seconds) = link.budget.as_ref().and_then(|b| b.seconds_left) {
        let time = age(std::time::Duration::from_secs(seconds));
        add(format!("  budget {time}"));
    }
    if let Some(seconds) = link.next_dial_seconds {
        let time = age(std::time::Duration::from_secs(seconds));
        add(format!("  dials in {time}"));
    }
    if link.held_down {
        add("  down by the operator".to_owned());
    }
    match (&link.last_failure, &link.why) {
        (Some(failure), _) => spans.push(Span::styled(format!("  {}", escaped(failure)), WARN)),
        (None, Some(why)) => spans.push(Span::styled(format!("  {}", escaped(why)), DIM)),
        (None, None) => {}
    }
    Line::from(spans)
}

fn draw_queues(frame: &mut Frame<'_>, area: Rect, app: &App, status: &Status) {
    let by = match app.sort {
        Sort::Messages => "messages",
        Sort::Size => "size",
        Sort::Age => "age",
        Sort::Name => "name",
    };
    let queues = app.queues();
    let title = match app.filter.count(&status.live) {
        Some(count) => format!(" {count} of {} queues by {by} ", status.live.queues_total),
        None => format!(" {} queues by {by} ", status.live.queues_total),
    };
    let block = Block::new()
        .borders(Borders::TOP)
        .title(title)
        .border_style(DIM);
    if queues.is_empty() {
        let text = if app.filter.text().is_empty() {
            "\n  Nothing waits."
        } else {
            "\n  No queue contains this."
        };
        let text = Paragraph::new(text).style(DIM).block(block);
        frame.render_widget(text, area);
        return;
    }
    let wide = area.width >= 100;
    let mut widths = vec![
        Constraint::Fill(3),
        Constraint::Length(7),
        Constraint::Length(5),
        Constraint::Length(6),
        Constraint::Length(9),
    ];
    if wide {
        widths.push(Constraint::Fill(3));
    }
    let header = [" next hop", "   msgs", " size", "oldest", "state", "why"];
    let header = Row::new(header.into_iter().take(widths.len())).style(DIM);
    let rows = queues.iter().map(|queue| row(queue, wide));
    let table = Table::new(rows, widths)
        .header(header)
        .block(block)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(app.selected());
    frame.render_stateful_widget(table, area, &mut state);
}

fn row(queue: &Queue, wide: bool) -> Row<'static> {
    let (state, style) = match queue.gate {
        QueueGate::Open if queue.connections > 0 => ("sending", GOOD),
        QueueGate::Open if queue.deferred > 0 => ("deferred", Style::new()),
        QueueGate::Open => ("waiting", Style::new()),
        QueueGate::Held => ("held", DIM),
        QueueGate::Released => ("released", GOOD),
        QueueGate::Resting => ("resting", WARN),
    };
    let oldest = queue.oldest.map(|at| age(now().since(at.0)));
    let mut cells = vec![
        Cell::from(format!(" {}", escaped(&queue.next_hop))),
        Cell::from(format!("{:>7}", queue.amount.messages)),
        Cell::from(format!("{:>5}", size(queue.amount.octets))),
        Cell::from(format!("{:>6}", oldest.unwrap_or_default())),
        Cell::from(Span::styled(state, style)),
    ];
    if wide {
        let why = queue.why.as_deref().map(escaped).unwrap_or_default();
        cells.push(Cell::from(Span::styled(why, DIM)));
    }
    Row::new(cells)
}

fn draw_events(frame: &mut Frame<'_>, area: Rect, status: &Status) {
    let block = Block::new()
        .borders(Borders::TOP)
        .title(" lately ")
        .border_style(DIM);
    let shown = status.live.events.iter().take(usize::from(EVENT_LINES));
    let lines: Vec<Line<'_>> = shown
        .map(|event| {
            let style = match event.level.as_str() {
                "error" => BAD,
                "warning" => WARN,
                _ => Style::new(),
            };
            Line::from(vec![
                Span::styled(format!(" {} ", clock(event.at.0)), DIM),
                Span::styled(escaped(&event.text), style),
            ])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, app: &App) {
    let line = match (&app.pending, &app.said) {
        (Some(pending), _) => Line::styled(
            format!(" {}  y: yes, any other key: no", escaped(&pending.text)),
            Style::new().fg(Color::Black).bg(Color::Yellow),
        ),
        (None, Some(said)) => Line::styled(format!(" {}", escaped(said)), Style::new().bold()),
        (None, None) if app.filter.is_edited() || !app.filter.text().is_empty() => {
            let text = escaped(app.filter.text());
            let line = if app.filter.is_edited() {
                format!(" /{text}▏  Enter: keep it, Esc: no filter")
            } else {
                format!(" /{text}   / change it  Esc no filter  ↑↓ select  r release  h hold")
            };
            Line::styled(line, Style::new().bold())
        }
        (None, None) => {
            // With one link there is nothing to choose.
            let links = app.status.as_ref().and_then(|s| s.live.links.as_ref());
            let link = match links.map_or(0, |links| links.links.len()) {
                0 => "",
                1 => "  d dial  u hang up",
                _ => "  l next link  d dial  u hang up",
            };
            let keys = format!(" q quit  ↑↓ select  / filter  s sort  r release  h hold{link}");
            Line::styled(keys, DIM)
        }
    };
    frame.render_widget(line, area);
}

fn rate(per_second: f64) -> String {
    if per_second < 10.0 {
        format!("{per_second:.1}")
    } else {
        format!("{per_second:.0}")
    }
}

fn short(micros: u64) -> String {
    match micros {
        0..1000 => format!("{micros} µs"),
        1000..1_000_000 => format!("{} ms", micros as f64 / 1e3),
        _ => format!("{} s", micros as f64 / 1e6),
    }
}

/// The time of day here.
fn clock(at: WallTime) -> String {
    let zone = jiff::tz::TimeZone::system();
    jiff::Timestamp::from_millisecond(at.as_millis()).map_or_else(
        |_| String::new(),
        |at| at.to_zoned(zone).strftime("%H:%M:%S").to_string(),
    )
}

#[cfg(test)]
mod tests;
