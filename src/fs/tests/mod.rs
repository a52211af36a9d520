//! The tree as programs see it, on the host: a random walk beside a simple model, and the rules that have names.

use super::context::{Context, FsContext};
use super::edit::{self, RenameFlags};
use super::file::{File, WriteRules};
use super::file_system::Kind;
use super::inode::Attributes;
use super::mount::{self, Location, MountFlags};
use super::open::open;
use super::open_flags::OpenFlags;
use super::transfer::{SliceSink, SliceSource};
use super::waiting::Events;
use super::walk::{Last, find};
use super::{FileTable, attributes, tmpfs};
use crate::errno::Errno;
use crate::task::credentials::{Credentials, Ids};
use std::sync::Arc;

mod against_linux;

const ROOT: Credentials = Credentials::root();
const FREE: WriteRules = WriteRules { keeps_set_id_bits: true, size_limit: u64::MAX };

/// A file system of its own, seen by one process.
struct Fixture {
    fs: FsContext,
    credentials: Credentials,
}

impl Fixture {
    fn new() -> Self {
        let attributes = Attributes { mode: 0o755, user: 0, group: 0 };
        let (file_system, root) = tmpfs::new(Kind::Tmpfs, 1000, attributes).unwrap();
        let mount = mount::mount(&file_system, &root, b"tmpfs", MountFlags::empty(), None).unwrap();
        let root = Location { mount, dentry: root };
        Self { fs: FsContext::new(root.clone(), root).unwrap(), credentials: ROOT }
    }

    fn context(&self) -> Context<'_> {
        self.fs.with(&self.credentials)
    }

    fn as_user(&mut self, user: u32) {
        self.credentials = Credentials::new(Ids::all(user), Ids::all(user), &[]).unwrap();
    }

    fn as_root(&mut self) {
        self.credentials = Credentials::root();
    }

    fn open(&self, path: &str, flags: OpenFlags) -> Result<Arc<File>, Errno> {
        open(&self.context(), None, path.as_bytes(), flags, 0o644)
    }

    fn make_file(&self, path: &str, text: &str) {
        let file = self.open(path, OpenFlags::CREATE | OpenFlags::WRITE_ONLY | OpenFlags::TRUNCATE).unwrap();
        assert_eq!(self.write(&file, text.as_bytes()), Ok(text.len()));
    }

    fn write(&self, file: &File, bytes: &[u8]) -> Result<usize, Errno> {
        let keeps_set_id_bits = self.credentials.overrides_permissions();
        file.write(&mut SliceSource(bytes), || WriteRules { keeps_set_id_bits, ..FREE })
    }

    fn read(&self, path: &str) -> Result<String, Errno> {
        let file = self.open(path, OpenFlags::empty())?;
        let mut buffer = [0; 300];
        let count = file.read(&mut SliceSink::new(&mut buffer))?;
        Ok(String::from_utf8(buffer[..count].to_vec()).unwrap())
    }

    fn mkdir(&self, path: &str) -> Result<(), Errno> {
        edit::make_directory(&self.context(), None, path.as_bytes(), 0o755)
    }

    fn symlink(&self, target: &str, path: &str) -> Result<(), Errno> {
        edit::make_symlink(&self.context(), target.as_bytes(), None, path.as_bytes())
    }

    fn link(&self, old: &str, new: &str) -> Result<(), Errno> {
        let old = find(&self.context(), None, old.as_bytes(), Last::Keep)?;
        edit::link(&self.context(), &old, None, new.as_bytes())
    }

    fn unlink(&self, path: &str) -> Result<(), Errno> {
        edit::unlink(&self.context(), None, path.as_bytes())
    }

    fn rmdir(&self, path: &str) -> Result<(), Errno> {
        edit::remove_directory(&self.context(), None, path.as_bytes())
    }

    fn rename(&self, old: &str, new: &str) -> Result<(), Errno> {
        self.rename_with(old, new, RenameFlags::empty())
    }

    fn rename_with(&self, old: &str, new: &str, flags: RenameFlags) -> Result<(), Errno> {
        edit::rename(&self.context(), None, old.as_bytes(), None, new.as_bytes(), flags)
    }

    fn stat(&self, path: &str) -> Result<attributes::Status, Errno> {
        find(&self.context(), None, path.as_bytes(), Last::Follow).map(|location| attributes::status(&location))
    }

    fn chmod(&self, path: &str, mode: u32) -> Result<(), Errno> {
        let location = find(&self.context(), None, path.as_bytes(), Last::Follow)?;
        attributes::change_mode(&self.context(), &location, mode)
    }

    fn list(&self, path: &str) -> Vec<String> {
        let file = self.open(path, OpenFlags::DIRECTORY).unwrap();
        let mut names = Vec::new();
        file.read_directory(&mut |listed| {
            names.push(String::from_utf8(listed.name.to_vec()).unwrap());
            true
        })
        .unwrap();
        names.sort();
        names
    }
}

