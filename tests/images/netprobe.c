// SPDX-License-Identifier: Apache-2.0
// Both ends of a network test in one static program: who answered, whom the client believes to talk
// to, from where the server saw it come, and how a refusal looks and how long it took. One JSON
// document a line.
//
//   netprobe serve [--name N] [--drain S] [--ready FILE] tcp:PORT|udp:PORT|http:PORT ...
//       tcp, udp: "?" is answered by "NAME REMOTE-IP REMOTE-PORT"; tcp "put N" is answered by "go"
//       and takes N bytes, "get N" gives N bytes; a udp answer is as long as its question, when
//       that is longer. http: 200, or 503 while FILE is absent. SIGTERM: goes on for S seconds
//       (default 0).
//   netprobe ask tcp|udp|udp-connected IP PORT [-n N] [--timeout MS] [--one-socket] [--size BYTES]
//   [--source-port P]
//       {"ok":true,"name":"..","seen":"ip port","peer":"ip port","ms":1.2} or
//       {"ok":false,"error":"ECONNREFUSED",...}
//   netprobe hold IP PORT -n N [--timeout MS]
//       opens N connections; each line on standard input asks all of them:
//       {"open":N,"broken":0,"names":{"a":3}}
//       but for "look", which sends nothing and says of how many the end has come, and how:
//       {"open":N,"ended":{"ECONNRESET":3}}
//   netprobe bulk IP PORT BYTES [--timeout MS]
//       puts BYTES and gets BYTES: {"ok":true,"put":BYTES,"got":BYTES,"ms":..}
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
  kBacklog = 4096,
  kConnectionsMax = 4096,
  kListenersMax = 16,
  kDatagramMax = 65536,
  kHoldMax = 4096
};

static const char* name = "?";
static int timeout_ms = 2000;

__attribute__((noreturn)) static void usage(const char* what) {
  fprintf(stderr, "netprobe: %s; see the head of tests/images/netprobe.c\n", what);
  exit(2);
}

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static long number(const char* text, long max) {
  char* end;
  const long n = strtol(text, &end, 10);
  if (*text == 0 || *end != 0 || n < 0 || n > max)
    usage("a number is out of bounds");
  return n;
}

// "ip port", with IPv4-mapped addresses written as IPv4.
static const char* show(const struct sockaddr_storage* a, char* out, size_t bytes) {
  char ip[INET6_ADDRSTRLEN] = "?";
  unsigned port = 0;
  if (a->ss_family == AF_INET) {
    const struct sockaddr_in* v4 = (const struct sockaddr_in*)a;
    inet_ntop(AF_INET, &v4->sin_addr, ip, sizeof(ip));
    port = ntohs(v4->sin_port);
  } else if (a->ss_family == AF_INET6) {
    const struct sockaddr_in6* v6 = (const struct sockaddr_in6*)a;
    if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
      inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], ip, sizeof(ip));
    else
      inet_ntop(AF_INET6, &v6->sin6_addr, ip, sizeof(ip));
    port = ntohs(v6->sin6_port);
  }
  snprintf(out, bytes, "%s %u", ip, port);
  return out;
}

// ---- serve --------------------------------------------------------------------------------------

enum kind { kTcp, kUdp, kHttp };
struct socket_of {
  int fd;
  enum kind kind;
};
static struct socket_of listeners[kListenersMax];
static struct socket_of connections[kConnectionsMax];
static int listener_count, connection_count;
static const char* ready_file;

