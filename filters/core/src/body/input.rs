//! What of a JSON body a model may read, by kind.
//!
//! A model server may put any member before its model: messages, tools, schemas, documents, what nobody heard of. So all
//! of it is text, with the names of its members, but for what is certain not to be: settings, tokens given as such, and
//! base64 in a part of a kind that the endpoint takes. A client that only looks as if it sent a picture sends text.

#[cfg(test)]
mod tests;

use core::cell::Cell;
use core::fmt;
use std::borrow::Cow;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::caps::{self, Length};
use super::media::{Carried, Media, Mime};
use super::text::Text;
use crate::endpoint::Endpoint;

/// The size of what a model reads, for an estimate of its tokens.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Bytes of text: the members as JSON without blanks, their escapes resolved.
    pub text: u64,
    /// Tokens given as numbers: in `prompt` of completions, and in `input` of embeddings and moderations.
    pub numbers: u64,
    /// Pictures, sent or named by their address.
    pub pictures: u64,
    /// Bytes of sound, its base64 resolved.
    pub audio: u64,
    /// Bytes of videos and of files that are no text, their base64 resolved.
    pub files: u64,
    /// What only the model server sees: earlier turns and files that it keeps, what is at an address, what its own tools
    /// find.
    pub unseen: u64,
    /// Tools among that which the model server runs itself: behind each of their results the model may write another answer.
    pub hosted_tools: u64,
}

impl Input {
    /// Whether there is anything that is neither text nor tokens.
    pub const fn has_media(&self) -> bool {
        self.pictures | self.audio | self.files | self.unseen != 0
    }

    /// Tokens that this has at least: a token holds some four bytes of English and hardly ever sixteen. Below it the
    /// model server may count otherwise, above no count comes out shorter.
    pub const fn least_tokens(&self) -> u64 {
        (self.text / 16).saturating_add(self.numbers)
    }

    /// Adds what a part that carries something in a member of `len` bytes is.
    fn add(&mut self, carried: &Carried, media: Media) {
        match (carried.data, carried.mime, media) {
            (None, _, Media::Picture) => self.pictures += 1,
            (None, ..) => self.unseen += 1,
            (Some(bytes), mime, media) => {
                self.text = self.text.saturating_sub(carried.len);
                match (mime, media) {
                    (Mime::Text, _) => self.text += bytes,
                    (Mime::Image, _) | (Mime::Unsaid, Media::Picture) => self.pictures += 1,
                    (Mime::Unsaid, Media::Embeds) => self.pictures += embeds(bytes),
                    (Mime::Audio, _) | (Mime::Unsaid, Media::Audio) => self.audio += bytes,
                    (Mime::Binary, _) | (Mime::Unsaid, Media::File) => self.files += bytes,
                }
            }
        }
    }
}

/// A token's embedding has kilobytes: a mebibyte is no more tokens than a picture.
const fn embeds(bytes: u64) -> u64 {
    1 + (bytes >> 20)
}

/// Most values in all members together. Each costs as much as dozens of bytes of text; a prompt of a million tokens,
/// given as numbers, fits.
pub(super) const MAX_VALUES: u32 = 1 << 20;

/// More names of lengths than there are.
const MAX_LENGTHS: usize = 32;

/// What is counted while a body is read.
pub(super) struct Counts<'v> {
    endpoint: Endpoint,
    /// How many more values there may be.
    values: &'v Cell<u32>,
    input: Cell<Input>,
    /// Prompts in lists.
    prompts: Cell<u64>,
    /// Least tokens of the longest item of a list whose items are read apart, and of all of them.
    longest: Cell<u64>,
}

impl<'v> Counts<'v> {
    /// `values` is how many more values there may be, of [`MAX_VALUES`].
    pub(super) fn new(endpoint: Endpoint, values: &'v Cell<u32>) -> Self {
        Self {
            endpoint,
            values,
            input: Cell::default(),
            prompts: Cell::default(),
            longest: Cell::default(),
        }
    }

    fn add(&self, change: impl FnOnce(&mut Input)) {
        let mut input = self.input.get();
        change(&mut input);
        self.input.set(input);
    }

    fn text(&self, bytes: usize) {
        self.add(|input| input.text += bytes as u64);
    }

    pub(super) fn input(&self) -> Input {
        self.input.get()
    }

    /// What a model reads that only its server sees.
    pub(super) fn unseen(&self) {
        self.add(|input| input.unseen += 1);
    }

