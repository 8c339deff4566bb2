//! Whether a power order that failed was put on the wire.

use std::time::Duration;

use rekindle_proto::fact::PowerState;
use rekindle_tests::fake::bmc::Faults;

use super::world::{Net, World};

fn honest() -> World {
    World::new(1, Net::default(), Faults::default())
}

/// A proof rests on it (I2): only what was never put on the wire is said not to have been.
#[test]
fn it_is_known_of_every_failure_whether_the_order_left() {
    let full = || Faults { login_status: Some(0x01), ..Faults::default() };
    // (what is wrong, the network, whether a session stands already, whether the order left)
    let rows = [
        ("another password", Faults { other_password: true, ..Faults::default() }, Net::default(), false, false),
        ("no encryption", Faults { offers_no_encryption: true, ..Faults::default() }, Net::default(), false, false),
        ("a full table", full(), Net::default(), false, false),
        ("a locked user", Faults { login_status: Some(0x0D), ..Faults::default() }, Net::default(), false, false),
        ("no operator", Faults { raise_code: Some(0x81), ..Faults::default() }, Net::default(), false, false),
        ("nobody there", Faults::default(), Net { loss: 1.0, ..Net::default() }, false, false),
        (
            "too slow",
            Faults { answers_after: Duration::from_millis(300), ..Faults::default() },
            Net::default(),
            false,
            false,
        ),
        (
            "never an answer",
            Faults { answers_after: Duration::from_secs(60), ..Faults::default() },
            Net::default(),
            true,
            true,
        ),
        ("it dies", Faults::default(), Net { loss: 1.0, ..Net::default() }, true, true),
        ("busy", Faults { busy: (0xC0, u32::MAX), ..Faults::default() }, Net::default(), true, true),
    ];
    for (what, faults, net, stands, left) in rows {
        let mut world = honest();
        if stands {
            assert_eq!(world.reading(), Some(PowerState::On), "{what}");
        }
        *world.bmc.faults() = faults;
        world.net = net;
        let error = world.order(PowerState::Off).expect_err(what);
        assert_eq!(world.may_have_left, left, "{what}: {error}");
        world.sleep(Duration::from_secs(1));
        assert!(left || world.bmc.orders().is_empty(), "{what}");
    }
    // It was sent, and not answered; then the BMC has restarted, and refuses a new session.
    let mut world = honest();
    assert_eq!(world.reading(), Some(PowerState::On));
    world.bmc.faults().ignores_orders = true;
    world.net.loss = 1.0;
    world.order(PowerState::Off).expect_err("no answer");
    assert!(world.may_have_left);
    (world.net.loss, *world.bmc.faults()) = (0.0, full());
    world.may_have_left = false;
    world.sleep(Duration::from_secs(60));
    world.order(PowerState::Off).expect_err("no place");
    assert!(!world.may_have_left, "each call speaks of its own order");
}
