"""A systemd of the tests' own: the first process of its namespaces, with our units and our binary where they are installed."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

# In a cgroup of its own, so that what it makes of those lies below.
OUTER = """
set -eu
cgroups=$(findmnt --noheadings --types cgroup2 --output TARGET | head -n 1)
mkdir "$cgroups/$1"
echo $$ >"$cgroups/$1/cgroup.procs"
exec unshare --cgroup --mount --pid --net --ipc --uts --fork sh -c "$0" "$2" "$3"
"""

# Over /etc and /usr/local lies what goes with these mounts.
INNER = """
set -eu
ip link set lo up
mount -t proc proc /proc
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /mnt
for folder in etc usr/local; do
  mkdir -p "/mnt/$folder/upper" "/mnt/$folder/work"
  mount -t overlay overlay -o "lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work" "/$folder"
done
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir -p /etc/polygate /etc/systemd/system /usr/local/bin /var/lib/systemd
cp "$1/polygate" /usr/local/bin/polygate
cp -r "$0"/* "$1/units/"* /etc/systemd/system/
cp "$1/config.yaml" /etc/polygate/config.yaml
export container=test
exec /lib/systemd/systemd --system --unit=bare.target --log-target=console --show-status=0 </dev/null >"$1/systemd.log" 2>&1
"""

# Nothing of the machine's own is started. What the units stand on when a machine boots is not there.
BARE = "[Unit]\nDescription=Nothing\nDefaultDependencies=no\n"
ALONE = "[Unit]\nDefaultDependencies=no\n"
LOGGED = "[Service]\nStandardOutput=append:{0}\nStandardError=append:{0}\n"

REQUIRED = ["systemd-analyze", "unshare", "nsenter", "findmnt", "curl", "ip"]


# What a machine has to allow, in short.
PROBE = """
set -eu
cgroups=$(findmnt --noheadings --types cgroup2 --output TARGET | head -n 1)
mkdir "$cgroups/polygate-probe-$$"
rmdir "$cgroups/polygate-probe-$$"
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
"""


def is_possible():
    if os.geteuid() != 0 or not Path("/lib/systemd/systemd").exists() or not all(map(shutil.which, REQUIRED)):
        return False
    probe = ["unshare", "--cgroup", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "sh", "-c", PROBE]
    return subprocess.run(probe, capture_output=True).returncode == 0


class Manager:
    def __init__(self, units, binary, folder):
        self.folder, self.group = folder, f"polygate-test-{os.getpid()}"
        self.log, self.first = folder / "polygate.log", None
        (folder / "units").mkdir()
        (folder / "units/bare.target").write_text(BARE)
        for unit in ["polygate.socket", "polygate.service"]:
            more = folder / "units" / f"{unit}.d"
            more.mkdir()
            (more / "test.conf").write_text(ALONE + (LOGGED.format(self.log) if unit.endswith("service") else ""))
        shutil.copy(binary, folder / "polygate")
        (folder / "config.yaml").write_text("providers: []\n")
        self.outer = subprocess.Popen(["sh", "-c", OUTER, INNER, self.group, units, folder])
        try:
            self.first = self.wait_for(self.child, "a first process")
            self.wait_for(lambda: self.run("systemctl", "is-active", "bare.target").returncode == 0, "systemd")
        except BaseException:
            self.stop()
            raise

    def wait_for(self, question, what, most=30):
        until = time.monotonic() + most
        while time.monotonic() < until:
            if answer := question():
                return answer
            time.sleep(0.05)
        log = self.folder / "systemd.log"
        raise AssertionError(f"{what} did not come: {log.read_text() if log.exists() else ''}")

    def child(self):
        """systemd, when what went before it in its place and in its parent's is over."""
        outer = Path(f"/proc/{self.outer.pid}")
        children = (outer / f"task/{self.outer.pid}/children").read_text().split()
        names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in [self.outer.pid, *children]]
        return int(children[0]) if names == ["unshare", "systemd"] else None

    def inside(self, *command):
        return ["nsenter", f"--target={self.first}", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", *map(str, command)]

    def run(self, *command, **more):
        return subprocess.run(self.inside(*command), capture_output=True, text=True, timeout=60, **more)

    def start(self, *command):
        return subprocess.Popen(self.inside(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def systemctl(self, *args):
        return self.run("systemctl", *args)

    def show(self, *names):
        said = self.systemctl("show", f"--property={','.join(names)}", "polygate.service").stdout
        return dict(line.split("=", 1) for line in said.splitlines())

    def configure(self, text):
        assert self.run("tee", "/etc/polygate/config.yaml", input=text).returncode == 0

    def stop(self):
        """Its end is that of all that it started. Then its cgroups are empty."""
        if self.first:
            os.kill(self.first, signal.SIGKILL)
        else:
            self.outer.kill()
        self.outer.wait()
        cgroups = subprocess.check_output(["findmnt", "--noheadings", "--types", "cgroup2", "--output", "TARGET"], text=True)
        top = Path(cgroups.split()[0]) / self.group
        for folder in sorted(filter(Path.is_dir, top.rglob("*")), reverse=True):
            folder.rmdir()
        top.rmdir()
