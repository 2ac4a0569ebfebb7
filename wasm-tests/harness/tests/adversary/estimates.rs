//! Requests that look small and are not: what is reserved is what the model may do, whatever the client calls it.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tollgate_core::key::ApiKey;
use tollgate_harness::models::{FAULT_HEADER, ModelServer};
use tollgate_harness::{Catalogue, Directory, Gateway, Options, net};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
const EMBEDDINGS: &str = "/v1/embeddings";
/// Of each key.
const LIMIT: u64 = 10_000;
/// Of one request, sent at once.
const COPIES: usize = 12;

struct Stage {
    gateway: Gateway,
    models: ModelServer,
    keys: Vec<ApiKey>,
}

/// Models `m`, which writes 4,000 tokens at most, `endless`, of which nobody knows, and `background`, which may be asked
/// for answers in the background.
async fn stage(keys: usize) -> Stage {
    let models = ModelServer::builder().keep(4_096).start().await.unwrap();
    let mut directory = Directory::empty();
    directory.org("acme", json!({"models": ["*"]}));
    let keys = (0..keys).map(|_| directory.key("acme")).collect();
    let model = json!({
        "endpoints": ["chat", "completions", "responses", "messages", "embeddings"],
        "targets": [{"cluster": "llama"}], "context_window": 100_000,
    });
    let with = |more: Value| {
        let mut model = model.clone();
        model
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        model
    };
    let mut catalogue = Catalogue::empty();
    catalogue
        .model("m", with(json!({"max_output": 4_000})))
        .model("endless", with(json!({})))
        .model("background", with(json!({"background": true})));
    let gateway = Options::new()
        .workers(1)
        .llama(models.addr())
        .directory(&directory)
        .catalogue(&catalogue)
        .limits(json!({"limits": [
            {"name": "key", "per": ["key"], "count": "tokens", "rate": format!("{LIMIT}/minute")},
        ]}))
        .unbroken()
        .start()
        .await;
    Stage {
        gateway,
        models,
        keys,
    }
}

