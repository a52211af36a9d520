//! Ways for the kernel to end: `test=crash:KIND`. The harness reads what it says.

use crate::memory::kernel_stack;
use crate::task::kernel_thread;
use core::fmt;
use core::hint::black_box;
use core::mem::{MaybeUninit, size_of};

/// Starts a thread that brings the kernel down; or does so itself, on the boot stack.
pub fn start(kind: &str) {
    let function = match kind {
        "boot-stack" => return overflow_the_stack(0),
        "stack" => overflow_the_stack,
        "large-frame" => step_over_the_guard,
        "wait" => wait_for_it,
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

/// One frame larger than a stack and its guard. Its first word lies in somebody else's stack: the compiler has to touch the
/// pages above it first.
extern "C" fn step_over_the_guard(value: usize) {
    const WORDS: usize = kernel_stack::PLACE_BYTES as usize / size_of::<usize>();
    let mut frame = MaybeUninit::<[usize; WORDS]>::uninit();
    // SAFETY: within the array, which needs no value.
    unsafe { black_box(&mut frame).as_mut_ptr().cast::<usize>().write_volatile(value) };
}

extern "C" fn follow_a_null_pointer(offset: usize) {
    let nowhere = black_box(core::ptr::without_provenance::<u8>(offset + 8));
    // SAFETY: none: this must fault, and the page is never mapped.
    black_box(unsafe { nowhere.read_volatile() });
}

/// For what comes from outside.
extern "C" fn wait_for_it(_: usize) {
    log::warn!(target: "crash", "waiting");
    loop {
        core::hint::spin_loop();
    }
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
