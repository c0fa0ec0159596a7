//! What the fuzz targets promise, tried with seeds and some thousand damaged copies of them, always the same ones. Real
//! fuzzing, which learns from what it covers, is `.ci/fuzz`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a promise that is broken fails")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Damaged copies that are tried, and the bytes of the longest: half a minute at most in a build without optimisation.
const COPIES: usize = 12_000;
const LONGEST: usize = 16 << 10;

/// What breaks parsers: put anywhere into a copy.
const SALT: [&str; 20] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\\u0000",
    "\\ud83d",
    "\n\n",
    "\r",
    "data: ",
    "event: error\n",
    "null",
    "-0",
    "1e999",
    "9223372036854775808",
    "\u{feff}",
    "\u{1F600}",
];

#[test]
fn whatever_a_client_asks_is_read_or_refused() {
    tried("request", targets::request);
}

#[test]
fn whatever_a_provider_answers_is_told_as_json() {
    tried("answer", targets::answer);
}

#[test]
fn whatever_a_provider_streams_is_told_the_same_in_any_pieces() {
    tried("stream", targets::stream);
}

#[test]
fn the_gate_and_serde_agree_on_what_json_is() {
    tried("gate", targets::gate);
}

#[test]
fn events_are_framed_the_same_in_any_pieces() {
    tried("frames", targets::frames);
}

fn tried(name: &str, target: fn(&[u8])) {
    let seeds = seeds(name);
    let mut dice = Dice(name.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte)));
    for seed in &seeds {
        held(name, target, seed);
    }
    for _ in 0..COPIES {
        let copy = damaged(&seeds, &mut dice);
        held(name, target, &copy);
    }
}

/// Says which bytes they were when a promise was broken, so that they can become a seed of `.ci/fuzz`.
fn held(name: &str, target: fn(&[u8]), data: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| target(data))).is_err() {
        let found = std::env::temp_dir().join(format!("tollgate-fuzz-{name}-{}", std::process::id()));
        std::fs::write(&found, data).unwrap();
        panic!("the promise of `{name}` is broken by the {} bytes in {}", data.len(), found.display());
    }
}

/// The seeds of a target, in the order of their names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let home = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let recordings = std::env::var("TOLLGATE_FIXTURES").unwrap_or_else(|_| "../shared/fixtures".to_owned());
    let written = std::process::Command::new("python3")
        .arg(root.join("fuzz/seeds"))
        .args([root.join(recordings).as_os_str(), home.path().as_os_str()])
        .status();
    if !written.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: seeds of the fuzz targets: no python3");
        return vec![b"/v1/messages openai 1\n{}".to_vec()];
    }
    let mut files: Vec<_> =
        std::fs::read_dir(home.path().join(name)).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut seeds: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
    seeds.retain(|seed| seed.len() <= LONGEST);
    seeds
}

/// One seed with one to four kinds of damage.
fn damaged(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut copy = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(copy.len() + 1);
        let end = (at + 1 + dice.below(40)).min(copy.len());
        match dice.below(6) {
            0 if at < copy.len() => copy[at] ^= 1 << dice.below(8),
            1 if at < end => drop(copy.drain(at..end)),
            2 if at < end => {
                let again = copy[at..end].to_vec();
                copy.splice(at..at, again);
            }
            3 => copy.truncate(at),
            4 => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len() + 1);
                let more = &other[from..(from + 200).min(other.len())];
                copy.splice(at..end.max(at), more.iter().copied());
            }
            _ => drop(copy.splice(at..at, SALT[dice.below(SALT.len())].bytes())),
        }
    }
    copy
}

/// A sequence that looks random and is always the same: splitmix64, <https://prng.di.unimi.it/splitmix64.c>
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end.max(1) as u64).unwrap()
    }
}
