//! Memory: mappings, protection, the heap's end, and what a page costs when it is first touched.

use crate::calls::{expect, good};
use crate::meter::{Meter, Outcome, now};
use crate::{Operation, call};
use std::ffi::CStr;

pub const OPERATIONS: &[Operation] = &[
    ("mmap and munmap 4 KiB", |meter| map_and_unmap(meter, PAGE)),
    ("mmap and munmap 4 MiB", |meter| map_and_unmap(meter, 4 << 20)),
    ("mprotect", mprotect),
    ("brk", brk),
    ("brk and touch", brk_and_touch),
    ("anonymous read fault", |meter| anonymous_fault(meter, false)),
    ("anonymous write fault", |meter| anonymous_fault(meter, true)),
    ("file fault", file_fault),
    ("copy-on-write fault", copy_on_write_fault),
];

pub const PAGE: usize = 4096;
/// Pages in a batch of faults.
const PAGES: usize = 64;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const BAD_ADDRESS: isize = -(libc::EFAULT as isize);
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

fn map(size: usize) -> Result<*mut u8, String> {
    good(call!(SYS_mmap, 0, size, READ_WRITE, PRIVATE, -1_isize, 0), "mmap").map(|address| address as *mut u8)
}

fn unmap(address: *mut u8, size: usize) -> Outcome {
    expect(call!(SYS_munmap, address, size), 0, "munmap")
}

/// True when the kernel can write to this address: it is asked to put a time there.
fn is_writable(address: usize) -> Result<bool, String> {
    match call!(SYS_clock_gettime, libc::CLOCK_MONOTONIC, address) {
        0 => Ok(true),
        BAD_ADDRESS => Ok(false),
        result => Err(format!("clock_gettime gave {result}")),
    }
}

fn must_be(writable: bool, address: usize, when: &str) -> Outcome {
    let is = is_writable(address)?;
    if is == writable {
        Ok(())
    } else {
        Err(format!("{when} the memory can{} be written", if is { "" } else { "not" }))
    }
}

/// Reads or writes a page's first byte.
fn touch(address: *mut u8, index: usize, write: bool) {
    let byte = address.wrapping_add(index * PAGE);
    // SAFETY: the page belongs to a mapping of ours that is readable, and writable if it is to be written.
    unsafe {
        if write {
            byte.write_volatile(1);
        } else {
            byte.read_volatile();
        }
    }
}

/// A byte in a page's middle, which `touch` doesn't change: what the page was filled with.
fn witness(address: *mut u8, index: usize) -> *mut u8 {
    address.wrapping_add(index * PAGE + PAGE / 2)
}

/// Touches each page for the first time and returns the ticks that it took. Pages that were there already cost no more than
/// the next time, and that is an error, as it is if they then don't hold what they must.
fn touch_first(address: *mut u8, write: bool, content: u8) -> Result<u64, String> {
    let touch_all = || {
        let start = now();
        for index in 0..PAGES {
            touch(address, index, write);
        }
        now().wrapping_sub(start)
    };
    let (ticks, again) = (touch_all(), touch_all());
    if ticks < 4 * again {
        return Err(format!("no faults: {ticks} ticks for the first touch, {again} for the second"));
    }
    // SAFETY: the pages belong to a readable mapping of ours.
    let right = (0..PAGES).all(|index| unsafe { witness(address, index).read_volatile() } == content);
    if right { Ok(ticks) } else { Err("the pages hold something else".into()) }
}

fn map_and_unmap(meter: &mut Meter, size: usize) -> Outcome {
    meter.measure(30, 20, || unmap(map(size)?, size))?;
    let memory = map(size)?;
    let last = memory as usize + size - 16;
    must_be(true, last, "after mmap")?;
    unmap(memory, size)?;
    must_be(false, last, "after munmap")
}

fn mprotect(meter: &mut Meter) -> Outcome {
    let memory = map(PAGE)?;
    touch(memory, 0, true);
    let mut writable = true;
    let mut toggle = || {
        writable = !writable;
        let protection = if writable { READ_WRITE } else { libc::PROT_READ };
        expect(call!(SYS_mprotect, memory, PAGE, protection), 0, "mprotect")?;
        Ok(writable)
    };
    meter.measure(30, 50, || toggle().map(drop))?;
    for _ in 0..2 {
        must_be(toggle()?, memory as usize, "after mprotect")?;
    }
    Ok(())
}

