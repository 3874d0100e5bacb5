// SPDX-License-Identifier: Apache-2.0
#include "runtime/shim/attachments.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace shoal::runtime::shim {
namespace {

// What a tag is about: an id, and one of these below it.
enum Part : std::uint64_t { kOfStdout = 0, kOfStderr = 1, kOfStdin = 2, kOfContainer = 3 };
constexpr std::uint64_t tag_of(std::uint64_t id, std::uint64_t part) { return id << 2 | part; }

void make_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

// -1 and EAGAIN: not now. Never EINTR.
ssize_t write_some(int fd, std::string_view bytes) {
  ssize_t n;
  do
    n = ::write(fd, bytes.data(), bytes.size());
  while (n < 0 && errno == EINTR);
  return n;
}

}  // namespace

void Attachments::add_input(const ContainerRef& ref, UniqueFd fd, bool once) {
  make_nonblocking(fd.get());
  inputs_.push_back(
      std::make_unique<Input>(Input{next_id_++, ref, std::move(fd), once, false, {}}));
}

Attachments::Input* Attachments::input_of(const ContainerRef& ref) {
  for (const auto& input : inputs_)
    if (input->ref == ref)
      return input.get();
  return nullptr;
}

Result<> Attachments::attach(const ReplyTo& to, const AttachRequest& request,
                             UniqueFd (&fds)[kExecFds]) {
  if (!request.input && !request.output && !request.error)
    return fail(Errc::kInvalid, "you must specify at least 1 of stdin, stdout, stderr");
  if (attached_.size() >= kAttachedMax)
    return fail(Errc::kExhausted, std::to_string(kAttachedMax) +
                                      " are attached to this pod, which is all that may at once");
  const Input* input = request.input ? input_of(request.ref) : nullptr;
  if (request.input && (input == nullptr || input->ends))
    return fail(Errc::kConflict, "container " + request.ref.name +
                                     " takes no input: its stdin is not open, or was closed when "
                                     "the first input ended (stdinOnce)");
  auto attached = std::make_unique<Attached>();
  attached->id = next_id_++;
  attached->to = to;
  attached->ref = request.ref;
  std::size_t next = 0;
  const auto take = [&](bool wanted, UniqueFd& into) {
    if (!wanted)
      return true;
    into = std::move(fds[next++]);
    if (into)
      make_nonblocking(into.get());
    return static_cast<bool>(into);
  };
  if (!take(request.input, attached->in) || !take(request.output, attached->outs[0].fd) ||
      !take(request.error, attached->outs[1].fd))
    return fail(Errc::kInvalid, "attaching needs a file for each stream");
  attached->had_input = request.input;
  if (input != nullptr &&
      !outlet_.watch_attached(attached->in.get(), tag_of(attached->id, kOfStdin),
                              input->pending.empty(), false))
    return fail_errno("watch the input");
  attached_.push_back(std::move(attached));
  return {};
}

// ---- input

void Attachments::read_input(Attached& attached) {
  Input* input = input_of(attached.ref);
  if (input == nullptr || input->ends)
    return close_input(attached);
  if (!input->pending.empty())
    return;
  char piece[kInputPieceBytes];
  const ssize_t n = ::read(attached.in.get(), piece, sizeof(piece));
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0) {
    close_input(attached);
    return input_ended(attached.ref);
  }
  input->pending.assign(piece, static_cast<std::size_t>(n));
  feed(*input);
}

void Attachments::feed(Input& input) {
  const ssize_t n = write_some(input.fd.get(), input.pending);
  if (n < 0 && errno != EAGAIN)
    return remove_input(ContainerRef(input.ref));  // the container has closed it
  input.pending.erase(0, n > 0 ? static_cast<std::size_t>(n) : 0);
  const bool all = input.pending.empty();
  if (all && input.ends)
    return remove_input(ContainerRef(input.ref));
  (void)outlet_.watch_attached(input.fd.get(), tag_of(input.id, kOfContainer), false, !all);
  watch_inputs(input.ref, all);
}

void Attachments::watch_inputs(const ContainerRef& ref, bool readable) {
  for (const auto& attached : attached_)
    if (attached->ref == ref && attached->in)
      (void)outlet_.watch_attached(attached->in.get(), tag_of(attached->id, kOfStdin), readable,
                                   false);
}

void Attachments::close_input(Attached& attached) {
  if (!attached.in)
    return;
  outlet_.unwatch(attached.in.get());
  attached.in.reset();
}

