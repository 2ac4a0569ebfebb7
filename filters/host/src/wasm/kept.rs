//! What a worker keeps for all of its configurations: a reload neither ends it nor begins it anew.

use core::cell::Cell;

/// A value that outlives configurations. A VM is one worker's and has one thread.
pub struct Kept<T>(Cell<T>);

// SAFETY: a wasm module without shared memory has one thread.
#[cfg(not(target_feature = "atomics"))]
unsafe impl<T> Sync for Kept<T> {}

impl<T: Default> Kept<T> {
    /// Beginning with this.
    pub const fn new(value: T) -> Self {
        Self(Cell::new(value))
    }

    /// With the value. Never from within itself.
    pub fn with<R>(&self, then: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.0.take();
        let answer = then(&mut value);
        self.0.set(value);
        answer
    }
}
