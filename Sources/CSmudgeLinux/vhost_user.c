#define _GNU_SOURCE
#include "vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define REPEAT(call)                                 \
  ({                                                 \
    long value_;                                     \
    do {                                             \
      value_ = (long)(call);                         \
    } while (value_ < 0 && errno == EINTR);          \
    value_ < 0 ? -(long)errno : value_;              \
  })

static int address_of(const char *path, struct sockaddr_un *address) {
  size_t length = strlen(path);
  if (length == 0) return -ENOENT;
  if (length >= sizeof address->sun_path) return -ENAMETOOLONG;
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, path, length);
  return 0;
}

/// Whether a socket file has a living socket behind it. A datagram socket cannot be connected to a
/// stream socket (EPROTOTYPE), so nobody is disturbed by the question; where the owner is gone the
/// answer is ECONNREFUSED.
static int is_live(const struct sockaddr_un *address) {
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  long value = REPEAT(connect(fd, (const struct sockaddr *)address, sizeof *address));
  close(fd);
  return value != -ECONNREFUSED;
}

/// Two processes that start at once could each remove the socket of the other: whoever binds holds
/// the lock of the folder meanwhile.
static int lock_folder(const char *path) {
  char folder[sizeof((struct sockaddr_un *)0)->sun_path];
  const char *slash = strrchr(path, '/');
  size_t length = slash == NULL ? 0 : slash == path ? 1 : (size_t)(slash - path);
  memcpy(folder, path, length);
  folder[length] = 0;
  int fd = open(length == 0 ? "." : folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  // Whoever binds holds it for a moment. A stranger may hold it for ever, and is not waited for.
  int error = EBUSY;
  for (int attempt = 0; attempt < 2000; attempt++) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
    if (errno != EWOULDBLOCK && errno != EINTR) {
      error = errno;
      break;
    }
    usleep(1000);
  }
  close(fd);
  return -error;
}

static int bind_and_listen(int fd, const struct sockaddr_un *address) {
  struct stat status;
  if (lstat(address->sun_path, &status) == 0 && S_ISSOCK(status.st_mode)) {
    int live = is_live(address);
    if (live < 0) return live;
    if (live == 0 && unlink(address->sun_path) != 0) return -errno;
  }
  // The file is made with the mode of the socket: there is no moment in which others may connect.
  if (fchmod(fd, 0600) != 0) return -errno;
  if (bind(fd, (const struct sockaddr *)address, sizeof *address) != 0) return -errno;
  if (listen(fd, 4) == 0) return 0;
  int error = errno;
  unlink(address->sun_path);
  return -error;
}

int smudge_vhost_listen(const char *path, uint64_t *device, uint64_t *inode) {
  struct sockaddr_un address;
  int value = address_of(path, &address);
  if (value < 0) return value;
  int lock = lock_folder(path);
  if (lock < 0) return lock;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  value = fd < 0 ? -errno : bind_and_listen(fd, &address);
  struct stat status;
  if (value == 0 && lstat(path, &status) == 0) {
    *device = status.st_dev;
    *inode = status.st_ino;
  }
  close(lock);
  if (value == 0) return fd;
  if (fd >= 0) close(fd);
  return value;
}

void smudge_vhost_remove(const char *path, uint64_t device, uint64_t inode) {
  struct stat status;
  if (lstat(path, &status) == 0 && status.st_dev == device && status.st_ino == inode) unlink(path);
}

int smudge_vhost_file(int fd, uint64_t *device, uint64_t *inode, uint64_t *byte_count) {
  struct stat status;
  if (fstat(fd, &status) != 0) return -errno;
  *device = status.st_dev;
  *inode = status.st_ino;
  *byte_count = status.st_size < 0 ? 0 : (uint64_t)status.st_size;
  return 0;
}

int smudge_vhost_cannot_shrink(int fd) {
  int seals = fcntl(fd, F_GET_SEALS);
  // Not a file that can be sealed at all.
  if (seals < 0) return errno == EINVAL ? 0 : -errno;
  if (seals & F_SEAL_SHRINK) return 1;
  return fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0;
}

static uint64_t page_mask(void) { return (uint64_t)sysconf(_SC_PAGESIZE) - 1; }

int64_t smudge_vhost_log_map(int fd, uint64_t offset, uint64_t byte_count) {
  uint64_t skipped = offset & page_mask();
  if (byte_count > INT64_MAX / 2 || offset > INT64_MAX / 2) return -EOVERFLOW;
  void *address = mmap(NULL, byte_count + skipped, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_NORESERVE, fd, (off_t)(offset - skipped));
  if (address == MAP_FAILED) return -errno;
  return (int64_t)(uintptr_t)address + (int64_t)skipped;
}

void smudge_vhost_log_unmap(int64_t address, uint64_t byte_count) {
  uint64_t skipped = (uint64_t)address & page_mask();
  munmap((void *)(uintptr_t)((uint64_t)address - skipped), byte_count + skipped);
}

/// ORs into one word of the log. The front-end takes words by exchange, so nothing it has not seen
/// may be stored over. A word whose bits are set already is not written: its cache line stays
/// shared. At the end of a log that is no whole number of words it goes by bytes.
static void or_word(int64_t address, uint64_t byte_count, uint64_t index, uint64_t bits) {
  if (index * 8 + 8 <= byte_count) {
    uint64_t *word = (uint64_t *)(uintptr_t)address + index;
    if ((__atomic_load_n(word, __ATOMIC_RELAXED) & bits) != bits)
      __atomic_fetch_or(word, bits, __ATOMIC_SEQ_CST);
    return;
  }
  uint8_t *byte = (uint8_t *)(uintptr_t)address + index * 8;
  for (; bits != 0; bits >>= 8, byte++) {
    if ((bits & 0xff) != 0) __atomic_fetch_or(byte, (uint8_t)bits, __ATOMIC_SEQ_CST);
  }
}

/// Before a bit that is set already is taken for a mark, the caller's stores must be visible:
/// otherwise the front-end could take the bit, copy the page, and miss a store that waits in the
/// processor's buffer.
static void publish_stores(void) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

void smudge_vhost_log_set(int64_t address, uint64_t byte_count, uint64_t first, uint64_t last) {
  publish_stores();
  for (uint64_t index = first / 64; index <= last / 64; index++) {
    uint64_t bits = ~UINT64_C(0);
    if (index == first / 64) bits &= ~UINT64_C(0) << (first % 64);
    if (index == last / 64) bits &= ~UINT64_C(0) >> (63 - last % 64);
    or_word(address, byte_count, index, bits);
  }
}

void smudge_vhost_log_merge(int64_t address, uint64_t byte_count, uint64_t first,
                            const uint64_t *words, uint64_t bit_count) {
  publish_stores();
  uint64_t shift = first % 64, target = first / 64;
  for (uint64_t index = 0; index * 64 < bit_count; index++) {
    uint64_t bits = words[index];
    if (bit_count - index * 64 < 64) bits &= ~(~UINT64_C(0) << (bit_count - index * 64));
    if (bits == 0) continue;
    uint64_t low = bits << shift;
    if (low != 0) or_word(address, byte_count, target + index, low);
    uint64_t high = shift == 0 ? 0 : bits >> (64 - shift);
    if (high != 0) or_word(address, byte_count, target + index + 1, high);
  }
}
