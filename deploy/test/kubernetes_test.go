package deploytest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/api/resmap"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const kubernetes = "../kubernetes"

func build(t *testing.T, dir string) resmap.ResMap {
	t.Helper()
	m, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// overlay builds the base with components.
func overlay(t *testing.T, components ...string) resmap.ResMap {
	t.Helper()
	root, err := filepath.Abs(kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	// Kustomize wants relative paths, and an overlay is a folder of its own.
	dir := t.TempDir()
	relative := func(name string) string {
		path, err := filepath.Rel(dir, filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	text := "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [" + relative("base") +
		"]\ncomponents:\n"
	for _, c := range components {
		text += "  - " + relative(c) + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return build(t, dir)
}

// as finds the one resource of a kind and reads it strictly: a field that the API does not know is an error.
func as[T any](t *testing.T, m resmap.ResMap, kind string) (out T) {
	t.Helper()
	found := 0
	for _, r := range m.Resources() {
		if r.GetKind() != kind {
			continue
		}
		found++
		text, err := r.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(text, &out); err != nil {
			t.Fatalf("%s: %v\n%s", kind, err, text)
		}
	}
	if found != 1 {
		t.Fatalf("%d resources of kind %s", found, kind)
	}
	return out
}

func TestTheAgentHasFourCapabilitiesAndNothingElse(t *testing.T) {
	m := build(t, filepath.Join(kubernetes, "base"))
	var kinds []string
	for _, r := range m.Resources() {
		kinds = append(kinds, r.GetKind())
		if ns := r.GetNamespace(); r.GetKind() != "Namespace" && ns != "pscope" {
			t.Errorf("%s is in the namespace %q", r.GetKind(), ns)
		}
	}
	slices.Sort(kinds)
	if got := strings.Join(kinds, " "); got != "DaemonSet Namespace Service" {
		t.Errorf("resources %s: an agent needs no rights at the API server", got)
	}
	pod := as[appsv1.DaemonSet](t, m, "DaemonSet").Spec.Template.Spec
	if !pod.HostPID || pod.HostNetwork || pod.HostIPC || pod.AutomountServiceAccountToken == nil ||
		*pod.AutomountServiceAccountToken {
		t.Errorf("the pod's rights: %+v", pod)
	}
	c := pod.Containers[0]
	s := c.SecurityContext
	if s.Privileged != nil || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem {
		t.Errorf("the container's rights: %+v", s)
	}
	want := []corev1.Capability{"BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"}
	if !slices.Equal(s.Capabilities.Add, want) || !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
		t.Errorf("capabilities %+v", s.Capabilities)
	}
	mounted := map[string]bool{}
	for _, v := range c.VolumeMounts {
		mounted[v.Name] = true
	}
	for _, v := range pod.Volumes {
		if !mounted[v.Name] {
			t.Errorf("the volume %s is mounted nowhere", v.Name)
		}
		if v.HostPath != nil && v.HostPath.Path != "/var/lib/pscope" {
			t.Errorf("the agent gets %s of the host", v.HostPath.Path)
		}
	}
}

func TestServiceAndMonitorChooseTheAgents(t *testing.T) {
	m := overlay(t, "prometheus-operator")
	ds := as[appsv1.DaemonSet](t, m, "DaemonSet")
	service := as[corev1.Service](t, m, "Service")
	monitor := as[struct {
		APIVersion string         `json:"apiVersion"`
		Kind       string         `json:"kind"`
		Metadata   map[string]any `json:"metadata"`
		Spec       struct {
			Selector            struct{ MatchLabels map[string]string } `json:"selector"`
			PodMetricsEndpoints []struct {
				Port          string                                         `json:"port"`
				Interval      string                                         `json:"interval"`
				HonorLabels   bool                                           `json:"honorLabels"`
				Authorization struct{ Credentials corev1.SecretKeySelector } `json:"authorization"`
			} `json:"podMetricsEndpoints"`
		} `json:"spec"`
	}](t, m, "PodMonitor")
	labels := ds.Spec.Template.Labels
	for name, selector := range map[string]map[string]string{
		"daemon set": ds.Spec.Selector.MatchLabels, "service": service.Spec.Selector,
		"monitor": monitor.Spec.Selector.MatchLabels,
	} {
		if len(selector) == 0 {
			t.Errorf("the %s chooses everything", name)
		}
		for k, v := range selector {
			if labels[k] != v {
				t.Errorf("the %s chooses %s=%s, pods have %q", name, k, v, labels[k])
			}
		}
	}
	ports := ds.Spec.Template.Spec.Containers[0].Ports
	if service.Spec.ClusterIP != "None" || service.Spec.Ports[0].TargetPort.StrVal != ports[0].Name ||
		monitor.Spec.PodMetricsEndpoints[0].Port != ports[0].Name {
		t.Errorf("ports %v, %v, %v", ports, service.Spec.Ports, monitor.Spec.PodMetricsEndpoints)
	}
	if by := monitor.Spec.PodMetricsEndpoints[0].Authorization.Credentials; by.Name != "pscope-agent" ||
		by.Key != "token" {
		t.Errorf("the monitor sends the token %+v", by)
	}
	for k := range ds.Spec.Template.Annotations {
		if strings.HasPrefix(k, "prometheus.io/") {
			t.Errorf("scraped twice: %s", k)
		}
	}
}

func TestToken(t *testing.T) {
	pod := as[appsv1.DaemonSet](t, build(t, filepath.Join(kubernetes, "base")), "DaemonSet").Spec.Template.Spec
	c := pod.Containers[0]
	if !slices.Contains(c.Args, "--token-file=/etc/pscope/token") {
		t.Errorf("flags %v", c.Args)
	}
	last := pod.Volumes[len(pod.Volumes)-1]
	if last.Secret == nil || *last.Secret.DefaultMode != 0o400 ||
		c.VolumeMounts[len(c.VolumeMounts)-1].Name != last.Name {
		t.Errorf("volume %+v", last)
	}
}

// No container runs without a seccomp profile: the runtime's own, or the shipped one where that forbids what observing
// takes.
func TestSeccompProfiles(t *testing.T) {
	for _, c := range []struct {
		components []string
		kind       corev1.SeccompProfileType
		file       string
	}{
		{nil, corev1.SeccompProfileTypeRuntimeDefault, ""},
		{[]string{"seccomp"}, corev1.SeccompProfileTypeLocalhost, "pscope.json"},
	} {
		p := as[appsv1.DaemonSet](t, overlay(t, c.components...),
			"DaemonSet").Spec.Template.Spec.SecurityContext.SeccompProfile
		file := ""
		if p != nil && p.LocalhostProfile != nil {
			file = *p.LocalhostProfile
		}
		if p == nil || p.Type != c.kind || file != c.file {
			t.Errorf("with %v: %+v", c.components, p)
		}
		if file == "" {
			continue
		}
		if _, err := os.Stat(filepath.Join("..", "seccomp", file)); err != nil {
			t.Error(err)
		}
	}
}