fn brk(meter: &mut Meter) -> Outcome {
    let end = good(call!(SYS_brk, 0), "brk")?;
    let mut grown = false;
    let mut toggle = || {
        grown = !grown;
        let wanted = if grown { end + PAGE } else { end } as isize;
        expect(call!(SYS_brk, wanted), wanted, "brk")?;
        Ok(grown)
    };
    meter.measure(30, 50, || toggle().map(drop))?;
    for _ in 0..2 {
        must_be(toggle()?, end.next_multiple_of(PAGE), "after brk")?;
    }
    Ok(())
}

fn brk_and_touch(meter: &mut Meter) -> Outcome {
    let end = good(call!(SYS_brk, 0), "brk")?.next_multiple_of(PAGE) as isize;
    meter.measure(30, 20, || {
        let grown = end + PAGE as isize;
        expect(call!(SYS_brk, grown), grown, "brk")?;
        touch(end as *mut u8, 0, true);
        // SAFETY: as for `touch`.
        let byte = unsafe { witness(end as *mut u8, 0).replace(1) };
        expect(byte.into(), 0, "a byte of the new page")?;
        expect(call!(SYS_brk, end), end, "brk")
    })
}

pub fn anonymous_fault(meter: &mut Meter, write: bool) -> Outcome {
    for batch in 0..30 {
        let memory = map(PAGES * PAGE)?;
        // Linux would give a large page to a large mapping.
        call!(SYS_madvise, memory, PAGES * PAGE, libc::MADV_NOHUGEPAGE);
        let ticks = touch_first(memory, write, 0)?;
        unmap(memory, PAGES * PAGE)?;
        if batch > 0 {
            meter.add(PAGES as u64, ticks);
        }
    }
    Ok(())
}

/// Each page of a file that is in memory is touched once. A kernel may map its neighbours along with it, as Linux does.
fn file_fault(meter: &mut Meter) -> Outcome {
    const PATH: &CStr = c"/tmp/bench.pages";
    let path = PATH.to_str().map_err(|error| error.to_string())?;
    std::fs::write(path, vec![0x44; PAGES * PAGE]).map_err(|error| error.to_string())?;
    let file = good(call!(SYS_open, PATH.as_ptr(), libc::O_RDONLY), "open")?;
    for batch in 0..30 {
        let memory =
            good(call!(SYS_mmap, 0, PAGES * PAGE, libc::PROT_READ, libc::MAP_PRIVATE, file, 0), "mmap")? as *mut u8;
        let ticks = touch_first(memory, false, 0x44)?;
        unmap(memory, PAGES * PAGE)?;
        if batch > 0 {
            meter.add(PAGES as u64, ticks);
        }
    }
    Ok(())
}

/// Writes to pages that a child shares, so that each is copied. The child looks afterwards whether its own are still
/// as they were.
fn copy_on_write_fault(meter: &mut Meter) -> Outcome {
    let memory = map(PAGES * PAGE)?;
    call!(SYS_madvise, memory, PAGES * PAGE, libc::MADV_NOHUGEPAGE);
    for batch in 0..20 {
        fill(memory, 2);
        let mut ends = [0_i32; 2];
        good(call!(SYS_pipe, ends.as_mut_ptr()), "pipe")?;
        // SAFETY: this process has one thread; the child looks at its memory and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mut byte = 0_u8;
            call!(SYS_read, ends[0], &raw mut byte, 1);
            // SAFETY: the pages belong to a readable mapping of ours.
            let kept = (0..PAGES).all(|index| unsafe { memory.wrapping_add(index * PAGE).read_volatile() } == 2);
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!kept)) };
        }
        let ticks = touch_first(memory, true, 2)?;
        let byte = 0_u8;
        expect(call!(SYS_write, ends[1], &raw const byte, 1), 1, "write")?;
        crate::program::wait_for(child as isize).map_err(|error| format!("the child's pages changed: {error}"))?;
        call!(SYS_close, ends[0]);
        call!(SYS_close, ends[1]);
        if batch > 0 {
            meter.add(PAGES as u64, ticks);
        }
    }
    Ok(())
}

fn fill(memory: *mut u8, value: u8) {
    for index in 0..PAGES {
        // SAFETY: the pages belong to a writable mapping of ours.
        unsafe {
            memory.wrapping_add(index * PAGE).write_volatile(value);
            witness(memory, index).write_volatile(value);
        }
    }
}
