// SPDX-License-Identifier: GPL-2.0
/*
 * Migration of the lab's mediated device, version 1: a region of registers with a data section
 * behind them, as linux/vfio.h described it from Linux 5.8 to 5.17. As strict as a driver may be:
 * what is out of order is refused with EINVAL, what would leave data behind with EBUSY.
 *
 *	0x0000	registers, trapped
 *	0x1000	data, trapped
 *	0x2000	data, may be mapped (the sparse capability says so)
 *	0x4000	data, trapped
 *
 * A chunk is a u32 sequence number and its own u32 length, then records as in smudge_migration.c,
 * one to three blocks of memory at a time. It is taken back only as it was cut. Chunks lie at
 * varying places, so that some are reached by memory, some by the file, and some by both.
 */
#include <linux/bitmap.h>
#include <linux/mm.h>
#include <linux/vmalloc.h>

#include "smudge_mdev.h"

#define SMUDGE_MAPPED_OFFSET 0x2000
#define SMUDGE_MAPPED_SIZE 0x2000
/* The bits of device_state that are the driver's: a user writes them back as it read them. */
#define SMUDGE_OWN_BITS 0x5a5a5a58u
#define SMUDGE_END 0xffffffffu
#define SMUDGE_RECORD (sizeof(struct smudge_header) + SMUDGE_BLOCK)

#define STATE_STOP VFIO_DEVICE_STATE_V1_STOP
#define STATE_RUNNING VFIO_DEVICE_STATE_V1_RUNNING
#define STATE_SAVING VFIO_DEVICE_STATE_V1_SAVING
#define STATE_PRE_COPY (VFIO_DEVICE_STATE_V1_RUNNING | VFIO_DEVICE_STATE_V1_SAVING)
#define STATE_RESUMING VFIO_DEVICE_STATE_V1_RESUMING
#define STATE_ERROR (VFIO_DEVICE_STATE_V1_SAVING | VFIO_DEVICE_STATE_V1_RESUMING)

struct smudge_header {
	__le32 first, length;	/* sequence number or block */
};

static u32 smudge_bits(const struct smudge_mdev *m)
{
	return m->region.device_state & VFIO_DEVICE_STATE_MASK;
}

/* The journal and the rest of the driver speak version 2. */
static u32 smudge_as_v2(u32 bits)
{
	switch (bits) {
	case STATE_STOP:
		return VFIO_DEVICE_STATE_STOP;
	case STATE_RUNNING:
		return VFIO_DEVICE_STATE_RUNNING;
	case STATE_PRE_COPY:
		return VFIO_DEVICE_STATE_PRE_COPY;
	case STATE_SAVING:
		return VFIO_DEVICE_STATE_STOP_COPY;
	case STATE_RESUMING:
		return VFIO_DEVICE_STATE_RESUMING;
	}
	return VFIO_DEVICE_STATE_ERROR;
}

bool smudge_region_saves(const struct smudge_mdev *m)
{
	return smudge_bits(m) == STATE_PRE_COPY || smudge_bits(m) == STATE_SAVING;
}

/* What is mapped faults again: a touched page is noted, and outside of a chunk is SIGBUS. */
static void smudge_open_data(struct smudge_mdev *m, bool open)
{
	WRITE_ONCE(m->region.is_open, open);
	unmap_mapping_range(m->vdev.inode->i_mapping,
			    ((u64)SMUDGE_MIGRATION_REGION << SMUDGE_REGION_SHIFT) + SMUDGE_MAPPED_OFFSET,
			    SMUDGE_MAPPED_SIZE, 1);
	bitmap_zero(m->region.touched, SMUDGE_SECTION_SIZE >> PAGE_SHIFT);
	bitmap_zero(m->region.passed, SMUDGE_SECTION_SIZE);
}

static void smudge_enter(struct smudge_mdev *m, u32 bits)
{
	m->region.device_state = SMUDGE_OWN_BITS | bits;
	m->status.migration_state = smudge_as_v2(bits);
	smudge_note(m, SMUDGE_ENTERED, 0, 0, m->status.migration_state);
}

