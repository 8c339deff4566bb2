//! What to do with the dead host's servers: a reconciler. It keeps no list of steps; each next step follows from the
//! ledger and from what Nova shows.

mod elsewhere;
mod glob;
mod groups;
mod intent;
mod look;
mod membership;
mod order;
mod pace;
mod plan;
mod reserve;
mod restore;
mod second;
mod select;
mod step;

pub use elsewhere::hosts_to_ask;
pub use glob::fits as pattern_fits;
pub use groups::{MEMBERS_NAMED_MAX, Whereabouts, conflict, is_binding};
pub use intent::{CommittedIntent, IntentView, intent_end};
pub use look::{Looked, Lookup};
pub use membership::{NextJoin, next_join, next_leave};
pub use order::{OrderPolicy, PRIORITY_KEY, PRIORITY_MAX, Urgency, in_order, priority_of};
pub use pace::{
    AT_ONCE_MAX, AT_ONCE_MIN, AT_ONCE_OPENED, AT_ONCE_START, Halved, LATENCY_CALM, LATENCY_RISE, PER_DESTINATION_MAX,
    Pace, Sign, free_places, sign_of,
};
pub use plan::{LOCAL_DISK_KEY, Lists, plan};
pub use reserve::{Candidate, Service, Spare, Whither, spare, whither};
pub use restore::{Arrival, act_after, act_before, hopeless, is_locked_by, restoration, shows};
pub use second::{Place, Second, second_host};
pub use select::{
    About, CONDITIONS_MAX, Choice, Condition, EXCLUDE_KEY, MARK_DEFAULT, RULES_MAX, SelectAction, SelectKeys,
    SelectMode, SelectPolicy, SelectRule, WORD_CHARS_MAX, choose,
};
pub use step::{ServerStep, next_step};
