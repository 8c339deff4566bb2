//! What a service answers: its documents, its sessions, its one action, and its lies.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::http::{Call, Reply};
use super::{Behaviour, Power, RedfishRecordKind, SESSIONS_MAX, Shared, SystemSettings};

const ROOT: &str = "/redfish/v1";
const SYSTEMS: &str = "/redfish/v1/Systems";
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";
const TASK: &str = "/redfish/v1/TaskService/TaskMonitors/1";

/// How long a service that shows *Off* shows it: shorter than the second between two readings.
const SHOWN_OFF: Duration = Duration::from_millis(500);

pub(super) async fn answer(shared: &Arc<Shared>, call: &Call) -> Reply {
    let behaviour = shared.state().behaviour.clone();
    let path = call.path.trim_end_matches('/');
    let is_login = path == SESSIONS && call.method == "POST";
    if let Behaviour::Slow(time) = &behaviour {
        sleep(*time).await;
    }
    if let Some(reply) = whatever_is_asked(&behaviour, is_login) {
        return reply;
    }
    if path == ROOT {
        let (systems, sessions) = (json!({ "@odata.id": SYSTEMS }), json!({ "Sessions": { "@odata.id": SESSIONS } }));
        return Reply::json(200, &json!({ "@odata.id": "/redfish/v1/", "Systems": systems, "Links": sessions }));
    }
    if is_login {
        return login(shared, &behaviour, call);
    }
    if !is_let_in(shared, &behaviour, call) {
        shared.state().record(RedfishRecordKind::Refused);
        return complaint(401, "NoValidSession", "There is no valid session established with the implementation.");
    }
    if call.method == "DELETE" && path.starts_with(SESSIONS) {
        return logout(shared, path);
    }
    if path == SYSTEMS && call.method == "GET" {
        let own = |system: &SystemSettings| format!("{SYSTEMS}/{}", system.id);
        let paths: Vec<String> = if let Behaviour::LeadsTo(elsewhere) = &behaviour {
            vec![elsewhere.clone()]
        } else {
            shared.settings.systems.iter().map(own).collect()
        };
        let members: Vec<Value> = paths.iter().map(|path| json!({ "@odata.id": path })).collect();
        return Reply::json(200, &json!({ "Members@odata.count": members.len(), "Members": members }));
    }
    let mut parts = path.strip_prefix(SYSTEMS).unwrap_or_default().split('/').skip(1);
    let system = parts.next().and_then(|id| shared.settings.systems.iter().find(|system| system.id == id));
    let rest: Vec<&str> = parts.collect();
    match (call.method.as_str(), system, rest.as_slice()) {
        ("GET", Some(system), []) => read(shared, &behaviour, system),
        ("POST", Some(system), ["Actions", "ComputerSystem.Reset"]) => order(shared, &behaviour, system, call),
        _ => complaint(404, "ResourceMissingAtURI", "The resource was not found."),
    }
}

/// What some behaviours answer to any call.
fn whatever_is_asked(behaviour: &Behaviour, is_login: bool) -> Option<Reply> {
    match behaviour {
        Behaviour::Silent => Some(Reply::Hang),
        Behaviour::Dead => Some(Reply::Cut),
        Behaviour::Garbage => Some(Reply::Garbage),
        Behaviour::GarbledBody => Some(Reply::Answer(200, Vec::new(), b"{\"PowerState\": \"Off\"".to_vec())),
        Behaviour::Oversize => Some(Reply::Oversize),
        Behaviour::NeverEnds => Some(Reply::Endless),
        Behaviour::Redirects(to) => Some(Reply::empty(302).with("Location", to.clone())),
        Behaviour::Http(status) => (!is_login).then(|| complaint(*status, "GeneralError", "It was told to fail.")),
        Behaviour::Busy(seconds) => (!is_login).then(|| {
            complaint(503, "ServiceTemporarilyUnavailable", "Later.").with("Retry-After", seconds.to_string())
        }),
        Behaviour::Honest
        | Behaviour::WrongPassword
        | Behaviour::Locked
        | Behaviour::CutsBeforeOrder
        | Behaviour::CutsAfterOrder
        | Behaviour::SaysOkStaysOn
        | Behaviour::OffForShow(_)
        | Behaviour::Slow(_)
        | Behaviour::ActsLate(_)
        | Behaviour::Task(_)
        | Behaviour::RefusesOrders(..)
        | Behaviour::WantsEtag(_)
        | Behaviour::Says(_)
        | Behaviour::IsMachine(_)
        | Behaviour::LeadsTo(_)
        | Behaviour::Targets(_) => None,
    }
}

