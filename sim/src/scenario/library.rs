//! The scenarios that come with the program.

/// Every file of `sim/scenarios` and its text, by name.
#[must_use]
pub fn library() -> &'static [(&'static str, &'static str)] {
    include!(concat!(env!("OUT_DIR"), "/scenarios.rs"))
}

/// The text of one, by its file's name, with or without number and ending: `02-leader-loses-network.toml`,
/// `leader-loses-network`, `02`.
#[must_use]
pub fn find(name: &str) -> Option<&'static str> {
    let fits = |file: &str| {
        let stem = file.strip_suffix(".toml").unwrap_or(file);
        let (number, rest) = stem.split_once('-').unwrap_or((stem, stem));
        [file, stem, number, rest].contains(&name)
    };
    library().iter().find(|(file, _)| fits(file)).map(|(_, text)| *text)
}
