#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Manifests that are wrong: refused with the field and the line, and nothing of them is written.

   h1 .11: the whole cluster, without a pod
"""
import json
import os
import re
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from shoal_lab.cluster import SHOAL, Cluster, wait_for  # noqa: E402

# A line that ends in "#! WORDS" is wrong: it must be named, in one line of the answer that holds the words.
WRONG = {
    "an unknown field": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: bad}
spec:
  replcas: 3                        #! spec.replcas: unknown field (did you mean "replicas"?)
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
      - name: a
        image: a
        imagePullPolcy: Never       #! spec.template.spec.containers[0].imagePullPolcy: unknown field
""",
    "a wrong type": """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: bad
  labels:
    tier: 5                         #! metadata.labels expected a string
spec:
  replicas: "three"                 #! spec.replicas: expected a whole number got a string ("three")
  selector: {matchLabels: {app: a}}
  template:
    metadata: {labels: {app: a}}
    spec:
      containers:
      - name: a
        image: [a]                  #! spec.template.spec.containers[0].image: expected a string, got a list
""",
    "no image": """
apiVersion: v1
kind: Pod
metadata: {name: bad}
spec:
  containers:
  - name: a                         #! spec.containers[0].image: Required value
    command: [sleep]
""",
    "a selector that selects something else": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: bad}
spec:
  selector: {matchLabels: {app: other}}
  template:
    metadata:
      labels: {app: a}              #! spec.template.metadata.labels: `selector` does not match
    spec:
      containers: [{name: a, image: a}]
""",
    "a selector with an operator that there is not": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: bad}
spec:
  selector:
    matchExpressions:
    - key: app
      operator: Within              #! spec.selector.matchExpressions[0].operator: "Within" "In", "NotIn", "Exists"
      values: [a]
  template:
    metadata: {labels: {app: a}}
    spec:
      containers: [{name: a, image: a}]
""",
    "a selector that is no label": """
apiVersion: v1
kind: Service
metadata: {name: bad}
spec:
  selector: {"a b": c}              #! spec.selector: Invalid value: "a b"
  ports: [{port: 80}]
""",
    "ports that cannot be": """
apiVersion: v1
kind: Service
metadata: {name: bad}
spec:
  selector: {app: a}
  ports:
  - port: 70000                     #! spec.ports[0].port: Invalid value: 70000
  - port: 80                        #! spec.ports[1].name: Required value
""",
    "a kind that Shoal does not act on": """
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy                 #! kind: Shoal does not act on kind "NetworkPolicy"
metadata: {name: bad}
spec: {podSelector: {}}
""",
    "a kind of another group": """
apiVersion: v1
kind: Deployment                    #! kind: Deployment is served as apps/v1
metadata: {name: bad}
""",
    "fields that Shoal does not act on": """
apiVersion: v1
kind: Pod
metadata: {name: bad}
spec:
  overhead: {cpu: "1"}              #! spec.overhead: Shoal does not act on
  ephemeralContainers: [{name: i, image: a}]  #! spec.ephemeralContainers: Shoal does not act on
  volumes: [{name: v, csi: {driver: x}}]  #! spec.volumes[0].csi: Shoal does not act on
  containers:
  - name: a
    image: a
    resizePolicy: [{resourceName: cpu, restartPolicy: NotRequired}]  #! spec.containers[0].resizePolicy: Shoal does not act on
""",
    "a Service's fields that Shoal does not act on": """
apiVersion: v1
kind: Service
metadata: {name: bad}
spec:
  selector: {app: a}
  ports:
  - port: 80
    protocol: SCTP                  #! spec.ports[0].protocol: Shoal does not act on "SCTP"
""",
    "a second family where the cluster has one": """
apiVersion: v1
kind: Service
metadata: {name: bad}
spec:
  ipFamilyPolicy: RequireDualStack  #! spec.ipFamilyPolicy: this cluster is not configured for dual-stack services
  selector: {app: a}
  ports: [{port: 80}]
""",
    "a name that cannot be": """
apiVersion: v1
kind: Pod
metadata:
  name: Bad_Name                    #! metadata.name: Invalid value: "Bad_Name"
spec: {containers: [{name: a, image: a}]}
""",
    "a namespace that is not there": """
apiVersion: v1                      #! namespaces "nowhere" not found
kind: Pod
metadata: {name: bad, namespace: nowhere}
spec: {containers: [{name: a, image: a}]}
""",
    "the third of three": """
apiVersion: v1
kind: Namespace
metadata: {name: first}
---
apiVersion: v1
kind: Service
metadata: {name: second}
spec: {selector: {app: a}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: third}
spec:
  selector: {app: a}
  port: 80                          #! spec.port: unknown field (did you mean "ports"?)
  ports: [{port: 80}]
""",
    "a key twice": """
apiVersion: v1
kind: Pod
kind: Pod                           #! "kind" appears twice
metadata: {name: bad}
""",
    "no kind": """
apiVersion: v1                      #! kind: is missing
metadata: {name: bad}
""",
    "what is not YAML": """
apiVersion: v1
kind: Pod
metadata:
\tname: bad                          #! not YAML: a tab in the indentation
""",
}

