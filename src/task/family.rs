//! Who is whose parent, in which group and session, and what has become of whom: the process tree, over plain numbers.
//!
//! A process's children are a list that runs through their entries, so that birth, death and adoption cost no allocation,
//! and a wait looks only at the caller's own children. The entry of a process that has ended stays until its parent has
//! asked for its status.
//!
//! Besides its parent, a process, a child has a maker, one of that process's threads: a wait with __WNOTHREAD asks for the
//! maker's children only, and PR_SET_PDEATHSIG tells of the maker's end.

use super::groups::Groups;
use super::ids::IdTable;
use crate::errno::Errno;
use arrayvec::ArrayVec;
use core::mem::replace;

/// What wait4 reports, in the form in which it stores it (wait(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Exited(u8),
    Killed { signal: u8, core_dumped: bool },
    Stopped { signal: u8 },
    Continued,
}

impl Status {
    pub const fn as_wait_status(self) -> i32 {
        match self {
            Self::Exited(code) => (code as i32) << 8,
            Self::Killed { signal, core_dumped } => signal as i32 | if core_dumped { 0x80 } else { 0 },
            Self::Stopped { signal } => (signal as i32) << 8 | 0x7f,
            Self::Continued => 0xffff,
        }
    }
}

/// One process's place in the tree; `T` is whatever else is kept of it.
pub struct Member<T> {
    pub parent: u32,
    pub group: u32,
    pub session: u32,
    pub value: T,
    first_child: u32,
    last_child: u32,
    next_sibling: u32,
    previous_sibling: u32,
    /// Once it has ended: how.
    ended: Option<Status>,
    /// A stop or a continuation that the parent hasn't been told yet.
    unreported: Option<Status>,
    /// What the parent gets when it ends (clone's low byte). Not SIGCHLD: only a wait with __WCLONE or __WALL sees it.
    pub exit_signal: u8,
    /// The parent's thread that made it, or took it over: what __WNOTHREAD asks for.
    pub made_by: u32,
    /// It has called execve since it was made: its group can't be set by its parent any more.
    pub has_executed: bool,
}

pub struct Family<T> {
    members: IdTable<Member<T>>,
    groups: Groups,
}

/// Whose child a new process is.
#[derive(Clone, Copy, Debug)]
pub struct Birth {
    pub parent: u32,
    /// Which of the parent's threads made it.
    pub maker: u32,
    pub exit_signal: u8,
}

/// Numbers that may be given out again: a process's, its group's, its session's.
pub type FreeIds = ArrayVec<u32, 3>;

/// Whom a wait is for (waitpid's first argument).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    Any,
    Process(u32),
    Group(u32),
}

/// Which children and which news a wait is for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub whom: Whom,
    /// __WNOTHREAD: children of this thread only.
    pub of_thread: Option<u32>,
    pub ended: bool,
    pub stopped: bool,
    pub continued: bool,
    /// __WCLONE and __WALL: children by whether they end with SIGCHLD.
    pub with_sigchld: bool,
    pub without_sigchld: bool,
}

/// The process that inherits orphans.
pub const INIT_PID: u32 = 1;

pub const SIGCHLD: u8 = 17;
/// Ids start at 1, so this names nobody.
pub const NOBODY: u32 = 0;

impl Birth {
    /// Of a process that no other has made.
    pub const fn of_nobody() -> Self {
        Self { parent: NOBODY, maker: NOBODY, exit_signal: 0 }
    }
}

impl<T> Family<T> {
    pub const fn new() -> Self {
        Self { members: IdTable::new(), groups: Groups::new() }
    }

    /// Room for a process with this id, and for the group and session that it may begin, so that [`Self::insert`] and
    /// [`Self::set_place`] cannot fail.
    pub fn reserve(&mut self, pid: u32) -> Result<(), Errno> {
        self.members.reserve_this(pid)?;
        self.groups.reserve(pid).inspect_err(|_| drop(self.members.release(pid)))
    }

    /// Gives back what was reserved and not used.
    pub fn cancel(&mut self, pid: u32) {
        self.members.release(pid);
        self.groups.release(pid);
    }

