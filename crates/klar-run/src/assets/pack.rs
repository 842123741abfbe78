//! Compressing once what is sent many times: Brotli (RFC 7932), Zstandard (RFC 8878) and gzip (RFC 1952) at levels that
//! nobody could wait for.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// The best level of Brotli takes a second for half a megabyte; larger files get one that takes a tenth of it.
const BEST_MAX: usize = 384 << 10;
const BROTLI_BEST: u32 = 11;
const BROTLI_LARGE: u32 = 9;
/// 4 MiB: browsers take up to 16.
const BROTLI_WINDOW: u32 = 22;
const ZSTD_LEVEL: i32 = 19;
/// 8 MiB, which is what RFC 9659 lets a content coding use.
const ZSTD_WINDOW: u32 = 23;
const GZIP_LEVEL: u32 = 9;

/// A content coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Coding {
    Br,
    Zstd,
    Gzip,
}

impl Coding {
    /// The one that most visitors get comes first.
    pub const ALL: [Self; 3] = [Self::Br, Self::Zstd, Self::Gzip];

    /// The folder that its copies lie in: as `Content-Encoding` calls it.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Br => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What the name of a copy ends in that lies beside its file.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Br => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// Compresses a file. `None`: it would gain less than a twentieth.
///
/// # Errors
/// When there is no memory for it.
pub fn pack(coding: Coding, content: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let packed = match coding {
        Coding::Br => {
            let quality = if content.len() <= BEST_MAX { BROTLI_BEST } else { BROTLI_LARGE };
            let mut out = brotli::CompressorWriter::new(Vec::new(), 64 << 10, quality, BROTLI_WINDOW);
            out.write_all(content)?;
            out.into_inner()
        }
        Coding::Zstd => {
            let mut out = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
            out.set_pledged_src_size(Some(content.len() as u64))?;
            // A window wider than the file would cost a visitor memory for nothing.
            let needed = (content.len().max(1).ilog2() + 1).clamp(10, ZSTD_WINDOW);
            out.window_log(needed)?;
            out.write_all(content)?;
            out.finish()?
        }
        Coding::Gzip => {
            let level = flate2::Compression::new(GZIP_LEVEL);
            let mut out = flate2::write::GzEncoder::new(Vec::new(), level);
            out.write_all(content)?;
            out.finish()?
        }
    };
    Ok((packed.len() + content.len() / 20 < content.len()).then_some(packed))
}
