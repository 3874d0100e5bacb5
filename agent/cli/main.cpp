// SPDX-License-Identifier: Apache-2.0
// The command line: what may be said, and what runs. Everything else is in commands.h.
#include "agent/cli/commands.h"
#include "netplane/base/strings.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <fmt/format.h>
#include <functional>
#include <poll.h>

namespace {

using namespace shoal::cli;
using shoal::Result;

class StandardStreams final : public Streams {
public:
  void out(std::string_view text) override { write(stdout, text); }
  void err(std::string_view text) override {
    std::fflush(stdout);
    write(stderr, text);
  }

private:
  static void write(std::FILE* file, std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), file);
    std::fflush(file);
  }
};

// What the options are parsed into; one command runs a process.
struct Options {
  std::string socket;
  std::optional<std::string> ns;
  std::string output;
  GetOptions get;
  ApplyOptions apply;
  DeleteOptions del;
  DrainOptions drain;
  TopOptions top;
  LogsOptions logs;
  ExecOptions exec;
  AttachOptions attach;
  CopyOptions copy;
  CaptureOptions capture;
  DropsOptions drops;
  FlowsOptions flows;
  TraceOptions trace;
  ImageOptions image;
  BuildOptions build;
  std::string address, token, ttl, duration, path, name;
  std::vector<std::string> references;
  bool now = false;
};

using Run = std::function<Exit(const Context&)>;

// The next look of --follow is due after a second; a signal ends the command.
bool wait_a_second() {
  constexpr int kLookEveryMs = 1000;
  return ::poll(nullptr, 0, kLookEveryMs) == 0;
}

class CommandLine {
public:
  CommandLine() : app_("shoal: pods and services of this host's cluster, through shoald") {
    app_.require_subcommand(1);
    app_.set_help_all_flag("--help-all", "Help of all commands");
    const char* socket = std::getenv("SHOAL_SOCKET");
    o_.socket = socket ? socket : kDefaultSocket;
    app_.add_option("--socket", o_.socket, "shoald's unix socket (or $SHOAL_SOCKET)")
        ->capture_default_str();
    app_.footer("Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 shoald is not "
                "reachable, 4 not found; exec "
                "and attach give the command's own.");
    objects();
    pods();
    capture();
    nodes();
    top();
    cluster();
    data_plane();
  }

  int run(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      const int code = app_.exit(error);
      return code == 0 ? 0 : kExitUsage;
    }
    const Client client(o_.socket);
    StandardStreams streams;
    const Exit exit = run_(Context{client, streams});
    if (exit)
      return *exit;
    streams.err(fmt::format("shoal: {}\n", exit.error().message()));
    return exit_code_of(exit.error());
  }

