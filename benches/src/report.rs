//! Rows as text or as Markdown.

#![forbid(unsafe_code)]

use std::fmt::Write as _;

use crate::machine;
use crate::measure::Entrant;
use crate::stats;

/// All subjects; one that takes no part in a row gets a dash there.
const SUBJECTS: [&str; 11] = [
    "hashbrown",
    "dogpile",
    "quick_cache",
    "moka",
    "foyer",
    "cached",
    "TinyUFO",
    "scc HashCache",
    "scc HashIndex",
    "papaya",
    "dashmap",
];

/// What the second of two identical subjects is called.
pub(crate) const COPY: &str = " (copy)";

/// One measured question.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) title: String,
    /// Threads, entries, rounds.
    pub(crate) about: String,
    pub(crate) columns: &'static [&'static str],
    /// Which column stands for the row in the summary.
    pub(crate) headline: usize,
    pub(crate) lines: Vec<Line>,
    pub(crate) noise: Noise,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) subject: String,
    pub(crate) package: &'static str,
    pub(crate) settings: String,
    pub(crate) cells: Vec<String>,
    /// The figure of each round, where the row has rounds that pair.
    pub(crate) samples: Vec<f64>,
}

/// How far two copies of one subject came out apart.
#[derive(Debug)]
pub(crate) struct Noise {
    pub(crate) subject: String,
    /// The figure compared.
    pub(crate) figure: &'static str,
    pub(crate) measured: f64,
    pub(crate) bound: f64,
}

impl Noise {
    pub(crate) fn is_sound(&self) -> bool {
        self.measured <= self.bound
    }
}

impl std::fmt::Display for Noise {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Noise { subject, figure, measured, bound } = self;
        let (measured, bound) = (measured * 100.0, bound * 100.0);
        write!(
            formatter,
            "two copies of {subject} differ by {measured:.1} % in {figure} (bound {bound:.0} %)"
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Markdown,
}

/// Which of a subject's chunks speaks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaker {
    /// One thread: what disturbs a chunk makes it slower.
    Fastest,
    /// Several threads: what keeps one of them from running makes the others faster.
    Median,
}

impl Speaker {
    fn figure(self) -> &'static str {
        match self {
            Speaker::Fastest => "min ns",
            Speaker::Median => "med ns",
        }
    }

    fn of(self, samples: &[f64]) -> f64 {
        match self {
            Speaker::Fastest => stats::minimum(samples),
            Speaker::Median => stats::median(samples),
        }
    }

    /// The columns that [`compare`] fills.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Speaker::Fastest => &["min ns", "min x", "med x"],
            Speaker::Median => &["med ns", "of meds", "med x"],
        }
    }
}

