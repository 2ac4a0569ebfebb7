//! What one would write to have Envoy route by model without Tollgate.

use serde_json::{Value, json};

/// The first thing in the body that looks like a model, wherever it stands: as fast as Lua can be.
const LUA: &str = r#"
function envoy_on_request(handle)
  local body = handle:body()
  if body == nil then return end
  local model = string.match(body:getBytes(0, body:length()), '"model"%s*:%s*"([^"]*)"')
  if model ~= nil then
    handle:headers():replace("x-model", model)
    handle:clearRouteCache()
  end
end
"#;

/// The Lua filter.
pub(super) fn lua() -> Value {
    json!({
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": LUA},
        },
    })
}

/// The filter that asks [`crate::processor`]: with the headers and then with the whole body. Without the question about
/// headers it would let them go on to a route before the body is there.
pub(super) fn ext_proc() -> Value {
    json!({
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": "processor"}, "timeout": "60s"},
            "message_timeout": "60s",
            "processing_mode": {
                "request_header_mode": "SEND",
                "request_body_mode": "BUFFERED",
                "request_trailer_mode": "SKIP",
                "response_header_mode": "SKIP",
                "response_body_mode": "NONE",
                "response_trailer_mode": "SKIP",
            },
        },
    })
}
