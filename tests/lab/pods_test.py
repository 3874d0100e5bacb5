#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The life of a pod on one host, under the names of upstream's sig-node tests.

     LAN 198.18.0.0/24 --- h1 .11: store, all pods
"""
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab import objects  # noqa: E402
from shoal_lab.cluster import BUILD, ROOT, SHOAL, Cluster, wait_for  # noqa: E402

IMAGE = "shoal.dev/demo/web:blue"
GRPC_IMAGE = "shoal.dev/test/grpc-health:1"


def container(name, script, **more):
    return {"name": name, "image": IMAGE, "command": ["sh", "-c", script], **more}


# A shell that ends at once when it is told to, and says so.
STAYS = "trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.1; done"


class PodTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"pods-{cls.__name__.lower()}-{os.getpid()}", hosts=1, clients=0)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            objects.load_images(cls.cluster, folder, ("blue",), client=False)

    def make(self, name, *containers, annotations=None, **spec):
        pod = objects.pod(name, {"app": name}, {"terminationGracePeriodSeconds": 5, "containers": list(containers), **spec})
        pod["metadata"]["annotations"] = annotations or {}
        self.cluster.apply(objects.documents(pod))

    def pod(self, name):
        return self.cluster.get("pod", name)

    def shown(self, name):
        """STATUS as `shoal get pods` prints it."""
        lines = self.cluster.shoal("h1", "get", "pods").stdout.splitlines()
        return next(line.split()[2] for line in lines if line.startswith(name + " "))

    def wait_pod(self, name, what, condition, timeout_s=30):
        def holds():
            pod = self.pod(name)
            return pod if condition(pod) else None
        return wait_for(f"pod {name}: {what}", holds, timeout_s,
                        on_timeout=lambda: json.dumps(self.pod(name)["status"], indent=1) + self.cluster.log_tail("h1"))

    def wait_phase(self, name, phase, timeout_s=30):
        return self.wait_pod(name, phase, lambda pod: pod["status"].get("phase") == phase, timeout_s)

    def wait_shown(self, name, status, timeout_s=30):
        wait_for(f"pod {name} to be shown as {status}", lambda: self.shown(name) == status, timeout_s, 0.02,
                 on_timeout=lambda: self.shown(name) + self.cluster.log_tail("h1"))

    def logs(self, name, container_name, *args):
        return self.cluster.shoal("h1", "logs", name, "-c", container_name, *args).stdout

    def delete(self, name):
        self.cluster.shoal("h1", "delete", "pod", name)
        wait_for(f"pod {name} to be gone",
                 lambda: name not in self.cluster.shoal("h1", "get", "pods").stdout.split(), 30)

    def events(self, name, reason):
        return [e["message"] for e in self.cluster.items("events")
                if e["involvedObject"]["name"] == name and e["reason"] == reason]

    @staticmethod
    def status(pod, name):
        lists = pod["status"].get("initContainerStatuses", []) + pod["status"]["containerStatuses"]
        return next(one for one in lists if one["name"] == name)

    @staticmethod
    def condition(pod, kind):
        return next(one for one in pod["status"]["conditions"] if one["type"] == kind)


class InitContainers(PodTest):
    """sig-node InitContainer, Sidecar Containers."""

    def test_should_invoke_init_containers_on_a_restart_never_pod(self):
        self.make("never", container("run", "true"), restartPolicy="Never",
                  initContainers=[container("init1", "true"), container("init2", "true")])
        pod = self.wait_phase("never", "Succeeded")
        ends = [self.status(pod, name)["state"]["terminated"] for name in ("init1", "init2", "run")]
        self.assertLessEqual(ends[0]["finishedAt"], ends[1]["startedAt"])
        self.assertLessEqual(ends[1]["finishedAt"], ends[2]["startedAt"])
        self.assertEqual(self.condition(pod, "Initialized")["status"], "True")
        self.assertEqual(self.condition(pod, "Ready")["reason"], "PodCompleted")
        self.assertEqual(self.shown("never"), "Completed")

    def test_should_invoke_init_containers_on_a_restart_always_pod(self):
        self.make("always", container("run", STAYS), initContainers=[container("init1", "sleep 2"), container("init2", "true")])
        self.wait_shown("always", "Init:0/2")
        self.assertEqual(self.condition(self.pod("always"), "Initialized")["message"],
                         "containers with incomplete status: [init1 init2]")
        pod = self.wait_phase("always", "Running")
        self.assertTrue(all(self.status(pod, name)["ready"] for name in ("init1", "init2", "run")))
        self.assertEqual(self.shown("always"), "Running")

    def test_should_not_start_app_containers_if_init_containers_fail_on_a_restart_always_pod(self):
        self.make("stuck", container("run", STAYS), initContainers=[container("init1", "false"), container("init2", "true")])
        pod = self.wait_pod("stuck", "its restarts", lambda p: self.status(p, "init1")["restartCount"] >= 1)
        self.wait_shown("stuck", "Init:CrashLoopBackOff")
        self.assertEqual(pod["status"]["phase"], "Pending")
        for name in ("init2", "run"):
            self.assertEqual(self.status(pod, name)["state"]["waiting"]["reason"], "PodInitializing")
        uid = pod["metadata"]["uid"]
        self.assertEqual(self.status(self.pod("stuck"), "init1")["state"]["waiting"]["message"],
                         f"back-off 10s restarting failed container=init1 pod=stuck_default({uid})")
        self.delete("stuck")

    def test_should_not_start_app_containers_and_fail_the_pod_if_init_containers_fail_on_a_restart_never_pod(self):
        self.make("failed", container("run", STAYS), restartPolicy="Never",
                  initContainers=[container("init1", "true"), container("init2", "exit 3")])
        pod = self.wait_phase("failed", "Failed")
        self.assertEqual(self.status(pod, "init2")["state"]["terminated"]["exitCode"], 3)
        self.assertEqual(self.status(pod, "run")["state"]["waiting"]["reason"], "PodInitializing")
        self.assertEqual(self.shown("failed"), "Init:Error")

    def test_sidecars_start_before_and_end_after_the_rest(self):
        sidecars = [container(name, STAYS, restartPolicy="Always") for name in ("first", "second")]
        self.make("side", container("run", "sleep 2"), restartPolicy="Never", initContainers=sidecars)
        pod = self.wait_phase("side", "Running")
        starts = [self.status(pod, name)["state"]["running"]["startedAt"] for name in ("first", "second", "run")]
        self.assertEqual(starts, sorted(starts))
        pod = self.wait_phase("side", "Succeeded")
        ends = [self.status(pod, name)["state"]["terminated"]["finishedAt"] for name in ("run", "second", "first")]
        self.assertEqual(ends, sorted(ends))
        for name in ("first", "second"):
            self.assertEqual(self.logs("side", name), "up\ntold\n")

    def test_an_agent_that_is_killed_goes_on_where_it_was(self):
        self.make("taken", container("run", STAYS), initContainers=[container("init1", "sleep 4"), container("init2", "sleep 1")])
        self.wait_pod("taken", "its first container", lambda p: "running" in self.status(p, "init1")["state"])
        self.cluster.kill_daemon("h1")
        self.cluster.start_daemon("h1")
        pod = self.wait_phase("taken", "Running")
        self.assertEqual([self.status(pod, name)["restartCount"] for name in ("init1", "init2", "run")], [0, 0, 0])
        self.assertEqual(self.logs("taken", "init1"), "")


def probe(**more):
    return {"periodSeconds": 1, "failureThreshold": 1, **more}


def command(script):
    return {"exec": {"command": ["sh", "-c", script]}}


WEB = {"name": "web", "image": IMAGE, "ports": [{"name": "http", "containerPort": 8080}]}


class ProbingContainer(PodTest):
    """sig-node Probing container."""

    def restarts(self, name, container_name="run"):
        return self.status(self.pod(name), container_name)["restartCount"]

    def wait_restart(self, name, container_name="run", timeout_s=30):
        return self.wait_pod(name, "a restart",
                             lambda p: self.status(p, container_name)["restartCount"] >= 1, timeout_s)

    def wait_event(self, name, reason, text):
        wait_for(f"an event {reason} of {name}: {text}", lambda: text in self.events(name, reason), 20,
                 on_timeout=lambda: str(self.events(name, reason)))

    def test_should_be_restarted_with_an_exec_cat_health_liveness_probe(self):
        self.make("dies", container("run", "echo ok >/tmp/health; sleep 2; rm /tmp/health; " + STAYS,
                                    livenessProbe=probe(exec={"command": ["cat", "/tmp/health"]}, initialDelaySeconds=1)))
        pod = self.wait_restart("dies")
        self.assertEqual(self.status(pod, "run")["lastState"]["terminated"]["exitCode"], 0)  # it was told
        self.wait_event("dies", "Unhealthy", "Liveness probe failed: cat: can't open '/tmp/health': No such file or directory")
        self.wait_event("dies", "Killing", "Container run failed liveness probe, will be restarted")

    def test_should_not_be_restarted_with_an_exec_cat_health_liveness_probe(self):
        self.make("lives", container("run", "echo ok >/tmp/health; " + STAYS,
                                     livenessProbe=probe(exec={"command": ["cat", "/tmp/health"]}, initialDelaySeconds=1)))
        pod = self.wait_phase("lives", "Running")
        self.make("later", container("run", "sleep 4"), restartPolicy="Never")
        self.wait_phase("later", "Succeeded")
        self.assertEqual(self.restarts("lives"), 0)
        self.assertTrue(self.status(pod, "run")["started"])

    def test_should_be_restarted_with_an_exec_liveness_probe_with_timeout(self):
        self.make("slow", container("run", STAYS, livenessProbe=probe(**command("sleep 600"), timeoutSeconds=1)))
        self.wait_restart("slow")
        self.wait_event("slow", "Unhealthy", 'Liveness probe failed: command timed out: "sh -c sleep 600" timed out after 1s')
        wait_for("what the probe ran to be gone",
                 lambda: self.cluster.shoal("h1", "exec", "slow", "--", "ps").stdout.count("sleep 600") <= 2, 10)

    def test_should_be_restarted_with_a_http_liveness_probe(self):
        self.make("web", {**WEB, "livenessProbe": probe(httpGet={"path": "/ready", "port": "http"}, initialDelaySeconds=2)})
        self.wait_phase("web", "Running")
        self.cluster.shoal("h1", "exec", "web", "--", "kill", "-USR1", "1")
        self.wait_restart("web", "web")
        self.wait_event("web", "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 503")

    def test_should_not_be_restarted_with_a_tcp_8080_liveness_probe(self):
        self.make("tcp", {**WEB, "livenessProbe": probe(tcpSocket={"port": 8080}, initialDelaySeconds=1),
                          "readinessProbe": probe(tcpSocket={"port": 8081})})
        self.wait_phase("tcp", "Running")
        ip = self.pod("tcp")["status"]["podIP"]
        self.wait_event("tcp", "Unhealthy", f"Readiness probe failed: dial tcp {ip}:8081: connect: connection refused")
        self.assertEqual(self.restarts("tcp", "web"), 0)

    def test_with_readiness_probe_should_not_be_ready_before_initial_delay_and_never_restart(self):
        self.make("delay", container("run", STAYS, readinessProbe=probe(**command("true"), initialDelaySeconds=3)))
        pod = self.wait_phase("delay", "Running")
        self.assertFalse(self.status(pod, "run")["ready"])
        pod = self.wait_pod("delay", "readiness", lambda p: self.status(p, "run")["ready"])
        self.assertEqual(self.restarts("delay"), 0)
        since = self.condition(pod, "Ready")["lastTransitionTime"]
        self.assertGreater(since, self.status(pod, "run")["state"]["running"]["startedAt"])

    def test_should_be_restarted_startup_probe_fails(self):
        self.make("start", container("run", STAYS, startupProbe=probe(**command("false"), failureThreshold=2),
                                     livenessProbe=probe(**command("true"))))
        pod = self.wait_restart("start")
        self.assertFalse(self.status(pod, "run")["started"])
        self.wait_event("start", "Killing", "Container run failed startup probe, will be restarted")

    def test_should_be_ready_immediately_after_startup_probe_succeeds(self):
        self.make("ready", container("run", "sleep 2; touch /tmp/up; " + STAYS,
                                     startupProbe=probe(exec={"command": ["cat", "/tmp/up"]}, failureThreshold=60),
                                     livenessProbe=probe(exec={"command": ["cat", "/tmp/up"]}),
                                     readinessProbe=probe(exec={"command": ["cat", "/tmp/up"]}, periodSeconds=60)))
        pod = self.wait_phase("ready", "Running")
        self.assertFalse(self.status(pod, "run")["started"])
        self.wait_pod("ready", "readiness", lambda p: self.status(p, "run")["ready"], 10)
        self.assertEqual(self.restarts("ready"), 0)

    def test_should_override_grace_period_when_liveness_probe_field_is_set(self):
        self.make("grace", container("run", "sleep 1000",  # deaf
                                     livenessProbe=probe(**command("false"), terminationGracePeriodSeconds=1)),
                  terminationGracePeriodSeconds=500)
        pod = self.wait_restart("grace")
        self.assertEqual(self.status(pod, "run")["lastState"]["terminated"]["exitCode"], 137)
        self.cluster.shoal("h1", "delete", "pod", "grace", "--grace-period", "1")

    def test_a_hung_pod_delays_no_other(self):
        self.make("hung", container("run", STAYS, livenessProbe=probe(**command("sleep 600"), timeoutSeconds=100)))
        self.wait_phase("hung", "Running")
        self.make("quick", container("run", STAYS, readinessProbe=probe(**command("true"))))
        self.wait_pod("quick", "readiness", lambda p: self.status(p, "run")["ready"], 15)

    def test_a_restarted_agent_probes_on_and_asks_a_started_container_nothing_twice(self):
        script = "touch /tmp/up; " + STAYS
        self.make("kept", container("run", script, startupProbe=probe(**command("echo x >>/tmp/asked; cat /tmp/up")),
                                    livenessProbe=probe(exec={"command": ["cat", "/tmp/up"]})))
        self.wait_pod("kept", "its start", lambda p: self.status(p, "run")["started"])
        asked = self.cluster.shoal("h1", "exec", "kept", "--", "cat", "/tmp/asked").stdout
        self.cluster.kill_daemon("h1")
        self.cluster.start_daemon("h1")
        self.wait_pod("kept", "its start", lambda p: self.status(p, "run")["started"])
        self.cluster.shoal("h1", "exec", "kept", "--", "rm", "/tmp/up")
        self.wait_restart("kept")
        self.assertEqual(asked, "x\n")


class GrpcProbes(PodTest):
    """sig-node Probing container, gRPC: the status that is answered is what a file says."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        with tempfile.TemporaryDirectory(prefix="shoal-lab.") as folder:
            archive = Path(folder) / "grpc.tar"
            subprocess.run([str(ROOT / "tests/images/build"), "--grpc", str(BUILD / "tests/images/grpc-health"), str(archive)],
                           check=True, capture_output=True)
            cls.cluster.load_image(archive)

    @staticmethod
    def server(**probes):
        return {"name": "run", "image": GRPC_IMAGE,
                "command": ["sh", "-c", "echo 1 >/tmp/status; exec grpc-health 5000 /tmp/status"], **probes}

    def say(self, name, script):
        self.cluster.shoal("h1", "exec", name, "--", "sh", "-c", script)

    def wait_told(self, name, text):
        wait_for(f"an event of {name}: {text}", lambda: text in self.events(name, "Unhealthy"), 20,
                 on_timeout=lambda: str(self.events(name, "Unhealthy")) + self.cluster.log_tail("h1"))

    def test_should_be_restarted_with_a_grpc_liveness_probe(self):
        self.make("dies", self.server(livenessProbe=probe(grpc={"port": 5000, "service": "web"}, initialDelaySeconds=1)))
        self.wait_phase("dies", "Running")
        self.say("dies", "echo 2 >/tmp/status")
        self.wait_pod("dies", "a restart", lambda p: self.status(p, "run")["restartCount"] >= 1)
        self.wait_told("dies", 'Liveness probe failed: service unhealthy (responded with "NOT_SERVING")')
        # What it writes at its start is what it says: it stays.
        self.wait_pod("dies", "readiness", lambda p: self.status(p, "run")["ready"])

    def test_should_not_be_restarted_with_a_grpc_liveness_probe(self):
        self.make("lives", self.server(livenessProbe=probe(grpc={"port": 5000}, initialDelaySeconds=1),
                                       readinessProbe=probe(grpc={"port": 5000})))
        self.wait_pod("lives", "readiness", lambda p: self.status(p, "run")["ready"])
        self.say("lives", "echo 1 >/tmp/status")
        self.make("later", container("run", "sleep 3"), restartPolicy="Never")
        self.wait_phase("later", "Succeeded")
        self.assertEqual(self.status(self.pod("lives"), "run")["restartCount"], 0)
        # It may be asked whether it is ready before it listens.
        self.assertEqual([e for e in self.events("lives", "Unhealthy") if not e.startswith("Readiness")], [])

    def test_failures_are_told_in_kubernetes_words(self):
        self.make("quiet", self.server(readinessProbe=probe(grpc={"port": 5000})))
        self.wait_pod("quiet", "readiness", lambda p: self.status(p, "run")["ready"])
        self.say("quiet", "rm /tmp/status")
        self.wait_told("quiet", "Readiness probe failed: timeout: health rpc did not complete within 1s")
        self.wait_pod("quiet", "the end of it", lambda p: not self.status(p, "run")["ready"])
        self.make("other", self.server(readinessProbe=probe(grpc={"port": 5000, "service": "shop"})))
        self.wait_told("other", "Readiness probe failed: error: health rpc probe failed: rpc error: code = NotFound "
                                "desc = unknown service")
        self.make("closed", self.server(readinessProbe=probe(grpc={"port": 5001})))
        ip = self.wait_phase("closed", "Running")["status"]["podIP"]
        self.wait_told("closed", f'Readiness probe failed: error: failed to connect service at "{ip}:5001": '
                                 f"dial tcp {ip}:5001: connect: connection refused")


