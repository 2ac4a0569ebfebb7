//! JSON bodies: what core reads in one pass is what a tree of the document says, and what serde_json refuses, core
//! refuses.

use tollgate_core::body::{Body, Input, StreamOptions, read_json};
use tollgate_core::endpoint::Endpoint;

use crate::counted;
use crate::tree::Tree;

/// Most members that a body, or its `stream_options`, may have.
const MAX_MEMBERS: usize = 256;
/// Longest name of one.
const MAX_NAME: usize = 128;
/// Longest name of a model.
const MAX_MODEL: usize = 1024;
/// The largest number up to which a double tells every whole number from the next.
const LAST_WHOLE: f64 = 9_007_199_254_740_992.0;

/// Where bodies are JSON and are counted in different ways.
const ENDPOINTS: [Endpoint; 5] = [
    Endpoint::Chat,
    Endpoint::Completions,
    Endpoint::Responses,
    Endpoint::Messages,
    Endpoint::Embeddings,
];

/// Whether the bytes are read as a body.
///
/// # Panics
/// When core reads them otherwise than they stand there.
pub fn check(data: &[u8]) -> bool {
    let tree: Option<Tree> = serde_json::from_slice(data).ok();
    let [first, others @ ..] = ENDPOINTS.map(|endpoint| check_at(endpoint, data, tree.clone()));
    assert!(
        others.iter().all(|read| *read == first),
        "read at some endpoints only"
    );
    first
}

fn check_at(endpoint: Endpoint, data: &[u8], tree: Option<Tree>) -> bool {
    let asked = tree.as_ref().and_then(|tree| Asked::of(endpoint, tree));
    match (tree, asked, read_json(endpoint, data)) {
        (Some(tree), Some(asked), Ok(read)) => {
            assert_eq!(Asked::from(&read), asked, "{endpoint:?}");
            model_stands_there(data, &read, tree);
            options_stand_there(data, &read);
            true
        }
        (_, None, Err(malformed)) => {
            assert!(!malformed.reason.is_empty());
            false
        }
        // Core goes by the digits of a count with a fraction or a power; the tree does not have them.
        (Some(tree), Some(_), Err(malformed)) if is_real(&tree, malformed.param) => false,
        (tree, asked, read) => {
            assert_eq!(asked.is_some(), read.is_ok(), "{read:?} of {tree:?}");
            false
        }
    }
}

/// What is read of a body, without its places.
#[derive(Debug, PartialEq)]
struct Asked {
    model: Option<String>,
    stream: bool,
    /// `stream_options` where there are any, and in them `include_usage` where given.
    include_usage: Option<Option<bool>>,
    caps: [Option<u64>; 3],
    answers: u32,
    input: Input,
}

/// `stream_options` that are more than `null`.
fn options<'a>(body: &Body<'a>) -> Option<StreamOptions<'a>> {
    body.stream_options.filter(|options| options.json != "null")
}

impl From<&Body<'_>> for Asked {
    fn from(body: &Body<'_>) -> Self {
        Self {
            model: body.model.as_deref().map(str::to_owned),
            stream: body.stream,
            include_usage: options(body).map(|options| options.include_usage),
            caps: [
                body.caps.max_tokens,
                body.caps.max_completion_tokens,
                body.caps.max_output_tokens,
            ],
            answers: body.answers,
            input: body.input,
        }
    }
}

impl Asked {
    /// `None` where the body is to be refused.
    fn of(endpoint: Endpoint, tree: &Tree) -> Option<Self> {
        plain_object(tree, &[&READ[..], &LENGTHS].concat())?;
        lengths(tree)?;
        let caps = [
            whole(tree.member("max_tokens"))?,
            whole(tree.member("max_completion_tokens"))?,
            whole(tree.member("max_output_tokens"))?,
        ];
        let answers: Option<Vec<_>> = ANSWERS.iter().map(|name| whole(tree.member(name))).collect();
        let answers = answers?.into_iter().flatten().max().unwrap_or(1).max(1);
        let (input, prompts) = counted::all(endpoint, tree.members());
        Some(Self {
            model: match tree.member("model") {
                Tree::Null => None,
                Tree::Text(name) if name.len() <= MAX_MODEL && !name.contains(char::is_control) => {
                    Some(name.clone())
                }
                _ => return None,
            },
            stream: flag(tree.member("stream"))?.unwrap_or(false),
            include_usage: match tree.member("stream_options") {
                Tree::Null => None,
                options => {
                    plain_object(options, &[READ_OF_OPTIONS])?;
                    Some(flag(options.member("include_usage"))?)
                }
            },
            caps,
            answers: u32::try_from(answers).ok()?.saturating_mul(prompts),
            input,
        })
    }
}

