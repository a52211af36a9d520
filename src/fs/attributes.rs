//! Attributes of files: what `stat` shows, and `chmod`, `chown`, `utimensat`, `access` and `truncate` ask and change.

use super::context::Context;
use super::file::{WriteRules, set_size};
use super::inode::{AttributeChange, Body, Inode, PERMISSIONS, READ, S_ISGID, WRITE, without_set_id_bits};
use super::mount::{Location, MountFlags};
use super::time::{Times, Timestamp, now};
use super::tree;
use crate::PAGE_SIZE;
use crate::errno::Errno;

/// What `stat(2)` and `statx(2)` tell.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    pub device: u64,
    pub inode_number: u64,
    pub mode: u32,
    pub links: u32,
    pub user: u32,
    pub group: u32,
    pub device_number: u64,
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub times: Times,
}

/// What a time of `utimensat(2)` is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewTime {
    Keep,
    Now,
    At(Timestamp),
}

/// What `stat` shows of a place.
pub fn status(location: &Location) -> Status {
    let inode = &location.dentry.inode;
    // tmpfs counts 20 bytes for each name in a directory.
    const NAME_BYTES: u64 = 20;
    let mut blocks = 0;
    let size = match &inode.body {
        Body::Regular(content) => {
            blocks = content.pages_taken() * (PAGE_SIZE as u64 / 512);
            inode.size()
        }
        Body::Directory => (location.dentry.names(&tree::lock()).len() as u64 + 2) * NAME_BYTES,
        _ => inode.size(),
    };
    Status {
        device: inode.file_system.device,
        inode_number: inode.number,
        mode: inode.mode(),
        links: inode.links(),
        user: inode.user(),
        group: inode.group(),
        device_number: inode.device_number().0,
        size,
        blocks,
        times: inode.times(),
    }
}

/// `access(2)`: whether the file may be accessed so (bits of READ, WRITE, EXECUTE; none asks for existence).
pub fn check_access(context: &Context<'_>, location: &Location, access: u32) -> Result<(), Errno> {
    let inode = &location.dentry.inode;
    if access & super::inode::EXECUTE != 0
        && inode.is_regular()
        && location.mount.flags().contains(MountFlags::NO_EXECUTE)
    {
        return Err(Errno::EACCES);
    }
    inode.check_access(context.credentials, access)?;
    let storable = inode.is_regular() || inode.is_directory() || inode.is_symlink();
    if access & WRITE != 0 && storable {
        location.mount.check_writable()?;
    }
    Ok(())
}

/// `chmod(2)`.
pub fn change_mode(context: &Context<'_>, location: &Location, mode: u32) -> Result<(), Errno> {
    let inode = &location.dentry.inode;
    location.mount.check_writable()?;
    if inode.is_symlink() {
        return Err(Errno::EOPNOTSUPP);
    }
    inode.check_owner(context.credentials)?;
    check_changeable(inode)?;
    let mut mode = mode & PERMISSIONS;
    if !context.credentials.overrides_permissions() && !context.credentials.is_in_group(inode.group()) {
        mode &= !S_ISGID;
    }
    inode.apply(&AttributeChange { mode: Some(mode), ..Default::default() });
    Ok(())
}

/// `chown(2)`: None leaves an id as it is.
pub fn change_owner(
    context: &Context<'_>,
    location: &Location,
    user: Option<u32>,
    group: Option<u32>,
) -> Result<(), Errno> {
    let (inode, credentials) = (&location.dentry.inode, context.credentials);
    location.mount.check_writable()?;
    if !credentials.overrides_permissions() {
        // The owner may give the file to a group that he is in; nobody may give it away.
        let owns = credentials.user.file_system == inode.user();
        let may_user = user.is_none_or(|user| owns && user == inode.user());
        let may_group = group.is_none_or(|group| owns && (group == inode.group() || credentials.is_in_group(group)));
        if !may_user || !may_group {
            return Err(Errno::EPERM);
        }
    }
    check_changeable(inode)?;
    let mode = inode.mode();
    // Whoever gets the file didn't set these bits. Root's chown drops them too, and so does one that changes nothing.
    let mut kept = without_set_id_bits(mode);
    if !credentials.overrides_permissions() && !credentials.is_in_group(inode.group()) {
        kept &= !S_ISGID;
    }
    let new_mode = (!inode.is_directory() && kept != mode).then_some(kept);
    if new_mode.is_some() {
        inode.check_owner(credentials)?;
    }
    inode.apply(&AttributeChange { mode: new_mode, user, group, ..Default::default() });
    Ok(())
}

/// `utimensat(2)`.
pub fn change_times(
    context: &Context<'_>,
    location: &Location,
    accessed: NewTime,
    modified: NewTime,
) -> Result<(), Errno> {
    let (inode, credentials) = (&location.dentry.inode, context.credentials);
    if accessed == NewTime::Keep && modified == NewTime::Keep {
        return Ok(());
    }
    location.mount.check_writable()?;
    if accessed == NewTime::Now && modified == NewTime::Now {
        // Who may write may set the present time.
        if inode.check_owner(credentials).is_err() {
            inode.check_access(credentials, WRITE)?;
        }
    } else {
        inode.check_owner(credentials)?;
    }
    check_changeable(inode)?;
    let time = |new| match new {
        NewTime::Keep => None,
        NewTime::Now => Some(now()),
        NewTime::At(time) => Some(time),
    };
    let change = AttributeChange { accessed: time(accessed), modified: time(modified), ..Default::default() };
    inode.apply(&change);
    Ok(())
}

/// `truncate(2)`.
pub fn truncate(context: &Context<'_>, location: &Location, size: u64, rules: &WriteRules) -> Result<(), Errno> {
    let inode = &location.dentry.inode;
    if inode.is_directory() {
        return Err(Errno::EISDIR);
    }
    if !inode.is_regular() {
        return Err(Errno::EINVAL);
    }
    location.mount.check_writable()?;
    inode.check_access(context.credentials, WRITE)?;
    let _writer = inode.allow_write()?;
    set_size(inode, size, rules)
}

/// Whether a directory may become the current one or the root: it must be searchable.
pub fn check_enterable(context: &Context<'_>, location: &Location) -> Result<(), Errno> {
    let inode = &location.dentry.inode;
    if !inode.is_directory() {
        return Err(Errno::ENOTDIR);
    }
    inode.check_access(context.credentials, super::inode::EXECUTE)
}

/// Whether somebody may read the file, for calls that copy.
pub fn check_readable(context: &Context<'_>, location: &Location) -> Result<(), Errno> {
    location.dentry.inode.check_access(context.credentials, READ)
}

/// What procfs shows has the attributes that it has.
fn check_changeable(inode: &Inode) -> Result<(), Errno> {
    if inode.file_system.kind == super::file_system::Kind::Proc { Err(Errno::EPERM) } else { Ok(()) }
}
