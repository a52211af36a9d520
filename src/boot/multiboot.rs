//! Multiboot2's boot information (specification 2.0, §3.6) into [`BootInformation`].
//!
//! The crate `multiboot2` checks the structure as a whole and walks its tags by their sizes. The tags' own fields are read
//! here, through bounded accesses: the crate's typed views panic where a tag's inside contradicts its size, and a loader's
//! mistake should cost one tag and a warning.

use super::fields::{Physical, u8_at, u32_at, u64_at};
use super::memory_map::{PhysRange, RawRegion, RegionKind};
use super::{BootInformation, ColorField, Framebuffer, Holder, Protocol, Screen, SymbolTable, Warning, copy_text};
use multiboot2::{BootInformationHeader, TagType, TagTypeRaw};
use x86_64::PhysAddr;

/// More than any loader writes: the largest tag, the section headers, has 64 bytes for each section.
const INFORMATION_MAX_BYTES: usize = 1 << 20;

/// Sizes and positions within Elf64_Shdr (ELF-64 object file format, §4).
const SECTION_HEADER_BYTES: usize = 64;
const SECTION_TYPE_SYMBOLS: u32 = 2;

pub(super) fn gather(information: &mut BootInformation, at: PhysAddr, physical: Physical<'_>) {
    information.protocol = Protocol::Multiboot2;
    let size = physical(at, 8).and_then(|head| u32_at(head, 0)).map_or(0, |size| size as usize);
    let Some(bytes) = physical(at, size).filter(|_| (8..=INFORMATION_MAX_BYTES).contains(&size)) else {
        information.warn(Warning::BrokenInformation("it has an impossible size"));
        return;
    };
    // SAFETY: `bytes` covers the size that the structure's own first word gives, which is all that `load` looks at, and
    // nobody writes there while this function runs. `load` checks the alignment itself.
    let loaded = unsafe { multiboot2::BootInformation::load(bytes.as_ptr().cast::<BootInformationHeader>()) };
    let Ok(loaded) = loaded else {
        information.warn(Warning::BrokenInformation("its tags don't add up to its size"));
        return;
    };
    if let Some(range) = PhysRange::of_size(at.as_u64(), size as u64) {
        information.hold(range, Holder::BootInformation);
    }
    for tag in loaded.tags() {
        read_tag(information, tag.header().typ, tag.payload());
    }
}

fn read_tag(information: &mut BootInformation, kind: TagTypeRaw, payload: &[u8]) {
    let (name, understood) = match TagType::from(kind) {
        TagType::Cmdline => {
            information.keep_command_line(payload);
            return;
        }
        TagType::BootLoaderName => {
            information.bootloader_name = copy_text(payload);
            return;
        }
        TagType::AcpiV1 if information.acpi_rsdp.is_none() => ("ACPI", read_acpi(information, payload, 20)),
        TagType::AcpiV2 => ("ACPI", read_acpi(information, payload, 36)),
        TagType::Module => ("module", read_module(information, payload)),
        TagType::BasicMeminfo => ("memory size", read_memory_size(information, payload)),
        TagType::Mmap => ("memory map", read_memory_map(information, payload)),
        TagType::Framebuffer => ("framebuffer", read_framebuffer(information, payload)),
        TagType::ElfSections => ("ELF sections", read_sections(information, payload)),
        _ => return,
    };
    if understood.is_none() {
        information.warn(Warning::BadTag(name));
    }
}

fn read_acpi(information: &mut BootInformation, payload: &[u8], size: usize) -> Option<()> {
    information.acpi_rsdp = Some(payload.get(..size)?.try_into().ok()?);
    Some(())
}

fn read_module(information: &mut BootInformation, payload: &[u8]) -> Option<()> {
    let (start, end) = (u32_at(payload, 0)?, u32_at(payload, 4)?);
    information.add_module(u64::from(start), u64::from(end), payload.get(8..)?);
    Some(())
}

