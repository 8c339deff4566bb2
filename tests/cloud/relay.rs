//! A relay between the daemons and nova-api: it passes on what it is given, remembers it, and can hold a call or its answer
//! for as long as a test wants, also when whoever called is dead by then. So a slow proxy or a full queue behaves.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cloud::now_us;

/// What a test forgot to release is dropped after it, so that a failed case does not stop the next.
const HELD_AT_MOST: Duration = Duration::from_secs(240);

/// Largest body of a call that is taken: rekindle's are a few hundred bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What is held: the call before Nova hears of it, or the answer before the caller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Call,
    Answer,
}

/// Which calls: by method, and by words in path and body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Like {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) body: &'static str,
}

impl Like {
    /// Evacuate calls.
    pub(crate) const EVACUATE: Self = Self { method: "POST", path: "/action", body: "\"evacuate\"" };
    /// Calls that start a server.
    pub(crate) const START: Self = Self { method: "POST", path: "/action", body: "\"os-start\"" };
    /// Calls that unlock a server.
    pub(crate) const UNLOCK: Self = Self { method: "POST", path: "/action", body: "\"unlock\"" };
    /// What is written about a compute service.
    pub(crate) const SERVICE: Self = Self { method: "PUT", path: "/os-services/", body: "forced_down" };
    /// Calls that make a host a member of an aggregate.
    pub(crate) const JOIN: Self = Self { method: "POST", path: "/os-aggregates/", body: "add_host" };
    /// Looks at the list of migrations.
    pub(crate) const MIGRATIONS: Self = Self { method: "GET", path: "/os-migrations", body: "" };

    fn fits(&self, seen: &Seen) -> bool {
        seen.method == self.method && seen.path.contains(self.path) && seen.body.contains(self.body)
    }
}

/// A call that came by.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) us: i64,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: String,
    pub(crate) token: String,
    /// `None`: not answered, or not passed on yet.
    pub(crate) status: Option<u16>,
}

#[derive(Debug)]
struct Held {
    like: Like,
    side: Side,
    /// How many that fit are let go before.
    skip: usize,
    /// The one after them alone, or all from then on.
    only_one: bool,
    reached: bool,
    released: bool,
}

#[derive(Debug, Default)]
struct State {
    seen: Vec<Seen>,
    held: Vec<Held>,
}

/// The relay; it runs until the test's process ends.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    upstream: SocketAddr,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Relay {
    /// Listens on a free port of loopback.
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let relay = Self { address, upstream, shared: Arc::default() };
        let of_thread = relay.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let relay = of_thread.clone();
                // A broken connection is the caller's, or Nova's, who then sees it broken too.
                std::thread::spawn(move || drop(relay.serve(client)));
            }
        });
        relay
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the `nth` call of those that fit from now on (from 1), or its answer.
    pub(crate) fn hold(&self, side: Side, like: Like, nth: usize) -> usize {
        self.held(Held { like, side, skip: nth - 1, only_one: true, reached: false, released: false })
    }

    /// Holds all that fit from now on.
    pub(crate) fn hold_all(&self, side: Side, like: Like) -> usize {
        self.held(Held { like, side, skip: 0, only_one: false, reached: false, released: false })
    }

    fn held(&self, held: Held) -> usize {
        let mut state = self.state();
        state.held.push(held);
        state.held.len() - 1
    }

    /// Waits until something is held there.
    pub(crate) fn wait_reached(&self, hold: usize, within: Duration) {
        let deadline = Instant::now() + within;
        let mut state = self.state();
        while !state.held[hold].reached {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "no call came that is to be held: {:?}; last {:?}",
                state.held[hold],
                state.seen.last()
            );
            state = self.shared.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn release(&self, hold: usize) {
        self.state().held[hold].released = true;
        self.shared.1.notify_all();
    }

    pub(crate) fn release_all(&self) {
        for held in &mut self.state().held {
            held.released = true;
        }
        self.shared.1.notify_all();
    }

    /// Calls since then that fit, answered or not.
    pub(crate) fn seen(&self, like: Like, since_us: i64) -> Vec<Seen> {
        self.state().seen.iter().filter(|seen| seen.us >= since_us && like.fits(seen)).cloned().collect()
    }

    /// How many calls of any kind came since then.
    pub(crate) fn count_since(&self, since_us: i64) -> usize {
        self.state().seen.iter().filter(|seen| seen.us >= since_us).count()
    }

    /// The token that was sent last.
    pub(crate) fn last_token(&self) -> String {
        self.state().seen.last().map(|seen| seen.token.clone()).unwrap_or_default()
    }

    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let (head, body) = read_call(&client)?;
        let mut words = head.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let seen = Seen {
            us: now_us(),
            method: method.to_owned(),
            path: path.to_owned(),
            body: String::from_utf8_lossy(&body).into_owned(),
            token: header(&head, "x-auth-token").unwrap_or_default().to_owned(),
            status: None,
        };
        let number = {
            let mut state = self.state();
            state.seen.push(seen.clone());
            state.seen.len() - 1
        };
        self.pass(&seen, Side::Call);
        let mut upstream = TcpStream::connect(self.upstream)?;
        upstream.write_all(head.as_bytes())?;
        upstream.write_all(&body)?;
        let mut answer = Vec::new();
        // Nova's server closes after each answer.
        upstream.read_to_end(&mut answer)?;
        let status = answer.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        self.state().seen[number].status = status;
        self.pass(&seen, Side::Answer);
        client.write_all(&answer)
    }

    /// Waits while it is to be held.
    fn pass(&self, seen: &Seen, side: Side) {
        let deadline = Instant::now() + HELD_AT_MOST;
        let mut state = self.state();
        let fits = |held: &Held| held.side == side && !held.released && held.like.fits(seen);
        let mut holds = None;
        for (number, held) in state.held.iter_mut().enumerate().filter(|(_, held)| fits(held)) {
            if held.skip > 0 {
                held.skip -= 1;
            } else if !(held.only_one && held.reached) {
                held.reached = true;
                holds = Some(number);
            }
        }
        let Some(number) = holds else { return };
        self.shared.1.notify_all();
        while !state.held[number].released && Instant::now() < deadline {
            state = self.shared.1.wait_timeout(state, HELD_AT_MOST).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The head with its empty line, and the body.
fn read_call(client: &TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut reader = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length.min(BODY_BYTES_MAX)];
    reader.read_exact(&mut body)?;
    Ok((head, body))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim()))
}
