//! The host's Linux as the oracle: the same random calls on a directory of its tmpfs and on ours give the same results,
//! errors included, for root and for others.

use super::*;
use crate::fs::attributes::NewTime;
use crate::fs::device::DeviceNumber;
use crate::fs::inode::S_IFMT;
use crate::fs::open_flags::OpenFlags;
use std::ffi::CString;

const AT_FDCWD: i64 = -100;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;

/// x86-64's numbers of the calls that are compared.
mod number {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const CLOSE: u64 = 3;
    pub const CHDIR: u64 = 80;
    pub const GETDENTS64: u64 = 217;
    pub const SETFSUID: u64 = 122;
    pub const SETFSGID: u64 = 123;
    pub const TRUNCATE: u64 = 76;
    pub const UMASK: u64 = 95;
    pub const UNSHARE: u64 = 272;
    pub const OPENAT: u64 = 257;
    pub const MKDIRAT: u64 = 258;
    pub const MKNODAT: u64 = 259;
    pub const FCHOWNAT: u64 = 260;
    pub const NEWFSTATAT: u64 = 262;
    pub const UNLINKAT: u64 = 263;
    pub const LINKAT: u64 = 265;
    pub const SYMLINKAT: u64 = 266;
    pub const READLINKAT: u64 = 267;
    pub const FCHMODAT: u64 = 268;
    pub const UTIMENSAT: u64 = 280;
    pub const RENAMEAT2: u64 = 316;
    pub const FACCESSAT2: u64 = 439;
}

/// The host's answer: the result, or the errno.
fn host_call(number: u64, arguments: [u64; 5]) -> Result<u64, i32> {
    let result: i64;
    // SAFETY: pointers among the arguments are to strings and buffers that outlive the call, with their true sizes.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as i64 => result,
            in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            in("r10") arguments[3], in("r8") arguments[4],
            lateout("rcx") _, lateout("r11") _,
        );
    }
    if result < 0 { Err(-result as i32) } else { Ok(result as u64) }
}

/// One call, with paths relative to the test's directory.
#[derive(Clone, Debug)]
enum Call {
    Open { path: String, flags: OpenFlags, mode: u32, text: Option<String> },
    MakeDirectory { path: String, mode: u32 },
    MakeNode { path: String, mode: u32 },
    Unlink { path: String },
    RemoveDirectory { path: String },
    Link { old: String, new: String, follow: bool },
    Symlink { target: String, path: String },
    ReadLink { path: String },
    Rename { old: String, new: String, flags: u32 },
    Status { path: String, follow: bool },
    ChangeMode { path: String, mode: u32 },
    ChangeOwner { path: String, user: u32, group: u32, follow: bool },
    Truncate { path: String, size: u64 },
    Access { path: String, mode: u32 },
    SetTimes { path: String, now: bool },
    List { path: String },
}

/// What can be compared of an outcome.
type Outcome = Result<String, i32>;

struct Random(u64);

