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

const PAGE: usize = 4096;
/// Pages in a batch of faults.
const PAGES: usize = 64;
const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
const PRIVATE: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;

fn map(size: usize) -> Result<*mut u8, String> {
    good(call!(SYS_mmap, 0, size, READ_WRITE, PRIVATE, -1_isize, 0), "mmap").map(|address| address as *mut u8)
}

fn unmap(address: *mut u8, size: usize) -> Outcome {
    expect(call!(SYS_munmap, address, size), 0, "munmap")
}

/// How many of the pages are in memory; None if the kernel doesn't say.
fn resident(address: *mut u8, pages: usize) -> Option<usize> {
    let mut present = vec![0_u8; pages];
    let result = call!(SYS_mincore, address, pages * PAGE, present.as_mut_ptr());
    (result == 0).then(|| present.iter().filter(|&&byte| byte & 1 != 0).count())
}

fn touch(address: *mut u8, index: usize, write: bool) -> u8 {
    let byte = address.wrapping_add(index * PAGE);
    // SAFETY: the page belongs to a mapping of ours that is readable, and writable if it is to be written.
    unsafe {
        if write {
            byte.write_volatile(1);
            1
        } else {
            byte.read_volatile()
        }
    }
}

fn map_and_unmap(meter: &mut Meter, size: usize) -> Outcome {
    meter.measure(30, 20, || unmap(map(size)?, size))
}

fn mprotect(meter: &mut Meter) -> Outcome {
    let memory = map(PAGE)?;
    touch(memory, 0, true);
    let mut writable = true;
    meter.measure(30, 50, || {
        writable = !writable;
        let protection = if writable { READ_WRITE } else { libc::PROT_READ };
        expect(call!(SYS_mprotect, memory, PAGE, protection), 0, "mprotect")
    })
}

fn brk(meter: &mut Meter) -> Outcome {
    let end = call!(SYS_brk, 0);
    let mut grown = false;
    meter.measure(30, 50, || {
        grown = !grown;
        let wanted = if grown { end + PAGE as isize } else { end };
        expect(call!(SYS_brk, wanted), wanted, "brk")
    })
}

fn brk_and_touch(meter: &mut Meter) -> Outcome {
    let end = good(call!(SYS_brk, 0), "brk")?.next_multiple_of(PAGE) as isize;
    meter.measure(30, 20, || {
        let grown = end + PAGE as isize;
        expect(call!(SYS_brk, grown), grown, "brk")?;
        touch(end as *mut u8, 0, true);
        expect(call!(SYS_brk, end), end, "brk")
    })
}

fn anonymous_fault(meter: &mut Meter, write: bool) -> Outcome {
    for batch in 0..30 {
        let memory = map(PAGES * PAGE)?;
        // Linux would give a large page to a large mapping.
        call!(SYS_madvise, memory, PAGES * PAGE, libc::MADV_NOHUGEPAGE);
        let before = resident(memory, PAGES);
        let start = now();
        let mut sum = 0;
        for index in 0..PAGES {
            sum += usize::from(touch(memory, index, write));
        }
        let ticks = now().wrapping_sub(start);
        if before.is_some_and(|count| count > 0) {
            return Err("the pages were there before they were touched".into());
        }
        expect(sum as isize, if write { PAGES as isize } else { 0 }, "the pages' first bytes")?;
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
        let start = now();
        let mut right = 0;
        for index in 0..PAGES {
            right += usize::from(touch(memory, index, false) == 0x44);
        }
        let ticks = now().wrapping_sub(start);
        expect(right as isize, PAGES as isize, "the number of right pages")?;
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
            let kept = (0..PAGES).all(|index| touch(memory, index, false) == 2);
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!kept)) };
        }
        let start = now();
        for index in 0..PAGES {
            touch(memory, index, true);
        }
        let ticks = now().wrapping_sub(start);
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
        // SAFETY: the page belongs to a writable mapping of ours.
        unsafe { memory.wrapping_add(index * PAGE).write_volatile(value) };
    }
}
