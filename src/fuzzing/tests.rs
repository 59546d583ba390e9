//! The seeds, and random mutations of them.
//!
//! `FASTSESSION_FUZZ` sets how many mutations each target is given (default: 2000).

use std::path::{Path, PathBuf};

use super::{TARGETS, Target};

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target.name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

/// Deterministic, so that what is found is found again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 1).unwrap()
    }

    fn below(&mut self, end: usize) -> usize {
        self.next() % end.max(1)
    }

    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"\0\x01\x7f\x80\xff =;.,\"%-\n\tsid1A";
        let any = u8::try_from(self.below(256)).unwrap();
        if self.below(2) == 0 { TELLING[self.below(TELLING.len())] } else { any }
    }

    fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let place = self.below(input.len() + 1);
            let end = (place + self.below(12)).min(input.len());
            match self.below(6) {
                0 if place < input.len() => input[place] ^= 1 << self.below(8),
                1 if place < input.len() => input[place] = self.byte(),
                2 => input.insert(place, self.byte()),
                3 => drop(input.drain(place..end)),
                4 => input.truncate(place),
                _ => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len());
                    let to = (from + self.below(40)).min(other.len());
                    input.splice(place..end, other[from..to].iter().copied());
                }
            }
        }
        input
    }
}

#[test]
fn seeds_and_their_mutations_find_nothing() {
    let count = std::env::var("FASTSESSION_FUZZ").ok().and_then(|count| count.parse().ok());
    for target in TARGETS {
        let seeds = seeds(target);
        for seed in &seeds {
            (target.run)(seed);
        }
        let mut random = Random(0);
        for n in 0..count.unwrap_or(2000_u64) {
            let input = random.mutated(&seeds);
            let run = || (target.run)(&input);
            let found = std::panic::catch_unwind(run).is_err();
            assert!(!found, "{} {n}: {:?}", target.name, input.escape_ascii().to_string());
        }
    }
}