impl Random {
    fn below(&mut self, count: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % count
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// A path of few names, so that they meet; at most three `..`, which don't leave the host's directory.
    fn path(&mut self) -> String {
        let mut ups = 0;
        let depth = 1 + self.below(3);
        let mut path = String::new();
        for position in 0..depth {
            let mut name = self.pick(&["a", "b", "c", "d", "e", "a", "b", "c", ".", ".."]);
            if name == ".." {
                ups += 1;
                if ups > 3 {
                    name = "a";
                }
            }
            path.push_str(name);
            if position + 1 < depth || self.below(8) == 0 {
                path.push_str(self.pick(&["/", "/", "/", "//"]));
            }
        }
        path
    }

    fn mode(&mut self) -> u32 {
        self.pick(&[0o777, 0o755, 0o700, 0o644, 0o600, 0o666, 0o1777, 0o2775, 0o6755, 0o070, 0o007, 0o000])
    }

    fn call(&mut self) -> Call {
        let (path, other) = (self.path(), self.path());
        match self.below(24) {
            0..4 => {
                let mut flags = self.pick(&[OpenFlags::empty(), OpenFlags::WRITE_ONLY, OpenFlags::READ_WRITE]);
                for flag in [
                    OpenFlags::CREATE,
                    OpenFlags::EXCLUSIVE,
                    OpenFlags::TRUNCATE,
                    OpenFlags::APPEND,
                    OpenFlags::NO_FOLLOW,
                ] {
                    if self.below(4) == 0 {
                        flags |= flag;
                    }
                }
                if self.below(8) == 0 {
                    flags |= self.pick(&[OpenFlags::DIRECTORY, OpenFlags::PATH, OpenFlags::NO_ACCESS_TIME]);
                }
                let text = (flags.is_writable() && self.below(2) == 0).then(|| "x".repeat(self.below(20) as usize));
                // FIFOs, and there are some, must not be waited for.
                Call::Open { path, flags: flags | OpenFlags::NONBLOCK, mode: self.mode(), text }
            }
            4..7 => Call::MakeDirectory { path, mode: self.mode() },
            7 => {
                let kind = self.pick(&[0o100000, 0o010000, 0o140000, 0, 0o040000, 0o020000, 0o120000]);
                Call::MakeNode { path, mode: kind | self.mode() }
            }
            8..10 => Call::Unlink { path },
            10 => Call::RemoveDirectory { path },
            11..13 => Call::Link { old: path, new: other, follow: self.below(2) == 0 },
            // A link that leads up could, from below, lead out of the directory that both sides have.
            13 => Call::Symlink { target: other.replace("..", "."), path },
            14 => Call::ReadLink { path },
            15..18 => Call::Rename { old: path, new: other, flags: self.pick(&[0, 0, 0, 1, 2, 3]) },
            18 => Call::Status { path, follow: self.below(2) == 0 },
            19 => Call::ChangeMode { path, mode: self.mode() },
            20 => {
                let ids = [0, 1000, 1001, u32::MAX];
                Call::ChangeOwner { path, user: self.pick(&ids), group: self.pick(&ids), follow: self.below(2) == 0 }
            }
            21 => Call::Truncate { path, size: self.below(50) },
            22 => match self.below(2) {
                0 => Call::Access { path, mode: self.below(8) as u32 },
                _ => Call::SetTimes { path, now: self.below(2) == 0 },
            },
            _ => Call::List { path },
        }
    }
}

/// The host's side.
struct Host {
    base: String,
}

impl Host {
    /// Relative to the thread's current directory, which is the test's.
    fn full(&self, path: &str) -> CString {
        CString::new(path).unwrap()
    }

    fn at(&self, number: u64, path: &str, rest: [u64; 3]) -> Result<u64, i32> {
        let full = self.full(path);
        host_call(number, [AT_FDCWD as u64, full.as_ptr() as u64, rest[0], rest[1], rest[2]])
    }

    fn become_user(&self, user: u32) {
        // The group first: once the user is another, it may not be changed.
        host_call(number::SETFSUID, [0; 5]).unwrap();
        host_call(number::SETFSGID, [user.into(), 0, 0, 0, 0]).unwrap();
        host_call(number::SETFSUID, [user.into(), 0, 0, 0, 0]).unwrap();
    }

