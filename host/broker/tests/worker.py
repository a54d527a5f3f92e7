"""A worker for the tests of the broker, as a process of its own: it says what its arguments say, one JSON text each.

    worker.py SOCKET STEP ...

A step is a message, sent with the grant of descriptor 3 if it is a redemption and answered on standard output;
`wait`, which sleeps until killed; `exec`, which becomes another program and so closes the connection; `fork`, after
which the process that connected ends and its child goes on with the connection; `impostor`, after which the process
that connected is another program and its child goes on; `orphan`, after which that program has ended; or `hear`, which
prints what comes.
"""
import os
import socket
import sys
import time

broker = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
broker.connect(sys.argv[1])
for step in sys.argv[2:]:
    if step == "wait":
        time.sleep(1000)
    elif step == "exec":
        os.execvp("sleep", ["sleep", "1000"])
    elif step == "fork":
        connected = os.getpid()
        if os.fork():
            os._exit(0)
        while os.getppid() == connected:
            time.sleep(0.01)
    elif step == "impostor":
        connected = os.getpid()
        if os.fork():
            os.execvp("sleep", ["sleep", "1000"])
        while not open(f"/proc/{connected}/cmdline").read().startswith("sleep\0"):
            time.sleep(0.01)
    elif step == "orphan":
        while os.getppid() == connected:
            time.sleep(0.01)
    else:
        if step != "hear":
            message = step.encode()
            socket.send_fds(broker, [message], [3] if step.startswith('{"redeem"') else [])
        packet, descriptors, _flags, _address = socket.recv_fds(broker, 4096, 4)
        print(len(descriptors), packet.decode(), flush=True)
