//! Which user of this machine may do what. The kernel says who is at the other end of the socket; names and groups come
//! from the system's own lists, which may be on the network.
//!
//! Outside facts: unix(7) SO_PEERCRED, getpwuid(3), getgrouplist(3).

use std::collections::BTreeMap;
use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, getgrouplist};
use rustix::process::geteuid;
use sifleet_common::role::Role;
use tracing::warn;

/// What users of this machine may, by name; groups are written `@name`.
///
/// Root and the user of the coordinator itself may everything: they could read its database and its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// By name.
    pub roles: BTreeMap<String, Role>,
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's number.
    pub uid: u32,
    /// The user's name, if the system knows one.
    pub name: Option<String>,
    /// What the user may; none is said of most.
    pub role: Option<Role>,
}

impl User {
    /// What is known of a user without asking the system.
    #[must_use]
    pub fn unnamed(uid: u32) -> Self {
        let is_ours = uid == 0 || uid == geteuid().as_raw();
        Self { uid, name: None, role: is_ours.then_some(Role::Admin) }
    }
}

impl Users {
    /// Tells who a user is, and what he may. Blocks for as long as the system takes.
    #[must_use]
    pub fn look(&self, uid: u32) -> User {
        let found = nix::unistd::User::from_uid(Uid::from_raw(uid)).unwrap_or_else(|error| {
            warn!(%error, uid, "a user cannot be looked up");
            None
        });
        let known = User::unnamed(uid);
        let named = || found.as_ref().and_then(|user| self.role(&user.name, || groups(&user.name, user.gid)));
        let role = known.role.or_else(named);
        User { uid, name: found.map(|user| user.name), role }
    }

    /// Tells the most that a user may, himself or as one of a group.
    fn role(&self, name: &str, groups: impl FnOnce() -> Vec<Gid>) -> Option<Role> {
        let own = self.roles.get(name).copied().filter(|_| !name.starts_with('@'));
        let named = self.roles.iter().filter_map(|(name, role)| Some((name.strip_prefix('@')?, *role)));
        let mut named = named.peekable();
        if named.peek().is_none() {
            return own;
        }
        let groups = groups();
        let is_in = |name: &str| gid(name).is_some_and(|gid| groups.contains(&gid));
        named.filter(|(name, _)| is_in(name)).map(|(_, role)| role).chain(own).max()
    }
}

fn groups(name: &str, first: Gid) -> Vec<Gid> {
    let Ok(name) = CString::new(name) else { return Vec::new() };
    getgrouplist(&name, first).unwrap_or_else(|error| {
        warn!(%error, ?name, "the groups of a user cannot be looked up");
        Vec::new()
    })
}

fn gid(name: &str) -> Option<Gid> {
    let found = Group::from_name(name).unwrap_or_else(|error| {
        warn!(%error, name, "a group of http.users cannot be looked up");
        None
    });
    found.map(|group| group.gid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(roles: &[(&str, Role)]) -> Users {
        Users { roles: roles.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect() }
    }

    #[test]
    fn root_and_the_coordinators_own_user_may_everything() {
        let own = geteuid().as_raw();
        for uid in [0, own] {
            assert_eq!(Users::default().look(uid).role, Some(Role::Admin));
        }
        assert_eq!(users(&[("root", Role::Viewer)]).look(0).role, Some(Role::Admin));
    }

    #[test]
    fn a_user_whom_nobody_names_has_no_role() {
        let stranger = users(&[("root", Role::Admin)]).look(4_123_456_789);
        assert_eq!((stranger.role, stranger.name), (None, None));
    }

    #[test]
    fn the_most_that_a_user_may_himself_or_in_a_group_counts() {
        // Group 0 is called root wherever there is a list of groups.
        let both =
            users(&[("ann", Role::Viewer), ("@root", Role::Operator), ("@nobody-is-in-it", Role::Admin)]);
        assert_eq!(both.role("ann", || vec![Gid::from_raw(0)]), Some(Role::Operator));
        assert_eq!(both.role("ann", || vec![Gid::from_raw(4_000_000)]), Some(Role::Viewer));
        assert_eq!(both.role("bob", Vec::new), None);
        let asked = || -> Vec<Gid> { panic!("no group is named") };
        assert_eq!(users(&[("ann", Role::Operator)]).role("ann", asked), Some(Role::Operator));
        assert_eq!(users(&[("@root", Role::Viewer)]).role("@root", Vec::new), None);
    }
}
