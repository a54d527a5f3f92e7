//! The client of the device process, under tokio: one request at a time, a bounded queue, a deadline for each.
//!
//! A TPM does one thing at a time, and slowly. So requests take turns; more than [`WAITING_LIMIT`] waiting means that the
//! TPM has stalled or that the caller asks too much, and is refused at once.
//!
//! A request whose deadline passes, or whose future is dropped, may already be with the device process. Its reply is
//! awaited and thrown away before the next request is sent, so a reply is never taken for that of another request, and
//! at most one request is ever unanswered.

mod error;

pub use error::DeviceError;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blindferry_attest::tpm::{PcrSelection, PcrValues};
use blindferry_handle::memfd::Handle;
use blindferry_handle::packet::{PacketError, PacketSocket};
use blindferry_handle::secret::{SecretBytes, SharedSecret};
use blindferry_proto::key_mix::KeyMix;
use blindferry_proto::limits::MAX_EVIDENCE;
use blindferry_proto::logs::WantedLogs;
use blindferry_seqpacket::AsyncPackets;
use blindferry_watch::figures::{Counted, Histogram};
use tokio::sync::{Mutex, Semaphore};

use crate::approval::{Approval, PolicyRef};
use crate::authority::Authority;
use crate::protocol::{
    BLOB_LIMIT, CounterRequest, Description, DifferingField, KEY_LEN, Numbered, REPLY_LIMIT, REQUEST_LIMIT, Reply,
    Request,
};

/// The most requests that wait while one is with the device process.
pub const WAITING_LIMIT: usize = 32;

/// A request that has no answer after this long, waiting included, has failed: a hardware TPM takes below a second for
/// any command that we use, a few seconds when it makes an RSA key.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A device process. Clones ask the same process.
#[derive(Clone, Debug)]
pub struct Device {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// One permit for each request, asked or waiting.
    places: Semaphore,
    /// How long requests took, waiting included.
    took: Histogram,
    channel: Mutex<Channel>,
}

impl Device {
    /// Takes the client's end of the socket pair, as [`spawn`](crate::spawn::spawn) gives it.
    ///
    /// # Errors
    /// [`DeviceError::Register`] when the runtime cannot watch the socket.
    pub fn new(socket: PacketSocket) -> Result<Self, DeviceError> {
        let packets = AsyncPackets::new(socket).map_err(|source| DeviceError::Register { source })?;
        let channel = Channel { packets, last: 0, unanswered: None, broken: false };
        let places = Semaphore::new(WAITING_LIMIT + 1);
        Ok(Self { inner: Arc::new(Inner { places, took: Histogram::default(), channel: Mutex::new(channel) }) })
    }

    /// Requests that are with the device process or wait for it.
    #[must_use]
    pub fn waiting(&self) -> usize {
        (WAITING_LIMIT + 1).saturating_sub(self.inner.places.available_permits())
    }

    /// How long requests took, waiting included; also those that failed.
    #[must_use]
    pub fn took(&self) -> Counted {
        self.inner.took.counted()
    }

