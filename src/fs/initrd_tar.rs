//! Reads the tar archive that the boot loader brings: the first contents of the root file system.
//!
//! Understood are what `tar` programs write today: V7, ustar and GNU headers, GNU long names and links, pax extended and
//! global headers (path, linkpath, size, uid, gid, mtime), numbers in octal and in base 256; directories, symlinks, hard
//! links, devices and FIFOs. (The crate tar-no-std skips all but regular files, and pax and GNU names.)
//!
//! The reader allocates nothing and copies nothing: an [`Entry`] borrows from the archive, and a file's contents are a range
//! of it, checked to lie inside. Nothing in the archive is trusted; what can't be right is an [`Error`] that says where.

#![deny(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic
    )
)]

use core::fmt;
use core::ops::Range;

const BLOCK: usize = 512;

/// A header block's fields (POSIX `pax`, "ustar Interchange Format").
mod field {
    use core::ops::Range;

    pub const NAME: Range<usize> = 0..100;
    pub const MODE: Range<usize> = 100..108;
    pub const UID: Range<usize> = 108..116;
    pub const GID: Range<usize> = 116..124;
    pub const SIZE: Range<usize> = 124..136;
    pub const MTIME: Range<usize> = 136..148;
    pub const CHECKSUM: Range<usize> = 148..156;
    pub const TYPE: usize = 156;
    pub const LINK: Range<usize> = 157..257;
    pub const MAGIC: Range<usize> = 257..263;
    pub const MAJOR: Range<usize> = 329..337;
    pub const MINOR: Range<usize> = 337..345;
    pub const PREFIX: Range<usize> = 345..500;
}

/// A path in the archive: ustar keeps long ones in two parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Path<'a> {
    prefix: &'a [u8],
    name: &'a [u8],
}

impl<'a> Path<'a> {
    fn whole(name: &'a [u8]) -> Self {
        Self { prefix: &[], name }
    }

    /// The names from the root on; `.` and empty ones are left out, so that the root itself has none. `..` is given as it
    /// is: an archive that holds it is not to be followed out of the root.
    pub fn components(&self) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a> {
        let parts = |text: &'a [u8]| text.split(|byte| *byte == b'/');
        parts(self.prefix).chain(parts(self.name)).filter(|name| !name.is_empty() && *name != b".")
    }

    fn ends_with_slash(&self) -> bool {
        self.name.last() == Some(&b'/')
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        for name in self.components() {
            write!(formatter, "/{}", name.escape_ascii())?;
        }
        Ok(())
    }
}

/// A time since 1970; the nanoseconds count upwards also before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    pub seconds: i64,
    pub nanoseconds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// Contents are this range of the archive.
    File(Range<usize>),
    Directory,
    /// What the link says, unchanged.
    Symlink(&'a [u8]),
    /// Another entry's path.
    HardLink(Path<'a>),
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// Something that has no place in a file system, or that this reader can't read; its contents were skipped.
    Unsupported(u8),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub path: Path<'a>,
    pub kind: Kind<'a>,
    /// Permission bits, with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub modified: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Compressed,
    NotTar,
    Checksum,
    Number,
    Truncated,
    ExtendedHeader,
    Sparse,
}

/// Why reading stopped, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    pub offset: usize,
    pub reason: Reason,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let text = match self.reason {
            Reason::Compressed => "the archive is compressed; give it to the boot loader unpacked",
            Reason::NotTar => "this is no tar archive",
            Reason::Checksum => "a header's checksum is wrong",
            Reason::Number => "a number in a header can't be read",
            Reason::Truncated => "the archive ends within an entry",
            Reason::ExtendedHeader => "a pax extended header can't be read",
            Reason::Sparse => "a file is stored as sparse; make the archive without --sparse",
        };
        write!(formatter, "{text} (byte {})", self.offset)
    }
}

/// What pax headers and GNU long-name entries say about the entries that follow.
#[derive(Clone, Copy, Default)]
struct Overrides<'a> {
    path: Option<&'a [u8]>,
    link: Option<&'a [u8]>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    modified: Option<Time>,
    sparse: bool,
}

impl<'a> Overrides<'a> {
    fn over(self, base: Self) -> Self {
        Self {
            path: self.path.or(base.path),
            link: self.link.or(base.link),
            size: self.size.or(base.size),
            uid: self.uid.or(base.uid),
            gid: self.gid.or(base.gid),
            modified: self.modified.or(base.modified),
            sparse: self.sparse || base.sparse,
        }
    }

    /// Takes in records of the form `LENGTH KEY=VALUE\n`, the length being the whole record's.
    fn take_records(&mut self, mut records: &'a [u8]) -> Option<()> {
        while !records.is_empty() {
            let space = records.iter().position(|byte| *byte == b' ')?;
            let length = usize::try_from(decimal(records.get(..space)?)?).ok()?;
            let (record, rest) = records.split_at_checked(length)?;
            let record = record.get(space.checked_add(1)?..)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (record.get(..equals)?, record.get(equals.checked_add(1)?..)?);
            self.take_record(key, value)?;
            records = rest;
        }
        Some(())
    }