static void smudge_begin_exchange(struct smudge_mdev *m)
{
	m->region.step = SMUDGE_ACKNOWLEDGED;
	m->region.sequence = 0;
	m->region.has_end = m->region.is_drained = false;
	smudge_open_data(m, false);
}

void smudge_reset_region(struct smudge_mdev *m)
{
	if (!m->region.section)
		return;
	m->region.device_state = SMUDGE_OWN_BITS | STATE_RUNNING;
	smudge_begin_exchange(m);
}

/* Every byte of the chunk has been read, or written. */
static bool smudge_all_passed(struct smudge_mdev *m)
{
	size_t end = m->region.at + m->region.length;
	unsigned long page;

	for_each_set_bit(page, m->region.touched, SMUDGE_SECTION_SIZE >> PAGE_SHIFT)
		bitmap_set(m->region.passed, page << PAGE_SHIFT, PAGE_SIZE);
	return find_next_zero_bit(m->region.passed, end, m->region.at) >= end;
}

/* SMUDGE_FAIL_STREAM, for a chunk as a whole. */
static bool smudge_chunk_fails(struct smudge_mdev *m)
{
	if (!m->fail_stream)
		return false;
	if (m->fail_stream <= m->region.length)
		return true;
	m->fail_stream -= m->region.length;
	return false;
}

static size_t smudge_place(u32 sequence)
{
	static const size_t places[] = { 0, 0x1000, 0x40, 0x2000 };

	return places[sequence % ARRAY_SIZE(places)];
}

static void smudge_put(struct smudge_mdev *m, u32 first, const void *bytes, u32 length)
{
	struct smudge_header header = { cpu_to_le32(first), cpu_to_le32(length) };
	u8 *to = m->region.section + m->region.at + m->region.length;

	memcpy(to, &header, sizeof(header));
	memcpy(to + sizeof(header), bytes, length);
	m->region.length += sizeof(header) + length;
}

static int smudge_prepare_chunk(struct smudge_mdev *m)
{
	struct smudge_header header;
	DECLARE_BITMAP(blocks, SMUDGE_BLOCKS);
	unsigned long block;
	size_t count = 1 + m->region.sequence % 3;
	bool ends;

	m->region.at = smudge_place(m->region.sequence);
	m->region.length = sizeof(header);
	count = min(count, (SMUDGE_SECTION_SIZE - m->region.at - 64) / SMUDGE_RECORD);
	bitmap_zero(blocks, SMUDGE_BLOCKS);
	for_each_set_bit(block, m->dirty, SMUDGE_BLOCKS) {
		if (!count--)
			break;
		set_bit(block, blocks);
		smudge_put(m, block, m->memory + block * SMUDGE_BLOCK, SMUDGE_BLOCK);
	}
	ends = smudge_bits(m) == STATE_SAVING && bitmap_equal(blocks, m->dirty, SMUDGE_BLOCKS);
	if (ends)
		smudge_put(m, SMUDGE_END, &m->dma, sizeof(m->dma));
	if (smudge_chunk_fails(m))
		return -EIO;
	bitmap_andnot(m->dirty, m->dirty, blocks, SMUDGE_BLOCKS);
	m->region.has_end = ends;
	header.first = cpu_to_le32(m->region.sequence);
	header.length = cpu_to_le32(m->region.length);
	memcpy(m->region.section + m->region.at, &header, sizeof(header));
	smudge_open_data(m, true);
	return 0;
}

static int smudge_read_pending(struct smudge_mdev *m, u64 *value)
{
	if (!smudge_region_saves(m))
		return -EINVAL;
	if (m->region.step == SMUDGE_PREPARED || m->region.step == SMUDGE_SIZED) {
		if (m->region.step != SMUDGE_SIZED || !smudge_all_passed(m))
			return -EBUSY;
		smudge_note(m, SMUDGE_GAVE, m->region.at, m->region.length, m->region.sequence);
		m->region.sequence++;
		smudge_open_data(m, false);
	}
	*value = bitmap_weight(m->dirty, SMUDGE_BLOCKS) * SMUDGE_RECORD;
	if (smudge_bits(m) == STATE_SAVING && !m->region.has_end)
		*value += sizeof(struct smudge_header) + sizeof(m->dma);
	m->region.step = *value ? SMUDGE_ANNOUNCED : SMUDGE_ACKNOWLEDGED;
	m->region.is_drained = smudge_bits(m) == STATE_SAVING && !*value;
	return 0;
}

