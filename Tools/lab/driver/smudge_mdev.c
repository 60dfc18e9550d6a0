// SPDX-License-Identifier: GPL-2.0
/*
 * A mediated device for the lab only: it pins, unpins and writes the pages it is told to, keeps a
 * journal of it, logs its own writes and can be migrated. See smudge_mdev.h for the interface.
 *
 * Lock order: smudge_mdev.lock, then what vfio_pin_pages() and friends take. The container calls
 * dma_unmap() with its own lock dropped, so that callback takes the same order.
 */
#include <linux/highmem.h>
#include <linux/init.h>
#include <linux/interval_tree.h>
#include <linux/mdev.h>
#include <linux/module.h>
#include <linux/pci_regs.h>
#include <linux/vmalloc.h>

#include "smudge_mdev.h"

int smudge_note(struct smudge_mdev *m, u32 kind, u64 iova, u64 length, u64 value)
{
	if (m->status.events == SMUDGE_EVENTS)
		return -ENOSPC;
	m->journal[m->status.events++] = (struct smudge_event){
		.kind = kind,
		.migration_state = m->status.migration_state,
		.iova = iova, .length = length, .value = value,
	};
	return 0;
}

bool smudge_may_dma(struct smudge_mdev *m)
{
	return m->status.migration_state == VFIO_DEVICE_STATE_RUNNING ||
	       m->status.migration_state == VFIO_DEVICE_STATE_PRE_COPY;
}

void smudge_dirty_memory(struct smudge_mdev *m, size_t offset, size_t length)
{
	if (length && ((m->session && m->session->saving) || smudge_region_saves(m)))
		bitmap_set(m->dirty, offset / SMUDGE_BLOCK,
			   (offset + length - 1) / SMUDGE_BLOCK - offset / SMUDGE_BLOCK + 1);
}

/* The device's own log, told before the memory changes. */
static int smudge_log_write(struct smudge_mdev *m, u64 iova, u64 length)
{
	u64 page, i;
	int ret;

	for (i = 0; i < m->status.logging_ranges; i++) {
		u64 first = max(iova, m->ranges[i].start);
		u64 last = min(iova + length - 1, m->ranges[i].last);

		if (first > last)
			continue;
		for (page = first >> PAGE_SHIFT; page <= last >> PAGE_SHIFT; page++) {
			ret = xa_err(xa_store(&m->logged, page, xa_mk_value(1), GFP_KERNEL));
			if (ret)
				return ret;
		}
	}
	return 0;
}

static int smudge_pin(struct smudge_mdev *m, u64 iova)
{
	struct page *page;
	int ret;

	if (xa_load(&m->pinned, iova >> PAGE_SHIFT))
		return -EEXIST;
	if (m->status.events == SMUDGE_EVENTS)
		return -ENOSPC;
	ret = vfio_pin_pages(&m->vdev, iova, 1, IOMMU_READ | IOMMU_WRITE, &page);
	if (ret != 1)
		return ret < 0 ? ret : -EFAULT;
	ret = xa_err(xa_store(&m->pinned, iova >> PAGE_SHIFT, page, GFP_KERNEL));
	if (ret) {
		vfio_unpin_pages(&m->vdev, iova, 1);
		return ret;
	}
	m->status.pinned_pages++;
	return smudge_note(m, SMUDGE_DID_PIN, iova, PAGE_SIZE, 0);
}

static int smudge_unpin(struct smudge_mdev *m, u64 iova)
{
	if (!xa_erase(&m->pinned, iova >> PAGE_SHIFT))
		return -ENOENT;
	vfio_unpin_pages(&m->vdev, iova, 1);
	m->status.pinned_pages--;
	/* A pin that is gone must not fail for want of room in the journal. */
	smudge_note(m, SMUDGE_DID_UNPIN, iova, PAGE_SIZE, 0);
	return 0;
}

static u64 smudge_unpin_range(struct smudge_mdev *m, u64 first, u64 last)
{
	unsigned long page;
	void *entry;
	u64 count = 0;

	xa_for_each_range(&m->pinned, page, entry, first >> PAGE_SHIFT, last >> PAGE_SHIFT)
		count += smudge_unpin(m, (u64)page << PAGE_SHIFT) == 0;
	return count;
}

