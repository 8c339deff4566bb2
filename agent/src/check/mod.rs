//! `rekindled --check`: reads the configuration, tries everything it names, says what is wrong and how to mend it. Starts
//! nothing and changes nothing; may be run beside a running daemon.
//!
//! What needs only files, sockets and names is checked here. The adapters are tried through small futures
//! ([`Adapters`]), so that this module knows none of them.

mod files;
mod identity;
mod place;
mod watchdog;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use crate::config::Config;

/// An adapter that has not answered by then fails: Keystone, catalogue and two Nova calls at their slowest.
pub const ADAPTER_WITHIN: Duration = Duration::from_secs(60);

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Fine,
    /// It works; something will hurt later.
    Warn,
    /// It will not work.
    Fail,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckLine {
    /// How it ended.
    pub verdict: Verdict,
    /// What was checked.
    pub what: String,
    /// What was found.
    pub figure: String,
    /// How to mend it.
    pub mend: Option<String>,
}

impl CheckLine {
    /// As it should be.
    pub fn fine(what: impl Into<String>, figure: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fine, what: what.into(), figure: figure.into(), mend: None }
    }
    /// It works; something will hurt later.
    pub fn warn(what: impl Into<String>, figure: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, what: what.into(), figure: figure.into(), mend: Some(mend.into()) }
    }
    /// It will not work.
    pub fn fail(what: impl Into<String>, figure: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, what: what.into(), figure: figure.into(), mend: Some(mend.into()) }
    }
}

impl fmt::Display for CheckLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Fine => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        let line = format!("{word}  {}: {}", self.what, self.figure);
        f.write_str(&crate::telemetry::plain(&line))?;
        match &self.mend {
            Some(mend) => write!(f, "; {}", crate::telemetry::plain(mend)),
            None => Ok(()),
        }
    }
}

/// What was found, by how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// As they should be.
    pub fine: usize,
    /// Warnings.
    pub warnings: usize,
    /// Failures.
    pub failures: usize,
}

impl Report {
    /// 0 if nothing failed, else 1.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        u8::from(self.failures > 0)
    }

    /// Counts a line.
    pub fn count(&mut self, line: &CheckLine) {
        match line.verdict {
            Verdict::Fine => self.fine += 1,
            Verdict::Warn => self.warnings += 1,
            Verdict::Fail => self.failures += 1,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ok, {} to watch, {} failed", self.fine, self.warnings, self.failures)
    }
}

/// One try of an adapter: what it found, or what is wrong, each in words.
pub type Try = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;

/// The adapters to try; those left out are not configured on this host.
#[derive(Default)]
pub struct Adapters {
    /// Keystone and Nova: log in, list services.
    pub nova: Option<Try>,
    /// The local hypervisor: connect, list guests.
    pub hypervisor: Option<Try>,
    /// Fence devices by name: read power and GUID. Reads only.
    pub devices: Vec<(String, Try)>,
}

/// Checks everything, telling each line as soon as it is known.
pub async fn run(config: &Config, adapters: Adapters, tell: &mut (dyn FnMut(&CheckLine) + Send)) -> Report {
    let mut report = Report::default();
    let mut told = |lines: Vec<CheckLine>| {
        for line in lines {
            report.count(&line);
            tell(&line);
        }
    };
    told(vec![CheckLine::fine("configuration", config.file.display().to_string())]);
    told(identity::certificate(config));
    told(place::addresses(config));
    told(place::directories(config));
    told(place::machine(config));
    told(place::seeds(config).await);
    told(files::voter(config));
    told(files::secrets(config));
    told(files::hooks(config));
    told(files::notifications(config));
    told(place::processes(config).await);
    told(watchdog::watchdog(config).await);
    if let Some(nova) = adapters.nova {
        told(vec![adapter("nova", nova, "see the words above, clouds.yaml and the route to Keystone").await]);
    }
    if let Some(hypervisor) = adapters.hypervisor {
        told(vec![adapter("hypervisor", hypervisor, "is libvirtd running, and libvirt.uri right?").await]);
    }
    for (name, device) in adapters.devices {
        let mend = "see docs/fencing.md; `rekindle fence-test` shows all devices";
        told(vec![adapter(&format!("fence device {name}"), device, mend).await]);
    }
    report
}

/// An error with everything below it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

async fn adapter(what: &str, attempt: Try, mend: &str) -> CheckLine {
    match tokio::time::timeout(ADAPTER_WITHIN, attempt).await {
        Ok(Ok(figure)) => CheckLine::fine(what, figure),
        Ok(Err(error)) => CheckLine::fail(what, error, mend),
        Err(_) => CheckLine::fail(what, format!("no answer within {} s", ADAPTER_WITHIN.as_secs()), mend),
    }
}

#[cfg(test)]
mod tests;
