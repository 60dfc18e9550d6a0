/*
 * smudge.h - which guest pages did devices write, for virtual machines with a virtual IOMMU.
 *
 * A VMM tells the library of its RAM, and of every mapping a guest makes and takes away behind its
 * virtual IOMMU. The library keeps the IOVA -> guest page table of each container, asks for dirty
 * bitmaps by IOVA, and keeps one log of dirty guest pages, which a migration reads.
 *
 * C99; compiles as C++17; no macros that bindgen would miss. Docs/EMBEDDING.md has the first forty
 * lines, and which function of QEMU or trait of cloud-hypervisor makes which call.
 *
 * "GPA" IS YOUR INDEX. The library gives back the addresses it was given and never looks at them
 * otherwise. A guest-physical address serves, and so does any other number for a byte of guest RAM:
 * QEMU's dirty bitmap is indexed by ram_addr_t, which differs from the guest-physical address above
 * 4 GiB, so inside QEMU hand over ram_addr_t everywhere.
 *
 * RULES FOR EVERY FUNCTION
 *
 * Results. 0 or a positive number is success. A negative number is one of smudge_error, and
 * smudge_last_error() has a sentence that names object and range and says what state is left. What
 * a failed call could have lost is marked dirty before it returns. A mistake of the caller (a null
 * pointer, a size that is not whole pages, a handle that was destroyed) gets SMUDGE_EINVAL or
 * SMUDGE_EBADF, and nothing has changed; a build for debugging traps on a destroyed handle.
 *
 * Threads. Any function may be called from any thread, at the same time as any other, but for
 * "create" and "destroy", which belong to one thread each. The library starts no thread, installs
 * no signal handler, and keeps no lock when it calls back, but for a container's own while it calls
 * that container's query, log_start or log_stop.
 *
 * Blocking. smudge_map and smudge_unmap wait for one call to the backend of their own container at
 * most, never for a sync or for another container. Functions marked [long] may call backends many
 * times; maps and unmaps go in between. All others take microseconds. A VMM that holds a lock of
 * its own across a [long] call, as QEMU holds its big lock across log_sync_global, still stalls
 * whoever wants that lock: let a thread without it call smudge_log_sync just before, which leaves
 * little to do.
 *
 * Callbacks may call the library again, but for a query, log_start and log_stop: from these, a
 * function that would wait for a container gets SMUDGE_EDEADLK. Those that only mark pages
 * (smudge_vcpu_wrote, smudge_vcpu_bitmap, smudge_device_wrote) may be called. Do not throw, unwind
 * or longjmp through the library.
 *
 * Fork. A child without exec must not use handles of its parent. dlclose keeps the library loaded.
 *
 * Memory passed in is read or written during the call and never kept, but for the host address of
 * RAM (see smudge_ram) and what a callback is given (opaque). Structs begin with their size: set it
 * to sizeof the struct and clear the rest. A struct larger than the library's is taken when what it
 * does not know is zero, and is SMUDGE_E2BIG otherwise; a smaller one gets defaults for the rest.
 * Of a handle that ended less than a KiB is kept, so that a call on it gets its code.
 *
 * Seccomp. Load the library before the filter; Tests/CLibrary/seccomp.h has the system calls it
 * needs from then on.
 *
 * Ranges are given by first address and size in bytes. Bitmaps are words of 64 bits, little-endian,
 * one bit a page, bit 0 of word 0 the first page, as KVM and VFIO lay them out.
 */
#ifndef SMUDGE_H
#define SMUDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SMUDGE_API __attribute__((visibility("default")))
#else
#define SMUDGE_API
#endif

/* ---- errors, versions, features -------------------------------------------------------------- */

/* What a function may return, beside 0: the negative of Linux' error numbers. Errors of a backend
 * are handed on as they are, so other numbers may come from it. */
