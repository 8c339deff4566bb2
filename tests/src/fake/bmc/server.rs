//! The loop: one packet in, at most one packet out, late if the behaviour says so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

use super::command::{self, Answer, Effect};
use super::session::{Outcome, User, named};
use super::wire::{self, Command, Packet, PayloadType, PlusPacket};
use super::{Behaviour, BmcRecordKind, Power, Shared, State};

/// Longest packet we read: no IPMI packet is longer than an Ethernet frame.
const PACKET_MAX: usize = 1500;
/// Commands under way at once; more are dropped, as by a BMC whose queue is full.
const COMMANDS_MAX: usize = 64;

/// A command whose answer takes time.
struct Pending {
    session: u32,
    command: Command,
    work: Work,
    delay: Duration,
}

enum Work {
    Status,
    Control { number: u8, late: Duration },
}

enum Next {
    Nothing,
    Send(Vec<u8>),
    Work(Pending),
}

impl From<Option<Vec<u8>>> for Next {
    fn from(packet: Option<Vec<u8>>) -> Self {
        packet.map_or(Self::Nothing, Self::Send)
    }
}

pub(super) async fn serve(shared: Arc<Shared>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let places = Arc::new(Semaphore::new(COMMANDS_MAX));
    let mut buffer = [0; PACKET_MAX];
    loop {
        // An error here is the echo of an earlier send to a port that is closed; the socket is still good.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        match receive(&shared, &buffer[..length]) {
            Next::Nothing => {}
            Next::Send(packet) => send(&socket, &packet, from).await,
            Next::Work(pending) => {
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
                tokio::spawn(async move {
                    if let Some(packet) = work(&shared, pending).await {
                        send(&socket, &packet, from).await;
                    }
                    drop(place);
                });
            }
        }
    }
}

/// A reply that cannot be sent is a reply that was lost: UDP promises no more.
async fn send(socket: &UdpSocket, packet: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(packet, to).await {
        tracing::debug!(%to, %error, "fake BMC could not answer");
    }
}

fn receive(shared: &Shared, bytes: &[u8]) -> Next {
    let mut state = shared.state();
    if state.behaviour == Behaviour::Silent {
        return Next::Nothing;
    }
    match wire::parse(bytes) {
        None => Next::Nothing,
        Some(Packet::Ping(tag)) => Next::Send(wire::pong(tag)),
        Some(Packet::Plain(message)) => Command::parse(message)
            .and_then(|command| {
                let (code, data) = command::outside(&command, &shared.guid());
                wire::plain(&command.reply(code, &data))
            })
            .into(),
        Some(Packet::Plus(packet)) if packet.session == 0 => handshake(shared, &mut state, &packet).into(),
        Some(Packet::Plus(packet)) => in_session(shared, &mut state, &packet).unwrap_or(Next::Nothing),
    }
}

fn handshake(shared: &Shared, state: &mut State, packet: &PlusPacket<'_>) -> Option<Vec<u8>> {
    if packet.encrypted || packet.authenticated {
        return None;
    }
    let now = Instant::now();
    let guid = shared.guid();
    let mut key = shared.settings.password.clone().into_bytes();
    if state.behaviour == Behaviour::WrongPassword {
        key.insert(0, b'!');
    }
    let names: Vec<&[u8]> = shared.settings.users().map(str::as_bytes).collect();
    let user = User { names: &names, key: &key, kg: None, guid: &guid };
    if packet.kind == PayloadType::Rakp1
        && state.silent_to.as_deref().is_some_and(|to| named(packet.payload) == Some(to))
    {
        return None;
    }
    let (kind, payload) = match packet.kind {
        PayloadType::OpenSession => (PayloadType::OpenSessionReply, state.sessions.open(packet.payload, now)?),
        PayloadType::Rakp1 => (PayloadType::Rakp2, state.sessions.rakp1(packet.payload, &user, now)?.1),
        PayloadType::Rakp3 => match state.sessions.rakp3(packet.payload, &user, now)?.1 {
            Outcome::Opened(payload) => {
                state.record(BmcRecordKind::SessionOpened);
                (PayloadType::Rakp4, payload)
            }
            Outcome::Refused(payload) => {
                state.record(BmcRecordKind::SessionRefused);
                (PayloadType::Rakp4, payload)
            }
        },
        PayloadType::Message | PayloadType::OpenSessionReply | PayloadType::Rakp2 | PayloadType::Rakp4 => return None,
    };
    wire::plus(kind, 0, 0, &payload, None)
}

