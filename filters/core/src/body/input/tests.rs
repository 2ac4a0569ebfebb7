use serde_json::{Value, json};

use crate::body::{Body, Input, Unmetered, read_json};
use crate::endpoint::Endpoint;

const PICTURE: &str = "data:image/png;base64,iVBORw0KGgo=";

fn read(endpoint: Endpoint, body: &Value) -> (Input, u32, u64) {
    let text = body.to_string();
    let Body {
        input,
        answers,
        least_tokens,
        ..
    } = read_json(endpoint, text.as_bytes()).unwrap();
    (input, answers, least_tokens)
}

fn input(endpoint: Endpoint, body: &Value) -> Input {
    read(endpoint, body).0
}

/// Of a user's message with one part.
fn part(endpoint: Endpoint, part: &Value) -> Input {
    let member = match endpoint {
        Endpoint::Responses => "input",
        _ => "messages",
    };
    input(
        endpoint,
        &json!({ member: [{"role": "user", "content": [part]}] }),
    )
}

/// Where its parts are taken: each API has its own.
const WHERE: [Endpoint; 3] = [Endpoint::Chat, Endpoint::Responses, Endpoint::Messages];

/// Of a body that says nothing but this.
fn counted(body: &Value) -> u64 {
    input(Endpoint::Chat, body).text
}

#[test]
fn everything_is_text_with_its_names() {
    let long = "w".repeat(10_000);
    for body in [
        json!({"messages": [{"role": "user", "content": long}]}),
        json!({"messages": [{"role": "user", "content": format!("data:{long}")}]}),
        json!({"messages": [{"role": "user", "content": "x", "data": long}]}),
        json!({"messages": [{"role": "user", "content": {"data": long}}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "text", "text": PICTURE.repeat(300)}]}]}),
        json!({"tools": [{"type": "function", "function": {"parameters": {"properties": {long.as_str(): {}}}}}]}),
        json!({"tools": [{"type": "image_url", "image_url": {"url": PICTURE.repeat(300)}}]}),
        json!({"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": [long]}}}}),
        json!({"text": {"format": {"schema": {long.as_str(): 1}}}}),
        json!({"documents": [long], "x": 1}),
        json!({"nobody_knows": {"this": long}}),
        json!({"nobody_knows": [vec![json!([]); 3_400]]}),
        json!({"nobody_knows": vec![Value::Null; 2_000]}),
        json!({"nobody_knows": vec![true; 2_000]}),
        json!({"nobody_knows": vec![1_234_567; 1_250]}),
    ] {
        let read = input(Endpoint::Chat, &body);
        assert!(read.text >= 10_000, "{read:?}");
        assert_eq!((read.pictures, read.audio, read.files), (0, 0, 0));
        // As a server writes it that gives it on.
        assert!(read.text + 2 >= body.to_string().len() as u64, "{read:?}");
    }
    let settings = json!({
        "user": long, "metadata": {"x": long}, "logit_bias": {"1": 2}, "stop": [long], "temperature": 0.5,
    });
    assert_eq!(counted(&settings), 0);
}

