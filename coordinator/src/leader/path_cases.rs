//! One lost network of several, where the operator's matrix lets that suffice; and how often one member may accuse.
//!
//! What counts then is that path alone: testimony, roll call and 51 % are on it, the leader itself must be healthy on it, and
//! a host that can still be reached elsewhere must itself say that the path is lost. A failed switch fences nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_proto::fact::Text;
use rekindle_proto::id::{CallId, HostName, PathName};
use rekindle_proto::message::Message;

use super::Leader;
use crate::context::Context;
use crate::io::Output;
use crate::membership::{MemberState, Membership};
use crate::paths::{PATHS_MAX, PathAction, hears_nobody};
use crate::permit::{ROLL_AGE_MAX, Roll};
use crate::time::Moment;
use crate::verdict::brake_needs;

/// How long a roll call on one path waits.
const ROLL_WAIT: Duration = Duration::from_secs(1);

/// How long a host's own word about its paths is believed: it repeats it every 5 s.
const WORD_AGE_MAX: Duration = Duration::from_secs(15);

/// Accusations of one member within [`ACCUSED_WINDOW`]. A member probes two others a second; more than this fail only to one
/// whose own network fails, and gossip tells of the rest.
const ACCUSATIONS_MAX: usize = 20;
/// See [`ACCUSATIONS_MAX`].
const ACCUSED_WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct PathDesk {
    running: BTreeMap<PathName, (CallId, Roll)>,
    rolls: BTreeMap<PathName, Roll>,
    words: BTreeMap<HostName, (Moment, BTreeSet<PathName>)>,
    accusations: BTreeMap<HostName, Vec<Moment>>,
}

impl Leader {
    /// A member's own probe of another failed.
    pub(crate) fn accused(&mut self, cx: &mut Context<'_>, accuser: &HostName, target: &HostName) {
        if !cx.ledger.roster.contains_key(accuser) {
            return;
        }
        let now = cx.now.mono;
        let times = self.paths.accusations.entry(accuser.clone()).or_default();
        times.retain(|time| now.since(*time) < ACCUSED_WINDOW);
        if times.len() >= ACCUSATIONS_MAX {
            return;
        }
        times.push(now);
        if times.len() == ACCUSATIONS_MAX {
            let text =
                format!("it accused others {ACCUSATIONS_MAX} times within a minute: not listened to for a while");
            cx.out.warn(Some(accuser), text);
        }
        self.suspect(cx, target);
    }

    /// A host's own word on which networks it hears nobody.
    pub(crate) fn paths_lost(&mut self, cx: &mut Context<'_>, host: &HostName, paths: &[PathName]) {
        if !cx.ledger.roster.contains_key(host) {
            return;
        }
        let known = |path: &&PathName| cx.further.iter().any(|gossip| gossip.path() == *path);
        let lost: BTreeSet<PathName> = paths.iter().take(PATHS_MAX).filter(known).cloned().collect();
        if let Some(incident) = cx.ledger.open_incident(host)
            && incident.verdict.path.as_ref().is_some_and(|path| !lost.contains(path))
        {
            self.cancel_for_path(incident);
        }
        self.paths.words.insert(host.clone(), (cx.now.mono, lost));
        self.touch();
    }

    /// Whether the host itself says, and said lately, that it hears nobody there.
    pub(crate) fn says_lost(&self, now: Moment, host: &HostName, path: &PathName) -> bool {
        let word = self.paths.words.get(host);
        word.is_some_and(|(at, lost)| now.since(*at) < WORD_AGE_MAX && lost.contains(path))
    }

    /// Begins and ends suspicions that rest on one path. Nothing to do where there is only one.
    pub(super) fn drive_paths(&mut self, cx: &mut Context<'_>) {
        if cx.further.is_empty() {
            return;
        }
        self.finish_path_rolls(cx);
        if !cx.setup.policy.paths.is_opt_in() {
            return;
        }
        let mut lost = Vec::new();
        for host in cx.ledger.roster.keys() {
            if let Some(path) = lost_path(cx, host) {
                lost.push((host.clone(), path));
            }
        }
        let is_over = |host: &HostName, path: &PathName| !lost.iter().any(|(other, on)| other == host && on == path);
        // Also what is silent on every path by now: that is a suspicion like any other.
        self.suspects.retain(|host, case| case.suspicion.path.as_ref().is_none_or(|path| !is_over(host, path)));
        for (host, path) in lost {
            self.begin_suspicion(cx, &host, Some(path));
        }
    }

