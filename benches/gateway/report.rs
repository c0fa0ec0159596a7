//! What was measured, beside what was asked for.

use std::fmt::Write;
use std::fs;

use serde_json::{Value, json};

use crate::Result;
use crate::load::Faults;
use crate::options::Options;

/// What a figure may be.
#[derive(Debug, Clone, Copy)]
pub enum Bar {
    /// Nothing was asked for: the figure is there for orientation, as a ratio.
    None,
    /// Times the floor, at most.
    Ratio(f64),
    /// Times the floor, at least.
    Least(f64),
    /// More than the floor at most, in the figure's unit.
    Added(f64),
    /// The gateway's own value at most, whatever the floor's.
    Own(f64),
}

/// One figure, of all rounds.
#[derive(Debug)]
pub struct Figure {
    scenario: String,
    what: &'static str,
    unit: &'static str,
    bar: Bar,
    floor: Vec<f64>,
    gateway: Vec<f64>,
}

/// All figures of a run.
#[derive(Debug)]
pub struct Report {
    head: Vec<(&'static str, String)>,
    gateway: &'static str,
    figures: Vec<Figure>,
    faults: Vec<(String, String, Faults)>,
    logged: u64,
}

impl Figure {
    /// One figure with its rounds.
    pub fn new(
        scenario: &str,
        what: &'static str,
        unit: &'static str,
        bar: Bar,
        floor: Vec<f64>,
        gateway: Vec<f64>,
    ) -> Self {
        Self { scenario: scenario.to_owned(), what, unit, bar, floor, gateway }
    }

    /// The comparison of each pair of neighbouring rounds: noise that lasts longer than a round cancels out.
    fn compared(&self) -> Vec<f64> {
        let pairs = self.floor.iter().zip(&self.gateway);
        match self.bar {
            Bar::None | Bar::Ratio(_) | Bar::Least(_) => {
                pairs.map(|(floor, gateway)| gateway / floor).collect()
            }
            Bar::Added(_) => pairs.map(|(floor, gateway)| gateway - floor).collect(),
            Bar::Own(_) => self.gateway.clone(),
        }
    }

    /// The figure that was asked for.
    fn bar(&self) -> Option<f64> {
        match self.bar {
            Bar::None => None,
            Bar::Ratio(bar) | Bar::Least(bar) | Bar::Added(bar) | Bar::Own(bar) => Some(bar),
        }
    }

    fn verdict(&self) -> &'static str {
        let Some(bar) = self.bar() else { return "" };
        let figure = median(&self.compared());
        match self.bar {
            Bar::Least(_) if figure >= bar => "ok",
            Bar::Least(_) => "UNDER",
            _ if figure <= bar => "ok",
            _ => "OVER",
        }
    }

    fn cell(&self, value: f64) -> String {
        match self.bar {
            Bar::None | Bar::Ratio(_) | Bar::Least(_) => format!("{value:.2} ×"),
            Bar::Added(_) => format!("{value:+.0} {}", self.unit),
            Bar::Own(_) => format!("{value:.1} {}", self.unit),
        }
    }

    fn row(&self) -> [String; 8] {
        let compared = self.compared();
        let value = |rounds: &[f64]| {
            let value = median(rounds);
            let digits = if value < 100.0 { 1 } else { 0 };
            format!("{value:.digits$} {}", self.unit)
        };
        let least = compared.iter().copied().fold(f64::INFINITY, f64::min);
        let most = compared.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let spread = match self.bar {
            Bar::None | Bar::Ratio(_) | Bar::Least(_) => format!("{least:.2} – {most:.2}"),
            Bar::Added(_) | Bar::Own(_) => format!("{least:.0} – {most:.0}"),
        };
        [
            self.scenario.clone(),
            self.what.to_owned(),
            value(&self.floor),
            value(&self.gateway),
            self.cell(median(&compared)),
            spread,
            self.bar().map(|bar| self.cell(bar)).unwrap_or_default(),
            self.verdict().to_owned(),
        ]
    }

