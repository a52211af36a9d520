//! Core story 6: execve. A process becomes another program, or stays exactly as it was.
//!
//! 1. The path leads to a file ([`open_program`]).
//! 2. [`exec::prepare`] reads it, plans the image, and builds it in a new address space: through the direct map, with CR3
//!    and everything else of the caller untouched.
//! 3. [`Replacement::new`] makes the rest of what the new program needs. Up to here everything can fail, and a failure
//!    drops what was made: the caller sees an errno and nothing else.
//! 4. The process's other threads end ([`become_only_thread`]), and who waits for this one is told in the old image's memory,
//!    as far as that is there.
//! 5. [`Replacement::point_of_no_return`] puts the new in place of the old. Nothing in it can fail.
//!
//! The thread then returns to user mode as from any system call. On that way, and not before, CR3 becomes the new page
//! table (asm/return.asm), and only then the old image is dropped.

use super::argument::Fd;
use super::paths::{AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW, start_of};
use crate::cpu::features::identity;
use crate::cpu::gdt;
use crate::errno::Errno;
use crate::exec::load::NewImage;
use crate::exec::program_file::{ProgramFile, ProgramFiles};
use crate::exec::{self, Caller, Identity, LoadedProcess, Randomness, Request, UserArguments};
use crate::fs::walk::{self, Last, PATH_MAX};
use crate::fs::{Context, FileTable, procfs, tree};
use crate::interrupts::InterruptFrame;
use crate::lock::{Lock, Rank};
use crate::memory::Limits;
use crate::memory::user_access::{self, UserAddress};
use crate::random;
use crate::task::credentials::Credentials;
use crate::task::process::{Process, SharedAddressSpace, tasks};
use crate::task::signal::{self, Actions, AlternateStack};
use crate::task::thread::{NAME_BYTES, Work};
use crate::task::wait_queue::Limits as WaitLimits;
use crate::task::{Thread, exit, fork};
use crate::trace::{self, Kind};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

/// IF and the bit that is always one: the flags are clean otherwise.
const FLAGS_OF_A_NEW_PROGRAM: u64 = 0x202;

/// Two NULLs where argv and envp would be are empty lists, as on Linux.
pub fn execve(
    thread: &Thread,
    path: UserAddress,
    arguments: UserAddress,
    environment: UserAddress,
) -> Result<(), Errno> {
    execveat(thread, Fd::CWD, path, arguments, environment, 0)
}

pub fn execveat(
    thread: &Thread,
    directory: Fd,
    path: UserAddress,
    arguments: UserAddress,
    environment: UserAddress,
    flags: u32,
) -> Result<(), Errno> {
    let path = user_access::read_string(path, PATH_MAX, Errno::ENAMETOOLONG)?;
    if path.is_empty() && flags & AT_EMPTY_PATH == 0 {
        return Err(Errno::ENOENT);
    }
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    execute(thread, directory, &path, flags, &UserArguments { arguments, environment })
}

/// The whole story, for a path and strings that lie in the kernel or in user memory.
pub fn execute(
    thread: &Thread,
    directory: Fd,
    path: &[u8],
    flags: u32,
    strings: &impl exec::Arguments,
) -> Result<(), Errno> {
    let process = &thread.process;
    let credentials = process.credentials();
    check_process_limit(process, &credentials)?;
    let directories = process.fs_context()?;
    let fs_context = directories.lock().clone();
    let context = fs_context.with(&credentials);
    let file = open_program(thread, &context, directory, path, flags)?;
    let filename = filename_of(directory, path)?;
    let limits = process.limits.lock().of_address_space();
    let request = Request {
        filename: &filename,
        filename_vanishes: path.first() != Some(&b'/') && closes_on_exec(thread, directory),
        random: randomness(),
        caller: Caller {
            credentials: &credentials,
            personality: process.personality.load(Relaxed),
            stack_limit: limits.stack,
        },
        machine: description_of_machine(),
    };
    let programs = ProgramFiles {
        context,
        credentials: &credentials,
        no_new_privileges: process.no_new_privileges.load(Relaxed),
        // Two references are the process's own and the one just made.
        shares_directories: Arc::strong_count(&directories) > 2,
    };
    let prepared = exec::prepare(file, &request, &programs, strings, |identity| {
        NewImage::new(Limits { stack: identity.stack_limit, ..limits })
    })?;
    let replacement = Replacement::new(thread, prepared, path)?;
    become_only_thread(thread)?;
    exit::tell_joiners(thread);
    replacement.point_of_no_return(thread);
    Ok(())
}

