//! key-auth, tenant-router and rate-limit as one filter: one VM, and one crossing into it where three modules make
//! three. What they tell each other goes by value; what others read (headers, filter state) is as they leave it.
//!
//! Modules of their own stay what one mixes with other filters.

mod filter;

pub use filter::Gateway;
