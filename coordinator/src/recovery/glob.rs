//! Patterns over names: `*` is any run of characters, `?` is one, and letter case is ignored.

/// Whether a pattern fits a word, all of it. In time at most the product of their lengths, whatever the stars.
#[must_use]
pub fn fits(pattern: &str, word: &str) -> bool {
    let (pattern, word): (Vec<char>, Vec<char>) = (folded(pattern), folded(word));
    let (mut at, mut from) = (0, 0);
    // The last star, and the first character that it does not cover.
    let mut star: Option<(usize, usize)> = None;
    while from < word.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(c) if *c == '?' || *c == word[from] => {
                at += 1;
                from += 1;
            }
            Some(_) | None => {
                let Some((position, covered)) = star else { return false };
                star = Some((position, covered + 1));
                at = position + 1;
                from = covered + 1;
            }
        }
    }
    pattern[at..].iter().all(|c| *c == '*')
}

fn folded(text: &str) -> Vec<char> {
    text.chars().flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_patterns() {
        for (pattern, word, expected) in [
            ("amphora-*", "amphora-5f0b", true),
            ("amphora-*", "amphora-", true),
            ("amphora-*", "my-amphora-1", false),
            ("*amphora*", "my-amphora-1", true),
            ("true", "True", true),
            ("db-?", "db-1", true),
            ("db-?", "db-12", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            ("*", "", true),
            ("", "", true),
            ("", "x", false),
            ("über*", "ÜBERALL", true),
        ] {
            assert_eq!(fits(pattern, word), expected, "{pattern:?} {word:?}");
        }
        // A pattern that a naive matcher needs for ever for.
        assert!(!fits(&"*a".repeat(100), &"a".repeat(99)));
        assert!(!fits(&format!("{}b", "a*".repeat(120)), &"a".repeat(255)));
    }
}
