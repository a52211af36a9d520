//! Devices' registers and memory in kernel space. Mapped when a driver asks, for good.

use super::kernel_map::{Caching, DEVICES, map_page};
use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use x86_64::PhysAddr;
use x86_64::structures::paging::PhysFrame;

const PAGE: u64 = PAGE_SIZE as u64;

/// Where the next one is mapped.
static NEXT: Lock<u64> = Lock::new(Rank::KernelMap, DEVICES.start);

/// Maps a device's registers or memory, for good. The pointer has the physical address's offset
/// within its page.
pub fn map_device(physical: PhysAddr, bytes: usize, caching: Caching) -> Result<*mut u8, Errno> {
    let first = physical.as_u64() & !(PAGE - 1);
    let end = physical.as_u64().checked_add(bytes as u64).and_then(|end| end.checked_next_multiple_of(PAGE));
    let length = end.and_then(|end| end.checked_sub(first)).ok_or(Errno::EINVAL)?;
    let mut next = NEXT.lock();
    let place = *next;
    // An unmapped page between devices catches overruns.
    let after = place.checked_add(length).and_then(|end| end.checked_add(PAGE)).ok_or(Errno::ENOMEM)?;
    if after > DEVICES.end {
        return Err(Errno::ENOMEM);
    }
    for offset in (0..length).step_by(PAGE_SIZE) {
        let frame = PhysFrame::containing_address(PhysAddr::new_truncate(first + offset));
        map_page(place + offset, frame, caching)?;
    }
    *next = after;
    Ok(core::ptr::with_exposed_provenance_mut((place + physical.as_u64() % PAGE) as usize))
}
