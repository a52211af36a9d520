//! What ioctl_tty(2) lists: settings, window size, flow, and who controls the terminal.

use super::device::Tty;
use super::job_control::{self, Access};
use super::line_discipline::Sink;
use super::termios::{ControlCharacter, DISABLED, Termios, Termios2, WindowSize};
use crate::errno::Errno;
use crate::memory::user_access::{UserAddress, read_value, write_value};
use crate::task::current;
use crate::task::signal::Signal;

const TCGETS: u32 = 0x5401;
const TCSETS: u32 = 0x5402;
const TCSETSW: u32 = 0x5403;
const TCSETSF: u32 = 0x5404;
const TCSBRK: u32 = 0x5409;
const TCXONC: u32 = 0x540a;
const TCFLSH: u32 = 0x540b;
const TIOCSCTTY: u32 = 0x540e;
const TIOCGPGRP: u32 = 0x540f;
const TIOCSPGRP: u32 = 0x5410;
const TIOCOUTQ: u32 = 0x5411;
const TIOCSTI: u32 = 0x5412;
const TIOCGWINSZ: u32 = 0x5413;
const TIOCSWINSZ: u32 = 0x5414;
const FIONREAD: u32 = 0x541b;
const TIOCNOTTY: u32 = 0x5422;
const TIOCSETD: u32 = 0x5423;
const TIOCGETD: u32 = 0x5424;
const TCSBRKP: u32 = 0x5425;
const TIOCGSID: u32 = 0x5429;
const TIOCVHANGUP: u32 = 0x5437;
const TCGETS2: u32 = 0x802c_542a;
const TCSETS2: u32 = 0x402c_542b;
const TCSETSW2: u32 = 0x402c_542c;
const TCSETSF2: u32 = 0x402c_542d;
const TIOCGDEV: u32 = 0x8004_5432;

/// The number of the only line discipline.
const N_TTY: i32 = 0;

// What TCXONC and TCFLSH are asked for.
const TCOOFF: u64 = 0;
const TCOON: u64 = 1;
const TCIOFF: u64 = 2;
const TCION: u64 = 3;
const TCIFLUSH: u64 = 0;
const TCOFLUSH: u64 = 1;
const TCIOFLUSH: u64 = 2;

pub(super) fn ioctl(tty: &Tty, command: u32, argument: u64, hung_up: bool) -> Result<isize, Errno> {
    if hung_up {
        return Err(if command == TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO });
    }
    let address = UserAddress::new(argument);
    match command {
        TCGETS => write_value(address, &settings(tty))?,
        TCGETS2 => {
            let termios = settings(tty);
            let speed = termios.speed();
            write_value(address, &Termios2 { termios, input_speed: speed, output_speed: speed })?;
        }
        // Output is never behind, so there is nothing to wait for first.
        TCSETS | TCSETSW => set(tty, read_value(address)?, false)?,
        TCSETSF => set(tty, read_value(address)?, true)?,
        TCSETS2 | TCSETSW2 => set(tty, read_value::<Termios2>(address)?.termios, false)?,
        TCSETSF2 => set(tty, read_value::<Termios2>(address)?.termios, true)?,
        TCSBRK | TCSBRKP => job_control::check(tty, Access::Change)?,
        TCXONC => set_flow(tty, argument)?,
        TCFLSH => flush(tty, argument)?,
        TIOCGWINSZ => write_value(address, &window(tty))?,
        TIOCSWINSZ => set_window(tty, read_value(address)?),
        FIONREAD => write_value(address, &(readable_bytes(tty) as i32))?,
        TIOCOUTQ => write_value(address, &0i32)?,
        TIOCSTI => simulate_typing(tty, address)?,
        TIOCSCTTY => job_control::acquire(tty, argument == 1)?,
        TIOCNOTTY => job_control::give_up(tty)?,
        TIOCGPGRP => write_value(address, &job_control::foreground_group(tty)?)?,
        TIOCSPGRP => set_foreground_group(tty, address)?,
        TIOCGSID => write_value(address, &job_control::session(tty)?)?,
        TIOCVHANGUP => hang_up(tty)?,
        TIOCGETD => write_value(address, &N_TTY)?,
        TIOCSETD if read_value::<i32>(address)? == N_TTY => {}
        TIOCSETD => return Err(Errno::EINVAL),
        TIOCGDEV => write_value(address, &(tty.number().0 as u32))?,
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

fn settings(tty: &Tty) -> Termios {
    *tty.lock().discipline.termios()
}

fn set(tty: &Tty, termios: Termios, flush_first: bool) -> Result<(), Errno> {
    job_control::check(tty, Access::Change)?;
    let mut state = tty.lock();
    if flush_first {
        state.discipline.flush_input();
    }
    state.discipline.set_termios(termios, &mut tty.output());
    drop(state);
    tty.wake_all();
    Ok(())
}

fn set_flow(tty: &Tty, action: u64) -> Result<(), Errno> {
    job_control::check(tty, Access::Change)?;
    match action {
        TCOOFF => tty.lock().discipline.hold(),
        TCOON => tty.lock().discipline.let_go(&mut tty.output()),
        TCIOFF => ask_other_end(tty, ControlCharacter::Stop),
        TCION => ask_other_end(tty, ControlCharacter::Start),
        _ => return Err(Errno::EINVAL),
    }
    tty.wake_all();
    Ok(())
}

/// Has the line's other end stop sending, or go on.
fn ask_other_end(tty: &Tty, character: ControlCharacter) {
    let byte = settings(tty).character(character);
    if byte != DISABLED {
        tty.output().output(&[byte]);
    }
}

fn flush(tty: &Tty, which: u64) -> Result<(), Errno> {
    job_control::check(tty, Access::Change)?;
    match which {
        TCIFLUSH | TCIOFLUSH => tty.lock().discipline.flush_input(),
        TCOFLUSH => {}
        _ => return Err(Errno::EINVAL),
    }
    tty.wake_all();
    Ok(())
}

fn window(tty: &Tty) -> WindowSize {
    tty.lock().window
}

/// The foreground group learns of a change.
fn set_window(tty: &Tty, window: WindowSize) {
    let old = core::mem::replace(&mut tty.lock().window, window);
    if old != window {
        tty.controlled.signal_foreground(Signal::WINCH);
    }
}

fn set_foreground_group(tty: &Tty, address: UserAddress) -> Result<(), Errno> {
    // Whom nobody could continue is told that this isn't his terminal.
    job_control::check(tty, Access::Change).map_err(|error| if error == Errno::EIO { Errno::ENOTTY } else { error })?;
    job_control::set_foreground_group(tty, read_value(address)?)
}

fn hang_up(tty: &Tty) -> Result<(), Errno> {
    if !current().process.credentials().is_privileged() {
        return Err(Errno::EPERM);
    }
    job_control::hang_up(tty);
    Ok(())
}

fn readable_bytes(tty: &Tty) -> usize {
    tty.lock().discipline.readable_bytes()
}

/// Root only: else a program run by root could be made to type commands into root's shell (Linux's legacy_tiocsti=0).
fn simulate_typing(tty: &Tty, address: UserAddress) -> Result<(), Errno> {
    if !current().process.credentials().is_privileged() {
        return Err(Errno::EIO);
    }
    tty.simulate_typing(read_value(address)?);
    Ok(())
}
