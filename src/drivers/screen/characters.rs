//! From Unicode to the 256 glyphs of code page 437, which a PC's text screen and our bitmap font share.
//!
//! What has no glyph of its own is shown by the nearest one (an accented capital by its letter, a heavy or rounded frame by
//! a light one), and otherwise by [`REPLACEMENT`], so that nothing vanishes and columns stay in line.

/// Shown for what the font lacks: a filled square.
pub const REPLACEMENT: u8 = 0xfe;

/// The upper half of code page 437.
const UPPER_HALF: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»\
    ░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀\
    αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// Glyphs 1 to 31, where ASCII has its control characters.
const LOWEST: &str = "☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼";

/// The character that each glyph shows; for 0 and 127, which programs can't ask for, a blank and a house.
pub const CODE_PAGE: [char; 256] = {
    let (lowest, upper) = (decoded::<31>(LOWEST), decoded::<128>(UPPER_HALF));
    let mut table = [' '; 256];
    let mut glyph = 1;
    while glyph < table.len() {
        table[glyph] = match glyph {
            1..32 => lowest[glyph - 1],
            32..127 => glyph as u8 as char,
            127 => '⌂',
            _ => upper[glyph - 128],
        };
        glyph += 1;
    }
    table
};

/// The characters of a text that has exactly so many, all below U+10000.
const fn decoded<const COUNT: usize>(text: &str) -> [char; COUNT] {
    let bytes = text.as_bytes();
    let mut characters = ['\0'; COUNT];
    let (mut at, mut index) = (0, 0);
    while at < bytes.len() {
        let (code, length) = match bytes[at] {
            first @ 0..0x80 => (first as u32, 1),
            first @ 0x80..0xe0 => ((first as u32 & 0x1f) << 6 | bytes[at + 1] as u32 & 0x3f, 2),
            first => {
                let rest = (bytes[at + 1] as u32 & 0x3f) << 6 | bytes[at + 2] as u32 & 0x3f;
                ((first as u32 & 0x0f) << 12 | rest, 3)
            }
        };
        characters[index] = char::from_u32(code).expect("the tables hold characters");
        at += length;
        index += 1;
    }
    assert!(index == COUNT, "the table is complete");
    characters
}

/// The nearest glyph for each of the frames U+2500 to U+257F.
const FRAMES: &str = "\
    ──││──││──││┌┌┌┌┐┐┐┐└└└└┘┘┘┘├├├├├├├├┤┤┤┤┤┤┤┤┬┬┬┬┬┬┬┬┴┴┴┴┴┴┴┴┼┼┼┼┼┼┼┼┼┼┼┼┼┼┼┼──││\
    ═║╒╓╔╕╖╗╘╙╚╛╜╝╞╟╠╡╢╣╤╥╦╧╨╩╪╫╬┌┐┘└/\\X─│─│─│─│─│─│";

/// Characters that look nearly like another one: the other one comes first in each group.
const LOOKALIKES: [&str; 35] = [
    "'‘’‚‛′",
    "\"“”„″",
    "-‐‑‒–—―−",
    "<‹",
    ">›",
    "*∗⁎",
    ".…",
    "AÀÁÂÃĀ",
    "CĆČ",
    "EÈÊËĒ€",
    "IÌÍÎÏĪ",
    "NŃŇ",
    "OÒÓÔÕØŌ",
    "UÙÚÛŪ",
    "YÝŸ",
    "SŠŚ",
    "ZŽŹ",
    "aãā",
    "cćč©",
    "eē",
    "iī",
    "oõøō",
    "sšś",
    "uū",
    "yý",
    "zžź",
    "r®",
    "x×✗✘",
    "|¦",
    "√✓✔",
    "β",
    "■◼▪●",
    "=≠",
    "►▶▸",
    "◄◀◂",
];

/// What stands in a group of its own above: the German sharp s, which the code page shares with beta.
const SHARP_S: u8 = 0xe1;

/// The glyph to show for a character that [`width`] says takes room.
pub fn glyph(character: char) -> u8 {
    // Nearly all that is ever shown.
    if let ' '..='~' = character {
        return character as u8;
    }
    exact(character)
        .or_else(|| frame(character))
        .or_else(|| LOOKALIKES.iter().find(|group| group.contains(character)).and_then(|group| lookalike(group)))
        .unwrap_or(REPLACEMENT)
}

fn exact(character: char) -> Option<u8> {
    let glyph = CODE_PAGE.iter().position(|&entry| entry == character)?;
    u8::try_from(glyph).ok()
}

fn frame(character: char) -> Option<u8> {
    let index = (character as usize).checked_sub(0x2500)?;
    let nearest = FRAMES.chars().nth(index)?;
    if nearest.is_ascii() { Some(nearest as u8) } else { exact(nearest) }
}

fn lookalike(group: &str) -> Option<u8> {
    match group.chars().next()? {
        'β' => Some(SHARP_S),
        shown if shown.is_ascii() => Some(shown as u8),
        shown => exact(shown),
    }
}

/// How many columns a program takes a character to have (wcwidth(3)): 0 for what combines with its neighbour, 2 for
/// East Asian characters and pictograms.
pub fn width(character: char) -> usize {
    match character as u32 {
        0x300..=0x36f
        | 0x200b..=0x200f
        | 0x202a..=0x202e
        | 0x2060..=0x2064
        | 0x20d0..=0x20f0
        | 0xfe00..=0xfe0f
        | 0xfeff => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// DEC's line-drawing set (`ESC ( 0`): what the characters from `_` to `~` stand for.
pub fn line_drawing(character: char) -> char {
    const SET: &str = "\u{a0}♦▒→↓→↓°±▒↓┘┐┌└┼─────├┤┴┬│≤≥π≠£·";
    match (character as usize).checked_sub('_' as usize) {
        Some(index) => SET.chars().nth(index).unwrap_or(character),
        None => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_complete() {
        assert_eq!(FRAMES.chars().count(), 128);
        for index in 0..128 {
            let shown = glyph(char::from_u32(0x2500 + index).unwrap());
            assert_ne!(shown, REPLACEMENT, "U+{:x}", 0x2500 + index);
        }
        for group in LOOKALIKES {
            assert!(lookalike(group).is_some(), "{group}");
        }
    }

    #[test]
    fn characters_find_their_glyphs() {
        let shown = ['a', 'ü', '─', '╋', '╭', 'É', 'À', '’', '→', '☺', '\u{a0}', '日'].map(glyph);
        assert_eq!(shown, [b'a', 0x81, 0xc4, 0xc5, 0xda, 0x90, b'A', b'\'', 0x1a, 1, 0xff, REPLACEMENT]);
    }

    #[test]
    fn line_drawing_spans_the_set() {
        assert_eq!(['_', '`', 'q', 'x', '~', 'A'].map(line_drawing), ['\u{a0}', '♦', '─', '│', '·', 'A']);
    }
}
