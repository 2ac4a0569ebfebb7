//! What a request's body asks for, read in one pass.
//!
//! The router decides by what is read here, and the model server reads the same bytes: so nothing may be read that
//! another reader could read differently. Anything ambiguous (a member given twice, a second document behind the
//! first, bytes that are not UTF-8) is refused, with the place.

mod caps;
mod coding;
mod edit;
mod input;
mod json;
mod media;
mod multipart;
mod names;
mod text;

pub use caps::Caps;
pub use coding::{Coding, Undecoded};
pub use edit::{Edit, ask_usage, rename};
pub use input::Input;
pub use json::read as read_json;
pub use multipart::{boundary, charset, is_utf8, read as read_multipart};

use core::ops::Range;
use std::borrow::Cow;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// What the gateway needs of a body. Counts are of what was said, not of what it costs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Body<'a> {
    /// `model`, as the client calls it.
    pub model: Option<Cow<'a, str>>,
    /// Where the value of `model` stands in the body: in JSON with its quotes, in a form just the value.
    pub model_span: Option<Range<usize>>,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// `stream_options`, as it stands in the body; `None` where absent.
    pub stream_options: Option<StreamOptions<'a>>,
    /// Most tokens that an answer may have.
    pub caps: Caps,
    /// How many answers: for each prompt of a list the larger of `n` and `best_of`; at least one.
    pub answers: u32,
    /// What there is to read for the model.
    pub input: Input,
    /// Tokens that the model has to read at once, at least: prompts of a list are read apart.
    pub least_tokens: u64,
    /// The member with most of the text, where an error may point at it.
    pub longest: Option<&'static str>,
    /// Members by which more is read or written than can be seen in the body.
    pub unmetered: Vec<Unmetered>,
    /// Whether a form asks for text alone, in a `response_format` of `text`, `srt`, `vtt` or whatever a server knows:
    /// nothing in such an answer is the model server's own word.
    pub plain: bool,
}

