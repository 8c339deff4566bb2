//! A service's JSON as our words. What we do not know is passed over; what would make us believe something that the
//! service did not say is refused.

use rekindle_coordinator::fencing::guid_names;
use rekindle_proto::fact::{DeviceError, DeviceGuid, PowerState, Text};
use rekindle_proto::id::SystemUuid;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::address::excerpt;

/// Most systems of one service that are looked through for a UUID. The largest enclosures have 16 blades; beyond this
/// many it is some other kind of manager, and the system must be named by its id.
pub(super) const SYSTEMS_MAX: usize = 64;

/// Messages of one error that are told. Services repeat themselves.
const MESSAGES_MAX: usize = 3;

/// The words of a System resource that we need (DSP2046, ComputerSystem).
#[derive(Debug, Deserialize)]
pub(super) struct System {
    #[serde(rename = "@odata.type")]
    kind: Option<String>,
    #[serde(rename = "@odata.etag")]
    etag: Option<Value>,
    #[serde(rename = "PowerState")]
    power: Option<Value>,
    #[serde(rename = "UUID")]
    uuid: Option<Value>,
    #[serde(rename = "Actions")]
    actions: Option<Value>,
}

/// What is to become of the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Off,
    On,
}

impl Want {
    /// By which reset types (DSP0268, Resource.ResetType), the best first. Nothing graceful: what asks the guest's
    /// kernel is no fence. No push of the button: it means something else when the machine is off.
    fn reset_types(self) -> &'static [&'static str] {
        match self {
            Self::Off => &["ForceOff"],
            Self::On => &["On", "ForceOn"],
        }
    }

    /// What is then to be read.
    pub(super) fn power(self) -> PowerState {
        match self {
            Self::Off => PowerState::Off,
            Self::On => PowerState::On,
        }
    }
}

/// How to order it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reset {
    /// The action's path, as told.
    pub(super) target: String,
    /// The reset type.
    pub(super) kind: &'static str,
}

impl System {
    /// From the body of an answer.
    pub(super) fn parse(body: &[u8]) -> Result<Self, DeviceError> {
        let system: Self = serde_json::from_slice(body)
            .map_err(|error| unusable(format!("its system is no document we understand: {error}")))?;
        match system.kind.as_deref() {
            Some(kind) if !kind.starts_with("#ComputerSystem.") => {
                Err(unusable(format!("{:?} is no system", excerpt(kind))))
            }
            Some(_) | None => Ok(system),
        }
    }

    /// *On* and *Off* are the only words for it; between them nothing is known.
    pub(super) fn power(&self) -> Result<PowerState, DeviceError> {
        match &self.power {
            Some(Value::String(word)) if word == "On" => Ok(PowerState::On),
            Some(Value::String(word)) if word == "Off" => Ok(PowerState::Off),
            Some(Value::String(word)) if word == "PoweringOff" => {
                Err(unusable("PowerState is \"PoweringOff\": not off yet".to_owned()))
            }
            Some(other) => Err(unusable(format!("PowerState is {}: neither On nor Off", excerpt(&other.to_string())))),
            None => Err(unusable("its system has no PowerState".to_owned())),
        }
    }

    /// Which machine it is.
    pub(super) fn guid(&self) -> Result<DeviceGuid, DeviceError> {
        let uuid = match &self.uuid {
            Some(Value::String(text)) => Uuid::try_parse(text.trim()).map_err(|_| excerpt(text)),
            Some(other) => Err(excerpt(&other.to_string())),
            None => Err("not told".to_owned()),
        };
        uuid.map(|uuid| DeviceGuid(*uuid.as_bytes()))
            .map_err(|found| unusable(format!("its system's UUID is {found}: no UUID")))
    }

    /// Whether it says that it is that machine.
    pub(super) fn is_machine(&self, uuid: Uuid) -> bool {
        self.guid().is_ok_and(|guid| guid_names(guid, SystemUuid(uuid)))
    }

    /// The version of this very document, where the body tells it.
    pub(super) fn etag(&self) -> Option<&str> {
        self.etag.as_ref().and_then(Value::as_str)
    }

