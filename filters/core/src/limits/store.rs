//! What limits ask of a store: to read a value, and to replace it unless somebody else was quicker.

/// A store of small values that workers share.
pub trait Store {
    /// The value of `key` and its version; `None` where there is none.
    fn get(&mut self, key: &[u8]) -> Result<Option<(Vec<u8>, u32)>, StoreError>;

    /// Stores `value` if the value of `key` still has this version, or, for `None`, if there still is none. `false`
    /// where somebody else was quicker, and nothing was stored.
    fn swap(&mut self, key: &[u8], value: &[u8], version: Option<u32>) -> Result<bool, StoreError>;
}

/// Why a store did not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// It did not answer, or refused.
    Failed,
    /// Others were quicker, again and again.
    Contended,
}

/// How often a lost swap is tried again. Each one that is lost means that another worker got on.
pub(super) const ATTEMPTS: usize = 64;
