//! A broker for tests: a real listener, real descriptors, and a script that decides what becomes of each request.

use crate::fake_vault::{FakeVault, header};
use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::{PacketListener, PacketSocket};
use blindferry_proto::bounded::Text;
use blindferry_proto::identifier::{LeaseId, RequestId, WorkerKey};
use blindferry_proto::local::{WorkerReply, WorkerRequest, decode, encode};
use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::{fs, thread};

pub(crate) const LEASE: LeaseId = LeaseId([5; 16]);
pub(crate) const TOKEN_LIFE: u64 = 3600;

/// One request as the broker saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) request: WorkerRequest,
    pub(crate) grant: Option<Vec<u8>>,
    pub(crate) uid: u32,
    pub(crate) connection: usize,
}

/// What becomes of a request: nothing hangs up; of several, all but the last are pushes.
pub(crate) type Answers = Vec<(WorkerReply, Option<Handle>)>;

pub(crate) struct FakeBroker {
    directory: PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
    open: Arc<Mutex<Vec<PacketSocket>>>,
}

impl FakeBroker {
    /// Listens in a directory that any user can reach; `script` is asked about every request, in order.
    pub(crate) fn start(name: &str, script: impl FnMut(&Seen) -> Answers + Send + 'static) -> Self {
        let directory = std::env::temp_dir().join(format!("blindferry-{}-{name}", std::process::id()));
        let _left_over = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
        let listener = PacketListener::bind(&directory.join("workers.sock"), 0o666).unwrap();
        let (seen, open) = (Arc::default(), Arc::default());
        let broker = Self { directory, seen: Arc::clone(&seen), open: Arc::clone(&open) };
        let script = Arc::new(Mutex::new(script));
        thread::spawn(move || {
            for connection in 0.. {
                let Ok(socket) = listener.accept() else { return };
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                let copy = socket.as_fd().try_clone_to_owned().unwrap();
                open.lock().unwrap().push(PacketSocket::from_fd(copy).unwrap());
                thread::spawn(move || serve(&socket, connection, &seen, &script));
            }
        });
        broker
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.join("workers.sock")
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The connections made so far, to push over or to look at.
    pub(crate) fn connections(&self) -> MutexGuard<'_, Vec<PacketSocket>> {
        self.open.lock().unwrap()
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.directory);
    }
}

/// A broker with an honest vault behind it: idempotent by request and key, every token the same.
pub(crate) fn honest(token: &'static [u8]) -> impl FnMut(&Seen) -> Answers + Send + 'static {
    let vault = FakeVault::new();
    let mut parcels: HashMap<RequestId, Vec<u8>> = HashMap::new();
    let mut leased_to: Option<WorkerKey> = None;
    move |seen| {
        let (request, key) = match seen.request {
            WorkerRequest::Redeem { request, key, .. } => (request, key),
            WorkerRequest::Renew { request, .. } => (request, leased_to.unwrap()),
            _ => return vec![(WorkerReply::Done, None)],
        };
        leased_to = Some(key);
        let bytes = parcels
            .entry(request)
            .or_insert_with(|| vault.seal(header(request, key, seen.uid), token).to_bytes())
            .clone();
        parcelled(&vault, &bytes)
    }
}

/// The answer that brings these bytes as a parcel.
pub(crate) fn parcelled(vault: &FakeVault, parcel: &[u8]) -> Answers {
    parcelled_for(vault, parcel, TOKEN_LIFE)
}

/// The same, of a token that lives for so many seconds.
pub(crate) fn parcelled_for(vault: &FakeVault, parcel: &[u8], life: u64) -> Answers {
    let reply = WorkerReply::Parcelled {
        lease: LEASE,
        sender: vault.parcel_key(),
        expires: now() + life,
        token_type: Text::new("Bearer").unwrap(),
    };
    vec![(reply, Some(Handle::seal("parcel", parcel).unwrap()))]
}

fn serve(
    socket: &PacketSocket,
    connection: usize,
    seen: &Mutex<Vec<Seen>>,
    script: &Mutex<impl FnMut(&Seen) -> Answers>,
) {
    while let Ok(packet) = socket.receive() {
        let grant = packet.descriptors.into_iter().next();
        let this = Seen {
            request: decode(&packet.bytes).unwrap(),
            grant: grant.map(|fd| Handle::from_fd(fd).unwrap().read().unwrap()),
            uid: socket.peer().unwrap().uid(),
            connection,
        };
        seen.lock().unwrap().push(this.clone());
        let answers = (*script.lock().unwrap())(&this);
        if answers.is_empty() {
            return socket.shutdown().unwrap();
        }
        for (reply, handle) in answers {
            let handles: Vec<_> = handle.iter().map(AsFd::as_fd).collect();
            if socket.send(&encode(&reply).unwrap(), &handles).is_err() {
                return;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a token of the test expires by the clock of the machine")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
