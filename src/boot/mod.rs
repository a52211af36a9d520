//! What the boot loader said, turned once into one plain value: [`BootInformation`].
//!
//! GRUB hands over Multiboot2 tags (`multiboot`), QEMU's `-kernel` a PVH structure (`pvh`); past this module nobody can
//! tell which, and nothing later reads the loader's memory: strings are copied, and what is too large to copy (modules,
//! the symbol table) is named by its physical range and listed in [`BootInformation::held`], so that src/memory keeps it
//! until its user is done.
//!
//! All of it has a fixed size, because it comes before the heap. What doesn't fit, or makes no sense, becomes a
//! [`Warning`]: a bad loader costs a message, never a hang.

pub mod command_line;
pub mod fields;
pub mod memory_map;
pub mod multiboot;
pub mod pvh;

use arrayvec::{ArrayString, ArrayVec};
use command_line::CommandLine;
use core::fmt;
use fields::{Physical, u8_at, u16_at, until_nul};
use memory_map::{MemoryMap, PhysRange, RawRegion, RegionKind};
use x86_64::PhysAddr;

pub const MODULES_MAX: usize = 16;
pub const HELD_MAX: usize = MODULES_MAX + 8;
pub const WARNINGS_MAX: usize = 16;

const LOW_MEMORY_END: u64 = 1 << 20;
/// Where no map says how much memory there is: the least that Keel runs in is 24 MiB.
const ASSUMED_MEMORY_BYTES: u64 = 23 << 20;

/// Everything the kernel knows about the machine before it has looked for itself.
#[derive(Debug)]
pub struct BootInformation {
    pub protocol: Protocol,
    pub bootloader_name: ArrayString<64>,
    pub command_line: CommandLine,
    /// Sorted, free of overlaps, page-aligned.
    pub memory_map: MemoryMap,
    pub modules: ArrayVec<Module, MODULES_MAX>,
    /// Memory that the map may call usable but that something lies in. Unsorted; entries may overlap.
    pub held: ArrayVec<Held, HELD_MAX>,
    pub screen: Option<Screen>,
    /// A copy of the ACPI root pointer, where the loader passed one: 20 bytes (ACPI 1.0) or 36.
    pub acpi_rsdp: Option<ArrayVec<u8, 36>>,
    /// The kernel's own symbols, where the loader kept them.
    pub symbols: Option<SymbolTable>,
    /// The time stamp counter at the kernel's first instructions.
    pub entry_tsc: u64,
    pub warnings: ArrayVec<Warning, WARNINGS_MAX>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Multiboot2,
    Pvh,
    Unknown,
}

/// A file that the loader put into memory: the initrd is the first.
#[derive(Clone, Debug)]
pub struct Module {
    pub range: PhysRange,
    pub command_line: ArrayString<64>,
}

/// Memory that is in use when the kernel starts, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub range: PhysRange,
    pub holder: Holder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The first MiB: interrupt vectors, BIOS data, EBDA, ROMs. Never given out.
    LowMemory,
    /// The kernel's image, boot part included.
    Kernel,
    /// What the loader wrote for us. Free as soon as this value exists.
    BootInformation,
    /// The module of that index; free when the initrd is done with it.
    Module(usize),
    /// The kernel's symbol table and its strings; needed as long as the kernel runs.
    Symbols,
    /// Pixels, should they lie in what the map calls memory.
    Framebuffer,
}

/// What the loader left on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Screen {
    /// Character cells of two bytes each (character, attribute).
    EgaText {
        address: PhysAddr,
        pitch_bytes: u32,
        columns: u32,
        rows: u32,
    },
    Framebuffer(Framebuffer),
}

/// Pixels in memory, in any depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    pub address: PhysAddr,
    pub pitch_bytes: u32,
    pub width: u32,
    pub height: u32,
    pub bits_per_pixel: u8,
    pub red: ColorField,
    pub green: ColorField,
    pub blue: ColorField,
}

/// Where a colour's bits lie in a pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColorField {
    pub position: u8,
    pub size_bits: u8,
}

/// An ELF64 symbol table in physical memory: an array of `Elf64_Sym`, and the strings it points into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymbolTable {
    pub symbols: PhysRange,
    pub strings: PhysRange,
}