    /// Who the platform is: a TPM's keys, certificates, maker and firmware, or a guest's report. Claims, not facts.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn describe(&self) -> Result<Description, DeviceError> {
        match self.ask(Request::Describe, None).await?.without_secret()? {
            Reply::Description(description) => Ok(*description),
            reply => Err(unexpected("describe", &reply)),
        }
    }

    /// A TPM's quote of these PCRs, or a guest's report, which has none, with `binder` as its challenge: [`Evidence`](blindferry_attest::evidence::Evidence),
    /// encoded, at most [`MAX_EVIDENCE`] bytes.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn quote(&self, binder: [u8; 32], selection: Option<&PcrSelection>) -> Result<Vec<u8>, DeviceError> {
        self.quote_with(binder, selection, WantedLogs::NONE).await
    }

    /// The same with these logs beside it, which are read after the quote was made; a guest of SEV-SNP has none. At most
    /// [`blindferry_attest::evidence::MAX_EVIDENCE`] bytes.
    ///
    /// # Errors
    /// [`DeviceError`]; [`crate::protocol::DeviceRefusal::LogUnreadable`] and its like say what is wrong with which log.
    pub async fn quote_with(
        &self,
        binder: [u8; 32],
        selection: Option<&PcrSelection>,
        logs: WantedLogs,
    ) -> Result<Vec<u8>, DeviceError> {
        let pcrs = selection.map(|selection| selection.indices().collect()).unwrap_or_default();
        let answer = self.ask(Request::Quote { binder, pcrs, logs }, None).await?;
        if matches!(answer.reply, Reply::EvidenceBeside) {
            return answer.evidence(logs);
        }
        match answer.without_secret()? {
            Reply::Evidence(evidence) if evidence.len() <= MAX_EVIDENCE => Ok(evidence),
            reply => Err(unexpected("quote", &reply)),
        }
    }

    /// What these PCRs hold. [`never_extended`](crate::pcr::never_extended) tells which of them bind to nothing.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn pcrs(&self, selection: &PcrSelection) -> Result<PcrValues, DeviceError> {
        let request = Request::Pcrs { pcrs: selection.indices().collect() };
        match self.ask(request, None).await?.without_secret()? {
            Reply::Pcrs(values) => {
                PcrValues::new(*selection, &values).map_err(|_| DeviceError::Unexpected { operation: "read PCRs" })
            }
            reply => Err(unexpected("read PCRs", &reply)),
        }
    }

    /// Decrypts a credential that was made for this TPM: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, each with its
    /// length. The answer has [`KEY_LEN`] bytes.
    ///
    /// # Errors
    /// [`DeviceError`]; [`crate::protocol::DeviceRefusal::CredentialForeign`] when it was made for another TPM.
    pub async fn activate(&self, credential: &[u8], encrypted_secret: &[u8]) -> Result<SecretBytes, DeviceError> {
        let request =
            Request::Activate { credential: credential.to_vec(), encrypted_secret: encrypted_secret.to_vec() };
        self.ask(request, None).await?.secret("activate a credential")
    }

    /// Seals a key of [`KEY_LEN`] bytes, and spends the copy that is handed over. The blob is not secret and needs no
    /// protection but against loss.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub async fn seal(
        &self,
        key: SharedSecret,
        authority: &Authority,
        policy_ref: PolicyRef,
    ) -> Result<Vec<u8>, DeviceError> {
        let request = Request::Seal { authority: authority.clone(), policy_ref };
        // Dropped after the answer, and wiped then: earlier it would be wiped under the device process's hands.
        match self.ask(request, Some(key.as_fd())).await?.without_secret()? {
            Reply::Sealed(blob) if blob.len() <= BLOB_LIMIT => Ok(blob),
            reply => Err(unexpected("seal", &reply)),
        }
    }

    /// Unseals a key of [`KEY_LEN`] bytes, into secret memory of this process.
    ///
    /// # Errors
    /// [`DeviceError`]; [`crate::protocol::DeviceRefusal::WrongPcrs`] says which PCRs are not as approved.
    pub async fn unseal(
        &self,
        blob: &[u8],
        authority: &Authority,
        approval: &Approval,
    ) -> Result<SecretBytes, DeviceError> {
        let request = Request::Unseal { blob: blob.to_vec(), authority: authority.clone(), approval: approval.clone() };
        self.ask(request, None).await?.secret("unseal")
    }

    /// Seals a key of [`KEY_LEN`] bytes to this SEV-SNP guest as it is, and spends the copy that is handed over. The blob
    /// is not secret and needs no protection but against loss.
    ///
    /// # Errors
    /// [`DeviceError`]; [`crate::protocol::DeviceRefusal::OtherPlatform`] from a TPM.
    pub async fn seal_to_guest(&self, key: SharedSecret, mix: KeyMix) -> Result<Vec<u8>, DeviceError> {
        // Dropped after the answer, as in `seal`.
        match self.ask(Request::SealToGuest { mix }, Some(key.as_fd())).await?.without_secret()? {
            Reply::Sealed(blob) if blob.len() <= BLOB_LIMIT => Ok(blob),
            reply => Err(unexpected("seal", &reply)),
        }
    }

    /// Unseals a key of [`KEY_LEN`] bytes that was sealed to this SEV-SNP guest, into secret memory of this process.
    ///
    /// # Errors
    /// [`DeviceError`]; [`crate::protocol::DeviceRefusal::GuestDiffers`] says in which fields.
    pub async fn unseal_as_guest(&self, blob: &[u8]) -> Result<GuestKey, DeviceError> {
        let answer = self.ask(Request::UnsealAsGuest { blob: blob.to_vec() }, None).await?;
        let Answer { reply: Reply::GuestSecret { mix, risen }, descriptors } = answer else {
            return Err(unexpected("unseal", &answer.without_secret()?));
        };
        let secret = Answer { reply: Reply::Secret, descriptors }.secret("unseal")?;
        Ok(GuestKey { secret, mix, risen })
    }

    /// Makes the counter against old approvals, and gives its value. One that exists stays as it is.
    ///
    /// # Errors
    /// [`DeviceError`]; [`crate::protocol::DeviceRefusal::CounterTaken`] when something else has its NV index.
    pub async fn counter_create(&self) -> Result<u64, DeviceError> {
        self.counter(CounterRequest::Create).await
    }

    /// The counter's value.
    ///
    /// # Errors
    /// [`DeviceError`]; [`crate::protocol::DeviceRefusal::NoCounter`] when it was not made yet.
    pub async fn counter_read(&self) -> Result<u64, DeviceError> {
        self.counter(CounterRequest::Read).await
    }

    /// Counts once, and gives the new value.
    ///
    /// # Errors
    /// [`DeviceError`]; [`crate::protocol::DeviceRefusal::NoCounter`] when it was not made yet. After [`DeviceError::Stalled`] it may or
    /// may not have counted: read it.
    pub async fn counter_increment(&self) -> Result<u64, DeviceError> {
        self.counter(CounterRequest::Increment).await
    }

    async fn counter(&self, request: CounterRequest) -> Result<u64, DeviceError> {
        match self.ask(Request::Counter(request), None).await?.without_secret()? {
            Reply::Counter(value) => Ok(value),
            reply => Err(unexpected("use the counter", &reply)),
        }
    }

    async fn ask(&self, request: Request, descriptor: Option<BorrowedFd<'_>>) -> Result<Answer, DeviceError> {
        let _place = self.inner.places.try_acquire().map_err(|_| DeviceError::Busy)?;
        let exchange = async { self.inner.channel.lock().await.exchange(request, descriptor).await };
        let since = Instant::now();
        let answer = tokio::time::timeout(DEADLINE, exchange).await;
        self.inner.took.observe(since.elapsed());
        answer.map_err(|_| DeviceError::Stalled { after: DEADLINE })?
    }
}

