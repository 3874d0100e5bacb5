// SPDX-License-Identifier: Apache-2.0
// exec_and_collect: a short command's whole output, in memory.
#include "runtime/sandbox/shim_client.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

namespace shoal::runtime {
namespace {

using namespace std::chrono;

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0)
    return fail_errno("make a pipe");
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, O_NONBLOCK); }

// Takes what is there; closes fd at its end.
void drain(UniqueFd& fd, std::string& into, std::size_t max) {
  char buffer[16384];
  while (fd) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof(buffer));
    if (n > 0)
      into.append(buffer, std::min(static_cast<std::size_t>(n), max - std::min(max, into.size())));
    else if (n < 0 && errno == EINTR)
      continue;
    else if (n < 0 && errno == EAGAIN)
      return;
    else
      fd.reset();
  }
}

void feed(UniqueFd& fd, std::string_view& input) {
  const ssize_t n = ::write(fd.get(), input.data(), input.size());
  if (n > 0)
    input.remove_prefix(static_cast<std::size_t>(n));
  if (input.empty() || (n < 0 && errno != EAGAIN && errno != EINTR))
    fd.reset();
}

// start takes standard input, output and error, and gives an ExecSession.
template <class Start>
Result<ExecOutput> collect(const Start& start, milliseconds timeout, std::string_view input,
                           std::size_t output_bytes_max) {
  Pipe in = SHOAL_TRY(make_pipe());
  Pipe out = SHOAL_TRY(make_pipe());
  Pipe err = SHOAL_TRY(make_pipe());
  ExecSession session =
      SHOAL_TRY(start(in.read_end.get(), out.write_end.get(), err.write_end.get()));
  in.read_end.reset();
  out.write_end.reset();
  err.write_end.reset();
  for (const int fd : {in.write_end.get(), out.read_end.get(), err.read_end.get()})
    set_nonblocking(fd);
  if (input.empty())
    in.write_end.reset();
  ExecOutput output;
  const auto deadline = steady_clock::now() + timeout;
  // The command's end ends the wait, even when something it left behind holds its pipes.
  for (;;) {
    const auto left = ceil<milliseconds>(deadline - steady_clock::now());
    if (left.count() <= 0)
      return fail(Errc::kTimeout, "the command did not end in time and was killed");
    pollfd fds[4] = {{session.fd(), POLLIN, 0},
                     {out.read_end.get(), POLLIN, 0},
                     {err.read_end.get(), POLLIN, 0},
                     {in.write_end.get(), POLLOUT, 0}};
    if (::poll(fds, 4, static_cast<int>(left.count())) < 0 && errno != EINTR)
      return fail_errno("wait for a command");
    if (in.write_end && fds[3].revents != 0)
      feed(in.write_end, input);
    const auto result = SHOAL_TRY(session.poll());
    drain(out.read_end, output.out, output_bytes_max);
    drain(err.read_end, output.err, output_bytes_max);
    if (result) {
      output.exit_code = result->exit_code;
      output.timed_out = result->timed_out;
      return output;
    }
  }
}

}  // namespace

Result<ExecOutput> exec_and_collect(const std::filesystem::path& socket,
                                    const shim::ExecRequest& request, milliseconds timeout,
                                    std::string_view input, std::size_t output_bytes_max) {
  return collect(
      [&](int in, int out, int err) { return ExecSession::start(socket, request, in, out, err); },
      timeout, input, output_bytes_max);
}

Result<ExecOutput> exec_and_collect(const std::filesystem::path& socket,
                                    const shim::EnterRequest& request, milliseconds timeout,
                                    std::string_view input, std::size_t output_bytes_max) {
  return collect(
      [&](int in, int out, int err) {
        return ExecSession::enter(socket, request, std::array{in, out, err});
      },
      timeout, input, output_bytes_max);
}

}  // namespace shoal::runtime
