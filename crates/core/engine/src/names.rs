//! Names for containers that were given none, and what a name may be.

use dhow_error::{Error, Result};

/// How it feels.
const ADJECTIVES: [&str; 64] = [
    "able", "agile", "amber", "ample", "balmy", "bold", "brave", "bright", "brisk", "calm",
    "candid", "clever", "coral", "cosy", "crisp", "daring", "dapper", "eager", "early", "easy",
    "fair", "fleet", "fond", "frank", "free", "gentle", "glad", "golden", "grand", "handy",
    "happy", "hardy", "honest", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lucky",
    "mellow", "merry", "mighty", "modest", "neat", "nimble", "noble", "patient", "plucky",
    "polite", "proud", "quick", "quiet", "ready", "serene", "silver", "smart", "snug", "steady",
    "sunny", "swift", "tidy", "trusty", "witty",
];

/// Who it is named for: people who sailed, charted, built or computed.
const SURNAMES: [&str; 64] = [
    "ampere",
    "anning",
    "babbage",
    "banneker",
    "barents",
    "baret",
    "bering",
    "bernoulli",
    "bougainville",
    "bowditch",
    "cabot",
    "cabral",
    "cook",
    "cousteau",
    "curie",
    "davis",
    "dias",
    "drake",
    "earle",
    "erikson",
    "euler",
    "faraday",
    "flinders",
    "franklin",
    "frobisher",
    "gama",
    "gauss",
    "halley",
    "hamilton",
    "hanno",
    "harrison",
    "hooke",
    "hopper",
    "hudson",
    "humboldt",
    "ibnmajid",
    "idrisi",
    "jansz",
    "kepler",
    "lovelace",
    "magellan",
    "maury",
    "maxwell",
    "mercator",
    "nansen",
    "napier",
    "nightingale",
    "noether",
    "ohm",
    "polo",
    "ptolemy",
    "pytheas",
    "quiros",
    "ross",
    "scoresby",
    "shackleton",
    "slocum",
    "somerville",
    "tasman",
    "torres",
    "turing",
    "vancouver",
    "vespucci",
    "zhenghe",
];

/// A made-up name such as `brave_tasman`. From the fourth attempt on it carries a digit.
pub(crate) fn generate(attempt: u32) -> Result<String> {
    let mut random = [0_u8; 3];
    getrandom::fill(&mut random).map_err(|_| Error::internal("cannot read random bytes"))?;
    let [adjective, surname, digit] = random.map(usize::from);
    // Both lists have 64 words, so that no remainder favours any.
    let (adjective, surname) = (ADJECTIVES[adjective % 64], SURNAMES[surname % 64]);
    let number = if attempt < 3 { String::new() } else { (digit % 10).to_string() };
    let more = if attempt < 6 { String::new() } else { attempt.to_string() };
    Ok(format!("{adjective}_{surname}{number}{more}"))
}

/// The name without a leading slash, if it may be one.
///
/// Errors: invalid, in Docker's words.
pub(crate) fn check(name: &str) -> Result<&str> {
    let bare = name.strip_prefix('/').unwrap_or(name);
    if crate::spec::is_object_name(bare) {
        Ok(bare)
    } else {
        let name: String = name.chars().take(100).collect();
        Err(Error::invalid(format!(
            "invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_are_names() {
        for attempt in 0..12 {
            let name = generate(attempt).unwrap();
            assert_eq!(check(&name).unwrap(), name);
            assert_eq!(name.contains(|c: char| c.is_ascii_digit()), attempt >= 3, "{name}");
        }
    }

    #[test]
    fn the_lists_have_no_word_twice() {
        for list in [&ADJECTIVES, &SURNAMES] {
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), list.len());
        }
    }

    #[test]
    fn names_are_checked() {
        assert_eq!(check("/web-1.a_b").unwrap(), "web-1.a_b");
        for bad in ["", "/", "a", "-ab", "a b", "a/b", "é1", "//ab"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
