#define _GNU_SOURCE
#include "unix_socket.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { stream = SOCK_STREAM | SOCK_CLOEXEC };

int smudge_socket_pair(int *first, int *second) {
  int pair[2];
  if (socketpair(AF_UNIX, stream, 0, pair) != 0) return -errno;
  *first = pair[0];
  *second = pair[1];
  return 0;
}

static int address_of(const char *path, struct sockaddr_un *address) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  if (strlen(path) >= sizeof address->sun_path) return -ENAMETOOLONG;
  strcpy(address->sun_path, path);
  return 0;
}

static int finish(int fd, int result) {
  if (result == 0) return fd;
  int error = errno;
  close(fd);
  return -error;
}

int smudge_socket_listen(const char *path, int backlog) {
  struct sockaddr_un address;
  int result = address_of(path, &address);
  if (result < 0) return result;
  int fd = socket(AF_UNIX, stream, 0);
  if (fd < 0) return -errno;
  result = bind(fd, (struct sockaddr *)&address, sizeof address);
  return finish(fd, result == 0 ? listen(fd, backlog) : result);
}

int smudge_socket_connect(const char *path) {
  struct sockaddr_un address;
  int result = address_of(path, &address);
  if (result < 0) return result;
  int fd = socket(AF_UNIX, stream, 0);
  if (fd < 0) return -errno;
  do result = connect(fd, (struct sockaddr *)&address, sizeof address);
  while (result != 0 && errno == EINTR);
  return finish(fd, result);
}

int smudge_socket_accept(int fd) {
  int result;
  do result = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
  while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

void smudge_socket_shut_down(int fd) { shutdown(fd, SHUT_RDWR); }

union control {
  struct cmsghdr align;
  char bytes[CMSG_SPACE(SMUDGE_SOCKET_DESCRIPTOR_MAX * sizeof(int))];
};

int64_t smudge_socket_send(
    int fd, const void *head, size_t head_count, const void *body, size_t body_count,
    const int *descriptors, size_t descriptor_count) {
  if (descriptor_count > SMUDGE_SOCKET_DESCRIPTOR_MAX) return -E2BIG;
  struct iovec pieces[2] = {
      {.iov_base = (void *)head, .iov_len = head_count},
      {.iov_base = (void *)body, .iov_len = body_count}};
  struct msghdr message = {.msg_iov = pieces, .msg_iovlen = 2};
  union control control;
  if (descriptor_count > 0) {
    size_t bytes = descriptor_count * sizeof(int);
    memset(&control, 0, sizeof control);
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(bytes);
    struct cmsghdr *first = CMSG_FIRSTHDR(&message);
    first->cmsg_level = SOL_SOCKET;
    first->cmsg_type = SCM_RIGHTS;
    first->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(first), descriptors, bytes);
  }
  ssize_t sent;
  do sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

int64_t smudge_socket_receive(
    int fd, void *bytes, size_t count, int *descriptors, size_t descriptor_max,
    size_t *descriptor_count, size_t *surplus_count) {
  *descriptor_count = 0;
  *surplus_count = 0;
  struct iovec piece = {.iov_base = bytes, .iov_len = count};
  union control control;
  struct msghdr message = {
      .msg_iov = &piece,
      .msg_iovlen = 1,
      .msg_control = control.bytes,
      .msg_controllen = sizeof control.bytes};
  ssize_t received;
  do received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  while (received < 0 && errno == EINTR);
  if (received < 0) return -errno;
  for (struct cmsghdr *each = CMSG_FIRSTHDR(&message); each; each = CMSG_NXTHDR(&message, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
    size_t came = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < came; index++) {
      int one;
      memcpy(&one, CMSG_DATA(each) + index * sizeof(int), sizeof one);
      if (*descriptor_count < descriptor_max) {
        descriptors[(*descriptor_count)++] = one;
      } else {
        close(one);
        (*surplus_count)++;
      }
    }
  }
  // How many did not fit, or found no free number in this process, is not said.
  if (message.msg_flags & MSG_CTRUNC) (*surplus_count)++;
  return received;
}

int smudge_socket_wait(
    const int *descriptors, const short *events, short *ready, size_t count, int milliseconds) {
  struct pollfd entries[8];
  if (count > 8) return -EINVAL;
  for (size_t index = 0; index < count; index++)
    entries[index] = (struct pollfd){.fd = descriptors[index], .events = events[index]};
  int result = poll(entries, count, milliseconds);
  for (size_t index = 0; index < count; index++)
    ready[index] = result > 0 ? entries[index].revents : 0;
  if (result < 0) return errno == EINTR ? 0 : -errno;
  return result;
}

int64_t smudge_monotonic_milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int smudge_event_create(void) {
  int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd < 0 ? -errno : fd;
}

void smudge_event_signal(int fd) {
  uint64_t one = 1;
  ssize_t written = write(fd, &one, sizeof one);
  (void)written;
}

void smudge_event_clear(int fd) {
  uint64_t count;
  ssize_t taken = read(fd, &count, sizeof count);
  (void)taken;
}
