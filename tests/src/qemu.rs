//! A guest in QEMU: what machine it is, its start, and what a test may ask of it.
//!
//! Time limits are in guest time: under `-icount` the guest's clock counts its instructions, so that a loaded host makes a
//! test slower and not red. A generous limit of the host's time stands behind it, for guests whose clock stands still.

use crate::console::Console;
use crate::failure::Failure;
use crate::picture::Picture;
use crate::project::{self, TemporaryFolder};
use crate::qmp::{self, Qmp};
use serde_json::json;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const POLL_TIME: Duration = Duration::from_millis(250);
/// How long the guest's clock may stand still before its CPUs are looked at.
const STANDSTILL_TIME: Duration = Duration::from_secs(5);
const START_TIME: Duration = Duration::from_secs(60);
/// How long a key is held down, in the guest's time: short, and longer than the keyboard needs for its bytes.
const KEY_TIME_MS: u32 = 10;
const TEXT_MEMORY: usize = 0xb8000;
const TEXT_COLUMNS: usize = 80;
const TEXT_ROWS: usize = 25;

/// What happens while all CPUs wait for an interrupt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// The clock jumps to the next timer: a sleeping guest costs nothing. For guests that need no input.
    Skipped,
    /// The clock runs on with the host's: for guests that are typed to.
    RealTime,
}

/// What a guest starts from.
#[derive(Debug, Clone)]
pub enum Start {
    Cd(PathBuf),
    Disk(PathBuf),
    /// The kernel itself, by its PVH note: no boot loader, no firmware's delays.
    Kernel {
        kernel: PathBuf,
        initrd: Option<PathBuf>,
        command_line: String,
    },
}

/// A machine to start. The fields' defaults are a plain PC of 128 MiB.
#[derive(Debug, Clone)]
pub struct Machine {
    pub start: Start,
    pub board: &'static str,
    pub cpu: &'static str,
    pub cpus: u32,
    pub memory_mib: u32,
    pub uefi: bool,
    pub serial: bool,
    pub idle: Idle,
    /// 2 to this power nanoseconds of guest time an instruction. 0 where instructions are counted; firmware, which waits
    /// by the clock, takes too long with it.
    pub shift: u32,
    /// A machine that switches itself off stays as it is, so that its screen can still be read.
    pub keep_when_off: bool,
    /// isa-debug-exit, for command lines with exit=isa-debug.
    pub debug_exit: bool,
}

impl Machine {
    pub fn from_image(start: Start) -> Machine {
        Machine {
            start,
            board: "pc",
            cpu: "qemu64",
            cpus: 1,
            memory_mib: 128,
            uefi: false,
            serial: true,
            idle: Idle::Skipped,
            shift: 5,
            keep_when_off: false,
            debug_exit: false,
        }
    }

    pub fn from_kernel(kernel: PathBuf, initrd: Option<PathBuf>, command_line: &str) -> Machine {
        let start = Start::Kernel { kernel, initrd, command_line: command_line.to_owned() };
        Machine { cpu: "max", shift: 0, debug_exit: true, ..Machine::from_image(start) }
    }

    /// The arguments that make the machine; the lines to the harness aren't among them.
    fn arguments(&self) -> Vec<String> {
        let sleep = if self.idle == Idle::Skipped { "off" } else { "on" };
        let mut arguments: Vec<String> = vec![
            "-machine".into(),
            self.board.into(),
            "-accel".into(),
            "tcg,thread=single".into(),
            "-icount".into(),
            format!("shift={},sleep={sleep}", self.shift),
            "-cpu".into(),
            self.cpu.into(),
            "-smp".into(),
            self.cpus.to_string(),
            "-m".into(),
            self.memory_mib.to_string(),
            "-rtc".into(),
            "base=2020-01-01,clock=vm".into(),
            "-seed".into(),
            "1".into(),
            "-display".into(),
            "none".into(),
            "-nic".into(),
            "none".into(),
            "-no-reboot".into(),
        ];
        let mut add = |text: String| arguments.extend(text.split(' ').map(str::to_owned));
        if self.keep_when_off {
            add("-no-shutdown".into());
        }
        if self.debug_exit {
            add("-device isa-debug-exit,iobase=0xf4".into());
        }
        if self.uefi {
            add("-drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd".into());
            add("-drive if=pflash,format=raw,unit=1,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd".into());
        }
        match &self.start {
            Start::Cd(image) => arguments.extend(["-cdrom".into(), shown(image)]),
            Start::Disk(image) => {
                arguments.extend(["-drive".into(), format!("format=raw,snapshot=on,file={}", shown(image))]);
            }
            Start::Kernel { kernel, initrd, command_line } => {
                arguments.extend(["-kernel".into(), shown(kernel), "-append".into(), command_line.clone()]);
                if let Some(initrd) = initrd {
                    arguments.extend(["-initrd".into(), shown(initrd)]);
                }
            }
        }
        arguments
    }

