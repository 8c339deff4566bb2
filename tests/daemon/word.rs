//! An operator's word, where no fence device can say that a host is off.

use anyhow::{Context, Result, ensure};
use rekindle_agent::cli::Exit;
use rekindle_proto::status::{Phase, StatusDoc};
use rekindle_tests::fake::bmc::{Behaviour, BmcRecordKind};
use rekindle_tests::fake::cloud::EvacuateOutcome;
use rekindle_tests::harness::{Cluster, Fault, Host, Isolated};

use crate::rig::{DEADLINE, armed, builder, bystander, nothing_evacuated, open};

const CHECKED: &str = "both of its plugs are in my hand";
const REASON: &str = "its BMC burnt";

pub(crate) async fn a_named_word_for_a_host_with_a_silent_bmc_recovers_it(isolated: &Isolated) -> Result<()> {
    armed(isolated, builder(), async |cluster| {
        let victim = bystander(cluster)?;
        let (name, servers) = (victim.name().as_str(), cluster.cloud().servers_of(victim.name()));
        let leader = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
        victim.bmc().behaviour(Behaviour::Silent);
        // Before anything has failed there is nothing to say.
        refused(cluster, leader, name, CHECKED, REASON, &format!("{name} has no open incident")).await?;

        // It is really gone: only its BMC cannot say so.
        cluster.inflict(victim, Fault::Crash)?;
        let waits = |status: &StatusDoc| match open(status, victim.name()) {
            Some(incident) if incident.held_by.iter().any(|why| why.as_str().contains("for its fence device")) => {
                Ok(())
            }
            incident => Err(format!("{incident:?}")),
        };
        cluster.wait_until(DEADLINE, waits).await?;

        // Of another host, of nobody, by nobody's eyes, for no reason: each is refused, and nothing comes of it.
        refused(cluster, leader, leader.name().as_str(), CHECKED, REASON, "has no open incident").await?;
        refused(cluster, leader, "cmp-09", CHECKED, REASON, "cmp-09 has no open incident").await?;
        refused(cluster, leader, name, " ", REASON, "it must be said what was checked").await?;
        refused(cluster, leader, name, CHECKED, " ", "--reason must not be empty").await?;
        for words in
            [&["fence-confirm", name, "--reason", REASON][..], &["fence-confirm", name, "--i-checked-that", CHECKED]]
        {
            let usage = cluster.rekindle(leader, words).await.err().context("a word is missing")?;
            ensure!(usage.exit == Exit::Usage, "{usage:?}");
        }
        nothing_evacuated(cluster)?;
        let status = cluster.status(leader).await?;
        let incident = open(&status, victim.name()).context("it is open")?;
        let id = incident.line.id;
        ensure!(incident.line.phase == Phase::Fencing, "{incident:?}");
        ensure!(incident.story.iter().all(|line| line.operator.is_none()), "{:?}", incident.story);

        let said = cluster.rekindle(leader, &confirm(name, CHECKED, REASON)).await?.1;
        ensure!(said.contains(&format!("{name} is taken for off, by your word")), "{said}");
        let recovered = |status: &StatusDoc| match open(status, victim.name()) {
            None => Ok(()),
            Some(incident) => Err(format!("{:?}, {:?}", incident.line, incident.held_by)),
        };
        cluster.wait_until(DEADLINE, recovered).await?;

        let incident = cluster.incident(leader, id).await?;
        ensure!(incident.line.phase == Phase::Recovered && incident.line.recovered == 3, "{:?}", incident.line);
        let told = |words: &str| incident.story.iter().find(|line| line.text.as_str().contains(words));
        let word = told(&format!("off, by the word of demo, who checked: {CHECKED}")).context("who checked what")?;
        ensure!(word.phase == Phase::Fenced, "{word:?}");
        let why = told(REASON).context("why")?;
        ensure!(why.operator.as_ref().is_some_and(|operator| operator.as_str() == "demo"), "{why:?}");
        let (_, shown) = cluster.rekindle(leader, &["incident", &id.to_string()]).await?;
        ensure!(shown.contains(CHECKED) && shown.contains(&format!("{REASON} (by demo)")), "{shown}");

        let accepted = |server| {
            let calls = cluster.cloud().evacuate_calls().into_iter();
            calls.filter(|call| call.server == server && matches!(call.outcome, EvacuateOutcome::Accepted(_))).count()
        };
        ensure!(servers.iter().all(|server| accepted(*server) == 1), "{:?}", cluster.cloud().evacuate_calls());
        ensure!(cluster.cloud().ever_ran_twice().is_empty(), "{:?}", cluster.cloud().ever_ran_twice());
        let record = victim.bmc().record();
        ensure!(!record.iter().any(|line| line.kind == BmcRecordKind::PowerOff), "the BMC answered: {record:?}");
        refused(cluster, leader, name, CHECKED, REASON, "has no open incident").await
    })
    .await
}

fn confirm<'a>(host: &'a str, checked: &'a str, reason: &'a str) -> [&'a str; 6] {
    ["fence-confirm", host, "--i-checked-that", checked, "--reason", reason]
}

/// It is refused with exit code 1, in these words.
async fn refused(cluster: &Cluster, at: &Host, host: &str, checked: &str, reason: &str, says: &str) -> Result<()> {
    let failure = cluster.rekindle(at, &confirm(host, checked, reason)).await.err();
    let failure = failure.with_context(|| format!("accepted, and should be refused: {says}"))?;
    ensure!(failure.exit == Exit::Refused && failure.text.contains(says), "wanted {says:?}: {failure:?}");
    Ok(())
}
