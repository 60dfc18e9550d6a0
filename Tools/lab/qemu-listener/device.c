/*
 * A PCI device by vfio-user whose only work is to write to guest memory: device SOCKET.
 *
 * It writes through the IOVAs that are mapped above 4 GiB, as many pages a second as it is told,
 * keeps a log of IOVAs for DEVICE_FEATURE's DMA_LOGGING, and a ledger, by offset in the memory's
 * file, of what it wrote: the truth that a migration is measured by. One thread, so that nothing
 * is written once an unmap was answered.
 *
 * Commands on standard input, each answered by a line: "write PAGES-A-SECOND" (0: none) and
 * "ledger FILE", which writes the offsets of the pages that were written.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { page_size = 4096, chunk_pages = 32768, message_size_max = 2 << 20 };
/* The guest program maps from here on; below lie mappings of the firmware and of the kernel. */
static const uint64_t iova_first = 1ull << 32;

static void fail(const char *what) {
  fprintf(stderr, "device: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void *allocate(void *old, size_t count, size_t size) {
  void *made = realloc(old, count * size);
  if (!made) fail("memory");
  return made;
}

/* ---- guest memory ---------------------------------------------------------------------------- */

/* A file that mappings lie in, mapped as a whole. The ledger holds the last stamp of each page. */
struct file {
  dev_t device;
  ino_t inode;
  uint64_t size;
  uint8_t *bytes;
  uint64_t *ledger;
};

struct mapping {
  uint64_t iova, size, offset;
  /* Of `files`, or -1: memory that only messages reach. */
  int file;
  bool is_writable;
};

static struct file *files;
static int file_count;
static struct mapping *mappings;
static size_t mapping_count, mapping_room;

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

static void add_mapping(struct mapping new) {
  if (mapping_count == mapping_room) {
    mapping_room = mapping_room * 2 + 64;
    mappings = allocate(mappings, mapping_room, sizeof *mappings);
  }
  mappings[mapping_count++] = new;
}

/* Takes away what lies in iova ... last, and keeps what sticks out of it. */
static void remove_mappings(uint64_t iova, uint64_t last) {
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
      add_mapping(left);
    }
    if (old_last > last) {
      struct mapping right = old;
      right.offset += last + 1 - old.iova;
      right.iova = last + 1;
      right.size = old_last - last;
      add_mapping(right);
    }
  }
}

/* ---- the dirty log, by IOVA ------------------------------------------------------------------ */

struct chunk {
  uint64_t number;
  uint64_t words[chunk_pages / 64];
};

static struct chunk **chunks;
static size_t chunk_count;
static bool is_logging;
static unsigned long long report_count;

static void log_write(uint64_t iova) {
  uint64_t page = iova / page_size, number = page / chunk_pages, bit = page % chunk_pages;
  struct chunk *found = NULL;
  for (size_t index = 0; index < chunk_count && !found; index++)
    if (chunks[index]->number == number) found = chunks[index];
  if (!found) {
    chunks = allocate(chunks, chunk_count + 1, sizeof *chunks);
    found = calloc(1, sizeof *found);
    if (!found) fail("memory");
    found->number = number;
    chunks[chunk_count++] = found;
  }
  found->words[bit / 64] |= 1ull << bit % 64;
}

/* Moves the bits of iova ... iova + size - 1 to `words`, whose bit 0 is the page at iova. */
static void take_log(uint64_t iova, uint64_t size, uint64_t *words) {
  uint64_t first = iova / page_size, last = (iova + size - 1) / page_size;
  for (size_t index = 0; index < chunk_count; index++) {
    uint64_t base = chunks[index]->number * chunk_pages;
    for (uint64_t word = 0; word < chunk_pages / 64; word++) {
      uint64_t left = chunks[index]->words[word];
      for (; left; left &= left - 1) {
        uint64_t page = base + word * 64 + __builtin_ctzll(left);
        if (page < first || page > last) continue;
        words[(page - first) / 64] |= 1ull << (page - first) % 64;
        chunks[index]->words[word] &= ~(left & -left);
      }
    }
  }
}

/* ---- the writes ------------------------------------------------------------------------------ */

static uint64_t stamp, rate, written_until;

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ull + time.tv_nsec;
}

static void write_page(void) {
  size_t usable = 0, chosen = 0;
  for (size_t index = 0; index < mapping_count; index++)
    usable += mappings[index].is_writable && mappings[index].file >= 0 &&
              mappings[index].iova >= iova_first;
  if (!usable) return;
  for (size_t wanted = random() % usable + 1; wanted; chosen++)
    wanted -= mappings[chosen].is_writable && mappings[chosen].file >= 0 &&
              mappings[chosen].iova >= iova_first;
  struct mapping *into = &mappings[chosen - 1];
  struct file *file = &files[into->file];
  uint64_t page = random() % (into->size / page_size);
  uint64_t at = into->offset + page * page_size;
  stamp++;
  /* At another place each time, so that a page that was sent half new would differ. */
  memcpy(file->bytes + at + (stamp * 64) % page_size, &stamp, sizeof stamp);
  file->ledger[at / page_size] = stamp;
  if (is_logging) log_write(into->iova + page * page_size);
}

