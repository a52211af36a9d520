//! The terminals as device files, and the thread that takes typed bytes to them.
//!
//! Interrupt handlers only queue bytes. A kernel thread puts them through the line discipline, so that echo and signals
//! come at once, whether a program reads or not. The terminal's lock is held for that, and never across a wait.

use super::job_control::{self, Access, Controlled};
use super::line_discipline::{LineDiscipline, Progress, Read, Sink, TerminalSignal};
use super::termios::WindowSize;
use crate::drivers::{console, keyboard, serial};
use crate::errno::Errno;
use crate::fs::device::{self, Device, DeviceNumber, Opened, Request};
use crate::fs::open_flags::OpenFlags;
use crate::fs::transfer;
use crate::fs::waiting::{Events, PollTable, WaitQueue, wait_restartably};
use crate::interrupts::clock;
use crate::lock::{Guard, Lock, Rank};
use crate::task::signal::{self, Signal};
use crate::task::wait_queue::Limits;
use crate::task::yield_point::yield_point;
use crate::task::{current, init, kernel_thread};
use alloc::vec::Vec;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

const TERMINAL_MAJOR: u32 = 4;
const AUXILIARY_MAJOR: u32 = 5;
/// The screen that is in front, of which there is but one.
const FOREGROUND_SCREEN: DeviceNumber = DeviceNumber::new(TERMINAL_MAJOR, 0);
const SCREEN: DeviceNumber = DeviceNumber::new(TERMINAL_MAJOR, 1);
const SERIAL: DeviceNumber = DeviceNumber::new(TERMINAL_MAJOR, 64);
/// /dev/tty: the caller's controlling terminal, whichever that is.
const CONTROLLING: DeviceNumber = DeviceNumber::new(AUXILIARY_MAJOR, 0);
const CONSOLE: DeviceNumber = DeviceNumber::new(AUXILIARY_MAJOR, 1);

/// Written text is taken out of the program's memory in pieces of this size.
const WRITE_BYTES: usize = 512;
/// A read that asks for no more finds its place on the stack.
const SMALL_READ_BYTES: usize = 256;
/// No read returns more: it is what a line discipline holds.
const LARGEST_READ_BYTES: usize = 4096;
/// How many typed bytes are processed under one hold of the lock.
const INPUT_BATCH: usize = 64;
const NS_PER_TENTH: u64 = 100_000_000;

/// A serial line doesn't tell its size: what terminals have been since the VT100.
const SERIAL_SIZE: WindowSize = WindowSize { rows: 24, columns: 80, width_pixels: 0, height_pixels: 0 };

pub(super) struct Tty {
    which: console::Terminal,
    state: Lock<State>,
    pub(super) controlled: Controlled,
    /// Counts the hang-ups: files that were opened before the last one are of no use any more.
    era: AtomicU32,
    /// Woken when there is something to read.
    readable: WaitQueue,
    /// Woken when stopped output may go on.
    writable: WaitQueue,
}

pub(super) struct State {
    pub discipline: LineDiscipline,
    pub window: WindowSize,
    /// Typed bytes wait in the console's queue until a read makes room.
    starved: bool,
}

static SCREEN_TTY: Tty = Tty::new(console::Terminal::Screen);
static SERIAL_TTY: Tty = Tty::new(console::Terminal::Serial);

pub(super) static TTYS: [&Tty; 2] = [&SCREEN_TTY, &SERIAL_TTY];

/// Where the input thread waits.
static TYPED: WaitQueue = WaitQueue::new();
/// Ctrl-Alt-Del was pressed.
static RESTART_ASKED: AtomicBool = AtomicBool::new(false);

/// Makes the terminals' files work, but for what is typed.
pub fn initialise() -> Result<(), Errno> {
    SCREEN_TTY.lock().window = console::size(console::Terminal::Screen).map_or(SERIAL_SIZE, |(columns, rows)| {
        WindowSize { rows: rows as u16, columns: columns as u16, ..WindowSize::default() }
    });
    device::register(TERMINAL_MAJOR, FOREGROUND_SCREEN.minor()..SCREEN.minor() + 1, &Terminals)?;
    if serial::is_present() {
        device::register(TERMINAL_MAJOR, SERIAL.minor()..SERIAL.minor() + 1, &Terminals)?;
    }
    device::register(AUXILIARY_MAJOR, CONTROLLING.minor()..CONSOLE.minor() + 1, &Terminals)
}

/// Starts the thread that processes what is typed. After the first process, which must be the first to get an id.
pub fn serve_typing() -> Result<(), Errno> {
    kernel_thread::spawn("terminals", process_typing, 0)?;
    console::set_input_hook(|_| TYPED.wake_all());
    keyboard::set_restart_hook(|| {
        RESTART_ASKED.store(true, Relaxed);
        TYPED.wake_all();
    });
    Ok(())
}

