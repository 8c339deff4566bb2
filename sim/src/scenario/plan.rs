//! From a scenario's words to the world's plan.

use std::collections::BTreeSet;
use std::time::Duration;

use rekindle_coordinator::hook::HookRule;
use rekindle_coordinator::paths::{PathAction, PathRule};
use rekindle_coordinator::policy::Policy;
use rekindle_coordinator::recovery::{About, Condition, SelectAction, SelectMode, SelectRule};
use rekindle_proto::fact::{MemberRole, RosterEntry};
use rekindle_proto::hook::HookPoint;

use super::{Cluster, PolicyWords, Scenario};
use crate::world::{Plan, PlannedMember, Weather, path_name};

impl Scenario {
    pub(super) fn weather(&self) -> Weather {
        let mut weather = Weather::CALM;
        self.weather.apply(&mut weather);
        weather
    }
}

impl Cluster {
    /// The world's plan of it.
    #[must_use]
    pub fn plan(&self, seed: u64, weather: Weather) -> Plan {
        let Self {
            hosts,
            witnesses,
            voters,
            standbys,
            domains,
            servers,
            paths,
            armed,
            unverified,
            ledger_format,
            gates,
            formed,
            odd_servers,
            dies_claiming,
            ..
        } = *self;
        let Self { policy, members, dresses, room, segments, failing, aggregates, .. } = self;
        let members = members.iter().map(|member| PlannedMember {
            entry: RosterEntry {
                host: member.host.clone(),
                role: if member.witness { MemberRole::Witness } else { MemberRole::Member },
                domain: member.domain.clone(),
            },
            votes: member.votes,
            servers: member.servers,
        });
        let members = members.collect();
        Plan {
            seed,
            hosts,
            witnesses,
            voters,
            domains,
            servers,
            paths,
            weather,
            policy: policy.policy(),
            armed,
            members,
            unverified,
            ledger_format,
            gates,
            records: false,
            formed,
            odd_servers,
            dresses: dresses.clone(),
            standbys,
            room: *room,
            segments: segments.clone(),
            failing: failing.clone(),
            dies_claiming,
            aggregates: aggregates.clone(),
        }
    }
}

impl PolicyWords {
    fn policy(&self) -> Policy {
        let mut policy = Policy::default();
        let Self {
            probe_period,
            device_timeout,
            off_polls,
            fence_tries,
            evacuations_at_once,
            evacuate_tries,
            evacuate_settle,
            self_fence,
            kdump_wait,
            kdump_longest,
            recover_on,
            only_marked,
            exclude_name,
            exclude_image,
            exclude_project,
            wait_for_previous,
            group_timeout,
            after_recovery,
            hooks,
            add_reserved_host_to_aggregate,
        } = self;
        policy.probe_period = probe_period.map_or(policy.probe_period, crate::deed::Span::duration);
        policy.device_timeout = device_timeout.map_or(policy.device_timeout, crate::deed::Span::duration);
        policy.off_polls = off_polls.unwrap_or(policy.off_polls);
        policy.fence_tries = fence_tries.unwrap_or(policy.fence_tries);
        policy.evacuations_at_once = evacuations_at_once.unwrap_or(policy.evacuations_at_once);
        policy.evacuate_tries = evacuate_tries.unwrap_or(policy.evacuate_tries);
        policy.evacuate_settle = evacuate_settle.map_or(policy.evacuate_settle, crate::deed::Span::duration);
        policy.self_fence = self_fence.unwrap_or(policy.self_fence);
        policy.kdump.wait = kdump_wait.map_or(policy.kdump.wait, crate::deed::Span::duration);
        policy.kdump.longest = kdump_longest.map_or(policy.kdump.longest, crate::deed::Span::duration);
        policy.after_recovery = after_recovery.unwrap_or(policy.after_recovery);
        if *only_marked == Some(true) {
            policy.select.mode = SelectMode::OnlyMarked;
        }
        let excluded = [
            exclude_name.as_ref().map(|pattern| (About::ServerName, pattern.as_str())),
            exclude_project.as_ref().map(|pattern| (About::ProjectName, pattern.as_str())),
            exclude_image.as_ref().and_then(|words| {
                words.split_once('=').map(|(key, pattern)| (About::ImageProperty(key.to_owned()), pattern))
            }),
        ];
        policy.select.rules = excluded.into_iter().flatten().map(excludes).collect();
        policy.order.wait_for_previous = wait_for_previous.unwrap_or(policy.order.wait_for_previous);
        policy.order.group_timeout = group_timeout.map_or(policy.order.group_timeout, crate::deed::Span::duration);
        policy.paths.rules.extend(recover_on.map(|path| PathRule {
            down: BTreeSet::from([path_name(path.index())]),
            up: BTreeSet::new(),
            action: PathAction::Recover,
        }));
        policy.add_reserved_host_to_aggregate = add_reserved_host_to_aggregate.unwrap_or_default();
        if hooks.unwrap_or_default() {
            policy.hooks = HOOK_POINTS.map(hook).to_vec();
            policy.webhook = true;
        }
        policy
    }
}

fn excludes((about, pattern): (About, &str)) -> SelectRule {
    let condition = Condition { about, patterns: vec![pattern.to_owned()] };
    SelectRule { action: SelectAction::Exclude, reason: String::new(), conditions: vec![condition] }
}

const HOOK_POINTS: [HookPoint; 6] = [
    HookPoint::BeforeFence,
    HookPoint::AfterFence,
    HookPoint::BeforeEvacuate,
    HookPoint::AfterEvacuate,
    HookPoint::Recovered,
    HookPoint::Stuck,
];

fn hook(on: HookPoint) -> HookRule {
    HookRule { on, program: "/hook".to_owned(), timeout: Duration::from_secs(4), hold: false }
}
