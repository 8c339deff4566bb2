//! What a BMC says, or what somebody says in its name: whatever comes in between, the true answer is found, and a power
//! state is never made of rubbish.

use std::time::Duration;

use bolero::check;
use rekindle_agent::bmc::Privilege;
use rekindle_agent::bmc::ipmi::{Answer, Ask, CipherSuite, Console, Login, Step, Times};
use rekindle_coordinator::time::Moment;
use rekindle_proto::fact::PowerState;
use rekindle_tests::fake::bmc::{Faults, Model};

use super::{BYTES_MAX, Bruise, INPUTS, bruised};

const END: Moment = Moment::from_micros(5_000_000);

/// A console that asks for the power of a machine that is on. `between` may put something before each answer.
fn asked(suite: CipherSuite, mut between: impl FnMut(&[u8]) -> Vec<Vec<u8>>) -> Option<Answer> {
    let login = Login::new("admin", b"secret".to_vec(), None, &[suite], Privilege::Operator).expect("legal");
    let mut next = 0_u8;
    let entropy = Box::new(move |bytes: &mut [u8]| {
        for byte in bytes {
            next = next.wrapping_add(1);
            *byte = next;
        }
        true
    });
    let mut console = Console::new(login, entropy);
    let mut bmc = Model::new("admin", "secret", [7; 16], Faults::default());
    let mut now = Moment::ZERO;
    console.begin(now, Ask::Power, Times { begin_before: END, end: END });
    loop {
        match console.poll(now) {
            Step::Send(question) => {
                let answer = bmc.handle(Duration::from_micros(now.as_micros()), &question);
                for datagram in between(answer.as_ref().map_or(&[], |(_, answer)| answer)) {
                    console.receive(now, &datagram);
                }
                if let Some((_, answer)) = answer {
                    console.receive(now, &answer);
                }
            }
            Step::Wait(until) => now = until,
            Step::Done(result) => return result.ok(),
            Step::Idle => panic!("the call was lost"),
        }
    }
}

const SUITES: [CipherSuite; 2] = CipherSuite::PREFERENCE;
const ON: Option<Answer> = Some(Answer::Power(PowerState::On));

#[test]
fn rubbish_of_a_bmc_changes_nothing() {
    check!().with_iterations(INPUTS / 4).with_max_len(BYTES_MAX).for_each(|bytes: &[u8]| {
        let suite = SUITES[bytes.len() % 2];
        // Behind a right header too, so that what lies behind it is reached.
        let framed = |answer: &[u8]| [&answer[..answer.len().min(16)], bytes].concat();
        assert_eq!(asked(suite, |_| vec![bytes.to_vec()]), ON);
        let told = asked(suite, |answer| vec![framed(answer)]);
        assert!(told.is_none() || told == ON, "{told:?}");
    });
}

/// A damaged answer may end a call with an error (a refusal in the handshake is not signed), and may not make "off" of "on".
#[test]
fn a_damaged_answer_of_a_bmc_is_no_other_answer() {
    check!().with_iterations(INPUTS / 4).with_type::<(u8, Bruise)>().for_each(|(step, bruise)| {
        let mut at = 0;
        let told = asked(SUITES[usize::from(step / 8) % 2], |answer| {
            at += 1;
            if at % 8 == usize::from(step % 8) { vec![bruised(&[answer.to_vec()], bruise)] } else { Vec::new() }
        });
        assert!(told.is_none() || told == ON, "{told:?}");
    });
    for suite in SUITES {
        assert_eq!(asked(suite, |answer| vec![answer.to_vec()]), ON, "each answer twice");
    }
}