fn login(shared: &Shared, behaviour: &Behaviour, call: &Call) -> Reply {
    let is = |key: &str, value: &str| call.body.get(key).and_then(Value::as_str) == Some(value);
    let good = is("UserName", &shared.settings.username) && is("Password", &shared.settings.password);
    let mut state = shared.state();
    if *behaviour == Behaviour::Locked {
        state.record(RedfishRecordKind::Refused);
        return complaint(403, "ResourceAtUriUnauthorized", "The account is locked out.");
    }
    if !good || *behaviour == Behaviour::WrongPassword {
        state.record(RedfishRecordKind::Refused);
        // As some do: the refused words are repeated.
        let password = call.body.get("Password").and_then(Value::as_str).unwrap_or_default();
        return complaint(401, "ResourceAtUriUnauthorized", &format!("not authorized: {password}"));
    }
    if state.sessions.len() >= SESSIONS_MAX {
        return complaint(503, "SessionLimitExceeded", "The session establishment failed: too many sessions.");
    }
    state.sessions_opened += 1;
    let (id, token) = (state.sessions_opened, format!("token-{}-{}", shared.address.port(), state.sessions_opened));
    state.sessions.insert(id, token.clone());
    state.record(RedfishRecordKind::LoggedIn);
    let own = format!("{SESSIONS}/{id}");
    Reply::json(201, &json!({ "@odata.id": own, "Id": id.to_string() }))
        .with("X-Auth-Token", token)
        .with("Location", own)
}

fn logout(shared: &Shared, path: &str) -> Reply {
    let id = path.rsplit('/').next().and_then(|id| id.parse::<u32>().ok());
    let mut state = shared.state();
    if id.and_then(|id| state.sessions.remove(&id)).is_none() {
        return complaint(404, "ResourceMissingAtURI", "No such session.");
    }
    state.record(RedfishRecordKind::LoggedOut);
    Reply::empty(204)
}

fn is_let_in(shared: &Shared, behaviour: &Behaviour, call: &Call) -> bool {
    if let Some(token) = call.header("x-auth-token") {
        return shared.state().sessions.values().any(|known| known == token);
    }
    let basic = format!("{}:{}", shared.settings.username, shared.settings.password);
    let told = call.header("authorization").and_then(|value| value.strip_prefix("Basic ")).and_then(decoded);
    let locked = matches!(behaviour, Behaviour::WrongPassword | Behaviour::Locked);
    !locked && told.as_deref() == Some(basic.as_bytes())
}

/// RFC 4648, by hand: nobody else here needs it.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u32> = text.trim_end_matches('=').bytes().map(digit).collect::<Option<_>>()?;
    let mut bytes = Vec::new();
    for chunk in digits.chunks(4) {
        let bits = chunk.iter().enumerate().fold(0, |bits, (at, digit)| bits | digit << (18 - 6 * at));
        bytes.extend(&bits.to_be_bytes()[1..chunk.len().max(1)]);
    }
    Some(bytes)
}

fn read(shared: &Shared, behaviour: &Behaviour, system: &SystemSettings) -> Reply {
    let mut state = shared.state();
    state.record(RedfishRecordKind::Read);
    let Some(machine) = state.machines.get(&system.id) else {
        return complaint(404, "ResourceMissingAtURI", "The resource was not found.");
    };
    let shows_off = machine.shows_off_until.is_some_and(|until| Instant::now() < until);
    let word = if shows_off || machine.power == Power::Off { "Off" } else { "On" };
    let power = if let Behaviour::Says(raw) = behaviour {
        serde_json::from_str(raw).unwrap_or(Value::Null)
    } else {
        Value::from(word)
    };
    let uuid = if let Behaviour::IsMachine(other) = behaviour { *other } else { system.uuid };
    let own = format!("{SYSTEMS}/{}", system.id);
    let target = if let Behaviour::Targets(elsewhere) = behaviour {
        elsewhere.clone()
    } else {
        format!("{own}/Actions/ComputerSystem.Reset")
    };
    let mut reset = json!({ "target": target });
    if !system.resets.is_empty() {
        reset["ResetType@Redfish.AllowableValues"] = json!(system.resets);
    }
    let etag = format!("W/\"{}\"", machine.version);
    Reply::json(
        200,
        &json!({
            "@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem",
            "@odata.id": own,
            "Id": system.id,
            "UUID": uuid.to_string().to_uppercase(),
            "PowerState": power,
            "Actions": { "#ComputerSystem.Reset": reset },
        }),
    )
    .with("ETag", etag)
}

