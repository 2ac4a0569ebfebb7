//! What the database holds, as the API shows it: organizations, projects, keys, tokens, freezes, caps, restrictions; budgets
//! are in a module of their own.
//!
//! Of each there are the members that a client may set (`OrgSpec`, …), and the whole, which has them and what the server
//! knows besides. Names and meanings are those of the directory document (docs/configuration.md).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tollgate_core::config::Rate;
use utoipa::ToSchema;

/// What kind of object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// An organization.
    Org,
    /// A project; its id is `org/project`.
    Project,
    /// An API key.
    Key,
    /// A token for this API.
    Token,
    /// A freeze.
    Freeze,
    /// A cap.
    Cap,
    /// A restriction.
    Restriction,
    /// A budget.
    Budget,
}

impl Kind {
    /// As it is stored.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Org => "org",
            Self::Project => "project",
            Self::Key => "key",
            Self::Token => "token",
            Self::Freeze => "freeze",
            Self::Cap => "cap",
            Self::Restriction => "restriction",
            Self::Budget => "budget",
        }
    }

    /// As people say it.
    pub(crate) const fn noun(self) -> &'static str {
        match self {
            Self::Org => "organization",
            Self::Project => "project",
            Self::Key => "key",
            Self::Token => "token",
            Self::Freeze => "freeze",
            Self::Cap => "cap",
            Self::Restriction => "restriction",
            Self::Budget => "budget",
        }
    }
}

/// A document that is kept as an object.
pub(crate) trait Document: Serialize + for<'de> Deserialize<'de> {
    /// Its kind.
    const KIND: Kind;

    /// Its id.
    fn id(&self) -> String;

    /// The organization it belongs to; empty where it belongs to none.
    fn org(&self) -> &str;

    /// The SHA-256 it is found by; empty where it is not.
    fn sha256(&self) -> &str {
        ""
    }

    /// Whether it is a freeze, cap or restriction that has not ended, a key that is not revoked, or a budget that is raised: the
    /// few that are in force are found without the many that were.
    fn in_force(&self) -> bool {
        false
    }
}

/// Whether something is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// In use.
    #[default]
    Active,
    /// Out of use for a while; callers are told so.
    Suspended,
}

/// What replaces the bound of a limit: `rate`, with or without `burst`, or `max`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Limit {
    /// Such as `5000/minute`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<String>,
    /// How many at once; what `rate` says if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// How many under way, of a limit on those.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

/// The members of an organization that a client sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct OrgSpec {
    /// Class of service; `default` where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// `suspended` refuses requests of all its keys with 403.
    pub status: Status,
    /// Models it may use, as names or patterns; none if empty.
    pub models: Vec<String>,
    /// Labels for usage records and metrics.
    pub labels: BTreeMap<String, String>,
    /// What replaces the bounds of limits for it, by their names in rate-limit's table.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Limit>,
    /// Whom to tell, for people.
    pub contacts: Vec<String>,
}

/// The members of a project that a client sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ProjectSpec {
    /// `suspended` refuses requests of all its keys with 403.
    pub status: Status,
    /// Models it may use, of those that its organization may; all of those if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Labels for usage records and metrics; they override the organization's.
    pub labels: BTreeMap<String, String>,
    /// Whom to tell, for people.
    pub contacts: Vec<String>,
}

/// The members of a key that a client sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct KeySpec {
    /// A name for people, such as `ci`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `suspended` refuses the key's requests with 403.
    pub status: Status,
    /// Endpoints it may use, such as `chat`; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
    /// Models it may use, of those that its project may; all of those if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// When it becomes valid (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// When it expires (RFC 3339); never if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Networks it may be used from, such as `10.0.0.0/8`; any if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// What replaces the bounds of limits for it, of those that tell keys apart.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Limit>,
    /// Whom to tell, for people.
    pub contacts: Vec<String>,
}

/// What the server keeps of each object beside what a client sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Metadata {
    /// When it was made.
    pub created_at: String,
    /// By which token, or `local` or `system`.
    pub created_by: String,
    /// The freeze that is in force, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_by: Option<String>,
    /// The customer's own freeze beneath one of the platform: it is what is in force when that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen_beneath_by: Option<String>,
    /// The cap that is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap: Option<Capped>,
    /// The customer's own cap beneath one of the platform: both hold, and this one alone when that ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cap_beneath: Option<Capped>,
    /// Of a key or project: whether a token that is not confined to organizations suspended it, so that only such a one
    /// resumes it.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub suspended_by_platform: bool,
}

