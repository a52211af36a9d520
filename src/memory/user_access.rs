//! The way to programs' memory: the only code in Keel that follows a pointer a program passed.
//!
//! Each function checks that the range lies in user space, whole and unwrapped, and then copies directly, at the current
//! address space's addresses. A page that isn't there yet is faulted in on the way; one that can't be ends the copy, by
//! asm/user_copy.asm's recovery table, with EFAULT or with what was done before. Programs' other threads may change
//! the memory at any time: whatever is checked is copied first.
//!
//! No lock is held around these calls, but for a pipe's or a terminal's: a fault takes the address space's.

pub use super::address_space::USER_END;
use crate::errno::Errno;
use crate::fault_injection::{Point, should_fail};
use crate::lock;
use alloc::vec::Vec;
use core::fmt;
use core::mem::MaybeUninit;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// An address as a program gave it: nothing is known of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, FromBytes, IntoBytes, Immutable)]
#[repr(transparent)]
pub struct UserAddress(u64);

impl UserAddress {
    pub const NULL: Self = Self(0);

    #[inline(always)]
    pub const fn new(address: u64) -> Self {
        Self(address)
    }

    #[inline(always)]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The address `bytes` further on. What wraps comes out past user space, and is refused when it is used.
    #[inline(always)]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// Fails unless all of `count` bytes from here on lie in user space.
    #[inline(always)]
    pub fn check(self, count: usize) -> Result<(), Errno> {
        match self.0.checked_add(count as u64) {
            Some(end) if end <= USER_END => Ok(()),
            _ => Err(Errno::EFAULT),
        }
    }
}

impl fmt::Debug for UserAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "user:{:#x}", self.0)
    }
}

/// A range of user memory, checked once: all of it lies in user space. What was moved is cut off its start.
pub struct UserRange {
    start: UserAddress,
    remaining: usize,
}

impl UserRange {
    /// EFAULT if it isn't all in user space.
    #[inline(always)]
    pub fn new(start: UserAddress, count: usize) -> Result<Self, Errno> {
        start.check(count)?;
        Ok(Self { start, remaining: count })
    }

    /// Makes it no longer than this.
    #[inline(always)]
    pub fn limited(self, count: usize) -> Self {
        Self { remaining: self.remaining.min(count), ..self }
    }

    #[inline(always)]
    pub fn remaining(&self) -> usize {
        self.remaining
    }

    /// Copies to the program what there is room for; how many bytes were written before the first bad one. EFAULT if not even
    /// the first was.
    #[inline(always)]
    pub fn put(&mut self, from: &[u8]) -> Result<usize, Errno> {
        begin()?;
        let count = from.len().min(self.remaining);
        // SAFETY: `from` is a kernel buffer at least as long; the range is the user's, and faults are recovered.
        let left = unsafe { user_copy(pointer(self.start), from.as_ptr(), count) };
        self.moved(count, left)
    }

    /// Copies from the program what there is room for, and tells as [`Self::put`].
    #[inline(always)]
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, Errno> {
        begin()?;
        let count = into.len().min(self.remaining);
        // SAFETY: `into` is a kernel buffer at least as long; the range is the user's, and faults are recovered.
        let left = unsafe { user_copy(into.as_mut_ptr(), pointer(self.start), count) };
        self.moved(count, left)
    }

    #[inline(always)]
    fn moved(&mut self, count: usize, left: usize) -> Result<usize, Errno> {
        let done = if left == 0 { count } else { cut_short(count, left)? };
        self.start.0 += done as u64;
        self.remaining -= done;
        Ok(done)
    }
}

#[repr(C)]
struct Loaded {
    value: u64,
    failed: u64,
}

/// What asm/user_copy.asm says of a string.
#[repr(C)]
struct Scanned {
    length: u64,
    status: u64,
}

const STRING_ENDED: u64 = 0;
const STRING_FAULT: u64 = 1;

#[cfg(target_os = "none")]
unsafe extern "C" {
    fn user_copy(to: *mut u8, from: *const u8, count: usize) -> usize;
    fn user_copy_words(to: *mut u64, from: *const u64, count: usize) -> usize;
    fn user_get_8(from: u64) -> Loaded;
    fn user_get_16(from: u64) -> Loaded;
    fn user_get_32(from: u64) -> Loaded;
    fn user_get_64(from: u64) -> Loaded;
    fn user_put_8(to: u64, value: u64) -> u64;
    fn user_put_16(to: u64, value: u64) -> u64;
    fn user_put_32(to: u64, value: u64) -> u64;
    fn user_put_64(to: u64, value: u64) -> u64;
    fn user_compare_exchange_32(at: u64, expected: u32, new: u32) -> Loaded;
    fn user_copy_string(to: *mut u8, from: u64, limit: usize) -> Scanned;
    fn user_string_length(from: u64, limit: usize) -> Scanned;
}

