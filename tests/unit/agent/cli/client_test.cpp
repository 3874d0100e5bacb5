// SPDX-License-Identifier: Apache-2.0
// The HTTP client and exec against a scripted peer on a unix socket, and the frames of exec.
#include "agent/cli/client.h"
#include "agent/cli/commands.h"
#include "agent/stream/frames.h"
#include "netplane/base/fs.h"

#include <cstring>
#include <filesystem>
#include <functional>
#include <sys/socket.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

namespace shoal::cli {
namespace {

using stream::Channel;
using stream::encode_frame;
using testing::HasSubstr;

// Accepts one connection, reads until `until` has come (or all, when empty), answers, closes.
class Peer {
public:
  Peer(std::string until, std::function<void(int fd)> answer) {
    char name[] = "/tmp/shoal-client-test.XXXXXX";
    EXPECT_NE(::mkdtemp(name), nullptr);
    dir_ = name;
    listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path().c_str(), sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    thread_ = std::thread([this, until = std::move(until), answer = std::move(answer)] {
      const UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      char buffer[65536];
      while (received.find(until) == std::string::npos) {
        const ssize_t n = ::read(fd.get(), buffer, sizeof(buffer));
        if (n <= 0)
          break;
        received.append(buffer, static_cast<std::size_t>(n));
      }
      answer(fd.get());
    });
  }
  ~Peer() {
    join();
    std::filesystem::remove_all(dir_);
  }
  void join() {
    if (thread_.joinable())
      thread_.join();
  }
  std::filesystem::path path() const { return dir_ / "s"; }

