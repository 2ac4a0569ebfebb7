//! What a model may read of a tree: all of it is text as its own JSON would have it, and what turns out to be media is
//! taken off again.

use tollgate_core::body::Input;
use tollgate_core::endpoint::Endpoint;

use crate::tree::Tree;

/// Members that are read apart.
const APART: &str = " model stream stream_options max_tokens max_completion_tokens max_output_tokens n best_of n_cmpl num_return_sequences \
    num_beams beam_size beam_width beam_search_width num_generations candidate_count num_outputs_per_prompt num_images_per_prompt num_images num_outputs ";
/// Members that no model reads, unless they are long.
const SETTINGS: &str = " \
    dimensions encoding_format frequency_penalty include logit_bias logprobs metadata min_p parallel_tool_calls \
    presence_penalty prompt_cache_key repetition_penalty safety_identifier seed service_tier skip_special_tokens stop \
    stop_sequences stop_token_ids store temperature top_k top_logprobs top_p user ";
/// Most strings of a part that may be media.
const MAX_HELD: usize = 4;

/// What there is to read, and how many prompts there are.
pub(crate) fn all(endpoint: Endpoint, members: &[(String, Tree)]) -> (Input, u32) {
    let mut input = Input::default();
    let mut prompts = 0_u32;
    for (name, value) in members {
        if APART.contains(&format!(" {name} ")) && !name.contains(' ') && !name.is_empty() {
            continue;
        }
        let all = name.len() as u64 + 4 + size(value);
        if SETTINGS.contains(&format!(" {name} ")) && !name.contains(' ') && !name.is_empty() && all <= 16_384
        {
            continue;
        }
        input.text += all;
        match (endpoint, name.as_str()) {
            (Endpoint::Completions, "prompt") | (Endpoint::Embeddings, "input") => {
                prompts += listed(endpoint, value, &mut input, false);
            }
            (Endpoint::Completions, "prompt_embeds") => prompts += listed(endpoint, value, &mut input, true),
            (Endpoint::Chat | Endpoint::Embeddings | Endpoint::Messages, "messages") => {
                if let Tree::List(items) = value {
                    prompts += items.iter().filter(|item| matches!(item, Tree::List(_))).count() as u32;
                }
                content(endpoint, value, &mut input);
            }
            (Endpoint::Messages, "system") => content(endpoint, value, &mut input),
            (Endpoint::Responses, "input") => content(endpoint, value, &mut input),
            (Endpoint::Responses, "prompt") => {
                content(endpoint, value, &mut input);
                input.unseen += u64::from(given(value));
            }
            (Endpoint::Responses, "previous_response_id" | "conversation")
            | (Endpoint::Messages, "container")
            | (
                _,
                "web_search_options" | "web_search" | "enable_search" | "mcp_servers" | "search_parameters"
                | "connectors",
            ) => input.unseen += u64::from(given(value)),
            (_, "tools") => tools(value, &mut input),
            _ => {}
        }
    }
    (input, prompts.max(1))
}

fn given(value: &Tree) -> bool {
    match value {
        Tree::Null | Tree::Bool(false) | Tree::Whole(0) => false,
        Tree::Real(number) => number.abs() > 0.0,
        _ => true,
    }
}

/// As JSON without blanks, a comma behind each value.
fn size(value: &Tree) -> u64 {
    match value {
        Tree::Null | Tree::Bool(true) => 5,
        Tree::Bool(false) => 6,
        Tree::Whole(number) => number.to_string().len() as u64 + 1,
        Tree::Negative(number) => number.to_string().len() as u64 + 1,
        Tree::Real(number) => real(*number) + 1,
        Tree::Text(text) => text.len() as u64 + 3,
        Tree::List(items) => 3 + items.iter().map(size).sum::<u64>(),
        Tree::Object(members) => {
            let each = members
                .iter()
                .map(|(name, value)| name.len() as u64 + 4 + size(value));
            3 + each.sum::<u64>()
        }
    }
}

