"""An attacker: looks for a secret in another process, with whatever the kernel lets this user read of it.

    attacker.py PID <SECRET     prints one of:  nothing   ciphertext only   PLAINTEXT (where, ...)
"""
import ctypes
import os
import stat
import sys

MOST = 64 * 1024 * 1024  # bytes of one file or descriptor
PIECE = 1024 * 1024
SYS_PIDFD_GETFD = 438


class Look:
    def __init__(self, pid, secret):
        self.proc, self.pid, self.secret = f"/proc/{pid}", pid, secret
        self.found, self.read = set(), 0

    def at(self, where, pieces):
        """Searches pieces that follow each other; what cannot be read ends the search in this place."""
        tail = b""
        try:
            for piece in pieces:
                self.read += len(piece)
                if self.secret in tail + piece:
                    self.found.add(where)
                tail = piece[-len(self.secret):]
        except OSError:
            pass

    def everywhere(self):
        self.at("environ", pieces_of(f"{self.proc}/environ"))
        self.memory()
        self.descriptors()
        # Everybody may read the words of a process: finding nothing there is no reading.
        had = self.read
        self.at("argv", pieces_of(f"{self.proc}/cmdline"))
        self.read = had

    def memory(self):
        try:
            with open(f"{self.proc}/maps", encoding="utf-8", errors="replace") as file:
                lines = file.readlines()
            memory = os.open(f"{self.proc}/mem", os.O_RDONLY)
        except OSError:
            return
        for line in lines:
            limits, rights = line.split()[:2]
            first, end = (int(limit, 16) for limit in limits.split("-"))
            # Pages without rights too: root's view of memory does not ask for them.
            if first < 1 << 63 and rights[3] in "ps":
                self.at("memory", (os.pread(memory, min(PIECE, end - place), place) for place in range(first, end, PIECE)))
        os.close(memory)

    def descriptors(self):
        try:
            numbers = os.listdir(f"{self.proc}/fd")
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return
        for number in numbers:
            # Opened anew by its name, and taken as it is: what one way refuses the other may allow.
            self.at("descriptor", pieces_of(f"{self.proc}/fd/{number}"))
            taken = ctypes.CDLL(None, use_errno=True).syscall(SYS_PIDFD_GETFD, pidfd, int(number), 0)
            if taken >= 0:
                self.at("descriptor", pieces_of_descriptor(taken))
                os.close(taken)
        os.close(pidfd)


def pieces_of(path):
    """Of a file, also of one in /proc, or of a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            yield from pieces_of_descriptor(descriptor)
        left = MOST
        while left > 0 and stat.S_ISREG(os.fstat(descriptor).st_mode) and (piece := os.read(descriptor, PIECE)):
            left -= len(piece)
            yield piece
    finally:
        os.close(descriptor)


def pieces_of_descriptor(taken):
    """Of a file its bytes, from wherever its owner is in it; of a pipe a copy, which leaves it to its reader."""
    status = os.fstat(taken)
    if stat.S_ISREG(status.st_mode):
        for place in range(0, min(MOST, status.st_size), PIECE):
            yield os.pread(taken, PIECE, place)
    if stat.S_ISFIFO(status.st_mode):
        reader, writer = os.pipe()
        if ctypes.CDLL(None).tee(taken, writer, PIECE, os.O_NONBLOCK) > 0:
            yield os.read(reader, PIECE)
        os.close(reader)
        os.close(writer)


def main(pid):
    secret = sys.stdin.buffer.read().strip()
    look = Look(int(pid), secret)
    look.everywhere()
    if look.found:
        print(f"PLAINTEXT ({', '.join(sorted(look.found))})")
    else:
        print("ciphertext only" if look.read else "nothing")


if __name__ == "__main__":
    main(*sys.argv[1:])
