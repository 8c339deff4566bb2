//! The handshake: RMCP+ Open Session and RAKP messages 1 to 4 (IPMI 2.0, sections 13.17 to 13.24), without clock or I/O.
//!
//! Each question may be sent again, and each copy's answer is as good as another's: the tag, the session id and the
//! random numbers stay, and the kind of an answer says what it answers. A BMC that makes a new random number for a repeated RAKP message 1 is followed: the session is
//! made with the latest one that is signed with our password.

use super::error::{IpmiError, Status, StatusMeaning};
use super::login::Login;
use super::packet::{Kind, Packet, bare, u32_le};
use super::session::Session;
use super::suite::{CipherSuite, SessionKeys, same};

/// Find the user by name alone (section 13.20). The level that is asked for stands in the lower half.
const BY_NAME: u8 = 0x10;

/// Our word for "your message 2 was not signed right": the BMC then frees the session (section 13.22).
const INVALID_CHECK_VALUE: u8 = 0x0F;

/// Random bytes of each side.
const RANDOM: usize = 16;

/// What the console's side of a handshake begins with: fresh random bytes, and no others ever again.
pub(super) const SEED: usize = RANDOM + 5;

/// A session on its way.
pub(super) struct Handshake {
    suite: CipherSuite,
    console: u32,
    random: [u8; RANDOM],
    tag: u8,
    stage: Stage,
}

enum Stage {
    /// Open Session Request was sent.
    Opening,
    /// RAKP message 1 was sent.
    Naming { bmc: u32 },
    /// RAKP message 3 was sent; with the right message 4 the session is open.
    Proving(Box<Proof>),
}

struct Proof {
    bmc: u32,
    bmc_random: [u8; RANDOM],
    guid: [u8; 16],
    keys: SessionKeys,
}

/// What an answer comes to.
pub(super) enum Progress {
    /// It is not ours, or of no use: as if it had not come.
    Nothing,
    /// The next question is to be sent.
    Next,
    /// The session is open, at user level.
    Open(Box<Session>),
    /// The BMC refused, and the handshake is over.
    Refused(StatusMeaning, IpmiError),
}

impl Handshake {
    pub(super) fn new(suite: CipherSuite, seed: &[u8; SEED]) -> Self {
        let mut random = [0; RANDOM];
        random.copy_from_slice(&seed[..RANDOM]);
        // Zero would be "no session".
        let console = u32_le(seed, RANDOM).unwrap_or(0).max(1);
        Self { suite, console, random, tag: seed[SEED - 1], stage: Stage::Opening }
    }