/// The cap that is in force on something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Capped {
    /// By its id.
    pub by: String,
    /// How much it allows.
    #[serde(flatten)]
    pub rate: CapRate,
}

impl CapRate {
    /// Both: the slower rate, and the smaller burst.
    fn with(self, other: Self) -> Self {
        let (Ok(one), Ok(two)) = (self.rate.parse::<Rate>(), other.rate.parse::<Rate>()) else {
            // One that can't be read was checked when it began, and does not come here.
            return self;
        };
        let burst = |cap: &Self, rate: Rate| cap.burst.unwrap_or(rate.amount());
        let burst = burst(&self, one).min(burst(&other, two));
        let in_both_units =
            |rate: Rate, other: Rate| u128::from(rate.amount()) * u128::from(other.unit_nanos());
        let slower = if in_both_units(one, two) <= in_both_units(two, one) {
            self
        } else {
            other
        };
        Self {
            burst: Some(burst),
            ..slower
        }
    }
}

/// How much a cap allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapRate {
    /// Requests, such as `10/second`.
    pub rate: String,
    /// How many at once; what `rate` says if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

impl Metadata {
    /// Of what is made now.
    pub(crate) fn new(created_at: String, created_by: &str) -> Self {
        Self {
            created_at,
            created_by: created_by.to_owned(),
            frozen_by: None,
            frozen_beneath_by: None,
            cap: None,
            cap_beneath: None,
            suspended_by_platform: false,
        }
    }

    /// What the caps allow together: the slower rate, and the smaller burst.
    pub(crate) fn capped(&self) -> Option<CapRate> {
        let all = self.cap.iter().chain(&self.cap_beneath);
        all.map(|cap| cap.rate.clone()).reduce(CapRate::with)
    }

    /// The same, of what is made with a status.
    pub(crate) fn with_status(self, status: Status, is_platform: bool) -> Self {
        Self {
            suspended_by_platform: status == Status::Suspended && is_platform,
            ..self
        }
    }
}

/// An organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Org {
    /// Its name.
    pub id: String,
    /// What a client sets.
    #[serde(flatten)]
    pub spec: OrgSpec,
    /// What the server keeps beside it.
    #[serde(flatten)]
    pub metadata: Metadata,
}

/// A project of an organization.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Project {
    /// Its name in its organization.
    pub id: String,
    /// Its organization.
    pub org: String,
    /// What a client sets.
    #[serde(flatten)]
    pub spec: ProjectSpec,
    /// What the server keeps beside it.
    #[serde(flatten)]
    pub metadata: Metadata,
}

/// An API key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Key {
    /// Public id, which logs and usage records name it by.
    pub id: String,
    /// SHA-256 of the whole key: 64 hexadecimal digits.
    pub sha256: String,
    /// Its organization.
    pub org: String,
    /// Its project; absent for a key of the whole organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// What a client sets.
    #[serde(flatten)]
    pub spec: KeySpec,
    /// When it was revoked. It never comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// The key that it was rotated from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_from: Option<String>,
    /// The first key of all that it was rotated from, one after the other. Budgets name it and count them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_root: Option<String>,
    /// The key that it is being rotated to, and what `expires_at` was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Rotation>,
    /// What the server keeps beside it.
    #[serde(flatten)]
    pub metadata: Metadata,
}

/// A key's rotation, as the old key tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rotation {
    /// The new key.
    pub to: String,
    /// What `expires_at` was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_before: Option<String>,
}

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Fetches the directory and keeps limits with other gateways, and nothing else: for Envoys.
    Gateway,
    /// Reads.
    Viewer,
    /// Reads, freezes and ends freezes.
    Support,
    /// The same, and changes organizations, projects and keys.
    Operator,
    /// Everything, tokens too.
    Owner,
}

/// A token for this API, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// Public id.
    pub id: String,
    /// SHA-256 of the whole token.
    pub sha256: String,
    /// A name for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Organizations it is limited to; unrestricted if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orgs: Option<Vec<String>>,
    /// When it expires (RFC 3339); never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// What the server keeps beside it.
    #[serde(flatten)]
    pub metadata: Metadata,
}

