/* What the parts of the device share; see device.c. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { page_size = 4096, message_size_max = 2 << 20 };
/* The guest program maps from here on; below lie mappings of the firmware and of the kernel. */
static const uint64_t iova_first = 1ull << 32;

_Noreturn void fail(const char *what);
void *allocate(void *old, size_t count, size_t size);

/* ---- memory.c: guest memory as the device sees it ---- */

struct mapping {
  uint64_t iova, size, offset;
  /* Its number among all mappings that ever were; the pieces of one that is cut keep it. */
  uint64_t birth;
  /* The number of a file, or -1: memory that only messages reach. */
  int file;
  bool is_writable;
};

extern struct mapping *mappings;
extern size_t mapping_count;

/* Replaces what was mapped there. */
void add_mapping(uint64_t iova, uint64_t size, uint64_t offset, int fd, bool is_writable);
/* Takes away what lies in iova ... last, and keeps what sticks out of it. */
void remove_mappings(uint64_t iova, uint64_t last);
/* The mapping of an address, or NULL. */
struct mapping *mapping_at(uint64_t iova);
/* Writes to the file of a mapping, and notes it in the ledger. */
void write_file_page(const struct mapping *into, uint64_t iova, const void *bytes, size_t size);
/* The offsets of all pages that were written by their file. */
void write_ledger(const char *path);

/* ---- log.c: the dirty log, by IOVA ---- */

extern bool is_logging;
void log_write(uint64_t iova);
/* Moves the bits of iova ... iova + size - 1 to `words`, whose bit 0 is the page at iova. */
void take_log(uint64_t iova, uint64_t size, uint64_t *words);
void drop_log(uint64_t iova, uint64_t last);
uint64_t log_byte_count(uint64_t size);
/* DEVICE_FEATURE: changes the request's body to the answer's. Returns 0 or an error number. */
int log_feature(uint8_t *body, uint32_t size, uint32_t *answer);
extern unsigned long long report_count;

/* ---- writes.c: what the device does on its own ---- */

/* The connection, or -1; whether mappings without a descriptor are written by messages. */
extern int client;
extern bool has_messages;

void set_rate(uint64_t pages_a_second);
/* Writes what is due, and returns how many milliseconds there are until more is. */
int write_due(void);
/* The answer to a message of ours. */
void take_reply(uint16_t id, uint16_t command, bool is_error, const uint8_t *body, uint32_t size);
/* All stamps, a line each: "STAMP STATE". */
void write_stamps(const char *path);
/* What was done, for people. */
void print_counts(void);

/* ---- device.c: vfio-user ---- */

struct header {
  uint16_t id, command;
  uint32_t size, flags, error;
};

enum {
  version = 1, dma_map, dma_unmap, get_info, get_region_info, get_region_descriptors, get_irq_info,
  set_irqs, region_read, region_write, dma_read, dma_write, reset, device_feature = 16
};
enum { is_reply = 1, type_mask = 15, wants_no_reply = 0x10, has_error = 0x20 };

/* Sends a message whole. false: the client is gone. */
bool send_message(struct header header, const void *body, uint32_t size);
