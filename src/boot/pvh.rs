//! The PVH start-of-day structure (Xen's public/arch-x86/hvm/start_info.h) into [`BootInformation`].
//!
//! `qemu -kernel` enters the kernel this way, seconds sooner than through GRUB and a CD.

use super::fields::{Physical, physical_at, u32_at, u64_at, until_nul};
use super::memory_map::{PhysRange, RawRegion};
use super::multiboot::region_kind;
use super::{BootInformation, Holder, Protocol, Warning, copy_text};
use x86_64::PhysAddr;

/// hvm_start_info.magic, which asm/boot.asm passes as the loader's.
pub const MAGIC: u32 = 0x336e_c578;

const START_INFO_BYTES: usize = 56;
const MODULE_BYTES: usize = 32;
const REGION_BYTES: usize = 24;
/// Far more than either list ever has: bounds what a broken count makes us read.
const LIST_MAX: usize = 4096;
/// Text is looked for its end only so far.
const TEXT_MAX_BYTES: usize = 1 << 16;

pub(super) fn gather(information: &mut BootInformation, at: PhysAddr, physical: Physical<'_>) {
    information.protocol = Protocol::Pvh;
    information.bootloader_name = copy_text(b"PVH");
    let start_info = physical(at, START_INFO_BYTES).filter(|bytes| u32_at(bytes, 0) == Some(MAGIC));
    let Some(start_info) = start_info else {
        information.warn(Warning::BrokenInformation("its magic number is missing"));
        return;
    };
    if let Some(range) = PhysRange::of_size(at.as_u64(), START_INFO_BYTES as u64) {
        information.hold(range, Holder::BootInformation);
    }
    let field = |offset| u64_at(start_info, offset).unwrap_or(0);
    if let Some(text) = text_at(physical, field(24)) {
        information.keep_command_line(text);
    }
    information.acpi_rsdp = read_rsdp(physical, field(32));
    let module_count = u32_at(start_info, 12).map_or(0, |count| count as usize);
    read_modules(information, physical, field(16), module_count);
    let version = u32_at(start_info, 4).unwrap_or(0);
    let region_count = if version >= 1 { u32_at(start_info, 48).unwrap_or(0) as usize } else { 0 };
    read_memory_map(information, physical, field(40), region_count);
}

fn read_modules(information: &mut BootInformation, physical: Physical<'_>, at: u64, count: usize) {
    if count == 0 {
        return;
    }
    let list = (count <= LIST_MAX).then(|| physical_at(physical, at, count * MODULE_BYTES)).flatten();
    let Some(list) = list else {
        information.warn(Warning::BrokenInformation("its list of modules is out of reach"));
        return;
    };
    for entry in list.chunks_exact(MODULE_BYTES) {
        let field = |offset| u64_at(entry, offset).unwrap_or(0);
        let (start, end) = (field(0), field(0).saturating_add(field(8)));
        information.add_module(start, end, text_at(physical, field(16)).unwrap_or(&[]));
    }
}

fn read_memory_map(information: &mut BootInformation, physical: Physical<'_>, at: u64, count: usize) {
    let list = (count <= LIST_MAX).then(|| physical_at(physical, at, count * REGION_BYTES)).flatten().unwrap_or(&[]);
    let raw = list.chunks_exact(REGION_BYTES).filter_map(|entry| {
        Some(RawRegion {
            start: u64_at(entry, 0)?,
            length_bytes: u64_at(entry, 8)?,
            kind: region_kind(u32_at(entry, 16)?),
        })
    });
    information.fill_memory_map(raw);
}

/// The root pointer's revision says which of its two sizes it has.
fn read_rsdp(physical: Physical<'_>, at: u64) -> Option<arrayvec::ArrayVec<u8, 36>> {
    let short = physical_at(physical, at, 20)?;
    let size = if short.get(15).is_some_and(|&revision| revision >= 2) { 36 } else { 20 };
    physical_at(physical, at, size)?.try_into().ok()
}

fn text_at<'m>(physical: Physical<'m>, at: u64) -> Option<&'m [u8]> {
    physical_at(physical, at, TEXT_MAX_BYTES).map(until_nul)
}

#[cfg(test)]
mod tests {
    use super::super::fields::fake::FakeMemory;
    use super::*;
    use Warning::{BrokenInformation, NoMemoryMap, NoModule};

    const AT: u64 = 0x1000;

