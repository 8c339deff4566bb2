//! Real daemons, as processes, in a network of their own: what a host's death, a dead leader, a BMC, Nova or a file do to
//! them. The truth asserted on is that of the simulated cloud, not what a daemon says.
//!
//! It has a main of its own, because the daemons are this very executable and the network namespace must be there before
//! the first thread. Arguments are libtest's: a filter, `--exact`, `--list`.

mod bmc;
mod capacity;
mod disk;
mod dumps;
mod executor;
mod groups;
mod hooks;
mod hosts;
mod leader;
mod notifications;
mod nova;
mod pace;
mod paths;
mod processes;
mod quorum;
mod rehearsal;
mod replay;
mod rig;
mod runner;
mod secrets;
mod segments;
mod start;
mod voters;
mod word;

use std::process::ExitCode;

use rekindle_tests::harness::dispatch;
use runner::{Test, test};

fn tests() -> Vec<Test> {
    vec![
        // The longest: begun last it would run alone.
        test!(disk::a_full_disk_stops_the_ledger_of_that_voter_alone),
        // Minutes of waiting, and little to do.
        test!(rehearsal::a_host_that_goes_and_comes_back_has_passed, waits: true),
        test!(dumps::a_host_that_writes_its_dump_is_left_to_it, waits: true),
        test!(voters::a_lost_voter_is_replaced_and_the_next_may_die),
        test!(quorum::a_lost_quorum_is_recovered_and_the_old_voters_are_refused),
        test!(hosts::a_frozen_host_is_fenced_before_its_servers_run_elsewhere),
        test!(hosts::a_host_that_was_cut_off_is_fenced_before_its_servers_run_elsewhere),
        test!(paths::one_of_two_networks_is_an_alarm_and_both_are_a_verdict),
        test!(executor::a_bmc_that_the_leader_does_not_reach_is_switched_by_another_voter),
        test!(hosts::a_disarmed_cluster_only_watches),
        test!(hosts::a_host_in_maintenance_is_left_alone),
        test!(leader::a_leader_that_dies_at_the_verdict_is_succeeded),
        test!(leader::a_leader_that_dies_while_fencing_is_succeeded),
        test!(leader::a_leader_that_dies_when_fenced_is_succeeded),
        test!(leader::a_leader_that_dies_while_evacuating_is_succeeded),
        test!(bmc::a_wrong_password_is_stuck_and_nothing_is_evacuated),
        test!(bmc::a_silent_bmc_is_waited_for_and_nothing_is_evacuated),
        test!(bmc::a_bmc_that_says_ok_and_stays_on_is_stuck_and_nothing_is_evacuated),
        test!(capacity::it_is_told_by_any_member_and_counts_who_is_closed),
        test!(capacity::a_cloud_without_placement_only_has_no_answer),
        test!(groups::one_that_keeps_a_server_from_every_host_is_named),
        test!(hooks::each_is_run_once_and_none_keeps_the_servers_down),
        test!(hooks::one_that_holds_is_waited_for_until_an_operator_resumes),
        test!(hooks::one_whose_leader_died_is_not_run_again),
        test!(notifications::a_receiver_that_was_down_is_told_all_also_by_the_next_leader),
        test!(notifications::every_voters_socket_tells_the_same),
        test!(nova::errors_are_waited_out),
        test!(nova::a_slow_nova_is_waited_for),
        test!(nova::worthless_tokens_are_renewed),
        test!(nova::answers_that_are_lost_make_no_second_copy),
        test!(processes::one_that_is_down_for_good_disables_its_service_and_hides_no_host_failure),
        test!(pace::a_recovery_asks_little_of_nova),
        test!(pace::a_member_at_rest_wakes_one_thread, waits: true),
        test!(replay::a_recorded_incident_replays_the_same_and_an_altered_one_does_not),
        test!(word::a_named_word_for_a_host_with_a_silent_bmc_recovers_it),
        test!(secrets::a_planted_one_is_found_nowhere_while_a_host_is_fenced),
        test!(segments::a_disabled_segment_is_held_and_enabled_again_recovered),
        test!(segments::a_file_is_applied_once_and_shows_what_differs),
        test!(start::an_unknown_key_is_refused),
        test!(start::a_half_wish_for_self_fencing_is_refused),
        test!(start::self_fencing_is_shown_by_why),
        test!(start::another_hosts_certificate_is_refused),
        test!(start::a_stranger_is_refused),
        test!(start::another_clusters_certificate_is_refused),
        test!(start::an_expired_certificate_is_refused),
    ]
}

fn main() -> ExitCode {
    dispatch().unwrap_or_else(|| runner::run(&tests()))
}