/// An object of bounded size that gives no member twice.
fn plain_object(tree: &Tree, read: &[&str]) -> Option<()> {
    let Tree::Object(members) = tree else { return None };
    let short = members.len() <= MAX_MEMBERS && members.iter().all(|(name, _)| name.len() <= MAX_NAME);
    (short && !tree.repeats_itself() && plain_names(members, read)).then_some(())
}

/// True, false or null; `None` for anything else.
fn flag(value: &Tree) -> Option<Option<bool>> {
    match value {
        Tree::Null => Some(None),
        Tree::Bool(flag) => Some(Some(*flag)),
        _ => None,
    }
}

/// A whole number of zero or more, or null; `None` for anything else.
fn whole(value: &Tree) -> Option<Option<u64>> {
    match value {
        Tree::Null => Some(None),
        Tree::Whole(number) => Some(Some(*number)),
        Tree::Real(number) if (0.0..=LAST_WHOLE).contains(number) && number.trunc() == *number => {
            Some(Some(*number as u64))
        }
        _ => None,
    }
}

/// Whether a number with a fraction or a power is given for a member.
fn is_real(tree: &Tree, member: Option<&str>) -> bool {
    member.is_some_and(|member| matches!(tree.member(member), Tree::Real(_)))
}

/// The letters of a name in one case, as readers that know no case compare it.
pub(crate) fn letters(name: &str) -> String {
    let said = name.split('\0').next().unwrap_or_default().chars();
    let said = said.filter(|c| !"_-".contains(*c) && !c.is_whitespace() && !c.is_control());
    said.map(|c| match c.to_uppercase().collect::<String>() {
        upper if upper.is_ascii() => upper.to_ascii_lowercase(),
        _ => c.to_lowercase().take(1).collect(),
    })
    .collect()
}

/// Members of which the largest says how many answers there are.
pub(crate) const ANSWERS: [&str; 14] = [
    "n",
    "best_of",
    "n_cmpl",
    "num_return_sequences",
    "num_beams",
    "beam_size",
    "beam_width",
    "beam_search_width",
    "num_generations",
    "candidate_count",
    "num_outputs_per_prompt",
    "num_images_per_prompt",
    "num_images",
    "num_outputs",
];

/// Members, and members of some objects, that say how long an answer may get.
pub(crate) const LENGTHS: [&str; 17] = [
    "n_predict",
    "num_predict",
    "max_new_tokens",
    "max_length",
    "max_gen_len",
    "max_tokens_to_sample",
    "min_tokens",
    "min_new_tokens",
    "min_length",
    "thinking_budget",
    "thinking_budget_tokens",
    "thinking_token_budget",
    "reasoning_budget",
    "reasoning_budget_tokens",
    "reasoning_tokens",
    "max_thinking_tokens",
    "max_reasoning_tokens",
];

/// Whether each that says how long an answer may get is a number, where it is anything; `None` where one is not.
fn lengths(tree: &Tree) -> Option<()> {
    let one = |value: &Tree, object: bool| match value {
        Tree::Null | Tree::Bool(false) | Tree::Whole(_) | Tree::Negative(_) | Tree::Real(_) => true,
        Tree::Object(_) => !object,
        _ => false,
    };
    let outer = LENGTHS.iter().all(|name| one(tree.member(name), false));
    let inner = ["thinking", "reasoning", "options", "chat_template_kwargs"];
    let inner = inner.iter().all(|name| match tree.member(name) {
        Tree::Object(members) => members.iter().all(|(name, value)| {
            let own = [
                "budget_tokens",
                "max_tokens",
                "max_completion_tokens",
                "max_output_tokens",
            ];
            let length = LENGTHS.contains(&name.as_str()) || own.contains(&name.as_str());
            !length || one(value, true)
        }),
        _ => true,
    });
    (outer && inner).then_some(())
}

/// The name that is read in `stream_options`.
const READ_OF_OPTIONS: &str = "include_usage";

