//! What vi, less, top and readline send, and what must then be on the screen.

use super::super::grid::CELLS_MAX;
use super::*;

fn emulator(columns: usize, rows: usize, text: &str) -> Emulator {
    // Never freed: in the kernel they live for ever too.
    let cells = [(); 2].map(|()| &mut *Box::leak(vec![Cell::BLANK; CELLS_MAX].into_boxed_slice().try_into().unwrap()));
    let mut emulator = Emulator::new(columns, rows, cells);
    emulator.write(text.as_bytes());
    emulator
}

/// The rows as text, blanks at the end left out.
fn lines(emulator: &Emulator) -> Vec<String> {
    (0..emulator.rows())
        .map(|row| {
            let text: String = emulator
                .row(row)
                .iter()
                .map(|cell| if cell.glyph == 0 { ' ' } else { char::from(cell.glyph) })
                .collect();
            text.trim_end().to_string()
        })
        .collect()
}

fn screen(text: &str) -> Vec<String> {
    lines(&emulator(8, 4, text))
}

fn replies(emulator: &mut Emulator) -> String {
    String::from_utf8(emulator.take_replies().to_vec()).unwrap()
}

#[test]
fn lines_wrap_only_when_something_follows() {
    assert_eq!(screen("12345678"), ["12345678", "", "", ""]);
    assert_eq!(screen("12345678\r\nx"), ["12345678", "x", "", ""]);
    assert_eq!(screen("123456789"), ["12345678", "9", "", ""]);
    assert_eq!(screen("\x1b[?7l123456789"), ["12345679", "", "", ""]);
    assert_eq!(screen("12345678\x08x"), ["123456x8", "", "", ""]);
}

#[test]
fn the_screen_and_regions_scroll() {
    assert_eq!(screen("1\r\n2\r\n3\r\n4\r\n5"), ["2", "3", "4", "5"]);
    assert_eq!(screen("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3Hx\r\ny"), ["1", "x", "y", "4"]);
    assert_eq!(screen("1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[2H\x1bMy"), ["1", "y", "2", "4"]);
    assert_eq!(screen("1\r\n2\r\n3\r\n4\x1b[S"), ["2", "3", "4", ""]);
    assert_eq!(screen("1\r\n2\r\n3\r\n4\x1b[99T"), ["", "", "", ""]);
    // Below the region the last line doesn't scroll.
    assert_eq!(screen("1\r\n2\r\n3\r\n4\x1b[1;2r\x1b[4H\nx"), ["1", "2", "3", "x"]);
}

#[test]
fn the_cursor_moves_and_stays_inside() {
    assert_eq!(screen("\x1b[2;3Hx\x1b[Ay\x1b[2Bz\x1b[99Dw"), ["   y", "  x", "w   z", ""]);
    assert_eq!(screen("\x1b[99;99Hx\x1b[99Ay"), ["       y", "", "", "       x"]);
    assert_eq!(screen("\x1b[3dx\x1b[5Gy\x1b[Fz\x1b[Ew"), ["", "z", "w   y", ""]);
    assert_eq!(screen("\x1b[0;0Hx\x1b[65535;65535H\x1b[65535B\x1b[65535C"), ["x", "", "", ""]);
}

#[test]
fn erasing_takes_the_background_along() {
    let full = "12345678123456781234567812345678\x1b[2;4H";
    assert_eq!(screen(&format!("{full}\x1b[J")), ["12345678", "123", "", ""]);
    assert_eq!(screen(&format!("{full}\x1b[1J")), ["", "    5678", "12345678", "12345678"]);
    assert_eq!(screen(&format!("{full}\x1b[2J")), ["", "", "", ""]);
    assert_eq!(screen(&format!("{full}\x1b[K")), ["12345678", "123", "12345678", "12345678"]);
    assert_eq!(screen(&format!("{full}\x1b[1K")), ["12345678", "    5678", "12345678", "12345678"]);
    assert_eq!(screen(&format!("{full}\x1b[2X")), ["12345678", "123  678", "12345678", "12345678"]);
    let emulator = emulator(8, 4, "\x1b[44;1;4mx\x1b[K");
    assert_eq!(emulator.row(0)[5].colours(), (7, 4));
    assert!(!emulator.row(0)[5].style.contains(Style::UNDERLINE));
}

#[test]
fn characters_and_lines_are_inserted_and_deleted() {
    assert_eq!(screen("123456\x1b[1;3H\x1b[2@x"), ["12x 3456", "", "", ""]);
    assert_eq!(screen("123456\x1b[1;3H\x1b[2P"), ["1256", "", "", ""]);
    assert_eq!(screen("123456\x1b[1;3H\x1b[99P"), ["12", "", "", ""]);
    assert_eq!(screen("123456\x1b[1;3H\x1b[99@"), ["12", "", "", ""]);
    assert_eq!(screen("123456\x1b[1;3H\x1b[4hxy\x1b[4lz"), ["12xyz456", "", "", ""]);
    assert_eq!(screen("1\r\n2\r\n3\r\n4\x1b[2H\x1b[L"), ["1", "", "2", "3"]);
    assert_eq!(screen("1\r\n2\r\n3\r\n4\x1b[2H\x1b[2M"), ["1", "4", "", ""]);
    assert_eq!(screen("1\r\n2\r\n3\r\n4\x1b[1;2r\x1b[4H\x1b[M"), ["1", "2", "3", "4"]);
}

