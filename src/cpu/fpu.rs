//! The user's floating-point and vector registers. The kernel uses none of them (it is compiled for soft float), so they
//! stay in the CPU through every entry and are exchanged only by the switch, whole: by XSAVE where the CPU has it, else by
//! FXSAVE. SDM 1 §10.5 (FXSAVE), §13 (XSAVE).
//!
//! [`Format`] is pure: how large an image is, what a fresh one holds, and what of a program's own image may be believed.

use crate::errno::Errno;

/// Offsets in the FXSAVE image, which an XSAVE image begins with.
const CONTROL_WORD: usize = 0;
pub const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
/// The FXSAVE image; then the XSAVE header; then the components that CPUID places.
pub const LEGACY_BYTES: usize = 512;
const HEADER_BYTES: usize = 64;
/// Where in the FXSAVE image software may keep something of its own: FXSAVE and XSAVE don't write there.
pub const SOFTWARE_BYTES: usize = 464;
/// In the header: which components the image holds (XSTATE_BV).
const COMPONENTS_PRESENT: usize = LEGACY_BYTES;

/// Round to nearest, all exceptions masked: what FNINIT and a reset leave (System V ABI §3.4.1).
const INITIAL_CONTROL_WORD: u16 = 0x037f;
const INITIAL_MXCSR: u32 = 0x1f80;
/// The bits of MXCSR that a CPU has which doesn't say (SDM 1 §11.6.6).
const DEFAULT_MXCSR_MASK: u32 = 0xffbf;

/// The components of XSAVE that programs get, by their bits in XCR0: x87, SSE, AVX, and AVX-512's three.
const X87_AND_SSE: u64 = 0b11;
const WANTED_COMPONENTS: u64 = X87_AND_SSE | 1 << 2 | 0b111 << 5;

/// How this CPU's images look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Components in the image; 0 for a plain FXSAVE image.
    pub components: u64,
    /// The size of an image.
    pub bytes: usize,
    /// The bits of MXCSR that may be set: loading another faults.
    pub mxcsr_mask: u32,
}

impl Format {
    pub const fn uses_xsave(&self) -> bool {
        self.components != 0
    }

    /// Fills `image` with the state that a new program starts in. In an XSAVE image a component that isn't marked present
    /// is loaded as initial, so zeroes say all but MXCSR.
    pub fn write_initial(&self, image: &mut [u8]) {
        image.fill(0);
        put(image, CONTROL_WORD, &INITIAL_CONTROL_WORD.to_le_bytes());
        put(image, MXCSR, &INITIAL_MXCSR.to_le_bytes());
    }

    /// Makes an image that a program wrote (a signal frame) safe to load: no reserved bit of MXCSR, no component that isn't
    /// ours, a header as the standard form has it. `has_header` says whether it is more than a legacy image.
    pub fn sanitise(&self, image: &mut [u8], has_header: bool) {
        let mxcsr = get_u32(image, MXCSR) & self.mxcsr_mask;
        put(image, MXCSR, &mxcsr.to_le_bytes());
        if !self.uses_xsave() {
            return;
        }
        let present = if has_header { get_u64(image, COMPONENTS_PRESENT) & self.components } else { X87_AND_SSE };
        if let Some(header) = image.get_mut(LEGACY_BYTES..LEGACY_BYTES + HEADER_BYTES) {
            header.fill(0);
        }
        put(image, COMPONENTS_PRESENT, &present.to_le_bytes());
    }
}

fn put(image: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(place) = image.get_mut(offset..).and_then(|rest| rest.get_mut(..value.len())) {
        place.copy_from_slice(value);
    }
}

