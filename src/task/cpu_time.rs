//! Who has used how much of the CPU: for quanta, for times(2) and its like, and for /proc.
//!
//! Run time is exact, in ns: a thread is charged when it leaves the CPU, at each tick, and when somebody asks. How it splits
//! into user and kernel time is estimated, by what the ticks found.

use super::load::Averages;
use super::thread::Thread;
use crate::interrupts::clock;
use crate::lock::{InterruptsOff, IrqLock, Rank};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Ticks that found a CPU in user mode, in the kernel, and idle.
static TICKS: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// For /proc/stat: ticks spent in user mode, in the kernel, and idle.
pub fn ticks_spent() -> [u64; 3] {
    TICKS.each_ref().map(|ticks| ticks.load(Relaxed))
}

/// Every five seconds.
const TICKS_PER_LOAD: u64 = 500;

static LOAD: IrqLock<Averages> = IrqLock::new(Rank::Device, Averages::new());

/// From one thread to another, since boot.
static SWITCHES: AtomicU64 = AtomicU64::new(0);

/// For /proc/loadavg: whole part and hundredths of how many threads wanted to run, over the last 1, 5 and 15 minutes.
pub fn load_averages() -> [(u64, u64); 3] {
    LOAD.lock().hundredths()
}

/// For sysinfo(2).
pub fn load_averages_scaled() -> [u64; 3] {
    LOAD.lock().scaled()
}

/// By each tick, before it is counted; `ready` tells how many threads want to run.
pub(super) fn note_load(ready: impl FnOnce() -> usize) {
    if ticks_spent().into_iter().sum::<u64>().is_multiple_of(TICKS_PER_LOAD) {
        let ready = ready();
        LOAD.lock().note(ready);
    }
}

/// For /proc/stat.
pub fn switches() -> u64 {
    SWITCHES.load(Relaxed)
}

#[inline]
pub(super) fn count_switch() {
    SWITCHES.fetch_add(1, Relaxed);
}

pub(super) fn count_idle_tick() {
    let [.., idle] = &TICKS;
    idle.fetch_add(1, Relaxed);
}

/// A tick found the running thread in user mode or in the kernel.
pub(super) fn count_tick(thread: &Thread, from_user: bool) {
    let [user, system, _] = &TICKS;
    let schedule = &thread.schedule;
    let (all, own) = if from_user { (user, &schedule.user_ticks) } else { (system, &schedule.system_ticks) };
    all.fetch_add(1, Relaxed);
    own.store(own.load(Relaxed).wrapping_add(1), Relaxed);
}

/// Books the time since the last charge to a running thread, up to now, which is returned. Interrupts are off.
pub(super) fn charge(thread: &Thread) -> u64 {
    let schedule = &thread.schedule;
    let now = clock::now_ns();
    let used = now.saturating_sub(schedule.charged_until_ns.load(Relaxed));
    schedule.charged_until_ns.store(now, Relaxed);
    schedule.run_time_ns.store(schedule.run_time_ns.load(Relaxed).wrapping_add(used), Relaxed);
    let left = schedule.quantum_left_ns.load(Relaxed).saturating_sub_unsigned(used);
    schedule.quantum_left_ns.store(left, Relaxed);
    now
}

/// Up to now, of the running thread or any other.
pub fn run_time_ns(thread: &Thread) -> u64 {
    if core::ptr::eq(super::current_raw(), thread) {
        let _interrupts = InterruptsOff::new();
        charge(thread);
    }
    thread.schedule.run_time_ns.load(Relaxed)
}

/// A thread's run time in user mode and in the kernel, ns: the exact sum, in the ratio in which ticks found it in each.
pub fn split_run_time(thread: &Thread) -> (u64, u64) {
    let total = run_time_ns(thread);
    let (user, system) = (thread.schedule.user_ticks.load(Relaxed), thread.schedule.system_ticks.load(Relaxed));
    let user_ns = match user + system {
        0 => total,
        ticks => (u128::from(total) * u128::from(user) / u128::from(ticks)) as u64,
    };
    (user_ns, total.saturating_sub(user_ns))
}
