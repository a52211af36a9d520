//! ACPI's static tables, read once into plain values: how to switch the machine off and restart it, and which interrupt
//! controllers, CPUs and timers it has.
//!
//! A table counts only if its signature, length and checksum are right; whatever is missing or broken leaves its values
//! absent. The one thing that is needed out of AML, the package `\_S5_` with the numbers that mean "off", is found by its
//! bytes. An interpreter, which is what the crates for ACPI bring along, would be larger than the rest of the drivers.
//!
//! Sections named here are those of the ACPI specification 6.5. `drivers::power` acts on what is found.

use crate::boot::fields::{Physical, physical_at, u8_at, u16_at, u32_at, u64_at};
use arrayvec::ArrayVec;
use x86_64::PhysAddr;

pub const LOCAL_APICS_MAX: usize = 64;
pub const IO_APICS_MAX: usize = 8;
pub const OVERRIDES_MAX: usize = 16;

/// Tables past this many in the root table aren't looked at.
const TABLES_MAX: usize = 128;
/// The largest table that is believed; real ones with AML reach a few hundred KiB.
const TABLE_MAX_BYTES: usize = 4 << 20;
/// Signature, length, revision, checksum, and who made it (§5.2.6).
const HEADER_BYTES: usize = 36;

#[derive(Clone, Debug)]
pub struct AcpiTables {
    pub sleep: Option<SleepControl>,
    pub reset: Option<ResetRegister>,
    /// The 8042, where the firmware says (PCs from about 2005 on): None if it doesn't.
    pub has_keyboard_controller: Option<bool>,
    /// The RTC register with the century, 0 if there is none.
    pub century_register: u8,
    pub interrupts: Option<InterruptControllers>,
    pub hpet: Option<PhysAddr>,
}

/// A register wherever it lies (generic address structure, §5.2.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Port(u16),
    Memory(PhysAddr),
}

