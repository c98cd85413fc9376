package collector

import (
	"strings"
	"testing"
)

func TestParseStat(t *testing.T) {
	line := "4242 (a (b) c) D 1 4242 4242 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 9 0 987654 1 2 3"
	s, err := parseStat([]byte(line))
	if err != nil || s.comm != "a (b) c" || s.state != 'D' || s.flags != 4194560 || s.startTime != 987654 {
		t.Errorf("%q gives %+v, %v", line, s, err)
	}
	for _, bad := range []string{"", "1", "1 (a", "1 (a) R", ") (", "1 (a) R 1 1 1 0 -1 x 1 2 3 4 5 6 7 8 20 0 9 0 1"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a stat line", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte("1 (systemd) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 5 1 2"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseStat(b); err == nil && len(s.comm) > len(b) {
			t.Errorf("%q gives a longer command %q", b, s.comm)
		}
	})
}

func TestParseCgroup(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	uid := "01234567-89ab-cdef-0123-456789abcdef"
	for _, c := range []struct{ name, file, path, container, pod string }{
		{"none", "0::/\n", "", "", ""},
		{"systemd service", "0::/system.slice/nginx.service\n", "/system.slice/nginx.service", "", ""},
		{"docker, cgroup v2", "0::/system.slice/docker-" + id + ".scope\n", "/system.slice/docker-" + id + ".scope", id[:12], ""},
		{"docker, cgroup v1", "12:cpu:/docker/" + id + "\n0::/\n", "/docker/" + id, id[:12], ""},
		{
			"kubernetes, systemd driver",
			"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice/cri-containerd-" + id + ".scope\n",
			"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice/cri-containerd-" + id + ".scope", id[:12], uid,
		},
		{"kubernetes, cgroupfs driver", "0::/kubepods/besteffort/pod" + uid + "/" + id + "\n", "/kubepods/besteffort/pod" + uid + "/" + id, id[:12], uid},
		{"a hex name that is no id", "0::/user.slice/deadbeef\n", "/user.slice/deadbeef", "", ""},
	} {
		path, container, pod := parseCgroup(c.file)
		if path != c.path || container != c.container || pod != c.pod {
			t.Errorf("%s: %q, %q, %q", c.name, path, container, pod)
		}
	}
}
