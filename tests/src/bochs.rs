//! A guest in Bochs, which models old chips strictly: what runs on QEMU and not here won't run on a real PC either.
//!
//! Debian's Bochs stops at its debugger's prompt: a file of debugger commands lets it go on, for a bounded number of
//! instructions. Its screen is served over RFB, its serial line goes to a file.

use crate::failure::Failure;
use crate::picture::Picture;
use crate::project::{self, TemporaryFolder};
use crate::rfb::Rfb;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Instructions a second of guest time, a fast PC of those years.
const SPEED: u64 = 100_000_000;
/// Its screen has 256 colours at most, so the boot loader chooses the text screen.
const VGA_BIOS: &str = "/usr/share/seabios/vgabios-stdvga.bin";
/// What a kernel says that says nothing else afterwards.
const PANIC: &str = "KERNEL PANIC";
const POLL_TIME: Duration = Duration::from_millis(200);

pub struct Bochs {
    child: Child,
    folder: TemporaryFolder,
    screen: Option<Rfb>,
    wall: Duration,
}

impl Bochs {
    /// Boots an image from its CD drive on one of Bochs' CPU models.
    pub fn start(image: &Path, cpu: &str, guest_s: u64) -> Result<Bochs, Failure> {
        let folder = TemporaryFolder::new()?;
        let (configuration, commands) = (folder.path().join("bochsrc"), folder.path().join("commands"));
        std::fs::write(&configuration, configuration_text(image, cpu, folder.path()))?;
        std::fs::write(&commands, format!("sb {}\nc\nq\n", guest_s * SPEED))?;
        let child = Command::new("bochs")
            .args(["-q", "-f"])
            .arg(&configuration)
            .arg("-rc")
            .arg(&commands)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| Failure::new(format!("bochs: {error}")))?;
        Ok(Bochs { child, folder, screen: None, wall: Duration::from_secs(120 + guest_s * 2) })
    }

    pub fn serial_text(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("serial")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Waits for text on the serial line.
    pub fn wait_for_text(&mut self, text: &str) -> Result<(), Failure> {
        let started = Instant::now();
        while !self.serial_text().contains(text) {
            if self.serial_text().contains(PANIC) {
                return Err(self.failure(format!("expected {text:?} on the serial line, but the kernel panicked")));
            }
            if self.child.try_wait()?.is_some() {
                return Err(self.failure(format!("expected {text:?} on the serial line, but Bochs has ended")));
            }
            if started.elapsed() > self.wall {
                let waited = self.wall.as_secs();
                return Err(self.failure(format!("expected {text:?} on the serial line; {waited} s have passed")));
            }
            thread::sleep(POLL_TIME);
        }
        Ok(())
    }

    pub fn picture(&mut self) -> Result<Picture, Failure> {
        let mut screen = match self.screen.take() {
            Some(screen) => screen,
            None => Rfb::connect(self.screen_port()?)?,
        };
        let picture = screen.picture()?;
        self.screen = Some(screen);
        Ok(picture)
    }

    /// Waits until the screen shows the text; a picture is left behind if it never does.
    pub fn wait_for_screen(&mut self, text: &str, picture_name: &str) -> Result<(), Failure> {
        let started = Instant::now();
        let vga_bios = std::fs::read(VGA_BIOS)?;
        loop {
            let picture = self.picture()?;
            let shown = crate::screen::text_of_bochs_window(&picture, &vga_bios);
            if shown.contains(text) {
                return Ok(());
            }
            if started.elapsed() > Duration::from_secs(20) {
                let file = project::artifacts()?.join(format!("{}.ppm", project::file_name(picture_name)));
                std::fs::write(&file, picture.to_ppm())?;
                return Err(self.failure(format!(
                    "expected {text:?} on the screen, which reads:\n{shown}\n  its picture is in {}",
                    file.display()
                )));
            }
        }
    }

    /// Bochs takes the first free port from 5900 on, and says which in its log.
    fn screen_port(&self) -> Result<u16, Failure> {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        port_in(&log).ok_or_else(|| self.failure("Bochs' log doesn't name the port that it serves its screen on"))
    }

    /// A failure with the guest's output and what Bochs itself complained about.
    fn failure(&self, reason: impl Into<String>) -> Failure {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let complaints: Vec<&str> =
            log.lines().filter(|line| line.contains("PANIC") || line.contains("e[CPU")).collect();
        let output = format!("{}\nBochs says:\n{}", self.serial_text(), complaints.join("\n"));
        Failure::new(reason).with_guest_output(&output).with_command("make bochs")
    }
}

impl Drop for Bochs {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn port_in(log: &str) -> Option<u16> {
    let line = log.lines().find(|line| line.contains("listening for connections on port"))?;
    line.split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .find(|port| (5900..6000).contains(port))
}

fn configuration_text(image: &Path, cpu: &str, folder: &Path) -> String {
    let file = |name: &str| -> PathBuf { folder.join(name) };
    format!(
        "config_interface: textconfig\n\
         display_library: rfb, options=\"timeout=0\"\n\
         cpu: model={cpu}, count=1, ips={SPEED}, reset_on_triple_fault=0\n\
         memory: guest=128, host=128\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest\n\
         vgaromimage: file={VGA_BIOS}\n\
         vga: extension=vbe\n\
         ata0: enabled=1\n\
         ata0-master: type=cdrom, path={}, status=inserted\n\
         boot: cdrom\n\
         com1: enabled=1, mode=file, dev={}\n\
         clock: sync=slowdown, time0=1577836800\n\
         sound: waveoutdrv=dummy\n\
         log: {}\n\
         panic: action=fatal\n\
         error: action=report\n",
        image.display(),
        file("serial").display(),
        file("log").display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screens_port_is_read_from_bochs_log() {
        assert_eq!(port_in("x\n00000000000i[RFB   ] listening for connections on port 5901\n"), Some(5901));
        assert_eq!(port_in("no such line"), None);
    }
}
