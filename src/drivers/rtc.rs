//! The battery-backed clock in CMOS (MC146818): what time it is when the machine starts.
//!
//! Its registers change while they are read, may be binary or BCD, count hours to 12 or 24, and have no century but where
//! ACPI names a register for it. Reading is bounded; making sense of what was read is plain Rust.

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;

/// In status register B.
const IS_24_HOURS: u8 = 1 << 1;
const IS_BINARY: u8 = 1 << 2;
/// In the hours, when they count to 12.
const IS_AFTERNOON: u8 = 1 << 7;

/// The registers, as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    pub seconds: u8,
    pub minutes: u8,
    pub hours: u8,
    pub day: u8,
    pub month: u8,
    pub year: u8,
    /// Where ACPI says that there is one.
    pub century: Option<u8>,
    pub status_b: u8,
}

impl Registers {
    /// Seconds since 1970; None for what is no time, as with an empty battery.
    pub fn unix_seconds(self) -> Option<u64> {
        let decoded = |value: u8| if self.status_b & IS_BINARY != 0 { Some(value) } else { from_bcd(value) };
        let hours = self.hours(decoded)?;
        let (minutes, seconds) = (decoded(self.minutes)?, decoded(self.seconds)?);
        let (day, month, year) = (decoded(self.day)?, decoded(self.month)?, decoded(self.year)?);
        let century = self.century.and_then(decoded).filter(|century| (19..=29).contains(century));
        let year = match century {
            Some(century) => u64::from(century) * 100 + u64::from(year),
            // No machine that starts Keel was made before 1970.
            None if year < 70 => 2000 + u64::from(year),
            None => 1900 + u64::from(year),
        };
        let possible = hours < 24 && minutes < 60 && seconds <= 60 && year < 3000 && self.year_is_decimal(decoded);
        let days = days_since_1970(year, u64::from(month), u64::from(day)).filter(|_| possible)?;
        Some(days * SECONDS_PER_DAY + u64::from(hours) * 3600 + u64::from(minutes) * 60 + u64::from(seconds))
    }

    fn hours(self, decoded: impl Fn(u8) -> Option<u8>) -> Option<u8> {
        if self.status_b & IS_24_HOURS != 0 {
            return decoded(self.hours);
        }
        let hours = decoded(self.hours & !IS_AFTERNOON).filter(|hours| (1..=12).contains(hours))?;
        // 12 is the first hour of each half of the day.
        Some(hours % 12 + if self.hours & IS_AFTERNOON != 0 { 12 } else { 0 })
    }

    fn year_is_decimal(self, decoded: impl Fn(u8) -> Option<u8>) -> bool {
        decoded(self.year).is_some_and(|year| year < 100)
    }
}

fn from_bcd(value: u8) -> Option<u8> {
    let (tens, ones) = (value >> 4, value & 0xf);
    (tens < 10 && ones < 10).then_some(tens * 10 + ones)
}

/// Days from 1 January 1970 to a date of the Gregorian calendar.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    const DAYS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let length = |month: usize| DAYS.get(month).map(|days| days + u64::from(month == 1 && leap(year)));
    let month = usize::try_from(month.checked_sub(1)?).ok()?;
    if year < 1970 || day == 0 || day > length(month)? {
        return None;
    }
    let earlier_years: u64 = (1970..year).map(|year| 365 + u64::from(leap(year))).sum();
    let earlier_months: u64 = (0..month).filter_map(length).sum();
    Some(earlier_years + earlier_months + day - 1)
}

#[cfg(target_os = "none")]
pub use cmos::set_wall_clock;

#[cfg(target_os = "none")]
mod cmos {
    use super::Registers;
    use crate::drivers::acpi;
    use crate::interrupts::clock;
    use crate::interrupts::time_scale::NS_PER_SECOND;
    use x86_64::instructions::port::Port;

    const INDEX: u16 = 0x70;
    const DATA: u16 = 0x71;

    const SECONDS: u8 = 0x00;
    const MINUTES: u8 = 0x02;
    const HOURS: u8 = 0x04;
    const DAY: u8 = 0x07;
    const MONTH: u8 = 0x08;
    const YEAR: u8 = 0x09;
    const STATUS_A: u8 = 0x0a;
    const STATUS_B: u8 = 0x0b;
    /// The clock is about to change: what is read now may be half old, half new.
    const UPDATE_IN_PROGRESS: u8 = 1 << 7;

    /// An update takes 2 ms; a read of a port about a microsecond.
    const UPDATE_POLLS_MAX: u32 = 10_000;
    /// Two readings that agree weren't cut by an update; after so many pairs there is no working clock.
    const READINGS_MAX: u32 = 8;