#[test]
fn base64_of_a_part_that_the_endpoint_takes_is_media() {
    let sound = "A".repeat(4_000);
    for (body, pictures, audio, files) in [
        (
            json!({"type": "image_url", "image_url": {"url": PICTURE}}),
            1,
            0,
            0,
        ),
        (
            json!({"image_url": {"url": PICTURE, "detail": "high"}, "type": "image_url"}),
            1,
            0,
            0,
        ),
        (
            json!({"type": "input_audio", "input_audio": {"data": sound, "format": "wav"}}),
            0,
            3_000,
            0,
        ),
        (
            json!({"type": "file", "file": {"filename": "a.pdf", "file_data": format!("data:application/pdf;base64,{sound}")}}),
            0,
            0,
            3_000,
        ),
        (
            json!({"type": "file", "file": {"file_data": format!("JVBERi0{sound}")}}),
            0,
            0,
            3_003,
        ),
        (
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": sound}}),
            1,
            0,
            0,
        ),
        (
            json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": format!("JVBERi0{sound}")}}),
            0,
            0,
            3_003,
        ),
        (json!({"type": "input_image", "image_url": PICTURE}), 1, 0, 0),
        (
            json!({"type": "video_url", "video_url": {"url": format!("data:video/mp4;base64,{sound}")}}),
            0,
            0,
            3_000,
        ),
        (
            json!({"type": "audio_url", "audio_url": {"url": format!("data:audio/ogg;base64,{sound}")}}),
            0,
            3_000,
            0,
        ),
        (
            json!({"type": "tool_result", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": sound}}]}),
            1,
            0,
            0,
        ),
        (json!({"image": sound}), 1, 0, 0),
        (json!({"type": "image", "image": PICTURE}), 1, 0, 0),
        (json!({"type": "image_embeds", "image_embeds": sound}), 1, 0, 0),
        (
            json!({"type": "image_embeds", "image_embeds": {"image_embeds": sound}}),
            1,
            0,
            0,
        ),
        (
            json!({"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}),
            1,
            0,
            0,
        ),
    ] {
        let all = WHERE.map(|endpoint| part(endpoint, &body));
        let read = all
            .into_iter()
            .max_by_key(|read| {
                let media = read.pictures + read.audio + read.files;
                (media, core::cmp::Reverse(read.text))
            })
            .unwrap();
        assert_eq!(
            (read.pictures, read.audio, read.files),
            (pictures, audio, files),
            "{body}"
        );
        assert!(read.text < 300, "{body}: {read:?}");
    }
    // A file that says to be text is text, and so is one that says nothing.
    for kind in [
        "text/plain",
        "application/json",
        "image/svg+xml",
        "application/octet-stream",
    ] {
        let data = format!("data:{kind};base64,{sound}");
        let read = part(
            Endpoint::Chat,
            &json!({"type": "file", "file": {"file_data": data}}),
        );
        assert!((3_000..3_300).contains(&read.text) && read.files == 0, "{read:?}");
    }
}

#[test]
fn earlier_pictures_of_responses_are_pictures() {
    let picture = "A".repeat(400_000);
    let read = input(
        Endpoint::Responses,
        &json!({"input": [
            {"type": "image_generation_call", "id": "ig_1", "result": picture},
            {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": format!("data:image/png;base64,{picture}")}},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_image", "image_url": PICTURE}]},
        ]}),
    );
    assert_eq!(read.pictures, 3);
    assert!(read.text < 500, "{read:?}");
}

#[test]
fn what_only_looks_like_media_is_text() {
    let long = "A".repeat(10_000);
    let words = "not base64 ".repeat(1_000);
    for body in [
        json!({"type": "text", "image_url": {"url": format!("data:image/png;base64,{long}")}}),
        json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{words}")}}),
        json!({"type": "image_url", "image_url": {"url": format!("data:image/png,{long}")}}),
        json!({"type": "image_url", "image_url": {"url": long}}),
        json!({"type": "image_url", "image_url": {"data": long}}),
        json!({"type": "input_audio", "data": long}),
        json!({"type": "input_audio", "input_audio": {"data": words}}),
        json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": long}}),
        json!({"type": "image", "source": {"data": long}}),
        json!({"type": "tool_use", "input": {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{long}")}}}),
        json!({"type": "file", "file": {"file_id": long}}),
        json!({"result": long}),
        json!({"data": long}),
    ] {
        for endpoint in WHERE {
            let read = part(endpoint, &body);
            assert!(read.text >= 10_000, "{body}: {read:?}");
        }
    }
    let twice = format!(
        r#"{{"messages":[{{"content":[{{"type":"text","image_url":"data:image/png;base64,{long}","type":"image_url"}}]}}]}}"#
    );
    let read = read_json(Endpoint::Chat, twice.as_bytes());
    assert!(read.is_err() || read.unwrap().input.text > 10_000);
    // Parts of another API.
    for (endpoint, body) in [
        (
            Endpoint::Messages,
            json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{long}")}}),
        ),
        (
            Endpoint::Responses,
            json!({"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{long}")}}),
        ),
        (
            Endpoint::Chat,
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": long}}),
        ),
        (
            Endpoint::Chat,
            json!({"type": "image_generation_call", "result": long}),
        ),
        (
            Endpoint::Messages,
            json!({"type": "input_audio", "input_audio": {"data": long}}),
        ),
        (Endpoint::Responses, json!({"image": long})),
    ] {
        assert!(part(endpoint, &body).text >= 10_000, "{body}");
    }
    // A tier of service has no parts.
    let tier = input(Endpoint::Messages, &json!({"speed": {"image": "fast"}}));
    assert_eq!(tier.pictures, 0, "{tier:?}");
    // The prompt of completions takes none.
    let prompt = json!({"prompt": format!("data:image/png;base64,{long}")});
    assert!(input(Endpoint::Completions, &prompt).text > 10_000);
}

#[test]
fn prompts_of_a_list_are_answered_each() {
    let of = |prompt: Value| {
        read(
            Endpoint::Completions,
            &json!({"prompt": prompt, "n": 2, "best_of": 3}),
        )
    };
    for (prompt, prompts, tokens) in [
        (json!("one"), 1, 0),
        (json!(["one"]), 1, 0),
        (json!(["one", "two"]), 2, 0),
        (json!([1, 2, 3]), 1, 3),
        (json!([[1, 2], [3]]), 2, 3),
        (json!([[1, 2], "three", []]), 3, 2),
        (json!([[["a", "b"], ["c"]]]), 3, 0),
        (json!([]), 1, 0),
        (json!(vec!["x"; 600]), 600, 0),
    ] {
        let (input, answers, _) = of(prompt.clone());
        assert_eq!((answers, input.numbers), (prompts * 3, tokens), "{prompt}");
    }
    let (_, answers, _) = read(
        Endpoint::Completions,
        &json!({"prompt": "x", "prompt_embeds": ["QUJD", "QUJD"], "n": u32::MAX}),
    );
    assert_eq!(answers, u32::MAX);
    // Numbers elsewhere are text.
    let read = input(Endpoint::Chat, &json!({"tools": [1, 2, 3], "x": [[1]]}));
    assert_eq!(read.numbers, 0);
    let conversations = json!({"messages": [[{"content": "a"}], [{"content": "b"}]]});
    assert_eq!(
        super::super::read_json(Endpoint::Chat, conversations.to_string().as_bytes())
            .unwrap()
            .answers,
        2
    );
}

#[test]
fn a_window_is_for_one_of_a_list() {
    let text = "x".repeat(1_600);
    let of = |endpoint, body: Value| read(endpoint, &body).2;
    assert!((100..103).contains(&of(
        Endpoint::Embeddings,
        json!({"input": vec![text.as_str(); 50]})
    )));
    assert!((5_000..5_200).contains(&of(Endpoint::Chat, json!({"x": vec![text.as_str(); 50]}))));
    assert!((150..160).contains(&of(
        Endpoint::Completions,
        json!({"prompt": [vec![7; 150], vec![8; 20]], "suffix": "x"})
    )));
}

#[test]
fn caps_count_where_every_server_keeps_to_them() {
    for (endpoint, body, cap) in [
        (
            Endpoint::Chat,
            json!({"max_tokens": 5, "max_completion_tokens": 9}),
            Some(9),
        ),
        (Endpoint::Chat, json!({"max_tokens": 0}), None),
        (
            Endpoint::Chat,
            json!({"max_tokens": 0, "max_completion_tokens": 9}),
            None,
        ),
        (Endpoint::Chat, json!({"max_output_tokens": 9}), None),
        (
            Endpoint::Chat,
            json!({"max_tokens": 5, "max_output_tokens": 9}),
            Some(9),
        ),
        (Endpoint::Chat, json!({"n_predict": 9}), None),
        (
            Endpoint::Chat,
            json!({"max_tokens": 5, "n_predict": 90}),
            Some(90),
        ),
        (Endpoint::Chat, json!({"max_tokens": 5, "n_predict": -1}), None),
        (
            Endpoint::Chat,
            json!({"max_tokens": 5, "min_tokens": 70}),
            Some(70),
        ),
        (Endpoint::Completions, json!({"max_completion_tokens": 9}), None),
        (
            Endpoint::Responses,
            json!({"max_output_tokens": 9, "max_tokens": 3}),
            Some(9),
        ),
        (
            Endpoint::Messages,
            json!({"max_tokens": 9, "thinking": {"type": "enabled", "budget_tokens": 5}}),
            Some(9),
        ),
        (
            Endpoint::Messages,
            json!({"max_tokens": 9, "thinking": {"budget_tokens": 500}}),
            Some(500),
        ),
        (
            Endpoint::Chat,
            json!({"max_tokens": 9, "thinking_budget": 500}),
            Some(509),
        ),
        (
            Endpoint::Chat,
            json!({"max_tokens": 9, "options": {"num_predict": 90, "thinking_budget": 5}}),
            Some(95),
        ),
        (
            Endpoint::Chat,
            json!({"max_tokens": 9, "options": {"num_predict": -2}}),
            None,
        ),
        (Endpoint::Chat, json!({"max_tokens": 9, "n_predict": 0}), None),
        (
            Endpoint::Chat,
            json!({"max_tokens": 9, "thinking_budget": 0, "min_tokens": 0}),
            Some(9),
        ),
        (
            Endpoint::Completions,
            json!({"max_tokens": 9, "max_completion_tokens": 0}),
            None,
        ),
    ] {
        let text = body.to_string();
        let read = read_json(endpoint, text.as_bytes()).unwrap();
        assert_eq!(read.caps.at(endpoint, None, Some(1_000)), cap, "{body}");
        // What servers do for answers without a cap says nothing of those that are told to go on.
        let most = if read.caps.lifted().is_some() {
            1_000
        } else {
            cap.unwrap_or(7)
        };
        assert_eq!(read.caps.at(endpoint, Some(7), Some(1_000)), Some(most), "{body}");
    }
    let text =
        json!({"max_tokens": 5, "prediction": {"type": "content", "content": "w".repeat(100)}}).to_string();
    let cap = read_json(Endpoint::Chat, text.as_bytes())
        .unwrap()
        .caps
        .at(Endpoint::Chat, None, None);
    assert!(cap.is_some_and(|cap| cap > 105), "{cap:?}");
}

/// vLLM goes by the member where there is no `type`, or a `uuid`.
#[test]
fn a_part_with_a_media_member_is_media_whatever_its_type() {
    let url = "https://example.com/a.png";
    for (part, pictures, unseen) in [
        (json!({"type": "image_url", "image_url": {"url": url}}), 1, 0),
        (json!({"image_url": {"url": url}}), 1, 0),
        (json!({"image_url": url}), 1, 0),
        (
            json!({"type": "text", "text": "x", "image_url": {"url": url}}),
            1,
            0,
        ),
        (json!({"type": "image_url", "image_url": null, "uuid": "a"}), 1, 0),
        (json!({"type": "image_url", "image_url": {}, "uuid": "a"}), 1, 0),
        (json!({"type": "text", "text": "x", "image_url": null}), 0, 0),
        (
            json!({"type": "text", "text": "x", "image_embeds": {}, "video_url": {"url": url}}),
            1,
            1,
        ),
        (json!({"video_url": {"url": url}}), 0, 1),
        (json!({"audio_url": {"url": url}}), 0, 1),
        (json!({"input_audio": {"data": "UklGRg", "format": "wav"}}), 0, 1),
    ] {
        for endpoint in [Endpoint::Chat, Endpoint::Responses, Endpoint::Messages] {
            let member = if endpoint == Endpoint::Responses {
                "input"
            } else {
                "messages"
            };
            let body = json!({member: [{"role": "user", "content": [part]}]}).to_string();
            let input = read_json(endpoint, body.as_bytes()).unwrap().input;
            assert_eq!(
                (input.pictures, input.unseen),
                (pictures, unseen),
                "{endpoint:?} {part}"
            );
        }
    }
}

#[test]
fn a_cap_is_a_number() {
    for body in [
        json!({"n_predict": "100000"}),
        json!({"max_tokens": "5"}),
        json!({"thinking_budget": "100000"}),
        json!({"min_tokens": ["100000"]}),
        json!({"max_length": true}),
        json!({"thinking": {"type": "enabled", "budget_tokens": "100000"}}),
        json!({"reasoning": {"max_tokens": [100_000]}}),
        json!({"options": {"num_predict": "-1"}}),
        json!({"num-predict": 100_000}),
    ] {
        let text = body.to_string();
        assert!(read_json(Endpoint::Chat, text.as_bytes()).is_err(), "{body}");
    }
    for body in [
        json!({"reasoning": "high", "thinking": null, "n_predict": null}),
        json!({"reasoning": {"effort": "low", "max_tokens": null}, "options": {"stop": ["x"]}}),
    ] {
        let text = body.to_string();
        assert!(read_json(Endpoint::Chat, text.as_bytes()).is_ok(), "{body}");
    }
}

#[test]
fn what_only_the_model_server_sees_counts_as_such() {
    for (endpoint, body, unseen) in [
        (
            Endpoint::Responses,
            json!({"previous_response_id": "r", "conversation": {"id": "c"}, "prompt": {"id": "p"}}),
            3,
        ),
        (Endpoint::Responses, json!({"previous_response_id": null}), 0),
        (
            Endpoint::Responses,
            json!({"input": [{"type": "item_reference", "id": "x"}, {"content": [{"type": "input_file", "file_id": "f"}]}]}),
            2,
        ),
        (
            Endpoint::Responses,
            json!({"tools": [{"type": "web_search_preview"}, {"type": "function", "name": "mcp"}]}),
            1,
        ),
        (
            Endpoint::Chat,
            json!({"tools": [
                {"type": "browser_search"}, {"type": "x_search"}, {"type": "google_search"}, {"type": "collections_search"},
                {"type": "shell"}, {"google_search": {}}, {"type": "builtin_function", "function": {"name": "$web_search"}},
                {"type": "function", "codeExecution": {}}, {"type": "function", "function": {"name": "x"}},
                {"type": "custom", "custom": {"name": "x"}}, {"name": "x", "input_schema": {}},
            ]}),
            8,
        ),
        (
            Endpoint::Chat,
            json!({"enable_search": true, "web_search": {"enable": true}}),
            2,
        ),
        (
            Endpoint::Messages,
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}], "mcp_servers": [{}]}),
            2,
        ),
        (
            Endpoint::Messages,
            json!({"messages": [{"content": [{"type": "document", "source": {"type": "url", "url": "https://x"}}]}]}),
            1,
        ),
        (Endpoint::Chat, json!({"web_search_options": {}}), 1),
        (
            Endpoint::Chat,
            json!({"messages": [{"role": "tool", "content": [{"type": "tool_reference", "name": "f"}]}]}),
            1,
        ),
        (Endpoint::Chat, json!({"prompt": "x", "conversation": "x"}), 0),
    ] {
        assert_eq!(input(endpoint, &body).unseen, unseen, "{body}");
    }
}

