//! The modules' allocator. A request takes some hundred small pieces of memory and gives each back soon: a seventh of its
//! instructions went into that with Rust's own allocator.
//!
//! Pieces of up to 1,024 bytes come in classes, 16 bytes apart. One that is given back waits in its class for the next
//! that asks; nothing is searched or merged. They are cut from one arena, and when that is used up they come from Rust's
//! own allocator as all larger ones do: whatever strangers make a module hold, no more than the arena stays in pieces
//! of sizes that nobody asks for again.

use core::cell::Cell;
use core::ptr;
use std::alloc::{GlobalAlloc, Layout, System};

/// From one class to the next; every piece is aligned to it.
const STEP: usize = 16;
/// The largest class.
const MAX: usize = 1_024;
/// Enough for some thousand requests under way. It takes no memory before it is used.
const ARENA: usize = 8 << 20;

/// The allocator. It is not for threads; a wasm module has one.
pub struct Pool {
    /// Of each class, the first piece that waits; each holds the address of the next.
    waiting: [Cell<*mut u8>; MAX / STEP],
    /// Where the arena begins; null before the first piece.
    arena: Cell<*mut u8>,
    /// How much of it is cut.
    cut: Cell<usize>,
}

// SAFETY: a wasm module without shared memory has one thread.
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
unsafe impl Sync for Pool {}

