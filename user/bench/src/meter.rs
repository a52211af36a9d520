//! Counts ticks in batches.

use std::fmt;

/// What an operation answers: nothing, or why its figures mean nothing.
pub type Outcome = Result<(), String>;

/// The TSC.
pub fn now() -> u64 {
    // SAFETY: reads a counter that every x86-64 CPU has.
    unsafe { core::arch::x86_64::_rdtsc() }
}

pub struct Meter {
    turns: u64,
    /// Ticks of each batch.
    batches: Vec<u64>,
    /// Taken off each batch: what is measured along with the operation.
    overhead: u64,
}

impl Meter {
    pub fn new() -> Meter {
        Meter { turns: 1, batches: Vec::with_capacity(256), overhead: 0 }
    }

    /// Measures `batches` batches of `turns` turns each. One batch before them warms caches up and isn't counted.
    pub fn measure(&mut self, batches: usize, turns: u64, mut turn: impl FnMut() -> Outcome) -> Outcome {
        self.measure_with(batches, turns, || Ok(()), |()| turn())
    }

    /// Like `measure`, with something prepared before each batch, outside the count.
    pub fn measure_with<T: Copy>(
        &mut self,
        batches: usize,
        turns: u64,
        mut prepare: impl FnMut() -> Result<T, String>,
        mut turn: impl FnMut(T) -> Outcome,
    ) -> Outcome {
        self.turns = turns;
        for batch in 0..=batches {
            let prepared = prepare()?;
            let start = now();
            for _ in 0..turns {
                turn(prepared)?;
            }
            let ticks = now().wrapping_sub(start);
            if batch > 0 {
                self.batches.push(ticks);
            }
        }
        Ok(())
    }

    /// Adds a batch that was counted elsewhere.
    pub fn add(&mut self, turns: u64, ticks: u64) {
        self.turns = turns;
        self.batches.push(ticks);
    }

    /// What the cheapest batch took in all.
    pub fn cheapest(&self) -> u64 {
        self.batches.iter().copied().min().unwrap_or(0)
    }

    /// Says that each batch was this many turns.
    pub fn divide_by(&mut self, turns: u64) {
        self.turns = turns;
    }

    /// Subtracts this from every batch: a part of each that is not the operation.
    pub fn subtract(&mut self, ticks: u64) {
        self.overhead = ticks;
    }
}

impl fmt::Display for Meter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per_turn = |ticks: f64| (ticks - self.overhead as f64) / self.turns as f64;
        let mean = self.batches.iter().sum::<u64>() as f64 / self.batches.len().max(1) as f64;
        let cheapest = per_turn(self.cheapest() as f64);
        write!(formatter, "{cheapest:.1}\t{:.1}\t{}\t{}", per_turn(mean), self.batches.len(), self.turns)
    }
}