    /// magic, version, flags, modules; then module list, command line, RSDP, memory map; then its length.
    fn start_info(head: [u32; 4], addresses: [u64; 4], region_count: u32) -> Vec<u8> {
        let mut bytes: Vec<u8> = head.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(addresses.iter().flat_map(|address| address.to_le_bytes()));
        bytes.extend([region_count, 0].iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }

    fn gathered(start_info: &[u8]) -> BootInformation {
        let mut memory = FakeMemory::new(AT, 2 * TEXT_MAX_BYTES);
        memory.put(AT, start_info);
        let quads = |values: &[u64]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        memory.put(0x1100, &quads(&[0x20_0000, 0x8_0000, 0x1300, 0]));
        memory.put(0x1200, b"init=/bin/sh console=ttyS0\0");
        memory.put(0x1300, b"initrd.tar\0");
        memory.put(0x1400, &[b"RSD PTR \0KEEL  \x02".to_vec(), vec![7; 20]].concat());
        memory.put(0x1500, &quads(&[0, 0x9_fc00, 1, 0x10_0000, 0x300_0000, 1, 0xfffc_0000, 0x4_0000, 2]));
        let mut information = BootInformation::EMPTY;
        information.gather(MAGIC, PhysAddr::new(AT), &|at, size| memory.read(at, size));
        information
    }

    const ADDRESSES: [u64; 4] = [0x1100, 0x1200, 0x1400, 0x1500];

    #[test]
    fn a_start_like_qemus_is_understood() {
        let information = gathered(&start_info([MAGIC, 1, 0, 1], ADDRESSES, 3));
        assert_eq!(information.warnings.as_slice(), []);
        assert_eq!(information.protocol, Protocol::Pvh);
        assert_eq!(information.command_line.text(), "init=/bin/sh console=ttyS0");
        assert_eq!(information.modules[0].range, PhysRange::new(0x20_0000, 0x28_0000).unwrap());
        assert_eq!(information.modules[0].command_line.as_str(), "initrd.tar");
        assert_eq!(information.acpi_rsdp.as_ref().map(|rsdp| rsdp.len()), Some(36));
        assert_eq!(information.memory_map.usable_bytes(), 0x9_f000 + 0x300_0000);
    }

    /// The machine of `gathered`, as a Multiboot2 loader tells of it: the two words, then the tags, each aligned to 8.
    fn gathered_from_multiboot() -> BootInformation {
        let region = |start: u64, length: u64, kind: u64| [start, length, kind].map(u64::to_le_bytes).concat();
        let tag = |kind: u32, payload: &[u8]| {
            let mut bytes = [kind.to_le_bytes(), (payload.len() as u32 + 8).to_le_bytes()].concat();
            bytes.extend(payload);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
            bytes
        };
        let regions =
            [region(0, 0x9_fc00, 1), region(0x10_0000, 0x300_0000, 1), region(0xfffc_0000, 0x4_0000, 2)].concat();
        let module = [0x20_0000_u32.to_le_bytes(), 0x28_0000_u32.to_le_bytes()].concat();
        let tags = [
            tag(1, b"init=/bin/sh console=ttyS0\0"),
            tag(3, &[&module[..], b"initrd.tar\0"].concat()),
            tag(6, &[&24_u32.to_le_bytes()[..], &[0; 4], &regions].concat()),
            tag(15, &[b"RSD PTR \0KEEL  \x02".to_vec(), vec![7; 20]].concat()),
            tag(0, &[]),
        ]
        .concat();
        let mut memory = FakeMemory::new(AT, 0x4000);
        memory.put(AT, &[&(tags.len() as u32 + 8).to_le_bytes()[..], &[0; 4], &tags].concat());
        let mut information = BootInformation::EMPTY;
        information.gather(multiboot2::MAGIC, PhysAddr::new(AT), &|at, size| memory.read(at, size));
        information
    }

    #[test]
    fn either_start_fills_in_the_same_values() {
        let (one, other) = (gathered(&start_info([MAGIC, 1, 0, 1], ADDRESSES, 3)), gathered_from_multiboot());
        assert_eq!([one.protocol, other.protocol], [Protocol::Pvh, Protocol::Multiboot2]);
        assert_eq!(one.command_line.text(), other.command_line.text());
        assert_eq!(one.memory_map.regions(), other.memory_map.regions());
        let modules = |information: &BootInformation| {
            let modules = information.modules.iter();
            modules.map(|module| (module.range, module.command_line.to_string())).collect::<Vec<_>>()
        };
        assert_eq!(modules(&one), modules(&other));
        assert_eq!(one.acpi_rsdp, other.acpi_rsdp);
        assert_eq!(one.warnings.as_slice(), other.warnings.as_slice());
        assert_eq!(one.held.len(), other.held.len());
    }

    #[test]
    fn version_zero_has_no_memory_map() {
        assert_eq!(gathered(&start_info([MAGIC, 0, 0, 1], ADDRESSES, 3)).warnings.as_slice(), [NoMemoryMap]);
    }

    #[test]
    fn lists_and_texts_out_of_reach_are_left_out() {
        let information = gathered(&start_info([MAGIC, 1, 0, 1], [u64::MAX, 1 << 40, 1 << 60, 1 << 33], 3));
        let why = "its list of modules is out of reach";
        assert_eq!(information.warnings.as_slice(), [BrokenInformation(why), NoModule, NoMemoryMap]);
        let counts = start_info([MAGIC, 1, 0, u32::MAX], ADDRESSES, u32::MAX);
        assert_eq!(gathered(&counts).warnings.as_slice(), [BrokenInformation(why), NoModule, NoMemoryMap]);
        assert_eq!(gathered(&start_info([MAGIC, 1, 0, 0], [0; 4], 0)).warnings.as_slice(), [NoModule, NoMemoryMap]);
    }

    #[test]
    fn a_structure_without_its_magic_is_refused() {
        let information = gathered(&start_info([MAGIC + 1, 1, 0, 1], ADDRESSES, 3));
        assert_eq!(information.warnings[0], BrokenInformation("its magic number is missing"));
    }
}
