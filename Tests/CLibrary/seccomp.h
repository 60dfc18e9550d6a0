/* The system calls of libsmudge, in one place, for a VMM that runs under seccomp. seccomp.c allows
 * these and no others but its own.
 *
 * Containers of the kernel (type1, iommufd) need ioctl besides; a device descriptor with a log of
 * its own needs no more than that. What the loader does before main is not among them. */
#ifndef SMUDGE_TESTS_SECCOMP_H
#define SMUDGE_TESTS_SECCOMP_H

#include <sys/syscall.h>

static const int system_calls[] = {
    /* Memory: of bitmaps and tables, and of malloc. */
    SYS_mmap, SYS_munmap, SYS_mremap, SYS_brk, SYS_madvise, SYS_mprotect,
    /* NUMA: whether there is any, and on which node the bits of a region are placed. */
    SYS_get_mempolicy, SYS_mbind,
    /* Locks between threads; a pause of a sync for whoever waits for the container. */
    SYS_futex, SYS_gettid, SYS_sched_yield,
    /* The clock, where the kernel's vDSO does not answer by itself. */
    SYS_clock_gettime,
    /* A shared log. */
    SYS_memfd_create, SYS_ftruncate, SYS_fcntl, SYS_close,
    /* A trace: to the descriptor it was given. */
    SYS_write,
};

#endif