    /// How to order it from this system, whose path this is.
    pub(super) fn reset(&self, path: &str, want: Want) -> Result<Reset, DeviceError> {
        let action = self.actions.as_ref().and_then(|actions| actions.get("#ComputerSystem.Reset"));
        let action = action.ok_or_else(|| unusable("its system has no action ComputerSystem.Reset".to_owned()))?;
        let own = format!("{}/Actions/", path.trim_end_matches('/'));
        let target = match action.get("target").and_then(Value::as_str) {
            None => return Err(unusable("its ComputerSystem.Reset has no target".to_owned())),
            // The action of another system would cut another machine's power.
            Some(target) if !target.starts_with(&own) => {
                return Err(unusable(format!("its ComputerSystem.Reset is at {:?}, not below {own}", excerpt(target))));
            }
            Some(target) => target.to_owned(),
        };
        let types = want.reset_types();
        let Some(offered) = action.get("ResetType@Redfish.AllowableValues").and_then(Value::as_array) else {
            // It need not say which ones it takes: it refuses what it does not.
            return Ok(Reset { target, kind: types[0] });
        };
        match types.iter().find(|&&kind| offered.iter().any(|one| one == kind)) {
            Some(kind) => Ok(Reset { target, kind }),
            None => Err(DeviceError::Refused(Text::new(format!(
                "its ComputerSystem.Reset takes {}, and not {}",
                excerpt(&Value::from(offered.as_slice()).to_string()),
                types.join(" or ")
            )))),
        }
    }
}

#[derive(Deserialize)]
struct Link {
    #[serde(rename = "@odata.id")]
    id: String,
}

#[derive(Deserialize)]
struct Collection {
    #[serde(rename = "Members")]
    members: Vec<Link>,
    #[serde(rename = "Members@odata.nextLink")]
    next: Option<Value>,
}

/// The paths of a collection's members, as told.
pub(super) fn members(body: &[u8]) -> Result<Vec<String>, DeviceError> {
    let all: Collection = serde_json::from_slice(body)
        .map_err(|error| unusable(format!("its list of systems is no document we understand: {error}")))?;
    if all.next.is_some() || all.members.len() > SYSTEMS_MAX {
        return Err(unusable(format!("it has more than {SYSTEMS_MAX} systems: name one by its id")));
    }
    Ok(all.members.into_iter().map(|link| link.id).collect())
}

/// Where the service root says that sessions are opened.
pub(super) fn sessions(body: &[u8]) -> Option<String> {
    let root: Value = serde_json::from_slice(body).ok()?;
    root.get("Links")?.get("Sessions")?.get("@odata.id")?.as_str().map(ToOwned::to_owned)
}

/// Where a new session is, where only the body says it.
pub(super) fn own_path(body: &[u8]) -> Option<String> {
    serde_json::from_slice::<Link>(body).ok().map(|link| link.id)
}

/// An error as the service words it (DSP0266, 8.6), for people.
pub(super) fn complaint(body: &[u8]) -> String {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        let text = String::from_utf8_lossy(&body[..body.len().min(1_024)]);
        let words: Vec<&str> = text.split_whitespace().collect();
        return if words.is_empty() { "no text".to_owned() } else { excerpt(&words.join(" ")) };
    };
    let error = json.get("error").unwrap_or(&json);
    let all = error.get("@Message.ExtendedInfo").and_then(Value::as_array);
    let mut words: Vec<String> = all.into_iter().flatten().filter_map(message).take(MESSAGES_MAX).collect();
    words.dedup();
    if words.is_empty() {
        words.extend(error.get("message").and_then(Value::as_str).map(excerpt));
    }
    if words.is_empty() { "no text".to_owned() } else { words.join("; ") }
}

/// One message. Some have only an id and what stands in the place of its `%1`.
fn message(message: &Value) -> Option<String> {
    let text = |key: &str| message.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let id = text("MessageId").or_else(|| text("MessageID"));
    match (text("Message"), id) {
        (Some(words), Some(id)) => Some(format!("{} ({})", excerpt(words), excerpt(id))),
        (Some(words), None) => Some(excerpt(words)),
        (None, Some(id)) => {
            let values = message.get("MessageArgs").map(|values| excerpt(&values.to_string())).unwrap_or_default();
            Some(format!("{} {values}", excerpt(id)).trim_end().to_owned())
        }
        (None, None) => None,
    }
}

