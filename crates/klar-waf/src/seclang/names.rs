//! The names of the language.

use super::{Collection, OperatorKind};

/// Each collection, in the order of the enum, and whether it has members with names of their own.
const COLLECTIONS: &[(&str, Collection, bool)] = &[
    ("ARGS", Collection::Args, true),
    ("ARGS_COMBINED_SIZE", Collection::ArgsCombinedSize, false),
    ("ARGS_GET", Collection::ArgsGet, true),
    ("ARGS_GET_NAMES", Collection::ArgsGetNames, true),
    ("ARGS_NAMES", Collection::ArgsNames, true),
    ("ARGS_PATH", Collection::ArgsPath, true),
    ("ARGS_POST", Collection::ArgsPost, true),
    ("ARGS_POST_NAMES", Collection::ArgsPostNames, true),
    ("AUTH_TYPE", Collection::AuthType, false),
    ("DURATION", Collection::Duration, false),
    ("ENV", Collection::Env, true),
    ("FILES", Collection::Files, true),
    ("FILES_COMBINED_SIZE", Collection::FilesCombinedSize, false),
    ("FILES_NAMES", Collection::FilesNames, true),
    ("FILES_SIZES", Collection::FilesSizes, true),
    ("FILES_TMP_CONTENT", Collection::FilesTmpContent, true),
    ("FILES_TMPNAMES", Collection::FilesTmpNames, true),
    ("FULL_REQUEST", Collection::FullRequest, false),
    ("FULL_REQUEST_LENGTH", Collection::FullRequestLength, false),
    ("GEO", Collection::Geo, true),
    ("GLOBAL", Collection::Global, true),
    ("HIGHEST_SEVERITY", Collection::HighestSeverity, false),
    ("INBOUND_DATA_ERROR", Collection::InboundDataError, false),
    ("IP", Collection::Ip, true),
    ("MATCHED_VAR", Collection::MatchedVar, false),
    ("MATCHED_VAR_NAME", Collection::MatchedVarName, false),
    ("MATCHED_VARS", Collection::MatchedVars, true),
    ("MATCHED_VARS_NAMES", Collection::MatchedVarsNames, true),
    ("MULTIPART_BOUNDARY_QUOTED", Collection::MultipartBoundaryQuoted, false),
    ("MULTIPART_BOUNDARY_WHITESPACE", Collection::MultipartBoundaryWhitespace, false),
    ("MULTIPART_CRLF_LF_LINES", Collection::MultipartCrlfLfLines, false),
    ("MULTIPART_DATA_AFTER", Collection::MultipartDataAfter, false),
    ("MULTIPART_DATA_BEFORE", Collection::MultipartDataBefore, false),
    ("MULTIPART_FILE_LIMIT_EXCEEDED", Collection::MultipartFileLimitExceeded, false),
    ("MULTIPART_FILENAME", Collection::MultipartFilename, true),
    ("MULTIPART_HEADER_FOLDING", Collection::MultipartHeaderFolding, false),
    ("MULTIPART_INVALID_HEADER_FOLDING", Collection::MultipartInvalidHeaderFolding, false),
    ("MULTIPART_INVALID_PART", Collection::MultipartInvalidPart, false),
    ("MULTIPART_INVALID_QUOTING", Collection::MultipartInvalidQuoting, false),
    ("MULTIPART_LF_LINE", Collection::MultipartLfLine, false),
    ("MULTIPART_MISSING_SEMICOLON", Collection::MultipartMissingSemicolon, false),
    ("MULTIPART_NAME", Collection::MultipartName, true),
    ("MULTIPART_PART_HEADERS", Collection::MultipartPartHeaders, true),
    ("MULTIPART_SEMICOLON_MISSING", Collection::MultipartSemicolonMissing, false),
    ("MULTIPART_STRICT_ERROR", Collection::MultipartStrictError, false),
    ("MULTIPART_UNMATCHED_BOUNDARY", Collection::MultipartUnmatchedBoundary, false),
    ("OUTBOUND_DATA_ERROR", Collection::OutboundDataError, false),
    ("PATH_INFO", Collection::PathInfo, false),
    ("QUERY_STRING", Collection::QueryString, false),
    ("REMOTE_ADDR", Collection::RemoteAddr, false),
    ("REMOTE_HOST", Collection::RemoteHost, false),
    ("REMOTE_PORT", Collection::RemotePort, false),
    ("REMOTE_USER", Collection::RemoteUser, false),
    ("REQBODY_ERROR", Collection::ReqbodyError, false),
    ("REQBODY_ERROR_MSG", Collection::ReqbodyErrorMsg, false),
    ("REQBODY_PROCESSOR", Collection::ReqbodyProcessor, false),
    ("REQBODY_PROCESSOR_ERROR", Collection::ReqbodyProcessorError, false),
    ("REQBODY_PROCESSOR_ERROR_MSG", Collection::ReqbodyProcessorErrorMsg, false),
    ("REQUEST_BASENAME", Collection::RequestBasename, false),
    ("REQUEST_BODY", Collection::RequestBody, false),
    ("REQUEST_BODY_LENGTH", Collection::RequestBodyLength, false),
    ("REQUEST_COOKIES", Collection::RequestCookies, true),
    ("REQUEST_COOKIES_NAMES", Collection::RequestCookiesNames, true),
    ("REQUEST_FILENAME", Collection::RequestFilename, false),
    ("REQUEST_HEADERS", Collection::RequestHeaders, true),
    ("REQUEST_HEADERS_NAMES", Collection::RequestHeadersNames, true),
    ("REQUEST_LINE", Collection::RequestLine, false),
    ("REQUEST_METHOD", Collection::RequestMethod, false),
    ("REQUEST_PROTOCOL", Collection::RequestProtocol, false),
    ("REQUEST_URI", Collection::RequestUri, false),
    ("REQUEST_URI_RAW", Collection::RequestUriRaw, false),
    ("RESOURCE", Collection::Resource, true),
    ("RESPONSE_BODY", Collection::ResponseBody, false),
    ("RESPONSE_CONTENT_LENGTH", Collection::ResponseContentLength, false),
    ("RESPONSE_CONTENT_TYPE", Collection::ResponseContentType, false),
    ("RESPONSE_HEADERS", Collection::ResponseHeaders, true),
    ("RESPONSE_HEADERS_NAMES", Collection::ResponseHeadersNames, true),
    ("RESPONSE_PROTOCOL", Collection::ResponseProtocol, false),
    ("RESPONSE_STATUS", Collection::ResponseStatus, false),
    ("RULE", Collection::Rule, true),
    ("SCRIPT_FILENAME", Collection::ScriptFilename, false),
    ("SERVER_ADDR", Collection::ServerAddr, false),
    ("SERVER_NAME", Collection::ServerName, false),
    ("SERVER_PORT", Collection::ServerPort, false),
    ("SESSION", Collection::Session, true),
    ("SESSIONID", Collection::SessionId, false),
    ("STATUS_LINE", Collection::StatusLine, false),
    ("TIME", Collection::Time, false),
    ("TIME_DAY", Collection::TimeDay, false),
    ("TIME_EPOCH", Collection::TimeEpoch, false),
    ("TIME_HOUR", Collection::TimeHour, false),
    ("TIME_MIN", Collection::TimeMin, false),
    ("TIME_MON", Collection::TimeMon, false),
    ("TIME_SEC", Collection::TimeSec, false),
    ("TIME_WDAY", Collection::TimeWday, false),
    ("TIME_YEAR", Collection::TimeYear, false),
    ("TX", Collection::Tx, true),
    ("UNIQUE_ID", Collection::UniqueId, false),
    ("URLENCODED_ERROR", Collection::UrlencodedError, false),
    ("USER", Collection::User, true),
    ("USERID", Collection::UserId, false),
    ("WEBAPPID", Collection::WebappId, false),
    ("XML", Collection::Xml, true),
];

