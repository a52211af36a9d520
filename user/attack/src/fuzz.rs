//! Random system calls with hostile arguments. The same seed gives the same calls, as far as the kernel's answers don't
//! lead a victim astray.
//!
//! Each process runs victims, one after the other: a victim makes some hundred calls in a folder of its own, and may
//! die of them. A timer interrupts a victim that waits; one that has turned its timer off is killed. What would end the
//! test, and not the kernel, is left out: shutting down, mounting, setting the clock, signals to everyone.

use crate::account::Held;
use crate::is_keel;
use crate::shapes::{SHAPES, Shape};
use conformance::support::*;
use conformance::sys;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Calls that a victim makes at most.
const CALLS_OF_A_VICTIM: u64 = 200;
/// How long a victim may take.
const PATIENCE: Duration = Duration::from_millis(250);
/// Calls before what is held is counted.
const WARMING_UP: u64 = 10_000;
/// How much more may be held: caches and tables grow with how many of anything there were at once.
const SLACK: Held = Held { memory: 256 * 1024, heap: 16 * 1024, open_files: 0 };
/// Who makes the calls that aren't root's.
const NOBODY: u32 = 65534;
/// The first number that no table has.
const NUMBERS: u64 = 470;

/// Calls that would end or distort the test, whatever the kernel does.
const LEFT_OUT: &[i64] = &[
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_reboot,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_syslog,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_vhangup,
    libc::SYS_acct,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_shmget,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_mq_open,
    libc::SYS_socket,
    libc::SYS_setsid,
    libc::SYS_ptrace,
];

/// Calls whose first argument is a process: they get one that may be hurt.
const FOR_PROCESSES: &[i64] = &[
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_setpgid,
    libc::SYS_prlimit64,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_setpriority,
];

/// xorshift64*: small, fast, the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T], fallback: T) -> T {
        from.get(self.below(from.len() as u64) as usize).copied().unwrap_or(fallback)
    }
}

/// Runs the processes and prints what was done, and what the kernel holds more than before. The status is 0 unless
/// a process could not go on, or something was lost.
pub fn run(seed: u64, calls: u64, processes: u64) -> i32 {
    sys!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    // The first calls fill the kernel's caches, and make its tables grow.
    let warmed_up = run_processes(seed.wrapping_add(1), calls.min(WARMING_UP), processes);
    // A page of the initrd takes memory from its first reading on: a victim that reads this program would count as a loss.
    drop(std::fs::read("/proc/self/exe"));
    let before = Held::now();
    let failed = warmed_up + run_processes(seed, calls, processes);
    let lost = Held::now().since(before);
    println!("fuzz: seed {seed}, {calls} calls in {processes} processes, {failed} gave up");
    if is_keel() && lost.is_more_than(SLACK) {
        println!("fuzz: more is held than before: {lost}");
        return 1;
    }
    i32::from(failed > 0)
}

/// The number of processes that could not go on.
fn run_processes(seed: u64, calls: u64, processes: u64) -> usize {
    let folder = make_playground();
    let share = calls.div_ceil(processes.max(1));
    let children: Vec<i32> = (0..processes)
        .map(|number| {
            fork(|| {
                if !give_up_rights(number) {
                    return 3;
                }
                work(Random::new(seed.wrapping_add(number << 32)), share, number)
            })
        })
        .collect();
    let failed = children.iter().filter(|&&child| ending(child) != "exit 0").count();
    kill_orphans();
    if let Err(error) = std::env::set_current_dir("/").and_then(|()| std::fs::remove_dir_all(&folder)) {
        println!("fuzz: {folder} stays: {error}");
    }
    remove_what_nobody_made();
    failed
}

