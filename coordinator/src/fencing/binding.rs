//! Whose machine is it? A device counts only while its GUID names the host's own machine (I2).

use rekindle_proto::fact::DeviceGuid;
use rekindle_proto::id::SystemUuid;

/// Whether a device's GUID bytes name this machine.
///
/// The same UUID comes over the wire in three orders: as RFC 9562 writes it; with its first three fields little-endian,
/// as SMBIOS stores it (DMTF DSP0134, section 7.2.1); or wholly reversed, as IPMI 2.0 section 20.8 asks. Vendors do
/// all three, and no flag says which. Accepting each costs nothing: that another machine's UUID equals ours
/// in a permuted order is as unlikely as a collision.
#[must_use]
pub fn guid_names(guid: DeviceGuid, machine: SystemUuid) -> bool {
    let uuid = *machine.0.as_bytes();
    let mut smbios = uuid;
    smbios[0..4].reverse();
    smbios[4..6].reverse();
    smbios[6..8].reverse();
    let mut reversed = uuid;
    reversed.reverse();
    let is_blank = uuid.iter().all(|byte| *byte == 0) || uuid.iter().all(|byte| *byte == 0xff);
    !is_blank && [uuid, smbios, reversed].contains(&guid.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn all_three_byte_orders_name_the_machine_and_nothing_else_does() {
        let machine = SystemUuid(Uuid::from_u128(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff));
        let rfc = *machine.0.as_bytes();
        let smbios = [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
        let mut reversed = rfc;
        reversed.reverse();
        for bytes in [rfc, smbios, reversed] {
            assert!(guid_names(DeviceGuid(bytes), machine));
        }
        let mut other = rfc;
        other[15] ^= 1;
        assert!(!guid_names(DeviceGuid(other), machine));
    }

    #[test]
    fn blank_uuids_name_nobody() {
        for byte in [0x00, 0xff] {
            assert!(!guid_names(DeviceGuid([byte; 16]), SystemUuid(Uuid::from_bytes([byte; 16]))));
        }
    }
}