    fn take_record(&mut self, key: &[u8], value: &'a [u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value),
            b"linkpath" => self.link = Some(value),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(u32::try_from(decimal(value)?).ok()?),
            b"gid" => self.gid = Some(u32::try_from(decimal(value)?).ok()?),
            b"mtime" => self.modified = Some(decimal_time(value)?),
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            // Names of users, other times, comments, attributes: nothing that Keel keeps.
            _ => {}
        }
        Some(())
    }
}

/// An iterator over the entries; after an error it ends.
pub struct Entries<'a> {
    archive: &'a [u8],
    offset: usize,
    global: Overrides<'a>,
    ended: bool,
}

/// The entries of an archive, in its order.
pub fn entries(archive: &[u8]) -> Entries<'_> {
    Entries { archive, offset: 0, global: Overrides::default(), ended: false }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let offset = self.offset;
        let found = self.next_entry().transpose();
        match found {
            Some(Ok(entry)) => Some(Ok(entry)),
            Some(Err(reason)) => {
                self.ended = true;
                Some(Err(Error { offset, reason }))
            }
            None => {
                self.ended = true;
                None
            }
        }
    }
}

impl<'a> Entries<'a> {
    /// Reads headers until one describes an entry; those before it (long names, extended headers) describe that one.
    fn next_entry(&mut self) -> Result<Option<Entry<'a>>, Reason> {
        let mut own = Overrides::default();
        loop {
            let Some(header) = self.next_header()? else { return Ok(None) };
            let overrides = own.over(self.global);
            match header.kind() {
                b'L' => own.path = Some(until_nul(self.take_contents(header.size()?)?)),
                b'K' => own.link = Some(until_nul(self.take_contents(header.size()?)?)),
                b'x' | b'X' => {
                    let records = self.take_contents(header.size()?)?;
                    own.take_records(records).ok_or(Reason::ExtendedHeader)?;
                }
                b'g' => {
                    let records = self.take_contents(header.size()?)?;
                    self.global.take_records(records).ok_or(Reason::ExtendedHeader)?;
                }
                // A volume's label.
                b'V' => {
                    self.take_contents(header.size()?)?;
                }
                _ => return self.entry(&header, &overrides).map(Some),
            }
        }
    }

    /// The next header block, or `None` at the end: a block of zeroes, or no more bytes.
    fn next_header(&mut self) -> Result<Option<Header<'a>>, Reason> {
        let rest = self.archive.get(self.offset..).unwrap_or_default();
        let Some((block, _)) = rest.split_first_chunk::<BLOCK>() else {
            return if rest.iter().all(|byte| *byte == 0) { Ok(None) } else { Err(self.not_a_header(rest)) };
        };
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let header = Header { block };
        if !header.checksum_is_right() {
            return Err(self.not_a_header(rest));
        }
        self.offset = self.offset.saturating_add(BLOCK);
        Ok(Some(header))
    }

    fn not_a_header(&self, bytes: &[u8]) -> Reason {
        const COMPRESSED: [&[u8]; 4] = [b"\x1f\x8b", b"\xfd7zXZ", b"BZh", b"\x28\xb5\x2f\xfd"];
        if self.offset > 0 {
            if bytes.len() < BLOCK { Reason::Truncated } else { Reason::Checksum }
        } else if COMPRESSED.iter().any(|magic| bytes.starts_with(magic)) {
            Reason::Compressed
        } else {
            Reason::NotTar
        }
    }

    /// Where an entry's contents are; moves on behind them and their padding.
    fn take_range(&mut self, size: u64) -> Result<Range<usize>, Reason> {
        let size = usize::try_from(size).map_err(|_| Reason::Truncated)?;
        let end = self.offset.checked_add(size).ok_or(Reason::Truncated)?;
        if end > self.archive.len() {
            return Err(Reason::Truncated);
        }
        let range = self.offset..end;
        // The last entry's padding may be missing.
        self.offset = end.checked_next_multiple_of(BLOCK).ok_or(Reason::Truncated)?.min(self.archive.len());
        Ok(range)
    }

    fn take_contents(&mut self, size: u64) -> Result<&'a [u8], Reason> {
        let range = self.take_range(size)?;
        self.archive.get(range).ok_or(Reason::Truncated)
    }

    fn entry(&mut self, header: &Header<'a>, overrides: &Overrides<'a>) -> Result<Entry<'a>, Reason> {
        let path = overrides.path.map_or_else(|| header.path(), Path::whole);
        let link = overrides.link.unwrap_or_else(|| header.text(field::LINK));
        let kind = match header.kind() {
            // Links, directories, devices and FIFOs have no contents, whatever their size field says.
            b'1' => Kind::HardLink(Path::whole(link)),
            b'2' => Kind::Symlink(link),
            b'3' => Kind::CharacterDevice { major: header.id(field::MAJOR)?, minor: header.id(field::MINOR)? },
            b'4' => Kind::BlockDevice { major: header.id(field::MAJOR)?, minor: header.id(field::MINOR)? },
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'S' => return Err(Reason::Sparse),
            _ if overrides.sparse => return Err(Reason::Sparse),
            other => {
                let contents = self.take_range(overrides.size.map_or_else(|| header.size(), Ok)?)?;
                match other {
                    // V7 knew a directory by its slash.
                    0 if path.ends_with_slash() => Kind::Directory,
                    // An unknown type that isn't a vendor's is a file, says POSIX.
                    0 | b'0'..=b'9' | b'a'..=b'z' => Kind::File(contents),
                    b'D' => Kind::Directory,
                    other => Kind::Unsupported(other),
                }
            }
        };
        Ok(Entry {
            path,
            kind,
            mode: u32::try_from(header.number(field::MODE)? & 0o7777).map_err(|_| Reason::Number)?,
            uid: overrides.uid.map_or_else(|| header.id(field::UID), Ok)?,
            gid: overrides.gid.map_or_else(|| header.id(field::GID), Ok)?,
            modified: match overrides.modified {
                Some(time) => time,
                None => Time { seconds: header.number(field::MTIME)?, nanoseconds: 0 },
            },
        })
    }
}