static int smudge_read_offset(struct smudge_mdev *m, u64 *value)
{
	int ret = 0;

	if (smudge_region_saves(m)) {
		if (m->region.step == SMUDGE_ACKNOWLEDGED)
			return -EINVAL;
		if (m->region.step == SMUDGE_ANNOUNCED)
			ret = smudge_prepare_chunk(m);
		if (!ret && m->region.step == SMUDGE_ANNOUNCED)
			m->region.step = SMUDGE_PREPARED;
	} else if (smudge_bits(m) == STATE_RESUMING) {
		m->region.at = smudge_place(m->region.sequence);
		if (m->region.step == SMUDGE_ACKNOWLEDGED)
			smudge_open_data(m, true);
		m->region.step = SMUDGE_ANNOUNCED;
	} else {
		ret = -EINVAL;
	}
	*value = SMUDGE_SECTION_OFFSET + m->region.at;
	return ret;
}

static int smudge_read_size(struct smudge_mdev *m, u64 *value)
{
	if (!smudge_region_saves(m) ||
	    (m->region.step != SMUDGE_PREPARED && m->region.step != SMUDGE_SIZED))
		return -EINVAL;
	m->region.step = SMUDGE_SIZED;
	*value = m->region.length;
	return 0;
}

/* The chunk as a source cut it, or EINVAL. */
static int smudge_take_chunk(struct smudge_mdev *m)
{
	const u8 *at = m->region.section + m->region.at;
	const u8 *end = at + m->region.length;
	struct smudge_header header;

	memcpy(&header, at, min(sizeof(header), m->region.length));
	if (m->region.length <= sizeof(header) || m->region.has_end ||
	    le32_to_cpu(header.first) != m->region.sequence ||
	    le32_to_cpu(header.length) != m->region.length)
		return -EINVAL;
	for (at += sizeof(header); at < end; at += le32_to_cpu(header.length)) {
		if (end - at < sizeof(header) || m->region.has_end)
			return -EINVAL;
		memcpy(&header, at, sizeof(header));
		at += sizeof(header);
		if (end - at < le32_to_cpu(header.length))
			return -EINVAL;
		if (le32_to_cpu(header.first) == SMUDGE_END) {
			if (le32_to_cpu(header.length) != sizeof(m->dma))
				return -EINVAL;
			memcpy(&m->dma, at, sizeof(m->dma));
			m->region.has_end = true;
		} else {
			if (le32_to_cpu(header.first) >= SMUDGE_BLOCKS ||
			    le32_to_cpu(header.length) != SMUDGE_BLOCK)
				return -EINVAL;
			memcpy(m->memory + le32_to_cpu(header.first) * SMUDGE_BLOCK, at, SMUDGE_BLOCK);
		}
	}
	return 0;
}

static int smudge_write_size(struct smudge_mdev *m, u64 value)
{
	int ret;

	if (smudge_bits(m) != STATE_RESUMING || m->region.step != SMUDGE_ANNOUNCED ||
	    value > SMUDGE_SECTION_SIZE - m->region.at)
		return -EINVAL;
	m->region.length = value;
	if (!smudge_all_passed(m))
		return -EBUSY;
	if (smudge_chunk_fails(m))
		return -EIO;
	ret = smudge_take_chunk(m);
	if (ret) {
		smudge_enter(m, STATE_ERROR);
	} else {
		smudge_note(m, SMUDGE_TOOK, m->region.at, m->region.length, m->region.sequence);
		m->region.sequence++;
	}
	m->region.step = SMUDGE_ACKNOWLEDGED;
	smudge_open_data(m, false);
	return ret;
}

