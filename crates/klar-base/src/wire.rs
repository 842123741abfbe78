//! One message over a Unix stream socket, with open files beside it.
//!
//! A frame is a length (4 bytes, big endian) and that many bytes of JSON, or of [`Lines`](crate::lines::Lines).
//! Descriptors travel with the first byte
//! of the length (`SCM_RIGHTS`), so they arrive with their message. Both ends are ours and local; the limits are
//! there because a bug must not become an allocation of 4 GiB.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest message, in bytes.
pub const MESSAGE_MAX: usize = 64 << 20;
/// The most descriptors with one message: what Linux takes in one `SCM_RIGHTS` (`SCM_MAX_FD`).
pub const DESCRIPTORS_MAX: usize = 253;

/// Sends `message` with `descriptors`, blocking until the kernel has taken all of it.
///
/// # Errors
/// `EPIPE` when the other end is gone; `InvalidInput` when a limit of this module is exceeded.
pub fn send(stream: &UnixStream, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_text(stream, &serde_json::to_vec(message)?, descriptors)
}

/// The same for a message that is written already.
///
/// # Errors
/// As [`send`].
pub fn send_text(mut stream: &UnixStream, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if body.len() > MESSAGE_MAX || descriptors.len() > DESCRIPTORS_MAX {
        let what = format!("message of {} bytes with {} descriptors", body.len(), descriptors.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_be_bytes());
    frame.extend_from_slice(body);
    let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let sent = loop {
        match sendmsg::<()>(
            stream.as_raw_fd(),
            &[IoSlice::new(&frame)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        ) {
            Err(nix::errno::Errno::EINTR) => {}
            other => break other?,
        }
    };
    stream.write_all(&frame[sent..])
}

/// Receives one message and what travelled with it, or `None` when the other end closed between two messages.
///
/// # Errors
/// `UnexpectedEof` when the other end went away in the middle, `InvalidData` when the message is too large or
/// not what was expected.
pub fn receive<T: DeserializeOwned>(stream: &UnixStream) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((body, descriptors)) = receive_text(stream)? else { return Ok(None) };
    Ok(Some((serde_json::from_slice(&body)?, descriptors)))
}

/// The same for a message that is read by somebody else.
///
/// # Errors
/// As [`receive`].
#[allow(unsafe_code)]
pub fn receive_text(mut stream: &UnixStream) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut length = [0u8; 4];
    let mut control = cmsg_space!([i32; DESCRIPTORS_MAX]);
    let mut descriptors = Vec::new();
    let read = loop {
        let mut parts = [IoSliceMut::new(&mut length)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(received) => {
                for message in received.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(raw) = message {
                        // SAFETY: the kernel has just created these descriptors for us, and nobody else knows them.
                        descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                }
                break received.bytes;
            }
        }
    };
    if read == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[read..])?;
    let size = u32::from_be_bytes(length) as usize;
    if size > MESSAGE_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("message of {size} bytes")));
    }
    let mut body = vec![0; size];
    stream.read_exact(&mut body)?;
    Ok(Some((body, descriptors)))
}

/// Borrows each of `descriptors`, as [`send`] wants them.
pub fn borrow<T: AsFd>(descriptors: &[T]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom};

    #[test]
    fn a_message_arrives_with_its_files() {
        let (here, there) = UnixStream::pair().unwrap();
        let path = std::env::temp_dir().join(format!("klar-wire-{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"from the other side").unwrap();
        let big = "x".repeat(300_000);
        let sender = std::thread::spawn(move || {
            send(&here, &("plain", 1), &[]).unwrap();
            send(&here, &(big, 2), &borrow(&[&file])).unwrap();
        });
        let ((text, number), fds): ((String, u32), _) = receive(&there).unwrap().unwrap();
        assert_eq!((text.as_str(), number, fds.len()), ("plain", 1, 0));
        let ((text, number), mut fds): ((String, u32), _) = receive(&there).unwrap().unwrap();
        assert_eq!((text.len(), number, fds.len()), (300_000, 2, 1));
        let mut file = std::fs::File::from(fds.remove(0));
        let mut read = String::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, "from the other side");
        sender.join().unwrap();
        assert!(receive::<()>(&there).unwrap().is_none(), "closed between two messages");
    }

    #[test]
    fn a_torn_or_absurd_message_is_an_error() {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[0, 0, 0, 9, b'"']).unwrap();
        drop(here);
        assert_eq!(receive::<String>(&there).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(&[0xff; 8]).unwrap();
        assert_eq!(receive::<String>(&there).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
