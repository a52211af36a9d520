//! Which numbers are those of groups and sessions, and in which session a group is: all its members are in the same one.

use super::ids::IdTable;
use crate::errno::Errno;

/// By number. One that is no group's and no session's has no entry, but stays taken as long as there is a process with it.
pub struct Groups {
    names: IdTable<Name>,
}

/// What a number names besides a process.
#[derive(Clone, Copy, Default)]
struct Name {
    members_of_group: u32,
    members_of_session: u32,
    /// In which the group is, as long as it has members.
    session_of_group: u32,
}

impl Groups {
    pub const fn new() -> Self {
        Self { names: IdTable::new() }
    }

    /// Room for a group and a session of this number, so that [`Self::enter`] cannot fail.
    pub fn reserve(&mut self, id: u32) -> Result<(), Errno> {
        self.names.reserve_this(id)
    }

    pub fn release(&mut self, id: u32) {
        self.names.release(id);
    }

    /// Whether there is a group or a session of this number.
    pub fn has(&self, id: u32) -> bool {
        self.names.get(id).is_some()
    }

    /// None: there is no such group.
    pub fn session_of(&self, group: u32) -> Option<u32> {
        self.names.get(group).filter(|name| name.members_of_group > 0).map(|name| name.session_of_group)
    }

    /// One more process is in these.
    pub fn enter(&mut self, group: u32, session: u32) {
        self.change(group, |name| {
            name.members_of_group = name.members_of_group.saturating_add(1);
            name.session_of_group = session;
        });
        self.change(session, |name| name.members_of_session = name.members_of_session.saturating_add(1));
    }

    pub fn leave(&mut self, group: u32, session: u32) {
        self.change(group, |name| name.members_of_group = name.members_of_group.saturating_sub(1));
        self.change(session, |name| name.members_of_session = name.members_of_session.saturating_sub(1));
    }

    fn change(&mut self, id: u32, change: impl FnOnce(&mut Name)) {
        let mut name = self.names.get(id).copied().unwrap_or_default();
        change(&mut name);
        if name.members_of_group > 0 || name.members_of_session > 0 {
            self.names.set(id, name);
        } else {
            self.names.clear(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_in_a_session_as_long_as_it_has_members() {
        let mut groups = Groups::new();
        [2, 3].map(|id| groups.reserve(id).unwrap());
        assert_eq!(groups.session_of(2), None);
        groups.enter(2, 2);
        groups.enter(3, 2);
        assert_eq!([2, 3].map(|group| groups.session_of(group)), [Some(2); 2]);
        // The session goes on under a number that is no group's any more.
        groups.leave(2, 2);
        assert_eq!(([2, 3].map(|group| groups.session_of(group)), groups.has(2)), ([None, Some(2)], true));
        groups.enter(3, 3);
        groups.leave(3, 2);
        assert_eq!((groups.session_of(3), groups.has(2)), (Some(3), false));
    }
}
