//! The 32 exceptions: what each is called, and who resolves it.
//!
//! From user mode a page fault goes to src/memory, everything else to the thread that caused it. From kernel mode there are
//! two honest cases: user memory that turned out not to be there (src/memory/user_access.rs recovers), and a breakpoint's
//! leftovers. All else is a bug in the kernel, and a panic.

use core::fmt;

/// The CPU's exceptions, by their vectors (SDM 3A, table 6-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exception {
    DivideError = 0,
    Debug = 1,
    NonMaskableInterrupt = 2,
    Breakpoint = 3,
    Overflow = 4,
    BoundRange = 5,
    InvalidOpcode = 6,
    DeviceNotAvailable = 7,
    DoubleFault = 8,
    CoprocessorSegment = 9,
    InvalidTss = 10,
    SegmentNotPresent = 11,
    StackSegment = 12,
    GeneralProtection = 13,
    PageFault = 14,
    Reserved15 = 15,
    FloatingPoint = 16,
    AlignmentCheck = 17,
    MachineCheck = 18,
    SimdFloatingPoint = 19,
    Virtualization = 20,
    ControlProtection = 21,
    Reserved22 = 22,
    Reserved23 = 23,
    Reserved24 = 24,
    Reserved25 = 25,
    Reserved26 = 26,
    Reserved27 = 27,
    HypervisorInjection = 28,
    VmmCommunication = 29,
    Security = 30,
    Reserved31 = 31,
}

impl Exception {
    const ALL: [Self; 32] = {
        use Exception::*;
        [
            DivideError,
            Debug,
            NonMaskableInterrupt,
            Breakpoint,
            Overflow,
            BoundRange,
            InvalidOpcode,
            DeviceNotAvailable,
            DoubleFault,
            CoprocessorSegment,
            InvalidTss,
            SegmentNotPresent,
            StackSegment,
            GeneralProtection,
            PageFault,
            Reserved15,
            FloatingPoint,
            AlignmentCheck,
            MachineCheck,
            SimdFloatingPoint,
            Virtualization,
            ControlProtection,
            Reserved22,
            Reserved23,
            Reserved24,
            Reserved25,
            Reserved26,
            Reserved27,
            HypervisorInjection,
            VmmCommunication,
            Security,
            Reserved31,
        ]
    };

    /// The exception that has this vector; `None` for an interrupt's.
    pub fn from_vector(vector: u64) -> Option<Self> {
        usize::try_from(vector).ok().and_then(|vector| Self::ALL.get(vector)).copied()
    }

    /// What happened, as a panic screen says it.
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::DivideError => "a division by zero, or one whose result is too large",
            Self::Debug => "a debug exception",
            Self::NonMaskableInterrupt => {
                "a non-maskable interrupt: the hardware reports a fault, or someone pressed NMI"
            }
            Self::Breakpoint => "a breakpoint (int3)",
            Self::Overflow => "an overflow (into)",
            Self::BoundRange => "an index out of bounds (bound)",
            Self::InvalidOpcode => "an invalid instruction",
            Self::DeviceNotAvailable => "a floating-point instruction while the FPU is off",
            Self::DoubleFault => "a double fault: an exception could not be delivered",
            Self::CoprocessorSegment => "a coprocessor segment overrun",
            Self::InvalidTss => "an invalid task state segment",
            Self::SegmentNotPresent => "a segment that is not present",
            Self::StackSegment => "a stack-segment fault (a non-canonical address through RSP or RBP)",
            Self::GeneralProtection => "a general protection fault",
            Self::PageFault => "a page fault",
            Self::FloatingPoint => "an x87 floating-point error",
            Self::AlignmentCheck => "an unaligned access while alignment is checked",
            Self::MachineCheck => "a machine check: the hardware reports an error of its own",
            Self::SimdFloatingPoint => "a SIMD floating-point error",
            Self::Virtualization => "a virtualization exception",
            Self::ControlProtection => "a control protection exception",
            Self::HypervisorInjection => "a hypervisor injection exception",
            Self::VmmCommunication => "a VMM communication exception",
            Self::Security => "a security exception",
            _ => "an exception that no CPU defines",
        }
    }

    /// How an error code of this exception reads; `None` if it carries none that says anything.
    pub fn describe_error_code(self, error_code: u64) -> Option<ErrorCode> {
        match self {
            Self::PageFault => Some(ErrorCode::PageFault(error_code)),
            Self::InvalidTss | Self::SegmentNotPresent | Self::StackSegment | Self::GeneralProtection => {
                Some(ErrorCode::Selector(error_code))
            }
            _ => None,
        }
    }
}

/// The bits of a page fault's error code (SDM 3A §4.7).
pub mod page_fault {
    pub const PRESENT: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    pub const RESERVED_BIT: u64 = 1 << 3;
    pub const INSTRUCTION_FETCH: u64 = 1 << 4;
    pub const PROTECTION_KEY: u64 = 1 << 5;
    pub const SHADOW_STACK: u64 = 1 << 6;
}

/// An error code, to be shown in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    PageFault(u64),
    Selector(u64),
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match *self {
            Self::PageFault(code) => write_page_fault(formatter, code),
            Self::Selector(code) => write_selector(formatter, code),
        }
    }
}

