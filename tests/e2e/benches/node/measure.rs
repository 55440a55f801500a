//! Medians, the table and the raw data.

use std::time::Duration;

use serde_json::{Value, json};

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The middle one; zero if there is none.
pub(crate) fn median(times: &[Duration]) -> Duration {
    percentile(times, 50)
}

pub(crate) fn percentile(times: &[Duration], percent: usize) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default()
}

/// The rows printed so far, and what they were made of.
pub(crate) struct Table {
    rows: Vec<Value>,
}

impl Table {
    pub(crate) fn new() -> Self {
        println!(
            "{:<72} {:>10} {:>10} {:>10} {:>7}  target",
            "what", "aegis p50", "p95", "baseline", "ratio"
        );
        Self { rows: Vec::new() }
    }

    /// Times against a baseline's times: the medians' ratio is to be `most` at most.
    pub(crate) fn compare(&mut self, what: &str, ours: &[Duration], baseline: &[Duration], most: f64) {
        let [ours_ms, baseline_ms] =
            [ours, baseline].map(|times| times.iter().map(|time| milliseconds(*time)).collect::<Vec<_>>());
        self.rows.push(json!({"what": what, "unit": "ms", "aegis": ours_ms, "baseline": baseline_ms}));
        let middle = milliseconds(median(ours));
        let high = format!("{:.1}", milliseconds(percentile(ours, 95)));
        if baseline.is_empty() {
            println!("{what:<72} {middle:>7.1} ms {high:>10} {:>10}", "missing");
            return;
        }
        let base = milliseconds(median(baseline));
        let ratio = middle / base;
        let target =
            if most.is_nan() { String::new() } else { format!("≤ {most:.1}× {}", met(ratio <= most)) };
        println!("{what:<72} {middle:>7.1} ms {high:>10} {base:>7.1} ms {ratio:>7.2}  {target}");
    }

    /// One figure that is to be `most` at most, with another program's beside it.
    pub(crate) fn figure(&mut self, what: &str, unit: &str, ours: f64, baseline: Option<f64>, most: f64) {
        self.rows.push(json!({"what": what, "unit": unit, "aegis": ours, "baseline": baseline}));
        let (base, ratio) = baseline.map_or_else(
            || ("missing".to_owned(), String::new()),
            |baseline| (format!("{baseline:.1} {unit}"), format!("{:.2}", ours / baseline)),
        );
        let met = met(ours <= most);
        println!("{what:<72} {ours:>6.1} {unit} {:>10} {base:>10} {ratio:>7}  ≤ {most} {unit} {met}", "");
    }

    /// A rate that is to be `least` at least.
    pub(crate) fn rate(&mut self, what: &str, ours: f64, baseline: f64, least: f64) {
        self.rows.push(json!({"what": what, "unit": "1/s", "aegis": ours, "baseline": baseline}));
        let (ratio, met) = (ours / baseline, met(ours >= least));
        println!("{what:<72} {ours:>8.1}/s {:>10} {baseline:>8.1}/s {ratio:>7.2}  ≥ {least:.0}/s {met}", "");
    }

    /// A line below the table's rows.
    pub(crate) fn note(&mut self, text: String) {
        println!("  {text}");
        self.rows.push(json!({"note": text}));
    }

    /// Writes the raw data to `target/bench/NAME.json`.
    pub(crate) fn keep(&self, name: &str) {
        let program = std::env::current_exe().expect("the benchmark's own path");
        let folder = program.ancestors().nth(3).expect("the target folder").join("bench");
        std::fs::create_dir_all(&folder).expect("a folder for raw data");
        let text = serde_json::to_string_pretty(&self.rows).expect("numbers and texts are JSON");
        std::fs::write(folder.join(format!("{name}.json")), text).expect("raw data is written");
    }
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}
