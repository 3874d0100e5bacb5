// SPDX-License-Identifier: Apache-2.0
// A server that also listens under TLS on 127.0.0.1, as host h1, and certificates of the hosts h1
// and h2.
#pragma once

#include "agent/pki/pki.h"
#include "tests/unit/agent/api/server_fixture.h"

namespace shoal::api {

class TlsFixture : public ServerFixture {
protected:
  TlsFixture() {
    ca_ = *pki::make_ca("test", now_, random_);
    write("ca", ca_.cert, "");
    node("h1", ca_);
    node("h2", ca_);
    options_.tls = TlsOptions{"127.0.0.1", 0, dir_ / "h1.crt", dir_ / "h1.key", dir_ / "ca.crt"};
  }
  void write(const std::string& name, std::string_view cert, std::string_view key) {
    ASSERT_TRUE(write_file_atomic(dir_ / (name + ".crt"), cert));
    ASSERT_TRUE(write_file_atomic(dir_ / (name + ".key"), key));
  }
  void node(const std::string& name, const pki::KeyPair& ca) {
    const auto request = pki::make_request(name);
    ASSERT_TRUE(request);
    const auto cert = pki::sign_request(ca, request->csr, {name, {*IpAddress::parse("127.0.0.1")}},
                                        now_, random_);
    ASSERT_TRUE(cert) << cert.error().message();
    write(name, *cert, request->key);
  }

  SystemClock now_;
  pki::KeyPair ca_;
};

}  // namespace shoal::api
