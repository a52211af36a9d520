//! The machine on which both kernels are measured, and what is asked of it: the figures, and whether a shell comes up.
//!
//! Nothing talks to a running machine: its serial line goes into a file. So the same kernel gives the same figures in each run,
//! however busy the host is.

use crate::failure::Failure;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The CPU model of Keel and of lean Linux. A byte of `rep movsb` counts as an instruction: a kernel that is told of fast
/// ones (ERMS) would look four times dearer than it is.
pub const LEAN_CPU: &str = "max,erms=off,la57=off";
pub const SHIPPED_CPU: &str = "max";
/// What this image of Linux can do without.
pub const LEAN_WORDS: &str = "mitigations=off nokaslr norandmaps init_on_alloc=0 randomize_kstack_offset=off lsm= audit=0 \
    cgroup_disable=memory psi=0";

const MEMORY_MIB: u32 = 256;
/// A run takes Keel seconds, and Linux a minute or two of a busy host's time.
const LIMIT: Duration = Duration::from_secs(900);
const POLL_TIME: Duration = Duration::from_millis(50);
/// With what the prompt begins of init's shell, of Keel's own programs: a path follows.
const PROMPT: &str = "keel:/";

/// A kernel, and how it is started.
#[derive(Debug, Clone)]
pub struct SetUp {
    pub name: &'static str,
    pub kernel: PathBuf,
    pub words: &'static str,
    pub cpu: &'static str,
    /// Real time on this host's CPU, in place of instructions.
    pub kvm: bool,
}

impl SetUp {
    fn command(&self, initrd: &Path, words: &str, memory_mib: u32, serial: &Path) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-smp", "1", "-m", &memory_mib.to_string(), "-display", "none", "-monitor", "none"]);
        command.args(["-no-reboot", "-net", "none"]);
        if self.kvm {
            command.args(["-accel", "kvm", "-cpu", "host"]);
        } else {
            command.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-seed", "1"]);
            command.args(["-rtc", "base=2020-01-01,clock=vm", "-cpu", self.cpu]);
        }
        command.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(initrd);
        command.arg("-append").arg(format!("console=ttyS0 panic=-1 {} {words}", self.words));
        command.arg("-serial").arg(format!("file:{}", serial.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs user/bench as init until the machine is off, and returns what it printed.
    pub fn measure(&self, initrd: &Path, operations: &[String], folder: &Path) -> Result<String, Failure> {
        let serial = folder.join(format!("{}.log", self.name));
        let names: Vec<String> = operations.iter().map(|name| format!("\"{name}\"")).collect();
        // What comes before `--` is the kernel's, what comes after it is init's.
        let words = format!("quiet -- {}", names.join(" "));
        let mut guest = Running::start(self.command(initrd, &words, MEMORY_MIB, &serial), &serial)?;
        let started = Instant::now();
        while !guest.has_ended()? {
            if started.elapsed() > LIMIT {
                let reason = format!("{} was not done within {} s", self.name, LIMIT.as_secs());
                return Err(Failure::new(reason).with_guest_output(&guest.output()));
            }
            thread::sleep(POLL_TIME);
        }
        Ok(guest.output())
    }

    /// Starts init and its shell in this much memory: what was printed until the prompt came; None if it didn't come.
    pub fn boot_to_prompt(&self, initrd: &Path, memory_mib: u32, folder: &Path) -> Result<Option<String>, Failure> {
        /// A kernel that gets stuck for want of memory, rather than say so, is given up after this.
        const LIMIT: Duration = Duration::from_secs(120);
        let serial = folder.join(format!("{}.memory.log", self.name));
        let words = "init=/sbin/init rdinit=/sbin/init";
        let mut guest = Running::start(self.command(initrd, words, memory_mib, &serial), &serial)?;
        let started = Instant::now();
        loop {
            let ended = guest.has_ended()?;
            let output = guest.output();
            if output.contains(PROMPT) {
                return Ok(Some(output));
            }
            if ended || started.elapsed() > LIMIT {
                return Ok(None);
            }
            thread::sleep(POLL_TIME);
        }
    }
}

/// A machine that is killed when it is dropped.
struct Running<'a> {
    child: Child,
    serial: &'a Path,
}

impl Running<'_> {
    fn start(mut command: Command, serial: &Path) -> Result<Running<'_>, Failure> {
        let _ = fs::remove_file(serial);
        let child = command.spawn().map_err(|error| Failure::new(format!("qemu-system-x86_64: {error}")))?;
        Ok(Running { child, serial })
    }

    fn has_ended(&mut self) -> Result<bool, Failure> {
        Ok(self.child.try_wait()?.is_some())
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.serial).unwrap_or_default()).replace('\r', "")
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The least number up to `most` for which `boots` holds, if it does for `most`. The one below it was tried, too.
pub fn least(most: u32, mut boots: impl FnMut(u32) -> Result<bool, Failure>) -> Result<Option<u32>, Failure> {
    if !boots(most)? {
        return Ok(None);
    }
    let (mut too_little, mut enough) = (0, most);
    while enough - too_little > 1 {
        let middle = too_little.midpoint(enough);
        if boots(middle)? {
            enough = middle;
        } else {
            too_little = middle;
        }
    }
    Ok(Some(enough))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_that_boots_is_found_in_few_boots() {
        for needed in 1..=128 {
            let mut tried = Vec::new();
            let found = least(128, |memory| {
                tried.push(memory);
                Ok(memory >= needed)
            });
            assert_eq!(found.unwrap(), Some(needed));
            assert!(tried.len() <= 8 && tried.contains(&needed) && (needed == 1 || tried.contains(&(needed - 1))));
        }
    }

    #[test]
    fn where_nothing_boots_there_is_no_least() {
        assert_eq!(least(64, |_| Ok(false)).unwrap(), None);
        assert!(least(64, |_| Err(Failure::new("no QEMU"))).is_err());
    }
}