/// What is written where to switch off (§4.8.3.2, and §4.8.3.7 for machines without the PM1 registers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SleepControl {
    Pm1 {
        control_a: Register,
        control_b: Option<Register>,
        sleep_type_a: u8,
        sleep_type_b: u8,
        /// The port and value that ask the firmware to let go of these registers; None where that isn't needed.
        enable: Option<(u16, u8)>,
    },
    HardwareReduced {
        control: Register,
        sleep_type: u8,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetRegister {
    pub register: Register,
    pub value: u8,
}

/// The MADT (§5.2.12).
#[derive(Clone, Debug)]
pub struct InterruptControllers {
    pub local_apic_address: PhysAddr,
    /// Two 8259s are there beside the APICs, and must be masked before those are used.
    pub has_8259: bool,
    pub local_apics: ArrayVec<LocalApic, LOCAL_APICS_MAX>,
    pub io_apics: ArrayVec<IoApic, IO_APICS_MAX>,
    pub overrides: ArrayVec<InterruptOverride, OVERRIDES_MAX>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalApic {
    pub apic_id: u32,
    pub is_enabled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    pub id: u8,
    pub address: PhysAddr,
    /// The number of its first input among all "global system interrupts".
    pub first_interrupt: u32,
}

/// An ISA interrupt that doesn't arrive at the input of its own number, or not in ISA's manner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterruptOverride {
    pub isa_irq: u8,
    pub global_interrupt: u32,
    pub is_active_low: bool,
    pub is_level_triggered: bool,
}

impl AcpiTables {
    pub const NONE: Self = Self {
        sleep: None,
        reset: None,
        has_keyboard_controller: None,
        century_register: 0,
        interrupts: None,
        hpet: None,
    };

    /// All that is known by the root pointer the loader copied, or else by the one that a BIOS left in memory.
    pub fn read(root_pointer: Option<&[u8]>, physical: Physical<'_>) -> Self {
        let mut tables = Self::NONE;
        let root = root_pointer.and_then(root_table_addresses).or_else(|| search_bios_areas(physical));
        let Some(addresses) = root.and_then(|root| root.table_addresses(physical)) else { return tables };
        let find = |signature| addresses.iter().find_map(|&address| table_at(physical, address, signature));
        if let Some(fadt) = find(b"FACP") {
            tables.reset = reset_register(fadt);
            tables.century_register = u8_at(fadt, 108).unwrap_or(0);
            // IAPC_BOOT_ARCH exists from revision 3 on; before, an 8042 goes without saying.
            tables.has_keyboard_controller = u8_at(fadt, 8)
                .filter(|&revision| revision >= 3)
                .and_then(|_| u16_at(fadt, 109))
                .map(|flags| flags & 1 << 1 != 0);
            let secondary = addresses.iter().filter_map(|&address| table_at(physical, address, b"SSDT"));
            let mut definitions = differentiated_table(fadt, physical).into_iter().chain(secondary);
            tables.sleep = definitions.find_map(soft_off_types).and_then(|types| sleep_control(fadt, types));
        }
        tables.interrupts = find(b"APIC").and_then(interrupt_controllers);
        tables.hpet = find(b"HPET").and_then(hpet_address);
        tables
    }
}

/// Where the root pointer says that the list of tables is.
struct RootTables {
    xsdt: u64,
    rsdt: u64,
}

/// The root pointer's own bytes (§5.2.5.3): 20 that ACPI 1.0 knew, 36 from 2.0 on.
fn root_table_addresses(pointer: &[u8]) -> Option<RootTables> {
    let short = pointer.get(..20)?;
    if !short.starts_with(b"RSD PTR ") || !sums_to_zero(short) {
        return None;
    }
    let rsdt = u64::from(u32_at(pointer, 16)?);
    let long = pointer.get(..36).filter(|long| u8_at(long, 15) >= Some(2) && sums_to_zero(long));
    Some(RootTables { xsdt: long.and_then(|long| u64_at(long, 24)).unwrap_or(0), rsdt })
}

/// Where a BIOS keeps the root pointer (§5.2.5.1): the first KiB of the EBDA, or the ROM from 0xe0000 on.
fn search_bios_areas(physical: Physical<'_>) -> Option<RootTables> {
    let ebda = physical_at(physical, 0x40e, 2).and_then(|segment| u16_at(segment, 0)).map_or(0, |s| u64::from(s) << 4);
    [(ebda, 0x400), (0xe_0000, 0x2_0000)].into_iter().find_map(|(start, length)| {
        let area = physical_at(physical, start, length)?;
        (0..length).step_by(16).find_map(|offset| root_table_addresses(area.get(offset..)?))
    })
}

impl RootTables {
    /// The XSDT's 64-bit addresses, or the RSDT's 32-bit ones where that is missing or broken.
    fn table_addresses(&self, physical: Physical<'_>) -> Option<ArrayVec<u64, TABLES_MAX>> {
        if let Some(xsdt) = table_at(physical, self.xsdt, b"XSDT") {
            let entries = xsdt.get(HEADER_BYTES..)?.chunks_exact(8);
            return Some(entries.filter_map(|entry| u64_at(entry, 0)).take(TABLES_MAX).collect());
        }
        let entries = table_at(physical, self.rsdt, b"RSDT")?.get(HEADER_BYTES..)?.chunks_exact(4);
        Some(entries.filter_map(|entry| u32_at(entry, 0)).map(u64::from).take(TABLES_MAX).collect())
    }
}

/// A whole table, if it is the one that is looked for and its bytes sum to zero (§5.2.6).
fn table_at<'m>(physical: Physical<'m>, address: u64, signature: &[u8; 4]) -> Option<&'m [u8]> {
    let header = physical_at(physical, address, HEADER_BYTES)?;
    let length = u32_at(header, 4)? as usize;
    if !header.starts_with(signature) || !(HEADER_BYTES..=TABLE_MAX_BYTES).contains(&length) {
        return None;
    }
    physical_at(physical, address, length).filter(|table| sums_to_zero(table))
}

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

/// The DSDT, by its 64-bit address where the FADT has one.
fn differentiated_table<'m>(fadt: &[u8], physical: Physical<'m>) -> Option<&'m [u8]> {
    let addresses = [u64_at(fadt, 140), u32_at(fadt, 40).map(u64::from)];
    addresses.into_iter().flatten().find_map(|address| table_at(physical, address, b"DSDT"))
}

/// A generic address structure; None for no register, or one in a space that isn't reached like this (PCI, SMBus).
fn register_at(table: &[u8], offset: usize) -> Option<Register> {
    let address = u64_at(table, offset.checked_add(4)?)?;
    match (u8_at(table, offset)?, address) {
        (_, 0) => None,
        (0, _) => PhysAddr::try_new(address).ok().map(Register::Memory),
        (1, _) => u16::try_from(address).ok().map(Register::Port),
        _ => None,
    }
}

/// FADT flags, §5.2.9.
const FADT_FLAGS: usize = 112;
const FLAG_RESET_SUPPORTED: u32 = 1 << 10;
const FLAG_HARDWARE_REDUCED: u32 = 1 << 20;

