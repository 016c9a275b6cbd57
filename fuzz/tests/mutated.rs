//! The targets on a stable compiler: seeds with some bytes changed, words of the format put in, parts taken
//! out or doubled; a bounded number of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;

/// What the formats are made of, and what is at the edges of their values.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "null",
    "true",
    "-1",
    "0",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "1e400",
    "\"\"",
    "\"/\"",
    "\\u0000",
    "\"SCMP_ACT_NOTIFY\"",
    "\"SCMP_ACT_TRACE\"",
    "\"SCMP_CMP_MASKED_EQ\"",
    "\"SCMP_ARCH_X86\"",
    "\"SCMP_ARCH_X32\"",
    "\"socket\"",
    "\"ipc\"",
    "\"write\"",
    "\"CAP_NEW\"",
    "\"valueTwo\"",
    "\"timeout\"",
];

/// A change of a text, at a place of 65,536 parts of it.
#[derive(Debug, Clone)]
enum Change {
    Set(u16, u8),
    Insert(u16, &'static str),
    /// A number or a word is exchanged.
    Exchange(u16, &'static str),
    Cut(u16, u8),
    Double(u16, u8),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let word = || prop::sample::select(WORDS);
    let change = prop_oneof![
        1 => (any::<u16>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        1 => (any::<u16>(), word()).prop_map(|(at, word)| Change::Insert(at, word)),
        3 => (any::<u16>(), word()).prop_map(|(at, word)| Change::Exchange(at, word)),
        1 => (any::<u16>(), any::<u8>()).prop_map(|(at, length)| Change::Cut(at, length)),
        1 => (any::<u16>(), any::<u8>()).prop_map(|(at, length)| Change::Double(at, length)),
    ];
    prop::collection::vec(change, 0..6)
}

fn changed(mut text: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        let place = |at: u16| text.len() * usize::from(at) / 65_536;
        let end = |from: usize, length: u8| (from + usize::from(length)).min(text.len());
        match *change {
            Change::Set(at, byte) => {
                let at = place(at);
                text.splice(at..end(at, 1), [byte]);
            }
            Change::Insert(at, word) => {
                let at = place(at);
                text.splice(at..at, word.bytes());
            }
            Change::Exchange(at, word) => {
                // The value after the next colon.
                let mut rest = text.iter().enumerate().skip(place(at));
                let Some((colon, _)) = rest.find(|(_, byte)| **byte == b':') else { continue };
                let stops = |byte: &u8| b",}]\n".contains(byte);
                let length = text.iter().skip(colon + 1).position(stops).unwrap_or(0);
                text.splice(colon + 1..colon + 1 + length, word.bytes());
            }
            Change::Cut(at, length) => {
                let at = place(at);
                text.drain(at..end(at, length));
            }
            Change::Double(at, length) => {
                let at = place(at);
                let part = text[at..end(at, length)].to_vec();
                text.splice(at..at, part);
            }
        }
    }
    text
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(name);
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|file| fs::read(file).unwrap()).collect()
}

/// A seed of that target with changes.
fn input(name: &str) -> impl Strategy<Value = Vec<u8>> {
    (prop::sample::select(seeds(name)), changes())
        .prop_map(|(seed, changes)| changed(seed, &changes))
}

#[test]
fn seeds_are_taken() {
    for seed in seeds("configuration") {
        assert!(dhow_spec::Configuration::parse(&seed).is_ok());
    }
    for seed in seeds("seccomp") {
        let profile = serde_json::from_slice(&seed).unwrap();
        assert!(dhow_seccomp::compile(&profile).is_ok());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn configuration(bytes in input("configuration")) {
        dhow_fuzz::configuration(&bytes);
    }

    #[test]
    fn seccomp(bytes in input("seccomp")) {
        dhow_fuzz::seccomp(&bytes);
    }
}
