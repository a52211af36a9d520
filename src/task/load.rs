//! The load averages of /proc/loadavg: how many threads wanted to run, over the last 1, 5 and 15 minutes.
//!
//! As in Linux, they are averages that fade: every five seconds each goes a part of its way to the present number. Numbers
//! are fixed-point, with 11 bits behind the point, so that uptime and top round them as they are used to.

const FRACTION_BITS: u32 = 11;
const ONE: u64 = 1 << FRACTION_BITS;
/// What is left of an old average after five seconds: e to the power of -5/60, -5/300, -5/900.
const KEPT: [u64; 3] = [1884, 2014, 2037];

pub struct Averages([u64; 3]);

impl Averages {
    pub const fn new() -> Self {
        Self([0; 3])
    }

    /// To be called every five seconds with the number of threads that run or are ready.
    pub fn note(&mut self, ready: usize) {
        let ready = (ready as u64).saturating_mul(ONE);
        for (average, kept) in self.0.iter_mut().zip(KEPT) {
            // Rounded towards the present number, so that a steady load is reached in the end.
            let rounding = if ready >= *average { ONE - 1 } else { 0 };
            *average = (average.saturating_mul(kept))
                .saturating_add(ready.saturating_mul(ONE - kept))
                .saturating_add(rounding)
                / ONE;
        }
    }

    /// As sysinfo(2) gives them: with 16 bits behind the point.
    pub fn scaled(&self) -> [u64; 3] {
        self.0.map(|average| average << (16 - FRACTION_BITS))
    }

    /// Whole part and hundredths of each.
    pub fn hundredths(&self) -> [(u64, u64); 3] {
        self.0.map(|average| {
            let rounded = average.saturating_add(ONE / 200);
            (rounded >> FRACTION_BITS, ((rounded & (ONE - 1)) * 100) >> FRACTION_BITS)
        })
    }
}

impl Default for Averages {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(minutes: usize, ready: usize) -> [(u64, u64); 3] {
        let mut averages = Averages::new();
        (0..minutes * 12).for_each(|_| averages.note(ready));
        averages.hundredths()
    }

    #[test]
    fn a_steady_load_is_reached_and_fades() {
        assert_eq!(after(0, 0), [(0, 0); 3]);
        // 1 - 1/e after as long as the average takes in; the rounding upwards adds up, as it does on Linux.
        assert_eq!(after(1, 1)[0], (0, 63));
        assert_eq!(after(5, 1)[1], (0, 64));
        assert_eq!(after(15, 1)[2], (0, 65));
        assert_eq!(after(300, 3), [(3, 0); 3]);
    }

    #[test]
    fn no_number_of_threads_is_too_many() {
        let mut averages = Averages::new();
        averages.note(usize::MAX);
        averages.note(usize::MAX);
        assert!(averages.hundredths()[0].0 > 0);
    }
}