/// What a freeze, a cap or a restriction is on: one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Target {
    /// A key, by its id.
    Key(String),
    /// A project, as `org/project`.
    Project(String),
    /// An organization.
    Org(String),
    /// A target of the catalogue, by its cluster.
    Cluster(String),
    /// Models, for the callers of a tier.
    Models(TierModels),
}

/// Models, for the callers of a tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TierModels {
    /// The tier.
    pub tier: String,
    /// A model's own name, or a pattern; all models if absent.
    #[serde(default = "every_model")]
    #[schema(required = false)]
    pub model: String,
}

fn every_model() -> String {
    "*".to_owned()
}

impl Target {
    /// The kind and id of the object that it is; `None` where it is none.
    pub(crate) fn kind_and_id(&self) -> Option<(Kind, &str)> {
        match self {
            Self::Key(id) => Some((Kind::Key, id)),
            Self::Project(id) => Some((Kind::Project, id)),
            Self::Org(id) => Some((Kind::Org, id)),
            Self::Cluster(_) | Self::Models(_) => None,
        }
    }
}

/// What is out of use, as the directory has it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Traffic<'a> {
    drained: Vec<&'a str>,
    shed: Vec<&'a TierModels>,
}

impl<'a> Traffic<'a> {
    /// What these have out of use.
    pub(crate) fn of(targets: impl Iterator<Item = &'a Target>) -> Self {
        let mut traffic = Self::default();
        for target in targets {
            match target {
                Target::Cluster(cluster) => traffic.drained.push(cluster),
                Target::Models(models) => traffic.shed.push(models),
                Target::Key(_) | Target::Project(_) | Target::Org(_) => {}
            }
        }
        traffic
    }

    /// Whether all is in use.
    pub(crate) const fn is_nothing(&self) -> bool {
        self.drained.is_empty() && self.shed.is_empty()
    }
}

/// What freezes, caps and restrictions have in common: on what, why, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Terms {
    /// What it is on.
    pub target: Target,
    /// Whose that is; absent where it is the platform's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub org: String,
    /// Why; empty where the caller is confined, and the platform began it.
    pub reason: String,
    /// When it ends by itself (RFC 3339); absent until somebody ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
    /// Who ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// Whether a token that is confined to organizations began it, so that one may end it.
    #[serde(default)]
    pub by_confined: bool,
}

/// Something that was taken out of use at once, for a reason, and often for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Freeze {
    /// Its id.
    pub id: String,
    /// On what, why, and for how long.
    #[serde(flatten)]
    pub terms: Terms,
    /// What the server keeps beside it.
    #[serde(flatten)]
    pub metadata: Metadata,
}

/// A limit on requests that was set at once, for a reason, and often for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cap {
    /// Its id.
    pub id: String,
    /// How much it allows.
    #[serde(flatten)]
    pub rate: CapRate,
    /// On what, why, and for how long.
    #[serde(flatten)]
    pub terms: Terms,
    /// What the server keeps beside it.
    #[serde(flatten)]
    pub metadata: Metadata,
}

/// Something that takes no more requests, for a reason, and often for a time: a target, or models for a tier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Restriction {
    /// Its id.
    pub id: String,
    /// On what, why, and for how long.
    #[serde(flatten)]
    pub terms: Terms,
    /// What the server keeps beside it.
    #[serde(flatten)]
    pub metadata: Metadata,
}

impl Document for Org {
    const KIND: Kind = Kind::Org;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn org(&self) -> &str {
        &self.id
    }
}

impl Document for Project {
    const KIND: Kind = Kind::Project;

    fn id(&self) -> String {
        project_id(&self.org, &self.id)
    }

    fn org(&self) -> &str {
        &self.org
    }
}

impl Document for Key {
    const KIND: Kind = Kind::Key;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn org(&self) -> &str {
        &self.org
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }

    fn in_force(&self) -> bool {
        self.revoked_at.is_none()
    }
}

impl Document for Token {
    const KIND: Kind = Kind::Token;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn org(&self) -> &str {
        ""
    }

    fn sha256(&self) -> &str {
        &self.sha256
    }
}

impl Document for Freeze {
    const KIND: Kind = Kind::Freeze;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn org(&self) -> &str {
        &self.terms.org
    }