    /// A setting of so many bytes. One that is as long as a prompt is text: somebody may read it with every token.
    pub(super) fn setting(&self, bytes: u64) {
        const LONGEST: u64 = 16 * 1024;
        if bytes > LONGEST {
            self.add(|input| input.text += bytes);
        }
    }

    /// Prompts that get an answer each; at least one.
    pub(super) fn prompts(&self) -> u32 {
        u32::try_from(self.prompts.get()).unwrap_or(u32::MAX).max(1)
    }

    fn prompt(&self) {
        self.prompts.set(self.prompts.get() + 1);
    }

    fn item(&self, tokens: u64) {
        self.longest.set(self.longest.get().max(tokens));
    }

    /// Reads the value of a member that stands at the top.
    pub(super) fn member<'de, A: MapAccess<'de>>(
        &self,
        place: Place,
        name: &str,
        members: &mut A,
    ) -> Result<Member, A::Error> {
        let before = self.input.get();
        self.text(name.len() + 4);
        let found = members.next_value_seed(self.walk(place))?;
        let apart = matches!(place, Place::Prompts | Place::Embeds);
        if apart && matches!(found, Found::Text | Found::Number(_)) {
            self.prompt();
        }
        let after = self.input.get();
        let all = after.least_tokens().saturating_sub(before.least_tokens());
        let lists = apart && matches!(found, Found::List);
        Ok(Member {
            bytes: after.text.saturating_sub(before.text),
            least_tokens: if lists { self.longest.take() } else { all },
            there: !matches!(found, Found::Nothing),
            template: matches!(found, Found::Lengths { template: true, .. }),
            given: !matches!(
                found,
                Found::Nothing | Found::Plain | Found::Number(Length::Whole(0))
            ),
            found,
        })
    }

    fn walk(&self, place: Place) -> Walk<'_, 'v> {
        Walk {
            counts: self,
            place,
            role: Role::Plain,
        }
    }
}

/// What a member at the top holds.
pub(super) struct Member {
    /// Bytes of text.
    pub(super) bytes: u64,
    /// Tokens of what is read at once.
    pub(super) least_tokens: u64,
    /// What it is.
    pub(super) found: Found,
    /// Whether it is anything but null or false.
    pub(super) there: bool,
    /// Whether it holds a template, or says what is made of one.
    pub(super) template: bool,
    /// Whether it is anything but null, false, zero or what is as if it were not said.
    pub(super) given: bool,
}

/// What may stand at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Text, whatever it looks like.
    Text,
    /// Parts that may be media, and messages of such.
    Content,
    /// Messages; a list of lists is several conversations.
    Messages,
    /// Texts or tokens, in lists that are read apart; objects are parts.
    Prompts,
    /// Base64 of embeddings, in lists that are read apart.
    Embeds,
    /// The name of a tier of service, at the top.
    Tier,
    /// Definitions of tools.
    Tools,
    /// An object of texts and parts by name.
    Variables,
    /// An object in which it may be said how long an answer may get.
    Lengths,
}

impl Place {
    /// What stands in a member of a message or part. What a model itself wrote for a tool is text, whatever it holds.
    fn inside(self, name: &str) -> Self {
        match name {
            _ if self == Self::Tools => Self::Text,
            "content" | "output" | "outputs" => Self::Content,
            "variables" => Self::Variables,
            _ => Self::Text,
        }
    }
}

/// Tiers of service that cost what the catalogue's price says, or less.
const PLAIN_TIERS: [&str; 6] = [
    "auto",
    "default",
    "flex",
    "on_demand",
    "standard",
    "standard_only",
];

/// Settings that no model server gives its model to read.
const SETTINGS: [&str; 25] = [
    "dimensions",
    "encoding_format",
    "frequency_penalty",
    "include",
    "logit_bias",
    "logprobs",
    "metadata",
    "min_p",
    "parallel_tool_calls",
    "presence_penalty",
    "prompt_cache_key",
    "repetition_penalty",
    "safety_identifier",
    "seed",
    "service_tier",
    "skip_special_tokens",
    "stop",
    "stop_sequences",
    "stop_token_ids",
    "store",
    "temperature",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
];

