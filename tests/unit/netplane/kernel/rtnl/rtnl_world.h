// SPDX-License-Identifier: Apache-2.0
// Two namespaces, `host` and `pod`, real or in memory: the ground on which one suite of scenarios
// stands.
#pragma once

#include "netplane/kernel/rtnl/netns.h"
#include "netplane/kernel/rtnl/pod_net.h"
#include "tests/fakes/fake_rtnl.h"

#include <gtest/gtest.h>
#include <memory>

namespace shoal::kernel {

class RtnlWorld {
public:
  virtual ~RtnlWorld() = default;
  virtual int host_fd() = 0;
  virtual int pod_fd() = 0;
  virtual std::unique_ptr<Rtnl> open(int fd) = 0;
};

class RealWorld final : public RtnlWorld {
public:
  RealWorld() {
    host_ = std::move(*create_netns());
    pod_ = std::move(*create_netns());
  }
  int host_fd() override { return host_.get(); }
  int pod_fd() override { return pod_.get(); }
  std::unique_ptr<Rtnl> open(int fd) override { return std::move(*open_rtnl(fd)); }

private:
  UniqueFd host_;
  UniqueFd pod_;
};

class FakeWorld final : public RtnlWorld {
public:
  FakeWorld() : host_(net.make_namespace()), pod_(net.make_namespace()) {}
  int host_fd() override { return host_; }
  int pod_fd() override { return pod_; }
  std::unique_ptr<Rtnl> open(int fd) override { return std::make_unique<FakeRtnl>(net, fd); }
  FakeNet net;

private:
  int host_;
  int pod_;
};

// Whether the scenarios run on the kernel or on the fake is the parameter.
class RtnlScenario : public testing::Test {
protected:
  void use(std::unique_ptr<RtnlWorld> world) {
    world_ = std::move(world);
    host_ = world_->open(world_->host_fd());
    pod_ = world_->open(world_->pod_fd());
  }
  std::unique_ptr<RtnlWorld> world_;
  std::unique_ptr<Rtnl> host_;
  std::unique_ptr<Rtnl> pod_;
};

template <class World>
class RtnlSuite : public RtnlScenario {
protected:
  void SetUp() override { use(std::make_unique<World>()); }
};

}  // namespace shoal::kernel