/// Where it is asked, what is asked for, and what a model server may do for it, by tokens: each byte of text that it may
/// read a quarter, each that it may write one.
fn schemes() -> Vec<(&'static str, Value, u64)> {
    let words = "word ".repeat(12_000);
    let long = "w".repeat(60_000);
    let text = 15_000;
    let prompts = json!(["say"; 100].map(|say| json!(say)).to_vec());
    let chat = |more: Value| {
        let mut body = json!({"max_tokens": 8, "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let content = |content: Value| chat(json!({"messages": [{"role": "user", "content": content}]}));
    vec![
        (
            COMPLETIONS,
            json!({"prompt": prompts, "max_tokens": 1_000}),
            100_000,
        ),
        (
            COMPLETIONS,
            json!({"prompt": vec![json!([1, 2]); 100], "max_tokens": 1_000}),
            100_000,
        ),
        (
            COMPLETIONS,
            json!({"prompt": ["a", "b"], "max_tokens": 500, "n": 3}),
            3_000,
        ),
        (
            COMPLETIONS,
            json!({"prompt": ["a", "b"], "max_tokens": 500, "best_of": 3, "n": 1}),
            3_000,
        ),
        (
            COMPLETIONS,
            json!({"prompt": ["a", "b"], "max_tokens": 500, "n_cmpl": 3}),
            3_000,
        ),
        (
            COMPLETIONS,
            json!({"prompt": [["a", "b"], ["c"]], "max_tokens": 1_000}),
            3_000,
        ),
        (
            COMPLETIONS,
            json!({"prompt": vec![7; 3_000], "max_tokens": 1}),
            3_000,
        ),
        (
            COMPLETIONS,
            json!({"prompt": "x", "suffix": long, "max_tokens": 1}),
            text,
        ),
        // What the model server caps without a cap, it may not where it is told to go on: up to its window.
        (COMPLETIONS, json!({"prompt": "x", "max_tokens": 0}), 100_000),
        (CHAT, chat(json!({"max_tokens": 0})), 100_000),
        (
            CHAT,
            chat(json!({"max_tokens": 0, "max_completion_tokens": 1})),
            100_000,
        ),
        (CHAT, chat(json!({"n_predict": 3_000})), 3_000),
        (CHAT, chat(json!({"n_predict": -1})), 100_000),
        (CHAT, chat(json!({"n_predict": 0})), 100_000),
        (CHAT, chat(json!({"options": {"num_predict": -2}})), 100_000),
        (CHAT, chat(json!({"options": {"num_predict": 3_000}})), 3_000),
        (CHAT, chat(json!({"thinking_budget": 3_000})), 3_008),
        (
            RESPONSES,
            json!({"input": "x", "max_output_tokens": 8, "max_tokens": 0}),
            100_000,
        ),
        (CHAT, chat(json!({"auto_max_new_tokens": true})), 100_000),
        (
            COMPLETIONS,
            json!({"prompt": "x", "max_tokens": 8, "auto_max_new_tokens": "true"}),
            100_000,
        ),
        (
            CHAT,
            chat(json!({"max_tokens": 500, "use_beam_search": true, "n": 8})),
            4_000,
        ),
        (CHAT, chat(json!({"max_tokens": 500, "num_beams": 8})), 4_000),
        (
            CHAT,
            chat(json!({"max_tokens": 500, "beam_width": 8, "n": 2})),
            4_000,
        ),
        (
            CHAT,
            chat(json!({"max_tokens": 500, "candidate_count": 8})),
            4_000,
        ),
        (CHAT, chat(json!({"min_tokens": 3_000})), 3_000),
        (CHAT, chat(json!({"n": 500})), 4_000),
        (
            CHAT,
            chat(json!({"messages": vec![json!([{"role": "user", "content": "x"}]); 500]})),
            4_000,
        ),
        (
            CHAT,
            chat(json!({"prediction": {"type": "content", "content": words}})),
            text,
        ),
        (CHAT, content(json!(format!("data:{words}"))), text),
        (
            CHAT,
            content(json!(format!("data:image/png;base64,{long}"))),
            text,
        ),
        (
            CHAT,
            content(json!([{"type": "text", "text": format!("data:image/png;base64,{long}")}])),
            text,
        ),
        (
            CHAT,
            content(
                json!([{"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{words}")}}]),
            ),
            text,
        ),
        (
            CHAT,
            content(json!([{"type": "text", "text": "x", "data": words}])),
            text,
        ),
        (CHAT, content(json!({"data": words})), text),
        (
            CHAT,
            chat(
                json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {long.as_str(): {}}}}}]}),
            ),
            text,
        ),
        (
            CHAT,
            chat(
                json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"enum": vec![Value::Null; 12_000]}}}]}),
            ),
            text,
        ),
        (
            CHAT,
            chat(json!({"functions": [{"name": "f", "description": words}]})),
            text,
        ),
        (
            CHAT,
            chat(
                json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {long.as_str(): {}}}}}),
            ),
            text,
        ),
        (CHAT, chat(json!({"guided_regex": words})), text),
        (CHAT, chat(json!({"chat_template_kwargs": {"x": words}})), text),
        (CHAT, chat(json!({"documents": [{"data": words}]})), text),
        (
            RESPONSES,
            json!({"input": "x", "max_output_tokens": 8, "text": {"format": {"type": "json_schema", "schema": {long.as_str(): {}}}}}),
            text,
        ),
        (
            RESPONSES,
            json!({"input": [{"type": "function_call_output", "output": words, "data": "x"}], "max_output_tokens": 8}),
            text,
        ),
        (RESPONSES, json!({"input": "x", "max_output_tokens": 0}), 100_000),
        (RESPONSES, json!({"input": "x", "max_tokens": 8}), 4_000),
        (
            MESSAGES,
            json!({"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": words}}]}], "max_tokens": 8}),
            text,
        ),
        (
            MESSAGES,
            json!({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "x", "name": "f", "input": {"data": words}}]}], "max_tokens": 8}),
            text,
        ),
        (
            MESSAGES,
            json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": 0}),
            100_000,
        ),
        (EMBEDDINGS, json!({"input": [words, "x"]}), text),
        (EMBEDDINGS, json!({"input": vec![vec![7; 1_000]; 3]}), 3_000),
    ]
}