/// Victims that aren't locked in climb to the folders that are everybody's, and leave files there.
fn remove_what_nobody_made() {
    for entry in ["/dev/shm", "/tmp"].into_iter().filter_map(|path| std::fs::read_dir(path).ok()).flatten().flatten() {
        let is_nobodys = entry.metadata().is_ok_and(|data| data.uid() == NOBODY);
        if is_keel() && is_nobodys && std::fs::remove_file(entry.path()).is_err() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Ends what victims have left that wasn't of their group: it came here when its parent ended.
fn kill_orphans() {
    let own = std::process::id().to_string();
    loop {
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let stat = std::fs::read(entry.path().join("stat")).unwrap_or_default();
            // A name may hold anything, and the last parenthesis ends it: then come the state and the parent.
            let rest = stat.rsplit(|&byte| byte == b')').next().unwrap_or_default();
            let parent = rest.split(|&byte| byte == b' ').nth(2);
            if parent == Some(own.as_bytes())
                && let Ok(orphan) = entry.file_name().to_string_lossy().parse::<i32>()
            {
                sys!(kill(orphan, libc::SIGKILL));
            }
        }
        if sys!(waitpid(-1, std::ptr::null_mut(), libc::__WALL)) < 0 {
            return;
        }
    }
}

/// The calls would ruin a system that somebody needs: as root they change modes and remove devices. So they are made by
/// nobody; in Keel every second process is root, but locked into the playground. False if it is not certain that this
/// worked.
fn give_up_rights(number: u64) -> bool {
    if number % 2 == 1 && is_keel() {
        for (name, minor) in [(c"null", 3), (c"zero", 5), (c"full", 7)] {
            sys!(mknod(name.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, minor)));
        }
        return sys!(chroot(c".".as_ptr())) == 0;
    }
    sys!(setgroups(0, std::ptr::null()));
    sys!(setresgid(NOBODY, NOBODY, NOBODY));
    sys!(setresuid(NOBODY, NOBODY, NOBODY));
    sys!(geteuid()) != 0 && sys!(getuid()) != 0
}

fn make_playground() -> String {
    let base = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" };
    let folder = format!("{base}/fuzz.{}", std::process::id());
    let made = std::fs::create_dir(&folder).and_then(|()| std::env::set_current_dir(&folder));
    if let Err(error) = made {
        println!("fuzz: {folder}: {error}");
    }
    sys!(chmod(c".".as_ptr(), 0o777));
    folder
}

/// One process: victims until its share of calls is made.
fn work(mut random: Random, share: u64, number: u64) -> i32 {
    sys!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
    let folder = std::ffi::CString::new(format!("p{number}")).unwrap_or_default();
    sys!(mkdir(folder.as_ptr(), 0o777));
    if sys!(chdir(folder.as_ptr())) != 0 {
        return 1;
    }
    let home = open(c".", libc::O_RDONLY);
    // Counted in memory that the victims share, as they rarely live to tell.
    let memory = sys!(mmap(
        std::ptr::null_mut(),
        4096,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        -1,
        0
    ));
    if memory == libc::MAP_FAILED {
        return 2;
    }
    // SAFETY: a page of zeros that lives as long as this process; whoever writes to it, any bits are a number.
    let counter: &AtomicU64 = unsafe { &*memory.cast() };
    let mut made = 0;
    while made < share {
        let wanted = CALLS_OF_A_VICTIM.min(share - made);
        counter.store(0, Relaxed);
        let seed = random.next();
        enter_empty_folder(seed);
        let victim = fork(|| victim(Random::new(seed), wanted, counter));
        if victim < 0 {
            sleep_ms(5);
            continue;
        }
        bury(victim);
        // The victim may have locked the way back.
        sys!(fchmod(home, 0o777));
        sys!(fchdir(home));
        // A victim may have scribbled over its counter: then its whole share counts as made.
        made += counter.load(Relaxed).clamp(1, wanted);
    }
    0
}

/// A victim begins where no other has been: a FIFO in place of a file would keep it waiting. What can't be removed is moved
/// out of the way.
fn enter_empty_folder(number: u64) {
    let _ = std::fs::remove_dir_all("v").or_else(|_| std::fs::rename("v", format!("old{number}")));
    sys!(mkdir(c"v".as_ptr(), 0o777));
    sys!(chdir(c"v".as_ptr()));
}

