//! Reads asm/layout.inc at compile time, so that assembly and Rust cannot disagree about an offset.
//!
//! The structure that an offset points into asserts it: `const _: () = assert!(asm_constant("NAME") == offset_of!(…));`.

#![expect(clippy::indexing_slicing, clippy::panic, reason = "evaluated by the compiler: a wrong index stops the build")]

const LAYOUT: &[u8] = include_bytes!("../../asm/layout.inc");

/// The value that asm/layout.inc gives to `name`. Evaluated by the compiler; a name that isn't there stops the build.
pub const fn asm_constant(name: &str) -> usize {
    let mut position = 0;
    while position < LAYOUT.len() {
        if let Some(after_keyword) = skip_prefix(position, b"%define ")
            && let Some(after_name) = skip_prefix(after_keyword, name.as_bytes())
            && after_name < LAYOUT.len()
            && LAYOUT[after_name] == b' '
        {
            return parse_number(after_name);
        }
        position = next_line(position);
    }
    panic!("asm/layout.inc has no such name")
}

const fn skip_prefix(mut position: usize, prefix: &[u8]) -> Option<usize> {
    let mut index = 0;
    while index < prefix.len() {
        if position >= LAYOUT.len() || LAYOUT[position] != prefix[index] {
            return None;
        }
        position += 1;
        index += 1;
    }
    Some(position)
}

const fn next_line(mut position: usize) -> usize {
    while position < LAYOUT.len() && LAYOUT[position] != b'\n' {
        position += 1;
    }
    position + 1
}

const fn parse_number(mut position: usize) -> usize {
    while LAYOUT[position] == b' ' {
        position += 1;
    }
    let radix = match skip_prefix(position, b"0x") {
        Some(after) => {
            position = after;
            16
        }
        None => 10,
    };
    let mut value = 0;
    while position < LAYOUT.len()
        && let Some(digit) = (LAYOUT[position] as char).to_digit(radix)
    {
        value = value * radix as usize + digit as usize;
        position += 1;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::asm_constant;

    #[test]
    fn decimal_and_hexadecimal_values_are_read() {
        assert_eq!(asm_constant("PER_CPU_SELF"), 0);
        assert_eq!(asm_constant("FRAME_BYTES"), 176);
        assert_eq!(asm_constant("MSR_KERNEL_GS_BASE"), 0xc000_0102);
    }

    #[test]
    fn a_name_is_not_found_by_its_first_part() {
        assert_eq!(asm_constant("FRAME_R8"), 72);
        assert_eq!(asm_constant("FRAME_RSP"), 160);
    }
}