/* The arcs of the header's table, and the ways back to running that a cancelled save needs. */
static bool smudge_is_arc(u32 from, u32 to)
{
	switch (from) {
	case STATE_RUNNING:
		return to == STATE_STOP || to == STATE_SAVING || to == STATE_PRE_COPY ||
		       to == STATE_RESUMING;
	case STATE_PRE_COPY:
		return to == STATE_SAVING || to == STATE_RUNNING;
	case STATE_SAVING:
		return to == STATE_STOP || to == STATE_RUNNING;
	case STATE_STOP:
		return to == STATE_RUNNING || to == STATE_SAVING || to == STATE_RESUMING;
	case STATE_RESUMING:
		return to == STATE_RUNNING;
	}
	return false;
}

static int smudge_write_state(struct smudge_mdev *m, u32 value)
{
	u32 from = smudge_bits(m), to = value & VFIO_DEVICE_STATE_MASK;

	if ((value ^ m->region.device_state) & ~VFIO_DEVICE_STATE_MASK)
		return -EINVAL;
	if (from == to && from != STATE_ERROR)
		return 0;
	if (!smudge_is_arc(from, to))
		return -EINVAL;
	if (m->fail_broken == smudge_as_v2(to)) {
		m->fail_broken = 0;
		smudge_enter(m, STATE_ERROR);
		return -EIO;
	}
	if (m->fail_state == smudge_as_v2(to)) {
		m->fail_state = 0;
		return -EIO;
	}
	if (from == STATE_SAVING && to == STATE_STOP && !m->region.is_drained)
		return -EBUSY;
	if (from == STATE_RESUMING &&
	    (!m->region.has_end || m->region.step != SMUDGE_ACKNOWLEDGED)) {
		smudge_enter(m, STATE_ERROR);
		return -EINVAL;
	}
	/* From pre-copy to stop-and-copy a chunk that is prepared stays as it is. */
	if (from != STATE_PRE_COPY || to != STATE_SAVING)
		smudge_begin_exchange(m);
	if (to == STATE_PRE_COPY || (to == STATE_SAVING && from != STATE_PRE_COPY))
		bitmap_fill(m->dirty, SMUDGE_BLOCKS);
	smudge_enter(m, to);
	if (smudge_may_dma(m) && m->dma.length)
		schedule_delayed_work(&m->dma_work, 0);
	return 0;
}

static ssize_t smudge_read_register(struct smudge_mdev *m, char __user *to, size_t count,
				    u64 offset)
{
	u32 state = m->region.device_state;
	u64 value;
	int ret = -EINVAL;

	if (offset == offsetof(struct vfio_device_migration_info, device_state) &&
	    count == sizeof(state))
		return copy_to_user(to, &state, count) ? -EFAULT : count;
	if (count == sizeof(value)) {
		switch (offset) {
		case offsetof(struct vfio_device_migration_info, pending_bytes):
			ret = smudge_read_pending(m, &value);
			break;
		case offsetof(struct vfio_device_migration_info, data_offset):
			ret = smudge_read_offset(m, &value);
			break;
		case offsetof(struct vfio_device_migration_info, data_size):
			ret = smudge_read_size(m, &value);
			break;
		}
	}
	if (ret)
		return ret;
	return copy_to_user(to, &value, count) ? -EFAULT : count;
}

static ssize_t smudge_write_register(struct smudge_mdev *m, const char __user *from, size_t count,
				     u64 offset)
{
	u32 state;
	u64 value;
	int ret = -EINVAL;

	if (offset == offsetof(struct vfio_device_migration_info, device_state) &&
	    count == sizeof(state))
		ret = copy_from_user(&state, from, count) ? -EFAULT : smudge_write_state(m, state);
	else if (offset == offsetof(struct vfio_device_migration_info, data_size) &&
		 count == sizeof(value))
		ret = copy_from_user(&value, from, count) ? -EFAULT : smudge_write_size(m, value);
	return ret ?: count;
}

