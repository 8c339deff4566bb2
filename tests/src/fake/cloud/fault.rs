//! Faults: what goes wrong between a caller and Nova, and between Nova and a destination.

use std::time::{Duration, Instant};

use rekindle_proto::id::HostName;

/// Which calls a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// Every call, Keystone's too.
    Any,
    /// Keystone: asking for a token.
    Token,
    /// Version documents of Keystone and Nova.
    Versions,
    /// `GET /os-services`.
    Services,
    /// `PUT /os-services/{id}`.
    UpdateService,
    /// `GET /servers` and `GET /servers/detail`.
    Servers,
    /// `GET /servers/{id}`.
    Server,
    /// `POST /servers/{id}/action` with `evacuate`.
    Evacuate,
    /// `POST /servers/{id}/action` with anything else.
    Action,
    /// `GET /os-migrations`.
    Migrations,
    /// `GET /os-hypervisors/detail`, and of one.
    Hypervisors,
    /// `GET /servers/{id}/os-instance-actions`, and of one request.
    InstanceActions,
    /// `GET /os-server-groups/{id}`.
    ServerGroup,
    /// Everything of Placement.
    Placement,
    /// A path nobody serves.
    Unknown,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status and nothing is done. 502, 503 and 504 come as a proxy's HTML page.
    Http(u16),
    /// 429 with `Retry-After` in seconds; nothing is done.
    Throttled(u32),
    /// It is done after this time. A caller that went away meanwhile does not undo it.
    Latency(Duration),
    /// Nothing is done and nothing is answered; the connection stays open.
    Hang,
    /// It is done; nothing is answered; the connection stays open.
    HangAfter,
    /// The connection is cut and nothing is done.
    DropBefore,
    /// It is done, and the connection is cut before the answer: the caller cannot know.
    DropAfter,
}

/// How long a fault lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The next so many calls it meets.
    Next(u32),
    /// From now for this long.
    For(Duration),
    /// Until [`super::Cloud::clear_faults`].
    UntilCleared,
}

/// What goes wrong on the way to, or at, the destination of an evacuation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnFault {
    /// The scheduler finds no host: migration `error`, server ERROR.
    NoValidHost,
    /// The destination's claim fails: migration `failed`, and the server's state is left as it was.
    ClaimFails,
    /// The guest does not start: migration `failed`, server ERROR.
    SpawnFails,
    /// The guest starts, and then a later step fails: migration `failed`, server ERROR, **and the guest runs on**.
    SpawnFailsGuestRuns,
    /// The migration stays `pre-migrating` for ever.
    NeverEnds,
}

#[derive(Debug)]
struct Armed {
    endpoint: Endpoint,
    fault: Fault,
    left: Option<u32>,
    until: Option<Instant>,
}

/// Faults of calls, in the order they were set.
#[derive(Debug, Default)]
pub(super) struct Faults {
    calls: Vec<Armed>,
    spawns: Vec<(SpawnFault, Option<HostName>, u32)>,
}

impl Faults {
    pub(super) fn set(&mut self, endpoint: Endpoint, fault: Fault, span: Span) {
        let (left, until) = match span {
            Span::Next(count) => (Some(count), None),
            Span::For(time) => (None, Some(Instant::now() + time)),
            Span::UntilCleared => (None, None),
        };
        self.calls.push(Armed { endpoint, fault, left, until });
    }

    pub(super) fn set_spawn(&mut self, fault: SpawnFault, host: Option<HostName>, count: u32) {
        self.spawns.push((fault, host, count));
    }

    pub(super) fn clear(&mut self) {
        self.calls.clear();
        self.spawns.clear();
    }

    /// Every fault this call meets, each counted.
    pub(super) fn met_by(&mut self, endpoint: Endpoint, now: Instant) -> Vec<Fault> {
        self.calls.retain(|armed| armed.left != Some(0) && armed.until.is_none_or(|until| now < until));
        let mut met = Vec::new();
        for armed in &mut self.calls {
            if armed.endpoint == endpoint || armed.endpoint == Endpoint::Any {
                met.push(armed.fault);
                armed.left = armed.left.map(|left| left.saturating_sub(1));
            }
        }
        met
    }

    /// Whether the scheduler finds no host this time.
    pub(super) fn no_valid_host(&mut self) -> bool {
        self.spawn_meets(None, SpawnFault::NoValidHost)
    }

    /// Whether this spawn on this host meets this fault; counted.
    pub(super) fn met_by_spawn_of(&mut self, host: &HostName, fault: SpawnFault) -> bool {
        self.spawn_meets(Some(host), fault)
    }

    fn spawn_meets(&mut self, host: Option<&HostName>, fault: SpawnFault) -> bool {
        let armed = self
            .spawns
            .iter_mut()
            .find(|(armed, only, left)| *armed == fault && *left > 0 && (only.is_none() || only.as_ref() == host));
        if let Some((_, _, left)) = armed {
            *left -= 1;
            return true;
        }
        false
    }
}