/// fork looks at RLIMIT_NPROC, setuid can't be refused for it: so it is looked at here, once it counts.
fn check_process_limit(process: &Process, credentials: &Credentials) -> Result<(), Errno> {
    if process.is_one_too_many.load(Relaxed) {
        if fork::user_exceeds_limit(process, credentials.user.real) {
            return Err(Errno::EAGAIN);
        }
        process.is_one_too_many.store(false, Relaxed);
    }
    Ok(())
}

/// Everything that the new program has in place of the old one's, made and ready.
struct Replacement {
    image: LoadedProcess,
    address_space: SharedAddressSpace,
    program: Arc<ProgramFile>,
    identity: Identity,
    signal_actions: Arc<Lock<Actions>>,
    /// None: the table isn't shared with another process, so it can be changed as it is.
    files: Option<Arc<Lock<FileTable>>>,
    name: [u8; NAME_BYTES],
}

impl Replacement {
    fn new(
        thread: &Thread,
        prepared: exec::Prepared<ProgramFile, NewImage<ProgramFile>>,
        path: &[u8],
    ) -> Result<Self, Errno> {
        let process = &thread.process;
        let files = process.files()?;
        // Two references are the process's own and the one just made.
        let files = match Arc::strong_count(&files) > 2 {
            true => Some(Lock::shared(Rank::FileTable, files.lock().try_clone()?)?),
            false => None,
        };
        Ok(Self {
            name: name_for(path, &prepared.file),
            image: prepared.process,
            address_space: Lock::shared(Rank::AddressSpace, prepared.memory.space)?,
            program: Arc::try_new(prepared.file).map_err(|_| Errno::ENOMEM)?,
            identity: prepared.identity,
            signal_actions: process.signals.actions_for_new_image()?,
            files,
        })
    }

    /// From here on there is no way back, and nothing that could ask for one: nothing below allocates, reads a file or fails.
    fn point_of_no_return(self, thread: &Thread) {
        let process = &thread.process;
        trace::record(Kind::Exec, process.pid.into(), self.image.entry_point);
        // First, so that nobody looks by /proc into an image whose rights he doesn't have.
        process.take_identity(self.identity);

        let old = process.replace_address_space(Some(self.address_space));
        thread.set_page_table_frame(self.image.page_table_frame.start_address().as_u64());
        thread.keep_old_image(old);
        process.return_borrowed_address_space();
        process.replace_program(Some(self.program));

        if let Some(files) = self.files {
            drop(process.replace_files(Some(files)));
        }
        let mut next = 0;
        while let Ok(Some(file)) = process.with_files(|files| Ok(files.take_close_on_exec(&mut next))) {
            file.descriptor_closed(process.pid);
        }
        process.signals.replace_actions(self.signal_actions);
        thread.signals.set_alternate_stack(AlternateStack::NONE);
        tasks().family.note_execve(process.pid);
        thread.set_name(&self.name);
        thread.start_image(&first_registers(&self.image), self.image.thread_pointer);
    }
}

/// The thread's new name: the last part of the path, or, where a descriptor says which program, what that is called.
fn name_for(path: &[u8], program: &ProgramFile) -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    let mut copy = |from: &[u8]| name.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    match path.rsplit(|byte| *byte == b'/').next() {
        Some(last) if !path.is_empty() => copy(last),
        _ => copy(program.location().dentry.name(&tree::lock())),
    }
    name
}

