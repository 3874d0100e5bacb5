// SPDX-License-Identifier: Apache-2.0
// The demo's server: answers HTTP with its version, its pod's name and the client's address, and
// echoes TCP on a second port. One thread, epoll.
//
//   web [--version V] [--http PORT] [--echo PORT]     defaults: $VERSION, 8080, 9000
//
// GET /ready answers 200 or 503, for readiness probes; SIGUSR1 turns it from one to the other.
//
// Its own program, and not busybox' httpd and nc, because those listen with a backlog of 9 and 2: a
// burst of connections then waits a second for a retransmitted SYN, and a test would measure that
// instead of the network. SIGTERM: goes on answering for a second (a client may not have heard yet
// that this pod leaves), each answer with "Connection: close", then exits 0.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { kBacklog = 4096, kEventsMax = 256, kRequestMax = 4096, kDrainSeconds = 1 };

enum kind { kHttpListener, kEchoListener, kHttp, kEcho, kSignal, kTimer };

struct peer {
  enum kind kind;
  int fd;
  char client[INET6_ADDRSTRLEN];
  size_t used;
  char data[kRequestMax];
};

static int epoll_fd = -1;
static bool draining;
static bool unready;
static char identity[256];

static void die(const char* what) {
  perror(what);
  exit(1);
}

static struct peer* watch(int fd, enum kind kind) {
  struct peer* peer = calloc(1, sizeof(*peer));
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};

  if (!peer || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
    free(peer);
    close(fd);
    return NULL;
  }
  peer->fd = fd;
  peer->kind = kind;
  return peer;
}

static void drop(struct peer* peer) {
  close(peer->fd);
  free(peer);
}

static int listen_on(uint16_t port) {
  const int one = 1, zero = 0;
  struct sockaddr_in6 any6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
  struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons(port)};
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  bool bound = false;

  if (fd >= 0) {
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
    bound = bind(fd, (struct sockaddr*)&any6, sizeof(any6)) == 0;
  }
  if (!bound) {  // a kernel or namespace without IPv6
    if (fd >= 0)
      close(fd);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
      die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr*)&any4, sizeof(any4)) != 0)
      die("bind");
  }
  if (listen(fd, kBacklog) != 0)
    die("listen");
  return fd;
}

static void name_client(struct peer* peer, const struct sockaddr_storage* address) {
  const struct sockaddr_in6* v6 = (const struct sockaddr_in6*)address;
  const struct sockaddr_in* v4 = (const struct sockaddr_in*)address;

  if (address->ss_family == AF_INET)
    inet_ntop(AF_INET, &v4->sin_addr, peer->client, sizeof(peer->client));
  else if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
    inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], peer->client, sizeof(peer->client));
  else
    inet_ntop(AF_INET6, &v6->sin6_addr, peer->client, sizeof(peer->client));
}

