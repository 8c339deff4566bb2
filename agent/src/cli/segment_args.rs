//! What may be written on the command line about segments and the hosts in them.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};
use rekindle_proto::fact::Text;
use rekindle_proto::id::HostName;
use rekindle_proto::segment::{RecoveryMethod, SegmentWord, free_words};

use super::args::Reason;

/// Segments.
#[derive(Debug, Subcommand)]
pub enum SegmentCommand {
    /// Make a segment.
    Create {
        /// Its name; unique.
        name: SegmentWord,
        /// The rest.
        #[command(flatten)]
        fields: SegmentFlags,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// All segments, and hosts that are in none.
    List {
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
    },
    /// One segment with its hosts.
    Show {
        /// Its name or uuid.
        segment: SegmentWord,
        /// Print the document as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Change a segment. Refused while one of its hosts has an open incident.
    Set {
        /// Its name or uuid.
        segment: SegmentWord,
        /// Another name.
        #[arg(long, value_name = "NAME")]
        name: Option<SegmentWord>,
        /// What else is changed.
        #[command(flatten)]
        fields: SegmentFlags,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
    /// Remove a segment. Refused while one of its hosts has an open incident.
    Delete {
        /// Its name or uuid.
        segment: SegmentWord,
        /// Its hosts too: they are in no segment then.
        #[arg(long)]
        with_hosts: bool,
        /// Why.
        #[command(flatten)]
        why: Reason,
    },
}

/// Fields of a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct SegmentFlags {
    /// Where servers of its failed hosts go: auto, reserved_host, auto_priority, rh_priority.
    #[arg(long, value_name = "METHOD")]
    pub recovery_method: Option<RecoveryMethod>,
    /// Kept for Masakari's clients; nothing reads it.
    #[arg(long, value_name = "TYPE")]
    pub service_type: Option<SegmentWord>,
    /// For people.
    #[arg(long, value_name = "TEXT", value_parser = free_words)]
    pub description: Option<Text>,
    /// Whether its hosts are recovered at all.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    pub enabled: Option<bool>,
}

/// Fields of a host in a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct HostFlags {
    /// Whether it is kept free for the servers of others.
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    pub reserved: Option<bool>,
    /// Kept for Masakari's clients; nothing reads it.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<SegmentWord>,
    /// Kept for Masakari's clients; nothing reads it. No place for a password.
    #[arg(long, value_name = "TEXT", value_parser = free_words)]
    pub control_attributes: Option<Text>,
}

/// `rekindle host set`.
#[derive(Debug, Args)]
pub struct HostSet {
    /// The host.
    pub host: HostName,
    /// Put it into this segment (name or uuid), out of any other.
    #[arg(long, value_name = "SEGMENT", conflicts_with = "no_segment")]
    pub segment: Option<SegmentWord>,
    /// Take it out of its segment: it is recovered as with `auto`.
    #[arg(long, conflicts_with_all = ["reserved", "kind", "control_attributes"])]
    pub no_segment: bool,
    /// What else is changed.
    #[command(flatten)]
    pub fields: HostFlags,
    /// Why.
    #[command(flatten)]
    pub why: Reason,
}

/// `rekindle apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// TOML: a `[[segment]]` entry each, with its `[[segment.host]]` entries.
    #[arg(required_unless_present = "from_masakari", conflicts_with = "from_masakari")]
    pub file: Option<PathBuf>,
    /// Instead of a file: the segments of the Masakari in the catalog of the daemon's cloud, as they are now.
    #[arg(long)]
    pub from_masakari: bool,
    /// Print them as such a file, and do nothing else.
    #[arg(long, requires = "from_masakari", conflicts_with = "yes")]
    pub print: bool,
    /// The daemon's configuration, which names the cloud and its credentials.
    #[arg(long, value_name = "FILE", default_value = "/etc/rekindle/rekindle.toml")]
    pub config: PathBuf,
    /// Give the orders; else they are only shown.
    #[arg(long)]
    pub yes: bool,
    /// Why, for the record. Left out: whence it was applied.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}
