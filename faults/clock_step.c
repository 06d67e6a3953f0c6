/* Steps the wall clock of one process, as a step of the machine's clock would: preloaded, it adds an
 * offset, which another process may change at any time, to CLOCK_REALTIME. The file named by
 * CLOCK_STEP_FILE holds the offset: one signed 64-bit number of nanoseconds. Other clocks are left
 * alone. Waits until a wall time are made waits until the true one, as the kernel does them. */
#define _GNU_SOURCE
#include <dlfcn.h>
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

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until) {
    static int (*next)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
    struct timespec true_until = *until;
    if (clock == CLOCK_REALTIME) add(&true_until, -now_offset());
    return next(cond, mutex, clock, &true_until);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*next)(sem_t *, const struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "sem_timedwait");
    struct timespec true_until = *until;
    add(&true_until, -now_offset());
    return next(semaphore, &true_until);
}
