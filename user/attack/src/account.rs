//! What the kernel holds, as it says itself: what must be the same before and after an attack.

use std::fmt;

/// What is in use.
#[derive(Clone, Copy, PartialEq)]
pub struct Held {
    /// Memory but for what the kernel's heap has, in bytes.
    pub memory: i64,
    /// Blocks in the kernel's heap, in bytes.
    pub heap: i64,
    pub open_files: i64,
}

impl Held {
    pub const NOTHING: Held = Held { memory: 0, heap: 0, open_files: 0 };

    /// As the kernel counts now. Only root may ask for the heap.
    pub fn now() -> Held {
        let mut heap = 0;
        let mut frames = 0;
        for line in read("/proc/slabinfo").lines().skip(2) {
            let mut numbers = line.split_ascii_whitespace().skip(1).map(number);
            let mut next = || numbers.next().unwrap_or(0);
            let (objects, room, object_bytes, objects_a_frame) = (next(), next(), next(), next());
            heap += objects * object_bytes;
            frames += room / objects_a_frame.max(1);
        }
        let open_files = read("/proc/sys/fs/file-nr").split_ascii_whitespace().next().map_or(0, number);
        Held { memory: -(free_memory() as i64) - frames * 4096, heap, open_files }
    }

    /// What is held more than before.
    pub fn since(self, before: Held) -> Held {
        Held {
            memory: self.memory - before.memory,
            heap: self.heap - before.heap,
            open_files: self.open_files - before.open_files,
        }
    }

    /// Whether there is more of anything.
    pub fn is_more_than(self, allowed: Held) -> bool {
        self.memory > allowed.memory || self.heap > allowed.heap || self.open_files > allowed.open_files
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {} bytes of the heap, {} open files", self.memory, self.heap, self.open_files)
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn number(word: &str) -> i64 {
    word.parse().unwrap_or(0)
}

/// Free memory in bytes, as the kernel counts it.
fn free_memory() -> u64 {
    // SAFETY: sysinfo is plain integers, for which zeros are valid; the kernel fills one.
    unsafe {
        let mut information: libc::sysinfo = std::mem::zeroed();
        libc::sysinfo(&mut information);
        information.freeram * u64::from(information.mem_unit)
    }
}
