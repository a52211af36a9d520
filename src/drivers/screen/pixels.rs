//! Draws cells into a linear framebuffer of 15, 16, 24 or 32 bits a pixel, with the colours' bits wherever they lie.
//!
//! The framebuffer is only ever written to: reading one back is many times slower, and what it shows is known anyway. On
//! large screens each dot of the font becomes a square of several pixels.

use super::cell::{Cell, Rgb, Style, rgb};
use super::characters::{CODE_PAGE, REPLACEMENT};
use super::grid::{CELLS_MAX, COLUMNS_MAX, ROWS_MAX};
use crate::boot::{ColorField, Framebuffer};

const GLYPH_WIDTH: usize = 8;
const GLYPH_HEIGHT: usize = 16;
const UNDERLINE_ROW: usize = 14;
/// Enough for 8K screens.
const SCALE_MAX: usize = 4;
const LINE_BYTES_MAX: usize = GLYPH_WIDTH * SCALE_MAX * 4;

/// Spleen 8x16, a PSF1 file: four bytes of header, the glyphs, and for each glyph the characters it shows.
const FONT: &[u8] = spleen_font::FONT_8X16;
const FONT_HEADER_BYTES: usize = 4;
const FONT_GLYPHS: usize = 512;
const FONT_CHARACTERS: usize = FONT_HEADER_BYTES + FONT_GLYPHS * GLYPH_HEIGHT;
/// Ends each glyph's characters.
const END_OF_GLYPH: u16 = 0xffff;
const _: () = assert!(matches!(FONT, [0x36, 0x04, 0x03, 16, ..]), "PSF1, 512 glyphs, with their characters, 16 rows");

type Bitmap = [u8; GLYPH_HEIGHT];

/// The glyphs in the order of code page 437. Where Spleen shows no such character there is the replacement's.
static GLYPHS: [Bitmap; 256] = {
    let mut glyphs = [[0; GLYPH_HEIGHT]; 256];
    let mut code = 0;
    while code < glyphs.len() {
        let glyph = match spleen_glyph(CODE_PAGE[code]) {
            Some(glyph) => glyph,
            None => match spleen_glyph(CODE_PAGE[REPLACEMENT as usize]) {
                Some(glyph) => glyph,
                None => panic!("the font has a replacement"),
            },
        };
        let mut row = 0;
        while row < GLYPH_HEIGHT {
            glyphs[code][row] = FONT[FONT_HEADER_BYTES + glyph * GLYPH_HEIGHT + row];
            row += 1;
        }
        code += 1;
    }
    glyphs
};

const fn spleen_glyph(character: char) -> Option<usize> {
    let character = match character {
        '►' => '>',
        '◄' => '<',
        '∟' => '└',
        other => other,
    };
    let (mut at, mut glyph) = (FONT_CHARACTERS, 0);
    while at + 1 < FONT.len() {
        let entry = u16::from_le_bytes([FONT[at], FONT[at + 1]]);
        if entry == END_OF_GLYPH {
            glyph += 1;
        } else if entry as u32 == character as u32 {
            return Some(glyph);
        }
        at += 2;
    }
    None
}

pub struct Pixels {
    base: *mut u8,
    format: Framebuffer,
    bytes_per_pixel: usize,
    scale: usize,
}

// SAFETY: the framebuffer is reached only through this value, which has one owner at a time.
unsafe impl Send for Pixels {}

impl Pixels {
    /// None for what can't be drawn into: other depths, or a screen too small for text.
    ///
    /// # Safety
    /// At `base` lies writable memory of `pitch_bytes * height` bytes, for as long as this value is used.
    pub unsafe fn new(base: *mut u8, format: Framebuffer) -> Option<Self> {
        let bytes_per_pixel = match format.bits_per_pixel {
            15 | 16 => 2,
            24 => 3,
            32 => 4,
            _ => return None,
        };
        let scale = (1..=SCALE_MAX).find(|&scale| fits(&format, scale)).unwrap_or(SCALE_MAX);
        let pixels = Self { base, format, bytes_per_pixel, scale };
        let line_bytes = (format.width as usize).checked_mul(bytes_per_pixel)?;
        let usable = pixels.columns() > 0 && pixels.rows() > 0 && line_bytes <= format.pitch_bytes as usize;
        usable.then_some(pixels)
    }

