//! Matrix products of bf16 on the tile registers of AMX.
//!
//! A tile register holds 16 rows of 64 bytes. Four hold the sums of 32 rows by
//! 32 columns, two the left operand and two the right one, whose packed pairs
//! ([`Packing`](crate::candle::kernels::packed::Packing)) are what the
//! instruction reads. Rust has no stable intrinsics for them, and no values
//! that live in them, so one block of assembly does a whole tile.

use std::arch::asm;
use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::cell::Cell;
use std::sync::OnceLock;

use half::bf16;

use super::super::product::{Left, Right, Sums};
use super::LANES;

/// Rows of a tile register.
const ROWS: usize = 16;
/// Steps (pairs of bf16) of a row of a tile register.
const STEPS: usize = 16;

/// Whether the CPU has the instructions and the system lets this process use
/// the registers, which Linux wants to be asked for.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| has_instructions() && system_allows())
}

fn has_instructions() -> bool {
    const AMX_BF16: u32 = 1 << 22;
    const AMX_TILE: u32 = 1 << 24;
    /// XCR0: the system saves tile configuration and tile data.
    const SAVED: u64 = 1 << 17 | 1 << 18;

    #[target_feature(enable = "xsave")]
    fn saved() -> u64 {
        // SAFETY: register 0 exists wherever the instruction does.
        unsafe { _xgetbv(0) }
    }
    let edx = __cpuid_count(7, 0).edx;
    edx & AMX_BF16 != 0
        && edx & AMX_TILE != 0
        && is_x86_feature_detected!("xsave")
        // SAFETY: just detected.
        && unsafe { saved() } & SAVED == SAVED
}

/// Asks for the registers, once for all threads of the process.
#[cfg(target_os = "linux")]
fn system_allows() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: a request by value, which touches no memory of ours.
    unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        ) == 0
    }
}

/// Other systems are not known to be asked.
#[cfg(not(target_os = "linux"))]
fn system_allows() -> bool {
    false
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The shape that a thread's tile registers are set to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    /// Rows of the left operand, up to twice [`ROWS`].
    rows: usize,
    /// Steps of the inner dimension in a register.
    steps: usize,
}

impl Shape {
    /// The shape for a product of `rows` rows over `steps` steps: the most steps
    /// that divide them, so that no register is ever partly meaningless.
    fn of(rows: usize, steps: usize) -> Shape {
        let divides = |n: &usize| steps.is_multiple_of(*n);
        Shape {
            rows,
            steps: (1..=STEPS).rev().find(divides).unwrap_or(1),
        }
    }

    /// Sets this thread's registers to the shape.
    fn load(self) {
        let (upper, lower) = (self.rows.min(ROWS), self.rows.saturating_sub(ROWS));
        let inner = (4 * self.steps) as u16;
        let mut config = Config {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes: [0; 16],
            rows: [0; 16],
        };
        let full = (4 * LANES) as u16;
        let registers = [
            (upper, full),
            (upper, full),
            (lower, full),
            (lower, full),
            (upper, inner),
            (lower, inner),
            (self.steps, full),
            (self.steps, full),
        ];
        for (i, (rows, bytes)) in registers.into_iter().enumerate() {
            config.rows[i] = rows as u8;
            config.row_bytes[i] = if rows == 0 { 0 } else { bytes };
        }
        // SAFETY: the configuration is valid: at most 16 rows of 64 bytes, and
        // both zero in a register that is not used.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &config, options(nostack, readonly)) };
    }
}

thread_local! {
    /// The steps of the product that this thread's registers were last set for,
    /// and to what. Nothing else uses tile registers on an engine's threads.
    static CURRENT: Cell<Option<(usize, Shape)>> = const { Cell::new(None) };
}

/// Sets this thread's registers for `rows` rows and `steps` steps.
fn configure(rows: usize, steps: usize) -> Shape {
    let current = CURRENT.get();
    if let Some((of, shape)) = current
        && (of, shape.rows) == (steps, rows)
    {
        return shape;
    }
    let shape = Shape::of(rows, steps);
    if current.is_none_or(|(_, current)| current != shape) {
        shape.load();
    }
    CURRENT.set(Some((steps, shape)));
    shape
}

