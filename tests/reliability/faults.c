/* Counts what a process does to files below a directory, and lets the n-th such operation go wrong.
 *
 * Loaded by LD_PRELOAD, so it sees writes of Rust (safetensors) and C++ (Arrow) as well as those of Python. Counts are in memory
 * shared with forked processes, so that a parent reads how far a killed child came.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL_BEFORE, KILL_AFTER, KILL_HALFWAY, FAIL_ONCE, FAIL_FROM_THEN_ON, STOP };
enum { TAKES_SPACE = 1, OTHER = 2 };

static char place[4096];
static int armed, action, failure, kinds;
static long nth;
static long *counted;

void faults_share(void) {
    counted = mmap(NULL, sizeof *counted, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

void faults_arm(const char *directory, int what, long number, int error, int which) {
    snprintf(place, sizeof place, "%s", directory);
    action = what, nth = number, failure = error, kinds = which;
    *counted = 0;
    armed = 1;
}

long faults_counted(void) { return *counted; }

static int below(const char *path) { return strncmp(path, place, strlen(place)) == 0; }

static int path_concerns(int at, const char *path) {
    char whole[8192], link[64];
    if (!armed || !path) return 0;
    if (path[0] == '/') return below(path);
    if (at == AT_FDCWD) snprintf(link, sizeof link, "/proc/self/cwd");
    else snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t length = readlink(link, whole, 4096);
    if (length < 0) return 0;
    snprintf(whole + length, sizeof whole - length, "/%s", path);
    return below(whole);
}

static int file_concerns(int file) {
    char path[4096], link[64];
    if (!armed) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static __thread int is_last; /* the operation under way is the one after which the process ends */

/* 0: do it. 1: it fails, errno is set. 2: do half of it and die. */
static int verdict(int concerns, int kind) {
    is_last = 0;
    if (!concerns || !(kinds & kind)) return 0;
    long number = ++*counted;
    if (action == FAIL_FROM_THEN_ON && number >= nth) { errno = failure; return 1; }
    if (number != nth) return 0;
    if (action == KILL_BEFORE) die();
    if (action == STOP) kill(getpid(), SIGSTOP);
    if (action == KILL_AFTER) is_last = 1;
    if (action == KILL_HALFWAY) return 2;
    if (action == FAIL_ONCE) { errno = failure; return 1; }
    return 0;
}

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

#define DO(concerns, kind, failed, call, half) \
    int told = verdict(concerns, kind); \
    if (told == 1) return failed; \
    if (told == 2) { (void)!(half); die(); } \
    __typeof__(call) result = call; \
    int was = errno; \
    if (is_last) die(); \
    errno = was; \
    return result;

static int creates(int flags) { return (flags & (O_CREAT | O_TRUNC)) != 0; }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        DO(creates(flags) && path_concerns(AT_FDCWD, path), TAKES_SPACE, -1, REAL(name)(path, flags, mode), 0) \
    }
#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more); \
        DO(creates(flags) && path_concerns(at, path), TAKES_SPACE, -1, REAL(name)(at, path, flags, mode), 0) \
    }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)

FILE *fopen(const char *path, const char *mode) {
    DO(mode[0] != 'r' && path_concerns(AT_FDCWD, path), TAKES_SPACE, NULL, REAL(fopen)(path, mode), 0)
}
FILE *fopen64(const char *path, const char *mode) {
    DO(mode[0] != 'r' && path_concerns(AT_FDCWD, path), TAKES_SPACE, NULL, REAL(fopen64)(path, mode), 0)
}

ssize_t write(int file, const void *bytes, size_t count) {
    DO(file_concerns(file), TAKES_SPACE, -1, REAL(write)(file, bytes, count), REAL(write)(file, bytes, count / 2))
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    DO(file_concerns(file), TAKES_SPACE, -1, REAL(writev)(file, parts, count), REAL(writev)(file, parts, count / 2))
}
ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) {
    DO(file_concerns(file), TAKES_SPACE, -1, REAL(pwrite)(file, bytes, count, at), REAL(pwrite)(file, bytes, count / 2, at))
}
ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    DO(file_concerns(file), TAKES_SPACE, -1, REAL(pwrite64)(file, bytes, count, at), REAL(pwrite64)(file, bytes, count / 2, at))
}
size_t fwrite(const void *bytes, size_t size, size_t count, FILE *file) {
    DO(file_concerns(fileno(file)), TAKES_SPACE, 0, REAL(fwrite)(bytes, size, count, file), REAL(fwrite)(bytes, size, count / 2, file))
}
int ftruncate(int file, off_t length) { DO(file_concerns(file), TAKES_SPACE, -1, REAL(ftruncate)(file, length), 0) }
int ftruncate64(int file, off64_t length) { DO(file_concerns(file), TAKES_SPACE, -1, REAL(ftruncate64)(file, length), 0) }
int mkdir(const char *path, mode_t mode) {
    DO(path_concerns(AT_FDCWD, path), TAKES_SPACE, -1, REAL(mkdir)(path, mode), 0)
}
int mkdirat(int at, const char *path, mode_t mode) {
    DO(path_concerns(at, path), TAKES_SPACE, -1, REAL(mkdirat)(at, path, mode), 0)
}
int fsync(int file) { DO(file_concerns(file), OTHER, -1, REAL(fsync)(file), 0) }
int fdatasync(int file) { DO(file_concerns(file), OTHER, -1, REAL(fdatasync)(file), 0) }
int rename(const char *from, const char *to) {
    DO(path_concerns(AT_FDCWD, from) || path_concerns(AT_FDCWD, to), OTHER, -1, REAL(rename)(from, to), 0)
}
int renameat(int a, const char *from, int b, const char *to) {
    DO(path_concerns(a, from) || path_concerns(b, to), OTHER, -1, REAL(renameat)(a, from, b, to), 0)
}
int unlink(const char *path) { DO(path_concerns(AT_FDCWD, path), OTHER, -1, REAL(unlink)(path), 0) }
int unlinkat(int at, const char *path, int flags) { DO(path_concerns(at, path), OTHER, -1, REAL(unlinkat)(at, path, flags), 0) }
int rmdir(const char *path) { DO(path_concerns(AT_FDCWD, path), OTHER, -1, REAL(rmdir)(path), 0) }
int chmod(const char *path, mode_t mode) { DO(path_concerns(AT_FDCWD, path), OTHER, -1, REAL(chmod)(path, mode), 0) }
int fchmod(int file, mode_t mode) { DO(file_concerns(file), OTHER, -1, REAL(fchmod)(file, mode), 0) }