    pub fn columns(&self) -> usize {
        (self.format.width as usize / (GLYPH_WIDTH * self.scale)).min(COLUMNS_MAX)
    }

    pub fn rows(&self) -> usize {
        let rows = self.format.height as usize / (GLYPH_HEIGHT * self.scale);
        rows.min(ROWS_MAX).min(CELLS_MAX / self.columns().max(1))
    }

    /// Makes everything black, the margins too: what a screen full of blank cells looks like.
    pub fn clear(&mut self) {
        const BLACK: [u8; LINE_BYTES_MAX] = [0; LINE_BYTES_MAX];
        let line_bytes = self.format.width as usize * self.bytes_per_pixel;
        for y in 0..self.format.height as usize {
            let mut x_bytes = 0;
            while x_bytes < line_bytes {
                let piece = (line_bytes - x_bytes).min(LINE_BYTES_MAX);
                self.write_line(y, x_bytes, &BLACK[..piece]);
                x_bytes += piece;
            }
        }
    }

    pub fn draw(&mut self, row: usize, column: usize, cell: Cell) {
        if row >= self.rows() || column >= self.columns() {
            return;
        }
        match self.bytes_per_pixel {
            2 => self.draw_in_depth::<2>(row, column, cell),
            3 => self.draw_in_depth::<3>(row, column, cell),
            _ => self.draw_in_depth::<4>(row, column, cell),
        }
    }

    fn draw_in_depth<const BYTES: usize>(&mut self, row: usize, column: usize, cell: Cell) {
        let (mut foreground, mut background) = cell.colours();
        if cell.style.contains(Style::CURSOR) {
            (foreground, background) = (background, foreground);
        }
        let shades: [[u8; BYTES]; 2] = [background, foreground].map(|colour| {
            let [a, b, c, d] = self.pack(rgb(colour)).to_le_bytes();
            core::array::from_fn(|index| [a, b, c, d][index])
        });
        let mut bitmap = GLYPHS[usize::from(cell.glyph)];
        if cell.style.contains(Style::UNDERLINE) {
            bitmap[UNDERLINE_ROW] = 0xff;
        }
        for (y, dots) in bitmap.into_iter().enumerate() {
            let mut line = [0; LINE_BYTES_MAX];
            let (pixels, _) = line.as_chunks_mut::<BYTES>();
            for x in 0..GLYPH_WIDTH {
                let shade = shades[usize::from(dots >> (GLYPH_WIDTH - 1 - x) & 1)];
                pixels[x * self.scale..(x + 1) * self.scale].fill(shade);
            }
            let line_bytes = GLYPH_WIDTH * self.scale * BYTES;
            for repeat in 0..self.scale {
                let line_number = (row * GLYPH_HEIGHT + y) * self.scale + repeat;
                self.write_line(line_number, column * line_bytes, &line[..line_bytes]);
            }
        }
    }

    /// The pixel of a colour, in the framebuffer's format.
    fn pack(&self, colour: Rgb) -> u32 {
        let place = |part: u8, field: ColorField| {
            let size = u32::from(field.size_bits).min(8);
            (u32::from(part) >> (8 - size)).checked_shl(u32::from(field.position)).unwrap_or(0)
        };
        place(colour.red, self.format.red)
            | place(colour.green, self.format.green)
            | place(colour.blue, self.format.blue)
    }

    /// Writes part of a line of pixels, eight bytes at a time where they are aligned, as nearly always.
    fn write_line(&mut self, y: usize, x_bytes: usize, bytes: &[u8]) {
        let pitch_bytes = self.format.pitch_bytes as usize;
        if y >= self.format.height as usize || x_bytes + bytes.len() > pitch_bytes {
            return;
        }
        // SAFETY: the line and the bytes in it were just found to lie inside the framebuffer, which `new` was promised.
        let start = unsafe { self.base.add(y * pitch_bytes + x_bytes) };
        let (words, rest) = if start.addr().is_multiple_of(8) { bytes.as_chunks::<8>() } else { (&[][..], bytes) };
        for (index, word) in words.iter().enumerate() {
            // SAFETY: inside the framebuffer, as above, and aligned to eight bytes.
            unsafe { start.cast::<u64>().add(index).write_volatile(u64::from_le_bytes(*word)) }
        }
        for (index, byte) in rest.iter().enumerate() {
            // SAFETY: inside the framebuffer, as above.
            unsafe { start.add(words.len() * 8 + index).write_volatile(*byte) }
        }
    }
}