WEIGHTS = {
    "version=blue:-1": "weight -1 is not in 0..1000000",
    "version=blue:many": 'weight "many" is not a whole number',
    "version=blue:1.5": 'weight "1.5" is not a whole number',
    "version=blue": "no weight",
    "blue:5": 'no "=" between label and value',
    "": "no group",
    "version=blue:0,version=green:0": "every weight is 0",
    "version=blue:1,version=blue:2": "is listed twice",
    "version=blue:1,,version=green:1": "empty group",
    "version=blue:1000001": "is not in 0..1000000",
}


def weighted(weights, name="bad"):
    return f"""\
apiVersion: v1
kind: Service
metadata:
  name: {name}
  annotations:
    shoal.dev/weights: {json.dumps(weights)}
spec: {{selector: {{app: a}}, ports: [{{port: 80}}]}}
"""


class Manifests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(f"bad-input-{os.getpid()}", hosts=1, clients=0)
        cls.addClassCleanup(cls.cluster.down)
        cls.cluster.up()
        cls.cluster.form()
        folder = tempfile.TemporaryDirectory(prefix="shoal-lab.")
        cls.addClassCleanup(folder.cleanup)
        cls.file = Path(folder.name) / "m.yaml"
        # The store's own first writes are over when its host is ready.
        wait_for("h1 to be settled", lambda: cls.cluster.status("h1")["settled"])

    def setUp(self):
        self.wait_quiet()

    def wait_quiet(self):
        """Until nothing follows any more from what was written: controllers make and delete objects of Services."""
        seen = []

        def look():
            seen.append(self.cluster.status("h1")["revision"])
            return len(seen) >= 5 and len(set(seen[-5:])) == 1

        wait_for("the store to be quiet", look, 30, 0.2)

    def apply(self, text):
        self.file.write_text(text, encoding="utf-8")
        return self.cluster.shoal("h1", "apply", "-f", self.file, check=False)

    def refused(self, text, expected):
        """expected: (line, words) each in one line of the answer; the store's revision does not move."""
        before = self.cluster.status("h1")["revision"]
        done = self.apply(text)
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        for line, words in expected:
            found = [one for one in done.stderr.splitlines()
                     if f"{self.file}:{line}:" in one and all(word in one for word in words)]
            self.assertTrue(found, f"line {line} with {words} is not in\n{done.stderr}")
        self.assertEqual(self.cluster.status("h1")["revision"], before, "something was written")
        return done.stderr

    @staticmethod
    def words_of(mark):
        """What is quoted or bracketed stays together; the rest is words."""
        return re.findall(r'\([^)]*\)|"[^"]*"|\S+', mark)

    def test_each_is_refused_with_its_path_and_line_and_nothing_is_written(self):
        for title, text in WRONG.items():
            with self.subTest(title):
                text = text.lstrip("\n")
                marks = [(n, line.split("#!")[1]) for n, line in enumerate(text.splitlines(), 1) if "#!" in line]
                self.assertTrue(marks)
                self.refused(text, [(n, self.words_of(mark)) for n, mark in marks])
        print(f"    {len(WRONG)} manifests refused by line and path")

    def test_bad_weights(self):
        for weights, why in WEIGHTS.items():
            with self.subTest(weights):
                self.refused(weighted(weights), [(6, ["metadata.annotations[shoal.dev/weights]", why])])
        self.refused(weighted(5), [(6, ["expected a string", "quote it"])])

    def test_bad_weights_leave_the_good_ones_in_place(self):
        self.addCleanup(self.cluster.shoal, "h1", "delete", "service", "split", "--ignore-not-found")
        self.assertEqual(self.apply(weighted("version=blue:1", "split")).returncode, 0)
        self.wait_quiet()
        self.refused(weighted("version=blue:-1", "split"), [(6, ["weight -1"])])
        kept = self.cluster.get("service", "split")["metadata"]["annotations"]["shoal.dev/weights"]
        self.assertEqual(kept, "version=blue:1")

    def test_a_group_that_selects_nothing_is_a_warning(self):
        self.addCleanup(self.cluster.shoal, "h1", "delete", "service", "empty", "--ignore-not-found")
        done = self.apply(weighted("version=blue:1,version=green:1", "empty"))
        self.assertEqual(done.returncode, 0, done.stderr)
        warnings = [line for line in done.stderr.splitlines() if line.startswith(f"Warning: {self.file}:6: ")]
        self.assertEqual(len(warnings), 2, done.stderr)
        self.assertIn('group "version=blue" selects nothing', warnings[0])

    def test_a_later_failure_lists_what_was_written(self):
        names = ("one", "two", "three")
        self.addCleanup(self.cluster.shoal, "h1", "delete", "service", *names, "--ignore-not-found")
        # Each is good by itself; the second asks for what the first has by then.
        text = "---\n".join(f"""\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: NodePort
  selector: {{app: a}}
  ports: [{{port: 80, nodePort: 30777}}]
""" for name in names)
        done = self.apply(text)
        self.assertEqual(done.returncode, 1)
        self.assertIn("written: service/one\n", done.stderr)
        self.assertIn("not written: service/two, service/three\n", done.stderr)
        self.assertRegex(done.stderr, re.escape(f"{self.file}:15: spec.ports[0].nodePort") + ".*already allocated")
        there = {s["metadata"]["name"] for s in self.cluster.items("services")} & set(names)
        self.assertEqual(there, {"one"})

    def test_the_api_itself_refuses_what_the_command_would(self):
        before = self.cluster.status("h1")["revision"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"},
               "spec": {"containers": [{"name": "a", "image": "a"}], "overhead": {"cpu": "1"}}}
        typo = {**pod, "spec": {**pod["spec"], "nodName": "h1"}}
        policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "bad"}, "spec": {}}
        for path, body, code, words in (
                ("api/v1/namespaces/default/pods", json.dumps(typo), 400, ["spec.nodName", "did you mean"]),
                ("api/v1/namespaces/default/pods", json.dumps(pod), 422, ["spec.overhead", "does not act on"]),
                ("apis/networking.k8s.io/v1/namespaces/default/networkpolicies", json.dumps(policy), 404, ["not"]),
                ("api/v1/namespaces/default/pods", "{", 400, ["JSON"]),
                ("api/v1/namespaces/default/pods", json.dumps({**pod, "kind": "Service"}), 400, ["kind"])):
            answer = self.cluster.run("h1", "curl", "-sS", "--unix-socket", "/run/shoal/shoald.sock", "-H",
                                      "Content-Type: application/json", "--data-binary", "@-", f"http://shoald/{path}",
                                      input=body)
            status = json.loads(answer.stdout)
            self.assertEqual((status["kind"], status["status"], status["code"]), ("Status", "Failure", code), status)
            for word in words:
                self.assertIn(word, json.dumps(status))
        self.assertEqual(self.cluster.status("h1")["revision"], before)

    def test_files_that_are_none(self):
        for argument, words in (("/nowhere.yaml", "open /nowhere.yaml: No such file"),
                                (str(self.file.parent / "empty"), "has no *.yaml")):
            (self.file.parent / "empty").mkdir(exist_ok=True)
            done = self.cluster.shoal("h1", "apply", "-f", argument, check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(words, done.stderr)
        self.assertIn("no objects given", self.apply("# nothing\n").stderr)
        self.assertEqual(self.cluster.run("h1", SHOAL, "apply", check=False).returncode, 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
