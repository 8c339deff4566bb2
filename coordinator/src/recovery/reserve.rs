//! Where a server is to be evacuated to, by its segment's method: where Nova's scheduler wants, or to a reserved host.

use rekindle_proto::fact::Text;
use rekindle_proto::id::{HostName, ServerId};
use rekindle_proto::segment::RecoveryMethod;

use crate::ledger::{Reserve, ServerRecord};

/// Where one server is to be evacuated to next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whither {
    /// Where Nova's scheduler wants.
    Anywhere,
    /// To a reserved host that was taken: its position.
    Reserved(u8),
    /// A reserved host is to be taken for it first.
    Take,
    /// Nowhere yet.
    Wait {
        /// What is waited for.
        why: Text,
        /// Not for ever.
        bounded: bool,
    },
    /// Nothing more by this half of its method: by the other.
    Turn(Text),
    /// Nothing is left to be tried.
    GiveUp(Text),
}

/// Whether a reserved host may be taken now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spare {
    /// That one; and whether its compute service is disabled.
    Free(HostName, bool),
    /// Nova is being asked about one.
    Reading(Text),
    /// None now; perhaps later.
    Later(Text),
    /// There is none.
    None(Text),
}

/// What is known of a reserved host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Which.
    pub host: &'a HostName,
    /// Why the ledger forbids it.
    pub forbidden: Option<Text>,
    /// Whether its daemon is heard, and nobody suspects it.
    pub is_heard: bool,
    /// Nova's young word on its compute service.
    pub service: Service,
}

/// Nova's word on a compute service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// Not asked yet, or not answered.
    Unknown,
    /// Nova has none, or calls it down, or it is forced down.
    Down,
    /// Up.
    Up {
        /// Whether the scheduler may use it.
        enabled: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Scheduler,
    Reserved,
}

/// The half of a method by which a server is to be recovered now, and whether another follows.
fn half(method: RecoveryMethod, turned: bool) -> (Half, bool) {
    match (method, turned) {
        (RecoveryMethod::Auto, _) => (Half::Scheduler, false),
        (RecoveryMethod::ReservedHost, _) => (Half::Reserved, false),
        (RecoveryMethod::AutoPriority, turned) => (if turned { Half::Reserved } else { Half::Scheduler }, !turned),
        (RecoveryMethod::RhPriority, turned) => (if turned { Half::Scheduler } else { Half::Reserved }, !turned),
    }
}

/// Which reserved host may be taken: the first by name that lives, that nothing forbids, and whose compute service is up.
/// While Nova has not answered about one before it, none is.
#[must_use]
pub fn spare<'a>(candidates: impl Iterator<Item = Candidate<'a>>) -> Spare {
    let mut unfit: Vec<String> = Vec::new();
    for candidate in candidates {
        let host = candidate.host;
        let why = match (&candidate.forbidden, candidate.is_heard, candidate.service) {
            (Some(why), _, _) => why.to_string(),
            (None, false, _) => "it is not heard".to_owned(),
            (None, true, Service::Unknown) => {
                return Spare::Reading(Text::new(format!("Nova is asked about reserved host {host}")));
            }
            (None, true, Service::Down) => "Nova has its compute service down".to_owned(),
            (None, true, Service::Up { enabled }) => return Spare::Free(host.clone(), !enabled),
        };
        unfit.push(format!("{host}: {why}"));
    }
    match unfit.is_empty() {
        true => Spare::None("its segment has no reserved host left".into()),
        false => Spare::Later(Text::new(format!("no reserved host can be used: {}", unfit.join("; ")))),
    }
}

/// Where a server is to go next. `exhausted`: why it has used up its tries in this half of its method.
#[must_use]
pub fn whither(
    reserve: &Reserve,
    server: ServerId,
    record: &ServerRecord,
    spare: &Spare,
    exhausted: Option<&Text>,
) -> Whither {
    let (half, another) = half(reserve.method, record.leg.turned);
    let over = |why: Text| if another { Whither::Turn(why) } else { Whither::GiveUp(why) };
    if let Some(why) = exhausted {
        return over(why.clone());
    }
    let open = reserve.active().find(|(position, _)| !record.leg.refused_by.contains(position));
    let may_take = reserve.caused_by(server) == 0;
    match half {
        Half::Scheduler => {
            let is_room = open.is_some() || (may_take && matches!(spare, Spare::Free(..)));
            if another && record.leg.no_host && is_room {
                return Whither::Turn("Nova's scheduler found no host for it".into());
            }
            Whither::Anywhere
        }
        Half::Reserved => match (open, spare) {
            (Some((position, _)), _) => Whither::Reserved(position),
            (None, _) if !may_take => {
                over("no room on the reserved hosts that were taken, and one server takes one".into())
            }
            (None, Spare::Free(..)) => Whither::Take,
            (None, Spare::Reading(why)) => Whither::Wait { why: why.clone(), bounded: false },
            (None, Spare::Later(why)) if another => Whither::Turn(why.clone()),
            (None, Spare::Later(why)) => Whither::Wait { why: why.clone(), bounded: true },
            (None, Spare::None(why)) => over(why.clone()),
        },
    }
}

#[cfg(test)]
#[path = "reserve_tests.rs"]
mod tests;
