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
pub mod memory_map;

use arrayvec::{ArrayString, ArrayVec};
use command_line::CommandLine;
use core::fmt;
use memory_map::{MemoryMap, PhysRange};
use x86_64::PhysAddr;

pub const MODULES_MAX: usize = 16;
pub const HELD_MAX: usize = MODULES_MAX + 8;
pub const WARNINGS_MAX: usize = 16;

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

    /// Notes what is wrong. With sixteen warnings there is nothing a seventeenth would add.
    pub(crate) fn warn(&mut self, warning: Warning) {
        let _ = self.warnings.try_push(warning);
    }
}
