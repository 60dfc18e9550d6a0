/* For SmudgeABI only; not installed. */
#ifndef SMUDGE_THREAD_H
#define SMUDGE_THREAD_H

#include <stddef.h>

/* The sentence of the last failure in this thread; cut to 1023 bytes. */
const char *smudge_thread_last_error(void);
void smudge_thread_set_last_error(const char *sentence, size_t length);

/* Around a callback that is called with a container's lock held. */
void smudge_thread_enter_callback(void);
void smudge_thread_leave_callback(void);
int smudge_thread_is_in_callback(void);

/* While the VMM hands over the bitmap of an unmap: its query is not to be asked. */
void smudge_thread_set_has_bitmap(int value);
int smudge_thread_has_bitmap(void);

#endif
