//! The names of the host calls, as values.

macro_rules! hostcalls {
    ($($variant:ident = $import:literal,)*) => {
        /// A host call of proxy-wasm 0.2.1, for faults, hooks and counts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Hostcall {
            $(
                #[doc = concat!("`", $import, "`")]
                $variant,
            )*
        }

        impl Hostcall {
            /// Every call this host offers.
            pub const ALL: &'static [Hostcall] = &[$(Hostcall::$variant,)*];

            /// The name a module imports it by.
            #[must_use]
            pub fn import(self) -> &'static str {
                match self {
                    $(Hostcall::$variant => $import,)*
                }
            }
        }
    };
}

hostcalls! {
    Log = "proxy_log",
    GetLogLevel = "proxy_get_log_level",
    GetStatus = "proxy_get_status",
    GetCurrentTime = "proxy_get_current_time_nanoseconds",
    SetTickPeriod = "proxy_set_tick_period_milliseconds",
    GetProperty = "proxy_get_property",
    SetProperty = "proxy_set_property",
    GetHeaderMapPairs = "proxy_get_header_map_pairs",
    SetHeaderMapPairs = "proxy_set_header_map_pairs",
    GetHeaderMapValue = "proxy_get_header_map_value",
    AddHeaderMapValue = "proxy_add_header_map_value",
    ReplaceHeaderMapValue = "proxy_replace_header_map_value",
    RemoveHeaderMapValue = "proxy_remove_header_map_value",
    GetHeaderMapSize = "proxy_get_header_map_size",
    GetBufferBytes = "proxy_get_buffer_bytes",
    SetBufferBytes = "proxy_set_buffer_bytes",
    GetBufferStatus = "proxy_get_buffer_status",
    ContinueStream = "proxy_continue_stream",
    CloseStream = "proxy_close_stream",
    SendLocalResponse = "proxy_send_local_response",
    GetSharedData = "proxy_get_shared_data",
    SetSharedData = "proxy_set_shared_data",
    RegisterSharedQueue = "proxy_register_shared_queue",
    ResolveSharedQueue = "proxy_resolve_shared_queue",
    EnqueueSharedQueue = "proxy_enqueue_shared_queue",
    DequeueSharedQueue = "proxy_dequeue_shared_queue",
    DefineMetric = "proxy_define_metric",
    IncrementMetric = "proxy_increment_metric",
    RecordMetric = "proxy_record_metric",
    GetMetric = "proxy_get_metric",
    HttpCall = "proxy_http_call",
    GrpcCall = "proxy_grpc_call",
    GrpcStream = "proxy_grpc_stream",
    GrpcSend = "proxy_grpc_send",
    GrpcCancel = "proxy_grpc_cancel",
    GrpcClose = "proxy_grpc_close",
    SetEffectiveContext = "proxy_set_effective_context",
    Done = "proxy_done",
    CallForeignFunction = "proxy_call_foreign_function",
}