enum {
  SMUDGE_EPERM = -1,      /* the container is of another kind: not behind a vIOMMU, not the VMM's */
  SMUDGE_ENOENT = -2,     /* there is no such container, region, mapping */
  SMUDGE_EIO = -5,        /* the world changed in part, and pages are marked for it: read the
                             sentence */
  SMUDGE_E2BIG = -7,      /* larger than a limit; of a struct: it says something unknown */
  SMUDGE_EBADF = -9,      /* the handle was destroyed or removed */
  SMUDGE_ENOMEM = -12,    /* no memory; nothing changed */
  SMUDGE_EFAULT = -14,    /* RAM behind the mapping is not one piece of this process */
  SMUDGE_EBUSY = -16,     /* calls are under way; nothing changed */
  SMUDGE_EEXIST = -17,    /* it overlaps something, or the name is taken; nothing changed */
  SMUDGE_EINVAL = -22,    /* an argument makes no sense; nothing changed */
  SMUDGE_ENOSPC = -28,    /* a limit is reached; nothing changed */
  SMUDGE_EDEADLK = -35,   /* called from a callback that holds the container; nothing changed */
  SMUDGE_ENOTUNIQ = -76,  /* nobody knows on which side the guest runs: smudge_migration_resolve */
  SMUDGE_EOVERFLOW = -75, /* the range runs past 2^64-1; nothing changed */
  SMUDGE_ENOTSUP = -95,   /* this library or backend cannot do it; nothing changed */
  SMUDGE_ECANCELED = -125 /* the migration was cancelled; the guest runs on here */
};

/* The version of the library that runs: major << 16 | minor << 8 | patch. */
SMUDGE_API uint32_t smudge_version(void);

/* Whether the library has a feature: 1 or 0. Known are "vmm", "query", "type1", "iommufd",
 * "shared-log", "record", "migration". Names it does not know are 0. */
SMUDGE_API int smudge_has_feature(const char *name);

/* The sentence of the last call in this thread that failed; "" when none has. Valid until the next
 * call in this thread. May be called from everywhere. */
SMUDGE_API const char *smudge_last_error(void);

/* ---- the tracker ----------------------------------------------------------------------------- */

/* One virtual machine: its RAM, its containers, its log. */
typedef struct smudge_tracker smudge_tracker;
/* One I/O address space with its devices. */
typedef struct smudge_container smudge_container;
/* Who reads the log: what one reader takes stays dirty for the others. */
typedef struct smudge_reader smudge_reader;
/* The log in memory that another process reads. */
typedef struct smudge_shared_log smudge_shared_log;

enum {
  /* Pinned pages, dirty in every round because nothing better is known, are held back and reported
   * by the final sync. The default. */
  SMUDGE_PINNED_AT_THE_END = 0,
  /* They are reported by every sync. */
  SMUDGE_PINNED_EVERY_ROUND = 1
};

enum {
  /* Where asking for dirt and unmapping are two calls, all that was mapped writable is dirty. The
   * default. */
  SMUDGE_UNMAP_MARKS = 0,
  /* The guest is trusted to keep its devices from what it unmaps. */
  SMUDGE_UNMAP_TRUSTS_GUEST = 1
};

typedef struct smudge_tracker_params {
  uint32_t size;
  /* SMUDGE_PINNED_... */
  uint32_t pinned_pages;
  /* SMUDGE_UNMAP_... */
  uint32_t two_step_unmap;
  uint32_t reserved;
  /* Bytes of one page of the log, a power of two from 4096 on; 0 is 4096. */
  uint64_t page_size;
  /* Memory for the record of what happened, from which the tracker's state can be computed again
   * and a lost page found; 0: no record. */
  uint64_t record_byte_count;
} smudge_tracker_params;

/* Makes a tracker without RAM and containers. params may be NULL: defaults, no record.
 * SMUDGE_EINVAL, SMUDGE_E2BIG, SMUDGE_ENOMEM. */
SMUDGE_API int smudge_tracker_create(const smudge_tracker_params *params, smudge_tracker **out);

/* Lets the tracker go, with its containers, readers and shared logs; their handles end with it.
 * What a container that the library commands has mapped stays mapped: remove containers first. No
 * backend is called, so logs that run go on running: call smudge_log_stop before.
 * SMUDGE_EBUSY while another call on it is under way, and from a callback of it. */
SMUDGE_API int smudge_tracker_destroy(smudge_tracker *tracker);

/* Why this guest cannot be migrated, one sentence a line, into text, cut to its size and always
 * ended by 0. Returns how many there are. text may be NULL when text_size is 0. */
SMUDGE_API int smudge_blockers(smudge_tracker *tracker, char *text, size_t text_size);

/* ---- RAM: the memory listener ---------------------------------------------------------------- */

enum {
  /* The guest and its devices may only read it. */
  SMUDGE_RAM_READ_ONLY = 1
};

