//! From a counter's periods to nanoseconds, by one multiplication.

/// Nanoseconds in a second.
pub const NS_PER_SECOND: u64 = 1_000_000_000;

/// A counter's frequency, as the length of its period in units of 2^-64 seconds. A number of periods times that is a time of 128
/// bits, whose upper half is whole seconds: whoever wants seconds and nanoseconds apart, as programs do (asm/user/vdso.asm),
/// needs no division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeScale(u64);

impl TimeScale {
    /// A counter of `hz`; one of 0 Hz counts as 1 GHz, so that a failed measurement still gives a time that passes.
    pub const fn from_hz(hz: u64) -> Self {
        let hz = if hz == 0 { NS_PER_SECOND } else { hz } as u128;
        let period = ((1 << 64) + hz / 2) / hz;
        Self(if period > u64::MAX as u128 { u64::MAX } else { period as u64 })
    }

    pub const fn from_fixed_point(period: u64) -> Self {
        Self(period)
    }

    pub const fn fixed_point(self) -> u64 {
        self.0
    }

    /// How long `periods` take. Wraps after 584 years.
    #[inline(always)]
    pub const fn to_ns(self, periods: u64) -> u64 {
        let passed = periods as u128 * self.0 as u128;
        let (seconds, rest) = ((passed >> 64) as u64, passed as u64);
        let rest_ns = ((rest as u128 * NS_PER_SECOND as u128) >> 64) as u64;
        seconds.wrapping_mul(NS_PER_SECOND).wrapping_add(rest_ns)
    }

    /// How many periods pass in `ns`; at least one.
    pub const fn to_periods(self, ns: u64) -> u64 {
        let period = if self.0 == 0 { 1 } else { self.0 } as u128;
        let periods = ((ns as u128) << 64) / (period * NS_PER_SECOND as u128);
        if periods == 0 { 1 } else { periods as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_a_second_at_any_frequency() {
        for hz in [32_768, 4_000_000, 14_318_180, 1_000_000_000, 2_893_202_000, 5_800_000_000] {
            let scale = TimeScale::from_hz(hz);
            assert!(scale.to_ns(hz).abs_diff(NS_PER_SECOND) <= 2, "{hz} Hz");
            assert!(scale.to_periods(NS_PER_SECOND).abs_diff(hz) <= 2 + hz / 100_000_000, "{hz} Hz");
        }
    }

    #[test]
    fn a_year_at_3_ghz_is_right_to_the_second() {
        const YEAR_SECONDS: u64 = 31_536_000;
        let ns = TimeScale::from_hz(3_000_000_000).to_ns(3_000_000_000 * YEAR_SECONDS);
        assert!(ns.abs_diff(YEAR_SECONDS * NS_PER_SECOND) < NS_PER_SECOND);
    }

    #[test]
    fn no_frequency_stops_the_clock() {
        assert_eq!(TimeScale::from_hz(0).to_ns(5), 5);
        assert_eq!(TimeScale::from_hz(1).to_periods(0), 1);
    }
}