/// 24 characters are enough for a double, but where it stands for a whole number of more than 64 bits.
fn real(number: f64) -> u64 {
    let mut exponent = 0_u64;
    let mut rest = number.abs();
    while rest >= 2.0 {
        rest /= 2.0;
        exponent += 1;
    }
    if exponent < 64 {
        24
    } else {
        3 + exponent * 30_103 / 100_000
    }
}

/// Prompts: a list of tokens, a text, or whatever else stands in a list is one each.
fn listed(endpoint: Endpoint, value: &Tree, input: &mut Input, embeds: bool) -> u32 {
    let alone = u32::from(matches!(
        value,
        Tree::Text(_) | Tree::Whole(_) | Tree::Negative(_) | Tree::Real(_)
    ));
    alone + leaves(endpoint, value, input, embeds)
}

fn leaves(endpoint: Endpoint, value: &Tree, input: &mut Input, embeds: bool) -> u32 {
    match value {
        Tree::List(items) => {
            let mut prompts = 0;
            let mut tokens = false;
            for item in items {
                match item {
                    Tree::Whole(_) | Tree::Negative(_) | Tree::Real(_) => tokens = true,
                    Tree::List(_) => {}
                    _ => prompts += 1,
                }
                prompts += leaves(endpoint, item, input, embeds);
            }
            prompts + u32::from(tokens || items.is_empty())
        }
        Tree::Whole(_) | Tree::Negative(_) | Tree::Real(_) if !embeds => {
            input.text -= size(value);
            input.numbers += 1;
            0
        }
        Tree::Text(text) if embeds => {
            if let Some(found) = data(text) {
                input.text -= size(value);
                found.add(input, "embeds");
            }
            0
        }
        Tree::Object(_) => {
            content(endpoint, value, input);
            0
        }
        _ => 0,
    }
}

fn tools(value: &Tree, input: &mut Input) {
    match value {
        Tree::List(items) => items.iter().for_each(|item| tools(item, input)),
        Tree::Object(members) => {
            let clients = [
                "function",
                "custom",
                "computer",
                "bash",
                "text_editor",
                "memory",
                "local_shell",
                "apply_patch",
            ];
            let hosted = [
                "google_search",
                "googleSearch",
                "google_search_retrieval",
                "googleSearchRetrieval",
                "enterprise_web_search",
                "enterpriseWebSearch",
                "file_search",
                "retrieval",
                "google_maps",
                "googleMaps",
                "url_context",
                "urlContext",
                "code_execution",
                "codeExecution",
            ];
            let kind = kind(members);
            let client = kind.is_empty() || clients.iter().any(|tool| kind.starts_with(tool));
            let says = members.iter().any(|(name, _)| hosted.contains(&name.as_str()));
            input.unseen += u64::from(says || !client);
            input.hosted_tools += u64::from(says || !client);
        }
        _ => {}
    }
}

/// The one `type` of an object; `?` where it is none or several, nothing where there is none.
fn kind(members: &[(String, Tree)]) -> &str {
    let mut given = members.iter().filter(|(name, _)| name == "type");
    match (given.next(), given.next()) {
        (None, _) => "",
        (Some((_, Tree::Text(text))), None) if !text.is_empty() => text,
        _ => "?",
    }
}

/// Those by which some server knows media whatever the part's `type` is.
const NAMED: [&str; 8] = [
    "image_url",
    "image",
    "image_embeds",
    "input_audio",
    "audio",
    "audio_url",
    "video",
    "video_url",
];

const CARRIERS: [&str; 16] = [
    "image_url",
    "image",
    "image_embeds",
    "result",
    "input_audio",
    "audio",
    "audio_url",
    "video",
    "video_url",
    "file",
    "file_data",
    "file_id",
    "file_url",
    "source",
    "data",
    "url",
];