/// The names that are read in a body.
const READ: [&str; 121] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "best_of",
    "messages",
    "input",
    "prompt",
    "system",
    "instructions",
    "tools",
    "functions",
    "documents",
    "n_cmpl",
    "num_return_sequences",
    "num_beams",
    "beam_size",
    "beam_width",
    "beam_search_width",
    "num_generations",
    "candidate_count",
    "num_outputs_per_prompt",
    "num_images_per_prompt",
    "auto_max_new_tokens",
    "background",
    "chat_template",
    "mm_processor_kwargs",
    "max_dynamic_patch",
    "images_config",
    "media_io_kwargs",
    "extra_body",
    "models",
    "fallbacks",
    "api_base",
    "base_url",
    "kv_transfer_params",
    "priority",
    "chat_template_str",
    "instruction_template_str",
    "generation_config",
    "nvext",
    "vllm_xargs",
    "lora_path",
    "lora_request",
    "lora",
    "adapter_id",
    "draft_model",
    "preset",
    "provider",
    "route",
    "plugins",
    "custom_llm_provider",
    "model_list",
    "user_config",
    "api_key",
    "extra_headers",
    "extra_query",
    "num_retries",
    "max_retries",
    "bootstrap_host",
    "bootstrap_port",
    "bootstrap_room",
    "disaggregated_params",
    "ec_transfer_params",
    "custom_logit_processor",
    "logits_processors",
    "session_params",
    "id_slot",
    "data_parallel_rank",
    "deferred",
    "service_tier",
    "speed",
    "inference_geo",
    "options",
    "chat_template_kwargs",
    "thinking",
    "reasoning",
    "rid",
    "request_id",
    "routed_dp_rank",
    "disagg_prefill_dp_rank",
    "sampling_params",
    "parameters",
    "generation_kwargs",
    "lora_id",
    "adapter_source",
    "adapter_parameters",
    "api_token",
    "deployment_id",
    "specific_deployment",
    "router_settings_override",
    "base_model",
    "region_name",
    "organization",
    "api_version",
    "headers",
    "context_window_fallbacks",
    "context_window_fallback_dict",
    "content_policy_fallbacks",
    "additional_drop_params",
    "callbacks",
    "success_callback",
    "failure_callback",
    "data_sources",
    "cached_content",
    "aws_*",
    "azure_*",
    "vertex_*",
    "watsonx_*",
    "langfuse_*",
    "litellm_*",
    "mock_*",
    "num_images",
    "num_outputs",
    "adapters",
    "anthropic_beta",
    "betas",
    "sequential_image_generation",
];

/// Whether each name is one that is read, or one that nobody takes for it; and none is there twice but for its case.
fn plain_names(members: &[(String, Tree)], read: &[&str]) -> bool {
    let mistaken = |name: &str| {
        read.iter()
            .any(|read| *read != name && letters(read) == letters(name))
    };
    let folded = |name: &str| -> String {
        name.chars()
            .map(|c| match c.to_uppercase().collect::<String>() {
                upper if upper.is_ascii() => upper.to_ascii_lowercase(),
                _ => c.to_lowercase().take(1).collect(),
            })
            .collect()
    };
    let all: std::collections::BTreeSet<String> = members.iter().map(|(name, _)| folded(name)).collect();
    let plain = |name: &str| name != "__proto__" && !mistaken(name);
    all.len() == members.len() && members.iter().all(|(name, _)| plain(name))
}

/// Another name at the model's place makes the same document with that name, and nothing of the old one is left.
fn model_stands_there(data: &[u8], read: &Body<'_>, tree: Tree) {
    assert_eq!(read.model_span.is_some(), read.model.is_some());
    let Some(span) = &read.model_span else { return };
    let value = data.get(span.clone()).unwrap_or_default();
    assert!(
        value.starts_with(b"\"") && value.ends_with(b"\""),
        "no string at {span:?}"
    );
    assert_eq!(
        serde_json::from_slice::<String>(value).ok().as_deref(),
        read.model.as_deref()
    );

    let before = data.get(..span.start).unwrap_or_default();
    let behind = data.get(span.end..).unwrap_or_default();
    let renamed = [before, b"\"another\"", behind].concat();
    let Tree::Object(mut members) = tree else { return };
    for (_, value) in members.iter_mut().filter(|(name, _)| name == "model") {
        *value = Tree::Text("another".to_owned());
    }
    assert_eq!(
        serde_json::from_slice::<Tree>(&renamed).ok(),
        Some(Tree::Object(members))
    );
}

/// The text of `stream_options` is an object of the body, and is read alike on its own.
fn options_stand_there(data: &[u8], read: &Body<'_>) {
    let Some(options) = options(read) else {
        return;
    };
    let text = options.json.as_bytes();
    assert!(data.as_ptr_range().contains(&text.as_ptr()), "not in the body");
    assert!(text.starts_with(b"{") && text.ends_with(b"}"), "{}", options.json);
    let alone = serde_json::from_slice::<Tree>(text).ok();
    let flag = alone
        .as_ref()
        .and_then(|alone| flag(alone.member("include_usage")));
    assert_eq!(flag, Some(options.include_usage));
}
