"""What a program may try against whoever started it and against its user, each as one move.

    escapes.py scene HOME RUNTIME [--] WAY...   tries every move, started in that way, against a parent that holds secrets:
                                                one line of JSON each, {"move": ..., "said": "got" or "refused: ..."}
    escapes.py move NAME ARGUMENTS...           tries one
"""

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading

SECRET = b"a-secret-of-the-parent-5c1f9e"
LIBC = ctypes.CDLL(None, use_errno=True)
# x86-64.
PTRACE, PROCESS_VM_READV, PIDFD_OPEN, PIDFD_GETFD = 101, 310, 434, 438
ADD_KEY, KEYCTL, PERF, IO_URING_SETUP, UMOUNT2, UNSHARE, USERFAULTFD, BPF = 248, 250, 298, 425, 166, 272, 323, 321


def call(number, *arguments):
    # Whole registers: what ctypes takes for an int leaves half of one undefined.
    whole = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = LIBC.syscall(ctypes.c_long(number), *whole)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def contains(data):
    if SECRET not in data:
        raise ValueError("read, and the secret was not there")


def file(path):
    with open(path, "rb") as source:
        contains(source.read())


def environ(scene):
    file(f"/proc/{scene['pid']}/environ")


def memory(scene):
    with open(f"/proc/{scene['pid']}/mem", "rb", 0) as source:
        source.seek(scene["address"])
        contains(source.read(len(SECRET)))


def vm_readv(scene):
    buffer = ctypes.create_string_buffer(len(SECRET))
    ours = struct.pack("QQ", ctypes.addressof(buffer), len(SECRET))
    theirs = struct.pack("QQ", scene["address"], len(SECRET))
    call(PROCESS_VM_READV, scene["pid"], ours, 1, theirs, 1, 0)
    contains(buffer.raw)


def ptrace(scene):
    seize = 0x4206
    call(PTRACE, seize, scene["pid"], 0, 0)


def descriptor(scene):
    file(f"/proc/{scene['pid']}/fd/{scene['memfd']}")


def getfd(scene):
    pidfd = call(PIDFD_OPEN, scene["pid"], 0)
    contains(os.pread(call(PIDFD_GETFD, pidfd, scene["memfd"], 0), 100, 0))


def send_signal(scene):
    os.kill(scene["pid"], 0)


def ssh_key(scene):
    file(f"{scene['home']}/.ssh/id_ed25519")


def aws(scene):
    file(f"{scene['home']}/.aws/credentials")


def env_file(scene):
    file(f"{scene['home']}/project/.env")


def env_file_by_mount(scene):
    call(UMOUNT2, f"{scene['home']}/project/.env".encode(), 2)


def start_file(scene):
    with open(f"{scene['home']}/.bashrc", "ab") as target:
        target.write(b"# was here\n")
    os.stat(f"{scene['home']}/.ssh/id_ed25519")


def ssh_agent(scene):
    with connected(f"{scene['runtime']}/agent") as agent:
        # SSH_AGENTC_REQUEST_IDENTITIES, answered by SSH_AGENT_IDENTITIES_ANSWER.
        agent.sendall(b"\0\0\0\1\x0b")
        if agent.recv(5)[4:] != b"\x0c":
            raise ValueError("no agent answered")


def session_bus(scene):
    greeted(f"{scene['runtime']}/bus")


def docker(scene):
    greeted(f"{scene['runtime']}/docker.sock")


def abstract(scene):
    greeted("\0" + scene["abstract"])


def socket_in_project(scene):
    greeted(f"{scene['home']}/project/service")


def connected(path):
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(path)
    return connection


def greeted(path):
    with connected(path) as connection:
        contains(connection.recv(100))


def keyring(scene):
    key = call(KEYCTL, 10, -4, b"user", b"blindferry-escapes", 0)  # KEYCTL_SEARCH in @u
    buffer = ctypes.create_string_buffer(100)
    call(KEYCTL, 11, key, buffer, 100)  # KEYCTL_READ
    contains(buffer.raw)