    /// What must hold for a verdict, and for a fence, that rests on one path: the host's own word, and ours about ourselves.
    pub(super) fn path_holds(&mut self, cx: &mut Context<'_>, host: &HostName, path: &PathName) -> Result<(), Text> {
        let Some(gossip) = cx.further.iter().find(|gossip| gossip.path() == path) else {
            return Err(Text::new(format!("{path}: only on a further path does one path suffice")));
        };
        if hears_nobody(gossip) {
            return Err(Text::new(format!("this leader itself hears nobody on {path}")));
        }
        let is_heard = cx.path_states(host).any(|(_, state)| state == Some(MemberState::Alive));
        if is_heard && !self.says_lost(cx.now.mono, host, path) {
            return Err(Text::new(format!(
                "it is reached on another path, and does not say itself that {path} is lost"
            )));
        }
        let (present, roster) = {
            let roll = self.path_roll(cx, path)?;
            (roll.present.iter().filter(|host| cx.ledger.roster.contains_key(*host)).count(), cx.ledger.roster.len())
        };
        let needed = brake_needs(roster);
        if present < needed {
            return Err(Text::new(format!(
                "mass-failure stop: {present} of {roster} answered the roll call on {path}; {needed} are needed"
            )));
        }
        Ok(())
    }

    /// The last roll called on that path, if it is fresh; else it is called.
    pub(super) fn path_roll(&mut self, cx: &mut Context<'_>, path: &PathName) -> Result<&Roll, Text> {
        let now = cx.now.mono;
        let age = self.paths.rolls.get(path).map(|roll| now.since(roll.called));
        // Called again at half its age, so that a decision need not wait for it.
        if age.is_none_or(|age| age > ROLL_AGE_MAX / 2) && !self.paths.running.contains_key(path) {
            self.call_path_roll(cx, path);
        }
        let fresh = self.paths.rolls.get(path).filter(|roll| now.since(roll.called) < ROLL_AGE_MAX);
        fresh.ok_or_else(|| Text::new(format!("calling the roll on {path}")))
    }

    fn call_path_roll(&mut self, cx: &mut Context<'_>, path: &PathName) {
        let Some(gossip) = cx.further.iter().find(|gossip| gossip.path() == path) else { return };
        let call = cx.out.call();
        let us = cx.setup.host.clone();
        for host in cx.ledger.roster.keys().filter(|host| **host != us) {
            let member = cx.heard.member(host);
            if let Some(view) = gossip.member(member) {
                let message = Message::Probe { call, path: path.clone() };
                cx.out.push(Output::Message { to: view.address, member: Some(member), path: path.clone(), message });
            }
        }
        let roll = Roll { called: cx.now.mono, present: BTreeSet::from([us]) };
        self.paths.running.insert(path.clone(), (call, roll));
        self.wake_at(cx.now.mono + ROLL_WAIT);
    }

    /// It answered a probe of ours on that path: maybe one of a roll call.
    pub(crate) fn present_on(&mut self, cx: &Context<'_>, host: &HostName, path: &PathName, call: CallId) {
        let Some((running, roll)) = self.paths.running.get_mut(path) else { return };
        if *running == call && cx.ledger.roster.contains_key(host) {
            roll.present.insert(host.clone());
        }
    }

    fn finish_path_rolls(&mut self, cx: &Context<'_>) {
        let over = |roll: &Roll| cx.now.mono >= roll.called + ROLL_WAIT;
        let done: Vec<PathName> =
            self.paths.running.iter().filter(|(_, (_, roll))| over(roll)).map(|(path, _)| path.clone()).collect();
        for path in done {
            if let Some((_, roll)) = self.paths.running.remove(&path) {
                self.paths.rolls.insert(path, roll);
            }
        }
        if let Some(next) = self.paths.running.values().map(|(_, roll)| roll.called + ROLL_WAIT).min() {
            self.wake_at(next);
        }
    }
}

/// The further path whose loss the matrix lets suffice for this host, while another one still carries.
fn lost_path(cx: &Context<'_>, host: &HostName) -> Option<PathName> {
    let down = cx.paths_down(host).into_iter().next()?.clone();
    let is_heard = cx.path_states(host).any(|(_, state)| state == Some(MemberState::Alive));
    let seen = cx.path_states(host).filter_map(|(path, state)| Some((path, state? == MemberState::Down)));
    (is_heard && cx.setup.policy.paths.decide(seen) == PathAction::Recover).then_some(down)
}

impl Context<'_> {
    fn state_on(&self, host: &HostName, path: &PathName) -> Option<MemberState> {
        let gossip = self.gossips().find(|gossip: &&Membership| gossip.path() == path)?;
        gossip.member(self.heard.member(host)).map(|view| view.state)
    }

    pub(super) fn is_alive_on(&self, host: &HostName, path: &PathName) -> bool {
        *host == self.setup.host || self.state_on(host, path) == Some(MemberState::Alive)
    }

    pub(super) fn is_down_on(&self, host: &HostName, path: &PathName) -> bool {
        self.state_on(host, path) == Some(MemberState::Down)
    }
}
