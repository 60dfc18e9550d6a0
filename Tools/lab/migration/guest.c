/*
 * In the guest: gives the device to vfio-pci, maps 64 x 64 KiB for it by type1, and replaces one
 * mapping every 20 ms, while a second thread writes 4 MiB over and over by CPU. Runs until the
 * guest ends.
 *
 * The memory that is mapped is a tour through a pool of 64 MiB which the CPU touches once, before
 * "ready" is printed: who loses what the device wrote there is not saved by the CPU's dirt.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { slot_count = 64, slot_size = 64 << 10, pool_size = 64 << 20, cpu_size = 4 << 20 };
/* All of the vIOMMUs can map there; virtio-iommu's guest driver has 39 bits. */
static const uint64_t iova_first = 0x200000000;

static void fail(const char *what) {
  printf("guest: %s: %s\n", what, strerror(errno));
  fflush(stdout);
  exit(1);
}

static void write_file(const char *path, const char *text) {
  int fd = open(path, O_WRONLY);
  if (fd < 0 || write(fd, text, strlen(text)) < 0) fail(path);
  close(fd);
}

static int has_text(const char *folder, const char *name, const char *text) {
  char path[512], found[16] = "";
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "r");
  if (!file) return 0;
  if (!fgets(found, sizeof found, file)) found[0] = 0;
  fclose(file);
  return !strncmp(found, text, strlen(text));
}

/* The address of our device, "0000:00:05.0". */
static void find_device(char *address, size_t size) {
  DIR *devices = opendir("/sys/bus/pci/devices");
  for (struct dirent *entry; devices && (entry = readdir(devices));) {
    char folder[300];
    snprintf(folder, sizeof folder, "/sys/bus/pci/devices/%s", entry->d_name);
    if (has_text(folder, "vendor", "0x1234") && has_text(folder, "device", "0xd15d")) {
      snprintf(address, size, "%s", entry->d_name);
      closedir(devices);
      return;
    }
  }
  errno = ENODEV;
  fail("the device");
}

static void *map_memory(size_t size) {
  void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bytes == MAP_FAILED) fail("mmap");
  for (size_t at = 0; at < size; at += 4096) ((uint64_t *)bytes)[at / 8] = at;
  return bytes;
}

static void pause_for(long nanoseconds) {
  struct timespec time = {0, nanoseconds};
  nanosleep(&time, NULL);
}

static void *write_by_cpu(void *bytes) {
  for (uint64_t turn = 1;; turn++)
    for (size_t at = 0; at < cpu_size; at += 4096) {
      ((volatile uint64_t *)bytes)[at / 8] = turn;
      if (at % (64 << 10) == 0) pause_for(1000000);
    }
  return NULL;
}

int main(void) {
  char address[256], path[512], link[512], text[512];
  find_device(address, sizeof address);
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver_override", address);
  write_file(path, "vfio-pci");
  write_file("/sys/bus/pci/drivers_probe", address);
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", address);
  ssize_t length = readlink(path, link, sizeof link - 1);
  if (length < 0) fail("its IOMMU group");
  link[length] = 0;
  snprintf(text, sizeof text, "/dev/vfio/%.100s", strrchr(link, '/') + 1);

  int container = open("/dev/vfio/vfio", O_RDWR), group = open(text, O_RDWR);
  if (container < 0 || group < 0) fail(text);
  if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container)) fail("SET_CONTAINER");
  if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU)) fail("SET_IOMMU");
  int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
  if (device < 0) fail("GET_DEVICE_FD");
  struct vfio_region_info region = {.argsz = sizeof region, .index = VFIO_PCI_CONFIG_REGION_INDEX};
  if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &region)) fail("GET_REGION_INFO");
  uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
  if (pwrite(device, &command, sizeof command, region.offset + PCI_COMMAND) != sizeof command)
    fail("PCI_COMMAND");

  uint8_t *pool = map_memory(pool_size);
  pthread_t thread;
  errno = pthread_create(&thread, NULL, write_by_cpu, map_memory(cpu_size));
  if (errno) fail("pthread_create");
  size_t next = 0;
  for (uint64_t turn = 0;; turn++) {
    uint64_t iova = iova_first + turn % slot_count * slot_size;
    if (turn >= slot_count) {
      struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof unmap, .iova = iova,
                                                 .size = slot_size};
      if (ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap)) fail("UNMAP_DMA");
    }
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof map, .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uintptr_t)pool + next, .iova = iova, .size = slot_size};
    if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map)) fail("MAP_DMA");
    next = (next + slot_size) % pool_size;
    if (turn + 1 == slot_count) {
      printf("guest: ready\n");
      fflush(stdout);
    }
    if (turn + 1 >= slot_count) pause_for(20000000);
  }
}