private:
  CLI::App* command(CLI::App* parent, const char* name, const char* help, Run run) {
    CLI::App* sub = parent->add_subcommand(name, help);
    sub->fallthrough();
    sub->callback([this, run = std::move(run)] { run_ = run; });
    return sub;
  }
  void ns_option(CLI::App* sub) {
    sub->add_option("-n,--namespace", o_.ns, "Namespace (default: default)");
  }
  void output_option(CLI::App* sub, const std::vector<std::string>& allowed) {
    sub->add_option("-o,--output", o_.output, "Output form")->check(CLI::IsMember(allowed));
  }
  std::string ns() const { return o_.ns.value_or("default"); }
  bool json() const { return o_.output == "json"; }

  void objects() {
    CLI::App* apply =
        command(&app_, "apply", "Make objects be as files say", [this](const Context& c) {
          o_.apply.ns = o_.ns;
          o_.apply.output = o_.output;
          return run_apply(c, o_.apply);
        });
    apply->add_option("-f,--filename", o_.apply.files, "File, folder or - for standard input")
        ->required();
    apply->add_flag("--dry-run", o_.apply.dry_run, "Only validate");
    ns_option(apply);
    output_option(apply, {"json", "yaml", "name"});

    const auto get_options = [this] {
      o_.get.ns = ns();
      o_.get.output = o_.output;
    };
    CLI::App* get = command(&app_, "get", "Show objects", [this, get_options](const Context& c) {
      get_options();
      return run_get(c, o_.get);
    });
    get->add_option("what", o_.get.what, "KIND[,KIND] [NAME...] or KIND/NAME...")->required();
    get->add_flag("-A,--all-namespaces", o_.get.all_namespaces, "In all namespaces");
    get->add_option("-l,--selector", o_.get.selector, "By labels, as in app=web,version!=green");
    get->add_flag("-w,--watch", o_.get.watch, "And their changes as they come");
    get->add_flag("--no-headers", o_.get.no_headers, "Rows only");
    ns_option(get);
    output_option(get, {"wide", "json", "yaml", "name"});

    CLI::App* describe = command(&app_, "describe", "Show an object and its events",
                                 [this, get_options](const Context& c) {
                                   get_options();
                                   return run_describe(c, o_.get);
                                 });
    describe->add_option("what", o_.get.what, "KIND NAME or KIND/NAME")->required();
    ns_option(describe);

    CLI::App* del = command(&app_, "delete", "Delete objects", [this](const Context& c) -> Exit {
      o_.del.ns = o_.ns;
      if (o_.now)
        o_.del.grace_s = 1;
      if (o_.del.what.empty() == o_.del.files.empty()) {
        c.streams.err("shoal: delete needs either KIND NAME or -f FILE\n");
        return kExitUsage;
      }
      return run_delete(c, o_.del);
    });
    del->add_option("what", o_.del.what, "KIND NAME... or KIND/NAME...");
    del->add_option("-f,--filename", o_.del.files, "What a file, a folder or - names")
        ->allow_extra_args(false);
    del->add_option("-l,--selector", o_.del.selector, "By labels");
    del->add_option("--grace-period", o_.del.grace_s,
                    "Seconds that a pod has to stop; 0: gone at once");
    del->add_flag("--now", o_.now, "Short for --grace-period=1");
    del->add_flag("--wait,!--no-wait", o_.del.wait, "Wait until they are gone (default)");
    del->add_flag("--ignore-not-found", o_.del.ignore_not_found, "What is not there is fine");
    ns_option(del);
  }

  void pods() {
    CLI::App* logs =
        command(&app_, "logs", "Show what a pod's container wrote", [this](const Context& c) {
          o_.logs.ns = ns();
          return run_logs(c, o_.logs);
        });
    logs->add_option("pod", o_.logs.pod, "POD or pod/POD")->required();
    logs->add_option("-c,--container", o_.logs.container, "Which container");
    logs->add_flag("-f,--follow", o_.logs.follow, "And what it goes on to write");
    logs->add_flag("-p,--previous", o_.logs.previous, "Of the run before this one");
    logs->add_flag("--timestamps", o_.logs.timestamps, "With the time of each line");
    logs->add_option("--tail", o_.logs.tail, "Only the last lines")->check(CLI::NonNegativeNumber);
    ns_option(logs);

    CLI::App* exec =
        command(&app_, "exec", "Run a command in a pod of this host", [this](const Context& c) {
          o_.exec.ns = ns();
          return run_exec(c, o_.exec);
        });
    exec->add_option("pod", o_.exec.pod, "POD or pod/POD")->required();
    exec->add_option("command", o_.exec.command, "-- COMMAND [ARGUMENT...]")->required();
    exec->add_option("-c,--container", o_.exec.container, "Which container");
    exec->add_flag("-i,--stdin", o_.exec.stdin_open, "Give it this standard input");
    exec->add_flag("-t,--tty", o_.exec.tty, "In a terminal");
    ns_option(exec);

    CLI::App* attach =
        command(&app_, "attach", "Show what a running container goes on to write, and type into it",
                [this](const Context& c) {
                  o_.attach.ns = ns();
                  return run_attach(c, o_.attach);
                });
    attach->add_option("pod", o_.attach.pod, "POD or pod/POD")->required();
    attach->add_option("-c,--container", o_.attach.container, "Which container");
    attach->add_flag("-i,--stdin", o_.attach.stdin_open, "Give it this standard input");
    attach->add_flag("-t,--tty", o_.attach.tty, "It has a terminal");
    ns_option(attach);

    CLI::App* copy =
        command(&app_, "cp", "Copy files and folders from or to a container, by its tar",
                [this](const Context& c) {
                  o_.copy.ns = ns();
                  return run_copy(c, o_.copy);
                });
    copy->add_option("source", o_.copy.source, "PATH, POD:PATH or NAMESPACE/POD:PATH")->required();
    copy->add_option("target", o_.copy.target, "The same; one of the two is in a pod")->required();
    copy->add_option("-c,--container", o_.copy.container, "Which container");
    ns_option(copy);
  }

  void capture() {
    CLI::App* capture = command(
        &app_, "capture", "Write the packets that a pod of this host sends and receives, as pcap",
        [this](const Context& c) -> Exit {
          o_.capture.ns = ns();
          if (!o_.duration.empty()) {
            auto parsed = parse_duration(o_.duration);
            if (!parsed)
              return shoal::fail(std::move(parsed).error().wrap("--duration"));
            o_.capture.duration_s = *parsed;
          }
          return run_capture(c, o_.capture);
        });
    capture->add_option("pod", o_.capture.pod, "POD or pod/POD")->required();
    capture->add_option("-w,--write", o_.capture.file,
                        "Into this file, made for its owner only; - and nothing: standard output");
    capture->add_option("--count", o_.capture.count, "End after so many packets")
        ->check(CLI::PositiveNumber);
    capture->add_option("--duration", o_.duration, "End after so long, as in 30s or 5m");
    capture->add_option("--port", o_.capture.port, "Only TCP and UDP from or to this port")
        ->check(CLI::Range(1, 65'535));
    capture->add_option("--snaplen", o_.capture.snaplen, "Keep so many bytes of each packet")
        ->check(CLI::Range(64, 262'144))
        ->capture_default_str();
    ns_option(capture);
    capture->footer(
        "Taken at the pod's own end of its link, so what the data plane redirects past the host's "
        "end is there too,\nboth directions, as the pod sees it: sockets that were translated at "
        "connect() show the backend, not the Service.\nFor example:\n"
        "  shoal capture web | tcpdump -nr -\n"
        "  shoal capture web --port 8080 --duration 30s -w web.pcap\n"
        "It ends by Ctrl-C, --count, --duration, or with the pod; then it says how many packets "
        "were captured, and how many\nthe kernel dropped because they were not read in time.");
  }

  void nodes() {
    const auto node = [this](CLI::App* sub) {
      sub->add_option("node", o_.name, "Which host")->required();
    };
    node(command(&app_, "cordon", "Give a host no new pods; it hands its VIPs to others",
                 [this](const Context& c) { return run_cordon(c, o_.name, true); }));
    node(command(&app_, "uncordon", "Give a host pods again",
                 [this](const Context& c) { return run_cordon(c, o_.name, false); }));
    CLI::App* drain = command(&app_, "drain",
                              "Cordon a host and remove its pods, which are made "
                              "again elsewhere",
                              [this](const Context& c) {
                                o_.drain.node = o_.name;
                                return run_drain(c, o_.drain);
                              });
    node(drain);
    drain->add_flag("--force", o_.drain.force, "Pods that nothing makes again too");
    drain->add_option("--grace-period", o_.drain.grace_s, "Seconds that each pod has to stop");
  }

  void top() {
    CLI::App* top = app_.add_subcommand("top", "Show what hosts and pods use");
    top->require_subcommand(1);
    const auto common = [this](CLI::App* sub) {
      sub->add_option("name", o_.top.name, "Only this one");
      sub->add_option("-l,--selector", o_.top.selector, "By labels");
      sub->add_option("--sort-by", o_.top.sort_by, "Those that use most first")
          ->check(CLI::IsMember({"cpu", "memory"}));
      sub->add_flag("--no-headers", o_.top.no_headers, "Rows only");
    };
    CLI::App* nodes = command(top, "nodes", "Of hosts, and of what is for pods there",
                              [this](const Context& c) { return run_top_nodes(c, o_.top); });
    nodes->alias("node")->alias("no");
    common(nodes);
    CLI::App* pods = command(top, "pods", "Of pods", [this](const Context& c) {
      o_.top.ns = ns();
      return run_top_pods(c, o_.top);
    });
    pods->alias("pod")->alias("po");
    common(pods);
    pods->add_flag("-A,--all-namespaces", o_.top.all_namespaces, "In all namespaces");
    pods->add_flag("--containers", o_.top.containers, "A row for each container");
    ns_option(pods);
  }

  void cluster() {
    const std::vector<std::string> forms = {"json"};
    output_option(command(&app_, "init", "Begin a cluster with this host",
                          [this](const Context& c) { return run_init(c, json()); }),
                  forms);
    CLI::App* join =
        command(&app_, "join", "Make this host a member of a cluster",
                [this](const Context& c) { return run_join(c, o_.address, o_.token, json()); });
    join->add_option("address", o_.address, "A member's API, as in 198.18.0.11:6443")->required();
    join->add_option("token", o_.token, "From `shoal token create` on a member")->required();
    output_option(join, forms);
    output_option(command(&app_, "members", "Show the hosts as this one sees them",
                          [this](const Context& c) { return run_members(c, json()); }),
                  forms);
    output_option(command(&app_, "status", "Show this host's state, and what limits it",
                          [this](const Context& c) { return run_status(c, json()); }),
                  forms);
    CLI::App* token = app_.add_subcommand("token", "Join tokens");
    token->require_subcommand(1);
    CLI::App* create = command(token, "create", "Make a token that lets one host join",
                               [this](const Context& c) -> Exit {
                                 std::optional<std::uint64_t> ttl_s;
                                 if (!o_.ttl.empty()) {
                                   auto parsed = parse_duration(o_.ttl);
                                   if (!parsed)
                                     return shoal::fail(std::move(parsed).error().wrap("--ttl"));
                                   ttl_s = *parsed;
                                 }
                                 return run_token_create(c, ttl_s, json());
                               });
    create->add_option("--ttl", o_.ttl, "How long it is good for, as in 30m or 24h");
    output_option(create, forms);
  }

  void data_plane() {
    const std::vector<std::string> forms = {"json"};
    CLI::App* service =
        app_.add_subcommand("service", "Services as this host's data plane has them");
    service->require_subcommand(1);
    output_option(command(service, "ls", "Show all",
                          [this](const Context& c) { return run_service_list(c, json()); }),
                  forms);
    CLI::App* show =
        command(service, "show", "Show frontends, weights asked and effective, backends, counts",
                [this](const Context& c) { return run_service_show(c, ns(), o_.name, json()); });
    show->add_option("name", o_.name, "Service")->required();
    ns_option(show);
    output_option(show, forms);
    command(&app_, "dump", "Show the data plane's maps as text",
            [](const Context& c) { return run_dump(c); });

    looking(forms);
    images(forms);
  }

  void images(const std::vector<std::string>& forms) {
    CLI::App* image = app_.add_subcommand("image", "Images of this host");
    image->require_subcommand(1);
    CLI::App* load =
        command(image, "load", "Load an OCI or docker archive",
                [this](const Context& c) { return run_image_load(c, o_.path, o_.name, json()); });
    load->add_option("archive", o_.path, "Tar file, plain or in gzip or zstd")->required();
    load->add_option("--name", o_.name, "Store it under this name, not the archive's");
    output_option(load, forms);
    output_option(command(image, "ls", "Show them",
                          [this](const Context& c) { return run_image_list(c, json()); }),
                  forms);
    CLI::App* rm =
        command(image, "rm", "Remove references; what nothing needs any more is freed",
                [this](const Context& c) { return run_image_remove(c, o_.references, json()); });
    rm->add_option("image", o_.references, "Reference or digest")->required();
    output_option(rm, forms);
    registries(image, forms);
  }

  void registries(CLI::App* image, const std::vector<std::string>& forms) {
    constexpr const char* kCredentials =
        "File with user:password or a docker config for the registry; - for standard input";
    CLI::App* pull =
        command(image, "pull", "Get one from its registry, or see that it is the same",
                [this](const Context& c) { return run_image_pull(c, o_.image, json()); });
    pull->add_option("image", o_.image.name, "Reference")->required();
    pull->add_option("--creds", o_.image.credentials, kCredentials);
    output_option(pull, forms);
    CLI::App* push = command(image, "push", "Send one to a registry", [this](const Context& c) {
      return run_image_push(c, o_.image, json());
    });
    push->add_option("image", o_.image.name, "Reference or digest of an image here")->required();
    push->add_option("destination", o_.image.destination,
                     "Repository and tag (default: the image's)");
    push->add_option("--creds", o_.image.credentials, kCredentials);
    output_option(push, forms);
    CLI::App* build =
        command(image, "build", "Build one by buildah and load it on this host",
                [this](const Context& c) { return run_image_build(c, o_.build, json()); });
    build->add_option("folder", o_.build.folder, "What the build may use")->capture_default_str();
    build->add_option("-t,--tag", o_.build.name, "Its reference")->required();
    build->add_option("-f,--file", o_.build.file,
                      "Containerfile or Dockerfile (default: in the folder)");
    build->add_option("--build-arg", o_.build.arguments, "NAME=VALUE")->allow_extra_args(false);
    build->add_option("--buildah-flag", o_.build.buildah, "Handed to buildah build as it is")
        ->allow_extra_args(false);
    output_option(build, forms);
  }

  void looking(const std::vector<std::string>& forms) {
    CLI::App* drops =
        command(&app_, "drops", "Show what this host's programs dropped or refused, by reason",
                [this](const Context& c) {
                  o_.drops.json = json();
                  return run_drops(c, o_.drops, wait_a_second);
                });
    drops->add_flag("--all", o_.drops.all, "Reasons with no packets too");
    drops->add_flag("-f,--follow", o_.drops.follow,
                    "And what is dropped from now on, with its rate");
    output_option(drops, forms);

    CLI::App* flows = command(&app_, "flows", "Show the balanced flows in this host's table",
                              [this](const Context& c) {
                                o_.flows.ns = ns();
                                o_.flows.json = json();
                                return run_flows(c, o_.flows, wait_a_second);
                              });
    flows->add_option("--service", o_.flows.service,
                      "Only of this Service: NAME or NAMESPACE/NAME");
    flows->add_option("--pod", o_.flows.pod, "Only with this pod, as backend or as client");
    flows->add_flag("-f,--follow", o_.flows.follow, "Show those that begin and end from now on");
    flows
        ->add_option("--limit", o_.flows.limit, "At most so many (default 1000; of --follow 65536)")
        ->check(CLI::PositiveNumber);
    ns_option(flows);
    output_option(flows, forms);

    CLI::App* trace =
        command(&app_, "trace", "Explain what the data plane does with a new connection",
                [this](const Context& c) {
                  o_.trace.ns = ns();
                  o_.trace.json = json();
                  return run_trace(c, o_.trace);
                });
    trace
        ->add_option(
            "--from", o_.trace.from,
            "Who connects: a POD of this host (or NAMESPACE/POD), host, outside, outside:IP")
        ->required();
    trace->add_option("--to", o_.trace.to, "ADDR:PORT, or ADDR:PORT/udp")->required();
    trace->add_option("--source-port", o_.trace.source_port,
                      "The client's port: which backend its packets are hashed to");
    ns_option(trace);
    output_option(trace, forms);
  }

  CLI::App app_;
  Options o_;
  Run run_;
};

}  // namespace

int main(int argc, char** argv) {
  // A closed pipe is an error of a write, not the end of the program; a command ends by itself
  // then.
  std::signal(SIGPIPE, SIG_DFL);
  CommandLine line;
  return line.run(argc, argv);
}