#[test]
fn does_a_file_hold_what_was_written_past_a_hole() {
    let fixture = Fixture::new();
    let file = fixture.open("f", OpenFlags::CREATE | OpenFlags::READ_WRITE).unwrap();
    assert_eq!(file.write_at(1 << 40, &mut SliceSource(b"far"), || FREE), Ok(3));
    assert_eq!(file.write_at(4090, &mut SliceSource(b"across a page"), || FREE), Ok(13));
    let mut buffer = [1; 20];
    assert_eq!(file.read_at(4088, &mut SliceSink::new(&mut buffer)), Ok(20));
    assert_eq!(&buffer, b"\0\0across a page\0\0\0\0\0");
    assert_eq!(file.read_at((1 << 40) + 2, &mut SliceSink::new(&mut buffer)), Ok(1));
    let status = fixture.stat("f").unwrap();
    assert_eq!((status.size, status.blocks), ((1 << 40) + 3, 3 * 8));
    file.set_size(4092, &FREE).unwrap();
    file.set_size(5000, &FREE).unwrap();
    assert_eq!(file.read_at(4088, &mut SliceSink::new(&mut buffer)), Ok(20));
    assert_eq!(&buffer, b"\0\0ac\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(fixture.stat("f").unwrap().blocks, 8);
}

#[test]
fn does_an_unlinked_file_live_as_long_as_it_is_open() {
    let fixture = Fixture::new();
    fixture.make_file("f", "text");
    let file = fixture.open("f", OpenFlags::empty()).unwrap();
    fixture.unlink("f").unwrap();
    assert_eq!(fixture.stat("f").err(), Some(Errno::ENOENT));
    let mut buffer = [0; 9];
    assert_eq!(file.read(&mut SliceSink::new(&mut buffer)), Ok(4));
    assert_eq!(file.inode().links(), 0);
    let used = || file.inode().file_system.usage();
    assert_eq!((used().pages, used().inodes), (1, 2));
    let file_system = Arc::clone(&file.inode().file_system);
    drop(file);
    assert_eq!((file_system.usage().pages, file_system.usage().inodes), (0, 1));
}

#[test]
fn do_symbolic_links_lead_where_linux_lets_them_lead() {
    let fixture = Fixture::new();
    fixture.mkdir("d").unwrap();
    fixture.make_file("d/f", "here");
    fixture.symlink("d/f", "to_file").unwrap();
    fixture.symlink("/d", "to_directory").unwrap();
    fixture.symlink("to_directory/../to_file", "far").unwrap();
    fixture.symlink("loop", "loop").unwrap();
    fixture.symlink("new", "dangling").unwrap();
    assert_eq!(fixture.read("far").as_deref(), Ok("here"));
    assert_eq!(fixture.read("to_directory/f").as_deref(), Ok("here"));
    assert_eq!(fixture.read("to_file/").err(), Some(Errno::ENOTDIR));
    assert_eq!(fixture.read("loop").err(), Some(Errno::ELOOP));
    assert_eq!(fixture.read("dangling").err(), Some(Errno::ENOENT));
    let follow_not = OpenFlags::NO_FOLLOW;
    assert_eq!(fixture.open("to_file", follow_not).err(), Some(Errno::ELOOP));
    assert_eq!(fixture.open("to_directory", follow_not | OpenFlags::DIRECTORY).err(), Some(Errno::ENOTDIR));
    assert!(fixture.open("to_directory/", follow_not).is_ok());
    let exclusive = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    assert_eq!(fixture.open("dangling", exclusive).err(), Some(Errno::EEXIST));
    fixture.make_file("dangling", "made");
    assert_eq!(fixture.read("new").as_deref(), Ok("made"));
    // 40 links are followed, and not one more.
    fixture.symlink("d", "l0").unwrap();
    for number in 1..41 {
        fixture.symlink(&format!("l{}", number - 1), &format!("l{number}")).unwrap();
    }
    assert_eq!(fixture.read("l39/f").as_deref(), Ok("here"));
    assert_eq!(fixture.read("l40/f").err(), Some(Errno::ELOOP));
}

#[test]
fn are_long_names_refused() {
    let fixture = Fixture::new();
    let longest = "n".repeat(255);
    fixture.make_file(&longest, "x");
    assert_eq!(fixture.read(&longest).as_deref(), Ok("x"));
    let longer = "n".repeat(256);
    assert_eq!(fixture.read(&longer).err(), Some(Errno::ENAMETOOLONG));
    assert_eq!(fixture.mkdir(&longer), Err(Errno::ENAMETOOLONG));
    assert_eq!(fixture.stat(&format!("{longer}/x")).err(), Some(Errno::ENAMETOOLONG));
}

#[test]
fn may_nobody_write_a_program_that_runs() {
    let fixture = Fixture::new();
    fixture.make_file("f", "x");
    let file = fixture.open("f", OpenFlags::READ_WRITE).unwrap();
    let inode = &fixture.open("f", OpenFlags::empty()).unwrap().location.dentry.inode.clone();
    assert_eq!(inode.deny_write(), Err(Errno::ETXTBSY));
    drop(file);
    inode.deny_write().unwrap();
    inode.deny_write().unwrap();
    assert_eq!(fixture.open("f", OpenFlags::WRITE_ONLY).err(), Some(Errno::ETXTBSY));
    assert_eq!(fixture.open("f", OpenFlags::TRUNCATE).err(), Some(Errno::ETXTBSY));
    inode.end_deny_write();
    inode.end_deny_write();
    assert!(fixture.open("f", OpenFlags::TRUNCATE).is_ok());
    inode.deny_write().unwrap();
}

#[test]
fn is_the_path_of_a_place_what_a_program_would_type() {
    let fixture = Fixture::new();
    fixture.mkdir("a").unwrap();
    fixture.mkdir("a/b").unwrap();
    fixture.mkdir("a/b/c").unwrap();
    let at = |path: &[u8]| find(&fixture.context(), None, path, Last::Follow).unwrap();
    let (file_system, root) = tmpfs::new(Kind::Tmpfs, 10, Attributes { mode: 0o755, user: 0, group: 0 }).unwrap();
    let on = at(b"a/b");
    let mounted = mount::mount(&file_system, &root, b"none", MountFlags::empty(), Some(&on)).unwrap();
    fixture.mkdir("a/b/under").unwrap();
    let path = |location: &Location| {
        let mut buffer = [0; 64];
        let tree = super::tree::lock();
        let (path, reached) =
            mount::path_of(&tree, location.as_place(), fixture.fs.root().as_place(), &mut buffer).unwrap();
        assert!(reached);
        String::from_utf8(path.to_vec()).unwrap()
    };
    assert_eq!(path(&at(b"/")), "/");
    assert_eq!(path(&at(b"a")), "/a");
    assert_eq!(path(&at(b"a/b")), "/a/b");
    assert_eq!(path(&at(b"a/b/under")), "/a/b/under");
    assert_eq!(path(&at(b"a/b/under/../..")), "/a");
    assert_eq!(fixture.stat("a/b/c").err(), Some(Errno::ENOENT));
    assert_eq!(fixture.rmdir("a/b"), Err(Errno::EBUSY));
    assert_eq!(fixture.rename("a/b", "x"), Err(Errno::EBUSY));
    assert_eq!(fixture.link("a/b/under", "x"), Err(Errno::EXDEV));
    fixture.make_file("a/b/under/f", "x");
    let open = fixture.open("a/b/under/f", OpenFlags::empty()).unwrap();
    assert_eq!(mount::unmount(Arc::clone(&mounted), false), Err(Errno::EBUSY));
    drop(open);
    mount::unmount(mounted, false).unwrap();
    assert!(fixture.stat("a/b/c").is_ok());
    drop(root);
    assert_eq!(file_system.usage().inodes, 0);
}

#[test]
fn do_permissions_hold_for_users_and_not_for_root() {
    let mut fixture = Fixture::new();
    fixture.mkdir("public").unwrap();
    fixture.chmod("public", 0o1777).unwrap();
    fixture.make_file("public/roots", "x");
    fixture.mkdir("private").unwrap();
    fixture.chmod("private", 0o700).unwrap();
    fixture.make_file("private/f", "x");
    fixture.as_user(7);
    assert_eq!(fixture.read("private/f").err(), Some(Errno::EACCES));
    assert_eq!(fixture.mkdir("d"), Err(Errno::EACCES));
    assert_eq!(fixture.open("public/roots", OpenFlags::WRITE_ONLY).err(), Some(Errno::EACCES));
    assert_eq!(fixture.unlink("public/roots"), Err(Errno::EPERM));
    assert_eq!(fixture.chmod("public/roots", 0o666), Err(Errno::EPERM));
    fixture.make_file("public/own", "x");
    fixture.chmod("public/own", 0o000).unwrap();
    assert_eq!(fixture.read("public/own").err(), Some(Errno::EACCES));
    fixture.as_user(8);
    assert_eq!(fixture.rename("public/own", "public/taken"), Err(Errno::EPERM));
    fixture.as_root();
    assert_eq!(fixture.read("public/own").as_deref(), Ok("x"));
    fixture.chmod("public/own", 0o6755).unwrap();
    fixture.chmod("public/own", 0o6777).unwrap();
    fixture.as_user(8);
    let file = fixture.open("public/own", OpenFlags::WRITE_ONLY).unwrap();
    fixture.write(&file, b"y").unwrap();
    assert_eq!(file.inode().mode() & 0o7777, 0o777);
}

#[test]
fn does_rename_exchange_and_replace() {
    let fixture = Fixture::new();
    fixture.mkdir("a").unwrap();
    fixture.mkdir("b").unwrap();
    fixture.mkdir("a/d").unwrap();
    fixture.make_file("b/f", "f");
    let links = |path| fixture.stat(path).unwrap().links;
    fixture.rename_with("a/d", "b/f", RenameFlags::EXCHANGE).unwrap();
    assert_eq!(
        (fixture.list("a"), fixture.list("b")),
        (vec![".".into(), "..".into(), "d".into()], vec![".".into(), "..".into(), "f".into()])
    );
    assert_eq!(fixture.read("a/d").as_deref(), Ok("f"));
    assert_eq!((links("a"), links("b"), links("b/f")), (2, 3, 2));
    assert_eq!(fixture.rename("b", "b/f/x"), Err(Errno::EINVAL));
    assert_eq!(fixture.rename("b/f", "b"), Err(Errno::ENOTEMPTY));
    assert_eq!(fixture.rename("a/d", "b"), Err(Errno::EISDIR));
    assert_eq!(fixture.rename("b", "a/d"), Err(Errno::ENOTDIR));
    assert_eq!(fixture.rename_with("a/d", "b", RenameFlags::NO_REPLACE), Err(Errno::EEXIST));
    fixture.rename("a/d", "a/e").unwrap();
    fixture.rename("b", "c").unwrap();
    fixture.mkdir("empty").unwrap();
    fixture.rename("c/f", "empty").unwrap();
    assert_eq!((links("c"), links("/")), (2, 5));
    assert_eq!(fixture.stat("empty/../c/..").unwrap().inode_number, fixture.stat("/").unwrap().inode_number);
}

#[test]
fn does_a_table_give_the_lowest_free_descriptor() {
    let fixture = Fixture::new();
    fixture.make_file("f", "x");
    let file = fixture.open("f", OpenFlags::empty()).unwrap();
    let mut table = FileTable::new();
    let add = |table: &mut FileTable, from| table.add(file.clone(), from, from > 0, 200);
    for number in 0..130 {
        assert_eq!(add(&mut table, 0), Ok(number));
    }
    drop(table.remove(70).unwrap());
    drop(table.remove(5).unwrap());
    assert_eq!(table.remove(5).err(), Some(Errno::EBADF));
    assert_eq!((add(&mut table, 6), add(&mut table, 0), add(&mut table, 0)), (Ok(70), Ok(5), Ok(130)));
    assert_eq!(add(&mut table, 199), Ok(199));
    assert_eq!(add(&mut table, 199), Err(Errno::EMFILE));
    let mut copy = table.try_clone().unwrap();
    let mut next = 0;
    let closed = std::iter::from_fn(|| copy.take_close_on_exec(&mut next)).count();
    assert_eq!((closed, copy.get(70).err(), copy.get(199).err()), (2, Some(Errno::EBADF), Some(Errno::EBADF)));
    assert_eq!(add(&mut copy, 0), Ok(70));
    assert!(table.replace(3, file.clone(), true, 200).unwrap().is_some());
    assert_eq!((table.close_on_exec(3), table.close_on_exec(4)), (Ok(true), Ok(false)));
    assert_eq!(table.replace(200, file.clone(), true, 200).err(), Some(Errno::EBADF));
    let mut next = 3;
    let removed = std::iter::from_fn(|| table.take_in_range(&mut next, u32::MAX)).count();
    assert_eq!((removed, table.next_open(0), table.next_open(3)), (129, Some(0), None));
}

/// A ustar entry of the smallest kind.
fn tar_entry(name: &str, kind: u8, mode: u32, link: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000007\x000000010\0");
    put(124, format!("{:011o}", contents.len()).as_bytes());
    put(136, b"00000001750\0        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(329, b"0000001\x000000003\0");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend_from_slice(contents);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

#[test]
fn can_an_archives_file_be_read_when_its_file_system_is_full() {
    let fixture = Fixture::new();
    let file_system = &fixture.fs.root().mount.file_system;
    super::root::place_file(fixture.fs.root(), b"from the archive", &[7; 5000], 0o644).unwrap();
    while file_system.charge_page().is_ok() {}
    let file = fixture.open("from the archive", OpenFlags::empty()).unwrap();
    let mut buffer = [0; 6000];
    assert_eq!(file.read(&mut SliceSink::new(&mut buffer)), Ok(5000));
    assert_eq!((buffer[4999], buffer[5000]), (7, 0));
}

#[test]
fn does_an_archive_become_files_that_take_pages_only_when_touched() {
    let fixture = Fixture::new();
    let text: Vec<u8> = (0..10_000u32).map(|number| number as u8).collect();
    let mut archive = [
        tar_entry("./", b'5', 0o755, "", b""),
        tar_entry("usr/bin/tool", b'0', 0o4755, "", &text),
        tar_entry("bin", b'2', 0o777, "usr/bin", b""),
        tar_entry("bin/other", b'1', 0o755, "usr/bin/tool", b""),
        tar_entry("dev/null", b'3', 0o666, "", b""),
        tar_entry("etc/../../x", b'0', 0o644, "", b"out"),
        tar_entry("usr/", b'5', 0o700, "", b""),
        tar_entry("bin/other2", b'0', 0o644, "", b"first"),
        tar_entry("usr/bin/other2", b'0', 0o600, "", b"second"),
    ]
    .concat();
    archive.resize(archive.len() + 1024, 0);
    let outcome = super::initrd::unpack(archive.leak(), fixture.fs.root()).unwrap();
    assert_eq!((outcome.entries, outcome.skipped, outcome.error), (8, 1, None));
    let status = fixture.stat("bin/other").unwrap();
    assert_eq!((status.mode, status.links, status.size, status.blocks), (0o104755, 2, 10_000, 0));
    assert_eq!((status.user, status.group, status.times.modified.seconds), (7, 8, 0o1750));
    assert_eq!(fixture.stat("usr").unwrap().mode, 0o040700);
    assert_eq!(fixture.read("bin/other2").as_deref(), Ok("second"));
    assert_eq!(fixture.stat("dev/null").unwrap().device_number, 0x103);
    let file = fixture.open("usr/bin/tool", OpenFlags::READ_WRITE).unwrap();
    let mut buffer = vec![0; 10_100];
    assert_eq!(file.read_at(4096, &mut SliceSink::new(&mut buffer[..10])), Ok(10));
    assert_eq!(buffer[..10], text[4096..4106]);
    assert_eq!(fixture.stat("bin/other").unwrap().blocks, 8);
    // What is cut off stays away, and what is written stays.
    file.write_at(1, &mut SliceSource(b"new"), || FREE).unwrap();
    file.set_size(9000, &FREE).unwrap();
    file.set_size(10_000, &FREE).unwrap();
    assert_eq!(file.read_at(0, &mut SliceSink::new(&mut buffer)), Ok(10_000));
    let expected = [&text[..1], b"new", &text[4..9000], &[0; 1000]].concat();
    assert_eq!(buffer[..10_000], expected);
}

#[test]
fn does_a_hard_link_that_leads_nowhere_or_to_itself_leave_what_is_there() {
    let fixture = Fixture::new();
    let mut archive = [
        tar_entry("tool", b'0', 0o755, "", b"text"),
        tar_entry("tool", b'1', 0o755, "tool", b""),
        tar_entry("tool", b'1', 0o755, "no/such/file", b""),
        tar_entry("folder", b'5', 0o755, "", b""),
        tar_entry("tool", b'1', 0o755, "folder", b""),
    ]
    .concat();
    archive.resize(archive.len() + 1024, 0);
    let outcome = super::initrd::unpack(archive.leak(), fixture.fs.root()).unwrap();
    assert_eq!((outcome.entries, outcome.skipped, outcome.error), (3, 2, None));
    assert_eq!(fixture.read("tool").as_deref(), Ok("text"));
    assert_eq!(fixture.stat("tool").unwrap().links, 1);
}

#[test]
fn do_the_devices_of_memory_behave_as_named() {
    super::memory_devices::init().unwrap();
    let fixture = Fixture::new();
    let (file_system, root) = super::devfs::new().unwrap();
    fixture.mkdir("dev").unwrap();
    let on = find(&fixture.context(), None, b"dev", Last::Follow).unwrap();
    mount::mount(&file_system, &root, b"devtmpfs", MountFlags::empty(), Some(&on)).unwrap();
    let mut buffer = [1; 9000];
    let read_write = OpenFlags::READ_WRITE;
    let null = fixture.open("/dev/null", read_write | OpenFlags::CREATE | OpenFlags::TRUNCATE).unwrap();
    assert_eq!(fixture.write(&null, b"gone"), Ok(4));
    assert_eq!(null.read(&mut SliceSink::new(&mut buffer)), Ok(0));
    let zero = fixture.open("dev/zero", read_write).unwrap();
    assert_eq!(zero.read(&mut SliceSink::new(&mut buffer)), Ok(9000));
    assert!(buffer.iter().all(|byte| *byte == 0));
    let full = fixture.open("dev/full", read_write).unwrap();
    assert_eq!(fixture.write(&full, b"x"), Err(Errno::ENOSPC));
    let random = fixture.open("dev/urandom", read_write).unwrap();
    assert_eq!(random.read(&mut SliceSink::new(&mut buffer)), Ok(9000));
    assert!(buffer.iter().filter(|byte| **byte == 0).count() < 100);
    assert_eq!(fixture.open("dev/tty1", read_write).err(), Some(Errno::ENXIO));
}

#[test]
fn does_a_pipe_keep_small_writes_whole_and_tell_its_ends() {
    let fixture = Fixture::new();
    let flags = OpenFlags::NONBLOCK;
    let [reader, writer] = super::open::open_pipe(&ROOT, flags).unwrap();
    let mut buffer = vec![0; 70_000];
    assert_eq!(reader.read(&mut SliceSink::new(&mut buffer)), Err(Errno::EAGAIN));
    assert_eq!(fixture.write(&writer, &[1; 70_000]), Ok(65_536));
    assert_eq!(reader.read(&mut SliceSink::new(&mut buffer[..100])), Ok(100));
    assert_eq!(fixture.write(&writer, &[2; 101]), Err(Errno::EAGAIN));
    assert_eq!(fixture.write(&writer, &[2; 5000]), Err(Errno::EAGAIN));
    assert_eq!((writer.poll(None), writer.seek(0, super::file::Whence::Start)), (Events::empty(), Err(Errno::ESPIPE)));
    drop(writer);
    assert_eq!(reader.poll(None), Events::READABLE | Events::HANG_UP);
    assert_eq!(reader.read(&mut SliceSink::new(&mut buffer)), Ok(65_436));
    assert_eq!(reader.read(&mut SliceSink::new(&mut buffer)), Ok(0));
    let [reader, writer] = super::open::open_pipe(&ROOT, flags).unwrap();
    drop(reader);
    assert_eq!(writer.poll(None), Events::WRITABLE | Events::ERROR);
    assert_eq!(fixture.write(&writer, b"x"), Err(Errno::EPIPE));
}

#[test]
fn does_a_fifo_want_a_reader_first() {
    let fixture = Fixture::new();
    edit::make_node(&fixture.context(), None, b"p", 0o010644, super::device::DeviceNumber::NONE).unwrap();
    let nonblocking = OpenFlags::NONBLOCK;
    assert_eq!(fixture.open("p", nonblocking | OpenFlags::WRITE_ONLY).err(), Some(Errno::ENXIO));
    assert_eq!(fixture.open("p", OpenFlags::empty()).err(), Some(Errno::EDEADLK));
    let reader = fixture.open("p", nonblocking).unwrap();
    let mut buffer = [0; 9];
    assert_eq!(reader.read(&mut SliceSink::new(&mut buffer)), Ok(0));
    let writer = fixture.open("p", OpenFlags::WRITE_ONLY).unwrap();
    assert_eq!(reader.read(&mut SliceSink::new(&mut buffer)), Err(Errno::EAGAIN));
    fixture.write(&writer, b"kept?").unwrap();
    drop((reader, writer));
    let both = fixture.open("p", nonblocking | OpenFlags::READ_WRITE).unwrap();
    assert_eq!(both.read(&mut SliceSink::new(&mut buffer)), Err(Errno::EAGAIN));
}
