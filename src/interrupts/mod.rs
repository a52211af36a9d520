//! Who handles which interrupt vector, and the devices that interrupts come through.

pub mod frame;

pub use frame::InterruptFrame;