fn reset_register(fadt: &[u8]) -> Option<ResetRegister> {
    let supported = u32_at(fadt, FADT_FLAGS)? & FLAG_RESET_SUPPORTED != 0;
    let register = register_at(fadt, 116).filter(|_| supported)?;
    Some(ResetRegister { register, value: u8_at(fadt, 128)? })
}

fn sleep_control(fadt: &[u8], (sleep_type_a, sleep_type_b): (u8, u8)) -> Option<SleepControl> {
    if u32_at(fadt, FADT_FLAGS)? & FLAG_HARDWARE_REDUCED != 0 {
        return Some(SleepControl::HardwareReduced { control: register_at(fadt, 244)?, sleep_type: sleep_type_a });
    }
    // The 64-bit fields replace the old ones where they aren't zero.
    let control = |extended, old| {
        let port = || u32_at(fadt, old).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0);
        register_at(fadt, extended).or_else(|| port().map(Register::Port))
    };
    let command_port = u32_at(fadt, 48).and_then(|port| u16::try_from(port).ok()).filter(|&port| port != 0);
    let enable = command_port.zip(u8_at(fadt, 52).filter(|&value| value != 0));
    Some(SleepControl::Pm1 {
        control_a: control(172, 64)?,
        control_b: control(184, 68),
        sleep_type_a,
        sleep_type_b,
        enable,
    })
}

/// The values for the two sleep type fields in `Name (_S5_, Package { a, b, … })`, which compiles to
/// NameOp `_S5_` PackageOp length count a b … (§20.2.5), the name with a root prefix or without.
fn soft_off_types(definitions: &[u8]) -> Option<(u8, u8)> {
    const NAME_OP: u8 = 0x08;
    const ROOT_PREFIX: u8 = b'\\';
    definitions.windows(4).enumerate().filter(|(_, name)| name == b"_S5_").find_map(|(at, _)| {
        let before = definitions.get(..at)?;
        if !before.ends_with(&[NAME_OP]) && !before.ends_with(&[NAME_OP, ROOT_PREFIX]) {
            return None;
        }
        soft_off_package(definitions.get(at + 4..)?)
    })
}

fn soft_off_package(bytes: &[u8]) -> Option<(u8, u8)> {
    const PACKAGE_OP: u8 = 0x12;
    let [PACKAGE_OP, length_lead, rest @ ..] = bytes else { return None };
    // Bits 7:6 of the length's first byte say how many bytes of it follow; then comes the count of elements.
    let [_count, elements @ ..] = rest.get(usize::from(length_lead >> 6)..)? else { return None };
    let (a, rest) = small_integer(elements)?;
    let (b, _) = small_integer(rest)?;
    Some((a, b))
}

/// An integer constant's lowest byte, and what follows it.
fn small_integer(bytes: &[u8]) -> Option<(u8, &[u8])> {
    match bytes {
        [value @ (0 | 1), rest @ ..] => Some((*value, rest)),
        [0x0a, value, rest @ ..] => Some((*value, rest)),
        [0x0b, value, _, rest @ ..] => Some((*value, rest)),
        [0x0c, value, _, _, _, rest @ ..] => Some((*value, rest)),
        _ => None,
    }
}

/// The MADT's list of entries, each with its type and length in front. A length that is too small ends the walk.
fn interrupt_controllers(madt: &[u8]) -> Option<InterruptControllers> {
    let mut found = InterruptControllers {
        local_apic_address: PhysAddr::new(u64::from(u32_at(madt, 36)?)),
        has_8259: u32_at(madt, 40)? & 1 != 0,
        local_apics: ArrayVec::new(),
        io_apics: ArrayVec::new(),
        overrides: ArrayVec::new(),
    };
    let mut rest = madt.get(44..)?;
    while let Some(length) = u8_at(rest, 1).map(usize::from).filter(|&length| length >= 2) {
        let Some((entry, next)) = rest.split_at_checked(length) else { break };
        // An entry that is shorter than its type needs adds nothing.
        let _ = found.add(entry);
        rest = next;
    }
    Some(found)
}

