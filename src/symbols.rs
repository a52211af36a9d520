//! Names for kernel addresses: the kernel's own ELF symbol table, which the boot loader left in memory.
//!
//! It is searched only when a panic prints a backtrace, so it stays as it is, unsorted.

#[cfg(target_os = "none")]
use crate::boot::{SymbolTable, memory_map::PhysRange};
#[cfg(target_os = "none")]
use crate::memory::direct_map;
use core::fmt;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::parse::ParsingTable;
use elf::string_table::StringTable;
use elf::symbol::Symbol;
use rustc_demangle::{Demangle, demangle};
use spin::Once;

/// The symbol table and its strings.
pub struct Symbols<'a> {
    table: ParsingTable<'a, LittleEndian, Symbol>,
    names: StringTable<'a>,
}

/// An address by name: shown as `keel::memory::frames::allocate+0x1c`.
pub struct Location<'a> {
    name: Demangle<'a>,
    offset: u64,
}

impl<'a> Symbols<'a> {
    /// Reads an ELF64 `.symtab` section and the string section it points into.
    pub fn new(table: &'a [u8], names: &'a [u8]) -> Self {
        Self { table: ParsingTable::new(LittleEndian, Class::ELF64, table), names: StringTable::new(names) }
    }

    /// The function or label that `address` lies in: the one that starts last before it.
    pub fn locate(&self, address: u64) -> Option<Location<'a>> {
        let symbol = self
            .table
            .iter()
            .filter(|symbol| symbol.st_value <= address && self.is_code(symbol))
            .max_by_key(|symbol| symbol.st_value)?;
        let offset = address - symbol.st_value;
        // A function knows its size; beyond it lies something without a name. A label in assembly has none.
        if symbol.st_size != 0 && offset >= symbol.st_size {
            return None;
        }
        Some(Location { name: demangle(self.name(&symbol)?), offset })
    }

    fn is_code(&self, symbol: &Symbol) -> bool {
        let is_code = matches!(symbol.st_symtype(), elf::abi::STT_FUNC | elf::abi::STT_NOTYPE);
        // NASM's names for labels within macros tell nobody anything.
        let has_place = !symbol.is_undefined() && symbol.st_shndx != elf::abi::SHN_ABS;
        is_code && has_place && self.name(symbol).is_some_and(|name| !name.starts_with("..@"))
    }

    fn name(&self, symbol: &Symbol) -> Option<&'a str> {
        self.names.get(symbol.st_name as usize).ok().filter(|name| !name.is_empty())
    }
}

impl fmt::Display for Location<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        // The alternate form leaves out the hash at the end of a name.
        write!(formatter, "{:#}+{:#x}", self.name, self.offset)
    }
}

static KERNEL: Once<Symbols<'static>> = Once::new();

/// Takes the kernel's symbols, where the boot loader kept them. After `memory::init`, which leaves them where they are.
#[cfg(target_os = "none")]
pub fn init(table: Option<SymbolTable>) {
    let Some(table) = table else { return };
    let bytes = |range: PhysRange| {
        let pointer = direct_map::pointer(range.start).cast_const();
        // SAFETY: the boot information lists the range as held, so nobody is given its frames; the direct map covers it, and
        // any byte pattern is a u8.
        unsafe { core::slice::from_raw_parts(pointer, range.size_bytes() as usize) }
    };
    KERNEL.call_once(|| Symbols::new(bytes(table.symbols), bytes(table.strings)));
}

/// A kernel address by name, if there is a symbol table and it has one.
pub fn locate(address: u64) -> Option<Location<'static>> {
    KERNEL.get()?.locate(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FUNCTION: u8 = 2;
    const LABEL: u8 = 0;
    const OBJECT: u8 = 1;

    fn symbol(name: &[u8], kind: u8, value: u64, size: u64) -> Vec<u8> {
        let place = NAMES.windows(name.len()).position(|window| window == name).unwrap() as u32;
        let mut bytes = place.to_le_bytes().to_vec();
        bytes.extend([kind, 0]);
        bytes.extend(1u16.to_le_bytes());
        bytes.extend(value.to_le_bytes());
        bytes.extend(size.to_le_bytes());
        bytes
    }

    const NAMES: &[u8] = b"\0_ZN4keel4main17h0123456789abcdefE\0entry\0data\0..@3.skip\0";

    fn located(address: u64) -> Option<String> {
        let table = [
            symbol(b"_ZN", FUNCTION, 0x1000, 0x40),
            symbol(b"entry", LABEL, 0x2000, 0),
            symbol(b"data", OBJECT, 0x2008, 8),
            symbol(b"..@3", LABEL, 0x2004, 0),
        ]
        .concat();
        Symbols::new(&table, NAMES).locate(address).map(|location| location.to_string())
    }

    #[test]
    fn functions_are_found_and_demangled() {
        assert_eq!(located(0x1000).as_deref(), Some("keel::main+0x0"));
        assert_eq!(located(0x103f).as_deref(), Some("keel::main+0x3f"));
    }

    #[test]
    fn an_address_past_a_functions_end_has_no_name() {
        assert_eq!(located(0x1040), None);
        assert_eq!(located(0xfff), None);
    }

    #[test]
    fn labels_have_no_end_and_data_is_no_code() {
        assert_eq!(located(0x2010).as_deref(), Some("entry+0x10"));
    }

    #[test]
    fn a_broken_table_names_nothing() {
        assert!(Symbols::new(&[0xff; 30], NAMES).locate(0x1000).is_none());
        assert!(Symbols::new(&[], &[]).locate(u64::MAX).is_none());
    }
}
