//! The cases, in the order in which they are run.

mod death;
mod hosts;
mod leaders;
mod many;
mod masakari;
mod order;
mod outages;
mod reserved;
mod states;

use crate::rig::Rig;

/// How many compute hosts a case needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// Three.
    Small,
    /// Eleven.
    Large,
}

impl Size {
    pub(crate) fn hosts(self) -> usize {
        match self {
            Self::Small => 3,
            Self::Large => 11,
        }
    }
}

/// One case. It leaves all hosts alive, protected and without servers.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Only in `make cloud-test-long`.
    pub(crate) long: bool,
    pub(crate) size: Size,
    pub(crate) run: fn(&Rig),
}

const fn case(name: &'static str, run: fn(&Rig)) -> Case {
    Case { name, long: false, size: Size::Small, run }
}

const fn long(name: &'static str, run: fn(&Rig)) -> Case {
    Case { name, long: true, size: Size::Small, run }
}

/// All of them.
pub(crate) const CASES: &[Case] = &[
    case("a_dead_host_is_fenced_and_its_servers_run_elsewhere", death::a_dead_host),
    case("every_state_comes_back_as_it_was", states::every_state),
    long("leader_killed_at_suspicion", |rig| leaders::killed_at(rig, leaders::At::Suspect)),
    long("leader_killed_at_the_verdict", |rig| leaders::killed_at(rig, leaders::At::Unclean)),
    case("leader_killed_after_its_off_order", |rig| leaders::killed_at(rig, leaders::At::OffOrdered)),
    long("leader_killed_when_fenced", |rig| leaders::killed_at(rig, leaders::At::BeforeForceDown)),
    long("leader_killed_before_force_down_was_answered", |rig| {
        leaders::killed_at(rig, leaders::At::ForceDownUnanswered)
    }),
    case("leader_killed_after_the_first_evacuate", |rig| leaders::killed_at(rig, leaders::At::FirstEvacuate)),
    long("leader_killed_in_the_middle", |rig| leaders::killed_at(rig, leaders::At::Middle)),
    long("leader_killed_before_the_last_evacuate", |rig| leaders::killed_at(rig, leaders::At::LastEvacuate)),
    case("leader_killed_at_unlock", |rig| leaders::killed_at(rig, leaders::At::Unlock)),
    long("leader_killed_before_closing", |rig| leaders::killed_at(rig, leaders::At::Closing)),
    case("an_evacuate_call_hangs_while_the_leader_changes", outages::a_call_hangs),
    case("claims_and_spawns_that_fail_are_tried_elsewhere", hosts::refusals),
    long("servers_run_in_their_order", order::servers_run_in_their_order),
    long("servers_wait_for_their_turn_with_an_old_compute", order::servers_wait_for_their_turn_with_an_old_compute),
    case("a_reserved_host_takes_over", reserved::a_reserved_host_takes_over),
    long("masakari_d_a_reserved_host_that_got_nothing_goes_back", reserved::a_reserved_host_that_got_nothing_goes_back),
    long("nova_api_is_restarted_in_the_middle", outages::nova_restarted),
    long("the_token_is_revoked_in_the_middle", outages::token_revoked),
    long("keystone_is_down_at_the_start", outages::keystone_down),
    long("the_host_is_powered_on_by_hand_in_the_middle", hosts::powered_on_by_hand),
    long("a_destination_dies_in_the_middle_of_its_rebuilds", hosts::a_destination_dies),
    long("a_destination_dies_before_it_reads_its_queue", hosts::a_destination_dies_before_it_reads_its_queue),
    long("a_destination_dies_before_its_claim", hosts::a_destination_dies_before_its_claim),
    long("masakari_a_a_rebuild_counts_when_it_is_done", masakari::a_rebuild_counts_when_it_is_done),
    long(
        "masakari_b_e_a_second_attempt_that_succeeds_is_a_success",
        masakari::a_second_attempt_that_succeeds_is_a_success,
    ),
    long("masakari_c_more_than_three_at_once", masakari::more_than_three_at_once),
    Case {
        name: "two_destinations_die_before_they_read_their_queues",
        long: true,
        size: Size::Large,
        run: hosts::two_destinations_die_before_they_read_their_queues,
    },
    Case { name: "two_hundred_servers_over_ten_hosts", long: true, size: Size::Large, run: many::two_hundred_servers },
];
