//! Kernel stacks: each thread's, with an unmapped guard below it, so that an overflow faults and can be told by name.
//!
//! A stack has a place of 32 KiB in a window of kernel space, found by its number: 8 KiB of guard, then 24 KiB of stack. Freed
//! stacks stay mapped while fewer than [`CACHED`] are free, so that making a thread after one has ended maps nothing.

use super::kernel_map::{self, Caching, STACKS};
use super::{direct_map, frames, image};
use crate::PAGE_SIZE;
use crate::cpu::gdt;
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use alloc::vec::Vec;

pub const STACK_BYTES: u64 = 24 * 1024;
const GUARD_BYTES: u64 = 8 * 1024;
pub const PLACE_BYTES: u64 = GUARD_BYTES + STACK_BYTES;
/// The topmost bytes hold the owner's id; what remains stays 16-byte aligned.
const OWNER_BYTES: u64 = 16;

const CACHED: usize = 16;

struct Stacks {
    /// Numbers from here on have never been used.
    next: u32,
    /// Free and mapped.
    mapped: [u32; CACHED],
    mapped_count: usize,
    /// Free and not mapped; its capacity is always enough for all numbers, so that freeing can't fail.
    unmapped: Vec<u32>,
}

static ALL: Lock<Stacks> =
    Lock::new(Rank::KernelMap, Stacks { next: 0, mapped: [0; CACHED], mapped_count: 0, unmapped: Vec::new() });

/// A mapped stack; freed when dropped, which must not happen on the stack itself.
#[derive(Debug)]
pub struct KernelStack {
    number: u32,
}

impl KernelStack {
    pub fn new() -> Result<Self, Errno> {
        let mut all = ALL.lock();
        if let Some(last) = all.mapped_count.checked_sub(1) {
            all.mapped_count = last;
            let number = all.mapped.get(last).copied().ok_or(Errno::ENOMEM)?;
            return Ok(Self { number });
        }
        let number = all.unused_number()?;
        if let Err(error) = map(number) {
            all.unmapped.push(number);
            return Err(error);
        }
        Ok(Self { number })
    }

    /// What RSP starts with: 16-byte aligned; the stack grows down from here.
    pub fn top(&self) -> u64 {
        top_of(self.number)
    }

    /// The lowest address that is mapped.
    pub fn bottom(&self) -> u64 {
        bottom_of(self.number)
    }

    /// Writes down whose stack this is, for the report of an overflow.
    pub fn set_owner(&self, id: u64) {
        let place: *mut u64 = core::ptr::with_exposed_provenance_mut(self.top() as usize);
        // SAFETY: the bytes above `top` are mapped and belong to this module.
        unsafe { place.write(id) };
    }
}

impl Drop for KernelStack {
    fn drop(&mut self) {
        let mut all = ALL.lock();
        let count = all.mapped_count;
        if let Some(place) = all.mapped.get_mut(count) {
            *place = self.number;
            all.mapped_count += 1;
        } else {
            unmap(self.number);
            all.unmapped.push(self.number);
        }
    }
}

/// Whose stack ran over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuardOwner {
    /// A thread's, by the id that it set; 0 where there is none any more.
    Thread(u64),
    /// The boot code's, which is the idle thread's later.
    Boot,
    /// One of those that the CPU switches to by itself.
    Interrupt,
}

/// Whose stack's guard an address lies in.
pub fn owner_of_guard(address: u64) -> Option<GuardOwner> {
    let page = address & !(PAGE_SIZE as u64 - 1);
    if page == image::guard_below_boot_stack() {
        return Some(GuardOwner::Boot);
    }
    if gdt::guard_pages().any(|guard| guard.as_u64() == page) {
        return Some(GuardOwner::Interrupt);
    }
    if !STACKS.contains(&address) || (address - STACKS.start) % PLACE_BYTES >= GUARD_BYTES {
        return None;
    }
    let number = ((address - STACKS.start) / PLACE_BYTES) as u32;
    // Asked of the page table and not of `ALL`, whose lock may be held where the overflow happened.
    let Some((_, physical)) = kernel_map::translate(top_of(number)) else { return Some(GuardOwner::Thread(0)) };
    // SAFETY: a mapped stack's owner word, through the direct map.
    Some(GuardOwner::Thread(unsafe { direct_map::pointer(physical).cast::<u64>().read() }))
}

/// Unmaps the free stacks that are kept, so that leak tests count what is in use.
pub fn trim() {
    let mut all = ALL.lock();
    while let Some(last) = all.mapped_count.checked_sub(1) {
        all.mapped_count = last;
        let Some(&number) = all.mapped.get(last) else { return };
        unmap(number);
        all.unmapped.push(number);
    }
}

impl Stacks {
    fn unused_number(&mut self) -> Result<u32, Errno> {
        if let Some(number) = self.unmapped.pop() {
            return Ok(number);
        }
        let number = self.next;
        let past = STACKS.start + (u64::from(number) + 1) * PLACE_BYTES;
        let room_for_all = number as usize + 1;
        let missing = room_for_all.saturating_sub(self.unmapped.len());
        if past > STACKS.end || self.unmapped.try_reserve(missing).is_err() {
            return Err(Errno::ENOMEM);
        }
        self.next += 1;
        Ok(number)
    }
}

fn bottom_of(number: u32) -> u64 {
    STACKS.start + u64::from(number) * PLACE_BYTES + GUARD_BYTES
}

fn top_of(number: u32) -> u64 {
    bottom_of(number) + STACK_BYTES - OWNER_BYTES
}

fn map(number: u32) -> Result<(), Errno> {
    for page in (bottom_of(number)..bottom_of(number) + STACK_BYTES).step_by(PAGE_SIZE) {
        let mapped = frames::allocate_for_user().and_then(|frame| {
            kernel_map::map_page(page, frame, Caching::WriteBack).inspect_err(|_| frames::release(frame))
        });
        if let Err(error) = mapped {
            unmap(number);
            return Err(error);
        }
    }
    Ok(())
}

fn unmap(number: u32) {
    for page in (bottom_of(number)..bottom_of(number) + STACK_BYTES).step_by(PAGE_SIZE) {
        if let Some(frame) = kernel_map::unmap_page(page) {
            frames::release(frame);
        }
    }
}
