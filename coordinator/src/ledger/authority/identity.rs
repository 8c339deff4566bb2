//! Who a certificate belongs to, by its URI name.

use rekindle_proto::id::{ClusterName, NameError, OperatorName};

/// Before every name of ours in a certificate: `rekindle://<cluster>/<role>/<name>`.
pub(super) const SCHEME: &str = "rekindle://";

/// What a certificate's owner may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CertRole {
    /// A hypervisor.
    Member,
    /// Votes, has no guests.
    Witness,
    /// A person who may order.
    Operator,
}

impl CertRole {
    /// The word for it in a certificate.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Witness => "witness",
            Self::Operator => "operator",
        }
    }
}

impl std::fmt::Display for CertRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// Who a certificate belongs to: its URI name `rekindle://<cluster>/<role>/<name>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertIdentity {
    /// Of which cluster.
    pub cluster: ClusterName,
    /// What its owner may be.
    pub role: CertRole,
    /// The host's or the operator's name; both obey the same rules.
    pub name: OperatorName,
}

/// Why a name in a certificate was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not of the one form.
    #[error("it is not of the form {SCHEME}<cluster>/<role>/<name>")]
    Form,
    /// A role we do not know.
    #[error("{role:?} is none of member, witness, operator")]
    Role {
        /// The role.
        role: String,
    },
    /// A part that is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl CertIdentity {
    /// Whether this is a name of ours, well formed or not.
    #[must_use]
    pub fn is_ours(uri: &str) -> bool {
        uri.get(..SCHEME.len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME))
    }

    /// Reads a certificate's URI name.
    ///
    /// # Errors
    /// [`IdentityError`] naming the rule broken.
    pub fn parse(uri: &str) -> Result<Self, IdentityError> {
        let path = uri.strip_prefix(SCHEME).ok_or(IdentityError::Form)?;
        let mut parts = path.split('/');
        let (Some(cluster), Some(role), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(IdentityError::Form);
        };
        let role = [CertRole::Member, CertRole::Witness, CertRole::Operator]
            .into_iter()
            .find(|known| known.as_str() == role)
            .ok_or_else(|| IdentityError::Role { role: role.to_owned() })?;
        Ok(Self { cluster: ClusterName::new(cluster)?, role, name: OperatorName::new(name)? })
    }

    /// The name as it stands in the certificate.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{SCHEME}{}/{}/{}", self.cluster, self.role, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_written_and_nothing_else_is_read() {
        let identity = CertIdentity::parse("rekindle://zrh/operator/ada").expect("well formed");
        assert_eq!((identity.role, identity.name.as_str()), (CertRole::Operator, "ada"));
        assert_eq!(identity.uri(), "rekindle://zrh/operator/ada");
        for uri in [
            "rekindle://zrh/operator",
            "rekindle://zrh/operator/ada/",
            "rekindle://zrh/operator/ada/x",
            "rekindle://zrh//ada",
            "rekindle:///operator/ada",
            "rekindle://zrh/root/ada",
            "rekindle://zrh/operator/a%64a",
            "rekindle://zrh:1/operator/ada",
            "Rekindle://zrh/operator/ada",
            "https://zrh/operator/ada",
        ] {
            assert!(CertIdentity::parse(uri).is_err(), "{uri}");
        }
        assert!(CertIdentity::is_ours("Rekindle://zrh"), "a disguised second name is counted, not overlooked");
    }
}