/// What the program finds: its entry point, its stack, and zero everywhere else (System V ABI §3.4.1).
fn first_registers(image: &LoadedProcess) -> InterruptFrame {
    InterruptFrame {
        rip: image.entry_point,
        rsp: image.stack_pointer,
        cs: gdt::USER_CODE.into(),
        ss: gdt::USER_DATA.into(),
        rflags: FLAGS_OF_A_NEW_PROGRAM,
        ..InterruptFrame::default()
    }
}

/// Ends the process's other threads, waits until they are gone, and takes over the process's id if another thread had it.
/// Fails only where this thread is to end itself: another one was first with execve or exit.
fn become_only_thread(thread: &Thread) -> Result<(), Errno> {
    let process = &thread.process;
    if process.thread_count() > 1 {
        if thread.work().contains(Work::END) {
            return Err(Errno::EINTR);
        }
        exit::end_other_threads(process, thread);
        process.threads_changed.wait_until(WaitLimits::FATAL_ONLY, || (process.thread_count() == 1).then_some(()))?;
    }
    if thread.tid() != process.pid {
        let mut tasks = tasks();
        if thread.has_made_children.load(Relaxed) {
            tasks.family.change_maker(process.pid, thread.tid(), process.pid);
        }
        let own = tasks.threads.release(thread.tid());
        thread.set_tid(process.pid);
        own.and_then(|own| tasks.threads.set(process.pid, own));
    }
    Ok(())
}

fn open_program(
    thread: &Thread,
    context: &Context,
    directory: Fd,
    path: &[u8],
    flags: u32,
) -> Result<ProgramFile, Errno> {
    let start = start_of(thread, directory, path)?;
    let last = if flags & AT_SYMLINK_NOFOLLOW != 0 { Last::Keep } else { Last::Follow };
    let location = match path.is_empty() && flags & AT_EMPTY_PATH != 0 {
        true => walk::find_or_start(context, start.as_ref(), path, last)?,
        false => walk::find(context, start.as_ref(), path, last)?,
    };
    ProgramFile::new(location, context.credentials)
}

/// What the program is told that its name is. Relative to a descriptor it is a name in /dev/fd.
fn filename_of(directory: Fd, path: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut name = Vec::new();
    name.try_reserve_exact(path.len().saturating_add(24)).map_err(|_| Errno::ENOMEM)?;
    if directory != Fd::CWD && path.first() != Some(&b'/') {
        name.extend_from_slice(b"/dev/fd/");
        append_decimal(&mut name, directory.0.unsigned_abs());
        if !path.is_empty() {
            name.push(b'/');
        }
    }
    name.extend_from_slice(path);
    Ok(name)
}

/// The digits of a number; ten at most, for which the caller has made room.
fn append_decimal(text: &mut Vec<u8>, mut number: u32) {
    let mut digits = [0; 10];
    let mut count = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        count += 1;
        if number == 0 {
            break;
        }
    }
    text.extend(digits.iter().skip(digits.len() - count));
}

fn closes_on_exec(thread: &Thread, directory: Fd) -> bool {
    let Ok(descriptor) = u32::try_from(directory.0) else { return false };
    thread.process.with_files(|files| files.close_on_exec(descriptor)).unwrap_or(false)
}

fn randomness() -> Randomness {
    let mut seed = [0; 16];
    random::fill(&mut seed);
    let level = procfs::address_randomness();
    Randomness {
        randomise: level > 0,
        stack: random::number(),
        mmap: random::number(),
        image: random::number(),
        heap: if level > 1 { random::number() } else { 0 },
        seed,
    }
}

fn description_of_machine() -> exec::Machine {
    exec::Machine {
        hwcap: u64::from(identity().hardware_capabilities),
        hwcap2: 0,
        smallest_signal_stack: signal::frame::largest_bytes(),
    }
}
