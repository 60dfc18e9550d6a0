/* dlopen, use, dlclose, dlopen again; fork without exec, fork with exec.
 *
 * dynamic LIBRARY: its path, or its name where the loader finds it. Not linked against it. */
#include "check.h"

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

/* check.h prints the sentence of a call that must not fail. */
static const char *(*last_error)(void);
const char *smudge_last_error(void) { return last_error ? last_error() : ""; }

static void *symbol(void *library, const char *name) {
  void *found = dlsym(library, name);
  if (!found) {
    printf("  %s\n", dlerror());
    exit(1);
  }
  return found;
}

/* A tracker from create to harvest, by pointers. */
static uint64_t use(void *library) {
  int (*create)(const smudge_tracker_params *, smudge_tracker **);
  int (*destroy)(smudge_tracker *);
  int (*region_add)(smudge_tracker *, const smudge_ram *);
  int (*reader_add)(smudge_tracker *, const char *, uint32_t, smudge_reader **);
  int (*vcpu_wrote)(smudge_tracker *, uint64_t, uint64_t);
  int (*count)(smudge_reader *, uint64_t *);
  *(void **)&create = symbol(library, "smudge_tracker_create");
  *(void **)&destroy = symbol(library, "smudge_tracker_destroy");
  *(void **)&region_add = symbol(library, "smudge_region_add");
  *(void **)&reader_add = symbol(library, "smudge_reader_add");
  *(void **)&vcpu_wrote = symbol(library, "smudge_vcpu_wrote");
  *(void **)&count = symbol(library, "smudge_reader_dirty_page_count");
  *(void **)&last_error = symbol(library, "smudge_last_error");
  smudge_tracker *tracker;
  smudge_reader *reader;
  smudge_ram ram = check_ram("ram", 0, 1 << 20);
  uint64_t dirty = 0;
  MUST(create(NULL, &tracker));
  MUST(region_add(tracker, &ram));
  MUST(reader_add(tracker, "reader", 0, &reader));
  MUST(vcpu_wrote(tracker, 0x1fff, 2));
  MUST(count(reader, &dirty));
  MUST(destroy(tracker));
  return dirty;
}

static int status_of(pid_t child) {
  int status = -1;
  while (waitpid(child, &status, 0) < 0) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) printf("  %s\n", dlerror());
  if (!check(library != NULL, "dlopen")) return check_end();
  void *version = symbol(library, "smudge_version");
  check(use(library) == 2, "use");
  /* A child that fork and exec made has used it, and has nothing else to do. */
  if (argc > 2) return check_end();

  check(dlclose(library) == 0, "dlclose");
  void *kept = dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD);
  check(kept != NULL, "it stays loaded after dlclose");
  void *again = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  check(again != NULL && symbol(again, "smudge_version") == version, "dlopen again: the same");
  check(use(again) == 2, "use again");

  fflush(stdout);
  pid_t child = fork();
  if (child == 0) _exit(0);
  check(status_of(child) == 0, "a child of fork that only leaves by _exit");
  child = fork();
  if (child == 0) exit(0);
  check(status_of(child) == 0, "a child of fork that only leaves by exit, with its handlers");
  child = fork();
  if (child == 0) {
    execl(argv[0], argv[0], argv[1], "child", (char *)NULL);
    _exit(1);
  }
  check(status_of(child) == 0, "a child of fork and exec uses it");
  check(use(again) == 2, "the parent goes on");
  return check_end();
}
