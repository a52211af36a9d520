//! The vDSO that every program gets: two pages in front of which libc needs no system call to read a clock.
//!
//! `[vvar]` is the page of the clock's figures (interrupts/time_page.rs); `[vdso]`, right behind it, the code that reads them: a
//! shared object that build.rs has NASM write (asm/user/vdso.asm). All programs share both pages, and none can write to
//! them. AT_SYSINFO_EHDR says where they are.

use super::layout::VDSO_BYTES;
use crate::PAGE_SIZE;
use crate::errno::Errno;
#[cfg(target_os = "none")]
use crate::interrupts::clock;
use crate::memory::address_space::Placement;
use crate::memory::areas::PAGE;
use crate::memory::frames::PageRef;
use crate::memory::{AddressSpace, Mapping, PageSource, Protection};
use alloc::sync::Arc;
use core::fmt;
use spin::Once;

/// The shared object.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vdso.elf"));

const _: () = assert!(IMAGE.len() <= PAGE_SIZE, "the code looks for [vvar] a page before its own");

struct Vdso {
    time: Arc<dyn PageSource>,
    code: Arc<dyn PageSource>,
}

/// None before [`init`].
static VDSO: Once<Vdso> = Once::new();

/// A page with a name, for /proc/PID/maps.
struct NamedPage {
    page: PageRef,
    name: &'static str,
}

impl PageSource for NamedPage {
    fn page(&self, index: u64, _for_write: bool) -> Result<PageRef, Errno> {
        if index == 0 { Ok(self.page.clone()) } else { Err(Errno::EFAULT) }
    }

    fn write_name(&self, output: &mut dyn fmt::Write) -> fmt::Result {
        output.write_str(self.name)
    }
}

/// Makes the two pages. The clock writes to its own from now on.
#[cfg(target_os = "none")]
pub fn init() -> Result<(), Errno> {
    let named = |page, name| -> Result<Arc<dyn PageSource>, Errno> {
        Ok(Arc::try_new(NamedPage { page, name }).map_err(|_| Errno::ENOMEM)?)
    };
    let code = PageRef::new_zeroed()?;
    code.write(0, IMAGE);
    let time = PageRef::new_zeroed()?;
    // SAFETY: a page of zeros is a TimePage; it is never freed, as VDSO keeps it, and only written to through this reference.
    clock::publish_in(unsafe { &*time.pointer().cast() });
    let vdso = Vdso { time: named(time, "[vvar]")?, code: named(code, "[vdso]")? };
    VDSO.call_once(|| vdso);
    Ok(())
}

/// Maps both pages, at `wanted` unless the program is there, and returns where the shared object is; 0 if there is none.
pub fn map(space: &mut AddressSpace, wanted: u64) -> Result<u64, Errno> {
    let Some(vdso) = VDSO.get() else { return Ok(0) };
    let start = space.place(Placement::Hint(wanted), VDSO_BYTES)?;
    let code = start.saturating_add(PAGE);
    let mut time = Mapping::private(Protection::READ, Arc::clone(&vdso.time), 0);
    time.max_protection = Protection::READ;
    space.map(Placement::Fixed(start), PAGE, time)?;
    let protection = Protection::READ | Protection::EXECUTE;
    space.map(Placement::Fixed(code), PAGE, Mapping::private(protection, Arc::clone(&vdso.code), 0))
}

