//! The imports, as proxy-wasm 0.2.1 declares them. Pointers are into this module's own memory.

/// What an import returns: 0 is success, the rest see [`crate::Status`].
pub(crate) type RawStatus = u32;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    pub(crate) fn proxy_log(level: u32, text: *const u8, len: usize) -> RawStatus;
    pub(crate) fn proxy_get_current_time_nanoseconds(time: *mut u64) -> RawStatus;
    pub(crate) fn proxy_set_tick_period_milliseconds(period: u32) -> RawStatus;
    pub(crate) fn proxy_set_effective_context(context: u32) -> RawStatus;
    pub(crate) fn proxy_close_stream(stream: u32) -> RawStatus;
    pub(crate) fn proxy_continue_stream(stream: u32) -> RawStatus;
    pub(crate) fn proxy_get_buffer_bytes(
        buffer: u32,
        start: usize,
        max: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> RawStatus;
    pub(crate) fn proxy_set_buffer_bytes(
        buffer: u32,
        start: usize,
        size: usize,
        data: *const u8,
        len: usize,
    ) -> RawStatus;
    pub(crate) fn proxy_get_header_map_pairs(map: u32, data: *mut *mut u8, len: *mut usize) -> RawStatus;
    pub(crate) fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> RawStatus;
    pub(crate) fn proxy_add_header_map_value(
        map: u32,
        name: *const u8,
        name_len: usize,
        value: *const u8,
        value_len: usize,
    ) -> RawStatus;
    pub(crate) fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_len: usize,
        value: *const u8,
        value_len: usize,
    ) -> RawStatus;
    pub(crate) fn proxy_remove_header_map_value(map: u32, name: *const u8, name_len: usize) -> RawStatus;
    pub(crate) fn proxy_get_property(
        path: *const u8,
        path_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> RawStatus;
    pub(crate) fn proxy_set_property(
        path: *const u8,
        path_len: usize,
        value: *const u8,
        value_len: usize,
    ) -> RawStatus;
    pub(crate) fn proxy_get_shared_data(
        key: *const u8,
        key_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
        cas: *mut u32,
    ) -> RawStatus;
    pub(crate) fn proxy_set_shared_data(
        key: *const u8,
        key_len: usize,
        value: *const u8,
        value_len: usize,
        cas: u32,
    ) -> RawStatus;
    pub(crate) fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_len: usize,
        body: *const u8,
        body_len: usize,
        headers: *const u8,
        headers_len: usize,
        grpc_status: i32,
    ) -> RawStatus;
    pub(crate) fn proxy_http_call(
        cluster: *const u8,
        cluster_len: usize,
        headers: *const u8,
        headers_len: usize,
        body: *const u8,
        body_len: usize,
        trailers: *const u8,
        trailers_len: usize,
        timeout_millis: u32,
        call: *mut u32,
    ) -> RawStatus;
    pub(crate) fn proxy_define_metric(kind: u32, name: *const u8, name_len: usize, id: *mut u32)
    -> RawStatus;
    pub(crate) fn proxy_increment_metric(id: u32, by: i64) -> RawStatus;
    pub(crate) fn proxy_record_metric(id: u32, value: u64) -> RawStatus;
    pub(crate) fn proxy_call_foreign_function(
        name: *const u8,
        name_len: usize,
        arguments: *const u8,
        arguments_len: usize,
        data: *mut *mut u8,
        len: *mut usize,
    ) -> RawStatus;
}
