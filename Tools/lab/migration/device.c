/*
 * A PCI device by vfio-user whose only work is to write to guest memory:
 * device [--messages] [--no-log] [--forget] SOCKET.
 *
 * It writes through the IOVAs that are mapped above 4 GiB, as many pages a second as it is told,
 * keeps a log of IOVAs for DEVICE_FEATURE's DMA_LOGGING unless --no-log, and a ledger, by offset in
 * the memory's file, of what it wrote: the truth that a migration is measured by. Memory that comes
 * without a descriptor it writes by messages with --messages, and not at all without; of that the
 * ledger knows nothing, and the stamps in the pages tell. Its log is kept by IOVA, and an unmap
 * leaves it as it is, as the kernel's devices do it; with --forget what is unmapped without asking
 * for its bitmap is forgotten, as libvfio-user does it. One thread, so that nothing is written
 * once an unmap was answered; requests are answered while messages of its own are not.
 *
 * Commands on standard input, each answered by a line: "write PAGES-A-SECOND" (0: none), "ledger
 * FILE", which writes the offsets of the pages that were written, "stamps FILE" and "count".
 */
#define _GNU_SOURCE
#include "device.h"

#include <linux/vfio.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static bool has_log = true, forgets;

_Noreturn void fail(const char *what) {
  fprintf(stderr, "device: %s: %s\n", what, strerror(errno));
  exit(1);
}

void *allocate(void *old, size_t count, size_t size) {
  void *made = realloc(old, count * size);
  if (!made) fail("memory");
  return made;
}

static uint8_t configuration[256] = {
    0x34, 0x12, 0x5d, 0xd1, [0x08] = 1, 0, 0x80, 0x08, [0x2c] = 0x34, 0x12, 0x5d, 0xd1};
static uint8_t registers[page_size];

static uint8_t *region(uint32_t index, uint64_t *size) {
  *size = index == VFIO_PCI_CONFIG_REGION_INDEX ? sizeof configuration
          : index == VFIO_PCI_BAR0_REGION_INDEX ? sizeof registers
                                                : 0;
  return index == VFIO_PCI_CONFIG_REGION_INDEX ? configuration : registers;
}

/* With the bitmap flag the answer says what of the range was written. */
static int unmap(uint8_t *body, uint32_t size, uint32_t *answer) {
  uint32_t *words = (void *)body;
  uint64_t *longs = (void *)body, fixed = 5 * sizeof *longs;
  if (size < 3 * sizeof *longs) return EINVAL;
  if (words[1] & VFIO_DMA_UNMAP_FLAG_ALL) {
    remove_mappings(0, UINT64_MAX);
    if (forgets) drop_log(0, UINT64_MAX);
    return 0;
  }
  /* Nothing mapped there is no error: a vIOMMU that changes a domain unmaps everything. */
  if (!longs[2]) return 0;
  if (words[1] & VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP) {
    if (!is_logging || size < fixed || longs[3] != page_size) return EINVAL;
    uint64_t byte_count = log_byte_count(longs[2]);
    if (longs[4] != byte_count || fixed + byte_count > message_size_max ||
        words[0] < fixed + byte_count) return EINVAL;
    memset(body + fixed, 0, byte_count);
    take_log(longs[1], longs[2], (void *)(body + fixed));
    *answer = fixed + byte_count;
  }
  remove_mappings(longs[1], longs[1] + longs[2] - 1);
  if (forgets) drop_log(longs[1], longs[1] + longs[2] - 1);
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
    if (size < 32 || !longs[3]) return EINVAL;
    add_mapping(longs[2], longs[3], longs[1], fd, words[1] & VFIO_DMA_MAP_FLAG_WRITE);
    *answer = 0;
    return 0;
  case dma_unmap: return unmap(body, size, answer);
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
  case device_feature: return has_log ? log_feature(body, size, answer) : EINVAL;
  default: return EINVAL;
  }
}

static bool receive_all(void *bytes, size_t size) {
  for (ssize_t got; size; bytes = (char *)bytes + got, size -= got) {
    got = recv(client, bytes, size, MSG_WAITALL);
    if (got <= 0) return false;
  }
  return true;
}