// Somebody's input has ended.
void Attachments::input_ended(const ContainerRef& ref) {
  Input* input = input_of(ref);
  if (input == nullptr || !input->once)
    return;
  input->ends = true;
  if (input->pending.empty())
    remove_input(ref);
}

void Attachments::remove_input(const ContainerRef& ref) {
  for (const auto& attached : attached_)
    if (attached->ref == ref)
      close_input(*attached);
  if (const Input* input = input_of(ref))
    outlet_.unwatch(input->fd.get());
  std::erase_if(inputs_, [&](const auto& input) { return input->ref == ref; });
}

// ---- output

void Attachments::write(const ContainerRef& ref, Stream stream, std::string_view bytes) {
  for (const auto& attached : attached_) {
    Out& out = attached->outs[static_cast<int>(stream)];
    if (attached->ref != ref || !out.fd)
      continue;
    out.pending.append(bytes);
    // Most are quick: what is written at once never meets the bound.
    flush(*attached, stream);
    if (out.pending.size() - out.sent > kAttachedBytesMax)
      drop(*attached);
  }
  sweep();
}

void Attachments::flush(Attached& attached, Stream stream) {
  Out& out = attached.outs[static_cast<int>(stream)];
  while (out.fd && out.sent < out.pending.size()) {
    const ssize_t n = write_some(out.fd.get(), std::string_view(out.pending).substr(out.sent));
    if (n < 0 && errno != EAGAIN)
      close_out(out);  // nobody reads it any more
    if (n < 0)
      break;
    out.sent += static_cast<std::size_t>(n);
  }
  if (out.sent >= out.pending.size() / 2) {
    out.pending.erase(0, out.sent);
    out.sent = 0;
  }
  if (out.fd)
    (void)outlet_.watch_attached(out.fd.get(), tag_of(attached.id, static_cast<int>(stream)), false,
                                 !out.pending.empty());
  answer_if_done(attached);
}

void Attachments::close_out(Out& out) {
  if (out.fd)
    outlet_.unwatch(out.fd.get());
  out.fd.reset();
  std::string().swap(out.pending);
  out.sent = 0;
}

void Attachments::drop(Attached& attached) {
  if (attached.over)
    return;
  Reply reply;
  reply.ok = false;
  reply.code = Errc::kExhausted;
  reply.message = "detached from container " + attached.ref.name +
                  ", which runs on: " + std::to_string(kAttachedBytesMax) +
                  " bytes of its output were waiting to be read here (the log has all of it)";
  end(attached);
  outlet_.reply(attached.to, reply);
}

void Attachments::container_ended(const ContainerRef& ref, int exit_code) {
  remove_input(ref);
  for (const auto& attached : attached_)
    if (attached->ref == ref) {
      attached->exit_code = exit_code;
      answer_if_done(*attached);
    }
  sweep();
}

void Attachments::answer_if_done(Attached& attached) {
  if (attached.over || !attached.exit_code || !attached.outs[0].pending.empty() ||
      !attached.outs[1].pending.empty())
    return;
  Reply reply;
  reply.body = encode(ExecResult{*attached.exit_code, false});
  end(attached);
  outlet_.reply(attached.to, reply);
}

// ---- the rest

void Attachments::end(Attached& attached) {
  attached.over = true;
  close_input(attached);
  for (Out& out : attached.outs)
    close_out(out);
}

void Attachments::forget(const ContainerRef& ref) { remove_input(ref); }

void Attachments::connection_closed(std::uint64_t connection) {
  for (const auto& attached : attached_) {
    if (attached->to.connection != connection || attached->over)
      continue;
    end(*attached);
    if (attached->had_input)
      input_ended(attached->ref);
  }
  sweep();
}

void Attachments::sweep() {
  // The input of one that was dropped ends, too.
  for (const auto& attached : attached_)
    if (attached->over && attached->had_input)
      input_ended(attached->ref);
  std::erase_if(attached_, [](const auto& attached) { return attached->over; });
}

void Attachments::on_ready(std::uint64_t tag) {
  const std::uint64_t id = tag >> 2;
  for (const auto& input : inputs_)
    if (input->id == id && (tag & 3) == kOfContainer)
      return feed(*input);
  for (const auto& attached : attached_) {
    if (attached->id != id)
      continue;
    if ((tag & 3) == kOfStdin)
      read_input(*attached);
    else
      flush(*attached, (tag & 3) == kOfStdout ? Stream::kStdout : Stream::kStderr);
    return sweep();
  }
}

}  // namespace shoal::runtime::shim