impl InterruptControllers {
    fn add(&mut self, entry: &[u8]) -> Option<()> {
        match u8_at(entry, 0)? {
            0 => self.add_local_apic(u32::from(u8_at(entry, 3)?), u32_at(entry, 4)?),
            1 => {
                let address = PhysAddr::new(u64::from(u32_at(entry, 4)?));
                let io_apic = IoApic { id: u8_at(entry, 2)?, address, first_interrupt: u32_at(entry, 8)? };
                let _ = self.io_apics.try_push(io_apic);
            }
            2 => {
                let (isa_irq, global_interrupt, flags) = (u8_at(entry, 3)?, u32_at(entry, 4)?, u16_at(entry, 8)?);
                let (is_active_low, is_level_triggered) = (flags & 0b11 == 0b11, flags >> 2 & 0b11 == 0b11);
                let changed = InterruptOverride { isa_irq, global_interrupt, is_active_low, is_level_triggered };
                let _ = self.overrides.try_push(changed);
            }
            5 => self.local_apic_address = PhysAddr::try_new(u64_at(entry, 4)?).ok()?,
            9 => self.add_local_apic(u32_at(entry, 4)?, u32_at(entry, 8)?),
            _ => {}
        }
        Some(())
    }

    fn add_local_apic(&mut self, apic_id: u32, flags: u32) {
        let _ = self.local_apics.try_push(LocalApic { apic_id, is_enabled: flags & 1 != 0 });
    }

    /// How an ISA interrupt arrives: as its override says, else at the input of its own number, edge-triggered, active high.
    pub fn route_of(&self, isa_irq: u8) -> InterruptOverride {
        let changed = self.overrides.iter().find(|changed| changed.isa_irq == isa_irq).copied();
        let global_interrupt = u32::from(isa_irq);
        changed.unwrap_or(InterruptOverride {
            isa_irq,
            global_interrupt,
            is_active_low: false,
            is_level_triggered: false,
        })
    }
}

/// The HPET's registers, which are always in memory (IA-PC HPET specification 1.0a, §3.2.4).
fn hpet_address(table: &[u8]) -> Option<PhysAddr> {
    match register_at(table, 40)? {
        Register::Memory(address) => Some(address),
        Register::Port(_) => None,
    }
}

#[cfg(target_os = "none")]
mod target {
    use super::AcpiTables;
    use crate::boot::{BootInformation, boot_mapped_bytes};
    use spin::Once;

    static TABLES: Once<AcpiTables> = Once::new();

    /// Reads the tables. Must run before `memory::init`: it reaches them through the boot page tables.
    pub fn discover(boot: &BootInformation) {
        let tables = TABLES.call_once(|| AcpiTables::read(boot.acpi_rsdp.as_deref(), &boot_mapped_bytes));
        let cpus = tables
            .interrupts
            .as_ref()
            .map_or(0, |found| found.local_apics.iter().filter(|apic| apic.is_enabled).count());
        let io_apics = tables.interrupts.as_ref().map_or(0, |found| found.io_apics.len());
        let yes_no = |there| if there { "yes" } else { "no" };
        log::info!(
            target: "acpi", "CPUs: {cpus}, IO-APICs: {io_apics}, HPET: {}, soft-off: {}, reset register: {}",
            yes_no(tables.hpet.is_some()), yes_no(tables.sleep.is_some()), yes_no(tables.reset.is_some())
        );
    }

    /// What [`discover`] found; nothing before it ran.
    pub fn tables() -> &'static AcpiTables {
        TABLES.get().unwrap_or(&AcpiTables::NONE)
    }
}

