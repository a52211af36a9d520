//! System calls with nothing around them: libc's wrappers would be counted too.

use std::arch::asm;

/// Makes a call and returns rax as it is.
///
/// # Safety
/// The caller answers for what this call does with these arguments.
#[inline(always)]
pub unsafe fn raw(number: i64, arguments: [usize; 6]) -> isize {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result: isize;
    // SAFETY: the registers are the ABI's (System V, appendix A.2.1).
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") first, in("rsi") second, in("rdx") third,
            in("r10") fourth, in("r8") fifth, in("r9") sixth, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

/// A call by its name in libc's table; missing arguments are zeros.
#[macro_export]
macro_rules! call {
    ($name:ident $(, $argument:expr)* $(,)?) => {{
        let mut arguments = [0_usize; 6];
        let given: &[usize] = &[$(($argument) as usize),*];
        let mut index = 0;
        while index < given.len() {
            arguments[index] = given[index];
            index += 1;
        }
        // SAFETY: each use passes what its call needs: numbers, or pointers to memory that outlives the call.
        unsafe { $crate::calls::raw(libc::$name, arguments) }
    }};
}

/// An error unless the call gave what it must.
pub fn expect(result: isize, wanted: isize, what: &str) -> Result<(), String> {
    if result == wanted { Ok(()) } else { Err(format!("{what} gave {result}, not {wanted}")) }
}

/// The result, or an error if it is an errno.
pub fn good(result: isize, what: &str) -> Result<usize, String> {
    usize::try_from(result).map_err(|_| format!("{what}: errno {}", result.wrapping_neg()))
}