/// Waits for a victim, and kills it with all that it made when it takes too long.
fn bury(victim: i32) {
    let deadline = Instant::now() + PATIENCE;
    while wait_with(victim, libc::WNOHANG) == "nothing yet" {
        if Instant::now() > deadline {
            sys!(kill(-victim, libc::SIGKILL));
            sys!(kill(victim, libc::SIGKILL));
            ending(victim);
            break;
        }
        sleep_ms(1);
    }
    sys!(kill(-victim, libc::SIGKILL));
    // What victims leave comes here, and would fill the table of processes.
    while sys!(waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL)) > 0 {}
}

/// What the calls' arguments are made of.
struct Pool {
    /// Three pages: to be read and written, to be read, not mapped.
    ground: usize,
    own: u64,
}

const PATHS: &[&std::ffi::CStr] = &[
    c"f",
    c"d",
    c"d/f",
    c"link",
    c"fifo",
    c"program",
    c".",
    c"..",
    c"",
    c"/",
    c"missing/x",
    c"/proc/self/maps",
    c"/proc/self/stat",
    c"/proc/self/fd/0",
    c"/proc/self/exe",
    c"/dev/null",
    c"/dev/zero",
    c"/null",
    c"/zero",
    c"/full",
    c"/dev/full",
    c"/dev/urandom",
    c"/proc",
];

fn victim(mut random: Random, calls: u64, counter: &AtomicU64) -> i32 {
    prepare();
    let ground = sys!(mmap(
        std::ptr::null_mut(),
        3 * 4096,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        -1,
        0
    )) as usize;
    sys!(mprotect((ground + 4096) as *mut _, 4096, libc::PROT_READ));
    sys!(munmap((ground + 8192) as *mut _, 4096));
    let pool = Pool { ground, own: sys!(getpid()) as u64 };
    for _ in 0..calls {
        counter.fetch_add(1, Relaxed);
        let (number, shapes) = choose(&mut random);
        if LEFT_OUT.contains(&number) {
            continue;
        }
        fill(&mut random, &pool);
        let mut arguments = [0; 6];
        for (place, argument) in arguments.iter_mut().enumerate() {
            let shape =
                if random.below(8) == 0 { Shape::Any } else { shapes.get(place).copied().unwrap_or(Shape::Any) };
            *argument = shaped(&mut random, &pool, shape);
        }
        if FOR_PROCESSES.contains(&number) {
            arguments[0] = random.pick(&[pool.own, 0x3ff_ffff, 0x7fff_ffff], pool.own);
            arguments[1] = if number == libc::SYS_tgkill { pool.own } else { arguments[1] };
        }
        // SAFETY: none is promised: this process is a victim, and its memory is its own.
        unsafe { call(number, arguments) };
    }
    0
}

/// A victim's surroundings: its own group, few resources, no console, a timer, files of each kind.
fn prepare() {
    sys!(setpgid(0, 0));
    let null =
        [c"/dev/null", c"/null"].into_iter().map(|path| open(path, libc::O_RDWR)).find(|file| *file >= 0).unwrap_or(-1);
    for descriptor in 0..3 {
        // An earlier victim may have removed the device: what is printed must not be a victim's doing.
        if sys!(dup2(null, descriptor)) < 0 {
            close(descriptor);
        }
    }
    for (what, value) in [
        (libc::RLIMIT_AS, 1_u64 << 30),
        (libc::RLIMIT_NPROC, 200),
        (libc::RLIMIT_FSIZE, 1 << 20),
        (libc::RLIMIT_CPU, 5),
        (libc::RLIMIT_CORE, 0),
    ] {
        sys!(setrlimit(what, &libc::rlimit { rlim_cur: value, rlim_max: value }));
    }
    make_file(c"f", b"some content", 0o666);
    make_file(c"program", &conformance::elf::Elf::right().bytes(), 0o755);
    sys!(mkdir(c"d".as_ptr(), 0o777));
    sys!(mkfifo(c"fifo".as_ptr(), 0o666));
    sys!(symlink(c"f".as_ptr(), c"link".as_ptr()));
    pipe();
    open(c"f", libc::O_RDWR);
    open(c".", libc::O_RDONLY);
    // Without SA_RESTART: whatever waits is to be interrupted.
    // SAFETY: a sigaction is plain integers, for which zeros are valid; the handler does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGALRM, &action, std::ptr::null_mut());
    }
    let often = libc::timeval { tv_sec: 0, tv_usec: 3_000 };
    sys!(setitimer(libc::ITIMER_REAL, &libc::itimerval { it_interval: often, it_value: often }, std::ptr::null_mut()));
}

