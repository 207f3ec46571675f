/* Shifts the wall clock of a process by AFFLUENT_CLOCK_SHIFT seconds, and no other clock. For LD_PRELOAD.
 *
 * Reading the time neither allocates nor resolves symbols: jemalloc reads it during its own setup.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static long shift(void) {
  static int known;
  static long seconds;
  if (!known) {
    const char *text = getenv("AFFLUENT_CLOCK_SHIFT");
    seconds = text ? atol(text) : 0;
    known = 1;
  }
  return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  int failed = (int)syscall(SYS_clock_gettime, clock, at);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
    at->tv_sec += shift();
  return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at)
    *at = now.tv_sec;
  return now.tv_sec;
}

int timespec_get(struct timespec *at, int base) {
  return clock_gettime(CLOCK_REALTIME, at) ? 0 : base;
}

/* Waits take absolute times, which librdkafka computes from the shifted clock. The kernel expects its own clock. */
static struct timespec unshift(const struct timespec *until) {
  struct timespec then = *until;
  then.tv_sec -= shift();
  return then;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
  static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
  struct timespec then = unshift(until);
  if (!real)
    *(void **)&real = dlsym(RTLD_NEXT, "cnd_timedwait");
  return real(condition, mutex, &then);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  /* In glibc, this bit marks a condition that uses the monotonic clock. */
  struct timespec then = condition->__data.__wrefs & 2 ? *until : unshift(until);
  if (!real) {
    void *found = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    *(void **)&real = found ? found : dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  }
  return real(condition, mutex, &then);
}
