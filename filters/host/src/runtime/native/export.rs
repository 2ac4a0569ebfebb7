//! The exports.

/// Exports a library of filters, access loggers and singletons, each by the name that it has in a configuration.
///
/// ```ignore
/// tollgate_host::export_native! {
///     filters: { Gateway = tollgate_gateway::Gateway }
///     loggers: { Attempts = tollgate_tenant_router::Attempts }
///     singletons: { Fetcher = tollgate_key_auth::Fetcher }
/// }
/// ```
#[macro_export]
macro_rules! export_native {
    (
        filters: { $($filter:ident = $F:ty),+ $(,)? }
        loggers: { $($logger:ident = $L:ty),* $(,)? }
        singletons: { $($singleton:ident = $S:ty),* $(,)? }
    ) => {
        #[cfg(not(target_arch = "wasm32"))]
        #[allow(clippy::undocumented_unsafe_blocks, reason = "each is what Envoy's ABI promises of its callbacks")]
        mod exports {
            use core::ffi::{c_char, c_void};

            use super::*;
            use $crate::native::abi::{Buffer, Header};
            use $crate::runtime::native::{extension, logger, panics, streams};

            enum Config { $($filter(streams::Root<$F>)),+ }
            enum Stream { $($filter(streams::Entry<$F>)),+ }
            enum LoggerConfig { $($logger(logger::Root<$L>)),* }
            enum Logger { $($logger(logger::Entry<$L>)),* }
            enum Extension { $($singleton(extension::Root<$S>)),* }

            /// Has `$then` done with what `$value` is of.
            macro_rules! each {
                ($Kind:ident, $value:expr, $one:ident => $then:expr) => {
                    match unsafe { &mut *$value } { $($Kind::$filter($one) => $then),+ }
                };
            }
            /// The same of a configuration, which all workers use at once.
            macro_rules! each_config {
                ($value:expr, $one:ident => $then:expr) => {
                    match unsafe { &*$value } { $(Config::$filter($one) => $then),+ }
                };
            }
            macro_rules! each_logger {
                ($Kind:ident, $value:expr, $one:ident => $then:expr) => {
                    match unsafe { &mut *$value } { $($Kind::$logger($one) => $then),* }
                };
            }
            macro_rules! each_extension {
                ($value:expr, $one:ident => $then:expr) => {
                    match unsafe { &mut *$value } { $(Extension::$singleton($one) => $then),* }
                };
            }

            $crate::export_native! { @ignored
                envoy_dynamic_module_on_http_filter_per_route_config_destroy
                envoy_dynamic_module_on_http_filter_downstream_above_write_buffer_high_watermark
                envoy_dynamic_module_on_http_filter_downstream_below_write_buffer_low_watermark
                envoy_dynamic_module_on_http_filter_http_stream_headers
                envoy_dynamic_module_on_http_filter_http_stream_data
                envoy_dynamic_module_on_http_filter_http_stream_trailers
                envoy_dynamic_module_on_http_filter_http_stream_complete
                envoy_dynamic_module_on_http_filter_http_stream_reset
                envoy_dynamic_module_on_http_filter_config_http_stream_headers
                envoy_dynamic_module_on_http_filter_config_http_stream_data
                envoy_dynamic_module_on_http_filter_config_http_stream_trailers
                envoy_dynamic_module_on_http_filter_config_http_stream_complete
                envoy_dynamic_module_on_http_filter_config_http_stream_reset
                envoy_dynamic_module_on_http_filter_config_http_callout_done
                envoy_dynamic_module_on_access_logger_flush
                envoy_dynamic_module_on_bootstrap_extension_config_scheduled
                envoy_dynamic_module_on_bootstrap_extension_worker_thread_initialized
                envoy_dynamic_module_on_bootstrap_extension_drain_started
                envoy_dynamic_module_on_bootstrap_extension_destroy
                envoy_dynamic_module_on_bootstrap_extension_file_changed
                envoy_dynamic_module_on_bootstrap_extension_cluster_add_or_update
                envoy_dynamic_module_on_bootstrap_extension_cluster_removal
                envoy_dynamic_module_on_bootstrap_extension_listener_add_or_update
                envoy_dynamic_module_on_bootstrap_extension_listener_removal
            }

            static FAMILIES: &[&[&[$crate::Family]]] = &[$(<$F as $crate::HttpFilter>::METRICS,)+ $(<$L as $crate::AccessLogger>::METRICS),*];

            fn boxed<T>(value: Option<T>) -> *mut T {
                value.map_or(core::ptr::null_mut(), |value| Box::into_raw(Box::new(value)))
            }

            fn unknown(name: &str, known: &[&str]) {
                let known: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
                let line = format!("tollgate: no `{name}` here, expected one of {}", known.join(", "));
                $crate::log($crate::Level::Error, &line);
            }

            #[unsafe(no_mangle)]
            extern "C" fn envoy_dynamic_module_on_program_init() -> *const c_char {
                panics::report();
                $crate::native::ABI_VERSION.as_ptr()
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_new(
                envoy: *mut c_void,
                name: Buffer,
                configuration: Buffer,
            ) -> *mut Config {
                let (name, configuration) = unsafe { (name.text(), configuration.bytes()) };
                $(if name == <$F as $crate::HttpFilter>::NAME {
                    return boxed(streams::config_new(envoy, configuration, FAMILIES).map(Config::$filter));
                })+
                unknown(&name, &[$(<$F as $crate::HttpFilter>::NAME),+]);
                core::ptr::null_mut()
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_destroy(config: *mut Config) {
                each_config!(config, root => streams::config_destroy(root));
                drop(unsafe { Box::from_raw(config) });
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_config_scheduled(
                _envoy: *mut c_void,
                config: *mut Config,
                _event: u64,
            ) {
                each_config!(config, root => streams::config_scheduled(root));
            }

            #[unsafe(no_mangle)]
            extern "C" fn envoy_dynamic_module_on_http_filter_per_route_config_new(
                name: Buffer,
                _configuration: Buffer,
            ) -> *mut c_void {
                let name = unsafe { name.text() };
                let line = format!("tollgate: `{name}` has no configuration for routes");
                $crate::log($crate::Level::Error, &line);
                core::ptr::null_mut()
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_new(
                config: *mut Config,
                envoy: *mut c_void,
            ) -> *mut Stream {
                let stream = match unsafe { &*config } {
                    $(Config::$filter(root) => Stream::$filter(streams::stream_new(root, envoy))),+
                };
                let stream = Box::into_raw(Box::new(stream));
                each!(Stream, stream, entry => unsafe { streams::stream_begins(entry) });
                stream
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_destroy(stream: *mut Stream) {
                each!(Stream, stream, entry => unsafe { streams::stream_destroy(entry) });
                drop(unsafe { Box::from_raw(stream) });
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_headers(
                _envoy: *mut c_void,
                stream: *mut Stream,
                end: bool,
            ) -> u32 {
                each!(Stream, stream, entry => unsafe { streams::request_headers(entry, end) })
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_body(
                _envoy: *mut c_void,
                stream: *mut Stream,
                end: bool,
            ) -> u32 {
                each!(Stream, stream, entry => unsafe { streams::request_body(entry, end) })
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_request_trailers(
                _envoy: *mut c_void,
                stream: *mut Stream,
            ) -> u32 {
                each!(Stream, stream, entry => unsafe { streams::request_trailers(entry) })
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_response_headers(
                _envoy: *mut c_void,
                stream: *mut Stream,
                end: bool,
            ) -> u32 {
                each!(Stream, stream, entry => unsafe { streams::response_headers(entry, end) })
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_response_body(
                _envoy: *mut c_void,
                stream: *mut Stream,
                end: bool,
            ) -> u32 {
                each!(Stream, stream, entry => unsafe { streams::response_body(entry, end) })
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_response_trailers(
                _envoy: *mut c_void,
                stream: *mut Stream,
            ) -> u32 {
                each!(Stream, stream, entry => unsafe { streams::response_trailers(entry) })
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_stream_complete(
                _envoy: *mut c_void,
                stream: *mut Stream,
            ) {
                each!(Stream, stream, entry => unsafe { streams::stream_complete(entry) });
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_scheduled(
                _envoy: *mut c_void,
                stream: *mut Stream,
                _event: u64,
            ) {
                each!(Stream, stream, entry => unsafe { streams::stream_scheduled(entry) });
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_http_callout_done(
                _envoy: *mut c_void,
                stream: *mut Stream,
                call: u64,
                _result: u32,
                headers: *const Header,
                headers_len: usize,
                chunks: *const Buffer,
                chunks_len: usize,
            ) {
                let answer = unsafe { streams::call_answer((headers, headers_len), (chunks, chunks_len)) };
                each!(Stream, stream, entry => unsafe { streams::call_done(entry, call, &answer) });
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_http_filter_local_reply(
                _envoy: *mut c_void,
                stream: *mut Stream,
                _status: u32,
                _details: Buffer,
                _reset: bool,
            ) -> u32 {
                each!(Stream, stream, entry => unsafe { streams::local_reply(entry) });
                // It is sent.
                0
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_access_logger_config_new(
                _envoy: *mut c_void,
                name: Buffer,
                configuration: Buffer,
            ) -> *mut LoggerConfig {
                let (name, configuration) = unsafe { (name.text(), configuration.bytes()) };
                $(if name == <$L as $crate::AccessLogger>::NAME {
                    return boxed(logger::config_new(configuration).map(LoggerConfig::$logger));
                })*
                unknown(&name, &[$(<$L as $crate::AccessLogger>::NAME),*]);
                core::ptr::null_mut()
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_access_logger_config_destroy(config: *mut LoggerConfig) {
                drop(unsafe { Box::from_raw(config) });
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_access_logger_new(
                config: *mut LoggerConfig,
                _envoy: *mut c_void,
            ) -> *mut Logger {
                let logger = match unsafe { &*config } {
                    $(LoggerConfig::$logger(root) => Logger::$logger(logger::logger_new(root))),*
                };
                Box::into_raw(Box::new(logger))
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_access_logger_log(
                envoy: *mut c_void,
                logger: *mut Logger,
                kind: u32,
            ) {
                each_logger!(Logger, logger, entry => logger::log(entry, envoy, kind));
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_access_logger_destroy(logger: *mut Logger) {
                drop(unsafe { Box::from_raw(logger) });
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_new(
                envoy: *mut c_void,
                name: Buffer,
                configuration: Buffer,
            ) -> *mut Extension {
                let (name, configuration) = unsafe { (name.text(), configuration.bytes()) };
                $(if name == <$S as $crate::Singleton>::NAME {
                    return boxed(unsafe { extension::config_new(envoy, configuration) }.map(Extension::$singleton));
                })*
                unknown(&name, &[$(<$S as $crate::Singleton>::NAME),*]);
                core::ptr::null_mut()
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_config_destroy(config: *mut Extension) {
                drop(unsafe { Box::from_raw(config) });
            }

            #[unsafe(no_mangle)]
            extern "C" fn envoy_dynamic_module_on_bootstrap_extension_new(
                config: *mut Extension,
                _envoy: *mut c_void,
            ) -> *mut Extension {
                config
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_server_initialized(
                _envoy: *mut c_void,
                extension: *mut Extension,
            ) {
                each_extension!(extension, root => extension::server_initialized(root));
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_shutdown(
                _envoy: *mut c_void,
                _extension: *mut Extension,
                done: Option<unsafe extern "C" fn(*mut c_void)>,
                context: *mut c_void,
            ) {
                // Nothing is to be waited for.
                if let Some(done) = done {
                    unsafe { done(context) };
                }
            }

            #[unsafe(no_mangle)]
            extern "C" fn envoy_dynamic_module_on_bootstrap_extension_admin_request(
                _envoy: *mut c_void,
                _extension: *mut Extension,
                _method: Buffer,
                _path: Buffer,
                _body: Buffer,
            ) -> u32 {
                // No page of the admin's is asked for.
                404
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_timer_fired(
                _envoy: *mut c_void,
                extension: *mut Extension,
                _timer: *mut c_void,
            ) {
                each_extension!(extension, root => extension::timer_fired(root));
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn envoy_dynamic_module_on_bootstrap_extension_http_callout_done(
                _envoy: *mut c_void,
                extension: *mut Extension,
                call: u64,
                _result: u32,
                headers: *const Header,
                headers_len: usize,
                chunks: *const Buffer,
                chunks_len: usize,
            ) {
                let answer = unsafe { streams::call_answer((headers, headers_len), (chunks, chunks_len)) };
                each_extension!(extension, root => extension::call_done(root, call, &answer));
            }
        }
    };
    // Callbacks that Envoy wants to find, and by which nothing is to be done.
    (@ignored $($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        const extern "C" fn $name() {}
    )*};
}
