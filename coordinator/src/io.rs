//! What goes in and what comes out: the whole world, as the coordinator sees it.
//!
//! An act that changes the world (power off, force down, evacuate, stop, start) is an *order*: a type without public
//! constructor, built only from the proofs it needs. What is merely read needs none.

mod event;
mod nova;
mod watchdog;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rekindle_proto::admin::{AdminReply, AdminRequest, SignedOrder};
use rekindle_proto::fact::{
    DeviceName, DeviceReading, GateReport, GuestEvent, GuestList, LifeSign, NovaError, OrderError, StopReason, Text,
    Watchdog,
};
use rekindle_proto::id::{
    BootId, CallId, HostName, Incarnation, LogIndex, MemberId, PathName, ProcessName, ServerId, Term,
};
use rekindle_proto::message::Message;
use rekindle_proto::notification::Notification;
use serde::{Deserialize, Serialize};

use crate::hook::HookOrder;
use crate::ledger::{Entry, Ledger, Outcome};
use crate::notice::PostOrder;
use crate::order::{
    AggregateOrder, DestroyOrder, EvacuateOrder, ForceDownOrder, GuestPowerOrder, PowerOffOrder, PowerOnOrder,
    ServerActOrder, ServiceOrder,
};
use crate::process::{ProcessSeen, RestartOrder};
use crate::time::Moment;
use crate::voters::{ChangeVotersOrder, VotersView};

pub use event::Event;
pub use nova::{NovaAnswer, NovaRead, Trail};
pub use watchdog::WatchdogOrder;

/// A member on the other end of an authenticated connection: its certificate and hello agreed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, from its certificate.
    pub host: HostName,
    /// Its boot, from its hello on this connection.
    pub boot: BootId,
    /// Its life number, from its hello on this connection.
    pub incarnation: Incarnation,
    /// Where it listens.
    pub address: SocketAddr,
}

