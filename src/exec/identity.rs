//! What a process is besides its image once it runs a program: whose rights it has, and what set-ID bits take from what its
//! caller chose for it, so that nobody can lame a program that has more rights than himself (`execve(2)`, "Effect on process
//! attributes").

use super::layout::Randomness;
use crate::task::credentials::Credentials;
use alloc::sync::Arc;

/// personality(2): no random addresses.
pub const ADDR_NO_RANDOMIZE: u64 = 0x004_0000;
const MMAP_PAGE_ZERO: u64 = 0x010_0000;
const ADDR_COMPAT_LAYOUT: u64 = 0x020_0000;
const READ_IMPLIES_EXEC: u64 = 0x040_0000;
/// Linux's PER_CLEAR_ON_SETID: what would make a program with set-ID bits easier to attack.
const CLEARED_BY_SET_ID: u64 = READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT | MMAP_PAGE_ZERO;
/// Linux's `_STK_LIM`: with other rights than its caller's, no program gets more stack than usual.
const STACK_LIMIT_OF_SECURE: u64 = 8 << 20;

/// What a program file says of whoever runs it.
pub struct FileRights {
    pub credentials: Arc<Credentials>,
    /// It has a set-user-ID or a set-group-ID bit that counts, even if the ids are the caller's own.
    pub sets_ids: bool,
    /// Its effective ids are not the caller's, or would not be if the caller could be trusted with them.
    pub changes_ids: bool,
    /// The caller may read it.
    pub may_be_read: bool,
}

/// What its caller is.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    pub credentials: &'a Credentials,
    pub personality: u64,
    /// The soft RLIMIT_STACK.
    pub stack_limit: u64,
}

/// What the process becomes.
#[derive(Debug)]
pub struct Identity {
    pub credentials: Arc<Credentials>,
    pub personality: u64,
    pub stack_limit: u64,
    /// Acts with other rights than its caller did, or than those of its real ids: its libc is told (AT_SECURE).
    pub is_secure: bool,
    /// Its rights differ from those that it had, or from those of its real ids: its parent's end sends it no signal.
    pub has_other_rights: bool,
    pub is_dumpable: bool,
}

impl Identity {
    pub fn new(caller: &Caller, rights: FileRights) -> Self {
        let (old, new) = (caller.credentials, &rights.credentials);
        let is_secure = rights.changes_ids || new.is_secure();
        let has_other_rights = is_secure || new.act_differently_from(old);
        let cleared = if rights.sets_ids { CLEARED_BY_SET_ID } else { READ_IMPLIES_EXEC };
        let stack_limit = caller.stack_limit;
        Self {
            personality: caller.personality & !cleared,
            stack_limit: if is_secure { stack_limit.min(STACK_LIMIT_OF_SECURE) } else { stack_limit },
            is_secure,
            has_other_rights,
            is_dumpable: rights.may_be_read && !has_other_rights,
            credentials: rights.credentials,
        }
    }

    /// The random numbers that count for it.
    pub fn randomness(&self, random: &Randomness) -> Randomness {
        Randomness { randomise: random.randomise && self.personality & ADDR_NO_RANDOMIZE == 0, ..*random }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::credentials::Ids;

    fn become_user(user: Ids, sets_ids: bool) -> Identity {
        let old = Credentials::new(Ids::all(1000), Ids::all(1000), &[]).unwrap();
        let new = Credentials::new(user, Ids::all(1000), &[]).unwrap();
        let caller = Caller { credentials: &old, personality: u64::from(u32::MAX), stack_limit: 64 << 20 };
        let changes_ids = user.effective != old.user.effective;
        Identity::new(&caller, FileRights { credentials: new.into(), sets_ids, changes_ids, may_be_read: true })
    }

    #[test]
    fn does_an_ordinary_program_keep_what_its_caller_chose() {
        let identity = become_user(Ids::all(1000), false);
        assert_eq!(identity.personality, u64::from(u32::MAX) & !READ_IMPLIES_EXEC);
        assert_eq!((identity.stack_limit, identity.is_dumpable, identity.has_other_rights), (64 << 20, true, false));
    }

    #[test]
    fn does_a_set_id_program_get_random_addresses_and_a_usual_stack() {
        let identity = become_user(Ids::all(1000).set_by_exec(Some(0)), true);
        assert_eq!(identity.personality & CLEARED_BY_SET_ID, 0);
        assert_eq!((identity.stack_limit, identity.is_dumpable, identity.has_other_rights), (8 << 20, false, true));
        let random = Randomness { randomise: true, stack: 0, mmap: 0, image: 0, heap: 0, seed: [0; 16] };
        assert!(identity.randomness(&random).randomise);
    }

    #[test]
    fn do_set_id_bits_with_the_callers_own_ids_clear_the_personality_only() {
        let identity = become_user(Ids::all(1000), true);
        assert_eq!(identity.personality & CLEARED_BY_SET_ID, 0);
        assert_eq!((identity.stack_limit, identity.is_dumpable, identity.has_other_rights), (64 << 20, true, false));
    }
}
