//! Ways for the kernel to end: `test=crash:KIND`. The harness reads what it says.

use crate::task::kernel_thread;
use core::fmt;
use core::hint::black_box;

/// Starts a thread that brings the kernel down; or does so itself, on the boot stack.
pub fn start(kind: &str) {
    let function = match kind {
        "boot-stack" => return overflow_the_stack(0),
        "stack" => overflow_the_stack,
        "null" => follow_a_null_pointer,
        _ => panic_twice,
    };
    kernel_thread::spawn("doomed", function, 0).expect("a thread");
}

#[expect(unconditional_recursion, reason = "that is what it is for")]
extern "C" fn overflow_the_stack(depth: usize) {
    let frame = black_box([depth; 64]);
    overflow_the_stack(frame.len() + depth);
    black_box(frame);
}

extern "C" fn follow_a_null_pointer(offset: usize) {
    let nowhere = black_box(core::ptr::without_provenance::<u8>(offset + 8));
    // SAFETY: none: this must fault, and the page is never mapped.
    black_box(unsafe { nowhere.read_volatile() });
}

extern "C" fn panic_twice(_: usize) {
    struct PanicsWhenShown;
    impl fmt::Display for PanicsWhenShown {
        fn fmt(&self, _: &mut fmt::Formatter) -> fmt::Result {
            panic!("and again")
        }
    }
    panic!("the first: {PanicsWhenShown}")
}
