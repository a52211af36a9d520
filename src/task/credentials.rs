//! Who a process is: user and group ids, and how they may be changed (`credentials(7)`).
//!
//! Keel has no capabilities of its own: a process whose effective user is 0 has them all, others have none. For file access
//! the file-system ids count; they follow the effective ones unless `setfsuid` sets them apart.

use crate::errno::Errno;
use alloc::vec::Vec;

/// No id: "leave this one as it is" in the `setre*` and `setres*` calls.
pub const UNCHANGED: u32 = u32::MAX;

/// The most supplementary groups that a process may have (`NGROUPS_MAX`).
pub const GROUPS_MAX: usize = 65536;

/// The ids of one kind, user or group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub real: u32,
    pub effective: u32,
    pub saved: u32,
    pub file_system: u32,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub user: Ids,
    pub group: Ids,
    /// Supplementary groups, sorted.
    groups: Vec<u32>,
}

impl Ids {
    pub const fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, file_system: id }
    }

    /// `setuid(2)`, `setgid(2)`: the privileged set all, others may only switch back to their real or saved id.
    pub fn set(&self, privileged: bool, id: u32) -> Result<Self, Errno> {
        if id == UNCHANGED {
            return Err(Errno::EINVAL);
        }
        if privileged {
            return Ok(Self::all(id));
        }
        if id == self.real || id == self.saved {
            return Ok(Self { effective: id, file_system: id, ..*self });
        }
        Err(Errno::EPERM)
    }

    /// `setreuid(2)`, `setregid(2)`.
    pub fn set_real_effective(&self, privileged: bool, real: u32, effective: u32) -> Result<Self, Errno> {
        let mut new = *self;
        if real != UNCHANGED {
            if !privileged && real != self.real && real != self.effective {
                return Err(Errno::EPERM);
            }
            new.real = real;
        }
        if effective != UNCHANGED {
            if !privileged && effective != self.real && effective != self.effective && effective != self.saved {
                return Err(Errno::EPERM);
            }
            new.effective = effective;
        }
        if real != UNCHANGED || (effective != UNCHANGED && effective != self.real) {
            new.saved = new.effective;
        }
        new.file_system = new.effective;
        Ok(new)
    }

    /// `setresuid(2)`, `setresgid(2)`.
    pub fn set_all(&self, privileged: bool, real: u32, effective: u32, saved: u32) -> Result<Self, Errno> {
        let held = [UNCHANGED, self.real, self.effective, self.saved];
        if !privileged && [real, effective, saved].iter().any(|id| !held.contains(id)) {
            return Err(Errno::EPERM);
        }
        let choose = |new: u32, old: u32| if new == UNCHANGED { old } else { new };
        let effective = choose(effective, self.effective);
        Ok(Self { real: choose(real, self.real), effective, saved: choose(saved, self.saved), file_system: effective })
    }

    /// `setfsuid(2)`, `setfsgid(2)`: no error, only no effect.
    pub fn set_file_system(&self, privileged: bool, id: u32) -> Self {
        let held = [self.real, self.effective, self.saved, self.file_system];
        if id != UNCHANGED && (privileged || held.contains(&id)) {
            return Self { file_system: id, ..*self };
        }
        *self
    }

    /// What a program file with the set-user-ID (or set-group-ID) bit gives its process.
    pub fn set_by_exec(&self, effective: Option<u32>) -> Self {
        let effective = effective.unwrap_or(self.effective);
        Self { real: self.real, effective, saved: effective, file_system: effective }
    }
}

impl Credentials {
    /// Root's, with no supplementary groups: init's.
    pub const fn root() -> Self {
        Self { user: Ids::all(0), group: Ids::all(0), groups: Vec::new() }
    }

    pub fn new(user: Ids, group: Ids, groups: &[u32]) -> Result<Self, Errno> {
        if groups.len() > GROUPS_MAX {
            return Err(Errno::EINVAL);
        }
        let mut sorted = Vec::new();
        sorted.try_reserve_exact(groups.len()).map_err(|_| Errno::ENOMEM)?;
        sorted.extend_from_slice(groups);
        sorted.sort_unstable();
        Ok(Self { user, group, groups: sorted })
    }

