//! Files that the build script has compressed, so that the program is smaller.
//!
//! Owns how their content is restored. Must not know what is in them. The invariant: a file is what
//! the build script has written, a gzip member without optional fields (RFC 1952 §2.3), so restoring
//! it cannot fail.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

const HEAD_BYTES: usize = 10;
const TAIL_BYTES: usize = 8;

/// The content of a gzip member.
pub fn unpack(file: &[u8]) -> Vec<u8> {
    let end = file.len().saturating_sub(TAIL_BYTES);
    let deflated = file.get(HEAD_BYTES..end).unwrap_or_default();
    // The tail ends with the content's length (ISIZE).
    let length = file.last_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let mut content = vec![0; length];
    let mut state = DecompressorOxide::new();
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, restored) = decompress(&mut state, deflated, &mut content, 0, flags);
    debug_assert_eq!((status, restored), (TINFLStatus::Done, length));
    content
}