/// How many of twelve copies, sent at once, reach a model server that answers none.
async fn admitted(stage: &Stage, key: &ApiKey, path: &str, body: &Value) -> u64 {
    let shown: String = body.to_string().chars().take(200).collect();
    let copies = (0..COPIES).map(|_| {
        let request = stage.gateway.post(path).key(key).json(body.clone());
        tokio::spawn(request.header(FAULT_HEADER, "hold=0").send())
    });
    let copies: Vec<_> = copies.collect();
    net::eventually("each was refused, or is at the model server", async || {
        let refused = copies.iter().filter(|copy| copy.is_finished()).count();
        (refused + stage.models.seen().len() == COPIES).then_some(())
    })
    .await;
    let admitted = stage.models.seen().len() as u64;
    // One that is there may not be held yet: it is let go by the next release.
    net::eventually("all are answered", async || {
        stage.models.release();
        copies
            .iter()
            .all(tokio::task::JoinHandle::is_finished)
            .then_some(())
    })
    .await;
    for copy in join_all(copies).await {
        let status = copy.unwrap().status;
        assert!(status == 200 || status == 429, "{path}: {status} for {shown}");
    }
    stage.models.ledger().clear();
    admitted
}

/// All that a model server may do for those that reached it is within the limit.
#[tokio::test]
async fn no_request_may_do_more_than_is_reserved() {
    let schemes = schemes();
    let stage = stage(schemes.len()).await;
    for ((path, body, may), key) in schemes.iter().zip(&stage.keys) {
        let mut body = body.clone();
        body["model"] = json!("m");
        let admitted = admitted(&stage, key, path, &body).await;
        let shown: String = body.to_string().chars().take(200).collect();
        // A twelfth of a minute's worth leaks away meanwhile, on a slow machine.
        assert!(
            admitted * may <= LIMIT + LIMIT / 12,
            "{path}: {admitted} of {shown}"
        );
        if *may <= LIMIT {
            assert!(admitted > 0, "{path}: {shown}");
        }
    }
}