    fn in_force(&self) -> bool {
        self.terms.ended_at.is_none()
    }
}

impl Document for Cap {
    const KIND: Kind = Kind::Cap;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn org(&self) -> &str {
        &self.terms.org
    }

    fn in_force(&self) -> bool {
        self.terms.ended_at.is_none()
    }
}

impl Document for Restriction {
    const KIND: Kind = Kind::Restriction;

    fn id(&self) -> String {
        self.id.clone()
    }

    fn org(&self) -> &str {
        &self.terms.org
    }

    fn in_force(&self) -> bool {
        self.terms.ended_at.is_none()
    }
}

/// What is begun on something at once, for a reason, and ends by somebody or by itself: a freeze, a cap or a restriction.
pub(crate) trait Incident: Document + Clone {
    /// What is done, as in `freeze`.
    const VERB: &'static str;
    /// What its target is then, as in `frozen`.
    const PARTICIPLE: &'static str;
    /// Whether a customer may begin one where the platform's is in force. A cap may not: a gateway keeps what is used as a part
    /// of the burst, so a smaller burst for a moment would forget most of what is used of the platform's.
    const BEGINS_BENEATH: bool;
    /// Actions in the trail: that it began, that somebody ended it, that its time was over.
    const ACTIONS: [&'static str; 3];

    fn terms(&self) -> &Terms;

    fn terms_mut(&mut self) -> &mut Terms;

    /// The command of `tollgate` that ends it.
    fn end_command(&self) -> String;

    /// The id of the one in force on something.
    fn active_on(metadata: &Metadata) -> Option<&str>;

    /// Marks its target as frozen or capped by it; the customer's that is in force stays beneath.
    fn mark(&self, metadata: &mut Metadata);

    /// The same of a customer's, where the platform's is in force.
    fn mark_beneath(&self, metadata: &mut Metadata);

    /// The customer's beneath that which is in force.
    fn beneath_on(metadata: &Metadata) -> Option<&str>;

    /// Takes its mark away; what is beneath is in force then.
    fn unmark(&self, metadata: &mut Metadata);
}

/// What may end by itself: an incident, or a budget's raise.
pub(crate) trait Timed: Document {
    /// When it does; `None` where it has ended, or does not.
    fn end(&self) -> Option<&str>;
}

impl<D: Incident> Timed for D {
    fn end(&self) -> Option<&str> {
        let terms = self.terms();
        terms.until.as_deref().filter(|_| terms.ended_at.is_none())
    }
}

/// Takes the mark that `is` it away from where it stands, and lets what is beneath take its place.
fn take_mark<T>(top: &mut Option<T>, beneath: &mut Option<T>, is: impl Fn(&T) -> bool) {
    if top.as_ref().is_some_and(&is) {
        *top = beneath.take();
    } else if beneath.as_ref().is_some_and(&is) {
        *beneath = None;
    }
}

impl Incident for Freeze {
    const VERB: &'static str = "freeze";
    const PARTICIPLE: &'static str = "frozen";
    const BEGINS_BENEATH: bool = true;
    const ACTIONS: [&'static str; 3] = ["freeze.begin", "freeze.end", "freeze.over"];

    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn terms_mut(&mut self) -> &mut Terms {
        &mut self.terms
    }

    fn end_command(&self) -> String {
        format!("unfreeze {}", self.id)
    }

    fn active_on(metadata: &Metadata) -> Option<&str> {
        metadata.frozen_by.as_deref()
    }

    fn mark(&self, metadata: &mut Metadata) {
        metadata.frozen_beneath_by = metadata.frozen_by.replace(self.id.clone());
    }

    fn mark_beneath(&self, metadata: &mut Metadata) {
        metadata.frozen_beneath_by = Some(self.id.clone());
    }

    fn beneath_on(metadata: &Metadata) -> Option<&str> {
        metadata.frozen_beneath_by.as_deref()
    }

    fn unmark(&self, metadata: &mut Metadata) {
        let (top, beneath) = (&mut metadata.frozen_by, &mut metadata.frozen_beneath_by);
        take_mark(top, beneath, |by| *by == self.id);
    }
}

impl Cap {
    fn capped(&self) -> Capped {
        Capped {
            by: self.id.clone(),
            rate: self.rate.clone(),
        }
    }
}

impl Incident for Cap {
    const VERB: &'static str = "cap";
    const PARTICIPLE: &'static str = "capped";
    const BEGINS_BENEATH: bool = false;
    const ACTIONS: [&'static str; 3] = ["cap.begin", "cap.end", "cap.over"];

    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn terms_mut(&mut self) -> &mut Terms {
        &mut self.terms
    }

    fn end_command(&self) -> String {
        format!("uncap {}", self.id)
    }

    fn active_on(metadata: &Metadata) -> Option<&str> {
        metadata.cap.as_ref().map(|cap| cap.by.as_str())
    }

    fn mark(&self, metadata: &mut Metadata) {
        metadata.cap_beneath = metadata.cap.replace(self.capped());
    }

    fn mark_beneath(&self, metadata: &mut Metadata) {
        metadata.cap_beneath = Some(self.capped());
    }

    fn beneath_on(metadata: &Metadata) -> Option<&str> {
        metadata.cap_beneath.as_ref().map(|cap| cap.by.as_str())
    }

    fn unmark(&self, metadata: &mut Metadata) {
        let (top, beneath) = (&mut metadata.cap, &mut metadata.cap_beneath);
        take_mark(top, beneath, |cap| cap.by == self.id);
    }
}

impl Incident for Restriction {
    const VERB: &'static str = "restrict";
    const PARTICIPLE: &'static str = "out of use";
    const BEGINS_BENEATH: bool = false;
    const ACTIONS: [&'static str; 3] = ["restriction.begin", "restriction.end", "restriction.over"];

    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn terms_mut(&mut self) -> &mut Terms {
        &mut self.terms
    }

    fn end_command(&self) -> String {
        match &self.terms.target {
            Target::Models(TierModels { tier, model }) => format!("unshed --tier {tier} --model '{model}'"),
            Target::Cluster(id) | Target::Key(id) | Target::Project(id) | Target::Org(id) => {
                format!("undrain {id}")
            }
        }
    }

    fn active_on(_metadata: &Metadata) -> Option<&str> {
        None
    }

    fn mark(&self, _metadata: &mut Metadata) {}

    fn mark_beneath(&self, _metadata: &mut Metadata) {}

    fn beneath_on(_metadata: &Metadata) -> Option<&str> {
        None
    }

    fn unmark(&self, _metadata: &mut Metadata) {}
}

/// What a freeze or a cap can be on.
pub(crate) trait HasMetadata: Document + Clone {
    fn metadata_mut(&mut self) -> &mut Metadata;
}

impl HasMetadata for Org {
    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

impl HasMetadata for Project {
    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

impl HasMetadata for Key {
    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// The id of a project's object. Names hold no `/`.
pub(crate) fn project_id(org: &str, project: &str) -> String {
    format!("{org}/{project}")
}

/// A change as RFC 7396 says it: members replace those of the same name, `null` removes.
pub(crate) fn merge(into: &mut Value, change: Value) {
    match change {
        Value::Object(members) => {
            if !into.is_object() {
                *into = Value::Object(serde_json::Map::new());
            }
            if let Some(object) = into.as_object_mut() {
                for (name, value) in members {
                    if value.is_null() {
                        object.remove(&name);
                    } else {
                        merge(object.entry(name).or_insert(Value::Null), value);
                    }
                }
            }
        }
        other => *into = other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_two_caps_both_hold() {
        let cap = |rate: &str, burst| CapRate {
            rate: rate.to_owned(),
            burst,
        };
        for (one, two, both) in [
            (
                cap("1000/second", None),
                cap("1/hour", None),
                cap("1/hour", Some(1)),
            ),
            (
                cap("1/second", None),
                cap("60/minute", None),
                cap("1/second", Some(1)),
            ),
            (
                cap("1/second", Some(90)),
                cap("50/minute", None),
                cap("50/minute", Some(50)),
            ),
            (
                cap("10/day", Some(2)),
                cap("9/day", Some(9)),
                cap("9/day", Some(2)),
            ),
        ] {
            assert_eq!(one.clone().with(two.clone()), both);
            assert_eq!(two.with(one).burst, both.burst);
        }
    }

    #[test]
    fn a_change_merges() {
        // The examples of RFC 7396, its appendix A.
        for (before, change, after) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            let mut value = before;
            merge(&mut value, change);
            assert_eq!(value, after);
        }
    }
}