/// Something that happened.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Input {
    /// Time has passed; [`crate::Coordinator::next_deadline`] was reached.
    Tick,
    /// A connection to or from this peer was accepted by both sides.
    Connected {
        /// Who. Its address is where it listens on that network.
        peer: Peer,
        /// On which network.
        path: PathName,
    },
    /// A SWIM packet.
    Datagram {
        /// From whom.
        from: Peer,
        /// On which network.
        path: PathName,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// A message on a stream.
    Message {
        /// From whom. Its address is where it listens on that network.
        from: Peer,
        /// On which network.
        path: PathName,
        /// What it says.
        message: Message,
    },
    /// The ledger as restored at start or replaced by a snapshot: everything before `index` is in it.
    Restored {
        /// The state.
        ledger: Box<Ledger>,
    },
    /// An entry was committed. Every voter gets every entry once, in order.
    Committed {
        /// Its position.
        index: LogIndex,
        /// The term it was proposed in.
        term: Term,
        /// What it says.
        entry: Entry,
    },
    /// What Raft believes of leadership. A hint: no act rests on it (I3).
    Leadership {
        /// The term.
        term: Term,
        /// The leader, if one is known.
        leader: Option<HostName>,
    },
    /// The answer to [`Output::Propose`].
    Proposed {
        /// Which call.
        call: CallId,
        /// What became of it.
        result: Result<Outcome, ProposeError>,
    },
    /// The answer to [`Output::CheckLinearizable`].
    Linearizable {
        /// Which call.
        call: CallId,
        /// The term in which we are certainly the leader, or why not.
        result: Result<Term, Text>,
        /// When the quorum had answered.
        finished: Moment,
    },
    /// The answer to [`Output::ReadDevice`].
    DeviceRead {
        /// Which call.
        call: CallId,
        /// What it read.
        reading: DeviceReading,
        /// When it had read.
        finished: Moment,
    },
    /// The answer to [`Output::PowerOff`]. An `Ok` says that the device accepted the command, nothing more.
    PowerOffDone {
        /// Which call.
        call: CallId,
        /// What the device said, and whether the order may have left.
        result: Result<(), OrderError>,
    },
    /// The answer to [`Output::PowerOn`]. An `Ok` says that the device accepted the command, nothing more.
    PowerOnDone {
        /// Which call.
        call: CallId,
        /// What the device said, and whether the order may have left.
        result: Result<(), OrderError>,
    },
    /// The answer to [`Output::Nova`] and to the Nova orders.
    Nova {
        /// Which call.
        call: CallId,
        /// What Nova said.
        result: Result<NovaAnswer, NovaError>,
    },
    /// The local hypervisor's full list of guests, at start, after a reconnect, and every minute.
    Guests {
        /// The list.
        list: GuestList,
    },
    /// The answer to [`Output::CheckGuests`].
    GuestsChecked {
        /// Which call.
        call: CallId,
        /// Those of the asked ones that run here, by the hypervisor's own fresh word; `None`: it did not answer.
        running: Option<Vec<ServerId>>,
    },
    /// Something happened to a local guest.
    Guest {
        /// To which.
        server: ServerId,
        /// What.
        event: GuestEvent,
    },
    /// The answer to [`Output::DestroyGuest`].
    GuestDestroyed {
        /// Which call.
        call: CallId,
        /// Which guest.
        server: ServerId,
        /// Whether it is gone, or why not.
        result: Result<(), Text>,
    },
    /// Local processes that are watched: all of them at start, then those that changed.
    Processes {
        /// How each of them was seen.
        seen: Vec<(ProcessName, ProcessSeen)>,
    },
    /// The answer to [`Output::RestartProcess`].
    ProcessRestarted {
        /// Which call.
        call: CallId,
        /// Whether it was started; that it runs then, another word says.
        result: Result<(), Text>,
    },
    /// The local boot gate, at start and when it changes.
    Gate {
        /// What it is and does.
        report: GateReport,
    },
    /// The hardware watchdog of this host that may be armed: at start, and when it was fed for the first time. Where none
    /// is configured nothing is said.
    Watchdog {
        /// Which. `None`: the one that is configured cannot be used; what the ledger may know of it is withdrawn.
        device: Option<Watchdog>,
    },
    /// The daemon will be stopped, and no guest runs here: the watchdog is to be disarmed, once the ledger does not count
    /// on it. It is fed until then.
    LeaveWatchdog,
    /// The answer to [`Output::LookForLife`].
    LifeFound {
        /// Which call.
        call: CallId,
        /// What was seen; empty: nothing, or this adapter cannot look.
        signs: Vec<LifeSign>,
    },
    /// A crash kernel's word (`fence_kdump_send`) came from that address. Nobody can say who sent it.
    KdumpWord {
        /// From where.
        from: IpAddr,
    },
    /// The daemon was told to stop: say goodbye, so that the silence to come is not taken for a failure.
    Stopping {
        /// Why, by the init system's word.
        why: StopReason,
    },
    /// What Raft says of its own members, every second or so while we lead, and when it changes.
    Voters {
        /// Voters, learners, and who wants to be one.
        view: VotersView,
    },
    /// The answer to [`Output::ChangeVoters`].
    VotersChanged {
        /// Which call.
        call: CallId,
        /// Whether it is committed; else what Raft says. After a time-out it may yet be.
        result: Result<(), Text>,
    },
    /// The answer to [`Output::RunHook`].
    HookDone {
        /// Which call.
        call: CallId,
        /// What it wrote, or how it failed; within its time-out.
        result: Result<Text, Text>,
    },
    /// The answer to [`Output::Post`].
    Posted {
        /// Which call.
        call: CallId,
        /// Whether the receiver took it; else why it was given up.
        result: Result<(), Text>,
    },
    /// An operator asks.
    Query {
        /// To be repeated in [`Output::Answer`].
        call: CallId,
        /// What.
        #[serde(with = "crate::recording::RecordedRequest")]
        request: AdminRequest,
    },
}

/// Why a proposal has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ProposeError {
    /// We are not the leader: certainly not committed by us.
    #[error("not the leader")]
    NotLeader,
    /// No answer in time: it may yet be committed.
    #[error("no answer in time; it may yet be committed")]
    Unknown,
}