/// The code runs on the host as it does in Keel: these tests call it, with a page of their own before it.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupts::time_page::{TimePage, TscTime};
    use crate::interrupts::time_scale::{NS_PER_SECOND, TimeScale};
    use core::arch::x86_64::_rdtsc;
    use elf::endian::LittleEndian;
    use elf::file::FileHeader;
    use std::time::{SystemTime, UNIX_EPOCH};

    const REALTIME: i32 = 0;
    const MONOTONIC: i32 = 1;
    const PROCESS_CPUTIME: i32 = 2;

    unsafe extern "C" {
        fn mmap(address: *mut u8, length: usize, protection: i32, flags: i32, file: i32, offset: i64) -> *mut u8;
        fn mprotect(address: *mut u8, length: usize, protection: i32) -> i32;
    }

    type ClockGettime = extern "C" fn(i32, *mut [i64; 2]) -> i32;
    type Gettimeofday = extern "C" fn(*mut [i64; 2], *mut [i32; 2]) -> i32;
    type Time = extern "C" fn(*mut i64) -> i64;

    struct Mapped {
        time: &'static TimePage,
        code: *const u8,
    }

    impl Mapped {
        fn new(time: Option<TscTime>) -> Self {
            // SAFETY: two new pages (private and anonymous); the code is copied to the second, which then becomes executable.
            let start = unsafe {
                let start = mmap(core::ptr::null_mut(), 2 * PAGE_SIZE, 3, 0x22, -1, 0);
                assert_ne!(start.addr(), usize::MAX);
                start.add(PAGE_SIZE).copy_from_nonoverlapping(IMAGE.as_ptr(), IMAGE.len());
                assert_eq!(mprotect(start.add(PAGE_SIZE), PAGE_SIZE, 5), 0);
                start
            };
            // SAFETY: the first page is zeros, and is never unmapped.
            let mapped = Self { time: unsafe { &*start.cast() }, code: start.wrapping_add(PAGE_SIZE) };
            mapped.time.write(time);
            mapped
        }

        /// The address of a function, found as a libc finds it: by the dynamic segment's tables.
        fn function(&self, wanted: &str) -> *const u8 {
            let elf = elf::ElfBytes::<LittleEndian>::minimal_parse(IMAGE).unwrap();
            let (mut strings, mut symbols, mut hash) = (0, 0, 0);
            for entry in elf.dynamic().unwrap().unwrap() {
                match entry.d_tag {
                    elf::abi::DT_STRTAB => strings = entry.d_ptr() as usize,
                    elf::abi::DT_SYMTAB => symbols = entry.d_ptr() as usize,
                    elf::abi::DT_HASH => hash = entry.d_ptr() as usize,
                    _ => {}
                }
            }
            let word = |at: usize| u32::from_le_bytes(IMAGE[at..at + 4].try_into().unwrap()) as usize;
            assert_eq!(word(hash), 1, "one bucket");
            let mut index = word(hash + 8);
            while index != 0 {
                let symbol = symbols + 24 * index;
                let name = &IMAGE[strings + word(symbol)..];
                if name.split(|&byte| byte == 0).next() == Some(wanted.as_bytes()) {
                    return self.code.wrapping_add(word(symbol + 8));
                }
                index = word(hash + 12 + 4 * index);
            }
            panic!("no {wanted}");
        }

        fn clock(&self, clock: i32) -> (i32, [i64; 2]) {
            let mut time = [-1; 2];
            // SAFETY: the routine has this signature.
            let function: ClockGettime = unsafe { core::mem::transmute(self.function("__vdso_clock_gettime")) };
            (function(clock, &mut time), time)
        }

        fn gettimeofday(&self, zone: *mut [i32; 2]) -> [i64; 2] {
            let mut time = [-1; 2];
            // SAFETY: the routine has this signature.
            let function: Gettimeofday = unsafe { core::mem::transmute(self.function("__vdso_gettimeofday")) };
            assert_eq!(function(&mut time, zone), 0);
            time
        }

        fn time(&self) -> i64 {
            let mut time = -1;
            // SAFETY: the routine has this signature.
            let function: Time = unsafe { core::mem::transmute(self.function("__vdso_time")) };
            assert_eq!(function(core::ptr::null_mut()), function(&mut time));
            time
        }
    }

    /// A counter of 2^50 Hz, which no real one comes near: it stands still for as long as a test takes.
    fn standing_still_at(ns: u64, wall_clock_at_start_ns: u64) -> TscTime {
        let periods = ((u128::from(ns) << 50) / u128::from(NS_PER_SECOND)) as u64;
        // SAFETY: every x86-64 CPU has RDTSC.
        let tsc_at_start = unsafe { _rdtsc() }.wrapping_sub(periods);
        TscTime { tsc_at_start, scale: 1 << 14, wall_clock_at_start_ns }
    }

    fn seconds_since_1970() -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
    }

    #[test]
    fn the_image_is_a_shared_object_of_one_segment() {
        let elf = elf::ElfBytes::<LittleEndian>::minimal_parse(IMAGE).unwrap();
        let FileHeader { e_type, .. } = elf.ehdr;
        assert_eq!(e_type, elf::abi::ET_DYN);
        let loads: Vec<_> = elf.segments().unwrap().iter().filter(|part| part.p_type == elf::abi::PT_LOAD).collect();
        assert_eq!(loads.len(), 1);
        assert_eq!(loads[0].p_flags, elf::abi::PF_R | elf::abi::PF_X);
    }

    #[test]
    fn the_clocks_are_what_the_page_says() {
        let mapped = Mapped::new(Some(standing_still_at(5_123_456_789, 1_600_000_000_000_000_000)));
        let (result, [seconds, rest]) = mapped.clock(MONOTONIC);
        assert_eq!((result, seconds), (0, 5));
        assert!((123_456_788..133_456_789).contains(&rest), "{rest}");
        let (result, [seconds, rest]) = mapped.clock(REALTIME);
        assert_eq!((result, seconds), (0, 1_600_000_005));
        assert!((123_456_788..133_456_789).contains(&rest), "{rest}");
        let [seconds, us] = mapped.gettimeofday(core::ptr::null_mut());
        assert_eq!(seconds, 1_600_000_005);
        assert!((123_456..133_456).contains(&us), "{us}");
        assert_eq!(mapped.time(), 1_600_000_005);
    }

    #[test]
    fn nanoseconds_that_add_up_to_a_second_are_one() {
        let mapped = Mapped::new(Some(standing_still_at(5_123_456_789, 1_600_000_000_900_000_000)));
        let (result, [seconds, rest]) = mapped.clock(REALTIME);
        assert_eq!((result, seconds), (0, 1_600_000_006));
        assert!((23_456_788..33_456_789).contains(&rest), "{rest}");
        assert_eq!(mapped.gettimeofday(core::ptr::null_mut())[0], 1_600_000_006);
        assert_eq!(mapped.time(), 1_600_000_006);
    }

    /// A program may ask the page and the kernel in turn.
    #[test]
    fn the_page_and_the_kernel_calculate_alike() {
        let scale = TimeScale::from_hz(2_893_202_000);
        let mapped =
            Mapped::new(Some(TscTime { tsc_at_start: 0, scale: scale.fixed_point(), wall_clock_at_start_ns: 0 }));
        for _ in 0..1000 {
            // SAFETY: every x86-64 CPU has RDTSC.
            let kernel_ns = || scale.to_ns(unsafe { _rdtsc() });
            let before = kernel_ns();
            let (_, [seconds, rest]) = mapped.clock(MONOTONIC);
            let after = kernel_ns();
            let page_ns = seconds as u64 * NS_PER_SECOND + rest as u64;
            assert!((before..=after).contains(&page_ns), "{before} {page_ns} {after}");
        }
    }

    #[test]
    fn what_the_page_cant_tell_the_kernel_is_asked() {
        let mapped = Mapped::new(None);
        assert!(seconds_since_1970() - mapped.clock(REALTIME).1[0] <= 1);
        assert!(seconds_since_1970() - mapped.gettimeofday(core::ptr::null_mut())[0] <= 1);
        assert!(seconds_since_1970() - mapped.time() <= 1);
        let mapped = Mapped::new(Some(standing_still_at(0, 0)));
        let (result, [seconds, ns]) = mapped.clock(PROCESS_CPUTIME);
        assert!(result == 0 && seconds < 1000 && ns > 0);
        assert_eq!(mapped.clock(99).0, -22, "EINVAL");
        let mut zone = [-1; 2];
        assert!(seconds_since_1970() - mapped.gettimeofday(&mut zone)[0] <= 1);
        assert_ne!(zone, [-1; 2]);
        // As when the clock stops being the time-stamp counter.
        mapped.time.write(None);
        assert!(seconds_since_1970() - mapped.time() <= 1);
    }
}