fn write_page_fault(formatter: &mut fmt::Formatter, code: u64) -> fmt::Result {
    use page_fault::*;
    let mode = if code & USER != 0 { "user" } else { "kernel" };
    let access = match code {
        _ if code & INSTRUCTION_FETCH != 0 => "ran code in",
        _ if code & WRITE != 0 => "wrote to",
        _ => "read from",
    };
    let page = match code {
        _ if code & RESERVED_BIT != 0 => "a page whose table entry has reserved bits set",
        _ if code & PRESENT == 0 => "a page that is not present",
        _ if code & PROTECTION_KEY != 0 => "a page that its protection key forbids",
        _ if code & SHADOW_STACK != 0 => "a shadow-stack page, wrongly",
        _ => "a page that is present but forbids it",
    };
    write!(formatter, "{mode} mode {access} {page}")
}

/// SDM 3A §6.13: which descriptor an exception is about.
fn write_selector(formatter: &mut fmt::Formatter, code: u64) -> fmt::Result {
    if code == 0 {
        return write!(formatter, "no segment is to blame");
    }
    let table = match code >> 1 & 3 {
        0 => "GDT",
        2 => "LDT",
        _ => "IDT",
    };
    write!(formatter, "entry {} of the {table}", code >> 3 & 0x1fff)?;
    if code & 1 != 0 { write!(formatter, ", from outside the program") } else { Ok(()) }
}

#[cfg(target_os = "none")]
pub use handling::handle;

#[cfg(target_os = "none")]
mod handling {
    use super::Exception;
    use crate::cpu::per_cpu;
    use crate::interrupts::InterruptFrame;
    use crate::memory::faults;
    use crate::task::user_exception;
    use crate::{panic, trace};
    use x86_64::registers::control::Cr2;

    /// Called for vectors below 32, with interrupts off. Returns when the interrupted code may go on: a program with a
    /// signal pending, if the exception was its own doing.
    pub fn handle(frame: &mut InterruptFrame) {
        // CR2 is read before anything can fault again.
        let fault_address = Cr2::read_raw();
        let Some(exception) = Exception::from_vector(frame.vector) else { return };
        #[cfg(feature = "kernel-tests")]
        if crate::kernel_tests::probe::recover(frame) {
            return;
        }
        match exception {
            Exception::PageFault => page_fault(frame, fault_address),
            Exception::DoubleFault | Exception::MachineCheck | Exception::NonMaskableInterrupt => {
                panic::exception(exception, frame, fault_address)
            }
            _ if frame.from_user() => user_exception::handle(frame, exception),
            Exception::Debug => forget_debug_events(),
            _ => panic::exception(exception, frame, fault_address),
        }
    }

    fn page_fault(frame: &mut InterruptFrame, fault_address: u64) {
        trace::record(trace::Kind::Fault, fault_address, frame.error_code);
        // Before the first thread there is nobody whose fault it could be.
        if per_cpu::current_thread().is_null() || !faults::handle(fault_address, frame) {
            panic::exception(Exception::PageFault, frame, fault_address)
        }
    }

    /// A program can arrange for a debug exception to be pending at its `syscall` or `int`, which then arrives on the
    /// kernel's first instruction. It tells the kernel nothing; DR6 is put back to its value after reset (SDM 3B §17.2.3).
    fn forget_debug_events() {
        const NOTHING_HAPPENED: u64 = 0xffff_0ff0;
        // SAFETY: DR6 only reports; nothing depends on it.
        unsafe { core::arch::asm!("mov dr6, {}", in(reg) NOTHING_HAPPENED, options(nomem, nostack, preserves_flags)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_and_exceptions_agree() {
        for vector in 0..32 {
            assert_eq!(Exception::from_vector(vector).map(|exception| exception as u64), Some(vector));
        }
        assert_eq!(Exception::from_vector(32), None);
        assert_eq!(Exception::from_vector(u64::MAX), None);
    }

    fn words(exception: Exception, code: u64) -> Option<String> {
        exception.describe_error_code(code).map(|code| code.to_string())
    }

    #[test]
    fn page_faults_are_told_in_words() {
        let told = |code| words(Exception::PageFault, code).unwrap();
        assert_eq!(told(0), "kernel mode read from a page that is not present");
        assert_eq!(told(0b111), "user mode wrote to a page that is present but forbids it");
        assert_eq!(told(0b1_0101), "user mode ran code in a page that is present but forbids it");
        assert_eq!(told(0b1001), "kernel mode read from a page whose table entry has reserved bits set");
    }

    #[test]
    fn selectors_are_told_in_words() {
        let told = |code| words(Exception::GeneralProtection, code).unwrap();
        assert_eq!(told(0), "no segment is to blame");
        assert_eq!(told(0x28), "entry 5 of the GDT");
        assert_eq!(told(0x80 * 8 + 2), "entry 128 of the IDT");
        assert_eq!(told(0x1d), "entry 3 of the LDT, from outside the program");
        assert_eq!(words(Exception::InvalidOpcode, 0), None);
    }
}
