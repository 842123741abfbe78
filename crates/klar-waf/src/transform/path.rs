//! Paths without their detours.

/// The path as far as it is written, behind what else the buffer holds.
struct Written<'a> {
    out: &'a mut Vec<u8>,
    begin: usize,
}

impl Written<'_> {
    fn len(&self) -> usize {
        self.out.len() - self.begin
    }

    /// The last byte of it.
    fn last(&self) -> Option<u8> {
        self.out.get(self.begin..).and_then(<[u8]>::last).copied()
    }

    /// Takes back `..` (of which one dot is written) and the segment before it, up to its slash, which goes too; says
    /// whether that was all. Then `keeps_root` leaves the first byte.
    fn go_back(&mut self, keeps_root: bool) -> bool {
        let mut end = self.len().saturating_sub(3);
        while end > 0 && self.out.get(self.begin + end) != Some(&b'/') {
            end -= 1;
        }
        self.out.truncate(self.begin + end.max(usize::from(keeps_root && end == 0)));
        end == 0
    }
}

/// Takes `//`, `/./` and `/segment/../` out; `\` is a slash too where it `is_windows`.
///
/// A `..` counts by its two dots alone: that of `ab..` takes `ab` away. A relative path keeps those that lead out of it,
/// an absolute one loses them.
pub(super) fn normalize(value: &[u8], is_windows: bool, out: &mut Vec<u8>) {
    let is_slash = |byte: u8| byte == b'/' || (is_windows && byte == b'\\');
    let (Some(first), Some(last)) = (value.first(), value.last()) else { return };
    let is_relative = !is_slash(*first);
    let begin = out.len();
    let mut written = Written { out, begin };
    // Whether the way back has come to the beginning, with no segment behind it since.
    let mut is_at_root = false;
    let mut at = 0;
    while let Some(&byte) = value.get(at) {
        // This byte and the next have their backslashes turned: what comes later in a run of slashes stays a backslash
        // where it is the one that is kept.
        let turned_end = at + 2;
        let mut byte = if is_slash(byte) { b'/' } else { byte };
        let next = value.get(at + 1).copied();
        let is_end = next.is_none();
        let mut is_copied = true;
        if is_end || next.is_some_and(is_slash) {
            if !is_end && byte == b'/' {
                // An empty segment: a run of slashes is one, below.
            } else if byte == b'.' {
                if written.last() == Some(b'.') {
                    if is_relative && (is_at_root || written.len() <= 2) {
                        is_at_root = true;
                    } else {
                        is_at_root |= written.go_back(!is_relative && is_end);
                        is_copied = false;
                    }
                } else if written.len() == 0 {
                    is_copied = false;
                } else if written.last() == Some(b'/') {
                    if !is_end {
                        written.out.pop();
                    }
                    is_copied = false;
                }
                if !is_copied {
                    // The slash behind the dots is what is copied now.
                    if is_end {
                        break;
                    }
                    at += 1;
                    byte = b'/';
                }
            } else if written.len() > 0 {
                is_at_root = false;
            }
        }
        if byte == b'/' {
            let mut kept = byte;
            while let Some(more) = value.get(at + 1).copied().filter(|byte| is_slash(*byte)) {
                at += 1;
                kept = if at < turned_end { b'/' } else { more };
            }
            at += 1;
            if !(is_relative && written.len() == 0) {
                written.out.push(kept);
            }
        } else {
            written.out.push(byte);
            at += 1;
        }
    }
    if !is_slash(*last) && written.last() == Some(b'/') {
        written.out.pop();
    }
}
