//! A VT102 with colours: what escape sequences mean (ctlseqs, console_codes(4), the VT102 User Guide).
//!
//! Bytes go in; the grid, the cursor and the answers to the program's questions change. It is plain Rust over plain
//! values: renderers look at [`Emulator::row`], and nothing here knows of hardware.

use super::cell::{Cell, Style, nearest};
use super::characters;
use super::grid::{COLUMNS_MAX, Cells, Grid};
use super::parser::{Action, Parser};
use arrayvec::{ArrayString, ArrayVec};
use bitflags::bitflags;
use core::ops::Range;

bitflags! {
    #[derive(Clone, Copy, PartialEq, Eq)]
    struct Mode: u16 {
        /// At the right margin the next character goes to the next line (DECAWM).
        const AUTO_WRAP = 1 << 0;
        /// Characters push what follows them to the right (IRM).
        const INSERT = 1 << 1;
        /// Rows count from the scroll region's top, and the cursor stays inside (DECOM).
        const ORIGIN = 1 << 2;
        /// A line feed returns the carriage too (LNM).
        const NEW_LINE = 1 << 3;
        const CURSOR_VISIBLE = 1 << 4;
        /// The arrow keys send ESC O instead of ESC [ (DECCKM).
        const APPLICATION_CURSOR = 1 << 5;
        const APPLICATION_KEYPAD = 1 << 6;
        const ALTERNATE_SCREEN = 1 << 7;
    }
}

impl Mode {
    const INITIAL: Self = Self::AUTO_WRAP.union(Self::CURSOR_VISIBLE);
}

/// Where writing goes on, and how it looks: what DECSC saves.
#[derive(Clone, Copy)]
struct Cursor {
    row: usize,
    column: usize,
    /// A character was put into the last column: the next one wraps first.
    wrap_pending: bool,
    style: Style,
    foreground: u8,
    background: u8,
    /// Whether G0 and G1 are DEC's line-drawing set, and which of them is in use.
    line_drawing: [bool; 2],
    shifted_out: bool,
}

impl Cursor {
    const HOME: Self = Self {
        row: 0,
        column: 0,
        wrap_pending: false,
        style: Style::empty(),
        foreground: 0,
        background: 0,
        line_drawing: [false; 2],
        shifted_out: false,
    };
}

/// Where tab stops are at first.
const TAB_COLUMNS: usize = 8;

/// The longest answer is a cursor position; more than a few of them, unread, are dropped.
const REPLIES_MAX: usize = 64;
const LONGEST_REPLY: usize = 16;

/// What the terminal says to the program.
pub type Replies = ArrayVec<u8, REPLIES_MAX>;

pub struct Emulator {
    grid: Grid,
    parser: Parser,
    mode: Mode,
    cursor: Cursor,
    saved_cursor: Cursor,
    /// Where the cursor stood when the alternate screen was entered.
    main_cursor: Cursor,
    /// The rows that scroll.
    region: Range<usize>,
    tab_stops: [bool; COLUMNS_MAX],
    /// For REP.
    last_character: char,
    replies: Replies,
}

impl Emulator {
    /// A blank screen of at most that size, as after power-on.
    pub fn new(columns: usize, rows: usize, cells: [&'static mut Cells; 2]) -> Self {
        let grid = Grid::new(columns, rows, cells);
        let region = 0..grid.rows();
        Self {
            grid,
            parser: Parser::new(),
            mode: Mode::INITIAL,
            cursor: Cursor::HOME,
            saved_cursor: Cursor::HOME,
            main_cursor: Cursor::HOME,
            region,
            tab_stops: core::array::from_fn(|column| column % TAB_COLUMNS == 0),
            last_character: ' ',
            replies: Replies::new(),
        }
    }

    pub fn columns(&self) -> usize {
        self.grid.columns()
    }

    pub fn rows(&self) -> usize {
        self.grid.rows()
    }

    pub fn row(&self, row: usize) -> &[Cell] {
        self.grid.row(row)
    }

    /// Row and column, if it is to be seen.
    pub fn visible_cursor(&self) -> Option<(usize, usize)> {
        self.mode.contains(Mode::CURSOR_VISIBLE).then_some((self.cursor.row, self.cursor.column))
    }

    pub fn application_cursor_keys(&self) -> bool {
        self.mode.contains(Mode::APPLICATION_CURSOR)
    }

    pub fn application_keypad(&self) -> bool {
        self.mode.contains(Mode::APPLICATION_KEYPAD)
    }

    pub fn take_dirty_row(&mut self) -> Option<usize> {
        self.grid.take_dirty_row()
    }

    pub fn has_dirty_rows(&self) -> bool {
        self.grid.has_dirty_rows()
    }

    pub fn touch(&mut self, row: usize) {
        self.grid.touch(row);
    }

    /// What the terminal has to say to the program, once.
    pub fn take_replies(&mut self) -> Replies {
        self.replies.take()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            for action in self.parser.advance(byte).into_iter().flatten() {
                match action {
                    Action::Print(character) => self.print(character),
                    Action::Control(code) => self.control(code),
                    Action::Escape { intermediate, last } => self.escape(intermediate, last),
                    Action::Sequence { marker, intermediate, last } => self.sequence(marker, intermediate, last),
                }
            }
        }
    }