/* A stretch of guest RAM. */
typedef struct smudge_ram {
  uint32_t size;
  /* SMUDGE_RAM_... */
  uint32_t flags;
  /* Your index of its first byte, and its bytes: whole pages. */
  uint64_t gpa;
  uint64_t byte_count;
  /* Where this process sees it. The library does not read it; it is handed to the kernel for
   * containers that the library maps. NULL when no container needs it. */
  void *host;
  /* Unique among the regions; copied. */
  const char *name;
  /* The NUMA node its bits are placed on, plus one; 0: it does not matter. */
  uint32_t node_plus_one;
  uint32_t reserved;
} smudge_ram;

/* Opens a transaction: regions added and removed change when it is committed. SMUDGE_EBUSY when one
 * is open. */
SMUDGE_API int smudge_begin(smudge_tracker *tracker);

/* [long] Removes, then adds, what the transaction was told; all of it, and returns the first
 * failure. SMUDGE_EINVAL when none is open. */
SMUDGE_API int smudge_commit(smudge_tracker *tracker);

/* [long] RAM has come, at once or with the commit. While there are readers all of it is dirty.
 * SMUDGE_EINVAL, SMUDGE_EEXIST, SMUDGE_ENOSPC, SMUDGE_ENOMEM: not added. SMUDGE_EFAULT: it is in
 * the log, and a container that maps RAM by itself did not map all of it. */
SMUDGE_API int smudge_region_add(smudge_tracker *tracker, const smudge_ram *ram);

/* [long] The region goes, the whole of it. SMUDGE_ENOENT, SMUDGE_EINVAL (a part): nothing changed.
 * Errors of a backend: it stays. */
SMUDGE_API int smudge_region_remove(smudge_tracker *tracker, uint64_t gpa, uint64_t byte_count);

/* [long] The guest has given back pages (a balloon, virtio-mem), or taken them again. Containers
 * that map RAM by themselves unmap and map them. */
SMUDGE_API int smudge_ram_discard(smudge_tracker *tracker, uint64_t gpa, uint64_t byte_count);
SMUDGE_API int smudge_ram_populate(smudge_tracker *tracker, uint64_t gpa, uint64_t byte_count);

/* ---- containers ------------------------------------------------------------------------------ */

/* Sets the bits of pages that devices wrote in iova .. iova + byte_count - 1 since they were last
 * asked for, and clears them where it took them from. words are clear when it is called; bit 0 is
 * the page at iova, pages have page_size bytes.
 *
 * Returns 0, or a negative error number: then all that is mapped writable in the range is marked.
 * Called with the container's lock held, by one thread at a time. */
typedef int (*smudge_query)(uint64_t iova, uint64_t byte_count, uint64_t page_size, uint64_t *words,
                            void *opaque);

/* Dirty logging of the container begins from clean, or ends. 0, or a negative error number: then
 * all that is mapped writable counts as written. Called as smudge_query is. */
typedef int (*smudge_log_switch)(void *opaque);

enum {
  /* No vIOMMU translates: IOVA = GPA, and all RAM counts as mapped. Otherwise the guest maps. */
  SMUDGE_CONTAINER_IDENTITY = 1
};

enum {
  /* A query may hold addresses that are not mapped. */
  SMUDGE_QUERY_CROSSES_HOLES = 1,
  /* A query may begin and end inside a mapping. */
  SMUDGE_QUERY_CUTS_MAPPINGS = 2,
  /* Its bits are pages that are pinned, or mapped: any of them may have been written, and they are
   * dirty in every round. */
  SMUDGE_QUERY_ANSWERS_PINNED = 4
};

/* A container that the VMM maps and unmaps itself. */
typedef struct smudge_container_params {
  uint32_t size;
  /* SMUDGE_CONTAINER_... */
  uint32_t flags;
  /* Unique among the containers; copied. */
  const char *name;
  /* How the dirt of its devices is asked for; NULL: by nobody, see smudge_unmap. */
  smudge_query query;
  /* Called around logging; either may be NULL. */
  smudge_log_switch log_start;
  smudge_log_switch log_stop;
  /* Given to the callbacks. */
  void *opaque;
  /* SMUDGE_QUERY_... */
  uint32_t query_flags;
  uint32_t reserved;
  /* Bytes of the largest bitmap of a query; 0 is 256 MiB, type1's. */
  uint64_t query_byte_count_max;
  /* Mappings it may have; 0 is 16 Mi. */
  uint64_t mapping_count_max;
} smudge_container_params;

