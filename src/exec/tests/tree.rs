//! Files for tests, by absolute path.

use crate::PAGE_SIZE;
use crate::errno::Errno;
use crate::exec::load::MappableFile;
use crate::exec::{ExecutableFile, FileRights, Programs};
use crate::memory::{PageRef, PageSource};
use crate::task::credentials::Credentials;
use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct File {
    pub bytes: Arc<Vec<u8>>,
    /// How many bytes have been read.
    pub read: Rc<Cell<u64>>,
}

impl ExecutableFile for File {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.read.set(self.read.get() + count as u64);
        Ok(count)
    }
}

impl MappableFile for File {
    fn pages(&self) -> Arc<dyn PageSource> {
        self.bytes.clone()
    }
}

impl PageSource for Vec<u8> {
    fn page(&self, index: u64, _: bool) -> Result<PageRef, Errno> {
        let bytes = self.get(index as usize * PAGE_SIZE..).filter(|rest| !rest.is_empty()).ok_or(Errno::EFAULT)?;
        let page = PageRef::new_zeroed()?;
        page.write(0, &bytes[..bytes.len().min(PAGE_SIZE)]);
        Ok(page)
    }
}

#[derive(Default)]
pub struct Tree {
    files: HashMap<Vec<u8>, File>,
    pub credentials: Arc<Credentials>,
}

impl Tree {
    pub fn with(mut self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        let file = File { bytes: Arc::new(bytes.into()), read: Rc::default() };
        self.files.insert(path.as_bytes().to_vec(), file);
        self
    }

    pub fn get(&self, path: &str) -> &File {
        &self.files[path.as_bytes()]
    }
}

impl Programs for Tree {
    type File = File;

    fn open(&self, path: &[u8]) -> Result<File, Errno> {
        if path.ends_with(b"/.") || path == b"/" {
            return Err(Errno::EACCES);
        }
        let parent = path.iter().rposition(|byte| *byte == b'/').map_or(&[][..], |end| &path[..end]);
        if self.files.contains_key(parent) {
            return Err(Errno::ENOTDIR);
        }
        self.files.get(path).cloned().ok_or(Errno::ENOENT)
    }

    fn rights(&self, _: &File) -> Result<FileRights, Errno> {
        Ok(FileRights { credentials: self.credentials.clone(), sets_ids: false, changes_ids: false, may_be_read: true })
    }
}
