//! Is this voter fit to lead? Signs of its own health, judged with patience in both directions.

use std::fmt;
use std::time::Duration;

use rekindle_proto::fact::NovaError;

use crate::time::Moment;

/// An ailment must last this long before we are unfit: a single slow turn or a restarting Nova proxy is none.
pub(crate) const UNFIT_AFTER: Duration = Duration::from_secs(10);

/// Health must last this long before we stand again: leadership must not go to and fro with a flapping link.
pub(crate) const FIT_AFTER: Duration = Duration::from_secs(20);

/// Worst local health with which a voter may lead. The scale is Lifeguard's, 0 (well) to 8.
const LOCAL_HEALTH_WORST: u32 = 4;

/// A loop this late misses heartbeats of Raft: the shortest election time-out is half a second more.
pub(crate) const LOOP_LATE: Duration = Duration::from_secs(1);

/// How long a late turn is held against the loop.
const LATENESS_COUNTS: Duration = Duration::from_secs(5);

/// Failed readings of different devices in a row, before it is the network and not the devices.
const DEVICES_SILENT: usize = 3;

/// What this voter knows of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Signs {
    /// Lifeguard's local health, 0 to 8.
    pub(crate) local_health: u32,
    /// The last turn of our loop that began more than [`LOOP_LATE`] late, and by how much.
    pub(crate) late: Option<(Moment, Duration)>,
    /// Whether Nova answers us.
    pub(crate) nova: Reach,
    /// Devices of living hosts that did not answer us, in a row.
    pub(crate) devices_silent: usize,
    /// Devices of living hosts that there are to ask.
    pub(crate) devices: usize,
}

/// Whether something answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It answered when it was last asked.
    Answers,
    /// It did not, or could not be asked.
    Away(NovaError),
}

/// Why a voter should not lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ailment {
    /// It misses answers that others get.
    LocalHealth(u32),
    /// Its own loop is late: starved, or stopped.
    LoopLate(Duration),
    /// Nova does not answer it, or cannot be asked.
    NovaAway(NovaError),
    /// The fence devices do not answer it: their network is away.
    DevicesAway(usize),
}

impl fmt::Display for Ailment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LocalHealth(score) => {
                write!(f, "local health {score} of 8 (8 is worst; at most {LOCAL_HEALTH_WORST})")
            }
            Self::LoopLate(by) => write!(f, "its loop ran {} ms late", by.as_millis()),
            // Also where there is no [nova] to ask.
            Self::NovaAway(NovaError::NotSent(why)) => write!(f, "it cannot ask Nova: {why}"),
            Self::NovaAway(NovaError::Refused { status, text }) => write!(f, "Nova refuses it with {status}: {text}"),
            Self::NovaAway(NovaError::Unknown(why)) => write!(f, "Nova does not answer it: {why}"),
            Self::NovaAway(NovaError::Malformed(why)) => write!(f, "it does not understand Nova's answer: {why}"),
            Self::DevicesAway(asked) => write!(f, "{asked} fence devices of living hosts in a row did not answer it"),
        }
    }
}

/// The worst that can be said of these signs now.
pub(crate) fn ailment(signs: &Signs, now: Moment) -> Option<Ailment> {
    if signs.local_health > LOCAL_HEALTH_WORST {
        return Some(Ailment::LocalHealth(signs.local_health));
    }
    if let Some((at, by)) = signs.late
        && now.since(at) < LATENESS_COUNTS
    {
        return Some(Ailment::LoopLate(by));
    }
    if let Reach::Away(error) = &signs.nova {
        return Some(Ailment::NovaAway(error.clone()));
    }
    // One silent device is that device's; where there are only two, both must be silent.
    let enough = signs.devices.clamp(2, DEVICES_SILENT);
    (signs.devices_silent >= enough).then_some(Ailment::DevicesAway(signs.devices_silent))
}

/// The judgement over time.
#[derive(Debug, Default)]
pub(crate) struct Fitness {
    ailing: Option<(Moment, Ailment)>,
    well_since: Option<Moment>,
    unfit: Option<Ailment>,
}

