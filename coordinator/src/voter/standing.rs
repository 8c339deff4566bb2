//! Does this voter stand for leadership? An unfit one does not, as long as a fit one can take its place.

use std::time::Duration;

use crate::time::Moment;

/// How long an unfit voter waits for a fit one to be elected, before it stands all the same: ten election time-outs.
pub(crate) const LEADERLESS_MAX: Duration = Duration::from_secs(30);

/// How long it then stays: the others have had their chance, and an unfit leader is better than none.
pub(crate) const STAYS_FOR: Duration = Duration::from_secs(120);

/// What the decision rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// We are unfit.
    pub(crate) unfit: bool,
    /// Another voter, alive in gossip, said of itself that it is fit.
    pub(crate) other_fit: bool,
    /// Another voter leads.
    pub(crate) other_leads: bool,
}

/// Whether we stand.
#[derive(Debug)]
pub(crate) struct Standing {
    stands: bool,
    /// Since when nobody else has led, while we did not stand.
    leaderless: Option<Moment>,
    stays_until: Option<Moment>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { stands: true, leaderless: None, stays_until: None }
    }
}

impl Standing {
    pub(crate) fn stands(&self) -> bool {
        self.stands
    }

    /// Decides anew. `Some`: it changed.
    pub(crate) fn decide(&mut self, now: Moment, outlook: Outlook) -> Option<bool> {
        let Outlook { unfit, other_fit, other_leads } = outlook;
        if self.stands || other_leads {
            self.leaderless = None;
        } else {
            self.leaderless.get_or_insert(now);
        }
        if !unfit || other_leads {
            self.stays_until = None;
        }
        if self.leaderless.is_some_and(|since| now.since(since) >= LEADERLESS_MAX) {
            self.stays_until = Some(now + STAYS_FOR);
        }
        let stays = self.stays_until.is_some_and(|until| now < until);
        let stands = !unfit || !other_fit || stays;
        if stands == self.stands {
            return None;
        }
        self.stands = stands;
        self.leaderless = (!stands && !other_leads).then_some(now);
        Some(stands)
    }

    /// When the decision may change by time alone.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        let leaderless = self.leaderless.map(|since| since + LEADERLESS_MAX);
        [leaderless, self.stays_until].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands() {
        // (second, unfit, another is fit, another leads, stands)
        let rows = [
            (0, false, false, false, true),
            (1, true, false, false, true),
            (2, true, true, false, false),
            (5, true, true, true, false),
            // The new leader is gone, and no other comes: the cluster must not stay without one.
            (10, true, true, false, false),
            (39, true, true, false, false),
            (40, true, true, false, true),
            (159, true, true, false, true),
            (160, true, true, false, false),
            (161, true, false, false, true),
            (162, true, true, false, false),
            (163, false, true, false, true),
        ];
        let mut standing = Standing::default();
        for (second, unfit, other_fit, other_leads, stands) in rows {
            let now = Moment::from_micros(second * 1_000_000);
            standing.decide(now, Outlook { unfit, other_fit, other_leads });
            assert_eq!(standing.stands(), stands, "second {second}");
        }
    }
}