fn order(shared: &Arc<Shared>, behaviour: &Behaviour, system: &SystemSettings, call: &Call) -> Reply {
    let kind = call.body.get("ResetType").and_then(Value::as_str).unwrap_or_default().to_owned();
    let (power, version) = {
        let mut state = shared.state();
        state.record(RedfishRecordKind::Ordered(kind.clone()));
        state.machines.get(&system.id).map_or((Power::Off, 0), |machine| (machine.power, machine.version))
    };
    let wanted = match kind.as_str() {
        "ForceOff" => Power::Off,
        "On" | "ForceOn" => Power::On,
        // A guest that hangs does not shut down: a driver that asks for it fences nobody.
        "GracefulShutdown" => return Reply::empty(204),
        _ => return complaint(400, "ActionParameterNotSupported", "No such reset."),
    };
    if power == wanted {
        let word = if wanted == Power::Off { "OFF" } else { "ON" };
        return complaint(409, "PSU501", &format!("Server is already powered {word}."));
    }
    let later = |time: Duration| {
        let (shared, id) = (Arc::clone(shared), system.id.clone());
        tokio::spawn(async move {
            sleep(time).await;
            shared.turn(&id, wanted);
        });
    };
    let accepted = || complaint(202, "Success", "It is under way.").with("Location", TASK);
    match behaviour {
        Behaviour::CutsBeforeOrder => Reply::Cut,
        Behaviour::SaysOkStaysOn => Reply::empty(204),
        Behaviour::RefusesOrders(status, words) => complaint(*status, "GeneralError", words),
        Behaviour::WantsEtag(status) if call.header("if-match") != Some(&format!("W/\"{version}\"")) => {
            complaint(*status, "PreconditionRequired", "No If-Match, or another.")
        }
        Behaviour::Task(None) => accepted(),
        Behaviour::Task(Some(time)) => {
            later(*time);
            accepted()
        }
        Behaviour::ActsLate(time) => {
            later(*time);
            Reply::empty(204)
        }
        Behaviour::OffForShow(time) => {
            if let Some(machine) = shared.state().machines.get_mut(&system.id) {
                machine.shows_off_until = Some(Instant::now() + SHOWN_OFF);
            }
            later(*time);
            Reply::empty(204)
        }
        Behaviour::CutsAfterOrder => {
            shared.turn(&system.id, wanted);
            Reply::Cut
        }
        Behaviour::Honest
        | Behaviour::WrongPassword
        | Behaviour::Locked
        | Behaviour::Silent
        | Behaviour::Dead
        | Behaviour::Slow(_)
        | Behaviour::Garbage
        | Behaviour::GarbledBody
        | Behaviour::Oversize
        | Behaviour::NeverEnds
        | Behaviour::Http(_)
        | Behaviour::Busy(_)
        | Behaviour::Redirects(_)
        | Behaviour::WantsEtag(_)
        | Behaviour::Says(_)
        | Behaviour::IsMachine(_)
        | Behaviour::LeadsTo(_)
        | Behaviour::Targets(_) => {
            shared.turn(&system.id, wanted);
            Reply::empty(204)
        }
    }
}

/// An error as DSP0266, 8.6 has it.
fn complaint(status: u16, id: &str, words: &str) -> Reply {
    let message = json!({ "MessageId": format!("Fake.1.0.{id}"), "Message": words });
    let error =
        json!({ "code": "Base.1.0.GeneralError", "message": "See the messages.", "@Message.ExtendedInfo": [message] });
    Reply::json(status, &json!({ "error": error }))
}
