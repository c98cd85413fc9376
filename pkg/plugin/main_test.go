package plugin

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/grafana/grafana-plugin-sdk-go/backend/datasource"
	"go.uber.org/goleak"

	"github.com/p-scope/p-scope/pkg/api"
	"github.com/p-scope/p-scope/pkg/internal/viewtest"
	"github.com/p-scope/p-scope/pkg/timeline"
)

// TestMain lets the test binary be three programs: the tests; the agent that a data source starts; and, where Grafana's
// handshake is in the environment, the plugin itself.
func TestMain(m *testing.M) {
	if os.Getenv("GF_PLUGIN_ALLOWED_SOCKETS") == "" {
		os.Setenv("GF_PLUGIN_ALLOWED_SOCKETS", os.TempDir()+"/") // where the tests have their sockets
	}
	switch {
	case len(os.Args) > 1 && os.Args[1] == "agent":
		if err := beAgent(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case os.Getenv("grafana_plugin_type") != "":
		if err := datasource.Manage(ID, New, datasource.ManageOpts{}); err != nil {
			os.Exit(1)
		}
	default:
		goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"))
	}
}

// beAgent serves made-up targets with the flags that the plugin gives a bundled agent.
func beAgent(args []string) error {
	fs := flag.NewFlagSet("agent", flag.ContinueOnError)
	socket := fs.String("socket", "", "")
	listen := fs.String("listen", "-", "")
	data := fs.String("data-dir", "", "")
	until := fs.Bool("until-stdin-closes", false, "")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *socket == "" || *listen != "" || *data == "" || !*until {
		return fmt.Errorf("unexpected flags %q", args)
	}
	s, err := api.NewServer(api.Options{Collector: viewtest.New(1, 2, time.Now()),
		Timeline: timeline.New(timeline.Options{}), Host: "here", Version: "bundled", Socket: *socket})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	return s.Serve(ctx)
}