/// Something to be done. Outputs are done in the order in which they are polled; none waits for another.
#[derive(Debug)]
pub enum Output {
    /// Send a SWIM packet. May be lost.
    Datagram {
        /// To where.
        to: SocketAddr,
        /// Who must be there: another member at that address is not sent to.
        member: MemberId,
        /// On which network.
        path: PathName,
        /// The packet.
        bytes: Vec<u8>,
    },
    /// Send a message on a stream. Dropped, with a log line, if the peer cannot be reached.
    Message {
        /// To where.
        to: SocketAddr,
        /// Who must be there. `None`: whoever has a certificate of this cluster (seeds).
        member: Option<MemberId>,
        /// On which network.
        path: PathName,
        /// What.
        message: Message,
    },
    /// Resolve and dial this seed (`host:port`); [`Input::Connected`] follows if somebody of our cluster answers.
    Dial {
        /// As configured.
        seed: String,
    },
    /// Write our life number to disk before the next datagram is sent.
    PersistIncarnation(Incarnation),
    /// Give this entry to the ledger. [`Input::Proposed`] follows, within the adapter's time-out.
    Propose {
        /// To be repeated.
        call: CallId,
        /// What.
        entry: Box<Entry>,
    },
    /// Ask a quorum of voters, now, whether we lead. [`Input::Linearizable`] follows.
    CheckLinearizable {
        /// To be repeated.
        call: CallId,
    },
    /// Read a fence device. [`Input::DeviceRead`] follows.
    ReadDevice {
        /// To be repeated.
        call: CallId,
        /// Whose.
        host: HostName,
        /// Which.
        device: DeviceName,
        /// Whether to read the GUID too.
        guid: bool,
        /// How long it may take.
        within: Duration,
    },
    /// Cut a host's power. [`Input::PowerOffDone`] follows.
    PowerOff(PowerOffOrder),
    /// Give a host power. [`Input::PowerOnDone`] follows.
    PowerOn(PowerOnOrder),
    /// Read something from Nova. [`Input::Nova`] follows.
    Nova {
        /// To be repeated.
        call: CallId,
        /// What.
        request: NovaRead,
    },
    /// Stop the reading [`NovaRead::Capacity`] of that call, which asks Nova and Placement hundreds of things where it has not
    /// ended yet. No answer is waited for; one that comes all the same is not read.
    StopCapacity {
        /// Which.
        call: CallId,
    },
    /// Mark a host's compute service forced-down. [`Input::Nova`] follows.
    ForceDown(ForceDownOrder),
    /// Enable or disable a host's compute service, or take that mark away. [`Input::Nova`] follows, with the service read again.
    SetService(ServiceOrder),
    /// Add a reserved host to an aggregate, or take it out. [`Input::Nova`] follows, with [`NovaAnswer::Membership`].
    SetAggregate(AggregateOrder),
    /// Rebuild a server elsewhere. [`Input::Nova`] follows.
    Evacuate(EvacuateOrder),
    /// Stop or start a server in place. [`Input::Nova`] follows.
    GuestPower(GuestPowerOrder),
    /// Lock, unlock, reset, stop or start a server that is being recovered. [`Input::Nova`] follows.
    ServerAct(ServerActOrder),
    /// Start a failed process of this host again. [`Input::ProcessRestarted`] follows.
    RestartProcess(RestartOrder),
    /// Read the local hypervisor's full list of guests now. [`Input::Guests`] follows.
    ListGuests,
    /// Ask the local hypervisor, now, which of these guests run. [`Input::GuestsChecked`] follows.
    CheckGuests {
        /// To be repeated.
        call: CallId,
        /// Which.
        servers: Vec<ServerId>,
    },
    /// Look whether anything lives at a host whose daemon is silent: by a connected UDP socket to its gossip port (port
    /// unreachable; three tries, as kernels limit their rate), and by TCP to the configured ports (a banner, or a reset).
    /// [`Input::LifeFound`] follows, within `within`.
    LookForLife {
        /// To be repeated.
        call: CallId,
        /// Whose.
        host: HostName,
        /// Its gossip port.
        address: SocketAddr,
        /// TCP ports to try.
        ports: Vec<u16>,
        /// How long it may take.
        within: Duration,
    },
    /// End a guest's process on the local hypervisor, without a word to the guest. [`Input::GuestDestroyed`] follows.
    DestroyGuest(DestroyOrder),
    /// Run a command of the site. [`Input::HookDone`] follows.
    RunHook(HookOrder),
    /// Tell the readers of the local socket.
    Notice(Box<Notification>),
    /// Post to the site's webhook, one after the other in this order, each until it is taken or refused for good.
    /// [`Input::Posted`] follows.
    Post(PostOrder),
    /// Forget every [`Output::Post`] without an answer: another leads, or leads anew.
    StopPosts,
    /// Answer an operator.
    Answer {
        /// From the query.
        call: CallId,
        /// What.
        reply: Box<AdminReply>,
    },
    /// Carry an operator's request to the leader: this member cannot answer it. The adapter answers the operator.
    Relay {
        /// From the query.
        call: CallId,
        /// Whither.
        to: SocketAddr,
        /// Who must be there.
        member: MemberId,
        /// What.
        request: AdminRequest,
    },
    /// Change Raft's membership. [`Input::VotersChanged`] follows, within [`crate::voters::CHANGE_WITHIN`].
    ChangeVoters(ChangeVotersOrder),
    /// A new generation of voters was begun by this (verified) order: write it to disk, and stop a store of an earlier one.
    Generation {
        /// Its number.
        generation: u64,
        /// The order that began it.
        order: Box<SignedOrder>,
    },
    /// Tell the world what happened: log, metrics.
    Event(Event),
    /// Stand for leadership (`true`), or give it up and do not stand: no Raft heartbeats, no candidacy. We still vote and
    /// keep the log. Until it is said, a voter stands.
    Candidacy(bool),
    /// Feed the host's watchdog, or no longer. Ignored where none is configured.
    Watchdog(WatchdogOrder),
}