/// Computes one tile of at most 32 rows.
///
/// # Safety
/// As for [`tile`](super::super::product::tile), and [`available`] must hold.
pub(super) unsafe fn tile(
    rows: usize,
    left: &Left<bf16>,
    right: &Right<bf16>,
    steps: usize,
    sums: Sums,
) {
    let shape = configure(rows, steps);
    let count = steps / shape.steps;
    let left_stride = left.stride * size_of::<bf16>();
    let right_stride = right.stride * size_of::<bf16>();
    let sums_stride = sums.stride * size_of::<f32>();
    let from = sums.from.unwrap_or(std::ptr::null());
    // Sums in 0 to 3, row by row; the left operand in 4 and 5, the right one in
    // 6 and 7. `lower` is where the second sixteen rows of something begin.
    macro_rules! product {
        (read $($read:literal)*; clear $($clear:literal)*; step $($step:literal)*; write $($write:literal)*) => {
            asm!(
                "test {from}, {from}",
                "jz 2f",
                "mov {lower}, {sums}",
                "shl {lower}, 4",
                "add {lower}, {from}",
                $($read,)*
                "jmp 3f",
                "2:",
                $($clear,)*
                "3:",
                "mov {lower}, {left}",
                "shl {lower}, 4",
                "add {lower}, {a}",
                "4:",
                $($step,)*
                "add {a}, {left_step}",
                "add {lower}, {left_step}",
                "add {b}, {right_step}",
                "dec {count}",
                "jnz 4b",
                "mov {lower}, {sums}",
                "shl {lower}, 4",
                "add {lower}, {to}",
                $($write,)*
                a = inout(reg) left.at => _,
                b = inout(reg) right.at => _,
                count = inout(reg) count => _,
                lower = out(reg) _,
                left = in(reg) left_stride,
                left_step = in(reg) shape.steps * 2 * size_of::<bf16>(),
                right = in(reg) right_stride,
                right_step = in(reg) shape.steps * right_stride,
                from = in(reg) from,
                to = in(reg) sums.to,
                sums = in(reg) sums_stride,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            )
        };
    }
    // SAFETY: operands and sums lie within the caller's memory: the registers
    // hold `rows` rows, and `count` times the shape's steps are all steps.
    unsafe {
        match (rows > ROWS, right.columns > LANES) {
            (true, true) => product!(
                read "tileloadd tmm0, [{from} + {sums}]" "tileloadd tmm1, [{from} + {sums} + 64]"
                    "tileloadd tmm2, [{lower} + {sums}]" "tileloadd tmm3, [{lower} + {sums} + 64]";
                clear "tilezero tmm0" "tilezero tmm1" "tilezero tmm2" "tilezero tmm3";
                step "tileloadd tmm6, [{b} + {right}]" "tileloadd tmm4, [{a} + {left}]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tileloadd tmm7, [{b} + {right} + 64]" "tdpbf16ps tmm1, tmm4, tmm7"
                    "tileloadd tmm5, [{lower} + {left}]" "tdpbf16ps tmm2, tmm5, tmm6"
                    "tdpbf16ps tmm3, tmm5, tmm7";
                write "tilestored [{to} + {sums}], tmm0" "tilestored [{to} + {sums} + 64], tmm1"
                    "tilestored [{lower} + {sums}], tmm2" "tilestored [{lower} + {sums} + 64], tmm3"
            ),
            (true, false) => product!(
                read "tileloadd tmm0, [{from} + {sums}]" "tileloadd tmm2, [{lower} + {sums}]";
                clear "tilezero tmm0" "tilezero tmm2";
                step "tileloadd tmm6, [{b} + {right}]" "tileloadd tmm4, [{a} + {left}]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tileloadd tmm5, [{lower} + {left}]" "tdpbf16ps tmm2, tmm5, tmm6";
                write "tilestored [{to} + {sums}], tmm0" "tilestored [{lower} + {sums}], tmm2"
            ),
            (false, true) => product!(
                read "tileloadd tmm0, [{from} + {sums}]" "tileloadd tmm1, [{from} + {sums} + 64]";
                clear "tilezero tmm0" "tilezero tmm1";
                step "tileloadd tmm6, [{b} + {right}]" "tileloadd tmm4, [{a} + {left}]"
                    "tdpbf16ps tmm0, tmm4, tmm6"
                    "tileloadd tmm7, [{b} + {right} + 64]" "tdpbf16ps tmm1, tmm4, tmm7";
                write "tilestored [{to} + {sums}], tmm0" "tilestored [{to} + {sums} + 64], tmm1"
            ),
            (false, false) => product!(
                read "tileloadd tmm0, [{from} + {sums}]";
                clear "tilezero tmm0";
                step "tileloadd tmm6, [{b} + {right}]" "tileloadd tmm4, [{a} + {left}]"
                    "tdpbf16ps tmm0, tmm4, tmm6";
                write "tilestored [{to} + {sums}], tmm0"
            ),
        }
    }
}

/// `rounds` products, at least one, of full registers into each of four:
/// [`FLOPS_PER_ROUND`] each.
///
/// # Safety
/// [`available`] must hold.
pub(crate) unsafe fn products(rounds: usize) {
    configure(2 * ROWS, STEPS);
    // SAFETY: registers only, which are this thread's own.
    unsafe {
        asm!(
            "tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3",
            "tilezero tmm4", "tilezero tmm5", "tilezero tmm6", "tilezero tmm7",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) rounds => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, nomem),
        );
    }
}

/// Four products of 16 x 16 sums over 16 pairs.
pub(crate) const FLOPS_PER_ROUND: usize = 4 * 2 * ROWS * LANES * 2 * STEPS;
