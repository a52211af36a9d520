//! The bar chart: for each operation what Keel needs of lean Linux's instructions. Readable on light and dark pages.

use super::table::{GOAL, Table};
use std::fmt::Write;

const WIDTH: u32 = 760;
const LABELS: u32 = 270;
/// What a ratio of 1, Linux, is long.
const UNIT: u32 = 380;
const LONGEST: f64 = 1.15;
const ROW: u32 = 18;
const TOP: u32 = 58;

const STYLE: &str = "<style>\
text{font:12px system-ui,sans-serif;fill:#333}.title{font-size:14px;font-weight:600}.value{font-size:11px}\
.good{fill:#2c7fb8}.more{fill:#d98e04}.over{fill:#c0392b}.line{stroke:#888;stroke-dasharray:3 3}\
@media(prefers-color-scheme:dark){text{fill:#ddd}.good{fill:#4fa3d9}.more{fill:#e5a93b}.over{fill:#e06c5f}}</style>";

/// None without Linux's figures.
pub fn svg(table: &Table) -> Option<String> {
    let ratios = table.ratios().into_iter().filter_map(|(name, ratio)| Some((name, ratio?)));
    // The unit's check says nothing of kernels.
    let ratios: Vec<(&str, f64)> = ratios.filter(|(name, _)| *name != super::LOOP.0).collect();
    if ratios.is_empty() {
        return None;
    }
    let bottom = TOP + ROW * ratios.len() as u32;
    let height = bottom + 12;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"Keel's instructions for each operation as a part of Linux's\">\n{STYLE}\n\
         <text class=\"title\" x=\"8\" y=\"20\">Guest instructions on Keel as a part of lean Linux 6.1’s (last rows: memory)</text>\n"
    );
    for (ratio, label) in [(GOAL, "half"), (1.0, "as many as Linux")] {
        let x = LABELS + (ratio * f64::from(UNIT)) as u32;
        let _ = writeln!(
            text,
            "<line class=\"line\" x1=\"{x}\" y1=\"{}\" x2=\"{x}\" y2=\"{bottom}\"/>\
             <text class=\"value\" x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            TOP - 6,
            TOP - 10
        );
    }
    for (index, (name, ratio)) in ratios.iter().enumerate() {
        let y = TOP + ROW * index as u32;
        let length = (ratio.min(LONGEST) * f64::from(UNIT)).max(1.0);
        let class = match ratio {
            r if *r > 1.0 => "over",
            r if *r > GOAL => "more",
            _ => "good",
        };
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text><rect class=\"{class}\" x=\"{LABELS}\" y=\"{}\" \
             width=\"{length:.1}\" height=\"{}\" rx=\"2\"/><text class=\"value\" x=\"{:.1}\" y=\"{}\">{ratio:.2}</text>",
            LABELS - 8,
            y + 13,
            escaped(name),
            y + 3,
            ROW - 5,
            f64::from(LABELS) + length + 5.0,
            y + 13
        );
    }
    text += "</svg>\n";
    Some(text)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figure;
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_ratio_and_no_longer_than_the_page() {
        let row = |name: &str, value: f64| (name.to_owned(), Figure::exact(value));
        let table = Table {
            keel: vec![row("a & b", 50.0), row("far", 900.0), row("alone", 1.0)],
            lean: Some(vec![row("a & b", 100.0), row("far", 100.0)]),
            ..Table::default()
        };
        let svg = svg(&table).unwrap();
        assert!(svg.contains("a &amp; b") && svg.contains("width=\"190.0\"") && svg.contains(">0.50<"), "{svg}");
        assert!(svg.contains("class=\"over\"") && svg.contains("width=\"437.0\"") && svg.contains(">9.00<"), "{svg}");
        assert!(!svg.contains("alone"), "{svg}");
    }

    #[test]
    fn without_linux_there_is_nothing_to_draw() {
        assert!(svg(&Table { keel: vec![("a".into(), Figure::exact(1.0))], ..Table::default() }).is_none());
    }
}