  std::string received;

private:
  std::filesystem::path dir_;
  UniqueFd listener_;
  std::thread thread_;
};

std::function<void(int)> says(std::string text) {
  return [text = std::move(text)](int fd) { (void)write_all(fd, text); };
}

TEST(Client, SendsAndReadsWarnings) {
  Peer peer("\r\n\r\n{}", says("HTTP/1.1 201 Created\r\nContent-Length: 2\r\nWarning: 299 - \"one "
                               "\\\"q\\\"\"\r\nWarning: 299 - \"two\"\r\n\r\nok"));
  const auto response =
      Client(peer.path()).send({.method = "POST", .target = "/x?a=b", .body = "{}"});
  ASSERT_TRUE(response) << response.error().message();
  EXPECT_EQ(response->status, 201);
  EXPECT_EQ(response->body, "ok");
  EXPECT_THAT(response->warnings, testing::ElementsAre("one \"q\"", "two"));
  peer.join();
  EXPECT_THAT(peer.received, HasSubstr("POST /x?a=b HTTP/1.1\r\n"));
  EXPECT_THAT(peer.received, HasSubstr("Content-Type: application/json\r\n"));
}

TEST(Client, APeerThatClosesIsAnError) {
  for (const char* text :
       {"", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "garbage\r\n\r\n"}) {
    Peer peer("\r\n\r\n", says(text));
    const auto response = Client(peer.path()).send({.target = "/"});
    ASSERT_FALSE(response) << text;
    EXPECT_EQ(response.error().sys_errno(), 0);
  }
}

TEST(Client, StreamsPieceByPieceUntilTold) {
  const std::string chunks =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n3\r\ntwo\r\n";
  {
    Peer peer("\r\n\r\n", says(chunks + "0\r\n\r\n"));
    std::string text;
    const auto response = Client(peer.path()).stream({.target = "/"}, [&](std::string_view bytes) {
      text += bytes;
      return true;
    });
    ASSERT_TRUE(response) << response.error().message();
    EXPECT_EQ(text, "onetwo");
  }
  {
    Peer peer("\r\n\r\n", says(chunks));
    EXPECT_FALSE(
        Client(peer.path()).stream({.target = "/"}, [](std::string_view) { return true; }));
  }
  {
    Peer peer("\r\n\r\n", says(chunks + "0\r\n\r\n"));
    EXPECT_TRUE(
        Client(peer.path()).stream({.target = "/"}, [](std::string_view) { return false; }));
  }
  Peer peer("\r\n\r\n", says("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"));
  const auto refused =
      Client(peer.path()).stream({.target = "/"}, [](std::string_view) { return true; });
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->body, "gone");
}

TEST(Client, UploadsAndTakesAnEarlyRefusal) {
  char name[] = "/tmp/shoal-upload.XXXXXX";
  const UniqueFd file(::mkstemp(name));
  ::unlink(name);
  const std::string content(3 << 20, 'x');
  ASSERT_TRUE(write_all(file.get(), content + "END"));
  ::lseek(file.get(), 0, SEEK_SET);
  {
    Peer peer("END", says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    std::uint64_t last = 0;
    const auto response = Client(peer.path())
                              .upload({.method = "POST", .target = "/"}, file.get(),
                                      content.size() + 3, [&](std::uint64_t sent) { last = sent; });
    ASSERT_TRUE(response) << response.error().message();
    EXPECT_EQ(last, content.size() + 3);
  }
  ::lseek(file.get(), 0, SEEK_SET);
  Peer peer("\r\n\r\n", [](int fd) {
    (void)write_all(fd, "HTTP/1.1 507 Insufficient Storage\r\nContent-Length: 4\r\n\r\nfull");
    // What is still on its way is read, so that the answer is not lost to a reset.
    char buffer[65536];
    ::shutdown(fd, SHUT_WR);
    while (::read(fd, buffer, sizeof(buffer)) > 0) {
    }
  });
  const auto refused = Client(peer.path())
                           .upload({.method = "POST", .target = "/"}, file.get(),
                                   content.size() + 3, [](std::uint64_t) {});
  ASSERT_TRUE(refused) << refused.error().message();
  EXPECT_EQ(refused->status, 507);
}

TEST(Frames, SurviveAnyCutting) {
  const std::string bytes = encode_frame(Channel::kStdout, "hello") +
                            encode_frame(Channel::kStdin, "") +
                            encode_frame(Channel::kExit, std::string(stream::kFrameBytesMax, 'x'));
  for (const std::size_t piece :
       {std::size_t{1}, std::size_t{3}, std::size_t{4096}, bytes.size()}) {
    stream::FrameReader reader;
    std::vector<stream::Frame> frames;
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      reader.append(std::string_view(bytes).substr(at, piece));
      for (;;) {
        auto frame = reader.next();
        ASSERT_TRUE(frame);
        if (!*frame)
          break;
        frames.push_back(std::move(**frame));
      }
    }
    ASSERT_EQ(frames.size(), 3U);
    EXPECT_EQ(frames[0].payload, "hello");
    EXPECT_EQ(frames[1].payload, "");
    EXPECT_EQ(frames[2].payload.size(), stream::kFrameBytesMax);
  }
}

TEST(Frames, WhatIsNoFrameIsRefused) {
  for (const std::string& bytes :
       {std::string("\x09\0\0\0\0", 5), std::string("\0\x7f\0\0\0", 5)}) {
    stream::FrameReader reader;
    reader.append(bytes);
    EXPECT_FALSE(reader.next());
  }
}

class Discard final : public Streams {
public:
  void out(std::string_view text) override { output += text; }
  void err(std::string_view text) override { errors += text; }
  std::string output, errors;
};

TEST(Exec, RelaysAndReturnsTheExitCode) {
  Peer peer("\"tty\":false}",
            says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "
                 "shoal-exec.v1\r\n\r\n" +
                 encode_frame(Channel::kStdout, "out\n") + encode_frame(Channel::kStderr, "err\n") +
                 encode_frame(Channel::kExit, R"({"exitCode":7})")));
  const Client client(peer.path());
  Discard streams;
  const Exit exit =
      run_exec({client, streams}, {.pod = "web-1", .command = {"sh", "-c", "exit 7"}});
  ASSERT_TRUE(exit) << exit.error().message();
  EXPECT_EQ(*exit, 7);
  EXPECT_EQ(streams.output, "out\n");
  EXPECT_EQ(streams.errors, "err\n");
  peer.join();
  EXPECT_THAT(peer.received, HasSubstr("POST /shoal/v1/exec/default/web-1"));
  EXPECT_THAT(peer.received, HasSubstr(R"("command":["sh","-c","exit 7"])"));
  EXPECT_THAT(peer.received, HasSubstr("Upgrade: shoal-exec.v1"));
}

TEST(Exec, Refusals) {
  Discard streams;
  {
    Peer peer("\"tty\":false}", says("HTTP/1.1 404 Not Found\r\nContent-Length: "
                                     "30\r\n\r\n{\"message\":\"no such pod here\"} "));
    const Client client(peer.path());
    EXPECT_THAT(run_exec({client, streams}, {.pod = "x", .command = {"a"}}).error().message(),
                HasSubstr("no such pod here"));
  }
  Peer peer("\"tty\":false}",
            says("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "
                 "shoal-exec.v1\r\n\r\n" +
                 encode_frame(Channel::kExit, R"({"error":"not found in the image"})")));
  const Client client(peer.path());
  EXPECT_THAT(run_exec({client, streams}, {.pod = "x", .command = {"a"}}).error().message(),
              HasSubstr("not found in the image"));
}

}  // namespace
}  // namespace shoal::cli
