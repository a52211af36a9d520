//! One character on the screen, and the colours it can have.

use bitflags::bitflags;

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Style: u8 {
        const BOLD = 1 << 0;
        const UNDERLINE = 1 << 1;
        const REVERSE = 1 << 2;
        const INVISIBLE = 1 << 3;
        /// The colour fields say something; without these the colours are the default ones.
        const HAS_FOREGROUND = 1 << 4;
        const HAS_BACKGROUND = 1 << 5;
        /// The cursor stands here. Set only in what a renderer is given.
        const CURSOR = 1 << 6;
    }
}

/// A glyph of code page 437 and how it looks. All zeros is a blank in default colours, so that a screen full of them lies
/// in .bss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Cell {
    pub glyph: u8,
    pub style: Style,
    pub foreground: u8,
    pub background: u8,
}

const DEFAULT_FOREGROUND: u8 = 7;
const DEFAULT_BACKGROUND: u8 = 0;
/// The bit that makes a colour of the first eight bright.
const BRIGHT: u8 = 8;

impl Cell {
    pub const BLANK: Self = Self { glyph: 0, style: Style::empty(), foreground: 0, background: 0 };

    /// The colours that are shown, as numbers of the 256-colour palette: foreground, background.
    pub fn colours(self) -> (u8, u8) {
        let mut foreground =
            if self.style.contains(Style::HAS_FOREGROUND) { self.foreground } else { DEFAULT_FOREGROUND };
        let mut background =
            if self.style.contains(Style::HAS_BACKGROUND) { self.background } else { DEFAULT_BACKGROUND };
        if self.style.contains(Style::BOLD) && foreground < BRIGHT {
            foreground += BRIGHT;
        }
        if self.style.contains(Style::REVERSE) {
            (foreground, background) = (background, foreground);
        }
        if self.style.contains(Style::INVISIBLE) {
            foreground = background;
        }
        (foreground, background)
    }
}

/// A colour by its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rgb {
    pub red: u8,
    pub green: u8,
    pub blue: u8,
}

impl Rgb {
    const fn new(red: u8, green: u8, blue: u8) -> Self {
        Self { red, green, blue }
    }

    const fn distance(self, other: Self) -> u32 {
        let red = self.red.abs_diff(other.red) as u32;
        let green = self.green.abs_diff(other.green) as u32;
        let blue = self.blue.abs_diff(other.blue) as u32;
        red * red + green * green + blue * blue
    }
}

/// The sixteen colours of the PC, in the order of escape sequences (red is 1).
const SIXTEEN: [Rgb; 16] = [
    Rgb::new(0x00, 0x00, 0x00),
    Rgb::new(0xaa, 0x00, 0x00),
    Rgb::new(0x00, 0xaa, 0x00),
    Rgb::new(0xaa, 0x55, 0x00),
    Rgb::new(0x00, 0x00, 0xaa),
    Rgb::new(0xaa, 0x00, 0xaa),
    Rgb::new(0x00, 0xaa, 0xaa),
    Rgb::new(0xaa, 0xaa, 0xaa),
    Rgb::new(0x55, 0x55, 0x55),
    Rgb::new(0xff, 0x55, 0x55),
    Rgb::new(0x55, 0xff, 0x55),
    Rgb::new(0xff, 0xff, 0x55),
    Rgb::new(0x55, 0x55, 0xff),
    Rgb::new(0xff, 0x55, 0xff),
    Rgb::new(0x55, 0xff, 0xff),
    Rgb::new(0xff, 0xff, 0xff),
];

/// The 256-colour palette: the sixteen, a cube of 6 × 6 × 6, and 24 greys.
pub const fn rgb(colour: u8) -> Rgb {
    match colour {
        0..16 => SIXTEEN[colour as usize],
        16..232 => {
            let index = colour - 16;
            Rgb::new(cube_level(index / 36), cube_level(index / 6 % 6), cube_level(index % 6))
        }
        232.. => {
            let grey = 8 + 10 * (colour - 232);
            Rgb::new(grey, grey, grey)
        }
    }
}

const fn cube_level(step: u8) -> u8 {
    if step == 0 { 0 } else { 55 + 40 * step }
}

/// The palette's number for a colour given by its parts: the nearest in the cube.
pub fn nearest(red: u8, green: u8, blue: u8) -> u8 {
    let step = |part: u8| match part {
        0..48 => 0,
        48..115 => 1,
        _ => (part - 35) / 40,
    };
    16 + 36 * step(red) + 6 * step(green) + step(blue)
}

/// For each colour of the palette, the nearest of the sixteen, for screens that have no more.
pub static NEAREST_OF_SIXTEEN: [u8; 256] = {
    let mut table = [0; 256];
    let mut colour = 0;
    while colour < table.len() {
        let mut best = 0;
        let mut candidate = 1;
        while candidate < SIXTEEN.len() {
            let wanted = rgb(colour as u8);
            if wanted.distance(SIXTEEN[candidate]) < wanted.distance(SIXTEEN[best]) {
                best = candidate;
            }
            candidate += 1;
        }
        table[colour] = best as u8;
        colour += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn palettes_agree_with_each_other() {
        for colour in 0..16 {
            assert_eq!(NEAREST_OF_SIXTEEN[colour], colour as u8);
        }
        assert_eq!(NEAREST_OF_SIXTEEN[196], 1, "pure red is nearest to red");
        for colour in 16..232 {
            let Rgb { red, green, blue } = rgb(colour);
            assert_eq!(nearest(red, green, blue), colour);
        }
        assert_eq!(rgb(255), Rgb::new(0xee, 0xee, 0xee));
    }

    #[test]
    fn styles_choose_colours() {
        let cell = |style, foreground, background| Cell { glyph: b'x', style, foreground, background }.colours();
        assert_eq!(cell(Style::empty(), 3, 4), (7, 0));
        assert_eq!(cell(Style::BOLD | Style::HAS_FOREGROUND, 1, 4), (9, 0));
        assert_eq!(cell(Style::REVERSE | Style::HAS_BACKGROUND, 1, 4), (4, 7));
        assert_eq!(cell(Style::INVISIBLE, 1, 4), (0, 0));
    }
}