class Backoff(PodTest):
    """sig-node Container Runtime, restarts; what a pod says itself of how long they wait."""

    def test_a_pod_says_how_long_its_restarts_wait(self):
        self.make("quick", container("run", "exit 4"),
                  annotations={"shoal.dev/restart-backoff-base": "200ms", "shoal.dev/restart-backoff-cap": "400ms"})
        pod = self.wait_pod("quick", "five restarts", lambda p: self.status(p, "run")["restartCount"] >= 5, 20)
        self.assertEqual(self.status(pod, "run")["lastState"]["terminated"]["exitCode"], 4)
        self.assertEqual(pod["status"]["phase"], "Running")
        uid = pod["metadata"]["uid"]
        def message():
            return self.status(self.pod("quick"), "run")["state"].get("waiting", {}).get("message")
        wait_for("its message", lambda: message() == f"back-off 400ms restarting failed container=run pod=quick_default({uid})", 20, 0.02)
        self.assertIn(f"Back-off restarting failed container run in pod quick_default({uid})", self.events("quick", "BackOff"))

    def test_nonsense_is_refused(self):
        pod = objects.pod("bad", {}, {"containers": [container("run", "true")]})
        pod["metadata"]["annotations"] = {"shoal.dev/restart-backoff-base": "soon"}
        refused = self.cluster.shoal("h1", "apply", "-f", "-", input=objects.documents(pod), check=False)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("restart-backoff-base", refused.stderr)