/// What BIOS calls conventional and extended memory: of use only where there is no map.
fn read_memory_size(information: &mut BootInformation, payload: &[u8]) -> Option<()> {
    let upper_bytes = u64::from(u32_at(payload, 4)?) << 10;
    if information.memory_map.regions().is_empty() {
        let upper = RawRegion { start: 1 << 20, length_bytes: upper_bytes, kind: RegionKind::Usable };
        let _ = information.memory_map.fill([upper]);
    }
    Some(())
}

/// The entries may be larger than we know: they are walked by the size that the tag gives.
fn read_memory_map(information: &mut BootInformation, payload: &[u8]) -> Option<()> {
    let entry_size = u32_at(payload, 0)? as usize;
    if entry_size < 20 {
        return None;
    }
    let entries = payload.get(8..)?.chunks_exact(entry_size);
    let raw = entries.filter_map(|entry| {
        Some(RawRegion {
            start: u64_at(entry, 0)?,
            length_bytes: u64_at(entry, 8)?,
            kind: region_kind(u32_at(entry, 16)?),
        })
    });
    information.fill_memory_map(raw);
    Some(())
}

/// The numbers of BIOS's E820 call, which PVH shares.
pub(super) fn region_kind(number: u32) -> RegionKind {
    match number {
        1 => RegionKind::Usable,
        3 => RegionKind::AcpiReclaimable,
        4 => RegionKind::AcpiNvs,
        5 => RegionKind::Defective,
        _ => RegionKind::Reserved,
    }
}

fn read_framebuffer(information: &mut BootInformation, payload: &[u8]) -> Option<()> {
    let address = PhysAddr::try_new(u64_at(payload, 0)?).ok()?;
    let (pitch_bytes, width, height) = (u32_at(payload, 8)?, u32_at(payload, 12)?, u32_at(payload, 16)?);
    let bits_per_pixel = u8_at(payload, 20)?;
    let field = |offset| Some(ColorField { position: u8_at(payload, offset)?, size_bits: u8_at(payload, offset + 1)? });
    let screen = match u8_at(payload, 21)? {
        1 => Screen::Framebuffer(Framebuffer {
            address,
            pitch_bytes,
            width,
            height,
            bits_per_pixel,
            red: field(24)?,
            green: field(26)?,
            blue: field(28)?,
        }),
        2 => Screen::EgaText { address, pitch_bytes, columns: width, rows: height },
        _ => {
            information.warn(Warning::UnusableScreen { width, height, bits_per_pixel });
            return Some(());
        }
    };
    information.set_screen(screen);
    Some(())
}

