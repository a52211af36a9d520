//! Random numbers: for programs (getrandom, /dev/urandom), for their stacks and addresses, and for the kernel's hashes.
//!
//! A ChaCha20 generator (RFC 8439) that makes some blocks at a time and replaces its own key by the first bytes of them; each
//! byte is wiped as it is given out. So what it gave out can't be computed afterwards from what it holds, and a few bytes
//! cost a few instructions. The first key comes from RDRAND where the CPU has it, and from the time-stamp
//! counter, which the boot of a real machine makes hard to guess.

#![expect(clippy::indexing_slicing, reason = "the cipher's word numbers are constants")]

use crate::lock::{IrqLock, Rank};

const BLOCK_BYTES: usize = 64;
const BLOCKS: usize = 8;
const KEY_WORDS: usize = 8;
const KEY_BYTES: usize = KEY_WORDS * 4;
/// What is left of the blocks once the next key is taken from them.
const OUTPUT_BYTES: usize = BLOCKS * BLOCK_BYTES - KEY_BYTES;

struct Generator {
    key: [u32; KEY_WORDS],
    seeded: bool,
    /// Made and not yet given out: the first `left` bytes. The others are zero.
    output: [u8; OUTPUT_BYTES],
    left: usize,
}

static GENERATOR: IrqLock<Generator> = IrqLock::new(Rank::Device, Generator::new());

/// Fills `bytes` with random ones.
pub fn fill(bytes: &mut [u8]) {
    for part in bytes.chunks_mut(OUTPUT_BYTES) {
        GENERATOR.lock().give_out(part);
    }
}

/// A random number.
pub fn number() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// Mixes something hard to guess into the generator: what a program writes to /dev/random, when a key was pressed.
pub fn stir(value: u64) {
    let mut generator = GENERATOR.lock();
    generator.mix(value);
    generator.refill();
}

impl Generator {
    const fn new() -> Self {
        Self { key: [0; KEY_WORDS], seeded: false, output: [0; OUTPUT_BYTES], left: 0 }
    }

    /// At most OUTPUT_BYTES at a time.
    fn give_out(&mut self, bytes: &mut [u8]) {
        if self.left < bytes.len() {
            self.refill();
        }
        let start = self.left.saturating_sub(bytes.len());
        if let Some(given) = self.output.get_mut(start..self.left)
            && let Some(bytes) = bytes.get_mut(..given.len())
        {
            bytes.copy_from_slice(given);
            given.fill(0);
        }
        self.left = start;
    }

    fn refill(&mut self) {
        if !self.seeded {
            self.seed();
        }
        let mut blocks = [0; BLOCKS * BLOCK_BYTES];
        for (number, bytes) in (0..).zip(blocks.chunks_exact_mut(BLOCK_BYTES)) {
            let block = chacha20_block(&self.key, number, [0; 3]);
            for (to, word) in bytes.chunks_exact_mut(4).zip(block) {
                to.copy_from_slice(&word.to_le_bytes());
            }
        }
        let (key, output) = blocks.split_at(KEY_BYTES);
        for (to, from) in self.key.iter_mut().zip(key.chunks_exact(4)) {
            *to = from.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        }
        self.output.copy_from_slice(output);
        self.left = OUTPUT_BYTES;
    }

    fn seed(&mut self) {
        self.seeded = true;
        for _ in 0..KEY_WORDS / 2 {
            self.mix(hardware_number());
            let block = chacha20_block(&self.key, 0, [0; 3]);
            self.key.copy_from_slice(block.split_at(KEY_WORDS).0);
        }
    }

    fn mix(&mut self, value: u64) {
        let [low, high, ..] = &mut self.key;
        *low ^= value as u32;
        *high ^= (value >> 32) as u32;
    }
}

