//! Device files: numbers, and the drivers behind them.

use super::open_flags::OpenFlags;
use super::transfer::{Sink, Source};
use super::waiting::{Events, PollTable};
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use alloc::vec::Vec;

/// A device's major and minor number, encoded as in `st_rdev`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumber(pub u64);

impl DeviceNumber {
    pub const NONE: Self = Self(0);

    /// `makedev(3)`.
    pub const fn new(major: u32, minor: u32) -> Self {
        let (major, minor) = (major as u64, minor as u64);
        Self((major & 0xfff) << 8 | (major & !0xfff) << 32 | minor & 0xff | (minor & !0xff) << 12)
    }

    pub const fn major(self) -> u32 {
        (self.0 >> 8 & 0xfff | self.0 >> 32 & !0xfff) as u32
    }

    pub const fn minor(self) -> u32 {
        (self.0 & 0xff | self.0 >> 12 & !0xff) as u32
    }
}

/// How a read or write on a device is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// EAGAIN rather than a wait.
    pub nonblocking: bool,
}

/// What an open file of a device stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Which of the driver's devices. For a name that means another device, /dev/tty, the one that it meant when opened.
    pub number: DeviceNumber,
    /// The driver's own mark on the files of one time: a terminal's, between two hang-ups.
    pub era: u32,
}

/// A driver for character devices.
pub trait Device: Send + Sync {
    /// Called when a program opens the device file; `number` tells which of the driver's devices.
    fn open(&self, number: DeviceNumber, _flags: OpenFlags) -> Result<Opened, Errno> {
        Ok(Opened { number, era: 0 })
    }

    fn read(&self, opened: Opened, request: Request, sink: &mut dyn Sink) -> Result<usize, Errno>;

    fn write(&self, opened: Opened, request: Request, source: &mut dyn Source) -> Result<usize, Errno>;

    /// What the device is ready for; it wakes `table`'s poller when that may have changed.
    fn poll<'a>(&'a self, _opened: Opened, _table: Option<&mut PollTable<'a>>) -> Events {
        Events::READABLE | Events::WRITABLE
    }

    /// `ioctl(2)`; `argument` is a user address or a number, as the command says.
    fn ioctl(&self, _opened: Opened, _command: u32, _argument: u64) -> Result<isize, Errno> {
        Err(Errno::ENOTTY)
    }

    /// Whether `lseek` works on it: not on terminals.
    fn is_seekable(&self) -> bool {
        true
    }
}

struct Driver {
    major: u32,
    minors: core::ops::Range<u32>,
    device: &'static dyn Device,
}

static DRIVERS: Lock<Vec<Driver>> = Lock::new(Rank::Inode, Vec::new());

/// Makes `device` the driver of these device numbers.
pub fn register(major: u32, minors: core::ops::Range<u32>, device: &'static dyn Device) -> Result<(), Errno> {
    let mut drivers = DRIVERS.lock();
    drivers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    drivers.push(Driver { major, minors, device });
    Ok(())
}

/// The driver of a device number. ENXIO if there is none.
pub fn find(number: DeviceNumber) -> Result<&'static dyn Device, Errno> {
    let drivers = DRIVERS.lock();
    let matches = |driver: &&Driver| driver.major == number.major() && driver.minors.contains(&number.minor());
    drivers.iter().find(matches).map(|driver| driver.device).ok_or(Errno::ENXIO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_device_numbers_encoded_as_libc_encodes_them() {
        assert_eq!(DeviceNumber::new(4, 64).0, 0x440);
        assert_eq!(DeviceNumber::new(259, 0x12345).0, 0x1230_0000 | 259 << 8 | 0x45);
        let large = DeviceNumber::new(0x12345, 0x6789a);
        assert_eq!((large.major(), large.minor()), (0x12345, 0x6789a));
    }
}