    /// The command that starts the same machine by hand, its serial line on the terminal.
    pub fn command(&self) -> String {
        let serial = if self.serial { "stdio" } else { "none" };
        let quoted: Vec<String> = self.arguments().iter().map(|argument| quoted(argument)).collect();
        format!("qemu-system-x86_64 {} -serial {serial}", quoted.join(" "))
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// An argument as a shell wants it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:+".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

/// How long a guest may take: in its own time, and in the host's as a last resort.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    pub guest_s: u64,
    pub wall: Duration,
}

impl Limit {
    /// The host's time is ample: a guest second takes a few host seconds at shift 0, and less at others.
    pub fn guest_seconds(guest_s: u64) -> Limit {
        Limit { guest_s, wall: Duration::from_secs(120 + guest_s * 4) }
    }
}

/// A running guest. It is killed when dropped.
pub struct Guest {
    pub console: Console,
    machine: Machine,
    qmp: Qmp,
    child: Child,
    ended: Option<ExitStatus>,
    folder: TemporaryFolder,
    log: PathBuf,
}

impl Guest {
    /// Starts a machine; `name` is the test's, for the files that are left behind.
    pub fn start(machine: &Machine, name: &str) -> Result<Guest, Failure> {
        let folder = TemporaryFolder::new()?;
        let serial_path = folder.path().join("serial");
        let qmp_path = folder.path().join("qmp");
        // The sockets listen before QEMU starts, so that nothing is lost and nobody has to try again.
        let serial_listener = UnixListener::bind(&serial_path)?;
        let qmp_listener = UnixListener::bind(&qmp_path)?;
        let mut command = Command::new("qemu-system-x86_64");
        command.args(machine.arguments());
        command.args(["-chardev", &format!("socket,id=qmp,path={}", shown(&qmp_path))]);
        command.args(["-mon", "chardev=qmp,mode=control"]);
        if machine.serial {
            command.args(["-chardev", &format!("socket,id=serial,path={}", shown(&serial_path))]);
            command.args(["-serial", "chardev:serial"]);
        } else {
            command.args(["-serial", "none"]);
        }
        let log = project::artifacts()?.join(format!("{}.qemu", project::file_name(name)));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()
            .map_err(|error| Failure::new(format!("qemu-system-x86_64: {error}")))?;
        let connected = (|| {
            let qmp_stream = accept(&qmp_listener, &mut child)?;
            let console = if machine.serial {
                Console::over_socket(accept(&serial_listener, &mut child)?)?
            } else {
                Console::fed_by(io::empty())
            };
            Ok((console, Qmp::new(qmp_stream)?))
        })();
        match connected {
            Ok((console, qmp)) => Ok(Guest { console, machine: machine.clone(), qmp, child, ended: None, folder, log }),
            Err(failure) => {
                let _ = child.kill();
                let _ = child.wait();
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                Err(Failure::with_guest_output(failure, &said).with_command(machine.command()))
            }
        }
    }

    /// A failure with all that this guest can add to it.
    pub fn failure(&self, reason: impl Into<String>) -> Failure {
        let mut output = self.console.text();
        if let Ok(said) = std::fs::read_to_string(&self.log)
            && !said.trim().is_empty()
        {
            output.push_str(&format!("\nQEMU says: {said}"));
        }
        Failure::new(reason).with_guest_output(&output).with_command(self.machine.command())
    }

    /// Waits until the serial line holds the text somewhere behind `position`, and returns the position behind it.
    pub fn wait_for_text(&mut self, position: usize, text: &str, limit: Limit) -> Result<usize, Failure> {
        self.wait_until(limit, &format!("{text:?} on the serial line"), |guest| {
            let found = guest.console.text_from(position).find(text).map(|_| guest.console.position());
            Ok(found)
        })
    }

