/* A wall clock that jumps and a slow disk: preloaded into the runs of tests/faults.py.

   FAULTS_STATE names a file of two 64-bit integers, which may change at any time: nanoseconds that
   are added to the wall clock, and microseconds that whatever changes a file waits first. The
   clocks that only run forward (CLOCK_MONOTONIC) stay as they are, as on a real machine. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t none[2], *state = none;

__attribute__((constructor)) static void look(void) {
  const char *name = getenv("FAULTS_STATE");
  int file = name ? open(name, O_RDONLY) : -1;
  if (file < 0) return;
  void *there = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);
  if (there != MAP_FAILED) state = there;
  close(file);
}

static void wait_first(int file) {
  int64_t wait = file == 1 || file == 2 ? 0 : state[1];
  struct timespec t = {wait / 1000000, wait % 1000000 * 1000};
  if (wait > 0) syscall(SYS_nanosleep, &t, NULL);
}

int clock_gettime(clockid_t which, struct timespec *t) {
  int failed = syscall(SYS_clock_gettime, which, t);
  if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
    int64_t now = t->tv_sec * 1000000000LL + t->tv_nsec + state[0];
    t->tv_sec = now / 1000000000, t->tv_nsec = now % 1000000000;
  }
  return failed;
}

int gettimeofday(struct timeval *restrict t, void *restrict zone) {
  struct timespec now;
  (void)zone;
  int failed = clock_gettime(CLOCK_REALTIME, &now);
  t->tv_sec = now.tv_sec, t->tv_usec = now.tv_nsec / 1000;
  return failed;
}

time_t time(time_t *t) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return t ? (*t = now.tv_sec) : now.tv_sec;
}

#define SLOW(type, name, file, given, ...)   \
  type name given {                          \
    wait_first(file);                        \
    return syscall(SYS_##name, __VA_ARGS__); \
  }

SLOW(ssize_t, write, f, (int f, const void *b, size_t n), f, b, n)
SLOW(ssize_t, pwrite64, f, (int f, const void *b, size_t n, off64_t at), f, b, n, at)
SLOW(ssize_t, writev, f, (int f, const struct iovec *v, int n), f, v, n)
SLOW(int, fsync, f, (int f), f)
SLOW(int, fdatasync, f, (int f), f)
SLOW(int, ftruncate, f, (int f, off_t n), f, n)
SLOW(int, renameat, 0, (int a, const char *from, int b, const char *to), a, from, b, to)
SLOW(int, unlinkat, 0, (int a, const char *path, int flags), a, path, flags)
SLOW(int, mkdirat, 0, (int a, const char *path, mode_t mode), a, path, mode)

ssize_t pwrite(int f, const void *b, size_t n, off_t at) { return pwrite64(f, b, n, at); }
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