#[cfg(target_os = "none")]
pub use target::{discover, tables};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::fields::fake::FakeMemory;

    const FADT_AT: u64 = 0x2000;
    const DSDT_AT: u64 = 0x3000;
    const MADT_AT: u64 = 0x4000;
    const HPET_AT: u64 = 0x5000;
    const XSDT_AT: u64 = 0x6000;
    const RSDT_AT: u64 = 0x7000;

    fn sealed(mut bytes: Vec<u8>, checksum_at: usize, length: usize) -> Vec<u8> {
        let sum = bytes[..length].iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
        bytes[checksum_at] = bytes[checksum_at].wrapping_sub(sum);
        bytes
    }

    fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = signature.to_vec();
        bytes.extend(((HEADER_BYTES + body.len()) as u32).to_le_bytes());
        bytes.extend([6, 0]);
        bytes.resize(HEADER_BYTES, b'K');
        bytes.extend_from_slice(body);
        let length = bytes.len();
        sealed(bytes, 9, length)
    }

    fn generic_address(space: u8, address: u64) -> Vec<u8> {
        [vec![space, 8, 0, 1], address.to_le_bytes().to_vec()].concat()
    }

    fn fadt(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut body = vec![0; 276 - HEADER_BYTES];
        let mut put = |offset: usize, bytes: &[u8]| body[offset - HEADER_BYTES..][..bytes.len()].copy_from_slice(bytes);
        put(40, &(DSDT_AT as u32).to_le_bytes());
        put(48, &0xb2_u32.to_le_bytes());
        put(52, &[0xf1]);
        put(64, &0x604_u32.to_le_bytes());
        put(108, &[0x32]);
        put(109, &[2, 0]);
        put(FADT_FLAGS, &FLAG_RESET_SUPPORTED.to_le_bytes());
        put(116, &generic_address(1, 0xcf9));
        put(128, &[0x0f]);
        change(&mut body);
        table(b"FACP", &body)
    }

    const S5: &[u8] = b"\x5b\x80DBG_\x08_S5_\x12\x06\x04\x0a\x05\x01\x00\x00rest";

    fn machine(fadt: &[u8], aml: &[u8]) -> FakeMemory {
        let mut memory = FakeMemory::new(0, 0x10_0000);
        let addresses = [FADT_AT, MADT_AT, HPET_AT];
        let hpet = [vec![0; 4], generic_address(0, 0xfed0_0000), vec![0; 4]].concat();
        memory.put(FADT_AT, fadt);
        memory.put(DSDT_AT, &table(b"DSDT", aml));
        memory.put(HPET_AT, &table(b"HPET", &hpet));
        memory.put(XSDT_AT, &table(b"XSDT", &addresses.map(u64::to_le_bytes).concat()));
        memory.put(RSDT_AT, &table(b"RSDT", &addresses.map(|address| (address as u32).to_le_bytes()).concat()));
        let madt = [
            vec![0, 0, 0xe0, 0xfe, 1, 0, 0, 0],
            vec![0, 8, 0, 0, 1, 0, 0, 0, 0, 8, 1, 3, 0, 0, 0, 0],
            vec![1, 12, 7, 0, 0, 0, 0xc0, 0xfe, 16, 0, 0, 0],
            vec![2, 10, 0, 9, 9, 0, 0, 0, 0x0d, 0],
            vec![2, 10, 0, 0, 2, 0, 0, 0, 0x0f, 0],
            vec![77, 4, 1, 1],
            vec![9, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        ];
        memory.put(MADT_AT, &table(b"APIC", &madt.concat()));
        memory
    }

    fn root_pointer(revision: u8) -> Vec<u8> {
        let mut bytes = b"RSD PTR \0KEEL  ".to_vec();
        bytes.push(revision);
        bytes.extend((RSDT_AT as u32).to_le_bytes());
        bytes.extend(36_u32.to_le_bytes());
        bytes.extend(XSDT_AT.to_le_bytes());
        bytes.extend([0; 4]);
        sealed(sealed(bytes, 8, 20), 32, 36)
    }

    fn read(pointer: Option<&[u8]>, memory: &FakeMemory) -> AcpiTables {
        AcpiTables::read(pointer, &|at, size| memory.read(at, size))
    }

    #[test]
    fn a_machine_is_described() {
        let memory = machine(&fadt(|_| ()), S5);
        for revision in [0, 2] {
            let tables = read(Some(&root_pointer(revision)), &memory);
            let expected = SleepControl::Pm1 {
                control_a: Register::Port(0x604),
                control_b: None,
                sleep_type_a: 5,
                sleep_type_b: 1,
                enable: Some((0xb2, 0xf1)),
            };
            assert_eq!(tables.sleep, Some(expected));
            assert_eq!(tables.reset, Some(ResetRegister { register: Register::Port(0xcf9), value: 0x0f }));
            assert_eq!((tables.has_keyboard_controller, tables.century_register), (Some(true), 0x32));
            assert_eq!(tables.hpet, Some(PhysAddr::new(0xfed0_0000)));
        }
    }

    #[test]
    fn interrupt_controllers_are_listed() {
        let found = read(Some(&root_pointer(2)), &machine(&fadt(|_| ()), S5)).interrupts.expect("a MADT");
        assert!(found.has_8259);
        assert_eq!(found.local_apic_address, PhysAddr::new(0xfee0_0000));
        let apics: Vec<_> = found.local_apics.iter().map(|apic| (apic.apic_id, apic.is_enabled)).collect();
        assert_eq!(apics, [(0, true), (3, false), (256, true)]);
        assert_eq!((found.io_apics[0].id, found.io_apics[0].first_interrupt), (7, 16));
        let route = |irq| {
            (
                found.route_of(irq).global_interrupt,
                found.route_of(irq).is_active_low,
                found.route_of(irq).is_level_triggered,
            )
        };
        assert_eq!(route(0), (2, true, true));
        assert_eq!(route(9), (9, false, true));
        assert_eq!(route(4), (4, false, false));
    }

    #[test]
    fn without_a_pointer_the_bios_areas_are_searched() {
        let mut memory = machine(&fadt(|_| ()), S5);
        assert!(read(None, &memory).sleep.is_none());
        memory.put(0xf_0010, &root_pointer(0));
        assert!(read(None, &memory).sleep.is_some());
        let mut memory = machine(&fadt(|_| ()), S5);
        memory.put(0x40e, &[0x00, 0x90]);
        memory.put(0x9_03e0, &root_pointer(0)[..20]);
        assert!(read(None, &memory).sleep.is_some());
    }

    #[test]
    fn a_table_whose_sum_is_wrong_is_as_good_as_none() {
        let good = machine(&fadt(|_| ()), S5);
        for (at, offset) in [(FADT_AT, 70), (DSDT_AT, 37)] {
            let mut memory = machine(&fadt(|_| ()), S5);
            let byte = good.read(PhysAddr::new(at + offset), 1).expect("inside")[0];
            memory.put(at + offset, &[byte ^ 1]);
            assert!(read(Some(&root_pointer(2)), &memory).sleep.is_none());
        }
        // A broken XSDT leaves the RSDT.
        let mut memory = machine(&fadt(|_| ()), S5);
        memory.put(XSDT_AT + 12, &[0]);
        assert!(read(Some(&root_pointer(2)), &memory).sleep.is_some());
        let mut pointer = root_pointer(2);
        pointer[3] ^= 1;
        assert!(read(Some(&pointer), &memory).sleep.is_none());
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        let good = machine(&fadt(|_| ()), S5);
        for length in [0_u32, 35, 1 << 24, u32::MAX] {
            let mut memory = machine(&fadt(|_| ()), S5);
            memory.put(XSDT_AT + 4, &length.to_le_bytes());
            memory.put(RSDT_AT + 4, &length.to_le_bytes());
            assert!(read(Some(&root_pointer(2)), &memory).sleep.is_none());
        }
        let madt = table(b"APIC", &[0, 0, 0xe0, 0xfe, 0, 0, 0, 0, 0, 0, 1, 2, 3]);
        let mut memory = machine(&fadt(|_| ()), S5);
        memory.put(MADT_AT, &madt);
        assert!(read(Some(&root_pointer(2)), &memory).interrupts.expect("a MADT").local_apics.is_empty());
        // Every cut of every table: nothing but values that are absent.
        for cut in 0..200 {
            let aml = S5.get(..cut).unwrap_or(S5);
            let bytes = fadt(|_| ());
            let mut body = bytes[HEADER_BYTES..].to_vec();
            body.truncate(cut);
            let _ = read(Some(&root_pointer(2)), &machine(&table(b"FACP", &body), aml));
        }
        assert!(read(Some(&root_pointer(2)), &good).sleep.is_some());
    }

    #[test]
    fn off_is_found_however_it_is_compiled() {
        assert_eq!(soft_off_types(b"\x08\\_S5_\x12\x0a\x02\x0b\x07\x00\x0c\x03\x00\x00\x00"), Some((7, 3)));
        assert_eq!(soft_off_types(b"\x08_S5_\x12\x47\x00\x04\x00\x01"), Some((0, 1)));
        assert_eq!(soft_off_types(b"\x10_S5_\x12\x06\x04\x0a\x05\x00"), None);
        assert_eq!(soft_off_types(b"\x08_S5_\x12"), None);
        assert_eq!(soft_off_types(b"x\x08_S5_\x11\x08_S5_\x12\x06\x04\x01\x01"), Some((1, 1)));
    }

    #[test]
    fn machines_without_pm1_registers_have_their_own_way() {
        let reduced = fadt(|body| {
            body[FADT_FLAGS - HEADER_BYTES + 2] |= 1 << 4;
            body[244 - HEADER_BYTES..256 - HEADER_BYTES].copy_from_slice(&generic_address(0, 0xfee1_0000));
        });
        let tables = read(Some(&root_pointer(2)), &machine(&reduced, S5));
        let control = Register::Memory(PhysAddr::new(0xfee1_0000));
        assert_eq!(tables.sleep, Some(SleepControl::HardwareReduced { control, sleep_type: 5 }));
    }
}
