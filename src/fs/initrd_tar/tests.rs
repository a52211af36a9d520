//! The tar reader against archives made by the host's `tar` in each format, and against archives that are wrong.

use super::*;
use std::path::PathBuf;
use std::process::Command;

/// One header block with a right checksum.
fn header(name: &str, kind: u8, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    put(&mut block, field::MODE, "0000644");
    put(&mut block, field::UID, "0000000");
    put(&mut block, field::GID, "0000000");
    put(&mut block, field::SIZE, &format!("{size:011o}"));
    put(&mut block, field::MTIME, "00000000017");
    block[field::TYPE] = kind;
    put(&mut block, field::MAGIC, "ustar");
    seal(&mut block);
    block
}

fn put(block: &mut [u8; BLOCK], field: Range<usize>, text: &str) {
    block[field.start..field.start + text.len()].copy_from_slice(text.as_bytes());
}

fn seal(block: &mut [u8; BLOCK]) {
    block[field::CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    put(block, field::CHECKSUM, &format!("{sum:06o}\0"));
}

fn archive(parts: &[(&[u8; BLOCK], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (header, contents) in parts {
        bytes.extend_from_slice(*header);
        bytes.extend_from_slice(contents);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    bytes
}

fn only_error(archive: &[u8]) -> Reason {
    let mut found = entries(archive).filter_map(Result::err);
    let error = found.next().expect("an error");
    assert!(entries(archive).skip_while(Result::is_ok).count() == 1, "an error ends the archive");
    error.reason
}

/// A tree with one of everything, archived by the host's tar with these options.
fn made_by_tar(name: &str, options: &[&str]) -> Vec<u8> {
    let root = std::env::temp_dir().join(format!("keel-tar-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&root);
    let script = format!(
        "set -e; mkdir -p {0}/tree/{1}; cd {0}/tree; printf hello >file; chmod 4751 file; touch -d @1000000000.25 file
         ln file hard; ln -s ../some/where soft; mkfifo pipe; mkdir -m 1777 tmp; printf long >{1}/{2}
         ln -s {1}{1} longlink; ln {1}/{2} hardlong; : >empty; head -c 1500 /dev/zero >blocks
         tar -cf ../out.tar --owner=7 --group=8 --sort=name {3} .",
        root.display(),
        "d".repeat(90),
        "f".repeat(150),
        options.join(" ")
    );
    let done = Command::new("sh").args(["-c", &script]).status().expect("sh runs");
    assert!(done.success());
    let bytes = std::fs::read(PathBuf::from(&root).join("out.tar")).expect("an archive");
    std::fs::remove_dir_all(&root).expect("removed");
    bytes
}

fn check_tree(bytes: &[u8], has_fractions: bool) {
    let all: Vec<_> = entries(bytes).map(|entry| entry.expect("a good entry")).collect();
    let find = |path: &str| all.iter().find(|entry| entry.path.to_string() == path).unwrap_or_else(|| panic!("{path}"));
    assert_eq!(all.len(), 12);
    assert_eq!(find("").kind, Kind::Directory);
    let (directory, long) = ("d".repeat(90), "f".repeat(150));
    let contents = |path: &str| match &find(path).kind {
        Kind::File(range) => bytes[range.clone()].to_vec(),
        other => panic!("{path} is {other:?}"),
    };
    // --sort=name makes the first of two names the file and the second the link.
    let file = find("/file");
    assert_eq!((contents("/file").as_slice(), file.mode, file.uid, file.gid), (&b"hello"[..], 0o4751, 7, 8));
    let nanoseconds = if has_fractions { 250_000_000 } else { 0 };
    assert_eq!(file.modified, Time { seconds: 1_000_000_000, nanoseconds });
    assert_eq!(find("/soft").kind, Kind::Symlink(b"../some/where"));
    assert_eq!(find("/pipe").kind, Kind::Fifo);
    assert_eq!((find("/tmp").kind.clone(), find("/tmp").mode), (Kind::Directory, 0o1777));
    assert_eq!(contents("/empty"), b"");
    assert_eq!(contents("/blocks"), vec![0; 1500]);
    assert_eq!(find("/longlink").kind, Kind::Symlink(format!("{directory}{directory}").as_bytes()));
    assert_eq!(contents(&format!("/{directory}/{long}")), b"long");
    let Kind::HardLink(target) = &find("/hard").kind else { panic!("no hard link") };
    assert_eq!(target.to_string(), "/file");
    let Kind::HardLink(target) = &find("/hardlong").kind else { panic!("no hard link") };
    assert_eq!(target.to_string(), format!("/{directory}/{long}"));
}

#[test]
fn gnu_archives_with_long_names() {
    check_tree(&made_by_tar("gnu", &["--format=gnu"]), false);
}

#[test]
fn pax_archives_with_long_names_and_fractions_of_seconds() {
    check_tree(&made_by_tar("pax", &["--format=pax"]), true);
}

#[test]
fn pax_records_override_sizes_and_owners() {
    let records = b"18 path=dir/other\n10 size=3\n12 uid=4000\n12 gid=5000\n20 mtime=-1.2500000\n";
    let bytes = archive(&[
        (&header("pax", b'x', records.len() as u64), records),
        (&header("name", b'0', 0), b"abc"),
        (&header("next", b'0', 1), b"d"),
    ]);
    let all: Vec<_> = entries(&bytes).map(Result::unwrap).collect();
    assert_eq!(all[0].path.to_string(), "/dir/other");
    let Kind::File(range) = &all[0].kind else { panic!("no file") };
    assert_eq!(&bytes[range.clone()], b"abc");
    assert_eq!((all[0].uid, all[0].gid), (4000, 5000));
    assert_eq!(all[0].modified, Time { seconds: -2, nanoseconds: 750_000_000 });
    // They hold for one entry only.
    assert_eq!((all[1].path.to_string().as_str(), all[1].uid), ("/next", 0));
}

#[test]
fn global_headers_hold_until_overridden() {
    let (global, own) = (b"9 uid=77\n", b"9 uid=88\n");
    let bytes = archive(&[
        (&header("g", b'g', 9), global),
        (&header("a", b'0', 0), b""),
        (&header("x", b'x', 9), own),
        (&header("b", b'0', 0), b""),
        (&header("c", b'0', 0), b""),
    ]);
    let uids: Vec<_> = entries(&bytes).map(|entry| entry.unwrap().uid).collect();
    assert_eq!(uids, [77, 88, 77]);
}

#[test]
fn devices_keep_their_numbers() {
    let mut block = header("dev/console", b'3', 0);
    put(&mut block, field::MAJOR, "0000005");
    put(&mut block, field::MINOR, "0000001");
    seal(&mut block);
    let mut disk = header("dev/disk", b'4', 0);
    // Base 256, as for numbers too large for octal.
    disk[field::MINOR.start] = 0x80;
    disk[field::MINOR.end - 4..field::MINOR.end].copy_from_slice(&0x0102_0304_u32.to_be_bytes());
    seal(&mut disk);
    let bytes = archive(&[(&block, b""), (&disk, b"")]);
    let kinds: Vec<_> = entries(&bytes).map(|entry| entry.unwrap().kind).collect();
    assert_eq!(kinds[0], Kind::CharacterDevice { major: 5, minor: 1 });
    assert_eq!(kinds[1], Kind::BlockDevice { major: 0, minor: 0x0102_0304 });
}

#[test]
fn a_ustar_prefix_stands_before_the_name() {
    let mut block = header("name", b'5', 0);
    put(&mut block, field::PREFIX, "some/./prefix");
    seal(&mut block);
    let bytes = archive(&[(&block, b"")]);
    assert_eq!(entries(&bytes).next().unwrap().unwrap().path.to_string(), "/some/prefix/name");
}

#[test]
fn a_v7_name_with_a_slash_is_a_directory() {
    let mut block = header("old/", 0, 0);
    block[field::MAGIC].fill(0);
    seal(&mut block);
    let bytes = archive(&[(&block, b"")]);
    assert_eq!(entries(&bytes).next().unwrap().unwrap().kind, Kind::Directory);
}

#[test]
fn links_have_no_contents_whatever_their_size_says() {
    let bytes = archive(&[(&header("link", b'1', 99_999), b""), (&header("after", b'0', 2), b"ok")]);
    assert_eq!(entries(&bytes).map(Result::unwrap).count(), 2);
}

#[test]
fn what_is_no_archive_says_so() {
    assert_eq!(only_error(b"hello"), Reason::NotTar);
    assert_eq!(only_error(&[b'x'; 2048]), Reason::NotTar);
    assert_eq!(only_error(b"\x1f\x8b\x08\0 and so on"), Reason::Compressed);
    assert_eq!(entries(b"").count(), 0);
    assert_eq!(entries(&[0; 1024]).count(), 0);
}

#[test]
fn broken_archives_are_found_out() {
    let good = archive(&[(&header("a", b'0', 600), &[1; 600]), (&header("b", b'0', 0), b"")]);
    assert_eq!(entries(&good).filter(Result::is_ok).count(), 2);
    let mut flipped = good.clone();
    flipped[1536 + 5] ^= 1;
    assert_eq!(only_error(&flipped), Reason::Checksum);
    assert_eq!(only_error(&good[..1000]), Reason::Truncated);
    assert_eq!(only_error(&good[..1536 + 100]), Reason::Truncated);
    // Without its end mark, or the last padding, an archive is still whole.
    assert_eq!(entries(&good[..512 + 600]).filter(Result::is_ok).count(), 1);
    for size in [u64::MAX >> 1, 1 << 33, 1 << 20] {
        let mut block = header("huge", b'0', 0);
        block[field::SIZE].fill(0);
        block[field::SIZE.start] = 0x80;
        block[field::SIZE.end - 8..field::SIZE.end].copy_from_slice(&size.to_be_bytes());
        seal(&mut block);
        assert_eq!(only_error(&archive(&[(&block, b"")])), Reason::Truncated);
    }
    for bad in ["12345678901", "9", "-1", "0x1"] {
        let mut block = header("number", b'0', 0);
        block[field::SIZE].fill(b'8');
        put(&mut block, field::SIZE, bad);
        seal(&mut block);
        assert_eq!(only_error(&archive(&[(&block, b"")])), Reason::Number);
    }
    assert_eq!(only_error(&archive(&[(&header("s", b'S', 0), b"")])), Reason::Sparse);
}

#[test]
fn broken_extended_headers_are_found_out() {
    let records: [&[u8]; 9] = [
        b"x",
        b"5 a=b",
        b"99 path=x\n",
        b"0 path=x\n",
        b"3 a\n",
        b"10 size=x\n",
        b"9 size=\n",
        b"4 =\n5",
        b"8 mtime=\n",
    ];
    for text in records {
        let bytes = archive(&[(&header("x", b'x', text.len() as u64), text), (&header("a", b'0', 0), b"")]);
        assert_eq!(only_error(&bytes), Reason::ExtendedHeader, "{}", text.escape_ascii());
    }
}

#[test]
fn negative_numbers_in_base_256_are_times_before_1970() {
    assert_eq!(number(&[0xff; 12]), Some(-1));
    assert_eq!(number(&[0xff, 0xff, 0xff, 0x00]), Some(-256));
    assert_eq!(number(&[0x80, 0, 1, 0]), Some(256));
    assert_eq!(number(&[0xbf; 12]), None);
    assert_eq!(decimal_time(b"-5"), Some(Time { seconds: -5, nanoseconds: 0 }));
    assert_eq!(decimal_time(b"1.0000000019"), Some(Time { seconds: 1, nanoseconds: 1 }));
}

#[test]
fn no_byte_of_an_archive_can_make_the_reader_fail_otherwise() {
    let records = b"18 path=dir/other\n10 size=3\n";
    let good = archive(&[
        (&header("g", b'g', 28), records),
        (&header("long", b'L', 5), b"name\0"),
        (&header("a", b'0', 3), b"abc"),
        (&header("s", b'2', 0), b""),
    ]);
    for at in 0..good.len() {
        for value in [0, 1, 0x20, 0x37, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] = value;
            if at % BLOCK < field::CHECKSUM.start {
                let start = at / BLOCK * BLOCK;
                let block: &mut [u8; BLOCK] = (&mut bad[start..start + BLOCK]).try_into().unwrap();
                seal(block);
            }
            for entry in entries(&bad).flatten() {
                if let Kind::File(range) = entry.kind {
                    assert!(range.end <= bad.len());
                }
            }
        }
    }
}