    fn run(&self, call: &Call) -> Outcome {
        let done = |result: Result<u64, i32>| result.map(|_| String::new());
        match call {
            Call::Open { path, flags, mode, text } => self.open(path, *flags, *mode, text.as_deref()),
            Call::MakeDirectory { path, mode } => done(self.at(number::MKDIRAT, path, [u64::from(*mode), 0, 0])),
            Call::MakeNode { path, mode } => done(self.at(number::MKNODAT, path, [u64::from(*mode), 0x103, 0])),
            Call::Unlink { path } => done(self.at(number::UNLINKAT, path, [0; 3])),
            Call::RemoveDirectory { path } => done(self.at(number::UNLINKAT, path, [0x200, 0, 0])),
            Call::Link { old, new, follow } => {
                let (new, flags) = (self.full(new), if *follow { 0x400 } else { 0 });
                done(self.at(number::LINKAT, old, [AT_FDCWD as u64, new.as_ptr() as u64, flags]))
            }
            Call::Symlink { target, path } => {
                let (target, path) = (CString::new(target.as_str()).unwrap(), self.full(path));
                let arguments = [target.as_ptr() as u64, AT_FDCWD as u64, path.as_ptr() as u64, 0, 0];
                done(host_call(number::SYMLINKAT, arguments))
            }
            Call::ReadLink { path } => {
                let mut buffer = [0u8; 100];
                let count = self.at(number::READLINKAT, path, [buffer.as_mut_ptr() as u64, 100, 0])?;
                Ok(String::from_utf8(buffer[..count as usize].to_vec()).unwrap())
            }
            Call::Rename { old, new, flags } => {
                let new = self.full(new);
                let rest = [AT_FDCWD as u64, new.as_ptr() as u64, u64::from(*flags)];
                done(self.at(number::RENAMEAT2, old, rest))
            }
            Call::Status { path, follow } => {
                let mut stat = [0u64; 18];
                let flags = if *follow { 0 } else { AT_SYMLINK_NOFOLLOW };
                self.at(number::NEWFSTATAT, path, [stat.as_mut_ptr() as u64, flags, 0])?;
                let (mode, user, group) = (stat[3] as u32, (stat[3] >> 32) as u32, stat[4] as u32);
                Ok(describe(mode, stat[2], user, group, stat[6]))
            }
            Call::ChangeMode { path, mode } => done(self.at(number::FCHMODAT, path, [u64::from(*mode), 0, 0])),
            Call::ChangeOwner { path, user, group, follow } => {
                let flags = if *follow { 0 } else { AT_SYMLINK_NOFOLLOW };
                done(self.at(number::FCHOWNAT, path, [u64::from(*user), u64::from(*group), flags]))
            }
            Call::Truncate { path, size } => {
                done(host_call(number::TRUNCATE, [self.full(path).as_ptr() as u64, *size, 0, 0, 0]))
            }
            // With AT_EACCESS, since it is the file-system ids that this thread changes.
            Call::Access { path, mode } => done(self.at(number::FACCESSAT2, path, [u64::from(*mode), 0x200, 0])),
            Call::SetTimes { path, now } => {
                let times = [1u64, 2, 3, 4];
                let address = if *now { 0 } else { times.as_ptr() as u64 };
                done(self.at(number::UTIMENSAT, path, [address, 0, 0]))
            }
            Call::List { path } => self.list(path),
        }
    }

    fn open(&self, path: &str, flags: OpenFlags, mode: u32, text: Option<&str>) -> Outcome {
        let descriptor = self.at(number::OPENAT, path, [flags.bits().into(), mode.into(), 0])?;
        let mut outcome = String::from("open");
        if let Some(text) = text {
            let arguments = [descriptor, text.as_ptr() as u64, text.len() as u64, 0, 0];
            outcome += &format!(" wrote {:?}", host_call(number::WRITE, arguments));
        } else if flags.is_readable() {
            let mut buffer = [0u8; 64];
            let read = host_call(number::READ, [descriptor, buffer.as_mut_ptr() as u64, 64, 0, 0]);
            outcome += &format!(" read {:?}", read.map(|count| buffer[..count as usize].to_vec()));
        }
        host_call(number::CLOSE, [descriptor, 0, 0, 0, 0]).unwrap();
        Ok(outcome)
    }