/// Messages and parts.
fn content(endpoint: Endpoint, value: &Tree, input: &mut Input) {
    match value {
        Tree::List(items) => items.iter().for_each(|item| content(endpoint, item, input)),
        Tree::Object(members) => {
            let kind = kind(members);
            if ["item_reference", "tool_reference"].contains(&kind) {
                input.unseen += 1;
            }
            let kept = members.iter().any(|(name, _)| name == "uuid");
            let mut left: std::collections::BTreeSet<&str> = members
                .iter()
                .filter(|(name, _)| NAMED.contains(&name.as_str()))
                .map(|(name, _)| name.as_str())
                .collect();
            if !kept {
                for (name, value) in members {
                    if matches!(value, Tree::Null | Tree::Bool(false)) {
                        left.remove(name.as_str());
                    }
                }
            }
            for (path, text) in held(members).into_iter().take(MAX_HELD) {
                if media(endpoint, kind, &path, text, input) {
                    left.remove(path.split('.').next().unwrap_or_default());
                }
            }
            for name in left {
                if name.starts_with("image") {
                    input.pictures += 1;
                } else {
                    input.unseen += 1;
                }
            }
            inside(endpoint, members, input);
        }
        _ => {}
    }
}

/// What may hold further parts in an object.
fn inside(endpoint: Endpoint, members: &[(String, Tree)], input: &mut Input) {
    for (name, value) in members {
        match (name.as_str(), value) {
            ("type", _) => {}
            ("content" | "output" | "outputs", _) => content(endpoint, value, input),
            ("variables", Tree::List(items)) => {
                for item in items {
                    variables(endpoint, item, input);
                }
            }
            ("variables", _) => variables(endpoint, value, input),
            (name, Tree::Object(members)) if CARRIERS.contains(&name) => inside(endpoint, members, input),
            (name, Tree::List(_)) if CARRIERS.contains(&name) => content(endpoint, value, input),
            _ => {}
        }
    }
}

fn variables(endpoint: Endpoint, value: &Tree, input: &mut Input) {
    match value {
        Tree::List(items) => items.iter().for_each(|item| variables(endpoint, item, input)),
        Tree::Object(members) => members
            .iter()
            .for_each(|(_, value)| content(endpoint, value, input)),
        _ => {}
    }
}

/// Strings that may be media, in an object and in the objects that it holds for that, with their paths.
fn held(members: &[(String, Tree)]) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    for (name, value) in members {
        if !CARRIERS.contains(&name.as_str()) {
            continue;
        }
        match value {
            Tree::Text(text) => found.push((name.clone(), text.as_str())),
            Tree::Object(inner) => {
                let kind = kind(inner);
                for (path, text) in held(inner).into_iter().take(MAX_HELD) {
                    // Of two levels it is known how they belong together; the last one's own are too deep.
                    let first = path.split('.').next().unwrap_or_default();
                    found.push((format!("{name}.{first}.{kind}"), text));
                }
            }
            _ => {}
        }
    }
    found
}

