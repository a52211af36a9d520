//! Reads text off a guest's screen: out of a text screen's memory, or off the pixels, by comparing each cell with the glyphs
//! of the kernel's own font. Cells are exact, so nothing is guessed: a cell is a glyph or it isn't.

use crate::picture::Picture;
use std::collections::HashMap;
use std::sync::LazyLock;

const GLYPH_WIDTH: usize = 8;
const GLYPH_HEIGHT: usize = 16;
/// What a cell reads as that shows no printable ASCII.
const UNKNOWN: char = '\u{fffd}';
/// A PSF1 file starts with four bytes of header.
const FONT_HEADER_BYTES: usize = 4;

/// One byte a row of dots, the leftmost dot the highest bit.
type Glyph = [u8; GLYPH_HEIGHT];

/// The printable characters of a font. Where two glyphs are alike, the earlier character wins.
struct Font(HashMap<Glyph, char>);

impl Font {
    fn new(glyphs: &[u8]) -> Font {
        let (glyphs, _) = glyphs.as_chunks::<GLYPH_HEIGHT>();
        let glyph = |code: u8| Some((*glyphs.get(usize::from(code))?, char::from(code)));
        Font((b' '..=b'~').rev().filter_map(glyph).collect())
    }

    /// A cell's character, whatever its two colours are and whichever of them is the background.
    fn character_at(&self, picture: &Picture, left: usize, top: usize) -> char {
        let first = picture.pixel(left, top);
        let dots: Glyph = std::array::from_fn(|y| {
            (0..GLYPH_WIDTH).fold(0, |dots, x| dots << 1 | u8::from(picture.pixel(left + x, top + y) != first))
        });
        let inverse = dots.map(|row| !row);
        *self.0.get(&dots).or_else(|| self.0.get(&inverse)).unwrap_or(&UNKNOWN)
    }
}

static KERNEL_FONT: LazyLock<Font> = LazyLock::new(|| Font::new(&spleen_font::FONT_8X16[FONT_HEADER_BYTES..]));

/// The text that a picture of a pixel screen shows, a line a row of cells.
pub fn text_of(picture: &Picture) -> String {
    let mut text = String::new();
    for top in (0..(picture.height + 1).saturating_sub(GLYPH_HEIGHT)).step_by(GLYPH_HEIGHT) {
        let lefts = (0..(picture.width + 1).saturating_sub(GLYPH_WIDTH)).step_by(GLYPH_WIDTH);
        text.extend(lefts.map(|left| KERNEL_FONT.character_at(picture, left, top)));
        text.push('\n');
    }
    text
}

/// The text that Bochs' window shows while the guest is in text mode: below a bar of buttons, in the VGA BIOS's font, each
/// cell with a ninth column of dots.
pub fn text_of_bochs_window(picture: &Picture, vga_bios: &[u8]) -> String {
    const BAR_HEIGHT: usize = 32;
    const CELL_WIDTH: usize = 9;
    let font = Font::new(vga_font(vga_bios).unwrap_or_default());
    let mut text = String::new();
    for row in 0..25 {
        let top = BAR_HEIGHT + row * GLYPH_HEIGHT;
        text.extend((0..80).map(|column| font.character_at(picture, column * CELL_WIDTH, top)));
        text.push('\n');
    }
    text
}

/// The 8x16 font in a VGA BIOS: found by its first two glyphs, an empty one and a face.
fn vga_font(vga_bios: &[u8]) -> Option<&[u8]> {
    let mut start = [0; 2 * GLYPH_HEIGHT];
    let face = [0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e];
    start[GLYPH_HEIGHT + 2..GLYPH_HEIGHT + 12].copy_from_slice(&face);
    let at = vga_bios.windows(start.len()).position(|window| window == start)?;
    vga_bios.get(at..at + 256 * GLYPH_HEIGHT)
}

/// The text in a text screen's memory: a character and an attribute a cell.
pub fn text_of_cells(cells: &[u8], columns: usize) -> String {
    let mut text = String::new();
    for row in cells.chunks(columns * 2) {
        text.extend(row.iter().step_by(2).map(|&code| match code {
            0 => ' ',
            b' '..=b'~' => char::from(code),
            _ => UNKNOWN,
        }));
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws text as the kernel does, in two colours.
    fn draw(text: &str, foreground: [u8; 3], background: [u8; 3]) -> Picture {
        let (width, height) = (text.len() * GLYPH_WIDTH, GLYPH_HEIGHT);
        let mut pixels = vec![background; width * height];
        for (index, code) in text.bytes().enumerate() {
            for y in 0..GLYPH_HEIGHT {
                let dots = spleen_font::FONT_8X16[FONT_HEADER_BYTES + usize::from(code) * GLYPH_HEIGHT + y];
                for x in 0..GLYPH_WIDTH {
                    if dots << x & 0x80 != 0 {
                        pixels[y * width + index * GLYPH_WIDTH + x] = foreground;
                    }
                }
            }
        }
        Picture { width, height, pixels }
    }

    #[test]
    fn every_printable_character_is_read_back_in_any_colours() {
        let all: String = (b' '..=b'~').map(char::from).collect();
        for (foreground, background) in [([170; 3], [0; 3]), ([0; 3], [255; 3]), ([255, 0, 0], [0, 0, 85])] {
            assert_eq!(text_of(&draw(&all, foreground, background)).trim_end_matches('\n'), all);
        }
    }

    #[test]
    fn what_is_no_glyph_is_not_guessed() {
        let mut picture = draw("A", [255; 3], [0; 3]);
        picture.pixels[3] = [255; 3];
        assert_eq!(text_of(&picture), format!("{UNKNOWN}\n"));
    }

    #[test]
    fn a_vga_bios_has_its_font_found() {
        let mut bios = vec![0; 100];
        bios.extend([0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e]);
        bios.resize(10_000, 1);
        assert!(vga_font(&bios).is_none(), "the glyph after the face is part of what is looked for");
        bios[110..114].fill(0);
        assert_eq!(vga_font(&bios).map(|font| font.len()), Some(4096));
        assert!(vga_font(b"").is_none());
    }

    #[test]
    fn cells_of_a_text_screen_are_read() {
        assert_eq!(text_of_cells(b"K\x07e\x07\0\x07\xb3\x07", 2), format!("Ke\n {UNKNOWN}\n"));
    }
}
