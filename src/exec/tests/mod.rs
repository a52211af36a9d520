//! The chain as a whole on the host: files in a tree of the test's own, an address space made of a map; and the host's
//! Linux beside it as the oracle.

mod files;
mod limits;
mod loading;
mod memory;
mod scripts;
mod stack;
mod tree;

use super::layout::Randomness;
use super::{Arguments, Caller, KernelArguments, Machine, Prepared, Request, prepare};
use crate::errno::Errno;
use crate::task::credentials::Credentials;
use memory::Image;
use tree::{File, Tree};

fn randomness(randomise: bool) -> Randomness {
    let value = 0x1234_5678_9abc_def0;
    Randomness { randomise, stack: value, mmap: value, image: value, heap: value, seed: *b"0123456789abcdef" }
}

static ROOT: Credentials = Credentials::root();

fn caller(stack_limit: u64) -> Caller<'static> {
    Caller { credentials: &ROOT, personality: 0, stack_limit }
}

fn request(filename: &str) -> Request<'_> {
    Request {
        filename: filename.as_bytes(),
        filename_vanishes: false,
        random: randomness(true),
        caller: caller(8 << 20),
        machine: Machine { hwcap: 0x1122_3344, hwcap2: 2, smallest_signal_stack: 0x900 },
    }
}

fn execute_as(tree: &Tree, request: &Request, arguments: &impl Arguments) -> Result<Prepared<File, Image>, Errno> {
    let file = super::Programs::open(tree, request.filename)?;
    prepare(file, request, tree, arguments, |_| Ok(Image::default()))
}

fn execute(tree: &Tree, path: &str, arguments: &[&[u8]]) -> Result<Prepared<File, Image>, Errno> {
    execute_as(tree, &request(path), &KernelArguments { arguments, environment: &[b"A=B"] })
}