/// A key that was sealed to an SEV-SNP guest.
#[derive(Debug)]
pub struct GuestKey {
    /// The key.
    pub secret: SecretBytes,
    /// What it was sealed with.
    pub mix: KeyMix,
    /// What has risen since: with anything here, the key should be sealed anew.
    pub risen: Vec<DifferingField>,
}

/// The conversation, owned by whoever's turn it is.
#[derive(Debug)]
struct Channel {
    packets: AsyncPackets,
    /// The number of the last request.
    last: u64,
    /// A request that was sent, and whose reply has not come.
    unanswered: Option<u64>,
    /// The other end is gone or does not keep to the protocol.
    broken: bool,
}

impl Channel {
    async fn exchange(&mut self, request: Request, descriptor: Option<BorrowedFd<'_>>) -> Result<Answer, DeviceError> {
        if self.broken {
            return Err(DeviceError::Ended);
        }
        if let Some(abandoned) = self.unanswered {
            self.receive(abandoned).await?;
        }
        let number = self.last + 1;
        let bytes = Numbered { number, message: request }
            .encode(REQUEST_LIMIT)
            .map_err(|source| DeviceError::Protocol { source })?;
        let sent = self.packets.send(&bytes, descriptor.as_slice()).await;
        // No await between the packet's leaving and this note: a future dropped here leaves both or neither.
        (self.last, self.unanswered) = (number, Some(number));
        if let Err(error) = sent {
            return Err(self.lost(error));
        }
        self.receive(number).await
    }

    /// Receives the reply to request `number`. Dropping the future loses nothing: the reply stays in the socket.
    async fn receive(&mut self, number: u64) -> Result<Answer, DeviceError> {
        let packet = match self.packets.receive().await {
            Ok(packet) => packet,
            Err(error) => return Err(self.lost(error)),
        };
        let reply = Numbered::<Reply>::decode(&packet.bytes, REPLY_LIMIT).map_err(|source| {
            self.broken = true;
            DeviceError::Protocol { source }
        })?;
        if reply.number != number {
            self.broken = true;
            return Err(DeviceError::Unexpected { operation: "an earlier request" });
        }
        self.unanswered = None;
        Ok(Answer { reply: reply.message, descriptors: packet.descriptors })
    }

    fn lost(&mut self, error: PacketError) -> DeviceError {
        self.broken = true;
        match error {
            PacketError::Closed => DeviceError::Ended,
            source => DeviceError::Packet { source },
        }
    }
}

/// A reply and the descriptors that came with it.
struct Answer {
    reply: Reply,
    descriptors: Vec<OwnedFd>,
}

impl Answer {
    fn without_secret(self) -> Result<Reply, DeviceError> {
        match self.reply {
            Reply::Refused(refusal) => Err(DeviceError::Refused(refusal)),
            reply => Ok(reply),
        }
    }

    /// The evidence in the memfd that came with the reply. It is memory: reading it waits for nobody.
    fn evidence(self, logs: WantedLogs) -> Result<Vec<u8>, DeviceError> {
        let Ok([descriptor]) = <[OwnedFd; 1]>::try_from(self.descriptors) else {
            return Err(DeviceError::Unexpected { operation: "quote" });
        };
        let sealed = Handle::from_fd_within(descriptor, logs.most_evidence());
        sealed.and_then(|sealed| sealed.read()).map_err(|source| DeviceError::Evidence { source })
    }

    fn secret(mut self, operation: &'static str) -> Result<SecretBytes, DeviceError> {
        match (self.reply, self.descriptors.pop(), self.descriptors.is_empty()) {
            (Reply::Refused(refusal), ..) => Err(DeviceError::Refused(refusal)),
            (Reply::Secret, Some(descriptor), true) => {
                SecretBytes::adopt(descriptor, KEY_LEN).map_err(|source| DeviceError::Adopt { source })
            }
            _ => Err(DeviceError::Unexpected { operation }),
        }
    }
}

fn unexpected(operation: &'static str, _: &Reply) -> DeviceError {
    DeviceError::Unexpected { operation }
}
