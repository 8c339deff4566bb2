//! What to do with the dead host's servers: a reconciler. It keeps no list of steps; each next step follows from the
//! ledger and from what Nova shows.

mod elsewhere;
mod intent;
mod plan;
mod restore;
mod step;

pub use elsewhere::hosts_to_ask;
pub use intent::{CommittedIntent, IntentView, intent_end};
pub use plan::{LOCAL_DISK_KEY, Lists, plan};
pub use restore::{Arrival, act_after, act_before, hopeless, is_locked_by, restoration, shows};
pub use step::{ServerStep, next_step};
