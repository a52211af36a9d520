//! The cells of a screen: two grids, of which one is in use, and which of its rows have changed.
//!
//! Every operation clips to the grid, whatever it is asked. All storage is fixed, because there is a screen before there is
//! memory to allocate.

use super::cell::Cell;
use core::ops::Range;

pub const COLUMNS_MAX: usize = 256;
pub const ROWS_MAX: usize = 128;
/// Enough for 1920 × 1200 pixels. Larger screens get larger characters.
pub const CELLS_MAX: usize = 240 * 75;

/// Where the cells of both screens are kept.
pub type Cells = [Cell; CELLS_MAX];

pub struct Grid {
    columns: usize,
    rows: usize,
    /// The rows to be drawn anew, one bit each.
    dirty: u128,
    cells: &'static mut Cells,
    /// The other screen: what full-screen programs leave untouched.
    other: &'static mut Cells,
}

impl Grid {
    /// A blank grid. What is too large is cut.
    pub fn new(columns: usize, rows: usize, [cells, other]: [&'static mut Cells; 2]) -> Self {
        let columns = columns.clamp(1, COLUMNS_MAX);
        let rows = rows.clamp(1, ROWS_MAX.min(CELLS_MAX / columns));
        cells.fill(Cell::BLANK);
        other.fill(Cell::BLANK);
        Self { columns, rows, dirty: 0, cells, other }
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn row(&self, row: usize) -> &[Cell] {
        self.cells.get(self.row_range(row)).unwrap_or(&[])
    }

    /// A dirty row, which from now on counts as drawn.
    pub fn take_dirty_row(&mut self) -> Option<usize> {
        let row = self.dirty.trailing_zeros() as usize;
        if row >= self.rows {
            return None;
        }
        self.dirty &= !(1 << row);
        Some(row)
    }

    pub fn has_dirty_rows(&self) -> bool {
        self.dirty != 0
    }

    pub fn touch(&mut self, row: usize) {
        if row < self.rows {
            self.dirty |= 1 << row;
        }
    }

    pub fn touch_all(&mut self) {
        self.touch_rows(0..self.rows);
    }

    pub fn set(&mut self, row: usize, column: usize, cell: Cell) {
        if let Some(place) = self.row_mut(row).get_mut(column) {
            *place = cell;
        }
    }

    pub fn fill(&mut self, row: usize, columns: Range<usize>, cell: Cell) {
        let end = columns.end.min(self.columns);
        if let Some(places) = self.row_mut(row).get_mut(columns.start..end) {
            places.fill(cell);
        }
    }

    pub fn fill_rows(&mut self, rows: Range<usize>, cell: Cell) {
        for row in rows.start..rows.end.min(self.rows) {
            self.fill(row, 0..self.columns, cell);
        }
    }

    /// Moves what is right of `column` further right, and fills the gap.
    pub fn insert_cells(&mut self, row: usize, column: usize, count: usize, blank: Cell) {
        let count = count.min(self.columns.saturating_sub(column));
        let end = self.columns.saturating_sub(count);
        let cells = self.row_mut(row);
        if column <= end && end <= cells.len() {
            cells.copy_within(column..end, column + count);
        }
        self.fill(row, column..column + count, blank);
    }

    /// Takes cells out; what is right of them moves left.
    pub fn delete_cells(&mut self, row: usize, column: usize, count: usize, blank: Cell) {
        let count = count.min(self.columns.saturating_sub(column));
        let columns = self.columns;
        let cells = self.row_mut(row);
        if column + count <= cells.len() {
            cells.copy_within(column + count.., column);
        }
        self.fill(row, columns - count..columns, blank);
    }

    /// Moves the rows of a region up; blank ones come in at its bottom.
    pub fn scroll_up(&mut self, region: Range<usize>, count: usize, blank: Cell) {
        let Some((region, count)) = self.clip(region, count) else { return };
        let from = self.row_range(region.start + count).start..self.row_range(region.end).start;
        let to = self.row_range(region.start).start;
        self.cells.copy_within(from, to);
        self.fill_rows(region.end - count..region.end, blank);
        self.touch_rows(region);
    }

    /// Moves the rows of a region down; blank ones come in at its top.
    pub fn scroll_down(&mut self, region: Range<usize>, count: usize, blank: Cell) {
        let Some((region, count)) = self.clip(region, count) else { return };
        let from = self.row_range(region.start).start..self.row_range(region.end - count).start;
        let to = self.row_range(region.start + count).start;
        self.cells.copy_within(from, to);
        self.fill_rows(region.start..region.start + count, blank);
        self.touch_rows(region);
    }

    /// Changes to the other screen.
    pub fn swap_screens(&mut self) {
        core::mem::swap(&mut self.cells, &mut self.other);
        self.touch_all();
    }

    fn clip(&self, region: Range<usize>, count: usize) -> Option<(Range<usize>, usize)> {
        let region = region.start..region.end.min(self.rows);
        (!region.is_empty()).then(|| (region.clone(), count.min(region.len())))
    }

    fn touch_rows(&mut self, rows: Range<usize>) {
        for row in rows {
            self.touch(row);
        }
    }

    fn row_range(&self, row: usize) -> Range<usize> {
        let row = row.min(self.rows);
        row * self.columns..((row + 1) * self.columns).min(self.rows * self.columns)
    }

    fn row_mut(&mut self, row: usize) -> &mut [Cell] {
        self.touch(row);
        let range = self.row_range(row);
        self.cells.get_mut(range).unwrap_or(&mut [])
    }
}
