//! What this CPU can do, asked once by CPUID (SDM 2A, CPUID; AMD APM 3, appendix E) and read everywhere.
//!
//! The floor is the first x86-64 chips: what they all have (SSE2, SYSCALL, PAE, FXSAVE) isn't asked for. Everything newer is
//! a field here, and the code that would use it does without where it is false.

use core::fmt;

macro_rules! features {
    ($($(#[$attribute:meta])* $field:ident: $leaf:ident . $register:ident [$bit:literal],)*) => {
        /// Whether each feature is there.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Features {
            $($(#[$attribute])* pub $field: bool,)*
        }

        impl Features {
            /// Picks the features out of the leaves that name them.
            pub fn from_leaves(leaves: &FeatureLeaves) -> Self {
                Self { $($field: leaves.$leaf.$register >> $bit & 1 != 0,)* }
            }
        }

        /// The features present, by name, in one line.
        impl fmt::Display for Features {
            fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                let mut separator = "";
                $(if self.$field {
                    write!(formatter, "{separator}{}", stringify!($field))?;
                    separator = " ";
                })*
                Ok(())
            }
        }
    };
}

features! {
    /// No-execute pages: absent on the first EM64T chips.
    nx: extended.edx[20],
    /// Machine checks.
    mce: basic.edx[7],
    /// Global pages.
    pge: basic.edx[13],
    /// The page attribute table: write-combining by page.
    pat: basic.edx[16],
    /// 1 GiB pages.
    one_gib_pages: extended.edx[26],
    /// Process-context identifiers.
    pcid: basic.ecx[17],
    smep: structured.ebx[7],
    smap: structured.ebx[20],
    umip: structured.ecx[2],
    fsgsbase: structured.ebx[0],
    xsave: basic.ecx[26],
    xsaveopt: xsave_forms.eax[0],
    sse3: basic.ecx[0],
    ssse3: basic.ecx[9],
    sse4_1: basic.ecx[19],
    sse4_2: basic.ecx[20],
    popcnt: basic.ecx[23],
    aes: basic.ecx[25],
    avx: basic.ecx[28],
    avx2: structured.ebx[5],
    avx512f: structured.ebx[16],
    rdrand: basic.ecx[30],
    rdseed: structured.ebx[18],
    rdtscp: extended.edx[27],
    /// The time-stamp counter runs at one rate in all power states.
    invariant_tsc: power.edx[8],
    tsc_deadline: basic.ecx[24],
    apic: basic.edx[9],
    x2apic: basic.ecx[21],
    /// `rep movsb` and `rep stosb` are as fast as they get.
    erms: structured.ebx[9],
    hypervisor: basic.ecx[31],
}

/// One answer of CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// The leaves that name features; zeroes for those that a CPU doesn't have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FeatureLeaves {
    /// 1
    pub basic: Leaf,
    /// 7, subleaf 0
    pub structured: Leaf,
    /// 0xd, subleaf 1
    pub xsave_forms: Leaf,
    /// 0x8000_0001
    pub extended: Leaf,
    /// 0x8000_0007
    pub power: Leaf,
}

/// What a CPU says about itself, for the log and /proc/cpuinfo.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    vendor: [u8; 12],
    brand: [[u8; 16]; 3],
    pub family: u32,
    pub model: u32,
    pub stepping: u32,
    /// Physical and linear address bits.
    pub physical_bits: u8,
    pub virtual_bits: u8,
    /// The unit that CLFLUSH works on.
    pub cache_line_bytes: u32,
    /// CPUID 1's EDX, which programs get as AT_HWCAP.
    pub hardware_capabilities: u32,
    /// The emulator is QEMU's TCG, whose time-stamp counter runs at one rate whatever CPUID says of it.
    pub emulated_by_tcg: bool,
}

impl Identity {
    pub fn vendor(&self) -> &str {
        printable(&self.vendor)
    }

    /// The marketing name; empty where the CPU has none.
    pub fn brand(&self) -> &str {
        printable(self.brand.as_flattened())
    }

    /// Family, model and stepping out of leaf 1's EAX (SDM 2A, figure 3-6).
    fn set_signature(&mut self, eax: u32) {
        let family = eax >> 8 & 0xf;
        self.family = if family == 0xf { family + (eax >> 20 & 0xff) } else { family };
        self.model = eax >> 4 & 0xf;
        if matches!(family, 6 | 0xf) {
            self.model |= (eax >> 16 & 0xf) << 4;
        }
        self.stepping = eax & 0xf;
    }
}

/// The text up to the first NUL, without the blanks that some CPUs pad it with; empty if it isn't ASCII.
fn printable(bytes: &[u8]) -> &str {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.get(..end).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("").trim()
}

