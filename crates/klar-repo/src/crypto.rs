//! How bytes are sealed: AES-256 in counter mode, and Poly1305-AES over what comes out. Source: restic's design
//! document, "Keys, Encryption and MAC".
//!
//! ```text
//! sealed = nonce (16 bytes, random) ‖ ciphertext ‖ Poly1305(r, AES-128(k, nonce), ciphertext) (16 bytes)
//! ```

use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockEncrypt, KeyInit, KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use ring::rand::{SecureRandom, SystemRandom};

/// What a sealed text is longer than a plain one.
pub const OVERHEAD: usize = 32;

/// The keys of a repository, or of a password.
#[derive(Clone)]
pub struct MasterKey {
    pub encrypt: [u8; 32],
    pub k: [u8; 16],
    pub r: [u8; 16],
}

/// The system gives no random bytes.
#[derive(Debug)]
pub struct NoRandom;

/// Random bytes of the system.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

impl MasterKey {
    /// A new one.
    pub fn new() -> Result<Self, NoRandom> {
        Ok(Self { encrypt: random()?, k: random()?, r: random()? })
    }

    /// Takes 64 bytes apart, as they come from a password: 32 to encrypt, then k and r.
    pub fn of(bytes: &[u8; 64]) -> Self {
        let mut key = Self { encrypt: [0; 32], k: [0; 16], r: [0; 16] };
        key.encrypt.copy_from_slice(&bytes[..32]);
        key.k.copy_from_slice(&bytes[32..48]);
        key.r.copy_from_slice(&bytes[48..]);
        key
    }

    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, NoRandom> {
        let nonce: [u8; 16] = random()?;
        let mut out = Vec::with_capacity(plain.len() + OVERHEAD);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        self.stream(&nonce, &mut out[16..]);
        let tag = self.tag(&nonce, &out[16..]);
        out.extend_from_slice(&tag);
        Ok(out)
    }

    /// `None` where it was not sealed with this key, or is damaged.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<16>()?;
        let (cipher, tag) = rest.split_last_chunk::<16>()?;
        // Digests are compared: how many bytes are alike must not show in the time.
        let wanted = self.tag(nonce, cipher);
        let differs = wanted.iter().zip(tag).fold(0, |differs, (a, b)| differs | (a ^ b));
        if differs != 0 {
            return None;
        }
        let mut plain = cipher.to_vec();
        self.stream(nonce, &mut plain);
        Some(plain)
    }

    fn stream(&self, nonce: &[u8; 16], bytes: &mut [u8]) {
        let (key, nonce) = (GenericArray::from_slice(&self.encrypt), GenericArray::from_slice(nonce));
        ctr::Ctr128BE::<aes::Aes256>::new(key, nonce).apply_keystream(bytes);
    }

    fn tag(&self, nonce: &[u8; 16], cipher: &[u8]) -> [u8; 16] {
        let mut block = *GenericArray::from_slice(nonce);
        aes::Aes128::new(GenericArray::from_slice(&self.k)).encrypt_block(&mut block);
        let mut key = [0; 32];
        key[..16].copy_from_slice(&self.r);
        key[16..].copy_from_slice(&block);
        Poly1305::new(GenericArray::from_slice(&key)).compute_unpadded(cipher).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fourth example of "The Poly1305-AES message-authentication code" (Bernstein, 2005), appendix B.
    #[test]
    fn poly1305_aes_as_in_its_paper() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let part = |text: &str| <[u8; 16]>::try_from(hex(text)).unwrap();
        let key = MasterKey {
            encrypt: [0; 32],
            k: part("ec074c835580741701425b623235add6"),
            r: part("851fc40c3467ac0be05cc20404f3f700"),
        };
        let nonce = part("fb447350c4e868c52ac3275cf9d4327e");
        assert_eq!(key.tag(&nonce, &hex("f3f6"))[..], hex("f4c633c3044fc145f84f335cb81953de")[..]);
    }

    #[test]
    fn what_is_sealed_is_opened_and_nothing_else() {
        let key = MasterKey::new().unwrap();
        for length in [0, 1, 15, 16, 17, 1000] {
            let plain: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let sealed = key.seal(&plain).unwrap();
            assert_eq!(sealed.len(), plain.len() + OVERHEAD);
            assert_eq!(key.open(&sealed), Some(plain));
            for bit in 0..sealed.len() * 8 {
                let mut damaged = sealed.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.open(&damaged), None);
            }
            assert_eq!(key.open(&sealed[..sealed.len() - 1]), None);
            assert_eq!(MasterKey::new().unwrap().open(&sealed), None);
        }
    }
}
