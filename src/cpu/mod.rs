//! The CPU itself: descriptor tables, exceptions, per-CPU data, features, FPU state.

#[cfg(target_os = "none")]
pub mod control;
pub mod cpuinfo;
pub mod exceptions;
pub mod features;
pub mod fpu;
#[cfg(target_os = "none")]
pub mod gdt;
#[cfg(target_os = "none")]
pub mod idt;
pub mod layout;
pub mod per_cpu;
#[cfg(target_os = "none")]
pub mod reset;
#[cfg(target_os = "none")]
pub mod segments;

#[cfg(target_os = "none")]
pub use control::{protect_from_user_pages, set_syscall_entry};
#[cfg(target_os = "none")]
pub use features::features;
#[cfg(target_os = "none")]
pub use per_cpu::set_kernel_stack;

/// Makes this CPU the kernel's: per-CPU block, descriptor tables, exceptions, control registers. The first thing that
/// `kernel_main` does, since nothing before it can even fault in an orderly way.
#[cfg(target_os = "none")]
pub fn init() {
    per_cpu::init();
    gdt::init();
    idt::init();
    control::init();
    fpu::init();
}

/// Says in the log what was found.
#[cfg(target_os = "none")]
pub fn report() {
    let identity = features::identity();
    let (family, model, stepping) = (identity.family, identity.model, identity.stepping);
    log::info!(target: "cpu", "{} {} (family {family}, model {model}, stepping {stepping}): {}",
        identity.vendor(), identity.brand(), features());
}
