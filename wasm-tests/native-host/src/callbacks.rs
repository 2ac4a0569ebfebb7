//! The callbacks that the library imports, each with Envoy's signature. One that is made to fail answers as Envoy does where
//! it refuses, and does nothing.

#![allow(
    clippy::missing_safety_doc,
    clippy::needless_lifetimes,
    clippy::undocumented_unsafe_blocks,
    clippy::unused_unit,
    reason = "each is called as Envoy's ABI says, with pointers that are good for the call"
)]

use core::ffi::c_void;

use crate::abi::{self, Buffer, Header};
use crate::calls::{called, note};
use crate::{Filter, Sent};

/// What a call answers that is asked how it went: `Success`, and something else.
const DONE: u32 = 0;
const REFUSED: u32 = 1;

/// Declares callbacks under Envoy's names: what each answers where it is made to fail, and what it does.
macro_rules! callbacks {
    ($($name:ident ($($argument:ident: $type:ty),* $(,)?) $(-> $answer:ty)? = $fails:expr => $body:block)*) => {$(
        #[unsafe(export_name = concat!("envoy_dynamic_module_callback_", stringify!($name)))]
        unsafe extern "C" fn $name($($argument: $type),*) $(-> $answer)? {
            if !called(stringify!($name)) {
                $(let _ = &$argument;)*
                return $fails;
            }
            $body
        }
    )*};
}

unsafe fn filter<'a>(envoy: *mut c_void) -> &'a mut Filter {
    unsafe { &mut *envoy.cast() }
}

unsafe fn map<'a>(envoy: *mut c_void, map: u32) -> Option<&'a mut Vec<(String, String)>> {
    let filter = unsafe { filter(envoy) };
    match map {
        0 => Some(&mut filter.request),
        2 => Some(&mut filter.response),
        _ => None,
    }
}

unsafe fn body<'a>(envoy: *mut c_void, part: u32) -> Option<&'a mut Vec<u8>> {
    let filter = unsafe { filter(envoy) };
    let (which, received) = match part {
        0 => (0, 1),
        1 => (0, 0),
        2 => (1, 1),
        _ => (1, 0),
    };
    filter.bodies[which][received].as_mut()
}

unsafe fn give<'a>(value: Option<&'a [u8]>, to: *mut Buffer) -> bool {
    unsafe { *to = value.map_or(Buffer::NONE, Buffer::of) };
    value.is_some()
}

