//! Plots as SVG, written by hand: latency by percentile and throughput over
//! time are all that a report needs.
//!
//! Latency is drawn over the nines (50 %, 90 %, 99 %, … at even distances), on a
//! logarithmic axis, since what matters of it is in the tail.

use std::fmt::Write;

use crate::generate::GenerateReport;
use crate::sink::SinkReport;
use crate::tally::{LatencyFigures, TimelineFigures};

/// Pixels of one panel with its margins.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 40.0;
/// Points of a throughput curve; longer runs are drawn in wider steps.
const TIMELINE_POINTS_MAX: usize = 300;
/// Told apart by lightness too, for those who do not see all colours.
const COLOURS: [&str; 6] = [
    "#1f5fa8", "#d1641b", "#2b8a4b", "#8c2d6f", "#6b6b6b", "#b39b00",
];

/// A curve with its name.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// The plot of a generator's report.
#[must_use]
pub fn generate(report: &GenerateReport) -> String {
    let latencies = [
        ("reply to MAIL", &report.mail),
        ("reply to the end", &report.content),
        ("whole message", &report.whole),
        ("reply to ETRN", &report.etrn),
    ];
    let latencies = latencies.map(|(name, figures)| (name.to_owned(), figures.as_ref()));
    document(
        &report.work,
        &latencies,
        &[("messages".to_owned(), &report.timeline)],
    )
}

/// The plot of a sink's report.
#[must_use]
pub fn sink(report: &SinkReport) -> String {
    let latencies = [("from generator to sink".to_owned(), report.transit.as_ref())];
    document(
        "sink",
        &latencies,
        &[("messages".to_owned(), &report.timeline)],
    )
}

/// Two panels: latency by percentile, throughput over time.
pub(crate) fn document(
    title: &str,
    latencies: &[(String, Option<&LatencyFigures>)],
    timelines: &[(String, &TimelineFigures)],
) -> String {
    let latencies: Vec<Series> = latencies
        .iter()
        .filter_map(|(name, figures)| {
            let points = figures.as_ref()?.curve.iter();
            // A latency of nothing has no logarithm; 1 us is below any.
            let points = points.map(|(quantile, ms)| (nines(*quantile), ms.max(0.001).log10()));
            Some(Series {
                name: name.clone(),
                points: points.collect(),
            })
        })
        .collect();
    let timelines: Vec<Series> = timelines
        .iter()
        .map(|(name, figures)| throughput(name, figures))
        .collect();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        2.0 * HEIGHT
    );
    latency_panel(&mut svg, title, &latencies);
    throughput_panel(&mut svg, &timelines);
    svg.push_str("</svg>\n");
    svg
}

fn latency_panel(svg: &mut String, title: &str, series: &[Series]) {
    let all = || series.iter().flat_map(|series| &series.points);
    let right = all().map(|point| point.0).fold(1.0, f64::max).ceil();
    let low = all()
        .map(|point| point.1)
        .fold(f64::INFINITY, f64::min)
        .floor();
    let high = all()
        .map(|point| point.1)
        .fold(f64::NEG_INFINITY, f64::max)
        .ceil();
    let (low, high) = if low < high { (low, high) } else { (-1.0, 1.0) };
    let panel = Panel {
        top: 0.0,
        x: (0.0, right),
        y: (low, high),
    };
    panel.frame(svg, &format!("{title}: latency in ms by percentile"));
    for nine in 0..=right as i32 {
        let label = match nine {
            0 => "0 %".to_owned(),
            1 => "90 %".to_owned(),
            _ => format!("99.{} %", "9".repeat(nine as usize - 2)).replace(". ", " "),
        };
        panel.vertical(svg, f64::from(nine), &label);
    }
    for power in low as i32..=high as i32 {
        panel.horizontal(svg, f64::from(power), &number(10_f64.powi(power)));
    }
    panel.curves(svg, series);
}

fn throughput_panel(svg: &mut String, series: &[Series]) {
    let all = || series.iter().flat_map(|series| &series.points);
    let right = all().map(|point| point.0).fold(0.1, f64::max);
    let high = all().map(|point| point.1).fold(1.0, f64::max) * 1.1;
    let panel = Panel {
        top: HEIGHT,
        x: (0.0, right),
        y: (0.0, high),
    };
    panel.frame(svg, "messages a second, over seconds");
    let step = round_step(right);
    for tick in 0..=(right / step) as i32 {
        panel.vertical(svg, f64::from(tick) * step, &number(f64::from(tick) * step));
    }
    let step = round_step(high);
    for tick in 0..=(high / step) as i32 {
        panel.horizontal(svg, f64::from(tick) * step, &number(f64::from(tick) * step));
    }
    panel.curves(svg, series);
}