/* Writes what is due, and returns how many milliseconds there are until more is. */
static int write_due(void) {
  if (!rate) return 1000;
  uint64_t each = 1000000000 / rate, time = now();
  /* What a busy machine kept us from doing is not all done at once. */
  if (time > written_until + 100 * each) written_until = time - 100 * each;
  for (; written_until + each <= time; written_until += each) write_page();
  return (int)((written_until + each - time) / 1000000) + 1;
}

/* ---- vfio-user ------------------------------------------------------------------------------- */

struct header {
  uint16_t id, command;
  uint32_t size, flags, error;
};

enum {
  version = 1, dma_map, dma_unmap, get_info, get_region_info, get_region_descriptors, get_irq_info,
  set_irqs, region_read, region_write, dma_read, dma_write, reset, device_feature = 16
};
enum { is_reply = 1, wants_no_reply = 0x10, is_error = 0x20 };

static uint8_t configuration[256] = {
    0x34, 0x12, 0x5d, 0xd1, [0x08] = 1, 0, 0x80, 0x08, [0x2c] = 0x34, 0x12, 0x5d, 0xd1};
static uint8_t registers[page_size];

static uint8_t *region(uint32_t index, uint64_t *size) {
  *size = index == VFIO_PCI_CONFIG_REGION_INDEX ? sizeof configuration
          : index == VFIO_PCI_BAR0_REGION_INDEX ? sizeof registers
                                                : 0;
  return index == VFIO_PCI_CONFIG_REGION_INDEX ? configuration : registers;
}

static int log_feature(uint8_t *body, uint32_t size, uint32_t *answer) {
  struct vfio_device_feature *feature = (void *)body;
  struct vfio_device_feature_dma_logging_report *report = (void *)feature->data;
  if (size < sizeof *feature) return EINVAL;
  uint32_t number = feature->flags & VFIO_DEVICE_FEATURE_MASK;
  if (number == VFIO_DEVICE_FEATURE_DMA_LOGGING_START) {
    is_logging = true;
    for (size_t index = 0; index < chunk_count; index++)
      memset(chunks[index]->words, 0, sizeof chunks[index]->words);
    return 0;
  }
  if (number == VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP) {
    is_logging = false;
    return 0;
  }
  if (number != VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT) return ENOTTY;
  /* The kernel's struct without its pointer to a bitmap, which follows here. */
  uint32_t fixed =
      sizeof *feature + offsetof(struct vfio_device_feature_dma_logging_report, bitmap);
  if (size < fixed || report->page_size != page_size || !report->length) return EINVAL;
  uint64_t byte_count = (report->length / page_size + 63) / 64 * 8;
  if (fixed + byte_count > message_size_max) return E2BIG;
  memset(body + fixed, 0, byte_count);
  report_count++;
  take_log(report->iova, report->length, (void *)(body + fixed));
  *answer = fixed + byte_count;
  return 0;
}

/* Changes the body of a request of `size` bytes to the answer's, whose size it sets. Returns 0 or
 * an error number. */
static int serve(uint16_t command, uint8_t *body, uint32_t size, int fd, uint32_t *answer) {
  uint32_t *words = (void *)body;
  uint64_t *longs = (void *)body, room;
  *answer = size;
  switch (command) {
  case version:
    /* The client's own version: QEMU takes no higher one. */
    strcpy((char *)body + 4, "{\"capabilities\":{\"max_msg_fds\":8,\"pgsizes\":4096}}");
    *answer = 4 + strlen((char *)body + 4) + 1;
    return 0;
  case dma_map:
    if (!longs[3]) return EINVAL;
    /* The same again comes too: QEMU's virtio-iommu, asked to replay, maps everything again. */
    remove_mappings(longs[2], longs[2] + longs[3] - 1);
    add_mapping((struct mapping){longs[2], longs[3], longs[1], fd >= 0 ? file_of(fd) : -1,
                                 words[1] & VFIO_DMA_MAP_FLAG_WRITE});
    *answer = 0;
    return 0;
  case dma_unmap:
    /* Nothing mapped there is no error: a vIOMMU that changes a domain unmaps everything. */
    if (words[1] & VFIO_DMA_UNMAP_FLAG_ALL) remove_mappings(0, UINT64_MAX);
    else if (longs[2]) remove_mappings(longs[1], longs[1] + longs[2] - 1);
    return 0;
  case get_info:
    words[0] = 16;
    words[1] = VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI;
    words[2] = VFIO_PCI_NUM_REGIONS;
    words[3] = VFIO_PCI_NUM_IRQS;
    return 0;
  case get_region_info:
    region(words[2], &room);
    words[0] = 32;
    words[1] = room ? VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE : 0;
    words[3] = 0;
    longs[2] = room;
    longs[3] = 0;
    return 0;
  case get_irq_info:
    words[1] = words[3] = 0;
    return 0;
  case region_read: {
    uint8_t *from = region(words[2], &room);
    if (longs[0] > room || words[3] > room - longs[0]) return EINVAL;
    memcpy(body + 16, from + longs[0], words[3]);
    *answer = 16 + words[3];
    return 0;
  }
  case region_write: {
    uint8_t *to = region(words[2], &room);
    if (longs[0] > room || words[3] > room - longs[0] || size < 16 + words[3]) return EINVAL;
    /* QEMU keeps the BARs itself; of the rest of the configuration a guest sets the command. */
    if (to != configuration || longs[0] == 4) memcpy(to + longs[0], body + 16, words[3]);
    *answer = 16;
    return 0;
  }
  case set_irqs:
  case reset:
    *answer = 0;
    return 0;
  case device_feature: return log_feature(body, size, answer);
  default: return EINVAL;
  }
}