callbacks! {
    log(_level: u32, line: Buffer) = () => { note(unsafe { line.text() }); }

    http_get_headers_size(envoy: *mut c_void, of: u32) -> usize = 0 => {
        unsafe { map(envoy, of) }.map_or(0, |headers| headers.len())
    }
    http_get_headers(envoy: *mut c_void, of: u32, to: *mut Header) -> bool = false => {
        let Some(headers) = (unsafe { map(envoy, of) }) else { return false };
        for (at, (name, value)) in headers.iter().enumerate() {
            let header = Header { name: Buffer::of(name.as_bytes()), value: Buffer::of(value.as_bytes()) };
            unsafe { to.add(at).write(header) };
        }
        true
    }
    http_get_header(
        envoy: *mut c_void, of: u32, name: Buffer, to: *mut Buffer, at: usize, count: *mut usize,
    ) -> bool = false => {
        let name = unsafe { name.text() };
        let headers = unsafe { map(envoy, of) };
        let values: Vec<_> = headers.into_iter().flatten().filter(|(one, _)| *one == name).collect();
        if !count.is_null() {
            unsafe { *count = values.len() };
        }
        unsafe { give(values.get(at).map(|(_, value)| value.as_bytes()), to) }
    }
    http_add_header(envoy: *mut c_void, of: u32, name: Buffer, value: Buffer) -> bool = false => {
        let Some(headers) = (unsafe { map(envoy, of) }) else { return false };
        headers.push(unsafe { (name.text(), value.text()) });
        true
    }
    http_set_header(envoy: *mut c_void, of: u32, name: Buffer, value: Buffer) -> bool = false => {
        let Some(headers) = (unsafe { map(envoy, of) }) else { return false };
        let (name, new) = unsafe { (name.text(), value.text()) };
        headers.retain(|(one, _)| *one != name);
        if !value.data.is_null() && value.len > 0 {
            headers.push((name, new));
        }
        true
    }

    http_get_body_size(envoy: *mut c_void, part: u32) -> usize = 0 => {
        unsafe { body(envoy, part) }.map_or(0, |body| body.len())
    }
    http_get_body_chunks_size(envoy: *mut c_void, part: u32) -> usize = 0 => {
        unsafe { body(envoy, part) }.map_or(0, |body| body.chunks(1_000).count())
    }
    http_get_body_chunks(envoy: *mut c_void, part: u32, to: *mut Buffer) -> bool = false => {
        let Some(body) = (unsafe { body(envoy, part) }) else { return false };
        for (at, chunk) in body.chunks(1_000).enumerate() {
            unsafe { to.add(at).write(Buffer::of(chunk)) };
        }
        true
    }
    http_append_body(envoy: *mut c_void, part: u32, bytes: Buffer) -> bool = false => {
        let Some(body) = (unsafe { body(envoy, part) }) else { return false };
        body.extend(unsafe { bytes.bytes() });
        true
    }
    http_get_buffer_limit(_envoy: *mut c_void) -> u64 = 1 => { 1_000_000 }
    http_drain_body(envoy: *mut c_void, part: u32, len: usize) -> bool = false => {
        let Some(body) = (unsafe { body(envoy, part) }) else { return false };
        body.drain(..len.min(body.len()));
        true
    }
    http_received_buffered_request_body(_envoy: *mut c_void) -> bool = false => { false }
    http_received_buffered_response_body(_envoy: *mut c_void) -> bool = false => { false }

    http_filter_get_attribute_string(envoy: *mut c_void, id: u32, to: *mut Buffer) -> bool = false => {
        let filter = unsafe { filter(envoy) };
        let value = match id {
            16 if !filter.details.is_empty() => Some(filter.details.as_bytes()),
            24 => Some(&b"192.0.2.7:4711"[..]),
            51 if filter.details == "via_upstream" => Some(&b"192.0.2.8:5"[..]),
            _ => None,
        };
        unsafe { give(value, to) }
    }
    http_filter_get_attribute_int(envoy: *mut c_void, id: u32, to: *mut u64) -> bool = false => {
        let filter = unsafe { filter(envoy) };
        let status = filter.response.iter().find(|(name, _)| name == ":status");
        let value = match id {
            15 => status.and_then(|(_, status)| status.parse().ok()),
            17 => Some(0),
            53 => Some(u64::from(filter.details == "via_upstream")),
            _ => None,
        };
        if let Some(value) = value {
            unsafe { *to = value };
        }
        value.is_some()
    }
    http_get_metadata_string(
        _envoy: *mut c_void, _source: u32, _namespace: Buffer, _key: Buffer, _to: *mut Buffer,
    ) -> bool = false => { false }
    http_get_cluster_name(_envoy: *mut c_void, to: *mut Buffer) -> bool = false => {
        unsafe { give(Some(b"llama"), to) }
    }
    http_get_filter_state_bytes(envoy: *mut c_void, key: Buffer, to: *mut Buffer) -> bool = false => {
        let (filter, key) = unsafe { (filter(envoy), key.text()) };
        unsafe { give(filter.state.get(&key).map(Vec::as_slice), to) }
    }
    http_set_filter_state_bytes(envoy: *mut c_void, key: Buffer, value: Buffer) -> bool = false => {
        let (filter, key, value) = unsafe { (filter(envoy), key.text(), value.bytes()) };
        filter.state.insert(key, value);
        true
    }

    http_clear_route_cache(envoy: *mut c_void) = () => { unsafe { filter(envoy) }.routed += 1; }
    http_send_response(
        envoy: *mut c_void, status: u32, headers: *mut Header, count: usize, body: Buffer, details: Buffer,
    ) = () => {
        let filter = unsafe { filter(envoy) };
        let headers = (0..count).map(|at| unsafe {
            let header = &*headers.add(at);
            (header.name.text(), header.value.text())
        });
        let sent = unsafe {
            Sent { status, headers: headers.collect(), body: body.text(), details: details.text() }
        };
        filter.details.clone_from(&sent.details);
        filter.sent = Some(sent);
        // As Envoy does, before it returns.
        if let Some(module) = filter.module {
            unsafe { abi::local_reply(envoy, module, status, details, false) };
        }
    }
    http_filter_reset_stream(envoy: *mut c_void, _reason: u32, _details: Buffer) = () => {
        unsafe { filter(envoy) }.is_reset = true;
    }
    http_filter_continue_decoding(_envoy: *mut c_void) = () => {}
    http_filter_http_callout(
        _envoy: *mut c_void, _call: *mut u64, _cluster: Buffer, _headers: *mut Header, _count: usize,
        _body: Buffer, _timeout: u64,
    ) -> u32 = REFUSED => { REFUSED }

    http_filter_scheduler_new(envoy: *mut c_void) -> *mut c_void = core::ptr::null_mut() => { envoy }
    http_filter_scheduler_commit(_scheduler: *mut c_void, _event: u64) = () => {}
    http_filter_scheduler_delete(_scheduler: *mut c_void) = () => {}
    http_filter_config_scheduler_new(config: *mut c_void) -> *mut c_void = core::ptr::null_mut() => { config }
    http_filter_config_scheduler_commit(_scheduler: *mut c_void, _event: u64) = () => {}
    http_filter_config_scheduler_delete(_scheduler: *mut c_void) = () => {}

    http_filter_config_define_counter(
        _config: *mut c_void, _name: Buffer, _labels: *mut Buffer, _count: usize, id: *mut usize,
    ) -> u32 = REFUSED => { unsafe { *id = 1 }; DONE }
    http_filter_config_define_gauge(
        _config: *mut c_void, _name: Buffer, _labels: *mut Buffer, _count: usize, id: *mut usize,
    ) -> u32 = REFUSED => { unsafe { *id = 1 }; DONE }
    http_filter_config_define_histogram(
        _config: *mut c_void, _name: Buffer, _labels: *mut Buffer, _count: usize, id: *mut usize,
    ) -> u32 = REFUSED => { unsafe { *id = 1 }; DONE }
    http_filter_config_increment_counter(
        _config: *mut c_void, _id: usize, _labels: *mut Buffer, _count: usize, _by: u64,
    ) -> u32 = REFUSED => { DONE }
    http_filter_config_increment_gauge(
        _config: *mut c_void, _id: usize, _labels: *mut Buffer, _count: usize, _by: u64,
    ) -> u32 = REFUSED => { DONE }
    http_filter_config_decrement_gauge(
        _config: *mut c_void, _id: usize, _labels: *mut Buffer, _count: usize, _by: u64,
    ) -> u32 = REFUSED => { DONE }
    http_filter_config_set_gauge(
        _config: *mut c_void, _id: usize, _labels: *mut Buffer, _count: usize, _value: u64,
    ) -> u32 = REFUSED => { DONE }
    http_filter_config_record_histogram_value(
        _config: *mut c_void, _id: usize, _labels: *mut Buffer, _count: usize, _value: u64,
    ) -> u32 = REFUSED => { DONE }

    access_logger_get_headers_size(_logger: *mut c_void, _of: u32) -> usize = 0 => { 0 }
    access_logger_get_headers(_logger: *mut c_void, _of: u32, _to: *mut Header) -> bool = false => { false }
    access_logger_get_header_value(
        _logger: *mut c_void, _of: u32, _name: Buffer, _to: *mut Buffer, _at: usize, _count: *mut usize,
    ) -> bool = false => { false }
    access_logger_get_upstream_cluster(_logger: *mut c_void, _to: *mut Buffer) -> bool = false => { false }
    access_logger_get_upstream_local_address(
        _logger: *mut c_void, _to: *mut Buffer, _port: *mut u32,
    ) -> bool = false => { false }
    access_logger_get_response_code_details(_logger: *mut c_void, _to: *mut Buffer) -> bool = false => { false }
    access_logger_get_response_code(_logger: *mut c_void) -> u32 = 0 => { 0 }
    access_logger_get_response_flags(_logger: *mut c_void) -> u64 = 0 => { 0 }
    access_logger_get_attempt_count(_logger: *mut c_void) -> u32 = 0 => { 0 }
    access_logger_get_timing_info(_logger: *mut c_void, _to: *mut c_void) -> () = () => {}
    access_logger_get_bytes_info(_logger: *mut c_void, _to: *mut c_void) -> () = () => {}

    bootstrap_extension_timer_new(extension: *mut c_void) -> *mut c_void = core::ptr::null_mut() => { extension }
    bootstrap_extension_timer_enable(_timer: *mut c_void, _millis: u64) = () => {}
    bootstrap_extension_timer_delete(_timer: *mut c_void) = () => {}
    bootstrap_extension_http_callout(
        _extension: *mut c_void, _call: *mut u64, _cluster: Buffer, _headers: *mut Header, _count: usize,
        _body: Buffer, _timeout: u64,
    ) -> u32 = REFUSED => { REFUSED }
    bootstrap_extension_config_signal_init_complete(_extension: *mut c_void) = () => {}
    bootstrap_extension_config_define_counter(
        _extension: *mut c_void, _name: Buffer, _labels: *mut Buffer, _count: usize, id: *mut usize,
    ) -> u32 = REFUSED => { unsafe { *id = 1 }; DONE }
    bootstrap_extension_config_define_gauge(
        _extension: *mut c_void, _name: Buffer, _labels: *mut Buffer, _count: usize, id: *mut usize,
    ) -> u32 = REFUSED => { unsafe { *id = 1 }; DONE }
    bootstrap_extension_config_increment_counter(
        _extension: *mut c_void, _id: usize, _labels: *mut Buffer, _count: usize, _by: u64,
    ) -> u32 = REFUSED => { DONE }
    bootstrap_extension_config_set_gauge(
        _extension: *mut c_void, _id: usize, _labels: *mut Buffer, _count: usize, _value: u64,
    ) -> u32 = REFUSED => { DONE }
}