static void accept_all(const struct peer* listener) {
  for (int i = 0; i < kBacklog; i++) {
    const int one = 1;
    struct sockaddr_storage from;
    socklen_t size = sizeof(from);
    struct peer* peer;
    const int fd =
        accept4(listener->fd, (struct sockaddr*)&from, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
      return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    peer = watch(fd, listener->kind == kHttpListener ? kHttp : kEcho);
    if (peer)
      name_client(peer, &from);
  }
}

// Whether the header block, which ends in a NUL, names `value` as its Connection.
static bool connection_is(const char* head, const char* value) {
  const char* line = strcasestr(head, "\r\nconnection:");

  if (!line)
    return false;
  line += strlen("\r\nconnection:");
  line += strspn(line, " \t");
  return strncasecmp(line, value, strlen(value)) == 0;
}

// Answers one request; false: the connection is done.
static bool answer(struct peer* peer, const char* head) {
  char text[1024], body[512];
  const bool http11 = strstr(head, " HTTP/1.1\r\n") != NULL;
  const bool is_head = strncmp(head, "HEAD ", 5) == 0;
  const bool known = is_head || strncmp(head, "GET ", 4) == 0;
  const bool keep = known && !draining &&
                    (http11 ? !connection_is(head, "close") : connection_is(head, "keep-alive"));
  const bool refuse = unready && strstr(head, " /ready ") != NULL;
  const char* status = !known   ? "405 Method Not Allowed"
                       : refuse ? "503 Service Unavailable"
                                : "200 OK";
  const char* content = known ? body : "only GET and HEAD\n";
  int n;

  snprintf(body, sizeof(body), "%s client=%s\n", identity, peer->client);
  n = snprintf(
      text, sizeof(text),
      "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: %s\r\n\r\n%s",
      status, strlen(content), keep ? "keep-alive" : "close", is_head ? "" : content);

  // An answer is far smaller than an empty socket buffer; a peer that does not read loses its
  // connection.
  return send(peer->fd, text, (size_t)n, MSG_NOSIGNAL) == n && keep;
}

static bool serve_http(struct peer* peer) {
  const ssize_t n = recv(peer->fd, peer->data + peer->used, sizeof(peer->data) - 1 - peer->used, 0);
  char* end;

  if (n <= 0)
    return n < 0 && (errno == EAGAIN || errno == EINTR);
  peer->used += (size_t)n;
  peer->data[peer->used] = '\0';
  while ((end = strstr(peer->data, "\r\n\r\n")) != NULL) {
    const size_t length = (size_t)(end - peer->data) + 4;

    end[2] = '\0';
    if (!answer(peer, peer->data)) {
      shutdown(peer->fd, SHUT_WR);
      return false;
    }
    peer->used -= length;
    memmove(peer->data, peer->data + length, peer->used + 1);
  }
  return peer->used < sizeof(peer->data) - 1;
}

static bool serve_echo(struct peer* peer) {
  const ssize_t n = recv(peer->fd, peer->data, sizeof(peer->data), 0);

  if (n <= 0)
    return n < 0 && (errno == EAGAIN || errno == EINTR);
  return send(peer->fd, peer->data, (size_t)n, MSG_NOSIGNAL) == n;
}

static void start_draining(void) {
  const struct itimerspec when = {.it_value.tv_sec = kDrainSeconds};
  const int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

  if (draining)
    return;
  draining = true;
  if (fd < 0 || timerfd_settime(fd, 0, &when, NULL) != 0 || !watch(fd, kTimer))
    exit(0);
}

static void handle(struct peer* peer) {
  struct signalfd_siginfo info;

  switch (peer->kind) {
  case kHttpListener:
  case kEchoListener:
    accept_all(peer);
    break;
  case kHttp:
    if (!serve_http(peer))
      drop(peer);
    break;
  case kEcho:
    if (!serve_echo(peer))
      drop(peer);
    break;
  case kSignal:
    if (read(peer->fd, &info, sizeof(info)) != sizeof(info))
      break;
    if (info.ssi_signo == SIGUSR1)
      unready = !unready;
    else
      start_draining();
    break;
  case kTimer:
    exit(0);
  }
}

static uint16_t port_of(const char* text) {
  unsigned long port = 0;
  const char* at = text;

  while (*at >= '0' && *at <= '9' && port <= 65535)
    port = port * 10 + (unsigned long)(*at++ - '0');
  if (at == text || *at != '\0' || port == 0 || port > 65535) {
    fprintf(stderr, "web: \"%s\" is not a port\n", text);
    exit(2);
  }
  return (uint16_t)port;
}

int main(int argc, char** argv) {
  const char* version = getenv("VERSION");
  uint16_t http_port = 8080, echo_port = 9000;
  char host[128] = "";
  struct rlimit files;
  struct epoll_event events[kEventsMax];
  sigset_t stop;

  for (int i = 1; i < argc; i += 2) {
    if (i + 1 < argc && strcmp(argv[i], "--version") == 0) {
      version = argv[i + 1];
    } else if (i + 1 < argc && strcmp(argv[i], "--http") == 0) {
      http_port = port_of(argv[i + 1]);
    } else if (i + 1 < argc && strcmp(argv[i], "--echo") == 0) {
      echo_port = port_of(argv[i + 1]);
    } else {
      fprintf(stderr, "usage: web [--version V] [--http PORT] [--echo PORT]\n");
      return 2;
    }
  }
  gethostname(host, sizeof(host) - 1);
  snprintf(identity, sizeof(identity), "version=%.100s pod=%s", version ? version : "none", host);
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  sigemptyset(&stop);
  sigaddset(&stop, SIGTERM);
  sigaddset(&stop, SIGINT);
  sigaddset(&stop, SIGUSR1);
  sigprocmask(SIG_BLOCK, &stop, NULL);
  if (epoll_fd < 0 || !watch(signalfd(-1, &stop, SFD_CLOEXEC), kSignal) ||
      !watch(listen_on(http_port), kHttpListener) || !watch(listen_on(echo_port), kEchoListener))
    die("web");
  printf("version %s on http %u, echo %u\n", version ? version : "none", http_port, echo_port);
  fflush(stdout);
  for (;;) {
    const int n = epoll_wait(epoll_fd, events, kEventsMax, -1);

    if (n < 0 && errno != EINTR)
      die("epoll_wait");
    for (int i = 0; i < n; i++)
      handle(events[i].data.ptr);
  }
}