/// Each operator, and whether something has to stand behind it.
const OPERATORS: &[(&str, OperatorKind, bool)] = &[
    ("beginsWith", OperatorKind::BeginsWith, true),
    ("contains", OperatorKind::Contains, true),
    ("containsWord", OperatorKind::ContainsWord, true),
    ("detectCmd", OperatorKind::DetectCmd, false),
    ("detectSQLi", OperatorKind::DetectSqli, false),
    ("detectSSRF", OperatorKind::DetectSsrf, false),
    ("detectXSS", OperatorKind::DetectXss, false),
    ("endsWith", OperatorKind::EndsWith, true),
    ("eq", OperatorKind::Eq, true),
    ("fuzzyHash", OperatorKind::FuzzyHash, true),
    ("ge", OperatorKind::Ge, true),
    ("geoLookup", OperatorKind::GeoLookup, false),
    ("gt", OperatorKind::Gt, true),
    ("inspectFile", OperatorKind::InspectFile, true),
    ("ipMatch", OperatorKind::IpMatch, true),
    ("ipMatchFromFile", OperatorKind::IpMatchFromFile, true),
    ("le", OperatorKind::Le, true),
    ("lt", OperatorKind::Lt, true),
    ("noMatch", OperatorKind::NoMatch, false),
    ("pm", OperatorKind::Pm, true),
    ("pmFromFile", OperatorKind::PmFromFile, true),
    ("rbl", OperatorKind::Rbl, true),
    ("rsub", OperatorKind::Rsub, true),
    ("rx", OperatorKind::Rx, true),
    ("rxGlobal", OperatorKind::RxGlobal, true),
    ("streq", OperatorKind::StrEq, true),
    ("strmatch", OperatorKind::StrMatch, true),
    ("unconditionalMatch", OperatorKind::UnconditionalMatch, false),
    ("validateByteRange", OperatorKind::ValidateByteRange, true),
    ("validateDTD", OperatorKind::ValidateDtd, true),
    ("validateHash", OperatorKind::ValidateHash, true),
    ("validateSchema", OperatorKind::ValidateSchema, true),
    ("validateUrlEncoding", OperatorKind::ValidateUrlEncoding, false),
    ("validateUtf8Encoding", OperatorKind::ValidateUtf8Encoding, false),
    ("verifyCC", OperatorKind::VerifyCc, true),
    ("verifyCPF", OperatorKind::VerifyCpf, true),
    ("verifySSN", OperatorKind::VerifySsn, true),
    ("verifySVNR", OperatorKind::VerifySvnr, true),
    ("within", OperatorKind::Within, true),
    ("ipMatchF", OperatorKind::IpMatchFromFile, true),
    ("pmf", OperatorKind::PmFromFile, true),
];