/// Whether the whole screen can be covered with cells of that scale.
fn fits(format: &Framebuffer, scale: usize) -> bool {
    let columns = format.width as usize / (GLYPH_WIDTH * scale);
    let rows = format.height as usize / (GLYPH_HEIGHT * scale);
    columns <= COLUMNS_MAX && rows <= ROWS_MAX && columns * rows <= CELLS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use x86_64::PhysAddr;

    fn framebuffer(bits_per_pixel: u8, fields: [(u8, u8); 3], pitch_bytes: u32) -> Framebuffer {
        let [red, green, blue] = fields.map(|(position, size_bits)| ColorField { position, size_bits });
        Framebuffer { address: PhysAddr::zero(), pitch_bytes, width: 24, height: 32, bits_per_pixel, red, green, blue }
    }

    /// Draws a full block in bright red at row 1, column 1, and returns the memory.
    fn drawn(format: Framebuffer) -> Vec<u8> {
        let mut memory = vec![0u64; (format.pitch_bytes * format.height) as usize / 8 + 1];
        // SAFETY: the vector is as large as the framebuffer.
        let mut pixels = unsafe { Pixels::new(memory.as_mut_ptr().cast(), format) }.unwrap();
        assert_eq!((pixels.columns(), pixels.rows()), (3, 2));
        pixels.draw(1, 1, Cell { glyph: 0xdb, style: Style::HAS_FOREGROUND, foreground: 9, background: 0 });
        memory.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn each_depth_is_drawn() {
        let pixel = |memory: &[u8], pitch: usize, bytes: usize, x: usize, y: usize| {
            memory[y * pitch + x * bytes..][..bytes].to_vec()
        };
        for (bits, fields, pitch, bytes, expected) in [
            (32, [(16, 8), (8, 8), (0, 8)], 96, 4, vec![0x55, 0x55, 0xff, 0]),
            (32, [(0, 8), (8, 8), (16, 8)], 104, 4, vec![0xff, 0x55, 0x55, 0]),
            (24, [(16, 8), (8, 8), (0, 8)], 75, 3, vec![0x55, 0x55, 0xff]),
            (16, [(11, 5), (5, 6), (0, 5)], 48, 2, vec![0xaa, 0xfa]),
            (15, [(10, 5), (5, 5), (0, 5)], 48, 2, vec![0x4a, 0x7d]),
        ] {
            let memory = drawn(framebuffer(bits, fields, pitch as u32));
            for (x, y) in [(8, 16), (15, 31), (12, 20)] {
                assert_eq!(pixel(&memory, pitch, bytes, x, y), expected, "{bits} bits, pitch {pitch}, at {x},{y}");
            }
            for (x, y) in [(7, 16), (16, 16), (8, 15)] {
                assert_eq!(
                    pixel(&memory, pitch, bytes, x, y),
                    vec![0; bytes],
                    "{bits} bits, pitch {pitch}, at {x},{y}"
                );
            }
        }
    }

    #[test]
    fn large_screens_get_large_characters() {
        let mut memory = [0u64; 1];
        for (width, height, columns, rows) in [
            (640, 480, 80, 30),
            (1024, 768, 128, 48),
            (1920, 1200, 240, 75),
            (3840, 2160, 240, 67),
            (2560, 1600, 160, 50),
        ] {
            let format = Framebuffer { width, height, ..framebuffer(32, [(16, 8), (8, 8), (0, 8)], width * 4) };
            // SAFETY: nothing is drawn.
            let pixels = unsafe { Pixels::new(memory.as_mut_ptr().cast(), format) }.unwrap();
            assert_eq!((pixels.columns(), pixels.rows()), (columns, rows), "{width} x {height}");
        }
    }

    #[test]
    fn what_cannot_be_drawn_into_is_refused() {
        let good = framebuffer(32, [(16, 8), (8, 8), (0, 8)], 96);
        for bad in [
            Framebuffer { bits_per_pixel: 8, ..good },
            Framebuffer { width: 0, ..good },
            Framebuffer { height: 15, ..good },
            Framebuffer { pitch_bytes: 95, ..good },
            Framebuffer { width: u32::MAX, ..good },
        ] {
            // SAFETY: nothing is drawn.
            assert!(unsafe { Pixels::new(core::ptr::null_mut(), bad) }.is_none(), "{bad:?}");
        }
    }
}
