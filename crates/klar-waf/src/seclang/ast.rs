//! What rule files say, directive by directive, before anything is decided.

use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::transform::Transformation;

/// Where something stands, for whoever has to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named.
    pub file: Arc<str>,
    /// Its line, from 1.
    pub line: u32,
}

/// One directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Directive {
    /// `SecRule` or `SecAction`, with the links of its chain.
    Rule(Rule),
    /// `SecMarker`: where `skipAfter` leads to.
    Marker(Place, String),
    /// `SecDefaultAction`: what rules of a phase do that do not say it themselves.
    DefaultAction(Place, Vec<Action>),
    /// `SecRuleRemoveById`, `SecRuleRemoveByTag`, `SecRuleRemoveByMsg`.
    Remove(Place, Which),
    /// `SecRuleUpdateTargetById`, `...ByTag`, `...ByMsg`.
    UpdateTargets(Place, Which, Vec<Target>),
    /// `SecRuleUpdateActionById`.
    UpdateActions(Place, Which, Vec<Action>),
    /// Any other setting.
    Setting(Place, Setting),
}

/// A rule: all of its links must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The head first; never empty.
    pub links: Vec<Link>,
}

impl Rule {
    /// The phase of a rule that says none.
    pub const PHASE: u8 = 2;

    /// Its number.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.links.first()?.actions.iter().find_map(|action| match action {
            Action::Id(id) => Some(*id),
            _ => None,
        })
    }

    /// When it is asked: 1 (the request's head), 2 (its body), 3 (the response's head), 4 (its body), 5 (afterwards).
    #[must_use]
    pub fn phase(&self) -> u8 {
        let actions = self.links.first().map_or(&[][..], |head| &head.actions);
        let phase = actions.iter().find_map(|action| match action {
            Action::Phase(phase) => Some(*phase),
            _ => None,
        });
        phase.unwrap_or(Self::PHASE)
    }
}

/// One `SecRule` of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Where it stands.
    pub place: Place,
    /// What is looked at; empty for `SecAction`.
    pub targets: Vec<Target>,
    /// What is asked of it.
    pub operator: Operator,
    /// What is done then, without `chain` and in the order of the file.
    pub actions: Vec<Action>,
}

/// Which rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// By their numbers.
    Ids(Vec<RangeInclusive<u32>>),
    /// By a regular expression for one of their tags.
    Tag(String),
    /// By a regular expression for their message.
    Msg(String),
}

/// A variable, or some of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub collection: Collection,
    /// Which of it.
    pub key: Key,
    /// `&`: how many there are.
    pub count: bool,
    /// `!`: not these.
    pub except: bool,
}

/// Which members of a collection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// All, or the one value of what is no collection.
    All,
    /// The ones of this name, whatever the case of its letters.
    Name(String),
    /// The ones whose names a regular expression matches.
    Matching(String),
}

/// Everything that a rule can look at. `ARGS_PATH`, the segments of the path, is not of the language: Coraza has it, too. `XML` has the path as the name in its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // the names are those of the language, with its underscores taken out
pub enum Collection {
    Args,
    ArgsCombinedSize,
    ArgsGet,
    ArgsGetNames,
    ArgsNames,
    ArgsPath,
    ArgsPost,
    ArgsPostNames,
    AuthType,
    Duration,
    Env,
    Files,
    FilesCombinedSize,
    FilesNames,
    FilesSizes,
    FilesTmpContent,
    FilesTmpNames,
    FullRequest,
    FullRequestLength,
    Geo,
    Global,
    HighestSeverity,
    InboundDataError,
    Ip,
    MatchedVar,
    MatchedVarName,
    MatchedVars,
    MatchedVarsNames,
    MultipartBoundaryQuoted,
    MultipartBoundaryWhitespace,
    MultipartCrlfLfLines,
    MultipartDataAfter,
    MultipartDataBefore,
    MultipartFileLimitExceeded,
    MultipartFilename,
    MultipartHeaderFolding,
    MultipartInvalidHeaderFolding,
    MultipartInvalidPart,
    MultipartInvalidQuoting,
    MultipartLfLine,
    MultipartMissingSemicolon,
    MultipartName,
    MultipartPartHeaders,
    MultipartSemicolonMissing,
    MultipartStrictError,
    MultipartUnmatchedBoundary,
    OutboundDataError,
    PathInfo,
    QueryString,
    RemoteAddr,
    RemoteHost,
    RemotePort,
    RemoteUser,
    ReqbodyError,
    ReqbodyErrorMsg,
    ReqbodyProcessor,
    ReqbodyProcessorError,
    ReqbodyProcessorErrorMsg,
    RequestBasename,
    RequestBody,
    RequestBodyLength,
    RequestCookies,
    RequestCookiesNames,
    RequestFilename,
    RequestHeaders,
    RequestHeadersNames,
    RequestLine,
    RequestMethod,
    RequestProtocol,
    RequestUri,
    RequestUriRaw,
    Resource,
    ResponseBody,
    ResponseContentLength,
    ResponseContentType,
    ResponseHeaders,
    ResponseHeadersNames,
    ResponseProtocol,
    ResponseStatus,
    Rule,
    ScriptFilename,
    ServerAddr,
    ServerName,
    ServerPort,
    Session,
    SessionId,
    StatusLine,
    Time,
    TimeDay,
    TimeEpoch,
    TimeHour,
    TimeMin,
    TimeMon,
    TimeSec,
    TimeWday,
    TimeYear,
    Tx,
    UniqueId,
    UrlencodedError,
    User,
    UserId,
    WebappId,
    Xml,
}

