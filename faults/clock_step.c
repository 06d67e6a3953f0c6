/* Steps the wall clock of one process, as a step of the machine's clock would: preloaded, it adds an
 * offset, which another process may change at any time, to CLOCK_REALTIME. The file named by
 * CLOCK_STEP_FILE holds the offset: one signed 64-bit number of nanoseconds. Other clocks are left
 * alone. A wait until a wall time ends when that time has come by the stepped clock, as in the
 * kernel: it is made in slices, after each of which the clock is read again. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL
#define SLICE (SECOND / 20)

static volatile int64_t *offset;
static int (*true_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void begin(void) {
    true_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *name = getenv("CLOCK_STEP_FILE");
    int file = name ? open(name, O_RDONLY) : -1;
    if (file < 0) return;
    void *place = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (place != MAP_FAILED) offset = place;
}

static void add(struct timespec *time, int64_t more) {
    int64_t all = time->tv_sec * SECOND + time->tv_nsec + more;
    if (all < 0) all = 0;
    time->tv_sec = all / SECOND;
    time->tv_nsec = all % SECOND;
}

static int64_t now_offset(void) { return offset ? *offset : 0; }

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!true_gettime) true_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int code = true_gettime(clock, time);
    if (code == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        add(time, now_offset());
    return code;
}

int gettimeofday(struct timeval *restrict value, void *restrict zone) {
    (void)zone;
    struct timespec time;
    if (clock_gettime(CLOCK_REALTIME, &time)) return -1;
    value->tv_sec = time.tv_sec;
    value->tv_usec = time.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

static int64_t number_of(const struct timespec *time) {
    return time->tv_sec * SECOND + time->tv_nsec;
}

static int64_t read_clock(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return number_of(&time);
}

/* The true wall time until which the next slice lasts. */
static void slice(const struct timespec *until, struct timespec *true_until) {
    int64_t rest = number_of(until) - read_clock(CLOCK_REALTIME);
    if (rest < 0) rest = 0;
    true_gettime(CLOCK_REALTIME, true_until);
    add(true_until, rest < SLICE ? rest : SLICE);
}

static int is_over(const struct timespec *until) {
    return read_clock(CLOCK_REALTIME) >= number_of(until);
}

/* A condition may wake without a reason: those who wait look again. */
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *until) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!next) next = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!next) next = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    /* Which clock it goes by is an attribute of the condition; their times are far apart. */
    int64_t wanted = number_of(until);
    int64_t from_wall = llabs(wanted - read_clock(CLOCK_REALTIME));
    int64_t from_steady = llabs(wanted - read_clock(CLOCK_MONOTONIC));
    if (!offset || from_steady < from_wall) return next(cond, mutex, until);
    struct timespec true_until;
    slice(until, &true_until);
    int code = next(cond, mutex, &true_until);
    return code == ETIMEDOUT && !is_over(until) ? 0 : code;
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    if (!offset || clock != CLOCK_REALTIME) return next(cond, mutex, clock, until);
    struct timespec true_until;
    slice(until, &true_until);
    int code = next(cond, mutex, clock, &true_until);
    return code == ETIMEDOUT && !is_over(until) ? 0 : code;
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*next)(sem_t *, const struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "sem_timedwait");
    if (!offset) return next(semaphore, until);
    for (;;) {
        struct timespec true_until;
        slice(until, &true_until);
        int code = next(semaphore, &true_until);
        if (code == 0 || errno != ETIMEDOUT || is_over(until)) return code;
    }
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex,
                            const struct timespec *restrict until) {
    static int (*next)(pthread_mutex_t *, const struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
    if (!offset) return next(mutex, until);
    for (;;) {
        struct timespec true_until;
        slice(until, &true_until);
        int code = next(mutex, &true_until);
        if (code != ETIMEDOUT || is_over(until)) return code;
    }
}
