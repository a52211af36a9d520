//! Files: what a path names, and what an open one does.

pub mod initrd_tar;
