//! /proc/cpuinfo: what the CPUs are, in Linux's words, since programs look for those.

use super::features::{FeatureLeaves, Identity};
use core::fmt::{self, Write};

/// Bits of one register, and what Linux calls them. Those that the kernel leaves off, like FSGSBASE and protection keys,
/// are not named: a program couldn't use them.
struct Register {
    value: fn(&FeatureLeaves) -> u32,
    names: &'static [(u32, &'static str)],
}

#[rustfmt::skip]
const REGISTERS: [Register; 7] = [
    Register { value: |leaves| leaves.basic.edx, names: &[
        (0, "fpu"), (1, "vme"), (2, "de"), (3, "pse"), (4, "tsc"), (5, "msr"), (6, "pae"), (7, "mce"), (8, "cx8"),
        (9, "apic"), (11, "sep"), (12, "mtrr"), (13, "pge"), (14, "mca"), (15, "cmov"), (16, "pat"), (17, "pse36"),
        (18, "pn"), (19, "clflush"), (21, "dts"), (22, "acpi"), (23, "mmx"), (24, "fxsr"), (25, "sse"), (26, "sse2"),
        (27, "ss"), (28, "ht"), (29, "tm"), (31, "pbe"),
    ] },
    Register { value: |leaves| leaves.extended.edx, names: &[
        (11, "syscall"), (19, "mp"), (20, "nx"), (22, "mmxext"), (25, "fxsr_opt"), (26, "pdpe1gb"), (27, "rdtscp"),
        (29, "lm"), (30, "3dnowext"), (31, "3dnow"),
    ] },
    Register { value: |leaves| leaves.power.edx, names: &[(8, "constant_tsc"), (8, "nonstop_tsc")] },
    Register { value: |leaves| leaves.basic.ecx, names: &[
        (0, "pni"), (1, "pclmulqdq"), (9, "ssse3"), (12, "fma"), (13, "cx16"), (17, "pcid"), (19, "sse4_1"),
        (20, "sse4_2"), (21, "x2apic"), (22, "movbe"), (23, "popcnt"), (24, "tsc_deadline_timer"), (25, "aes"),
        (26, "xsave"), (28, "avx"), (29, "f16c"), (30, "rdrand"), (31, "hypervisor"),
    ] },
    Register { value: |leaves| leaves.extended.ecx, names: &[
        (0, "lahf_lm"), (1, "cmp_legacy"), (4, "cr8_legacy"), (5, "abm"), (6, "sse4a"), (7, "misalignsse"),
        (8, "3dnowprefetch"), (11, "xop"), (16, "fma4"), (21, "tbm"),
    ] },
    Register { value: |leaves| leaves.structured.ebx, names: &[
        (3, "bmi1"), (5, "avx2"), (7, "smep"), (8, "bmi2"), (9, "erms"), (10, "invpcid"), (16, "avx512f"),
        (17, "avx512dq"), (18, "rdseed"), (19, "adx"), (20, "smap"), (21, "avx512ifma"), (23, "clflushopt"),
        (24, "clwb"), (28, "avx512cd"), (29, "sha_ni"), (30, "avx512bw"), (31, "avx512vl"),
    ] },
    Register { value: |leaves| leaves.structured.ecx, names: &[
        (1, "avx512vbmi"), (2, "umip"), (8, "gfni"), (9, "vaes"), (10, "vpclmulqdq"), (22, "rdpid"),
    ] },
];

/// Linux's names of what the leaves say is there, each after a blank.
pub fn write_flags(output: &mut dyn Write, leaves: &FeatureLeaves) -> fmt::Result {
    for register in &REGISTERS {
        let value = (register.value)(leaves);
        for (_, name) in register.names.iter().filter(|(bit, _)| value >> bit & 1 != 0) {
            write!(output, " {name}")?;
        }
    }
    Ok(())
}

/// One CPU's paragraph. Lines that would say nothing true here (cache sizes, microcode, topology) are left out.
pub fn write_cpu(
    output: &mut dyn Write,
    index: u32,
    identity: &Identity,
    leaves: &FeatureLeaves,
    tsc_hz: u64,
) -> fmt::Result {
    let (khz, lines) = (tsc_hz / 1000, identity.cache_line_bytes);
    writeln!(output, "processor\t: {index}\nvendor_id\t: {}", identity.vendor())?;
    writeln!(output, "cpu family\t: {}\nmodel\t\t: {}", identity.family, identity.model)?;
    writeln!(output, "model name\t: {}\nstepping\t: {}", identity.brand(), identity.stepping)?;
    writeln!(output, "cpu MHz\t\t: {}.{:03}", khz / 1000, khz % 1000)?;
    writeln!(output, "fpu\t\t: yes\nfpu_exception\t: yes\nwp\t\t: yes")?;
    write!(output, "flags\t\t:")?;
    write_flags(output, leaves)?;
    // Two loops a cycle, as Linux's delay loop by the time-stamp counter counts them.
    writeln!(output, "\nbogomips\t: {}.{:02}", khz / 500, khz / 5 % 100)?;
    writeln!(output, "clflush size\t: {lines}\ncache_alignment\t: {lines}")?;
    let (physical, linear) = (identity.physical_bits, identity.virtual_bits);
    writeln!(output, "address sizes\t: {physical} bits physical, {linear} bits virtual\n")
}

/// The whole file.
#[cfg(target_os = "none")]
pub fn write(output: &mut dyn Write) -> fmt::Result {
    use super::{features, per_cpu};
    let tsc_hz = crate::interrupts::clock::tsc_hz();
    for cpu in per_cpu::all() {
        write_cpu(output, cpu.index(), features::identity(), features::leaves(), tsc_hz)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::features::Leaf;

    #[test]
    fn flags_have_linuxs_names() {
        let leaves = FeatureLeaves {
            basic: Leaf { edx: 1 | 1 << 26, ecx: 1, ..Leaf::default() },
            extended: Leaf { edx: 1 << 20 | 1 << 29, ..Leaf::default() },
            // FSGSBASE is there, and is left off.
            structured: Leaf { ebx: 1 | 1 << 7, ..Leaf::default() },
            power: Leaf { edx: 1 << 8, ..Leaf::default() },
            ..FeatureLeaves::default()
        };
        let mut text = String::new();
        write_flags(&mut text, &leaves).unwrap();
        assert_eq!(text, " fpu sse2 nx lm constant_tsc nonstop_tsc pni smep");
    }

    #[test]
    fn a_paragraph_ends_in_an_empty_line() {
        let mut text = String::new();
        write_cpu(&mut text, 0, &Identity::default(), &FeatureLeaves::default(), 2_893_202_000).unwrap();
        assert!(text.starts_with("processor\t: 0\n"));
        assert!(text.contains("cpu MHz\t\t: 2893.202\n"));
        assert!(text.contains("bogomips\t: 5786.40\n"));
        assert!(text.ends_with("\n\n"));
    }
}
