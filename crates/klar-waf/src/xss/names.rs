//! Names of tags and attributes that run script, or that bring something in that may.

/// What an attribute can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    /// Runs its value, or that of another attribute, whatever it is.
    Runs,
    /// Runs its value where that is an address of the wrong kind.
    Address,
    /// Its value is the name of an attribute.
    Names,
}

/// Events behind `on`, in order, none the beginning of another: what begins with one of them is a handler. HTML, SVG
/// and other standards have them, or old browsers had.
#[rustfmt::skip] // a list of words
static EVENTS: [&[u8]; 273] = [
    b"ABORT", b"ACTIVATE", b"ACTIVE", b"ADDSOURCEBUFFER", b"ADDSTREAM", b"ADDTRACK", b"AFTERPRINT",
    b"ANIMATIONCANCEL", b"ANIMATIONEND", b"ANIMATIONITERATION", b"ANIMATIONSTART", b"AUDIOEND",
    b"AUDIOPROCESS", b"AUDIOSTART", b"AUTOCOMPLETE", b"AUXCLICK", b"BEFOREACTIVATE", b"BEFORECOPY",
    b"BEFORECUT", b"BEFOREDEACTIVATE", b"BEFOREEDITFOCUS", b"BEFOREINPUT", b"BEFORELOAD", b"BEFOREMATCH",
    b"BEFOREPASTE", b"BEFOREPRINT", b"BEFORETOGGLE", b"BEFOREUNLOAD", b"BEFOREUPDATE", b"BEGIN", b"BLOCKED",
    b"BLUR", b"BOUNCE", b"BOUNDARY", b"BUFFEREDAMOUNTLOW", b"CACHED", b"CANCEL", b"CANPLAY", b"CELLCHANGE",
    b"CHANGE", b"CHARGINGCHANGE", b"CHARGINGTIMECHANGE", b"CHECKING", b"CLICK", b"CLOSE", b"COMMAND",
    b"COMPLETE", b"COMPOSITIONEND", b"COMPOSITIONSTART", b"COMPOSITIONUPDATE", b"CONNECT",
    b"CONTENTVISIBILITYAUTOSTATECHANGE", b"CONTEXTLOST", b"CONTEXTMENU", b"CONTEXTRESTORED",
    b"CONTROLLERCHANGE", b"CONTROLSELECT", b"COPY", b"CUECHANGE", b"CUT", b"DATAAVAILABLE", b"DATACHANNEL",
    b"DATASETC", b"DBLCLICK", b"DEACTIVATE", b"DEVICECHANGE", b"DEVICEMOTION", b"DEVICEORIENTATION",
    b"DISCHARGINGTIMECHANGE", b"DISCONNECT", b"DOMACTIVATE", b"DOMCHARACTERDATAMODIFIED",
    b"DOMCONTENTLOADED", b"DOMFOCUSIN", b"DOMFOCUSOUT", b"DOMNODEINSERTED", b"DOMNODEREMOVED",
    b"DOMSUBTREEMODIFIED", b"DOWNLOADING", b"DRAG", b"DROP", b"DURATIONCHANGE", b"EMPTIED", b"ENCRYPTED",
    b"END", b"ENTER", b"ERROR", b"EXIT", b"FETCH", b"FILTERCHANGE", b"FINISH", b"FOCUS", b"FORMCHANGE",
    b"FORMDATA", b"FORMINPUT", b"FULLSCREEN", b"GAMEPAD", b"GESTURECHANGE", b"GESTUREEND",
    b"GESTURESCROLLEND", b"GESTURESCROLLSTART", b"GESTURESCROLLUPDATE", b"GESTURESTART", b"GESTURETAP",
    b"GOTPOINTERCAPTURE", b"HASHCHANGE", b"HELP", b"ICECANDIDATE", b"ICECONNECTIONSTATECHANGE",
    b"ICEGATHERINGSTATECHANGE", b"INACTIVE", b"INPUT", b"INSTALL", b"INVALID", b"KEYDOWN", b"KEYPRESS",
    b"KEYSTATUSESCHANGE", b"KEYUP", b"LANGUAGECHANGE", b"LAYOUTCOMPLETE", b"LEAVEPICTUREINPICTURE",
    b"LEVELCHANGE", b"LOAD", b"LOSECAPTURE", b"LOSTPOINTERCAPTURE", b"MARK", b"MERCHANTVALIDATION",
    b"MESSAGE", b"MOUSEDOWN", b"MOUSEENTER", b"MOUSELEAVE", b"MOUSEMOVE", b"MOUSEOUT", b"MOUSEOVER",
    b"MOUSEUP", b"MOUSEWHEEL", b"MOVE", b"MOZ", b"MSCONTENTZOOM", b"MSGESTURE", b"MSINERTIA",
    b"MSMANIPULATION", b"MSPOINTER", b"MSSITEMODEJUMPLISTITEMREMOVED", b"MUTE", b"NEGOTIATIONNEEDED",
    b"NEXTTRACK", b"NOMATCH", b"NOUPDATE", b"OBSOLETE", b"OFFLINE", b"ONLINE", b"OPEN",
    b"ORIENTATIONCHANGE", b"OVERCONSTRAINED", b"OVERFLOWCHANGED", b"PAGEHIDE", b"PAGEREVEAL", b"PAGESHOW",
    b"PAGESWAP", b"PASTE", b"PAUSE", b"PAYERDETAILCHANGE", b"PAYMENT", b"PLAY", b"POINTERCANCEL",
    b"POINTERDOWN", b"POINTERENTER", b"POINTERLEAVE", b"POINTERLOCKCHANGE", b"POINTERLOCKERROR",
    b"POINTERMOVE", b"POINTEROUT", b"POINTEROVER", b"POINTERRAWUPDATE", b"POINTERUP", b"POPSTATE",
    b"PREVIOUSTRACK", b"PROCESSORERROR", b"PROGRESS", b"PROPERTYCHANGE", b"RATECHANGE", b"READYSTATECHANGE",
    b"REJECTIONHANDLED", b"REMOVE", b"REPEAT", b"RESET", b"RESIZE", b"RESOURCETIMINGBUFFERFULL", b"RESULT",
    b"RESUME", b"ROW", b"SCROLL", b"SEARCH", b"SECURITYPOLICYVIOLATION", b"SEEKED", b"SEEKING", b"SELECT",
    b"SHIPPINGADDRESSCHANGE", b"SHIPPINGCONTACTSELECTED", b"SHIPPINGMETHODSELECTED",
    b"SHIPPINGOPTIONCHANGE", b"SHOW", b"SIGNALINGSTATECHANGE", b"SLOTCHANGE", b"SNAPCHANG", b"SOUNDEND",
    b"SOUNDSTART", b"SOURCECLOSE", b"SOURCEENDED", b"SOURCEOPEN", b"SPEECHEND", b"SPEECHSTART", b"SQUEEZE",
    b"STALLED", b"START", b"STATECHANGE", b"STOP", b"STORAGE", b"SUBMIT", b"SUCCESS", b"SUSPEND",
    b"TEXTINPUT", b"TIMEOUT", b"TIMEUPDATE", b"TOGGLE", b"TONECHANGE", b"TOUCHCANCEL", b"TOUCHEND",
    b"TOUCHFORCECHANGE", b"TOUCHMOVE", b"TOUCHSTART", b"TRACK", b"TRANSITIONCANCEL", b"TRANSITIONEND",
    b"TRANSITIONRUN", b"TRANSITIONSTART", b"UNCAPTUREDERROR", b"UNHANDLEDREJECTION", b"UNLOAD", b"UNMUTE",
    b"UPDATE", b"UPGRADENEEDED", b"VALIDATEMERCHANT", b"VERSIONCHANGE", b"VISIBILITYCHANGE",
    b"VOLUMECHANGE", b"WAITING", b"WEBGLCONTEXT", b"WEBKITANIMATIONEND", b"WEBKITANIMATIONITERATION",
    b"WEBKITANIMATIONSTART", b"WEBKITBEFORETEXTINSERTED", b"WEBKITBEGINFULLSCREEN",
    b"WEBKITCURRENTPLAYBACKTARGETISWIRELESSCHANGED", b"WEBKITENDFULLSCREEN", b"WEBKITFULLSCREENCHANGE",
    b"WEBKITFULLSCREENERROR", b"WEBKITKEY", b"WEBKITMOUSEFORCE", b"WEBKITNEEDKEY",
    b"WEBKITNETWORKINFOCHANGE", b"WEBKITPLAYBACKTARGETAVAILABILITYCHANGED",
    b"WEBKITPRESENTATIONMODECHANGED", b"WEBKITREGIONOVERSETCHANGE", b"WEBKITREMOVESOURCEBUFFER",
    b"WEBKITSOURCE", b"WEBKITSPEECHCHANGE", b"WEBKITTRANSITIONEND", b"WEBKITWILLREVEAL", b"WHEEL", b"WRITE",
    b"ZOOM",
];