    pub fn get(&self, pid: u32) -> Option<&Member<T>> {
        self.members.get(pid)
    }

    pub fn get_mut(&mut self, pid: u32) -> Option<&mut Member<T>> {
        self.members.get_mut(pid)
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &Member<T>)> {
        self.members.iter()
    }

    pub fn iter_from(&self, first: u32) -> impl Iterator<Item = (u32, &Member<T>)> {
        self.members.iter_from(first)
    }

    /// Adds a process under a reserved id. Group and session are its parent's.
    pub fn insert(&mut self, pid: u32, birth: Birth, value: T) {
        let (group, session) = self.get(birth.parent).map_or((pid, pid), |parent| (parent.group, parent.session));
        let member = Member {
            parent: NOBODY,
            group,
            session,
            value,
            first_child: NOBODY,
            last_child: NOBODY,
            next_sibling: NOBODY,
            previous_sibling: NOBODY,
            ended: None,
            unreported: None,
            exit_signal: birth.exit_signal,
            made_by: birth.maker,
            has_executed: false,
        };
        self.members.set(pid, member);
        self.link(pid, birth.parent);
        self.groups.enter(group, session);
    }

    /// Moves a process to a group and a session: others' that there are, or its own. Returns the numbers that name nobody
    /// any more.
    pub fn set_place(&mut self, pid: u32, group: u32, session: u32) -> FreeIds {
        let Some(member) = self.get_mut(pid) else { return FreeIds::new() };
        let (old_group, old_session) = (replace(&mut member.group, group), replace(&mut member.session, session));
        self.groups.enter(group, session);
        self.leave(old_group, old_session)
    }

    /// None: there is no such group.
    pub fn session_of_group(&self, group: u32) -> Option<u32> {
        self.groups.session_of(group)
    }

    /// A thread of `parent` ends, or gets another id: its children are another's from now on.
    pub fn change_maker(&mut self, parent: u32, from: u32, to: u32) {
        let mut child = self.get(parent).map_or(NOBODY, |member| member.first_child);
        while let Some(member) = self.get_mut(child) {
            if member.made_by == from {
                member.made_by = to;
            }
            child = member.next_sibling;
        }
    }

    /// A process that ends leaves a child to `heir`, as if its thread `maker` had made it.
    pub fn hand_over(&mut self, child: u32, heir: u32, maker: u32) {
        self.unlink(child);
        self.link(child, heir);
        if let Some(child) = self.get_mut(child) {
            child.exit_signal = SIGCHLD;
            child.made_by = maker;
        }
    }

    /// Notes that a process has ended. It has handed its children over.
    pub fn end(&mut self, pid: u32, status: Status) {
        debug_assert_eq!(self.children(pid).count(), 0);
        if let Some(member) = self.get_mut(pid) {
            member.ended = Some(status);
            member.unreported = None;
        }
    }

    /// A process runs another program now: its parent can't set its group any more, and gets SIGCHLD for its end, whatever
    /// clone was told.
    pub fn note_execve(&mut self, pid: u32) {
        if let Some(member) = self.get_mut(pid) {
            member.has_executed = true;
            member.exit_signal = SIGCHLD;
        }
    }

    pub fn has_ended(&self, pid: u32) -> bool {
        self.get(pid).is_none_or(|member| member.ended.is_some())
    }

    /// A stop or a continuation, for the parent's next wait.
    pub fn report(&mut self, pid: u32, status: Status) {
        if let Some(member) = self.get_mut(pid).filter(|member| member.ended.is_none()) {
            member.unreported = Some(status);
        }
    }

    /// News for `parent`: a child that is wanted, and what became of it. `Ok(None)`: none yet. ECHILD: nobody it could come
    /// from. Nothing is used up: see [`Self::take_report`] and [`Self::remove`].
    pub fn find_news(&self, parent: u32, wanted: &Wanted) -> Result<Option<(u32, Status)>, Errno> {
        let mut anybody = false;
        let mut child = self.get(parent).map_or(NOBODY, |member| member.first_child);
        while let Some(member) = self.get(child) {
            if wanted.concerns(child, member) {
                anybody = true;
                if let Some(status) = member.news(wanted) {
                    return Ok(Some((child, status)));
                }
            }
            child = member.next_sibling;
        }
        if anybody { Ok(None) } else { Err(Errno::ECHILD) }
    }