/* [long] Takes up a container that the VMM drives. SMUDGE_EEXIST, SMUDGE_ENOSPC, SMUDGE_ENOMEM,
 * SMUDGE_EINVAL: none was added. */
SMUDGE_API int smudge_container_add(smudge_tracker *tracker, const smudge_container_params *params,
                                    smudge_container **out);

/* A device of a container that the library commands. */
typedef struct smudge_device {
  uint32_t size;
  /* 1: a mediated device; only such a one pins pages by itself (type1). */
  uint32_t is_mediated;
  /* The device's VFIO descriptor: its own dirty log is used where it has one. Borrowed: keep it
   * open until the container is removed. -1: it is not asked. */
  int32_t fd;
  uint32_t reserved;
  const char *name;
} smudge_device;

typedef struct smudge_kernel_params {
  uint32_t size;
  /* SMUDGE_CONTAINER_... */
  uint32_t flags;
  const char *name;
  /* type1: the container's descriptor, its groups attached and its IOMMU set. iommufd: that of
   * /dev/iommu. Borrowed: keep it open until the container is removed. */
  int32_t fd;
  /* iommufd: the VMM's IOAS, plus one; 0: the library makes one. */
  uint32_t ioas_plus_one;
  const smudge_device *devices;
  uint32_t device_count;
  uint32_t reserved;
} smudge_kernel_params;

/* [long] Takes up a container that the library maps, unmaps and asks itself, by the kernel.
 * smudge_map and smudge_unmap make its calls. Errors of the kernel: none was added. */
SMUDGE_API int smudge_container_add_type1(smudge_tracker *tracker,
                                          const smudge_kernel_params *params,
                                          smudge_container **out);
SMUDGE_API int smudge_container_add_iommufd(smudge_tracker *tracker,
                                            const smudge_kernel_params *params,
                                            smudge_container **out);

/* [long] Unmaps everything, with its dirt, and lets the container go; the handle ends. Errors of a
 * backend that refuses to unmap: it stays, and so does the handle. */
SMUDGE_API int smudge_container_remove(smudge_container *container);

/* [long] A device came or went. While logging runs all that is mapped writable is marked. */
SMUDGE_API int smudge_container_devices_changed(smudge_container *container);

/* [long] The guest put the container's devices behind its vIOMMU (0), or took them out
 * (SMUDGE_CONTAINER_IDENTITY). Everything is unmapped, with its dirt. After an error the address
 * space is what it was. */
SMUDGE_API int smudge_container_set_address_space(smudge_container *container, uint32_t flags);

/* ---- mappings -------------------------------------------------------------------------------- */

enum {
  /* A device may read, may write. One at least. */
  SMUDGE_MAP_READ = 1,
  SMUDGE_MAP_WRITE = 2,
  /* The VMM tells before it maps. Otherwise it may have mapped already, and a device may have
   * written: what is told while logging runs is dirty by being told. Where the VMM's map then fails
   * it unmaps the range with a bitmap of zeros. */
  SMUDGE_MAP_AHEAD = 4
};

/* iova .. iova + size - 1 is mapped to gpa and after. What was mapped there otherwise goes first,
 * with its dirt; what is mapped so already stays.
 *
 * SMUDGE_EINVAL, SMUDGE_EOVERFLOW, SMUDGE_E2BIG, SMUDGE_EPERM, SMUDGE_EBADF: nothing changed.
 * SMUDGE_ENOSPC: the table is full; for a container of the VMM every page is dirty from here on,
 * since nobody knows what its devices write. Errors of a backend: see smudge_last_error. */
SMUDGE_API int smudge_map(smudge_container *container, uint64_t iova, uint64_t gpa, uint64_t size,
                          uint32_t flags);

/* iova .. iova + size - 1 is unmapped: what was mapped, more, less, or nothing; size 0 with iova 0
 * is everything. Its dirt is in the log when this returns.
 *
 * dirty: the bitmap that the VMM's own unmap returned, one bit for each page of the tracker's page
 * size, from iova on; the VMM has unmapped. NULL: the container's query is asked for the range, and
 * what it reports is credited before the mappings go, under one hold of the container. Call it when
 * no device can write there any more and the backend still answers: after the unmap for a device
 * that logs by IOVA, else before it, as far as the guest is trusted to keep its devices away. With
 * neither bitmap nor query all that was mapped writable is dirty.
 *
 * SMUDGE_EINVAL, SMUDGE_EOVERFLOW, SMUDGE_EBADF, SMUDGE_ENOMEM: nothing changed. SMUDGE_EPERM: a
 * bitmap for a container that the library unmaps. SMUDGE_ENOSPC: a hole would leave two parts, for
 * which the table is full; it is what it was, and for a container of the VMM every page is dirty
 * from here on. Errors of a backend: what it still has is still in the table, and dirty. */
