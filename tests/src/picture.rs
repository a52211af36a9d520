//! A picture of a guest's screen: pixels, read from a PPM file or received over RFB.

use crate::failure::Failure;

/// Rows of red, green and blue bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// Reads the binary kind of PPM (P6, 8 bits a colour).
    pub fn from_ppm(bytes: &[u8]) -> Result<Picture, Failure> {
        let mut rest = bytes;
        let mut word = || {
            let start = rest.iter().position(|byte| !byte.is_ascii_whitespace())?;
            let length = rest[start..].iter().position(u8::is_ascii_whitespace)?;
            let (word, tail) = (&rest[start..start + length], &rest[start + length + 1..]);
            rest = tail;
            std::str::from_utf8(word).ok()
        };
        let mut header = || {
            let (magic, width, height, depth) = (word()?, word()?, word()?, word()?);
            (magic == "P6" && depth == "255").then_some((width.parse().ok()?, height.parse().ok()?))
        };
        let (width, height): (usize, usize) = header().ok_or_else(|| Failure::new("not a binary PPM"))?;
        let pixels: Vec<[u8; 3]> = rest.as_chunks::<3>().0.to_vec();
        if pixels.len() != width * height {
            return Err(Failure::new(format!("a PPM of {width}x{height} with {} pixels", pixels.len())));
        }
        Ok(Picture { width, height, pixels })
    }

    pub fn to_ppm(&self) -> Vec<u8> {
        let mut bytes = format!("P6\n{} {}\n255\n", self.width, self.height).into_bytes();
        bytes.extend(self.pixels.iter().flatten());
        bytes
    }

    /// True for the size that a PC's 80x25 text screen has, which no pixel mode shares.
    pub fn is_text_screen(&self) -> bool {
        self.height == 400 && (self.width == 720 || self.width == 640)
    }

    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        self.pixels.get(y * self.width + x).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ppm_is_written_and_read_back() {
        let picture = Picture { width: 2, height: 1, pixels: vec![[1, 2, 3], [10, 32, 255]] };
        assert_eq!(Picture::from_ppm(&picture.to_ppm()).unwrap(), picture);
        assert_eq!(picture.pixel(1, 0), [10, 32, 255]);
    }

    #[test]
    fn broken_ppms_are_refused() {
        for bytes in [&b""[..], b"P6\n1 1\n255\n", b"P5\n1 1\n255\nabc", b"P6 x 1 255 abc", b"P6\n2 1\n255\nabc"] {
            assert!(Picture::from_ppm(bytes).is_err());
        }
    }
}
