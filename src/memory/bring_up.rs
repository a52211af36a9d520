//! Memory's start: which of it is free, and in which order frames, kernel mappings and the rest come to be.

use crate::boot::{Held, Holder};
use core::ops::Range;

#[cfg(target_os = "none")]
pub use machine::init;

#[cfg(target_os = "none")]
mod machine {
    use super::super::early::FreeRanges;
    use super::super::{frames, image, kernel_map, user_access};
    use super::{bytes_of, no_longer_needed};
    use crate::boot::BootInformation;
    use crate::cpu::gdt;
    use x86_64::VirtAddr;

    /// Brings memory up: after it frames, heap, kernel stacks and device mappings can be asked for, and the boot page tables
    /// with their identity mapping are gone.
    ///
    /// Needs the boot information and nothing else.
    pub fn init(information: &BootInformation) {
        let usable = information.memory_map.usable().map(|range| range.start.as_u64()..range.end.as_u64());
        let held = information.held.iter().map(bytes_of);
        let mut free = FreeRanges::new(usable, held.chain([image::physical_range()]));
        user_access::allow_access_where_smap_forbids();
        kernel_map::build::build(information, &mut free);
        frames::init(&mut free);
        // Their frames are the image's: they aren't given to anybody.
        for guard in gdt::guard_pages().map(VirtAddr::as_u64).chain([image::guard_below_boot_stack()]) {
            kernel_map::unmap_page(guard);
        }
        // The code that ran before paging has done its work.
        frames::give_back(image::boot_part());
        no_longer_needed(&information.held).for_each(frames::give_back);
        let counts = frames::counts();
        log::info!(
            target: "memory", "{} KiB free of {} KiB usable",
            counts.free * 4, information.memory_map.usable_bytes() / 1024
        );
    }
}

fn bytes_of(held: &Held) -> Range<u64> {
    held.range.start.as_u64()..held.range.end.as_u64()
}

/// What the loader held for us and nobody reads any more: its information, which has been copied, and modules past the first,
/// the initrd, whose files stay where they are. What another holder lies in stays reserved with it.
fn no_longer_needed(held: &[Held]) -> impl Iterator<Item = Range<u64>> {
    let is_needed = |held: &&Held| !matches!(held.holder, Holder::BootInformation | Holder::Module(1..));
    held.iter().filter(move |held| !is_needed(held)).map(bytes_of).filter(move |range| {
        let overlaps = |other: Range<u64>| other.start < range.end && range.start < other.end;
        !held.iter().filter(is_needed).map(bytes_of).any(overlaps)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::memory_map::PhysRange;

    fn held(start: u64, end: u64, holder: Holder) -> Held {
        Held { range: PhysRange::new(start, end).unwrap(), holder }
    }

    #[test]
    fn what_was_read_is_given_back_and_what_is_in_use_is_not() {
        let all = [
            held(0, 1 << 20, Holder::LowMemory),
            held(0x9_0000, 0x9_1000, Holder::BootInformation),
            held(0x20_0000, 0x20_1800, Holder::BootInformation),
            held(0x20_1800, 0x30_0000, Holder::Module(0)),
            held(0x30_0000, 0x40_0000, Holder::Module(1)),
            held(0x40_0000, 0x41_0000, Holder::Symbols),
            held(0x3f_0000, 0x42_0000, Holder::Module(2)),
            held(0x50_0000, 0x60_0000, Holder::Framebuffer),
        ];
        assert!(no_longer_needed(&all).eq([0x20_0000..0x20_1800, 0x30_0000..0x40_0000]));
    }
}