class Lifecycle(PodTest):
    """sig-node Container Lifecycle Hook, PreStop, Pods, Container Runtime blackbox test."""

    def end_of(self, name, container_name="run"):
        return self.status(self.pod(name), container_name)["state"]["terminated"]

    def test_should_execute_poststart_exec_hook_properly(self):
        hook = {"postStart": command("sleep 1; echo started >/tmp/hook")}
        self.make("poststart", container("run", "until [ -e /tmp/hook ]; do sleep 0.1; done; cat /tmp/hook; " + STAYS, lifecycle=hook),
                  container("next", STAYS))
        pod = self.wait_pod("poststart", "readiness", lambda p: self.condition(p, "Ready")["status"] == "True")
        self.assertIn("started\n", self.logs("poststart", "run"))
        starts = [self.status(pod, name)["state"]["running"]["startedAt"] for name in ("run", "next")]
        self.assertLess(*starts)  # the hook holds the next one

    def test_a_poststart_hook_that_fails_ends_its_container(self):
        self.make("postfails", container("run", STAYS, lifecycle={"postStart": command("false")}), restartPolicy="Never")
        self.wait_phase("postfails", "Succeeded")
        self.assertEqual(self.logs("postfails", "run"), "up\ntold\n")
        self.assertIn("PostStartHook failed", self.events("postfails", "FailedPostStartHook"))

    def test_should_execute_prestop_exec_hook_properly(self):
        # The hook runs before the signal; the container says in which order they came.
        self.make("prestop", container("run", "trap 'echo told; cat /tmp/hook; exit 0' TERM; while :; do sleep 0.1; done",
                                       lifecycle={"preStop": command("sleep 1; echo hooked >/tmp/hook")}))
        self.wait_phase("prestop", "Running")
        follow = self.cluster.popen("h1", SHOAL, "logs", "-f", "prestop", stdout=subprocess.PIPE, text=True)
        self.addCleanup(follow.stdout.close)
        self.addCleanup(follow.wait)
        self.addCleanup(follow.kill)
        self.delete("prestop")
        self.assertEqual([follow.stdout.readline() for _ in range(2)], ["told\n", "hooked\n"])
        self.assertEqual(follow.wait(timeout=20), 0)  # ends with the container

    def test_should_execute_prestop_http_hook_properly(self):
        self.make("hooked", {"name": "web", "image": IMAGE})
        ip = self.wait_phase("hooked", "Running")["status"]["podIP"]
        self.make("httpstop", container("run", STAYS, lifecycle={"preStop": {"httpGet": {"host": ip, "port": 8080, "path": "/bye"}}}))
        self.wait_phase("httpstop", "Running")
        self.delete("httpstop")
        self.assertEqual(self.events("httpstop", "FailedPreStopHook"), [])

    def test_a_prestop_hook_has_the_grace_and_no_more(self):
        self.make("slowstop", container("run", STAYS, lifecycle={"preStop": {"exec": {"command": ["sleep", "600"]}}}),
                  terminationGracePeriodSeconds=3)
        self.wait_phase("slowstop", "Running")
        began = time.monotonic()
        self.delete("slowstop")
        self.assertLess(time.monotonic() - began, 10)

    def test_a_prestop_sleep_hook_is_slept(self):
        self.make("sleeps", container("run", STAYS, lifecycle={"preStop": {"sleep": {"seconds": 2}}}))
        self.wait_phase("sleeps", "Running")
        began = time.monotonic()
        self.delete("sleeps")
        self.assertGreater(time.monotonic() - began, 2)

    def test_an_agent_that_is_killed_in_a_prestop_hook_stops_the_pod_all_the_same(self):
        self.make("cut", container("run", STAYS, lifecycle={"preStop": command("sleep 2")}))
        self.wait_phase("cut", "Running")
        self.cluster.shoal("h1", "delete", "pod", "cut")
        wait_for("the hook to begin", lambda: self.events("cut", "Killing"), 20, 0.05)
        self.cluster.kill_daemon("h1")
        self.cluster.start_daemon("h1")
        wait_for("pod cut to be gone", lambda: "cut" not in self.cluster.shoal("h1", "get", "pods").stdout.split(), 30)

    def test_should_be_failed_by_active_deadline(self):
        self.make("deadline", container("run", STAYS), activeDeadlineSeconds=2)
        pod = self.wait_phase("deadline", "Failed", 20)
        self.assertEqual(pod["status"]["reason"], "DeadlineExceeded")
        self.assertEqual(pod["status"]["message"], "Pod was active on the node longer than the specified deadline")
        self.assertEqual(self.shown("deadline"), "Completed")  # its container ended well
        self.assertEqual(self.logs("deadline", "run"), "up\ntold\n")
        self.cluster.kill_daemon("h1")
        self.cluster.start_daemon("h1")
        self.assertEqual(self.wait_phase("deadline", "Failed")["status"]["reason"], "DeadlineExceeded")

    def test_should_report_termination_message_if_terminationmessagepath_is_set(self):
        self.make("message", container("run", "printf DONE >/dev/termination-custom-log", securityContext={"runAsUser": 1000},
                                       terminationMessagePath="/dev/termination-custom-log"), restartPolicy="Never")
        self.wait_phase("message", "Succeeded")
        self.assertEqual(self.end_of("message")["message"], "DONE")

    def test_should_report_termination_message_from_log_output_if_fallbacktologsonerror_is_set(self):
        lines = "i=0; while [ $i -lt 100 ]; do echo line $i; i=$((i+1)); done"
        policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
        for name, script, phase, message in (
                ("fallback", lines + "; exit 1", "Failed", "".join(f"line {i}\n" for i in range(20, 100))),
                ("fallwell", lines, "Succeeded", None),
                ("fallfile", lines + "; printf FILE >/dev/termination-log; exit 1", "Failed", "FILE")):
            self.make(name, container("run", script, **policy), restartPolicy="Never")
            self.wait_phase(name, phase)
            self.assertEqual(self.end_of(name).get("message"), message, name)

    def test_a_termination_message_is_bounded(self):
        self.make("long", container("run", "yes x | head -c 100000 >/dev/termination-log"), restartPolicy="Never")
        self.wait_phase("long", "Succeeded")
        self.assertEqual(len(self.end_of("long")["message"]), 4096)

    def test_should_report_oom_killed(self):
        self.make("oom", container("run", "yes | tr '\\n' x | head -c 200000000 | tail", resources={"limits": {"memory": "16Mi"}}),
                  restartPolicy="Never")
        self.wait_phase("oom", "Failed", 60)
        self.assertEqual(self.end_of("oom")["reason"], "OOMKilled")


