//! The polynomial by which restic cuts files where their content says so. What is written here is cut into pieces of
//! one size, but a plain `restic` refuses a repository without one.

use crate::crypto::{NoRandom, random};

/// Its degree.
const DEGREE: u32 = 53;

/// A random irreducible polynomial over GF(2) of degree 53, bit by bit.
pub fn random_irreducible() -> Result<u64, NoRandom> {
    loop {
        let bits = u64::from_le_bytes(random()?) & ((1 << DEGREE) - 1);
        let polynomial = bits | 1 << DEGREE | 1;
        if is_irreducible(polynomial) {
            return Ok(polynomial);
        }
    }
}

/// Ben-Or's test: it shares no factor with x^(2^i) - x for any i up to half its degree.
pub fn is_irreducible(polynomial: u64) -> bool {
    let mut power = 2;
    for _ in 0..degree(polynomial) / 2 {
        power = multiply(power, power, polynomial);
        if common(polynomial, power ^ 2) != 1 {
            return false;
        }
    }
    true
}

fn degree(polynomial: u64) -> u32 {
    63 - (polynomial | 1).leading_zeros()
}

fn multiply(mut a: u64, mut b: u64, modulo: u64) -> u64 {
    let (mut product, top) = (0, 1 << degree(modulo));
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        b >>= 1;
        a <<= 1;
        if a & top != 0 {
            a ^= modulo;
        }
    }
    product
}

fn common(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        while a != 0 && degree(a) >= degree(b) && a >= 1 << degree(b) {
            a ^= b << (degree(a) - degree(b));
        }
        (a, b) = (b, a);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn irreducible_ones_are_known() {
        // By trial division, up to degree 12.
        for polynomial in 2_u64..1 << 13 {
            let divides = |by: u64| {
                let mut rest = polynomial;
                while rest >= 1 << degree(by) {
                    rest ^= by << (degree(rest) - degree(by));
                }
                rest == 0
            };
            let expected = (2..1 << (degree(polynomial) / 2 + 1)).all(|by| by == polynomial || !divides(by));
            assert_eq!(is_irreducible(polynomial), expected, "{polynomial:b}");
        }
        assert_eq!(degree(random_irreducible().unwrap()), DEGREE);
    }
}