def io_uring(_):
    call(IO_URING_SETUP, 1, ctypes.create_string_buffer(120))


def user_namespace(_):
    call(UNSHARE, 0x10000000)


def perf(_):
    attributes = ctypes.create_string_buffer(128)
    struct.pack_into("IIQ", attributes, 0, 1, 128, 1)  # a software clock of one's own
    struct.pack_into("Q", attributes, 40, 0b1100001)  # disabled, without kernel and hypervisor
    call(PERF, attributes, 0, -1, -1, 0)


def userfaultfd(_):
    call(USERFAULTFD, 1)


def typing(_):
    with open("/dev/tty", "rb") as terminal:
        for letter in b"# typed by another\n":
            fcntl.ioctl(terminal, termios.TIOCSTI, bytes([letter]))


MOVES = {
    "reads the environment of its parent": environ,
    "reads the memory of its parent by /proc": memory,
    "reads the memory of its parent by process_vm_readv": vm_readv,
    "attaches to its parent as a debugger": ptrace,
    "opens a descriptor of its parent by /proc": descriptor,
    "takes a descriptor of its parent by pidfd_getfd": getfd,
    "signals its parent": send_signal,
    "reads ~/.ssh": ssh_key,
    "reads ~/.aws": aws,
    "reads .env in its working directory": env_file,
    "takes the cover off .env": env_file_by_mount,
    "changes ~/.bashrc": start_file,
    "uses the ssh-agent": ssh_agent,
    "speaks to the session bus": session_bus,
    "speaks to docker.sock": docker,
    "speaks to an abstract socket": abstract,
    "speaks to a socket in its working directory": socket_in_project,
    "reads the user's keyring": keyring,
    "opens an io_uring": io_uring,
    "makes a user namespace": user_namespace,
    "measures by perf_event_open": perf,
    "stops the kernel by userfaultfd": userfaultfd,
}
MORE = {"types into the terminal": typing}


def listen(address):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(8)

    def greet():
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(SECRET)

    threading.Thread(target=greet, daemon=True).start()


def play(home, runtime, way):
    """Is the parent, and starts each move as its child."""
    buffer = ctypes.create_string_buffer(SECRET)
    memfd = os.memfd_create("held")
    os.write(memfd, SECRET)
    name = f"blindferry-escapes-{os.getpid()}"
    for path in [f"{runtime}/bus", f"{runtime}/docker.sock", f"{home}/project/service", "\0" + name]:
        listen(path)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", f"{runtime}/agent"], stdout=subprocess.DEVNULL)
    try:
        call(ADD_KEY, b"user", b"blindferry-escapes", SECRET, len(SECRET), -4)
    except OSError:
        pass  # the control will say so
    while not os.path.exists(f"{runtime}/agent"):
        os.sched_yield()
    scene = {
        "pid": os.getpid(),
        "address": ctypes.addressof(buffer),
        "memfd": memfd,
        "home": home,
        "runtime": runtime,
        "abstract": name,
    }
    os.chdir(f"{home}/project")
    try:
        for move in MOVES:
            command = way + [sys.executable, os.path.abspath(__file__), "move", move, json.dumps(scene)]
            ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
            lines = ran.stdout.decode().splitlines()
            said = lines[-1] if lines else f"nothing: {ran.stderr.decode()}"
            print(json.dumps({"move": move, "said": said}), flush=True)
    finally:
        agent.send_signal(signal.SIGTERM)
        agent.wait()


def main():
    if sys.argv[1] == "scene":
        play(sys.argv[2], sys.argv[3], [word for word in sys.argv[4:] if word != "--scene"])
        return
    scene = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    try:
        (MOVES | MORE)[sys.argv[2]](scene)
        print("got")
    except Exception as error:  # whatever it is, it did not get there
        print(f"refused: {error}")


main()
