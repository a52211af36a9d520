//! Interrupts: is the tick there, is a spurious one told from a real one, and are they counted and traced?

use crate::cpu::features::features;
use crate::cpu::per_cpu;
use crate::interrupts::{InterruptFrame, clock, register_irq, timer};
use crate::lock::InterruptsOff;
use crate::{kernel_test, trace};
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use x86_64::instructions::port::Port;

/// The 8259s' ports, and what makes the next read of the first give the requests, or what is in service.
const MASTER_COMMAND: u16 = 0x20;
const SLAVE_COMMAND: u16 = 0xa0;
const SLAVE_MASK: u16 = 0xa1;
const READ_REQUESTS: u8 = 0x0a;
const READ_IN_SERVICE: u8 = 0x0b;

/// The clock in CMOS interrupts 1,024 times a second, on line 8, while this bit of its register B is set.
const CLOCK_INDEX: u16 = 0x70;
const CLOCK_DATA: u16 = 0x71;
const CLOCK_B: u8 = 0x0b;
const CLOCK_C: u8 = 0x0c;
const PERIODIC_INTERRUPT: u8 = 1 << 6;

/// Far more than the clock's period takes.
const POLLS_MAX: u32 = 1_000_000;

fn write(port: u16, value: u8) {
    // SAFETY: the interrupt controllers' ports and the clock's; they reach no memory.
    unsafe { Port::<u8>::new(port).write(value) }
}

fn read(port: u16) -> u8 {
    // SAFETY: as for `write`.
    unsafe { Port::<u8>::new(port).read() }
}

fn controller_register(command_port: u16, which: u8) -> u8 {
    write(command_port, which);
    read(command_port)
}

fn clock_register(index: u8) -> u8 {
    write(CLOCK_INDEX, index);
    read(CLOCK_DATA)
}

fn set_clock_interrupt(on: bool) {
    let register_b = clock_register(CLOCK_B);
    write(CLOCK_INDEX, CLOCK_B);
    write(CLOCK_DATA, if on { register_b | PERIODIC_INTERRUPT } else { register_b & !PERIODIC_INTERRUPT });
    // Reading it ends the request.
    clock_register(CLOCK_C);
}

/// How often a handler of these tests was called.
static HANDLED: AtomicU32 = AtomicU32::new(0);

fn count(_: &mut InterruptFrame) {
    HANDLED.fetch_add(1, Relaxed);
}

fn taken(vector: u8) -> u32 {
    per_cpu::this_cpu().interrupt_count(vector)
}

kernel_test! {
    fn ticks_come_a_hundred_times_a_second() {
        let (start_ns, start_ticks) = (clock::now_ns(), per_cpu::ticks());
        while clock::now_ns() - start_ns < 200_000_000 {
            core::hint::spin_loop();
        }
        // An emulator whose host is busy delivers fewer than it owes, and delivers some of them late.
        let ticks = per_cpu::ticks() - start_ticks;
        let expected = 200_000_000 / timer::NS_PER_TICK;
        assert!((1..=2 * expected).contains(&ticks), "{ticks} ticks in 200 ms");
    }

    fn an_interrupt_without_a_handler_is_counted_and_forgotten() {
        let before = taken(0xff);
        // SAFETY: the spurious vector: acknowledged nowhere, handled by nobody.
        unsafe { core::arch::asm!("int 0xff") };
        assert_eq!(taken(0xff), before + 1);
    }

    fn a_spurious_interrupt_of_the_old_controllers_is_nobodys() {
        if features().apic {
            return;
        }
        register_irq(7, count);
        register_irq(15, count);
        HANDLED.store(0, Relaxed);
        let before = [taken(0x27), taken(0x2f)];
        // SAFETY: the lines' vectors, while the controllers have nothing in service on them.
        unsafe { core::arch::asm!("int 0x27", "int 0x2f") };
        assert_eq!([taken(0x27), taken(0x2f)], before.map(|count| count + 1));
        assert_eq!(HANDLED.load(Relaxed), 0, "a handler was called");
    }

    /// A line of the slave's that falls silent when the master has passed its request on: what the slave then answers with is
    /// spurious, but the master has the slave in service, and would let none of its lines through again.
    fn a_spurious_interrupt_of_the_slave_is_ended_at_the_master() {
        if features().apic {
            return;
        }
        register_irq(8, count);
        register_irq(15, count);
        HANDLED.store(0, Relaxed);
        let before = taken(0x2f);
        let interrupts_off = InterruptsOff::new();
        set_clock_interrupt(true);
        let is_requested = (0..POLLS_MAX).any(|_| controller_register(SLAVE_COMMAND, READ_REQUESTS) & 1 != 0);
        assert!(is_requested, "the clock doesn't interrupt");
        let mask = read(SLAVE_MASK);
        write(SLAVE_MASK, mask | 1);
        drop(interrupts_off);
        assert_eq!(taken(0x2f), before + 1);
        assert_eq!(controller_register(MASTER_COMMAND, READ_IN_SERVICE), 0);
        assert_eq!(HANDLED.load(Relaxed), 0);
        set_clock_interrupt(true);
        write(SLAVE_MASK, mask);
        let start_ns = clock::now_ns();
        while HANDLED.load(Relaxed) == 0 && clock::now_ns() - start_ns < 100_000_000 {
            core::hint::spin_loop();
        }
        set_clock_interrupt(false);
        assert_ne!(HANDLED.load(Relaxed), 0, "line 8 isn't heard any more");
    }

    fn interrupts_are_traced_when_asked_for() {
        assert_eq!(trace::select("irq"), Ok(()));
        let ticks = per_cpu::ticks();
        while per_cpu::ticks() < ticks + 2 {
            x86_64::instructions::hlt();
        }
        assert_eq!(trace::select("none"), Ok(()));
        let last = trace::last_events(1).next().expect("a tick was traced");
        assert_eq!((last.kind, last.second), (trace::Kind::Irq, 0));
        assert!(clock::now_ns() - last.time_ns < 1_000_000_000);
    }
}