/// From the CPU's own generator if it has one, and the time-stamp counter.
#[cfg(target_os = "none")]
fn hardware_number() -> u64 {
    #[target_feature(enable = "rdrand")]
    fn rdrand() -> Option<u64> {
        let mut value = 0;
        // Intel SDM 1 §7.3.17.1: ten tries, or the generator is broken.
        (0..10).find_map(|_| (core::arch::x86_64::_rdrand64_step(&mut value) == 1).then_some(value))
    }
    let time = crate::interrupts::clock::read_tsc();
    if !crate::cpu::features().rdrand {
        return time;
    }
    // SAFETY: CPUID says that the CPU has RDRAND.
    let random = unsafe { rdrand() };
    random.unwrap_or(0) ^ time.rotate_left(32)
}

#[cfg(not(target_os = "none"))]
fn hardware_number() -> u64 {
    use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static CALLS: AtomicU64 = AtomicU64::new(0x243f_6a88_85a3_08d3);
    CALLS.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed)
}

/// RFC 8439 §2.3.
fn chacha20_block(key: &[u32; KEY_WORDS], counter: u32, nonce: [u32; 3]) -> [u32; 16] {
    let [k0, k1, k2, k3, k4, k5, k6, k7] = *key;
    let [n0, n1, n2] = nonce;
    // "expand 32-byte k"
    let start =
        [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574, k0, k1, k2, k3, k4, k5, k6, k7, counter, n0, n1, n2];
    let mut state = start;
    for _ in 0..10 {
        // The columns, then the diagonals. Written out: with constant indices the state stays in registers.
        quarter_round(&mut state, 0, 4, 8, 12);
        quarter_round(&mut state, 1, 5, 9, 13);
        quarter_round(&mut state, 2, 6, 10, 14);
        quarter_round(&mut state, 3, 7, 11, 15);
        quarter_round(&mut state, 0, 5, 10, 15);
        quarter_round(&mut state, 1, 6, 11, 12);
        quarter_round(&mut state, 2, 7, 8, 13);
        quarter_round(&mut state, 3, 4, 9, 14);
    }
    for (word, start) in state.iter_mut().zip(start) {
        *word = word.wrapping_add(start);
    }
    state
}

/// The indices are constants below 16.
#[inline(always)]
fn quarter_round(state: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    half_quarter_round(state, [a, b, c, d], 16, 12);
    half_quarter_round(state, [a, b, c, d], 8, 7);
}

#[inline(always)]
fn half_quarter_round(state: &mut [u32; 16], [a, b, c, d]: [usize; 4], first: u32, second: u32) {
    state[a] = state[a].wrapping_add(state[b]);
    state[d] = (state[d] ^ state[a]).rotate_left(first);
    state[c] = state[c].wrapping_add(state[d]);
    state[b] = (state[b] ^ state[c]).rotate_left(second);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_block_that_of_the_standard() {
        // RFC 8439 §2.3.2.
        let key = core::array::from_fn(|word| u32::from_le_bytes(core::array::from_fn(|byte| (4 * word + byte) as u8)));
        let block = chacha20_block(&key, 1, [0x0900_0000, 0x4a00_0000, 0]);
        assert_eq!(block[..4], [0xe4e7_f110, 0x1559_3bd1, 0x1fdd_0f50, 0xc471_20a3]);
        assert_eq!(block[15], 0x4e3c_50a2);
    }

    #[test]
    fn do_two_fills_differ() {
        let (mut one, mut other) = ([0; 1000], [0; 1000]);
        fill(&mut one);
        fill(&mut other);
        assert_ne!(one, other);
        let mut seen = std::collections::HashSet::new();
        assert!(one.chunks_exact(8).chain(other.chunks_exact(8)).all(|bytes| seen.insert(bytes.to_vec())));
    }

    #[test]
    fn is_what_was_given_out_forgotten() {
        let mut generator = Generator::new();
        let mut bytes = [0; 100];
        generator.give_out(&mut bytes);
        assert_eq!(generator.left, OUTPUT_BYTES - 100);
        assert!(generator.output[generator.left..].iter().all(|&byte| byte == 0));
        assert!(bytes.iter().any(|&byte| byte != 0));
    }
}
