//! Keeping the processor's translation cache true: no TLB entry outlives its mapping.
//!
//! What is in the TLB of this CPU belongs to the address space that CR3 names, or is global (the kernel's). So:
//! - A changed address space that isn't loaded needs nothing: loading CR3 drops what isn't global. (Without PCID; a kernel that
//!   used it would have to drop the other's entries too.)
//! - One page of the loaded one: INVLPG. It also drops what is remembered of page tables above (SDM 3A §4.10.4.1).
//! - Many pages: CR3 is loaded again, which costs less than many INVLPGs.
//! - An entry that wasn't present before, or that only allows more, needs nothing: absent entries are never cached, and a
//!   stale lack of permission ends in a fault that finds nothing to do.
//!
//! One CPU runs programs. With several, the CPUs that have the address space loaded would have to be told before the frames
//! are freed.

use x86_64::structures::paging::PhysFrame;

/// Which cached translations a change has made false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stale {
    #[default]
    Nothing,
    Page(u64),
    Many,
}

impl Stale {
    #[inline(always)]
    pub fn add(&mut self, address: u64) {
        *self = match self {
            Self::Nothing => Self::Page(address),
            _ => Self::Many,
        };
    }

    /// From a count of changed entries, and the address of one of them.
    #[inline(always)]
    pub fn pages(count: usize, address: u64) -> Self {
        match count {
            0 => Self::Nothing,
            1 => Self::Page(address),
            _ => Self::Many,
        }
    }
}

/// Drops what is stale, if the page table of that root is the loaded one.
#[cfg(target_os = "none")]
#[inline]
pub fn flush(root: PhysFrame, stale: Stale) {
    use x86_64::registers::control::Cr3;
    if stale == Stale::Nothing {
        return;
    }
    let (loaded, flags) = Cr3::read();
    if loaded != root {
        return;
    }
    match stale {
        Stale::Nothing => {}
        Stale::Page(address) => x86_64::instructions::tlb::flush(x86_64::VirtAddr::new_truncate(address)),
        // SAFETY: the same page table as before.
        Stale::Many => unsafe { Cr3::write(loaded, flags) },
    }
}

/// Before a page table goes away: should it be the loaded one, the kernel's own takes its place.
#[cfg(target_os = "none")]
#[inline]
pub fn leave(root: PhysFrame) {
    use x86_64::registers::control::Cr3;
    let (loaded, flags) = Cr3::read();
    if loaded == root {
        // SAFETY: the kernel's table maps all of kernel space, and nothing needs user space now.
        unsafe { Cr3::write(super::kernel_map::root(), flags) };
    }
}

#[cfg(not(target_os = "none"))]
pub fn leave(_: PhysFrame) {}

/// On the host, flushes are written down for the test that simulates a TLB.
#[cfg(not(target_os = "none"))]
pub fn flush(root: PhysFrame, stale: Stale) {
    #[cfg(test)]
    tests::FLUSHES.with_borrow_mut(|flushes| flushes.push((root, stale)));
    #[cfg(not(test))]
    let _ = (root, stale);
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::cell::RefCell;

    std::thread_local!(pub static FLUSHES: RefCell<Vec<(PhysFrame, Stale)>> = const { RefCell::new(Vec::new()) });

    #[test]
    fn two_pages_are_many() {
        let mut stale = Stale::default();
        stale.add(0x1000);
        assert_eq!(stale, Stale::Page(0x1000));
        stale.add(0x2000);
        assert_eq!(stale, Stale::Many);
        assert_eq!(Stale::pages(2, 0), Stale::Many);
    }
}