class Names(PodTest):
    """sig-node KubeletManagedEtcHosts, hostAliases; sig-network DNS: hostname, subdomain, configurable nameservers."""

    def run_in(self, name, *words):
        return self.cluster.shoal("h1", "exec", name, "--", *words).stdout

    def test_should_write_entries_to_etc_hosts_when_hostaliases_is_set(self):
        self.make("names", container("run", STAYS), hostname="web", subdomain="sub", setHostnameAsFQDN=True,
                  hostAliases=[{"ip": "123.45.67.89", "hostnames": ["foo", "bar"]}])
        ip = self.wait_phase("names", "Running")["status"]["podIP"]
        hosts = self.run_in("names", "cat", "/etc/hosts")
        self.assertIn("# Kubernetes-managed hosts file.", hosts)
        self.assertIn("123.45.67.89\tfoo\tbar\n", hosts)
        self.assertIn(f"{ip}\tweb.sub.default.svc.cluster.local\tweb\n", hosts)
        for asked in (("hostname",), ("cat", "/etc/hostname")):
            self.assertEqual(self.run_in("names", *asked), "web.sub.default.svc.cluster.local\n")

    def test_should_support_configurable_pod_dns_nameservers(self):
        self.make("dns", container("run", STAYS), dnsPolicy="None", dnsConfig={
            "nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"], "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}]})
        self.wait_phase("dns", "Running")
        self.assertEqual(self.run_in("dns", "cat", "/etc/resolv.conf"),
                         "search resolv.conf.local\nnameserver 1.1.1.1\noptions ndots:2 rotate\n")


class Environment(PodTest):
    """ConfigMaps, Secrets, the pod itself and Services as variables."""

    def test_should_be_consumable_via_the_environment(self):
        self.make("reader", container(
            "main", "env | grep -E '^(P_|KEY|SECRET|ME|CPU|BOTH|DB_SERVICE)' | sort; echo $(BOTH)",
            envFrom=[{"prefix": "P_", "configMapRef": {"name": "settings"}}],
            env=[{"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "color"}}},
                 {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "login", "key": "password"}}},
                 {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
                 {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                 {"name": "BOTH", "value": "$(KEY)-$(ME)"}],
            resources={"limits": {"cpu": "250m"}}), restartPolicy="Never")
        waiting = self.wait_pod("reader", "to miss its ConfigMap", lambda pod: (pod["status"].get("containerStatuses") or [
            {}])[0].get("state", {}).get("waiting", {}).get("reason") == "CreateContainerConfigError")
        self.assertEqual(waiting["status"]["containerStatuses"][0]["state"]["waiting"]["message"],
                         'configmap "settings" not found')
        self.cluster.apply(objects.documents(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"color": "blue", "SIZE": "4"}},
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": {"password": "hunter2"}},
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "db"},
             "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 5432}]}}))
        self.wait_phase("reader", "Succeeded", 60)
        self.assertEqual(self.logs("reader", "main").splitlines(), [
            "BOTH=blue-reader", "CPU=250", "DB_SERVICE_HOST=10.96.7.7", "DB_SERVICE_PORT=5432", "KEY=blue", "ME=reader",
            "P_SIZE=4", "P_color=blue", "SECRET=hunter2", "blue-reader"])
        # The Secret's value is in its object, and nowhere that others read.
        for seen in (self.cluster.shoal("h1", "get", "events", "-o", "json").stdout, self.cluster.log_tail("h1", 1000)):
            self.assertNotIn("hunter2", seen)
            self.assertNotIn("aHVudGVyMg", seen)
        self.assertEqual(self.cluster.shoal("h1", "get", "secrets").stdout.split()[-4:-1], ["login", "Opaque", "1"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
