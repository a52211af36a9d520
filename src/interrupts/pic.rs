//! The two 8259A interrupt controllers of every PC: remapped out of the exceptions' way, and masked where the APIC does
//! their work. Intel 8259A data sheet; ICH data sheet §13.4.

use super::FIRST_IRQ_VECTOR;
use crate::lock::{IrqLock, Rank};
use x86_64::instructions::port::Port;

const MASTER_COMMAND: u16 = 0x20;
const MASTER_DATA: u16 = 0x21;
const SLAVE_COMMAND: u16 = 0xa0;
const SLAVE_DATA: u16 = 0xa1;

/// The master's line that the slave hangs on.
const CASCADE_IRQ: u8 = 2;
/// The lines on which a request that vanished shows up.
const MASTER_SPURIOUS: u8 = 7;
const SLAVE_SPURIOUS: u8 = 15;

/// ICW1: initialise, edge-triggered, ICW4 follows.
const INITIALISE: u8 = 0x11;
/// ICW4: 8086 mode.
const MODE_8086: u8 = 0x01;
/// OCW2: the highest interrupt in service ends.
const END_OF_INTERRUPT: u8 = 0x20;
/// OCW3: the next read of the command port gives the in-service register.
const READ_IN_SERVICE: u8 = 0x0b;

/// Which lines are masked, one bit each.
static MASKED: IrqLock<u16> = IrqLock::new(Rank::Device, !0);

fn write(port: u16, value: u8) {
    // SAFETY: the ports of the interrupt controllers; they reach no memory.
    unsafe { Port::<u8>::new(port).write(value) }
}

fn read(port: u16) -> u8 {
    // SAFETY: as for `write`.
    unsafe { Port::<u8>::new(port).read() }
}

/// A write to a port that nobody listens to takes as long as an 8259 of old needs between two commands.
fn settle() {
    write(0x80, 0);
}

/// Gives the lines the vectors from [`FIRST_IRQ_VECTOR`] on, and masks them all.
pub(super) fn init() {
    let masked = MASKED.lock();
    let sequence = [
        (MASTER_COMMAND, INITIALISE),
        (SLAVE_COMMAND, INITIALISE),
        (MASTER_DATA, FIRST_IRQ_VECTOR),
        (SLAVE_DATA, FIRST_IRQ_VECTOR + 8),
        (MASTER_DATA, 1 << CASCADE_IRQ),
        (SLAVE_DATA, CASCADE_IRQ),
        (MASTER_DATA, MODE_8086),
        (SLAVE_DATA, MODE_8086),
    ];
    for (port, value) in sequence {
        write(port, value);
        settle();
    }
    write_mask(*masked);
}

pub(super) fn unmask(irq: u8) {
    let mut masked = MASKED.lock();
    *masked &= !(1 << irq);
    if irq >= 8 {
        *masked &= !(1 << CASCADE_IRQ);
    }
    write_mask(*masked);
}

fn write_mask(masked: u16) {
    let [master, slave] = masked.to_le_bytes();
    write(MASTER_DATA, master);
    write(SLAVE_DATA, slave);
}

/// Ends the interrupt at the controllers. False for one that is spurious: a line that fell before the CPU asked whose it
/// was. Then the controller has nothing in service, so it is told nothing; but for the slave's the master has.
#[inline]
pub(super) fn acknowledge(irq: u8) -> bool {
    match irq {
        MASTER_SPURIOUS if !in_service(MASTER_COMMAND) => return false,
        SLAVE_SPURIOUS if !in_service(SLAVE_COMMAND) => {
            write(MASTER_COMMAND, END_OF_INTERRUPT);
            return false;
        }
        8.. => write(SLAVE_COMMAND, END_OF_INTERRUPT),
        _ => {}
    }
    write(MASTER_COMMAND, END_OF_INTERRUPT);
    true
}

/// Whether the controller's last line, 7, is in service.
fn in_service(command_port: u16) -> bool {
    write(command_port, READ_IN_SERVICE);
    read(command_port) & 1 << 7 != 0
}
