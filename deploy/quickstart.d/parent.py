"""A parent for Blindferry in plain Python: asks the broker for a grant and starts a worker with it. It ferries the grant
and never sees the token.

    parent.py PARENTS_SOCKET CREDENTIAL PROGRAM [ARGUMENT ...]

PROGRAM gets the grant in descriptor 3; blindferry-launch redeems it and becomes the worker. The first line on standard
output is the worker's process id. Exit codes: the worker's own; 75 when asking again later may help; 77 when not.
"""
import json
import os
import socket
import subprocess
import sys

PASSING = {"busy", "not-ready", "upstream"}


class Refused(Exception):
    """The broker said no: `code` is stable, `detail` is for people."""

    def __init__(self, code, detail):
        super().__init__(f"{code}: {detail}")
        self.code = code


def ask(parents, credential):
    """One grant for one token: its id, for logs, and the descriptor of its handle."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as broker:
        broker.connect(parents)
        # The worker runs as the same user as we do. Nobody else may redeem this grant.
        broker.send(json.dumps({"ask": {"credential": credential, "worker": {"uid": os.getuid()}}}).encode())
        packet, descriptors, _flags, _address = socket.recv_fds(broker, 4096, 1)
    reply = json.loads(packet or b"null") or {}
    if "granted" in reply and len(descriptors) == 1:
        return reply["granted"]["grant"], descriptors[0]
    refused = reply.get("refused", {"code": "internal", "detail": "no answer from the broker"})
    raise Refused(refused["code"], refused["detail"])


def main(parents, credential, *command):
    try:
        grant, handle = ask(parents, credential)
    except Refused as refused:
        print(f"parent: no grant for {credential}: {refused}", file=sys.stderr)
        return 75 if refused.code in PASSING else 77
    print(f"parent: grant {grant} for {credential}", file=sys.stderr)
    os.dup2(handle, 3, inheritable=True)
    worker = subprocess.Popen(command, pass_fds=(3,))
    print(worker.pid, flush=True)
    return worker.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
