/* What the programs here share: counting what held, and waiting for nothing by the clock. */
#ifndef SMUDGE_TESTS_CHECK_H
#define SMUDGE_TESTS_CHECK_H

#include <smudge.h>

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned check_held, check_failed;

/* Says what did not hold. */
__attribute__((format(printf, 2, 3), unused)) static int check(int held, const char *what, ...) {
  if (held) {
    __atomic_fetch_add(&check_held, 1, __ATOMIC_RELAXED);
    return 1;
  }
  va_list arguments;
  va_start(arguments, what);
  fputs("  does not hold: ", stdout);
  vprintf(what, arguments);
  putchar('\n');
  va_end(arguments);
  __atomic_fetch_add(&check_failed, 1, __ATOMIC_RELAXED);
  return 0;
}

/* For what the rest of a program stands on. */
__attribute__((unused)) static void must(int result, const char *call) {
  if (result >= 0) return;
  printf("  %s: %d: %s\n", call, result, smudge_last_error());
  fflush(stdout);
  exit(1);
}
#define MUST(call) must((call), #call)

/* The last line of a program, and its status. */
__attribute__((unused)) static int check_end(void) {
  printf("%u checks held, %u did not\n", check_held, check_failed);
  return check_failed != 0;
}

__attribute__((unused)) static smudge_ram check_ram(
    const char *name, uint64_t gpa, uint64_t byte_count) {
  smudge_ram ram = {.size = sizeof ram, .gpa = gpa, .byte_count = byte_count, .name = name};
  return ram;
}

/* xorshift64*: the same numbers in every run. */
__attribute__((unused)) static uint64_t check_random(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * UINT64_C(2685821657736338717);
}

#endif