SMUDGE_API int smudge_unmap(smudge_container *container, uint64_t iova, uint64_t size,
                            const uint64_t *dirty);

typedef struct smudge_mapping {
  uint32_t size;
  /* SMUDGE_MAP_READ, SMUDGE_MAP_WRITE. */
  uint32_t flags;
  uint64_t iova;
  uint64_t gpa;
  uint64_t byte_count;
} smudge_mapping;

/* The mapping that holds iova. SMUDGE_ENOENT when none does. */
SMUDGE_API int smudge_lookup(smudge_container *container, uint64_t iova, smudge_mapping *out);

typedef struct smudge_container_info {
  uint32_t size;
  uint32_t is_logging;
  uint64_t mapping_count;
  /* Pages of 4 KiB. */
  uint64_t mapped_page_count;
  uint64_t writable_page_count;
} smudge_container_info;

SMUDGE_API int smudge_container_get_info(smudge_container *container, smudge_container_info *out);

/* ---- writes that are told -------------------------------------------------------------------- */

/* A device that does its DMA in user space wrote there. Credited through the mapping, and where
 * nothing is mapped any more through the last one that was. */
SMUDGE_API int smudge_device_wrote(smudge_container *container, uint64_t iova, uint64_t size);

/* A vCPU wrote, or the VMM for it. Every page the range touches is marked. */
SMUDGE_API int smudge_vcpu_wrote(smudge_tracker *tracker, uint64_t gpa, uint64_t size);

/* The same for the set bits of page_count bits of words, the first of which is the page at gpa:
 * what KVM_GET_DIRTY_LOG gives for a slot. Pages of the tracker's page size. */
SMUDGE_API int smudge_vcpu_bitmap(smudge_tracker *tracker, uint64_t gpa, const uint64_t *words,
                                  uint64_t page_count);

/* ---- the log --------------------------------------------------------------------------------- */

enum {
  /* vCPUs and devices have stopped, and this is the last sync: pages held back are reported. */
  SMUDGE_SYNC_FINAL = 1
};

/* What a start, sync or stop did. */
typedef struct smudge_report {
  uint32_t size;
  /* Sentences on what was not exact, and what was marked for it. */
  uint32_t note_count;
  /* Calls to backends. */
  uint64_t backend_call_count;
  /* Bits that reached the log, and those of them that were clean before. */
  uint64_t dirty_page_count;
  uint64_t newly_dirty_page_count;
  /* Pages that wait for the final sync. */
  uint64_t held_back_page_count;
  /* Bits at IOVA where nothing is mapped: a VMM that tells late. */
  uint64_t unknown_page_count;
  /* The caller's memory for the sentences, one a line, cut to its size and ended by 0; may be
   * NULL. */
  char *notes;
  uint64_t notes_size;
} smudge_report;

/* [long] Logging starts, for every container. A container that cannot log counts all it maps
 * writable as written, and a note says so: this is no error. report may be NULL. */
SMUDGE_API int smudge_log_start(smudge_tracker *tracker, smudge_report *report);

/* [long] Brings what devices wrote into the log. A query that fails marks what it was asked for,
 * and a note says so: this is no error. */
SMUDGE_API int smudge_log_sync(smudge_tracker *tracker, uint32_t flags, smudge_report *report);

/* [long] Logging stops. For readers that stay, all that is mapped writable is dirty. */
SMUDGE_API int smudge_log_stop(smudge_tracker *tracker, smudge_report *report);

enum {
  /* Everything is dirty for it: the first pass of a migration. */
  SMUDGE_READER_STARTS_DIRTY = 1
};

/* A reader with a cursor of its own. SMUDGE_ENOSPC, SMUDGE_ENOMEM: none was added. */
SMUDGE_API int smudge_reader_add(smudge_tracker *tracker, const char *name, uint32_t flags,
                                 smudge_reader **out);

/* What it has not taken is forgotten; the handle ends. */
SMUDGE_API int smudge_reader_remove(smudge_reader *reader);

