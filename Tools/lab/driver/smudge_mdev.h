/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a test says to the lab's mediated device, and what it reads back. All little-endian,
 * naturally aligned; a region's file offset is its index << 40, as for vfio-pci.
 *
 * Region 0, STATUS (read) and COMMAND (write of one struct smudge_command at offset 0).
 * Region 1, JOURNAL (read): struct smudge_event, oldest first, of what the device did. This is the
 *           ground truth: it lives in kernel memory and nothing under test writes it. Full means
 *           ENOSPC, never loss.
 * Region 2, MEMORY (read, write): 64 KiB of device memory, sent 4 KiB at a time by a migration.
 * Region 7, the PCI configuration space, 256 bytes of plain memory behind a read-only id.
 * Region 9, of the type `region` alone, the migration region of version 1, see smudge_region.c.
 *
 * Types of mediated device: `pinning` has migration version 2 and DMA logging, `region` has
 * version 1 and no logging, `bare` has neither.
 */
#ifndef SMUDGE_MDEV_H
#define SMUDGE_MDEV_H

#include <linux/types.h>

#define SMUDGE_REGION_SHIFT 40
#define SMUDGE_EVENTS (1 << 17)
#define SMUDGE_MEMORY_SIZE (64 << 10)
#define SMUDGE_CONFIG_SIZE 256

enum smudge_operation {
	SMUDGE_PIN = 1,		/* [iova, +length): EEXIST pinned already, else the container's word */
	SMUDGE_UNPIN = 2,	/* [iova, +length): ENOENT not pinned */
	SMUDGE_WRITE_PINNED = 3, /* value into every u64 of [iova, +length): ENOENT not pinned */
	SMUDGE_WRITE_RW = 4,	/* the same through vfio_dma_rw, no pin */
	/* write on its own: a page of [iova, +length) every `value` us while running; length 0 stops */
	SMUDGE_DMA = 5,
	SMUDGE_FAIL_STATE = 6,	/* entering migration state `value` fails once with EIO; 0 forgets */
	SMUDGE_FAIL_REPORT = 7,	/* the next `value` log reports fail with EIO */
	SMUDGE_FAIL_STREAM = 8,	/* the data session fails with EIO after `value` more bytes; 0 forgets */
	SMUDGE_CLEAR_JOURNAL = 9,
	/* as FAIL_STATE, and the device is in its error state then; version 1 alone */
	SMUDGE_FAIL_BROKEN = 10,
};

struct smudge_command {
	__u32 operation;
	__u32 reserved;
	__u64 iova;
	__u64 length;
	__u64 value;
};

struct smudge_status {
	__u64 events;		/* in the journal */
	__u64 pinned_pages;
	__u64 unmap_callbacks;
	__u64 unmapped_pins;	/* pages unpinned because of them */
	__u64 dma_writes;	/* of SMUDGE_DMA */
	__u64 dma_refused;	/* writes SMUDGE_DMA could not do: page not mapped, or read-only */
	__u64 migration_state;
	__u64 logging_ranges;	/* 0: logging is off */
};

enum smudge_event_kind {
	SMUDGE_DID_PIN = 1,
	SMUDGE_DID_UNPIN = 2,
	SMUDGE_DID_WRITE = 3,	/* through a pinned page */
	SMUDGE_DID_WRITE_RW = 4,
	SMUDGE_SAW_UNMAP = 5,
	SMUDGE_ENTERED = 6,	/* migration state `value` */
	SMUDGE_REPORTED = 7,	/* `value` pages of a log report */
	SMUDGE_GAVE = 8,	/* chunk number `value` of a migration region, acknowledged */
	SMUDGE_TOOK = 9,	/* the same, loaded */
	SMUDGE_REFUSED = 10,	/* an access to it, with errno `value` */
};

struct smudge_event {
	__u32 kind;
	__u32 migration_state;	/* in which it happened */
	__u64 iova;
	__u64 length;
	__u64 value;
};

