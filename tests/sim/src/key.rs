//! Where peers and what they look for lie: 64 bits, with the distance of Kademlia.

use rand::{Rng, RngExt as _};

/// A place among all places. Kademlia has 256 bits; with 64 no two of a million peers meet either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

impl Key {
    /// How many bits a key has, and so how many buckets a table has at most.
    pub const BITS: u32 = u64::BITS;

    /// Any key, each as likely as another.
    pub fn random(rng: &mut impl Rng) -> Self {
        Self(rng.random())
    }

    /// A key that has the first `bucket` bits of this one, another bit next, and any bits after that.
    pub fn random_in_bucket(self, bucket: u32, rng: &mut impl Rng) -> Self {
        let differing = 1 << (Self::BITS - 1 - bucket);
        let any: u64 = rng.random();
        Self((self.0 ^ differing) & !(differing - 1) | any & (differing - 1))
    }

    /// The distance to another key.
    pub fn distance(self, other: Self) -> u64 {
        self.0 ^ other.0
    }

    /// The bucket that another key falls into: how many first bits both have in common.
    pub fn bucket(self, other: Self) -> u32 {
        self.distance(other).leading_zeros()
    }
}

/// The indices of the `count` keys nearest to `target`, nearest first. The keys are in order.
pub fn nearest(keys: &[Key], target: Key, count: usize) -> Vec<usize> {
    let (mut low, mut high) = (0, keys.len());
    for bit in (0..Key::BITS).rev() {
        let split = low + keys[low..high].partition_point(|key| key.0 >> bit & 1 == 0);
        let (half_low, half_high) = match target.0 >> bit & 1 {
            0 => (low, split),
            _ => (split, high),
        };
        if half_high - half_low < count.max(1) {
            break;
        }
        (low, high) = (half_low, half_high);
    }
    let mut near: Vec<usize> = (low..high).collect();
    near.sort_unstable_by_key(|&index| keys[index].distance(target));
    near.truncate(count);
    near
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::ChaCha8Rng};

    use super::*;

    #[test]
    fn the_nearest_keys_are_those_that_a_look_at_all_of_them_finds() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut keys: Vec<_> = (0..300).map(|_| Key::random(&mut rng)).collect();
        keys.sort_unstable();
        for count in [1, 7, 20, 300, 400] {
            let target = Key::random(&mut rng);
            let mut all: Vec<_> = (0..keys.len()).collect();
            all.sort_by_key(|&index| keys[index].distance(target));
            all.truncate(count);
            assert_eq!(nearest(&keys, target, count), all);
        }
    }

    #[test]
    fn a_random_key_of_a_bucket_falls_into_it() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let own = Key::random(&mut rng);
        for bucket in 0..Key::BITS {
            assert_eq!(own.bucket(own.random_in_bucket(bucket, &mut rng)), bucket);
        }
    }
}
