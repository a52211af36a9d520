//! The whole way from an opened file to an image that is ready to run: story 6 but for its last step.
//!
//! Everything in execve that can fail is in [`prepare`], and nothing it does is seen by the caller: it reads files and the
//! caller's strings, and builds an address space that nobody uses yet. What it returns is handed over by code that can't
//! fail (syscall/exec.rs).

use super::arguments::{Arguments, Measured};
use super::elf_file::CheckedElf;
use super::identity::{Caller, FileRights, Identity};
use super::layout::{Layout, Randomness};
use super::plan::{ImagePlan, Plan, Segment};
use super::stack::{AuxiliaryVector, StackPlan};
use super::{ExecutableFile, ImageMemory, Machine, read_head, script};
use crate::errno::Errno;
use alloc::vec::Vec;
use core::ops::Range;
use x86_64::structures::paging::PhysFrame;

/// How often a `#!` may lead to another one.
const SCRIPT_LIMIT: usize = 5;

/// The file system as execve sees it, with the caller's root, working directory and rights.
pub trait Programs {
    type File: ExecutableFile;
    /// Opens a file to be executed: a regular one, with execute permission, not on a noexec mount, not open for writing.
    fn open(&self, path: &[u8]) -> Result<Self::File, Errno>;
    /// What the file says of a process that runs it: its setuid and setgid bits are looked at here.
    fn rights(&self, file: &Self::File) -> Result<FileRights, Errno>;
}

/// What execve is asked for, besides the file and the strings.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The path as the caller gave it, or `/dev/fd/N` for an empty one: AT_EXECFN, and what a script is told its name is.
    pub filename: &'a [u8],
    /// A script's interpreter couldn't open `filename`, since it names a descriptor that will be closed.
    pub filename_vanishes: bool,
    pub random: Randomness,
    pub caller: Caller<'a>,
    pub machine: Machine,
}

/// Everything about the new image: what the thread starts with, and what /proc and brk want to know.
#[derive(Debug)]
pub struct LoadedProcess {
    pub entry_point: u64,
    pub stack_pointer: u64,
    /// The FS base that the program starts with: 0, or its thread control block.
    pub thread_pointer: u64,
    pub heap_start: u64,
    pub heap_end: u64,
    pub text_start: u64,
    pub text_end: u64,
    pub data_start: u64,
    pub data_end: u64,
    pub segments: Vec<Segment>,
    pub page_table_frame: PhysFrame,
    pub mmap_base: u64,
    /// argv's strings, for /proc/PID/cmdline; they end where those of the environment begin.
    pub argument_strings: Range<u64>,
    pub environment_strings: Range<u64>,
    pub auxiliary_vector: Range<u64>,
    pub auxiliary: AuxiliaryVector,
}

/// An image that is ready, and the file it came from, which is kept so that nobody writes to it while it runs.
pub struct Prepared<F, M> {
    /// The ELF file (of a script: its interpreter): /proc/PID/exe.
    pub file: F,
    pub identity: Identity,
    pub process: LoadedProcess,
    pub memory: M,
}

/// Does everything in execve that can fail.
pub fn prepare<P: Programs, M: ImageMemory<File = P::File>>(
    file: P::File,
    request: &Request,
    programs: &P,
    arguments: &impl Arguments,
    new_memory: impl FnOnce(&Identity) -> Result<M, Errno>,
) -> Result<Prepared<P::File, M>, Errno> {
    let mut measured = Measured::new(arguments, request.filename, request.caller.stack_limit)?;
    let (file, elf) = resolve_scripts(file, request, programs, &mut measured)?;
    let interpreter = match elf.interpreter_path(&file)? {
        None => None,
        Some(path) => {
            let file = open_interpreter(programs, &path)?;
            let elf = CheckedElf::check_interpreter(&file, &read_head(&file)?)?;
            Some((file, elf))
        }
    };
    let identity = Identity::new(&request.caller, programs.rights(&file)?);
    let layout = Layout::new(&identity.randomness(&request.random), identity.stack_limit);
    let plan = Plan::new(&elf, interpreter.as_ref().map(|(_, elf)| elf), layout)?;
    let stack = StackPlan::new(&measured, &plan, identity.stack_limit)?;

    let mut memory = new_memory(&identity)?;
    load_image(&mut memory, &file, &plan.program)?;
    if let (Some((file, _)), Some(image)) = (&interpreter, &plan.interpreter) {
        load_image(&mut memory, file, image)?;
    }
    memory.map_stack(stack.pages.clone())?;
    let vdso = memory.map_vdso(plan.layout.vdso)?;
    let auxiliary = stack.auxiliary(&plan, vdso, &identity, &request.machine);
    stack.write(&mut memory, &measured, arguments, &request.random.seed, &auxiliary)?;
    if let Some(block) = &stack.tls {
        block.write(&mut memory, &file, &request.random.seed)?;
    }
    let process = loaded(plan, &stack, auxiliary, memory.page_table_frame());
    memory.finish(&process);
    Ok(Prepared { file, identity, process, memory })
}