/// The longest name of an event that is looked at.
const EVENT_MAX: usize = 44;
/// The longest name of a tag or another attribute.
const NAME_MAX: usize = 13;

/// In capitals, without zero bytes; `None` if it is longer than any name in the lists.
fn capitals<'a>(name: &[u8], room: &'a mut [u8; NAME_MAX]) -> Option<&'a [u8]> {
    let mut len = 0;
    for byte in name.iter().filter(|byte| **byte != 0) {
        *room.get_mut(len)? = byte.to_ascii_uppercase();
        len += 1;
    }
    room.get(..len)
}

fn begins_with(name: &[u8], word: &[u8]) -> bool {
    name.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
}

/// Whether a tag does more than show something.
pub(super) fn is_active_tag(name: &[u8]) -> bool {
    if name.len() < 3 {
        return false;
    }
    if begins_with(name, b"svg") || begins_with(name, b"xsl") {
        return true;
    }
    // XSS is what Internet Explorer made of elements with a behaviour; COMMENT hides what follows from filters.
    matches!(
        capitals(name, &mut [0; NAME_MAX]),
        Some(
            b"APPLET"
                | b"BASE"
                | b"COMMENT"
                | b"EMBED"
                | b"FRAME"
                | b"FRAMESET"
                | b"HANDLER"
                | b"IFRAME"
                | b"IMPORT"
                | b"ISINDEX"
                | b"LINK"
                | b"LISTENER"
                | b"META"
                | b"NOSCRIPT"
                | b"OBJECT"
                | b"SCRIPT"
                | b"STYLE"
                | b"VMLFRAME"
                | b"XML"
                | b"XSS"
        )
    )
}