/// The section headers as GRUB loaded them: it puts sections that the image doesn't load anywhere into memory too, the
/// symbols among them, and writes where into their headers.
fn read_sections(information: &mut BootInformation, payload: &[u8]) -> Option<()> {
    let header_size = u32_at(payload, 4)? as usize;
    let headers = payload.get(12..)?;
    if header_size < SECTION_HEADER_BYTES {
        return None;
    }
    let header = |index: usize| headers.get(index.checked_mul(header_size)?..)?.get(..SECTION_HEADER_BYTES);
    let range =
        |header: &[u8]| PhysRange::of_size(u64_at(header, 16)?, u64_at(header, 32)?).filter(|range| !range.is_empty());
    let symbols = headers.chunks_exact(header_size).find(|header| u32_at(header, 4) == Some(SECTION_TYPE_SYMBOLS));
    let Some(symbols) = symbols else { return Some(()) };
    let strings = header(u32_at(symbols, 40)? as usize)?;
    let table = SymbolTable { symbols: range(symbols)?, strings: range(strings)? };
    information.hold(table.symbols, Holder::Symbols);
    information.hold(table.strings, Holder::Symbols);
    information.symbols = Some(table);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::fields::fake::FakeMemory;
    use super::*;

    const AT: u64 = 0x1_0000;

    fn tag(kind: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), (payload.len() as u32 + 8).to_le_bytes()].concat();
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn words(values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn gathered(tags: &[Vec<u8>]) -> BootInformation {
        let body = [tags.concat(), tag(0, &[])].concat();
        gathered_bytes(&[words(&[body.len() as u32 + 8, 0]), body].concat())
    }

    fn gathered_bytes(bytes: &[u8]) -> BootInformation {
        let mut memory = FakeMemory::new(AT, 0x4000);
        memory.put(AT, bytes);
        let mut information = BootInformation::EMPTY;
        information.gather(multiboot2::MAGIC, PhysAddr::new(AT), &|at, size| memory.read(at, size));
        information
    }

    fn memory_map_tag(entry_size: u32, regions: &[(u64, u64, u32)]) -> Vec<u8> {
        let mut payload = words(&[entry_size, 0]);
        for &(start, length, kind) in regions {
            let mut entry = [start.to_le_bytes(), length.to_le_bytes(), u64::from(kind).to_le_bytes()].concat();
            entry.resize(entry_size as usize, 0);
            payload.extend(entry);
        }
        tag(6, &payload)
    }

    #[test]
    fn a_loader_like_grub_is_understood() {
        let rgb = [words(&[0xe000_0000, 0, 4096, 1024, 768]), vec![32, 1, 0, 0, 16, 8, 8, 8, 0, 8]].concat();
        let information = gathered(&[
            tag(1, b"quiet init=/bin/sh\0"),
            tag(2, b"GRUB 2.06\0"),
            tag(3, &[words(&[0x20_0000, 0x30_0000]), b"initrd\0".to_vec()].concat()),
            memory_map_tag(24, &[(0x10_0000, 0x100_0000, 1), (0, 0x9_fc00, 1), (0xf_0000, 0x1_0000, 2)]),
            tag(8, &rgb),
            tag(14, &[1; 20]),
            tag(15, &[2; 36]),
        ]);
        assert_eq!(information.warnings.as_slice(), []);
        assert_eq!(information.command_line.init(), Some("/bin/sh"));
        assert_eq!(information.bootloader_name.as_str(), "GRUB 2.06");
        assert_eq!(information.modules[0].range, PhysRange::new(0x20_0000, 0x30_0000).unwrap());
        assert_eq!(information.modules[0].command_line.as_str(), "initrd");
        assert_eq!(information.memory_map.usable_bytes(), 0x100_0000 + 0x9_f000);
        assert_eq!(information.acpi_rsdp.as_deref(), Some(&[2; 36][..]));
        let Some(Screen::Framebuffer(pixels)) = information.screen else { panic!("{:?}", information.screen) };
        assert_eq!((pixels.width, pixels.height, pixels.red.position, pixels.blue.size_bits), (1024, 768, 16, 8));
        let held = |holder| information.held.iter().any(|held| held.holder == holder);
        assert!(
            held(Holder::Module(0))
                && held(Holder::BootInformation)
                && held(Holder::Framebuffer)
                && held(Holder::LowMemory)
        );
    }

    #[test]
    fn symbols_are_found_through_the_section_headers() {
        let section = |kind: u32, address: u64, size: u64, link: u32| {
            let mut header = vec![0; SECTION_HEADER_BYTES];
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[16..24].copy_from_slice(&address.to_le_bytes());
            header[32..40].copy_from_slice(&size.to_le_bytes());
            header[40..44].copy_from_slice(&link.to_le_bytes());
            header
        };
        let sections = |link| {
            [
                words(&[3, 64, 0]),
                section(0, 0, 0, 0),
                section(2, 0x50_0000, 0x2400, link),
                section(3, 0x50_3000, 0x800, 0),
            ]
            .concat()
        };
        let information = gathered(&[tag(9, &sections(2))]);
        let symbols = information.symbols.expect("the table is there");
        assert_eq!(symbols.symbols, PhysRange::new(0x50_0000, 0x50_2400).unwrap());
        assert_eq!(symbols.strings, PhysRange::new(0x50_3000, 0x50_3800).unwrap());
        for bad_link in [0, 3, u32::MAX] {
            let information = gathered(&[tag(9, &sections(bad_link))]);
            assert!(information.symbols.is_none() && information.warnings.contains(&Warning::BadTag("ELF sections")));
        }
    }

    #[test]
    fn map_entries_are_walked_by_the_size_that_the_tag_gives() {
        let regions = [(0x10_0000, 0x10_0000, 1), (0x30_0000, 0x10_0000, 1)];
        assert_eq!(gathered(&[memory_map_tag(40, &regions)]).memory_map.usable_bytes(), 0x20_0000);
        let information = gathered(&[memory_map_tag(0, &[]), tag(4, &words(&[640, 31 << 10]))]);
        assert!(information.warnings.contains(&Warning::BadTag("memory map")));
        assert_eq!(information.memory_map.usable_bytes(), 31 << 20);
    }

    #[test]
    fn tags_that_are_too_short_cost_only_themselves() {
        let kinds = [3, 4, 6, 8, 9, 14, 15];
        for kind in kinds {
            for length in 0..4 {
                let information = gathered(&[tag(kind, &vec![0xff; length]), tag(1, b"quiet\0")]);
                assert!(information.command_line.quiet);
                assert!(matches!(information.warnings[0], Warning::BadTag(_)), "tag {kind} of {length} bytes");
            }
        }
    }

    #[test]
    fn with_nothing_to_go_by_there_are_messages_and_a_little_memory() {
        let information = gathered(&[]);
        assert_eq!(information.warnings.as_slice(), [Warning::NoModule, Warning::NoMemoryMap]);
        assert_eq!(information.memory_map.usable().last().map(|range| range.end.as_u64()), Some(24 << 20));
        let mut unknown = BootInformation::EMPTY;
        unknown.gather(7, PhysAddr::zero(), &|_, _| None);
        assert_eq!(unknown.warnings[0], Warning::UnknownLoader(7));
    }

    #[test]
    fn sizes_that_lie_are_refused() {
        let good = [words(&[32, 0]), tag(1, b"quiet\0"), tag(0, &[])].concat();
        assert!(gathered_bytes(&good).command_line.quiet);
        // (offset of a size, what it claims)
        for (offset, size) in
            [(0, 0_u32), (0, 7), (0, 24), (0, 40), (0, u32::MAX), (12, 0), (12, 7), (12, 100), (12, u32::MAX), (28, 9)]
        {
            let mut bytes = good.clone();
            bytes[offset..offset + 4].copy_from_slice(&size.to_le_bytes());
            let information = gathered_bytes(&bytes);
            assert!(matches!(information.warnings[0], Warning::BrokenInformation(_)), "{size} at {offset}");
        }
    }

    #[test]
    fn screens_that_make_no_sense_are_refused() {
        let rgb = |pitch, width, height, bits, red_size| {
            [words(&[0xe000_0000, 0, pitch, width, height]), vec![bits, 1, 0, 0, 10, red_size, 5, 5, 0, 5]].concat()
        };
        assert!(gathered(&[tag(8, &rgb(2048, 1024, 768, 15, 5))]).screen.is_some());
        let bad = [
            rgb(2047, 1024, 768, 15, 5),
            rgb(2048, 1024, 768, 12, 5),
            rgb(0, 0, 0, 16, 5),
            rgb(2048, 1024, 768, 16, 9),
        ];
        for payload in bad {
            let information = gathered(&[tag(8, &payload)]);
            assert!(information.screen.is_none() && information.warnings.contains(&Warning::BadScreen));
        }
    }

    #[test]
    fn modules_that_end_before_they_start_are_left_out() {
        let module = |start, end| tag(3, &[words(&[start, end]), b"x\0".to_vec()].concat());
        let information = gathered(&[module(0x20_0000, 0x20_0000), module(0x30_0000, 0x20_0000), module(0, 5)]);
        assert!(information.modules.is_empty());
        let many: Vec<_> = (1..40).map(|i| module(i << 20, (i << 20) + 5)).collect();
        let information = gathered(&many);
        assert_eq!(information.modules.len(), super::super::MODULES_MAX);
        assert!(information.warnings.contains(&Warning::TooManyModules));
    }
}
