//! User memory as the source and the destination of what files move.

use crate::errno::Errno;
use crate::fs::transfer::{Sink, Source};
use crate::memory::user_access::{self, UserAddress, UserRange};
use alloc::vec::Vec;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// No read or write moves more (Linux's MAX_RW_COUNT).
pub const COUNT_MAX: usize = 0x7fff_f000;
/// How many pieces a vector may have (UIO_MAXIOV).
const PIECES_MAX: usize = 1024;

/// What a read or a write moves: a range of user memory.
pub struct UserBuffer(UserRange);

/// One piece of readv's and writev's buffers (`struct iovec`).
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
pub struct Piece {
    address: UserAddress,
    length: u64,
}

/// Several ranges, one after the other.
pub struct UserVector {
    pieces: Vec<Piece>,
    current: usize,
    remaining: usize,
}

impl UserBuffer {
    /// EFAULT if the range isn't in user space. Counts past the largest are cut.
    #[inline]
    pub fn new(address: UserAddress, count: usize) -> Result<Self, Errno> {
        Ok(Self(UserRange::new(address, count)?.limited(COUNT_MAX)))
    }
}

impl Sink for UserBuffer {
    #[inline]
    fn remaining(&self) -> usize {
        self.0.remaining()
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        self.0.put(bytes)
    }
}

impl Source for UserBuffer {
    #[inline]
    fn remaining(&self) -> usize {
        self.0.remaining()
    }

    #[inline(always)]
    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        self.0.take(into)
    }
}

impl UserVector {
    /// Reads the pieces. EINVAL for too many or too large ones, EFAULT for those that aren't in user space.
    pub fn new(address: UserAddress, count: u64) -> Result<Self, Errno> {
        let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
        if count > PIECES_MAX {
            return Err(Errno::EINVAL);
        }
        let mut pieces: Vec<Piece> = user_access::read_slice(address, count)?;
        let mut total = 0;
        for piece in &mut pieces {
            let length = usize::try_from(piece.length).ok().filter(|length| *length <= isize::MAX as usize);
            let length = length.ok_or(Errno::EINVAL)?;
            piece.address.check(length)?;
            let kept = length.min(COUNT_MAX - total);
            piece.length = kept as u64;
            total += kept;
        }
        Ok(Self { pieces, current: 0, remaining: total })
    }

    /// Moves bytes by `step`, piece by piece; `step` is told where, from which byte of the whole on, and how many.
    fn each(
        &mut self,
        count: usize,
        mut step: impl FnMut(UserAddress, usize, usize) -> Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        let mut done = 0;
        while done < count.min(done + self.remaining) {
            let Some(piece) = self.pieces.get_mut(self.current) else { break };
            let wanted = (count - done).min(piece.length as usize);
            if wanted == 0 {
                self.current += 1;
                continue;
            }
            let moved = match step(piece.address, done, wanted) {
                Ok(moved) => moved,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            };
            piece.address = piece.address.offset(moved as u64);
            piece.length -= moved as u64;
            self.remaining -= moved;
            done += moved;
            if moved < wanted {
                break;
            }
        }
        Ok(done)
    }
}

impl Sink for UserVector {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn put(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let count = bytes.len().min(self.remaining);
        self.each(count, |address, from, count| {
            user_access::copy_out_partial(address, bytes.get(from..from + count).unwrap_or_default())
        })
    }
}

impl Source for UserVector {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        let count = into.len().min(self.remaining);
        self.each(count, |address, from, count| {
            user_access::copy_in_partial(into.get_mut(from..from + count).unwrap_or_default(), address)
        })
    }
}