extern "C" fn nothing(_: i32) {}

/// A call: in every other case any at all, else one whose arguments have a shape.
fn choose(random: &mut Random) -> (i64, &'static [Shape]) {
    if random.below(2) == 0 {
        return (random.below(NUMBERS) as i64, &[]);
    }
    random.pick(SHAPES, (libc::SYS_getpid, &[]))
}

/// An argument that the call could mean.
fn shaped(random: &mut Random, pool: &Pool, shape: Shape) -> u64 {
    const LENGTHS: &[u64] = &[0, 1, 7, 64, 100, 4095, 4096, 4097, 8192, 65536, 100_000, 1 << 20, 1 << 31, 1 << 40];
    let ground = pool.ground as u64;
    match shape {
        Shape::File if random.below(8) == 0 => libc::AT_FDCWD as u64,
        Shape::File => random.below(12),
        Shape::Path => random.pick(PATHS, c"f").as_ptr() as u64,
        Shape::Memory => random.pick(&[0, ground, ground + 8, ground + 64, ground + 4000, ground + 8000], ground),
        Shape::Page => random.pick(&[0, 0x10_0000, 0x10_1000, 0x7000_0000, ground, ground + 4096, ground + 8192], 0),
        Shape::Length => random.pick(LENGTHS, 0),
        Shape::Bits(bits) => random.next() & random.next() & bits,
        Shape::Below(limit) => random.below(limit),
        Shape::Own => pool.own,
        Shape::Any => hostile(random, pool),
    }
}

/// Fills the ground's start with words of the same kinds as the arguments: structures full of bad pointers and sizes.
fn fill(random: &mut Random, pool: &Pool) {
    for word in 0..16 {
        let value = hostile(random, pool);
        let place = (pool.ground + word * 8) as *mut u64;
        // The victim may have unmapped or protected its ground: then it dies here, like any program that does so.
        // SAFETY: as for `victim`.
        unsafe { place.write_volatile(value) };
    }
}

/// One argument.
fn hostile(random: &mut Random, pool: &Pool) -> u64 {
    let ground = pool.ground as u64;
    match random.below(16) {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3..=5 => random.below(16),
        6 => random.pick(PATHS, c"f").as_ptr() as u64,
        7 => ground + random.below(64),
        8 => ground + 4096 + random.below(8) - 4,
        9 => ground + 8192 - random.below(16),
        10 => random.pick(
            &[
                0xffff_8000_0000_0000,
                0xffff_ffff_8000_0000,
                0x8000_0000_0000,
                0x7fff_ffff_f000,
                0x1000,
                0xdead_beef_0000,
            ],
            0,
        ),
        11 => 1 << random.below(64),
        12 => (1_u64 << random.below(64)).wrapping_sub(1),
        13 => random.pick(&[4096, 8192, 65536, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 32, i64::MAX as u64], 0),
        14 => libc::AT_FDCWD as u64,
        _ => random.next(),
    }
}

/// Makes a call. A new process or thread that it makes ends at once, on whatever stack it has.
///
/// # Safety
/// The caller must be ready to lose its memory, its descriptors and its life.
unsafe fn call(number: i64, arguments: [u64; 6]) {
    let makes_process = [libc::SYS_fork, libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3].contains(&number);
    // SAFETY: passed on to our caller. The child's part uses no stack.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test {makes_process}, {makes_process}",
            "jz 2f",
            "test rax, rax",
            "jnz 2f",
            "xor edi, edi",
            "mov eax, 60",
            "syscall",
            "2:",
            makes_process = in(reg) u64::from(makes_process),
            inlateout("rax") number => _, inlateout("rdi") arguments[0] => _, in("rsi") arguments[1], in("rdx") arguments[2],
            in("r10") arguments[3], in("r8") arguments[4], in("r9") arguments[5], lateout("rcx") _, lateout("r11") _
        );
    }
}
