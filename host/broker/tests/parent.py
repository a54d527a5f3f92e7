#!/usr/bin/env python3
"""A parent for Blindferry in plain Python 3, to be copied: asks the broker for a grant and starts a worker with it.

    parent.py CREDENTIAL PROGRAM [ARGUMENT ...]

The worker finds the grant in descriptor 3. The parent only carries it: the grant opens nothing by itself, and the
token never comes this way. With a REASON in its environment it waits where a person has to approve, and shows that
person the reason. Exit codes: the worker's own; 75 when asking again later may help; 77 when not.
"""
import json
import os
import socket
import subprocess
import sys

PASSING = {"busy", "not-ready", "upstream", "approval-queue-full"}


class Refused(Exception):
    """The broker said no: `code` is stable, `detail` is for people."""

    def __init__(self, code, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code


def ask(credential, path, uid=None, words=None):
    """One grant: its id for logs, and the descriptor of its handle, which is the caller's to close. With `words`, a
    dictionary with `program` and `reason`, it waits for a person's approval where policy wants one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as broker:
        broker.connect(path)
        worker = {} if uid is None else {"uid": uid}
        wait = {} if words is None else {"wait": words}
        broker.send(json.dumps({"ask": {"credential": credential, "worker": worker, **wait}}).encode())
        packet, descriptors, _flags, _address = socket.recv_fds(broker, 4096, 1)
        reply = json.loads(packet or b"null")
        if reply and "waiting" in reply:  # the answer proper follows; hanging up withdraws the ask
            print(f"{credential}: waiting for: blindferry approve {reply['waiting']['ask']}", file=sys.stderr)
            packet, descriptors, _flags, _address = socket.recv_fds(broker, 4096, 1)
            reply = json.loads(packet or b"null")
    if reply and "granted" in reply and len(descriptors) == 1:
        return reply["granted"]["grant"], descriptors[0]
    for descriptor in descriptors:
        os.close(descriptor)
    refused = (reply or {}).get("refused", {"code": "internal", "detail": "no answer from the broker"})
    raise Refused(refused["code"], refused["detail"])


def main(credential, *command):
    path = os.environ.get("BLINDFERRY_PARENTS", "/run/blindferry/parents.sock")
    try:
        reason = os.environ.get("REASON")
        words = None if reason is None else {"program": command[0], "reason": reason}
        grant, handle = ask(credential, path, uid=os.getuid(), words=words)
    except Refused as refused:
        print(f"{credential}: {refused}", file=sys.stderr)
        return 75 if refused.code in PASSING else 77
    print(f"{credential}: grant {grant}", file=sys.stderr)
    os.dup2(handle, 3, inheritable=True)
    return subprocess.run(command, pass_fds=(3,), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
