/* Guest memory as the device sees it: mappings of IOVAs, the files they lie in, and the ledger of
 * what was written by file. */
#define _GNU_SOURCE
#include "device.h"

#include <sys/mman.h>
#include <sys/stat.h>

/* A file that mappings lie in, mapped as a whole. */
struct file {
  dev_t device;
  ino_t inode;
  uint64_t size;
  uint8_t *bytes;
  bool *ledger;
};

static struct file *files;
static int file_count;
struct mapping *mappings;
size_t mapping_count;
static size_t mapping_room;
static uint64_t births;

static int file_of(int fd) {
  struct stat about;
  if (fstat(fd, &about)) fail("fstat");
  for (int index = 0; index < file_count; index++)
    if (files[index].device == about.st_dev && files[index].inode == about.st_ino) return index;
  files = allocate(files, file_count + 1, sizeof *files);
  struct file *new = &files[file_count];
  *new = (struct file){about.st_dev, about.st_ino, about.st_size, NULL, NULL};
  new->bytes = mmap(NULL, new->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (new->bytes == MAP_FAILED) fail("mmap");
  new->ledger = calloc(new->size / page_size + 1, sizeof *new->ledger);
  if (!new->ledger) fail("memory");
  return file_count++;
}

static void append(struct mapping new) {
  if (mapping_count == mapping_room) {
    mapping_room = mapping_room * 2 + 64;
    mappings = allocate(mappings, mapping_room, sizeof *mappings);
  }
  mappings[mapping_count++] = new;
}

void add_mapping(uint64_t iova, uint64_t size, uint64_t offset, int fd, bool is_writable) {
  /* The same again comes too: QEMU's virtio-iommu, asked to replay, maps everything again. */
  remove_mappings(iova, iova + size - 1);
  append((struct mapping){iova, size, offset, ++births, fd >= 0 ? file_of(fd) : -1, is_writable});
}

void remove_mappings(uint64_t iova, uint64_t last) {
  for (size_t index = 0; index < mapping_count;) {
    struct mapping old = mappings[index];
    uint64_t old_last = old.iova + old.size - 1;
    if (old.iova > last || old_last < iova) {
      index++;
      continue;
    }
    mappings[index] = mappings[--mapping_count];
    if (old.iova < iova) {
      struct mapping left = old;
      left.size = iova - old.iova;
      append(left);
    }
    if (old_last > last) {
      struct mapping right = old;
      right.offset += last + 1 - old.iova;
      right.iova = last + 1;
      right.size = old_last - last;
      append(right);
    }
  }
}

struct mapping *mapping_at(uint64_t iova) {
  for (size_t index = 0; index < mapping_count; index++)
    if (iova >= mappings[index].iova && iova - mappings[index].iova < mappings[index].size)
      return &mappings[index];
  return NULL;
}

void write_file_page(const struct mapping *into, uint64_t iova, const void *bytes, size_t size) {
  struct file *file = &files[into->file];
  uint64_t at = into->offset + (iova - into->iova);
  if (at > file->size || size > file->size - at) errno = ERANGE, fail("a mapping beyond its file");
  memcpy(file->bytes + at, bytes, size);
  file->ledger[at / page_size] = true;
}

void write_ledger(const char *path) {
  FILE *out = fopen(path, "w");
  if (!out) fail(path);
  for (int index = 0; index < file_count; index++)
    for (uint64_t page = 0; page < files[index].size / page_size; page++)
      if (files[index].ledger[page]) fprintf(out, "%llu\n", (unsigned long long)page * page_size);
  if (fclose(out)) fail(path);
}
