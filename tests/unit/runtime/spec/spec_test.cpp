// SPDX-License-Identifier: Apache-2.0
#include "netplane/base/fs.h"
#include "runtime/spec/container_config.h"
#include "runtime/spec/host_devices.h"
#include "runtime/spec/json_writer.h"
#include "runtime/spec/seccomp.h"
#include "runtime/spec/signal_name.h"
#include "runtime/spec/user.h"

#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <sys/stat.h>

namespace shoal::runtime {
namespace {

using Texts = std::vector<std::string>;

ContainerConfig minimal() {
  ContainerConfig config;
  config.rootfs = "/data/rootfs";
  config.args = {"/bin/httpd", "-f"};
  config.env = {"PATH=/bin"};
  config.cgroups_path = "/shoal.slice/pod-u/web-0";
  config.nofile_hard = 20'000;
  return config;
}

// One member a line, so that a change of behaviour is a diff that a person can review. The seccomp
// rules are data of their own and are shown by their name.
std::string readable(std::string text) {
  if (const std::size_t at = text.find(default_seccomp_rules()); at != std::string::npos)
    text.replace(at, default_seccomp_rules().size(), "\"seccomp_default_v1.json\"");
  std::string out;
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"' && (i == 0 || text[i - 1] != '\\'))
      quoted = !quoted;
    if (!quoted && c == '}')
      --depth;
    out.push_back(c);
    if (!quoted && c == '{')
      ++depth;
    if (!quoted && (c == ',' || c == '{') && depth <= 2)
      out += "\n" + std::string(static_cast<std::size_t>(depth) * 2, ' ');
  }
  return out + "\n";
}

void expect_golden(const std::string& name, const std::string& text) {
  const std::string path = std::string(SHOAL_SOURCE_DIR "/tests/golden/runtime/spec/") + name;
  if (std::getenv("SHOAL_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(make_dirs(std::filesystem::path(path).parent_path()));
    ASSERT_TRUE(write_file_atomic(path, text, 0644));
  }
  const auto golden = read_file(path, 1 << 20);
  ASSERT_TRUE(golden) << golden.error().message() << "; run with SHOAL_UPDATE_GOLDEN=1 to write it";
  EXPECT_EQ(text, *golden) << "if this is meant: run with SHOAL_UPDATE_GOLDEN=1";
}

TEST(OciSpec, DefaultsAreGolden) { expect_golden("minimal.json", readable(*oci_spec(minimal()))); }

TEST(OciSpec, EverythingIsGolden) {
  ContainerConfig config = minimal();
  config.rootfs_read_only = true;
  config.args = {"/bin/sh", "-c", "echo \"a\\b\"\n\x01"};
  config.env = {"A=1", "B=x y"};
  config.cwd = "/srv";
  config.user = {101, 102, {200, 201}};
  config.mounts = {{"/run/etc/hosts", "/etc/hosts", false},
                   {"/data/v", "/v", true},
                   {"/data/r", "/r", true, true},
                   {"/data/s", "/s", false, false, Propagation::kFromHost}};
  config.capabilities_add = {"NET_ADMIN"};
  config.capabilities_drop = {"CAP_MKNOD"};
  config.no_new_privileges = false;
  config.oom_score_adj = 900;
  config.seccomp = false;
  config.nofile = 1024;
  config.cgroup_v2 = false;
  config.resources = {64 << 20, 250, 100, 64};
  expect_golden("everything.json", readable(*oci_spec(config)));
}

TEST(OciSpec, ATerminalIsTheContainersAndNoFurtherProcesss) {
  ContainerConfig config = minimal();
  config.terminal = true;
  EXPECT_NE(oci_spec(config)->find("\"terminal\":true"), std::string::npos);
  EXPECT_NE(oci_process(config)->find("\"terminal\":false"), std::string::npos);
}

TEST(OciSpec, APidNamespaceMayBeThatOfThePod) {
  ContainerConfig config = minimal();
  EXPECT_NE(oci_spec(config)->find(R"("namespaces":[{"type":"pid"},)"), std::string::npos);
  config.pid_namespace = "/run/p/pid-namespace";
  EXPECT_NE(
      oci_spec(config)->find(R"("namespaces":[{"type":"pid","path":"/run/p/pid-namespace"},)"),
      std::string::npos);
  config.pid_namespace = "pid-namespace";
  EXPECT_EQ(oci_spec(config).error().code(), Errc::kInvalid);
  config.pid_namespace.clear();
  config.host_pids = true;
  EXPECT_NE(oci_spec(config)->find(R"("namespaces":[{"type":"mount"})"), std::string::npos);
}

TEST(OciSpec, WithTheHostsIpcGoesItsSharedMemory) {
  ContainerConfig config = minimal();
  EXPECT_EQ(oci_spec(config)->find(R"("source":"/dev/shm")"), std::string::npos);
  config.host_ipc = true;
  EXPECT_NE(oci_spec(config)->find(R"("destination":"/dev/shm","type":"bind","source":"/dev/shm")"),
            std::string::npos);
}

TEST(OciSpec, SameValueSameBytes) { EXPECT_EQ(*oci_spec(minimal()), *oci_spec(minimal())); }

TEST(OciSpec, ProcessAloneIsThatOfTheSpec) {
  EXPECT_NE(oci_spec(minimal())->find("\"process\":" + *oci_process(minimal())), std::string::npos);
}

TEST(OciSpec, PrivilegedIsGolden) {
  ContainerConfig config = minimal();
  config.privileged = true;
  config.capability_bound = 0x7;
  config.devices = {{"/dev/fuse", 'c', 10, 229, 0666, 0, 0}};
  expect_golden("privileged.json", readable(*oci_spec(config)));
}

TEST(OciSpec, ASeccompProfileOfTheHost) {
  ContainerConfig config = minimal();
  config.seccomp_profile = R"({"defaultAction":"SCMP_ACT_ALLOW"})";
  const std::string text = *oci_spec(config);
  EXPECT_NE(text.find(R"("seccomp":{"defaultAction":"SCMP_ACT_ALLOW"},)"), std::string::npos);
  EXPECT_EQ(text.find("SCMP_ACT_ERRNO"), std::string::npos);
}

TEST(HostDevices, OfThisHost) {
  EXPECT_EQ(*parse_capability_bound("Name:\tx\nCapBnd:\t000001ffffffffff\nSeccomp:\t0\n"),
            0x1ffffffffffULL);
  for (const char* bad : {"", "CapBnd:\t\n", "CapBnd:\tx1\n", "CapBnd:\t1g\n"})
    EXPECT_FALSE(parse_capability_bound(bad)) << bad;
  EXPECT_TRUE(capability_bound());
  for (const DeviceNode& node : host_devices()) {
    EXPECT_TRUE(node.path.starts_with("/dev/")) << node.path;
    EXPECT_FALSE(node.path.starts_with("/dev/pts")) << node.path;
    EXPECT_NE(node.path, "/dev/null");
  }
  EXPECT_TRUE(host_devices("/nowhere").empty());
}

TEST(OciSpec, CapabilitiesAddAndDrop) {
  const auto bounding = [](Texts add, Texts drop) {
    ContainerConfig config = minimal();
    config.capabilities_add = std::move(add);
    config.capabilities_drop = std::move(drop);
    const std::string text = *oci_process(config);
    const std::size_t at = text.find("\"bounding\":") + 11;
    return text.substr(at, text.find(']', at) + 1 - at);
  };
  EXPECT_EQ(bounding({}, {"ALL"}), "[]");
  EXPECT_EQ(bounding({"NET_BIND_SERVICE", "CAP_CHOWN"}, {"ALL"}),
            R"(["CAP_CHOWN","CAP_NET_BIND_SERVICE"])");
  EXPECT_NE(bounding({"ALL"}, {}).find("CAP_SYS_ADMIN"), std::string::npos);
  EXPECT_EQ(bounding({"ALL"}, {"SYS_ADMIN"}).find("CAP_SYS_ADMIN"), std::string::npos);
  EXPECT_EQ(bounding({}, {}).find("CAP_SYS_ADMIN"), std::string::npos);
  ContainerConfig config = minimal();
  config.capabilities_add = {"NET_ADMINN"};
  EXPECT_EQ(oci_spec(config).error().message(),
            "capabilities.add: unknown capability 'NET_ADMINN'");
}

TEST(OciSpec, RefusesWhatCannotRun) {
  const auto error_of = [](auto change) {
    ContainerConfig config = minimal();
    change(config);
    const auto spec = oci_spec(config);
    return spec ? std::string("accepted") : std::string(to_string(spec.error().code()));
  };
  EXPECT_EQ(error_of([](auto& c) { c.args.clear(); }), "invalid");
  EXPECT_EQ(error_of([](auto& c) { c.args = {""}; }), "invalid");
  EXPECT_EQ(error_of([](auto& c) { c.args.push_back(std::string("a\0b", 3)); }), "invalid");
  EXPECT_EQ(error_of([](auto& c) { c.rootfs = "relative"; }), "invalid");
  EXPECT_EQ(error_of([](auto& c) { c.cwd = "srv"; }), "invalid");
  EXPECT_EQ(error_of([](auto& c) { c.env = {"NOVALUE"}; }), "invalid");
  EXPECT_EQ(error_of([](auto& c) { c.env = {"=x"}; }), "invalid");
  EXPECT_EQ(error_of([](auto& c) { c.mounts = {{"etc", "/etc"}}; }), "invalid");
  EXPECT_EQ(error_of([](auto& c) { c.resources.memory_bytes = 0; }), "invalid");
  EXPECT_EQ(error_of([](auto& c) { c.resources.memory_bytes = 1; }), "accepted");
}

TEST(ProcessArgs, AreKubernetesTable) {
  const Texts entrypoint{"/ep"}, cmd{"c1", "c2"}, none;
  EXPECT_EQ(*process_args(entrypoint, cmd, none, none), (Texts{"/ep", "c1", "c2"}));
  EXPECT_EQ(*process_args(entrypoint, cmd, {"/cmd"}, none), (Texts{"/cmd"}));
  EXPECT_EQ(*process_args(entrypoint, cmd, none, {"a"}), (Texts{"/ep", "a"}));
  EXPECT_EQ(*process_args(entrypoint, cmd, {"/cmd"}, {"a"}), (Texts{"/cmd", "a"}));
  EXPECT_EQ(*process_args(none, cmd, none, none), cmd);
  EXPECT_EQ(process_args(none, none, none, none).error().code(), Errc::kInvalid);
}

TEST(MergeEnv, TheContainerWinsByName) {
  EXPECT_EQ(merge_env({"A=1", "PATH=/img", "AB=2"}, {"B=3", "A=4"}),
            (Texts{"PATH=/img", "A=4", "AB=2", "B=3"}));
  EXPECT_EQ(merge_env({}, {}).size(), 1U);  // PATH
}

TEST(JsonWriter, EscapesAndSeparates) {
  JsonWriter json;
  json.begin_object().member("a\"b", "\\\n\x1f/ü").member("n", -5).member("t", true);
  json.key("l")
      .begin_array()
      .value(1)
      .begin_object()
      .end_object()
      .value(Texts{})
      .end_array()
      .end_object();
  EXPECT_EQ(json.text(),
            "{\"a\\\"b\":\"\\\\\\u000a\\u001f/ü\",\"n\":-5,\"t\":true,\"l\":[1,{},[]]}");
}

// ---- users
constexpr std::string_view kPasswd =
    "root:x:0:0:root:/root:/bin/sh\nbroken line\nweb:x:101:102::/home/web:/bin/sh\n"
    "nohome:x:103:104:::\n";
constexpr std::string_view kGroup =
    "root:x:0:\nweb:x:102:\nextra:x:200:web,other\nmore:x:150:other,web\nself:x:102:web\n";

TEST(ResolveUser, TakesNamesAndNumbers) {
  const auto user = [](std::string_view text) { return *resolve_user(text, kPasswd, kGroup); };
  EXPECT_EQ(user(""), (ProcessUser{0, 0, {}}));
  EXPECT_EQ(user("0"), (ProcessUser{0, 0, {}}));
  EXPECT_EQ(user("web"), (ProcessUser{101, 102, {150, 200}}));
  EXPECT_EQ(user("101"), (ProcessUser{101, 102, {150, 200}}));
  EXPECT_EQ(user("5000"), (ProcessUser{5000, 0, {}}));
  EXPECT_EQ(user("5000:6000"), (ProcessUser{5000, 6000, {}}));
  EXPECT_EQ(user("web:extra"), (ProcessUser{101, 200, {}}));
  EXPECT_EQ(user(":extra"), (ProcessUser{0, 200, {}}));
  EXPECT_EQ(resolve_user("nobody", kPasswd, kGroup).error().message(),
            "user 'nobody' is not in the image's /etc/passwd");
  EXPECT_EQ(resolve_user("web:nope", kPasswd, kGroup).error().message(),
            "group 'nope' is not in the image's /etc/group");
  EXPECT_FALSE(resolve_user("4294967295", "", ""));  // -1 means "leave as it is" to setuid
  EXPECT_EQ(home_of(101, kPasswd), "/home/web");
  EXPECT_EQ(home_of(103, kPasswd), "/");
  EXPECT_EQ(home_of(7, kPasswd), "/");
}

TEST(RootfsFile, StaysInside) {
  namespace fs = std::filesystem;
  std::string name = (fs::temp_directory_path() / "shoal-rootfs-file.XXXXXX").string();
  ASSERT_NE(::mkdtemp(name.data()), nullptr);
  const fs::path root = fs::path(name) / "root";
  ASSERT_TRUE(make_dirs(root / "etc"));
  ASSERT_TRUE(write_file_atomic(fs::path(name) / "secret", "outside"));
  ASSERT_TRUE(write_file_atomic(root / "real", "inside"));
  EXPECT_EQ(*read_rootfs_file(root, "/etc/passwd"), "");
  fs::create_symlink("/real", root / "etc/passwd");  // absolute: from the image's root
  EXPECT_EQ(*read_rootfs_file(root, "/etc/passwd"), "inside");
  fs::remove(root / "etc/passwd");
  fs::create_symlink("../../secret", root / "etc/passwd");
  EXPECT_EQ(*read_rootfs_file(root, "/etc/passwd"), "");
  fs::remove(root / "etc/passwd");
  ASSERT_EQ(::mkfifo((root / "etc/passwd").c_str(), 0600), 0);
  EXPECT_EQ(read_rootfs_file(root, "/etc/passwd").error().code(), Errc::kInvalid);
  fs::remove_all(name);
}

TEST(SignalName, AsImagesSpellThem) {
  EXPECT_EQ(parse_signal("SIGQUIT"), 3);
  EXPECT_EQ(parse_signal("TERM"), 15);
  EXPECT_EQ(parse_signal("9"), 9);
  EXPECT_EQ(parse_signal("SIGRTMIN+3"), 37);
  EXPECT_EQ(parse_signal("RTMIN"), 34);
  for (const char* bad : {"", "SIG", "0", "65", "SIGNO", "SIGRTMIN+31", "SIGRTMIN-1", "quit"})
    EXPECT_FALSE(parse_signal(bad)) << bad;
}

}  // namespace
}  // namespace shoal::runtime