    /// The state after power-on (RIS), with a blank screen.
    fn reset(&mut self) {
        if self.mode.contains(Mode::ALTERNATE_SCREEN) {
            self.grid.swap_screens();
        }
        self.mode = Mode::INITIAL;
        self.cursor = Cursor::HOME;
        self.saved_cursor = Cursor::HOME;
        self.region = 0..self.grid.rows();
        self.tab_stops = core::array::from_fn(|column| column % TAB_COLUMNS == 0);
        self.grid.fill_rows(0..self.grid.rows(), Cell::BLANK);
    }

    // Characters.

    fn print(&mut self, character: char) {
        let drawn = self.cursor.line_drawing[usize::from(self.cursor.shifted_out)];
        let character = if drawn { characters::line_drawing(character) } else { character };
        let width = characters::width(character);
        if width == 0 {
            return;
        }
        self.last_character = character;
        if self.cursor.wrap_pending {
            self.cursor.column = 0;
            self.line_feed();
            self.cursor.wrap_pending = false;
        }
        let cell = Cell { glyph: characters::glyph(character), ..self.pen() };
        for _ in 0..width {
            if self.mode.contains(Mode::INSERT) {
                self.grid.insert_cells(self.cursor.row, self.cursor.column, 1, cell);
            }
            self.grid.set(self.cursor.row, self.cursor.column, cell);
            if self.cursor.column + 1 < self.grid.columns() {
                self.cursor.column += 1;
            } else {
                self.cursor.wrap_pending = self.mode.contains(Mode::AUTO_WRAP);
            }
        }
    }

    /// A blank that looks as what is written now.
    fn pen(&self) -> Cell {
        let Cursor { style, foreground, background, .. } = self.cursor;
        Cell { glyph: 0, style, foreground, background }
    }

    /// What erasing leaves: a blank in the current background colour, and nothing else of the style.
    fn blank(&self) -> Cell {
        let style = self.cursor.style & Style::HAS_BACKGROUND;
        Cell { style, background: self.cursor.background, ..Cell::BLANK }
    }

    // Controls and escapes.

    fn control(&mut self, code: u8) {
        match code {
            0x08 => self.move_to(self.cursor.row, self.cursor.column.saturating_sub(1)),
            b'\t' => self.tab_forward(1),
            b'\n' | 0x0b | 0x0c => {
                if self.mode.contains(Mode::NEW_LINE) {
                    self.cursor.column = 0;
                }
                self.line_feed();
                self.cursor.wrap_pending = false;
            }
            b'\r' => self.move_to(self.cursor.row, 0),
            0x0e => self.cursor.shifted_out = true,
            0x0f => self.cursor.shifted_out = false,
            _ => {}
        }
    }

