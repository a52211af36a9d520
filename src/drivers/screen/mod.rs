//! The screen: a terminal emulator, and what draws its cells.
//!
//! Writing changes the emulator's grid only. Drawing compares the rows that changed with what the screen is known to show,
//! cell by cell, and draws the difference: nothing is read back, and scrolling costs what really looks different.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "rows and columns are clamped to the screen when they come in; tables are made by the compiler"
)]

pub mod cell;
pub mod characters;
pub mod emulator;
pub mod grid;
mod parser;
pub mod pixels;
pub mod text;

use cell::{Cell, Style};
use emulator::Emulator;
use grid::{CELLS_MAX, COLUMNS_MAX, Cells};
use pixels::Pixels;
use text::TextScreen;

/// What the machine has to show text on.
pub enum Renderer {
    Text(TextScreen),
    Pixels(Pixels),
}

/// The memory of a screen: its two grids, and what it shows. All zeros, so that it lies in .bss.
pub struct Storage {
    grids: [Cells; 2],
    shown: Cells,
}

impl Storage {
    pub const BLANK: Self = Self { grids: [[Cell::BLANK; CELLS_MAX]; 2], shown: [Cell::BLANK; CELLS_MAX] };
}

pub struct Screen {
    pub emulator: Emulator,
    /// What the screen shows now, row after row.
    shown: &'static mut Cells,
    shown_cursor: Option<(usize, usize)>,
    renderer: Option<Renderer>,
}

impl Screen {
    /// Takes the screen over from the loader, and clears it.
    pub fn new(mut renderer: Renderer, storage: &'static mut Storage) -> Self {
        let (columns, rows) = match &mut renderer {
            Renderer::Text(text) => {
                text.prepare();
                (text.columns(), text.rows())
            }
            Renderer::Pixels(pixels) => {
                pixels.clear();
                (pixels.columns(), pixels.rows())
            }
        };
        storage.shown.fill(Cell::BLANK);
        Self {
            emulator: Emulator::new(columns, rows, storage.grids.each_mut()),
            shown: &mut storage.shown,
            shown_cursor: None,
            renderer: Some(renderer),
        }
    }

    /// Draws on, with the screen's memory mapped somewhere else: what it shows is known and stays.
    pub fn reattach(&mut self, renderer: Renderer) {
        self.renderer = Some(renderer);
    }

    /// Stops to draw; what is written is drawn after `reattach`.
    pub fn detach(&mut self) {
        self.renderer = None;
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.emulator.write(bytes);
    }

    pub fn needs_drawing(&self) -> bool {
        self.renderer.is_some()
            && (self.emulator.has_dirty_rows() || self.emulator.visible_cursor() != self.shown_cursor)
    }

    /// Draws what has changed, in at most so many rows; [`Screen::needs_drawing`] tells whether that was all.
    pub fn draw(&mut self, rows_max: usize) {
        let Some(renderer) = &mut self.renderer else { return };
        let cursor = self.emulator.visible_cursor();
        if cursor != self.shown_cursor {
            for (row, _) in cursor.iter().chain(&self.shown_cursor) {
                self.emulator.touch(*row);
            }
            self.shown_cursor = cursor;
            #[cfg(target_os = "none")]
            if let Renderer::Text(text) = renderer {
                text.place_cursor(cursor);
            }
        }
        for _ in 0..rows_max {
            let Some(row) = self.emulator.take_dirty_row() else { break };
            let mut cells = [Cell::BLANK; COLUMNS_MAX];
            let wanted = self.emulator.row(row);
            let columns = wanted.len().min(COLUMNS_MAX);
            cells[..columns].copy_from_slice(&wanted[..columns]);
            if let (Some((_, column)), Renderer::Pixels(_)) = (cursor.filter(|&(at, _)| at == row), &renderer) {
                cells[column].style.insert(Style::CURSOR);
            }
            let start = row * self.emulator.columns();
            for (column, (shown, &cell)) in self.shown[start..].iter_mut().zip(&cells[..columns]).enumerate() {
                if *shown != cell {
                    match renderer {
                        Renderer::Text(text) => text.draw(row, column, cell),
                        Renderer::Pixels(pixels) => pixels.draw(row, column, cell),
                    }
                    *shown = cell;
                }
            }
        }
    }
}
