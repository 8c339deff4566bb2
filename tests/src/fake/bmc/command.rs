//! What the BMC does when it is asked, by IPMI 2.0 command tables (appendix G).

use super::crypto::Suite;
use super::session::{OPERATOR, USER};
use super::wire::{Command, u32_le};
use super::{Behaviour, Power, State};

const CHASSIS: u8 = 0x00;
const APP: u8 = 0x06;

pub(super) const OK: u8 = 0x00;
pub(super) const NODE_BUSY: u8 = 0xC0;
const INVALID_COMMAND: u8 = 0xC1;
const WRONG_LENGTH: u8 = 0xC7;
const INVALID_FIELD: u8 = 0xCC;
pub(super) const NO_PRIVILEGE: u8 = 0xD4;
pub(super) const NOT_IN_THIS_STATE: u8 = 0xD5;
pub(super) const UNSPECIFIED: u8 = 0xFF;
/// Set Session Privilege Level: above what this user may have.
const ABOVE_LIMIT: u8 = 0x81;
/// Close Session: no such session.
const NO_SUCH_SESSION: u8 = 0x87;

/// The channel we answer on: the first LAN channel.
const CHANNEL: u8 = 0x01;

/// A completion code and the bytes after it.
pub(super) type Answer = (u8, Vec<u8>);

/// What a command comes to.
pub(super) enum Effect {
    /// Answer this.
    Reply(Answer),
    /// Answer this, and the session is over.
    Close(u32),
    /// The session's level changes to this, if it may.
    Raise(u8),
    /// Read the power.
    Status,
    /// Chassis Control with this number.
    Control(u8),
}

fn refuse(code: u8) -> Effect {
    Effect::Reply((code, Vec::new()))
}

/// A command outside any session. Anything but discovery needs one.
pub(super) fn outside(command: &Command, guid: &[u8; 16]) -> Answer {
    match (command.function, command.number) {
        (APP, 0x38) => channel_capabilities(command),
        (APP, 0x54) => cipher_suites(command),
        (APP, 0x37) => (OK, guid.to_vec()),
        _ => (NO_PRIVILEGE, Vec::new()),
    }
}

/// A command in a session of this level.
pub(super) fn within(command: &Command, level: u8, guid: &[u8; 16]) -> Effect {
    let data = command.data.as_slice();
    match (command.function, command.number) {
        (APP, 0x38) => Effect::Reply(channel_capabilities(command)),
        (APP, 0x54) => Effect::Reply(cipher_suites(command)),
        (APP, 0x37) => Effect::Reply((OK, guid.to_vec())),
        (APP, 0x01) => Effect::Reply((OK, device_id())),
        (APP, 0x3B) => data.first().map_or_else(|| refuse(WRONG_LENGTH), |wanted| Effect::Raise(*wanted & 0x0F)),
        (APP, 0x3C) => u32_le(data, 0).map_or_else(|| refuse(WRONG_LENGTH), Effect::Close),
        (CHASSIS, 0x01) if level < USER => refuse(NO_PRIVILEGE),
        (CHASSIS, 0x01) => Effect::Status,
        (CHASSIS, 0x02) if level < OPERATOR => refuse(NO_PRIVILEGE),
        (CHASSIS, 0x02) => match data.first() {
            None => refuse(WRONG_LENGTH),
            Some(number) if number & 0x0F <= 3 => Effect::Control(number & 0x0F),
            Some(_) => refuse(INVALID_FIELD),
        },
        _ => refuse(INVALID_COMMAND),
    }
}

/// Set Session Privilege Level: the new level, or why not. Zero asks which it is.
pub(super) fn raise(wanted: u8, level: u8, level_max: u8) -> Result<u8, u8> {
    match wanted {
        0 => Ok(level),
        1 => Err(INVALID_FIELD),
        _ if wanted > level_max => Err(ABOVE_LIMIT),
        _ => Ok(wanted),
    }
}

pub(super) fn closed(existed: bool) -> Answer {
    (if existed { OK } else { NO_SUCH_SESSION }, Vec::new())
}

/// What Get Chassis Status says under this behaviour.
pub(super) fn status_said(state: &State) -> Power {
    match state.behaviour {
        Behaviour::LiesOff => Power::Off,
        Behaviour::Honest
        | Behaviour::WrongPassword
        | Behaviour::Silent
        | Behaviour::SaysOkStaysOn
        | Behaviour::Slow(_)
        | Behaviour::ActsLate(_)
        | Behaviour::Busy
        | Behaviour::StaysOff
        | Behaviour::Restarted => state.power,
    }
}

/// Get Chassis Status: the power bit; restore policy "stays off"; no event, no fault.
pub(super) fn status_bytes(power: Power) -> Vec<u8> {
    vec![u8::from(power == Power::On), 0x00, 0x40, 0x00]
}

/// What Chassis Control means with the power as it is (section 28.3). A cycle or a reset of a machine that is off is
/// refused.
pub(super) fn control(number: u8, power: Power) -> Result<&'static [Power], u8> {
    match (number, power) {
        (0, _) => Ok(&[Power::Off]),
        (1, _) => Ok(&[Power::On]),
        (2 | 3, Power::On) => Ok(&[Power::Off, Power::On]),
        (2 | 3, Power::Off) => Err(NOT_IN_THIS_STATE),
        _ => Err(INVALID_FIELD),
    }
}

/// What of an order this behaviour really does.
pub(super) fn obeyed(behaviour: Behaviour, ordered: &'static [Power]) -> &'static [Power] {
    match behaviour {
        Behaviour::SaysOkStaysOn | Behaviour::LiesOff => &[],
        Behaviour::StaysOff if ordered.contains(&Power::Off) => &[Power::Off],
        Behaviour::StaysOff => &[],
        Behaviour::Honest
        | Behaviour::WrongPassword
        | Behaviour::Silent
        | Behaviour::Slow(_)
        | Behaviour::ActsLate(_)
        | Behaviour::Busy
        | Behaviour::Restarted => ordered,
    }
}

/// Get Channel Authentication Capabilities (section 22.13): IPMI 2.0 only, user names wanted, no KG key.
fn channel_capabilities(command: &Command) -> Answer {
    if command.data.len() != 2 {
        return (WRONG_LENGTH, Vec::new());
    }
    (OK, vec![CHANNEL, 0x80, 0x04, 0x02, 0, 0, 0, 0])
}

/// Get Channel Cipher Suites (section 22.15): 16 bytes of the list of records at a time.
fn cipher_suites(command: &Command) -> Answer {
    let [_, _, index] = command.data[..] else { return (WRONG_LENGTH, Vec::new()) };
    let mut list = Vec::new();
    for suite in Suite::ALL {
        let [id, authentication, integrity, confidentiality] = suite.numbers();
        list.extend([0xC0, id, authentication, 0x40 | integrity, 0x80 | confidentiality]);
    }
    let from = usize::from(index & 0x3F) * 16;
    let mut data = vec![CHANNEL];
    data.extend(list.iter().skip(from).take(16));
    (OK, data)
}

/// Get Device ID (section 20.1): a chassis device of IPMI 2.0, of no known maker.
fn device_id() -> Vec<u8> {
    vec![0x20, 0x01, 0x01, 0x00, 0x02, 0x80, 0, 0, 0, 0, 0]
}
