//! Logs, and what systemd is told.
//!
//! Levels: `info` a phase changed; `warn` a margin shrinks; `error` a person is needed; `debug` protocol. The targets
//! `rekindle::event::…` are the record for machines: one line per change, the evidence as its message, the rest as fields.

use std::io::{self, IsTerminal};

use rekindle_coordinator::io::Event;
use rekindle_proto::status::Phase;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{LogFormat, LogSettings, LogTarget};

/// The environment variable with a filter, as tracing's `EnvFilter` takes it.
pub const FILTER_VARIABLE: &str = "REKINDLE_LOG";

/// What is logged if the variable is not set: ours from `info`, the libraries' from `warn`.
pub const FILTER_DEFAULT: &str = "warn,openraft=off,rekindle=info,rekindle_agent=info,rekindle_coordinator=info";

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not understood.
    #[error("{FILTER_VARIABLE}={filter:?} is not a log filter: {text}; for example \"warn,rekindle=debug\"")]
    Filter {
        /// As given.
        filter: String,
        /// What is wrong.
        text: String,
    },
    /// Something else logs already.
    #[error("a log was already set up in this process")]
    Already,
}

/// Sets up the log of this process, once. Without a journal it goes to stderr, and says so.
///
/// # Errors
/// [`TelemetryError`] if the filter is not understood, or a log was set up before.
pub fn init(settings: LogSettings) -> Result<(), TelemetryError> {
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| FILTER_DEFAULT.to_owned());
    let (layer, missing) = layer(settings);
    tracing_subscriber::registry()
        .with(layer.with_filter(parse_filter(&filter)?))
        .try_init()
        .map_err(|_| TelemetryError::Already)?;
    if let Some(error) = missing {
        tracing::warn!(%error, "no journal here; the log goes to stderr");
    }
    Ok(())
}

/// Logs what the coordinator says happened.
pub fn log_event(event: &Event) {
    match event {
        Event::Phase { incident, number, host, phase, text } => {
            let incident = incident.map(|id| id.0);
            let text = plain(text.as_str());
            if *phase == Phase::Stuck {
                tracing::error!(target: "rekindle::event::phase", incident, number, %host, %phase, "{text}");
            } else {
                tracing::info!(target: "rekindle::event::phase", incident, number, %host, %phase, "{text}");
            }
        }
        Event::Member { host, member, state } => {
            let host = host.as_ref().map(tracing::field::display);
            tracing::info!(target: "rekindle::event::member", host, %member, state, "member is {state}");
        }
        Event::Leader { term, leader, us } => {
            let host = leader.as_ref().map(tracing::field::display);
            let text = match (leader, us) {
                (Some(_), true) => "this member leads",
                (Some(_), false) => "another member leads",
                (None, _) => "nobody leads",
            };
            tracing::info!(target: "rekindle::event::leader", term = term.0, host, us, "{text}");
        }
        Event::Server { incident, server, text, bad } => {
            let text = plain(text.as_str());
            if *bad {
                tracing::warn!(target: "rekindle::event::server", incident = incident.0, %server, "{text}");
            } else {
                tracing::info!(target: "rekindle::event::server", incident = incident.0, %server, "{text}");
            }
        }
        Event::Process { incident, host, process, phase, text } => {
            let (incident, text) = (incident.0, plain(text.as_str()));
            if *phase == Phase::Recovered {
                tracing::info!(target: "rekindle::event::process", incident, %host, %process, %phase, "{text}");
            } else {
                tracing::warn!(target: "rekindle::event::process", incident, %host, %process, %phase, "{text}");
            }
        }
        Event::Warning { host, text } => {
            let host = host.as_ref().map(tracing::field::display);
            tracing::warn!(target: "rekindle::event::warning", host, "{}", plain(text.as_str()));
        }
    }
}

/// A text from elsewhere (a BMC, Nova, a server's owner) without the characters that could forge a line or steer a
/// terminal.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What systemd is told (sd_notify(3)). Each does nothing outside systemd; a failure is worth a log line, no more.
pub mod systemd {
    use std::time::Duration;

    use sd_notify::NotifyState;

    /// We serve: the socket is there and the loop turns.
    pub fn ready(status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The line of `systemctl status`: the first line of `rekindle status`.
    pub fn status(status: &str) {
        tell(&[NotifyState::Status(status)]);
    }

    /// The loop has turned. To be called from the loop itself, never from a side task: it is the loop that is watched.
    pub fn feed_watchdog() {
        tell(&[NotifyState::Watchdog]);
    }

    /// How often to feed: half of systemd's `WatchdogSec`. `None`: nobody watches.
    #[must_use]
    pub fn watchdog_interval() -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|within| within / 2)
    }

    /// We stop, because we were asked to.
    pub fn stopping() {
        tell(&[NotifyState::Stopping]);
    }

    /// Certificates are being read again. [`ready`] must follow.
    pub fn reloading() {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "systemd could not be told of the reload"),
        }
    }

    fn tell(states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            tracing::debug!(%error, "systemd could not be told");
        }
    }
}

