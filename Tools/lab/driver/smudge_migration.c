// SPDX-License-Identifier: GPL-2.0
/*
 * Migration of the lab's mediated device, version 2, with P2P and pre-copy.
 *
 * The stream is a row of records: u32 block, u32 length, then the bytes. Blocks 0..15 are 4096
 * bytes of device memory each, sent again when written again; END closes the stream and carries
 * what SMUDGE_DMA was doing.
 */
#include <linux/anon_inodes.h>
#include <linux/bitmap.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/slab.h>

#include "smudge_mdev.h"

#define SMUDGE_END 0xffffffffu

struct smudge_header {
	__le32 block, length;
};

void smudge_end_session(struct smudge_mdev *m)
{
	struct smudge_session *s = m->session;

	if (!s)
		return;
	m->session = NULL;
	s->over = true;
	fput(s->file);
}

static int smudge_release_session(struct inode *inode, struct file *file)
{
	struct smudge_session *s = file->private_data;

	vfio_put_device(&s->mdev->vdev);
	kfree(s);
	return 0;
}

/* SMUDGE_FAIL_STREAM: how many of these bytes may still pass. */
static ssize_t smudge_may_pass(struct smudge_mdev *m, size_t length)
{
	if (!m->fail_stream)
		return length;
	if (m->fail_stream == 1)
		return -EIO;
	length = min_t(size_t, length, m->fail_stream - 1);
	m->fail_stream -= length;
	return length;
}

static void smudge_put_record(struct smudge_session *s, u32 block, const void *bytes, u32 length)
{
	struct smudge_header header = { cpu_to_le32(block), cpu_to_le32(length) };

	memcpy(s->record, &header, sizeof(header));
	memcpy(s->record + sizeof(header), bytes, length);
	s->position = 0;
	s->filled = sizeof(header) + length;
}

/* Readies the next record; false when there is none now. */
static bool smudge_next_record(struct smudge_session *s)
{
	struct smudge_mdev *m = s->mdev;
	unsigned long block = find_first_bit(m->dirty, SMUDGE_BLOCKS);

	if (block < SMUDGE_BLOCKS) {
		clear_bit(block, m->dirty);
		clear_bit(block, m->unsent);
		smudge_put_record(s, block, m->memory + block * SMUDGE_BLOCK, SMUDGE_BLOCK);
		return true;
	}
	if (m->status.migration_state != VFIO_DEVICE_STATE_STOP_COPY || s->ended)
		return false;
	s->ended = true;
	smudge_put_record(s, SMUDGE_END, &m->dma, sizeof(m->dma));
	return true;
}

static ssize_t smudge_session_read(struct file *file, char __user *to, size_t count,
				   loff_t *position)
{
	struct smudge_session *s = file->private_data;
	struct smudge_mdev *m = s->mdev;
	ssize_t length, done = 0;

	mutex_lock(&m->lock);
	if (s->over)
		done = -ENODEV;
	while (done >= 0 && count > done) {
		if (s->position == s->filled && !smudge_next_record(s))
			break;
		length = min_t(size_t, count - done, s->filled - s->position);
		length = smudge_may_pass(m, length);
		if (length > 0 && copy_to_user(to + done, s->record + s->position, length))
			length = -EFAULT;
		if (length < 0) {
			done = done ?: length;
			break;
		}
		s->position += length;
		done += length;
	}
	if (!done && count && m->status.migration_state != VFIO_DEVICE_STATE_STOP_COPY)
		done = -ENOMSG;
	mutex_unlock(&m->lock);
	return done;
}

/* A whole record has arrived. */
static void smudge_take_record(struct smudge_session *s, u32 block, u32 length)
{
	struct smudge_mdev *m = s->mdev;
	const u8 *bytes = s->record + sizeof(struct smudge_header);

	if (block == SMUDGE_END) {
		memcpy(&m->dma, bytes, length);
		s->ended = true;
	} else {
		memcpy(m->memory + block * SMUDGE_BLOCK, bytes, length);
	}
	s->filled = 0;
}

static ssize_t smudge_session_write(struct file *file, const char __user *from, size_t count,
				    loff_t *position)
{
	struct smudge_session *s = file->private_data;
	struct smudge_mdev *m = s->mdev;
	struct smudge_header header;
	size_t wanted;
	ssize_t length, done = 0;
	u32 block, size;

	mutex_lock(&m->lock);
	if (s->over)
		done = -ENODEV;
	while (done >= 0 && count > done) {
		wanted = sizeof(header);
		if (s->filled >= sizeof(header)) {
			memcpy(&header, s->record, sizeof(header));
			block = le32_to_cpu(header.block);
			size = le32_to_cpu(header.length);
			wanted += size;
			if (s->ended || (block == SMUDGE_END ? size != sizeof(m->dma)
				       : block >= SMUDGE_BLOCKS || size != SMUDGE_BLOCK)) {
				done = -EINVAL;
				break;
			}
		}
		length = smudge_may_pass(m, min_t(size_t, count - done, wanted - s->filled));
		if (length > 0 && copy_from_user(s->record + s->filled, from + done, length))
			length = -EFAULT;
		if (length < 0) {
			done = done ?: length;
			break;
		}
		s->filled += length;
		done += length;
		if (s->filled == wanted && wanted > sizeof(header))
			smudge_take_record(s, block, size);
	}
	mutex_unlock(&m->lock);
	return done;
}

