#include "smudge_thread.h"

#include <string.h>

/* What belongs to one thread, which Swift cannot say. */
static _Thread_local char last_error[1024];
static _Thread_local unsigned callback_depth;
static _Thread_local int has_bitmap;

const char *smudge_thread_last_error(void) { return last_error; }

void smudge_thread_set_last_error(const char *sentence, size_t length) {
  if (length >= sizeof last_error) length = sizeof last_error - 1;
  memcpy(last_error, sentence, length);
  last_error[length] = 0;
}

void smudge_thread_enter_callback(void) { callback_depth++; }

void smudge_thread_leave_callback(void) { callback_depth--; }

int smudge_thread_is_in_callback(void) { return callback_depth != 0; }

void smudge_thread_set_has_bitmap(int value) { has_bitmap = value; }

int smudge_thread_has_bitmap(void) { return has_bitmap; }