    fn escape(&mut self, intermediate: u8, last: u8) {
        match (intermediate, last) {
            (0, b'7') => self.saved_cursor = self.cursor,
            (0, b'8') => self.restore_cursor(self.saved_cursor),
            (0, b'D') => self.line_feed(),
            (0, b'E') => {
                self.cursor.column = 0;
                self.line_feed();
            }
            (0, b'H') => self.tab_stops[self.cursor.column] = true,
            (0, b'M') => self.reverse_line_feed(),
            (0, b'Z') => self.reply(format_args!("\x1b[?6c")),
            (0, b'c') => self.reset(),
            (0, b'=') => self.mode.insert(Mode::APPLICATION_KEYPAD),
            (0, b'>') => self.mode.remove(Mode::APPLICATION_KEYPAD),
            (b'(', set) => self.cursor.line_drawing[0] = set == b'0',
            (b')', set) => self.cursor.line_drawing[1] = set == b'0',
            (b'#', b'8') => {
                let pattern = Cell { glyph: b'E', ..Cell::BLANK };
                self.grid.fill_rows(0..self.grid.rows(), pattern);
            }
            _ => {}
        }
    }

    fn line_feed(&mut self) {
        if self.cursor.row + 1 == self.region.end {
            let blank = self.blank();
            self.grid.scroll_up(self.region.clone(), 1, blank);
        } else if self.cursor.row + 1 < self.grid.rows() {
            self.cursor.row += 1;
        }
    }

    fn reverse_line_feed(&mut self) {
        if self.cursor.row == self.region.start {
            let blank = self.blank();
            self.grid.scroll_down(self.region.clone(), 1, blank);
        } else {
            self.cursor.row = self.cursor.row.saturating_sub(1);
        }
    }

    fn tab_forward(&mut self, count: usize) {
        let last = self.grid.columns() - 1;
        for _ in 0..count.min(last) {
            let next = (self.cursor.column + 1..last).find(|&column| self.tab_stops[column]);
            self.cursor.column = next.unwrap_or(last);
        }
    }

    fn tab_backward(&mut self, count: usize) {
        for _ in 0..count.min(self.grid.columns()) {
            let next = (0..self.cursor.column).rev().find(|&column| self.tab_stops[column]);
            self.cursor.column = next.unwrap_or(0);
        }
        self.cursor.wrap_pending = false;
    }

    fn restore_cursor(&mut self, saved: Cursor) {
        self.cursor = saved;
        // The screen never shrinks after its first use, but the saved place is not trusted to fit.
        self.cursor.row = saved.row.min(self.grid.rows() - 1);
        self.cursor.column = saved.column.min(self.grid.columns() - 1);
    }

    fn move_to(&mut self, row: usize, column: usize) {
        self.cursor.row = row.min(self.grid.rows() - 1);
        self.cursor.column = column.min(self.grid.columns() - 1);
        self.cursor.wrap_pending = false;
    }

    /// A row as the program counts it, from 1 and perhaps inside the region, as the grid counts it.
    fn addressed_row(&self, number: usize) -> usize {
        if self.mode.contains(Mode::ORIGIN) {
            (self.region.start + number - 1).min(self.region.end - 1)
        } else {
            number - 1
        }
    }

    // Control sequences.

    /// A parameter for which 0 and absence mean 1.
    fn count(&self, index: usize) -> usize {
        usize::from(self.value(index)).max(1)
    }

    fn value(&self, index: usize) -> u16 {
        self.parser.parameters().get(index).copied().unwrap_or(0)
    }

    fn sequence(&mut self, marker: u8, intermediate: u8, last: u8) {
        match (marker, intermediate, last) {
            (0, 0, b'A'..=b'H' | b'`' | b'a' | b'd' | b'e' | b'f' | b'I' | b'Z') => self.move_cursor(last),
            (0, 0, b'J' | b'K' | b'X' | b'@' | b'P' | b'L' | b'M' | b'S' | b'T') => self.edit(last),
            (0, 0, b'b') => {
                for _ in 0..self.count(0).min(self.grid.columns() * self.grid.rows()) {
                    self.print(self.last_character);
                }
            }
            (0, 0, b'c') if self.value(0) == 0 => self.reply(format_args!("\x1b[?6c")),
            (0, 0, b'g') => match self.value(0) {
                0 => self.tab_stops[self.cursor.column] = false,
                3 => self.tab_stops.fill(false),
                _ => {}
            },
            (0, 0, b'h' | b'l') => self.set_ansi_modes(last == b'h'),
            (b'?', 0, b'h' | b'l') => self.set_private_modes(last == b'h'),
            (0, 0, b'm') => self.select_graphics(),
            (0, 0, b'n') => self.report_status(),
            (0, 0, b'r') => self.set_region(),
            (0, 0, b's') => self.saved_cursor = self.cursor,
            (0, 0, b'u') => self.restore_cursor(self.saved_cursor),
            (0, b'!', b'p') => {
                self.mode = Mode::INITIAL | (self.mode & Mode::ALTERNATE_SCREEN);
                self.region = 0..self.grid.rows();
                self.saved_cursor = Cursor::HOME;
                self.cursor = Cursor { row: self.cursor.row, column: self.cursor.column, ..Cursor::HOME };
            }
            _ => {}
        }
    }

