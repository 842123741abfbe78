//! Comments of SQL, C, HTML and shells.

use memchr::{memchr, memchr2, memmem};

/// Which comment begins here, by the length of its beginning.
fn opening(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'/', b'*', ..] => Some(2),
        [b'<', b'!', b'-', b'-', ..] => Some(4),
        _ => None,
    }
}

/// Where the comment ends that `rest` is the inside of: behind the first `*/` or `-->`, whichever began it.
fn closing(rest: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += rest.get(at..).and_then(|rest| memchr2(b'*', b'-', rest))?;
        match rest.get(at..) {
            Some([b'*', b'/', ..]) => return Some(at + 2),
            Some([b'-', b'-', b'>', ..]) => return Some(at + 3),
            _ => at += 1,
        }
    }
}

/// Takes comments out. `--` and `#` end the value. A comment that is open at the end leaves a space.
///
/// The byte behind a comment is copied without a look at it; at the end of the value this is a zero byte. Both are so in
/// the reference.
pub(super) fn remove(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let [first, after @ ..] = rest {
        if let Some(inside) = opening(rest).and_then(|length| rest.get(length..)) {
            let Some(after) = closing(inside).and_then(|end| inside.get(end..)) else {
                out.push(b' ');
                return;
            };
            out.push(after.first().copied().unwrap_or(0));
            rest = after.get(1..).unwrap_or_default();
        } else if *first == b'#' || (*first == b'-' && after.first() == Some(&b'-')) {
            return;
        } else {
            out.push(*first);
            rest = after;
        }
    }
}

/// Takes out the marks of comments and leaves what they hold.
pub(super) fn remove_chars(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let [first, after @ ..] = rest {
        let mark = match rest {
            [b'<', b'!', b'-', b'-', ..] => 4,
            [b'-', b'-', b'>', ..] => 3,
            [b'/', b'*', ..] | [b'*', b'/', ..] | [b'-', b'-', ..] => 2,
            [b'#', ..] => 1,
            _ => {
                out.push(*first);
                rest = after;
                continue;
            }
        };
        rest = rest.get(mark..).unwrap_or_default();
    }
}

/// A space for each `/* */`, also for one that is open at the end.
pub(super) fn replace(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some((plain, from)) = memchr(b'/', rest).and_then(|at| rest.split_at_checked(at)) {
        out.extend_from_slice(plain);
        let [_, b'*', inside @ ..] = from else {
            out.push(b'/');
            rest = from.get(1..).unwrap_or_default();
            continue;
        };
        out.push(b' ');
        let end = memmem::find(inside, b"*/").map(|at| at + 2);
        rest = end.and_then(|end| inside.get(end..)).unwrap_or_default();
    }
    out.extend_from_slice(rest);
}
