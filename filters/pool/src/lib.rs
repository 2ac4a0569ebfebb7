//! The modules' allocator. A request takes some hundred small pieces of memory and gives each back soon: a general
//! allocator spends ten times as long on them as they need.
//!
//! Pieces of up to 1,024 bytes come in classes, 16 bytes apart. One that is given back waits in its class for the next
//! that asks; nothing is searched or merged. New ones are cut from slabs, which are kept: a class holds what
//! it held at its peak. All else is left to Rust's own allocator.

use core::cell::Cell;
use core::ptr;
use std::alloc::{GlobalAlloc, Layout, System};

/// From one class to the next; every piece is aligned to it.
const STEP: usize = 16;
/// The largest class.
const MOST: usize = 1_024;
/// What is asked for when new pieces are needed: a wasm page's quarter.
const SLAB: usize = 16_384;

/// The allocator. It is not for threads; a wasm module has one.
pub struct Pool {
    /// Of each class, the first piece that waits; each holds the address of the next.
    waiting: [Cell<*mut u8>; MOST / STEP],
    /// What is left of the last slab.
    slab: Cell<*mut u8>,
    left: Cell<usize>,
}

// SAFETY: a wasm module without shared memory has one thread.
#[cfg(target_arch = "wasm32")]
unsafe impl Sync for Pool {}

impl Pool {
    /// One that holds nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            waiting: [const { Cell::new(ptr::null_mut()) }; MOST / STEP],
            slab: Cell::new(ptr::null_mut()),
            left: Cell::new(0),
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

    /// A new piece; null where there is no memory.
    #[cold]
    fn cut(&self, size: usize) -> *mut u8 {
        if self.left.get() < size {
            self.keep_rest();
            let Ok(layout) = Layout::from_size_align(SLAB, STEP) else {
                return ptr::null_mut();
            };
            // SAFETY: the layout's size is not zero.
            let slab = unsafe { System.alloc(layout) };
            if slab.is_null() {
                return slab;
            }
            self.slab.set(slab);
            self.left.set(SLAB);
        }
        let piece = self.slab.get();
        // SAFETY: at least `size` bytes are left of the slab.
        self.slab.set(unsafe { piece.add(size) });
        self.left.set(self.left.get() - size);
        piece
    }

    /// What is left of a slab is a piece as well.
    fn keep_rest(&self) {
        let rest = Layout::from_size_align(self.left.replace(0), STEP);
        if let Some((waiting, _)) = rest.ok().and_then(|rest| self.class(rest)) {
            // SAFETY: a rest is a whole number of steps, and nobody else has it.
            unsafe { give(waiting, self.slab.get()) };
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

/// # Safety
/// `piece` must be of this class, and nobody's any more.
unsafe fn give(waiting: &Cell<*mut u8>, piece: *mut u8) {
    // SAFETY: a piece is at least as large as an address and aligned for one.
    unsafe { piece.cast::<*mut u8>().write(waiting.get()) };
    waiting.set(piece);
}

// SAFETY: a piece is cut from a slab once, and is either in its class's list or its owner's. The class follows from the
// layout alone, which is the same when it is given back. Not inlined: it is called from everywhere, and smaller code is
// quicker here.
unsafe impl GlobalAlloc for Pool {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((waiting, size)) = self.class(layout) else {
            // SAFETY: as asked for by the caller.
            return unsafe { System.alloc(layout) };
        };
        let piece = waiting.get();
        if piece.is_null() {
            return self.cut(size);
        }
        // SAFETY: what waits holds the address of the next.
        waiting.set(unsafe { piece.cast::<*mut u8>().read() });
        piece
    }

    #[inline(never)]
    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        match self.class(layout) {
            // SAFETY: the caller gives back what `alloc` gave for this layout.
            Some((waiting, _)) => unsafe { give(waiting, piece) },
            // SAFETY: as above.
            None => unsafe { System.dealloc(piece, layout) },
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that such a layout exists.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (self.class(layout), self.class(wanted)) {
            (Some((_, has)), Some((_, wants))) if has == wants => piece,
            // SAFETY: as asked for by the caller, who has it of the same allocator.
            (None, None) => unsafe { System.realloc(piece, layout, size) },
            _ => {
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
        let size = || prop_oneof![1..200_usize, 1..2_000_usize, Just(MOST), Just(MOST + 1)];
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
        fn pieces_keep_apart(steps in steps()) {
            let pool = Pool::new();
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

    #[test]
    fn what_was_given_back_serves_the_next() {
        let pool = Pool::new();
        let take = |size| {
            let layout = Layout::from_size_align(size, 8).unwrap();
            // SAFETY: the size is not zero.
            (unsafe { pool.alloc(layout) }, layout)
        };
        let mut first: Vec<_> = (1..=MOST).map(take).collect();
        let left = (pool.slab.get(), pool.left.get());
        for (piece, layout) in first.drain(..).rev() {
            // SAFETY: it came from this allocator with this layout.
            unsafe { pool.dealloc(piece, layout) };
        }
        let again: Vec<_> = (1..=MOST).map(take).collect();
        assert_eq!(again.len(), MOST);
        assert_eq!((pool.slab.get(), pool.left.get()), left, "nothing new was cut");
    }
}
