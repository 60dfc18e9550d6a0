/* What the device does on its own: it writes stamps to pages of guest memory, by their file or by
 * messages, and reads some of the latter back. */
#include "device.h"

#include <time.h>

/* What is written, to another place each time, so that a page that was sent half new would differ,
 * and so that a later write to the page seldom covers it. It is what a page of memory is known by
 * for one that the device wrote. */
struct stamp {
  uint64_t magic, number;
};
static const uint64_t magic = 0x6567647564656857;
enum { stamps_in_page = page_size / sizeof(struct stamp) };

enum state { not_written, by_file, unanswered, by_message, refused };
static const char *const state_names[] = {
    "not-written", "by-file", "unanswered", "by-message", "refused"};

/* A message of ours that is not answered. Slots are free while `command` is 0. */
struct message {
  uint16_t id, command;
  uint64_t iova, stamp, birth;
};
enum { in_flight_max = 16, stamps_per_read = 8 };

int client = -1;
bool has_messages;
static struct message in_flight[in_flight_max];
static uint16_t last_id;
static uint64_t stamp, rate, written_until;
static uint8_t *states;
static size_t state_room;
static unsigned long long counts[refused + 1], reads_right, reads_wrong;

static void set_state(uint64_t number, enum state state) {
  if (number >= state_room) {
    size_t more = number + 4096;
    states = allocate(states, more, 1);
    memset(states + state_room, 0, more - state_room);
    state_room = more;
  }
  if (states[number]) counts[states[number]]--;
  states[number] = state;
  counts[state]++;
}

static struct message *free_slot(void) {
  for (int index = 0; index < in_flight_max; index++)
    if (!in_flight[index].command) return &in_flight[index];
  return NULL;
}

static void send_dma(struct message *slot, uint16_t command, const void *bytes) {
  struct {
    uint64_t iova, size;
    struct stamp data;
  } body = {slot->iova, sizeof body.data, {0}};
  uint32_t size = offsetof(__typeof__(body), data);
  if (command == dma_write) {
    memcpy(&body.data, bytes, sizeof body.data);
    size = sizeof body;
  }
  slot->id = ++last_id;
  slot->command = command;
  /* A client that is gone is noticed where its requests are received. */
  send_message((struct header){.id = slot->id, .command = command}, &body, size);
}

/* Nothing can be said of it when its mapping is another by now. */
static void check_read(const struct message *sent, const uint8_t *body, uint32_t size) {
  struct mapping *mapping = mapping_at(sent->iova);
  struct stamp found;
  if (!mapping || mapping->birth != sent->birth) return;
  if (size < 2 * sizeof(uint64_t) + sizeof found) {
    reads_wrong++;
    return;
  }
  memcpy(&found, body + 2 * sizeof(uint64_t), sizeof found);
  bool is_right = found.magic == magic && found.number >= sent->stamp &&
                  found.number % stamps_in_page == sent->stamp % stamps_in_page;
  if (is_right) reads_right++;
  else reads_wrong++;
}

void take_reply(uint16_t id, uint16_t command, bool is_error, const uint8_t *body, uint32_t size) {
  struct message *slot = NULL;
  for (int index = 0; index < in_flight_max && !slot; index++)
    if (in_flight[index].command == command && in_flight[index].id == id) slot = &in_flight[index];
  if (!command || !slot) errno = EPROTO, fail("an answer to no message of ours");
  struct message sent = *slot;
  slot->command = 0;
  if (command == dma_write) {
    set_state(sent.stamp, is_error ? refused : by_message);
    if (is_error || sent.stamp % stamps_per_read) return;
    *slot = sent;
    send_dma(slot, dma_read, NULL);
  } else if (!is_error) {
    check_read(&sent, body, size);
  }
}

static bool is_usable(const struct mapping *mapping) {
  return mapping->is_writable && mapping->iova >= iova_first &&
         (mapping->file >= 0 || has_messages);
}

static void write_page(void) {
  size_t usable = 0, chosen = 0;
  for (size_t index = 0; index < mapping_count; index++) usable += is_usable(&mappings[index]);
  if (!usable) return;
  for (size_t wanted = random() % usable + 1; wanted; chosen++)
    wanted -= is_usable(&mappings[chosen]);
  struct mapping *into = &mappings[chosen - 1];
  struct message *slot = into->file < 0 ? free_slot() : NULL;
  if (into->file < 0 && !slot) return;
  struct stamp bytes = {magic, ++stamp};
  uint64_t iova = into->iova + random() % (into->size / page_size) * page_size +
                  stamp % stamps_in_page * sizeof bytes;
  if (slot) {
    *slot = (struct message){.iova = iova, .stamp = stamp, .birth = into->birth};
    set_state(stamp, unanswered);
    send_dma(slot, dma_write, &bytes);
  } else {
    write_file_page(into, iova, &bytes, sizeof bytes);
    set_state(stamp, by_file);
    log_write(iova);
  }
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000ull + time.tv_nsec;
}

void set_rate(uint64_t pages_a_second) {
  rate = pages_a_second;
  written_until = now();
}

int write_due(void) {
  if (!rate) return 1000;
  uint64_t each = 1000000000 / rate, time = now();
  /* What a busy machine kept us from doing is not all done at once. */
  if (time > written_until + 100 * each) written_until = time - 100 * each;
  for (; written_until + each <= time; written_until += each) write_page();
  return (int)((written_until + each - time) / 1000000) + 1;
}

void write_stamps(const char *path) {
  FILE *out = fopen(path, "w");
  if (!out) fail(path);
  for (uint64_t number = 1; number <= stamp; number++)
    fprintf(out, "%llu %s\n", (unsigned long long)number, state_names[states[number]]);
  if (fclose(out)) fail(path);
}

void print_counts(void) {
  printf("done, %llu writes", (unsigned long long)stamp);
  for (enum state state = unanswered; state <= refused; state++)
    if (counts[state]) printf(", %llu %s", counts[state], state_names[state]);
  if (reads_right + reads_wrong)
    printf(", %llu read back, %llu wrong", reads_right + reads_wrong, reads_wrong);
  printf(", %zu mappings, %llu reports\n", mapping_count, report_count);
  fflush(stdout);
}