    /// A stop or continuation has been told.
    pub fn take_report(&mut self, pid: u32) {
        if let Some(member) = self.get_mut(pid) {
            member.unreported = None;
        }
    }

    /// Forgets a process whose end has been told. Also returns the numbers that name nobody any more: its own is not among
    /// them while it is the name of others' group or session, or it could become a stranger's.
    pub fn remove(&mut self, pid: u32) -> Option<(T, FreeIds)> {
        self.unlink(pid);
        let member = self.members.release(pid)?;
        let mut free = self.leave(member.group, member.session);
        self.free_if_unused(pid, &mut free);
        Some((member.value, free))
    }

    fn leave(&mut self, group: u32, session: u32) -> FreeIds {
        self.groups.leave(group, session);
        let mut free = FreeIds::new();
        self.free_if_unused(group, &mut free);
        self.free_if_unused(session, &mut free);
        free
    }

    fn free_if_unused(&mut self, id: u32, free: &mut FreeIds) {
        if self.get(id).is_none() && !self.groups.has(id) && !free.contains(&id) {
            self.groups.release(id);
            free.push(id);
        }
    }

    /// A group whose members have no parent in the same session but outside the group: nobody would ever continue it.
    pub fn is_orphaned(&self, group: u32) -> bool {
        !self.iter().any(|(_, member)| member.group == group && member.ended.is_none() && self.is_link(member))
    }

    /// Whether a process's parent would continue its group: a shell does, but not init, which only inherits.
    fn is_link(&self, member: &Member<T>) -> bool {
        member.parent != INIT_PID
            && self.get(member.parent).is_some_and(|p| p.group != member.group && p.session == member.session)
    }

    /// The group that may be left orphaned when this process ends, or loses its parent.
    pub fn group_linked_by(&self, pid: u32) -> Option<u32> {
        self.get(pid).filter(|member| self.is_link(member)).map(|member| member.group)
    }

    /// In the order in which they became its children, which is the order in which a wait takes them.
    pub fn children(&self, parent: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.get(parent).map_or(NOBODY, |member| member.first_child);
        core::iter::successors(Some(first).filter(|pid| *pid != NOBODY), |pid| {
            self.get(*pid).map(|member| member.next_sibling).filter(|next| *next != NOBODY)
        })
    }

    fn link(&mut self, pid: u32, parent: u32) {
        let Some(last) = self.get_mut(parent).map(|member| replace(&mut member.last_child, pid)) else {
            return;
        };
        if let Some(member) = self.get_mut(pid) {
            member.parent = parent;
            member.next_sibling = NOBODY;
            member.previous_sibling = last;
        }
        match self.get_mut(last) {
            Some(last) => last.next_sibling = pid,
            None => {
                if let Some(parent) = self.get_mut(parent) {
                    parent.first_child = pid;
                }
            }
        }
    }

    fn unlink(&mut self, pid: u32) {
        let Some(member) = self.get(pid) else { return };
        let (parent, previous, next) = (member.parent, member.previous_sibling, member.next_sibling);
        match self.get_mut(previous) {
            Some(previous) => previous.next_sibling = next,
            None => {
                if let Some(parent) = self.get_mut(parent) {
                    parent.first_child = next;
                }
            }
        }
        match self.get_mut(next) {
            Some(next) => next.previous_sibling = previous,
            None => {
                if let Some(parent) = self.get_mut(parent) {
                    parent.last_child = previous;
                }
            }
        }
    }
}

impl<T> Default for Family<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Member<T> {
    pub fn ended(&self) -> Option<Status> {
        self.ended
    }

    fn news(&self, wanted: &Wanted) -> Option<Status> {
        match (self.ended, self.unreported) {
            (Some(status), _) => Some(status).filter(|_| wanted.ended),
            (None, Some(status @ Status::Stopped { .. })) => Some(status).filter(|_| wanted.stopped),
            (None, Some(status)) => Some(status).filter(|_| wanted.continued),
            (None, None) => None,
        }
    }
}

