//! The floor: the least that a filter written with the proxy-wasm SDK does. It reads one request header and sets one.
//!
//! Benchmarks compare with it, so it stays as the SDK's own documentation would have a beginner write it.
#![expect(
    missing_docs,
    reason = "the SDK's `main!` makes a public function without documentation"
)]

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

proxy_wasm::main! {{
    proxy_wasm::set_root_context(|_| Box::new(Root));
}}

struct Root;

impl Context for Root {}

impl RootContext for Root {
    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream;

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let authorization = self.get_http_request_header("authorization");
        let verdict = if authorization.is_some() { "yes" } else { "no" };
        self.set_http_request_header("x-floor", Some(verdict));
        Action::Continue
    }
}