/* Within one page. */
static int smudge_write(struct smudge_mdev *m, u64 iova, u64 length, u64 value, bool pinned)
{
	struct page *page = NULL;
	void *mapped;
	int ret;

	if (m->status.events == SMUDGE_EVENTS)
		return -ENOSPC;
	if (pinned) {
		page = xa_load(&m->pinned, iova >> PAGE_SHIFT);
		if (!page)
			return -ENOENT;
	}
	ret = smudge_log_write(m, iova, length);
	if (ret)
		return ret;
	if (pinned) {
		mapped = kmap_local_page(page);
		memset64(mapped + offset_in_page(iova), value, length / 8);
		kunmap_local(mapped);
	} else {
		mapped = kmalloc(length, GFP_KERNEL);
		if (!mapped)
			return -ENOMEM;
		memset64(mapped, value, length / 8);
		ret = vfio_dma_rw(&m->vdev, iova, mapped, length, true);
		kfree(mapped);
		if (ret)
			return ret;
	}
	return smudge_note(m, pinned ? SMUDGE_DID_WRITE : SMUDGE_DID_WRITE_RW, iova, length, value);
}

/* A step of the device's own work: pin a page, write into it, unpin the one of 32 steps ago. */
static void smudge_dma_step(struct smudge_mdev *m)
{
	u64 mixed = (m->dma.sequence + 1) * 0x9e3779b97f4a7c15ull;
	u64 iova = m->dma.iova + ((mixed >> 17) % (m->dma.length >> PAGE_SHIFT) << PAGE_SHIFT);
	u64 *slot = &m->dma_pins[m->dma.sequence % SMUDGE_PINS_AT_ONCE];
	int ret;

	if (*slot)
		smudge_unpin(m, (*slot - 1) << PAGE_SHIFT);
	*slot = 0;
	m->dma.sequence++;
	ret = smudge_pin(m, iova);
	if (!ret)
		*slot = (iova >> PAGE_SHIFT) + 1;
	if (!ret || ret == -EEXIST)
		ret = smudge_write(m, iova + (mixed >> 55) * 8, 8, m->dma.sequence, true);
	if (ret) {
		m->status.dma_refused++;
		return;
	}
	m->status.dma_writes++;
	memcpy(m->memory, &m->dma, sizeof(m->dma));
	smudge_dirty_memory(m, 0, sizeof(m->dma));
}

static void smudge_dma_work(struct work_struct *work)
{
	struct smudge_mdev *m = container_of(work, struct smudge_mdev, dma_work.work);

	mutex_lock(&m->lock);
	if (m->dma.length) {
		if (smudge_may_dma(m))
			smudge_dma_step(m);
		schedule_delayed_work(&m->dma_work, max(1, usecs_to_jiffies(m->dma.period)));
	}
	mutex_unlock(&m->lock);
}

static int smudge_each_page(struct smudge_mdev *m, const struct smudge_command *c)
{
	u64 at, next, end = c->iova + c->length;
	int ret = 0;

	if (end < c->iova || (c->operation <= SMUDGE_UNPIN
			      ? !IS_ALIGNED(c->iova | c->length, PAGE_SIZE)
			      : !IS_ALIGNED(c->iova | c->length, 8)))
		return -EINVAL;
	for (at = c->iova; at < end && !ret; at = next) {
		next = min(end, (at | ~PAGE_MASK) + 1);
		switch (c->operation) {
		case SMUDGE_PIN:
			ret = smudge_pin(m, at);
			break;
		case SMUDGE_UNPIN:
			ret = smudge_unpin(m, at);
			break;
		default:
			ret = smudge_write(m, at, next - at, c->value,
					   c->operation == SMUDGE_WRITE_PINNED);
		}
	}
	return ret;
}

static int smudge_execute(struct smudge_mdev *m, const struct smudge_command *c)
{
	switch (c->operation) {
	case SMUDGE_WRITE_PINNED:
	case SMUDGE_WRITE_RW:
		if (!smudge_may_dma(m))
			return -EBUSY;
		fallthrough;
	case SMUDGE_PIN:
	case SMUDGE_UNPIN:
		return smudge_each_page(m, c);
	case SMUDGE_DMA:
		if (!IS_ALIGNED(c->iova | c->length, PAGE_SIZE) || c->iova + c->length < c->iova)
			return -EINVAL;
		m->dma.iova = c->iova;
		m->dma.length = c->length;
		m->dma.period = c->value;
		schedule_delayed_work(&m->dma_work, 0);
		return 0;
	case SMUDGE_FAIL_STATE:
		m->fail_state = c->value;
		return 0;
	case SMUDGE_FAIL_REPORT:
		m->fail_reports = c->value;
		return 0;
	case SMUDGE_FAIL_STREAM:
		m->fail_stream = c->value;
		return 0;
	case SMUDGE_FAIL_BROKEN:
		m->fail_broken = c->value;
		return 0;
	case SMUDGE_CLEAR_JOURNAL:
		m->status.events = 0;
		return 0;
	}
	return -EINVAL;
}