impl Wanted {
    fn concerns<T>(&self, pid: u32, member: &Member<T>) -> bool {
        let by_name = match self.whom {
            Whom::Any => true,
            Whom::Process(wanted) => wanted == pid,
            Whom::Group(group) => member.group == group,
        };
        let by_signal = if member.exit_signal == SIGCHLD { self.with_sigchld } else { self.without_sigchld };
        let by_thread = self.of_thread.is_none_or(|thread| member.made_by == thread);
        // Who has ended neither stops nor goes on any more.
        let can_come = member.ended.is_none() || self.ended;
        by_name && by_signal && by_thread && can_come
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Wanted = Wanted {
        whom: Whom::Any,
        of_thread: None,
        ended: true,
        stopped: true,
        continued: true,
        with_sigchld: true,
        without_sigchld: false,
    };

    fn child_of(parent: u32) -> Birth {
        Birth { parent, maker: parent, exit_signal: SIGCHLD }
    }

    /// It leaves its children to process 1.
    fn end(family: &mut Family<()>, pid: u32, status: Status) {
        let children: Vec<_> = family.children(pid).collect();
        children.into_iter().for_each(|child| family.hand_over(child, 1, 1));
        family.end(pid, status);
    }

    /// Process 1 with children 2, 3 and 4.
    fn family() -> Family<()> {
        let mut family = Family::new();
        for (pid, parent) in [(1, 0), (2, 1), (3, 1), (4, 1)] {
            family.reserve(pid).unwrap();
            family.insert(pid, child_of(parent), ());
        }
        family
    }

    #[test]
    fn who_has_no_children_has_nobody_to_wait_for() {
        assert_eq!(family().find_news(2, &ANY), Err(Errno::ECHILD));
    }

    #[test]
    fn an_end_is_told_until_the_child_is_removed() {
        let mut family = family();
        assert_eq!(family.find_news(1, &ANY), Ok(None));
        end(&mut family, 3, Status::Exited(7));
        assert_eq!(family.find_news(1, &ANY), Ok(Some((3, Status::Exited(7)))));
        family.remove(3);
        assert_eq!(family.find_news(1, &ANY), Ok(None));
        assert_eq!(family.children(1).collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn the_oldest_child_is_waited_for_first_an_adopted_one_last() {
        let mut family = family();
        family.reserve(5).unwrap();
        family.insert(5, child_of(3), ());
        for pid in [5, 4, 2, 3] {
            end(&mut family, pid, Status::Exited(0));
        }
        for expected in [2, 3, 4, 5] {
            assert_eq!(family.find_news(1, &ANY), Ok(Some((expected, Status::Exited(0)))));
            family.remove(expected);
        }
        assert_eq!(family.find_news(1, &ANY), Err(Errno::ECHILD));
    }

    #[test]
    fn a_wait_for_one_process_or_group_sees_no_other() {
        let mut family = family();
        family.set_place(2, 2, 1);
        end(&mut family, 3, Status::Exited(0));
        assert_eq!(family.find_news(1, &Wanted { whom: Whom::Process(2), ..ANY }), Ok(None));
        assert_eq!(family.find_news(1, &Wanted { whom: Whom::Group(2), ..ANY }), Ok(None));
        assert_eq!(family.find_news(1, &Wanted { whom: Whom::Process(9), ..ANY }), Err(Errno::ECHILD));
        assert_eq!(
            family.find_news(1, &Wanted { with_sigchld: false, without_sigchld: true, ..ANY }),
            Err(Errno::ECHILD)
        );
    }

    #[test]
    fn orphans_become_the_heirs_children_ended_ones_too() {
        let mut family = family();
        let grandchild = 5;
        family.reserve(grandchild).unwrap();
        family.insert(grandchild, Birth { exit_signal: 0, ..child_of(2) }, ());
        end(&mut family, grandchild, Status::Exited(1));
        end(&mut family, 2, Status::Killed { signal: 9, core_dumped: false });
        assert_eq!(family.get(grandchild).unwrap().parent, 1);
        assert_eq!(family.children(1).count(), 4);
    }

    #[test]
    fn a_thread_waits_for_children_that_it_has_made_or_taken_over() {
        let mut family = family();
        let of_thread = |thread| Wanted { of_thread: Some(thread), ..ANY };
        family.reserve(5).unwrap();
        family.insert(5, Birth { maker: 10, ..child_of(2) }, ());
        assert_eq!(family.find_news(2, &of_thread(10)), Ok(None));
        assert_eq!(family.find_news(2, &of_thread(2)), Err(Errno::ECHILD));
        family.change_maker(2, 10, 2);
        assert_eq!(family.find_news(2, &of_thread(10)), Err(Errno::ECHILD));
        assert_eq!(family.find_news(2, &of_thread(2)), Ok(None));
        family.hand_over(5, 1, 11);
        assert_eq!(family.find_news(1, &Wanted { whom: Whom::Process(5), ..of_thread(11) }), Ok(None));
    }

    #[test]
    fn a_stop_is_told_once_and_only_to_who_asks() {
        let mut family = family();
        family.report(4, Status::Stopped { signal: 20 });
        assert_eq!(family.find_news(1, &Wanted { stopped: false, ..ANY }), Ok(None));
        assert_eq!(family.find_news(1, &ANY), Ok(Some((4, Status::Stopped { signal: 20 }))));
        family.take_report(4);
        assert_eq!(family.find_news(1, &ANY), Ok(None));
    }

    #[test]
    fn statuses_are_stored_as_linux_does() {
        assert_eq!(Status::Exited(3).as_wait_status(), 0x300);
        assert_eq!(Status::Killed { signal: 11, core_dumped: true }.as_wait_status(), 0x8b);
        assert_eq!(Status::Stopped { signal: 19 }.as_wait_status(), 0x137f);
        assert_eq!(Status::Continued.as_wait_status(), 0xffff);
    }

    #[test]
    fn a_group_is_orphaned_when_no_parent_outside_it_shares_its_session() {
        let mut family = family();
        family.reserve(5).unwrap();
        family.insert(5, child_of(2), ());
        family.set_place(5, 5, 1);
        assert!(!family.is_orphaned(5));
        family.set_place(5, 5, 5);
        assert!(family.is_orphaned(5));
    }

    #[test]
    fn the_last_link_to_a_group_may_be_its_member_or_that_members_parent() {
        let mut family = family();
        // A shell, 2, with a job of two processes in a group of their own.
        for pid in [5, 6] {
            family.reserve(pid).unwrap();
            family.insert(pid, child_of(2), ());
            family.set_place(pid, 5, 1);
        }
        assert_eq!([2, 5, 6].map(|pid| family.group_linked_by(pid)), [None, Some(5), Some(5)]);
        end(&mut family, 6, Status::Exited(0));
        assert!(!family.is_orphaned(5), "5 still has its parent outside");
        end(&mut family, 2, Status::Exited(0));
        assert!(family.is_orphaned(5), "init continues nobody");
    }

    #[test]
    fn a_number_stays_taken_while_a_group_or_session_has_it() {
        let mut family = family();
        let none = FreeIds::new();
        // 2 begins a session, 3 joins it, and then has a group of its own there, which 4 joins.
        for (pid, group, session) in [(2, 2, 2), (3, 2, 2), (3, 3, 2), (4, 3, 2)] {
            assert_eq!(family.set_place(pid, group, session), none);
        }
        assert_eq!(family.remove(2), Some(((), none.clone())), "it is the session's number");
        assert_eq!(family.remove(3), Some(((), none)), "it is the group's number");
        assert_eq!(family.reserve(3), Err(Errno::EEXIST));
        assert_eq!(family.remove(4), Some(((), FreeIds::from([3, 2, 4]))));
        assert_eq!(family.reserve(3), Ok(()));
    }

    #[test]
    fn a_group_that_its_last_member_leaves_gives_its_number_back() {
        let mut family = family();
        for pid in [2, 3] {
            family.set_place(pid, 2, 1);
        }
        assert_eq!(family.remove(2), Some(((), FreeIds::new())));
        assert_eq!(family.set_place(3, 1, 1).as_slice(), [2]);
    }
}