    fn list(&self, path: &str) -> Outcome {
        let flags = OpenFlags::DIRECTORY.bits();
        let descriptor = self.at(number::OPENAT, path, [flags.into(), 0, 0])?;
        let mut names = Vec::new();
        loop {
            let mut buffer = [0u8; 300];
            let arguments = [descriptor, buffer.as_mut_ptr() as u64, buffer.len() as u64, 0, 0];
            let count = host_call(number::GETDENTS64, arguments)? as usize;
            if count == 0 {
                break;
            }
            let mut at = 0;
            while at < count {
                let length = u16::from_le_bytes([buffer[at + 16], buffer[at + 17]]) as usize;
                let name = buffer[at + 19..at + length].split(|byte| *byte == 0).next().unwrap();
                names.push(format!("{}:{}", String::from_utf8(name.to_vec()).unwrap(), buffer[at + 18]));
                at += length;
            }
        }
        host_call(number::CLOSE, [descriptor, 0, 0, 0, 0]).unwrap();
        names.sort();
        Ok(names.join(" "))
    }
}

fn describe(mode: u32, links: u64, user: u32, group: u32, size: u64) -> String {
    // What a directory's size means is each file system's own affair.
    let size = if mode & S_IFMT == 0o040000 { 0 } else { size };
    format!("{mode:o} {links} {user}:{group} {size}")
}

/// Keel's side.
impl Fixture {
    fn run(&self, call: &Call) -> Outcome {
        self.run_call(call).map_err(|error| error as i32)
    }

    fn run_call(&self, call: &Call) -> Result<String, Errno> {
        let context = self.context();
        let at = |path: &str, follow: bool| {
            find(&context, None, path.as_bytes(), if follow { Last::Follow } else { Last::Keep })
        };
        let rules = WriteRules { keeps_set_id_bits: self.credentials.overrides_permissions(), size_limit: u64::MAX };
        match call {
            Call::Open { path, flags, mode, text } => return self.open_and_use(path, *flags, *mode, text.as_deref()),
            Call::MakeDirectory { path, mode } => edit::make_directory(&context, None, path.as_bytes(), *mode)?,
            Call::MakeNode { path, mode } => {
                edit::make_node(&context, None, path.as_bytes(), *mode, DeviceNumber(0x103))?;
            }
            Call::Unlink { path } => self.unlink(path)?,
            Call::RemoveDirectory { path } => self.rmdir(path)?,
            Call::Link { old, new, follow } => {
                edit::link(&context, &at(old, *follow)?, None, new.as_bytes())?;
            }
            Call::Symlink { target, path } => self.symlink(target, path)?,
            Call::ReadLink { path } => {
                let location = at(path, false)?;
                let crate::fs::inode::Body::Symlink(target) = &location.dentry.inode.body else {
                    return Err(Errno::EINVAL);
                };
                return Ok(String::from_utf8(target.to_vec()).unwrap());
            }
            Call::Rename { old, new, flags } => {
                self.rename_with(old, new, RenameFlags::from_bits(*flags).unwrap())?;
            }
            Call::Status { path, follow } => {
                let status = attributes::status(&at(path, *follow)?);
                let links = u64::from(status.links);
                return Ok(describe(status.mode, links, status.user, status.group, status.size));
            }
            Call::ChangeMode { path, mode } => attributes::change_mode(&context, &at(path, true)?, *mode)?,
            Call::ChangeOwner { path, user, group, follow } => {
                let id = |id: u32| (id != u32::MAX).then_some(id);
                attributes::change_owner(&context, &at(path, *follow)?, id(*user), id(*group))?;
            }
            Call::Truncate { path, size } => attributes::truncate(&context, &at(path, true)?, *size, &rules)?,
            Call::Access { path, mode } => attributes::check_access(&context, &at(path, true)?, *mode)?,
            Call::SetTimes { path, now } => {
                let time = |seconds| NewTime::At(crate::fs::time::Timestamp { seconds, nanoseconds: 5 });
                let (accessed, modified) = if *now { (NewTime::Now, NewTime::Now) } else { (time(1), time(3)) };
                attributes::change_times(&context, &at(path, true)?, accessed, modified)?;
            }
            Call::List { path } => return self.list_with_kinds(path),
        }
        Ok(String::new())
    }