/// What an attribute can do, by its name; `None`: nothing.
pub(super) fn attribute(name: &[u8]) -> Option<Attribute> {
    if name.len() < 2 {
        return None;
    }
    if name.len() >= 5 {
        if begins_with(name, b"on") && is_event(name.get(2..).unwrap_or_default()) {
            return Some(Attribute::Runs);
        }
        if begins_with(name, b"xmlns") || begins_with(name, b"xlink") {
            return Some(Attribute::Runs);
        }
    }
    match capitals(name, &mut [0; NAME_MAX])? {
        b"ATTRIBUTENAME" => Some(Attribute::Names),
        b"DATAFORMATAS" | b"DATASRC" | b"FILTER" | b"STYLE" => Some(Attribute::Runs),
        b"ACTION" | b"BACKGROUND" | b"BY" | b"DYNSRC" | b"FOLDER" | b"FORMACTION" | b"FROM" | b"HANDLER"
        | b"HREF" | b"LOWSRC" | b"POSTER" | b"SRC" | b"TO" | b"VALUES" => Some(Attribute::Address),
        _ => None,
    }
}

fn is_event(name: &[u8]) -> bool {
    let mut room = [0; EVENT_MAX];
    let len = name.len().min(EVENT_MAX);
    for (to, from) in room.iter_mut().zip(name) {
        *to = from.to_ascii_uppercase();
    }
    let name = room.get(..len).unwrap_or_default();
    // As none begins another, only the last that is not behind the name can be its beginning.
    let behind = EVENTS.partition_point(|event| *event <= name);
    behind.checked_sub(1).and_then(|last| EVENTS.get(last)).is_some_and(|event| name.starts_with(event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_in_order_and_none_begins_another() {
        for pair in EVENTS.windows(2) {
            assert!(pair[0] < pair[1] && !pair[1].starts_with(pair[0]), "{}", pair[1].escape_ascii());
        }
        assert_eq!(EVENTS.iter().map(|event| event.len()).max(), Some(EVENT_MAX));
    }

    #[test]
    fn names() {
        for (name, can) in [
            (&b"onclick"[..], Some(Attribute::Runs)),
            (b"OnErRoR", Some(Attribute::Runs)),
            (b"onloadstart", Some(Attribute::Runs)),
            (b"one", None),
            (b"once", None),
            (b"only-this", None),
            (b"on", None),
            (b"oncut", Some(Attribute::Runs)),
            (b"h\0ref", Some(Attribute::Address)),
            (b"hreflang", None),
            (b"xmlns:a", Some(Attribute::Runs)),
            (b"style", Some(Attribute::Runs)),
            (b"attributename", Some(Attribute::Names)),
            (b"attributenames", None),
            (b"class", None),
        ] {
            assert_eq!(attribute(name), can, "{}", name.escape_ascii());
        }
        for (name, is_active) in [
            (&b"script"[..], true),
            (b"SC\0RIPT", true),
            (b"svgfoo", true),
            (b"b", false),
            (b"scripts", false),
        ] {
            assert_eq!(is_active_tag(name), is_active, "{}", name.escape_ascii());
        }
    }
}
