//! Sessions at the terminals, as people have them: Debian's bash with its job control, and the programs that take the
//! whole screen, on the serial line and on the screen; our own init and shell; orderly ends.

use crate::boot_matrix::FIRST_LINE;
use crate::failure::Failure;
use crate::project::{self, TemporaryFolder};
use crate::qemu::{Limit, Machine, Start};
use crate::runner::Job;
use crate::session::{Seat, Session};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const BASH: &str = "root@keel:~# ";
const KEEL: &str = "keel:/root# ";
const END_LIMIT_S: u64 = 60;

/// A job that tells when it comes to the foreground and when it leaves it: nothing is typed to it too early.
const JOB: &str = r#"#!/bin/bash
trap 'echo the job was interrupted; exit' INT
while :; do
    read -r stat < /proc/$$/stat
    set -- $stat
    now=back
    [ "$5" = "$8" ] && now=front
    [ $now = "$was" ] || echo "the job is in $now"
    was=$now
    sleep 0.05
done
"#;

/// Limits, as for ulimit; then a user's bombs.
const BOMBS: &str = r#"#!/bin/bash
ulimit "$@"
exec su -s /bin/bash nobody -c '/tests/attack bomb memory & exec /tests/attack bomb processes' > /dev/null 2>&1
"#;

pub fn jobs() -> Vec<Job> {
    let on_both = |question: &'static str, script: fn(&mut Session) -> Result<(), Failure>| {
        [("the serial line", Seat::SerialLine), ("the screen", Seat::Screen)].map(|(place, seat)| {
            let name = format!("session: {question} on {place}?");
            Job::test(name.clone(), move || script(&mut session(seat, "debian", &name)?))
        })
    };
    let mut jobs = Vec::new();
    jobs.extend(on_both("does bash control jobs", job_control));
    jobs.extend(on_both("do vi, less, top and stty work", full_screen_programs));
    jobs.push(Job::test("session: does the image with Debian's programs start bash?", debian_image));
    jobs.push(Job::test("session: do our own init and shell work?", own_programs));
    jobs.push(Job::test("session: does a shell answer beside bombs?", beside_bombs));
    jobs.push(Job::test("session: does Ctrl-Alt-Del restart in order?", ctrl_alt_del));
    jobs
}

/// Packs an initrd as `make iso` does, with the job in it.
fn initrd(name: &str, root: &str) -> Result<PathBuf, Failure> {
    initrd_with(&TemporaryFolder::new()?, name, root)
}

/// The same with what lies in the overlay already.
fn initrd_with(overlay: &TemporaryFolder, name: &str, root: &str) -> Result<PathBuf, Failure> {
    add_program(overlay, "job", JOB)?;
    let archive = project::artifacts()?.join(name);
    let arguments = [&*archive.to_string_lossy(), &*overlay.path().to_string_lossy()];
    project::run(project::root().join("tools/make-initrd"), &arguments, &[("ROOTFS", root)])?;
    Ok(archive)
}

fn add_program(overlay: &TemporaryFolder, name: &str, text: &str) -> Result<(), Failure> {
    let folder = overlay.path().join("bin");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), text)?;
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn session(seat: Seat, root: &str, name: &str) -> Result<Session, Failure> {
    let archive = initrd(&format!("{}.tar", project::file_name(name)), root)?;
    let prompt = if root == "debian" { BASH } else { KEEL };
    Session::start(Machine::from_kernel(project::kernel(), Some(archive), "quiet"), seat, prompt, name)
}

fn job_control(session: &mut Session) -> Result<(), Failure> {
    session.enter("job\n", "the job is in front")?;
    session.type_and_see("\x1a", "Stopped")?;
    session.clear()?;
    session.enter("jobs\n", "[1]+  Stopped                 job\n")?;
    session.enter("bg\n", "[1]+ job &\n")?;
    session.shows("the job is in back")?;
    // The job may have written behind the prompt.
    session.type_text("\n")?;
    session.clear()?;
    session.enter("jobs\n", "[1]+  Running                 job &\n")?;
    session.enter("fg\n", "the job is in front")?;
    session.keep_picture("session-job-control")?;
    session.type_and_see("\x03", "the job was interrupted")?;
    session.clear()?;
    session.enter("jobs; echo status $?, jobs \"<$(jobs)>\"\n", "status 0, jobs <>")?;
    session.enter("job &\n", "the job is in back")?;
    session.type_text("\n")?;
    session.enter("kill %1; wait\n", "Terminated")?;
    // A job that reads in the background waits for the foreground.
    session.clear()?;
    session.enter("{ read x; echo \"got <$x>\"; } &\n", "[1]")?;
    session.type_and_see("\n", "Stopped")?;
    session.type_text("\n")?;
    session.clear()?;
    session.enter("fg\n", "{ read x; echo \"got <$x>\"; }\n")?;
    session.type_and_see("text\n", "got <text>")
}

