//! Envoy's types, as it and a module pass them, and the module's hooks.

use core::ffi::c_void;

/// Bytes of whoever passes them.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Buffer {
    /// Where they are; null for none.
    pub(crate) data: *const u8,
    /// How many.
    pub(crate) len: usize,
}

impl Buffer {
    pub(crate) const NONE: Self = Self {
        data: core::ptr::null(),
        len: 0,
    };

    pub(crate) const fn of(bytes: &[u8]) -> Self {
        Self {
            data: bytes.as_ptr(),
            len: bytes.len(),
        }
    }

    /// A copy of them.
    ///
    /// # Safety
    /// They are there.
    pub(crate) unsafe fn bytes(self) -> Vec<u8> {
        if self.data.is_null() || self.len == 0 {
            return Vec::new();
        }
        // SAFETY: the caller promises it.
        unsafe { core::slice::from_raw_parts(self.data, self.len) }.to_vec()
    }

    /// The same as text.
    ///
    /// # Safety
    /// They are there.
    pub(crate) unsafe fn text(self) -> String {
        // SAFETY: the caller promises it.
        String::from_utf8_lossy(&unsafe { self.bytes() }).into_owned()
    }
}

/// A header.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct Header {
    pub(crate) name: Buffer,
    pub(crate) value: Buffer,
}

macro_rules! hooks {
    ($($name:ident = $link:literal ($($argument:ident: $type:ty),*) $(-> $answer:ty)?;)*) => {
        unsafe extern "C" {
            $(
                #[link_name = concat!("envoy_dynamic_module_on_", $link)]
                pub(crate) fn $name($($argument: $type),*) $(-> $answer)?;
            )*
        }
    };
}

hooks! {
    program_init = "program_init"() -> *const core::ffi::c_char;
    config_new = "http_filter_config_new"(envoy: *mut c_void, name: Buffer, config: Buffer) -> *mut c_void;
    config_destroy = "http_filter_config_destroy"(config: *mut c_void);
    config_scheduled = "http_filter_config_scheduled"(envoy: *mut c_void, config: *mut c_void, event: u64);
    filter_new = "http_filter_new"(config: *mut c_void, envoy: *mut c_void) -> *mut c_void;
    filter_destroy = "http_filter_destroy"(filter: *mut c_void);
    request_headers = "http_filter_request_headers"(envoy: *mut c_void, filter: *mut c_void, end: bool) -> u32;
    request_body = "http_filter_request_body"(envoy: *mut c_void, filter: *mut c_void, end: bool) -> u32;
    response_headers = "http_filter_response_headers"(envoy: *mut c_void, filter: *mut c_void, end: bool) -> u32;
    response_body = "http_filter_response_body"(envoy: *mut c_void, filter: *mut c_void, end: bool) -> u32;
    stream_complete = "http_filter_stream_complete"(envoy: *mut c_void, filter: *mut c_void);
    local_reply = "http_filter_local_reply"(
        envoy: *mut c_void, filter: *mut c_void, status: u32, details: Buffer, reset: bool
    ) -> u32;
}
