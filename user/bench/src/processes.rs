//! Processes: making, replacing and burying them; threads.

use crate::calls::good;
use crate::meter::{Meter, Outcome};
use crate::program::{self, wait_for};
use crate::{Operation, call};
use std::ffi::{CStr, CString, c_char};
use std::ptr::{null, null_mut};

pub const OPERATIONS: &[Operation] = &[
    ("fork, exit, wait", |meter| fork_and_exit(meter, 0)),
    ("fork, exit, wait with 16 MiB dirty", |meter| fork_and_exit(meter, 16 << 20)),
    ("vfork, exit, wait", vfork_and_exit),
    ("fork, exec, wait: tiny", |meter| fork_and_exec(meter, program::TINY, &[program::TINY])),
    ("fork, exec, wait: 2 MiB", |meter| fork_and_exec(meter, program::LARGE, &[program::LARGE])),
    ("fork, exec, wait: busybox", |meter| fork_and_exec(meter, c"/bin/busybox", &[c"busybox", c"true"])),
    ("vfork, exec, wait: tiny", |meter| vfork_and_exec(meter, program::TINY, &[program::TINY])),
    ("posix_spawn, wait: tiny", posix_spawn),
    ("exec in a chain", exec_chain),
    ("vfork, exec, wait: 100 KiB of arguments", exec_with_arguments),
    ("thread create and join", thread),
];

fn fork_and_exit(meter: &mut Meter, dirty: usize) -> Outcome {
    let mut memory = vec![0_u8; dirty];
    for page in memory.chunks_mut(4096) {
        page[0] = 1;
    }
    meter.measure(15, 1, || {
        let child = call!(SYS_fork);
        if child == 0 {
            call!(SYS_exit_group, 0);
        }
        wait_for(child)
    })?;
    let child = call!(SYS_fork);
    if child == 0 {
        memory.fill(2);
        call!(SYS_exit_group, 0);
    }
    wait_for(child)?;
    let kept = memory.chunks(4096).all(|page| page[0] == 1);
    if kept { Ok(()) } else { Err("what a child wrote is in its parent's memory".into()) }
}

/// vfork as a call of its own: parent and child use one stack, so the child's part must not return.
#[inline(always)]
fn vfork_then(call_number: i64, arguments: [usize; 3]) -> isize {
    let result: isize;
    // SAFETY: the child makes its call with what is in registers, and then ends; it writes nothing to the shared stack
    // and memory. The parent goes on when it has ended or has executed a program.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rax, r12",
            "syscall",
            "mov edi, 127",
            "mov eax, 231",
            "syscall",
            "2:",
            inlateout("rax") libc::SYS_vfork as isize => result,
            in("r12") call_number, in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            lateout("rcx") _, lateout("r11") _, options(nostack)
        );
    }
    result
}

fn vfork_and_exit(meter: &mut Meter) -> Outcome {
    meter.measure(20, 4, || wait_for(vfork_then(libc::SYS_exit_group, [0; 3])))
}

fn pointers(strings: &[&CStr]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([null()]).collect()
}

fn make_programs() -> Outcome {
    program::make_tiny()?;
    program::make_large()?;
    program::make_counter()?;
    program::make_chain()
}

fn fork_and_exec(meter: &mut Meter, path: &CStr, arguments: &[&CStr]) -> Outcome {
    make_programs()?;
    if !std::path::Path::new(path.to_string_lossy().as_ref()).exists() {
        return Err(format!("{} is not there", path.to_string_lossy()));
    }
    let arguments = pointers(arguments);
    let environment = [null::<c_char>()];
    meter.measure(15, 1, || {
        let child = call!(SYS_fork);
        if child == 0 {
            call!(SYS_execve, path.as_ptr(), arguments.as_ptr(), environment.as_ptr());
            call!(SYS_exit_group, 127);
        }
        wait_for(child)
    })
}

fn vfork_and_exec(meter: &mut Meter, path: &CStr, arguments: &[&CStr]) -> Outcome {
    make_programs()?;
    let vector = pointers(arguments);
    let environment = [null::<c_char>()];
    let call = [path.as_ptr() as usize, vector.as_ptr() as usize, environment.as_ptr() as usize];
    meter.measure(15, 1, || wait_for(vfork_then(libc::SYS_execve, call)))
}

fn posix_spawn(meter: &mut Meter) -> Outcome {
    make_programs()?;
    let arguments = [program::TINY.as_ptr().cast_mut(), null_mut()];
    let environment = [null_mut()];
    meter.measure(15, 1, || {
        let mut child = 0;
        // SAFETY: a path, two vectors that end with a NULL, and no attributes.
        let errno = unsafe {
            libc::posix_spawn(
                &mut child,
                program::TINY.as_ptr(),
                null(),
                null(),
                arguments.as_ptr(),
                environment.as_ptr(),
            )
        };
        if errno != 0 {
            return Err(format!("posix_spawn: errno {errno}"));
        }
        wait_for(child as isize)
    })
}

/// execve by itself: a program that executes itself 32 times, less one that does it no time.
fn exec_chain(meter: &mut Meter) -> Outcome {
    const LINKS: u64 = 32;
    make_programs()?;
    let marks = CString::new("x".repeat(LINKS as usize)).unwrap_or_default();
    let environment = [null::<c_char>()];
    let run = |meter: &mut Meter, marks: &CStr| {
        let vector = pointers(&[program::CHAIN, marks]);
        let call = [program::CHAIN.as_ptr() as usize, vector.as_ptr() as usize, environment.as_ptr() as usize];
        meter.measure(10, 1, || wait_for(vfork_then(libc::SYS_execve, call)))
    };
    let mut alone = Meter::new();
    run(&mut alone, c"")?;
    let mut chain = Meter::new();
    run(&mut chain, &marks)?;
    chain.subtract(alone.cheapest());
    chain.divide_by(LINKS);
    *meter = chain;
    Ok(())
}

fn exec_with_arguments(meter: &mut Meter) -> Outcome {
    let argument = CString::new("x".repeat(1023)).unwrap_or_default();
    vfork_and_exec(meter, program::COUNTER, &[argument.as_c_str(); program::COUNTED])
}

fn thread(meter: &mut Meter) -> Outcome {
    meter.measure(20, 2, || {
        let thread = std::thread::Builder::new().spawn(|| 42).map_err(|error| error.to_string())?;
        match thread.join() {
            Ok(42) => Ok(()),
            _ => Err("the thread didn't answer".into()),
        }
    })?;
    good(call!(SYS_getpid), "getpid").map(drop)
}