#[test]
fn tabs_stop_where_they_are_set() {
    let wide = |text: &str| lines(&emulator(20, 1, text))[0].clone();
    assert_eq!(wide("a\tb\tc"), "a       b       c");
    assert_eq!(wide("\t\t\t\tx"), "                   x");
    assert_eq!(wide("\x1b[3g\x1b[5G\x1bH\ra\tb\tc"), "a   b              c");
    assert_eq!(wide("\t\t\x1b[Zx"), "        x");
}

#[test]
fn colours_and_styles_are_kept_in_cells() {
    let emulator =
        emulator(20, 1, "\x1b[1;31;44ma\x1b[0mb\x1b[7mc\x1b[27;38;5;196md\x1b[48;2;0;0;255me\x1b[39;49;95mf");
    let colours: Vec<_> = emulator.row(0).iter().take(6).map(|cell| cell.colours()).collect();
    assert_eq!(colours, [(9, 4), (7, 0), (0, 7), (196, 0), (196, 21), (13, 0)]);
}

#[test]
fn the_alternate_screen_leaves_the_main_one_alone() {
    let mut emulator = emulator(8, 4, "shell\r\n$ \x1b[?1049h\x1b[Hvi");
    assert_eq!(lines(&emulator), ["vi", "", "", ""]);
    emulator.write(b"\x1b[?1049lx");
    assert_eq!(lines(&emulator), ["shell", "$ x", "", ""]);
    emulator.write(b"\x1b[?1049l");
    assert_eq!(lines(&emulator), ["shell", "$ x", "", ""]);
}

#[test]
fn questions_are_answered() {
    let mut emulator = emulator(8, 4, "\x1b[3;5H\x1b[6n\x1b[5n\x1b[c");
    assert_eq!(replies(&mut emulator), "\x1b[3;5R\x1b[0n\x1b[?6c");
    assert_eq!(replies(&mut emulator), "");
    // How busybox vi and readline ask for the size.
    emulator.write(b"\x1b[999;999H\x1b[6n");
    assert_eq!(replies(&mut emulator), "\x1b[4;8R");
    emulator.write(&b"\x1b[6n".repeat(1000));
    assert_eq!(replies(&mut emulator), "\x1b[4;8R".repeat(REPLIES_MAX / 6));
}

#[test]
fn modes_are_told_to_the_keyboard_and_the_renderer() {
    let mut emulator = emulator(8, 4, "ab");
    assert_eq!((emulator.visible_cursor(), emulator.application_cursor_keys()), (Some((0, 2)), false));
    emulator.write(b"\x1b[?25l\x1b[?1h\x1b=");
    assert_eq!((emulator.visible_cursor(), emulator.application_cursor_keys()), (None, true));
    assert!(emulator.application_keypad());
    emulator.write(b"\x1b[?25;1l");
    assert_eq!((emulator.visible_cursor(), emulator.application_cursor_keys()), (None, false));
    emulator.write(b"\x1bc");
    assert_eq!((emulator.visible_cursor(), lines(&emulator)[0].as_str()), (Some((0, 0)), ""));
}

#[test]
fn saved_cursors_come_back_with_their_colours() {
    let emulator = emulator(8, 4, "\x1b[31m\x1b[2;2H\x1b7\x1b[0m\x1b[H\x1b8x");
    assert_eq!((lines(&emulator)[1].as_str(), emulator.row(1)[1].colours()), (" x", (1, 0)));
}

#[test]
fn frames_and_other_scripts_keep_their_columns() {
    let emulator = emulator(8, 1, "┌─é\u{301}日x\x1b(0q\x1b(Bq");
    let glyphs: Vec<u8> = emulator.row(0).iter().map(|cell| cell.glyph).collect();
    assert_eq!(glyphs, [0xda, 0xc4, 0x82, 0xfe, 0xfe, b'x', 0xc4, b'q']);
}

#[test]
fn only_changed_rows_are_dirty() {
    let mut emulator = emulator(8, 4, "");
    while emulator.take_dirty_row().is_some() {}
    emulator.write(b"a\x1b[3Hb");
    assert_eq!(
        [emulator.take_dirty_row(), emulator.take_dirty_row(), emulator.take_dirty_row()],
        [Some(0), Some(2), None]
    );
}

/// Nothing that a program prints may take the emulator out of its bounds: a cheap fuzzer, always the same.
#[test]
fn no_output_breaks_it() {
    let pieces =
        ["\x1b[", ";", "?", "9", "65535", "0", "\n", "\r", "é", "─", "日", "x", "\t", "\x08", "\x1b", "\x1b(0", "\x0e"];
    let finals = "@ABCDEFGHIJKLMPSTXZ`abcdefghlmnrsu78DEHMZ=>#!";
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    for (columns, rows) in [(1, 1), (2, 3), (80, 25), (256, 70)] {
        let mut emulator = emulator(columns, rows, "");
        for _ in 0..50_000 {
            let piece = random(pieces.len() + finals.len());
            match finals.as_bytes().get(piece) {
                Some(last) => emulator.write(&[*last]),
                None => emulator.write(pieces[piece - finals.len()].as_bytes()),
            }
            assert!(emulator.cursor.row < rows && emulator.cursor.column < columns);
            assert!(emulator.region.start < emulator.region.end && emulator.region.end <= rows);
        }
    }
}