    /// What is asked now.
    pub(super) fn name(&self) -> &'static str {
        match self.stage {
            Stage::Opening => "RMCP+ Open Session Request",
            Stage::Naming { .. } => "RAKP message 1",
            Stage::Proving(_) => "RAKP message 3",
        }
    }

    /// The question that waits for an answer, to be sent as often as need be.
    pub(super) fn question(&self, login: &Login) -> Option<Vec<u8>> {
        match &self.stage {
            Stage::Opening => {
                let mut payload = vec![self.tag, login.level(), 0, 0];
                payload.extend(self.console.to_le_bytes());
                for (kind, algorithm) in (0_u8..).zip(self.suite.algorithms()) {
                    payload.extend([kind, 0, 0, 8, algorithm, 0, 0, 0]);
                }
                bare(Kind::OpenSession, &payload)
            }
            Stage::Naming { bmc } => {
                let mut payload = vec![self.tag, 0, 0, 0];
                payload.extend(bmc.to_le_bytes());
                payload.extend(self.random);
                payload.extend([role(login), 0, 0, login.name_len()]);
                payload.extend_from_slice(login.name());
                bare(Kind::Rakp1, &payload)
            }
            Stage::Proving(proof) => {
                let code = self.suite.hmac(
                    login.user_key(),
                    &[&proof.bmc_random, &self.console.to_le_bytes(), &[role(login), login.name_len()], login.name()],
                );
                self.rakp3(proof.bmc, 0, &code)
            }
        }
    }

    /// Tells the BMC that the session will not be used, so that it need not keep a place for it: after message 3 the
    /// session may be open already.
    pub(super) fn abandon(&self, iv: &[u8; 16]) -> Option<Vec<u8>> {
        match &self.stage {
            Stage::Opening => None,
            Stage::Naming { bmc } => self.rakp3(*bmc, INVALID_CHECK_VALUE, &[]),
            Stage::Proving(proof) => super::session::close(proof.bmc, &proof.keys, iv),
        }
    }

    fn rakp3(&self, bmc: u32, status: u8, code: &[u8]) -> Option<Vec<u8>> {
        let mut payload = vec![self.tag, status, 0, 0];
        payload.extend(bmc.to_le_bytes());
        payload.extend_from_slice(code);
        bare(Kind::Rakp3, &payload)
    }

    /// Takes an answer. Those of no session are unsigned, so their tag and our session id are all that makes them ours.
    pub(super) fn receive(&mut self, login: &Login, packet: &Packet<'_>) -> Progress {
        if packet.session != 0 || packet.encrypted || packet.authenticated {
            return Progress::Nothing;
        }
        let payload = packet.payload;
        match (packet.kind, &self.stage) {
            (Kind::OpenSessionReply, Stage::Opening) => self.opened(payload),
            (Kind::Rakp2, Stage::Naming { bmc }) => {
                let bmc = *bmc;
                self.named(login, bmc, payload)
            }
            (Kind::Rakp2, Stage::Proving(proof)) => {
                let (bmc, known) = (proof.bmc, proof.bmc_random);
                self.named_again(login, bmc, known, payload)
            }
            (Kind::Rakp4, Stage::Proving(_)) => self.proven(payload),
            (
                Kind::Message
                | Kind::OpenSession
                | Kind::OpenSessionReply
                | Kind::Rakp1
                | Kind::Rakp2
                | Kind::Rakp3
                | Kind::Rakp4,
                Stage::Opening | Stage::Naming { .. } | Stage::Proving(_),
            ) => Progress::Nothing,
        }
    }

    /// What follows tag, status, two reserved bytes and our session id. `Err`: it is not ours, or a refusal.
    fn body<'a>(&self, payload: &'a [u8]) -> Result<&'a [u8], Progress> {
        let &[tag, status, ..] = payload else { return Err(Progress::Nothing) };
        // A refusal may end before our session id, or name none.
        let is_ours = match u32_le(payload, 4) {
            Some(console) => console == self.console || (console == 0 && status != 0),
            None => status != 0,
        };
        if tag != self.tag || !is_ours {
            return Err(Progress::Nothing);
        }
        if status == 0 {
            return payload.get(8..).ok_or(Progress::Nothing);
        }
        let status = Status(status);
        let meaning = match (status.meaning(), &self.stage) {
            // It has signed message 2 with our password, so the password is not what is wrong with message 3.
            (StatusMeaning::Credentials, Stage::Proving(_)) if status.0 == INVALID_CHECK_VALUE => StatusMeaning::Lost,
            (meaning, _) => meaning,
        };
        let error = match meaning {
            StatusMeaning::Suite => IpmiError::NoSuite { suite: self.suite, status },
            StatusMeaning::Full | StatusMeaning::Lost | StatusMeaning::Credentials | StatusMeaning::Refused => {
                IpmiError::Handshake { asked: self.name(), status }
            }
        };
        Err(Progress::Refused(meaning, error))
    }

    fn opened(&mut self, payload: &[u8]) -> Progress {
        let body = match self.body(payload) {
            Ok(body) => body,
            Err(progress) => return progress,
        };
        let (Some(bmc), Some(algorithms)) = (u32_le(body, 0), body.get(4..28)) else { return Progress::Nothing };
        if bmc == 0 {
            return Progress::Nothing;
        }
        let got = [algorithms[4] & 0x3F, algorithms[12] & 0x3F, algorithms[20] & 0x3F];
        let kinds = [algorithms[0], algorithms[8], algorithms[16]];
        if got != self.suite.algorithms() || kinds != [0, 1, 2] {
            let error = IpmiError::Downgrade { suite: self.suite, got };
            return Progress::Refused(StatusMeaning::Credentials, error);
        }
        self.stage = Stage::Naming { bmc };
        Progress::Next
    }

    fn named(&mut self, login: &Login, bmc: u32, payload: &[u8]) -> Progress {
        let body = match self.body(payload) {
            Ok(body) => body,
            Err(progress) => return progress,
        };
        if body.len() < 2 * RANDOM + self.suite.hmac_len() {
            return Progress::Nothing;
        }
        match self.proof(login, bmc, body) {
            Some(proof) => {
                self.stage = Stage::Proving(Box::new(proof));
                Progress::Next
            }
            None => Progress::Refused(StatusMeaning::Credentials, IpmiError::Password),
        }
    }

    /// A second message 2 counts only if it is signed and not the one we know.
    fn named_again(&mut self, login: &Login, bmc: u32, known: [u8; RANDOM], payload: &[u8]) -> Progress {
        let Ok(body) = self.body(payload) else { return Progress::Nothing };
        match self.proof(login, bmc, body) {
            Some(proof) if proof.bmc_random != known => {
                self.stage = Stage::Proving(Box::new(proof));
                Progress::Next
            }
            Some(_) | None => Progress::Nothing,
        }
    }

    /// The keys, if message 2 is signed with our password.
    fn proof(&self, login: &Login, bmc: u32, body: &[u8]) -> Option<Proof> {
        let bmc_random: [u8; RANDOM] = body.get(..RANDOM)?.try_into().ok()?;
        let guid: [u8; 16] = body.get(RANDOM..2 * RANDOM)?.try_into().ok()?;
        let code = body.get(2 * RANDOM..2 * RANDOM + self.suite.hmac_len())?;
        let named = [role(login), login.name_len()];
        let (console_id, bmc_id) = (self.console.to_le_bytes(), bmc.to_le_bytes());
        let wanted = self
            .suite
            .hmac(login.user_key(), &[&console_id, &bmc_id, &self.random, &bmc_random, &guid, &named, login.name()]);
        if !same(&wanted, code) {
            return None;
        }
        let parts: [&[u8]; 4] = [&self.random, &bmc_random, &named, login.name()];
        Some(Proof { bmc, bmc_random, guid, keys: SessionKeys::new(self.suite, login.session_key(), &parts) })
    }

    fn proven(&mut self, payload: &[u8]) -> Progress {
        let body = match self.body(payload) {
            Ok(body) => body,
            Err(progress) => return progress,
        };
        let Stage::Proving(proof) = &self.stage else { return Progress::Nothing };
        let wanted = proof.keys.check_value(&[&self.random, &proof.bmc.to_le_bytes(), &proof.guid]);
        let Some(code) = body.get(..self.suite.code_len()) else { return Progress::Nothing };
        if !same(&wanted, code) {
            return Progress::Refused(StatusMeaning::Credentials, IpmiError::Kg);
        }
        let Stage::Proving(proof) = std::mem::replace(&mut self.stage, Stage::Opening) else {
            return Progress::Nothing;
        };
        Progress::Open(Box::new(Session::new(self.console, proof.bmc, proof.keys)))
    }
}

/// What message 1 says of the privilege, and what both sides sign.
fn role(login: &Login) -> u8 {
    BY_NAME | login.level()
}
