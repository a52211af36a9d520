//! The devices that are nothing but memory (major 1): null, zero, full, random, urandom.

use super::device::{self, Device, DeviceNumber, Opened, Request};
use super::inode::{Inode, S_IFCHR};
use super::transfer::{Sink, Source};
use super::waiting::yield_point;
use crate::errno::Errno;
use crate::{PAGE_SIZE, random};

const MAJOR: u32 = 1;
const NULL: u32 = 3;
const ZERO: u32 = 5;
const FULL: u32 = 7;
const RANDOM: u32 = 8;
const URANDOM: u32 = 9;

/// Their names in /dev.
pub const NODES: [(&[u8], DeviceNumber); 5] = [
    (b"null", DeviceNumber::new(MAJOR, NULL)),
    (b"zero", DeviceNumber::new(MAJOR, ZERO)),
    (b"full", DeviceNumber::new(MAJOR, FULL)),
    (b"random", DeviceNumber::new(MAJOR, RANDOM)),
    (b"urandom", DeviceNumber::new(MAJOR, URANDOM)),
];

struct Null;
struct Zero;
struct Full;
struct Random;

static ZEROS: [u8; PAGE_SIZE] = [0; PAGE_SIZE];

/// Makes them known.
pub fn init() -> Result<(), Errno> {
    device::register(MAJOR, NULL..NULL + 1, &Null)?;
    device::register(MAJOR, ZERO..ZERO + 1, &Zero)?;
    device::register(MAJOR, FULL..FULL + 1, &Full)?;
    device::register(MAJOR, RANDOM..URANDOM + 1, &Random)
}

/// Whether a file is /dev/zero, whatever its name.
pub fn is_zero(inode: &Inode) -> bool {
    inode.kind() == S_IFCHR && inode.device_number() == DeviceNumber::new(MAJOR, ZERO)
}

impl Device for Null {
    fn read(&self, _: Opened, _: Request, _: &mut dyn Sink) -> Result<usize, Errno> {
        Ok(0)
    }

    fn write(&self, _: Opened, _: Request, source: &mut dyn Source) -> Result<usize, Errno> {
        Ok(source.remaining())
    }
}

impl Device for Zero {
    fn read(&self, _: Opened, _: Request, sink: &mut dyn Sink) -> Result<usize, Errno> {
        fill(sink, ZEROS.len(), |_, sink| sink.put(&ZEROS))
    }

    fn write(&self, _: Opened, _: Request, source: &mut dyn Source) -> Result<usize, Errno> {
        Ok(source.remaining())
    }
}

impl Device for Full {
    fn read(&self, _: Opened, _: Request, sink: &mut dyn Sink) -> Result<usize, Errno> {
        fill(sink, ZEROS.len(), |_, sink| sink.put(&ZEROS))
    }

    fn write(&self, _: Opened, _: Request, _: &mut dyn Source) -> Result<usize, Errno> {
        Err(Errno::ENOSPC)
    }
}

impl Device for Random {
    fn read(&self, _: Opened, _: Request, sink: &mut dyn Sink) -> Result<usize, Errno> {
        fill(sink, 256, |wanted, sink| {
            let mut bytes = [0; 256];
            let bytes = bytes.get_mut(..wanted).unwrap_or_default();
            random::fill(bytes);
            sink.put(bytes)
        })
    }

    /// What is written is stirred in.
    fn write(&self, _: Opened, _: Request, source: &mut dyn Source) -> Result<usize, Errno> {
        let mut done = 0;
        while source.remaining() > 0 {
            let mut bytes = [0; 8];
            match source.take(&mut bytes) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
            random::stir(u64::from_le_bytes(bytes));
            if yield_point() {
                break;
            }
        }
        Ok(done)
    }
}

/// Gives a sink pieces of at most `largest` bytes until it has all that it asked for.
fn fill(
    sink: &mut dyn Sink,
    largest: usize,
    put_piece: impl Fn(usize, &mut dyn Sink) -> Result<usize, Errno>,
) -> Result<usize, Errno> {
    let mut done = 0;
    loop {
        let wanted = sink.remaining().min(largest);
        if wanted == 0 {
            return Ok(done);
        }
        match put_piece(wanted, sink) {
            Ok(count) => {
                done += count;
                if count < wanted || yield_point() {
                    return Ok(done);
                }
            }
            Err(error) if done == 0 => return Err(error),
            Err(_) => return Ok(done),
        }
    }
}