/// Whether a complaint says that there was nothing to do. Only a reason to read: services word it as they like.
pub(super) fn says_already(complaint: &str) -> bool {
    let words = complaint.to_ascii_lowercase();
    ["already", "power is o", "powered o", "invalidoperationforsystemstate"].iter().any(|hint| words.contains(hint))
}

pub(super) fn unusable(text: String) -> DeviceError {
    DeviceError::Unusable(Text::new(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UUID: &str = "00112233-4455-6677-8899-AABBCCDDEEFF";
    const PATH: &str = "/redfish/v1/Systems/1";

    fn system(change: impl FnOnce(&mut Value)) -> Result<System, DeviceError> {
        let mut document = json!({
            "@odata.type": "#ComputerSystem.v1_20_0.ComputerSystem",
            "UUID": UUID,
            "PowerState": "On",
            "Actions": { "#ComputerSystem.Reset": {
                "target": "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset",
                "ResetType@Redfish.AllowableValues": ["On", "ForceOff", "GracefulShutdown"],
            } },
        });
        change(&mut document);
        System::parse(document.to_string().as_bytes())
    }

    #[test]
    fn only_two_words_are_a_power_state() {
        let power = |value: Value| system(|document| document["PowerState"] = value).expect("a system").power();
        assert_eq!(power(json!("On")), Ok(PowerState::On));
        assert_eq!(power(json!("Off")), Ok(PowerState::Off));
        for value in ["PoweringOff", "PoweringOn", "Paused", "off", "OFF", " Off", "Off\n", ""].map(Value::from) {
            assert!(matches!(power(value.clone()), Err(DeviceError::Unusable(_))), "{value}");
        }
        for value in [json!(null), json!(false), json!(0), json!(["Off"]), json!({ "Off": "Off" })] {
            assert!(matches!(power(value.clone()), Err(DeviceError::Unusable(_))), "{value}");
        }
    }

    #[test]
    fn what_is_no_system_says_nothing() {
        for body in [
            &b""[..],
            b"Off",
            b"\"Off\"",
            b"{\"PowerState\": \"Off\"",
            b"{\"PowerState\": \"Off\"} {\"PowerState\": \"On\"}",
            b"{\"PowerState\": \"On\", \"PowerState\": \"Off\"}",
            b"{\"@odata.type\": \"#Chassis.v1_2_0.Chassis\", \"PowerState\": \"Off\"}",
            b"{\"@odata.type\": 5, \"PowerState\": \"Off\"}",
            b"\xff\xfe{}",
        ] {
            let said = System::parse(body).and_then(|system| system.power());
            assert!(matches!(said, Err(DeviceError::Unusable(_))), "{:?}: {said:?}", String::from_utf8_lossy(body));
        }
        let deep = "[".repeat(100_000);
        assert!(System::parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_uuid_is_read_as_it_is_written() {
        let uuid = Uuid::try_parse(UUID).expect("a UUID");
        let told = system(|_| {}).expect("a system");
        assert_eq!(told.guid(), Ok(DeviceGuid(*uuid.as_bytes())));
        assert!(told.is_machine(uuid) && !told.is_machine(Uuid::from_u128(1)));
        // As SMBIOS has it: the same machine.
        let swapped = system(|document| document["UUID"] = json!("33221100-5544-7766-8899-aabbccddeeff"));
        assert!(swapped.expect("a system").is_machine(uuid));
        for value in [json!(null), json!(""), json!("none"), json!(7), json!("0011")] {
            let guid = system(|document| document["UUID"] = value.clone()).expect("a system").guid();
            assert!(matches!(guid, Err(DeviceError::Unusable(_))), "{value}: {guid:?}");
        }
    }

    #[test]
    fn an_order_goes_to_the_systems_own_action_and_is_of_a_kind_that_it_takes() {
        let told = system(|_| {}).expect("a system");
        let reset = told.reset(PATH, Want::Off).expect("offered");
        assert_eq!(
            (reset.target.as_str(), reset.kind),
            ("/redfish/v1/Systems/1/Actions/ComputerSystem.Reset", "ForceOff")
        );
        assert_eq!(told.reset("/redfish/v1/Systems/1/", Want::On).expect("offered").kind, "On");
        assert!(told.reset("/redfish/v1/Systems/11", Want::Off).is_err(), "another system's");
        assert!(told.reset("/redfish/v1/Systems", Want::Off).is_err());
        let reset = |value: Value, want| {
            let changed = system(|document| {
                document["Actions"]["#ComputerSystem.Reset"]["ResetType@Redfish.AllowableValues"] = value;
            });
            changed.expect("a system").reset(PATH, want).map(|reset| reset.kind)
        };
        assert_eq!(reset(json!(null), Want::Off), Ok("ForceOff"));
        assert_eq!(reset(json!(["ForceOn", "ForceOff"]), Want::On), Ok("ForceOn"));
        for offered in [json!([]), json!(["GracefulShutdown"]), json!(["On", "PushPowerButton", "forceoff", 5])] {
            assert!(matches!(reset(offered.clone(), Want::Off), Err(DeviceError::Refused(_))), "{offered}");
        }
        for actions in [json!(null), json!([]), json!({}), json!({ "#ComputerSystem.Reset": { "target": 5 } })] {
            let changed = system(|document| document["Actions"] = actions.clone()).expect("a system");
            assert!(matches!(changed.reset(PATH, Want::Off), Err(DeviceError::Unusable(_))), "{actions}");
        }
    }

    #[test]
    fn a_list_is_bounded_and_whole() {
        let list = |count: usize| {
            let link = |number: usize| json!({ "@odata.id": format!("/redfish/v1/Systems/{number}") });
            json!({ "Members": (0..count).map(link).collect::<Vec<_>>() })
        };
        assert_eq!(members(list(SYSTEMS_MAX).to_string().as_bytes()).map(|all| all.len()), Ok(SYSTEMS_MAX));
        assert!(members(list(SYSTEMS_MAX + 1).to_string().as_bytes()).is_err());
        let mut paged = list(1);
        paged["Members@odata.nextLink"] = json!("/redfish/v1/Systems?$skip=1");
        assert!(members(paged.to_string().as_bytes()).is_err(), "one of several pages is not the only system");
        for body in ["", "{}", "{\"Members\": 5}", "{\"Members\": [{}]}", "[]"] {
            assert!(members(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn complaints_are_told_in_their_own_words_and_known_by_them() {
        // From an iDRAC, an iLO, bmcweb and a web server, by what is public of them.
        let idrac = json!({ "error": { "@Message.ExtendedInfo": [{ "Message": "Server is already powered OFF.",
            "MessageId": "IDRAC.2.8.PSU501" }], "code": "Base.1.12.GeneralError", "message": "A general error" } });
        let ilo = json!({ "error": { "@Message.ExtendedInfo": [{ "MessageArgs": ["Power is off"],
            "MessageID": "iLO.0.10.InvalidOperationForSystemState" }], "message": "See the messages" } });
        let busy = json!({ "error": { "code": "Base.1.8.ServiceTemporarilyUnavailable", "message": "Busy." } });
        for (body, words, already) in [
            (idrac.to_string(), "Server is already powered OFF. (IDRAC.2.8.PSU501)", true),
            (ilo.to_string(), "iLO.0.10.InvalidOperationForSystemState [\"Power is off\"]", true),
            (busy.to_string(), "Busy.", false),
            ("<html>\n <body>no such page</body></html>".to_owned(), "<html> <body>no such page</body></html>", false),
            (String::new(), "no text", false),
            ("{\"error\": 5}".to_owned(), "no text", false),
        ] {
            let told = complaint(body.as_bytes());
            assert_eq!((told.as_str(), says_already(&told)), (words, already), "{body}");
        }
        assert!(complaint(&[b'x'; 100_000]).len() <= 200);
    }

    #[test]
    fn where_sessions_are_is_read_from_the_root() {
        let root = json!({ "Links": { "Sessions": { "@odata.id": "/redfish/v1/Sessions" } } });
        assert_eq!(sessions(root.to_string().as_bytes()).as_deref(), Some("/redfish/v1/Sessions"));
        for body in ["", "{}", "{\"Links\": 5}", "{\"Links\": {\"Sessions\": {\"@odata.id\": 5}}}"] {
            assert_eq!(sessions(body.as_bytes()), None, "{body}");
        }
    }
}
