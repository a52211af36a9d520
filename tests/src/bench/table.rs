//! The table: each operation on Keel and on Linux, as text for people, as Markdown, and tab-separated.

use super::figures::{Figure, Figures};
use std::fmt::Write;

/// What a figure may grow by before it is named.
const TOLERANCE: f64 = 0.05;
/// Keel's goal: each figure at most this part of lean Linux's.
pub const GOAL: f64 = 0.5;

#[derive(Debug, Default)]
pub struct Table {
    pub keel: Figures,
    pub lean: Option<Figures>,
    pub shipped: Option<Figures>,
    /// Keel's figures of an earlier run.
    pub base: Option<Figures>,
}

fn of<'a>(figures: Option<&'a Figures>, operation: &str) -> Option<&'a Figure> {
    figures?.iter().find(|(name, _)| name == operation).map(|(_, figure)| figure)
}

impl Table {
    /// Operations and Keel's figure as a part of lean Linux's.
    pub fn ratios(&self) -> Vec<(&str, Option<f64>)> {
        self.keel.iter().map(|(name, figure)| (name.as_str(), self.ratio(name, figure))).collect()
    }

    fn ratio(&self, name: &str, figure: &Figure) -> Option<f64> {
        let lean = of(self.lean.as_ref(), name)?.cheapest().filter(|&value| value > 0.0)?;
        Some(figure.cheapest()? / lean)
    }

    /// By which part a figure differs from the earlier run's.
    fn change(&self, name: &str, figure: &Figure) -> Option<f64> {
        let before = of(self.base.as_ref(), name)?.cheapest().filter(|&value| value > 0.0)?;
        Some(figure.cheapest()? / before - 1.0)
    }

    fn names_where(&self, holds: impl Fn(&str, &Figure) -> bool) -> Vec<&str> {
        self.keel.iter().filter(|(name, figure)| holds(name, figure)).map(|(name, _)| name.as_str()).collect()
    }

    pub fn failed(&self) -> Vec<&str> {
        self.names_where(|_, figure| figure.cheapest().is_none())
    }

    pub fn over_goal(&self) -> Vec<&str> {
        self.names_where(|name, figure| {
            // The unit's check is the same everywhere.
            name != super::LOOP.0 && self.ratio(name, figure).is_some_and(|ratio| ratio > GOAL)
        })
    }

    /// What costs over 5 % more than in the earlier run, or has lost its figure.
    pub fn grown(&self) -> Vec<&str> {
        self.names_where(|name, figure| match self.change(name, figure) {
            Some(change) => change > TOLERANCE,
            None => of(self.base.as_ref(), name).is_some() && figure.cheapest().is_none(),
        })
    }