    fn move_cursor(&mut self, last: u8) {
        let Cursor { row, column, .. } = self.cursor;
        let count = self.count(0);
        // Movement up and down stops at the region's edge, unless the cursor is already past it.
        let top = if row >= self.region.start { self.region.start } else { 0 };
        let bottom = if row < self.region.end { self.region.end - 1 } else { self.grid.rows() - 1 };
        let up = row.saturating_sub(count).max(top);
        let down = (row + count).min(bottom);
        match last {
            b'A' => self.move_to(up, column),
            b'B' | b'e' => self.move_to(down, column),
            b'C' | b'a' => self.move_to(row, column + count),
            b'D' => self.move_to(row, column.saturating_sub(count)),
            b'E' => self.move_to(down, 0),
            b'F' => self.move_to(up, 0),
            b'G' | b'`' => self.move_to(row, count - 1),
            b'd' => self.move_to(self.addressed_row(count), column),
            b'H' | b'f' => self.move_to(self.addressed_row(count), self.count(1) - 1),
            b'I' => self.tab_forward(count),
            _ => self.tab_backward(count),
        }
    }

    fn edit(&mut self, last: u8) {
        let Cursor { row, column, .. } = self.cursor;
        let (count, blank) = (self.count(0), self.blank());
        let columns = self.grid.columns();
        self.cursor.wrap_pending = false;
        match last {
            b'J' => match self.value(0) {
                0 => {
                    self.grid.fill(row, column..columns, blank);
                    self.grid.fill_rows(row + 1..self.grid.rows(), blank);
                }
                1 => {
                    self.grid.fill_rows(0..row, blank);
                    self.grid.fill(row, 0..column + 1, blank);
                }
                2 | 3 => self.grid.fill_rows(0..self.grid.rows(), blank),
                _ => {}
            },
            b'K' => match self.value(0) {
                0 => self.grid.fill(row, column..columns, blank),
                1 => self.grid.fill(row, 0..column + 1, blank),
                2 => self.grid.fill(row, 0..columns, blank),
                _ => {}
            },
            b'X' => self.grid.fill(row, column..column + count, blank),
            b'@' => self.grid.insert_cells(row, column, count, blank),
            b'P' => self.grid.delete_cells(row, column, count, blank),
            b'S' => self.grid.scroll_up(self.region.clone(), count, blank),
            b'T' => self.grid.scroll_down(self.region.clone(), count, blank),
            // Lines are inserted and deleted only where the cursor is inside the region.
            b'L' if self.region.contains(&row) => self.grid.scroll_down(row..self.region.end, count, blank),
            b'M' if self.region.contains(&row) => self.grid.scroll_up(row..self.region.end, count, blank),
            _ => {}
        }
    }

    fn set_ansi_modes(&mut self, on: bool) {
        for index in 0..self.parser.parameters().len() {
            match self.value(index) {
                4 => self.mode.set(Mode::INSERT, on),
                20 => self.mode.set(Mode::NEW_LINE, on),
                _ => {}
            }
        }
    }

    fn set_private_modes(&mut self, on: bool) {
        for index in 0..self.parser.parameters().len() {
            match self.value(index) {
                1 => self.mode.set(Mode::APPLICATION_CURSOR, on),
                6 => {
                    self.mode.set(Mode::ORIGIN, on);
                    self.move_to(self.addressed_row(1), 0);
                }
                7 => self.mode.set(Mode::AUTO_WRAP, on),
                25 => self.mode.set(Mode::CURSOR_VISIBLE, on),
                47 | 1047 => self.use_alternate_screen(on),
                66 => self.mode.set(Mode::APPLICATION_KEYPAD, on),
                1048 if on => self.saved_cursor = self.cursor,
                1048 => self.restore_cursor(self.saved_cursor),
                1049 => {
                    if on {
                        self.main_cursor = self.cursor;
                    }
                    let was_on = self.mode.contains(Mode::ALTERNATE_SCREEN);
                    self.use_alternate_screen(on);
                    if was_on && !on {
                        self.restore_cursor(self.main_cursor);
                    }
                }
                _ => {}
            }
        }
    }

