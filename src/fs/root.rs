//! The root file system at boot: a tmpfs, filled from the initrd, with /dev mounted in it.

use super::content::Content;
use super::context::FsContext;
use super::file_system::{FileSystem, Kind};
use super::initrd::{self, Outcome};
use super::inode::{Attributes, Body, Inode, S_IFDIR, S_IFREG};
use super::mount::{self, Location, MountFlags};
use super::tree::{self, Dentry, Name};
use super::{devfs, memory_devices, names, open_count, pipe_buffer, tmpfs};
use crate::errno::Errno;
use crate::lock::{Lock, Rank};
use crate::memory::frames;
use crate::random;
use alloc::sync::Arc;

/// The one devtmpfs.
static DEVICES: Lock<Option<(Arc<FileSystem>, Arc<Dentry>)>> = Lock::new(Rank::Mounts, None);

/// What the first process finds: the root, and what became of the archive that it was filled from.
pub struct Root {
    pub context: FsContext,
    pub unpacked: Option<Outcome>,
}

/// Makes the root file system. Called once.
pub fn init(archive: Option<&'static [u8]>) -> Result<Root, Errno> {
    names::seed_hash(random::number());
    memory_devices::init()?;
    pipe_buffer::limit_all_pipes(frames::counts().total);
    open_count::limit(frames::counts().total);
    let attributes = Attributes { mode: S_IFDIR | 0o755, user: 0, group: 0 };
    let (file_system, root) = tmpfs::new(Kind::Tmpfs, default_pages_limit(), attributes)?;
    let mount = mount::mount(&file_system, &root, b"tmpfs", MountFlags::empty(), None)?;
    let root = Location { mount, dentry: root };
    let unpacked = archive.map(|archive| initrd::unpack(archive, &root)).transpose()?;
    let (devices, devices_root) = devices()?;
    let on = directory(&root, b"dev")?;
    mount::mount(&devices, &devices_root, b"devtmpfs", MountFlags::empty(), Some(&on))?;
    Ok(Root { context: FsContext::new(root.clone(), root)?, unpacked })
}

/// Puts a file into a tmpfs directory, its contents a view of `bytes`.
pub fn place_file(directory: &Location, name: &[u8], bytes: &'static [u8], mode: u32) -> Result<(), Errno> {
    let attributes = Attributes { mode: S_IFREG | mode, user: 0, group: 0 };
    let body = Body::Regular(Content::from_archive(bytes));
    let inode = Inode::new(&directory.mount.file_system, attributes, body)?;
    inode.set_size(bytes.len() as u64);
    tmpfs::add(&directory.dentry, Name::new(name)?, inode)?;
    Ok(())
}

/// The file system of all devices.
pub fn devices() -> Result<(Arc<FileSystem>, Arc<Dentry>), Errno> {
    if let Some(made) = &*DEVICES.lock() {
        return Ok(made.clone());
    }
    let made = devfs::new()?;
    *DEVICES.lock() = Some(made.clone());
    Ok(made)
}

/// How many pages a tmpfs may take if nobody says how many: half of memory, as on Linux.
pub fn default_pages_limit() -> u64 {
    frames::counts().total as u64 / 2
}

/// How many pages the files of all mounted file systems take.
pub fn pages_in_files() -> u64 {
    let tree = tree::lock();
    // A file system is counted where its own root is mounted, not where a part of it is bound.
    let whole = mount::all(&tree).iter().filter(|mount| mount.root.parent(&tree).is_none());
    whole.map(|mount| mount.file_system.usage().pages).sum()
}

/// A directory in the root, made if it isn't there.
fn directory(root: &Location, name: &[u8]) -> Result<Location, Errno> {
    let existing = root.dentry.child(&tree::lock(), name).map(Arc::clone);
    let dentry = match existing {
        Some(dentry) if dentry.inode.is_directory() => dentry,
        Some(_) => return Err(Errno::ENOTDIR),
        None => {
            let attributes = Attributes { mode: S_IFDIR | 0o755, user: 0, group: 0 };
            let inode = Inode::new(&root.mount.file_system, attributes, Body::Directory)?;
            tmpfs::add(&root.dentry, Name::new(name)?, inode)?
        }
    };
    Ok(Location { mount: Arc::clone(&root.mount), dentry })
}
