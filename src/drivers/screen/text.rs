//! Draws cells on a PC's text screen: two bytes a character at 0xb8000, sixteen colours, a cursor in hardware.

use super::cell::{Cell, NEAREST_OF_SIXTEEN, Style};
use super::grid::{CELLS_MAX, COLUMNS_MAX, ROWS_MAX};

/// Underlined text is shown in this colour instead (cyan), as colour adapters draw no lines.
const UNDERLINE_COLOUR: u8 = 6;

pub struct TextScreen {
    base: *mut u16,
    columns: usize,
    rows: usize,
    pitch_cells: usize,
}

// SAFETY: the screen's memory is reached only through this value, which has one owner at a time.
unsafe impl Send for TextScreen {}

impl TextScreen {
    /// None if the screen has no cells, or lines that overlap.
    ///
    /// # Safety
    /// At `base` lies writable memory of `pitch_cells * rows` cells, for as long as this value is used.
    pub unsafe fn new(base: *mut u16, columns: usize, rows: usize, pitch_cells: usize) -> Option<Self> {
        let usable = columns > 0 && rows > 0 && columns <= pitch_cells;
        let columns = columns.min(COLUMNS_MAX);
        let rows = rows.min(ROWS_MAX).min(CELLS_MAX / columns.max(1));
        usable.then_some(Self { base, columns, rows, pitch_cells })
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn draw(&mut self, row: usize, column: usize, cell: Cell) {
        if row < self.rows && column < self.columns {
            let place = row * self.pitch_cells + column;
            // SAFETY: inside the screen, which `new` was promised, as just found.
            unsafe { self.base.add(place).write_volatile(encoded(cell)) }
        }
    }

    /// Takes the screen over from the firmware: blank, and with sixteen background colours.
    pub fn prepare(&mut self) {
        #[cfg(target_os = "none")]
        self.stop_blinking();
        for row in 0..self.rows {
            for column in 0..self.columns {
                self.draw(row, column, Cell::BLANK);
            }
        }
    }
}

/// Character in the low byte; foreground and background colour in the high one, where red and blue are swapped.
fn encoded(cell: Cell) -> u16 {
    let (foreground, background) = cell.colours();
    let foreground = if cell.style.contains(Style::UNDERLINE) { UNDERLINE_COLOUR } else { foreground };
    let swapped = |colour: u8| {
        let colour = NEAREST_OF_SIXTEEN[usize::from(colour)];
        colour & 0b1010 | (colour & 1) << 2 | (colour & 4) >> 2
    };
    let glyph = if cell.glyph == 0 { b' ' } else { cell.glyph };
    u16::from_le_bytes([glyph, swapped(background) << 4 | swapped(foreground)])
}

#[cfg(target_os = "none")]
mod vga {
    //! The VGA registers that matter to text (IBM VGA Technical Reference, §2).

    use x86_64::instructions::port::Port;

    const CRTC_INDEX: u16 = 0x3d4;
    const CRTC_DATA: u16 = 0x3d5;
    const CURSOR_START: u8 = 0x0a;
    const CURSOR_END: u8 = 0x0b;
    const CURSOR_HIGH: u8 = 0x0e;
    const CURSOR_LOW: u8 = 0x0f;
    const CURSOR_OFF: u8 = 1 << 5;
    const UNDERLINE_FROM: u8 = 13;
    const UNDERLINE_TO: u8 = 14;

    const INPUT_STATUS: u16 = 0x3da;
    const ATTRIBUTE_INDEX_AND_DATA: u16 = 0x3c0;
    const ATTRIBUTE_READ: u16 = 0x3c1;
    /// Index of the attribute controller's mode register; with this bit the palette keeps driving the screen.
    const ATTRIBUTE_MODE: u8 = 0x10 | 1 << 5;
    const BLINK: u8 = 1 << 3;

    fn write_crtc(register: u8, value: u8) {
        // SAFETY: the VGA's CRT controller; the registers written here move the cursor and nothing else.
        unsafe {
            Port::<u8>::new(CRTC_INDEX).write(register);
            Port::<u8>::new(CRTC_DATA).write(value);
        }
    }

    impl super::TextScreen {
        /// Shows the cursor there, or hides it.
        pub fn place_cursor(&mut self, cursor: Option<(usize, usize)>) {
            let Some((row, column)) = cursor else { return write_crtc(CURSOR_START, CURSOR_OFF) };
            let place = (row * self.pitch_cells + column) as u16;
            write_crtc(CURSOR_START, UNDERLINE_FROM);
            write_crtc(CURSOR_END, UNDERLINE_TO);
            write_crtc(CURSOR_HIGH, (place >> 8) as u8);
            write_crtc(CURSOR_LOW, place as u8);
        }

        /// Makes the background's highest bit a brighter colour instead of blinking.
        pub(super) fn stop_blinking(&mut self) {
            // SAFETY: the VGA's attribute controller; reading the status makes the next write an index, and only the
            // blink bit is changed.
            unsafe {
                Port::<u8>::new(INPUT_STATUS).read();
                Port::<u8>::new(ATTRIBUTE_INDEX_AND_DATA).write(ATTRIBUTE_MODE);
                let mode: u8 = Port::new(ATTRIBUTE_READ).read();
                Port::<u8>::new(ATTRIBUTE_INDEX_AND_DATA).write(mode & !BLINK);
                Port::<u8>::new(INPUT_STATUS).read();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_encoded_for_the_adapter() {
        let cell = |glyph, style, foreground, background| encoded(Cell { glyph, style, foreground, background });
        assert_eq!(encoded(Cell::BLANK), 0x0720);
        assert_eq!(cell(b'A', Style::HAS_FOREGROUND, 1, 0), 0x0441, "red is 4 here");
        assert_eq!(cell(b'A', Style::HAS_FOREGROUND | Style::BOLD, 4, 0), 0x0941, "bright blue");
        assert_eq!(cell(b'A', Style::HAS_BACKGROUND, 0, 12), 0x9741);
        assert_eq!(cell(b'A', Style::UNDERLINE, 0, 0), 0x0341);
        assert_eq!(cell(b'A', Style::HAS_FOREGROUND, 196, 0), 0x0441, "the nearest of sixteen");
    }

    #[test]
    fn nothing_is_drawn_outside() {
        let mut memory = [0u16; 16];
        // SAFETY: two rows of eight cells.
        let mut screen = unsafe { TextScreen::new(memory.as_mut_ptr(), 3, 2, 8) }.unwrap();
        for (row, column) in [(0, 3), (2, 0), (1, 2), (usize::MAX, 0)] {
            screen.draw(row, column, Cell::BLANK);
        }
        assert_eq!(memory.iter().filter(|&&cell| cell != 0).count(), 1);
        assert_eq!(memory[8 + 2], 0x0720);
    }
}
