//! Bytes: against sessions that `ipmitool` had with others (`recorded/`), so that both ends are strangers to this code;
//! and against what no honest BMC sends. The conversation is tried in `tests/tests/fence_ipmi`, against BMCs.

use std::os::unix::fs::PermissionsExt;

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use rekindle_proto::fact::{DeviceError, PowerState};

use super::super::{Endpoint, IpmiSettings, Privilege, SecretSource};
use super::command::{self, Command, Reply};
use super::error::{Completion, IpmiError, Meaning, Status, StatusMeaning};
use super::login::Login;
use super::packet::{DATAGRAM_MAX, parse};
use super::rakp::{Handshake, Progress, SEED};
use super::session::Session;
use super::suite::{CipherSuite, SessionKeys};

const RECORDED: [(CipherSuite, &str); 2] = [
    (CipherSuite::Sha256, include_str!("recorded/suite-17.txt")),
    (CipherSuite::Sha1, include_str!("recorded/suite-3.txt")),
];
const PASSWORD: &[u8] = b"Bmc-Pa55w0rd";
const KG: &[u8] = b"a-key-of-the-BMC";

/// One question and its answer.
struct Pair {
    name: String,
    question: Vec<u8>,
    answer: Vec<u8>,
}

fn pairs(text: &str) -> Vec<Pair> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
        digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect()
    };
    lines
        .chunks(2)
        .map(|pair| {
            let (name, question) = pair[0].split_once(" > ").expect("a question");
            let (_, answer) = pair[1].split_once(" < ").expect("its answer");
            Pair { name: name.to_owned(), question: bytes(question), answer: bytes(answer) }
        })
        .collect()
}

fn login(password: &[u8], kg: Option<&[u8]>) -> Login {
    Login::new("admin", password.to_vec(), kg.map(<[u8]>::to_vec), &CipherSuite::PREFERENCE, Privilege::Operator)
        .expect("legal")
}

/// Our side of a recorded handshake: with the console's id, random number and tag as they were.
fn console_of(suite: CipherSuite, pairs: &[Pair]) -> Handshake {
    let mut seed = [0; SEED];
    seed[..16].copy_from_slice(&pairs[1].question[24..40]);
    seed[16..20].copy_from_slice(&pairs[0].question[20..24]);
    Handshake::new(suite, &seed)
}

fn receive(handshake: &mut Handshake, login: &Login, datagram: &[u8]) -> Progress {
    parse(datagram).map_or(Progress::Nothing, |packet| handshake.receive(login, &packet))
}

/// Plays the recorded answers into a handshake and sees that its questions are the recorded ones.
fn opened(suite: CipherSuite, pairs: &[Pair]) -> Session {
    let login = login(PASSWORD, Some(KG));
    let mut handshake = console_of(suite, pairs);
    for pair in &pairs[..2] {
        assert_eq!(handshake.question(&login).as_ref(), Some(&pair.question), "{suite:?} {}", pair.name);
        assert!(matches!(receive(&mut handshake, &login, &pair.answer), Progress::Next), "{suite:?} {}", pair.name);
    }
    assert_eq!(handshake.question(&login).as_ref(), Some(&pairs[2].question), "{suite:?} RAKP message 3");
    match receive(&mut handshake, &login, &pairs[2].answer) {
        Progress::Open(session) => *session,
        Progress::Nothing | Progress::Next | Progress::Refused(..) => panic!("{suite:?}: message 4 was not accepted"),
    }
}

#[test]
fn byte_for_byte_what_ipmitool_said_and_its_bmcs_answers_are_understood() {
    for (suite, text) in RECORDED {
        let pairs = pairs(text);
        assert_eq!(pairs.len(), 6);
        let mut session = opened(suite, &pairs);
        for pair in &pairs[3..] {
            let (name, rq_seq) = pair.name.split_once(' ').expect("a request number");
            let rq_seq: u8 = rq_seq.parse().expect("a number");
            let bmc = u32::from_le_bytes(pairs[1].question[20..24].try_into().expect("four bytes"));
            let command = match name {
                "raise" => Command::Raise(3),
                "status" => Command::Status,
                "close" => Command::Close(bmc),
                _ => panic!("{name}?"),
            };
            // It counts the handshake's packets too, and had other questions between.
            let iv: [u8; 16] = pair.question[16..32].try_into().expect("an IV");
            let is_it = |ours: &Vec<u8>| ours[10..14] == pair.question[10..14];
            let ours = (0..20).find_map(|_| session.question(command, rq_seq, &iv).filter(is_it));
            assert_eq!(ours.as_ref(), Some(&pair.question), "{suite:?} {name}");
            let packet = parse(&pair.answer).expect("a packet");
            let reply = session.receive(&packet).expect("an answer of this session");
            assert!(reply.answers(command, rq_seq) && !reply.answers(command, rq_seq + 1));
            assert!(session.receive(&packet).is_none(), "an answer counted twice");
            match name {
                "raise" => assert_eq!(command::privilege(&reply.data), Ok(3)),
                "status" => assert_eq!(command::power_state(&reply.data), Ok(PowerState::On)),
                _ => {}
            }
        }
    }
}