/// What stands in a member at the top; `None` where it is a setting.
pub(super) fn place(endpoint: Endpoint, name: &str) -> Option<Place> {
    Some(match (endpoint, name) {
        (Endpoint::Completions, "prompt") | (Endpoint::Embeddings | Endpoint::Moderations, "input") => {
            Place::Prompts
        }
        (Endpoint::Completions, "prompt_embeds") => Place::Embeds,
        (Endpoint::Chat | Endpoint::Embeddings | Endpoint::Messages, "messages") => Place::Messages,
        (Endpoint::Messages, "system") | (Endpoint::Responses, "input" | "prompt") => Place::Content,
        (_, "tools") => Place::Tools,
        (Endpoint::Messages, "speed") => Place::Tier,
        _ if caps::OBJECTS.contains(&name) => Place::Lengths,
        _ if SETTINGS.contains(&name) => return None,
        _ => Place::Text,
    })
}

/// Walks over any value, by the rules that hold for all (depth, numbers, escapes), and counts it.
#[derive(Clone, Copy)]
struct Walk<'c, 'v> {
    counts: &'c Counts<'v>,
    place: Place,
    role: Role,
}

/// What the one who holds a value makes of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Plain,
    /// It is a `type`.
    Type,
    /// It may carry media.
    Carrier,
}

/// What a value was.
pub(super) enum Found {
    /// Null or false.
    Nothing,
    True,
    /// The name of a plain tier.
    Plain,
    Text,
    Number(Length),
    /// What an object says of how long an answer may get, by name.
    Lengths {
        said: Vec<(&'static str, Length)>,
        /// Whether it holds a template, or says what is made of one.
        template: bool,
    },
    List,
    Object,
    Kind(Kind),
    Carried(Carried),
    Part(Part),
}

impl Walk<'_, '_> {
    fn plain(self) -> Self {
        Self {
            role: Role::Plain,
            ..self
        }
    }

    fn number(self, digits: u64, number: Length) -> Found {
        self.counts.add(|input| match self.place {
            Place::Prompts => input.numbers += 1,
            _ => input.text += digits + 1,
        });
        Found::Number(number)
    }

    /// A list whose items are read apart.
    fn prompts<'de, A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (mut tokens, mut empty) = (0, true);
        loop {
            let before = self.counts.input.get().text;
            let Some(item) = items.next_element_seed(self)? else {
                break;
            };
            empty = false;
            match item {
                Found::Number(_) => tokens += 1,
                Found::List => {}
                _ => {
                    self.counts.prompt();
                    let after = self.counts.input.get().text;
                    self.counts.item(after.saturating_sub(before) / 16);
                }
            }
        }
        if tokens > 0 || empty {
            self.counts.prompt();
            self.counts.item(tokens);
        }
        Ok(())
    }

    /// An object at a place where it may be a part that carries media.
    fn part<'de, A: MapAccess<'de>>(self, mut members: A) -> Result<Part, A::Error> {
        let walk = |place, role| Walk { place, role, ..self };
        let mut part = Part::default();
        while let Some(name) = self.name(&mut members)? {
            let name = name.as_ref();
            if name == "type" {
                part.is(match members.next_value_seed(walk(Place::Text, Role::Type))? {
                    Found::Kind(kind) => kind,
                    _ => Kind::Other,
                });
                continue;
            }
            if self.place == Place::Tools && HOSTED.contains(&name) {
                part.kind = Kind::Other;
            }
            let carrier = Carrier::of(name).filter(|_| self.place != Place::Tools);
            part.kept |= name == "uuid";
            let Some(carrier) = carrier else {
                members.next_value_seed(walk(self.place.inside(name), Role::Plain))?;
                continue;
            };
            part.named |= carrier.bit();
            match members.next_value_seed(walk(Place::Content, Role::Carrier))? {
                Found::Nothing => part.empty |= carrier.bit(),
                Found::Carried(carried) => part.hold(carrier, None, carried),
                Found::Part(held) => {
                    for Held(inside, _, carried) in held.held {
                        part.hold(carrier, Some((inside, held.kind)), carried);
                    }
                }
                _ => {}
            }
        }
        Ok(part)
    }

    fn lengths<'de, A: MapAccess<'de>>(self, mut members: A) -> Result<Found, A::Error> {
        let mut lengths = Vec::new();
        let mut template = false;
        while let Some(name) = self.name(&mut members)? {
            let length = caps::inner(&name);
            let of_template = TEMPLATES.contains(&name.as_ref());
            let found = members.next_value_seed(Walk {
                place: Place::Text,
                ..self
            })?;
            template |= of_template && !matches!(found, Found::Nothing);
            match (length, found) {
                (Some(name), Found::Number(said)) if lengths.len() < MAX_LENGTHS => {
                    lengths.push((name, said))
                }
                (None, _) | (_, Found::Nothing) => {}
                (Some(name), _) => {
                    return Err(A::Error::custom(format_args!(
                        "`{name}` in it is given otherwise than by one number"
                    )));
                }
            }
        }
        Ok(Found::Lengths {
            said: lengths,
            template,
        })
    }