static void serve_on(const char* what) {
  static const struct {
    const char* prefix;
    enum kind kind;
  } kKinds[] = {{"tcp:", kTcp}, {"udp:", kUdp}, {"http:", kHttp}};
  for (size_t i = 0; i < sizeof(kKinds) / sizeof(kKinds[0]); ++i) {
    const size_t n = strlen(kKinds[i].prefix);
    if (strncmp(what, kKinds[i].prefix, n) != 0)
      continue;
    if (listener_count == kListenersMax)
      usage("too many ports");
    const int on = 1, off = 0;
    struct sockaddr_in6 any = {.sin6_family = AF_INET6,
                               .sin6_port = htons((uint16_t)number(what + n, 65535))};
    const int fd = socket(AF_INET6, kKinds[i].kind == kUdp ? SOCK_DGRAM : SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (kKinds[i].kind == kUdp) {  // answers leave from the address that was asked
      setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
      setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
    }
    if (fd < 0 || bind(fd, (struct sockaddr*)&any, sizeof(any)) != 0 ||
        (kKinds[i].kind != kUdp && listen(fd, kBacklog) != 0)) {
      perror(what);
      exit(1);
    }
    listeners[listener_count++] = (struct socket_of){fd, kKinds[i].kind};
    return;
  }
  usage(what);
}

static bool send_all(int fd, const char* data, size_t bytes) {
  while (bytes > 0) {
    const ssize_t n = send(fd, data, bytes, MSG_NOSIGNAL);
    if (n <= 0)
      return false;
    data += n;
    bytes -= (size_t)n;
  }
  return true;
}

static bool take_bytes(int fd, long bytes) {
  static char sink[65536];
  while (bytes > 0) {
    const ssize_t n = recv(fd, sink, bytes < (long)sizeof(sink) ? (size_t)bytes : sizeof(sink), 0);
    if (n <= 0)
      return false;
    bytes -= n;
  }
  return true;
}

static bool give_bytes(int fd, long bytes) {
  static char zeros[65536];
  while (bytes > 0) {
    const size_t n = bytes < (long)sizeof(zeros) ? (size_t)bytes : sizeof(zeros);
    if (!send_all(fd, zeros, n))
      return false;
    bytes -= (long)n;
  }
  return true;
}

// One command on a connection; false: it is over. Commands are short and come in one segment, with
// nothing behind them: what a "put" gives follows when it has been answered. A connection is served
// alone for the time of its transfer, which a timeout bounds.
static bool serve_connection(const struct socket_of* c) {
  char line[512], seen[128], out[1024];
  struct sockaddr_storage peer;
  socklen_t bytes = sizeof(peer);
  const ssize_t n = recv(c->fd, line, sizeof(line) - 1, 0);
  if (n <= 0 || getpeername(c->fd, (struct sockaddr*)&peer, &bytes) != 0)
    return false;
  line[n] = 0;
  if (c->kind == kHttp) {
    const bool ready = !ready_file || access(ready_file, F_OK) == 0;
    snprintf(out, sizeof(out), "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
             ready ? "200 OK" : "503 Service Unavailable");
    send_all(c->fd, out, strlen(out));
    return false;
  }
  if (strncmp(line, "put ", 4) == 0)
    return send_all(c->fd, "go\n", 3) && take_bytes(c->fd, atol(line + 4)) &&
           send_all(c->fd, "done\n", 5);
  if (strncmp(line, "get ", 4) == 0)
    return give_bytes(c->fd, atol(line + 4));
  snprintf(out, sizeof(out), "%s %s\n", name, show(&peer, seen, sizeof(seen)));
  return send_all(c->fd, out, strlen(out));
}

// The answer leaves from the address that was asked, by whatever device the way back takes.
static void by_any_device(struct msghdr* message) {
  for (struct cmsghdr* at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
    if (at->cmsg_level == IPPROTO_IP && at->cmsg_type == IP_PKTINFO)
      ((struct in_pktinfo*)CMSG_DATA(at))->ipi_ifindex = 0;
    if (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_PKTINFO)
      ((struct in6_pktinfo*)CMSG_DATA(at))->ipi6_ifindex = 0;
  }
}

static void serve_datagram(int fd) {
  static char data[kDatagramMax];
  char control[256], seen[128];
  struct sockaddr_storage from;
  struct iovec part = {data, sizeof(data)};
  struct msghdr message = {.msg_name = &from,
                           .msg_namelen = sizeof(from),
                           .msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control,
                           .msg_controllen = sizeof(control)};
  const ssize_t asked = recvmsg(fd, &message, 0);
  if (asked < 0)
    return;
  memset(data, ' ', (size_t)asked);
  const int said = snprintf(data, sizeof(data), "%s %s\n", name, show(&from, seen, sizeof(seen)));
  if (said < asked)
    data[said] = ' ';
  part.iov_len = said > asked ? (size_t)said : (size_t)asked;
  by_any_device(&message);
  sendmsg(fd, &message, 0);
}

static int serve(int argc, char** argv) {
  int drain_s = 0;
  const char* host = getenv("HOSTNAME");
  if (host)
    name = host;
  for (int i = 2; i < argc; ++i) {
    if (strcmp(argv[i], "--name") == 0 && i + 1 < argc)
      name = argv[++i];
    else if (strcmp(argv[i], "--drain") == 0 && i + 1 < argc)
      drain_s = (int)number(argv[++i], 3600);
    else if (strcmp(argv[i], "--ready") == 0 && i + 1 < argc)
      ready_file = argv[++i];
    else
      serve_on(argv[i]);
  }
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigprocmask(SIG_BLOCK, &term, NULL);
  const int signals = signalfd(-1, &term, SFD_CLOEXEC);
  double end_ms = 0;
  static struct pollfd fds[1 + kListenersMax + kConnectionsMax];
  for (;;) {
    int n = 0;
    fds[n++] = (struct pollfd){.fd = signals, .events = POLLIN};
    for (int i = 0; i < listener_count; ++i)
      fds[n++] = (struct pollfd){.fd = listeners[i].fd, .events = POLLIN};
    for (int i = 0; i < connection_count; ++i)
      fds[n++] = (struct pollfd){.fd = connections[i].fd, .events = POLLIN};
    const double left_ms = end_ms - now_ms();
    if (end_ms > 0 && left_ms <= 0)
      return 0;
    poll(fds, (nfds_t)n, end_ms > 0 ? (int)left_ms + 1 : -1);
    if (fds[0].revents) {
      struct signalfd_siginfo info;
      if (read(signals, &info, sizeof(info)) > 0 && end_ms == 0)
        end_ms = now_ms() + drain_s * 1e3;
    }
    for (int i = connection_count - 1; i >= 0; --i) {
      if (!fds[1 + listener_count + i].revents || serve_connection(&connections[i]))
        continue;
      close(connections[i].fd);
      connections[i] = connections[--connection_count];
    }
    for (int i = 0; i < listener_count; ++i) {
      if (!fds[1 + i].revents)
        continue;
      if (listeners[i].kind == kUdp) {
        serve_datagram(listeners[i].fd);
        continue;
      }
      const int fd = accept4(listeners[i].fd, NULL, NULL, SOCK_CLOEXEC);
      if (fd < 0)
        continue;
      if (connection_count == kConnectionsMax) {
        close(fd);
        continue;
      }
      const struct timeval wait = {10, 0};
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
      setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
      connections[connection_count++] = (struct socket_of){fd, listeners[i].kind};
    }
  }
}

// ---- ask ----------------------------------------------------------------------------------------

struct target {
  struct sockaddr_storage address;
  socklen_t bytes;
};

static struct target target_of(const char* ip, const char* port_text) {
  struct target out = {0};
  struct sockaddr_in* v4 = (struct sockaddr_in*)&out.address;
  struct sockaddr_in6* v6 = (struct sockaddr_in6*)&out.address;
  const uint16_t port = htons((uint16_t)number(port_text, 65535));
  if (inet_pton(AF_INET, ip, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = port;
    out.bytes = sizeof(*v4);
  } else if (inet_pton(AF_INET6, ip, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = port;
    out.bytes = sizeof(*v6);
  } else {
    usage("IP must be an address");
  }
  return out;
}

static int open_socket(const struct target* to, bool stream, long source_port) {
  const int fd =
      socket(to->address.ss_family, (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0);
  const struct timeval wait = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
  const int on = 1;
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  if (source_port > 0) {
    struct sockaddr_storage from = {.ss_family = to->address.ss_family};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (from.ss_family == AF_INET)
      ((struct sockaddr_in*)&from)->sin_port = htons((uint16_t)source_port);
    else
      ((struct sockaddr_in6*)&from)->sin6_port = htons((uint16_t)source_port);
    if (bind(fd, (struct sockaddr*)&from, to->bytes) != 0)
      perror("bind");
  }
  return fd;
}

static const char* error_name(int error) {
  if (error == EAGAIN || error == EINPROGRESS || error == ETIMEDOUT)
    return "TIMEOUT";
  const char* text = strerrorname_np(error);
  return text ? text : "?";
}

static void report(int error, char* answer, const char* peer, double ms) {
  char *rest, *who = NULL, *ip = NULL, *port = NULL;
  if (error == 0) {
    who = strtok_r(answer, " \n", &rest);
    ip = who ? strtok_r(NULL, " \n", &rest) : NULL;
    port = ip ? strtok_r(NULL, " \n", &rest) : NULL;
    if (!port)
      error = EBADMSG;
  }
  if (error == 0)
    printf("{\"ok\":true,\"name\":\"%s\",\"seen\":\"%s %s\",\"peer\":\"%s\",\"ms\":%.2f}\n", who,
           ip, port, peer, ms);
  else
    printf("{\"ok\":false,\"error\":\"%s\",\"ms\":%.2f}\n", error_name(error), ms);
  fflush(stdout);
}

static int ask(int argc, char** argv) {
  if (argc < 5)
    usage("ask PROTO IP PORT");
  const bool stream = strcmp(argv[2], "tcp") == 0;
  const bool connected = strcmp(argv[2], "udp-connected") == 0;
  if (!stream && !connected && strcmp(argv[2], "udp") != 0)
    usage("tcp, udp or udp-connected");
  const struct target to = target_of(argv[3], argv[4]);
  long count = 1, size = 1, source_port = 0;
  bool one_socket = false;
  for (int i = 5; i < argc; ++i) {
    if (strcmp(argv[i], "--one-socket") == 0)
      one_socket = true;
    else if (i + 1 == argc)
      usage(argv[i]);
    else if (strcmp(argv[i], "-n") == 0)
      count = number(argv[++i], 1000000);
    else if (strcmp(argv[i], "--timeout") == 0)
      timeout_ms = (int)number(argv[++i], 600000);
    else if (strcmp(argv[i], "--size") == 0)
      size = number(argv[++i], kDatagramMax - 1);
    else if (strcmp(argv[i], "--source-port") == 0)
      source_port = number(argv[++i], 65535);
    else
      usage(argv[i]);
  }
  static char question[kDatagramMax], answer[kDatagramMax];
  memset(question, '?', sizeof(question));
  int fd = -1;
  for (long i = 0; i < count; ++i) {
    const double begun = now_ms();
    char peer[128] = "?";
    struct sockaddr_storage from = {0};
    socklen_t bytes = sizeof(from);
    int error = 0;
    bool fresh = fd < 0;
    if (fresh)
      fd = open_socket(&to, stream, source_port);
    if (fresh && (stream || connected) &&
        connect(fd, (const struct sockaddr*)&to.address, to.bytes) != 0)
      error = errno;
    if (error == 0) {
      const ssize_t sent = stream || connected
                               ? send(fd, question, (size_t)size, MSG_NOSIGNAL)
                               : sendto(fd, question, (size_t)size, 0,
                                        (const struct sockaddr*)&to.address, to.bytes);
      const ssize_t n = sent == size ? recvfrom(fd, answer, sizeof(answer) - 1, 0,
                                                (struct sockaddr*)&from, &bytes)
                                     : -1;
      if (n <= 0)
        error = n == 0 ? ECONNRESET : errno;
      else
        answer[n] = 0;
    }
    if (error == 0) {
      bytes = sizeof(from);
      if ((stream || connected) && getpeername(fd, (struct sockaddr*)&from, &bytes) != 0)
        error = errno;
      show(&from, peer, sizeof(peer));
    }
    report(error, answer, peer, now_ms() - begun);
    if (!one_socket || error != 0) {
      close(fd);
      fd = -1;
    }
  }
  return 0;
}

// ---- hold, bulk ---------------------------------------------------------------------------------

static bool ask_open(int fd, char* answer, size_t bytes) {
  if (send(fd, "?", 1, MSG_NOSIGNAL) != 1)
    return false;
  const ssize_t n = recv(fd, answer, bytes - 1, 0);
  if (n <= 0)
    return false;
  answer[n] = 0;
  return true;
}

// A connection that has ended is told of once, and broken from then on.
static void look_at(int* fds, long count) {
  long open = 0;
  const char* names[8];
  long counts[8] = {0};
  int known = 0;
  for (long i = 0; i < count; ++i) {
    struct pollfd end = {fds[i], POLLRDHUP, 0};
    int error = 0;
    socklen_t bytes = sizeof(error);
    if (fds[i] < 0)
      continue;
    if (poll(&end, 1, 0) == 0) {
      open++;
      continue;
    }
    getsockopt(fds[i], SOL_SOCKET, SO_ERROR, &error, &bytes);
    close(fds[i]);
    fds[i] = -1;
    const char* name = error == 0 ? "closed" : error_name(error);
    int at = 0;
    while (at < known && strcmp(names[at], name) != 0)
      at++;
    if (at == 8)
      continue;
    if (at == known)
      names[known++] = name;
    counts[at]++;
  }
  printf("{\"open\":%ld,\"ended\":{", open);
  for (int i = 0; i < known; ++i)
    printf("%s\"%s\":%ld", i ? "," : "", names[i], counts[i]);
  printf("}}\n");
  fflush(stdout);
}

static int hold(int argc, char** argv) {
  if (argc < 4)
    usage("hold IP PORT");
  const struct target to = target_of(argv[2], argv[3]);
  long count = 1;
  for (int i = 4; i + 1 < argc; i += 2) {
    if (strcmp(argv[i], "-n") == 0)
      count = number(argv[i + 1], kHoldMax);
    else if (strcmp(argv[i], "--timeout") == 0)
      timeout_ms = (int)number(argv[i + 1], 600000);
    else
      usage(argv[i]);
  }
  static int fds[kHoldMax];
  for (long i = 0; i < count; ++i) {
    fds[i] = open_socket(&to, true, 0);
    if (connect(fds[i], (const struct sockaddr*)&to.address, to.bytes) != 0) {
      close(fds[i]);
      fds[i] = -1;
    }
  }
  char line[64] = "";
  do {
    if (strncmp(line, "look", 4) == 0) {
      look_at(fds, count);
      continue;
    }
    enum { kNamesMax = 64 };
    char names[kNamesMax][64];
    long counts[kNamesMax] = {0}, open = 0, broken = 0;
    int known = 0;
    for (long i = 0; i < count; ++i) {
      char answer[256];
      if (fds[i] < 0 || !ask_open(fds[i], answer, sizeof(answer))) {
        broken++;
        continue;
      }
      open++;
      answer[strcspn(answer, " ")] = 0;
      int at = 0;
      while (at < known && strncmp(names[at], answer, sizeof(names[at]) - 1) != 0)
        at++;
      if (at == kNamesMax)
        continue;
      if (at == known)
        snprintf(names[known++], sizeof(names[0]), "%.63s", answer);
      counts[at]++;
    }
    printf("{\"open\":%ld,\"broken\":%ld,\"names\":{", open, broken);
    for (int i = 0; i < known; ++i)
      printf("%s\"%s\":%ld", i ? "," : "", names[i], counts[i]);
    printf("}}\n");
    fflush(stdout);
  } while (fgets(line, sizeof(line), stdin));
  return 0;
}

static int bulk(int argc, char** argv) {
  if (argc < 5)
    usage("bulk IP PORT BYTES");
  const struct target to = target_of(argv[2], argv[3]);
  const long bytes = number(argv[4], 1L << 40);
  if (argc == 7 && strcmp(argv[5], "--timeout") == 0)
    timeout_ms = (int)number(argv[6], 600000);
  const double begun = now_ms();
  char line[64], done[8];
  const int fd = open_socket(&to, true, 0);
  int error = 0;
  if (connect(fd, (const struct sockaddr*)&to.address, to.bytes) != 0) {
    error = errno;
  } else {
    snprintf(line, sizeof(line), "put %ld", bytes);
    bool ok = send_all(fd, line, strlen(line)) && recv(fd, done, 3, MSG_WAITALL) == 3;
    ok = ok && give_bytes(fd, bytes) && recv(fd, done, 5, MSG_WAITALL) == 5;
    snprintf(line, sizeof(line), "get %ld", bytes);
    ok = ok && send_all(fd, line, strlen(line)) && take_bytes(fd, bytes);
    if (!ok)
      error = errno ? errno : ECONNRESET;
  }
  if (error == 0)
    printf("{\"ok\":true,\"put\":%ld,\"got\":%ld,\"ms\":%.2f}\n", bytes, bytes, now_ms() - begun);
  else
    printf("{\"ok\":false,\"error\":\"%s\",\"ms\":%.2f}\n", error_name(error), now_ms() - begun);
  return 0;
}

int main(int argc, char** argv) {
  if (argc < 2)
    usage("serve, ask, hold or bulk");
  if (strcmp(argv[1], "serve") == 0)
    return serve(argc, argv);
  if (strcmp(argv[1], "ask") == 0)
    return ask(argc, argv);
  if (strcmp(argv[1], "hold") == 0)
    return hold(argc, argv);
  if (strcmp(argv[1], "bulk") == 0)
    return bulk(argc, argv);
  usage(argv[1]);
}
