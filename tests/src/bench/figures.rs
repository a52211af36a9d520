//! What user/bench prints, as values: tab-separated lines, among others from the kernel.
//!
//! ```text
//! # ticks at the kernel's entry<TAB>TICKS           (where the kernel tells it)
//! # ticks at the first instruction of main<TAB>TICKS
//! OPERATION<TAB>CHEAPEST<TAB>MEAN<TAB>BATCHES<TAB>TURNS
//! OPERATION<TAB>FAILED<TAB>REASON
//! # end
//! ```

use crate::failure::Failure;

pub const START: &str = "machine's start to init's main";
pub const ENTRY: &str = "kernel's entry to init's main";

/// What is known of one operation: what a turn costs in the cheapest batch and on average, or why that means nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Figure {
    Measured { cheapest: f64, mean: f64 },
    Failed(String),
}

/// Operations and their figures, in the order in which they were measured.
pub type Figures = Vec<(String, Figure)>;

impl Figure {
    pub fn exact(value: f64) -> Figure {
        Figure::Measured { cheapest: value, mean: value }
    }

    pub fn cheapest(&self) -> Option<f64> {
        match self {
            Figure::Measured { cheapest, .. } => Some(*cheapest),
            Figure::Failed(_) => None,
        }
    }
}

/// Reads a complete run; one that was cut short is a failure, whatever it had measured until then.
pub fn parse(output: &str) -> Result<Figures, Failure> {
    let mut figures = Figures::new();
    let mut entry = None;
    for line in output.lines().map(str::trim_end) {
        let fields: Vec<&str> = line.split('\t').collect();
        match fields.as_slice() {
            ["# end"] => return Ok(figures),
            ["# ticks at the kernel's entry", ticks] => entry = number(ticks),
            ["# ticks at the first instruction of main", ticks] => {
                let start = number(ticks);
                figures.extend(start.map(|start| (START.to_owned(), Figure::exact(start))));
                let from_entry = start.zip(entry).map(|(start, entry)| Figure::exact(start - entry));
                figures.extend(from_entry.map(|ticks| (ENTRY.to_owned(), ticks)));
            }
            [name, "FAILED", reason] => figures.push(((*name).to_owned(), Figure::Failed((*reason).to_owned()))),
            [name, cheapest, mean, _, _] => {
                if let (Some(cheapest), Some(mean)) = (number(cheapest), number(mean)) {
                    figures.push(((*name).to_owned(), Figure::Measured { cheapest, mean }));
                }
            }
            _ => {}
        }
    }
    Err(Failure::new(format!("the run was cut short after {} figures", figures.len())).with_guest_output(output))
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// A table's column of Keel's figures, as an earlier run left it: the operation, then the figure.
pub fn parse_base(text: &str) -> Result<Figures, Failure> {
    let figure = |line: &str| {
        let mut fields = line.split('\t');
        let name = fields.next()?;
        Some((name.to_owned(), Figure::exact(number(fields.next()?)?)))
    };
    let figures: Figures = text.lines().filter_map(figure).collect();
    if figures.is_empty() { Err(Failure::new("there are no figures in it")) } else { Ok(figures) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "[    0.01] init: x\n# ticks at the first instruction of main\t22000000\r\n\
        # operation\tcheapest\tmean\tbatches\tturns\ngetppid\t147.0\t148.5\t30\t100\r\nyield\tFAILED\tnobody ran\n";

    #[test]
    fn figures_and_failures_are_read_among_other_lines() {
        let figures = parse(&format!("{RUN}# end\nafterwards\t1\t2\t3\t4\n")).unwrap();
        assert_eq!(figures.len(), 3);
        assert_eq!(figures[0], (START.to_owned(), Figure::exact(22e6)));
        assert_eq!(figures[1].1, Figure::Measured { cheapest: 147.0, mean: 148.5 });
        assert_eq!(figures[2].1, Figure::Failed("nobody ran".into()));
        assert_eq!(figures[2].1.cheapest(), None);
    }

    #[test]
    fn the_way_from_the_kernels_entry_is_known_where_the_kernel_tells_of_it() {
        let figures = parse(&format!("# ticks at the kernel's entry\t2000000\n{RUN}# end\n")).unwrap();
        assert_eq!(figures[1], (ENTRY.to_owned(), Figure::exact(20e6)));
    }

    #[test]
    fn a_run_that_was_cut_short_is_a_failure() {
        assert!(parse(RUN).unwrap_err().reason().contains("after 3 figures"));
        assert!(parse("").is_err());
    }

    #[test]
    fn an_earlier_table_gives_its_column_of_keels_figures() {
        let base = parse_base("operation\tKeel\tmean\ngetppid\t147.0\t148.5\t311\nyield\tFAILED\tx\n").unwrap();
        assert_eq!(base, [("getppid".to_owned(), Figure::exact(147.0))]);
        assert!(parse_base("no table").is_err());
    }
}