/// What a string at a path of a part of this kind is.
fn media(endpoint: Endpoint, kind: &str, path: &str, text: &str, input: &mut Input) -> bool {
    let pieces: Vec<&str> = path.splitn(3, '.').collect();
    let (outer, inner, inner_kind) = match pieces.as_slice() {
        [outer] => (*outer, "", ""),
        [outer, inner, kind] => (*outer, *inner, *kind),
        _ => return false,
    };
    let taken = match endpoint {
        Endpoint::Messages => outer == "source",
        Endpoint::Responses => {
            [
                "input_image",
                "computer_screenshot",
                "input_file",
                "input_audio",
                "image_generation_call",
            ]
            .contains(&kind)
                || (kind == "image" && outer == "url")
        }
        _ => outer != "source" && kind != "image_generation_call",
    };
    if !taken {
        return false;
    }
    let slot = match (kind, outer, inner) {
        ("image_url" | "input_image" | "computer_screenshot", "image_url", "") => "picture",
        ("image_url" | "input_image" | "computer_screenshot", "image_url", "url")
            if inner_kind.is_empty() =>
        {
            "picture"
        }
        ("input_image" | "computer_screenshot", "file_id", "") => "picture",
        ("image", "source", "data") if inner_kind == "base64" => "picture",
        ("image", "source", "url" | "file_id") => "picture",
        ("image" | "", "image", "") | ("image", "url", "") | ("image_generation_call", "result", "") => {
            "picture"
        }
        ("image_embeds" | "", "image_embeds", "") => "embeds",
        ("image_embeds" | "", "image_embeds", "image_embeds") if inner_kind.is_empty() => "embeds",
        ("input_audio", "input_audio", "data" | "url") if inner_kind.is_empty() => "audio",
        ("audio_url", "audio_url", "") | ("audio", "audio", "") => "audio",
        ("audio_url", "audio_url", "url") if inner_kind.is_empty() => "audio",
        ("document", "source", "data") if inner_kind == "base64" => "file",
        ("document", "source", "url" | "file_id") => "file",
        ("file", "file", "file_data" | "file_id") if inner_kind.is_empty() => "file",
        ("input_file", "file_data" | "file_url" | "file_id", "") => "file",
        ("video_url", "video_url", "") | ("video", "video", "") => "file",
        ("video_url", "video_url", "url") if inner_kind.is_empty() => "file",
        _ => return false,
    };
    let place = if inner.is_empty() { outer } else { inner };
    let address = matches!(
        place,
        "image_url" | "audio_url" | "video_url" | "file_url" | "file_id" | "url"
    );
    match data(text).filter(|data| data.url || !address) {
        Some(data) => {
            input.text -= text.len() as u64 + 3;
            data.add(input, slot);
        }
        None if slot == "picture" => input.pictures += 1,
        None => input.unseen += 1,
    }
    true
}

/// Base64, and what it says to be.
struct Data {
    url: bool,
    kind: &'static str,
    bytes: u64,
}

impl Data {
    fn add(&self, input: &mut Input, slot: &str) {
        let kind = if self.kind == "unsaid" { slot } else { self.kind };
        match kind {
            "text" => input.text += self.bytes,
            "picture" => input.pictures += 1,
            "embeds" => input.pictures += 1 + self.bytes / 1_048_576,
            "audio" => input.audio += self.bytes,
            _ => input.files += self.bytes,
        }
    }
}

fn data(text: &str) -> Option<Data> {
    let head = text
        .find(',')
        .filter(|comma| *comma < 256)
        .map(|comma| text.split_at(comma));
    let url = head.and_then(|(head, rest)| {
        let head = head.to_ascii_lowercase();
        let said = head.strip_prefix("data:")?;
        let (kind, coding) = said.rsplit_once(';')?;
        let trimmed = kind.split(';').next()?.trim_ascii().to_owned();
        (coding.trim_ascii() == "base64").then_some((trimmed, rest.get(1..)?))
    });
    let (url, kind, payload) = match &url {
        None => (false, "unsaid", text),
        Some((kind, payload)) => {
            let binary = ["application/pdf", "application/zip", "application/msword"];
            let kind = if kind == "image/svg+xml" {
                "text"
            } else if kind.starts_with("image/") || kind == "image" {
                "picture"
            } else if kind.starts_with("audio/") || kind == "audio" {
                "audio"
            } else if kind.starts_with("video/")
                || kind == "video"
                || binary.contains(&kind.as_str())
                || kind.starts_with("application/vnd.")
            {
                "file"
            } else {
                "text"
            };
            (true, kind, *payload)
        }
    };
    let stem = payload.trim_end_matches('=');
    let plain = |c: char| c.is_ascii_alphanumeric() || "+/-_\r\n".contains(c);
    let base64 = !stem.is_empty() && payload.len() - stem.len() <= 2 && stem.chars().all(plain);
    let kind = if kind == "unsaid" && payload.starts_with("JVBERi") {
        "file"
    } else {
        kind
    };
    base64.then_some(Data {
        url,
        kind,
        bytes: payload.len() as u64 / 4 * 3,
    })
}