fn full_screen_programs(session: &mut Session) -> Result<(), Failure> {
    edit(session)?;
    page(session)?;
    watch(session)?;
    set_terminal(session)
}

fn edit(session: &mut Session) -> Result<(), Failure> {
    session.enter("vi note\n", "- note 1/1 100%")?;
    session.type_and_see("ione\ntwo words\n", "words")?;
    // What comes too soon after an Escape would belong to it.
    session.type_and_see("\x1b", "- note [Modified] 3/3")?;
    session
        .screen_until("the text in vi", |rows| rows.starts_with(&["one", "two words", "", "~"].map(String::from)))?;
    session.keep_picture("session-vi")?;
    session.type_text(":wq\n")?;
    session.clear()?;
    session.enter("wc note\n", "        3         3        15 note\n")
}

/// BusyBox's less leaves the terminal in its usual mode but for the moments in which it waits for a key. A carriage return
/// that comes at another time becomes a newline, which ends nothing there; so each key waits for what the one before shows.
fn page(session: &mut Session) -> Result<(), Failure> {
    session.clear()?;
    session.enter("for n in {1..300}; do echo line ${n/150/xyz}; done > lines; less lines\n", "line 23\n")?;
    session.shows("lines")?;
    session.screen_until("the first page", |rows| rows.first().is_some_and(|row| row == "line 1"))?;
    for (key, shown) in [(" ", ":"), ("/", "/"), ("x", "x"), ("y", "y"), ("z", "z"), ("\n", "line 151")] {
        session.type_and_see(key, shown)?;
    }
    session.screen_until("the page that was looked for", |rows| rows.first().is_some_and(|row| row == "line xyz"))?;
    session.keep_picture("session-less")?;
    session.type_text("q")
}

fn watch(session: &mut Session) -> Result<(), Failure> {
    session.clear()?;
    session.enter("top\n", "Load average:")?;
    session.shows("COMMAND")?;
    session.shows("/sbin/init")?;
    session.keep_picture("session-top")?;
    session.type_text("q")
}

fn set_terminal(session: &mut Session) -> Result<(), Failure> {
    session.clear()?;
    session.enter("stty -a\n", "intr = ^C; quit = ^\\;")?;
    session.shows("isig icanon iexten echo echoe echok")?;
    // Echo off: what is typed isn't seen, and yet read.
    session.clear()?;
    session.enter("stty -echo; echo si''lent; read x; stty echo; echo \"got <$x>\"\n", "silent")?;
    session.type_and_see("secret\n", "got <secret>")?;
    session.screen_until("nothing typed", |rows| !rows.iter().any(|row| row.starts_with("secret")))?;
    // Raw: control characters are characters, and a read doesn't wait for a line.
    session.clear()?;
    session.enter("stty raw -echo; echo go''ing; head -c 3 | od -c; stty sane; echo\n", "going")?;
    session.type_and_see("\x03a\x1a", "003   a 032")?;
    session.clear()?;
    session.enter("stty\n", "speed 115200 baud")
}

fn debian_image() -> Result<(), Failure> {
    let image = project::make_iso("debian.iso", &[("ROOTFS", "debian"), ("CMDLINE", "quiet")])?;
    let name = "session: Debian's image";
    let mut session = Session::start(Machine::from_image(Start::Cd(image)), Seat::Screen, BASH, name)?;
    session.enter("busybox | head -n 1; readlink /proc/$$/exe\n", "BusyBox v1")?;
    session.shows("\n/bin/bash\n")?;
    session.keep_picture("session-debian-image")?;
    session.is_asked()?;
    session.type_text("poweroff\n")?;
    end_in_order(&mut session, "init: powering off")
}

/// Waits until the machine is off; init must have said how it ends.
fn end_in_order(session: &mut Session, last_words: &str) -> Result<(), Failure> {
    let status = session.guest.wait_for_end(Limit::guest_seconds(END_LIMIT_S))?;
    let said = session.guest.console.text();
    if !said.contains(last_words) {
        return Err(session.guest.failure(format!("expected {last_words:?} before the end")));
    }
    if status.success() { Ok(()) } else { Err(session.guest.failure(format!("QEMU ended with {status}"))) }
}