impl Fitness {
    /// Takes in what is so now.
    pub(crate) fn note(&mut self, now: Moment, ailment: Option<Ailment>) {
        match ailment {
            Some(ailment) => {
                self.well_since = None;
                let since = self.ailing.as_ref().map_or(now, |(since, _)| *since);
                if self.unfit.is_some() || now.since(since) >= UNFIT_AFTER {
                    self.unfit = Some(ailment.clone());
                }
                self.ailing = Some((since, ailment));
            }
            None => {
                self.ailing = None;
                let since = *self.well_since.get_or_insert(now);
                if now.since(since) >= FIT_AFTER {
                    self.unfit = None;
                }
            }
        }
    }

    /// Why this voter should not lead; `None`: it may.
    pub(crate) fn unfit(&self) -> Option<&Ailment> {
        self.unfit.as_ref()
    }

    /// Why it must not act, if it leads all the same. Gone as soon as the ailment is: what was only waited out for the
    /// sake of a steady leadership need not hold an act.
    pub(crate) fn bars_acts(&self) -> Option<&Ailment> {
        self.unfit.as_ref().filter(|_| self.ailing.is_some())
    }

    /// When the judgement may change by time alone.
    pub(crate) fn next_deadline(&self) -> Option<Moment> {
        match (&self.ailing, &self.unfit) {
            (Some((since, _)), None) => Some(*since + UNFIT_AFTER),
            (None, Some(_)) => self.well_since.map(|since| since + FIT_AFTER),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn the_table_of_ailments() {
        let not_configured = || Reach::Away(NovaError::NotSent("no [nova] is configured here".into()));
        let refused = || Reach::Away(NovaError::Refused { status: 401, text: "no such user".into() });
        let away = || Reach::Away(NovaError::Unknown("timed out".into()));
        let garbled = || Reach::Away(NovaError::Malformed("no JSON".into()));
        let late = |second: u64| Some((at(second), Duration::from_secs(2)));
        // (local health, late at, nova, silent devices in a row, of how many) at second 100.
        let rows = [
            (0, None, Reach::Answers, 0, 9, "fit"),
            (0, None, Reach::Unknown, 0, 9, "fit"),
            (4, None, Reach::Answers, 0, 9, "fit"),
            (5, None, Reach::Answers, 0, 9, "local health 5 of 8 (8 is worst; at most 4)"),
            (0, late(94), Reach::Answers, 0, 9, "fit"),
            (0, late(96), Reach::Answers, 0, 9, "its loop ran 2000 ms late"),
            (0, None, not_configured(), 0, 9, "it cannot ask Nova: no [nova] is configured here"),
            (0, None, refused(), 0, 9, "Nova refuses it with 401: no such user"),
            (0, None, away(), 0, 9, "Nova does not answer it: timed out"),
            (0, None, garbled(), 0, 9, "it does not understand Nova's answer: no JSON"),
            (0, None, Reach::Answers, 2, 9, "fit"),
            (0, None, Reach::Answers, 3, 9, "3 fence devices of living hosts in a row did not answer it"),
            (0, None, Reach::Answers, 2, 2, "2 fence devices of living hosts in a row did not answer it"),
            (0, None, Reach::Answers, 1, 1, "fit"),
        ];
        for (local_health, late, nova, devices_silent, devices, expected) in rows {
            let signs = Signs { local_health, late, nova, devices_silent, devices };
            let said = ailment(&signs, at(100)).map_or_else(|| "fit".to_owned(), |ailment| ailment.to_string());
            assert_eq!(said, expected, "{signs:?}");
        }
    }

    #[test]
    fn patience_in_both_directions() {
        let ill = || Some(Ailment::LocalHealth(8));
        let mut fitness = Fitness::default();
        // (second, ailing, unfit, bars acts)
        let rows = [
            (0, false, false, false),
            (1, true, false, false),
            (10, true, false, false),
            (10, false, false, false),
            (11, true, false, false),
            (20, true, false, false),
            (21, true, true, true),
            (22, false, true, false),
            (40, true, true, true),
            (41, false, true, false),
            (60, false, true, false),
            (61, false, false, false),
        ];
        for (second, ailing, unfit, bars) in rows {
            fitness.note(at(second), if ailing { ill() } else { None });
            assert_eq!((fitness.unfit().is_some(), fitness.bars_acts().is_some()), (unfit, bars), "second {second}");
        }
    }
}
