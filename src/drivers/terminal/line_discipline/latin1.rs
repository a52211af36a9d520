//! Letters as Linux's line discipline knows them: it takes bytes for Latin-1, whatever the terminal speaks. So words of
//! UTF-8 are erased whole.

pub fn is_upper(byte: u8) -> bool {
    byte.is_ascii_uppercase() || matches!(byte, 0xc0..=0xd6 | 0xd8..=0xde)
}

pub fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || matches!(byte, 0xdf..=0xf6 | 0xf8..=0xff)
}

pub fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_digit() || is_upper(byte) || is_lower(byte)
}

/// From a capital letter to the small one.
pub const CASE_DISTANCE: u8 = b'a' - b'A';
