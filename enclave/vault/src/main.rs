//! The vault's executable: give up power, then serve; or set a vault up. Started by the front, never by hand.

use blindferry_device::client::Device;
use blindferry_handle::entry::{Entry, enter};
use blindferry_handle::inherit::take_inherited;
use blindferry_handle::packet::PacketSocket;
use blindferry_handle::wiping::WipingAllocator;
use blindferry_proto::causes::with_causes;
use blindferry_proto::refusal::{Refusal, RefusalCode};
use blindferry_proto::setup::{MAX_ORDER, SetupReply};
use blindferry_seqpacket::AsyncPackets;
use blindferry_vault::clock::Clock;
use blindferry_vault::confine::confine;
use blindferry_vault::grant::GRANT_LIFE;
use blindferry_vault::link::{FrontLink, Incoming};
use blindferry_vault::log;
use blindferry_vault::sealed::RecoveryKey;
use blindferry_vault::serve::{MAX_APPROVAL_WAIT, Settings, serve};
use blindferry_vault::setup::{Existing, SetupError, answer, init, recover};
use blindferry_vault::succeed::{SucceedError, succeed};
use ring::rand::SystemRandom;
use std::error::Error;
use std::fs::File;
use std::io::Read;
use std::os::fd::RawFd;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Every buffer that is freed is wiped first: hyper's, rustls', serde_json's.
#[global_allocator]
static ALLOCATOR: WipingAllocator = WipingAllocator;

/// Our end of the socketpair to the front.
const FRONT: RawFd = 3;
/// Our end of the socketpair to the device process.
const DEVICE: RawFd = 4;
/// Where set-up answers.
const OUTPUT: RawFd = 5;
/// Where set-up is ordered.
const INPUT: RawFd = 6;
/// The recovery key's printed form and its line's end fit many times.
const MAX_RECOVERY_LINE: usize = 256;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error("vault-ended", "the vault ends", &[("why", with_causes(error.as_ref()))]);
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    Serve(Settings),
    Init(Existing),
    Recover,
    Succeed,
}

fn run() -> Result<(), Failure> {
    let entered = enter(&Entry::new())?;
    if let Some(warning) = entered.warning() {
        log::warning("less-confined", warning);
    }
    // Who started us holds our descriptors' other ends: without it we are nobody's.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let errand = errand(std::env::args().skip(1).collect())?;
    let front = PacketSocket::from_fd(take_inherited(FRONT)?)?;
    let device = PacketSocket::from_fd(take_inherited(DEVICE)?)?;
    let setup = match errand {
        Errand::Serve(_) => None,
        Errand::Init(_) | Errand::Recover | Errand::Succeed => {
            Some((File::from(take_inherited(INPUT)?), File::from(take_inherited(OUTPUT)?)))
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let running = async move {
        let link = FrontLink::new(AsyncPackets::new(front)?);
        let device = Device::new(device)?;
        let confined = confine()?;
        for note in confined.notes() {
            log::warning("less-confined", note);
        }
        match (errand, setup) {
            (Errand::Serve(settings), _) => serve(confined, link, device, settings).await.map_err(Into::into),
            (errand, Some((input, output))) => set_up(errand, link, &device, input, output).await,
            (_, None) => Err("set-up has no descriptors".into()),
        }
    };
    // As a task: whenever the future that a runtime blocks on is woken, tokio writes to a descriptor and polls it.
    runtime.block_on(async { tokio::spawn(running).await? })
}

fn errand(arguments: Vec<String>) -> Result<Errand, Failure> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["serve", options @ ..] => settings(options).map(Errand::Serve),
        ["init"] => Ok(Errand::Init(Existing::Keep)),
        ["init", "--force"] => Ok(Errand::Init(Existing::Lose)),
        ["recover"] => Ok(Errand::Recover),
        ["succeed"] => Ok(Errand::Succeed),
        _ => {
            Err("usage: blindferry-vault serve | init [--force] | recover | succeed; started by blindferry-enclave"
                .into())
        }
    }
}