#[cfg(not(target_os = "none"))]
use no_user_memory::*;

/// On the host there are no programs: every access fails.
#[cfg(not(target_os = "none"))]
mod no_user_memory {
    use super::{Loaded, STRING_FAULT, Scanned};

    macro_rules! failing {
        ($($name:ident($($argument:ty),*) -> $result:ty = $value:expr;)*) => {
            // As unsafe as the real ones, which they stand for.
            $(pub unsafe fn $name($(_: $argument),*) -> $result { $value })*
        };
    }

    failing! {
        user_get_8(u64) -> Loaded = Loaded { value: 0, failed: 1 };
        user_get_16(u64) -> Loaded = Loaded { value: 0, failed: 1 };
        user_get_32(u64) -> Loaded = Loaded { value: 0, failed: 1 };
        user_get_64(u64) -> Loaded = Loaded { value: 0, failed: 1 };
        user_put_8(u64, u64) -> u64 = 1;
        user_put_16(u64, u64) -> u64 = 1;
        user_put_32(u64, u64) -> u64 = 1;
        user_put_64(u64, u64) -> u64 = 1;
        user_compare_exchange_32(u64, u32, u32) -> Loaded = Loaded { value: 0, failed: 1 };
        user_copy_string(*mut u8, u64, usize) -> Scanned = Scanned { length: 0, status: STRING_FAULT };
        user_string_length(u64, usize) -> Scanned = Scanned { length: 0, status: STRING_FAULT };
    }

    pub unsafe fn user_copy(_: *mut u8, _: *const u8, count: usize) -> usize {
        count
    }

    pub unsafe fn user_copy_words(_: *mut u64, _: *const u64, count: usize) -> usize {
        count
    }
}

fn pointer(address: UserAddress) -> *mut u8 {
    core::ptr::without_provenance_mut(address.0 as usize)
}

/// Each access begins here. A fault takes the address space's lock, so no lock of a higher rank may be held.
#[inline(always)]
fn begin() -> Result<(), Errno> {
    lock::assert_held_only_up_to(lock::Rank::Pipe);
    if should_fail(Point::UserAccess) { Err(Errno::EFAULT) } else { Ok(()) }
}

/// Copies from a program; how many bytes were read before the first bad one. EFAULT if not even the first was.
#[inline]
pub fn copy_in_partial(to: &mut [u8], from: UserAddress) -> Result<usize, Errno> {
    UserRange::new(from, to.len())?.take(to)
}

/// Copies to a program; how many bytes were written before the first bad one. EFAULT if not even the first was.
#[inline]
pub fn copy_out_partial(to: UserAddress, from: &[u8]) -> Result<usize, Errno> {
    UserRange::new(to, from.len())?.put(from)
}

#[cold]
fn cut_short(count: usize, left: usize) -> Result<usize, Errno> {
    if left == count { Err(Errno::EFAULT) } else { Ok(count - left) }
}

