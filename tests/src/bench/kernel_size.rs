//! How much memory a kernel's image takes once it is loaded: code, constants and variables, those that are zero at first too.

use crate::failure::Failure;

const PT_LOAD: u32 = 1;

/// Of an ELF file: the segments' sizes in memory, in bytes.
pub fn of_elf(file: &[u8]) -> Result<u64, Failure> {
    let broken = || Failure::new("the kernel is no ELF file of 64 bits");
    let word = |at: usize, size: usize| -> Option<u64> {
        let bytes = file.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    };
    let sum = || {
        let (table, size, count) = (word(32, 8)?, word(54, 2)?, word(56, 2)?);
        let mut sum = 0;
        for index in 0..count {
            let header = usize::try_from(table.checked_add(index * size)?).ok()?;
            if word(header, 4)? == u64::from(PT_LOAD) {
                sum += word(header.checked_add(40)?, 8)?;
            }
        }
        Some(sum)
    };
    if !file.starts_with(b"\x7fELF\x02") {
        return Err(broken());
    }
    sum().ok_or_else(broken)
}

/// Of Linux, as its own log tells it, in bytes:
/// `Memory: 218140K/261624K available (14342K kernel code, 2342K rwdata, 9060K rodata, 2776K init, 17632K bss, …)`.
pub fn of_linux(log: &str) -> Option<u64> {
    let line = log.lines().find(|line| line.contains("Memory: ") && line.contains("kernel code"))?;
    let parts = line.split_once('(')?.1;
    let parts = parts.split(", ").filter_map(|part| part.split_once("K "));
    let counted = parts.filter(|(_, what)| ["kernel code", "rwdata", "rodata", "init", "bss"].contains(what));
    let sizes: Option<Vec<u64>> = counted.map(|(size, _)| size.parse().ok()).collect();
    sizes.filter(|sizes| sizes.len() == 5).map(|sizes| sizes.iter().sum::<u64>() * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header, a note and two loaded segments.
    fn elf() -> Vec<u8> {
        let mut file = b"\x7fELF\x02".to_vec();
        file.resize(64 + 3 * 56, 0);
        file[32] = 64;
        file[54] = 56;
        file[56] = 3;
        for (index, (kind, size)) in [(4_u8, 7_u16), (1, 0x3000), (1, 0x1234)].into_iter().enumerate() {
            let header = 64 + 56 * index;
            file[header] = kind;
            file[header + 40..header + 42].copy_from_slice(&size.to_le_bytes());
        }
        file
    }

    #[test]
    fn loaded_segments_are_counted_as_they_are_in_memory() {
        assert_eq!(of_elf(&elf()).unwrap(), 0x4234);
        assert!(of_elf(&elf()[..100]).is_err());
        assert!(of_elf(b"bzImage").is_err());
    }

    #[test]
    fn linux_tells_its_size() {
        let line = "[    0.02] Memory: 218140K/261624K available (14342K kernel code, 2342K rwdata, 9060K rodata, 2776K init, \
                    17632K bss, 43228K reserved, 0K cma-reserved)";
        assert_eq!(of_linux(&format!("a\n{line}\nb")), Some((14342 + 2342 + 9060 + 2776 + 17632) * 1024));
        assert_eq!(of_linux("Memory: 1K/2K available (3K kernel code)"), None);
        assert_eq!(of_linux(""), None);
    }
}