/* Of the data section: only within the chunk that is being given, or the place for the next. */
static ssize_t smudge_pass_data(struct smudge_mdev *m, char __user *to, const char __user *from,
				size_t count, u64 offset)
{
	size_t at = offset - SMUDGE_SECTION_OFFSET;
	size_t end = to ? m->region.at + m->region.length : SMUDGE_SECTION_SIZE;
	bool expected = to ? smudge_region_saves(m) && m->region.step == SMUDGE_SIZED
			   : smudge_bits(m) == STATE_RESUMING && m->region.step == SMUDGE_ANNOUNCED;

	if (!expected || at < m->region.at || at > end || count > end - at)
		return -EINVAL;
	if (to ? copy_to_user(to, m->region.section + at, count)
	       : copy_from_user(m->region.section + at, from, count))
		return -EFAULT;
	bitmap_set(m->region.passed, at, count);
	return count;
}

ssize_t smudge_access_region(struct smudge_mdev *m, char __user *to, const char __user *from,
			     size_t count, u64 offset)
{
	ssize_t ret = -EINVAL;

	if (offset >= SMUDGE_SECTION_OFFSET)
		ret = smudge_pass_data(m, to, from, count, offset);
	else if (to)
		ret = smudge_read_register(m, to, count, offset);
	else
		ret = smudge_write_register(m, from, count, offset);
	if (ret < 0)
		smudge_note(m, SMUDGE_REFUSED, offset, count, -ret);
	return ret;
}

static vm_fault_t smudge_region_fault(struct vm_fault *vmf)
{
	struct smudge_mdev *m = vmf->vma->vm_private_data;
	u64 offset = ((u64)vmf->pgoff << PAGE_SHIFT) & ((1ull << SMUDGE_REGION_SHIFT) - 1);
	unsigned long page = (offset - SMUDGE_SECTION_OFFSET) >> PAGE_SHIFT;

	/* Without the lock, which is held over accesses to memory of the user's. */
	if (!READ_ONCE(m->region.is_open))
		return VM_FAULT_SIGBUS;
	set_bit(page, m->region.touched);
	vmf->page = vmalloc_to_page(m->region.section + (page << PAGE_SHIFT));
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct smudge_region_memory = {
	.fault = smudge_region_fault,
};

int smudge_map_region(struct vfio_device *vdev, struct vm_area_struct *vma)
{
	struct smudge_mdev *m = to_smudge(vdev);
	u64 first = (u64)vma->vm_pgoff << PAGE_SHIFT, length = vma->vm_end - vma->vm_start;
	u64 offset = first & ((1ull << SMUDGE_REGION_SHIFT) - 1);

	if (!m->region.section || first >> SMUDGE_REGION_SHIFT != SMUDGE_MIGRATION_REGION ||
	    !(vma->vm_flags & VM_SHARED) || offset < SMUDGE_MAPPED_OFFSET ||
	    length > SMUDGE_MAPPED_SIZE ||
	    offset - SMUDGE_MAPPED_OFFSET > SMUDGE_MAPPED_SIZE - length)
		return -EINVAL;
	vma->vm_ops = &smudge_region_memory;
	vma->vm_private_data = m;
	return 0;
}

int smudge_region_caps(struct vfio_region_info *info, struct vfio_info_cap *caps)
{
	struct vfio_region_info_cap_type type = {
		.header = { .id = VFIO_REGION_INFO_CAP_TYPE, .version = 1 },
		.type = VFIO_REGION_TYPE_MIGRATION_DEPRECATED,
		.subtype = VFIO_REGION_SUBTYPE_MIGRATION_DEPRECATED,
	};
	struct {
		struct vfio_region_info_cap_sparse_mmap fixed;
		struct vfio_region_sparse_mmap_area area;
	} sparse = {
		.fixed.header = { .id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1 },
		.fixed.nr_areas = 1,
		.area = { .offset = SMUDGE_MAPPED_OFFSET, .size = SMUDGE_MAPPED_SIZE },
	};

	info->size = SMUDGE_SECTION_OFFSET + SMUDGE_SECTION_SIZE;
	info->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
		      VFIO_REGION_INFO_FLAG_MMAP;
	return vfio_info_add_capability(caps, &type.header, sizeof(type)) ?:
	       vfio_info_add_capability(caps, &sparse.fixed.header, sizeof(sparse));
}
