//! What is kept for all configurations: a reload neither ends it nor begins it anew.

use std::sync::{Mutex, PoisonError};

/// A value that outlives configurations. All workers share it.
pub struct Kept<T>(Mutex<T>);

impl<T: Default> Kept<T> {
    /// Beginning with this.
    pub const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// With the value. Never from within itself.
    pub fn with<R>(&self, then: impl FnOnce(&mut T) -> R) -> R {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
