//! Files: reading and writing, opening, asking, creating, listing.

use crate::calls::{expect, good};
use crate::meter::{Meter, Outcome};
use crate::{Operation, call};
use std::ffi::CStr;
use std::fs;

pub const OPERATIONS: &[Operation] = &[
    ("write 1 byte to /dev/null", write_null),
    ("read 4 KiB", |meter| read_file(meter, 4096, 20)),
    ("read 1 MiB", |meter| read_file(meter, 1 << 20, 1)),
    ("write 4 KiB", write_file),
    ("open and close a deep path", open_deep),
    ("stat a deep path", stat_deep),
    ("fstat", fstat),
    ("create and unlink", create),
    ("getdents of 100 entries", getdents),
];

const FILE: &CStr = c"/tmp/bench.file";
const DEEP: &CStr = c"/tmp/bench.deep/one/two/three/four/five/six/seven/file";

fn open(path: &CStr, flags: i32) -> Result<usize, String> {
    good(call!(SYS_open, path.as_ptr(), flags, 0o644), "open")
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

fn write_null(meter: &mut Meter) -> Outcome {
    let null = open(c"/dev/null", libc::O_WRONLY)?;
    let byte = 0_u8;
    meter.measure(30, 100, || expect(call!(SYS_write, null, &raw const byte, 1), 1, "write"))
}

fn read_file(meter: &mut Meter, size: usize, turns: u64) -> Outcome {
    fs::write("/tmp/bench.file", vec![0x5a; size]).map_err(text)?;
    let file = open(FILE, libc::O_RDONLY)?;
    let mut buffer = vec![0_u8; size];
    let address = buffer.as_mut_ptr();
    let clear = || {
        // SAFETY: the buffer has this size; nothing else looks at it meanwhile.
        unsafe { address.write_bytes(0, size) };
        Ok(())
    };
    meter.measure_with(20, turns, clear, |()| {
        expect(call!(SYS_pread64, file, address, size, 0), size as isize, "pread")
    })?;
    if buffer.iter().all(|&byte| byte == 0x5a) { Ok(()) } else { Err("the bytes are wrong".into()) }
}

fn write_file(meter: &mut Meter) -> Outcome {
    let file = open(FILE, libc::O_RDWR | libc::O_CREAT)?;
    let mut buffer = [0_u8; 4096];
    let address = buffer.as_mut_ptr();
    let mut batch = 0;
    let change = || {
        batch += 1;
        // SAFETY: the buffer has this size; nothing else looks at it meanwhile.
        unsafe { address.write_bytes(batch, 4096) };
        Ok(())
    };
    meter.measure_with(20, 20, change, |()| expect(call!(SYS_pwrite64, file, address, 4096, 0), 4096, "pwrite"))?;
    let content = fs::read("/tmp/bench.file").map_err(text)?;
    if content.starts_with(&[batch; 4096]) { Ok(()) } else { Err("the file doesn't hold what was written".into()) }
}

fn make_deep() -> Outcome {
    let path = DEEP.to_string_lossy();
    let folder = path.rsplit_once('/').map(|(folder, _)| folder).unwrap_or_default();
    fs::create_dir_all(folder).and_then(|()| fs::write(path.as_ref(), "deep")).map_err(text)
}

fn open_deep(meter: &mut Meter) -> Outcome {
    make_deep()?;
    meter.measure(30, 20, || {
        let file = open(DEEP, libc::O_RDONLY)?;
        expect(call!(SYS_close, file), 0, "close")
    })
}

fn stat_deep(meter: &mut Meter) -> Outcome {
    make_deep()?;
    // SAFETY: stat is plain integers, for which zeros are valid.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    meter.measure(30, 20, || expect(call!(SYS_stat, DEEP.as_ptr(), &raw mut status), 0, "stat"))?;
    expect(status.st_size as isize, 4, "the size")
}

fn fstat(meter: &mut Meter) -> Outcome {
    make_deep()?;
    let file = open(DEEP, libc::O_RDONLY)?;
    // SAFETY: stat is plain integers, for which zeros are valid.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    meter.measure(30, 50, || expect(call!(SYS_fstat, file, &raw mut status), 0, "fstat"))?;
    expect(status.st_size as isize, 4, "the size")
}

fn create(meter: &mut Meter) -> Outcome {
    let path = c"/tmp/bench.new";
    meter.measure(30, 10, || {
        let file = open(path, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL)?;
        expect(call!(SYS_close, file), 0, "close")?;
        expect(call!(SYS_unlink, path.as_ptr()), 0, "unlink")
    })
}

fn getdents(meter: &mut Meter) -> Outcome {
    fs::create_dir_all("/tmp/bench.folder").map_err(text)?;
    for index in 0..100 {
        fs::write(format!("/tmp/bench.folder/entry{index:03}"), "").map_err(text)?;
    }
    let folder = open(c"/tmp/bench.folder", libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut buffer = vec![0_u8; 32 * 1024];
    let mut bytes = 0;
    meter.measure(30, 2, || {
        bytes = 0;
        expect(call!(SYS_lseek, folder, 0, libc::SEEK_SET), 0, "lseek")?;
        loop {
            match good(call!(SYS_getdents64, folder, buffer.as_mut_ptr(), buffer.len()), "getdents64")? {
                0 => return Ok(()),
                count => bytes += count,
            }
        }
    })?;
    // 100 entries of 32 bytes, and two of 24 for "." and "..".
    if bytes >= 3200 { Ok(()) } else { Err(format!("{bytes} bytes are not 100 entries")) }
}