SMUDGE_API int smudge_reader_dirty_page_count(smudge_reader *reader, uint64_t *page_count);

/*
 * Harvests: dirty pages are taken out of the log, lowest first, and are in flight until they are
 * delivered or put back. harvest, where it is not NULL, gets the number to say so by; 0 when
 * nothing was dirty. Where it is NULL they count as delivered. Past 4096 harvests in flight the
 * oldest is put back.
 *
 * Each returns 1 when dirty pages are left for the reader, 0 when none are.
 */

/* A run of dirty pages. Called without a lock; a result that is not 0 ends the calls, and the whole
 * harvest is put back. */
typedef int (*smudge_run)(uint64_t gpa, uint64_t byte_count, void *opaque);

/* Hands up to page_count_max pages to a callback. A result of the callback that is not 0 is
 * returned (as it is, where it is negative, else as SMUDGE_EIO). */
SMUDGE_API int smudge_harvest_runs(smudge_reader *reader, uint64_t page_count_max, smudge_run run,
                                   void *opaque, uint64_t *harvest);

typedef struct smudge_range {
  uint64_t gpa;
  uint64_t byte_count;
} smudge_range;

/* Writes up to range_count_max runs of up to page_count_max pages in all to ranges. */
SMUDGE_API int smudge_harvest_ranges(smudge_reader *reader, uint64_t page_count_max,
                                     smudge_range *ranges, uint32_t range_count_max,
                                     uint32_t *range_count, uint64_t *harvest);

/* Sets the bits of the dirty pages of the RAM region that begins at gpa, of which words has a bit
 * for each page; bits that are set stay, so that the bitmap may be KVM's. dirty_page_count may be
 * NULL. SMUDGE_ENOENT: no region begins there. SMUDGE_EINVAL: page_count is not the region's. */
SMUDGE_API int smudge_harvest_bitmap(smudge_reader *reader, uint64_t gpa, uint64_t *words,
                                     uint64_t page_count, uint64_t *dirty_page_count,
                                     uint64_t *harvest);

/* The pages of a harvest have arrived. SMUDGE_ENOENT: it is not in flight. */
SMUDGE_API int smudge_delivered(smudge_reader *reader, uint64_t harvest);

/* They have not, or may not have: they are dirty again. SMUDGE_ENOENT: it is not in flight, and
 * since nobody knows what its pages were, everything is dirty from here on. */
SMUDGE_API int smudge_put_back(smudge_reader *reader, uint64_t harvest);

/* ---- the log in shared memory ---------------------------------------------------------------- */

/* A reader whose dirty pages become bits of a memfd in the layout of vhost: the page at gpa is bit
 * (gpa / 4096) % 8 of byte gpa / 4096 / 8. Every smudge_log_sync, and smudge_shared_log_publish,
 * moves what is dirty there by atomic OR. Who reads exchanges words with 0. fd is the caller's to
 * close, and sealed against changes of its size, which is *byte_count; it ends with the highest
 * region there is.
 *
 * SMUDGE_ENOTSUP: the page size is not 4096. Pages of regions that come later and lie past its end
 * stay dirty for it: smudge_shared_log_publish then is SMUDGE_E2BIG, and a sync notes it. */
SMUDGE_API int smudge_shared_log_add(smudge_tracker *tracker, const char *name, uint32_t flags,
                                     smudge_shared_log **out, int *fd, uint64_t *byte_count);

/* Moves what is dirty now. page_count may be NULL. */
SMUDGE_API int smudge_shared_log_publish(smudge_shared_log *log, uint64_t *page_count);

/* The handle ends; the memory stays for those who have it. */
SMUDGE_API int smudge_shared_log_remove(smudge_shared_log *log);

/* ---- the record ------------------------------------------------------------------------------ */

/* Writes the record of what happened as a trace to a descriptor: `smudge replay` computes the state
 * from it. SMUDGE_ENOTSUP without a record; errors of write(2), and the file is of no use. */
SMUDGE_API int smudge_trace_write(smudge_tracker *tracker, int fd);

/* ---- the migration front-end ----------------------------------------------------------------- */

/*
 * For a VMM without a migration of its own, or for tests of one: reads the log in rounds, sends
 * RAM, drives the devices' migration states (VFIO migration v2, or v1 where that is all there is),
 * and stops the guest when the predicted downtime is within the limit. A VMM with a stream of its
 * own uses readers instead. RAM regions need a host address; the other side's are the same by name
 * and address.
 */

