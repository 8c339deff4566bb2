//! A crash kernel that writes a dump, and says so: `kexec`, and `fence_kdump_send` of the fence agents.

use super::*;

/// How long a crash kernel boots before it speaks.
const BOOTS: Duration = Duration::from_secs(15);

/// Between two of its words: the default of `fence_kdump_send`.
const WORD_EVERY: Duration = Duration::from_secs(10);

/// What a word, and what rests on it, may take on its way to the leader.
const ON_ITS_WAY: Duration = Duration::from_secs(1);

impl World {
    /// The kernel of a host crashes, and another one writes its memory to a disk, for so long in all. Then it stands still.
    pub fn dump(&mut self, host: &HostName, lasts: Duration) {
        let Some(ix) = self.ix(host) else { return };
        self.tell(format!("the kernel of {host} crashes: it writes a dump"));
        self.count("kernel dumped");
        self.stop_machine(ix);
        self.life.dumps.insert(ix, (self.now + BOOTS, self.now + lasts));
        self.schedule(BOOTS, Happening::DumpWord { host: ix as u32 });
    }

    /// Whether its crash kernel runs, and has a network.
    pub(super) fn dumps(&self, ix: Ix) -> bool {
        let host = &self.hosts[ix];
        let within = |(from, until): &(Moment, Moment)| *from <= self.now && self.now < *until;
        host.powered && !host.has_kernel() && self.life.dumps.get(&ix).is_some_and(within)
    }

    /// The next word of a crash kernel, to every voter.
    pub(super) fn dump_word(&mut self, ix: Ix) {
        if !self.dumps(ix) {
            return;
        }
        let from = self.hosts[ix].addresses[0].ip();
        for voter in self.voters.clone() {
            if self.net.carries(ix, voter, 0) && self.speaks(voter) {
                self.input(voter, Input::KdumpWord { from });
            }
        }
        self.schedule(WORD_EVERY, Happening::DumpWord { host: ix as u32 });
    }

    /// A site that waits for dumps has none cut short, nor one that has not begun. (In no world here are words lost.)
    pub(super) fn judge_dump(&mut self, machine: Ix) {
        let policy = self.policy.kdump;
        let Some((from, until)) = self.life.dumps.get(&machine).copied() else { return };
        let waits = policy.wait >= BOOTS + ON_ITS_WAY && !self.hosts[machine].has_kernel();
        if waits && self.now < until && self.now.since(from) < policy.longest {
            let host = self.hosts[machine].name.clone();
            let after = self.now.since(from - BOOTS);
            self.broken(Violation::DumpCutShort { host, after_s: after.as_secs() });
        }
    }
}