/// What is asked of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// `!`.
    pub negated: bool,
    /// Which question.
    pub kind: OperatorKind,
    /// What comes behind it.
    pub argument: Text,
}

/// The operators of the language, and two of klar's own: `@detectCmd` and `@detectSSRF`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are those of the language
pub enum OperatorKind {
    BeginsWith,
    Contains,
    ContainsWord,
    DetectCmd,
    DetectSqli,
    DetectSsrf,
    DetectXss,
    EndsWith,
    Eq,
    FuzzyHash,
    Ge,
    GeoLookup,
    Gt,
    InspectFile,
    IpMatch,
    IpMatchFromFile,
    Le,
    Lt,
    NoMatch,
    Pm,
    PmFromFile,
    Rbl,
    Rsub,
    Rx,
    RxGlobal,
    StrEq,
    StrMatch,
    UnconditionalMatch,
    ValidateByteRange,
    ValidateDtd,
    ValidateHash,
    ValidateSchema,
    ValidateUrlEncoding,
    ValidateUtf8Encoding,
    VerifyCc,
    VerifyCpf,
    VerifySsn,
    VerifySvnr,
    Within,
}

/// Text with variables in it: `%{tx.critical_anomaly_score}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text(pub Vec<Piece>);

impl Text {
    /// The text, if there is no variable in it.
    #[must_use]
    pub fn as_plain(&self) -> Option<String> {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Plain(text) => Some(text.as_str()),
            Piece::Variable(..) => None,
        });
        pieces.collect()
    }
}

/// A piece of such a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it stands there.
    Plain(String),
    /// The value of a variable: the collection, and the name within it.
    Variable(Collection, Option<String>),
}

/// What a rule does, or says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Its number.
    Id(u32),
    /// 1 to 5.
    Phase(u8),
    /// What ends the request, or does not.
    Disruptive(Disruptive),
    /// Of the answer that `deny` gives.
    Status(u16),
    /// `t:none`: none of those before.
    NoTransformation,
    /// `t:...`.
    Transform(Transformation),
    /// Keeps what the expression captured in `TX:0` to `TX:9`.
    Capture,
    /// Asks after each transformation, not after the last alone.
    MultiMatch,
    /// Whether a match is written down.
    Log(bool),
    /// Whether the transaction is written down.
    AuditLog(bool),
    /// What it found, in words.
    Msg(Text),
    /// What of the request shows it.
    LogData(Text),
    /// A word to find it by.
    Tag(Text),
    /// 0 (emergency) to 7 (debug).
    Severity(u8),
    /// `ver`, `rev`, `maturity`, `accuracy` and others that say something of the rule and do nothing.
    Note(String, String),
    /// Changes a variable.
    SetVar(SetVar),
    /// `expirevar`: when a variable of a lasting collection is forgotten, in seconds.
    ExpireVar(Collection, Text, Text),
    /// `initcol`: takes a lasting collection up by its key.
    InitCol(Collection, Text),
    /// `setuid`, `setsid`, `setrsc`, `setenv`: the name, and what it is set to.
    Set(String, Text),
    /// Skips so many rules.
    Skip(u32),
    /// Goes on behind a marker, or behind the rule of this number.
    SkipAfter(String),
    /// Changes how this request is looked at.
    Ctl(Ctl),
}