fn throughput(name: &str, figures: &TimelineFigures) -> Series {
    let seconds = figures.step_ms as f64 / 1e3;
    // The last step is cut off by the end of the run, and would look like a fall.
    let whole = match figures.steps.len() {
        steps @ 0..=2 => steps,
        steps => steps - 1,
    };
    let together = whole.div_ceil(TIMELINE_POINTS_MAX).max(1);
    let points = figures.steps[..whole]
        .chunks(together)
        .enumerate()
        .map(|(place, steps)| {
            let span = steps.len() as f64 * seconds;
            let from = place as f64 * together as f64 * seconds;
            (from + span / 2.0, steps.iter().sum::<u64>() as f64 / span)
        });
    Series {
        name: name.to_owned(),
        points: points.collect(),
    }
}

/// Where a panel is, and what its axes show.
struct Panel {
    top: f64,
    x: (f64, f64),
    y: (f64, f64),
}

impl Panel {
    fn place_x(&self, x: f64) -> f64 {
        LEFT + (x - self.x.0) / (self.x.1 - self.x.0) * (WIDTH - LEFT - RIGHT)
    }

    fn place_y(&self, y: f64) -> f64 {
        let height = HEIGHT - TOP - BOTTOM;
        self.top + TOP + height - (y - self.y.0) / (self.y.1 - self.y.0) * height
    }

    fn frame(&self, svg: &mut String, title: &str) {
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-size=\"14\">{}</text>",
            self.top + TOP - 14.0,
            escape(title)
        );
    }

    fn vertical(&self, svg: &mut String, x: f64, label: &str) {
        let (x, top, bottom) = (
            self.place_x(x),
            self.place_y(self.y.1),
            self.place_y(self.y.0),
        );
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {top:.1}V{bottom:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 16.0
        );
    }

    fn horizontal(&self, svg: &mut String, y: f64, label: &str) {
        let (y, left, right) = (
            self.place_y(y),
            self.place_x(self.x.0),
            self.place_x(self.x.1),
        );
        let _ = writeln!(
            svg,
            "<path d=\"M{left:.1} {y:.1}H{right:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 6.0,
            y + 4.0
        );
    }

    fn curves(&self, svg: &mut String, series: &[Series]) {
        for (place, (series, colour)) in series.iter().zip(COLOURS.iter().cycle()).enumerate() {
            let points: Vec<String> = series
                .points
                .iter()
                .map(|(x, y)| format!("{:.1},{:.1}", self.place_x(*x), self.place_y(*y)))
                .collect();
            let y = self.top + TOP + 14.0 + 18.0 * place as f64;
            let x = WIDTH - RIGHT + 14.0;
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>\
                 <path d=\"M{x:.1} {:.1}h18\" stroke=\"{colour}\" stroke-width=\"3\"/>\
                 <text x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
                points.join(" "),
                y - 4.0,
                x + 24.0,
                escape(&series.name)
            );
        }
    }
}

/// 0.9 is 1, 0.99 is 2.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// 1, 2 or 5 times a power of ten, so that about six of them make `span`.
fn round_step(span: f64) -> f64 {
    let rough = span / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| factor * power >= rough);
    factor.unwrap_or(10.0) * power
}

fn number(value: f64) -> String {
    if value >= 1000.0 {
        let text = format!("{:.1}", value / 1000.0);
        format!("{} k", text.trim_end_matches(".0"))
    } else {
        format!("{}", (value * 1000.0).round() / 1000.0)
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_in_round_numbers() {
        for (span, step) in [(1.0, 0.2), (6.0, 1.0), (10.0, 2.0), (120_000.0, 20_000.0)] {
            assert!(
                (round_step(span) - step).abs() < 1e-9 * step,
                "{span}: {}",
                round_step(span)
            );
        }
        assert_eq!(number(0.001), "0.001");
        assert_eq!(number(1500.0), "1.5 k");
        assert_eq!(number(20_000.0), "20 k");
    }

    #[test]
    fn a_plot_holds_its_curves_within_its_frame() {
        let latency = LatencyFigures {
            count: 3,
            mean_ms: 1.0,
            p50_ms: 1.0,
            p90_ms: 2.0,
            p99_ms: 2.0,
            p999_ms: 2.0,
            max_ms: 2.0,
            curve: vec![(0.0, 0.2), (0.5, 1.0), (0.99, 250.0)],
        };
        let timeline = TimelineFigures {
            first_ms: 0.0,
            last_ms: 0.0,
            per_second: 0.0,
            steady_per_second: 0.0,
            step_ms: 100,
            steps: (0..2000).collect(),
        };
        let svg = document(
            "a <b> & c",
            &[("one".into(), Some(&latency)), ("none".into(), None)],
            &[("load".into(), &timeline)],
        );
        assert!(svg.contains("a &lt;b&gt; &amp; c: latency"));
        assert_eq!(svg.matches("<polyline").count(), 2);
        for points in svg.split("points=\"").skip(1) {
            let points = points.split('"').next().unwrap();
            for point in points.split(' ') {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((LEFT - 0.1..=WIDTH - RIGHT + 0.1).contains(&x), "{point}");
                assert!((0.0..=2.0 * HEIGHT).contains(&y), "{point}");
            }
        }
        // Nothing measured is a plot without curves, not a panic.
        assert!(!document("empty", &[], &[]).contains("polyline"));
    }
}