fn in_session(shared: &Shared, state: &mut State, packet: &PlusPacket<'_>) -> Option<Next> {
    if packet.kind != PayloadType::Message || !packet.encrypted || !packet.authenticated {
        return None;
    }
    let silent_to = state.silent_to.clone();
    let session = state.sessions.active(packet.session, Instant::now())?;
    if silent_to.is_some_and(|to| to == session.user) {
        return None;
    }
    if !packet.proves(&session.keys) || !session.accepts(packet.sequence) {
        return None;
    }
    let command = Command::parse(&session.keys.open(packet.payload)?)?;
    let (level, level_max) = (session.privilege, session.privilege_max);
    match command::within(&command, level, &shared.guid()) {
        Effect::Reply(answer) => {
            if command.function == 0 {
                state.record(BmcRecordKind::Refused(answer.0));
            }
            reply(state, packet.session, &command, answer).map(Next::Send)
        }
        Effect::Raise(wanted) => {
            let answer = match command::raise(wanted, level, level_max) {
                Ok(level) => {
                    state.sessions.active(packet.session, Instant::now())?.privilege = level;
                    (command::OK, vec![level])
                }
                Err(code) => (code, Vec::new()),
            };
            reply(state, packet.session, &command, answer).map(Next::Send)
        }
        Effect::Close(which) => {
            // A console closes its own session; the answer still goes out under that session's keys.
            let answer = reply(state, packet.session, &command, command::closed(which == packet.session))?;
            if which == packet.session && state.sessions.close(which) {
                state.record(BmcRecordKind::SessionClosed);
            }
            Some(Next::Send(answer))
        }
        Effect::Status => chassis(state, packet.session, command, Work::Status),
        Effect::Control(number) => {
            chassis(state, packet.session, command, Work::Control { number, late: Duration::ZERO })
        }
    }
}

fn chassis(state: &mut State, session: u32, command: Command, mut work: Work) -> Option<Next> {
    if state.behaviour == Behaviour::Busy {
        state.record(BmcRecordKind::Refused(command::NODE_BUSY));
        return reply(state, session, &command, (command::NODE_BUSY, Vec::new())).map(Next::Send);
    }
    let mut delay = Duration::ZERO;
    if let Behaviour::Slow(by) = state.behaviour {
        delay = by;
    }
    if let Work::Control { number, late } = &mut work {
        state.record(BmcRecordKind::Ordered(*number));
        let user = state.sessions.active(session, Instant::now())?.user.clone();
        state.ordered_by.insert(String::from_utf8_lossy(&user).into_owned());
        if let Behaviour::ActsLate(by) = state.behaviour {
            *late = by;
        }
    }
    Some(Next::Work(Pending { session, command, work, delay }))
}

fn reply(state: &mut State, session: u32, command: &Command, answer: Answer) -> Option<Vec<u8>> {
    let session = state.sessions.active(session, Instant::now())?;
    let sequence = session.next_sequence();
    let message = command.reply(answer.0, &answer.1);
    wire::plus(PayloadType::Message, session.console, sequence, &message, Some(&session.keys))
}

async fn work(shared: &Arc<Shared>, pending: Pending) -> Option<Vec<u8>> {
    if !pending.delay.is_zero() {
        tokio::time::sleep(pending.delay).await;
    }
    let answer = match pending.work {
        Work::Status => status(shared),
        Work::Control { number, late } => control(shared, number, late).await,
    };
    let mut state = shared.state();
    if state.behaviour == Behaviour::Silent {
        return None;
    }
    reply(&mut state, pending.session, &pending.command, answer)
}

fn status(shared: &Shared) -> Answer {
    let mut state = shared.state();
    let answered = command::status_said(&state);
    state.record(BmcRecordKind::StatusRead { answered });
    (command::OK, command::status_bytes(answered))
}

async fn control(shared: &Arc<Shared>, number: u8, late: Duration) -> Answer {
    let (power, behaviour) = {
        let state = shared.state();
        (state.power, state.behaviour)
    };
    // A liar keeps to its story, also about what can be done to a machine that is off.
    let shown = if behaviour == Behaviour::LiesOff { Power::Off } else { power };
    let ordered = match command::control(number, shown) {
        Ok(ordered) => command::obeyed(behaviour, ordered),
        Err(code) => {
            shared.state().record(BmcRecordKind::Refused(code));
            return (code, Vec::new());
        }
    };
    if late.is_zero() {
        return (switch(shared, ordered).await, Vec::new());
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        tokio::time::sleep(late).await;
        switch(&shared, ordered).await;
    });
    (command::OK, Vec::new())
}

async fn switch(shared: &Shared, powers: &[Power]) -> u8 {
    match shared.switch(powers).await {
        Ok(()) => command::OK,
        Err(error) => {
            tracing::warn!(%error, "fake BMC: the power hook failed");
            command::UNSPECIFIED
        }
    }
}