static u8 *smudge_region(struct smudge_mdev *m, u64 index, u64 *size, bool writes)
{
	switch (index) {
	case VFIO_PCI_BAR0_REGION_INDEX:
		*size = sizeof(m->status);
		return writes ? NULL : (u8 *)&m->status;
	case VFIO_PCI_BAR1_REGION_INDEX:
		*size = SMUDGE_EVENTS * sizeof(struct smudge_event);
		return writes ? NULL : (u8 *)m->journal;
	case VFIO_PCI_BAR2_REGION_INDEX:
		*size = SMUDGE_MEMORY_SIZE;
		return m->memory;
	case VFIO_PCI_CONFIG_REGION_INDEX:
		*size = SMUDGE_CONFIG_SIZE;
		return m->config;
	}
	*size = 0;
	return NULL;
}

static ssize_t smudge_access(struct vfio_device *vdev, char __user *to, const char __user *from,
			     size_t count, loff_t *position)
{
	struct smudge_mdev *m = to_smudge(vdev);
	u64 index = *position >> SMUDGE_REGION_SHIFT, size;
	u64 offset = *position & ((1ull << SMUDGE_REGION_SHIFT) - 1);
	struct smudge_command command;
	ssize_t ret = count;
	u8 *bytes;

	mutex_lock(&m->lock);
	bytes = smudge_region(m, index, &size, from);
	if (index == SMUDGE_MIGRATION_REGION && m->region.section)
		ret = smudge_access_region(m, to, from, count, offset);
	else if (from && index == VFIO_PCI_BAR0_REGION_INDEX) {
		if (offset || count != sizeof(command))
			ret = -EINVAL;
		else if (copy_from_user(&command, from, count))
			ret = -EFAULT;
		else
			ret = smudge_execute(m, &command) ?: ret;
	} else if (!bytes || offset > size || count > size - offset) {
		ret = -EINVAL;
	} else if (to) {
		if (copy_to_user(to, bytes + offset, count))
			ret = -EFAULT;
	} else if (index == VFIO_PCI_CONFIG_REGION_INDEX && offset < PCI_COMMAND) {
		ret = -EPERM;	/* the ids */
	} else {
		if (copy_from_user(bytes + offset, from, count))
			ret = -EFAULT;
		if (index == VFIO_PCI_BAR2_REGION_INDEX)
			smudge_dirty_memory(m, offset, count);
	}
	mutex_unlock(&m->lock);
	if (ret > 0)
		*position += ret;
	return ret;
}

static ssize_t smudge_read(struct vfio_device *vdev, char __user *to, size_t count,
			   loff_t *position)
{
	return smudge_access(vdev, to, NULL, count, position);
}

static ssize_t smudge_write_op(struct vfio_device *vdev, const char __user *from, size_t count,
			       loff_t *position)
{
	return smudge_access(vdev, NULL, from, count, position);
}

static u32 smudge_region_count(const struct smudge_mdev *m)
{
	return m->region.section ? SMUDGE_MIGRATION_REGION + 1 : VFIO_PCI_NUM_REGIONS;
}

static int smudge_region_info(struct vfio_device *vdev, struct vfio_region_info *info,
			      struct vfio_info_cap *caps)
{
	struct smudge_mdev *m = to_smudge(vdev);
	u64 size;

	if (info->index >= smudge_region_count(m))
		return -EINVAL;
	info->offset = (u64)info->index << SMUDGE_REGION_SHIFT;
	if (info->index == SMUDGE_MIGRATION_REGION)
		return smudge_region_caps(info, caps);
	smudge_region(m, info->index, &size, false);
	info->size = size;
	info->flags = size ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
	return 0;
}

static void smudge_reset(struct smudge_mdev *m)
{
	mutex_lock(&m->lock);
	smudge_end_session(m);
	smudge_reset_region(m);
	m->status.migration_state = VFIO_DEVICE_STATE_RUNNING;
	m->dma.length = 0;
	m->fail_state = m->fail_reports = m->fail_stream = m->fail_broken = 0;
	m->status.logging_ranges = 0;
	xa_destroy(&m->logged);
	smudge_unpin_range(m, 0, U64_MAX);
	memset(m->dma_pins, 0, sizeof(m->dma_pins));
	mutex_unlock(&m->lock);
	cancel_delayed_work_sync(&m->dma_work);
}