/// Something that was wrong with what the loader passed. Kept until the log is there to say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warning {
    UnknownLoader(u32),
    BrokenInformation(&'static str),
    NoMemoryMap,
    MemoryMapCut,
    CommandLineCut(usize),
    TooManyModules,
    BadModule(usize),
    NoModule,
    BadTag(&'static str),
    BadScreen,
    /// Pixels that stand for entries of a palette, or a type that came after us.
    UnusableScreen {
        width: u32,
        height: u32,
        bits_per_pixel: u8,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownLoader(magic) => {
                write!(f, "started by an unknown loader (magic {magic:#x}): nothing is known of the machine")
            }
            Self::BrokenInformation(why) => {
                write!(f, "the loader's boot information is broken ({why}): it is not used")
            }
            Self::NoMemoryMap => write!(f, "the loader passed no memory map: the least that could boot us is assumed"),
            Self::MemoryMapCut => write!(f, "the memory map has too many regions: the last ones are left out"),
            Self::CommandLineCut(length) => {
                write!(f, "the command line has {length} bytes: cut to {}", command_line::TEXT_MAX)
            }
            Self::TooManyModules => write!(f, "more than {MODULES_MAX} modules: the others are left out"),
            Self::BadModule(index) => write!(f, "module {index} is empty or ends before it starts: left out"),
            Self::NoModule => write!(f, "no module, hence no initrd"),
            Self::BadTag(name) => write!(f, "the loader's {name} tag is too short: left out"),
            Self::UnusableScreen { width, height, bits_per_pixel } => write!(
                f,
                "the screen is in a mode with a palette ({width}x{height}, {bits_per_pixel} bits): it stays dark. Choose \
                 another in GRUB's menu"
            ),
            Self::BadScreen => write!(f, "the loader's description of the screen makes no sense: left out"),
        }
    }
}

impl BootInformation {
    pub const EMPTY: Self = Self {
        protocol: Protocol::Unknown,
        bootloader_name: ArrayString::new_const(),
        command_line: CommandLine::EMPTY,
        memory_map: MemoryMap::EMPTY,
        modules: ArrayVec::new_const(),
        held: ArrayVec::new_const(),
        screen: None,
        acpi_rsdp: None,
        symbols: None,
        entry_tsc: 0,
        warnings: ArrayVec::new_const(),
    };

    /// What the loader with this magic number left at `at`. Pure: all memory is reached through `physical`.
    pub fn gather(&mut self, loader_magic: u32, at: PhysAddr, physical: Physical<'_>) {
        match loader_magic {
            ::multiboot2::MAGIC => multiboot::gather(self, at, physical),
            pvh::MAGIC => pvh::gather(self, at, physical),
            other => self.warn(Warning::UnknownLoader(other)),
        }
        if let Some(low) = PhysRange::new(0, LOW_MEMORY_END) {
            self.hold(low, Holder::LowMemory);
        }
        if self.screen.is_none() {
            self.screen = bios_text_screen(physical);
        }
        if self.modules.is_empty() {
            self.warn(Warning::NoModule);
        }
        if self.memory_map.usable().next().is_none() {
            self.warn(Warning::NoMemoryMap);
            let least =
                RawRegion { start: LOW_MEMORY_END, length_bytes: ASSUMED_MEMORY_BYTES, kind: RegionKind::Usable };
            let _ = self.memory_map.fill([least]);
        }
    }

    /// Says in the log what was found, and what was wrong with it.
    pub fn report(&self) {
        log::info!(target: "boot", "loaded by {} ({:?}), {} cycles after reset", self.bootloader_name, self.protocol, self.entry_tsc);
        log::info!(target: "boot", "command line: {}", self.command_line.text());
        for region in self.memory_map.regions() {
            let (start, end) = (region.range.start.as_u64(), region.range.end.as_u64());
            log::info!(target: "boot", "memory {start:#014x} to {end:#014x}: {:?}", region.kind);
        }
        for (index, module) in self.modules.iter().enumerate() {
            let (start, size) = (module.range.start.as_u64(), module.range.size_bytes());
            log::info!(target: "boot", "module {index} at {start:#x}, {size} bytes: {}", module.command_line);
        }
        for warning in &self.warnings {
            log::warn!(target: "boot", "{warning}");
        }
    }

    /// Notes what is wrong. With sixteen warnings there is nothing a seventeenth would add.
    fn warn(&mut self, warning: Warning) {
        let _ = self.warnings.try_push(warning);
    }

    /// Notes that something lies there. The list has room for each caller; should it not, an unlisted range is at worst
    /// overwritten, and its user checks what it reads.
    fn hold(&mut self, range: PhysRange, holder: Holder) {
        let _ = self.held.try_push(Held { range, holder });
    }

    fn keep_command_line(&mut self, bytes: &[u8]) {
        if !self.command_line.parse(bytes) {
            self.warn(Warning::CommandLineCut(until_nul(bytes).len()));
        }
    }

    fn fill_memory_map(&mut self, raw: impl IntoIterator<Item = RawRegion>) {
        if !self.memory_map.fill(raw) {
            self.warn(Warning::MemoryMapCut);
        }
    }

    fn add_module(&mut self, start: u64, end: u64, command_line: &[u8]) {
        let index = self.modules.len();
        let Some(range) = PhysRange::new(start, end).filter(|range| !range.is_empty() && start != 0) else {
            self.warn(Warning::BadModule(index));
            return;
        };
        if self.modules.try_push(Module { range, command_line: copy_text(command_line) }).is_err() {
            self.warn(Warning::TooManyModules);
            return;
        }
        self.hold(range, Holder::Module(index));
    }

    fn set_screen(&mut self, screen: Screen) {
        match screen.extent() {
            Some(extent) => {
                self.hold(extent, Holder::Framebuffer);
                self.screen = Some(screen);
            }
            None => self.warn(Warning::BadScreen),
        }
    }
}