/// What nobody caps, or not for certain, is expected to take much: one at once, or none where there are thousands.
#[tokio::test]
async fn what_is_no_cap_for_certain_goes_one_by_one() {
    let tool = |tool: Value| json!({"input": "x", "max_output_tokens": 8, "tools": [tool]});
    let chat = |more: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    let cases = [
        (RESPONSES, tool(json!({"type": "code_interpreter"})), 1),
        (RESPONSES, tool(json!({"type": "web_search_preview"})), 1),
        (
            RESPONSES,
            tool(json!({"type": "mcp", "server_label": "x", "server_url": "https://x"})),
            1,
        ),
        (
            CHAT,
            chat(json!({"max_tokens": 8, "tools": [{"type": "mcp", "server_label": "x"}]})),
            1,
        ),
        (CHAT, chat(json!({"n": 128})), 1),
        (CHAT, chat(json!({"n": 16_384})), 0),
        (CHAT, chat(json!({"n": u32::MAX})), 0),
        (COMPLETIONS, json!({"prompt": vec!["x"; 1_000]}), 0),
        (
            RESPONSES,
            tool(json!({"type": "function", "name": "f", "parameters": {}})),
            COPIES as u64,
        ),
    ];
    let stage = stage(cases.len()).await;
    for ((path, mut body, expected), key) in cases.into_iter().zip(&stage.keys) {
        body["model"] = json!("endless");
        assert_eq!(
            admitted(&stage, key, path, &body).await,
            expected,
            "{path}: {body}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_metered_is_refused_by_name() {
    let stage = stage(1).await;
    let key = &stage.keys[0];
    let template = "{% for x in range(100000) %}word {% endfor %}";
    for (path, param, value) in [
        (RESPONSES, "background", json!(true)),
        (RESPONSES, "background", json!("true")),
        (CHAT, "chat_template", json!(template)),
        (CHAT, "chat_template_kwargs", json!({"chat_template": template})),
        (CHAT, "chat_template_kwargs", json!({"tokenize": true})),
        (CHAT, "mm_processor_kwargs", json!({"max_pixels": 100_000_000})),
        (CHAT, "max_dynamic_patch", json!(10_000)),
        (CHAT, "media_io_kwargs", json!({"video": {"num_frames": 100_000}})),
        (CHAT, "extra_body", json!({"n": 100, "model": "endless"})),
        (CHAT, "models", json!(["anthropic/claude-opus"])),
        (CHAT, "fallbacks", json!([{"model": "x/y"}])),
        (CHAT, "api_base", json!("http://10.0.0.1")),
        (CHAT, "base_url", json!("http://10.0.0.1")),
        (CHAT, "kv_transfer_params", json!({"remote_host": "10.0.0.1"})),
        (CHAT, "priority", json!(-100_000)),
        (CHAT, "instruction_template_str", json!(template)),
        (CHAT, "generation_config", json!("{\"max_new_tokens\": 100000}")),
        (
            CHAT,
            "vllm_xargs",
            json!({"kv_transfer_params": {"remote_host": "10.0.0.1"}}),
        ),
        (CHAT, "nvext", json!({"max_thinking_tokens": 100_000})),
        (CHAT, "lora_path", json!("/models/others")),
        (CHAT, "adapters", json!("/models/others")),
        (CHAT, "anthropic_beta", json!(["context-1m-2025-08-07"])),
        (
            COMPLETIONS,
            "lora_request",
            json!({"lora_name": "others", "lora_path": "/"}),
        ),
        (COMPLETIONS, "lora", json!([{"id": 0, "scale": 1.0}])),
        (CHAT, "adapter_id", json!("others")),
        (CHAT, "draft_model", json!("others")),
        (CHAT, "preset", json!("others")),
        (CHAT, "provider", json!({"order": ["dear"]})),
        (CHAT, "plugins", json!([{"id": "web"}])),
        (RESPONSES, "bootstrap_host", json!("10.0.0.1")),
        (RESPONSES, "disaggregated_params", json!({"opaque_state": "x"})),
        (CHAT, "api_key", json!("sk-theirs")),
        (CHAT, "extra_headers", json!({"authorization": "Bearer x"})),
        (CHAT, "user_config", json!({"model_list": []})),
        (CHAT, "custom_logit_processor", json!("80049524")),
        (CHAT, "logits_processors", json!(["os.system"])),
        (CHAT, "session_params", json!({"id": "theirs"})),
        (CHAT, "id_slot", json!(0)),
        (CHAT, "data_parallel_rank", json!(0)),
        (CHAT, "num_retries", json!(100)),
        (CHAT, "deferred", json!(true)),
        (CHAT, "service_tier", json!("priority")),
        (RESPONSES, "service_tier", json!("scale")),
        (MESSAGES, "service_tier", json!("priority")),
        (MESSAGES, "speed", json!("fast")),
        (MESSAGES, "inference_geo", json!("us")),
        (CHAT, "rid", json!("theirs")),
        (COMPLETIONS, "request_id", json!("theirs")),
        (CHAT, "routed_dp_rank", json!(0)),
        (
            CHAT,
            "sampling_params",
            json!({"max_new_tokens": 100_000, "n": 100}),
        ),
        (COMPLETIONS, "parameters", json!({"max_new_tokens": 100_000})),
        (CHAT, "adapter_source", json!("hub")),
        (CHAT, "deployment_id", json!("others")),
        (CHAT, "headers", json!({"authorization": "Bearer x"})),
        (CHAT, "context_window_fallbacks", json!([{"m": ["dear"]}])),
        (CHAT, "additional_drop_params", json!(["max_tokens"])),
        (CHAT, "success_callback", json!(["langfuse"])),
        (
            CHAT,
            "data_sources",
            json!([{"type": "azure_search", "parameters": {"endpoint": "http://10.0.0.1"}}]),
        ),
        (CHAT, "cached_content", json!("cachedContents/theirs")),
    ] {
        let mut body = json!({"model": "m", "input": "x", "messages": [{"role": "user", "content": "x"}]});
        body[param] = value;
        let reply = stage.gateway.post(path).key(key).json(body).send().await;
        let reply = reply.expect(400);
        if path == MESSAGES {
            reply
                .anthropic("invalid_request_error")
                .says(&format!("`{param}` is not supported"));
        } else {
            assert_eq!(
                reply.code("unsupported_parameter").json()["error"]["param"],
                param
            );
        }
    }
    for (param, named) in [
        ("aws_bedrock_runtime_endpoint", "aws_*"),
        ("aws_role_name", "aws_*"),
        ("azure_ad_token", "azure_*"),
        ("vertex_credentials", "vertex_*"),
        ("litellm_credential_name", "litellm_*"),
        ("langfuse_host", "langfuse_*"),
        ("mock_response", "mock_*"),
    ] {
        let body = json!({"model": "m", "messages": [], param: "x"});
        let reply = stage.gateway.post(CHAT).key(key).json(body).send().await;
        let reply = reply.expect(400).code("unsupported_parameter");
        assert_eq!(reply.json()["error"]["param"], named);
    }
    assert_eq!(stage.models.seen().len(), 0);
    // What real clients send is no reason to refuse.
    for (path, more) in [
        (
            CHAT,
            json!({"service_tier": "auto", "speed": "fast", "id_slot": null, "logprobs": true, "store": true}),
        ),
        (
            RESPONSES,
            json!({"service_tier": "flex", "max_retries": 0, "include": [], "parallel_tool_calls": true}),
        ),
        (
            MESSAGES,
            json!({"service_tier": "standard_only", "speed": "standard", "auto_max_new_tokens": false}),
        ),
    ] {
        let mut body = json!({"model": "m", "max_tokens": 8, "input": "x", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        stage
            .gateway
            .post(path)
            .key(key)
            .json(body)
            .send()
            .await
            .expect(200);
    }
}

/// Where the catalogue allows it, what is written in the background takes all that it may.
#[tokio::test]
async fn the_background_takes_its_cap() {
    let stage = stage(1).await;
    let key = &stage.keys[0];
    let ask = |cap: u64| {
        let body = json!({"model": "background", "input": "x", "background": true, "max_output_tokens": cap});
        stage.gateway.post(RESPONSES).key(key).json(body).send()
    };
    ask(100_000).await.expect(429).code("request_too_large_for_limit");
    let first = ask(6_000).await.expect(200);
    ask(6_000).await.expect(429).code("rate_limit_exceeded");
    let record = stage.gateway.record_of(&first).await;
    assert_eq!(record.output_tokens, Some(6_000));
    assert_eq!(record.source.as_deref(), Some("estimated"));
}

/// Large media are no long text; and an error names the member that is there.
#[tokio::test]
async fn media_are_not_too_long() {
    let stage = stage(5).await;
    let picture = "iVBORw0KGgoA".repeat(200_000);
    let url = format!("data:image/png;base64,{picture}");
    let second_turn = json!([
        {"role": "user", "content": "a cat"},
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": picture},
        {"role": "user", "content": "with a hat"},
    ]);
    for ((path, member, value), key) in [
        (RESPONSES, "input", second_turn),
        (EMBEDDINGS, "input", json!([{"image": url}, {"image": picture}])),
        (CHAT, "messages", json!([{"role": "user", "content": [{"type": "image_embeds", "image_embeds": picture}]}])),
        (CHAT, "messages", json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}])),
        (MESSAGES, "messages", json!([{"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": picture}}]}])),
    ]
    .into_iter()
    .zip(&stage.keys)
    {
        let mut body = json!({"model": "m", "max_tokens": 8, "max_output_tokens": 8});
        body[member] = value;
        stage.gateway.post(path).key(key).json(body).send().await.expect(200);
    }
    let words = "word ".repeat(400_000);
    for (path, member, value) in [
        (RESPONSES, "input", json!(words)),
        (RESPONSES, "instructions", json!(words)),
        (COMPLETIONS, "prompt", json!(words)),
        (EMBEDDINGS, "input", json!(words)),
        (
            CHAT,
            "tools",
            json!([{"type": "function", "function": {"description": words}}]),
        ),
        (CHAT, "messages", json!([{"role": "user", "content": words}])),
    ] {
        let mut body = json!({"model": "m", "max_tokens": 8});
        body[member] = value;
        let reply = stage
            .gateway
            .post(path)
            .key(&stage.keys[0])
            .json(body)
            .send()
            .await;
        let reply = reply.expect(400).code("context_length_exceeded");
        assert_eq!(reply.json()["error"]["param"], member, "{path}");
    }
}

