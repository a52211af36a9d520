//! Copies to and from user memory: are bad ranges refused, and does a copy know to the byte how far it came?

use super::memory::with_loaded;
use crate::errno::Errno;
use crate::kernel_test;
use crate::lock::{Lock, Rank};
use crate::memory::user_access::{self, StringEnd, UserAddress};
use crate::memory::{AddressSpace, Mapping, Placement, Protection, USER_END};
use alloc::sync::Arc;
use alloc::vec;
use x86_64::registers::rflags::{self, RFlags};

const PAGE: u64 = crate::PAGE_SIZE as u64;
const RW: Protection = Protection::READ.union(Protection::WRITE);
/// Two pages of memory, and nothing behind them; before them one that may only be read.
const START: u64 = 0x70_0000;
const END: u64 = START + 2 * PAGE;

/// Runs with those pages as the current process's memory.
fn with_user_pages(run: impl FnOnce(&Lock<AddressSpace>)) {
    let mut space = AddressSpace::new().expect("memory");
    space.map(Placement::Fixed(START), 2 * PAGE, Mapping::anonymous(RW)).expect("room");
    space.map(Placement::Fixed(START - PAGE), PAGE, Mapping::anonymous(Protection::READ)).expect("room");
    let root = space.page_table_frame();
    let space = Arc::new(Lock::new(Rank::AddressSpace, space));
    let process = crate::task::current().process.clone();
    let before = process.replace_address_space(Some(space.clone()));
    with_loaded(root, || run(&space));
    assert!(!rflags::read().contains(RFlags::ALIGNMENT_CHECK), "a copy left user memory open to the kernel");
    process.replace_address_space(before);
}

