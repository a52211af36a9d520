//! Files: the tree of names, the file systems in it, open files and their descriptors.
//!
//! Reading order: [`tree`] (names and the lock over them), [`inode`] (what a name leads to), [`mount`], [`walk`] (from a path
//! to a place), [`edit`] (making and removing names), [`open`], [`mod@file`] (reading and writing), [`descriptors`].

pub mod attributes;
pub mod content;
pub mod context;
pub mod descriptors;
pub mod devfs;
pub mod device;
pub mod edit;
pub mod file;
pub mod file_system;
pub mod generated;
pub mod initrd;
pub mod initrd_tar;
pub mod inode;
pub mod mapping;
pub mod memory_devices;
pub mod mount;
pub mod names;
pub mod open;
mod open_count;
pub mod open_flags;
pub mod pages;
pub mod pipe;
pub mod pipe_buffer;
#[cfg(target_os = "none")]
pub mod procfs;
pub mod record_lock;
pub mod root;
pub mod time;
pub mod tmpfs;
pub mod transfer;
pub mod tree;
pub mod turn;
pub mod waiting;
pub mod walk;

pub use context::{Context, FsContext};
pub use descriptors::FileTable;
pub use file::File;

#[cfg(test)]
mod tests;
