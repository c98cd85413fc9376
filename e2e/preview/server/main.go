// Command server is the back half of the preview: it runs the built backend plugin over Grafana's plugin protocol and
// offers, on loopback, the few parts of Grafana's HTTP API that P-Scope's frontend uses. It is for looking at P-Scope
// where no Grafana is and for browser tests of the real bundle; it has no login and must not face a network.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "preview:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("preview", flag.ContinueOnError)
	port := flags.Int("port", 3000, "port on loopback; 0 takes a free one")
	dist := flags.String("dist", "dist", "folder of the built plugin")
	page := flags.String("page", filepath.Join("e2e", "preview", "page", "dist"), "folder of the built page")
	provisioning := flags.String("provisioning", "provisioning", "folder with datasources/*.yaml and dashboards/*.json")
	socket := flags.String("agent-socket", "", "socket of the agent, in place of the provisioned one")
	binary := flags.String("plugin", "", "plugin binary; empty: the one in --dist for this platform")
	verbose := flags.Bool("verbose", false, "log what the plugin does")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))

	set, err := readDataSources(*provisioning, *socket)
	if err != nil {
		return err
	}
	if *binary == "" {
		*binary = filepath.Join(*dist, "gpx_pscope_"+runtime.GOOS+"_"+runtime.GOARCH)
	}
	// An absolute path: exec looks a bare name up in PATH.
	if *binary, err = filepath.Abs(*binary); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(*page, "index.html")); err != nil {
		return fmt.Errorf("the page is not built (%w): run `npm run build:preview`", err)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// As allowed_sockets in [plugin.pscope-pscope-datasource] of a Grafana's configuration.
	env := []string{"GF_VERSION=" + grafanaVersion, "GF_EDITION=Open Source", "GF_PLUGIN_ALLOWED_SOCKETS=" +
		filepath.Dir(*socket) + "/"}
	host := newPluginHost(*binary, env, log)
	hostDone := make(chan struct{})
	go func() { defer close(hostDone); host.Run(ctx) }()
	defer func() { stop(); <-hostDone }()

	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(*port)))
	if err != nil {
		return fmt.Errorf("%w: is another preview running? choose another port with --port", err)
	}
	web := &http.Server{
		Handler:           newServer(ctx, host, set, *provisioning, *dist, *page, log).handler(),
		ReadHeaderTimeout: 10 * time.Second,
		// Streams last for hours; ending ctx ends them when the preview stops.
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	// Scripts read the address from this line.
	fmt.Printf("preview: http://%s/\n", listener.Addr())
	serveErr := make(chan error, 1)
	go func() { serveErr <- web.Serve(listener) }()
	select {
	case err := <-serveErr:
		return err
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := web.Shutdown(shutdown); err != nil {
		return web.Close()
	}
	return nil
}
