//! The imports, as Envoy's dynamic-module ABI declares them (`source/extensions/dynamic_modules/abi/abi.h` in Envoy's own
//! repository); here without the prefix `envoy_dynamic_module_callback_`. Only those that 1.39 has: a missing one
//! keeps the library from loading.

use core::ffi::c_void;

/// A filter on one stream, as Envoy knows it.
pub(crate) type Filter = *mut c_void;
/// A filter's configuration, as Envoy knows it.
pub(crate) type FilterConfig = *mut c_void;
/// What an access logger is told of, as Envoy knows it.
pub(crate) type Logger = *mut c_void;
/// A bootstrap extension's configuration, as Envoy knows it.
pub(crate) type Extension = *mut c_void;
/// Wakes a filter from another thread.
pub(crate) type Scheduler = *mut c_void;
/// A timer of the main thread.
pub(crate) type Timer = *mut c_void;

/// Bytes of Envoy's, or of this module's. Envoy's are good until the callback ends, or what they are of is changed.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Buffer {
    pub(crate) data: *const u8,
    pub(crate) len: usize,
}

impl Buffer {
    /// What Envoy fills.
    pub(crate) const EMPTY: Self = Self {
        data: core::ptr::null(),
        len: 0,
    };

    /// Bytes of ours, for as long as a call takes.
    pub(crate) const fn of(bytes: &[u8]) -> Self {
        Self {
            data: bytes.as_ptr(),
            len: bytes.len(),
        }
    }

    /// # Safety
    /// As of [`Self::bytes`].
    pub unsafe fn text(self) -> String {
        // SAFETY: the caller promises it.
        String::from_utf8_lossy(unsafe { self.bytes() }).into_owned()
    }

    /// # Safety
    /// They are still there for as long as the caller uses them.
    pub const unsafe fn bytes<'a>(self) -> &'a [u8] {
        if self.data.is_null() || self.len == 0 {
            return &[];
        }
        // SAFETY: the caller promises it.
        unsafe { core::slice::from_raw_parts(self.data, self.len) }
    }
}

/// A header of Envoy's, or of this module's.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Header {
    pub(crate) name: Buffer,
    pub(crate) value: Buffer,
}

impl Header {
    pub(crate) const EMPTY: Self = Self {
        name: Buffer::EMPTY,
        value: Buffer::EMPTY,
    };

    pub(crate) const fn of(name: &str, value: &str) -> Self {
        Self {
            name: Buffer::of(name.as_bytes()),
            value: Buffer::of(value.as_bytes()),
        }
    }
}

/// `timing_info`, in nanoseconds; what there is not is -1.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Timing {
    /// Since 1970.
    pub(crate) began: i64,
    /// From then to the end.
    pub(crate) duration: i64,
    _of_parts: [i64; 6],
}

/// `bytes_info`.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Bytes {
    pub(crate) received: u64,
    pub(crate) sent: u64,
    _on_the_wire: [u64; 2],
}

/// `access_log_type`, of ends: of none that is said, of a request, of an attempt.
pub const ENDS: [u32; 3] = [0, 6, 9];

/// `http_header_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Map {
    Request = 0,
    RequestTrailers = 1,
    Response = 2,
    ResponseTrailers = 3,
}

/// `http_body_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Part {
    ReceivedRequest = 0,
    BufferedRequest = 1,
    ReceivedResponse = 2,
    BufferedResponse = 3,
}

/// `attribute_id`, those that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum AttributeId {
    ResponseCode = 15,
    ResponseCodeDetails = 16,
    ResponseFlags = 17,
    SourceAddress = 24,
    UpstreamLocalAddress = 51,
    RequestAttemptCount = 53,
}

/// `metadata_source`, that of the endpoint which was chosen.
pub(crate) const HOST_METADATA: u32 = 3;
/// `http_filter_stream_reset_reason`: by us.
pub(crate) const LOCAL_RESET: u32 = 0;
/// `metrics_result` and `http_callout_init_result`: it was done.
pub(crate) const DONE: u32 = 0;

