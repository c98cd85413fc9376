package discover

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/p-scope/p-scope/pkg/internal/cleantext"
	"github.com/p-scope/p-scope/pkg/internal/fuzztest"
)

// Paths as the runtimes write them, nested as they are in practice.
func TestParseCgroup(t *testing.T) {
	outer, inner := strings.Repeat("0123456789abcdef", 4), strings.Repeat("fedcba9876543210", 4)
	uid, static := "01234567-89ab-cdef-0123-456789abcdef", "8f4c53e96cd1c5e7b2f8a4d26b9d10ce"
	uidSlice := strings.ReplaceAll(uid, "-", "_")
	for _, c := range []struct{ name, file, path, container, pod string }{
		{"none", "0::/\n", "", "", ""},
		{"a service", "0::/system.slice/nginx.service\n", "", "", ""},
		{"a hexadecimal name that is no id", "0::/user.slice/deadbeef\n", "", "", ""},
		{"Docker, systemd", "0::/system.slice/docker-" + outer + ".scope\n", "", outer[:12], ""},
		{"Docker, cgroupfs", "0::/docker/" + outer + "\n", "", outer[:12], ""},
		{"Docker, version 1", "12:cpu,cpuacct:/docker/" + outer + "\n1:name=systemd:/docker/" + outer + "\n0::/\n",
			"/docker/" + outer, outer[:12], ""},
		{
			"Docker, hybrid: the line of version 2 is the daemon's", "12:cpu,cpuacct:/docker/" + outer +
				"\n0::/system.slice/containerd.service\n",
			"/docker/" + outer, outer[:12], "",
		},
		{"a controller without a group of its own",
			"11:memory:/\n12:cpu,cpuacct:/\n1:name=systemd:/user.slice\n0::/user.slice/a\n", "/user.slice", "", ""},
		{
			"systemd in a container of Docker's", "0::/system.slice/docker-" + outer +
				".scope/system.slice/containerd.service\n", "", outer[:12], "",
		},
		{"Docker in Docker, cgroupfs", "0::/docker/" + outer + "/docker/" + inner + "\n", "", inner[:12], ""},
		{"Docker in Docker, systemd outside", "0::/system.slice/docker-" + outer + ".scope/docker/" + inner + "\n", "",
			inner[:12], ""},
		{
			"kind, cgroupfs", "0::/docker/" + outer + "/kubelet/kubepods/burstable/pod" + uid + "/" + inner + "\n", "",
			inner[:12], uid,
		},
		{
			"kind, systemd", "0::/system.slice/docker-" + outer +
				".scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/" +
				"kubelet-kubepods-burstable-pod" + uidSlice + ".slice/cri-containerd-" + inner + ".scope\n", "",
			inner[:12], uid,
		},
		{
			"containerd, burstable", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + uidSlice +
				".slice/cri-containerd-" + outer + ".scope\n",
			"", outer[:12], uid,
		},
		{"containerd, guaranteed", "0::/kubepods.slice/kubepods-pod" + uidSlice + ".slice/cri-containerd-" + outer +
			".scope\n", "", outer[:12], uid},
		{"containerd, best effort, cgroupfs", "0::/kubepods/besteffort/pod" + uid + "/" + outer + "\n", "", outer[:12],
			uid},
		{"containerd, guaranteed, cgroupfs", "4:memory:/kubepods/pod" + uid + "/" + outer + "\n", "/kubepods/pod" +
			uid +
			"/" + outer, outer[:12], uid},
		{
			"containerd, two drivers", "0::/system.slice/containerd.service/kubepods-besteffort-pod" + uidSlice +
				".slice:cri-containerd:" + outer + "\n",
			"", outer[:12], uid,
		},
		{"a static pod, cgroupfs", "0::/kubepods/burstable/pod" + static + "/" + outer + "\n", "", outer[:12], static},
		{
			"a static pod, systemd", "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + static +
				".slice/cri-containerd-" + outer + ".scope\n",
			"", outer[:12], static,
		},
		{"CRI-O", "0::/kubepods.slice/kubepods-pod" + uidSlice + ".slice/crio-" + outer + ".scope/container\n", "",
			outer[:12], uid},
		{"CRI-O, cgroupfs", "0::/kubepods/burstable/pod" + uid + "/crio-" + outer + "\n", "", outer[:12], uid},
		{"CRI-O's monitor", "0::/kubepods.slice/kubepods-pod" + uidSlice + ".slice/crio-conmon-" + outer + ".scope\n",
			"",
			"", uid},
		{"Docker in a pod", "0::/kubepods/burstable/pod" + uid + "/" + outer + "/docker/" + inner + "\n", "",
			inner[:12],
			uid},
		{"podman", "0::/machine.slice/libpod-" + outer + ".scope/container\n", "", outer[:12], ""},
		{"podman, cgroupfs", "0::/libpod_parent/libpod-" + outer + "\n", "", outer[:12], ""},
		{"podman's monitor", "0::/machine.slice/libpod-conmon-" + outer + ".scope\n", "", "", ""},
		{"podman, of a user", "0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + outer +
			".scope/container\n", "", outer[:12], ""},
		{"podman, a pod of its own", "0::/machine.slice/machine-libpod_pod_" + inner + ".slice/libpod-" + outer +
			".scope\n", "", outer[:12], ""},
		{"nerdctl", "0::/system.slice/nerdctl-" + outer + ".scope\n", "", outer[:12], ""},
		{"Fargate", "0::/ecs/0123456789abcdef0123456789abcdef/0123456789abcdef0123456789abcdef-1234567890\n", "",
			"0123456789abcdef0123456789abcdef-1234567890", ""},
		{"nspawn", `0::/machine.slice/machine-web\x2d1.scope/payload/system.slice/app.service` + "\n", "", "web-1", ""},
		{"nspawn as a service", "0::/machine.slice/systemd-nspawn@web.service/payload\n", "", "web", ""},
		{"nspawn itself", "0::/machine.slice/systemd-nspawn@web.service/supervisor\n", "", "", ""},
		{"nspawn, hybrid", "3:cpu,cpuacct:/machine.slice\n1:name=systemd:/machine.slice/machine-web.scope/system.slice\n",
			"/machine.slice", "web", ""},
		{"a virtual machine", `0::/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator` + "\n", "", "", ""},
		{"LXC", "0::/lxc.payload.web/system.slice/app.service\n", "", "web", ""},
		{"LXC before 4.0", "9:cpu,cpuacct:/lxc/web/system.slice/app.service\n", "/lxc/web/system.slice/app.service",
			"web",
			""},
		{"LXC's monitor", "0::/lxc.monitor.web\n", "", "", ""},
		{"Docker in LXC", "0::/lxc.payload.web/docker/" + inner + "\n", "", inner[:12], ""},
		{
			"seen from the agent's own namespace", "0::/../../pod" + uid + "/" + outer + "\n", "/pod" + uid + "/" +
				outer, outer[:12], uid,
		},
		{"the root, seen from there", "0::/../..\n", "", "", ""},
		{"a removed group", "0::/docker/" + outer + " (deleted)\n", "/docker/" + outer, outer[:12], ""},
	} {
		want := c.path
		if want == "" && strings.HasPrefix(c.file, "0::") && !strings.HasPrefix(c.file, "0::/..") {
			want = strings.TrimSuffix(strings.TrimPrefix(c.file, "0::"), "\n")
			if want == "/" {
				want = ""
			}
		}
		path, container, pod := parseCgroup(c.file)
		if path != cleantext.Name(want, cleantext.MaxPath) || container != c.container || pod != c.pod {
			t.Errorf("%s: %q, %q, %q", c.name, path, container, pod)
		}
	}
}

func FuzzParseCgroup(f *testing.F) {
	id := strings.Repeat("0123456789abcdef", 4)
	for _, seed := range []string{
		"0::/\n", "12:cpu,cpuacct:/docker/" + id + "\n0::/a\n",
		"0::/../../kubepods/pod8f4c53e96cd1c5e7b2f8a4d26b9d10ce/" + id + "\n",
		`0::/machine.slice/machine-a\x2db.scope/payload`, "0::/lxc/\xff", "::::\n\n", `0::/machine-\x.scope`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file string) {
		defer fuzztest.Bound(t, fuzztest.Small, len(file))()
		path, container, pod := parseCgroup(file)
		for _, s := range []string{path, container, pod} {
			if !utf8.ValidString(s) {
				t.Errorf("%q is not UTF-8", s)
			}
		}
		if len(path) > 4*cleantext.MaxPath || len(container) > 4*cleantext.MaxName || len(pod) > 36 {
			t.Errorf("too long: %q, %q, %q", path, container, pod)
		}
	})
}