#[inline(always)]
fn whole(count: usize, done: usize) -> Result<(), Errno> {
    if done == count { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Fills a buffer from a program, or fails.
#[inline]
pub fn copy_in(to: &mut [u8], from: UserAddress) -> Result<(), Errno> {
    let count = to.len();
    copy_in_partial(to, from).and_then(|done| whole(count, done))
}

/// Writes a buffer to a program, or fails (what lies before the first bad byte is written then).
#[inline]
pub fn copy_out(to: UserAddress, from: &[u8]) -> Result<(), Errno> {
    copy_out_partial(to, from).and_then(|done| whole(from.len(), done))
}

/// Reads a value. Sizes up to 8 bytes take one load.
#[inline]
pub fn read_value<T: FromBytes>(from: UserAddress) -> Result<T, Errno> {
    from.check(size_of::<T>())?;
    begin()?;
    // SAFETY: the address was checked to be the user's, and faults are recovered.
    let loaded = unsafe {
        match size_of::<T>() {
            1 => user_get_8(from.0),
            2 => user_get_16(from.0),
            4 => user_get_32(from.0),
            8 => user_get_64(from.0),
            _ => return read_large(from),
        }
    };
    if loaded.failed != 0 {
        return Err(Errno::EFAULT);
    }
    // SAFETY: T has this size, and any bytes are a T. Little-endian: the low bytes are the ones that were loaded.
    Ok(unsafe { core::mem::transmute_copy::<u64, T>(&loaded.value) })
}

fn read_large<T: FromBytes>(from: UserAddress) -> Result<T, Errno> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: `value` has room for its bytes; the source was checked by the caller, and faults are recovered.
    let failed = unsafe { copy_large(value.as_mut_ptr().cast(), pointer(from), size_of::<T>()) };
    if failed {
        return Err(Errno::EFAULT);
    }
    // SAFETY: all bytes were written, and any bytes are a T.
    Ok(unsafe { value.assume_init() })
}

/// Copies a value's bytes, all of them or it fails: by words if it consists of words.
///
/// # Safety
///
/// As for [`user_copy`]: one side was checked to be the user's, the other is the kernel's and as long.
#[inline(always)]
unsafe fn copy_large(to: *mut u8, from: *const u8, bytes: usize) -> bool {
    // SAFETY: the caller's.
    let left = unsafe {
        match bytes.is_multiple_of(size_of::<u64>()) {
            true => user_copy_words(to.cast(), from.cast(), bytes / size_of::<u64>()),
            false => user_copy(to, from, bytes),
        }
    };
    left != 0
}

/// Writes a value. Sizes up to 8 bytes take one store.
#[inline]
pub fn write_value<T: IntoBytes + Immutable>(to: UserAddress, value: &T) -> Result<(), Errno> {
    to.check(size_of::<T>())?;
    begin()?;
    let bytes = value.as_bytes();
    let small = || bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
    // SAFETY: the address was checked to be the user's, and faults are recovered.
    let failed = unsafe {
        match bytes.len() {
            1 => user_put_8(to.0, small()),
            2 => user_put_16(to.0, small()),
            4 => user_put_32(to.0, small()),
            8 => user_put_64(to.0, small()),
            count => u64::from(copy_large(pointer(to), bytes.as_ptr(), count)),
        }
    };
    if failed == 0 { Ok(()) } else { Err(Errno::EFAULT) }
}

/// Reads an array of `count` values. Its size is the program's choice, so memory for it is asked for, and may be refused.
pub fn read_slice<T: FromBytes>(from: UserAddress, count: usize) -> Result<Vec<T>, Errno> {
    let bytes = count.checked_mul(size_of::<T>()).ok_or(Errno::EFAULT)?;
    from.check(bytes)?;
    begin()?;
    let mut values: Vec<T> = Vec::new();
    values.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    // SAFETY: the vector has room for `bytes`; the source was checked, and faults are recovered.
    let left = unsafe { user_copy(values.as_mut_ptr().cast(), pointer(from), bytes) };
    if left != 0 {
        return Err(Errno::EFAULT);
    }
    // SAFETY: `count` values' bytes were written, and any bytes are a T.
    unsafe { values.set_len(count) };
    Ok(values)
}

pub fn write_slice<T: IntoBytes + Immutable>(to: UserAddress, values: &[T]) -> Result<(), Errno> {
    copy_out(to, values.as_bytes())
}

/// How a string copy ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringEnd {
    /// The string's length; its NUL was copied too.
    Whole(usize),
    /// The buffer is full and there was no NUL.
    TooLong,
}

/// Copies a string with its NUL into a buffer.
pub fn read_string_into(to: &mut [u8], from: UserAddress) -> Result<StringEnd, Errno> {
    begin()?;
    let limit = string_limit(from, to.len())?;
    // SAFETY: `to` has room for `limit` bytes; those from `from` on were checked to be the user's, and faults are recovered.
    let scanned = unsafe { user_copy_string(to.as_mut_ptr(), from.0, limit) };
    string_end(scanned, limit, to.len())
}

/// As [`read_string_into`], into memory that needn't be initialised: the string, without its NUL, or None if it is too long.
pub fn read_string_uninit(to: &mut [MaybeUninit<u8>], from: UserAddress) -> Result<Option<&[u8]>, Errno> {
    begin()?;
    let limit = string_limit(from, to.len())?;
    // SAFETY: as in `read_string_into`; the copy only writes to the buffer.
    let scanned = unsafe { user_copy_string(to.as_mut_ptr().cast(), from.0, limit) };
    let StringEnd::Whole(length) = string_end(scanned, limit, to.len())? else { return Ok(None) };
    // SAFETY: the copy filled the first `length` bytes.
    Ok(to.get(..length).map(|bytes| unsafe { bytes.assume_init_ref() }))
}