/// Whatever name of a cap a server goes by, it is asked for no more than the model's `max_output`.
#[tokio::test]
async fn no_cap_is_beyond_the_models() {
    let stage = stage(1).await;
    let ask = |path: &str, model: &str, more: Value| {
        let mut body = json!({"model": model, "input": "x", "prompt": "x", "messages": [{"role": "user", "content": "x"}]});
        if path != CHAT {
            body.as_object_mut().unwrap().remove("messages");
        }
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        stage.gateway.post(path).key(&stage.keys[0]).json(body).send()
    };
    for (path, member, more) in [
        (
            CHAT,
            "max_completion_tokens",
            json!({"max_completion_tokens": 4_001}),
        ),
        (CHAT, "max_tokens", json!({"max_tokens": 4_001})),
        (
            RESPONSES,
            "max_output_tokens",
            json!({"max_output_tokens": 4_001}),
        ),
        (
            CHAT,
            "max_output_tokens",
            json!({"max_tokens": 10, "max_output_tokens": 4_001}),
        ),
        (CHAT, "n_predict", json!({"max_tokens": 10, "n_predict": 50_000})),
        (
            COMPLETIONS,
            "num_predict",
            json!({"max_tokens": 10, "num_predict": 50_000}),
        ),
        (CHAT, "max_new_tokens", json!({"max_new_tokens": 50_000})),
        (
            COMPLETIONS,
            "max_tokens_to_sample",
            json!({"max_tokens_to_sample": 50_000}),
        ),
        (
            CHAT,
            "min_tokens",
            json!({"max_tokens": 10, "min_tokens": 50_000}),
        ),
        (
            CHAT,
            "thinking_budget",
            json!({"max_tokens": 10, "thinking_budget": 50_000}),
        ),
        (
            CHAT,
            "reasoning",
            json!({"max_tokens": 10, "reasoning": {"max_tokens": 50_000}}),
        ),
        (
            CHAT,
            "options",
            json!({"max_tokens": 10, "options": {"num_predict": 50_000}}),
        ),
        (
            CHAT,
            "chat_template_kwargs",
            json!({"chat_template_kwargs": {"thinking_budget": 50_000}}),
        ),
    ] {
        let reply = ask(path, "m", more)
            .await
            .expect(400)
            .code("unsupported_parameter");
        assert_eq!(reply.json()["error"]["param"], member);
    }
    // A number as text is one to some servers.
    for more in [
        json!({"max_tokens": 10, "n_predict": "100000"}),
        json!({"max_tokens": 10, "thinking_budget": "100000"}),
        json!({"max_tokens": 10, "options": {"num_predict": "100000"}}),
    ] {
        ask(CHAT, "endless", more).await.expect(400);
    }
    assert_eq!(stage.models.seen().len(), 0);
    ask(
        CHAT,
        "m",
        json!({"max_tokens": 10, "n_predict": 4_000, "thinking_budget": 0}),
    )
    .await
    .expect(200);
}

