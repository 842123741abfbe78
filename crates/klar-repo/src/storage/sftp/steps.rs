//! What takes more than one request.

use std::collections::BTreeSet;

use super::connection::{Asked, Connection, Wrong};
use super::unsafe_there;
use super::wire::{Answer, Entry, PIECE, Refused, Request, kind, open};

/// So many folders are listed at once.
const FOLDERS: usize = 16;
/// No place has so many objects: a pack of 16 MiB each would be 64 TiB.
const NAMES_MAX: usize = 4 << 20;

/// Bytes as requests, from `offset` of the file on.
pub(super) fn pieces<'a>(
    handle: &'a [u8],
    offset: u64,
    bytes: &'a [u8],
) -> impl Iterator<Item = Request<'a>> {
    let offsets = (offset..).step_by(PIECE);
    offsets.zip(bytes.chunks(PIECE)).map(|(offset, piece)| Request::write(handle, offset, piece))
}

/// What is in these folders survives a loss of power.
pub(super) fn sync(connection: &mut Connection, folders: &[&str]) -> Asked<()> {
    let mut handles = Vec::new();
    let opened =
        connection.many(folders.iter().map(|folder| Request::open(folder, open::READ)), &mut |_, answer| {
            match answer {
                Answer::Handle(handle) => handles.push(handle),
                Answer::Refused(refused) => return Err(refused),
                _ => {}
            }
            Ok(())
        });
    let synced =
        opened.and_then(|()| connection.all_done(handles.iter().map(|handle| Request::fsync(handle))));
    let closes = handles.iter().map(|handle| Request::handle(kind::CLOSE, handle));
    connection.many(closes, &mut |_, _| Ok(()))?;
    match synced {
        Err(Wrong::Refused(Refused { said, .. })) => {
            Err(unsafe_there(&format!("it does not make a folder survive a loss of power (fsync: {said})")))
        }
        Ok(()) if handles.len() < folders.len() => Err(unsafe_there("it does not open folders")),
        synced => synced,
    }
}

/// What is in each of these folders; `None`: it is not there.
pub(super) fn list(connection: &mut Connection, folders: &[String]) -> Asked<Vec<Option<Vec<Entry>>>> {
    let mut all = Vec::with_capacity(folders.len());
    let mut count = 0;
    for folders in folders.chunks(FOLDERS) {
        let mut found: Vec<Option<(Vec<u8>, Vec<Entry>)>> = vec![None; folders.len()];
        let mut is_odd = false;
        let opened = connection.many(
            folders.iter().map(|folder| Request::path(kind::OPENDIR, folder)),
            &mut |number, answer| match answer {
                Answer::Handle(handle) => {
                    found[number] = Some((handle, Vec::new()));
                    Ok(())
                }
                Answer::Refused(refused) if refused.code == Refused::GONE => Ok(()),
                Answer::Refused(refused) => Err(refused),
                _ => {
                    is_odd = true;
                    Ok(())
                }
            },
        );
        let mut left: Vec<usize> = (0..folders.len()).filter(|number| found[*number].is_some()).collect();
        let mut listed = opened;
        while listed.is_ok() && !left.is_empty() && !is_odd {
            let handles: Vec<Vec<u8>> =
                left.iter().filter_map(|number| Some(found[*number].as_ref()?.0.clone())).collect();
            let mut ended = BTreeSet::new();
            listed = connection.many(
                handles.iter().map(|handle| Request::handle(kind::READDIR, handle)),
                &mut |at, answer| {
                    match (answer, &mut found[left[at]]) {
                        (Answer::Names(names), Some((_, entries))) => {
                            count += names.len();
                            // Nobody gets round a circle by saying nothing.
                            is_odd |= names.is_empty() || count > NAMES_MAX;
                            is_odd |= names.iter().any(|entry| entry.attributes.mode.is_none());
                            entries.extend(names);
                        }
                        (Answer::End, _) => drop(ended.insert(left[at])),
                        (Answer::Refused(refused), _) => return Err(refused),
                        _ => is_odd = true,
                    }
                    Ok(())
                },
            );
            left.retain(|number| !ended.contains(number));
        }
        if is_odd {
            return Err(Wrong::Broken(connection.odd("it lists no folder as it should")));
        }
        let handles: Vec<&[u8]> = found.iter().flatten().map(|(handle, _)| &**handle).collect();
        connection
            .many(handles.iter().map(|handle| Request::handle(kind::CLOSE, handle)), &mut |_, _| Ok(()))?;
        listed?;
        all.extend(found.into_iter().map(|found| found.map(|(_, entries)| entries)));
    }
    Ok(all)
}

/// So many bytes, less where the file ends before.
pub(super) fn read(connection: &mut Connection, handle: &[u8], offset: u64, length: usize) -> Asked<Vec<u8>> {
    let mut bytes = vec![0; length];
    let (mut end, mut is_odd) = (length, false);
    let mut left: Vec<(usize, usize)> =
        (0..length).step_by(PIECE).map(|from| (from, (length - from).min(PIECE))).collect();
    while !left.is_empty() {
        let mut short = Vec::new();
        let requests =
            left.iter().map(|(from, length)| Request::read(handle, offset + *from as u64, *length));
        connection.many(requests, &mut |number, answer| {
            let (from, length) = left[number];
            match answer {
                Answer::Data(data) if !data.is_empty() && data.len() <= length => {
                    bytes[from..from + data.len()].copy_from_slice(&data);
                    // A server may give less than it was asked for.
                    if data.len() < length {
                        short.push((from + data.len(), length - data.len()));
                    }
                }
                Answer::End => end = end.min(from),
                Answer::Refused(refused) => return Err(refused),
                _ => is_odd = true,
            }
            Ok(())
        })?;
        if is_odd {
            return Err(Wrong::Broken(connection.odd("it answered something else")));
        }
        short.retain(|(from, _)| *from < end);
        left = short;
    }
    bytes.truncate(end);
    Ok(bytes)
}
