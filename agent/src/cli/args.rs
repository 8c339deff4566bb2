//! What may be written on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use rekindle_coordinator::ledger::LiftTarget;
use rekindle_proto::id::{ClusterName, DomainName, HostName, IncidentId, NameError};

use super::segment_args::{Apply, HostSet, SegmentCommand};
use super::sim::SimCommand;

/// Exit codes, as `--help` tells them. `docs/commands.md` says the same at more length.
const EXIT_CODES: &str = "\
Exit codes:
  status   0 calm   1 an incident, or a host that is not alive   2 not quorate, or stuck   3 no daemon
  others   0 done   1 refused, or the answer is no   2 wrong usage   3 no daemon or no leader, nothing was done
           4 the outcome is unknown: look at `rekindle status` before repeating";

/// What `recover-quorum --help` says.
const RECOVER: &str = "\
Most voters are lost for good: let this host's ledger go on alone.

Run it on ONE surviving voter, its daemon stopped; of several, on the one whose last entry is the latest (--dry-run shows \
it). It takes everything in that ledger as agreed, and begins a new generation of voters with this host as the only one; \
standbys join it and the voters grow to their old number. Voters of before are refused for ever: remove the directory \
`ledger` of their state directory, and they join as standbys.

A lost voter that still runs, unseen, could go on acting beside the new quorum. Name with --off only hosts that you have \
seen to be powered off; your statement is signed and kept.";

