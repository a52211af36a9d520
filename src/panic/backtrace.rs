//! Who called whom, by frame pointers: the kernel is compiled with them, and asm/interrupts.asm keeps the chain through an
//! interrupt of kernel code. Functions that call nothing have none: where one of them is interrupted, its caller is missing.

/// A chain longer than this goes in circles, or says enough.
const DEPTH_MAX: usize = 32;

/// The return addresses that the chain from `frame_pointer` on leads to, innermost first. `read` gives the 8 bytes at a
/// kernel address, or `None` where nothing is mapped. The chain ends at a zero, at what can't be a frame, or after 32.
pub fn walk(frame_pointer: u64, read: impl Fn(u64) -> Option<u64>) -> impl Iterator<Item = u64> {
    let mut next = frame_pointer;
    core::iter::from_fn(move || {
        // Frames lie in kernel space, aligned: [RBP] is the caller's RBP, [RBP + 8] the return address (System V ABI §3.2.2).
        if next < 1 << 63 || !next.is_multiple_of(8) {
            return None;
        }
        let return_address = read(next.checked_add(8)?)?;
        next = read(next)?;
        (return_address != 0).then_some(return_address)
    })
    .take(DEPTH_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u64 = 0xffff_c000_0000_0000;

    fn stack(words: &[u64]) -> impl Fn(u64) -> Option<u64> {
        move |address| words.get(address.checked_sub(BASE)? as usize / 8).copied()
    }

    #[test]
    fn return_addresses_come_innermost_first() {
        let words = [BASE + 16, 0x111, 0, 0x222];
        assert!(walk(BASE, stack(&words)).eq([0x111, 0x222]));
    }

    #[test]
    fn a_bad_frame_pointer_ends_the_chain() {
        assert_eq!(walk(0, stack(&[])).count(), 0);
        assert_eq!(walk(0x1000, stack(&[])).count(), 0);
        assert_eq!(walk(BASE + 4, stack(&[1, 2])).count(), 0);
        assert_eq!(walk(u64::MAX - 7, stack(&[])).count(), 0);
        assert!(walk(BASE, stack(&[BASE + 800, 0x111])).eq([0x111]));
    }

    #[test]
    fn a_chain_that_goes_in_circles_ends() {
        assert_eq!(walk(BASE, stack(&[BASE, 0x111])).count(), DEPTH_MAX);
    }
}