/// Follows `#!` until there is an ELF file.
fn resolve_scripts<P: Programs>(
    mut file: P::File,
    request: &Request,
    programs: &P,
    measured: &mut Measured,
) -> Result<(P::File, CheckedElf), Errno> {
    let mut path: Option<Vec<u8>> = None;
    for _ in 0..=SCRIPT_LIMIT {
        let head = read_head(&file)?;
        if CheckedElf::has_magic(&head) {
            let elf = CheckedElf::check(&file, &head)?;
            return Ok((file, elf));
        }
        if !script::has_magic(&head) {
            return Err(Errno::ENOEXEC);
        }
        let line = script::parse(&head)?;
        if request.filename_vanishes {
            return Err(Errno::ENOENT);
        }
        measured.interpret(line.interpreter, line.argument, path.as_deref().unwrap_or(request.filename))?;
        file = open_interpreter(programs, line.interpreter)?;
        let mut next = Vec::new();
        next.try_reserve_exact(line.interpreter.len()).map_err(|_| Errno::ENOMEM)?;
        next.extend_from_slice(line.interpreter);
        path = Some(next);
    }
    Err(Errno::ELOOP)
}

/// An interpreter without a name is the working directory to Linux, and no directory can be executed.
fn open_interpreter<P: Programs>(programs: &P, path: &[u8]) -> Result<P::File, Errno> {
    if path.is_empty() {
        return Err(Errno::EACCES);
    }
    programs.open(path)
}

/// Maps an image's segments in the file's order. Pages of the file are shared with whoever else uses it; a page that ends
/// in zeroes becomes the image's own.
fn load_image<M: ImageMemory>(memory: &mut M, file: &M::File, image: &ImagePlan) -> Result<(), Errno> {
    for segment in &image.segments {
        if let Some((pages, offset)) = segment.file_pages() {
            memory.map_file(pages, segment.protection, file, offset)?;
        }
        if let Some(tail) = segment.zero_tail() {
            if segment.last_file_page() >= file.size() {
                return Err(Errno::ENOEXEC);
            }
            let length = usize::try_from(tail.end.saturating_sub(tail.start)).map_err(|_| Errno::ENOEXEC)?;
            memory.writable(tail.start)?.get_mut(..length).ok_or(Errno::EFAULT)?.fill(0);
        }
        if let Some(pages) = segment.zero_pages() {
            memory.map_zeroed(pages, segment.protection)?;
        }
    }
    Ok(())
}

fn loaded(plan: Plan, stack: &StackPlan, auxiliary: AuxiliaryVector, page_table_frame: PhysFrame) -> LoadedProcess {
    let entry_point = plan.entry();
    LoadedProcess {
        entry_point,
        stack_pointer: stack.stack_pointer,
        thread_pointer: stack.tls.as_ref().map_or(0, |block| block.thread_pointer),
        heap_start: plan.heap_start,
        heap_end: plan.heap_start,
        text_start: plan.program.text.start,
        text_end: plan.program.text.end,
        data_start: plan.program.data.start,
        data_end: plan.program.data.end,
        segments: plan.program.segments,
        page_table_frame,
        mmap_base: plan.layout.mmap_base,
        argument_strings: stack.argument_strings.clone(),
        environment_strings: stack.environment_strings.clone(),
        auxiliary_vector: stack.auxiliary.clone(),
        auxiliary,
    }
}