    pub fn try_clone(&self) -> Result<Self, Errno> {
        Self::new(self.user, self.group, &self.groups)
    }

    pub fn groups(&self) -> &[u32] {
        &self.groups
    }

    /// May do what root may.
    pub fn is_privileged(&self) -> bool {
        self.user.effective == 0
    }

    /// Acts with other rights than those of its real ids, which are its caller's: its libc is told (AT_SECURE), and ignores
    /// LD_PRELOAD and the like.
    pub fn is_secure(&self) -> bool {
        self.user.effective != self.user.real || self.group.effective != self.group.real
    }

    /// Whether what somebody may do with these isn't what he may do with the others: the ids that are asked for differ.
    pub fn act_differently_from(&self, other: &Self) -> bool {
        let differ = |one: Ids, other: Ids| one.effective != other.effective || one.file_system != other.file_system;
        differ(self.user, other.user) || differ(self.group, other.group)
    }

    /// May read and write any file.
    #[inline]
    pub fn overrides_permissions(&self) -> bool {
        self.user.file_system == 0
    }

    /// Whether files of `group` are accessed with the group's permission bits.
    #[inline]
    pub fn is_in_group(&self, group: u32) -> bool {
        self.group.file_system == group || self.groups.binary_search(&group).is_ok()
    }

    /// These credentials with the real ids counting for file access, as `access(2)` asks.
    pub fn with_real_ids(&self) -> Result<Self, Errno> {
        let user = Ids { file_system: self.user.real, ..self.user };
        let group = Ids { file_system: self.group.real, ..self.group };
        Self::new(user, group, &self.groups)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: Ids = Ids { real: 1000, effective: 1000, saved: 0, file_system: 1000 };

    #[test]
    fn may_a_user_return_to_the_saved_id_and_to_no_other() {
        assert_eq!(USER.set(false, 0), Ok(Ids { effective: 0, file_system: 0, ..USER }));
        assert_eq!(USER.set(false, 7), Err(Errno::EPERM));
        assert_eq!(USER.set(true, 7), Ok(Ids::all(7)));
        assert_eq!(USER.set(true, UNCHANGED), Err(Errno::EINVAL));
    }

    #[test]
    fn does_setreuid_save_the_effective_id_when_the_real_one_changes() {
        let ids = Ids { real: 1, effective: 2, saved: 3, file_system: 2 };
        let swapped = ids.set_real_effective(false, 2, 1).unwrap();
        assert_eq!(swapped, Ids { real: 2, effective: 1, saved: 1, file_system: 1 });
        let same_real = ids.set_real_effective(false, UNCHANGED, 1).unwrap();
        assert_eq!(same_real, Ids { real: 1, effective: 1, saved: 3, file_system: 1 });
        assert_eq!(ids.set_real_effective(false, 3, UNCHANGED), Err(Errno::EPERM));
    }

    #[test]
    fn may_setresuid_choose_among_the_three_ids_only() {
        let ids = Ids { real: 1, effective: 2, saved: 3, file_system: 2 };
        let turned = ids.set_all(false, 3, 1, 2).unwrap();
        assert_eq!(turned, Ids { real: 3, effective: 1, saved: 2, file_system: 1 });
        assert_eq!(ids.set_all(false, UNCHANGED, 4, UNCHANGED), Err(Errno::EPERM));
        assert_eq!(ids.set_file_system(false, 9), ids);
        assert_eq!(ids.set_file_system(false, 3).file_system, 3);
    }

    #[test]
    fn are_groups_found_whatever_their_order() {
        let credentials = Credentials::new(Ids::all(1), Ids::all(5), &[30, 10, 20]).unwrap();
        assert!([5, 10, 20, 30].iter().all(|group| credentials.is_in_group(*group)));
        assert!(!credentials.is_in_group(1));
    }
}