fn own_programs() -> Result<(), Failure> {
    let mut session = session(Seat::SerialLine, "", "session: own programs")?;
    session.shows(FIRST_LINE)?;
    for (typed, shown) in [
        ("echo one two | wc -w\n", "\n2\n"),
        ("echo text > /tmp/a; cat < /tmp/a >> /tmp/b; cat /tmp/a /tmp/b | wc -l\n", "\n2\n"),
        ("x=value; echo \"<$x>\" '<$x>'\n", "\n<value> <$x>\n"),
        ("false; echo $?; true && echo yes || echo no\n", "\n1\nyes\n"),
        ("nonsense; echo $?\n", "not found\n127\n"),
        ("for n in a b; do echo $(echo item-$n); done\n", "\nitem-a\nitem-b\n"),
        ("sleep 100 &\n", "\n[1] "),
        ("jobs\n", "running  sleep 100\n"),
        ("kill $!; wait; echo waited $?\n", "\nwaited 143\n"),
        ("sleep 100 | sleep 200 &\n", "\n[1] "),
        ("kill %1; wait; echo waited $?; kill %7; echo $?\n", "\nwaited 143\nsh: %7: no such job\n1\n"),
        ("cd /tmp; cd ~; echo $(pwd) ~/x ~x \"~\"\n", "\n/root /root/x ~x ~\n"),
        ("mount | head -n 1; dmesg | tail -1 | wc -l\n", "\ntmpfs on / type tmpfs (rw,relatime)\n1\n"),
        // An orphan is init's, and buried when it ends: not even a zombie is left to be sent a signal.
        ("p=$(sh -c 'sleep 0.2 > /dev/null & echo $!'); sleep 0.5; kill -0 $p || echo buried\n", "\nburied\n"),
        // The shell's end leaves a new one.
        ("echo $x; exit\n", "\nvalue\n"),
        ("echo \"<$x>\"\n", "\n<>\n"),
    ] {
        session.enter(typed, shown)?;
    }
    session.enter("sleep 100 &\n", "\n[1] ")?;
    session.enter("poweroff\n", "init: stopping all processes")?;
    end_in_order(&mut session, "init: powering off")
}

/// A user sets off a bomb of processes and one of memory, first with limits, then without: root's shell goes on answering,
/// and the log says who it was.
fn beside_bombs() -> Result<(), Failure> {
    /// Without a limit the bomb has nearly all of the threads that 64 MiB allow, 256. Before the shell each of them may have
    /// its quantum of 50 ms, some times over.
    const ANSWER_LIMIT_S: u64 = 40;
    let name = "session: beside bombs";
    let overlay = TemporaryFolder::new()?;
    let destination = format!("DESTDIR={}", overlay.path().display());
    project::run("make", &["-s", "-C", "user", "install-tests", &destination], &[])?;
    add_program(&overlay, "bombs", BOMBS)?;
    let archive = initrd_with(&overlay, &format!("{}.tar", project::file_name(name)), "debian")?;
    // Warnings come to the console. At more time an instruction a bomb's quantum is over sooner.
    let machine = Machine::from_kernel(project::kernel(), Some(archive), "loglevel=5");
    let machine = Machine { memory_mib: 64, shift: 5, ..machine };
    let mut session = Session::start(machine, Seat::SerialLine, BASH, name)?;
    session.enter("bombs -u 40 -v 10000 &\n", "can't have another process or thread: its user's limit is reached\n")?;
    session.type_text("\n")?;
    for answer in 1..=3 {
        session.is_asked()?;
        session.type_text(&format!("ls / | wc -l > n; cat n; echo $((40 + {answer}))\n"))?;
        session.shows_within(&format!("\n{}\n", 40 + answer), ANSWER_LIMIT_S)?;
    }
    session.enter("bombs -u unlimited &\n", "Out of memory: Killed process")?;
    session.shows("(attack)")?;
    session.shows("UID:65534")?;
    session.type_text("\n")?;
    // There are no processes and no memory for other commands than the shell's own, or only now and then.
    for answer in 1..=3 {
        session.is_asked()?;
        session.type_text(&format!("read -r load < /proc/loadavg; echo $((50 + {answer}))\n"))?;
        session.shows_within(&format!("\n{}\n", 50 + answer), ANSWER_LIMIT_S)?;
    }
    Ok(())
}

fn ctrl_alt_del() -> Result<(), Failure> {
    let mut session = session(Seat::Screen, "", "session: Ctrl-Alt-Del")?;
    session.is_asked()?;
    session.guest.press(&["ctrl-alt-delete"])?;
    end_in_order(&mut session, "init: rebooting")
}
