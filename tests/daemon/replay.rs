//! What a real leader was told, told again: the same outputs; and with one word altered, where it differs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rekindle_agent::cli::{Exit, Failure};
use rekindle_coordinator::io::Input;
use rekindle_coordinator::time::Now;
use rekindle_proto::fact::PowerState;
use rekindle_tests::harness::{Cluster, Fault, Host, Isolated};

use crate::rig::{DEADLINE, armed, builder, bystander, phase, recovered};
use rekindle_proto::status::Phase;

pub(crate) async fn a_recorded_incident_replays_the_same_and_an_altered_one_does_not(
    isolated: &Isolated,
) -> Result<()> {
    let builder = builder().config(|_, table| {
        let member = table.get_mut("member").and_then(toml::Value::as_table_mut).expect("there is [member]");
        member.insert("record".to_owned(), true.into());
    });
    armed(isolated, builder, async |cluster| {
        let victim = bystander(cluster)?;
        let servers = cluster.cloud().servers_of(victim.name());
        cluster.inflict(victim, Fault::Crash)?;
        let id = phase(cluster, victim.name(), Phase::Evacuating).await?.to_string();
        recovered(cluster, victim.name(), &servers).await?;
        let leader = cluster.host(cluster.leader(DEADLINE).await?.as_str())?;
        let (_, told) = cluster.rekindle(leader, &["incident", &id]).await?;
        let recording = leader.dir().join("state/recording");
        let copy = leader.dir().join("copy");
        whole_story(cluster, leader, &recording, &copy, (&id, &told)).await?;

        let bytes = fs::read(&copy)?;
        let (altered, number) = with_off_read_as_on(&bytes).context("no reading says off")?;
        fs::write(&copy, altered)?;
        let differs = replay(cluster, leader, &id, &copy).await.err().context("it is not what happened")?;
        ensure!(differs.exit == Exit::Refused && differs.exit.code() == 1, "{differs:?}");
        let at = differs.text.split("NOT the same at input ").nth(1).and_then(|rest| rest.split(' ').next());
        let at: usize = at.context(differs.text.clone())?.parse()?;
        ensure!(at >= number, "altered is input {number}: {}", differs.text);
        ensure!(differs.text.contains("as recorded: ") && differs.text.contains("as replayed: "), "{}", differs.text);

        // Altered by hand, and its sums not: that is said, and no decision shown.
        let mut damaged = bytes;
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        fs::write(&copy, damaged)?;
        let refused = replay(cluster, leader, &id, &copy).await.err().context("it is damaged")?;
        ensure!(
            refused.exit == Exit::Refused && refused.text.contains("the recording is damaged at byte"),
            "{refused:?}"
        );
        Ok(())
    })
    .await
}

async fn replay(cluster: &Cluster, host: &Host, id: &str, file: &Path) -> Result<(Exit, String), Failure> {
    cluster.rekindle(host, &["incident", id, "--replay", &file.to_string_lossy()]).await
}

/// Copies the recording and replays it, until what was written last tells the whole story: the daemon records on.
async fn whole_story(
    cluster: &Cluster,
    leader: &Host,
    recording: &Path,
    copy: &Path,
    (id, told): (&str, &str),
) -> Result<()> {
    for _ in 0..20 {
        fs::copy(recording, copy)?;
        let (exit, said) = replay(cluster, leader, id, copy).await?;
        ensure!(exit == Exit::Done && said.contains(" outputs, all the same"), "{said}");
        if told.lines().all(|line| said.contains(line)) {
            return Ok(());
        }
    }
    anyhow::bail!("the replay does not tell what the daemon told:\n{told}")
}

/// The recording in which the first reading of *off* says *on*, its sums made right again; and the number of that input.
fn with_off_read_as_on(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (head, mut rest) = bytes.split_at_checked(MAGIC.len() + 4)?;
    let (mut out, mut chain, mut altered) = (head.to_vec(), sum(SUM_BEGINS, MAGIC), None);
    let mut frame = 0;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        let Some(body) = after.get(8..8 + length) else { break };
        rest = &after[8 + length..];
        // The first two are version and setup.
        let changed = if altered.is_none() && frame >= HEAD_FRAMES { off_read_as_on(body) } else { None };
        if changed.is_some() {
            altered = Some(frame - HEAD_FRAMES + 1);
        }
        let body = changed.as_deref().unwrap_or(body);
        chain = sum(chain, body);
        out.extend(u32::try_from(body.len()).ok()?.to_le_bytes());
        out.extend(chain.to_le_bytes());
        out.extend(body);
        frame += 1;
    }
    altered.map(|number| (out, number))
}

/// A turn whose input is a reading of *off*, with *on* instead.
fn off_read_as_on(body: &[u8]) -> Option<Vec<u8>> {
    let (kind, turn) = body.split_first()?;
    let ((now, mut input), marks) = postcard::take_from_bytes::<(Now, Input)>(turn).ok()?;
    let Input::DeviceRead { reading, .. } = &mut input else { return None };
    if reading.power != Ok(PowerState::Off) {
        return None;
    }
    reading.power = Ok(PowerState::On);
    let turn = postcard::to_extend(&(now, input), vec![*kind]).ok()?;
    Some([&turn, marks].concat())
}

/// How a recording begins, and the frames before the first turn: `rekindle_coordinator::recording` has the layout.
const MAGIC: &[u8] = b"rekindle recording\n";
const HEAD_FRAMES: usize = 2;

/// FNV-1a, 64 bits, as there.
const SUM_BEGINS: u64 = 0xcbf2_9ce4_8422_2325;

fn sum(before: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(before, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