/// Lines of times per operation, relative to the first entrant, and the noise between the entrant whose name ends in
/// [`COPY`] and the one of the same name without.
pub(crate) fn compare(
    entrants: &[Entrant<'_>],
    samples: &[Vec<f64>],
    speaker: Speaker,
    bound: f64,
) -> (Vec<Line>, Noise) {
    let figures: Vec<f64> = samples.iter().map(|samples| speaker.of(samples)).collect();
    let lines = entrants
        .iter()
        .zip(samples)
        .zip(&figures)
        .map(|((entrant, samples_of_it), figure)| Line {
            subject: entrant.name.clone(),
            package: entrant.package,
            settings: entrant.settings.clone(),
            cells: vec![
                format!("{figure:.2}"),
                format!("{:.2}", figure / figures[0]),
                format!("{:.2}", stats::median_ratio(samples_of_it, &samples[0])),
            ],
            samples: samples_of_it.clone(),
        })
        .collect();
    let names: Vec<&str> = entrants.iter().map(|entrant| entrant.name.as_str()).collect();
    (lines, noise(&names, &figures, speaker.figure(), bound))
}

/// A row of times per operation and nothing else.
pub(crate) fn times(
    title: String,
    about: String,
    entrants: &[Entrant<'_>],
    samples: &[Vec<f64>],
    speaker: Speaker,
    bound: f64,
) -> Row {
    let (lines, noise) = compare(entrants, samples, speaker, bound);
    Row { title, about, columns: speaker.columns(), headline: 0, lines, noise }
}

/// Compares the figures of a subject and its copy.
pub(crate) fn noise(names: &[&str], figures: &[f64], figure: &'static str, bound: f64) -> Noise {
    let copy = names.iter().position(|name| name.ends_with(COPY)).expect("each row has a copy");
    let subject = names[copy].trim_end_matches(COPY);
    let original = names.iter().position(|name| *name == subject).expect("a copy has an original");
    let measured = stats::difference(figures[original], figures[copy]);
    Noise { subject: String::from(subject), figure, measured, bound }
}

impl Row {
    pub(crate) fn line(&self, subject: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.subject == subject)
    }

    /// A cell as the number it shows.
    ///
    /// # Panics
    /// Panics if the row has no such subject or column: the names are this program's own.
    pub(crate) fn figure(&self, subject: &str, column: &str) -> f64 {
        let place = self.columns.iter().position(|name| *name == column).expect("the row has the column");
        let line = self.line(subject).expect("the subject takes part in the row");
        line.cells[place].replace(',', "").parse().expect("the cell is a number")
    }

    /// Ours over theirs: by the chunks that speak for a row of this kind, and the median over its rounds.
    pub(crate) fn ratio(&self, ours: &str, theirs: &str) -> (f64, f64) {
        let samples = |subject| &self.line(subject).expect("the subject takes part in the row").samples;
        let (ours, theirs) = (samples(ours), samples(theirs));
        let speaker = if self.columns.starts_with(Speaker::Median.columns()) {
            Speaker::Median
        } else {
            Speaker::Fastest
        };
        (speaker.of(ours) / speaker.of(theirs), stats::median_ratio(ours, theirs))
    }

    pub(crate) fn print(&self, format: Format) -> String {
        let mut head = vec![String::from("subject"), String::from("version")];
        head.extend(self.columns.iter().map(|column| String::from(*column)));
        head.push(String::from("settings"));
        let mut body: Vec<Vec<String>> = self.lines.iter().map(Line::cells).collect();
        for subject in SUBJECTS {
            let takes_part = |line: &Line| line.subject.starts_with(subject);
            if !self.lines.iter().any(takes_part) {
                let mut dashes = vec![String::from("-"); head.len()];
                dashes[0] = String::from(subject);
                body.push(dashes);
            }
        }
        let mut text = String::new();
        let Row { title, about, noise, .. } = self;
        match format {
            Format::Text => writeln!(text, "== {title}\n   {about}; {noise}"),
            Format::Markdown => writeln!(text, "### {title}\n\n{about}; {noise}.\n"),
        }
        .expect("writing to a string");
        text.push_str(&grid(&head, &body, format));
        text
    }
}

/// All rows on one page: one figure of each subject in the form most people use.
pub(crate) fn summary(rows: &[Row], format: Format) -> String {
    let mut head = vec![String::from("row")];
    head.extend(SUBJECTS.map(String::from));
    head.push(String::from("figure"));
    let body: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let cell = |subject: &str| {
                let line = row.lines.iter().find(|line| line.subject == subject);
                line.map_or_else(|| String::from("-"), |line| line.cells[row.headline].clone())
            };
            let mut cells = vec![row.title.clone()];
            cells.extend(SUBJECTS.map(cell));
            cells.push(String::from(row.columns[row.headline]));
            cells
        })
        .collect();
    let title = match format {
        Format::Text => "== summary\n",
        Format::Markdown => "### Summary\n\n",
    };
    format!("{title}{}", grid(&head, &body, format))
}

impl Line {
    fn cells(&self) -> Vec<String> {
        let version = machine::version_of(self.package);
        let mut cells = vec![self.subject.clone(), version];
        cells.extend(self.cells.iter().cloned());
        cells.push(self.settings.clone());
        cells
    }
}

/// A table with its numbers flush right; the first and the last column hold words.
pub(crate) fn grid(head: &[String], body: &[Vec<String>], format: Format) -> String {
    let width = |column: usize| {
        body.iter().chain([&head.to_vec()]).map(|cells| cells[column].chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let is_words = |column: usize| column == 0 || column + 1 == head.len();
    let line = |cells: &[String]| {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let width = widths[column];
                if is_words(column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
            })
            .collect();
        match format {
            Format::Text => format!("   {}\n", padded.join("  ").trim_end()),
            Format::Markdown => format!("| {} |\n", padded.join(" | ")),
        }
    };
    let mut text = line(head);
    if format == Format::Markdown {
        let rule: Vec<String> = (0..head.len())
            .map(|column| String::from(if is_words(column) { "---" } else { "---:" }))
            .collect();
        writeln!(text, "|{}|", rule.join("|")).expect("writing to a string");
    }
    body.iter().for_each(|cells| text.push_str(&line(cells)));
    text.push('\n');
    text
}