#[test]
fn a_setting_as_long_as_a_prompt_is_text() {
    for (name, value) in [
        ("stop", json!(vec!["x"; 10_000])),
        ("user", json!("u".repeat(20_000))),
    ] {
        assert!(
            input(Endpoint::Chat, &json!({name: value})).text > 20_000,
            "{name}"
        );
        assert_eq!(input(Endpoint::Chat, &json!({name: "x"})).text, 0, "{name}");
    }
}

#[test]
fn what_cannot_be_metered_is_known() {
    let of = |endpoint, body: Value| {
        read_json(endpoint, body.to_string().as_bytes())
            .unwrap()
            .unmetered
    };
    for on in [json!(true), json!("true"), json!(1), json!({})] {
        assert_eq!(
            of(Endpoint::Responses, json!({"background": on})),
            [Unmetered::Background]
        );
    }
    for off in [json!(false), json!(null), json!(0)] {
        assert_eq!(of(Endpoint::Responses, json!({"background": off})), []);
    }
    assert_eq!(
        of(Endpoint::ImagesGenerations, json!({"background": "transparent"})),
        []
    );
    assert_eq!(
        of(
            Endpoint::Chat,
            json!({"chat_template": "{{x}}", "extra_body": {"n": 3}})
        ),
        [Unmetered::ChatTemplate, Unmetered::ExtraBody]
    );
    let kwargs = |inside: Value| of(Endpoint::Chat, json!({"chat_template_kwargs": inside}));
    for inside in [
        "chat_template",
        "tokenize",
        "tokenizer_kwargs",
        "return_tensors",
        "messages",
    ] {
        assert_eq!(
            kwargs(json!({inside: "x"})),
            [Unmetered::ChatTemplateKwargs],
            "{inside}"
        );
    }
    for inside in [
        json!({"enable_thinking": false}),
        json!({"chat_template": null}),
        json!(null),
    ] {
        assert_eq!(kwargs(inside), []);
    }
}