static long smudge_ioctl(struct vfio_device *vdev, unsigned int command, unsigned long argument)
{
	struct vfio_device_info info;
	size_t minsz = offsetofend(struct vfio_device_info, num_irqs);

	switch (command) {
	case VFIO_DEVICE_GET_INFO:
		if (copy_from_user(&info, (void __user *)argument, minsz))
			return -EFAULT;
		if (info.argsz < minsz)
			return -EINVAL;
		info.flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET;
		info.num_regions = smudge_region_count(to_smudge(vdev));
		info.num_irqs = 0;
		return copy_to_user((void __user *)argument, &info, minsz) ? -EFAULT : 0;
	case VFIO_DEVICE_RESET:
		smudge_reset(to_smudge(vdev));
		return 0;
	}
	return -ENOTTY;
}

static void smudge_dma_unmap(struct vfio_device *vdev, u64 iova, u64 length)
{
	struct smudge_mdev *m = to_smudge(vdev);

	mutex_lock(&m->lock);
	m->status.unmap_callbacks++;
	smudge_note(m, SMUDGE_SAW_UNMAP, iova, length, 0);
	m->status.unmapped_pins += smudge_unpin_range(m, iova, iova + length - 1);
	mutex_unlock(&m->lock);
}

static int smudge_log_start(struct vfio_device *vdev, struct rb_root_cached *ranges, u32 count,
			    u64 *page_size)
{
	struct smudge_mdev *m = to_smudge(vdev);
	struct interval_tree_node *node;
	int ret = 0;

	mutex_lock(&m->lock);
	if (m->status.logging_ranges) {
		ret = -EINVAL;
		goto out;
	}
	for (node = interval_tree_iter_first(ranges, 0, ULONG_MAX); node;
	     node = interval_tree_iter_next(node, 0, ULONG_MAX))
		m->ranges[m->status.logging_ranges++] =
			(struct smudge_range){ node->start, node->last };
	*page_size = PAGE_SIZE;
out:
	mutex_unlock(&m->lock);
	return ret;
}

static int smudge_log_stop(struct vfio_device *vdev)
{
	struct smudge_mdev *m = to_smudge(vdev);

	mutex_lock(&m->lock);
	m->status.logging_ranges = 0;
	xa_destroy(&m->logged);
	mutex_unlock(&m->lock);
	return 0;
}

static int smudge_log_report(struct vfio_device *vdev, unsigned long iova, unsigned long length,
			     struct iova_bitmap *dirty)
{
	struct smudge_mdev *m = to_smudge(vdev);
	unsigned long page, count = 0;
	void *entry;
	int ret = 0;

	mutex_lock(&m->lock);
	if (!m->status.logging_ranges) {
		ret = -EINVAL;
	} else if (m->fail_reports) {
		m->fail_reports--;
		ret = -EIO;
	} else {
		xa_for_each_range(&m->logged, page, entry, iova >> PAGE_SHIFT,
				  (iova + length - 1) >> PAGE_SHIFT) {
			xa_erase(&m->logged, page);
			iova_bitmap_set(dirty, page << PAGE_SHIFT, PAGE_SIZE);
			count++;
		}
		smudge_note(m, SMUDGE_REPORTED, iova, length, count);
	}
	mutex_unlock(&m->lock);
	return ret;
}

static const struct vfio_log_ops smudge_log_ops = {
	.log_start = smudge_log_start,
	.log_stop = smudge_log_stop,
	.log_read_and_clear = smudge_log_report,
};

static struct mdev_type smudge_pinning = { .sysfs_name = "pinning", .pretty_name = "pinning" };
static struct mdev_type smudge_region_type = { .sysfs_name = "region", .pretty_name = "region" };
static struct mdev_type smudge_bare = { .sysfs_name = "bare", .pretty_name = "bare" };
static struct mdev_type *smudge_types[] = { &smudge_pinning, &smudge_region_type, &smudge_bare };

