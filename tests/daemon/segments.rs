//! Segments: made by commands or by a file, and what a disabled one holds.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rekindle_agent::cli::Exit;
use rekindle_proto::segment::{SegmentDoc, SegmentsDoc};
use rekindle_proto::status::StatusDoc;
use rekindle_tests::fake::bmc::Power;
use rekindle_tests::harness::{Cluster, Fault, Host, Isolated};

use crate::rig::{DEADLINE, armed, builder, bystander, nothing_evacuated, open, recovered};

pub(crate) async fn a_disabled_segment_is_held_and_enabled_again_recovered(isolated: &Isolated) -> Result<()> {
    armed(isolated, builder(), async |cluster| {
        let victim = bystander(cluster)?;
        let (name, servers) = (victim.name().as_str(), cluster.cloud().servers_of(victim.name()));
        let order = async |words: &[&str]| {
            let all: Vec<&str> = words.iter().copied().chain(["--reason", "feed A is replaced"]).collect();
            cluster.order(DEADLINE, &all).await
        };
        order(&["segment", "create", "rack-1", "--recovery-method", "rh_priority"]).await?;
        order(&["host", "set", name, "--segment", "rack-1"]).await?;
        order(&["segment", "set", "rack-1", "--enabled", "false"]).await?;

        let leader = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
        let held = format!("segment rack-1 of {name} is disabled: demo: feed A is replaced");
        let (exit, why) = cluster.rekindle(leader, &["why", name]).await?;
        ensure!(exit == Exit::Refused && why.contains(&held), "{why}");
        let (_, brakes) = cluster.rekindle(leader, &["brake"]).await?;
        ensure!(brakes.contains("disabled: rack-1; 1 hosts in them"), "{brakes}");

        cluster.inflict(victim, Fault::Crash)?;
        let doubted = |status: &StatusDoc| {
            let line = status.hosts.iter().find(|line| line.host == *victim.name());
            ensure_word(line.and_then(|line| line.segment.as_ref()).map(|segment| segment.as_str()), &["rack-1"])?;
            ensure_word(line.map(|line| line.state.as_str()), &["suspect", "down"])
        };
        cluster.wait_until(DEADLINE, doubted).await?;
        // What must not happen has no event to wait for: an armed cluster has fenced within 5 s (see the demo).
        tokio::time::sleep(Duration::from_secs(10)).await;
        ensure!(open(&cluster.any_status().await?, victim.name()).is_none(), "an incident was opened");
        ensure!(victim.bmc().power() == Power::On, "it was fenced");
        nothing_evacuated(cluster)?;

        order(&["segment", "set", "rack-1", "--enabled", "true"]).await?;
        recovered(cluster, victim.name(), &servers).await
    })
    .await
}

const WANTED: &str = r#"
[[segment]]
name = "rack-1"
recovery_method = "auto_priority"
description = "feed A"
[[segment.host]]
name = "cmp-01"
[[segment.host]]
name = "cmp-02"
reserved = true

[[segment]]
name = "rack-2"
enabled = false
[[segment.host]]
name = "cmp-03"
"#;

pub(crate) async fn a_file_is_applied_once_and_shows_what_differs(isolated: &Isolated) -> Result<()> {
    armed(isolated, builder(), async |cluster| {
        let leader = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("segments.toml");
        let path = file.to_string_lossy().into_owned();
        std::fs::write(&file, WANTED)?;

        let (exit, shown) = cluster.rekindle(leader, &["apply", &path]).await?;
        ensure!(
            exit == Exit::Refused && shown.contains("+ segment rack-1: recovery_method \"auto_priority\""),
            "{shown}"
        );
        ensure!(shown.ends_with("5 orders; nothing was changed: repeat with --yes\n"), "{shown}");
        ensure!(document(cluster, leader).await?.segments.is_empty(), "it was only to be shown");

        cluster.order(DEADLINE, &["apply", &path, "--yes"]).await?;
        let (exit, shown) = cluster.rekindle(leader, &["apply", &path]).await?;
        ensure!(exit == Exit::Done && shown == "nothing differs\n", "{shown}");
        let made = document(cluster, leader).await?;
        let hosts = |segment: &SegmentDoc| {
            let host = |host: &rekindle_proto::segment::SegmentHostDoc| format!("{} {}", host.name, host.reserved);
            segment.hosts.iter().map(host).collect::<Vec<_>>()
        };
        let [first, second] = made.segments.as_slice() else { anyhow::bail!("{made:?}") };
        ensure!(first.enabled && hosts(first) == ["cmp-01 false", "cmp-02 true"], "{first:?}");
        ensure!(!second.enabled && hosts(second) == ["cmp-03 false"], "{second:?}");

        // By its uuid, and moved; a segment with hosts is not removed by accident.
        let id = first.uuid.to_string();
        cluster.order(DEADLINE, &["segment", "set", &id, "--name", "row-1", "--reason", "x"]).await?;
        cluster.order(DEADLINE, &["host", "set", "cmp-03", "--segment", "row-1", "--reason", "x"]).await?;
        let delete = ["segment", "delete", "row-1", "--reason", "x"];
        let refused = cluster.rekindle(leader, &delete).await.err().context("it has hosts")?;
        ensure!(refused.text.contains("segment row-1 has 3 hosts"), "{refused:?}");

        // The file wins again, and with `prune` nothing else is left.
        std::fs::write(&file, format!("prune = true\n{WANTED}"))?;
        let (_, shown) = cluster.rekindle(leader, &["apply", &path]).await?;
        for line in ["+ segment rack-1", "~ host cmp-01: segment row-1 -> rack-1", "~ host cmp-03", "- segment row-1"] {
            ensure!(shown.contains(line), "{line}: {shown}");
        }
        cluster.order(DEADLINE, &["apply", &path, "--yes"]).await?;
        let made = document(cluster, leader).await?;
        let names: Vec<&str> = made.segments.iter().map(|segment| segment.name.as_str()).collect();
        ensure!(names == ["rack-1", "rack-2"], "{names:?}");
        ensure!(made.segments.iter().map(|segment| segment.hosts.len()).eq([2, 1]), "{made:?}");
        Ok(())
    })
    .await
}

async fn document(cluster: &Cluster, at: &Host) -> Result<SegmentsDoc> {
    let (_, json) = cluster.rekindle(at, &["segment", "list", "--json"]).await?;
    Ok(serde_json::from_str(&json)?)
}

fn ensure_word(found: Option<&str>, wanted: &[&str]) -> Result<(), String> {
    match found {
        Some(word) if wanted.contains(&word) => Ok(()),
        found => Err(format!("{found:?}, wanted {wanted:?}")),
    }
}
