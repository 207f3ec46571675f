//! An authenticated caller and what it may do.

use std::sync::Arc;

use super::error::AuthError;
use super::role::{Role, Roles};

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its name. Rate limits and idempotency keys belong to a name.
    pub name: Arc<str>,
    /// What it may do.
    pub roles: Roles,
}

impl Identity {
    /// A caller that may do everything.
    pub fn unrestricted(name: Arc<str>) -> Self {
        Self {
            name,
            roles: Roles::ALL,
        }
    }

    /// Rejects a caller that lacks a role.
    ///
    /// # Errors
    /// [`AuthError::MissingRole`].
    pub fn require(&self, role: Role) -> Result<(), AuthError> {
        if self.roles.contains(role) {
            Ok(())
        } else {
            Err(AuthError::MissingRole(role))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caller_without_a_role_is_rejected() {
        let mut caller = Identity::unrestricted("a".into());
        for role in Role::ALL {
            assert_eq!(caller.require(role), Ok(()));
        }
        caller.roles = Roles::parse("write").unwrap();
        assert_eq!(caller.require(Role::Write), Ok(()));
        assert_eq!(
            caller.require(Role::Erase),
            Err(AuthError::MissingRole(Role::Erase))
        );
    }
}