bool send_message(struct header header, const void *body, uint32_t size) {
  header.size = sizeof header + size;
  struct iovec pieces[] = {{&header, sizeof header}, {(void *)body, size}};
  struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
  while (pieces[0].iov_len + pieces[1].iov_len) {
    ssize_t sent = sendmsg(client, &message, MSG_NOSIGNAL);
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

/* One message: a request, or the answer to one of ours. false: the client is gone. */
static bool serve_one(void) {
  static _Alignas(16) uint8_t body[message_size_max + 64];
  struct header header;
  union {
    struct cmsghdr first;
    char bytes[CMSG_SPACE(16 * sizeof(int))];
  } control;
  struct iovec piece = {&header, sizeof header};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                           .msg_controllen = sizeof control};
  ssize_t got = recvmsg(client, &message, MSG_CMSG_CLOEXEC);
  if (got <= 0) return false;
  if (got < (ssize_t)sizeof header &&
      !receive_all((char *)&header + got, sizeof header - got)) return false;
  int descriptors[16], count = 0;
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  if (rights && rights->cmsg_type == SCM_RIGHTS) {
    count = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    memcpy(descriptors, CMSG_DATA(rights), count * sizeof(int));
  }
  if (header.size < sizeof header || header.size > message_size_max) return false;
  uint32_t size = header.size - sizeof header, answer = 0;
  memset(body, 0, 64);
  if (!receive_all(body, size)) return false;
  if ((header.flags & type_mask) == is_reply) {
    take_reply(header.id, header.command, header.flags & has_error, body, size);
    return true;
  }
  int error = serve(header.command, body, size, count ? descriptors[0] : -1, &answer);
  while (count) close(descriptors[--count]);
  if (header.flags & wants_no_reply) return true;
  header.flags = is_reply | (error ? has_error : 0);
  header.error = error;
  return send_message(header, body, error ? 0 : answer);
}

static bool obey(void) {
  char line[4096], path[4096];
  unsigned long long pages;
  if (!fgets(line, sizeof line, stdin)) return false;
  if (sscanf(line, "write %llu", &pages) == 1) set_rate(pages);
  else if (sscanf(line, "ledger %4095s", path) == 1) write_ledger(path);
  else if (sscanf(line, "stamps %4095s", path) == 1) write_stamps(path);
  else if (strcmp(line, "count\n")) return false;
  print_counts();
  return true;
}

static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) errno = ENAMETOOLONG, fail(path);
  strcpy(address.sun_path, path);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (void *)&address, sizeof address) || listen(listener, 1))
    fail(path);
  printf("listening\n");
  fflush(stdout);
  return listener;
}

int main(int count, char **arguments) {
  int next = 1;
  for (; next < count - 1; next++) {
    if (!strcmp(arguments[next], "--messages")) has_messages = true;
    else if (!strcmp(arguments[next], "--no-log")) has_log = false;
    else if (!strcmp(arguments[next], "--forget")) forgets = true;
    else break;
  }
  if (next != count - 1) {
    fprintf(stderr, "device [--messages] [--no-log] [--forget] SOCKET\n");
    return 2;
  }
  srandom(1);
  setvbuf(stdin, NULL, _IONBF, 0);
  struct pollfd waits[] = {{0, POLLIN, 0}, {listen_at(arguments[next]), POLLIN, 0}};
  for (;;) {
    if (poll(waits, 2, write_due()) < 0 && errno != EINTR) fail("poll");
    if (waits[0].revents && !obey()) return 0;
    if (!waits[1].revents) continue;
    if (client < 0) {
      waits[1].fd = client = accept4(waits[1].fd, NULL, NULL, SOCK_CLOEXEC);
      if (client < 0) fail("accept");
    } else if (!serve_one()) {
      /* The memory is gone with the client; the ledger is still asked for. */
      remove_mappings(0, UINT64_MAX);
      close(client);
      waits[1].fd = -1;
    }
  }
}