    fn json(&self) -> Value {
        let kind = match self.bar {
            Bar::None | Bar::Ratio(_) | Bar::Least(_) => "ratio",
            Bar::Added(_) => "added",
            Bar::Own(_) => "own",
        };
        json!({
            "scenario": self.scenario, "figure": self.what, "unit": self.unit, "floor": self.floor,
            "gateway": self.gateway, "compared": kind, "rounds": self.compared(), "median": median(&self.compared()),
            "bar": self.bar(), "ok": self.bar().map(|_| self.verdict() == "ok"),
        })
    }
}

impl Report {
    /// Nothing measured so far.
    pub fn new(options: &Options) -> Self {
        let lean = options.gateway_is_floor_lean;
        let gateway = if lean { "floor-lean".to_owned() } else { options.binary().display().to_string() };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let head = vec![
            ("machine", format!("{cores} × {}", field("/proc/cpuinfo", "model name"))),
            (
                "kernel",
                fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            ),
            ("load before", fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()),
            ("gateway", gateway),
            ("rounds", format!("{} of {:?} each", options.rounds(), options.length())),
            ("connections", options.connections.to_string()),
            ("access log", format!("{:?}", options.access_log).to_lowercase()),
        ];
        let gateway = if lean { "floor-lean" } else { "gateway" };
        Self { head, gateway, figures: Vec::new(), faults: Vec::new(), logged: 0 }
    }

    /// Takes a figure.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Takes what went wrong in a round.
    pub fn note(&mut self, scenario: &str, side: &str, faults: Faults) {
        if faults.count() > 0 {
            self.faults.push((scenario.to_owned(), side.to_lowercase(), faults));
        }
    }

    /// Takes the length of the access log after a round.
    pub fn logged(&mut self, bytes: u64) {
        self.logged += bytes;
    }

    /// How many requests failed or were answered wrongly.
    pub fn faults(&self) -> u64 {
        self.faults.iter().map(|(_, _, faults)| faults.count()).sum()
    }

    /// For people, and for a Markdown file.
    pub fn table(&self) -> String {
        let head = ["scenario", "figure", "floor", self.gateway, "compared", "spread", "bar", ""];
        let rows: Vec<[String; 8]> =
            std::iter::once(head.map(str::to_owned)).chain(self.figures.iter().map(Figure::row)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 8] = std::array::from_fn(width);

        let mut text = String::new();
        for (name, value) in &self.head {
            let _ = writeln!(text, "{name}: {value}");
        }
        text.push('\n');
        for (number, row) in rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                let _ = if column < 2 {
                    write!(text, "| {cell:<width$} ")
                } else {
                    write!(text, "| {cell:>width$} ")
                };
            }
            text.push_str("|\n");
            if number == 0 {
                for (column, width) in widths.into_iter().enumerate() {
                    let _ = write!(text, "|{}{}", "-".repeat(width + 1), if column < 2 { '-' } else { ':' });
                }
                text.push_str("|\n");
            }
        }
        let _ = writeln!(text, "\naccess log written: {:.1} MiB", self.logged as f64 / f64::from(1 << 20));
        for (scenario, side, faults) in &self.faults {
            for (fault, times) in faults.kinds() {
                let _ = writeln!(text, "fault: {scenario}, {side}, {times} times: {fault}");
            }
        }
        text
    }

    /// For programs: every round.
    pub fn json(&self) -> Result<String> {
        let head: serde_json::Map<String, Value> =
            self.head.iter().map(|(name, value)| (name.replace(' ', "_"), json!(value))).collect();
        let figures: Vec<Value> = self.figures.iter().map(Figure::json).collect();
        let faults: Vec<Value> = self
            .faults
            .iter()
            .flat_map(|(scenario, side, faults)| {
                faults.kinds().map(move |(fault, times)| {
                    json!({ "scenario": scenario, "side": side, "times": times, "fault": fault })
                })
            })
            .collect();
        let all =
            json!({ "run": head, "figures": figures, "faults": faults, "access_log_bytes": self.logged });
        Ok(serde_json::to_string_pretty(&all)? + "\n")
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle.wrapping_sub(1)), sorted.get(middle)) {
        (Some(low), Some(high)) if sorted.len().is_multiple_of(2) => f64::midpoint(*low, *high),
        (_, Some(value)) => *value,
        _ => f64::NAN,
    }
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}