/// VM high availability for OpenStack: ask and order the rekindle cluster of this host.
#[derive(Debug, Parser)]
#[command(name = "rekindle", version, after_help = EXIT_CODES, after_long_help = EXIT_CODES)]
pub struct Cli {
    /// The local daemon's socket.
    #[arg(
        long,
        global = true,
        env = "REKINDLE_SOCKET",
        default_value = "/run/rekindle/admin.sock",
        value_name = "FILE"
    )]
    pub socket: PathBuf,
    /// Certificate of the operator who orders (PEM, role operator).
    #[arg(
        long,
        global = true,
        env = "REKINDLE_OPERATOR_CERT",
        default_value = "/etc/rekindle/operator.pem",
        value_name = "FILE"
    )]
    pub operator_cert: PathBuf,
    /// Its key (PEM, mode 0600).
    #[arg(
        long,
        global = true,
        env = "REKINDLE_OPERATOR_KEY",
        default_value = "/etc/rekindle/operator.key",
        value_name = "FILE"
    )]
    pub operator_key: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole picture: quorum, leader, hosts, open incidents, alarms.
    Status {
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
        /// Draw it anew every second, until Ctrl-C.
        #[arg(long)]
        watch: bool,
    },
    /// Gossip as this very member sees it.
    Members {
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
    },
    /// List incidents, or tell the story of one, with evidence and times.
    Incident {
        /// Its number.
        id: Option<IncidentId>,
        /// Go through this recording of a daemon again, instead of asking one: whether it decides the same once more.
        #[arg(long, value_name = "FILE")]
        replay: Option<PathBuf>,
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
    },
    /// What would happen if this host died now; if nothing, why not.
    Why {
        /// The host.
        host: HostName,
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Read the fence devices of one host, or of all. Reads only: no power state is ever changed.
    FenceTest {
        /// The host; all of them if left out.
        host: Option<HostName>,
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Would the servers of lost hosts find room on the others? An estimate from Placement; Nova's scheduler decides.
    Capacity {
        /// How many hosts are lost at once.
        #[arg(
            long,
            value_name = "N",
            default_value_t = 1,
            value_parser = clap::value_parser!(u8).range(1..=i64::from(rekindle_proto::capacity::LOSE_MAX))
        )]
        lose: u8,
        /// A host that is among them; any, if left out.
        #[arg(long, value_name = "HOST")]
        host: Option<HostName>,
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Give a new cluster its first roster. Once; the cluster starts disarmed.
    Init {
        /// TOML: a `[[host]]` entry each, with host, and perhaps role and domain.
        #[arg(long, value_name = "FILE")]
        roster: PathBuf,
        /// The cluster's CA (PEM): operators are known by it from now on.
        #[arg(long, default_value = "/etc/rekindle/ca.pem", value_name = "FILE")]
        ca: PathBuf,
        /// Why, for the record.
        #[arg(long, default_value = "first roster", value_name = "TEXT")]
        reason: String,
    },
    /// From now on act.
    Arm(Reason),
    /// From now on only watch; with --for, until then.
    Disarm {
        /// Arm again by itself after this time ("30m", "2h").
        #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
        lasts: Option<Duration>,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// Take a host out of protection, or back under it. In maintenance it is never acted upon.
    Maintenance {
        /// In or out.
        switch: Switch,
        /// The host.
        host: HostName,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// Try a stuck incident again, after what it asks for was mended.
    Resume {
        /// Its number.
        incident: IncidentId,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// Let a fenced host back: you have seen that Nova cleaned up, or that it is empty.
    Release {
        /// The host.
        host: HostName,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// The boot gate of this host: what keeps a fenced host from starting guests that run elsewhere.
    #[command(subcommand)]
    Gate(GateCommand),
    /// Every brake with its figures, and who is held by it; or lift the brakes for one incident.
    #[command(args_conflicts_with_subcommands = true)]
    Brake {
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
        /// What to do; shown, if left out.
        #[command(subcommand)]
        command: Option<BrakeCommand>,
    },
    /// Who belongs to the cluster, and in which segment: list, show, enroll, set, forget.
    #[command(subcommand)]
    Host(HostCommand),
    /// Groups of hosts with a recovery method.
    #[command(subcommand)]
    Segment(SegmentCommand),
    /// Make segments and their hosts as a file says: shows what differs, and orders it with --yes.
    Apply(Apply),
    /// Say that you have seen a host to be off, where no fence device can say it. Servers are then recovered on your word:
    /// if the host runs after all, they run twice.
    FenceConfirm {
        /// The host; it must have an open incident.
        host: HostName,
        /// What you looked at, with your own eyes.
        #[arg(long, value_name = "TEXT")]
        i_checked_that: String,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// Switch a host off by its fence devices, and on again, to see that they are its own. It must be empty and in
    /// maintenance. Tells what happens until it is over; it goes on without this command.
    FenceRehearse {
        /// The host.
        host: HostName,
        /// All devices of this topology level are switched; those of the lowest, if left out.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
        level: Option<u8>,
        /// Print only the document, as JSON, when it is over.
        #[arg(long)]
        json: bool,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// Who keeps the ledger: voters and standbys, and whether each could be replaced or replace.
    Voters {
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
        /// Change them.
        #[command(subcommand)]
        command: Option<VotersCommand>,
    },
    /// Most voters are lost for good: let this host's ledger go on alone. Its daemon must be stopped.
    #[command(long_about = RECOVER)]
    RecoverQuorum {
        /// The configuration of this host's daemon.
        #[arg(long, value_name = "FILE", default_value = "/etc/rekindle/rekindle.toml")]
        config: PathBuf,
        /// A lost voter that you have seen to be off. Once for each that this ledger does not show as fenced.
        #[arg(long = "off", value_name = "HOST")]
        off: Vec<HostName>,
        /// Only show what is left here, and what is missing.
        #[arg(long)]
        dry_run: bool,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// Make the cluster's CA and issue certificates. Asks no daemon.
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Run scenarios, random faults and what-ifs on the very decision code the daemon runs. Changes nothing.
    #[command(subcommand)]
    Sim(SimCommand),
}

/// Changes of voters.
#[derive(Debug, Subcommand)]
pub enum VotersCommand {
    /// Put a standby in a voter's place.
    Replace {
        /// The voter.
        old: HostName,
        /// The standby.
        new: HostName,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// After an upgrade of every voter: write the newest ledger format from now on. There is no way back to an older version.
    RaiseFormat {
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
}

/// Why an order is given. It is kept in the ledger with the operator's name.
#[derive(Debug, Args)]
pub struct Reason {
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// In or out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Into maintenance.
    On,
    /// Out of maintenance.
    Off,
}

/// Brakes.
#[derive(Debug, Subcommand)]
pub enum BrakeCommand {
    /// Let no brake hold this one incident: neither cold start, mass-failure stop, domain event, cap nor rate. Disarmed,
    /// maintenance and the need for proof hold it as ever.
    Lift {
        /// The number of an open incident, or a silent host whose verdict is held.
        #[arg(value_name = "INCIDENT|HOST", value_parser = lift_target)]
        target: LiftTarget,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
}

/// The roster.
#[derive(Debug, Subcommand)]
pub enum HostCommand {
    /// Everybody enrolled, and those who are heard and are not.
    List {
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
    },
    /// One host, with its segment.
    Show {
        /// The host.
        host: HostName,
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Put a host into a segment or out of it, or change it there.
    Set(HostSet),
    /// Enrol a host. It counts, and is protected, once it was heard for 10 minutes.
    Enroll {
        /// The host, exactly as Nova names its service host.
        host: HostName,
        /// What it is.
        #[arg(long, value_enum, default_value_t = RosterRole::Member)]
        role: RosterRole,
        /// Its failure domain: rack, room, feed.
        #[arg(long, value_name = "NAME")]
        domain: Option<DomainName>,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// Take a host off the roster: it neither counts nor is protected any more.
    Forget {
        /// The host.
        host: HostName,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
}

/// A number is an incident; everything else is a host's name.
fn lift_target(text: &str) -> Result<LiftTarget, NameError> {
    match text.parse() {
        Ok(number) => Ok(LiftTarget::Incident(IncidentId(number))),
        Err(_) => HostName::new(text).map(LiftTarget::Host),
    }
}

/// What a host is enrolled as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RosterRole {
    /// A hypervisor.
    Member,
    /// Votes and watches only.
    Witness,
}

fn duration(text: &str) -> Result<Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    let duration = parsed.filter(|duration| *duration >= Duration::from_secs(1));
    duration.ok_or_else(|| "write a number and its unit, at least a second: \"30m\", \"2h\"".to_owned())
}

/// The boot gate.
#[derive(Debug, Subcommand)]
pub enum GateCommand {
    /// Wait until guests may start on this host, however long that is. What rekindle-gate.service runs.
    Wait {
        /// Where the gate keeps its state.
        #[arg(long, default_value = crate::gate::RUN_DIR, value_name = "DIR")]
        state: PathBuf,
    },
    /// Open it by hand, for this boot: you know that no guest of this host runs, or is being built, elsewhere.
    Open {
        /// Where the gate keeps its state.
        #[arg(long, default_value = crate::gate::RUN_DIR, value_name = "DIR")]
        state: PathBuf,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// Whether it is installed, what it did in this boot, and what the ledger says. Exit code 0 if it is open.
    Status {
        /// Where the gate keeps its state.
        #[arg(long, default_value = crate::gate::RUN_DIR, value_name = "DIR")]
        state: PathBuf,
    },
}

/// Certificates.
#[derive(Debug, Subcommand)]
pub enum PkiCommand {
    /// Make a new CA. Keep its key off the hypervisors.
    Init {
        /// The cluster's name: every certificate bears it.
        #[arg(long, value_name = "NAME")]
        cluster: ClusterName,
        /// Where the CA is to lie.
        #[arg(long, default_value = "pki", value_name = "DIR")]
        dir: PathBuf,
    },
    /// Issue a certificate and its key (mode 0600).
    Issue {
        /// What for.
        #[arg(long, value_enum, default_value_t = Role::Member)]
        role: Role,
        /// The host (exactly Nova's service host), or the operator.
        name: String,
        /// Where the CA lies.
        #[arg(long, default_value = "pki", value_name = "DIR")]
        dir: PathBuf,
        /// Where to put NAME.pem and NAME.key; with the CA if left out.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// A hypervisor.
    Member,
    /// A host that votes and watches only.
    Witness,
    /// A person (or a script) that orders.
    Operator,
}
