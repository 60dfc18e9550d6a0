#define _GNU_SOURCE
#include "file_access.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// The page size of a hugetlbfs file is its block size; of all others the system's will do.
static int by_map(int fd, uint64_t offset, void *in, const void *out, size_t count) {
  struct stat file;
  if (fstat(fd, &file) != 0) return -errno;
  if (offset > (uint64_t)file.st_size || count > (uint64_t)file.st_size - offset) return -ENXIO;
  uint64_t page = file.st_blksize > 4096 ? (uint64_t)file.st_blksize : 4096;
  uint64_t inside = offset % page;
  size_t size = (inside + count + page - 1) / page * page;
  char *memory = mmap(NULL, size, in ? PROT_READ : PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                      (off_t)(offset - inside));
  if (memory == MAP_FAILED) return -errno;
  if (in) memcpy(in, memory + inside, count);
  else memcpy(memory + inside, out, count);
  munmap(memory, size);
  return 0;
}

int smudge_file_read(int fd, uint64_t offset, void *bytes, size_t count) {
  for (size_t done = 0; done < count;) {
    ssize_t read = pread(fd, (char *)bytes + done, count - done, (off_t)(offset + done));
    if (read < 0 && errno == EINTR) continue;
    if (read < 0 && errno == EINVAL)
      return by_map(fd, offset + done, (char *)bytes + done, NULL, count - done);
    if (read < 0) return -errno;
    if (read == 0) return -ENXIO;
    done += (size_t)read;
  }
  return 0;
}

int smudge_file_write(int fd, uint64_t offset, const void *bytes, size_t count) {
  for (size_t done = 0; done < count;) {
    // Not past the end: pwrite would make the file longer.
    struct stat file;
    if (fstat(fd, &file) != 0) return -errno;
    uint64_t from = offset + done;
    if (from > (uint64_t)file.st_size || count - done > (uint64_t)file.st_size - from)
      return -ENXIO;
    ssize_t written = pwrite(fd, (const char *)bytes + done, count - done, (off_t)from);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == EINVAL)
      return by_map(fd, from, NULL, (const char *)bytes + done, count - done);
    if (written < 0) return -errno;
    done += (size_t)written;
  }
  return 0;
}