static bool receive_all(int socket, void *bytes, size_t size) {
  for (ssize_t got; size; bytes = (char *)bytes + got, size -= got) {
    got = recv(socket, bytes, size, MSG_WAITALL);
    if (got <= 0) return false;
  }
  return true;
}

/* One request. false: the client is gone. */
static bool serve_one(int socket) {
  static _Alignas(16) uint8_t body[message_size_max + 64];
  struct header header;
  union {
    struct cmsghdr first;
    char bytes[CMSG_SPACE(16 * sizeof(int))];
  } control;
  struct iovec piece = {&header, sizeof header};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                           .msg_controllen = sizeof control};
  ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (got <= 0) return false;
  if (got < (ssize_t)sizeof header &&
      !receive_all(socket, (char *)&header + got, sizeof header - got)) return false;
  int descriptors[16], count = 0;
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  if (rights && rights->cmsg_type == SCM_RIGHTS) {
    count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(descriptors, CMSG_DATA(rights), count * sizeof(int));
  }
  if (header.size < sizeof header || header.size > message_size_max) return false;
  memset(body, 0, 64);
  if (!receive_all(socket, body, header.size - sizeof header)) return false;
  uint32_t answer = 0;
  int error = serve(header.command, body, header.size - sizeof header, count ? descriptors[0] : -1,
                    &answer);
  while (count) close(descriptors[--count]);
  if (header.flags & wants_no_reply) return true;
  if (error) answer = 0;
  header.size = sizeof header + answer;
  header.flags = is_reply | (error ? is_error : 0);
  header.error = error;
  struct iovec pieces[] = {{&header, sizeof header}, {body, answer}};
  struct msghdr reply = {.msg_iov = pieces, .msg_iovlen = 2};
  while (pieces[0].iov_len + pieces[1].iov_len) {
    ssize_t sent = sendmsg(socket, &reply, MSG_NOSIGNAL);
    if (sent < 0) return false;
    for (int index = 0; index < 2; index++) {
      size_t part = (size_t)sent < pieces[index].iov_len ? (size_t)sent : pieces[index].iov_len;
      pieces[index].iov_base = (char *)pieces[index].iov_base + part;
      pieces[index].iov_len -= part;
      sent -= part;
    }
  }
  return true;
}

/* ---- commands -------------------------------------------------------------------------------- */

static void write_ledger(const char *path) {
  FILE *out = fopen(path, "w");
  if (!out) fail(path);
  for (int index = 0; index < file_count; index++)
    for (uint64_t page = 0; page < files[index].size / page_size; page++)
      if (files[index].ledger[page]) fprintf(out, "%llu\n", (unsigned long long)page * page_size);
  if (fclose(out)) fail(path);
}

static bool obey(void) {
  char line[4096], path[4096];
  unsigned long long pages;
  if (!fgets(line, sizeof line, stdin)) return false;
  if (sscanf(line, "write %llu", &pages) == 1) {
    rate = pages;
    written_until = now();
  } else if (sscanf(line, "ledger %4095s", path) == 1) {
    write_ledger(path);
  } else {
    return false;
  }
  printf("done, %llu writes, %zu mappings, %llu reports\n", (unsigned long long)stamp,
         mapping_count, report_count);
  fflush(stdout);
  return true;
}

int main(int count, char **arguments) {
  if (count != 2) {
    fprintf(stderr, "device SOCKET\n");
    return 2;
  }
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(arguments[1]) >= sizeof address.sun_path) errno = ENAMETOOLONG, fail(arguments[1]);
  strcpy(address.sun_path, arguments[1]);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (void *)&address, sizeof address) || listen(listener, 1))
    fail(arguments[1]);
  printf("listening\n");
  fflush(stdout);
  srandom(1);
  setvbuf(stdin, NULL, _IONBF, 0);
  struct pollfd waits[] = {{0, POLLIN, 0}, {listener, POLLIN, 0}};
  bool is_connected = false;
  for (;;) {
    if (poll(waits, 2, write_due()) < 0 && errno != EINTR) fail("poll");
    if (waits[0].revents && !obey()) return 0;
    if (!waits[1].revents) continue;
    if (!is_connected) {
      waits[1].fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
      if (waits[1].fd < 0) fail("accept");
      is_connected = true;
    } else if (!serve_one(waits[1].fd)) {
      /* The memory is gone with the client; the ledger is still asked for. */
      mapping_count = 0;
      close(waits[1].fd);
      waits[1].fd = -1;
    }
  }
}
