//! A program's segment registers. In 64-bit mode they do nothing but hold a selector and, for FS and GS, a base (SDM 3A §3.4.4);
//! but a program can load and read them, so they are its own like all its registers.

use core::arch::asm;
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{FsBase, KernelGsBase};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserSegments {
    /// DS, ES, FS and GS.
    selectors: [u16; 4],
    pub fs_base: u64,
    pub gs_base: u64,
}

/// A null selector may have a privilege level in its low bits.
const LAST_NULL_SELECTOR: u16 = 3;

impl UserSegments {
    /// Null selectors and these bases: what a program starts with.
    pub const fn with_bases(fs_base: u64, gs_base: u64) -> Self {
        Self { selectors: [0; 4], fs_base, gs_base }
    }

    /// FS's base as arch_prctl sets it: the selector becomes null.
    pub fn set_fs_base(&mut self, base: u64) {
        self.selectors[2] = 0;
        self.fs_base = base;
    }

    pub fn set_gs_base(&mut self, base: u64) {
        self.selectors[3] = 0;
        self.gs_base = base;
    }

    /// Takes over what the running program has loaded since [`Self::load`]. With a selector that isn't null comes the base of its
    /// descriptor, and all of those that a program may load begin at 0.
    #[inline]
    pub fn note_selectors(&mut self) {
        self.selectors = read_selectors();
        let [.., fs, gs] = self.selectors;
        if fs > LAST_NULL_SELECTOR {
            self.fs_base = 0;
        }
        if gs > LAST_NULL_SELECTOR {
            self.gs_base = 0;
        }
    }

    /// Gives the CPU what a program has when it gets to user mode. The bases are written each time, though writing them takes
    /// long: what the CPU holds isn't what was last written, if a program has loaded a selector.
    ///
    /// # Safety
    /// Interrupts are off, the bases are user addresses, and the selectors are null or were a program's own.
    #[inline]
    pub unsafe fn load(&self) {
        if self.selectors != read_selectors() {
            // SAFETY: the caller's promise.
            unsafe { load_selectors(self.selectors) };
        }
        FsBase::write(VirtAddr::new_truncate(self.fs_base));
        KernelGsBase::write(VirtAddr::new_truncate(self.gs_base));
    }
}

#[inline]
fn read_selectors() -> [u16; 4] {
    let (ds, es, fs, gs): (u16, u16, u16, u16);
    // SAFETY: reads four registers.
    unsafe {
        asm!(
            "mov {0:x}, ds", "mov {1:x}, es", "mov {2:x}, fs", "mov {3:x}, gs",
            out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs, options(nomem, nostack, preserves_flags)
        )
    }
    [ds, es, fs, gs]
}

/// Loading GS's selector changes its base, which is the kernel's here: so it is loaded with the program's base in its place.
///
/// # Safety
/// As for [`UserSegments::load`]; the bases of FS and of the program's GS are written afterwards.
#[cold]
unsafe fn load_selectors([ds, es, fs, gs]: [u16; 4]) {
    // SAFETY: the caller's promise: what a program could load the kernel can, and nobody needs GS between the exchanges.
    unsafe {
        asm!(
            "mov ds, {0:x}", "mov es, {1:x}", "mov fs, {2:x}", "swapgs", "mov gs, {3:x}", "swapgs",
            in(reg) ds, in(reg) es, in(reg) fs, in(reg) gs, options(nostack, preserves_flags)
        )
    }
}
