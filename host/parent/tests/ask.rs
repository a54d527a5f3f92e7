//! Does a parent get its grant, hand it on in each way, and hear a clear no?

#[cfg(test)]
mod tests {
    use blindferry_handle::memfd::Handle;
    use blindferry_handle::packet::{PacketListener, PacketSocket};
    use blindferry_parent::{Ask, Parent, ParentError};
    use blindferry_proto::bounded::Text;
    use blindferry_proto::identifier::{AskId, Digest, GrantId};
    use blindferry_proto::local::{ParentReply, ParentRequest, decode, encode};
    use blindferry_proto::protection::ProtectionLevel;
    use blindferry_proto::refusal::{Refusal, RefusalCode};
    use blindferry_proto::session::WorkerConstraint;
    use blindferry_proto::waiting::{Waiting, Words};
    use std::os::fd::{AsFd, AsRawFd};
    use std::path::PathBuf;
    use std::process::Command;
    use std::thread;

    #[test]
    fn what_was_asked_arrives_and_the_grant_comes_back() {
        let (path, asked) = broker("asked", |request| (granted(), vec![request]));
        let ask = Ask {
            credential: "github-deploy".parse().unwrap(),
            audience: Some("https://api.example".parse().unwrap()),
            worker: WorkerConstraint {
                uid: Some(7),
                executable: Some(Digest([1; 32])),
                protection: Some(ProtectionLevel::OwnGroup),
            },
        };
        let grant = Parent::connect(&path).unwrap().ask(&ask).unwrap();
        assert_eq!((grant.id(), grant.expires()), (GrantId([2; 16]), 99));
        let Ask { credential, audience, worker } = ask;
        assert_eq!(asked.join().unwrap(), [ParentRequest::Ask { credential, audience, worker, wait: None }]);
    }

    #[test]
    fn a_grant_is_inherited_by_a_child_under_its_number() {
        let grant = one_grant("inherit").inherit().unwrap();
        let script = format!("cat /dev/fd/{}", grant.as_raw_fd());
        let child = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert_eq!(child.stdout, b"opaque grant");
    }

    #[test]
    fn a_grant_that_is_not_inherited_stays_out_of_children() {
        let grant = one_grant("stays").into_descriptor();
        let script = format!("cat /dev/fd/{}", grant.as_raw_fd());
        let child = Command::new("bash").args(["-c", &script]).output().unwrap();
        assert!(child.stdout.is_empty() && !child.status.success());
    }

    #[test]
    fn a_grant_is_delivered_over_a_socket() {
        let (ours, workers) = PacketSocket::pair().unwrap();
        one_grant("deliver").deliver(&ours).unwrap();
        let packet = workers.receive().unwrap();
        let [descriptor] = <[_; 1]>::try_from(packet.descriptors).unwrap();
        assert_eq!(Handle::from_fd(descriptor).unwrap().read().unwrap(), b"opaque grant");
        drop(workers);
        assert!(matches!(one_grant("gone").deliver(&ours), Err(ParentError::Deliver { .. })));
    }

    #[test]
    fn a_refusal_says_why() {
        let no = Refusal::new(RefusalCode::Denied, "policy night-freeze");
        let answer = no.clone();
        let (path, _) = broker("no", move |_| ((ParentReply::Refused(answer.clone()), None), ()));
        let error = Parent::connect(&path).unwrap().ask(&ask()).unwrap_err();
        assert_eq!(error.to_string(), "refused: denied: policy night-freeze");
        assert!(matches!(error, ParentError::Refused(refusal) if refusal == no));
    }

    #[test]
    fn a_grant_without_its_handle_or_in_something_else_is_refused() {
        let (path, _) = broker("without", |_| ((granted().0, None), ()));
        let error = Parent::connect(&path).unwrap().ask(&ask()).unwrap_err();
        assert!(matches!(error, ParentError::Descriptors { count: 0 }));
        let (reader, _writer) = std::io::pipe().unwrap();
        let (path, _) = broker("pipe", move |_| ((granted().0, Some(reader.try_clone().unwrap().into())), ()));
        let error = Parent::connect(&path).unwrap().ask(&ask()).unwrap_err();
        assert!(matches!(error, ParentError::Handle { .. }));
    }

    #[test]
    fn a_broker_that_is_not_there_or_hangs_up_is_named_as_such() {
        let nowhere = Parent::connect(&std::env::temp_dir().join("blindferry-nobody.sock"));
        assert!(matches!(nowhere, Err(ParentError::Connect { .. })));
        let path = path("hangs-up");
        let listener = PacketListener::bind(&path, 0o600).unwrap();
        let mut parent = Parent::connect(&path).unwrap();
        drop(listener.accept().unwrap());
        assert!(matches!(parent.ask(&ask()), Err(ParentError::Lost { .. })));
    }