#ifdef __KERNEL__
#include <linux/mutex.h>
#include <linux/vfio.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#define SMUDGE_BLOCK 4096
#define SMUDGE_BLOCKS (SMUDGE_MEMORY_SIZE / SMUDGE_BLOCK)
#define SMUDGE_PINS_AT_ONCE 32
#define SMUDGE_MIGRATION_REGION VFIO_PCI_NUM_REGIONS
#define SMUDGE_SECTION_OFFSET 0x1000
#define SMUDGE_SECTION_SIZE 0x4000

struct smudge_dma {
	__u64 iova, length, period, sequence;
};

struct smudge_range {
	u64 start, last;
};

/* One data session: a file that the driver and the user each hold. */
struct smudge_session {
	struct file *file;
	struct smudge_mdev *mdev;	/* holds a reference */
	bool saving, ended, over;	/* ended: its last record is through. over: the state was left */
	size_t position, filled;	/* within record */
	u8 record[8 + SMUDGE_BLOCK];
};

/* The last step of a chunk's exchange. Resuming knows the first two: ANNOUNCED, its place is. */
enum smudge_step { SMUDGE_ACKNOWLEDGED, SMUDGE_ANNOUNCED, SMUDGE_PREPARED, SMUDGE_SIZED };

/* The migration region of version 1; a device without it has no section. */
struct smudge_region {
	u32 device_state;
	enum smudge_step step;
	u32 sequence;		/* of the chunk being exchanged */
	size_t at, length;	/* of that chunk, within section */
	bool has_end, is_drained; /* its last record is in a chunk; pending_bytes was 0 at last */
	bool is_open;		/* mapped pages may be touched */
	u8 *section;
	DECLARE_BITMAP(touched, SMUDGE_SECTION_SIZE / PAGE_SIZE);
	DECLARE_BITMAP(passed, SMUDGE_SECTION_SIZE); /* bytes that were read or written */
};

struct smudge_mdev {
	struct vfio_device vdev;
	struct mutex lock;		/* everything below */
	struct xarray pinned;		/* IOVA page number -> struct page */
	struct smudge_event *journal;
	struct smudge_status status;
	struct smudge_dma dma;
	u64 dma_pins[SMUDGE_PINS_AT_ONCE]; /* the last IOVA pages SMUDGE_DMA pinned, +1; 0 none */
	struct delayed_work dma_work;
	struct smudge_range ranges[256];
	struct xarray logged;		/* IOVA page number written since the last report */
	u8 *memory;
	u8 config[SMUDGE_CONFIG_SIZE];
	struct smudge_session *session;
	DECLARE_BITMAP(unsent, SMUDGE_BLOCKS);	/* in this session, never */
	DECLARE_BITMAP(dirty, SMUDGE_BLOCKS);	/* in this session, since last sent */
	struct smudge_region region;
	u64 fail_state, fail_reports, fail_stream, fail_broken;
};

static inline struct smudge_mdev *to_smudge(struct vfio_device *vdev)
{
	return container_of(vdev, struct smudge_mdev, vdev);
}

int smudge_note(struct smudge_mdev *m, u32 kind, u64 iova, u64 length, u64 value);
bool smudge_may_dma(struct smudge_mdev *m);
void smudge_dirty_memory(struct smudge_mdev *m, size_t offset, size_t length);
void smudge_end_session(struct smudge_mdev *m);
extern const struct vfio_migration_ops smudge_migration_ops;

bool smudge_region_saves(const struct smudge_mdev *m);
void smudge_reset_region(struct smudge_mdev *m);
ssize_t smudge_access_region(struct smudge_mdev *m, char __user *to, const char __user *from,
			     size_t count, u64 offset);
int smudge_map_region(struct vfio_device *vdev, struct vm_area_struct *vma);
int smudge_region_caps(struct vfio_region_info *info, struct vfio_info_cap *caps);
#endif
#endif