    /// The top bit of the index gates NMIs; the registers of the clock lie below it.
    fn read(register: u8) -> u8 {
        // SAFETY: CMOS is read by writing an index and reading the data; nothing in it is changed.
        unsafe {
            Port::<u8>::new(INDEX).write(register);
            Port::<u8>::new(DATA).read()
        }
    }

    fn registers(century_register: Option<u8>) -> Registers {
        // A clock that never leaves its update is read all the same, and judged by what it says.
        let _ = (0..UPDATE_POLLS_MAX).any(|_| read(STATUS_A) & UPDATE_IN_PROGRESS == 0);
        Registers {
            seconds: read(SECONDS),
            minutes: read(MINUTES),
            hours: read(HOURS),
            day: read(DAY),
            month: read(MONTH),
            year: read(YEAR),
            century: century_register.map(read),
            status_b: read(STATUS_B),
        }
    }

    /// Sets the time of day by the machine's clock. Without one it begins in 1970.
    pub fn set_wall_clock() {
        match unix_seconds(acpi::tables().century_register) {
            Some(seconds) => {
                clock::set_wall_clock_ns(seconds.saturating_mul(NS_PER_SECOND));
                log::info!(target: "rtc", "{seconds} seconds since 1970");
            }
            None => log::warn!(target: "rtc", "no clock that makes sense: the time begins in 1970"),
        }
    }

    /// Seconds since 1970 by the machine's clock, if it has one that makes sense. `century_register` is ACPI's, 0 if unknown.
    fn unix_seconds(century_register: u8) -> Option<u64> {
        let century_register = Some(century_register).filter(|&register| register > STATUS_B && register < 0x80);
        let mut last = registers(century_register);
        for _ in 0..READINGS_MAX {
            let next = registers(century_register);
            if next == last {
                return next.unix_seconds();
            }
            last = next;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCD: Registers = Registers {
        seconds: 0x59,
        minutes: 0x34,
        hours: 0x23,
        day: 0x29,
        month: 0x02,
        year: 0x24,
        century: Some(0x20),
        status_b: IS_24_HOURS,
    };

    #[test]
    fn all_formats_of_one_time_agree() {
        let expected = Some(1_709_249_699);
        let binary = Registers {
            seconds: 59,
            minutes: 34,
            hours: 23,
            day: 29,
            month: 2,
            year: 24,
            century: Some(20),
            status_b: IS_24_HOURS | IS_BINARY,
        };
        assert_eq!(BCD.unix_seconds(), expected);
        assert_eq!(binary.unix_seconds(), expected);
        assert_eq!(Registers { century: None, ..BCD }.unix_seconds(), expected);
        assert_eq!(Registers { century: Some(0xff), ..BCD }.unix_seconds(), expected);
        assert_eq!(Registers { hours: 0x11 | IS_AFTERNOON, status_b: 0, ..BCD }.unix_seconds(), expected);
        assert_eq!(Registers { hours: 11 | IS_AFTERNOON, status_b: IS_BINARY, ..binary }.unix_seconds(), expected);
    }

    #[test]
    fn twelve_is_the_first_hour() {
        let at = |hours| Registers { hours, status_b: 0, ..BCD }.unix_seconds().unwrap() / 3600 % 24;
        assert_eq!([0x12, 0x01, 0x11, 0x92, 0x81, 0x91].map(at), [0, 1, 11, 12, 13, 23]);
    }

    #[test]
    fn dates_are_days_since_1970() {
        for (date, days) in [
            ((1970, 1, 1), Some(0)),
            ((1970, 12, 31), Some(364)),
            ((2000, 2, 29), Some(11_016)),
            ((2000, 3, 1), Some(11_017)),
            ((2026, 11, 21), Some(20_778)),
            ((2100, 2, 29), None),
            ((2023, 2, 29), None),
            ((2023, 13, 1), None),
            ((2023, 0, 1), None),
            ((2023, 1, 0), None),
            ((1969, 12, 31), None),
        ] {
            assert_eq!(days_since_1970(date.0, date.1, date.2), days, "{date:?}");
        }
    }

    #[test]
    fn nonsense_is_no_time() {
        let absent = Registers {
            seconds: 0xff,
            minutes: 0xff,
            hours: 0xff,
            day: 0xff,
            month: 0xff,
            year: 0xff,
            century: None,
            status_b: 0xff,
        };
        for broken in [
            absent,
            Registers { hours: 0x24, ..BCD },
            Registers { minutes: 0x60, ..BCD },
            Registers { day: 0x32, ..BCD },
            Registers { month: 0, ..BCD },
            Registers { seconds: 0x0a, ..BCD },
            Registers { hours: 0, status_b: 0, ..BCD },
        ] {
            assert_eq!(broken.unix_seconds(), None, "{broken:?}");
        }
    }
}