kernel_test! {
    fn are_ranges_that_wrap_or_leave_user_space_refused() {
        let mut bytes = [0; 16];
        let bad = [USER_END - 15, USER_END, 1 << 47, 0xffff_8000_0000_0000, 0xffff_ffff_8010_0000, u64::MAX - 7, u64::MAX];
        for address in bad.map(UserAddress::new) {
            assert_eq!(user_access::copy_in(&mut bytes, address), Err(Errno::EFAULT));
            assert_eq!(user_access::copy_out(address, &bytes), Err(Errno::EFAULT));
            assert_eq!(user_access::read_value::<[u64; 2]>(address), Err(Errno::EFAULT));
            assert_eq!(user_access::write_value(address, &[0_u64; 2]), Err(Errno::EFAULT));
            assert_eq!(user_access::read_slice::<u64>(address, usize::MAX / 4), Err(Errno::EFAULT));
            assert_eq!(user_access::compare_exchange(address.offset(14), 0, 0), Err(Errno::EFAULT));
            assert_eq!(user_access::string_length(address.offset(16), 8), Err(Errno::EFAULT));
        }
    }

    fn does_memory_come_and_go_unchanged() {
        with_user_pages(|_| {
            for (offset, count) in [(0, 8192), (1, 8000), (4090, 13), (4096, 1), (5, 7), (8184, 8), (8192, 0)] {
                let at = UserAddress::new(START + offset);
                let sent: vec::Vec<u8> = (0..count).map(|index| (index * 7 + 3) as u8).collect();
                assert_eq!(user_access::copy_out(at, &sent), Ok(()));
                let mut received = vec![0; count];
                assert_eq!(user_access::copy_in(&mut received, at), Ok(()));
                assert!(sent == received);
            }
            let at = UserAddress::new(START + 4093);
            assert_eq!(user_access::write_value(at, &0x1122_3344_5566_7788_u64), Ok(()));
            assert_eq!(user_access::read_value::<u64>(at), Ok(0x1122_3344_5566_7788));
            assert_eq!(user_access::read_value::<u32>(at), Ok(0x5566_7788));
            assert_eq!(user_access::read_value::<u16>(at.offset(2)), Ok(0x5566));
            assert_eq!(user_access::read_value::<u8>(at.offset(7)), Ok(0x11));
            assert_eq!(user_access::read_value::<[u8; 3]>(at.offset(5)), Ok([0x33, 0x22, 0x11]));
            assert_eq!(user_access::read_slice::<u32>(at, 2).as_deref(), Ok(&[0x5566_7788, 0x1122_3344][..]));
            assert_eq!(user_access::compare_exchange(at, 1, 2), Ok(0x5566_7788));
            assert_eq!(user_access::compare_exchange(at, 0x5566_7788, 2), Ok(0x5566_7788));
            assert_eq!(user_access::read_value::<u32>(at), Ok(2));
        });
    }

    fn what_if_the_buffer_ends_past_the_last_page() {
        with_user_pages(|_| {
            for good in 0..40_u64 {
                for bad in 1..20 {
                    let (at, count) = (UserAddress::new(END - good), (good + bad) as usize);
                    let expected = if good == 0 { Err(Errno::EFAULT) } else { Ok(good as usize) };
                    // Another each time, so that what was there before doesn't pass for it.
                    let filling = (1 + (good * 20 + bad) % 255) as u8;
                    assert_eq!(user_access::copy_out_partial(at, &[filling; 64][..count]), expected);
                    let mut bytes = [0; 64];
                    assert_eq!(user_access::copy_in_partial(&mut bytes[..count], at), expected);
                    assert!(bytes[..good as usize].iter().all(|&byte| byte == filling));
                    assert!(bytes[good as usize..].iter().all(|&byte| byte == 0));
                    assert_eq!(user_access::copy_out(at, &bytes[..count]), Err(Errno::EFAULT));
                }
            }
            assert_eq!(user_access::read_value::<u32>(UserAddress::new(END - 3)), Err(Errno::EFAULT));
            assert_eq!(user_access::write_value(UserAddress::new(END - 1), &0_u16), Err(Errno::EFAULT));
            assert_eq!(user_access::compare_exchange(UserAddress::new(END), 0, 0), Err(Errno::EFAULT));
        });
    }

    fn is_read_only_memory_readable_and_not_written() {
        with_user_pages(|_| {
            let at = UserAddress::new(START - 8);
            assert_eq!(user_access::read_value::<u64>(at), Ok(0));
            assert_eq!(user_access::write_value(at, &0_u64), Err(Errno::EFAULT));
            assert_eq!(user_access::copy_out_partial(at, &[1; 16]), Err(Errno::EFAULT));
            let mut bytes = [7; 16];
            assert_eq!(user_access::copy_in(&mut bytes, at), Ok(()));
        });
    }

    fn are_strings_found_up_to_their_limit_and_no_further() {
        with_user_pages(|_| {
            let mut buffer = [0xff; 64];
            // What is a quick test's for the end: the least byte, the greatest, and those around the highest bit.
            let lengths_and_fillings = (0..40_usize).flat_map(|length| [1, b'x', 0x80, 0x81, 0xff].map(|byte| (length, byte)));
            for (length, filling) in lengths_and_fillings {
                for before_end in [0, 1, 3, 8, 9] {
                    let at = UserAddress::new(END - before_end - length as u64 - 1);
                    let mut string = [filling; 64];
                    // Another one on the way, so that a word or two are as they should be.
                    string[length / 2] = b'y';
                    string[length] = 0;
                    user_access::copy_out(at, &string[..length + 1]).expect("the pages are there");
                    let whole = Ok(StringEnd::Whole(length));
                    assert_eq!(user_access::string_length(at, 64), whole);
                    assert_eq!(user_access::string_length(at, length + 1), whole);
                    assert_eq!(user_access::string_length(at, length), Ok(StringEnd::TooLong));
                    assert_eq!(user_access::read_string_into(&mut buffer, at), whole);
                    assert!(buffer[..length + 1] == string[..length + 1]);
                    assert_eq!(user_access::read_string_into(&mut buffer[..length], at), Ok(StringEnd::TooLong));
                    let too_long = user_access::read_string(at, length, Errno::ENAMETOOLONG);
                    assert_eq!(too_long, Err(Errno::ENAMETOOLONG));
                    let read = user_access::read_string(at, length + 1, Errno::ENAMETOOLONG);
                    assert!(read.is_ok_and(|read| read == string[..length]));
                }
            }
            user_access::copy_out(UserAddress::new(END - 20), &[b'y'; 20]).expect("the pages are there");
            for distance in 0..20 {
                let at = UserAddress::new(END - distance);
                assert_eq!(user_access::string_length(at, 64), Err(Errno::EFAULT), "it runs into nothing");
                assert_eq!(user_access::read_string_into(&mut buffer, at), Err(Errno::EFAULT));
            }
        });
    }

    fn is_memory_that_was_never_touched_faulted_in() {
        with_user_pages(|space| {
            assert_eq!(space.lock().resident_bytes(), 0);
            assert_eq!(user_access::copy_out(UserAddress::new(START + 4000), &[1; 200]), Ok(()));
            assert_eq!(space.lock().resident_bytes(), 2 * PAGE);
        });
    }

    /// The processor's own TLB, where the host's tests have a model of one.
    fn does_no_translation_outlive_a_change_of_its_page() {
        for pages in [1, 2] {
            let (range, last) = (START..START + pages * PAGE, UserAddress::new(START + (pages - 1) * PAGE));
            // Has all pages in the TLB, as ones that may be written.
            let write_all = |value: u64| {
                for page in range.clone().step_by(PAGE as usize) {
                    assert_eq!(user_access::write_value(UserAddress::new(page), &value), Ok(()));
                    assert_eq!(user_access::read_value::<u64>(UserAddress::new(page)), Ok(value));
                }
            };
            with_user_pages(|space| {
                write_all(1);
                let mut child = space.lock().clone_for_fork().expect("memory");
                write_all(2);
                let mut bytes = [0; 8];
                child.read_bytes(last.as_u64(), &mut bytes).expect("it has the page");
                assert_eq!(u64::from_le_bytes(bytes), 1, "what is written after a fork is the writer's own");
                drop(child);
                space.lock().discard(range.clone()).expect("an area");
                assert_eq!(user_access::read_value::<u64>(last), Ok(0), "what was discarded is gone");
                write_all(3);
                space.lock().protect(range.clone(), Protection::READ).expect("an area");
                assert_eq!(user_access::read_value::<u64>(last), Ok(3));
                assert_eq!(user_access::write_value(last, &4_u64), Err(Errno::EFAULT), "it may only be read now");
                space.lock().protect(range.clone(), RW).expect("an area");
                write_all(5);
                space.lock().unmap(range.clone()).expect("an area");
                assert_eq!(user_access::read_value::<u64>(last), Err(Errno::EFAULT), "what was unmapped is gone");
            });
        }
    }
}