/// Lists members once, for the type and its names.
macro_rules! members {
    ($($(#[$doc:meta])* $member:ident $name:literal,)*) => {
        /// A member by which a model server reads or writes more than can be seen in the body, or turns to another model or
        /// server, so that no estimate and no grant holds: it is refused, unless the catalogue allows it for a model.
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Unmetered {
            $($(#[$doc])* #[serde(rename = $name)] $member,)*
        }

        impl Unmetered {
            /// Each of them.
            pub const ALL: &[Self] = &[$(Self::$member),*];

            /// Its name in the body; `*` stands for any end of it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$member => $name,)*
                }
            }
        }
    };
}

members! {
    /// Of responses: written on while nobody waits for it, and reported to nobody.
    Background "background",
    /// Repeats as much text as it likes.
    ChatTemplate "chat_template",
    /// The same, where what it holds is handed to the function that applies a template.
    ChatTemplateKwargs "chat_template_kwargs",
    /// How many tokens a picture has.
    MmProcessorKwargs "mm_processor_kwargs",
    /// How many frames a video has.
    MediaIoKwargs "media_io_kwargs",
    /// InternVL's: the most pieces that a picture is cut into.
    MaxDynamicPatch "max_dynamic_patch",
    /// SGLang's: how pictures are read.
    ImagesConfig "images_config",
    /// Members of which some servers make members of the body.
    ExtraBody "extra_body",
    /// Other models, for a provider to turn to.
    Models "models",
    /// The same.
    Fallbacks "fallbacks",
    /// Another server to ask.
    ApiBase "api_base",
    /// The same.
    BaseUrl "base_url",
    /// Another server to take a prompt's state from.
    KvTransferParams "kv_transfer_params",
    /// A place before others in the model server's queue.
    Priority "priority",
    /// text-generation-webui's names of a template.
    ChatTemplateStr "chat_template_str",
    /// The same.
    InstructionTemplateStr "instruction_template_str",
    /// transformers': caps, beams and answers in a text of its own.
    GenerationConfig "generation_config",
    /// Dynamo's: workers, tokens and caps.
    Nvext "nvext",
    /// vLLM's: what its extensions read, another server's state among it.
    VllmXargs "vllm_xargs",
    /// SGLang's: another model's weights.
    LoraPath "lora_path",
    /// TensorRT-LLM's.
    LoraRequest "lora_request",
    /// llama.cpp's.
    Lora "lora",
    /// TGI's.
    AdapterId "adapter_id",
    /// mlx_lm's: another model's weights.
    Adapters "adapters",
    /// LM Studio's: another model beside the one that is asked.
    DraftModel "draft_model",
    /// OpenRouter's: models and instructions that are kept there.
    Preset "preset",
    /// OpenRouter's: who serves, at which price.
    Provider "provider",
    /// OpenRouter's: whether to turn to other models.
    Route "route",
    /// OpenRouter's: tools that it runs and bills.
    Plugins "plugins",
    /// LiteLLM's: who serves.
    CustomLlmProvider "custom_llm_provider",
    /// LiteLLM's: who serves, with which credential.
    ModelList "model_list",
    /// The same.
    UserConfig "user_config",
    /// LiteLLM's: another credential.
    ApiKey "api_key",
    /// LiteLLM's: headers for the provider.
    ExtraHeaders "extra_headers",
    /// The same, for its query.
    ExtraQuery "extra_query",
    /// LiteLLM's: asks again, as often as this says.
    NumRetries "num_retries",
    /// The same.
    MaxRetries "max_retries",
    /// SGLang's: another server to take a prompt's state from.
    BootstrapHost "bootstrap_host",
    /// The same.
    BootstrapPort "bootstrap_port",
    /// The same.
    BootstrapRoom "bootstrap_room",
    /// TensorRT-LLM's.
    DisaggregatedParams "disaggregated_params",
    /// vLLM's, for what encoders made of pictures.
    EcTransferParams "ec_transfer_params",
    /// SGLang's: a program to run.
    CustomLogitProcessor "custom_logit_processor",
    /// vLLM's.
    LogitsProcessors "logits_processors",
    /// SGLang's: somebody's earlier turns.
    SessionParams "session_params",
    /// llama.cpp's: the place where somebody else's turns are kept.
    IdSlot "id_slot",
    /// SGLang's: which replica answers.
    DataParallelRank "data_parallel_rank",
    /// xAI's: written while nobody waits for it.
    Deferred "deferred",
    /// Another price, if anything but the plain or a lower one.
    ServiceTier "service_tier",
    /// Anthropic's betas as Bedrock and Vertex take them: some have another price.
    AnthropicBeta "anthropic_beta",
    /// The same, as LiteLLM takes them.
    Betas "betas",
    /// Seedream's: as many pictures as the model likes.
    SequentialImageGeneration "sequential_image_generation",
    /// Anthropic's: the same as `service_tier`.
    Speed "speed",
    /// Anthropic's: the same.
    InferenceGeo "inference_geo",
    /// SGLang's: the id by which it tells requests apart, which may be another's.
    Rid "rid",
    /// vLLM's: the same.
    RequestId "request_id",
    /// SGLang's newer name of `data_parallel_rank`.
    RoutedDpRank "routed_dp_rank",
    /// The same, of where a prompt is read.
    DisaggPrefillDpRank "disagg_prefill_dp_rank",
    /// SGLang's, TensorRT-LLM's: caps, beams and answers in a form of their own.
    SamplingParams "sampling_params",
    /// TGI's: the same.
    Parameters "parameters",
    /// The same.
    GenerationKwargs "generation_kwargs",
    /// SGLang's: another model's weights.
    LoraId "lora_id",
    /// LoRAX's: the same.
    AdapterSource "adapter_source",
    /// The same, of several.
    AdapterParameters "adapter_parameters",
    /// LoRAX's: a credential for these.
    ApiToken "api_token",
    /// LiteLLM's: who serves.
    DeploymentId "deployment_id",
    /// The same.
    SpecificDeployment "specific_deployment",
    /// The same.
    RouterSettingsOverride "router_settings_override",
    /// LiteLLM's: by whose price.
    BaseModel "base_model",
    /// LiteLLM's: where.
    RegionName "region_name",
    /// LiteLLM's: on whose account.
    Organization "organization",
    /// LiteLLM's: by which interface.
    ApiVersion "api_version",
    /// LiteLLM's: headers for the provider.
    Headers "headers",
    /// LiteLLM's: other models, for it to turn to.
    ContextWindowFallbacks "context_window_fallbacks",
    /// The same.
    ContextWindowFallbackDict "context_window_fallback_dict",
    /// The same.
    ContentPolicyFallbacks "content_policy_fallbacks",
    /// LiteLLM's: members that it leaves out, caps among them.
    AdditionalDropParams "additional_drop_params",
    /// LiteLLM's: who else is told of a request.
    Callbacks "callbacks",
    /// The same.
    SuccessCallback "success_callback",
    /// The same.
    FailureCallback "failure_callback",
    /// Azure's: servers to search, with credentials.
    DataSources "data_sources",
    /// Gemini's: what somebody else may have stored.
    CachedContent "cached_content",
    /// LiteLLM's, each that begins so: accounts, roles and servers of Amazon's.
    Aws "aws_*",
    /// The same, of Microsoft's.
    Azure "azure_*",
    /// The same, of Google's.
    Vertex "vertex_*",
    /// The same, of IBM's.
    Watsonx "watsonx_*",
    /// The same, of who else is told of a request.
    Langfuse "langfuse_*",
    /// Orders to LiteLLM itself.
    Litellm "litellm_*",
    /// LiteLLM's: answers that no model gives, and failures.
    Mock "mock_*",
}

/// All of them by their names, sorted; and those of which the name is but the beginning.
static UNMETERED: LazyLock<(Vec<Named>, Vec<Named>)> = LazyLock::new(|| {
    let named = Unmetered::ALL.iter().map(|one| (one.name(), *one));
    let (begin, mut whole): (Vec<Named>, Vec<Named>) = named.partition(|(name, _)| name.ends_with('*'));
    whole.sort_unstable_by_key(|(name, _)| *name);
    let begin = begin
        .into_iter()
        .map(|(name, one)| (name.trim_end_matches('*'), one));
    (whole, begin.collect())
});

type Named = (&'static str, Unmetered);

impl Unmetered {
    /// The one of this name.
    pub fn of(name: &str) -> Option<Self> {
        let (whole, beginnings) = &*UNMETERED;
        let found = whole.binary_search_by_key(&name, |(known, _)| *known);
        let found = found.ok().and_then(|at| whole.get(at));
        let found = found.or_else(|| beginnings.iter().find(|(begin, _)| name.starts_with(begin)));
        found.map(|(_, one)| *one)
    }
}

/// `stream_options` of a chat or completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamOptions<'a> {
    /// Its text in the body: an object or `null`.
    pub json: &'a str,
    /// `include_usage`, where given.
    pub include_usage: Option<bool>,
}

/// Where `part` stands in `whole`, of which it is a slice.
fn span(whole: &[u8], part: &[u8]) -> Option<Range<usize>> {
    let start = part.as_ptr().addr().checked_sub(whole.as_ptr().addr())?;
    let span = start..start.checked_add(part.len())?;
    (span.end <= whole.len()).then_some(span)
}

/// Why a body can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// The member that is wrong; `None` where it is no single one.
    pub param: Option<&'static str>,
    /// What is wrong, and where.
    pub reason: String,
}

impl Malformed {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            param: None,
            reason: reason.into(),
        }
    }
}
