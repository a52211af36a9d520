//! Ends with the status that its argument names (0 without one).

#![no_std]
#![no_main]

use runtime::Process;

runtime::entry!(main);

fn main(process: &Process) -> i32 {
    process.argument(1).and_then(|argument| argument.to_str().ok()).and_then(|text| text.parse().ok()).unwrap_or(0)
}
