//! The protocol between the old and the new process of a restart, over a socket pair.
//!
//! The old process sends a line of JSON for each listening socket, with the socket's descriptor
//! attached, and then an empty line. The new process answers with [`READY`] once it serves.

use std::io::{self, IoSlice, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};

use crate::inbound::sockets::{Role, Socket};

/// The byte that the new process sends to the old process once it serves.
pub(super) const READY: u8 = b'\n';

/// The line that describes a socket. The names of these fields must not change, since the old and
/// the new process may be different versions of the program.
#[derive(Deserialize, Serialize)]
struct Line {
    role: Role,
    asked: Option<SocketAddr>,
    address: SocketAddr,
}

/// Sends sockets to the new process, which need not have started yet.
pub(super) fn send(mut link: &UnixStream, sockets: &[Socket]) -> io::Result<()> {
    for socket in sockets {
        let mut line = serde_json::to_vec(&Line {
            role: socket.role,
            asked: socket.asked,
            address: socket.address,
        })?;
        line.push(b'\n');
        let descriptors = [socket.descriptor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let sent = sendmsg(
            link,
            &[IoSlice::new(&line)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        // `sendmsg` has attached the descriptor to the first byte, so the other bytes can follow
        // without it.
        link.write_all(&line[sent..])?;
    }
    link.write_all(b"\n")
}

/// Receives all sockets. The n-th descriptor belongs to the n-th line, since one read may return a
/// part of a line or several lines.
pub(super) fn receive(link: &UnixStream) -> io::Result<Vec<Socket>> {
    let mut text = Vec::new();
    let mut descriptors = Vec::new();
    while text != b"\n" && !text.ends_with(b"\n\n") {
        let mut bytes = [0; 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(
            link,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = message {
                descriptors.extend(passed);
            }
        }
        text.extend(&bytes[..received.bytes]);
    }
    let lines: Vec<_> = text.split(|&byte| byte == b'\n').collect();
    let lines = lines.into_iter().filter(|line| !line.is_empty());
    let mut descriptors = descriptors.into_iter();
    lines
        .map(|line| socket(serde_json::from_slice(line)?, descriptors.next()))
        .collect()
}

fn socket(line: Line, descriptor: Option<OwnedFd>) -> io::Result<Socket> {
    let missing = || io::Error::other("a line arrived without its socket");
    Ok(Socket {
        role: line.role,
        asked: line.asked,
        address: line.address,
        descriptor: descriptor.ok_or_else(missing)?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_arrive_with_their_roles_and_addresses() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let made: Vec<_> = [
            (Role::Http, Some(any)),
            (Role::Admin, None),
            (Role::Tls, Some(any)),
        ]
        .into_iter()
        .map(|(role, asked)| {
            let listener = TcpListener::bind(any).unwrap();
            let address = listener.local_addr().unwrap();
            Socket {
                role,
                asked,
                address,
                descriptor: listener.into(),
            }
        })
        .collect();
        send(&ours, &made).unwrap();
        let came = receive(&theirs).unwrap();
        assert_eq!(came.len(), 3);
        for (made, came) in made.iter().zip(&came) {
            assert_eq!(
                (made.role, made.asked, made.address),
                (came.role, came.asked, came.address)
            );
            let flags = rustix::io::fcntl_getfd(&came.descriptor).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
            let descriptor = came.descriptor.try_clone().unwrap();
            let listener = TcpListener::from(descriptor);
            assert_eq!(listener.local_addr().unwrap(), made.address);
        }
    }

    #[test]
    fn an_empty_list_of_sockets_is_valid_and_half_a_message_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        send(&ours, &[]).unwrap();
        assert!(receive(&theirs).unwrap().is_empty());
        (&ours).write_all(b"{").unwrap();
        drop(ours);
        let error = receive(&theirs).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_line_without_its_socket_is_an_error() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"{\"role\":\"http\",\"asked\":null,\"address\":\"127.0.0.1:1\"}\n\n")
            .unwrap();
        let error = receive(&theirs).unwrap_err().to_string();
        assert!(error.contains("without its socket"), "{error}");
    }
}
