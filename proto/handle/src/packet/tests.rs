//! What packets promise, and what a peer that breaks the rules gets.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

/// How many descriptors of this process are open on the pipe of `reader`, however they came here.
fn open_on(reader: &impl AsFd) -> usize {
    let own = rustix::fs::fstat(reader).unwrap();
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::metadata(entry.unwrap().path()).ok())
        .filter(|found| {
            use std::os::unix::fs::MetadataExt;
            found.dev() == own.st_dev && found.ino() == own.st_ino
        })
        .count()
}

/// Sends without our own checks, as a hostile peer would.
fn send_raw(socket: &PacketSocket, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = vec![MaybeUninit::uninit(); cmsg_space!(ScmRights(64))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(descriptors.is_empty() || ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL).unwrap();
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("blindferry-packet-{}-{name}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    folder
}

#[test]
fn a_packet_arrives_whole_with_its_descriptors_close_on_exec() {
    let (one, other) = PacketSocket::pair().unwrap();
    let (reader, writer) = io::pipe().unwrap();
    one.send(b"first", &[reader.as_fd()]).unwrap();
    one.send(&vec![7; MAX_PACKET], &[]).unwrap();
    drop(writer);
    let first = other.receive().unwrap();
    assert_eq!(first.bytes, b"first");
    assert_eq!(first.descriptors.len(), 1);
    let flags = rustix::io::fcntl_getfd(first.descriptors.first().unwrap()).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    let second = other.receive().unwrap();
    assert_eq!((second.bytes.len(), second.descriptors.len()), (MAX_PACKET, 0));
}

#[test]
fn too_many_descriptors_are_refused_and_none_of_them_leaks() {
    let (one, other) = PacketSocket::pair().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let before = open_on(&reader);
    for count in [MAX_DESCRIPTORS + 1, MAX_DESCRIPTORS + 2, 64] {
        send_raw(&one, b"flood", &vec![reader.as_fd(); count]);
        let refused = other.receive();
        assert!(
            matches!(refused, Err(PacketError::DescriptorsTruncated | PacketError::TooManyDescriptors { .. })),
            "{count} descriptors: {refused:?}"
        );
        assert_eq!(open_on(&reader), before, "{count} descriptors");
    }
    one.send(b"exactly", &[reader.as_fd(); MAX_DESCRIPTORS]).unwrap();
    assert_eq!(other.receive().unwrap().descriptors.len(), MAX_DESCRIPTORS);
    assert_eq!(open_on(&reader), before);
}

#[test]
fn an_oversized_packet_is_refused_whole_and_its_descriptors_do_not_leak() {
    let (one, other) = PacketSocket::pair().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let before = open_on(&reader);
    send_raw(&one, &vec![7; MAX_PACKET + 1], &[reader.as_fd()]);
    assert!(matches!(other.receive(), Err(PacketError::Truncated)));
    assert_eq!(open_on(&reader), before);
    one.send(b"next", &[]).unwrap();
    assert_eq!(other.receive().unwrap().bytes, b"next");
}

#[test]
fn an_empty_packet_with_descriptors_is_refused_without_leaking_them() {
    let (one, other) = PacketSocket::pair().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    let before = open_on(&reader);
    send_raw(&one, b"", &[reader.as_fd()]);
    assert!(matches!(other.receive(), Err(PacketError::Empty)));
    assert_eq!(open_on(&reader), before);
}

#[test]
fn bounds_are_kept_by_the_sender_too() {
    let (one, _other) = PacketSocket::pair().unwrap();
    let (reader, _writer) = io::pipe().unwrap();
    assert!(matches!(one.send(b"", &[]), Err(PacketError::Empty)));
    assert!(matches!(one.send(&vec![0; MAX_PACKET + 1], &[]), Err(PacketError::TooLong { .. })));
    let many = [reader.as_fd(); MAX_DESCRIPTORS + 1];
    assert!(matches!(one.send(b"x", &many), Err(PacketError::TooManyDescriptors { .. })));
}

#[test]
fn the_end_of_a_connection_is_told_from_an_empty_socket() {
    let (one, other) = PacketSocket::pair().unwrap();
    other.set_nonblocking(true).unwrap();
    assert!(other.receive().unwrap_err().is_would_block());
    one.send(b"last", &[]).unwrap();
    drop(one);
    assert_eq!(other.receive().unwrap().bytes, b"last");
    let end = other.receive().unwrap_err();
    assert!(matches!(end, PacketError::Closed) && !end.is_would_block());
    assert!(matches!(other.send(b"x", &[]), Err(PacketError::Closed)));
}

#[test]
fn other_sockets_pipes_and_listeners_are_not_packet_sockets() {
    let (stream, _other) = UnixStream::pair().unwrap();
    assert!(matches!(PacketSocket::from_fd(stream.into()), Err(SocketError::WrongKind)));
    let (pipe, _writer) = io::pipe().unwrap();
    assert!(matches!(PacketSocket::from_fd(pipe.into()), Err(SocketError::WrongKind)));
    let network = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(matches!(PacketSocket::from_fd(network.into()), Err(SocketError::WrongKind)));
    let folder = scratch("roles");
    let listener = PacketListener::bind(&folder.join("s"), 0o600).unwrap();
    let copy = listener.as_fd().try_clone_to_owned().unwrap();
    assert!(matches!(PacketSocket::from_fd(copy), Err(SocketError::WrongRole)));
    let (one, _other) = PacketSocket::pair().unwrap();
    assert!(matches!(PacketListener::from_fd(one.into_fd()), Err(SocketError::WrongRole)));
    drop(listener);
    fs::remove_dir(folder).unwrap();
}

#[test]
fn a_listener_has_exactly_its_mode_and_takes_its_path_away_again() {
    let folder = scratch("mode");
    let path = folder.join("s");
    // 0666 is more than the usual umask leaves, 0600 less.
    for mode in [0o600, 0o660, 0o666] {
        let listener = PacketListener::bind(&path, mode).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        let client = PacketSocket::connect(&path).unwrap();
        let served = listener.accept().unwrap();
        client.send(b"hello", &[]).unwrap();
        assert_eq!(served.receive().unwrap().bytes, b"hello");
        assert_eq!(u32::try_from(served.peer().unwrap().pid()).unwrap(), std::process::id());
        drop(listener);
        assert!(!path.exists());
    }
    fs::remove_dir(folder).unwrap();
}

#[test]
fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let folder = scratch("stale");
    let path = folder.join("s");
    let first = PacketListener::bind(&path, 0o600).unwrap();
    assert!(matches!(PacketListener::bind(&path, 0o600), Err(SocketError::InUse { .. })));
    let copy = first.as_fd().try_clone_to_owned().unwrap();
    let inherited = PacketListener::from_fd(copy).unwrap();
    fs::rename(&path, folder.join("kept")).unwrap();
    drop((first, inherited));
    fs::rename(folder.join("kept"), &path).unwrap();
    assert!(matches!(PacketSocket::connect(&path), Err(SocketError::Connect { .. })), "it is stale now");
    let second = PacketListener::bind(&path, 0o600).unwrap();
    drop(PacketSocket::connect(&path).unwrap());
    drop(second);
    // A stream listener of somebody else is alive too, though it does not speak packets.
    let stranger = UnixListener::bind(&path).unwrap();
    assert!(matches!(PacketListener::bind(&path, 0o600), Err(SocketError::InUse { .. })));
    drop(stranger);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn files_and_symbolic_links_in_the_way_are_left_alone() {
    let folder = scratch("links");
    let (file, link, target) = (folder.join("file"), folder.join("link"), folder.join("target"));
    File::create(&file).unwrap();
    assert!(matches!(PacketListener::bind(&file, 0o600), Err(SocketError::Occupied { .. })));
    // A stale socket behind a link is not ours to remove, and a dangling link not ours to fill.
    drop(UnixListener::bind(&target).unwrap());
    std::os::unix::fs::symlink(&target, &link).unwrap();
    assert!(matches!(PacketListener::bind(&link, 0o600), Err(SocketError::Occupied { .. })));
    fs::remove_file(&target).unwrap();
    assert!(matches!(PacketListener::bind(&link, 0o600), Err(SocketError::Occupied { .. })));
    assert!(file.exists() && !target.exists());
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_listener_does_not_unlink_what_took_its_place() {
    let folder = scratch("place");
    let path = folder.join("s");
    let listener = PacketListener::bind(&path, 0o600).unwrap();
    fs::rename(&path, folder.join("old")).unwrap();
    let successor = PacketListener::bind(&path, 0o600).unwrap();
    drop(listener);
    drop(PacketSocket::connect(&path).unwrap());
    drop(successor);
    fs::remove_dir_all(folder).unwrap();
}
