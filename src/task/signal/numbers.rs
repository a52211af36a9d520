//! Signals as numbers and as sets (signal(7)).

/// A signal, 1 to 64: its number less one, which is its place in a table and its bit in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signal(u8);

/// A set of signals, as programs give it: bit n is signal n + 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignalSet(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultAction {
    Terminate,
    /// Terminate, and say so in the status. Keel writes no core files.
    Core,
    Ignore,
    Stop,
    Continue,
}

macro_rules! signals {
    ($($name:ident = $number:literal, $action:ident;)*) => {
        impl Signal {
            $(pub const $name: Signal = Signal($number - 1);)*

            /// What happens where a program has set nothing else.
            pub const fn default_action(self) -> DefaultAction {
                match self.number() {
                    $($number => DefaultAction::$action,)*
                    _ => DefaultAction::Terminate,
                }
            }
        }
    };
}

signals! {
    HUP = 1, Terminate;
    INT = 2, Terminate;
    QUIT = 3, Core;
    ILL = 4, Core;
    TRAP = 5, Core;
    ABRT = 6, Core;
    BUS = 7, Core;
    FPE = 8, Core;
    KILL = 9, Terminate;
    USR1 = 10, Terminate;
    SEGV = 11, Core;
    USR2 = 12, Terminate;
    PIPE = 13, Terminate;
    ALRM = 14, Terminate;
    TERM = 15, Terminate;
    STKFLT = 16, Terminate;
    CHLD = 17, Ignore;
    CONT = 18, Continue;
    STOP = 19, Stop;
    TSTP = 20, Stop;
    TTIN = 21, Stop;
    TTOU = 22, Stop;
    URG = 23, Ignore;
    XCPU = 24, Core;
    XFSZ = 25, Core;
    VTALRM = 26, Terminate;
    PROF = 27, Terminate;
    WINCH = 28, Ignore;
    IO = 29, Terminate;
    PWR = 30, Terminate;
    SYS = 31, Core;
}

impl Signal {
    /// None for 0 and for what is past 64.
    pub const fn new(number: u32) -> Option<Self> {
        let index = number.wrapping_sub(1);
        if index < 64 { Some(Self(index as u8)) } else { None }
    }

    pub const fn number(self) -> u8 {
        self.0 + 1
    }

    /// Below 64, as the compiler can see.
    pub const fn index(self) -> usize {
        self.0 as usize % 64
    }

    pub const fn bit(self) -> u64 {
        1 << self.index()
    }

    /// Signals from 32 on are queued each time they are sent; of the others one at a time is pending.
    pub const fn is_real_time(self) -> bool {
        self.number() >= 32
    }
}

impl SignalSet {
    pub const EMPTY: Self = Self(0);
    /// These can be neither blocked nor handled.
    pub const UNBLOCKABLE: Self = Self(Signal::KILL.bit() | Signal::STOP.bit());

    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub const fn bits(self) -> u64 {
        self.0
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & signal.bit() != 0
    }

    pub const fn with(self, signal: Signal) -> Self {
        Self(self.0 | signal.bit())
    }

    pub const fn without(self, signal: Signal) -> Self {
        Self(self.0 & !signal.bit())
    }

    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The lowest-numbered one.
    pub const fn first(self) -> Option<Signal> {
        if self.0 == 0 { None } else { Some(Signal(self.0.trailing_zeros() as u8)) }
    }
}