    fn header(&self) -> Vec<&'static str> {
        let mut header = vec!["operation", "Keel", "mean"];
        if self.lean.is_some() {
            header.extend(["Linux, lean", "ratio"]);
        }
        if self.shipped.is_some() {
            header.push("Linux as shipped");
        }
        if self.base.is_some() {
            header.extend(["earlier", "change"]);
        }
        header
    }

    fn rows(&self, shown: fn(f64) -> String) -> Vec<Vec<String>> {
        let row = |(name, figure): &(String, Figure)| {
            let mut row = vec![name.clone()];
            match figure {
                Figure::Measured { cheapest, mean } => row.extend([shown(*cheapest), shown(*mean)]),
                Figure::Failed(reason) => row.extend(["FAILED".into(), reason.clone()]),
            }
            let cell = |figures: &Option<Figures>| match of(figures.as_ref(), name) {
                Some(Figure::Measured { cheapest, .. }) => shown(*cheapest),
                Some(Figure::Failed(_)) => "FAILED".into(),
                None => "–".into(),
            };
            let part = |value: Option<f64>, text: fn(f64) -> String| value.map_or("–".into(), text);
            if self.lean.is_some() {
                row.extend([cell(&self.lean), part(self.ratio(name, figure), |ratio| format!("{ratio:.2}"))]);
            }
            if self.shipped.is_some() {
                row.push(cell(&self.shipped));
            }
            if self.base.is_some() {
                let change = part(self.change(name, figure), |change| format!("{:+.1} %", 100.0 * change));
                row.extend([cell(&self.base), change]);
            }
            row
        };
        self.keel.iter().map(row).collect()
    }

    /// Columns side by side, numbers to the right; then what people should look at.
    pub fn text(&self) -> String {
        let mut lines: Vec<Vec<String>> = vec![self.header().into_iter().map(str::to_owned).collect()];
        lines.extend(self.rows(readable));
        let columns = lines[0].len();
        // A reason stands in the column of means and may be wide: it doesn't count.
        let is_reason = |line: &[String], column: usize| column == 2 && line[1] == "FAILED";
        let width = |column: usize| {
            let cells = lines.iter().filter(|line| !is_reason(line, column));
            cells.map(|line| line[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for line in &lines {
            let mut row = format!("{:<1$}", line[0], widths[0]);
            for column in 1..columns {
                let _ = write!(row, "  {:>1$}", line[column], widths[column]);
            }
            text += row.trim_end();
            text.push('\n');
        }
        let mut name = |title: &str, names: Vec<&str>| {
            if !names.is_empty() {
                let _ = write!(text, "\n{title}\n  {}\n", names.join("\n  "));
            }
        };
        name("Did not do their work, so that they have no figure:", self.failed());
        name("More than half of lean Linux's:", self.over_goal());
        name("Grew by over 5 %:", self.grown());
        if self.base.is_some() && self.grown().is_empty() {
            text += "\nNothing grew by over 5 %.\n";
        }
        text
    }

    /// The table of docs/performance.md.
    pub fn markdown(&self) -> String {
        let without_mean = |cells: &mut dyn Iterator<Item = (usize, String)>| -> String {
            cells.filter(|(column, _)| *column != 2).fold("|".into(), |row, (_, cell)| format!("{row} {cell} |"))
        };
        let header = self.header();
        let mut text = without_mean(&mut header.iter().map(|&cell| cell.to_owned()).enumerate()) + "\n|---|";
        text += &"---:|".repeat(header.len() - 2);
        text.push('\n');
        for row in self.rows(readable) {
            text += &without_mean(&mut row.into_iter().enumerate());
            text.push('\n');
        }
        text
    }

    pub fn tsv(&self) -> String {
        let mut text = self.header().join("\t") + "\n";
        for row in self.rows(|value| format!("{value:.1}")) {
            text += &(row.join("\t") + "\n");
        }
        text
    }
}

/// A figure as people read it: a decimal below 100 only, thousands apart.
fn readable(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(pairs: &[(&str, f64)]) -> Figures {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), Figure::exact(*value))).collect()
    }

    fn table() -> Table {
        let mut keel = figures(&[("getppid", 150.0), ("read", 1_066_000.4), ("new", 5.0)]);
        keel.push(("yield".into(), Figure::Failed("nobody ran".into())));
        Table {
            keel,
            lean: Some(figures(&[("getppid", 300.0), ("read", 2_000_000.0), ("yield", 1838.0)])),
            shipped: None,
            base: Some(figures(&[("getppid", 140.0), ("read", 1_020_000.0), ("yield", 400.0)])),
        }
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [2.0, 99.94, 147.0, 1066.4, 1_514_248_169.0].map(readable),
            ["2.0", "99.9", "147", "1 066", "1 514 248 169"]
        );
    }

    #[test]
    fn half_of_linux_is_the_goal_and_five_percent_is_growth() {
        let table = table();
        assert_eq!(table.over_goal(), ["read"]);
        // getppid +7.1 %, read +4.5 %; yield had a figure and has none now.
        assert_eq!(table.grown(), ["getppid", "yield"]);
        assert_eq!(table.failed(), ["yield"]);
        assert_eq!(table.ratios()[0], ("getppid", Some(0.5)));
        assert_eq!(table.ratios()[2], ("new", None));
    }

    #[test]
    fn the_text_names_what_must_be_looked_at() {
        let text = table().text();
        assert!(text.starts_with("operation       Keel       mean  Linux, lean  ratio    earlier  change\n"), "{text}");
        assert!(text.contains("\nread       1 066 000  1 066 000    2 000 000   0.53  1 020 000  +4.5 %\n"), "{text}");
        assert!(text.contains("no figure:\n  yield\n"), "{text}");
        assert!(text.contains("Grew by over 5 %:\n  getppid\n  yield\n"), "{text}");
        let calm =
            Table { base: Some(figures(&[("getppid", 150.0)])), keel: figures(&[("getppid", 150.0)]), ..table() };
        assert!(calm.text().contains("Nothing grew by over 5 %."));
    }

    #[test]
    fn a_table_can_be_the_base_of_the_next() {
        let base = super::super::figures::parse_base(&table().tsv()).unwrap();
        assert_eq!(base[1], ("read".to_owned(), Figure::exact(1_066_000.4)));
        assert_eq!(base.len(), 3, "what failed has no figure");
    }

    #[test]
    fn markdown_leaves_the_mean_out() {
        let text = Table { base: None, ..table() }.markdown();
        assert!(
            text.starts_with(
                "| operation | Keel | Linux, lean | ratio |\n|---|---:|---:|---:|\n| getppid | 150 | 300 | 0.50 |\n"
            ),
            "{text}"
        );
        assert!(text.contains("| new | 5.0 | – | – |"), "{text}");
    }
}