/// The length of a string, if its NUL is among the first `limit` bytes.
pub fn string_length(from: UserAddress, limit: usize) -> Result<StringEnd, Errno> {
    begin()?;
    let reachable = string_limit(from, limit)?;
    // SAFETY: `reachable` bytes from `from` on were checked to be the user's, and faults are recovered.
    let scanned = unsafe { user_string_length(from.0, reachable) };
    string_end(scanned, reachable, limit)
}

/// A string of at most `limit` bytes with its NUL, without it; `too_long` where it is longer (ENAMETOOLONG for paths).
pub fn read_string(from: UserAddress, limit: usize, too_long: Errno) -> Result<Vec<u8>, Errno> {
    let StringEnd::Whole(length) = string_length(from, limit)? else { return Err(too_long) };
    let mut string = Vec::new();
    string.try_reserve_exact(length).map_err(|_| Errno::ENOMEM)?;
    string.resize(length, 0);
    copy_in(&mut string, from)?;
    // The program may have shortened it since it was measured.
    if let Some(end) = string.iter().position(|&byte| byte == 0) {
        string.truncate(end);
    }
    Ok(string)
}

/// How many bytes from an address on may be looked at.
fn string_limit(from: UserAddress, limit: usize) -> Result<usize, Errno> {
    let reachable = USER_END.checked_sub(from.0).ok_or(Errno::EFAULT)?;
    Ok(limit.min(reachable as usize))
}

fn string_end(scanned: Scanned, reachable: usize, limit: usize) -> Result<StringEnd, Errno> {
    match scanned.status {
        STRING_ENDED => Ok(StringEnd::Whole(scanned.length as usize)),
        STRING_FAULT => Err(Errno::EFAULT),
        // It reaches the end of user space.
        _ if reachable < limit => Err(Errno::EFAULT),
        _ => Ok(StringEnd::TooLong),
    }
}

/// Atomically puts `new` in the place of `expected`; returns what was there. For futexes, so aligned.
pub fn compare_exchange(at: UserAddress, expected: u32, new: u32) -> Result<u32, Errno> {
    at.check(size_of::<u32>())?;
    begin()?;
    // SAFETY: the address was checked to be the user's, and faults are recovered.
    let result = unsafe { user_compare_exchange_32(at.0, expected, new) };
    if result.failed == 0 { Ok(result.value as u32) } else { Err(Errno::EFAULT) }
}

#[cfg(target_os = "none")]
pub(super) use sites::allow_access_where_smap_forbids;
#[cfg(target_os = "none")]
pub use sites::recovery_for;

/// The lists that asm/user_copy.asm keeps of its own instructions.
#[cfg(target_os = "none")]
mod sites {
    unsafe extern "C" {
        static user_access_table_start: [u64; 2];
        static user_access_table_end: [u64; 2];
        static user_access_allow_start: u64;
        static user_access_allow_end: u64;
        static user_access_forbid_start: u64;
        static user_access_forbid_end: u64;
    }

    /// Where the kernel goes on if the instruction at `rip` touched user memory that isn't there.
    pub fn recovery_for(rip: u64) -> Option<u64> {
        let start = &raw const user_access_table_start;
        let bytes = (&raw const user_access_table_end).addr() - start.addr();
        // SAFETY: asm/user_copy.asm fills the table between the two symbols with pairs of addresses.
        let table = unsafe { core::slice::from_raw_parts(start, bytes / size_of::<[u64; 2]>()) };
        table.iter().find(|[instruction, _]| *instruction == rip).map(|[_, recovery]| *recovery)
    }

    /// On processors with SMAP, makes the marked places in asm/user_copy.asm STAC and CLAC. Called while the kernel's text is still
    /// mapped writable, by the boot page tables; the load of CR3 that ends this serialises the processor.
    pub(in crate::memory) fn allow_access_where_smap_forbids() {
        const STAC: [u8; 3] = [0x0f, 0x01, 0xcb];
        const CLAC: [u8; 3] = [0x0f, 0x01, 0xca];
        if !crate::cpu::features::features().smap {
            return;
        }
        let sites = [
            (&raw const user_access_allow_start, &raw const user_access_allow_end, STAC),
            (&raw const user_access_forbid_start, &raw const user_access_forbid_end, CLAC),
        ];
        for (start, end, instruction) in sites {
            let count = (end.addr() - start.addr()) / size_of::<u64>();
            // SAFETY: asm/user_copy.asm fills the list between the two symbols with addresses.
            for &site in unsafe { core::slice::from_raw_parts(start, count) } {
                let site: *mut [u8; 3] = core::ptr::with_exposed_provenance_mut(site as usize);
                // SAFETY: a three-byte no-operation that nobody executes now, made another instruction of three bytes.
                unsafe { site.write_volatile(instruction) };
            }
        }
    }
}