    /// Waits until the machine is off, and returns QEMU's exit status.
    pub fn wait_for_end(&mut self, limit: Limit) -> Result<ExitStatus, Failure> {
        let end = self.wait_until(limit, "the machine to power off", |guest| guest.end());
        // What was on its way over the socket when QEMU ended.
        while self.ended.is_some() && !self.console.is_closed() {
            self.console.wait_for_more(self.console.position(), POLL_TIME);
        }
        end
    }

    /// QEMU's exit status once it has ended.
    pub fn end(&mut self) -> Result<Option<ExitStatus>, Failure> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
        }
        Ok(self.ended)
    }

    /// Asks again and again, whenever the guest has printed something and four times a second, until there is an answer.
    pub fn wait_until<T>(
        &mut self,
        limit: Limit,
        expected: &str,
        mut ask: impl FnMut(&mut Guest) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let mut clock = StandstillClock::new(self.guest_seconds());
        let first_second = clock.second;
        loop {
            let position = self.console.position();
            let ended = self.end()?.is_some() || self.is_kept_though_off();
            if let Some(answer) = ask(self)? {
                return Ok(answer);
            }
            if ended {
                thread::sleep(POLL_TIME);
                return match ask(self)? {
                    Some(answer) => Ok(answer),
                    None => Err(self.failure(format!("expected {expected}, but the machine went off or reset"))),
                };
            }
            if self.console.is_closed() {
                thread::sleep(POLL_TIME);
            } else {
                self.console.wait_for_more(position, POLL_TIME);
            }
            if self.console.position() != position {
                clock.moved();
                continue;
            }
            let second = self.guest_seconds();
            clock.see(second);
            if clock.stands_still() && self.is_halted_for_good() {
                let reason = format!("expected {expected}, but the guest has halted with interrupts off");
                return Err(self.failure(reason));
            }
            let passed = second.unwrap_or(0).saturating_sub(first_second.unwrap_or(0));
            if passed > limit.guest_s || started.elapsed() > limit.wall {
                // An idle guest's clock flies: the answer may have come just before.
                if let Some(answer) = ask(self)? {
                    return Ok(answer);
                }
                return Err(self.failure(format!(
                    "expected {expected} within {} s of guest time; {passed} s of it and {} s of the host's have passed",
                    limit.guest_s,
                    started.elapsed().as_secs()
                )));
            }
        }
    }

    fn is_kept_though_off(&mut self) -> bool {
        self.machine.keep_when_off
            && self.qmp.execute("query-status", json!({})).is_ok_and(|answer| answer["status"] == "shutdown")
    }

    /// The guest's clock; None when QEMU has ended.
    pub fn guest_seconds(&mut self) -> Option<u64> {
        let time = self.qmp.execute("qom-get", json!({ "path": "/machine", "property": "rtc-time" })).ok()?;
        qmp::seconds_of_rtc(&time)
    }

    fn is_halted_for_good(&mut self) -> bool {
        const INTERRUPT_FLAG: u64 = 1 << 9;
        let Ok(registers) = self.qmp.monitor("info registers -a") else { return false };
        let flags = values_behind(&registers, "RFL=", 16);
        let halted = values_behind(&registers, "HLT=", 10);
        let dead = |(flags, halted): (&u64, &u64)| *halted == 1 && flags & INTERRUPT_FLAG == 0;
        !flags.is_empty() && flags.len() == halted.len() && flags.iter().zip(&halted).all(dead)
    }

    /// A command of QEMU's human monitor, for what has no other way.
    pub fn monitor(&mut self, line: &str) -> Result<String, Failure> {
        self.qmp.monitor(line)
    }

    /// Presses keys one after the other, in QEMU's names: "a", "ret", "ctrl-c".
    pub fn press(&mut self, keys: &[&str]) -> Result<(), Failure> {
        for combination in keys {
            let keys: Vec<_> = combination.split('-').map(|key| json!({ "type": "qcode", "data": key })).collect();
            self.qmp.execute("send-key", json!({ "keys": keys, "hold-time": KEY_TIME_MS }))?;
        }
        Ok(())
    }

    /// What the screen shows, as pixels.
    pub fn picture(&mut self) -> Result<Picture, Failure> {
        let file = self.folder.path().join("screen.ppm");
        self.qmp.execute("screendump", json!({ "filename": shown(&file) }))?;
        Picture::from_ppm(&std::fs::read(&file)?)
    }

    /// Writes what the screen shows to a PNG file.
    pub fn save_picture(&mut self, file: &Path) -> Result<(), Failure> {
        self.qmp.execute("screendump", json!({ "filename": shown(file), "format": "png" }))?;
        Ok(())
    }

    /// What the screen shows, as text: out of the text screen's memory, or read off the pixels.
    pub fn screen_text(&mut self) -> Result<String, Failure> {
        let picture = self.picture()?;
        if !picture.is_text_screen() {
            return Ok(crate::screen::text_of(&picture));
        }
        let file = self.folder.path().join("text");
        let size = TEXT_COLUMNS * TEXT_ROWS * 2;
        self.qmp.execute("pmemsave", json!({ "val": TEXT_MEMORY, "size": size, "filename": shown(&file) }))?;
        Ok(crate::screen::text_of_cells(&std::fs::read(&file)?, TEXT_COLUMNS))
    }

    /// Waits until the screen shows the text. On failure a picture of the screen is left behind.
    pub fn wait_for_screen(&mut self, text: &str, limit: Limit, picture_name: &str) -> Result<(), Failure> {
        let mut shown = String::new();
        let found = self.wait_until(limit, &format!("{text:?} on the screen"), |guest| {
            shown = guest.screen_text()?;
            Ok(shown.contains(text).then_some(()))
        });
        found.map_err(|failure| {
            let mut reason = failure.reason().to_owned();
            let rows: Vec<&str> = shown.lines().map(str::trim_end).filter(|row| !row.is_empty()).collect();
            reason.push_str(&format!("; the screen reads:\n    # {}", rows.join("\n    # ")));
            if let Ok(folder) = project::artifacts() {
                let file = folder.join(format!("{}.png", project::file_name(picture_name)));
                if self.save_picture(&file).is_ok() {
                    reason.push_str(&format!("\n  its picture is in {}", file.display()));
                }
            }
            self.failure(reason)
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Notices that the guest's clock no longer moves.
struct StandstillClock {
    second: Option<u64>,
    since: Instant,
}

impl StandstillClock {
    fn new(second: Option<u64>) -> StandstillClock {
        StandstillClock { second, since: Instant::now() }
    }

    fn moved(&mut self) {
        self.since = Instant::now();
    }

    fn see(&mut self, second: Option<u64>) {
        if second != self.second {
            *self = StandstillClock::new(second);
        }
    }

    fn stands_still(&self) -> bool {
        self.since.elapsed() > STANDSTILL_TIME
    }
}

/// The numbers that follow a name wherever it stands in a text.
fn values_behind(text: &str, name: &str, radix: u32) -> Vec<u64> {
    let number = |rest: &str| {
        let end = rest.find(|c: char| !c.is_digit(radix)).unwrap_or(rest.len());
        u64::from_str_radix(&rest[..end], radix).unwrap_or(0)
    };
    text.split(name).skip(1).map(number).collect()
}

/// Waits for QEMU to connect, or to end.
fn accept(listener: &UnixListener, child: &mut Child) -> Result<UnixStream, Failure> {
    listener.set_nonblocking(true)?;
    let started = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if let Some(status) = child.try_wait()? {
            return Err(Failure::new(format!("QEMU ended at once with {status}")));
        }
        if started.elapsed() > START_TIME {
            return Err(Failure::new("QEMU does not connect"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_repeat_is_fit_for_a_shell() {
        let machine = Machine::from_kernel("keel.elf".into(), None, r#"init=/sbin/init -- "a b""#);
        let command = machine.command();
        assert!(command.contains(r#"-append 'init=/sbin/init -- "a b"'"#), "{command}");
        assert!(command.ends_with("-serial stdio"), "{command}");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn registers_are_found_in_the_monitors_answer() {
        let answer = "CPU#0\nRIP=ffff RFL=00000046 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1\nCPU#1\nRFL=00000202 HLT=0\n";
        assert_eq!(values_behind(answer, "RFL=", 16), [0x46, 0x202]);
        assert_eq!(values_behind(answer, "HLT=", 10), [1, 0]);
    }
}
