//! What every kernel object has, whichever programs are in it.

use core::panic::PanicInfo;

/// Never reached: the build refuses an object in which a panic is.
#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// The kernel lets only GPL-compatible programs call some of its helpers; this half of the project is under the GPL too.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