/// What the front was told about this vault. Its owner can shorten times here, and lengthen none beyond their bounds.
fn settings(options: &[&str]) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    for option in options.chunks(2) {
        match option {
            ["--reattest-every", seconds] => settings.reattest_every = up_to(86_400, seconds)?,
            ["--grant-life", seconds] => settings.grant_life = up_to(GRANT_LIFE, seconds)?,
            ["--log-form", form] => log::write_as(form.parse()?),
            ["--traces", "on"] => settings.traces = true,
            ["--approval-wait", seconds] => settings.approval_wait = up_to(MAX_APPROVAL_WAIT, seconds)?,
            _ => {
                return Err("serve takes --reattest-every, --grant-life and --approval-wait, each with SECONDS, --log-form FORM, and --traces on".into());
            }
        }
    }
    Ok(settings)
}

fn up_to(most: u32, seconds: &str) -> Result<u32, String> {
    let number = seconds.parse().ok().filter(|seconds| (1..=most).contains(seconds));
    number.ok_or_else(|| format!("expected 1 to {most} seconds, not {seconds:?}"))
}

async fn set_up(
    errand: Errand,
    link: FrontLink,
    device: &Device,
    input: File,
    mut output: File,
) -> Result<(), Failure> {
    let reading = link.clone();
    let reader = async {
        loop {
            match reading.next().await {
                Ok(Incoming::Accepted { .. } | Incoming::Report) => {}
                Ok(Incoming::Stop) | Err(_) => return Err::<(), Failure>("the front is gone".into()),
            }
        }
    };
    let work = async {
        let done = set_up_with(errand, &link, device, input, &mut output).await;
        if let Err(error) = &done {
            let set_up = error.downcast_ref::<SetupError>().map(Refusal::from);
            let refusal = set_up.or_else(|| error.downcast_ref::<SucceedError>().map(Refusal::from));
            let refusal = refusal.unwrap_or_else(|| Refusal::new(RefusalCode::Malformed, &with_causes(error.as_ref())));
            answer(&mut output, &SetupReply::Refused(refusal))?;
        }
        done
    };
    tokio::select! { gone = reader => gone, done = work => done }
}

async fn set_up_with(
    errand: Errand,
    link: &FrontLink,
    device: &Device,
    mut input: File,
    output: &mut File,
) -> Result<(), Failure> {
    let random = SystemRandom::new();
    match errand {
        Errand::Init(existing) => {
            let order = serde_json::from_slice(&read(&mut input, MAX_ORDER)?)?;
            let now = Clock::start()?.now();
            init(link, device, &order, existing, &random, output, now).await.map_err(Into::into)
        }
        Errand::Recover => {
            let input = read(&mut input, MAX_RECOVERY_LINE + MAX_ORDER)?;
            let end = input.iter().take(MAX_RECOVERY_LINE).position(|byte| *byte == b'\n');
            let (key, order) = end.and_then(|end| input.split_at_checked(end)).ok_or("no line with a recovery key")?;
            let recovery = RecoveryKey::parse(key)?;
            let order = serde_json::from_slice(order)?;
            let now = Clock::start()?.now();
            recover(link, device, &recovery, &order, &random, output, now).await.map_err(Into::into)
        }
        Errand::Succeed => {
            let order = serde_json::from_slice(&read(&mut input, MAX_ORDER)?)?;
            let now = Clock::start()?.now();
            succeed(link, device, &order, &random, output, now).await.map_err(Into::into)
        }
        Errand::Serve(_) => Err("serving is not setting up".into()),
    }
}

/// Everything until the end, within a bound, in memory that is wiped.
fn read(input: &mut File, limit: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    input.take(u64::try_from(limit)? + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit { Err("the order is too long".into()) } else { Ok(bytes) }
}