/// Declares the imports with Envoy's names, and those that are used here.
macro_rules! imports {
    ($($name:ident = $link:literal ($($argument:ident: $type:ty),* $(,)?) $(-> $answer:ty)?;)*) => {
        unsafe extern "C" {
            $(
                #[link_name = concat!("envoy_dynamic_module_callback_", $link)]
                pub(crate) fn $name($($argument: $type),*) $(-> $answer)?;
            )*
        }
    };
}

imports! {
    log = "log"(level: u32, line: Buffer);

    get_headers_size = "http_get_headers_size"(filter: Filter, map: Map) -> usize;
    get_headers = "http_get_headers"(filter: Filter, map: Map, headers: *mut Header) -> bool;
    get_header = "http_get_header"(
        filter: Filter, map: Map, name: Buffer, value: *mut Buffer, at: usize, count: *mut usize,
    ) -> bool;
    add_header = "http_add_header"(filter: Filter, map: Map, name: Buffer, value: Buffer) -> bool;
    set_header = "http_set_header"(filter: Filter, map: Map, name: Buffer, value: Buffer) -> bool;

    get_body_size = "http_get_body_size"(filter: Filter, part: Part) -> usize;
    get_body_chunks_size = "http_get_body_chunks_size"(filter: Filter, part: Part) -> usize;
    get_body_chunks = "http_get_body_chunks"(filter: Filter, part: Part, chunks: *mut Buffer) -> bool;
    append_body = "http_append_body"(filter: Filter, part: Part, bytes: Buffer) -> bool;
    get_buffer_limit = "http_get_buffer_limit"(filter: Filter) -> u64;
    drain_body = "http_drain_body"(filter: Filter, part: Part, len: usize) -> bool;
    received_buffered_request_body = "http_received_buffered_request_body"(filter: Filter) -> bool;
    received_buffered_response_body = "http_received_buffered_response_body"(filter: Filter) -> bool;

    get_attribute_string = "http_filter_get_attribute_string"(
        filter: Filter, id: AttributeId, value: *mut Buffer,
    ) -> bool;
    get_attribute_int = "http_filter_get_attribute_int"(filter: Filter, id: AttributeId, value: *mut u64) -> bool;
    get_metadata_string = "http_get_metadata_string"(
        filter: Filter, source: u32, namespace: Buffer, key: Buffer, value: *mut Buffer,
    ) -> bool;
    get_cluster_name = "http_get_cluster_name"(filter: Filter, name: *mut Buffer) -> bool;
    get_filter_state = "http_get_filter_state_bytes"(filter: Filter, key: Buffer, value: *mut Buffer) -> bool;
    set_filter_state = "http_set_filter_state_bytes"(filter: Filter, key: Buffer, value: Buffer) -> bool;

    clear_route_cache = "http_clear_route_cache"(filter: Filter);
    send_response = "http_send_response"(
        filter: Filter, status: u32, headers: *mut Header, count: usize, body: Buffer, details: Buffer,
    );
    reset_stream = "http_filter_reset_stream"(filter: Filter, reason: u32, details: Buffer);
    continue_decoding = "http_filter_continue_decoding"(filter: Filter);
    http_callout = "http_filter_http_callout"(
        filter: Filter, call: *mut u64, cluster: Buffer, headers: *mut Header, count: usize, body: Buffer,
        timeout_millis: u64,
    ) -> u32;

    scheduler_new = "http_filter_scheduler_new"(filter: Filter) -> Scheduler;
    scheduler_commit = "http_filter_scheduler_commit"(scheduler: Scheduler, event: u64);
    scheduler_delete = "http_filter_scheduler_delete"(scheduler: Scheduler);
    config_scheduler_new = "http_filter_config_scheduler_new"(config: FilterConfig) -> Scheduler;
    config_scheduler_commit = "http_filter_config_scheduler_commit"(scheduler: Scheduler, event: u64);
    config_scheduler_delete = "http_filter_config_scheduler_delete"(scheduler: Scheduler);

    define_counter = "http_filter_config_define_counter"(
        config: FilterConfig, name: Buffer, labels: *mut Buffer, count: usize, id: *mut usize,
    ) -> u32;
    define_gauge = "http_filter_config_define_gauge"(
        config: FilterConfig, name: Buffer, labels: *mut Buffer, count: usize, id: *mut usize,
    ) -> u32;
    define_histogram = "http_filter_config_define_histogram"(
        config: FilterConfig, name: Buffer, labels: *mut Buffer, count: usize, id: *mut usize,
    ) -> u32;
    increment_counter = "http_filter_config_increment_counter"(
        config: FilterConfig, id: usize, values: *mut Buffer, count: usize, by: u64,
    ) -> u32;
    increment_gauge = "http_filter_config_increment_gauge"(
        config: FilterConfig, id: usize, values: *mut Buffer, count: usize, by: u64,
    ) -> u32;
    decrement_gauge = "http_filter_config_decrement_gauge"(
        config: FilterConfig, id: usize, values: *mut Buffer, count: usize, by: u64,
    ) -> u32;
    set_gauge = "http_filter_config_set_gauge"(
        config: FilterConfig, id: usize, values: *mut Buffer, count: usize, value: u64,
    ) -> u32;
    record_histogram = "http_filter_config_record_histogram_value"(
        config: FilterConfig, id: usize, values: *mut Buffer, count: usize, value: u64,
    ) -> u32;

    logger_get_headers_size = "access_logger_get_headers_size"(logger: Logger, map: Map) -> usize;
    logger_get_headers = "access_logger_get_headers"(logger: Logger, map: Map, headers: *mut Header) -> bool;
    logger_get_header = "access_logger_get_header_value"(
        logger: Logger, map: Map, name: Buffer, value: *mut Buffer, at: usize, count: *mut usize,
    ) -> bool;
    logger_get_cluster = "access_logger_get_upstream_cluster"(logger: Logger, name: *mut Buffer) -> bool;
    logger_get_upstream_local_address = "access_logger_get_upstream_local_address"(
        logger: Logger, address: *mut Buffer, port: *mut u32,
    ) -> bool;
    logger_get_details = "access_logger_get_response_code_details"(logger: Logger, details: *mut Buffer) -> bool;
    logger_get_response_code = "access_logger_get_response_code"(logger: Logger) -> u32;
    logger_get_flags = "access_logger_get_response_flags"(logger: Logger) -> u64;
    logger_get_timing = "access_logger_get_timing_info"(logger: Logger, timing: *mut Timing);
    logger_get_bytes = "access_logger_get_bytes_info"(logger: Logger, bytes: *mut Bytes);
    logger_get_attempts = "access_logger_get_attempt_count"(logger: Logger) -> u32;

    timer_new = "bootstrap_extension_timer_new"(extension: Extension) -> Timer;
    timer_enable = "bootstrap_extension_timer_enable"(timer: Timer, millis: u64);
    timer_delete = "bootstrap_extension_timer_delete"(timer: Timer);
    extension_callout = "bootstrap_extension_http_callout"(
        extension: Extension, call: *mut u64, cluster: Buffer, headers: *mut Header, count: usize, body: Buffer,
        timeout_millis: u64,
    ) -> u32;
    extension_init_complete = "bootstrap_extension_config_signal_init_complete"(extension: Extension);
    extension_define_counter = "bootstrap_extension_config_define_counter"(
        extension: Extension, name: Buffer, labels: *mut Buffer, count: usize, id: *mut usize,
    ) -> u32;
    extension_define_gauge = "bootstrap_extension_config_define_gauge"(
        extension: Extension, name: Buffer, labels: *mut Buffer, count: usize, id: *mut usize,
    ) -> u32;
    extension_increment_counter = "bootstrap_extension_config_increment_counter"(
        extension: Extension, id: usize, values: *mut Buffer, count: usize, by: u64,
    ) -> u32;
    extension_set_gauge = "bootstrap_extension_config_set_gauge"(
        extension: Extension, id: usize, values: *mut Buffer, count: usize, value: u64,
    ) -> u32;
}