    fn name<'de, A: MapAccess<'de>>(self, members: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
        let name = members.next_key_seed(Text)?;
        // Its quotes, a colon and a comma.
        self.counts.text(name.as_ref().map_or(0, |name| name.len() + 4));
        Ok(name)
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        let left = self.counts.values.get().checked_sub(1);
        let too_many = || D::Error::custom(format_args!("more than {MAX_VALUES} values"));
        self.counts.values.set(left.ok_or_else(too_many)?);
        // Not `deserialize_ignored_any`: serde_json's has no limit on depth and does not read numbers.
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Found, E> {
        self.counts.text(5);
        Ok(Found::Nothing)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Found, E> {
        self.counts.text(if truth { 5 } else { 6 });
        Ok(if truth { Found::True } else { Found::Nothing })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Found, E> {
        let digits = u64::from(number.checked_ilog10().unwrap_or(0)) + 1;
        Ok(self.number(digits, Length::Whole(number)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Found, E> {
        let digits = u64::from(number.unsigned_abs().checked_ilog10().unwrap_or(0)) + 2;
        Ok(self.number(digits, Length::Negative))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Found, E> {
        // Its digits are worked on more than those of a whole number.
        self.counts.values.set(self.counts.values.get().saturating_sub(1));
        Ok(self.number(
            digits(number),
            if number < 0.0 {
                Length::Negative
            } else {
                Length::Whole(number.ceil() as u64)
            },
        ))
    }

    fn visit_str<E>(self, text: &str) -> Result<Found, E> {
        // With its quotes and a comma.
        let len = text.len() + 3;
        if self.place == Place::Embeds {
            let carried = Carried::of(text, len);
            self.counts.text(len);
            if carried.data.is_some() {
                self.counts.add(|input| input.add(&carried, Media::Embeds));
            }
            return Ok(Found::Text);
        }
        self.counts.text(len);
        Ok(match self.role {
            Role::Plain if self.place == Place::Tier && PLAIN_TIERS.contains(&text) => Found::Plain,
            Role::Plain => Found::Text,
            Role::Type => Found::Kind(Kind::of(text)),
            Role::Carrier => {
                // It is looked at twice, and remembered until its part is whole.
                self.counts.values.set(self.counts.values.get().saturating_sub(2));
                Found::Carried(Carried::of(text, len))
            }
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Found, A::Error> {
        self.counts.text(3);
        let walk = self.plain();
        match self.place {
            Place::Prompts | Place::Embeds => walk.prompts(items)?,
            Place::Messages => {
                let walk = Walk {
                    place: Place::Content,
                    ..walk
                };
                while let Some(item) = items.next_element_seed(walk)? {
                    if matches!(item, Found::List) {
                        self.counts.prompt();
                    }
                }
            }
            _ => while items.next_element_seed(walk)?.is_some() {},
        }
        Ok(Found::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Found, A::Error> {
        self.counts.text(3);
        match self.place {
            Place::Text | Place::Tier | Place::Variables => {
                let walk = Walk {
                    place: match self.place {
                        Place::Variables => Place::Content,
                        place => place,
                    },
                    role: Role::Plain,
                    ..self
                };
                while self.name(&mut members)?.is_some() {
                    members.next_value_seed(walk)?;
                }
                Ok(Found::Object)
            }
            Place::Lengths => self.lengths(members),
            _ => {
                let part = self.part(members)?;
                if self.role == Role::Carrier {
                    return Ok(Found::Part(part));
                }
                let endpoint = self.counts.endpoint;
                self.counts.add(|input| part.count(endpoint, self.place, input));
                Ok(Found::Object)
            }
        }
    }
}

/// Most characters of a number as a program writes it that read it as a double or, where it is a whole one, exactly.
const fn digits(number: f64) -> u64 {
    let exponent = (number.to_bits() >> 52 & 0x7ff).saturating_sub(1023);
    // Up to there the shortest form has at most 24.
    if exponent < 64 {
        24
    } else {
        3 + exponent * 30_103 / 100_000
    }
}

/// An object that may carry media, until its `type` is known.
#[derive(Default)]
pub(super) struct Part {
    kind: Kind,
    /// What it carries. All of it is counted as text so far.
    held: Vec<Held>,
    /// Members that some server reads as media whatever the part's `type` is, and those of them that hold nothing.
    named: u8,
    empty: u8,
    /// Whether it names media that the server keeps.
    kept: bool,
}

/// What a part carries: in which member, and in which member of that and of what `type`.
struct Held(Carrier, Option<(Carrier, Kind)>, Carried);

/// More members that carry media than a part has; further ones are text.
const MAX_HELD: usize = 4;

impl Part {
    /// One that is said to be two things is neither.
    fn is(&mut self, kind: Kind) {
        self.kind = if self.kind == Kind::Unsaid {
            kind
        } else {
            Kind::Other
        };
    }

    fn hold(&mut self, carrier: Carrier, inside: Option<(Carrier, Kind)>, carried: Carried) {
        if self.held.len() < MAX_HELD {
            self.held.push(Held(carrier, inside, carried));
        }
    }

    fn count(&self, endpoint: Endpoint, place: Place, input: &mut Input) {
        if place == Place::Tools {
            let hosted = u64::from(!matches!(self.kind, Kind::ClientTool | Kind::Unsaid));
            input.unseen += hosted;
            input.hosted_tools += hosted;
            return;
        }
        if self.kind == Kind::Reference {
            input.unseen += 1;
        }
        let mut left = self.named & if self.kept { u8::MAX } else { !self.empty };
        for Held(carrier, inside, carried) in &self.held {
            let media = self.kind.takes(*carrier, *inside);
            if let Some(media) = media.filter(|_| self.kind.stands_at(endpoint, *carrier)) {
                left &= !carrier.bit();
                // An address has to say that it is data.
                let bare = carried.data.is_some() && !carried.url;
                let address = inside.map_or(*carrier, |(inside, _)| inside).is_address();
                if bare && address {
                    input.add(&carried.as_address(), media);
                } else {
                    input.add(carried, media);
                }
            }
        }
        // Some servers go by the member, and pass over a `type` that does not fit or is not there. It stays text too.
        input.pictures += u64::from((left & Carrier::PICTURES).count_ones());
        input.unseen += u64::from((left & !Carrier::PICTURES).count_ones());
    }
}

/// The `type` of a part.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Unsaid,
    Other,
    Base64,
    ImageUrl,
    InputImage,
    Image,
    ImageEmbeds,
    ImageCall,
    Document,
    InputAudio,
    Audio,
    AudioUrl,
    Video,
    VideoUrl,
    File,
    InputFile,
    /// Of an earlier item, or of a tool, whose definition is repeated there.
    Reference,
    ClientTool,
}

impl Kind {
    fn of(text: &str) -> Self {
        match text {
            "base64" => Self::Base64,
            "image_url" => Self::ImageUrl,
            "input_image" | "computer_screenshot" => Self::InputImage,
            "image" => Self::Image,
            "image_embeds" => Self::ImageEmbeds,
            "image_generation_call" => Self::ImageCall,
            "document" => Self::Document,
            "input_audio" => Self::InputAudio,
            "audio" => Self::Audio,
            "audio_url" => Self::AudioUrl,
            "video" => Self::Video,
            "video_url" => Self::VideoUrl,
            "file" => Self::File,
            "input_file" => Self::InputFile,
            "item_reference" | "tool_reference" => Self::Reference,
            _ if CLIENTS.iter().any(|tool| text.starts_with(tool)) => Self::ClientTool,
            _ => Self::Other,
        }
    }

    /// Whether an endpoint takes parts of this kind, with what they carry in such a member.
    const fn stands_at(self, endpoint: Endpoint, carrier: Carrier) -> bool {
        match endpoint {
            Endpoint::Messages => {
                matches!(self, Self::Image | Self::Document) && matches!(carrier, Carrier::Source)
            }
            Endpoint::Responses => match self {
                Self::InputImage | Self::InputFile | Self::InputAudio | Self::ImageCall => true,
                // What code has drawn.
                Self::Image => matches!(carrier, Carrier::Url),
                _ => false,
            },
            _ => !matches!(self, Self::Document | Self::ImageCall) && !matches!(carrier, Carrier::Source),
        }
    }

    /// What a part of this kind carries in a member; `None` where that is text.
    const fn takes(self, carrier: Carrier, inside: Option<(Carrier, Self)>) -> Option<Media> {
        use Carrier as C;
        Some(match (self, carrier, inside) {
            (Self::ImageUrl | Self::InputImage, C::ImageUrl, None | Some((C::Url, Self::Unsaid)))
            | (Self::InputImage, C::FileId, None)
            | (Self::Image, C::Source, Some((C::Data, Self::Base64) | (C::Url | C::FileId, _)))
            | (Self::Image | Self::Unsaid, C::Image, None)
            | (Self::Image, C::Url, None)
            | (Self::ImageCall, C::Result, None) => Media::Picture,
            (
                Self::ImageEmbeds | Self::Unsaid,
                C::ImageEmbeds,
                None | Some((C::ImageEmbeds, Self::Unsaid)),
            ) => Media::Embeds,
            (Self::InputAudio, C::InputAudio, Some((C::Data | C::Url, Self::Unsaid)))
            | (Self::AudioUrl, C::AudioUrl, None | Some((C::Url, Self::Unsaid)))
            | (Self::Audio, C::Audio, None) => Media::Audio,
            (Self::Document, C::Source, Some((C::Data, Self::Base64) | (C::Url | C::FileId, _)))
            | (Self::File, C::File, Some((C::FileData | C::FileId, Self::Unsaid)))
            | (Self::InputFile, C::FileData | C::FileUrl | C::FileId, None)
            | (Self::VideoUrl, C::VideoUrl, None | Some((C::Url, Self::Unsaid)))
            | (Self::Video, C::Video, None) => Media::File,
            _ => return None,
        })
    }
}

/// Arguments of transformers' `apply_chat_template`, as some servers hand it all that a client sends for its template: a
/// template of the client's own, what to make of one, and what is put into it in place of the messages.
const TEMPLATES: [&str; 7] = [
    "chat_template",
    "conversation",
    "conversations",
    "messages",
    "return_tensors",
    "tokenize",
    "tokenizer_kwargs",
];

/// Tools that the client runs; versions may follow. What the others find is read by the model.
const CLIENTS: [&str; 8] = [
    "function",
    "custom",
    "computer",
    "bash",
    "text_editor",
    "memory",
    "local_shell",
    "apply_patch",
];

/// Tools that have no `type`, but a member of such a name; for Gemini.
const HOSTED: [&str; 14] = [
    "google_search",
    "googleSearch",
    "google_search_retrieval",
    "googleSearchRetrieval",
    "google_maps",
    "googleMaps",
    "url_context",
    "urlContext",
    "code_execution",
    "codeExecution",
    "enterprise_web_search",
    "enterpriseWebSearch",
    "file_search",
    "retrieval",
];

/// A member that may carry media, or where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    ImageUrl,
    Image,
    ImageEmbeds,
    Result,
    InputAudio,
    Audio,
    AudioUrl,
    Video,
    VideoUrl,
    File,
    FileData,
    FileId,
    FileUrl,
    Source,
    Data,
    Url,
}

impl Carrier {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "image_url" => Self::ImageUrl,
            "image" => Self::Image,
            "image_embeds" => Self::ImageEmbeds,
            "result" => Self::Result,
            "input_audio" => Self::InputAudio,
            "audio" => Self::Audio,
            "audio_url" => Self::AudioUrl,
            "video" => Self::Video,
            "video_url" => Self::VideoUrl,
            "file" => Self::File,
            "file_data" => Self::FileData,
            "file_id" => Self::FileId,
            "file_url" => Self::FileUrl,
            "source" => Self::Source,
            "data" => Self::Data,
            "url" => Self::Url,
            _ => return None,
        })
    }

    /// Those by which some servers know a picture.
    const PICTURES: u8 = Self::ImageUrl.bit() | Self::Image.bit() | Self::ImageEmbeds.bit();

    /// One of eight for each by which some server knows media; none for the others.
    const fn bit(self) -> u8 {
        match self {
            Self::ImageUrl => 1,
            Self::Image => 2,
            Self::ImageEmbeds => 4,
            Self::InputAudio => 8,
            Self::Audio => 16,
            Self::AudioUrl => 32,
            Self::Video => 64,
            Self::VideoUrl => 128,
            _ => 0,
        }
    }

    const fn is_address(self) -> bool {
        matches!(
            self,
            Self::ImageUrl | Self::AudioUrl | Self::VideoUrl | Self::FileUrl | Self::FileId | Self::Url
        )
    }
}