static int smudge_init_device(struct vfio_device *vdev)
{
	struct smudge_mdev *m = to_smudge(vdev);
	struct mdev_type *type = to_mdev_device(vdev->dev)->type;

	mutex_init(&m->lock);
	xa_init(&m->pinned);
	xa_init(&m->logged);
	INIT_DELAYED_WORK(&m->dma_work, smudge_dma_work);
	m->journal = vzalloc(SMUDGE_EVENTS * sizeof(struct smudge_event));
	m->memory = vzalloc(SMUDGE_MEMORY_SIZE);
	if (type == &smudge_region_type)
		m->region.section = vzalloc(SMUDGE_SECTION_SIZE);
	if (!m->journal || !m->memory || (type == &smudge_region_type && !m->region.section)) {
		vfree(m->journal);
		vfree(m->memory);
		vfree(m->region.section);
		return -ENOMEM;
	}
	/* "Sm" made by "Lab", a class of its own: no driver of a guest will bind to it. */
	memcpy(m->config, "\x4c\x53\x6d\x53", 4);
	m->config[PCI_CLASS_REVISION + 3] = 0xff;
	m->status.migration_state = VFIO_DEVICE_STATE_RUNNING;
	smudge_reset_region(m);
	if (type != &smudge_pinning)
		return 0;
	vdev->migration_flags = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | VFIO_MIGRATION_PRE_COPY;
	vdev->mig_ops = &smudge_migration_ops;
	vdev->log_ops = &smudge_log_ops;
	return 0;
}

static void smudge_release_device(struct vfio_device *vdev)
{
	struct smudge_mdev *m = to_smudge(vdev);

	vfree(m->journal);
	vfree(m->memory);
	vfree(m->region.section);
	mutex_destroy(&m->lock);
}

static void smudge_close(struct vfio_device *vdev)
{
	smudge_reset(to_smudge(vdev));
}

static const struct vfio_device_ops smudge_device_ops = {
	.name = "vfio-smudge",
	.init = smudge_init_device,
	.release = smudge_release_device,
	.close_device = smudge_close,
	.read = smudge_read,
	.write = smudge_write_op,
	.ioctl = smudge_ioctl,
	.get_region_info_caps = smudge_region_info,
	.mmap = smudge_map_region,
	.dma_unmap = smudge_dma_unmap,
	.bind_iommufd = vfio_iommufd_emulated_bind,
	.unbind_iommufd = vfio_iommufd_emulated_unbind,
	.attach_ioas = vfio_iommufd_emulated_attach_ioas,
	.detach_ioas = vfio_iommufd_emulated_detach_ioas,
};

static int smudge_probe(struct mdev_device *mdev)
{
	struct smudge_mdev *m =
		vfio_alloc_device(smudge_mdev, vdev, &mdev->dev, &smudge_device_ops);
	int ret;

	if (IS_ERR(m))
		return PTR_ERR(m);
	ret = vfio_register_emulated_iommu_dev(&m->vdev);
	if (ret)
		vfio_put_device(&m->vdev);
	else
		dev_set_drvdata(&mdev->dev, m);
	return ret;
}

static void smudge_remove(struct mdev_device *mdev)
{
	struct smudge_mdev *m = dev_get_drvdata(&mdev->dev);

	vfio_unregister_group_dev(&m->vdev);
	vfio_put_device(&m->vdev);
}

static struct mdev_driver smudge_driver = {
	.device_api = VFIO_DEVICE_API_PCI_STRING,
	.max_instances = 8,
	.probe = smudge_probe,
	.remove = smudge_remove,
	.driver = { .name = "smudge", .owner = THIS_MODULE, .mod_name = KBUILD_MODNAME },
};

static struct mdev_parent smudge_parent;
static struct device *smudge_root;

static int __init smudge_init(void)
{
	int ret = mdev_register_driver(&smudge_driver);

	if (ret)
		return ret;
	smudge_root = root_device_register("smudge");
	if (IS_ERR(smudge_root)) {
		ret = PTR_ERR(smudge_root);
		goto driver;
	}
	ret = mdev_register_parent(&smudge_parent, smudge_root, &smudge_driver, smudge_types,
				   ARRAY_SIZE(smudge_types));
	if (!ret)
		return 0;
	root_device_unregister(smudge_root);
driver:
	mdev_unregister_driver(&smudge_driver);
	return ret;
}

static void __exit smudge_exit(void)
{
	mdev_unregister_parent(&smudge_parent);
	root_device_unregister(smudge_root);
	mdev_unregister_driver(&smudge_driver);
}

module_init(smudge_init)
module_exit(smudge_exit)
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Mediated device of Smudge's test lab");
MODULE_IMPORT_NS("IOMMUFD");
