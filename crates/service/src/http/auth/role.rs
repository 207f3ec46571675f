//! Permissions.

/// One permission. Each service says which of its routes requires which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads the state of a service.
    Read,
    /// Writes records, or starts and cancels work.
    Write,
    /// Erases the records of a key.
    Erase,
}

impl Role {
    pub(super) const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Erase];

    /// The role's name in token files and JWTs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Erase => "erase",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Every role.
    pub const ALL: Self = Self(0b111);

    /// The roles with these names, separated by commas; none if one of them is unknown.
    pub(super) fn parse(names: &str) -> Option<Self> {
        names
            .split(',')
            .try_fold(Self(0), |roles, name| Some(roles.with(Role::named(name)?)))
    }

    /// The known ones among these names.
    pub(super) fn known<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let roles = names.into_iter().filter_map(Role::named);
        roles.fold(Self(0), Self::with)
    }

    fn with(self, role: Role) -> Self {
        Self(self.0 | role.bit())
    }

    /// Whether the set has `role`.
    pub fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_a_set_of_known_names() {
        let roles = Roles::parse("read,write").unwrap();
        assert!(roles.contains(Role::Read) && roles.contains(Role::Write));
        assert!(!roles.contains(Role::Erase));
        assert_eq!(Roles::parse("erase,read,write,read"), Some(Roles::ALL));
        for unknown in ["", "read,", "Read", "admin", "read,admin", "read write"] {
            assert_eq!(Roles::parse(unknown), None, "{unknown}");
        }
    }
}
