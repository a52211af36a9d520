//! The functions that the compiler calls by name: it turns copies and fills into memcpy and memset, and expects a libc
//! to have them. They are written with string instructions, so that the compiler can't turn their loops into calls to
//! themselves.

use core::arch::asm;

/// # Safety
/// As C's memcpy.
// SAFETY: the name and signature are C's; no libc is linked.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(destination: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the caller promises both ranges; the ABI promises a clear direction flag.
    unsafe {
        asm!("rep movsb", inout("rcx") count => _, inout("rdi") destination => _, inout("rsi") source => _,
             options(nostack, preserves_flags));
    }
    destination
}

/// # Safety
/// As C's memmove.
// SAFETY: the name and signature are C's; no libc is linked.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(destination: *mut u8, source: *const u8, count: usize) -> *mut u8 {
    if (destination as usize).wrapping_sub(source as usize) >= count {
        // SAFETY: copying upwards never overwrites what is still to be read.
        return unsafe { memcpy(destination, source, count) };
    }
    // SAFETY: the destination starts inside the source: the last byte goes first, and the flag is cleared again.
    unsafe {
        asm!("std", "rep movsb", "cld", inout("rcx") count => _,
             inout("rdi") destination.wrapping_add(count).wrapping_sub(1) => _,
             inout("rsi") source.wrapping_add(count).wrapping_sub(1) => _, options(nostack));
    }
    destination
}

/// # Safety
/// As C's memset.
// SAFETY: the name and signature are C's; no libc is linked.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(destination: *mut u8, value: i32, count: usize) -> *mut u8 {
    // SAFETY: the caller promises the range; the ABI promises a clear direction flag.
    unsafe {
        asm!("rep stosb", inout("rcx") count => _, inout("rdi") destination => _, in("al") value as u8,
             options(nostack, preserves_flags));
    }
    destination
}

/// # Safety
/// As C's memcmp.
// SAFETY: the name and signature are C's; no libc is linked.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    for index in 0..count {
        // SAFETY: the caller promises both ranges.
        let (a, b) = unsafe { (left.add(index).read_volatile(), right.add(index).read_volatile()) };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// # Safety
/// As BSD's bcmp: memcmp without an order.
// SAFETY: the name and signature are C's; no libc is linked.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise is the same.
    unsafe { memcmp(left, right, count) }
}

/// # Safety
/// As C's strlen.
// SAFETY: the name and signature are C's; no libc is linked.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(string: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller promises a closing zero, and nothing behind it is read.
    while unsafe { string.add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}
