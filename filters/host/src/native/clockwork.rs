//! When a singleton is woken.

use core::cell::Cell;

use super::abi;

/// By what Envoy knows a singleton, and when it is woken.
#[derive(Debug)]
pub(crate) struct Clockwork {
    pub(crate) extension: abi::Extension,
    timer: abi::Timer,
    /// In milliseconds; zero for never.
    pub(crate) period: Cell<u32>,
}

impl Clockwork {
    /// Of an extension that is being made, on the main thread.
    pub(crate) fn new(extension: abi::Extension) -> Self {
        Self {
            extension,
            // SAFETY: the caller is on the main thread.
            timer: unsafe { abi::timer_new(extension) },
            period: Cell::new(0),
        }
    }

    /// Sets the timer.
    pub(crate) fn wind(&self) {
        if self.period.get() > 0 {
            // SAFETY: the timer lives as long as this does, and this is the main thread.
            unsafe { abi::timer_enable(self.timer, self.period.get().into()) };
        }
    }
}

impl Drop for Clockwork {
    fn drop(&mut self) {
        // SAFETY: as above; nobody has it after this.
        unsafe { abi::timer_delete(self.timer) };
    }
}
