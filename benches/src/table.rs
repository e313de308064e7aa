//! Runs contests in rounds in which every contestant takes a turn, and shows their results as tables.

use std::fmt;
use std::sync::OnceLock;

use serde_json::{Value, json};

/// The results of several contestants in one measurement.
pub struct Table {
    pub title: String,
    pub unit: &'static str,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    median: f64,
    /// The first and the third quartile of the contestant's samples.
    spread: (f64, f64),
    /// The contestant to compare with, this row's time divided by the time of that contestant, and the greatest allowed
    /// quotient.
    goal: Option<(&'static str, f64, f64)>,
    note: Option<String>,
}

static ONLY: OnceLock<String> = OnceLock::new();

/// Keeps only contestants whose name contains one of `names`, which are separated by commas.
pub fn only(names: String) {
    ONLY.get_or_init(|| names);
}

type Turn<'a> = Box<dyn FnMut() -> Result<f64, String> + 'a>;

/// A contest that has not run yet: its contestants, and the goals for their times.
pub struct Contest<'a> {
    title: String,
    unit: &'static str,
    contestants: Vec<(&'static str, Turn<'a>)>,
    goals: Vec<(&'static str, &'static str, f64)>,
}

impl<'a> Contest<'a> {
    pub fn new(title: impl Into<String>, unit: &'static str) -> Self {
        Self {
            title: title.into(),
            unit,
            contestants: Vec::new(),
            goals: Vec::new(),
        }
    }

    /// Adds a contestant. If a turn returns an error, the contestant gets no number. If a turn returns NaN, only that
    /// turn is ignored.
    pub fn add(&mut self, name: &'static str, turn: impl FnMut() -> Result<f64, String> + 'a) {
        if ONLY
            .get()
            .is_none_or(|only| only.split(',').any(|only| name.contains(only)))
        {
            self.contestants.push((name, Box::new(turn)));
        }
    }

    /// Sets a goal: `name` should take at most `most` times as long as `reference`.
    pub fn goal(&mut self, name: &'static str, reference: &'static str, most: f64) {
        self.goals.push((name, reference, most));
    }

    pub fn run(mut self, rounds: usize) -> Table {
        let mut samples = vec![Ok(Vec::with_capacity(rounds)); self.contestants.len()];
        for round in 0..=rounds {
            let count = self.contestants.len();
            for turn in 0..count {
                // The order of the contestants rotates from round to round, so that no contestant is always first.
                let at = (turn + round) % count;
                let Ok(taken) = &mut samples[at] else {
                    continue;
                };
                match (self.contestants[at].1)() {
                    // The first round only warms up caches, so its samples are dropped.
                    Ok(sample) if round > 0 => taken.push(sample),
                    Ok(_) => {}
                    Err(why) => samples[at] = Err(why),
                }
            }
        }
        let mut rows = Vec::new();
        for ((name, _), samples) in self.contestants.iter().zip(&samples) {
            rows.push(match samples {
                Ok(samples) => Row::of(name, samples.clone()),
                Err(why) => Row::out(name, format!("disqualified: {why}")),
            });
        }
        for (name, reference, most) in self.goals {
            let ratio = paired(&self.contestants, &samples, name, reference);
            if let Some(row) = rows.iter_mut().find(|row| row.name == name) {
                row.goal = Some((reference, ratio, most));
            }
        }
        Table {
            title: self.title,
            unit: self.unit,
            rows,
        }
    }
}

/// Returns the median, over all rounds, of the time of `name` divided by that of `reference`. Each quotient is taken
/// within one round, since a disturbance slows both contestants of that round.
fn paired(
    contestants: &[(&'static str, Turn<'_>)],
    samples: &[Result<Vec<f64>, String>],
    name: &str,
    reference: &str,
) -> f64 {
    let of = |wanted: &str| {
        let at = contestants.iter().position(|(name, _)| *name == wanted);
        at.and_then(|at| samples[at].as_ref().ok())
    };
    let (Some(ours), Some(theirs)) = (of(name), of(reference)) else {
        return f64::NAN;
    };
    let pairs = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
    let mut ratios: Vec<_> = pairs.filter(|ratio| ratio.is_finite()).collect();
    ratios.sort_by(f64::total_cmp);
    quantile(&ratios, 0.5)
}

fn quantile(sorted: &[f64], q: f64) -> f64 {
    match sorted.len() {
        0 => f64::NAN,
        count => sorted[((count - 1) as f64 * q).round() as usize],
    }
}

impl Row {
    fn of(name: &'static str, mut samples: Vec<f64>) -> Self {
        samples.retain(|sample| sample.is_finite());
        samples.sort_by(f64::total_cmp);
        Self {
            name,
            median: quantile(&samples, 0.5),
            spread: (quantile(&samples, 0.25), quantile(&samples, 0.75)),
            goal: None,
            note: None,
        }
    }

    fn out(name: &'static str, note: String) -> Self {
        Self {
            note: Some(note),
            ..Self::of(name, Vec::new())
        }
    }

    fn holds(&self) -> bool {
        self.goal.is_none_or(|(_, ratio, most)| ratio <= most)
    }
}

impl Table {
    /// Adds a row with the reason why a contestant has no number.
    pub fn absent(mut self, name: &'static str, why: &str) -> Self {
        self.rows.push(Row::out(name, why.into()));
        self
    }

    /// Creates an empty table for counts, which need no rounds and no medians.
    pub fn counted(title: impl Into<String>, unit: &'static str) -> Self {
        Self {
            title: title.into(),
            unit,
            rows: Vec::new(),
        }
    }

    pub fn count(&mut self, name: &'static str, value: f64, most: Option<f64>) {
        self.rows.push(Row {
            goal: most.map(|most| ("", value, most)),
            ..Row::of(name, vec![value])
        });
    }

    pub fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }

    pub fn to_json(&self) -> Value {
        let rows: Vec<_> = self.rows.iter().map(Row::to_json).collect();
        json!({ "title": self.title, "unit": self.unit, "rows": rows })
    }
}

impl Row {
    fn to_json(&self) -> Value {
        let mut row = json!({
            "name": self.name,
            "median": self.median,
            "quartiles": [self.spread.0, self.spread.1],
            "note": self.note,
        });
        if let Some((reference, ratio, most)) = self.goal {
            row["goal"] = json!({
                "reference": reference, "ratio": ratio, "most": most, "holds": self.holds(),
            });
        }
        row
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "## {} ({})\n", self.title, self.unit)?;
        writeln!(f, "| contestant | median | quartiles | ratio | goal |")?;
        writeln!(f, "|---|---:|---:|---:|---|")?;
        for row in &self.rows {
            if let Some(note) = &row.note {
                writeln!(f, "| {} | {note} | | | |", row.name)?;
                continue;
            }
            let (low, high) = row.spread;
            write!(
                f,
                "| {} | {} | {}–{} |",
                row.name,
                Short(row.median),
                Short(low),
                Short(high)
            )?;
            match row.goal {
                None => writeln!(f, " | |")?,
                Some((reference, ratio, most)) => {
                    let verdict = if row.holds() { "holds" } else { "**missed**" };
                    let of = if reference.is_empty() { "" } else { " × " };
                    writeln!(f, " {ratio:.3} | ≤ {most}{of}{reference}: {verdict} |")?;
                }
            }
        }
        Ok(())
    }
}

/// A number that is displayed with about three digits.
struct Short(f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.abs() {
            0.0 => write!(f, "0"),
            value if value < 100.0 => write!(f, "{:.2}", self.0),
            _ => write!(f, "{:.0}", self.0),
        }
    }
}