/* Where the stream goes. Called from the thread that migrates. */
typedef struct smudge_channel {
  uint32_t size;
  uint32_t reserved;
  /* Writes all of it: 0, or a negative error number. */
  int (*write)(const void *bytes, uint64_t byte_count, void *opaque);
  /* Reads at least one byte: their number, 0 at the end of the stream, or a negative error number.
   * NULL where the other side cannot answer: then its end is all it gets to know. */
  int64_t (*read)(void *bytes, uint64_t byte_count, void *opaque);
  /* Ends both directions. */
  void (*shut_down)(void *opaque);
  void *opaque;
} smudge_channel;

/* The rest of the VMM. Called from the thread that migrates; 0 or a negative error number. */
typedef struct smudge_machine {
  uint32_t size;
  /* 1: vCPUs run now. */
  uint32_t is_running;
  /* Returns when no vCPU runs; when they run. */
  int (*stop_vcpus)(void *opaque);
  int (*resume_vcpus)(void *opaque);
  /* What is neither RAM nor a device: writes it to bytes where it fits into byte_count, and returns
   * its size; it is asked again with more room where it does not. vCPUs are stopped. */
  int64_t (*save_state)(void *bytes, uint64_t byte_count, void *opaque);
  int (*restore_state)(const void *bytes, uint64_t byte_count, void *opaque);
  void *opaque;
} smudge_machine;

enum {
  /* What happens when the rounds do not bring the downtime under the limit: they go on until
   * somebody cancels; the guest is stopped anyway; the migration fails and the guest runs on. */
  SMUDGE_ON_LIMIT_KEEP_GOING = 0,
  SMUDGE_ON_LIMIT_STOP_ANYWAY = 1,
  SMUDGE_ON_LIMIT_GIVE_UP = 2
};

typedef struct smudge_round {
  uint32_t size;
  uint32_t number;
  uint64_t remaining_byte_count;
  uint64_t sent_byte_count;
  uint64_t nanoseconds;
  /* Of the prediction: where it lies if all goes well, and if not. */
  uint64_t predicted_nanoseconds_low;
  uint64_t predicted_nanoseconds_high;
} smudge_round;

typedef struct smudge_migration_params {
  uint32_t size;
  /* SMUDGE_ON_LIMIT_... */
  uint32_t on_limit;
  const smudge_channel *channel;
  const smudge_machine *machine;
  /* Their VFIO descriptors; the other side's in the same order. One without a migration interface
   * blocks the migration by name. */
  const smudge_device *devices;
  uint32_t device_count;
  /* Rounds before stop-anyway and give-up; 0 is 30. */
  uint32_t round_count_max;
  /* 0 is 300 ms. */
  uint64_t downtime_limit_nanoseconds;
  /* Told of each round; may be NULL. A result that is not 0 cancels. */
  int (*round_ended)(const smudge_round *round, void *opaque);
  void *opaque;
} smudge_migration_params;

typedef struct smudge_migration_report {
  uint32_t size;
  uint32_t round_count;
  uint64_t stream_byte_count;
  uint64_t total_nanoseconds;
  uint64_t downtime_nanoseconds;
  /* As smudge_report's. */
  char *notes;
  uint64_t notes_size;
} smudge_migration_report;

/* [long] Migrates away: 0 when the guest runs on the other side. On an error the guest runs on
 * here, its devices too, and pages in flight are put back, but for SMUDGE_ENOTUNIQ: the other side
 * was told to start and did not answer, so everything stands still here until
 * smudge_migration_resolve. SMUDGE_EPERM: it is blocked, the sentence says by what. SMUDGE_EBUSY:
 * another one is under way or unresolved. report may be NULL. */
SMUDGE_API int smudge_migrate(smudge_tracker *tracker, const smudge_migration_params *params,
                              smudge_migration_report *report);

/* After SMUDGE_ENOTUNIQ, when somebody looked: 1, the guest runs there; 0, it goes on here. */
SMUDGE_API int smudge_migration_resolve(smudge_tracker *tracker, int runs_there);

/* [long] Takes in a guest: 0 when it runs here. On an error nothing runs here, devices are reset
 * and RAM holds parts of it. Of the parameters channel, machine and devices are used. */
SMUDGE_API int smudge_receive(smudge_tracker *tracker, const smudge_migration_params *params,
                              smudge_migration_report *report);

#ifdef __cplusplus
}
#endif

#endif