    fn use_alternate_screen(&mut self, on: bool) {
        if self.mode.contains(Mode::ALTERNATE_SCREEN) != on {
            self.mode.toggle(Mode::ALTERNATE_SCREEN);
            self.grid.swap_screens();
            if on {
                let blank = self.blank();
                self.grid.fill_rows(0..self.grid.rows(), blank);
            }
        }
    }

    fn set_region(&mut self) {
        let rows = self.grid.rows();
        let top = self.count(0) - 1;
        let bottom = match usize::from(self.value(1)) {
            0 => rows,
            number => number.min(rows),
        };
        if top + 1 < bottom {
            self.region = top..bottom;
            self.move_to(self.addressed_row(1), 0);
        }
    }

    fn select_graphics(&mut self) {
        let mut index = 0;
        while index < self.parser.parameters().len() {
            let value = self.value(index);
            let low = value as u8;
            match value {
                0 => {
                    self.cursor.style = Style::empty();
                    (self.cursor.foreground, self.cursor.background) = (0, 0);
                }
                1 => self.cursor.style.insert(Style::BOLD),
                4 | 21 => self.cursor.style.insert(Style::UNDERLINE),
                7 => self.cursor.style.insert(Style::REVERSE),
                8 => self.cursor.style.insert(Style::INVISIBLE),
                22 => self.cursor.style.remove(Style::BOLD),
                24 => self.cursor.style.remove(Style::UNDERLINE),
                27 => self.cursor.style.remove(Style::REVERSE),
                28 => self.cursor.style.remove(Style::INVISIBLE),
                30..=37 => self.set_foreground(Some(low - 30)),
                38 => index += self.extended_colour(index, Self::set_foreground),
                39 => self.set_foreground(None),
                40..=47 => self.set_background(Some(low - 40)),
                48 => index += self.extended_colour(index, Self::set_background),
                49 => self.set_background(None),
                90..=97 => self.set_foreground(Some(low - 90 + 8)),
                100..=107 => self.set_background(Some(low - 100 + 8)),
                _ => {}
            }
            index += 1;
        }
    }

    /// `38;5;N` and `38;2;R;G;B`, at `index`: how many more parameters it took.
    fn extended_colour(&mut self, index: usize, set: fn(&mut Self, Option<u8>)) -> usize {
        let part = |offset: usize| self.value(index + offset).min(255) as u8;
        match self.value(index + 1) {
            5 => {
                set(self, Some(part(2)));
                2
            }
            2 => {
                set(self, Some(nearest(part(2), part(3), part(4))));
                4
            }
            _ => 0,
        }
    }

    fn set_foreground(&mut self, colour: Option<u8>) {
        self.cursor.style.set(Style::HAS_FOREGROUND, colour.is_some());
        self.cursor.foreground = colour.unwrap_or(0);
    }

    fn set_background(&mut self, colour: Option<u8>) {
        self.cursor.style.set(Style::HAS_BACKGROUND, colour.is_some());
        self.cursor.background = colour.unwrap_or(0);
    }

    fn report_status(&mut self) {
        match self.value(0) {
            5 => self.reply(format_args!("\x1b[0n")),
            6 => {
                let top = if self.mode.contains(Mode::ORIGIN) { self.region.start } else { 0 };
                let row = self.cursor.row.saturating_sub(top) + 1;
                let column = self.cursor.column + 1;
                self.reply(format_args!("\x1b[{row};{column}R"));
            }
            _ => {}
        }
    }

    fn reply(&mut self, text: core::fmt::Arguments) {
        let mut reply = ArrayString::<LONGEST_REPLY>::new();
        // Half an answer would be taken for typing.
        if core::fmt::Write::write_fmt(&mut reply, text).is_ok() && self.replies.remaining_capacity() >= reply.len() {
            self.replies.extend(reply.bytes());
        }
    }
}

#[cfg(test)]
mod tests;