    fn open_and_use(&self, path: &str, flags: OpenFlags, mode: u32, text: Option<&str>) -> Result<String, Errno> {
        let file = open(&self.context(), None, path.as_bytes(), flags, mode)?;
        let mut outcome = String::from("open");
        if let Some(text) = text {
            let wrote = self.write(&file, text.as_bytes()).map(|count| count as u64);
            outcome += &format!(" wrote {:?}", wrote.map_err(|error| error as i32));
        } else if flags.is_readable() {
            let mut buffer = [0; 64];
            let read = file.read(&mut SliceSink::new(&mut buffer));
            let read = read.map(|count| buffer[..count].to_vec()).map_err(|error| error as i32);
            outcome += &format!(" read {read:?}");
        }
        Ok(outcome)
    }

    fn list_with_kinds(&self, path: &str) -> Result<String, Errno> {
        let file = self.open(path, OpenFlags::DIRECTORY)?;
        let mut names = Vec::new();
        file.read_directory(&mut |listed| {
            names.push(format!("{}:{}", str::from_utf8(listed.name).unwrap(), listed.kind >> 12));
            true
        })?;
        names.sort();
        Ok(names.join(" "))
    }
}

/// Makes the same empty directory on both sides, three levels down, so that `..` finds the same above it.
fn prepare(name: &str) -> (Host, Fixture) {
    let top = format!("/dev/shm/keel-{name}-{}", std::process::id());
    let _ = std::fs::remove_dir_all(&top);
    std::fs::create_dir_all(format!("{top}/p/q/r")).unwrap();
    let mut fixture = Fixture::new();
    fixture.chmod("/", 0o777).unwrap();
    for directory in ["p", "p/q", "p/q/r"] {
        fixture.mkdir(directory).unwrap();
        fixture.chmod(directory, 0o777).unwrap();
    }
    for directory in ["", "/p", "/p/q", "/p/q/r"] {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(format!("{top}{directory}"), PermissionsExt::from_mode(0o777)).unwrap();
    }
    let here = find(&fixture.context(), None, b"p/q/r", Last::Follow).unwrap();
    fixture.fs = fixture.fs.with_cwd(here).unwrap();
    (Host { base: format!("{top}/p/q/r") }, fixture)
}

/// True where the host lets this process be root, and its tmpfs and hard links are protected as Keel's.
fn host_is_oracle() -> bool {
    let protected = std::fs::read_to_string("/proc/sys/fs/protected_hardlinks").is_ok_and(|text| text.trim() == "1");
    let others = ["symlinks", "fifos", "regular"].iter().all(|kind| {
        std::fs::read_to_string(format!("/proc/sys/fs/protected_{kind}")).is_ok_and(|text| text.trim() == "0")
    });
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let shared_memory = std::fs::metadata("/dev/shm").is_ok();
    protected && others && root && shared_memory
}

#[test]
fn do_random_calls_end_as_on_linux() {
    if !host_is_oracle() {
        eprintln!("not compared: this needs root and Linux's usual fs.protected_* settings");
        return;
    }
    crate::fs::memory_devices::init().unwrap();
    // A umask and a current directory of this thread's own, apart from the other tests'.
    host_call(number::UNSHARE, [0x200, 0, 0, 0, 0]).unwrap();
    host_call(number::UMASK, [0o022, 0, 0, 0, 0]).unwrap();
    for seed in 0..24 {
        let (host, mut fixture) = prepare(&format!("random{seed}"));
        let base = CString::new(host.base.as_str()).unwrap();
        host_call(number::CHDIR, [base.as_ptr() as u64, 0, 0, 0, 0]).unwrap();
        let mut random = Random(seed);
        let mut history = Vec::new();
        for _ in 0..3000 {
            if random.below(6) == 0 {
                let user = random.pick(&[0, 0, 1000, 1001]);
                host.become_user(user);
                fixture.as_user(user);
                history.push(format!("user {user}"));
            }
            let call = random.call();
            let (expected, got) = (host.run(&call), fixture.run(&call));
            history.push(format!("{call:?} -> {expected:?}"));
            let from = history.len().saturating_sub(40);
            assert_eq!(got, expected, "seed {seed}, after:\n{}", history[from..].join("\n"));
        }
        host.become_user(0);
        std::fs::remove_dir_all(host.base.strip_suffix("/p/q/r").unwrap()).unwrap();
    }
}
