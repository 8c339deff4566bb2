//! What goes wrong all the time.

use serde::{Deserialize, Serialize};

/// Changes of the weather; what is left out stays as it is. All in percent, but `delay-ms` and `dying-destination`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WeatherWords {
    /// Datagrams that are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<u8>,
    /// Part of the time a pair of hosts spends in a burst, in which half of its datagrams are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bursts: Option<u8>,
    /// Datagrams that arrive twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicates: Option<u8>,
    /// Datagrams that are overtaken by later ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reordered: Option<u8>,
    /// Added to everything on the network at most, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u16>,
    /// Nova calls that are answered 503 and not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nova_errors: Option<u8>,
    /// Evacuate calls whose answer is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_answers: Option<u8>,
    /// Evacuate calls that take up to ten seconds to arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_calls: Option<u8>,
    /// Evacuate calls that are answered 504 at once and arrive up to two minutes later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late_calls: Option<u8>,
    /// Evacuate calls that a proxy repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubled_calls: Option<u8>,
    /// Rebuilds that fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_rebuilds: Option<u8>,
    /// Failed rebuilds that leave their guest running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leftovers: Option<u8>,
    /// Proposals that are committed and whose answer is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost_commits: Option<u8>,
    /// Fenced hosts that somebody powers on again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meddling: Option<u8>,
    /// The next host on which something is rebuilt dies meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dying_destination: Option<bool>,
}

impl WeatherWords {
    /// Its percentages, by name.
    #[must_use]
    pub fn percentages(&self) -> [(&'static str, Option<u8>); 13] {
        [
            ("loss", self.loss),
            ("bursts", self.bursts),
            ("duplicates", self.duplicates),
            ("reordered", self.reordered),
            ("nova-errors", self.nova_errors),
            ("lost-answers", self.lost_answers),
            ("slow-calls", self.slow_calls),
            ("late-calls", self.late_calls),
            ("doubled-calls", self.doubled_calls),
            ("failed-rebuilds", self.failed_rebuilds),
            ("leftovers", self.leftovers),
            ("lost-commits", self.lost_commits),
            ("meddling", self.meddling),
        ]
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        *self == Self::default()
    }

    /// The same words, all of them calm.
    pub(super) fn inverse(&self) -> Option<Self> {
        let calm = |word: Option<u8>| word.map(|_| 0);
        Some(Self {
            loss: calm(self.loss),
            bursts: calm(self.bursts),
            duplicates: calm(self.duplicates),
            reordered: calm(self.reordered),
            delay_ms: self.delay_ms.map(|_| 0),
            nova_errors: calm(self.nova_errors),
            lost_answers: calm(self.lost_answers),
            slow_calls: calm(self.slow_calls),
            late_calls: calm(self.late_calls),
            doubled_calls: calm(self.doubled_calls),
            failed_rebuilds: calm(self.failed_rebuilds),
            leftovers: calm(self.leftovers),
            lost_commits: calm(self.lost_commits),
            meddling: calm(self.meddling),
            dying_destination: self.dying_destination.map(|_| false),
        })
    }
}