    #[test]
    fn a_parent_that_waits_is_told_once_and_gets_its_grant() {
        let path = path("waits");
        let listener = PacketListener::bind(&path, 0o600).unwrap();
        let waiting = Waiting { ask: AskId([3; 8]), seconds: 60 };
        let broker = thread::spawn(move || {
            let socket = listener.accept().unwrap();
            let asked = decode::<ParentRequest>(&socket.receive().unwrap().bytes).unwrap();
            socket.send(&encode(&ParentReply::Waiting(waiting)).unwrap(), &[]).unwrap();
            let (reply, handle) = granted();
            socket.send(&encode(&reply).unwrap(), &[handle.unwrap().as_fd()]).unwrap();
            asked
        });
        let words = Words { program: Some(Text::cut("deploy.sh")), reason: None };
        let mut told = Vec::new();
        let grant = Parent::connect(&path).unwrap().ask_and_wait(&ask(), &words, |waiting| told.push(*waiting));
        assert_eq!((grant.unwrap().id(), told), (GrantId([2; 16]), vec![waiting]));
        let ParentRequest::Ask { wait, .. } = broker.join().unwrap();
        assert_eq!(wait, Some(words));
    }

    #[test]
    fn a_parent_that_does_not_wait_takes_no_waiting_for_an_answer() {
        let waiting = ParentReply::Waiting(Waiting { ask: AskId([3; 8]), seconds: 60 });
        let (path, asked) = broker("unasked", move |request| ((waiting.clone(), None), request));
        assert!(matches!(Parent::connect(&path).unwrap().ask(&ask()), Err(ParentError::Unasked)));
        assert!(matches!(asked.join().unwrap(), ParentRequest::Ask { wait: None, .. }));
    }

    #[test]
    fn a_parent_that_does_something_else_meanwhile_gets_the_same_answers() {
        let (path, asked) = broker("meanwhile", |request| (granted(), request));
        let asking = Parent::connect(&path).unwrap().begin_ask(&ask(), None).unwrap();
        // It was asked: the broker's thread has ended before anybody waits for the answer.
        assert!(matches!(asked.join().unwrap(), ParentRequest::Ask { wait: None, .. }));
        let grant = asking.granted(|_| panic!("nobody has to approve")).unwrap();
        assert_eq!(grant.into_handle().read().unwrap(), b"opaque grant");

        let waiting = ParentReply::Waiting(Waiting { ask: AskId([3; 8]), seconds: 60 });
        let (path, _) = broker("meanwhile-unasked", move |_| ((waiting.clone(), None), ()));
        let asking = Parent::connect(&path).unwrap().begin_ask(&ask(), None).unwrap();
        assert!(matches!(asking.granted(|_| panic!("it was not to wait")), Err(ParentError::Unasked)));

        let words = Words { program: None, reason: None };
        let (path, asked) = broker("meanwhile-words", |request| (granted(), request));
        Parent::connect(&path).unwrap().begin_ask(&ask(), Some(&words)).unwrap().granted(|_| ()).unwrap();
        assert!(matches!(asked.join().unwrap(), ParentRequest::Ask { wait: Some(said), .. } if said == words));
    }

    type Answer = (ParentReply, Option<std::os::fd::OwnedFd>);

    /// A broker that answers one request on one connection.
    fn broker<T: Send + 'static>(
        name: &str,
        mut answer: impl FnMut(ParentRequest) -> (Answer, T) + Send + 'static,
    ) -> (PathBuf, thread::JoinHandle<T>) {
        let path = path(name);
        let listener = PacketListener::bind(&path, 0o600).unwrap();
        let thread = thread::spawn(move || {
            let socket = listener.accept().unwrap();
            let packet = socket.receive().unwrap();
            assert!(packet.descriptors.is_empty());
            let ((reply, handle), result) = answer(decode(&packet.bytes).unwrap());
            let handles: Vec<_> = handle.iter().map(AsFd::as_fd).collect();
            socket.send(&encode(&reply).unwrap(), &handles).unwrap();
            result
        });
        (path, thread)
    }

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("blindferry-parent-{}-{name}.sock", std::process::id()))
    }

    fn granted() -> Answer {
        let handle = Handle::seal("grant", b"opaque grant").unwrap();
        (ParentReply::Granted { grant: GrantId([2; 16]), expires: 99 }, Some(handle.into_fd()))
    }

    fn ask() -> Ask {
        Ask::for_credential("github-deploy".parse().unwrap())
    }

    fn one_grant(name: &str) -> blindferry_parent::GrantHandle {
        let (path, _) = broker(name, |_| (granted(), ()));
        Parent::connect(&path).unwrap().ask(&ask()).unwrap()
    }
}