extern "C" fn process_typing(_: usize) {
    loop {
        let typed = || (RESTART_ASKED.load(Relaxed) || TTYS.iter().any(|tty| tty.can_take_input())).then_some(());
        // A wait without limits ends by its event only.
        let _ = TYPED.wait_until(Limits::NONE, typed);
        TTYS.iter().for_each(|tty| tty.take_input());
        if RESTART_ASKED.swap(false, Relaxed) {
            init::restart_asked();
        }
    }
}

/// Where a terminal's bytes go, and the signals that typing raised, to be sent when its lock is released.
pub(super) struct Output {
    destination: Destination,
    pub signals: ArrayVec<TerminalSignal, INPUT_BATCH>,
}

enum Destination {
    One(console::Terminal),
    /// /dev/console: wherever the kernel's own text goes too.
    All,
}

impl Sink for Output {
    fn output(&mut self, bytes: &[u8]) {
        match self.destination {
            Destination::One(terminal) => console::write(terminal, bytes),
            Destination::All => console::selected().for_each(|terminal| console::write(terminal, bytes)),
        }
    }

    fn signal(&mut self, signal: TerminalSignal) {
        // One byte raises at most one.
        let _ = self.signals.try_push(signal);
    }
}

impl Tty {
    const fn new(which: console::Terminal) -> Self {
        let state = State { discipline: LineDiscipline::new(), window: SERIAL_SIZE, starved: false };
        Self {
            which,
            state: Lock::new(Rank::Terminal, state),
            controlled: Controlled::new(),
            era: AtomicU32::new(0),
            readable: WaitQueue::new(),
            writable: WaitQueue::new(),
        }
    }

    pub fn lock(&self) -> Guard<'_, State> {
        self.state.lock()
    }

    pub fn output(&self) -> Output {
        Output { destination: Destination::One(self.which), signals: ArrayVec::new() }
    }

    /// Its number, for TIOCGDEV.
    pub fn number(&self) -> DeviceNumber {
        match self.which {
            console::Terminal::Screen => SCREEN,
            console::Terminal::Serial => SERIAL,
        }
    }

    /// After a hang-up: the terminal is as it was in the beginning, and whoever waits learns that his file is dead.
    pub fn begin_era(&self) {
        self.era.fetch_add(1, Relaxed);
        self.lock().discipline.reset();
        self.wake_all();
    }

    fn can_take_input(&self) -> bool {
        console::has_input(self.which) && self.lock().discipline.has_room()
    }

    fn take_input(&self) {
        loop {
            let mut output = self.output();
            let mut state = self.lock();
            let mut taken = 0;
            while taken < INPUT_BATCH && state.discipline.has_room() {
                let mut byte = [0];
                if console::take_input(self.which, &mut byte) == 0 {
                    break;
                }
                state.discipline.receive(byte[0], &mut output);
                taken += 1;
            }
            state.starved = !state.discipline.has_room();
            let (readable, writable) = (state.discipline.has_input(), !state.discipline.is_stopped());
            drop(state);
            for signal in output.signals {
                self.controlled.signal_foreground(match signal {
                    TerminalSignal::Interrupt => Signal::INT,
                    TerminalSignal::Quit => Signal::QUIT,
                    TerminalSignal::Suspend => Signal::TSTP,
                });
            }
            if readable {
                self.readable.wake_all();
            }
            if writable {
                self.writable.wake_all();
            }
            if taken < INPUT_BATCH {
                return;
            }
        }
    }

    /// After the settings or the flow of output were changed: whoever waits looks again.
    pub fn wake_all(&self) {
        self.readable.wake_all();
        self.writable.wake_all();
        TYPED.wake_all();
    }

    /// Puts a byte where typed ones arrive (TIOCSTI).
    pub fn simulate_typing(&self, byte: u8) {
        console::receive(self.which, byte);
    }

    /// Fills the buffer as far as the settings say; no further than where the line is found hung up, which is the end.
    fn read_into(&self, buffer: &mut [u8], opened: Opened, nonblocking: bool) -> Result<usize, Errno> {
        let mut read = Read::default();
        loop {
            let (progress, was_starved) = {
                let mut state = self.lock();
                (state.discipline.read(&mut read, buffer), core::mem::take(&mut state.starved))
            };
            if was_starved {
                TYPED.wake_all();
            }
            let Progress::Wait { tenths } = progress else { return Ok(read.count) };
            if nonblocking {
                return if read.count > 0 { Ok(read.count) } else { Err(Errno::EAGAIN) };
            }
            let deadline_ns = tenths.map(|tenths| clock::now_ns() + u64::from(tenths) * NS_PER_TENTH);
            let arrived = || (self.is_hung_up(opened) || self.lock().discipline.has_input()).then_some(());
            match self.readable.wait_until(Limits::until(deadline_ns), arrived) {
                Ok(()) if self.is_hung_up(opened) => return Ok(read.count),
                Ok(()) => {}
                Err(Errno::ETIMEDOUT) => return Ok(read.count),
                Err(_) if read.count > 0 => return Ok(read.count),
                Err(_) => return Err(Errno::ERESTARTSYS),
            }
        }
    }

    /// Writes all of `bytes`, or none where that takes a wait that `nonblocking`, a signal or a hang-up forbids.
    fn write_all(&self, mut bytes: &[u8], output: &mut Output, opened: Opened, nonblocking: bool) -> Result<(), Errno> {
        loop {
            let written = self.lock().discipline.write(bytes, output);
            bytes = bytes.get(written..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            if nonblocking {
                return Err(Errno::EAGAIN);
            }
            let may_go_on = || (self.is_hung_up(opened) || !self.lock().discipline.is_stopped()).then_some(());
            wait_restartably(&self.writable, may_go_on)?;
            if self.is_hung_up(opened) {
                return Err(Errno::EIO);
            }
        }
    }

    /// Whether the line was hung up since that file was opened. Never for /dev/console, which is the kernel's own.
    fn is_hung_up(&self, opened: Opened) -> bool {
        opened.number != CONSOLE && opened.era != self.era.load(Relaxed)
    }
}

