//! What comes with a signal: why it was sent and by whom (sigaction(2), siginfo_t).

use super::numbers::Signal;

/// Linux's size of siginfo_t.
pub const INFO_BYTES: usize = 128;

/// si_code: how the signal came about. Those that mean a kernel-made signal are positive.
pub mod code {
    pub const USER: i32 = 0;
    pub const KERNEL: i32 = 0x80;
    pub const QUEUE: i32 = -1;
    pub const TKILL: i32 = -6;

    pub const CHILD_EXITED: i32 = 1;
    pub const CHILD_KILLED: i32 = 2;
    pub const CHILD_DUMPED: i32 = 3;
    pub const CHILD_STOPPED: i32 = 5;
    pub const CHILD_CONTINUED: i32 = 6;

    pub const SEGV_MAPERR: i32 = 1;
    pub const SEGV_ACCERR: i32 = 2;
    pub const BUS_ADRALN: i32 = 1;
    pub const BUS_ADRERR: i32 = 2;
    pub const FPE_INTDIV: i32 = 1;
    pub const FPE_FLTDIV: i32 = 3;
    pub const FPE_FLTOVF: i32 = 4;
    pub const FPE_FLTUND: i32 = 5;
    pub const FPE_FLTRES: i32 = 6;
    pub const FPE_FLTINV: i32 = 7;
    pub const ILL_ILLOPN: i32 = 2;
    pub const TRAP_TRACE: i32 = 2;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    pub signal: Signal,
    pub code: i32,
    pub origin: Origin,
}

/// The part of siginfo_t that depends on where the signal comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Kernel,
    Process {
        pid: u32,
        uid: u32,
    },
    /// sigqueue, with the value that it passes.
    Queued {
        pid: u32,
        uid: u32,
        value: u64,
    },
    Child {
        pid: u32,
        uid: u32,
        status: i32,
        user_ticks: i64,
        system_ticks: i64,
    },
    Fault {
        address: u64,
    },
}

impl Info {
    pub const fn from_kernel(signal: Signal) -> Self {
        Self { signal, code: code::KERNEL, origin: Origin::Kernel }
    }

    pub const fn fault(signal: Signal, code: i32, address: u64) -> Self {
        Self { signal, code, origin: Origin::Fault { address } }
    }

    /// As programs see it: siginfo_t, in words of 4 bytes. What isn't used is zero.
    pub fn to_words(self) -> [u32; INFO_BYTES / 4] {
        let mut words = [0; INFO_BYTES / 4];
        words[0] = self.signal.number().into();
        words[2] = self.code as u32;
        let [_, _, _, _, fields @ ..] = &mut words;
        match self.origin {
            Origin::Kernel => {}
            Origin::Process { pid, uid } => (fields[0], fields[1]) = (pid, uid),
            Origin::Queued { pid, uid, value } => {
                (fields[0], fields[1]) = (pid, uid);
                (fields[2], fields[3]) = halves(value);
            }
            Origin::Child { pid, uid, status, user_ticks, system_ticks } => {
                (fields[0], fields[1], fields[2]) = (pid, uid, status as u32);
                (fields[4], fields[5]) = halves(user_ticks as u64);
                (fields[6], fields[7]) = halves(system_ticks as u64);
            }
            Origin::Fault { address } => (fields[0], fields[1]) = halves(address),
        }
        words
    }

    /// What a program passes to rt_sigqueueinfo: it may claim any negative code.
    pub fn from_words(signal: Signal, words: &[u32; INFO_BYTES / 4]) -> Self {
        let value = u64::from(words[6]) | u64::from(words[7]) << 32;
        Self { signal, code: words[2] as i32, origin: Origin::Queued { pid: words[4], uid: words[5], value } }
    }
}

const fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_carries_its_address_at_offset_16() {
        let words = Info::fault(Signal::SEGV, code::SEGV_MAPERR, 0x1234_5678_9abc).to_words();
        assert_eq!(words[..6], [11, 0, 1, 0, 0x5678_9abc, 0x1234]);
    }

    #[test]
    fn a_queued_value_survives_the_way_in_and_out() {
        let info = Info {
            signal: Signal::USR1,
            code: code::QUEUE,
            origin: Origin::Queued { pid: 7, uid: 8, value: 0xdead_beef_0bad_cafe },
        };
        assert_eq!(Info::from_words(Signal::USR1, &info.to_words()), info);
    }
}
