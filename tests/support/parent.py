"""A parent that knows nothing but the protocol: asks the broker for a grant and starts a worker with it.

usage: parent.py PARENTS_SOCKET CREDENTIAL PROGRAM ARGUMENT...     (the grant is the worker's descriptor 3)
"""
import json
import os
import socket
import subprocess
import sys

parents, credential, *program = sys.argv[1:]
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as broker:
    broker.connect(parents)
    broker.send(json.dumps({"ask": {"credential": credential}}).encode())
    answer, descriptors, _, _ = socket.recv_fds(broker, 4096, 1)
reply = json.loads(answer)
if "granted" not in reply:
    sys.exit(f"refused: {reply['refused']['code']}: {reply['refused']['detail']}")
[grant] = descriptors
# What the parent holds is noise: whoever reads it learns nothing.
print(json.dumps({"parent_saw": os.pread(grant, 4096, 0).hex()}), flush=True)
os.dup2(grant, 3, inheritable=True)
sys.exit(subprocess.run(program, pass_fds=[3]).returncode)
