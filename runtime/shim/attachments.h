// SPDX-License-Identifier: Apache-2.0
// Attachments: the standard inputs of a pod's containers, and those who look on at what containers
// write and type into them (kAttach).
//
// Who is attached gets the output from then on. Nobody waits for him, neither the container nor its
// log nor who else is attached: what he does not take waits in a buffer of kAttachedBytesMax a
// stream, and beyond that he is dropped, with an error that says so. Input waits for the container
// to take it. All descriptors are made non-blocking. One thread. Part of the static shim.
#pragma once

#include "netplane/base/result.h"
#include "netplane/base/unique_fd.h"
#include "runtime/shim/log_writer.h"
#include "runtime/shim/outlet.h"
#include "runtime/shim/protocol.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::runtime::shim {

inline constexpr std::size_t kAttachedMax = 16;  // to one pod
inline constexpr std::size_t kAttachedBytesMax = 1 << 20;
inline constexpr std::size_t kInputPieceBytes = 16 * 1024;

class Attachments {
public:
  explicit Attachments(Outlet& outlet) : outlet_(outlet) {}

  // The container has a standard input, whose end this is. once: it is closed when the first
  // attachment that has input ends, or its input does.
  void add_input(const ContainerRef& ref, UniqueFd fd, bool once);
  // Of a container that runs. fds are those that the request asks for, in the order of its flags.
  // Answered when the container or the attachment has ended.
  Result<> attach(const ReplyTo& to, const AttachRequest& request, UniqueFd (&fds)[kExecFds]);
  void write(const ContainerRef& ref, Stream stream, std::string_view bytes);
  // Who has taken all that was written is answered now, others when they have.
  void container_ended(const ContainerRef& ref, int exit_code);
  void forget(const ContainerRef& ref);  // it has no input any more
  void connection_closed(std::uint64_t connection);
  void on_ready(std::uint64_t tag);

private:
  struct Input {
    std::uint64_t id;
    ContainerRef ref;
    UniqueFd fd;
    bool once;
    bool ends = false;    // once what is pending has been taken
    std::string pending;  // while there is some, nobody's input is read
  };
  struct Out {
    UniqueFd fd;
    std::string pending;
    std::size_t sent = 0;  // of pending
  };
  struct Attached {
    std::uint64_t id;
    ReplyTo to;
    ContainerRef ref;
    UniqueFd in;
    bool had_input = false;
    Out outs[2];                   // by Stream
    std::optional<int> exit_code;  // the container has ended
    bool over = false;             // answered, or nobody is there to be
  };

  Input* input_of(const ContainerRef& ref);
  void read_input(Attached& attached);
  void feed(Input& input);
  void watch_inputs(const ContainerRef& ref, bool readable);
  void close_input(Attached& attached);
  void input_ended(const ContainerRef& ref);
  void remove_input(const ContainerRef& ref);
  void flush(Attached& attached, Stream stream);
  void close_out(Out& out);
  void answer_if_done(Attached& attached);
  void drop(Attached& attached);
  void end(Attached& attached);
  void sweep();

  Outlet& outlet_;
  std::vector<std::unique_ptr<Input>> inputs_;
  std::vector<std::unique_ptr<Attached>> attached_;
  std::uint64_t next_id_ = 0;
};

}  // namespace shoal::runtime::shim