fn parse_filter(filter: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|error| TelemetryError::Filter { filter: filter.to_owned(), text: error.to_string() })
}

/// The layer that writes, and why it is not the one asked for, if so.
fn layer(settings: LogSettings) -> (Box<dyn Layer<Registry> + Send + Sync>, Option<io::Error>) {
    match settings.target {
        LogTarget::Stderr => (stderr(settings.format), None),
        LogTarget::Journald => match tracing_journald::layer() {
            Ok(layer) => (Box::new(layer.with_syslog_identifier("rekindled".to_owned())), None),
            Err(error) => (stderr(settings.format), Some(error)),
        },
    }
}

fn stderr(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    match format {
        LogFormat::Text => text(io::stderr, io::stderr().is_terminal()),
        LogFormat::Json => json(io::stderr),
    }
}

fn text<W>(writer: W, colours: bool) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    Box::new(tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(writer))
}

fn json<W>(writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> tracing_subscriber::fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    Box::new(tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(writer))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use rekindle_proto::id::{HostName, IncidentId, MemberId, ServerId, Term};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("whole").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(event: &Event, as_json: bool) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let make = move || writer.clone();
        let layer = if as_json { json(make) } else { text(make, false) };
        let filtered = layer.with_filter(parse_filter(FILTER_DEFAULT).expect("the default is a filter"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(filtered), || log_event(event));
        let bytes = sink.0.lock().expect("whole").clone();
        String::from_utf8(bytes).expect("text")
    }

    fn host(name: &str) -> HostName {
        HostName::new(name).expect("legal")
    }

    fn phase(phase: Phase, text: &str) -> Event {
        Event::Phase { incident: Some(IncidentId(14)), number: 3, host: host("cmp-04"), phase, text: text.into() }
    }

    #[test]
    fn a_phase_is_one_line_with_fields() {
        let line = logged(&phase(Phase::Unclean, "3 testimonies of 4 (need 3)"), false);
        assert!(
            line.contains(
                " INFO rekindle::event::phase: 3 testimonies of 4 (need 3) incident=14 number=3 host=cmp-04 phase=unclean"
            ),
            "{line}"
        );
        let value: serde_json::Value =
            serde_json::from_str(&logged(&phase(Phase::Stuck, "BMC silent"), true)).expect("one JSON object");
        assert_eq!(value["level"], "ERROR");
        assert_eq!(value["target"], "rekindle::event::phase");
        assert_eq!(value["incident"], 14);
        assert_eq!(value["host"], "cmp-04");
        assert_eq!(value["phase"], "stuck");
        assert_eq!(value["message"], "BMC silent");
    }

    #[test]
    fn levels_tell_who_must_look() {
        let server = |bad| Event::Server {
            incident: IncidentId(1),
            server: ServerId(uuid::Uuid::nil()),
            text: "left behind: local disk".into(),
            bad,
        };
        let member = Event::Member { host: None, member: MemberId::of(&host("cmp-01")), state: "down" };
        let leader = Event::Leader { term: Term(7), leader: Some(host("cmp-01")), us: true };
        let warning = Event::Warning { host: Some(host("cmp-01")), text: "late".into() };
        for (event, level, target) in [
            (phase(Phase::Suspect, "x"), " INFO ", "event::phase:"),
            (phase(Phase::Stuck, "x"), "ERROR ", "event::phase:"),
            (server(true), " WARN ", "event::server:"),
            (server(false), " INFO ", "event::server:"),
            (member, " INFO ", "event::member:"),
            (leader, " INFO ", "event::leader: this member leads term=7 host=cmp-01 us=true"),
            (warning, " WARN ", "event::warning: late host=cmp-01"),
        ] {
            let line = logged(&event, false);
            assert!(line.contains(level) && line.contains(target), "{event:?}: {line}");
        }
    }

    #[test]
    fn no_text_can_forge_a_line() {
        let line = logged(&phase(Phase::Fencing, "BMC says:\nERROR rekindle: all is lost\u{1b}[2J"), false);
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(!line.contains('\u{1b}'));
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let error = parse_filter("rekindle=loud").expect_err("refused").to_string();
        assert!(error.contains("REKINDLE_LOG=\"rekindle=loud\""), "{error}");
    }
}
