//! Who handles which interrupt vector, and the devices that interrupts come through.
//!
//! Vectors 0 to 31 are the CPU's exceptions, 0x20 to 0x2f the sixteen ISA interrupt lines, whichever controller brings
//! them; 0x30 and 0xff belong to the local APIC, 0x80 to system calls. asm/interrupts.asm calls `interrupt_dispatch`
//! for all of them, with interrupts off.

#![expect(clippy::indexing_slicing, reason = "a vector is a byte, and there are 256")]

#[cfg(target_os = "none")]
pub mod clock;
#[cfg(target_os = "none")]
mod counts;
pub mod frame;
#[cfg(target_os = "none")]
mod hpet;
#[cfg(target_os = "none")]
mod io_apic;
#[cfg(target_os = "none")]
mod local_apic;
#[cfg(target_os = "none")]
mod pic;
#[cfg(target_os = "none")]
mod pit;
pub mod time_page;
pub mod time_scale;
#[cfg(target_os = "none")]
pub mod timer;

pub use frame::InterruptFrame;

/// The vector of ISA interrupt line 0.
pub const FIRST_IRQ_VECTOR: u8 = 0x20;
/// How many ISA interrupt lines there are.
pub const IRQ_COUNT: u8 = 16;
/// The first vector that isn't an exception's.
const FIRST_DEVICE_VECTOR: u8 = 32;

/// Called with interrupts off.
pub type Handler = fn(&mut InterruptFrame);

#[cfg(target_os = "none")]
pub use counts::write_counts;
#[cfg(target_os = "none")]
pub use dispatch::{enable, init, register_irq, set_system_call_handler};
#[cfg(target_os = "none")]
use dispatch::{set_handler, uses_apics};

#[cfg(target_os = "none")]
mod dispatch {
    use super::{FIRST_DEVICE_VECTOR, FIRST_IRQ_VECTOR, Handler, IRQ_COUNT, InterruptFrame, io_apic, local_apic, pic};
    use crate::cpu::features::features;
    use crate::cpu::idt::SYSTEM_CALL_VECTOR;
    use crate::cpu::per_cpu::VECTOR_COUNT;
    use crate::cpu::{exceptions, per_cpu};
    use crate::drivers::acpi::{self, InterruptControllers};
    use crate::errno::Errno;
    use crate::lock::InHandler;
    use crate::trace;
    use core::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};

    /// A [`Handler`] for each vector, or null.
    static HANDLERS: [AtomicPtr<()>; VECTOR_COUNT] = [const { AtomicPtr::new(core::ptr::null_mut()) }; VECTOR_COUNT];

    /// Whether the APICs bring the interrupts; else the PICs do.
    static USES_APICS: AtomicBool = AtomicBool::new(false);

    /// Silences every line, gives the lines their vectors, and chooses the controllers. Interrupts are off, and stay off.
    /// `apics` are those that the firmware tells of.
    pub fn init(apics: Option<&InterruptControllers>) {
        pic::init();
        let chosen = apics.filter(|apics| features().apic && !apics.io_apics.is_empty());
        let used = match chosen.map(init_apics) {
            Some(Ok(())) => true,
            Some(Err(error)) => {
                log::warn!(target: "interrupts", "the APICs can't be used: {}", error.description());
                false
            }
            None => false,
        };
        USES_APICS.store(used, Relaxed);
        log::info!(target: "interrupts", "by {}", if used { "local APIC and IO-APIC" } else { "the 8259 PICs" });
    }

    fn init_apics(apics: &InterruptControllers) -> Result<(), Errno> {
        for io_apic in &apics.io_apics {
            io_apic::add(io_apic.address, io_apic.first_interrupt)?;
        }
        local_apic::init(apics.local_apic_address)
    }

    pub(super) fn uses_apics() -> bool {
        USES_APICS.load(Relaxed)
    }

    /// From here on interrupts are taken.
    pub fn enable() {
        x86_64::instructions::interrupts::enable();
    }

    /// Has `handler` called for an ISA interrupt line (the keyboard's is 1, COM1's is 4), and opens the line.
    pub fn register_irq(irq: u8, handler: Handler) {
        assert!(irq < IRQ_COUNT, "there is no ISA interrupt line {irq}");
        set_handler(FIRST_IRQ_VECTOR + irq, handler);
        match &acpi::tables().interrupts {
            Some(apics) if uses_apics() => io_apic::unmask(irq, apics.route_of(irq), local_apic::id()),
            _ => pic::unmask(irq),
        }
    }

    /// Has `handler` called for `int 0x80`. It turns interrupts on by itself, and returns with them off.
    pub fn set_system_call_handler(handler: Handler) {
        set_handler(SYSTEM_CALL_VECTOR, handler);
    }

    pub(super) fn set_handler(vector: u8, handler: Handler) {
        HANDLERS[vector as usize].store(handler as *mut (), Relaxed);
    }

    /// Every interrupt, exception and `int 0x80` comes here.
    #[unsafe(no_mangle)]
    extern "C" fn interrupt_dispatch(frame: &mut InterruptFrame) {
        #[cfg(feature = "kernel-tests")]
        crate::kernel_tests::probe::assert_entry_flags_are_clean();
        // The stub pushed it: it fits.
        let vector = frame.vector as u8;
        per_cpu::count_interrupt(vector);
        match vector {
            ..FIRST_DEVICE_VECTOR => exceptions::handle(frame),
            SYSTEM_CALL_VECTOR => call_handler(vector, frame),
            _ => device_interrupt(vector, frame),
        }
    }

    #[inline]
    fn device_interrupt(vector: u8, frame: &mut InterruptFrame) {
        let _in_handler = InHandler::enter();
        trace::record(trace::Kind::Irq, u64::from(vector), u64::from(frame.from_user()));
        // With interrupts off the order of acknowledging and handling shows nowhere; acknowledged first, a handler may end
        // in a switch.
        if acknowledge(vector) {
            call_handler(vector, frame);
        }
    }

    /// Tells the controller that the interrupt was taken; false for a spurious one, which has no handler and no cause.
    #[inline]
    fn acknowledge(vector: u8) -> bool {
        if uses_apics() {
            let is_real = vector != local_apic::SPURIOUS_VECTOR;
            if is_real {
                local_apic::end_of_interrupt();
            }
            return is_real;
        }
        let irq = vector.wrapping_sub(FIRST_IRQ_VECTOR);
        irq < IRQ_COUNT && pic::acknowledge(irq)
    }

    #[inline]
    fn call_handler(vector: u8, frame: &mut InterruptFrame) {
        let handler = HANDLERS[vector as usize].load(Relaxed);
        if handler.is_null() {
            return;
        }
        // SAFETY: the only non-null values ever stored are `Handler`s, by `set_handler`.
        let handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
        handler(frame);
    }
}