static long smudge_session_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	struct smudge_session *s = file->private_data;
	struct smudge_mdev *m = s->mdev;
	struct vfio_precopy_info info = {};
	unsigned int left;
	long ret = vfio_check_precopy_ioctl(&m->vdev, command, argument, &info);

	if (ret)
		return ret;
	mutex_lock(&m->lock);
	if (s->over || (m->status.migration_state != VFIO_DEVICE_STATE_PRE_COPY &&
			m->status.migration_state != VFIO_DEVICE_STATE_PRE_COPY_P2P)) {
		ret = -EINVAL;
	} else {
		left = s->filled - s->position;
		info.initial_bytes = bitmap_weight(m->unsent, SMUDGE_BLOCKS) *
				     sizeof(s->record);
		info.dirty_bytes = bitmap_weight(m->dirty, SMUDGE_BLOCKS) * sizeof(s->record) -
				   info.initial_bytes + left;
	}
	mutex_unlock(&m->lock);
	if (!ret && copy_to_user((void __user *)argument, &info,
				 offsetofend(struct vfio_precopy_info, dirty_bytes)))
		ret = -EFAULT;
	return ret;
}

static const struct file_operations smudge_saving = {
	.owner = THIS_MODULE,
	.read = smudge_session_read,
	.unlocked_ioctl = smudge_session_ioctl,
	.release = smudge_release_session,
};

static const struct file_operations smudge_resuming = {
	.owner = THIS_MODULE,
	.write = smudge_session_write,
	.release = smudge_release_session,
};

static struct file *smudge_open_session(struct smudge_mdev *m, bool saving)
{
	struct smudge_session *s = kzalloc(sizeof(*s), GFP_KERNEL_ACCOUNT);
	struct file *file;

	if (!s)
		return ERR_PTR(-ENOMEM);
	file = anon_inode_getfile("smudge_migration", saving ? &smudge_saving : &smudge_resuming,
				  s, saving ? O_RDONLY : O_WRONLY);
	if (IS_ERR(file)) {
		kfree(s);
		return file;
	}
	stream_open(file->f_inode, file);
	get_device(&m->vdev.device);
	s->mdev = m;
	s->file = file;
	s->saving = saving;
	if (saving) {
		bitmap_fill(m->unsent, SMUDGE_BLOCKS);
		bitmap_fill(m->dirty, SMUDGE_BLOCKS);
	}
	m->session = s;
	return get_file(file);
}

/* One arc of the state machine; the file it opens, if it opens one. */
static struct file *smudge_arc(struct smudge_mdev *m, u32 from, u32 to)
{
	struct file *file = NULL;

	if (to == m->fail_state) {
		m->fail_state = 0;
		return ERR_PTR(-EIO);
	}
	if (from == VFIO_DEVICE_STATE_RESUMING && !(m->session && m->session->ended &&
						    !m->session->filled))
		return ERR_PTR(-EINVAL);
	switch (to) {
	case VFIO_DEVICE_STATE_PRE_COPY:
		if (from == VFIO_DEVICE_STATE_RUNNING)
			file = smudge_open_session(m, true);
		break;
	case VFIO_DEVICE_STATE_PRE_COPY_P2P:
		if (from == VFIO_DEVICE_STATE_RUNNING_P2P)
			file = smudge_open_session(m, true);
		break;
	case VFIO_DEVICE_STATE_STOP_COPY:
		if (from == VFIO_DEVICE_STATE_STOP)
			file = smudge_open_session(m, true);
		break;
	case VFIO_DEVICE_STATE_RESUMING:
		file = smudge_open_session(m, false);
		break;
	default:
		smudge_end_session(m);
	}
	return file;
}

static struct file *smudge_set_state(struct vfio_device *vdev, enum vfio_device_mig_state target)
{
	struct smudge_mdev *m = to_smudge(vdev);
	enum vfio_device_mig_state next;
	struct file *file = NULL;
	int ret;

	mutex_lock(&m->lock);
	while (m->status.migration_state != target) {
		ret = vfio_mig_get_next_state(vdev, m->status.migration_state, target, &next);
		file = ret ? ERR_PTR(ret) : smudge_arc(m, m->status.migration_state, next);
		if (IS_ERR(file))
			break;
		m->status.migration_state = next;
		smudge_note(m, SMUDGE_ENTERED, 0, 0, next);
	}
	/* What runs again goes on with what it was doing before it was stopped or moved. */
	if (smudge_may_dma(m) && m->dma.length)
		schedule_delayed_work(&m->dma_work, 0);
	mutex_unlock(&m->lock);
	return file;
}

static int smudge_get_state(struct vfio_device *vdev, enum vfio_device_mig_state *state)
{
	struct smudge_mdev *m = to_smudge(vdev);

	mutex_lock(&m->lock);
	*state = m->status.migration_state;
	mutex_unlock(&m->lock);
	return 0;
}

static int smudge_get_data_size(struct vfio_device *vdev, unsigned long *length)
{
	struct smudge_mdev *m = to_smudge(vdev);
	unsigned long blocks = SMUDGE_BLOCKS;

	mutex_lock(&m->lock);
	if (m->session && m->session->saving)
		blocks = bitmap_weight(m->dirty, SMUDGE_BLOCKS);
	mutex_unlock(&m->lock);
	*length = blocks * (8 + SMUDGE_BLOCK) + 8 + sizeof(m->dma);
	return 0;
}

const struct vfio_migration_ops smudge_migration_ops = {
	.migration_set_state = smudge_set_state,
	.migration_get_state = smudge_get_state,
	.migration_get_data_size = smudge_get_data_size,
};