impl Screen {
    /// The memory that the screen lies in; None where its numbers contradict each other.
    pub fn extent(&self) -> Option<PhysRange> {
        let (address, pitch, row_bytes, rows) = match *self {
            Self::EgaText { address, pitch_bytes, columns, rows } => {
                (address, pitch_bytes, u64::from(columns).checked_mul(2)?, rows)
            }
            Self::Framebuffer(pixels) => {
                if !matches!(pixels.bits_per_pixel, 15 | 16 | 24 | 32) || !pixels.colors_fit() {
                    return None;
                }
                let bytes_per_pixel = u64::from(pixels.bits_per_pixel.div_ceil(8));
                (
                    pixels.address,
                    pixels.pitch_bytes,
                    u64::from(pixels.width).checked_mul(bytes_per_pixel)?,
                    pixels.height,
                )
            }
        };
        if address.is_null() || row_bytes == 0 || rows == 0 || row_bytes > u64::from(pitch) {
            return None;
        }
        PhysRange::of_size(address.as_u64(), u64::from(pitch).checked_mul(u64::from(rows))?)
    }
}

impl Framebuffer {
    fn colors_fit(&self) -> bool {
        [self.red, self.green, self.blue].iter().all(|color| {
            (1..=16).contains(&color.size_bits)
                && u16::from(color.position) + u16::from(color.size_bits)
                    <= u16::from(self.bits_per_pixel).next_multiple_of(8)
        })
    }
}

/// A loader's string: up to its NUL or to what fits, with question marks for what isn't ASCII.
fn copy_text<const N: usize>(bytes: &[u8]) -> ArrayString<N> {
    let mut text = ArrayString::new();
    for &byte in until_nul(bytes).iter().take(N) {
        text.push(if byte.is_ascii_graphic() || byte == b' ' { char::from(byte) } else { '?' });
    }
    text
}

/// The text screen that a BIOS leaves behind, when the loader says nothing: found in the BIOS data area (mode at 0x449,
/// columns at 0x44a, last row at 0x484).
fn bios_text_screen(physical: Physical<'_>) -> Option<Screen> {
    let data = physical(PhysAddr::new(0x400), 0x100)?;
    let (mode, columns) = (u8_at(data, 0x49)?, u32::from(u16_at(data, 0x4a)?));
    let rows = u32::from(u8_at(data, 0x84)?) + 1;
    let plausible = matches!(mode, 2 | 3) && (40..=132).contains(&columns) && (25..=60).contains(&rows);
    let address = PhysAddr::new(0xb_8000);
    plausible.then_some(Screen::EgaText { address, pitch_bytes: columns * 2, columns, rows })
}

#[cfg(target_os = "none")]
mod target {
    use super::{BootInformation, Holder, PhysRange};
    use crate::memory::direct_map;
    use spin::{
        Once,
        mutex::{SpinMutex, SpinMutexGuard},
    };
    use x86_64::PhysAddr;

    /// What asm/boot.asm maps at the direct map's place.
    pub const BOOT_MAPPED_BYTES: u64 = 4 << 30;

    /// Filled in place, because it is too large to be moved around on a stack, and from then on only read.
    static STORAGE: SpinMutex<BootInformation> = SpinMutex::new(BootInformation::EMPTY);
    static INFORMATION: Once<&'static BootInformation> = Once::new();

    unsafe extern "C" {
        static kernel_physical_start: u8;
        static kernel_physical_end: u8;
    }

    /// Gathers the loader's information. Once, and early: it says what must not be overwritten.
    pub fn collect(loader_magic: u32, at: u64, entry_tsc: u64) -> &'static BootInformation {
        INFORMATION.call_once(|| {
            // The lock is never released: nobody can change what was gathered.
            let information = SpinMutexGuard::leak(STORAGE.lock());
            information.entry_tsc = entry_tsc;
            information.gather(loader_magic, PhysAddr::new_truncate(at), &boot_mapped_bytes);
            let (start, end) = (&raw const kernel_physical_start as u64, &raw const kernel_physical_end as u64);
            if let Some(range) = PhysRange::new(start, end) {
                information.hold(range, Holder::Kernel);
            }
            information
        })
    }

    /// What was collected; before that, nothing.
    pub fn information() -> &'static BootInformation {
        INFORMATION.get().copied().unwrap_or(const { &BootInformation::EMPTY })
    }

    /// Physical memory below 4 GiB as the boot page tables map it. For readers that run before src/memory replaces those
    /// tables: the loader's information, and ACPI's tables.
    pub fn boot_mapped_bytes(at: PhysAddr, size_bytes: usize) -> Option<&'static [u8]> {
        let end = at.as_u64().checked_add(size_bytes as u64)?;
        if end > BOOT_MAPPED_BYTES {
            return None;
        }
        let pointer = (direct_map::BASE + at.as_u64()) as *const u8;
        // SAFETY: the boot page tables map the first 4 GiB there, readable; any byte pattern is a u8. What the callers look
        // at (loader's and firmware's data) is written by nobody while the boot page tables are in use.
        Some(unsafe { core::slice::from_raw_parts(pointer, size_bytes) })
    }
}

#[cfg(target_os = "none")]
pub use target::{BOOT_MAPPED_BYTES, boot_mapped_bytes, collect, information};
