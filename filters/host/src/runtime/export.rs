//! The exports of a wasm module; there are none on another target, where its crate is compiled for the linters alone.

/// Exports a `Module` as proxy-wasm callbacks, with an allocator. Only the callbacks that are named beside the module
/// exist: Envoy skips the others without entering the VM.
///
/// ```ignore
/// tollgate_host::export!(Module<KeyAuth, Fetcher>: request_headers, tick, http_call_response);
/// ```
#[macro_export]
macro_rules! export {
    ($module:ty : $($callback:ident),* $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        mod exports {
            use super::*;

            std::thread_local! {
                static MODULE: core::cell::RefCell<$module> =
                    const { core::cell::RefCell::new(<$module>::new()) };
            }

            #[global_allocator]
            static ALLOCATOR: $crate::wasm::Pool = $crate::wasm::Pool::new();

            #[unsafe(no_mangle)]
            extern "C" fn proxy_abi_version_0_2_1() {}

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
                $crate::wasm::allocate(size)
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_context_create(id: u32, parent: u32) {
                MODULE.with(|module| $crate::runtime::wasm::context_create(module, id, parent));
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_configure(id: u32, _size: u32) -> u32 {
                u32::from(MODULE.with(|module| $crate::runtime::wasm::configure(module, id)))
            }

            #[unsafe(no_mangle)]
            extern "C" fn proxy_on_delete(id: u32) {
                MODULE.with(|module| $crate::runtime::wasm::delete(module, id));
            }

            $($crate::export!(@ $callback);)*
        }
    };
    (@ request_headers) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_request_headers(id: u32, _headers: u32, end: u32) -> u32 {
            MODULE.with(|module| $crate::runtime::wasm::request_headers(module, id, end != 0)) as u32
        }
    };
    (@ request_body) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_request_body(id: u32, len: usize, end: u32) -> u32 {
            MODULE.with(|module| $crate::runtime::wasm::request_body(module, id, len, end != 0)) as u32
        }
    };
    (@ request_trailers) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_request_trailers(id: u32, _trailers: u32) -> u32 {
            MODULE.with(|module| $crate::runtime::wasm::request_trailers(module, id)) as u32
        }
    };
    (@ response_headers) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_response_headers(id: u32, _headers: u32, end: u32) -> u32 {
            MODULE.with(|module| $crate::runtime::wasm::response_headers(module, id, end != 0)) as u32
        }
    };
    (@ response_trailers) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_response_trailers(id: u32, _trailers: u32) -> u32 {
            MODULE.with(|module| $crate::runtime::wasm::response_trailers(module, id)) as u32
        }
    };
    (@ response_body) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_response_body(id: u32, len: usize, end: u32) -> u32 {
            MODULE.with(|module| $crate::runtime::wasm::response_body(module, id, len, end != 0)) as u32
        }
    };
    (@ log) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_log(id: u32) {
            MODULE.with(|module| $crate::runtime::wasm::log(module, id));
        }
    };
    (@ tick) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_tick(id: u32) {
            MODULE.with(|module| $crate::runtime::wasm::tick(module, id));
        }
    };
    (@ http_call_response) => {
        #[unsafe(no_mangle)]
        extern "C" fn proxy_on_http_call_response(id: u32, call: u32, _headers: u32, _body: u32, _trailers: u32) {
            MODULE.with(|module| $crate::runtime::wasm::http_call_response(module, id, call));
        }
    };
}