/// A collection by its name, and whether it has members.
pub(super) fn collection(name: &str) -> Option<(Collection, bool)> {
    if name.eq_ignore_ascii_case("STATUS") {
        return Some((Collection::ResponseStatus, false));
    }
    COLLECTIONS
        .iter()
        .find(|(own, ..)| own.eq_ignore_ascii_case(name))
        .map(|(_, collection, has_members)| (*collection, *has_members))
}

/// An operator by its name, and whether it takes an argument.
pub(super) fn operator(name: &str) -> Option<(OperatorKind, bool)> {
    OPERATORS
        .iter()
        .find(|(own, ..)| own.eq_ignore_ascii_case(name))
        .map(|(_, kind, takes_argument)| (*kind, *takes_argument))
}

impl Collection {
    /// Its name in rules.
    #[must_use]
    pub fn name(self) -> &'static str {
        COLLECTIONS.get(self as usize).map_or("", |(name, ..)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_collection_has_its_own_name() {
        for (at, (name, found, has_members)) in COLLECTIONS.iter().enumerate() {
            assert_eq!(*found as usize, at, "{name}");
            assert_eq!(found.name(), *name);
            assert_eq!(collection(&name.to_lowercase()), Some((*found, *has_members)));
        }
        assert_eq!(COLLECTIONS.len(), Collection::Xml as usize + 1);
    }

    #[test]
    fn names_have_no_case() {
        assert_eq!(operator("PMF"), Some((OperatorKind::PmFromFile, true)));
        assert_eq!(operator("detectsqli"), Some((OperatorKind::DetectSqli, false)));
        assert_eq!(operator("gsbLookup"), None);
        assert_eq!(collection("status"), Some((Collection::ResponseStatus, false)));
    }
}
