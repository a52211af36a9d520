//! Behind tools/syscalls-table: writes docs/syscalls.md anew.

use keel_tests::failure::Failure;
use keel_tests::system_calls;
use std::fs;
use std::process::ExitCode;

fn main() -> ExitCode {
    let written = system_calls::made().and_then(|text| fs::write(system_calls::path(), text).map_err(Failure::from));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprint!("syscalls-table: {failure}");
            ExitCode::FAILURE
        }
    }
}