/// Many texts to embed are read one by one, and answered with no tokens.
#[tokio::test]
async fn a_batch_of_embeddings_is_no_long_text() {
    let stage = stage(1).await;
    let body = json!({"model": "endless", "input": vec!["word ".repeat(1_000); 400]});
    let reply = stage
        .gateway
        .post(EMBEDDINGS)
        .key(&stage.keys[0])
        .json(body)
        .send()
        .await;
    // It is read at once by no model, and is more than the limit.
    reply.expect(429).code("request_too_large_for_limit");
}

/// What one organization does changes no other's admission, and no expectation makes a request one that never passes.
#[tokio::test]
async fn nobodys_long_answers_are_anothers_reservation() {
    let models = ModelServer::start().await.unwrap();
    let mut directory = Directory::empty();
    let mut key = |org: &str| {
        directory.org(org, json!({"models": ["*"]}));
        directory.key(org)
    };
    let [flood, quiet, late] = ["flood", "quiet", "late"].map(&mut key);
    directory.org("flood", json!({"models": ["*"], "projects": {"small": {}}}));
    let small = directory.project_key("flood", "small");
    let mut catalogue = Catalogue::empty();
    catalogue.chat("endless", &["llama"]);
    let limit = |name: &str, when: Value| json!({"name": name, "per": ["key"], "when": when, "count": "tokens", "rate": format!("{LIMIT}/minute")});
    let gateway = Options::new()
        .workers(1)
        .llama(models.addr())
        .directory(&directory)
        .catalogue(&catalogue)
        .limits(json!({"limits": [
            limit("others", json!({"org": ["quiet", "late"]})), limit("small", json!({"project": "small"})),
        ]}))
        .start()
        .await;
    let ask = async |key: &ApiKey, fault: &str| {
        let body = json!({"model": "endless", "messages": [{"role": "user", "content": "x"}]});
        let request = gateway.post(CHAT).key(key).json(body);
        let reply = request.header(FAULT_HEADER, fault).send().await.expect(200);
        let record = gateway.record_of(&reply).await;
        record.reserved_tokens.unwrap()
    };
    let before = ask(&quiet, "tokens=9").await;
    for _ in 0..25 {
        ask(&flood, "tokens=40000").await;
    }
    // An organization's own answers are what is expected of it, also where that is more than a limit has at once.
    assert!(ask(&small, "tokens=9").await > LIMIT);
    assert_eq!(
        ask(&late, "tokens=9").await,
        before,
        "as if nobody had asked before"
    );
    assert!(ask(&quiet, "tokens=9").await <= before);
}