#[test]
fn another_password_or_kg_is_noticed_where_it_shows() {
    for (suite, text) in RECORDED {
        let pairs = pairs(text);
        for (login, ends) in [
            (login(b"bmc-Pa55w0rd", Some(KG)), IpmiError::Password),
            (login(PASSWORD, Some(b"b-key-of-the-BMC")), IpmiError::Kg),
            (login(PASSWORD, None), IpmiError::Kg),
        ] {
            let mut handshake = console_of(suite, &pairs);
            let refused = pairs[..3].iter().find_map(|pair| match receive(&mut handshake, &login, &pair.answer) {
                Progress::Refused(meaning, error) => Some((meaning, error)),
                Progress::Nothing | Progress::Next => None,
                Progress::Open(_) => panic!("{suite:?}: a session opened in spite of {ends}"),
            });
            assert_eq!(refused, Some((StatusMeaning::Credentials, ends)), "{suite:?}");
        }
    }
}

#[test]
fn a_weaker_session_than_asked_for_is_not_opened() {
    for (suite, text) in RECORDED {
        let pairs = pairs(text);
        for at in [32, 40, 48] {
            for weaker in [0, 1, 2, 3] {
                let mut answer = pairs[0].answer.clone();
                if answer[at] == weaker {
                    continue;
                }
                answer[at] = weaker;
                let mut handshake = console_of(suite, &pairs);
                let progress = receive(&mut handshake, &login(PASSWORD, Some(KG)), &answer);
                let refused = matches!(progress, Progress::Refused(_, IpmiError::Downgrade { .. }));
                assert!(refused, "{suite:?}: algorithm {weaker} at {at}");
            }
        }
    }
    for number in 0..=255 {
        let known = CipherSuite::from_number(number);
        assert_eq!(known.is_ok(), matches!(number, 3 | 17), "suite {number}");
        assert!(known.is_err() || known.is_ok_and(|suite| suite.number() == number));
    }
}

#[test]
fn a_repeated_message_2_with_another_random_number_is_followed_and_a_forged_one_is_not() {
    let (suite, text) = RECORDED[0];
    let pairs = pairs(text);
    let login = login(PASSWORD, Some(KG));
    let mut handshake = console_of(suite, &pairs);
    receive(&mut handshake, &login, &pairs[0].answer);
    assert!(matches!(receive(&mut handshake, &login, &pairs[1].answer), Progress::Next));
    let before = handshake.question(&login).expect("message 3");
    assert!(matches!(receive(&mut handshake, &login, &pairs[1].answer), Progress::Nothing), "the same again");
    let mut other = pairs[1].answer.clone();
    other[24] ^= 1;
    assert!(matches!(receive(&mut handshake, &login, &other), Progress::Nothing), "not signed");
    assert_eq!(handshake.question(&login), Some(before.clone()));
    // Signed anew: console id, BMC id, our random number, its random number, GUID, role, name.
    let named = [&[0x13, 5][..], b"admin"].concat();
    let (ours, bmc) = (&pairs[1].question[24..40], &pairs[1].question[20..24]);
    let code = suite.hmac(PASSWORD, &[&other[20..24], bmc, ours, &other[24..40], &other[40..56], &named]);
    other[56..].copy_from_slice(&code);
    assert!(matches!(receive(&mut handshake, &login, &other), Progress::Next));
    assert_ne!(handshake.question(&login), Some(before));
}

/// Whether a datagram says what the recorded one does: the RMCP header's reserved byte and sequence number, the sequence
/// number outside a session, two reserved bytes, and what follows the end, say nothing.
fn means(datagram: &[u8], recorded: &[u8]) -> bool {
    let says = |(at, _): &(usize, &u8)| !matches!(at, 1 | 2 | 10..=13 | 18 | 19);
    datagram.len() >= recorded.len()
        && datagram.iter().enumerate().filter(says).zip(recorded.iter().enumerate().filter(says)).all(|(a, b)| a == b)
}