/// The driver of all terminals' files.
struct Terminals;

/// The terminal behind a device's number. ENXIO for /dev/tty where the caller has none.
fn find(number: DeviceNumber) -> Result<&'static Tty, Errno> {
    match number {
        SCREEN | FOREGROUND_SCREEN => Ok(&SCREEN_TTY),
        SERIAL => Ok(&SERIAL_TTY),
        CONTROLLING => job_control::controlling_terminal(),
        CONSOLE => Ok(match console::primary() {
            console::Terminal::Screen => &SCREEN_TTY,
            console::Terminal::Serial => &SERIAL_TTY,
        }),
        _ => Err(Errno::ENXIO),
    }
}

impl Device for Terminals {
    fn open(&self, number: DeviceNumber, flags: OpenFlags) -> Result<Opened, Errno> {
        let tty = find(number)?;
        let takes_control = number == SCREEN || number == SERIAL;
        if takes_control && !flags.contains(OpenFlags::NO_CONTROLLING_TERMINAL) && flags.is_readable() {
            job_control::acquire_by_open(tty);
        }
        let number = if number == CONSOLE { CONSOLE } else { tty.number() };
        Ok(Opened { number, era: tty.era.load(Relaxed) })
    }

    fn read(&self, opened: Opened, request: Request, sink: &mut dyn transfer::Sink) -> Result<usize, Errno> {
        let tty = find(opened.number)?;
        if tty.is_hung_up(opened) {
            return Ok(0);
        }
        if opened.number != CONSOLE {
            job_control::check(tty, Access::Read)?;
        }
        let size = sink.remaining().min(LARGEST_READ_BYTES);
        let (mut small, mut large) = ([0; SMALL_READ_BYTES], Vec::new());
        let buffer = match small.get_mut(..size) {
            Some(buffer) => buffer,
            None => {
                large.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
                large.resize(size, 0);
                &mut large[..]
            }
        };
        let count = tty.read_into(buffer, opened, request.nonblocking)?;
        sink.put(buffer.get(..count).unwrap_or_default())
    }

    fn write(&self, opened: Opened, request: Request, source: &mut dyn transfer::Source) -> Result<usize, Errno> {
        let tty = find(opened.number)?;
        if tty.is_hung_up(opened) {
            return Err(Errno::EIO);
        }
        let mut output = tty.output();
        if opened.number == CONSOLE {
            output.destination = Destination::All;
        } else {
            job_control::check(tty, Access::Write)?;
        }
        let mut done = 0;
        while source.remaining() > 0 {
            let mut chunk = [0; WRITE_BYTES];
            let written = source.take(&mut chunk).and_then(|count| {
                tty.write_all(chunk.get(..count).unwrap_or_default(), &mut output, opened, request.nonblocking)?;
                Ok(count)
            });
            match written {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
            // Others may run between the pieces of a long write, and a signal cuts it short.
            if source.remaining() > 0 && (yield_point() || signal::wakes(&current())) {
                break;
            }
        }
        Ok(done)
    }

    fn poll<'a>(&'a self, opened: Opened, table: Option<&mut PollTable<'a>>) -> Events {
        let Ok(tty) = find(opened.number) else { return Events::ERROR };
        if let Some(table) = table {
            table.add(&tty.readable);
            table.add(&tty.writable);
        }
        if tty.is_hung_up(opened) {
            return Events::READABLE | Events::WRITABLE | Events::ERROR | Events::HANG_UP;
        }
        let state = tty.lock();
        let mut events = Events::empty();
        events.set(Events::READABLE, state.discipline.is_readable());
        events.set(Events::WRITABLE, !state.discipline.is_stopped());
        events
    }

    fn ioctl(&self, opened: Opened, command: u32, argument: u64) -> Result<isize, Errno> {
        let tty = find(opened.number)?;
        super::control::ioctl(tty, command, argument, tty.is_hung_up(opened))
    }

    fn is_seekable(&self) -> bool {
        false
    }
}