impl Pool {
    /// One that holds nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            waiting: [const { Cell::new(ptr::null_mut()) }; MAX / STEP],
            arena: Cell::new(ptr::null_mut()),
            cut: Cell::new(0),
        }
    }

    /// The list of the class of `layout`, and how large its pieces are; `None` for what is too large.
    fn class(&self, layout: Layout) -> Option<(&Cell<*mut u8>, usize)> {
        if layout.align() > STEP {
            return None;
        }
        let steps = layout.size().div_ceil(STEP);
        Some((self.waiting.get(steps.checked_sub(1)?)?, steps * STEP))
    }

    /// Whether a piece was cut from the arena.
    fn owns(&self, piece: *mut u8) -> bool {
        piece.addr().wrapping_sub(self.arena.get().addr()) < self.cut.get()
    }

    /// A new piece of the arena; `None` when that is used up.
    #[cold]
    fn cut(&self, size: usize) -> Option<*mut u8> {
        if self.arena.get().is_null() {
            let layout = Layout::from_size_align(ARENA, STEP).ok()?;
            // SAFETY: the layout's size is not zero.
            self.arena.set(unsafe { System.alloc(layout) });
        }
        let from = self.cut.get();
        let fits = !self.arena.get().is_null() && from + size <= ARENA;
        fits.then(|| {
            self.cut.set(from + size);
            // SAFETY: so much of the arena is there, and was not cut yet.
            unsafe { self.arena.get().add(from) }
        })
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: a piece of the arena is cut once, and is either in its class's list or its owner's. Its class follows from the
// layout alone, which is the same when it is given back. Not inlined: it is called from everywhere, and smaller code is
// quicker here.
unsafe impl GlobalAlloc for Pool {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if let Some((waiting, size)) = self.class(layout) {
            let piece = waiting.get();
            if !piece.is_null() {
                // SAFETY: what waits holds the address of the next.
                waiting.set(unsafe { piece.cast::<*mut u8>().read() });
                return piece;
            }
            if let Some(piece) = self.cut(size) {
                return piece;
            }
        }
        // SAFETY: as asked for by the caller.
        unsafe { System.alloc(layout) }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.class(layout) {
            Some((waiting, _)) if self.owns(piece) => {
                // SAFETY: it is as large as an address at least and aligned for one, and nobody's any more.
                unsafe { piece.cast::<*mut u8>().write(waiting.get()) };
                waiting.set(piece);
            }
            // SAFETY: the caller gives back what `alloc` gave for this layout, which was not of the arena.
            _ => unsafe { System.dealloc(piece, layout) },
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.owns(piece) {
            // SAFETY: as asked for by the caller, who has it of the same allocator.
            return unsafe { System.realloc(piece, layout, size) };
        }
        // SAFETY: the caller promises that such a layout exists.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let size_of = |layout| self.class(layout).map(|(_, size)| size);
        if size_of(layout) == size_of(wanted) {
            return piece;
        }
        // SAFETY: neither size is zero; both pieces are as large as what is copied, and are two.
        unsafe {
            let moved = self.alloc(wanted);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(piece, moved, layout.size().min(size));
                self.dealloc(piece, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Take { size: usize, align: usize },
        Resize { at: usize, size: usize },
        Give { at: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let size = || prop_oneof![1..200_usize, 1..2_000_usize, Just(MAX), Just(MAX + 1)];
        let step = prop_oneof![
            3 => (size(), 0..7_u32).prop_map(|(size, bits)| Step::Take { size, align: 1 << bits }),
            2 => (0..64_usize, size()).prop_map(|(at, size)| Step::Resize { at, size }),
            2 => (0..64_usize).prop_map(|at| Step::Give { at }),
        ];
        proptest::collection::vec(step, 1..400)
    }

    /// A piece filled with a number of its own.
    struct Piece {
        at: *mut u8,
        layout: Layout,
        mark: u8,
    }

    impl Piece {
        fn fill(&self) {
            // SAFETY: the piece is ours, and as large as its layout.
            unsafe { self.at.write_bytes(self.mark, self.layout.size()) };
        }

        fn is_untouched(&self, size: usize) -> bool {
            // SAFETY: the piece is ours, was filled, and is no smaller than `size`.
            let bytes = unsafe { core::slice::from_raw_parts(self.at, size) };
            bytes.iter().all(|byte| *byte == self.mark)
        }
    }

    proptest! {
        /// Whatever is taken, resized and given back, each piece keeps what its owner wrote, and is aligned.
        #[test]
        fn pieces_keep_apart(left in 0..ARENA / STEP, steps in steps()) {
            let pool = Pool::new();
            pool.cut(STEP).unwrap();
            // Of some arenas little is left, so that pieces come from both allocators.
            pool.cut.set(ARENA - left.min(1_000) * STEP);
            let mut pieces: Vec<Piece> = Vec::new();
            for (mark, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Take { size, align } => {
                        let layout = Layout::from_size_align(size, align).unwrap();
                        // SAFETY: the size is not zero.
                        let at = unsafe { pool.alloc(layout) };
                        let piece = Piece { at, layout, mark: mark as u8 };
                        piece.fill();
                        pieces.push(piece);
                    }
                    Step::Resize { at, size } if at < pieces.len() => {
                        let piece = &mut pieces[at];
                        let kept = piece.layout.size().min(size);
                        // SAFETY: it came from this allocator with this layout; the size is not zero.
                        piece.at = unsafe { pool.realloc(piece.at, piece.layout, size) };
                        piece.layout = Layout::from_size_align(size, piece.layout.align()).unwrap();
                        prop_assert!(piece.is_untouched(kept));
                        piece.fill();
                    }
                    Step::Give { at } if at < pieces.len() => {
                        let piece = pieces.swap_remove(at);
                        // SAFETY: as above.
                        unsafe { pool.dealloc(piece.at, piece.layout) };
                    }
                    Step::Resize { .. } | Step::Give { .. } => {}
                }
                for piece in &pieces {
                    prop_assert_eq!(piece.at.align_offset(piece.layout.align()), 0);
                    prop_assert!(piece.is_untouched(piece.layout.size()));
                }
            }
        }
    }

    fn take(pool: &Pool, size: usize) -> (*mut u8, Layout) {
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the size is not zero.
        (unsafe { pool.alloc(layout) }, layout)
    }

    fn give(pool: &Pool, (piece, layout): (*mut u8, Layout)) {
        // SAFETY: it came from this allocator with this layout.
        unsafe { pool.dealloc(piece, layout) };
    }

    #[test]
    fn what_was_given_back_serves_the_next() {
        let pool = Pool::new();
        let pieces: Vec<_> = (1..=MAX).map(|size| take(&pool, size)).collect();
        let cut = pool.cut.get();
        pieces.into_iter().for_each(|piece| give(&pool, piece));
        let again: Vec<_> = (1..=MAX).map(|size| take(&pool, size)).collect();
        assert_eq!((again.len(), pool.cut.get()), (MAX, cut), "nothing new was cut");
    }

    #[test]
    fn peaks_of_all_sizes_keep_no_more_than_the_arena() {
        let pool = Pool::new();
        for size in (STEP..=MAX).step_by(STEP) {
            let pieces: Vec<_> = (0..ARENA / size + 10).map(|_| take(&pool, size)).collect();
            assert!(pieces.iter().all(|(piece, _)| !piece.is_null()));
            assert!(pieces.iter().any(|(piece, _)| !pool.owns(*piece)), "{size}");
            pieces.into_iter().for_each(|piece| give(&pool, piece));
            assert!(pool.cut.get() <= ARENA);
        }
        // One that is not of the arena grows within its class, and into the arena's sizes.
        let (piece, layout) = take(&pool, 1_000);
        assert!(!pool.owns(piece));
        // SAFETY: it came from this allocator with this layout, and has as many bytes.
        let byte = unsafe {
            piece.write_bytes(7, 1_000);
            let grown = pool.realloc(piece, layout, 1_024);
            grown.add(999).read()
        };
        assert_eq!(byte, 7);
    }
}