/// Each bit of each recorded answer turned round: nothing opens, nothing is believed, nothing panics.
#[test]
fn no_answer_with_a_changed_bit_is_believed() {
    for (suite, text) in RECORDED {
        let pairs = pairs(text);
        let login = login(PASSWORD, Some(KG));
        for (step, pair) in pairs.iter().enumerate() {
            for bit in 4 * 8..pair.answer.len() * 8 {
                let mut answer = pair.answer.clone();
                answer[bit / 8] ^= 1 << (bit % 8);
                if step >= 3 {
                    let mut session = opened(suite, &pairs);
                    let believed = parse(&answer).and_then(|packet| session.receive(&packet));
                    assert_eq!(believed, None, "{suite:?} {} bit {bit}", pair.name);
                    continue;
                }
                let mut handshake = console_of(suite, &pairs);
                for pair in &pairs[..step] {
                    receive(&mut handshake, &login, &pair.answer);
                }
                let progress = receive(&mut handshake, &login, &answer);
                let is_open = matches!(progress, Progress::Open(_));
                assert!(!is_open || means(&answer, &pair.answer), "{suite:?} {} bit {bit}", pair.name);
                // Message 1's answer is signed but for its header, tag and reserved bytes.
                let is_signed = step == 1 && bit >= 20 * 8;
                assert!(!is_signed || !matches!(progress, Progress::Next), "{suite:?} {} bit {bit}", pair.name);
            }
        }
    }
}

#[test]
fn no_bytes_make_it_panic_or_open() {
    let seed = 0x1B41_5EED;
    println!("seed {seed:#x}");
    let mut random = StdRng::seed_from_u64(seed);
    let login = login(PASSWORD, Some(KG));
    let recorded: Vec<(CipherSuite, Vec<Pair>)> = RECORDED.map(|(suite, text)| (suite, pairs(text))).into();
    for round in 0..40_000_usize {
        let (suite, pairs) = &recorded[round % 2];
        let mut bytes = pairs[random.random_range(0..pairs.len())].answer.clone();
        match round % 3 {
            0 => {
                bytes.resize(random.random_range(0..DATAGRAM_MAX + 20), 0);
                let from = random.random_range(0..=bytes.len());
                random.fill_bytes(&mut bytes[from..]);
            }
            1 => bytes.truncate(random.random_range(0..bytes.len())),
            _ => {
                for _ in 0..random.random_range(1..6) {
                    let at = random.random_range(4..bytes.len());
                    bytes[at] ^= random.random_range(1..=255_u8);
                }
            }
        }
        let steps = random.random_range(0..3);
        let mut handshake = console_of(*suite, pairs);
        for pair in &pairs[..steps] {
            receive(&mut handshake, &login, &pair.answer);
        }
        let is_open = matches!(receive(&mut handshake, &login, &bytes), Progress::Open(_));
        assert!(!is_open || pairs.iter().any(|pair| means(&bytes, &pair.answer)), "round {round}");
        if round % 50 == 0 {
            let mut session = opened(*suite, pairs);
            assert!(
                parse(&bytes).and_then(|packet| session.receive(&packet)).is_none_or(|reply| reply.data.len() < 256)
            );
        }
        let _ = Reply::parse(&bytes);
        for read in
            [command::power_state(&bytes).is_ok(), command::guid(&bytes).is_ok(), command::device_id(&bytes).is_ok()]
        {
            assert!(!read || bytes.len() >= 3);
        }
    }
}

#[test]
fn what_is_encrypted_is_read_at_every_length_and_padding_is_checked() {
    for (suite, _) in RECORDED {
        let keys = SessionKeys::new(suite, b"key", &[b"a"]);
        for length in 0..70_u8 {
            let plain: Vec<u8> = (0..length).collect();
            let sealed = keys.encrypt(&[length; 16], &plain).expect("encrypts");
            assert_eq!(sealed.len() % 16, 0);
            assert_eq!(keys.decrypt(&sealed), Some(plain), "{suite:?} {length}");
            assert_eq!(keys.decrypt(&sealed[..sealed.len() - 1]), None, "not whole blocks");
        }
        assert_eq!(keys.decrypt(&[0; 16]), None, "an IV and nothing");
    }
}

#[test]
fn a_request_number_is_not_used_again_while_an_answer_to_it_may_come() {
    let (suite, text) = RECORDED[0];
    let pairs = pairs(text);
    let mut session = opened(suite, &pairs);
    for number in 0..64 {
        assert_eq!(session.next_question(), Some(number));
    }
    assert_eq!(session.next_question(), Some(0), "nothing was sent, so nothing is owed");
    for number in 1..64 {
        assert_eq!(session.next_question(), Some(number));
    }
    session.question(Command::Status, 63, &[0; 16]).expect("sent");
    assert_eq!(session.next_question(), None, "its answer may yet come");
}