/// What ends the request, or does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disruptive {
    /// Goes on.
    Pass,
    /// What `SecDefaultAction` says.
    Block,
    /// Refuses.
    Deny,
    /// Closes the connection.
    Drop,
    /// Ends the rules with nothing against it.
    Allow(Allow),
    /// Sends the visitor elsewhere.
    Redirect(Text),
    /// Asks somebody else.
    Proxy(Text),
}

/// How far `allow` reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allow {
    /// All phases.
    All,
    /// `allow:phase`.
    Phase,
    /// `allow:request`: the phases of the request.
    Request,
}

/// A change of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetVar {
    /// Of which collection.
    pub collection: Collection,
    /// Its name.
    pub name: Text,
    /// What becomes of it.
    pub change: Change,
}

/// What becomes of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `=`.
    To(Text),
    /// `=+`.
    Add(Text),
    /// `=-`.
    Subtract(Text),
    /// `!`: it is no more.
    Unset,
}

/// `ctl:...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ctl {
    /// Rules that say nothing of this request.
    RemoveRules(Which),
    /// What some rules do not look at in this request.
    RemoveTarget(Which, Target),
    /// How the body is read.
    BodyProcessor(BodyProcessor),
    /// `REQUEST_BODY` is there whatever the processor.
    ForceRequestBody(bool),
    /// Whether the request's body is looked at.
    RequestBodyAccess(bool),
    /// Whether the response's body is looked at.
    ResponseBodyAccess(bool),
    /// So many bytes of the request's body.
    RequestBodyLimit(u64),
    /// So many bytes of the response's body.
    ResponseBodyLimit(u64),
    /// Whether rules block, only say so, or do nothing.
    Engine(Mode),
    /// What only concerns the log of whole transactions: the name, and what it is set to.
    Audit(String, String),
}

/// How a request's body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BodyProcessor {
    UrlEncoded,
    Multipart,
    Json,
    Xml,
}

/// Whether rules block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They do.
    On,
    /// They only say what they would have done.
    DetectionOnly,
    /// They do nothing.
    Off,
}

/// What is done about a body that is longer than its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitAction {
    /// It is refused.
    Reject,
    /// What is within the limit is looked at, and the rest is not.
    ProcessPartial,
}

/// Directives that set something for all requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// `SecRuleEngine`.
    Engine(Mode),
    /// `SecRequestBodyAccess`.
    RequestBodyAccess(bool),
    /// `SecResponseBodyAccess`.
    ResponseBodyAccess(bool),
    /// `SecRequestBodyLimit`, in bytes.
    RequestBodyLimit(u64),
    /// `SecResponseBodyLimit`, in bytes.
    ResponseBodyLimit(u64),
    /// `SecResponseBodyMimeType`.
    ResponseBodyTypes(Vec<String>),
    /// `SecResponseBodyMimeTypesClear`: none of those before.
    ResponseBodyTypesClear,
    /// `SecRequestBodyNoFilesLimit`, in bytes: of a body without the files in it.
    RequestBodyNoFilesLimit(u64),
    /// `SecRequestWorkLimit`, klar's own, in bytes: how much may be read of the long values of a request, by all rules
    /// together.
    RequestWorkLimit(u64),
    /// `SecRequestBodyLimitAction`.
    RequestBodyLimitAction(LimitAction),
    /// `SecResponseBodyLimitAction`.
    ResponseBodyLimitAction(LimitAction),
    /// `SecRequestBodyJsonDepthLimit`, in levels.
    JsonDepthLimit(u32),
    /// `SecUploadFileLimit`: files in one body.
    UploadFileLimit(u32),
    /// `SecArgumentsLimit`.
    ArgumentsLimit(u32),
    /// `SecArgumentSeparator`.
    ArgumentSeparator(u8),
    /// `SecComponentSignature`.
    Component(String),
    /// `SecWebAppId`.
    WebAppId(String),
    /// What has no meaning for this engine (logs, temporary files, collection timeouts): its name and its value.
    WithoutMeaning(String, String),
}
