//! The lives of a store: one each time it is opened, each with a random number of its own. A copy of a store that is put
//! back goes on counting from where it was copied, with other numbers than those the other voters have heard.

use serde::{Deserialize, Serialize};

/// Lives of which the numbers are kept and sent: 1 KiB a call. A voter that heard a store longer ago than this many of its
/// starts cannot tell whether it is the same line of lives, and believes it.
pub(super) const LIVES_MAX: usize = 256;

/// The last life in which a store was heard, and its number.
pub(super) type LastLife = (u64, u32);

/// Where a store comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Lives {
    /// How often it was opened.
    pub(super) life: u64,
    /// The number of each of its last lives, this one last.
    numbers: Vec<u32>,
}

impl Lives {
    pub(super) fn next(mut self, number: u32) -> Self {
        if self.numbers.len() >= LIVES_MAX {
            self.numbers.remove(0);
        }
        self.numbers.push(number);
        Self { life: self.life.saturating_add(1), numbers: self.numbers }
    }

    /// This life; `None`: nobody writes such lives.
    pub(super) fn last(&self) -> Option<LastLife> {
        let fits = self.numbers.len() <= LIVES_MAX && self.numbers.len() as u64 <= self.life;
        self.numbers.last().filter(|_| fits).map(|number| (self.life, *number))
    }

    /// Whether it descends from the life in which it was last heard, or is that very one.
    pub(super) fn descends_from(&self, known: LastLife) -> bool {
        let (life, number) = known;
        let Some(back) = self.life.checked_sub(life) else { return false };
        let Ok(back) = usize::try_from(back) else { return true };
        self.numbers.iter().rev().nth(back).is_none_or(|found| *found == number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_of_another_line() {
        let first = Lives::default().next(1);
        let second = first.clone().next(2);
        let third = second.clone().next(3);
        let copy = first.clone().next(9);
        for (later, earlier, descends) in [
            (&first, &first, true),
            (&second, &first, true),
            (&third, &first, true),
            // The copy itself as it was; in its next life; and in the one after.
            (&first, &second, false),
            (&copy, &second, false),
            (&copy.clone().next(3), &second, false),
            (&copy, &first, true),
        ] {
            assert_eq!(later.descends_from(earlier.last().expect("lives")), descends, "{later:?} of {earlier:?}");
        }
        let mut old = first.clone();
        for number in 0..300 {
            old = old.next(number);
        }
        assert_eq!(old.numbers.len(), LIVES_MAX);
        assert!(old.descends_from((1, 77)), "too long ago to tell");
        assert!(!old.descends_from((old.life - 1, 77)));
        assert_eq!(Lives::default().last(), None);
        assert_eq!(Lives { life: 0, numbers: vec![1] }.last(), None);
    }
}
