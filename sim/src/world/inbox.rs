//! What is to reach a process, and when it gets to it.

use super::*;

impl World {
    /// An adapter's answer, some time from now.
    pub(super) fn later(&mut self, host: Ix, start: u32, after: Duration, input: Input) {
        self.schedule(after, Happening::Input { to: host as u32, start, input: Box::new(input) });
    }

    pub(super) fn schedule(&mut self, after: Duration, happening: Happening) {
        self.queue.put(self.now + after, happening);
    }

    /// Something reaches a process: at once, when it goes on, or when it gets to it.
    pub(super) fn arrive(&mut self, to: Ix, start: u32, lossy: bool, input: Input) {
        if self.oracle.is_watching() {
            self.oracle_hears(to, &input);
        }
        let host = &mut self.hosts[to];
        if host.start != start || !host.running {
            return;
        }
        if host.frozen || host.starved {
            if !lossy || host.backlog.len() < BACKLOG_MAX {
                host.backlog.push_back(input);
            }
            return;
        }
        self.input(to, input);
    }

    /// A starved process gets to what has waited for it.
    pub(super) fn feed(&mut self, to: Ix, start: u32) {
        if self.hosts[to].start != start || !self.hosts[to].running {
            return;
        }
        if !self.hosts[to].frozen {
            self.empty_backlog(to);
        }
        if self.hosts[to].starved {
            let after = self.millis(STARVED_MS.0, STARVED_MS.1);
            self.schedule(after, Happening::Starved { host: to as u32, start });
        }
    }

    pub(super) fn empty_backlog(&mut self, to: Ix) {
        let waiting = std::mem::take(&mut self.hosts[to].backlog);
        for input in waiting {
            self.input(to, input);
        }
    }
}
