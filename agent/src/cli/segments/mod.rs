//! `rekindle segment`, `rekindle host set|show`, `rekindle apply`: names become ids here, by the leader's own list, and the
//! ledger has the last word.

pub(super) mod apply;
mod file;
mod masakari;

use std::io::Write;

use rekindle_coordinator::ledger::{OperatorCommand, SegmentFields, SegmentHostFields, SegmentOrder};
use rekindle_proto::admin::{AdminReply, AdminRequest};
use rekindle_proto::id::{HostName, SegmentHostId, SegmentId};
use rekindle_proto::segment::{SegmentDoc, SegmentHostDoc, SegmentWord, SegmentsDoc};
use serde::Serialize;
use uuid::Uuid;

use super::render::{self, Paint};
use super::run::{ASK_WITHIN, picture, question, show, submit, unexpected};
use super::segment_args::{HostFlags, HostSet, SegmentCommand, SegmentFlags};
use super::{Cli, Exit, Failure};

/// `rekindle segment …`.
pub(super) async fn segment(
    cli: &Cli,
    command: &SegmentCommand,
    out: &mut impl Write,
    paint: Paint,
) -> Result<Exit, Failure> {
    let known = document(cli).await?;
    let (order, why) = match command {
        SegmentCommand::List { json } => return show(out, *json, &known, || render::segments(&known, paint)),
        SegmentCommand::Show { segment, json } => {
            let found = named(&known, segment)?;
            return show(out, *json, found, || render::segment(found, paint));
        }
        SegmentCommand::Create { name, fields, why } => {
            let id = SegmentId(Uuid::new_v4());
            (SegmentOrder::Create { id, name: name.clone(), fields: fields.into() }, why)
        }
        SegmentCommand::Set { segment, name, fields, why } => {
            let id = named(&known, segment)?.uuid;
            (SegmentOrder::Set { id, name: name.clone(), fields: fields.into() }, why)
        }
        SegmentCommand::Delete { segment, with_hosts, why } => {
            let id = named(&known, segment)?.uuid;
            (SegmentOrder::Delete { id, with_hosts: *with_hosts }, why)
        }
    };
    submit(cli, OperatorCommand::Segment(order), &why.reason, out).await
}

/// `rekindle host set`.
pub(super) async fn set_host(cli: &Cli, set: &HostSet, out: &mut impl Write) -> Result<Exit, Failure> {
    let known = document(cli).await?;
    let host = set.host.clone();
    let into = set.segment.as_ref().map(|segment| named(&known, segment)).transpose()?.map(|segment| segment.uuid);
    let fields = SegmentHostFields::from(&set.fields);
    let order = match (place_of(&known, &host), into) {
        _ if set.no_segment => SegmentOrder::RemoveHost { host },
        (Some(_), segment) => SegmentOrder::SetHost { host, segment, fields },
        (None, Some(segment)) => SegmentOrder::AddHost { host, id: new_place(), segment, fields },
        (None, None) => {
            let text = format!("{host} is in no segment: say which with --segment");
            return Err(Failure::new(Exit::Refused, text));
        }
    };
    submit(cli, OperatorCommand::Segment(order), &set.why.reason, out).await
}

/// `rekindle host show`: its line of the status, and its place in its segment.
pub(super) async fn show_host(
    cli: &Cli,
    host: &HostName,
    json: bool,
    out: &mut impl Write,
    paint: Paint,
) -> Result<Exit, Failure> {
    let status = picture(&cli.socket).await?;
    let Some(line) = status.hosts.iter().find(|line| line.host == *host) else {
        return Err(Failure::new(Exit::Refused, format!("{host} is not enrolled")));
    };
    let known = document(cli).await?;
    let place = place_of(&known, host);
    let shown =
        HostDoc { host: line, segment: place.map(|(segment, _)| &segment.name), place: place.map(|(_, at)| at) };
    show(out, json, &shown, || render::host(line, place, paint))
}

/// What `rekindle host show --json` prints.
#[derive(Serialize)]
struct HostDoc<'a> {
    host: &'a rekindle_proto::status::HostLine,
    segment: Option<&'a SegmentWord>,
    place: Option<&'a SegmentHostDoc>,
}

impl From<&SegmentFlags> for SegmentFields {
    fn from(flags: &SegmentFlags) -> Self {
        let SegmentFlags { recovery_method, service_type, description, enabled } = flags.clone();
        Self { method: recovery_method, service_type, description, enabled }
    }
}

impl From<&HostFlags> for SegmentHostFields {
    fn from(flags: &HostFlags) -> Self {
        let HostFlags { reserved, kind, control_attributes } = flags.clone();
        Self { reserved, kind, control_attributes }
    }
}

async fn document(cli: &Cli) -> Result<SegmentsDoc, Failure> {
    let AdminReply::Segments { segments } = question(&cli.socket, &AdminRequest::Segments, ASK_WITHIN).await? else {
        return Err(unexpected());
    };
    Ok(*segments)
}

/// By name first: a name may look like a uuid, and then its own is meant.
fn named<'a>(known: &'a SegmentsDoc, segment: &SegmentWord) -> Result<&'a SegmentDoc, Failure> {
    let by_name = known.segments.iter().find(|found| found.name == *segment);
    let id: Option<SegmentId> = segment.as_str().parse().ok();
    let by_id = || id.and_then(|id| known.segments.iter().find(|found| found.uuid == id));
    by_name.or_else(by_id).ok_or_else(|| Failure::new(Exit::Refused, format!("there is no segment {segment}")))
}

fn place_of<'a>(known: &'a SegmentsDoc, host: &HostName) -> Option<(&'a SegmentDoc, &'a SegmentHostDoc)> {
    known.segments.iter().find_map(|segment| {
        let place = segment.hosts.iter().find(|place| place.name == *host)?;
        Some((segment, place))
    })
}

fn new_place() -> SegmentHostId {
    SegmentHostId(Uuid::new_v4())
}
