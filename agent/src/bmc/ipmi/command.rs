//! The commands we give and what their answers mean (IPMI 2.0, sections 5.2, 13.8, 20, 22 and 28).

use rekindle_proto::fact::PowerState;

use super::error::{Completion, IpmiError};

/// Network functions (table 5-1).
const CHASSIS: u8 = 0x00;
const APP: u8 = 0x06;

/// Addresses on the management bus: the BMC's, and a remote console's (section 5.5).
const BMC: u8 = 0x20;
const CONSOLE: u8 = 0x81;

/// What is asked of a BMC in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    /// Set Session Privilege Level, to that level (section 22.18).
    Raise(u8),
    /// Get Chassis Status (section 28.2).
    Status,
    /// Chassis Control (section 28.3): cut the power at once, or switch it on.
    Control(PowerState),
    /// Get System GUID (section 22.14).
    Guid,
    /// Get Device ID (section 20.1).
    DeviceId,
    /// Close Session (section 22.19), with the BMC's session id.
    Close(u32),
}

impl Command {
    /// What it is called in the specification.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Raise(_) => "Set Session Privilege Level",
            Self::Status => "Get Chassis Status",
            Self::Control(PowerState::Off) => "Chassis Control (power down)",
            Self::Control(PowerState::On) => "Chassis Control (power up)",
            Self::Guid => "Get System GUID",
            Self::DeviceId => "Get Device ID",
            Self::Close(_) => "Close Session",
        }
    }

    fn function(self) -> u8 {
        match self {
            Self::Status | Self::Control(_) => CHASSIS,
            Self::Raise(_) | Self::Guid | Self::DeviceId | Self::Close(_) => APP,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Raise(_) => 0x3B,
            Self::Status => 0x01,
            Self::Control(_) => 0x02,
            Self::Guid => 0x37,
            Self::DeviceId => 0x01,
            Self::Close(_) => 0x3C,
        }
    }

    /// The LAN message that asks it (section 13.8).
    pub(super) fn request(self, rq_seq: u8) -> Vec<u8> {
        let mut message = vec![BMC, self.function() << 2];
        message.push(checksum(&message));
        let mut body = vec![CONSOLE, rq_seq << 2, self.number()];
        match self {
            Self::Raise(level) => body.push(level),
            Self::Control(PowerState::Off) => body.push(0x00),
            Self::Control(PowerState::On) => body.push(0x01),
            Self::Close(session) => body.extend(session.to_le_bytes()),
            Self::Status | Self::Guid | Self::DeviceId => {}
        }
        body.push(checksum(&body));
        message.extend(body);
        message
    }
}

/// An answer in a session, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    function: u8,
    number: u8,
    rq_seq: u8,
    pub(super) completion: Completion,
    pub(super) data: Vec<u8>,
}

impl Reply {
    /// Reads a LAN message. `None`: a checksum is wrong, or it is no answer to us.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let (head, body) = message.split_at_checked(3)?;
        // The addresses are not compared: the session's keys have proved who speaks, and some BMCs write odd ones.
        let &[_, function, _] = head else { return None };
        let &[_, sequence, number, completion, ref data @ .., _] = body else { return None };
        // The lowest bit of the function is set in answers; the two bits below it are a LUN, 0.
        let is_answer = function & 0x07 == 0x04;
        (sum(head) == 0 && sum(body) == 0 && is_answer).then(|| Self {
            function: (function >> 2) & !1,
            number,
            rq_seq: sequence >> 2,
            completion: Completion(completion),
            data: data.to_vec(),
        })
    }

    /// Whether it answers that command, asked under that number.
    pub(super) fn answers(&self, command: Command, rq_seq: u8) -> bool {
        self.rq_seq == rq_seq && self.function == command.function() && self.number == command.number()
    }
}

/// Who a BMC says it is (Get Device ID, section 20.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceId {
    /// Version of its firmware: major, and minor in binary-coded decimal.
    pub firmware: (u8, u8),
    /// Version of IPMI it speaks: major, minor.
    pub ipmi: (u8, u8),
    /// Its maker's enterprise number (IANA), 20 bits.
    pub manufacturer: u32,
    /// The maker's number for the product.
    pub product: u16,
}

/// The power, from the one bit that says it (table 28-3). Its three bytes must be there, or it is not that answer.
pub(super) fn power_state(data: &[u8]) -> Result<PowerState, IpmiError> {
    let &[power, _, _, ..] = data else { return Err(short(Command::Status, data)) };
    Ok(if power & 0x01 == 0 { PowerState::Off } else { PowerState::On })
}

/// Exactly sixteen bytes, as they came.
pub(super) fn guid(data: &[u8]) -> Result<[u8; 16], IpmiError> {
    data.try_into().map_err(|_| short(Command::Guid, data))
}

pub(super) fn device_id(data: &[u8]) -> Result<DeviceId, IpmiError> {
    let &[_, _, major, minor, ipmi, _, low, middle, high, product_low, product_high, ..] = data else {
        return Err(short(Command::DeviceId, data));
    };
    Ok(DeviceId {
        firmware: (major & 0x7F, minor),
        // Binary-coded decimal with the digits changed round: 02h is 2.0, 51h is 1.5.
        ipmi: (ipmi & 0x0F, ipmi >> 4),
        manufacturer: u32::from_le_bytes([low, middle, high & 0x0F, 0]),
        product: u16::from_le_bytes([product_low, product_high]),
    })
}

/// The privilege level that the session has now.
pub(super) fn privilege(data: &[u8]) -> Result<u8, IpmiError> {
    data.first()
        .map(|level| level & 0x0F)
        .ok_or(IpmiError::Length { command: "Set Session Privilege Level", length: data.len() })
}

fn short(command: Command, data: &[u8]) -> IpmiError {
    IpmiError::Length { command: command.name(), length: data.len() }
}

/// What makes the sum of all bytes zero (section 13.8).
fn checksum(bytes: &[u8]) -> u8 {
    0_u8.wrapping_sub(sum(bytes))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}