#[cfg(target_os = "none")]
pub use hardware::*;

#[cfg(target_os = "none")]
mod hardware {
    use super::*;
    use core::arch::x86_64::__cpuid_count;
    use spin::Once;

    static DETECTED: Once<(Features, Identity, FeatureLeaves)> = Once::new();

    /// Asks the CPU. The first caller pays; `cpu::init` is it.
    fn detected() -> &'static (Features, Identity, FeatureLeaves) {
        DETECTED.call_once(|| {
            let leaves = read_feature_leaves();
            (Features::from_leaves(&leaves), read_identity(&leaves), leaves)
        })
    }

    pub fn features() -> &'static Features {
        &detected().0
    }

    pub fn identity() -> &'static Identity {
        &detected().1
    }

    /// The leaves themselves, for /proc/cpuinfo.
    pub fn leaves() -> &'static FeatureLeaves {
        &detected().2
    }

    /// One leaf; zeroes if it lies beyond the last of its range, where CPUs answer with unrelated values.
    pub fn cpuid(leaf: u32, subleaf: u32) -> Leaf {
        let range_start = leaf & 0xffff_0000;
        let last = __cpuid_count(range_start, 0).eax;
        if leaf > last || last < range_start {
            return Leaf::default();
        }
        let answer = __cpuid_count(leaf, subleaf);
        Leaf { eax: answer.eax, ebx: answer.ebx, ecx: answer.ecx, edx: answer.edx }
    }

    fn read_feature_leaves() -> FeatureLeaves {
        FeatureLeaves {
            basic: cpuid(1, 0),
            structured: cpuid(7, 0),
            xsave_forms: cpuid(0xd, 1),
            extended: cpuid(0x8000_0001, 0),
            power: cpuid(0x8000_0007, 0),
        }
    }

    fn read_identity(leaves: &FeatureLeaves) -> Identity {
        let mut identity = Identity {
            cache_line_bytes: (leaves.basic.ebx >> 8 & 0xff) * 8,
            hardware_capabilities: leaves.basic.edx,
            ..Identity::default()
        };
        let vendor = cpuid(0, 0);
        write_words(&mut identity.vendor, &[vendor.ebx, vendor.edx, vendor.ecx]);
        for (leaf, part) in (0x8000_0002..).zip(&mut identity.brand) {
            let text = cpuid(leaf, 0);
            write_words(part, &[text.eax, text.ebx, text.ecx, text.edx]);
        }
        identity.set_signature(leaves.basic.eax);
        let sizes = cpuid(0x8000_0008, 0).eax;
        identity.physical_bits = if sizes == 0 { 36 } else { sizes as u8 };
        identity.virtual_bits = if sizes == 0 { 48 } else { (sizes >> 8) as u8 };
        if leaves.basic.ecx >> 31 != 0 {
            let hypervisor = cpuid(0x4000_0000, 0);
            let mut signature = [0; 12];
            write_words(&mut signature, &[hypervisor.ebx, hypervisor.ecx, hypervisor.edx]);
            identity.emulated_by_tcg = &signature == b"TCGTCGTCGTCG";
        }
        identity
    }

    fn write_words(bytes: &mut [u8], words: &[u32]) {
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_from_their_leaves() {
        let leaves = FeatureLeaves {
            extended: Leaf { edx: 1 << 20, ..Leaf::default() },
            structured: Leaf { ebx: 1 << 7, ..Leaf::default() },
            ..FeatureLeaves::default()
        };
        let features = Features::from_leaves(&leaves);
        assert_eq!(features, Features { nx: true, smep: true, ..Features::default() });
        assert_eq!(features.to_string(), "nx smep");
    }

    #[test]
    fn signatures_give_family_and_model() {
        let mut identity = Identity::default();
        identity.set_signature(0x0008_06f1); // Sapphire Rapids-like: family 6, model 0x8f
        assert_eq!((identity.family, identity.model, identity.stepping), (6, 0x8f, 1));
        identity.set_signature(0x0000_0f61); // Pentium 4: family 15, model 6
        assert_eq!((identity.family, identity.model, identity.stepping), (15, 6, 1));
        identity.set_signature(0x00a2_0f12); // Zen 3: family 0x19, model 0x21
        assert_eq!((identity.family, identity.model, identity.stepping), (0x19, 0x21, 2));
    }

    #[test]
    fn names_are_cut_at_nul_and_trimmed() {
        assert_eq!(printable(b"   Some CPU \0\0"), "Some CPU");
        assert_eq!(printable(b"AuthenticAMD"), "AuthenticAMD");
        assert_eq!(printable(&[0xff, 0]), "");
    }
}