struct Header<'a> {
    block: &'a [u8; BLOCK],
}

impl<'a> Header<'a> {
    fn field(&self, range: Range<usize>) -> &'a [u8] {
        self.block.get(range).unwrap_or_default()
    }

    fn text(&self, range: Range<usize>) -> &'a [u8] {
        until_nul(self.field(range))
    }

    fn kind(&self) -> u8 {
        self.block.get(field::TYPE).copied().unwrap_or(0)
    }

    /// GNU's own format has other things where ustar keeps the prefix, and so has V7.
    fn path(&self) -> Path<'a> {
        let is_ustar = self.field(field::MAGIC) == b"ustar\0";
        let prefix = if is_ustar { self.text(field::PREFIX) } else { &[] };
        Path { prefix, name: self.text(field::NAME) }
    }

    fn number(&self, range: Range<usize>) -> Result<i64, Reason> {
        number(self.field(range)).ok_or(Reason::Number)
    }

    fn size(&self) -> Result<u64, Reason> {
        u64::try_from(self.number(field::SIZE)?).map_err(|_| Reason::Number)
    }

    fn id(&self, range: Range<usize>) -> Result<u32, Reason> {
        u32::try_from(self.number(range)?).map_err(|_| Reason::Number)
    }

    /// The sum of the bytes, with blanks for the sum itself; some old programs added them as signed.
    fn checksum_is_right(&self) -> bool {
        let Ok(expected) = self.number(field::CHECKSUM) else { return false };
        let bytes = self.block.iter().enumerate();
        let blanked = bytes.map(|(at, byte)| if field::CHECKSUM.contains(&at) { b' ' } else { *byte });
        let (mut unsigned, mut signed): (i64, i64) = (0, 0);
        for byte in blanked {
            unsigned = unsigned.saturating_add(i64::from(byte));
            signed = signed.saturating_add(i64::from(byte.cast_signed()));
        }
        expected == unsigned || expected == signed
    }
}

/// A header's number: octal digits between blanks and NULs, or base 256 if the first bit says so.
fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        return base_256(field);
    }
    let is_blank = |byte: &u8| *byte == b' ' || *byte == 0;
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits = field.get(start..)?;
    let end = digits.iter().position(is_blank).unwrap_or(digits.len());
    let mut value: i64 = 0;
    for digit in digits.get(..end)? {
        let digit = char::from(*digit).to_digit(8)?;
        value = value.checked_mul(8)?.checked_add(i64::from(digit))?;
    }
    Some(value)
}

/// Two's complement, most significant byte first, its top bit replaced by the mark.
fn base_256(field: &[u8]) -> Option<i64> {
    let (first, rest) = field.split_first()?;
    // Bit 6 is the sign.
    let mut value = if first & 0x40 != 0 { i64::from(first | 0x80).checked_sub(256)? } else { i64::from(first & 0x3f) };
    for byte in rest {
        value = value.checked_mul(256)?.checked_add(i64::from(*byte))?;
    }
    Some(value)
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    for byte in text {
        let digit = char::from(*byte).to_digit(10)?;
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// `-1.25`: the seconds are rounded down, so that the nanoseconds are never negative.
fn decimal_time(text: &[u8]) -> Option<Time> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(decimal(text.get(..point)?)?).ok()?;
    let mut nanoseconds: u32 = 0;
    let fraction = text.get(point..)?.strip_prefix(b".").unwrap_or_default();
    let digits = fraction.iter().map(|byte| char::from(*byte).to_digit(10));
    for digit in digits.chain(core::iter::repeat(Some(0))).take(9) {
        nanoseconds = nanoseconds.checked_mul(10)?.checked_add(digit?)?;
    }
    match (negative, nanoseconds) {
        (false, _) => Some(Time { seconds, nanoseconds }),
        (true, 0) => Some(Time { seconds: seconds.checked_neg()?, nanoseconds }),
        (true, _) => Some(Time {
            seconds: seconds.checked_neg()?.checked_sub(1)?,
            nanoseconds: 1_000_000_000_u32.checked_sub(nanoseconds)?,
        }),
    }
}

fn until_nul(text: &[u8]) -> &[u8] {
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
