//! `clouds.yaml`: one entry, read by us so that its path is explicit and no secret can reach an error text.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use reqwest::Url;
use secrecy::SecretString;
use serde_yaml::Value;

/// Why the adapter could not be set up. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum NovaSetupError {
    /// A file could not be read.
    #[error("{path}: cannot be read: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not YAML.
    #[error("{path}: not YAML (line {line}, column {column})", path = path.display())]
    Yaml {
        /// Which file.
        path: PathBuf,
        /// Where, counted from 1; 0: unknown.
        line: usize,
        /// Where, counted from 1; 0: unknown.
        column: usize,
    },
    /// There is no such entry.
    #[error("{path}: no cloud {cloud:?}; it has: {known}", path = path.display())]
    NoCloud {
        /// Which file.
        path: PathBuf,
        /// The entry that was asked for.
        cloud: String,
        /// Those that are there.
        known: String,
    },
    /// A value is missing or cannot be used.
    #[error("{path}: clouds.{cloud}.{key} {rule}", path = path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// The entry.
        cloud: String,
        /// The key in it.
        key: String,
        /// What is expected of it, and why.
        rule: String,
    },
    /// A CA bundle has nothing to trust in it.
    #[error("{path}: no usable certificate in this CA bundle: {why}", path = path.display())]
    CaBundle {
        /// Which file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// There is nobody to trust: neither system roots nor a CA bundle.
    #[error(
        "no trusted certificates: this system has none ({0}); install ca-certificates, or name a CA bundle as `cacert`"
    )]
    NoRoots(String),
    /// The HTTP client could not be built.
    #[error("HTTP client: {0}")]
    Client(String),
}

/// Something named by its id or by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum IdOrName {
    Id(String),
    Name(String),
}

/// Who we are to Keystone.
#[derive(Debug, Clone)]
pub(super) enum Login {
    Password { user: IdOrName, user_domain: Option<IdOrName>, password: SecretString, scope: Option<ProjectScope> },
    ApplicationCredential { credential: IdOrName, secret: SecretString, user: Option<(IdOrName, Option<IdOrName>)> },
}

/// The project a password login is scoped to. An application credential carries its own.
#[derive(Debug, Clone)]
pub(super) struct ProjectScope {
    pub(super) project: IdOrName,
    pub(super) domain: Option<IdOrName>,
}

/// One entry of `clouds.yaml`.
#[derive(Debug, Clone)]
pub(super) struct Cloud {
    pub(super) auth_url: Url,
    pub(super) login: Login,
    pub(super) region: Option<String>,
    /// `public`, `internal` or `admin`.
    pub(super) interface: &'static str,
    pub(super) ca_file: Option<PathBuf>,
}

/// Reads one entry.
pub(super) fn read(path: &Path, name: &str) -> Result<Cloud, NovaSetupError> {
    let file = |source| NovaSetupError::File { path: path.to_owned(), source };
    let text = std::fs::read_to_string(path).map_err(file)?;
    let mode = std::fs::metadata(path).map_err(file)?.permissions().mode();
    if mode & 0o007 != 0 {
        tracing::warn!(file = %path.display(), mode = format!("{:04o}", mode & 0o7777), "clouds.yaml holds a secret and is open to everybody: chmod 0600");
    }
    parse(path, name, &text)
}

fn parse(path: &Path, name: &str, text: &str) -> Result<Cloud, NovaSetupError> {
    // The parser's own message may quote the file, and with it a password: only the place is told.
    let root: Value = serde_yaml::from_str(text).map_err(|error| {
        let place = error.location();
        NovaSetupError::Yaml {
            path: path.to_owned(),
            line: place.as_ref().map_or(0, serde_yaml::Location::line),
            column: place.as_ref().map_or(0, serde_yaml::Location::column),
        }
    })?;
    let clouds = root.get("clouds").and_then(Value::as_mapping);
    let Some(entry) = clouds.and_then(|clouds| clouds.get(name)).filter(|entry| entry.is_mapping()) else {
        let known: Vec<&str> = clouds.into_iter().flat_map(|clouds| clouds.keys()).filter_map(Value::as_str).collect();
        return Err(NovaSetupError::NoCloud {
            path: path.to_owned(),
            cloud: name.to_owned(),
            known: if known.is_empty() { "none".to_owned() } else { known.join(", ") },
        });
    };
    Entry { path, cloud: name, entry }.read()
}

/// An entry while it is being read: knows where it is, for errors.
struct Entry<'a> {
    path: &'a Path,
    cloud: &'a str,
    entry: &'a Value,
}

