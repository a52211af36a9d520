//! Makes ELF files for the cases, right ones and wrong ones. The right one ends with status 42.

/// `mov edi, 42; mov eax, 60; syscall`
pub const EXIT_42: [u8; 12] = [0xbf, 42, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];

pub const PT_LOAD: u32 = 1;
pub const PT_INTERP: u32 = 3;
pub const PT_GNU_STACK: u32 = 0x6474_e551;

pub const R: u32 = 4;
pub const W: u32 = 2;
pub const X: u32 = 1;

/// A program header (ELF-64 Object File Format, §6).
#[derive(Clone)]
pub struct Segment {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub file_size: u64,
    pub memory_size: u64,
    pub alignment: u64,
}

/// A file to be made. Each field may be set to nonsense.
#[derive(Clone)]
pub struct Elf {
    pub magic: [u8; 4],
    pub class: u8,
    pub data: u8,
    pub kind: u16,
    pub machine: u16,
    pub version: u32,
    pub entry: u64,
    pub header_offset: u64,
    pub header_size: u16,
    pub header_count: u16,
    pub segments: Vec<Segment>,
    pub code: Vec<u8>,
    /// Where the code stands in the file.
    pub code_offset: usize,
}

const BASE: u64 = 0x40_0000;
const CODE_OFFSET: usize = 0x200;

impl Elf {
    /// A static program of one segment, which holds headers and code.
    pub fn right() -> Elf {
        let size = (CODE_OFFSET + EXIT_42.len()) as u64;
        Elf {
            magic: *b"\x7fELF",
            class: 2,
            data: 1,
            kind: 2,
            machine: 62,
            version: 1,
            entry: BASE + CODE_OFFSET as u64,
            header_offset: 64,
            header_size: 56,
            header_count: 1,
            segments: vec![Segment {
                kind: PT_LOAD,
                flags: R | X,
                offset: 0,
                address: BASE,
                file_size: size,
                memory_size: size,
                alignment: 0x1000,
            }],
            code: EXIT_42.to_vec(),
            code_offset: CODE_OFFSET,
        }
    }

    /// The right file with a change.
    pub fn with(change: impl FnOnce(&mut Elf)) -> Elf {
        let mut elf = Elf::right();
        change(&mut elf);
        elf
    }

    pub fn add(&mut self, segment: Segment) {
        self.segments.push(segment);
        self.header_count = self.segments.len() as u16;
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.magic);
        bytes.extend([self.class, self.data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.machine.to_le_bytes());
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.entry.to_le_bytes());
        bytes.extend(self.header_offset.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes()); // no section headers
        bytes.extend(0_u32.to_le_bytes()); // e_flags
        bytes.extend(64_u16.to_le_bytes());
        bytes.extend(self.header_size.to_le_bytes());
        bytes.extend(self.header_count.to_le_bytes());
        bytes.extend([0; 6]);
        for segment in &self.segments {
            bytes.extend(segment.kind.to_le_bytes());
            bytes.extend(segment.flags.to_le_bytes());
            for field in [
                segment.offset,
                segment.address,
                segment.address,
                segment.file_size,
                segment.memory_size,
                segment.alignment,
            ] {
                bytes.extend(field.to_le_bytes());
            }
        }
        if bytes.len() < self.code_offset {
            bytes.resize(self.code_offset, 0);
        }
        bytes.extend(&self.code);
        bytes
    }
}
