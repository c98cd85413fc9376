//go:build mage

// The build of everything that dist/ holds besides the frontend: the plugin's backend for every platform, and the
// agents that ship with it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	// mage:import
	"github.com/grafana/grafana-plugin-sdk-go/build"
	"github.com/magefile/mage/mg"
	"github.com/magefile/mage/sh"
)

func init() {
	// plugin.json lies at the top level, where the SDK would look in src/.
	if err := build.SetBeforeBuildCallback(func(c build.Config) (build.Config, error) {
		c.PluginJSONPath = "."
		return c, nil
	}); err != nil {
		panic(err)
	}
}

// Agent holds the targets that build the agent.
type Agent mg.Namespace

// Amd64 builds the agent for Linux on amd64 into dist/.
func (Agent) Amd64() error { return buildAgent("amd64") }

// Arm64 builds the agent for Linux on arm64 into dist/.
func (Agent) Arm64() error { return buildAgent("arm64") }

// All builds the agent for every platform it runs on.
func (Agent) All() { mg.Deps(Agent.Amd64, Agent.Arm64) }

func buildAgent(arch string) error {
	env := map[string]string{"GOOS": "linux", "GOARCH": arch, "CGO_ENABLED": "0"}
	out := filepath.Join("dist", "pscope_linux_"+arch)
	// Symbols stay in, so that the agent is a Go program which P-Scope itself can observe.
	ldflags := "-w -X main.version=" + version()
	return sh.RunWithV(env, "go", "build", "-trimpath", "-ldflags", ldflags, "-o", out, "./pkg/cmd/pscope")
}

// version is the plugin's version, from package.json.
func version() string {
	text, err := os.ReadFile("package.json")
	if err != nil {
		return "dev"
	}
	_, rest, ok := strings.Cut(string(text), `"version": "`)
	if !ok {
		return "dev"
	}
	v, _, _ := strings.Cut(rest, `"`)
	return v
}

// Everything builds the plugin and the agent for all platforms.
func Everything() {
	build.BuildAll()
	mg.Deps(Agent.All)
}

// Host builds the plugin and the agent for this machine only: what trying things out needs.
func Host() error {
	if err := (build.Build{}).Backend(); err != nil {
		return err
	}
	out, err := sh.Output("go", "env", "GOOS", "GOARCH")
	if err != nil {
		return err
	}
	system := strings.Fields(out)
	if len(system) == 2 && system[0] == "linux" {
		return buildAgent(system[1])
	}
	fmt.Println("the agent runs on Linux only: not built")
	return nil
}

// Default is what mage does when no target is named.
var Default = Everything
