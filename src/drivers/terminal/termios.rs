//! A terminal's settings, as programs see them: termios(3), ioctl_tty(2), in Linux's numbers for x86-64.

#![expect(clippy::indexing_slicing, reason = "a control character's name is its place in the table")]

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

bitflags! {
    /// How received bytes are treated.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InputFlags: u32 {
        const IGNBRK = 0o1;
        const BRKINT = 0o2;
        const IGNPAR = 0o4;
        /// A received 0xff is doubled, so that marks of broken bytes can be told from it.
        const PARMRK = 0o10;
        const INPCK = 0o20;
        const ISTRIP = 0o40;
        const INLCR = 0o100;
        const IGNCR = 0o200;
        const ICRNL = 0o400;
        const IUCLC = 0o1000;
        const IXON = 0o2000;
        const IXANY = 0o4000;
        const IXOFF = 0o10000;
        const IMAXBEL = 0o20000;
        /// Erasing takes whole UTF-8 characters.
        const IUTF8 = 0o40000;
        const _ = !0;
    }

    /// How written bytes are treated.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct OutputFlags: u32 {
        /// Without it none of the others means anything.
        const OPOST = 0o1;
        const OLCUC = 0o2;
        const ONLCR = 0o4;
        const OCRNL = 0o10;
        const ONOCR = 0o20;
        const ONLRET = 0o40;
        /// Both of TABDLY's bits: tabs become spaces.
        const XTABS = 0o14000;
        const _ = !0;
    }

    /// The line's own: speed and framing.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ControlFlags: u32 {
        const B38400 = 0o17;
        const B115200 = 0o10002;
        const CS8 = 0o60;
        const CREAD = 0o200;
        const HUPCL = 0o2000;
        const CLOCAL = 0o4000;
        const _ = !0;
    }

    /// Lines, echo and signals.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct LocalFlags: u32 {
        const ISIG = 0o1;
        const ICANON = 0o2;
        const ECHO = 0o10;
        const ECHOE = 0o20;
        const ECHOK = 0o40;
        const ECHONL = 0o100;
        const NOFLSH = 0o200;
        const TOSTOP = 0o400;
        const ECHOCTL = 0o1000;
        const ECHOPRT = 0o2000;
        const ECHOKE = 0o4000;
        const IEXTEN = 0o100000;
        const _ = !0;
    }
}

/// Places in [`Termios::control_characters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum ControlCharacter {
    Interrupt = 0,
    Quit = 1,
    Erase = 2,
    Kill = 3,
    EndOfFile = 4,
    /// VTIME: tenths of a second.
    Time = 5,
    /// VMIN: bytes.
    Minimum = 6,
    Start = 8,
    Stop = 9,
    Suspend = 10,
    EndOfLine = 11,
    Reprint = 12,
    WordErase = 14,
    LiteralNext = 15,
    SecondEndOfLine = 16,
}

pub const CONTROL_CHARACTERS: usize = 19;

/// A control character of this value is switched off.
pub const DISABLED: u8 = 0;

/// `struct termios` of TCGETS and TCSETS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Termios {
    input: u32,
    output: u32,
    control: u32,
    local: u32,
    line: u8,
    pub control_characters: [u8; CONTROL_CHARACTERS],
}

const _: () = assert!(size_of::<Termios>() == 36);

/// `struct termios2` of TCGETS2 and TCSETS2: the speeds as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Termios2 {
    pub termios: Termios,
    pub input_speed: u32,
    pub output_speed: u32,
}

const _: () = assert!(size_of::<Termios2>() == 44);

/// `struct winsize` of TIOCGWINSZ and TIOCSWINSZ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
    pub width_pixels: u16,
    pub height_pixels: u16,
}

impl Termios {
    /// What a terminal starts with: Linux's tty_std_termios, and UTF-8 as all our terminals speak it.
    pub const INITIAL: Self = Self {
        input: InputFlags::ICRNL.union(InputFlags::IXON).union(InputFlags::IUTF8).bits(),
        output: OutputFlags::OPOST.union(OutputFlags::ONLCR).bits(),
        control: ControlFlags::B115200
            .union(ControlFlags::CS8)
            .union(ControlFlags::CREAD)
            .union(ControlFlags::HUPCL)
            .union(ControlFlags::CLOCAL)
            .bits(),
        local: LocalFlags::ISIG
            .union(LocalFlags::ICANON)
            .union(LocalFlags::ECHO)
            .union(LocalFlags::ECHOE)
            .union(LocalFlags::ECHOK)
            .union(LocalFlags::ECHOCTL)
            .union(LocalFlags::ECHOKE)
            .union(LocalFlags::IEXTEN)
            .bits(),
        line: 0,
        // In the order of ControlCharacter; 7 (VSWTC) and 13 (VDISCARD) have no effect in Linux either.
        control_characters: *b"\x03\x1c\x7f\x15\x04\0\x01\0\x11\x13\x1a\0\x12\x0f\x17\x16\0\0\0",
    };

    pub const fn input(&self) -> InputFlags {
        InputFlags::from_bits_retain(self.input)
    }

    pub const fn output(&self) -> OutputFlags {
        OutputFlags::from_bits_retain(self.output)
    }

    pub const fn control(&self) -> ControlFlags {
        ControlFlags::from_bits_retain(self.control)
    }

    pub const fn local(&self) -> LocalFlags {
        LocalFlags::from_bits_retain(self.local)
    }

    pub fn set_input(&mut self, flags: InputFlags) {
        self.input = flags.bits();
    }

    pub fn set_output(&mut self, flags: OutputFlags) {
        self.output = flags.bits();
    }

    pub fn set_local(&mut self, flags: LocalFlags) {
        self.local = flags.bits();
    }

    /// Bits per second, out of CBAUD (asm-generic/termbits.h).
    pub fn speed(&self) -> u32 {
        const SLOW: [u32; 16] = [0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400];
        const FAST: [u32; 6] = [0, 57_600, 115_200, 230_400, 460_800, 500_000];
        let index = (self.control & 0o17) as usize;
        let table = if self.control & 0o10000 != 0 { &FAST[..] } else { &SLOW[..] };
        table.get(index).copied().unwrap_or(0)
    }

    /// One of the control characters.
    pub fn character(&self, which: ControlCharacter) -> u8 {
        self.control_characters[which as usize]
    }

    /// Whether a byte is that control character, and the character is switched on.
    pub fn is(&self, byte: u8, which: ControlCharacter) -> bool {
        byte != DISABLED && byte == self.character(which)
    }
}