fn get_u32(image: &[u8], offset: usize) -> u32 {
    image.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn get_u64(image: &[u8], offset: usize) -> u64 {
    image.get(offset..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[cfg(target_os = "none")]
pub use hardware::{FpuState, format, init, simd_exceptions, x87_exceptions};

#[cfg(target_os = "none")]
mod hardware {
    use super::*;
    use crate::cpu::features::{cpuid, features};
    use alloc::alloc::{Layout, alloc, dealloc};
    use core::arch::asm;
    use core::ptr::NonNull;
    use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
    use spin::Once;
    use x86_64::registers::xcontrol::{XCr0, XCr0Flags};

    /// XSAVE wants 64, FXSAVE 16.
    const ALIGNMENT: usize = 64;

    static FORMAT: Once<Format> = Once::new();

    const BY_FXSAVE: u8 = 0;
    const BY_XSAVE: u8 = 1;
    const BY_XSAVEOPT: u8 = 2;
    /// Which instruction saves: looked at on every switch.
    static METHOD: AtomicU8 = AtomicU8::new(BY_FXSAVE);

    /// Chooses what is saved and how. `cpu::init` has turned the instructions on (CR4).
    pub fn init() {
        FORMAT.call_once(|| {
            let mxcsr_mask = read_mxcsr_mask();
            if !features().xsave {
                return Format { components: 0, bytes: LEGACY_BYTES, mxcsr_mask };
            }
            let supported = cpuid(0xd, 0);
            let components = (u64::from(supported.eax) | u64::from(supported.edx) << 32) & WANTED_COMPONENTS;
            // SAFETY: the components are ones that CPUID names, x87 always among them, and no kernel code depends on them.
            unsafe { XCr0::write(XCr0Flags::from_bits_truncate(components) | XCr0Flags::X87 | XCr0Flags::SSE) };
            METHOD.store(if features().xsaveopt { BY_XSAVEOPT } else { BY_XSAVE }, Relaxed);
            // Asked again: EBX is the size for what XCR0 enables now.
            let bytes = (cpuid(0xd, 0).ebx as usize).max(LEGACY_BYTES + HEADER_BYTES);
            Format { components: XCr0::read_raw(), bytes, mxcsr_mask }
        });
    }

    /// How this CPU's images look; valid after [`init`].
    pub fn format() -> Format {
        *FORMAT.get().unwrap_or(&Format { components: 0, bytes: LEGACY_BYTES, mxcsr_mask: DEFAULT_MXCSR_MASK })
    }

    #[repr(C, align(64))]
    struct LegacyImage([u8; LEGACY_BYTES]);

    fn read_mxcsr_mask() -> u32 {
        let mut image = LegacyImage([0; LEGACY_BYTES]);
        // SAFETY: the image has the size and alignment that FXSAVE writes to; CR4.OSFXSR is set.
        unsafe { asm!("fxsave64 [{}]", in(reg) &raw mut image, options(nostack, preserves_flags)) };
        match get_u32(&image.0, MXCSR_MASK) {
            0 => DEFAULT_MXCSR_MASK,
            mask => mask,
        }
    }

    /// The x87 exceptions that the running thread has unmasked and that are pending.
    pub fn x87_exceptions() -> u32 {
        let (mut status, mut control) = (0u16, 0u16);
        // SAFETY: both instructions store a word each, and wait for nothing.
        unsafe {
            asm!("fnstsw [{}]", in(reg) &raw mut status, options(nostack, preserves_flags));
            asm!("fnstcw [{}]", in(reg) &raw mut control, options(nostack, preserves_flags));
        }
        u32::from(status & !control)
    }

    /// The same of the SSE unit: MXCSR has the flags in bits 0 to 5, their masks in bits 7 to 12.
    pub fn simd_exceptions() -> u32 {
        let mut mxcsr = 0u32;
        // SAFETY: the instruction stores one double word.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags)) };
        mxcsr & !(mxcsr >> 7) & 0x3f
    }

    /// One thread's registers while it doesn't run.
    pub struct FpuState {
        image: NonNull<u8>,
    }

    // SAFETY: the image is this value's alone, plain bytes on the heap.
    unsafe impl Send for FpuState {}
    // SAFETY: as above; through a shared reference it is only read.
    unsafe impl Sync for FpuState {}

    impl FpuState {
        /// The state that a new program starts in.
        pub fn initial() -> Result<Self, Errno> {
            let mut state = Self::allocate()?;
            state.reset();
            Ok(state)
        }

        /// A copy of the running thread's registers: for fork.
        pub fn of_current() -> Result<Self, Errno> {
            // XSAVE leaves header bytes that it doesn't use as they were, and loading wants them zero.
            let mut state = Self::initial()?;
            state.save_whole();
            Ok(state)
        }

        fn allocate() -> Result<Self, Errno> {
            let layout = Self::layout()?;
            // SAFETY: the layout's size is at least LEGACY_BYTES.
            let image = unsafe { alloc(layout) };
            Ok(Self { image: NonNull::new(image).ok_or(Errno::ENOMEM)? })
        }

        fn layout() -> Result<Layout, Errno> {
            Layout::from_size_align(format().bytes, ALIGNMENT).map_err(|_| Errno::ENOMEM)
        }

        /// Back to the initial state; exec loads it with [`Self::restore`]. Cannot fail.
        pub fn reset(&mut self) {
            let format = format();
            // SAFETY: the allocation has `format.bytes` bytes, and is initialised by this write before anything reads it.
            unsafe { self.image.as_ptr().write_bytes(0, format.bytes) };
            format.write_initial(self.bytes_mut());
        }

        fn bytes(&self) -> &[u8] {
            // SAFETY: the allocation has that size, and every constructor initialises it.
            unsafe { core::slice::from_raw_parts(self.image.as_ptr(), format().bytes) }
        }

        fn bytes_mut(&mut self) -> &mut [u8] {
            // SAFETY: as for `bytes`; `&mut self` makes it exclusive.
            unsafe { core::slice::from_raw_parts_mut(self.image.as_ptr(), format().bytes) }
        }

        /// The running thread's registers as an image for a program to read, with `marks` in the part of it that the CPU
        /// leaves to software (SDM 1 §10.5.1).
        pub fn image_for_program(&mut self, marks: &[u8]) -> &[u8] {
            self.save_whole();
            put(self.bytes_mut(), SOFTWARE_BYTES, marks);
            self.bytes()
        }

        /// Loads the running thread's registers from an image that a program wrote and `read` puts in place: one of this
        /// CPU's size, or a legacy one. Components that there are not are cleared. If it can't be read, or has reserved
        /// bits of MXCSR set, the registers stay as they are. `read` doesn't wait, so no switch sees the image half-read.
        pub fn load_from_program(
            &mut self,
            has_header: bool,
            read: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
        ) -> Result<(), Errno> {
            let format = format();
            let has_header = has_header && format.uses_xsave();
            let image = self.bytes_mut();
            let taken = if has_header { format.bytes } else { LEGACY_BYTES };
            let mut result = read(image.get_mut(..taken).unwrap_or_default());
            if get_u32(image, MXCSR) & !format.mxcsr_mask != 0 {
                result = Err(Errno::EFAULT);
            }
            format.sanitise(image, has_header);
            match result {
                Ok(()) => self.restore(),
                Err(_) => self.save_whole(),
            }
            result
        }

        /// Stores the CPU's registers here, for the switch. XSAVEOPT may leave out what hasn't changed since this very image
        /// was restored, so between `restore` and `save` of a running thread's image nothing else may write to it.
        #[inline]
        pub fn save(&mut self) {
            let image = self.image.as_ptr();
            if METHOD.load(Relaxed) != BY_XSAVEOPT {
                return self.save_whole();
            }
            // SAFETY: the image has the size and alignment that the instruction writes to, its header is initialised, and the
            // CPU has the instruction. EDX:EAX asks for all enabled components.
            unsafe {
                asm!(
                    "xsaveopt64 [{}]", in(reg) image, in("eax") u32::MAX, in("edx") u32::MAX,
                    options(nostack, preserves_flags)
                )
            }
        }

        /// Stores every register, changed or not: for an image that a program reads, and for fork.
        #[inline]
        pub fn save_whole(&mut self) {
            let image = self.image.as_ptr();
            // SAFETY: as for `save`.
            unsafe {
                match METHOD.load(Relaxed) {
                    BY_FXSAVE => asm!("fxsave64 [{}]", in(reg) image, options(nostack, preserves_flags)),
                    _ => asm!(
                        "xsave64 [{}]", in(reg) image, in("eax") u32::MAX, in("edx") u32::MAX,
                        options(nostack, preserves_flags)
                    ),
                }
            }
        }

        /// Loads the CPU's registers from here.
        #[inline]
        pub fn restore(&self) {
            let image = self.image.as_ptr();
            // SAFETY: as for `save`; the image was written by it, or by `write_initial` or `sanitise`, so it holds nothing
            // that faults when loaded.
            unsafe {
                match METHOD.load(Relaxed) {
                    BY_FXSAVE => asm!("fxrstor64 [{}]", in(reg) image, options(nostack, preserves_flags, readonly)),
                    _ => asm!(
                        "xrstor64 [{}]", in(reg) image, in("eax") u32::MAX, in("edx") u32::MAX,
                        options(nostack, preserves_flags, readonly)
                    ),
                }
            }
        }
    }

    impl Drop for FpuState {
        fn drop(&mut self) {
            if let Ok(layout) = Self::layout() {
                // SAFETY: allocated with this very layout; the format never changes after `init`.
                unsafe { dealloc(self.image.as_ptr(), layout) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XSAVE: Format = Format { components: 0b111, bytes: 832, mxcsr_mask: 0xffff };
    const FXSAVE: Format = Format { components: 0, bytes: LEGACY_BYTES, mxcsr_mask: DEFAULT_MXCSR_MASK };

    #[test]
    fn a_new_program_has_masked_exceptions_and_zero_registers() {
        for format in [XSAVE, FXSAVE] {
            let mut image = vec![0xaa; format.bytes];
            format.write_initial(&mut image);
            assert_eq!(image[..2], [0x7f, 0x03]);
            assert_eq!(get_u32(&image, MXCSR), 0x1f80);
            assert_eq!(image.iter().filter(|byte| **byte != 0).count(), 4);
        }
    }

    #[test]
    fn a_programs_image_cannot_fault_when_loaded() {
        let mut image = vec![0xff; XSAVE.bytes];
        XSAVE.sanitise(&mut image, true);
        assert_eq!(get_u32(&image, MXCSR), 0xffff);
        assert_eq!(get_u64(&image, COMPONENTS_PRESENT), 0b111);
        assert!(image[COMPONENTS_PRESENT + 8..LEGACY_BYTES + HEADER_BYTES].iter().all(|byte| *byte == 0));
        let mut image = vec![0xff; FXSAVE.bytes];
        FXSAVE.sanitise(&mut image, false);
        assert_eq!(get_u32(&image, MXCSR), 0xffbf);
    }

    #[test]
    fn a_legacy_image_brings_its_two_components_only() {
        let mut image = vec![0xff; XSAVE.bytes];
        XSAVE.sanitise(&mut image, false);
        assert_eq!(get_u64(&image, COMPONENTS_PRESENT), X87_AND_SSE);
    }

    #[test]
    fn a_short_image_is_no_panic() {
        XSAVE.sanitise(&mut [0; 10], true);
        XSAVE.write_initial(&mut []);
    }
}
