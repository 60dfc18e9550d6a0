/* Calls of libsmudge in QEMU's VFIO listener; see vfio-smudge.c.inc. Each does nothing where the
 * container has no tracker. */
#ifndef HW_VFIO_SMUDGE_H
#define HW_VFIO_SMUDGE_H

#include "hw/vfio/vfio-container.h"

bool vfio_smudge_register(VFIOContainer *bcontainer, Error **errp);
void vfio_smudge_unregister(VFIOContainer *bcontainer);
bool vfio_smudge_log_start(VFIOContainer *bcontainer, Error **errp);
void vfio_smudge_log_stop(VFIOContainer *bcontainer);
bool vfio_smudge_enter(VFIOContainer *bcontainer);
int vfio_smudge_dma_map(VFIOContainer *bcontainer, hwaddr iova, uint64_t size, void *vaddr,
                        bool readonly, MemoryRegion *mr);
int vfio_smudge_dma_unmap(VFIOContainer *bcontainer, hwaddr iova, uint64_t size, bool unmap_all);
bool vfio_smudge_logs_without_migration(const VFIOContainer *bcontainer);

#endif
