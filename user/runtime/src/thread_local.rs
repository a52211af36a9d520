//! Thread-local storage of the first thread.
//!
//! x86-64 uses variant II (U. Drepper, ELF Handling for Thread-Local Storage, §3): the block lies just below the thread
//! pointer, which FS holds, and the word at FS:0 is the thread pointer itself. Keel makes this block for a program that
//! has a PT_TLS header and no libc; Linux leaves it to the program. So: if FS is set already, nothing is to be done.

use crate::eprintln;
use crate::process::{Process, auxiliary};
use crate::syscall;
use core::sync::atomic::{AtomicBool, Ordering};

const PT_TLS: u32 = 7;
const PT_PHDR: u32 = 6;

/// An ELF64 program header (ELF-64 Object File Format, §6).
#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    virtual_address: u64,
    physical_address: u64,
    file_size: u64,
    memory_size: u64,
    alignment: u64,
}

static MADE_BY_RUNTIME: AtomicBool = AtomicBool::new(false);

/// Whether the block is the runtime's own work, as on Linux, and not the kernel's.
pub fn made_by_runtime() -> bool {
    MADE_BY_RUNTIME.load(Ordering::Relaxed)
}

/// Sets FS up, unless the kernel did. A program without thread-locals needs nothing.
pub(crate) fn set_up(process: &Process) {
    if syscall::fs_base() != Ok(0) {
        return;
    }
    let Some((initial, memory_size, alignment)) = template(process) else { return };
    // The block ends at the thread pointer, which is aligned as the block asks; its self pointer follows.
    let below = memory_size.next_multiple_of(alignment);
    let Ok(base) = syscall::map_anonymous(below + alignment + size_of::<usize>()) else {
        eprintln!("runtime: no memory for thread-local storage");
        return;
    };
    // SAFETY: the mapping is new, zeroed and large enough for the block, its alignment and the self pointer; the
    // initial part lies in the image, where PT_TLS says.
    unsafe {
        let pointer = (base as usize + below).next_multiple_of(alignment) as *mut u8;
        core::ptr::copy_nonoverlapping(initial.as_ptr(), pointer.sub(below), initial.len());
        pointer.cast::<usize>().write(pointer as usize);
        if syscall::set_fs_base(pointer as usize).is_err() {
            eprintln!("runtime: FS can't be set");
        }
    }
    MADE_BY_RUNTIME.store(true, Ordering::Relaxed);
}

/// The initial bytes of the image's thread-locals, the block's size and its alignment.
fn template(process: &Process) -> Option<(&'static [u8], usize, usize)> {
    let address = process.auxiliary(auxiliary::PHDR)?;
    let count = process.auxiliary(auxiliary::PHNUM)?;
    // SAFETY: AT_PHDR and AT_PHNUM describe the program headers in this image's memory.
    let headers = unsafe { core::slice::from_raw_parts(address as *const ProgramHeader, count) };
    // Where the image was put, less where it was linked: not zero for position-independent ones only.
    let displacement = headers
        .iter()
        .find(|header| header.kind == PT_PHDR)
        .map_or(0, |header| address.wrapping_sub(header.virtual_address as usize));
    let tls = headers.iter().find(|header| header.kind == PT_TLS)?;
    // SAFETY: the segment's initial part is in the loaded image.
    let initial = unsafe {
        let start = displacement.wrapping_add(tls.virtual_address as usize) as *const u8;
        core::slice::from_raw_parts(start, tls.file_size as usize)
    };
    Some((initial, tls.memory_size as usize, (tls.alignment as usize).max(1)))
}