impl Entry<'_> {
    fn read(&self) -> Result<Cloud, NovaSetupError> {
        self.refuse_unverified()?;
        let ca_file = self.text("cacert")?.map(|file| match self.path.parent() {
            Some(dir) => dir.join(file),
            None => PathBuf::from(file),
        });
        Ok(Cloud {
            auth_url: self.auth_url()?,
            login: self.login()?,
            region: self.text("region_name")?,
            interface: self.interface()?,
            ca_file,
        })
    }

    fn refuse_unverified(&self) -> Result<(), NovaSetupError> {
        if !matches!(self.entry.get("verify"), None | Some(Value::Null | Value::Bool(true))) {
            return Err(self.wrong("verify", "must be true or absent: whoever could pose as Nova could make us believe that servers run, or do not; name your CA as `cacert` instead"));
        }
        if !matches!(self.entry.get("insecure"), None | Some(Value::Null | Value::Bool(false))) {
            return Err(self.wrong(
                "insecure",
                "must be absent: certificates are always verified; name your CA as `cacert` instead",
            ));
        }
        Ok(())
    }

    fn auth_url(&self) -> Result<Url, NovaSetupError> {
        let text = self.text("auth.auth_url")?.ok_or_else(|| self.wrong("auth.auth_url", "is missing"))?;
        let url = Url::parse(&text).map_err(|error| self.wrong("auth.auth_url", &format!("is no URL: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(self.wrong("auth.auth_url", "must begin with http:// or https:// and name a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self.wrong("auth.auth_url", "must hold no user or password: URLs go into logs"));
        }
        Ok(url)
    }

    fn interface(&self) -> Result<&'static str, NovaSetupError> {
        let Some(text) = self.text("interface")? else { return Ok("public") };
        match text.strip_suffix("URL").unwrap_or(&text) {
            "public" => Ok("public"),
            "internal" => Ok("internal"),
            "admin" => Ok("admin"),
            _ => Err(self.wrong("interface", &format!("= {text:?} must be public, internal or admin"))),
        }
    }

    fn login(&self) -> Result<Login, NovaSetupError> {
        let user = self.id_or_name("auth.user_id", "auth.username")?;
        let by_credential = self.either("auth.application_credential_id", "auth.application_credential_name")?;
        let kind = match self.text("auth_type")? {
            Some(kind) => kind,
            None if user.is_none() && by_credential.is_some() => "v3applicationcredential".to_owned(),
            None => "password".to_owned(),
        };
        match kind.as_str() {
            "password" | "v3password" => self.password_login(user),
            "v3applicationcredential" => self.credential_login(user),
            _ => Err(self.wrong("auth_type", &format!("= {kind:?} must be password or v3applicationcredential"))),
        }
    }

    fn password_login(&self, user: Option<IdOrName>) -> Result<Login, NovaSetupError> {
        let user = user.ok_or_else(|| self.wrong("auth.username", "(or auth.user_id) is missing"))?;
        let password = self.text("auth.password")?.ok_or_else(|| self.wrong("auth.password", "is missing"))?;
        let user_domain = self.domain("user")?;
        if matches!(user, IdOrName::Name(_)) && user_domain.is_none() {
            return Err(self.wrong(
                "auth.user_domain_name",
                "(or auth.user_domain_id) is missing: a user name means something only within a domain",
            ));
        }
        let project = self.id_or_name("auth.project_id", "auth.project_name")?;
        let domain = self.domain("project")?;
        if matches!(project, Some(IdOrName::Name(_))) && domain.is_none() {
            return Err(self.wrong(
                "auth.project_domain_name",
                "(or auth.project_domain_id) is missing: a project name means something only within a domain",
            ));
        }
        let project = project.ok_or_else(|| {
            self.wrong(
                "auth.project_name",
                "(or auth.project_id) is missing: Nova answers only to a token of a project",
            )
        })?;
        Ok(Login::Password {
            user,
            user_domain,
            password: SecretString::from(password),
            scope: Some(ProjectScope { project, domain }),
        })
    }

    fn credential_login(&self, user: Option<IdOrName>) -> Result<Login, NovaSetupError> {
        let secret = self
            .text("auth.application_credential_secret")?
            .ok_or_else(|| self.wrong("auth.application_credential_secret", "is missing"))?;
        let credential = self
            .id_or_name("auth.application_credential_id", "auth.application_credential_name")?
            .ok_or_else(|| self.wrong("auth.application_credential_id", "(or …_name, with a user) is missing"))?;
        let user = match (&credential, user) {
            (IdOrName::Id(_), _) => None,
            (IdOrName::Name(_), Some(user)) => Some((user, self.domain("user")?)),
            (IdOrName::Name(_), None) => {
                return Err(self.wrong("auth.user_id", "(or auth.username) is missing: the name of an application credential means something only with its user"));
            }
        };
        Ok(Login::ApplicationCredential { credential, secret: SecretString::from(secret), user })
    }

    /// `auth.user_domain_id`, `auth.user_domain_name`, or what stands for both domains.
    fn domain(&self, of: &str) -> Result<Option<IdOrName>, NovaSetupError> {
        let own = self.id_or_name(&format!("auth.{of}_domain_id"), &format!("auth.{of}_domain_name"))?;
        let shared = self.id_or_name("auth.domain_id", "auth.domain_name")?;
        let default = self.text("auth.default_domain")?.map(IdOrName::Id);
        Ok(own.or(shared).or(default))
    }

    fn id_or_name(&self, id: &str, name: &str) -> Result<Option<IdOrName>, NovaSetupError> {
        Ok(match self.text(id)? {
            Some(id) => Some(IdOrName::Id(id)),
            None => self.text(name)?.map(IdOrName::Name),
        })
    }

    fn either(&self, a: &str, b: &str) -> Result<Option<String>, NovaSetupError> {
        Ok(self.text(a)?.or(self.text(b)?))
    }

    /// A text at `key` or `group.key`. An error never tells the value: it may be a secret.
    fn text(&self, key: &str) -> Result<Option<String>, NovaSetupError> {
        let mut at = Some(self.entry);
        for part in key.split('.') {
            at = at.and_then(|value| value.get(part));
        }
        match at {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Err(self.wrong(key, "must not be empty")),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Bool(_) | Value::Number(_) | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_)) => {
                Err(self.wrong(key, "must be a text; put it in quotes"))
            }
        }
    }

    fn wrong(&self, key: &str, rule: &str) -> NovaSetupError {
        NovaSetupError::Value {
            path: self.path.to_owned(),
            cloud: self.cloud.to_owned(),
            key: key.to_owned(),
            rule: rule.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
clouds:
  one:
    auth:
      auth_url: https://keystone.example:5000/v3
      username: rekindle
      password: 's3cr3t-w0rd'
      project_name: service
      user_domain_id: default
      project_domain_name: Default
    region_name: zrh
    interface: internalURL
    cacert: ca.pem
    identity_api_version: 3
    something_new: {of: [no, concern]}
";

    fn refusal(text: &str) -> String {
        parse(Path::new("/etc/openstack/clouds.yaml"), "one", text).expect_err("refused").to_string()
    }

    #[test]
    fn what_we_use_is_read_and_the_rest_left_alone() {
        let cloud = parse(Path::new("/etc/openstack/clouds.yaml"), "one", GOOD).expect("good");
        assert_eq!(cloud.interface, "internal");
        assert_eq!(cloud.region.as_deref(), Some("zrh"));
        assert_eq!(cloud.ca_file.as_deref(), Some(Path::new("/etc/openstack/ca.pem")));
        let Login::Password { user, user_domain, scope, .. } = &cloud.login else { panic!("{cloud:?}") };
        assert_eq!(*user, IdOrName::Name("rekindle".into()));
        assert_eq!(*user_domain, Some(IdOrName::Id("default".into())));
        assert_eq!(scope.as_ref().expect("scoped").domain, Some(IdOrName::Name("Default".into())));
        assert!(!format!("{cloud:?}").contains("s3cr3t"), "{cloud:?}");
    }

    #[test]
    fn refusals_name_the_key_and_the_rule_and_never_a_secret() {
        for (from, to, says) in [
            ("    region_name: zrh", "    verify: false", "clouds.one.verify must be true or absent"),
            ("    region_name: zrh", "    verify: 'false'", "clouds.one.verify must be true or absent"),
            ("    region_name: zrh", "    insecure: true", "clouds.one.insecure must be absent"),
            ("'s3cr3t-w0rd'", "424242", "clouds.one.auth.password must be a text"),
            ("'s3cr3t-w0rd'", "['s3cr3t-w0rd'", "not YAML"),
            ("internalURL", "outer", "must be public, internal or admin"),
            ("      username: rekindle", "", "auth.username (or auth.user_id) is missing"),
            ("      user_domain_id: default", "", "auth.user_domain_name (or auth.user_domain_id) is missing"),
            ("      project_name: service", "", "auth.project_name (or auth.project_id) is missing"),
            ("https://keystone", "https://me:s3cr3t@keystone", "must hold no user or password"),
            ("  one:", "  two:", "no cloud \"one\"; it has: two"),
            ("    region_name: zrh", "    auth_type: v3oidcpassword", "must be password or v3applicationcredential"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let said = refusal(&GOOD.replace(from, to));
            assert!(said.contains(says), "{says:?} not in {said:?}");
            assert!(!said.contains("s3cr3t") && !said.contains("424242"), "{said}");
        }
    }

    #[test]
    fn application_credentials_are_read_with_and_without_auth_type() {
        for kind in ["", "    auth_type: v3applicationcredential\n"] {
            let text = format!(
                "clouds:\n  one:\n{kind}    auth:\n      auth_url: http://127.0.0.1:5000\n      application_credential_id: abc\n      application_credential_secret: s3cr3t\n"
            );
            let cloud = parse(Path::new("clouds.yaml"), "one", &text).expect("good");
            let Login::ApplicationCredential { credential, user, .. } = &cloud.login else { panic!("{cloud:?}") };
            assert_eq!(*credential, IdOrName::Id("abc".into()));
            assert!(user.is_none());
            assert!(!format!("{cloud:?}").contains("s3cr3t"));
        }
    }
}