#[test]
fn codes_mean_what_the_specification_says() {
    for (code, meaning) in [
        (0x00, Meaning::Done),
        (0xC0, Meaning::Busy),
        (0xC3, Meaning::Busy),
        (0xD5, Meaning::NotInThisState),
        (0xD4, Meaning::Privilege),
        (0xC1, Meaning::Refused),
        (0xCC, Meaning::Refused),
        (0x80, Meaning::Refused),
        (0xFF, Meaning::Refused),
    ] {
        assert_eq!(Completion(code).meaning(), meaning, "{code:#x}");
    }
    for (status, meaning) in [
        (0x01, StatusMeaning::Full),
        (0x02, StatusMeaning::Lost),
        (0x04, StatusMeaning::Suite),
        (0x11, StatusMeaning::Suite),
        (0x0D, StatusMeaning::Credentials),
        (0x12, StatusMeaning::Refused),
    ] {
        assert_eq!(Status(status).meaning(), meaning, "{status:#x}");
    }
}

#[test]
fn errors_are_of_the_kind_that_they_are_and_tell_what_to_do() {
    let kind = |error: IpmiError| DeviceError::from(error);
    assert_eq!(kind(IpmiError::TooLate), DeviceError::TooLate);
    assert!(matches!(kind(IpmiError::Password), DeviceError::Credentials(_)));
    assert!(matches!(kind(IpmiError::Level { wanted: 3, level: 2 }), DeviceError::Credentials(_)));
    let silent = kind(IpmiError::Silent { asked: "Chassis Control (power down)", ordered: true });
    assert!(silent.to_string().contains("may yet be carried out"), "{silent}");
    let full = kind(IpmiError::Handshake { asked: "RAKP message 1", status: Status(0x01) });
    assert!(matches!(&full, DeviceError::Refused(_)) && full.to_string().contains("no resources"), "{full}");
    assert!(matches!(kind(IpmiError::Length { command: "x", length: 0 }), DeviceError::Unusable(_)));
}

#[test]
fn answers_of_the_wrong_length_say_nothing() {
    assert!(command::power_state(&[0, 0]).is_err() && command::power_state(&[]).is_err());
    assert_eq!(command::power_state(&[0x00, 0, 0]), Ok(PowerState::Off));
    assert_eq!(command::power_state(&[0x61, 0, 0, 0]), Ok(PowerState::On));
    assert_eq!(command::power_state(&[0x60, 0x10, 0x40]), Ok(PowerState::Off));
    for length in (0..40).filter(|length| *length != 16) {
        assert!(command::guid(&vec![7; length]).is_err(), "{length}");
    }
    let id = command::device_id(&[0x20, 0x81, 0x82, 0x15, 0x02, 0xBF, 0xA2, 0x02, 0xF0, 0x00, 0x01, 0, 0, 0, 0]);
    let id = id.expect("whole");
    assert_eq!((id.firmware, id.ipmi, id.manufacturer, id.product), ((2, 0x15), (2, 0), 674, 0x0100));
}

#[test]
fn keys_are_read_from_files_and_never_shown() {
    let dir = tempfile::tempdir().expect("dir");
    let file = |name: &str, text: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("mode");
        SecretSource::File(path)
    };
    let settings = |password: &[u8], k_g: Option<&[u8]>| IpmiSettings {
        endpoint: Endpoint::parse("10.0.0.1", 623).expect("legal"),
        username: "admin".to_owned(),
        password: file("password", password),
        k_g: k_g.map(|k_g| file("k_g", k_g)),
        cipher_suites: vec![17, 3],
        privilege: Privilege::Administrator,
    };
    let read = |password: &[u8], k_g: Option<&[u8]>| Login::read(&settings(password, k_g));
    assert_eq!(read(b"secret\n", None).expect("reads").user_key(), b"secret");
    assert_eq!(read(b"secret\r\nmore", None).expect("reads").session_key(), b"secret");
    assert_eq!(read(b"s", Some(b"0x00ff0A\n")).expect("reads").session_key(), [0, 255, 10]);
    assert_eq!(read(b"s", Some(b"plain key")).expect("reads").session_key(), b"plain key");
    assert_eq!(read(b"s", None).expect("reads").level(), 4);
    for (password, k_g) in [
        (&b"\n"[..], None),
        (b"123456789012345678901", None),
        (b"s", Some(&b""[..])),
        (b"s", Some(b"0x0")),
        (b"s", Some(b"0xzz")),
        (b"s", Some(b"0x+1")),
        (b"s", Some(b"123456789012345678901")),
    ] {
        let error = read(password, k_g).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| !error.contains("12345")), "{password:?} {k_g:?}: {error:?}");
    }
    let weak = IpmiSettings { cipher_suites: vec![17, 0], ..settings(b"s", None) };
    assert!(Login::read(&weak).err().is_some_and(|error| error.to_string().contains("checks no password")));
}
